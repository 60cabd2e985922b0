//! Exports for other programs, one JSON object per line: the table of a protocol, and the steps of
//! a scenario. `model/smt` proves the table, and compares its own semantics of the calls with the
//! steps.

use std::collections::VecDeque;

use indexmap::IndexSet;
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::{Value, json};

use portlock::protocol::{Acquire, Clear, Guarantee, Query, Release, Released};

use crate::render::table::name;
use crate::scenario::catalogue::Scenario;
use crate::scenario::machines::{Follows, Machine, Script, graph_of};
use crate::scenario::moves::{Outcome, successors};
use crate::scenario::state::{Activity, Content, Creator, Inode, Look, Move, State, Who};
use crate::scenario::view::View;
use crate::variants::{Caught, Protocol, Variant};

/// The name of a wrong protocol, and the property that it breaks in which scenario.
pub fn named(variant: &Variant) -> Value {
    match variant.caught {
        Caught::Breaks { property, scenario, .. } => {
            json!({ "variant": variant.name, "breaks": property.to_string(), "scenario": scenario })
        }
        Caught::Harmless { .. } => json!({ "variant": variant.name }),
    }
}

/// The table of a protocol: an object for each start, and one for each state and reply.
pub fn cells(protocol: &Protocol) -> Result<Vec<Value>, String> {
    let Activity::Acquiring(begin) = protocol.begin else {
        return Err("it is another machine, which has no table".to_owned());
    };
    let releases = [protocol.release_start, protocol.forked_start, protocol.forked_attempt];
    let mut cells = IndexSet::new();
    // The steps of a wrong protocol may depend on whether it has a file open.
    for opened in [false, true] {
        let bench = Bench::new(protocol, opened);
        let graph = graph_of(&[begin], |state, script| {
            bench.with(script, |view| (protocol.acquire)(state, view))
        });
        add_cells(&mut cells, &[begin], &graph)?;
        let graph = graph_of(&releases, |state, script| {
            bench.with(script, |view| (protocol.release)(state, view))
        });
        add_cells(&mut cells, &releases, &graph)?;
        let graph = graph_of(Query::STARTS, |state, script| {
            bench.with(script, |view| (protocol.query)(state, view))
        });
        add_cells(&mut cells, Query::STARTS, &graph)?;
        let graph = graph_of(Clear::STARTS, |state, script| {
            bench.with(script, |view| (protocol.clear)(state, view))
        });
        add_cells(&mut cells, Clear::STARTS, &graph)?;
    }
    Ok(cells.into_iter().collect())
}

fn add_cells<'a, M: Machine>(
    cells: &mut IndexSet<Value>,
    starts: &[M],
    graph: impl IntoIterator<Item = (&'a M, &'a Follows<M>)>,
) -> Result<(), String> {
    // A release has a second start, in a forked child.
    cells.extend(starts.iter().enumerate().map(
        |(number, start)| json!({ "machine": M::NAME, "start": start.label(), "forked": number > 0 }),
    ));
    for (state, follows) in graph {
        let mut ops: Vec<_> = follows.replies.keys().map(|reply| reply.op()).collect();
        ops.dedup();
        if ops.len() > 1 {
            return Err(format!("{} makes {} calls in one step", state.label(), ops.len()));
        }
        let driver = follows.driver.iter().map(|(answer, next)| (answer.words().to_owned(), next));
        let replies = follows.replies.iter().map(|(reply, next)| (name(reply), next));
        cells.extend(replies.chain(driver).map(|(reply, next)| {
            let (state, next) = (state.label(), next.label());
            json!({ "machine": M::NAME, "state": state, "reply": reply, "next": next })
        }));
    }
    Ok(())
}

/// Runs the steps of a protocol on scripted replies.
pub struct Bench<'a> {
    protocol: &'a Protocol,
    scenario: Scenario,
    state: State,
}

impl<'a> Bench<'a> {
    pub fn new(protocol: &'a Protocol, opened: bool) -> Self {
        let scenario =
            Scenario::named("base", 2).expect("the scenario that all others are made from");
        let mut state = scenario.beginnings()[0];
        if opened {
            let inode = state.place(Content::Empty, Creator::Start);
            state.open(0, inode);
        }
        Self { protocol, scenario, state }
    }

    pub fn with<S>(&self, script: &mut Script, step: impl FnOnce(&mut View<'_>) -> S) -> S {
        let mut state = self.state;
        let mut view = View::new(&mut state, &self.scenario, 0, 0);
        view.rewrite_evidence = self.protocol.rewrite_evidence;
        view.script = Some(script);
        step(&mut view)
    }
}

/// Every step of a scenario in the terms of `model/smt`: first an object for the kind of
/// filesystem, then the beginnings, then each distinct step in breadth-first order. After `limit`
/// steps no more states are expanded.
pub fn steps(
    scenario: &Scenario,
    protocol: &Protocol,
    limit: usize,
    each: &mut impl FnMut(Value),
) -> Result<(), String> {
    each(json!({
        "scenario": scenario.name,
        "locks": scenario.kernel_locks,
        "late": scenario.delete_pending,
    }));
    let mut words = Words { scenario, states: FxHashMap::default() };
    let mut open: VecDeque<State> =
        scenario.beginnings().iter().map(|state| state.canonical().0).collect();
    for state in &open {
        each(json!({ "start": words.snapshot(state)? }));
    }
    let mut seen: FxHashSet<State> = FxHashSet::default();
    let mut exported = FxHashSet::default();
    let mut next = Vec::new();
    while let Some(state) = open.pop_front() {
        if exported.len() >= limit {
            break;
        }
        if !seen.insert(state) {
            continue;
        }
        successors(scenario, protocol, &state, &mut next);
        for (one, outcome) in &next {
            let (before, after) = (bare(&state), bare(&outcome.state));
            let one = match *one {
                Move::Crash(who, _) => Move::Crash(who, Look::Gone),
                other => other,
            };
            let is_invisible = matches!(one, Move::Suspend(_)) && before == after;
            if !is_invisible && exported.insert((before, one, outcome.reply, after)) {
                each(words.step(&state, one, outcome)?);
            }
            open.push_back(outcome.state.canonical().0);
        }
    }
    Ok(())
}

/// The state without most of what [`Words`] does not express: states that are equal then are
/// written alike.
fn bare(state: &State) -> State {
    let mut bare = *state;
    for file in bare.files.iter_mut().flatten() {
        file.abandoned = false;
        file.content = match file.content {
            Content::Empty | Content::Unreadable | Content::Foreign => Content::Empty,
            Content::OldAlive | Content::Dead(_) | Content::OldDead(_) => Content::OldAlive,
            Content::Of(_) | Content::OldOf(_) => file.content,
        };
    }
    for participant in &mut bare.participants {
        (participant.seen, participant.witnessed) = (Content::Empty, 0);
        (participant.in_window, participant.suspended) = (false, false);
    }
    (bare.crashes_left, bare.faults_left) = (0, 0);
    (bare.removals_left, bare.suspensions_left, bare.chroots_left) = (0, 0, 0);
    (bare.removal_failed, bare.robbed) = (false, false);
    bare
}

/// Writes a state in the terms of `model/smt`.
struct Words<'a> {
    scenario: &'a Scenario,
    /// A cache of the names of states, which are the most expensive part.
    states: FxHashMap<Activity, String>,
}

impl Words<'_> {
    fn step(&mut self, state: &State, one: Move, outcome: &Outcome) -> Result<Value, String> {
        let (what, who) = match one {
            Move::Begin(who) => ("begin".to_owned(), vec![who]),
            Move::Call(who, _) => (name(&outcome.reply), vec![who]),
            Move::Answer(who, answer) => (answer.words().to_owned(), vec![who]),
            Move::Release(who) => ("release".to_owned(), vec![who]),
            Move::Crash(who, _) => {
                let dies = |&one: &Who| state.same_process(who, one);
                ("crash".to_owned(), state.everyone().filter(dies).collect())
            }
            Move::Fork(_) => {
                let is_child = |&one: &Who| state.participant(one).activity == Activity::Absent;
                let forked =
                    |&one: &Who| outcome.state.participant(one).activity != Activity::Absent;
                let children = state.everyone().filter(is_child).filter(forked);
                ("fork".to_owned(), children.collect())
            }
            Move::Suspend(_) | Move::LoseReach(_) | Move::Remove => {
                return Err(no_word(&one));
            }
        };
        let before = self.snapshot(state)?;
        let mut after = self.snapshot(&outcome.state)?;
        // The guarantee that the call returned, which the state of a holder does not contain.
        if let (
            Move::Call(who, _) | Move::Answer(who, _),
            Activity::Acquiring(Acquire::Held(_))
            | Activity::Releasing(Release::Ended(Released::Kept(_))),
        ) = (one, outcome.ended)
        {
            after["participants"][usize::from(who)]["state"] = json!(self.state(outcome.ended)?);
        }
        Ok(json!({ "before": before, "what": what, "who": who, "after": after }))
    }

    fn snapshot(&mut self, state: &State) -> Result<Value, String> {
        let mut participants = Vec::new();
        for who in state.everyone() {
            let at = self.state(state.participant(who).activity)?;
            let handle = state.participant(who).open;
            participants
                .push(json!({ "state": at, "open": state.open_inode(who), "handle": handle }));
        }
        let files = (0..state.files.len() as Inode).filter_map(|inode| file(state, inode));
        let files: Vec<Value> = files.collect();
        // A name that is being deleted names nothing.
        let path = state.path.filter(|_| state.named().is_some_and(|file| !file.pending));
        Ok(json!({ "participants": participants, "path": path, "files": files }))
    }

    fn state(&mut self, activity: Activity) -> Result<&str, String> {
        if !self.states.contains_key(&activity) {
            self.states.insert(activity, state(self.scenario, activity)?);
        }
        Ok(&self.states[&activity])
    }
}

fn file(state: &State, inode: Inode) -> Option<Value> {
    let file = state.file(inode)?;
    let author = match file.content {
        Content::Of(who) | Content::OldOf(who) => Some(who),
        Content::Empty
        | Content::Unreadable
        | Content::Foreign
        | Content::OldAlive
        | Content::Dead(_)
        | Content::OldDead(_) => None,
    };
    let maker = match file.creator {
        Creator::Alive(who) => Some(who),
        Creator::Start | Creator::Dead => None,
    };
    Some(json!({
        "file": inode,
        "lock": file.lock,
        "record": file.content.is_record(),
        "author": author,
        "made": maker,
    }))
}

fn state(scenario: &Scenario, activity: Activity) -> Result<String, String> {
    Ok(match activity {
        Activity::Idle | Activity::Absent => "Idle".to_owned(),
        Activity::Inherited { .. } => "Child".to_owned(),
        Activity::Holding if scenario.kernel_locks => state(scenario, HELD_BY_KERNEL_LOCK)?,
        Activity::Holding => state(scenario, HELD_BY_CREATE)?,
        Activity::Acquiring(state) => format!("Acquire {}", name(&state)),
        Activity::Releasing(state) => format!("Release {}", name(&state)),
        Activity::Asking(state) => format!("Query {}", name(&state)),
        Activity::Clearing(state) => format!("Clear {}", state.label()),
        Activity::Percy(_) | Activity::Aside(_) => {
            return Err(no_word(&activity));
        }
    })
}

const HELD_BY_KERNEL_LOCK: Activity = Activity::Acquiring(Acquire::Held(Guarantee::KernelLock));
const HELD_BY_CREATE: Activity = Activity::Acquiring(Acquire::Held(Guarantee::ExclusiveCreate));

fn no_word(what: &impl std::fmt::Debug) -> String {
    format!("model/smt has no word for {what:?}, which happens in this scenario")
}
