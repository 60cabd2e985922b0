//! A readable failure: the property as a sentence, a table with a column for each participant and a
//! line for each move, and the command that replays it.

use std::fmt::Write;

use portlock::protocol::{
    Author, Confirm, Create, Dated, Done, FreeLock, LockReply, OpenReply, Probed, ReadReply, Unlink,
};

use serde_json::{Value, json};

use crate::render::sequence::Heading;
use crate::scenario::catalogue::Scenario;
use crate::scenario::machines::Reply;
use crate::scenario::schedule::{Made, Run, run};
use crate::scenario::state::{Activity, Look, Move, OpenFile, State, Who};
use crate::search::explore::Found;
use crate::variants::Protocol;

/// The arguments that reproduce a run.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    pub variant: Option<&'a str>,
    pub participants: usize,
}

impl Origin<'_> {
    /// The heading of the picture of a run.
    pub fn heading(&self, scenario: &Scenario) -> Heading {
        let protocol = self.protocol();
        let participants = scenario.kinds.len();
        Heading {
            title: format!("{protocol} · scenario {} · {participants} participants", scenario.name),
            caption: Vec::new(),
        }
    }

    fn protocol(&self) -> String {
        self.variant.map_or("the shipped machine".to_owned(), |name| format!("variant {name}"))
    }
}

pub fn report(
    scenario: &Scenario,
    protocol: &Protocol,
    found: &Found,
    origin: Origin<'_>,
) -> String {
    let run = run(scenario, protocol, &found.schedule, found.solo);
    let calls = calls(&run);
    let mut text = format!("✗ {}.\n", found.property.sentence());
    let _ = writeln!(
        text,
        "  {} · scenario {} · {} participants · {calls} calls",
        origin.protocol(),
        scenario.name,
        scenario.kinds.len(),
    );
    let variant = origin.variant.map_or(String::new(), |name| format!("--variant {name} "));
    let _ = writeln!(
        text,
        "  replay: cargo run -p portlock-model -- replay {variant}--scenario {} --participants {} {}{}\n",
        scenario.name,
        origin.participants,
        unusual(scenario, origin.participants),
        found.schedule
    );
    text += &history(scenario, &run);
    if found.solo {
        text += "\n  The last participant ran alone, or waited until the others had ended. It did not \
                 end, or\n  did not get a lock that was free.\n";
    }
    text
}

/// A run for other programs: an object for each move, and one for the result.
pub fn lines(run: &Run) -> Vec<Value> {
    let mut lines: Vec<Value> = run
        .made
        .iter()
        .map(|made| {
            let (actor, words) = describe(made);
            let files = files(&made.outcome.state, &made.names);
            json!({
                "participant": actor.map(|who| name(who).to_string()),
                "move": words,
                "files": files.trim_end(),
            })
        })
        .collect();
    lines.push(json!({
        "calls": calls(run),
        "broken": run.broken.map(|property| property.to_string()),
    }));
    lines
}

/// The options for budgets other than the scenario's own.
fn unusual(scenario: &Scenario, participants: usize) -> String {
    let budgets = |scenario: &Scenario| {
        [
            ("crashes", scenario.crashes),
            ("faults", scenario.faults),
            ("removals", scenario.removals),
            ("suspensions", scenario.suspensions),
        ]
    };
    let usual = Scenario::named(scenario.name, participants).map(|usual| budgets(&usual));
    budgets(scenario)
        .into_iter()
        .filter(|budget| !usual.is_some_and(|usual| usual.contains(budget)))
        .map(|(name, number)| format!("--{name} {number} "))
        .collect()
}

pub fn calls(run: &Run) -> usize {
    run.made.iter().filter(|made| matches!(made.one, Move::Call(..))).count()
}

/// A run: a line for each move and a column for each participant.
pub fn history(scenario: &Scenario, run: &Run) -> String {
    let mut text = String::new();
    let columns = scenario.kinds.len();
    let _ = write!(text, "  {:>4}  ", "call");
    for who in 0..columns {
        let _ = write!(text, "{:<27}", name(who as Who));
    }
    let _ = writeln!(text, "{:<22}kernel locks", "path");
    if let Some(first) = run.made.first() {
        let _ = writeln!(
            text,
            "  {:>4}  {:columns$}{}",
            "",
            "",
            files(&first.before, &first.names),
            columns = columns * 27
        );
    }
    let mut number = 0;
    for made in &run.made {
        let call = matches!(made.one, Move::Call(..));
        number += usize::from(call);
        let label = if call { number.to_string() } else { String::new() };
        let _ = write!(text, "  {label:>4}  ");
        let (actor, words) = describe(made);
        for who in 0..columns {
            let cell = if actor == Some(who as Who) { words.as_str() } else { "" };
            let _ = write!(text, "{cell:<27}");
        }
        let _ = write!(text, "{}", files(&made.outcome.state, &made.names));
        let _ = writeln!(
            text,
            "{}",
            if actor.is_none() { format!("  ({words})") } else { String::new() }
        );
    }
    text
}

pub fn name(who: Who) -> char {
    char::from(b'A' + who)
}

/// The participant that acts, by its name at the beginning, and its action.
pub fn describe(made: &Made) -> (Option<Who>, String) {
    let named = |who: Who| Some(made.names[usize::from(who)]);
    match made.one {
        Move::Begin(who) => (named(who), "begins".into()),
        Move::Call(who, _) => {
            let end = match made.outcome.ended {
                Activity::Acquiring(portlock::protocol::Acquire::Held(_)) => " HOLDS",
                Activity::Acquiring(portlock::protocol::Acquire::Refused(_)) => " refused",
                Activity::Acquiring(portlock::protocol::Acquire::Failed(_)) => " fails",
                Activity::Percy(crate::scenario::other::Percy::Holding)
                | Activity::Aside(crate::scenario::other::Aside::Holding) => " HOLDS",
                _ => "",
            };
            (named(who), format!("{}{end}", words(made.outcome.reply)))
        }
        Move::Answer(who, answer) => (named(who), format!("driver: {}", answer.words())),
        Move::Release(who) => (named(who), "releases".into()),
        Move::Crash(who, Look::Gone) => (named(who), "† dies".into()),
        Move::Crash(who, look) => (named(who), format!("† dies ({look:?})")),
        Move::Suspend(who) => (named(who), "stops forever".into()),
        Move::LoseReach(who) => (named(who), "loses the path".into()),
        Move::Fork(who) => (named(who), "forks".into()),
        Move::Remove => (None, "the path is removed from outside".into()),
    }
}

/// A call and its reply in a few words.
pub fn words(reply: Reply) -> String {
    match reply {
        Reply::Create(Create::Created) => "create ok".into(),
        Reply::Create(reply) => format!("create {}", lower(reply)),
        Reply::Open(OpenReply::Opened) => "open ok".into(),
        Reply::Open(reply) => format!("open {}", lower(reply)),
        Reply::Age(Dated::Known(age)) => format!("age {}", lower(age)),
        Reply::Age(Dated::Failed) => "age failed".into(),
        Reply::Lock(LockReply::Ours) => "lock ok".into(),
        Reply::Lock(reply) => format!("lock {}", lower(reply)),
        Reply::Arm => "arm".into(),
        Reply::Listen(reply) => format!("listen {}", lower(reply)),
        Reply::Write(Done::Done) => "write ok".into(),
        Reply::Write(Done::Failed) => "write failed".into(),
        Reply::Read(ReadReply::Record) => "read a record".into(),
        Reply::Read(reply) => format!("read {}", lower(reply)),
        Reply::Probe(Probed::Known(author)) => match author {
            Author::Here(FreeLock::ProvesDeath, probe) => format!("probe here, {}", lower(probe)),
            Author::Here(FreeLock::ProvesNothing, probe) => {
                format!("probe here, no shared lock, {}", lower(probe))
            }
            Author::OldFormat(probe) => format!("probe old format, {}", lower(probe)),
            Author::OtherNamespace(FreeLock::ProvesDeath) => "probe other namespace".into(),
            Author::OtherNamespace(FreeLock::ProvesNothing) => {
                "probe other namespace, no shared lock".into()
            }
            Author::EarlierBoot | Author::OtherMachine => format!("probe {}", lower(author)),
        },
        Reply::Probe(Probed::Failed) => "probe failed".into(),
        Reply::Confirm(Confirm::Same) => "confirm same".into(),
        Reply::Confirm(reply) => format!("confirm {}", lower(reply)),
        Reply::Unlink(Unlink::Unlinked) => "unlink ok".into(),
        Reply::Unlink(reply) => format!("unlink {}", lower(reply)),
        Reply::Void(reply) => format!("void {}", lower(reply)),
        Reply::Watch(reply) => format!("watch {}", lower(reply)),
        Reply::Close => "close".into(),
        Reply::Leave => "close, lock left".into(),
        Reply::Other(words) => words.into(),
    }
}

fn lower(value: impl std::fmt::Debug) -> String {
    format!("{value:?}").to_lowercase()
}

/// The letters of the participants that share an open file.
pub fn sharers(state: &State, names: &[Who], open: OpenFile) -> String {
    let shared_by = state.opened[usize::from(open)].map_or(0, |opened| opened.shared_by);
    (0..state.count)
        .filter(|who| shared_by & (1 << who) != 0)
        .map(|who| name(names[usize::from(who)]))
        .collect()
}

/// The file that the path names, and the owners of kernel locks.
fn files(state: &State, names: &[Who]) -> String {
    let path = match (state.path, state.named()) {
        (Some(inode), Some(file)) => {
            let content = match file.content {
                crate::scenario::state::Content::Of(who) => {
                    format!("of {}", name(names[usize::from(who)]))
                }
                crate::scenario::state::Content::OldOf(who) => {
                    format!("old, of {}", name(names[usize::from(who)]))
                }
                other => lower(other),
            };
            format!("ino{inode} {content}")
        }
        (_, _) => "·".into(),
    };
    let locks: Vec<String> = state
        .files
        .iter()
        .enumerate()
        .filter_map(|(inode, file)| {
            file.and_then(|file| file.lock)
                .map(|open| format!("ino{inode}:{}", sharers(state, names, open)))
        })
        .collect();
    format!("{path:<22}{}", locks.join(" "))
}
