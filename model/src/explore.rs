//! Exhaustive breadth-first search over canonical worlds: the first violation is a shortest one.

use std::collections::BTreeSet;
use std::hash::BuildHasherDefault;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use rustc_hash::{FxHashSet, FxHasher};

use portlock::protocol::{
    Acquire, Clear, Cleared, Closing, Query, Refusal, Release, Released, Then,
};

use crate::machines::{Answer, Reply};
use crate::moves::{Outcome, successors};
use crate::properties::{Fared, check_alone, check_move};
use crate::schedule::Schedule;
use crate::variants::Protocol;
use crate::world::{Doing, Move, World};
use crate::worlds::{Config, Promise};

/// What a search saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub states: usize,
    pub transitions: usize,
    /// Moves of the longest shortest way to a state.
    pub depth: usize,
    /// Calls of the longest call that ran alone.
    pub longest_alone: u32,
    pub took: Duration,
    /// The first promise found broken, with a shortest schedule.
    pub found: Option<Found>,
    pub coverage: Coverage,
}

/// A broken promise.
#[derive(Debug, Clone)]
pub struct Found {
    pub promise: Promise,
    pub schedule: Schedule,
    /// It breaks when a participant runs alone from where the schedule ends.
    pub alone: bool,
}

/// What happened somewhere, so that no check passes for want of anything to check.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    /// State, call and reply, state that followed; of the machines alone.
    pub steps: FxHashSet<(Doing, Reply, Doing)>,
    /// States in which a process died.
    pub crashed_in: FxHashSet<Doing>,
    pub sometimes: BTreeSet<&'static str>,
}

impl Coverage {
    /// Adds what another search saw.
    pub fn add(&mut self, other: &Self) {
        self.steps.extend(&other.steps);
        self.crashed_in.extend(&other.crashed_in);
        self.sometimes.extend(&other.sometimes);
    }

    fn note(&mut self, before: &World, one: Move, reply: Reply, ended: Doing) {
        match one {
            Move::Call(who, _) => {
                let was = before.participant(who).doing;
                if !matches!(was, Doing::Percy(_) | Doing::Aside(_)) {
                    self.steps.insert((was, reply, ended));
                    self.note_end(was, ended);
                }
            }
            Move::Answer(who, answer) => {
                let was = before.participant(who).doing;
                self.steps.insert((was, reply, ended));
                self.note_end(was, ended);
                match answer {
                    Answer::Again => self.sometimes.insert("a participant tries again"),
                    Answer::Listen => self.sometimes.insert("a participant listens"),
                    Answer::Force => self.sometimes.insert("a file is cleared by force"),
                    Answer::Keep => self.sometimes.insert("a lock is kept that could not go"),
                    Answer::GiveUp | Answer::Leave | Answer::Abandon => false,
                };
            }
            Move::Crash(who, _) => {
                self.crashed_in.insert(before.participant(who).doing);
                self.sometimes.insert("a process dies");
            }
            Move::Remove => {
                self.sometimes.insert("somebody removes the path");
            }
            Move::Suspend(_) => {
                self.sometimes.insert("a participant stops for ever");
            }
            Move::Fork(_) => {
                self.sometimes.insert("a child is forked");
            }
            Move::LoseReach(_) => {
                self.sometimes.insert("a holder loses the way to the path");
            }
            Move::Begin(_) | Move::Release(_) => {}
        }
    }

    fn note_end(&mut self, was: Doing, ended: Doing) {
        const CREATE: Acquire = Acquire::Closing(Closing { then: Then::Create });
        let what = match (was, ended) {
            (Doing::Acquiring(Acquire::Unlinking(_)), Doing::Acquiring(CREATE)) => {
                "a dead holder's file is reclaimed"
            }
            (Doing::Acquiring(Acquire::Woken(_)), Doing::Acquiring(CREATE)) => {
                "who waited is woken by a release"
            }
            (Doing::Acquiring(Acquire::Noticing(_)), Doing::Acquiring(CREATE)) => {
                "who listens notices a release"
            }
            (Doing::Acquiring(Acquire::Retrying(_)), Doing::Acquiring(Acquire::Woken(_))) => {
                "who listens gets the lock of one who died"
            }
            (Doing::Acquiring(Acquire::Woken(_)), Doing::Acquiring(Acquire::Reading(_))) => {
                "who waited is woken by a death"
            }
            (_, Doing::Acquiring(Acquire::Held(_))) => "somebody holds",
            (_, Doing::Acquiring(Acquire::Refused(Refusal::Holder))) => {
                "a refusal names the holder"
            }
            (_, Doing::Acquiring(Acquire::Refused(_))) => {
                "a refusal says that the holder is unknown"
            }
            (_, Doing::Acquiring(Acquire::Failed(_))) => "an acquire fails",
            (_, Doing::Releasing(Release::Ended(Released::Removed))) => "a holder releases",
            (_, Doing::Releasing(Release::Ended(Released::Lost))) => {
                "a release finds its lock lost"
            }
            (_, Doing::Asking(Query::Answered(_))) => "a query is answered",
            (_, Doing::Clearing(Clear::Ended(Cleared::Removed))) => "a clear removes a file",
            (_, Doing::Clearing(Clear::Ended(Cleared::Refused(_)))) => "a clear is refused",
            _ => return,
        };
        self.sometimes.insert(what);
    }
}

/// How far to search.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Stops, as incomplete, beyond so many states.
    pub states: usize,
    /// Prints states, rate and depth on standard error, every few seconds.
    pub progress: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { states: usize::MAX, progress: false }
    }
}

/// The search was cut short: nothing can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incomplete {
    pub states: usize,
}

/// Searches a world to the end, or to the first broken promise.
pub fn explore(config: &Config, protocol: &Protocol, limits: Limits) -> Result<Seen, Incomplete> {
    explore_watched(config, protocol, limits, |_, _, _| {})
}

/// As [`explore`]; shows `watch` every move with the world before it.
pub fn explore_watched(
    config: &Config,
    protocol: &Protocol,
    limits: Limits,
    mut watch: impl FnMut(&World, Move, &Outcome),
) -> Result<Seen, Incomplete> {
    let began = Instant::now();
    let mut told = began;
    let mut seen = Seen::default();
    // Each world with the move that led to it first: the index of the world before, and the number
    // of the move there.
    let mut states: IndexMap<World, (u32, u8), BuildHasherDefault<FxHasher>> = IndexMap::default();
    for (start, beginning) in config.beginnings().into_iter().enumerate() {
        states.entry(beginning.canonical().0).or_insert((u32::MAX, start as u8));
    }
    let mut depth_ends_at = states.len();
    let mut possible = Vec::new();
    let mut next = 0;
    while next < states.len() {
        if next == depth_ends_at {
            seen.depth += 1;
            depth_ends_at = states.len();
        }
        let Some((&world, _)) = states.get_index(next) else { break };
        match check_alone(config, protocol, &world) {
            Ok(calls) => seen.longest_alone = seen.longest_alone.max(calls),
            Err(Fared { broken: promise, .. }) => {
                seen.found = Some(Found { promise, schedule: way_to(&states, next), alone: true });
                break;
            }
        }
        successors(config, protocol, &world, &mut possible);
        for (number, (one, outcome)) in possible.iter().enumerate() {
            seen.transitions += 1;
            watch(&world, *one, outcome);
            seen.coverage.note(&world, *one, outcome.reply, outcome.ended);
            if let Err(promise) = check_move(config, &world, *one, outcome) {
                let mut schedule = way_to(&states, next);
                schedule.steps.push(number as u8);
                seen.found = Some(Found { promise, schedule, alone: false });
                break;
            }
            states.entry(outcome.world.canonical().0).or_insert((next as u32, number as u8));
        }
        if seen.found.is_some() {
            break;
        }
        if states.len() > limits.states {
            return Err(Incomplete { states: states.len() });
        }
        next += 1;
        if limits.progress && told.elapsed() > Duration::from_secs(3) {
            told = Instant::now();
            let rate = next as f64 / began.elapsed().as_secs_f64();
            eprintln!(
                "  {}: {} states, {} to go, {rate:.0} a second, depth {}",
                config.name,
                states.len(),
                states.len() - next,
                seen.depth
            );
        }
    }
    seen.states = states.len();
    seen.took = began.elapsed();
    Ok(seen)
}

fn way_to(
    states: &IndexMap<World, (u32, u8), BuildHasherDefault<FxHasher>>,
    mut index: usize,
) -> Schedule {
    let mut steps = Vec::new();
    loop {
        let Some((_, &(before, number))) = states.get_index(index) else {
            return Schedule { start: 0, steps };
        };
        if before == u32::MAX {
            steps.reverse();
            return Schedule { start: number, steps };
        }
        steps.push(number);
        index = before as usize;
    }
}
