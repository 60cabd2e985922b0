//! Recorded runs of real processes: is there an order of their calls that the model could have
//! made?
//!
//! A [`Recorder`] writes a line before and after each call. The clock is one for all processes, so
//! each call lies somewhere between its two lines. [`explain`] searches for an order that agrees
//! with all these intervals, in which every reply is the model's. One whose process was killed may
//! have been made or not.
//!
//! A recorder can make a call fail, which it records as such, so that the model may have this call
//! fail and no other. It can also lie to its participant about one reply, as a filesystem would
//! that is not the model's; then there must be no order.
//!
//! What a run may do that the model's single steps do not show is excused by name:
//!
//! - A zombie is `Gone` a moment later, so the two are one reply.
//! - An event may come for nothing: the adapter looks again after a pause.
//! - A process that ends has lost its files before the probe finds it dead. Until it has been
//!   reaped, a probe may find it alive.
//! - A kernel lock may outlive its holder, even after the holder has been reaped: a process
//!   that lists `/proc/PID/fd` or reads `/proc/PID/fdinfo` has a reference to each open file for an
//!   instant, and `flock` belongs to the open file. See [`explain_with_lingering_lock`].

mod recorder;

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use portlock::protocol::{Acquire, Author, FreeLock, LockReply, Probe, Probed, Watch};
use rustc_hash::FxHashSet;

use self::recorder::MARK;
pub use self::recorder::{Recorder, now};
use crate::scenario::catalogue::{Scenario, Start};
use crate::scenario::machines::{Answer, Op, Reply, Script};
use crate::scenario::moves::{Outcome, apply};
use crate::scenario::state::{Activity, Kind, Listens, Look, Move, State, Who};
use crate::search::fingerprint::{Fingerprint, fingerprint};
use crate::search::reduce::Reduction;
use crate::variants::SHIPPED;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Begins,
    Answers(Answer),
    Releases,
    /// A call and its reply, if it lived to note it.
    Calls(Op, Option<Reply>),
    /// A call that was not made, and failed.
    Fails(Reply),
    /// Its process is killed, or exits.
    Ends,
    /// Somebody outside removed what the path named.
    Removes,
}

/// Something that happened at some instant from one time to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub from: Duration,
    pub to: Duration,
    pub what: What,
    /// What the reply was, where the recorder lied to its participant.
    pub truth: Option<Reply>,
}

impl Event {
    pub fn new(from: Duration, to: Duration, what: What) -> Self {
        Self { from, to, what, truth: None }
    }

    /// The reply of a call, if it got one.
    pub fn reply(&self) -> Option<Reply> {
        match self.what {
            What::Calls(_, reply) => reply,
            What::Fails(reply) => Some(reply),
            _ => None,
        }
    }

    /// Whether the two can have happened at the same time.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.from <= other.to && other.from <= self.to
    }
}

/// Reads the lines of one process. `reaped` is when it had ended and been reaped.
pub fn parse<'l>(
    lines: impl IntoIterator<Item = &'l str>,
    reaped: Duration,
) -> Result<Vec<Event>, String> {
    let mut events: Vec<Event> = Vec::new();
    for line in lines {
        let Some((_, line)) = line.split_once(MARK) else { continue };
        // One that was killed may have been so in the middle of a line.
        let bad = || format!("not a line of a trace: {line:?}");
        let (time, what) = line.split_once(' ').ok_or_else(bad)?;
        let at = Duration::from_nanos(time.parse().map_err(|_| bad())?);
        let (verb, rest) = what.split_once(' ').unwrap_or((what, ""));
        let what = match verb {
            "begins" => What::Begins,
            "releases" => What::Releases,
            "answers" => {
                let answer = Answer::ALL.into_iter().find(|answer| format!("{answer:?}") == rest);
                What::Answers(answer.ok_or_else(bad)?)
            }
            "calls" => {
                let op = Op::SHIPPED.into_iter().find(|op| format!("{op:?}") == rest);
                What::Calls(op.ok_or_else(bad)?, None)
            }
            "got" | "fails" | "lied" => {
                let event = events.last_mut().ok_or_else(bad)?;
                let What::Calls(op, _) = event.what else { return Err(bad()) };
                let found = op.replies().into_iter().find(|reply| format!("{reply:?}") == rest);
                let reply = found.ok_or_else(bad)?;
                match verb {
                    "got" => event.what = What::Calls(op, Some(reply)),
                    "fails" => event.what = What::Fails(reply),
                    _ => {
                        event.truth = Some(reply);
                        continue;
                    }
                }
                event.to = at;
                continue;
            }
            _ => return Err(bad()),
        };
        events.push(Event::new(at, at, what));
    }
    let Some(last) = events.last_mut() else { return Ok(events) };
    let from = last.to;
    if matches!(last.what, What::Calls(_, None)) {
        last.to = reaped;
    }
    events.push(Event::new(from, reaped, What::Ends));
    Ok(events)
}

/// A run: what each participant did, and its successors after it was killed.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    pub lanes: Vec<(Kind, Vec<Event>)>,
    /// What others did from outside, each in its own order.
    pub outside: Vec<Vec<Event>>,
}

impl Trace {
    fn lane(&self, lane: usize) -> &[Event] {
        match self.lanes.get(lane) {
            Some((_, events)) => events,
            None => &self.outside[lane - self.lanes.len()],
        }
    }
}

/// The trace is a run of the model.
#[derive(Debug, Clone, Copy)]
pub struct Explained {
    /// How many events it has, and how many were tried on the way to the order.
    pub events: usize,
    pub tried: usize,
}

/// The trace is no run of the model.
#[derive(Debug, Clone)]
pub struct Unexplained {
    /// How many events of the longest order that was found.
    pub explained: usize,
    /// How many events were tried.
    pub tried: usize,
    /// What could have come next in the longest order, and what the model says of it.
    pub next: Vec<String>,
    /// The search was cut short, and says nothing.
    pub gave_up: bool,
}

impl fmt::Display for Unexplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { explained, next, gave_up, tried: _ } = self;
        if *gave_up {
            writeln!(f, "the search for an order was cut short")?;
        }
        writeln!(f, "no order explains more than {explained} events; then comes one of:")?;
        next.iter().try_for_each(|next| writeln!(f, "    {next}"))
    }
}

/// More events than are tried before a search is cut short. An order is found after about two tries
/// for each event of the run; that there is none was seen after 70,000 at most.
const PATIENCE: usize = 500_000;

/// For how long a kernel lock may outlive its holder. A process that lists the holder's open files
/// has it for microseconds, unless the scheduler preempts it then.
const LINGERS: Duration = Duration::from_millis(100);

/// Searches for an order in which the model does the same.
pub fn explain(trace: &Trace) -> Result<Explained, Unexplained> {
    search(trace, false)
}

/// Same as [`explain`], except that one kernel lock may outlive its holder: for a run that is
/// unexplained without.
pub fn explain_with_lingering_lock(trace: &Trace) -> Result<Explained, Unexplained> {
    search(trace, true)
}

fn search(trace: &Trace, may_linger: bool) -> Result<Explained, Unexplained> {
    // Its memory is used again: the pages of thousands of searches would take half of their time.
    let mut room = ROOM.take();
    let explained = search_in(trace, may_linger, &mut room);
    room.open.clear();
    room.known.clear();
    ROOM.set(room);
    explained
}

/// How far each lane has come, whether a lock may still outlive its holder, and the state then.
type Reached<S> = (Vec<usize>, bool, S);

#[derive(Default)]
struct Room {
    open: Vec<Reached<State>>,
    known: FxHashSet<Reached<Fingerprint>>,
}

thread_local! {
    static ROOM: Cell<Room> = Cell::default();
}

fn search_in(trace: &Trace, may_linger: bool, room: &mut Room) -> Result<Explained, Unexplained> {
    let mut search = Search::new(trace);
    let Room { open, known } = room;
    let lanes = trace.lanes.len() + trace.outside.len();
    open.push((vec![0; lanes], may_linger, search.scenario.beginnings()[0]));
    let total: usize = (0..lanes).map(|lane| trace.lane(lane).len()).sum();
    let mut best: (usize, Vec<String>) = (0, Vec::new());
    while let Some((done, may_linger, state)) = open.pop() {
        let explained: usize = done.iter().sum();
        if explained == total {
            return Ok(Explained { events: total, tried: search.tried });
        }
        if search.tried > PATIENCE {
            let (explained, next) = best;
            return Err(Unexplained { explained, tried: search.tried, next, gave_up: true });
        }
        let furthest = explained >= best.0;
        let mut next = Vec::new();
        // What ended first is tried first, hence put there last.
        let mut candidates = search.candidates(&done);
        candidates.sort_by_key(|&lane| std::cmp::Reverse(trace.lane(lane)[done[lane]].to));
        for lane in candidates {
            let event = trace.lane(lane)[done[lane]];
            let mut followed = search.follow(&state, lane as Who, event);
            let mut may_linger = may_linger;
            if followed.is_empty() && may_linger {
                followed = search.lingering(&state, lane as Who, event);
                may_linger = followed.is_empty();
            }
            if furthest {
                let in_model = search.model_says(&state, lane as Who, event);
                next.push(format!("{lane}: {:?}, and in the model {in_model}", event.what));
            }
            for state in followed {
                let mut done = done.clone();
                done[lane] += 1;
                if known.insert((done.clone(), may_linger, fingerprint(&state))) {
                    open.push((done, may_linger, state));
                }
            }
        }
        if furthest {
            best = (explained, next);
        }
    }
    let (explained, next) = best;
    Err(Unexplained { explained, tried: search.tried, next, gave_up: false })
}

struct Search<'a> {
    trace: &'a Trace,
    scenario: Scenario,
    reduction: Reduction,
    tried: usize,
}

impl<'a> Search<'a> {
    fn new(trace: &'a Trace) -> Self {
        let base = Scenario::base(2);
        let scenario = Scenario {
            name: "trace",
            kinds: trace.lanes.iter().map(|&(kind, _)| kind).collect(),
            starts: &[Start::Absent],
            crashes: 1,
            looks: &[Look::Gone],
            asks_may_be_denied: false,
            listens: true,
            // It is no search for a broken property.
            properties: &[],
            ..base
        };
        let reduction = Reduction::of(&scenario, &SHIPPED);
        Self { trace, scenario, reduction, tried: 0 }
    }

    /// The lanes whose next event may come next: nothing that is left ended before it began.
    fn candidates(&self, done: &[usize]) -> Vec<usize> {
        let next = |lane: usize| self.trace.lane(lane).get(done[lane]);
        let first_end = (0..done.len()).filter_map(next).map(|event| event.to).min();
        let may = |&lane: &usize| next(lane).is_some_and(|event| Some(event.from) <= first_end);
        (0..done.len()).filter(may).collect()
    }

    /// The states that can follow an event, if it can come next.
    fn follow(&mut self, state: &State, who: Who, event: Event) -> Vec<State> {
        self.tried += 1;
        let mut states = match event.what {
            What::Begins => self.moved(state, Move::Begin(who)),
            What::Answers(answer) => self.moved(state, Move::Answer(who, answer)),
            What::Releases => self.moved(state, Move::Release(who)),
            // Not as a move, which only one makes that has something to lose.
            What::Ends => {
                let mut state = *state;
                state.crash(who, Look::Gone);
                vec![state]
            }
            What::Removes => self.moved(state, Move::Remove),
            What::Calls(_, Some(reply)) => self.replied(state, who, event, reply),
            What::Fails(reply) => {
                let state = State { faults_left: 1, ..*state };
                let failed =
                    |outcome: &Outcome| outcome.reply == reply && outcome.state.faults_left == 0;
                let outcomes = self.outcomes(&state, who).into_iter().filter(failed);
                outcomes.map(|outcome| outcome.state).collect()
            }
            What::Calls(op, None) if asks(state, who) != Some(op) => Vec::new(),
            What::Calls(op, None) => {
                let outcomes = self.outcomes(state, who);
                let made = outcomes.into_iter().filter(|outcome| outcome.reply.op() == op);
                made.map(|outcome| outcome.state).chain([*state]).collect()
            }
        };
        states.iter_mut().for_each(|state| self.forget(state));
        states
    }

    /// Leaves out what no move depends on, so that orders that lead to the same are known as such.
    fn forget(&self, state: &mut State) {
        (state.crashes_left, state.faults_left, state.removals_left) = (1, 0, 0);
        state.participants.iter_mut().for_each(|participant| participant.in_window = false);
        self.reduction.reduce(state);
    }

    fn moved(&self, state: &State, one: Move) -> Vec<State> {
        let state = State { crashes_left: 1, removals_left: 1, ..*state };
        let outcome = apply(&self.scenario, &SHIPPED, &state, one);
        outcome.map(|outcome| outcome.state).into_iter().collect()
    }

    /// Every way in which the one call of `who` can end in the model.
    fn outcomes(&self, state: &State, who: Who) -> Vec<Outcome> {
        let mut state = *state;
        let participant = state.participant_mut(who);
        if matches!(participant.activity, Activity::Acquiring(Acquire::Listening(_))) {
            participant.listens = Listens::Event;
        }
        let make = |choice| apply(&self.scenario, &SHIPPED, &state, Move::Call(who, choice));
        let first = make(0);
        let choices = first.as_ref().map_or(0, |outcome| outcome.choices);
        first.into_iter().chain((1..choices).filter_map(make)).collect()
    }

    fn replied(&self, state: &State, who: Who, event: Event, reply: Reply) -> Vec<State> {
        let wanted = settled(reply);
        let outcomes = self.outcomes(state, who);
        let may_be_dying = outcomes.first().is_some_and(|outcome| {
            let answer = |free, probe| Reply::Probe(Probed::Known(Author::Here(free, probe)));
            [FreeLock::ProvesDeath, FreeLock::ProvesNothing].into_iter().any(|free| {
                outcome.reply == answer(free, Probe::Gone) && wanted == answer(free, Probe::Alive)
            })
        });
        if may_be_dying && self.another_ends(who, |end| end.overlaps(&event)) {
            return vec![with_reply(state, who, reply)];
        }
        outcomes
            .into_iter()
            .filter(|outcome| outcome.reply == wanted)
            .map(|outcome| outcome.state)
            .collect()
    }

    /// The states that can follow a reply that says locked, where the model says free: the lock may
    /// have outlived its holder.
    fn lingering(&self, state: &State, who: Who, event: Event) -> Vec<State> {
        let (seen, free) = match event.what {
            What::Calls(_, Some(seen @ Reply::Lock(LockReply::Busy))) => {
                (seen, Reply::Lock(LockReply::Ours))
            }
            What::Calls(_, Some(seen @ Reply::Watch(Watch::Held))) => {
                (seen, Reply::Watch(Watch::Free))
            }
            _ => return Vec::new(),
        };
        let is_free = self.outcomes(state, who).iter().any(|outcome| outcome.reply == free);
        let just_ended = |end: &Event| end.from <= event.to && event.from <= end.to + LINGERS;
        if !is_free || !self.another_ends(who, just_ended) {
            return Vec::new();
        }
        let mut state = with_reply(state, who, seen);
        self.forget(&mut state);
        vec![state]
    }

    /// Whether the process of another lane ends at such a time.
    fn another_ends(&self, who: Who, at: impl Fn(&Event) -> bool) -> bool {
        let lanes = self.trace.lanes.iter().enumerate();
        let others = lanes.filter(|&(lane, _)| lane != usize::from(who));
        let mut events = others.flat_map(|(_, (_, events))| events);
        events.any(|event| event.what == What::Ends && at(event))
    }

    fn model_says(&self, state: &State, who: Who, event: Event) -> String {
        let activity =
            state.participants.get(usize::from(who)).map(|participant| participant.activity);
        match event.what {
            What::Calls(..) | What::Fails(_) => {
                let replies: Vec<_> =
                    self.outcomes(state, who).iter().map(|outcome| outcome.reply).collect();
                format!("{replies:?} at {activity:?}")
            }
            _ => format!("at {activity:?}"),
        }
    }
}

/// The operation that a participant's machine asks for next.
fn asks(state: &State, who: Who) -> Option<Op> {
    let mut script = Script::new(Reply::Close);
    match state.participant(who).activity {
        Activity::Acquiring(state) => _ = state.step(&mut script),
        Activity::Releasing(state) => _ = state.step(&mut script),
        Activity::Asking(state) => _ = state.step(&mut script),
        _ => {}
    }
    script.asked.first().copied()
}

/// The state after a participant's machine gets a reply that the model does not give.
fn with_reply(state: &State, who: Who, reply: Reply) -> State {
    let mut state = *state;
    let participant = state.participant_mut(who);
    let mut script = Script::new(reply);
    participant.activity = match participant.activity {
        Activity::Acquiring(state) => Activity::Acquiring(state.step(&mut script)),
        Activity::Asking(state) => Activity::Asking(state.step(&mut script)),
        other => other,
    };
    state
}

/// A zombie is gone a moment later.
fn settled(reply: Reply) -> Reply {
    match reply {
        Reply::Probe(Probed::Known(Author::Here(free, Probe::Zombie))) => {
            Reply::Probe(Probed::Known(Author::Here(free, Probe::Gone)))
        }
        other => other,
    }
}
