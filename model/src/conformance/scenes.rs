//! The states of a search grouped into scenes, and the steps between scenes.

use std::mem::Discriminant;

use indexmap::IndexSet;
use portlock::protocol::{Acquire, Closing, Release, ReleaseClosing, Released, Then};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Hasher, is_given_here};
use crate::scenario::catalogue::Scenario;
use crate::scenario::machines::Reply;
use crate::scenario::moves::successors;
use crate::scenario::state::{Activity, Content, Creator, Look, Move, PARTICIPANTS, State, Who};
use crate::variants::SHIPPED;

/// Which states are one scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    /// Those that the filesystem and the adapters cannot distinguish.
    Scenes,
    /// Those that differ only in budgets, in what a probe would find, and in what the checks of the
    /// properties remember. All machines are in the same state.
    Machines,
}

impl Grain {
    pub(super) fn scene(self, state: &State) -> State {
        let mut scene = *state;
        forget_the_past(&mut scene);
        if self == Self::Scenes {
            forget_the_machines(&mut scene);
        }
        scene
    }
}

/// Clears what is only counted or remembered, and what a probe would find, which is simulated.
fn forget_the_past(scene: &mut State) {
    (scene.crashes_left, scene.faults_left) = (0, 0);
    (scene.removals_left, scene.suspensions_left, scene.chroots_left) = (0, 0, 0);
    (scene.removal_failed, scene.robbed) = (false, false);
    for file in scene.files.iter_mut().flatten() {
        file.abandoned = false;
        file.content = match file.content {
            Content::Dead(_) => Content::Dead(Look::Gone),
            Content::OldDead(_) => Content::OldDead(Look::Gone),
            other => other,
        };
    }
    for participant in &mut scene.participants {
        (participant.witnessed, participant.in_window) = (0, false);
        (participant.seen, participant.suspended) = (Content::Empty, false);
    }
}

/// Clears all that the filesystem and the adapters do not know.
fn forget_the_machines(scene: &mut State) {
    for file in scene.files.iter_mut().flatten() {
        file.creator = Creator::Start;
    }
    for participant in &mut scene.participants {
        // A participant that truncated its file has written to it, so it does not write at the
        // start.
        let voided = matches!(
            participant.activity,
            Activity::Acquiring(Acquire::Closing(Closing { then: Then::Fail(_) }))
                | Activity::Releasing(Release::Closing(ReleaseClosing {
                    ending: Released::Failed(_)
                }))
        );
        if !voided {
            participant.activity = Activity::Idle;
        }
    }
}

/// A step from one scene to another.
pub(super) struct Step {
    pub(super) to: u32,
    /// The first state of the search in which it is possible.
    pub(super) state: u32,
    pub(super) one: Move,
}

/// The states of a search, its scenes, and the steps between them.
pub(super) struct Graph {
    pub(super) grain: Grain,
    pub(super) states: IndexSet<State, Hasher>,
    pub(super) scenes: IndexSet<State, Hasher>,
    /// The steps that are possible in each scene.
    pub(super) steps: Vec<Vec<Step>>,
    /// The scene and the step from which each scene was found first.
    pub(super) found_by: Vec<Option<(u32, u32)>>,
    /// A state in which the search begins, for each scene that has one.
    pub(super) beginnings: FxHashMap<u32, State>,
    /// How many transitions the search took.
    pub(super) transitions: usize,
}

/// Actor, move, reply and next scene.
type StepKind = (Who, Discriminant<Move>, Reply, u32);

impl Graph {
    pub(super) fn of(scenario: &Scenario, grain: Grain) -> Self {
        let mut graph = Self {
            grain,
            states: IndexSet::default(),
            scenes: IndexSet::default(),
            steps: Vec::new(),
            found_by: Vec::new(),
            beginnings: FxHashMap::default(),
            transitions: 0,
        };
        for beginning in scenario.beginnings() {
            let state = beginning.canonical().0;
            graph.states.insert(state);
            let scene = graph.scene(&state, None).0;
            graph.beginnings.insert(scene, state);
        }
        let mut known: FxHashSet<(u32, StepKind)> = FxHashSet::default();
        let mut possible = Vec::new();
        let mut next = 0;
        while let Some(&state) = graph.states.get_index(next) {
            let (from, names) = graph.scene(&state, None);
            successors(scenario, &SHIPPED, &state, &mut possible);
            for &(one, outcome) in &possible {
                if !is_given_here(&state, outcome.reply) {
                    continue;
                }
                graph.transitions += 1;
                let after = outcome.state.canonical().0;
                graph.states.insert(after);
                let by = (from, graph.steps[from as usize].len() as u32);
                let to = graph.scene(&after, Some(by)).0;
                if known.insert((from, kind(grain, one, &names, outcome.reply, to))) {
                    graph.steps[from as usize].push(Step { to, state: next as u32, one });
                }
            }
            next += 1;
        }
        graph
    }

    /// The number of a canonical state's scene, and its names of the participants.
    pub(super) fn scene(
        &mut self,
        state: &State,
        by: Option<(u32, u32)>,
    ) -> (u32, [Who; PARTICIPANTS]) {
        let (scene, names) = self.grain.scene(state).canonical();
        let (number, new) = self.scenes.insert_full(scene);
        if new {
            self.found_by.push(by);
            self.steps.push(Vec::new());
        }
        (number as u32, names)
    }

    /// The beginning that is nearest to a scene, and the numbers of the steps between them.
    pub(super) fn way_to(&self, mut at: u32) -> (u32, Vec<u32>) {
        let mut way = Vec::new();
        while let Some((before, number)) = self.found_by[at as usize] {
            way.push(number);
            at = before;
        }
        way.reverse();
        (at, way)
    }
}

fn kind(grain: Grain, one: Move, names: &[Who; PARTICIPANTS], reply: Reply, to: u32) -> StepKind {
    let who = match one {
        Move::Begin(who)
        | Move::Call(who, _)
        | Move::Answer(who, _)
        | Move::Release(who)
        | Move::Crash(who, _)
        | Move::Suspend(who)
        | Move::LoseReach(who)
        | Move::Fork(who) => names[usize::from(who)],
        Move::Remove => 0,
    };
    // The probe makes no call to the filesystem.
    let reply = match reply {
        Reply::Probe(_) if grain == Grain::Scenes => Reply::Other("probe"),
        other => other,
    };
    (who, std::mem::discriminant(&one), reply, to)
}
