//! Real runs are runs of the model: many processes acquire, wait, release, ask and are killed, some
//! calls are made to fail, somebody removes the file; each records its calls, and there is an order
//! of all of them in which the model gives every reply.
//!
//! Each kind of reply is falsified in turn, in the record of a run and in a run itself, whose
//! process then goes on as if it were true. Then there must be no such order, or a reason why there
//! is one.
//!
//! `PORTLOCK_SEED` is the first seed, and `PORTLOCK_TRACES` how many runs there are.

#![cfg(target_os = "linux")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use portlock::protocol::{Acquire, Query, Release};
use portlock::protocol::{
    Author, Create, Dated, FileSystem, FreeLock, LockReply, OpenReply, Probe, Probed, Unlink, Watch,
};
use portlock_model::conformance::trace::{Event, Recorder, Trace, What, explain, now, parse};
use portlock_model::scenario::machines::{Answer, Machine, Op, Reply};
use portlock_model::scenario::state::Kind;

/// Set for a process that records: `acquire` or `ask`, a seed, and the path.
const ROLE: &str = "PORTLOCK_TEST_RECORDS";
/// The reply with which its recorder lies to it, if there is one.
const LIE: &str = "PORTLOCK_TEST_LIES";

/// How often a process acquires, or asks.
const ROUNDS: usize = 12;
/// How often one tries before it gives up.
const TRIES: u32 = 6;
/// One of so many rounds has a call that fails.
const FAILS: usize = 6;
/// How often one who holds lets others go first, at most.
const YIELDS: usize = 20;

// ---- a process that records ---------------------------------------------------------------------

#[test]
fn a_process_records_its_calls() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let mut words = role.splitn(3, ' ');
    let mut word = || words.next().expect("three words");
    let (role, seed, path) = (word(), word().parse().expect("a number"), Path::new(word()));
    let mut recorder = Recorder::new(portlock::adapter(path, None), std::io::stdout());
    if let Ok(lie) = std::env::var(LIE) {
        recorder.lies = replies().into_iter().find(|reply| format!("{reply:?}") == lie);
    }
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..ROUNDS {
        recorder.fails.clear();
        if random.usize(..FAILS) == 0 {
            recorder.fails.extend(random.choice(OPS));
        }
        recorder.note(format_args!("begins"));
        match role {
            "acquire" => match run(Acquire::START, &mut recorder, &mut random) {
                Acquire::Held(_) => {
                    // So that the others meet it.
                    for _ in 0..random.usize(..YIELDS) {
                        std::thread::yield_now();
                    }
                    const TROUBLE: [&[Op]; 4] =
                        [&[], &[Op::Confirm], &[Op::Unlink], &[Op::Unlink, Op::Void]];
                    let trouble = random.choice(TROUBLE).unwrap_or_default();
                    recorder.fails.extend(trouble);
                    recorder.note(format_args!("releases"));
                    run(Release::START, &mut recorder, &mut random);
                    if !trouble.is_empty() {
                        let_the_grace_pass(path);
                    }
                }
                Acquire::Failed(_) => drop(let_the_grace_pass(path)),
                _ => {}
            },
            _ => drop(run(Query::START, &mut recorder, &mut random)),
        }
    }
    std::process::exit(0);
}

/// Runs a machine to its end, and answers what it asks.
fn run<M: Machine + PartialEq>(
    start: M,
    recorder: &mut Recorder<impl FileSystem, impl Write>,
    random: &mut fastrand::Rng,
) -> M {
    let mut state = start;
    let mut tries = 0;
    loop {
        let asks = |answer| state.answered(answer).is_some();
        let answer = match asks(Answer::Again) {
            true if tries < TRIES => Some(Answer::Again),
            true => Some(Answer::GiveUp),
            false if asks(Answer::Listen) && random.u8(..3) == 0 => Some(Answer::Listen),
            false if asks(Answer::Leave) => Some(Answer::Leave),
            false if asks(Answer::Abandon) => Some(Answer::Abandon),
            false => None,
        };
        let Some(answer) = answer else {
            let next = state.step(recorder);
            if next == state {
                return state;
            }
            state = next;
            continue;
        };
        recorder.note(format_args!("answers {answer:?}"));
        if answer == Answer::Again {
            tries += 1;
            std::thread::yield_now();
        }
        state = state.answered(answer).expect("it was asked for");
    }
}

fn let_the_grace_pass(path: &Path) -> Option<()> {
    let file = File::options().write(true).open(path).ok()?;
    if file.metadata().ok()?.len() > 0 {
        return None;
    }
    file.set_modified(SystemTime::now() - Duration::from_secs(10)).ok()
}

// ---- many of them -------------------------------------------------------------------------------

/// Which lane asks.
const ASKER: u64 = 3;

/// A run that is to be recorded.
#[derive(Clone, Copy)]
struct Plan {
    seed: u64,
    /// How many processes follow one another in each lane.
    generations: u64,
    /// What the first process of the lane that makes such calls is told falsely.
    lie: Option<Reply>,
}

impl Plan {
    /// One in which most processes are killed, and the path is removed now and then.
    fn rough(seed: u64) -> Self {
        Self { seed, generations: 8, lie: None }
    }

    /// A shorter one.
    fn to_be_falsified(seed: u64) -> Self {
        Self { seed, generations: 4, lie: None }
    }

    /// The shortest in which everybody meets.
    fn with_lie(seed: u64, lie: Reply) -> Self {
        Self { seed, generations: 2, lie: Some(lie) }
    }
}

fn start(role: &str, seed: u64, lie: Option<Reply>, path: &Path) -> Child {
    let this = std::env::current_exe().expect("the test binary has a path");
    let mut command = Command::new(this);
    command
        .args(["a_process_records_its_calls", "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, format!("{role} {seed} {}", path.display()))
        .stdout(Stdio::piped());
    if let Some(lie) = lie {
        command.env(LIE, format!("{lie:?}"));
    }
    command.spawn().expect("it starts")
}

/// One process after another, most of them killed at some line. Also what was done by the one who
/// starts and kills them.
fn lane(role: &str, number: u64, plan: Plan, path: &Path) -> (Vec<Event>, Vec<Event>) {
    let seed = plan.seed * 10 + number;
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut events, mut outside) = (Vec::new(), Vec::new());
    for generation in 0..plan.generations {
        let liar = |lie: &Reply| number == if lie.op() == Op::Watch { ASKER } else { 0 };
        let lie = plan.lie.filter(|lie| generation == 0 && liar(lie));
        let mut child = start(role, seed * 1000 + generation, lie, path);
        let is_killed = generation % 4 != 3 && lie.is_none();
        let last = is_killed.then(|| random.usize(1..160));
        let removes = (generation % 4 == 2).then(|| random.usize(1..160));
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut lines = Vec::new();
        let mut killed = false;
        for line in output.lines() {
            lines.push(line.expect("text"));
            // What it has written by then is read to the end.
            if Some(lines.len()) == last {
                child.kill().expect("it can be killed");
                killed = true;
            }
            if Some(lines.len()) == removes {
                let from = now();
                if std::fs::remove_file(path).is_ok() {
                    outside.push(Event::new(from, now(), What::Removes));
                }
            }
        }
        let status = child.wait().expect("it can be reaped");
        assert!(killed || status.success(), "it ended with {status}");
        events.extend(parse(lines.iter().map(String::as_str), now()).expect("a trace"));
        if !status.success() {
            let_the_grace_pass(path);
        }
    }
    (events, outside)
}

fn record(plan: Plan) -> Trace {
    let directory = tempfile::tempdir().expect("there is room");
    let path = directory.path().join("agent-5338.lock");
    let roles = [(Kind::Process, "acquire"); 3].into_iter().chain([(Kind::Asker, "ask")]);
    let lanes: Vec<_> = std::thread::scope(|scope| {
        let path = &path;
        let threads: Vec<_> = (0..)
            .zip(roles)
            .map(|(number, (kind, role))| {
                (kind, scope.spawn(move || lane(role, number, plan, path)))
            })
            .collect();
        threads.into_iter().map(|(kind, lane)| (kind, lane.join().expect("it ends"))).collect()
    });
    let mut trace = Trace::default();
    for (kind, (events, outside)) in lanes {
        trace.lanes.push((kind, events));
        trace.outside.push(outside);
    }
    trace
}

fn number(name: &str, otherwise: u64) -> u64 {
    let number = std::env::var(name).map_or(otherwise, |number| number.parse().expect("a number"));
    println!("{name}={number}");
    number
}

/// The seeds of the runs.
fn seeds() -> std::ops::Range<u64> {
    let seed = number("PORTLOCK_SEED", 1);
    seed..seed + number("PORTLOCK_TRACES", 8)
}

const OPS: [Op; 11] = [
    Op::Create,
    Op::Open,
    Op::Age,
    Op::Lock,
    Op::Write,
    Op::Read,
    Op::Probe,
    Op::Confirm,
    Op::Unlink,
    Op::Void,
    Op::Watch,
];

/// Every reply of those that have more than one.
fn replies() -> Vec<Reply> {
    OPS.iter().flat_map(|op| op.replies()).collect()
}

fn explained(trace: &Trace, what: &str) {
    match explain(trace) {
        Ok(explained) => println!("{what}: {explained:?}"),
        Err(reason) => panic!("{what}: {reason}"),
    }
}

#[test]
fn trace_with_killed_processes_is_a_model_run() {
    let (mut seen, mut unfinished, mut removed) = (BTreeSet::new(), 0, 0);
    for seed in seeds() {
        let trace = record(Plan::rough(seed));
        explained(&trace, &format!("seed {seed}"));
        for (_, event) in calls(&trace) {
            match event.reply() {
                Some(reply) => drop(seen.insert(reply)),
                None => unfinished += 1,
            }
        }
        let outside = trace.outside.iter().flatten();
        removed += outside.filter(|event| event.what == What::Removes).count();
    }
    println!("{unfinished} were killed in a call, {removed} files removed; replies: {seen:?}");
    assert!(unfinished > 0 && removed > 0);
    for op in OPS {
        let ways = seen.iter().filter(|reply| reply.op() == op).count();
        assert!(ways >= 2, "{op:?} was replied to in {ways} ways only");
    }
}

/// Every call, and where in the trace it stands.
fn calls(trace: &Trace) -> impl Iterator<Item = ((usize, usize), &Event)> {
    trace.lanes.iter().enumerate().flat_map(|(lane, (_, events))| {
        let calls = events.iter().enumerate();
        calls
            .filter(|(_, event)| matches!(event.what, What::Calls(..) | What::Fails(_)))
            .map(move |(number, event)| ((lane, number), event))
    })
}

// ---- what is false ------------------------------------------------------------------------------

/// A call in a trace, and what happened about it.
struct Place<'a> {
    trace: &'a Trace,
    lane: usize,
    number: usize,
}

impl Place<'_> {
    /// What the participant did from this call on, until its process ended.
    fn onwards(&self) -> impl Iterator<Item = &Event> {
        let events = &self.trace.lanes[self.lane].1[self.number..];
        events.iter().take_while(|event| event.what != What::Ends)
    }

    fn call(&self) -> &Event {
        &self.trace.lanes[self.lane].1[self.number]
    }

    fn events(&self) -> impl Iterator<Item = &Event> {
        let events = self.trace.lanes.iter().map(|(_, events)| events);
        events.chain(&self.trace.outside).flatten()
    }

    /// Whether another did such a thing at the time of the call.
    fn meanwhile(&self, happens: fn(What) -> bool) -> bool {
        let own = &self.trace.lanes[self.lane].1;
        self.events()
            .filter(|event| !own.as_ptr_range().contains(&std::ptr::from_ref(*event)))
            .any(|event| happens(event.what) && event.overlaps(self.call()))
    }

    /// The last such thing that began before the call ended.
    fn last(&self, happens: fn(What) -> bool) -> Option<What> {
        let before =
            self.events().filter(|event| happens(event.what) && event.from <= self.call().to);
        before.max_by_key(|event| event.from).map(|event| event.what)
    }

    /// Why a false reply may go unnoticed here.
    fn explanation(&self, right: Reply, wrong: Reply) -> Option<&'static str> {
        if matches!(self.call().what, What::Fails(_)) {
            if let Some(reason) = self.explanation_of_failed(wrong) {
                return Some(reason);
            }
        }
        match (right, wrong) {
            (Reply::Age(Dated::Known(_)), Reply::Age(Dated::Known(_))) => {
                Some("no clock is to be trusted: a file may look young or old at any time")
            }
            (Reply::Watch(_), Reply::Watch(Watch::Unknown)) => {
                Some("a system may be unable to tell at any time")
            }
            (Reply::Watch(Watch::Unknown), Reply::Watch(_)) => {
                Some("the system could not tell, and this is what there was to tell")
            }
            (Reply::Probe(was), Reply::Probe(is)) => {
                match (of_this_kernel(was), of_this_kernel(is)) {
                    (Some(was), Some(is)) => self.explanation_of_probe(was, is),
                    _ => None,
                }
            }
            (Reply::Lock(_) | Reply::Watch(_), _) => self
                .meanwhile(changes_locks)
                .then_some("somebody took the lock or dropped it at the time of the call"),
            (Reply::Create(_) | Reply::Open(_) | Reply::Confirm(_) | Reply::Unlink(_), _) => {
                self.explanation_by(changes_names, "the name changed at the time of the call")
            }
            (Reply::Listen(_), _) => {
                let acted = self.onwards().nth(1).is_some();
                (!acted).then_some("its process was killed before it did anything about it")
            }
            (Reply::Read(_), _) => self.explanation_by(
                changes_contents,
                "the file was written or emptied at the time of the call",
            ),
            _ => None,
        }
    }

    /// Where the call was not made.
    fn explanation_of_failed(&self, wrong: Reply) -> Option<&'static str> {
        if self.onwards().nth(1).is_none() {
            return Some("the call was made to fail, and then its process was killed");
        }
        match wrong {
            Reply::Write(_) | Reply::Void(_) | Reply::Unlink(_) => Some(
                "the call was made to fail, and nobody looked into the file before it was gone",
            ),
            wrong if only_looks(wrong) => {
                Some("the call was made to fail, and this is what it would have found")
            }
            _ => None,
        }
    }

    fn explanation_of_probe(&self, was: Probe, is: Probe) -> Option<&'static str> {
        match (was, is) {
            (Probe::Gone, Probe::Zombie) | (Probe::Zombie, Probe::Gone) => {
                Some("a zombie is gone a moment later")
            }
            (Probe::Gone | Probe::Zombie, Probe::Alive)
            | (Probe::Alive, Probe::Gone | Probe::Zombie) => self
                .meanwhile(|what| what == What::Ends)
                .then_some("a process was ending at the time of the call"),
            _ => None,
        }
    }

    /// By a change at the time of the call, or one before it of which nobody knows.
    fn explanation_by(
        &self,
        changes: fn(What) -> bool,
        meanwhile: &'static str,
    ) -> Option<&'static str> {
        match self.last(changes) {
            Some(What::Calls(_, None)) => {
                Some("the change before it was made, or not, by one who was killed in it")
            }
            _ => self.meanwhile(changes).then_some(meanwhile),
        }
    }
}

/// The answer of the probe about one of the participants: all take kernel locks, on one kernel.
fn of_this_kernel(probed: Probed) -> Option<Probe> {
    match probed {
        Probed::Known(Author::Here(FreeLock::ProvesDeath, probe)) => Some(probe),
        Probed::Known(_) | Probed::Failed => None,
    }
}

/// Replies that say what is, and change nothing.
fn only_looks(reply: Reply) -> bool {
    match reply {
        Reply::Create(reply) => reply == Create::Exists,
        Reply::Open(reply) => reply == OpenReply::Absent,
        Reply::Lock(reply) => reply == LockReply::Busy,
        Reply::Age(_) | Reply::Read(_) | Reply::Confirm(_) => true,
        _ => false,
    }
}

fn changes_names(what: What) -> bool {
    matches!(
        what,
        What::Removes | What::Calls(Op::Unlink, None | Some(Reply::Unlink(Unlink::Unlinked)))
    ) || is_create(what)
}

fn is_create(what: What) -> bool {
    matches!(what, What::Calls(Op::Create, None | Some(Reply::Create(Create::Created))))
}

fn changes_contents(what: What) -> bool {
    matches!(what, What::Calls(Op::Write | Op::Void, _))
}

fn changes_locks(what: What) -> bool {
    matches!(
        what,
        What::Ends
            | What::Calls(Op::Lock, None | Some(Reply::Lock(LockReply::Ours)))
            | What::Calls(Op::Close | Op::Leave, _)
    )
}

/// One search of so many may be cut short, and no more.
const UNDECIDED: usize = 20;

/// How often each false reply was noticed, and how often not, with the reason.
#[derive(Default)]
struct Findings {
    seen: BTreeMap<(Reply, Reply), (usize, usize)>,
    reasons: BTreeMap<(Reply, Reply), &'static str>,
    /// How many searches were cut short, as happens where many calls overlap for long.
    undecided: usize,
    /// The most events that were tried in one search.
    most_tried: usize,
}

impl Findings {
    /// Whether the trace, with this instead of that at the place, is noticed, or else explained.
    fn judge(&mut self, trace: &mut Trace, place: (usize, usize), right: Reply, wrong: Reply) {
        let call = trace.lanes[place.0].1[place.1];
        trace.lanes[place.0].1[place.1].what = What::Calls(right.op(), Some(wrong));
        let judged = explain(trace);
        trace.lanes[place.0].1[place.1] = call;
        let (noticed, unnoticed) = self.seen.entry((right, wrong)).or_default();
        match judged {
            Ok(explained) => {
                let at = Place { trace, lane: place.0, number: place.1 };
                *unnoticed += 1;
                self.most_tried = self.most_tried.max(explained.tried);
                let Some(reason) = at.explanation(right, wrong) else {
                    let near: Vec<_> = at.onwards().take(3).collect();
                    panic!("{right:?} was falsified to {wrong:?}, and not noticed, at {near:?}")
                };
                self.reasons.insert((right, wrong), reason);
            }
            Err(reason) => {
                *noticed += usize::from(!reason.gave_up);
                self.undecided += usize::from(reason.gave_up);
                self.most_tried = self.most_tried.max(reason.tried);
            }
        }
    }

    /// Shows what went unnoticed.
    fn tell(&self) {
        println!(
            "{} kinds of false replies, noticed {} times, in searches of at most {} events",
            self.seen.len(),
            self.seen.values().map(|(noticed, _)| noticed).sum::<usize>(),
            self.most_tried
        );
        let searches: usize =
            self.seen.values().map(|(noticed, unnoticed)| noticed + unnoticed).sum();
        println!("{} searches were cut short, beside {searches} that were not", self.undecided);
        // How calls overlap is up to the machine and its load, so that no number is right.
        assert!(self.undecided * UNDECIDED <= searches, "too many to have looked at all kinds");
        for ((right, wrong), (noticed, unnoticed)) in &self.seen {
            if let Some(reason) = self.reasons.get(&(*right, *wrong)) {
                let all = noticed + unnoticed;
                println!("unnoticed {unnoticed} of {all}: {right:?} as {wrong:?}: {reason}");
            }
        }
    }
}

/// At how many places each kind of reply is falsified, for each reply that follows.
fn places_for(reply: Reply) -> usize {
    match reply {
        // It takes long, and most of the time somebody takes or drops the lock meanwhile.
        Reply::Watch(_) => 40,
        _ => 1,
    }
}

#[test]
fn falsified_reply_is_detected_or_its_acceptance_explained() {
    let mut traces: Vec<_> = seeds().map(|seed| record(Plan::to_be_falsified(seed))).collect();
    // What a falsehood meets depends on what follows, so that places are chosen by both.
    let mut places: BTreeMap<(Reply, Option<Reply>), Vec<_>> = BTreeMap::new();
    for (at, trace) in traces.iter().enumerate() {
        explained(trace, &format!("trace {at}"));
        for (place, event) in calls(trace) {
            let next = trace.lanes[place.0].1.get(place.1 + 1).and_then(Event::reply);
            if let Some(reply) = event.reply() {
                places.entry((reply, next)).or_default().push((at, place));
            }
        }
    }
    let mut findings = Findings::default();
    for ((right, _), places) in places {
        for wrong in right.op().replies().into_iter().filter(|&wrong| wrong != right) {
            // All of one kind, and many: once is enough.
            let elsewhere = matches!(wrong, Reply::Probe(probed @ Probed::Known(_)) if of_this_kernel(probed).is_none());
            if elsewhere && findings.seen.contains_key(&(right, wrong)) {
                continue;
            }
            for &(at, place) in places.iter().step_by(places.len().div_ceil(places_for(right))) {
                findings.judge(&mut traces[at], place, right, wrong);
            }
        }
    }
    findings.tell();
    for op in OPS {
        let mut of_op = findings.seen.iter().filter(|((right, _), _)| right.op() == op);
        let any = of_op.any(|(_, &(noticed, _))| noticed > 0);
        assert!(any, "no false reply of {op:?} was noticed");
    }
}

/// How many runs are made until the liar has had an occasion.
const OCCASIONS: u64 = 12;

/// The same for an operation about which no lie has been told by then.
const MORE_OCCASIONS: u64 = 120;

#[test]
fn believed_false_reply_is_detected_or_explained() {
    let seed = number("PORTLOCK_SEED", 1);
    let mut findings = Findings::default();
    let mut untold = Vec::new();
    // Of the dead and the living elsewhere there are none here: one author is enough.
    let lies = replies().into_iter().filter(|lie| match lie {
        Reply::Probe(probed) => of_this_kernel(*probed).is_some(),
        _ => true,
    });
    let tell = |findings: &mut Findings, lie, seed| {
        let mut trace = record(Plan::with_lie(seed, lie));
        let lied = calls(&trace).find_map(|(place, event)| Some((place, event.truth?)));
        if let Some((place, truth)) = lied {
            findings.judge(&mut trace, place, truth, lie);
        }
        lied.is_some()
    };
    for lie in lies {
        if !(seed..seed + OCCASIONS).any(|seed| tell(&mut findings, lie, seed)) {
            untold.push(lie);
        }
    }
    // On a machine with much else to do, processes seldom meet, and none waits in so few runs.
    for &lie in &untold {
        let is_told = findings.seen.keys().any(|(_, other)| other.op() == lie.op());
        let more = seed + OCCASIONS..seed + MORE_OCCASIONS;
        let _ = is_told || more.into_iter().any(|seed| tell(&mut findings, lie, seed));
    }
    findings.tell();
    println!("there was no occasion for {untold:?}");
    for op in OPS {
        let told = findings.seen.keys().filter(|(_, lie)| lie.op() == op).count();
        assert!(told > 0, "no lie of {op:?} was told");
    }
}
