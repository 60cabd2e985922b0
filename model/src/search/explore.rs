//! Exhaustive breadth-first search over reduced, canonical states: the first violation is a
//! shortest one.
//!
//! The search proceeds level by level. For the states of earlier levels it keeps a fingerprint, by
//! which a state is known, and the first move that led there, which gives a shortest schedule. The
//! states themselves are kept for two levels, packed.
//!
//! Each level is expanded in batches, by several threads. Their results are put in the order of a
//! single thread, so states, counts and schedules do not depend on the number of threads.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::properties::property::Property;
use crate::properties::solo::Memo;
use crate::properties::{check_move, check_solo, check_solo_by};
use crate::scenario::catalogue::Scenario;
use crate::scenario::moves::{Outcome, successors};
use crate::scenario::schedule::Schedule;
use crate::scenario::state::{Move, State};
use crate::search::coverage::Coverage;
use crate::search::fingerprint::{ByPart, Fingerprint, fingerprint};
use crate::search::packed::Packed;
use crate::search::reduce::Reduction;
use crate::variants::Protocol;

/// The result of a search.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub states: usize,
    pub transitions: usize,
    /// The most moves on a shortest path to a state.
    pub depth: usize,
    /// Calls of the longest call that ran alone.
    pub longest_solo: u32,
    pub took: Duration,
    /// The first property found broken, with a shortest schedule.
    pub found: Option<Found>,
    pub coverage: Coverage,
}

#[derive(Debug, Clone)]
pub struct Found {
    pub property: Property,
    pub schedule: Schedule,
    /// It breaks when a participant runs alone from the end of the schedule.
    pub solo: bool,
}

/// The limits and the mode of a search.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Stops, as incomplete, beyond this many states.
    pub states: usize,
    /// Prints states, rate and depth on standard error, every few seconds.
    pub progress: bool,
    /// The number of threads that expand states.
    pub threads: usize,
    /// Searches unreduced states, with their dead variables.
    pub whole: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { states: usize::MAX, progress: false, threads: 1, whole: false }
    }
}

impl Limits {
    /// No limits, and one thread for each processor.
    pub fn on_all_processors() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, ..Self::default() }
    }
}

/// The search was cut short, without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incomplete {
    pub states: usize,
}

/// Searches a scenario to the end, or to the first broken property.
pub fn explore(
    scenario: &Scenario,
    protocol: &Protocol,
    limits: Limits,
) -> Result<Seen, Incomplete> {
    search(scenario, protocol, limits, vec![|_: &State, _, _: &Outcome| {}; limits.threads.max(1)])
}

/// Same as [`explore`], except that it searches on this thread only, and shows `watch` every move
/// with the state before it.
pub fn explore_watched(
    scenario: &Scenario,
    protocol: &Protocol,
    limits: Limits,
    watch: impl FnMut(&State, Move, &Outcome) + Send,
) -> Result<Seen, Incomplete> {
    search(scenario, protocol, limits, vec![watch])
}

/// How many states are expanded before the results are put in order.
const BATCH: usize = 1 << 14;
/// How many states a thread takes at a time.
const SHARE: usize = 1 << 8;

/// One search, with a thread for each of `watches`.
fn search<W: FnMut(&State, Move, &Outcome) + Send>(
    scenario: &Scenario,
    protocol: &Protocol,
    limits: Limits,
    watches: Vec<W>,
) -> Result<Seen, Incomplete> {
    let began = Instant::now();
    let mut reported = began;
    let reduction = (!limits.whole).then(|| Reduction::of(scenario, protocol));
    let reduction = reduction.as_ref();
    let mut workers: Vec<_> = watches
        .into_iter()
        .map(|watch| Worker::new(scenario, protocol, reduction, watch))
        .collect();
    let mut known = Known::new(workers.len());
    let mut levels = vec![Level::default()];
    let mut level = Packed::default();
    for (start, mut state) in scenario.beginnings().into_iter().enumerate() {
        let fingerprint = settle(reduction, &mut state);
        if known.insert(fingerprint) {
            level.push(&state);
            levels[0].push(0, number(start));
        }
    }
    let mut states = level.len();
    let mut find = None;
    while find.is_none() && !level.is_empty() {
        let mut next = Packed::default();
        let mut origins = Level::default();
        for batch in (0..level.len()).step_by(BATCH) {
            let batch = batch..level.len().min(batch + BATCH);
            let mut shares = expand(&mut workers, &level, batch.clone(), &known);
            find = shares.iter().find_map(|share| share.find);
            if find.is_some() {
                break;
            }
            for (share, number) in known.insert_all(&mut shares) {
                let candidate = &shares[share].candidates[number];
                next.push_from(&shares[share].states, number);
                origins.push(candidate.before, candidate.step);
            }
            if states + next.len() > limits.states {
                return Err(Incomplete { states: states + next.len() });
            }
            if limits.progress && reported.elapsed() > Duration::from_secs(3) {
                reported = Instant::now();
                let found = states + next.len();
                let rate = found as f64 / began.elapsed().as_secs_f64();
                let queued = next.len() + level.len() - batch.end;
                let (name, depth) = (scenario.name, levels.len() - 1);
                eprintln!(
                    "  {name}: {found} states, {queued} queued, {rate:.0} per second, depth {depth}"
                );
            }
        }
        states += next.len();
        if !next.is_empty() {
            levels.push(origins);
        }
        level = next;
    }
    let mut seen = Seen { states, depth: levels.len() - 1, ..Seen::default() };
    for worker in workers {
        seen.transitions += worker.transitions;
        seen.longest_solo = seen.longest_solo.max(worker.longest_solo);
        seen.coverage.add(&worker.coverage);
    }
    seen.found = find.map(|find| find.found(scenario, protocol, reduction, &levels));
    seen.took = began.elapsed();
    Ok(seen)
}

/// Reduces a state, makes it canonical, and takes its fingerprint.
fn settle(reduction: Option<&Reduction>, state: &mut State) -> Fingerprint {
    if let Some(reduction) = reduction {
        reduction.reduce(state);
    }
    *state = state.canonical().0;
    fingerprint(state)
}

/// A number of a schedule.
fn number(number: usize) -> u8 {
    u8::try_from(number).expect("fewer than 256 moves are possible in a scenario")
}

/// How each state of a level was reached first: its predecessor's index in the previous level, and
/// the number of the move. In the first level the number is that of the beginning.
#[derive(Debug, Default)]
struct Level {
    before: Vec<u32>,
    steps: Vec<u8>,
}

impl Level {
    fn push(&mut self, before: u32, step: u8) {
        self.before.push(before);
        self.steps.push(step);
    }
}

/// The fingerprints of all states so far, in one set for each thread that adds to them.
struct Known {
    parts: Vec<Vec<HashSet<Fingerprint, ByPart>>>,
}

/// The sets of a part. Each doubles its memory when full, and they are full at different times.
const SETS: usize = 64;

impl Known {
    fn new(parts: usize) -> Self {
        Self { parts: vec![vec![HashSet::default(); SETS]; parts] }
    }

    /// The part and the set of a fingerprint, by its upper half. The lower half is its hash in the
    /// set.
    fn place(fingerprint: Fingerprint, parts: usize) -> (usize, usize) {
        let upper = (fingerprint >> 64) as usize;
        (upper / SETS % parts, upper % SETS)
    }

    fn contains(&self, fingerprint: Fingerprint) -> bool {
        let (part, set) = Self::place(fingerprint, self.parts.len());
        self.parts[part][set].contains(&fingerprint)
    }

    fn insert(&mut self, fingerprint: Fingerprint) -> bool {
        let (part, set) = Self::place(fingerprint, self.parts.len());
        self.parts[part][set].insert(fingerprint)
    }

    /// Adds all candidates. Returns the new ones by share and number, in order.
    fn insert_all(&mut self, shares: &mut [Share]) -> Vec<(usize, usize)> {
        let parts = self.parts.len();
        let shares = &*shares;
        let add = |mine: usize, sets: &mut Vec<HashSet<Fingerprint, ByPart>>| {
            let mut new = Vec::new();
            for (share, of) in shares.iter().enumerate() {
                for (number, candidate) in of.candidates.iter().enumerate() {
                    let (part, set) = Self::place(candidate.fingerprint, parts);
                    if part == mine && sets[set].insert(candidate.fingerprint) {
                        new.push((share, number));
                    }
                }
            }
            new
        };
        let new = on_each(&mut self.parts, add);
        let mut all: Vec<_> = new.into_iter().flatten().collect();
        all.sort_unstable();
        all
    }
}

/// Runs `work` on each of `items`, each on its own thread if there are several.
fn on_each<T: Send, R: Send>(items: &mut [T], work: impl Fn(usize, &mut T) -> R + Sync) -> Vec<R> {
    if let [item] = items {
        return vec![work(0, item)];
    }
    std::thread::scope(|scope| {
        let work = &work;
        let started: Vec<_> = items
            .iter_mut()
            .enumerate()
            .map(|(number, item)| scope.spawn(move || work(number, item)))
            .collect();
        started.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    })
}

/// A state that was not known when it was reached.
struct Candidate {
    fingerprint: Fingerprint,
    before: u32,
    step: u8,
}

/// The result of expanding a range of a level.
#[derive(Default)]
struct Share {
    candidates: Vec<Candidate>,
    states: Packed,
    find: Option<Find>,
}

/// A broken property: the state of the level, and the move, if a move broke it.
#[derive(Debug, Clone, Copy)]
struct Find {
    state: u32,
    step: Option<u8>,
    property: Property,
}

/// Expands a batch of a level, a share at a time. The shares are in the order of the level.
fn expand<W: FnMut(&State, Move, &Outcome) + Send>(
    workers: &mut [Worker<'_, W>],
    level: &Packed,
    batch: std::ops::Range<usize>,
    known: &Known,
) -> Vec<Share> {
    let taken = AtomicUsize::new(batch.start);
    let work = |_, worker: &mut Worker<'_, W>| {
        let mut done = Vec::new();
        loop {
            let begin = taken.fetch_add(SHARE, Ordering::Relaxed);
            if begin >= batch.end {
                return done;
            }
            done.push((begin, worker.expand(level, begin..batch.end.min(begin + SHARE), known)));
        }
    };
    // A thread costs more than a few states.
    let threads = workers.len().min(batch.len().div_ceil(SHARE));
    let done = on_each(&mut workers[..threads], work);
    let mut shares: Vec<(usize, Share)> = done.into_iter().flatten().collect();
    shares.sort_unstable_by_key(|&(begin, _)| begin);
    shares.into_iter().map(|(_, share)| share).collect()
}

/// One thread of a search, and its results.
struct Worker<'a, W> {
    scenario: &'a Scenario,
    protocol: &'a Protocol,
    reduction: Option<&'a Reduction>,
    watch: W,
    memo: Memo,
    possible: Vec<(Move, Outcome)>,
    transitions: usize,
    longest_solo: u32,
    coverage: Coverage,
}

impl<'a, W: FnMut(&State, Move, &Outcome)> Worker<'a, W> {
    fn new(
        scenario: &'a Scenario,
        protocol: &'a Protocol,
        reduction: Option<&'a Reduction>,
        watch: W,
    ) -> Self {
        Self {
            scenario,
            protocol,
            reduction,
            watch,
            memo: Memo::default(),
            possible: Vec::new(),
            transitions: 0,
            longest_solo: 0,
            coverage: Coverage::default(),
        }
    }

    fn expand(&mut self, level: &Packed, states: std::ops::Range<usize>, known: &Known) -> Share {
        let mut share = Share::default();
        for index in states {
            let state = level.get(index);
            share.find = self.expand_one(index as u32, &state, known, &mut share);
            if share.find.is_some() {
                break;
            }
        }
        share
    }

    /// Checks a state and every move from it, and adds the next states.
    fn expand_one(
        &mut self,
        index: u32,
        state: &State,
        known: &Known,
        share: &mut Share,
    ) -> Option<Find> {
        let Self { scenario, protocol, .. } = *self;
        let mut solo = |begun: &State, who| self.memo.run(scenario, protocol, begun, who);
        match check_solo_by(scenario, protocol, state, &mut solo) {
            Ok(calls) => self.longest_solo = self.longest_solo.max(calls),
            Err(violation) => {
                return Some(Find { state: index, step: None, property: violation.broken });
            }
        }
        successors(scenario, protocol, state, &mut self.possible);
        for (step, (one, outcome)) in self.possible.iter_mut().enumerate() {
            self.transitions += 1;
            (self.watch)(state, *one, outcome);
            self.coverage.note(state, *one, outcome);
            if let Err(property) = check_move(scenario, state, *one, outcome) {
                return Some(Find { state: index, step: Some(number(step)), property });
            }
            let fingerprint = settle(self.reduction, &mut outcome.state);
            if !known.contains(fingerprint) {
                share.states.push(&outcome.state);
                share.candidates.push(Candidate { fingerprint, before: index, step: number(step) });
            }
        }
        None
    }
}

impl Find {
    /// The property with a shortest schedule, which leads through whole states.
    fn found(
        self,
        scenario: &Scenario,
        protocol: &Protocol,
        reduction: Option<&Reduction>,
        levels: &[Level],
    ) -> Found {
        let Self { state: _, step, property } = self;
        let (start, way) = self.way(scenario, protocol, reduction, levels);
        let mut schedule = Schedule { start, steps: Vec::new() };
        let mut state = scenario.beginnings()[usize::from(start)].canonical().0;
        let mut possible = Vec::new();
        for wanted in way {
            successors(scenario, protocol, &state, &mut possible);
            let leads = |(_, outcome): &(Move, Outcome)| {
                settle(reduction, &mut outcome.state.clone()) == wanted
            };
            let step = possible.iter().position(leads);
            let step = step.expect("a whole scenario has the moves of the reduced one");
            schedule.steps.push(number(step));
            state = possible[step].1.state.canonical().0;
        }
        match step {
            None => {
                let violation = check_solo(scenario, protocol, &state);
                assert_eq!(violation.err().map(|violation| violation.broken), Some(property));
                Found { property, schedule, solo: true }
            }
            Some(_) => {
                successors(scenario, protocol, &state, &mut possible);
                let breaks = |(one, outcome): &(Move, Outcome)| {
                    check_move(scenario, &state, *one, outcome) == Err(property)
                };
                let step = possible.iter().position(breaks);
                schedule.steps.push(number(step.expect("it also breaks in the whole scenario")));
                Found { property, schedule, solo: false }
            }
        }
    }

    /// The beginning, and the fingerprints of the states on a shortest path.
    fn way(
        self,
        scenario: &Scenario,
        protocol: &Protocol,
        reduction: Option<&Reduction>,
        levels: &[Level],
    ) -> (u8, Vec<Fingerprint>) {
        let (mut steps, mut state) = (Vec::new(), self.state as usize);
        for level in levels.iter().rev() {
            steps.push(level.steps[state]);
            state = level.before[state] as usize;
        }
        let start = steps.pop().unwrap_or_default();
        let mut state = scenario.beginnings()[usize::from(start)];
        settle(reduction, &mut state);
        let mut possible = Vec::new();
        let way = steps.into_iter().rev().map(|step| {
            successors(scenario, protocol, &state, &mut possible);
            state = possible[usize::from(step)].1.state;
            settle(reduction, &mut state)
        });
        let way = way.collect();
        (start, way)
    }
}
