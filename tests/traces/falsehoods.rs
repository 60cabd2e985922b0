//! Replies that are false, in the record or in what a process is answered: each is detected, or its
//! acceptance explained.

use std::collections::{BTreeMap, BTreeSet};

use portlock::protocol::{
    Author, Create, Dated, FreeLock, LockReply, OpenReply, Probe, Probed, ReadReply, Unlink, Watch,
};
use portlock_model::conformance::trace::{Event, Trace, What, explain};
use portlock_model::scenario::machines::{Op, Reply};
use portlock_model::variants::catalogue::on_all_processors;

use crate::{Plan, calls, explained, number, ops, record, replies, seeds};

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
                .then_some("another took or dropped the lock at the time of the call"),
            (Reply::Create(_) | Reply::Open(_) | Reply::Confirm(_) | Reply::Unlink(_), _) => {
                self.explanation_by(changes_names, "the name changed at the time of the call")
            }
            (Reply::Listen(_), _) => {
                let acted = self.onwards().nth(1).is_some();
                (!acted).then_some("its process was killed before it did anything about it")
            }
            (Reply::Read(was), Reply::Read(is))
                if is_incomplete(was)
                    && is_incomplete(is)
                    && self.last(may_cut_short).is_some() =>
            {
                Some(
                    "a write was killed or failed, or a record was cut short, in a file that may still be open here",
                )
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
            Reply::Write(_) | Reply::Void(_) | Reply::Unlink(_) => {
                Some("the call was made to fail, and no other read the file before it was gone")
            }
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
                Some("the change before it was made, or not, by a process that was killed in it")
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

/// It may have left the file empty, or a record that is cut short.
fn may_cut_short(what: What) -> bool {
    matches!(
        what,
        What::Calls(Op::Write, None)
            | What::Calls(Op::Void, _)
            | What::Fails(Reply::Write(_) | Reply::Void(_))
    )
}

fn is_incomplete(content: ReadReply) -> bool {
    matches!(content, ReadReply::Empty | ReadReply::Unreadable)
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

/// What became of one false reply, after how many events that were tried.
enum Judged {
    Detected { tried: usize },
    Explained { tried: usize, reason: &'static str },
    Undecided { tried: usize },
}

/// Whether the trace, with this instead of that at the place, is noticed, or else explained.
fn judge(trace: &mut Trace, place: (usize, usize), right: Reply, wrong: Reply) -> Judged {
    let call = trace.lanes[place.0].1[place.1];
    trace.lanes[place.0].1[place.1].what = What::Calls(right.op(), Some(wrong));
    let judged = explain(trace);
    trace.lanes[place.0].1[place.1] = call;
    match judged {
        Ok(explained) => {
            let at = Place { trace, lane: place.0, number: place.1 };
            let Some(reason) = at.explanation(right, wrong) else {
                let near: Vec<_> = at.onwards().take(3).collect();
                panic!("{right:?} was falsified to {wrong:?}, and not noticed, at {near:?}")
            };
            Judged::Explained { tried: explained.tried, reason }
        }
        Err(reason) if reason.gave_up => Judged::Undecided { tried: reason.tried },
        Err(reason) => Judged::Detected { tried: reason.tried },
    }
}

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
    fn add(&mut self, right: Reply, wrong: Reply, judged: Judged) {
        let (noticed, unnoticed) = self.seen.entry((right, wrong)).or_default();
        let tried = match judged {
            Judged::Detected { tried } => {
                *noticed += 1;
                tried
            }
            Judged::Explained { tried, reason } => {
                *unnoticed += 1;
                self.reasons.insert((right, wrong), reason);
                tried
            }
            Judged::Undecided { tried } => {
                self.undecided += 1;
                tried
            }
        };
        self.most_tried = self.most_tried.max(tried);
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
    // A run in which a lock outlived its holder has no order, falsified or not.
    traces.retain(|trace| explained(trace, "a run to be falsified"));
    // What a falsehood meets depends on what follows, so that places are chosen by both.
    let mut places: BTreeMap<(Reply, Option<Reply>), Vec<_>> = BTreeMap::new();
    for (at, trace) in traces.iter().enumerate() {
        for (place, event) in calls(trace) {
            let next = trace.lanes[place.0].1.get(place.1 + 1).and_then(Event::reply);
            if let Some(reply) = event.reply() {
                places.entry((reply, next)).or_default().push((at, place));
            }
        }
    }
    let (mut falsehoods, mut elsewhere) = (Vec::new(), BTreeSet::new());
    for ((right, _), places) in places {
        for wrong in right.op().replies().into_iter().filter(|&wrong| wrong != right) {
            // All of one kind, and many: once is enough.
            let is_elsewhere = matches!(wrong, Reply::Probe(probed @ Probed::Known(_)) if of_this_kernel(probed).is_none());
            if is_elsewhere && !elsewhere.insert((right, wrong)) {
                continue;
            }
            let step = places.len().div_ceil(places_for(right));
            falsehoods
                .extend(places.iter().step_by(step).map(|&(at, place)| (at, place, right, wrong)));
        }
    }
    // Few parts, since each has its own copy of the traces.
    let parts: Vec<_> = falsehoods.chunks(falsehoods.len().div_ceil(8)).collect();
    let judged = on_all_processors(&parts, |part| {
        let mut traces = traces.clone();
        let judged = part.iter().map(|&(at, place, right, wrong)| {
            (right, wrong, judge(&mut traces[at], place, right, wrong))
        });
        judged.collect::<Vec<_>>()
    });
    let mut findings = Findings::default();
    for (right, wrong, judged) in judged.into_iter().flatten() {
        findings.add(right, wrong, judged);
    }
    findings.tell();
    for op in ops() {
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
            findings.add(truth, lie, judge(&mut trace, place, truth, lie));
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
    for op in ops() {
        let told = findings.seen.keys().filter(|(_, lie)| lie.op() == op).count();
        assert!(told > 0, "no lie of {op:?} was told");
    }
}
