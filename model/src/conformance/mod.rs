//! Every transition of the explicit search, made on a real filesystem by the shipped adapter, and
//! compared with the model: the reply, the state of the machine, the files and the locks.
//!
//! The states of a search are first grouped into *scenes*. States of one scene differ only in what
//! neither the filesystem nor the adapters know: the states of the machines, what a probe would
//! find, witnesses, budgets. All transitions between two scenes by the same call of the same
//! participant with the same reply are one *step*. Every step is made. (The finer [`Grain`] makes
//! each transition with each machine in its state.)
//!
//! One thread for each processor walks the steps, in a directory of its own. From its current scene
//! a walk takes a step that no walk has taken; otherwise the shortest path to one nearby; otherwise
//! it begins again and takes the shortest path to the next. So most steps have a long history,
//! unlike a replay of shortest paths from the start.

#[cfg(target_os = "linux")]
pub mod trace;

#[cfg(not(windows))]
pub mod command;
#[cfg(not(windows))]
pub mod filesystem;
pub mod kernel;
pub mod legacy_agent;
pub mod random;
mod scenes;
pub mod slips;
#[cfg_attr(windows, path = "witness_windows.rs")]
mod witness;

use std::collections::VecDeque;
use std::fmt;
use std::hash::BuildHasherDefault;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use portlock::protocol::{Create, OpenReply};
use rustc_hash::{FxHashMap, FxHasher};

use self::kernel::{Calls, Differs, Kernel};
pub use self::scenes::Grain;
use self::scenes::{Graph, Step};
use self::slips::Slip;
use crate::scenario::catalogue::Scenario;
use crate::scenario::machines::Reply;
use crate::scenario::moves::apply;
#[cfg(windows)]
use crate::scenario::state::Kind;
use crate::scenario::state::{Move, PARTICIPANTS, State, Who};
use crate::variants::SHIPPED;

type Hasher = BuildHasherDefault<FxHasher>;

/// The result of a run on the real filesystem.
#[derive(Debug, Clone, Copy, Default)]
pub struct Conformed {
    /// Of the search.
    pub states: usize,
    /// Of the search.
    pub transitions: usize,
    /// States that the filesystem and the adapters can distinguish.
    pub scenes: usize,
    /// Transitions that they can distinguish. Each was made, and compared.
    pub steps: usize,
    /// All steps that were made, with those on the way to others.
    pub moves: u64,
    pub calls: Calls,
    /// On the filesystem, without the search.
    pub took: Duration,
}

/// A difference between the model and the real filesystem.
#[derive(Debug, Clone)]
pub struct Disagreement {
    pub scenario: &'static str,
    pub differs: Differs,
    /// The last moves since the walk began.
    pub moves: Vec<Move>,
    pub before: Box<State>,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "✗ conformance: {}.", self.differs)?;
        writeln!(
            f,
            "  scenario {}, after these moves, in the names of the canonical states:",
            self.scenario
        )?;
        self.moves.iter().try_for_each(|one| writeln!(f, "    {one:?}"))?;
        let participants = self.before.participants.iter().take(usize::from(self.before.count));
        writeln!(f, "  the state before the last:")?;
        writeln!(f, "    path {:?}", self.before.path)?;
        for (inode, file) in self.before.files.iter().enumerate() {
            if let Some(file) = file {
                writeln!(f, "    file {inode}: {file:?}")?;
            }
        }
        participants.enumerate().try_for_each(|(who, one)| writeln!(f, "    {who}: {one:?}"))
    }
}

/// Why a scenario is not possible on a real filesystem; `None` if it is.
#[cfg(not(windows))]
pub fn cannot_be_real(scenario: &Scenario) -> Option<&'static str> {
    if scenario.windows {
        return Some("it needs the adapter of Windows");
    }
    scenario.delete_pending.then_some("Linux frees a name at once, even while the file is open")
}

/// Why a scenario is not possible on a real filesystem; `None` if it is.
#[cfg(windows)]
pub fn cannot_be_real(scenario: &Scenario) -> Option<&'static str> {
    if scenario.kinds.contains(&Kind::Parent) {
        return Some("Windows has no fork");
    }
    if scenario.listens && !scenario.windows {
        return Some("on Windows the only event is the granted kernel lock");
    }
    match (scenario.delete_pending, witness::names_stay()) {
        (true, false) => Some("this Windows frees a name at once, even while the file is open"),
        (false, true) => Some("a name stays here until the last handle is closed"),
        // Wine reports only our own removal to open handles (see `BEING_DELETED`).
        (true, true) if scenario.removals > 0 || scenario.kinds.contains(&Kind::OldAgent) => {
            Some("Wine does not report that another program has removed a file")
        }
        (true, true) | (false, false) => None,
    }
}

/// Whether this system gives a reply of the model: to a create or an open of a name that is being
/// deleted, Wine has only one reply.
fn is_given_here(before: &State, reply: Reply) -> bool {
    let pending = before.named().is_some_and(|file| file.pending);
    !pending || !matches!(reply, Reply::Create(Create::Denied) | Reply::Open(OpenReply::Opened))
}

/// A scenario whose search is grouped into scenes, ready to be made on any filesystem.
pub struct SceneGraph {
    scenario: Scenario,
    graph: Graph,
}

impl SceneGraph {
    pub fn new(scenario: Scenario, grain: Grain) -> Self {
        let graph = Graph::of(&scenario, grain);
        Self { scenario, graph }
    }

    /// Makes every step in new directories in `parent`. A slip makes the model wrong in one
    /// respect.
    pub fn conform(
        &self,
        parent: &Path,
        slip: Option<&Slip>,
    ) -> io::Result<Result<Conformed, Box<Disagreement>>> {
        let began = Instant::now();
        let tour = Tour {
            scenario: &self.scenario,
            graph: &self.graph,
            slip,
            next: self.graph.steps.iter().map(|_| AtomicUsize::new(0)).collect(),
            unfinished: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let walked: Vec<_> = std::thread::scope(|scope| {
            let walkers: Vec<_> = (0..threads).map(|_| scope.spawn(|| tour.walk(parent))).collect();
            walkers.into_iter().map(|walker| walker.join().expect("no walker panics")).collect()
        });
        let mut sum = Conformed {
            states: self.graph.states.len(),
            transitions: self.graph.transitions,
            scenes: self.graph.scenes.len(),
            ..Conformed::default()
        };
        for one in walked {
            match one? {
                Ok(one) => {
                    sum.steps += one.steps;
                    sum.moves += one.moves;
                    sum.calls.add(one.calls);
                }
                Err(disagreement) => return Ok(Err(disagreement)),
            }
        }
        sum.took = began.elapsed();
        Ok(Ok(sum))
    }
}

/// What the walkers share.
struct Tour<'a> {
    scenario: &'a Scenario,
    graph: &'a Graph,
    slip: Option<&'a Slip>,
    /// How many of each scene's steps have been claimed by a walker.
    next: Vec<AtomicUsize>,
    /// No scene with a lower number has a step that is not claimed.
    unfinished: AtomicUsize,
    stop: AtomicBool,
}

/// How many scenes are searched for a step that is not claimed.
const NEARBY: usize = 300;
/// How many moves a disagreement shows.
const SHOWN: usize = 40;

impl Tour<'_> {
    fn walk(&self, parent: &Path) -> io::Result<Result<Conformed, Box<Disagreement>>> {
        let mut walker = Walker {
            tour: self,
            kernel: Kernel::new(self.scenario, parent)?,
            at: 0,
            moves: VecDeque::new(),
            walked: Conformed::default(),
        };
        while let Some((beginning, way)) = self.next_unfinished() {
            walker.begin(beginning)?;
            let walked = walker.follow(&way).and_then(|()| walker.walk_on());
            if let Err(disagreement) = walked {
                self.stop.store(true, Ordering::Relaxed);
                return Ok(Err(disagreement));
            }
        }
        walker.walked.calls = walker.kernel.calls;
        Ok(Ok(walker.walked))
    }

    /// The path to the first scene with a step that is not claimed.
    fn next_unfinished(&self) -> Option<(u32, Vec<u32>)> {
        loop {
            let at = self.unfinished.load(Ordering::Relaxed);
            if at >= self.next.len() || self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if self.has_more(at as u32) {
                return Some(self.graph.way_to(at as u32));
            }
            self.unfinished.fetch_max(at + 1, Ordering::Relaxed);
        }
    }

    fn has_more(&self, at: u32) -> bool {
        self.next[at as usize].load(Ordering::Relaxed) < self.graph.steps[at as usize].len()
    }

    /// The number of a step that no walker has taken.
    fn claim(&self, at: u32) -> Option<u32> {
        let number = self.next[at as usize].fetch_add(1, Ordering::Relaxed);
        (number < self.graph.steps[at as usize].len()).then_some(number as u32)
    }

    /// The shortest path to a nearby scene with a step that is not claimed.
    fn nearby(&self, from: u32) -> Option<Vec<u32>> {
        let mut found_by: FxHashMap<u32, Option<(u32, u32)>> = FxHashMap::default();
        found_by.insert(from, None);
        let mut open = VecDeque::from([from]);
        while let Some(at) = open.pop_front() {
            if self.has_more(at) {
                let mut way = Vec::new();
                let mut at = at;
                while let Some(&Some((before, number))) = found_by.get(&at) {
                    way.push(number);
                    at = before;
                }
                way.reverse();
                return Some(way);
            }
            if found_by.len() > NEARBY {
                continue;
            }
            for (number, step) in self.graph.steps[at as usize].iter().enumerate() {
                found_by.entry(step.to).or_insert_with(|| {
                    open.push_back(step.to);
                    Some((at, number as u32))
                });
            }
        }
        None
    }
}

/// One thread of a tour.
struct Walker<'a> {
    tour: &'a Tour<'a>,
    kernel: Kernel<'a>,
    at: u32,
    moves: VecDeque<Move>,
    walked: Conformed,
}

impl Walker<'_> {
    fn begin(&mut self, at: u32) -> io::Result<()> {
        self.at = at;
        self.moves.clear();
        let state = self.tour.graph.beginnings[&at];
        self.kernel.begin(&state)?;
        self.enter_scene(&state);
        Ok(())
    }

    /// Numbers files and participants of the kernel as in the scene of `state`.
    fn enter_scene(&mut self, state: &State) {
        let (scene, names) = self.tour.graph.grain.scene(state).canonical();
        self.kernel.renumber(state, &scene, &names);
    }

    /// The reverse of [`enter_scene`](Self::enter_scene).
    fn leave_scene(&mut self, state: &State) {
        let (scene, names) = self.tour.graph.grain.scene(state).canonical();
        let mut back = [0; PARTICIPANTS];
        for (old, &new) in names.iter().enumerate() {
            back[usize::from(new)] = old as Who;
        }
        self.kernel.renumber(&scene, state, &back);
    }

    fn follow(&mut self, way: &[u32]) -> Result<(), Box<Disagreement>> {
        way.iter().try_for_each(|&number| self.make(number, false))
    }

    /// Takes steps until none nearby is unclaimed.
    fn walk_on(&mut self) -> Result<(), Box<Disagreement>> {
        while !self.tour.stop.load(Ordering::Relaxed) {
            if let Some(number) = self.tour.claim(self.at) {
                self.walked.steps += 1;
                self.make(number, true)?;
            } else if let Some(way) = self.tour.nearby(self.at) {
                self.follow(&way)?;
            } else {
                break;
            }
        }
        Ok(())
    }

    /// Makes a step in the model and on the kernel. Compares the replies every time, and the files
    /// and locks the first time.
    fn make(&mut self, number: u32, first_time: bool) -> Result<(), Box<Disagreement>> {
        let Tour { scenario, graph, slip, .. } = *self.tour;
        let Step { to, state, one } = graph.steps[self.at as usize][number as usize];
        let before = graph.states[state as usize];
        self.walked.moves += 1;
        if self.moves.len() == SHOWN {
            self.moves.pop_front();
        }
        self.moves.push_back(one);
        let Some(mut outcome) = apply(scenario, &SHIPPED, &before, one) else {
            return Err(self.disagree(&before, "the model makes no such move".to_owned()));
        };
        if let Some(slip) = slip {
            (slip.spoil)(&before, one, &mut outcome);
        }
        self.leave_scene(&before);
        let mut made = self.kernel.make(&before, one, &outcome);
        if made.is_ok() && first_time {
            made = self.kernel.compare(&outcome.state);
        }
        made.map_err(|differs| self.disagree(&before, differs))?;
        let (after, names) = outcome.state.canonical();
        self.kernel.renumber(&outcome.state, &after, &names);
        self.enter_scene(&after);
        self.at = to;
        Ok(())
    }

    fn disagree(&self, before: &State, differs: Differs) -> Box<Disagreement> {
        Box::new(Disagreement {
            scenario: self.tour.scenario.name,
            differs,
            moves: self.moves.iter().copied().collect(),
            before: Box::new(*before),
        })
    }
}
