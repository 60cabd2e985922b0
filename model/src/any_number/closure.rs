//! The closed set: every view that steps and interference lead to.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::BuildHasherDefault;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use indexmap::map::Entry;
use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use super::behind::{behind_one, behind_two, is_possible};
use super::local_view::{ACTOR, LocalView, ME, Named, OpenIs, STRANGER};
use super::rule::{Label, Rule};
use crate::properties::check_move;
use crate::properties::property::Property;
use crate::render::table::name;
use crate::scenario::catalogue::Scenario;
use crate::scenario::machines::{Op, Reply};
use crate::scenario::moves::{Outcome, apply, successors, successors_of};
use crate::scenario::state::{Activity, Content, Kind, Move, State};
use crate::search::reduce::Reduction;
use crate::variants::Protocol;

/// The views, each with its predecessor and the step between them. A beginning has none.
pub type Views = IndexMap<LocalView, Option<Origin>, BuildHasherDefault<FxHasher>>;

/// The first step that led to a view.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    pub before: u32,
    pub label: Label,
    /// The reply of the call, if the step is a call.
    pub reply: Reply,
}

/// A closed set of views, or the part of it that was made before a property broke.
pub struct Closure {
    pub views: Views,
    /// The steps from view to view, by their indices in `views`.
    pub steps: FxHashSet<(u32, u32, Label)>,
    /// In how many steps each rule of interference applies.
    pub rules: BTreeMap<Rule, usize>,
    pub broken: Option<Broken>,
    pub took: Duration,
}

/// A property that does not hold in the closed set. It may be spurious, because views are abstract.
#[derive(Debug, Clone)]
pub struct Broken {
    pub what: Fault,
    /// The path to the view in which it breaks.
    pub story: Vec<(LocalView, Option<Origin>)>,
    pub step: (Move, Reply),
    /// The participant that makes the step, if it is another.
    pub actor: Option<LocalView>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Property(Property),
    /// The assumption of [`is_possible`].
    RecordIsItsCreators,
}

impl Closure {
    /// The set without a rule of interference: all other steps, and the views that they still lead
    /// to. (Closed again it would be smaller, because some views that interfere would be missing.)
    pub fn without(&self, rule: Rule) -> Self {
        let mut leads: Vec<Vec<(u32, Label)>> = vec![Vec::new(); self.views.len()];
        for &(from, to, label) in self.steps.iter().filter(|(.., by)| *by != Label::By(rule)) {
            leads[from as usize].push((to, label));
        }
        let is_beginning = |(_, origin): &(&LocalView, &Option<Origin>)| origin.is_none();
        let mut views: Views =
            self.views.iter().filter(is_beginning).map(|(&view, &origin)| (view, origin)).collect();
        let (mut steps, mut next) = (FxHashSet::default(), 0);
        while let Some((view, _)) = views.get_index(next) {
            let old = self.views.get_index_of(view).expect("it was there");
            for &(to, label) in &leads[old] {
                let (&view, &origin) = self.views.get_index(to as usize).expect("a view's place");
                let entry = views.entry(view);
                steps.insert((next as u32, entry.index() as u32, label));
                entry.or_insert(origin);
            }
            next += 1;
        }
        let rules = self.rules.clone().into_iter().filter(|(other, _)| *other != rule).collect();
        Self { views, steps, rules, broken: None, took: Duration::ZERO }
    }
}

/// Closes `beginnings` under steps and interference. Stops at the first property of the scenario
/// that breaks.
pub fn close(scenario: &Scenario, protocol: &Protocol, beginnings: &[LocalView]) -> Closure {
    let began = Instant::now();
    let empty = Closure {
        views: beginnings.iter().map(|&view| (view, None)).collect(),
        steps: FxHashSet::default(),
        rules: BTreeMap::new(),
        broken: None,
        took: Duration::ZERO,
    };
    let (known, actors) = (FxHashSet::default(), FxHashMap::default());
    let reduction = Reduction::of(scenario, protocol);
    let mut closing = Closing { scenario, protocol, reduction, closure: empty, known, actors };
    closing.run();
    Closure { took: began.elapsed(), ..closing.closure }
}

/// What others can see of a participant and of its next call. Participants that are equal here
/// interfere alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Outside {
    kind: Kind,
    open: OpenIs,
    with_parent: bool,
    named: Option<Named>,
    in_window: bool,
    /// Its next call, if others can see its effect.
    acts: Option<Op>,
    /// A child that it forks has a guard.
    guard: bool,
}

/// What all views of one state agree on: the named file, without its owners.
fn common(view: &LocalView) -> Option<Named> {
    view.named.map(|named| Named {
        content: match named.content {
            Content::Of(_) => Content::Of(STRANGER),
            Content::OldOf(_) => Content::OldOf(STRANGER),
            other => other,
        },
        lock: named.lock.map(|_| STRANGER),
        created_by_me: false,
        ..named
    })
}

struct Closing<'a> {
    scenario: &'a Scenario,
    protocol: &'a Protocol,
    reduction: Reduction,
    closure: Closure,
    known: FxHashSet<Outside>,
    /// The views that may interfere with a view of the same [`common`] part, one for each
    /// [`Outside`].
    actors: FxHashMap<Option<Named>, Vec<LocalView>>,
}

impl Closing<'_> {
    /// Makes the steps of each view, and those of every actor upon each view, until no view is new.
    fn run(&mut self) {
        // For each view, how many actors have acted upon it.
        let mut suffered: Vec<usize> = Vec::new();
        loop {
            while suffered.len() < self.closure.views.len() {
                self.step_of(suffered.len() as u32);
                suffered.push(0);
            }
            let mut quiet = true;
            for (number, suffered) in suffered.iter_mut().enumerate() {
                let me = self.view(number as u32);
                let common = common(&me);
                while let Some(&actor) = self.actors.get(&common).and_then(|of| of.get(*suffered)) {
                    *suffered += 1;
                    quiet = false;
                    self.interfere(number as u32, &me, &actor);
                }
            }
            if self.closure.broken.is_some() || quiet {
                return;
            }
        }
    }

    fn view(&self, number: u32) -> LocalView {
        *self.closure.views.get_index(number as usize).expect("a view's place").0
    }

    /// My own steps, and events that no participant makes.
    fn step_of(&mut self, number: u32) {
        let me = self.view(number);
        let mut acts = None;
        let mut possible = Vec::new();
        for state in behind_one(self.scenario, &me) {
            successors(self.scenario, self.protocol, &state, &mut possible);
            for (one, outcome) in &possible {
                if matches!(one, Move::Call(..)) && others_can_see(&me, &state, &outcome.state) {
                    acts = Some(outcome.reply.op());
                }
                self.lead(number, None, &state, *one, outcome);
            }
        }
        if me.is_active() {
            self.add_actor(&me, acts);
        }
    }

    fn add_actor(&mut self, me: &LocalView, acts: Option<Op>) {
        let LocalView { kind, open, with_parent, named, in_window, .. } = *me;
        let guard = kind == Kind::Parent
            && matches!(me.activity, Activity::Holding | Activity::Releasing(_));
        if self.known.insert(Outside { kind, open, with_parent, named, in_window, acts, guard }) {
            // What it has read does not affect the others.
            let actor = LocalView { seen: Content::Empty, ..*me };
            self.actors.entry(common(me)).or_default().push(actor);
        }
    }

    /// What `me` sees of the steps of `actor`.
    fn interfere(&mut self, number: u32, me: &LocalView, actor: &LocalView) {
        let mut possible = Vec::new();
        for state in behind_two(self.scenario, me, actor) {
            possible.clear();
            successors_of(self.scenario, self.protocol, &state, ACTOR, &mut possible);
            // A death ends all threads of a process, and is a move of the first thread.
            let deaths = self.scenario.looks.iter().map(|&look| Move::Crash(ME, look));
            for death in deaths.filter(|_| state.same_process(ME, ACTOR)) {
                let outcome = apply(self.scenario, self.protocol, &state, death);
                possible.extend(outcome.map(|outcome| (death, outcome)));
            }
            for (one, outcome) in &possible {
                self.lead(number, Some(actor), &state, *one, outcome);
            }
        }
    }

    /// Adds one step from the view with this number.
    fn lead(
        &mut self,
        number: u32,
        actor: Option<&LocalView>,
        state: &State,
        one: Move,
        outcome: &Outcome,
    ) {
        let me = self.view(number);
        let next = LocalView::reduced(&outcome.state, ME, &self.reduction);
        let reply = outcome.reply;
        if let Some(what) = self.fault(state, one, outcome) {
            let story = self.story(number);
            let broken = Broken { what, story, step: (one, reply), actor: actor.copied() };
            self.closure.broken.get_or_insert(broken);
        }
        let label = Label::of(state, ME, (one, reply), (&me, &next));
        if next == me || self.closure.broken.is_some() {
            return;
        }
        let entry = self.closure.views.entry(next);
        let to = entry.index() as u32;
        if let Entry::Vacant(vacant) = entry {
            vacant.insert(Some(Origin { before: number, label, reply }));
        }
        if let (true, Label::By(rule)) = (self.closure.steps.insert((number, to, label)), label) {
            *self.closure.rules.entry(rule).or_default() += 1;
        }
    }

    fn fault(&self, state: &State, one: Move, outcome: &Outcome) -> Option<Fault> {
        let broken = check_move(self.scenario, state, one, outcome).err().map(Fault::Property);
        let possible = is_possible(&outcome.state, ME);
        broken.or((!possible).then_some(Fault::RecordIsItsCreators))
    }

    fn story(&self, number: u32) -> Vec<(LocalView, Option<Origin>)> {
        let mut next = Some(number);
        let mut story = Vec::new();
        while let Some(number) = next {
            let (view, from) =
                self.closure.views.get_index(number as usize).expect("a view's place");
            story.push((*view, *from));
            next = from.map(|from| from.before);
        }
        story.reverse();
        story
    }
}

/// Whether others can see the effect of a call of `me`.
fn others_can_see(me: &LocalView, before: &State, after: &State) -> bool {
    let child_can = me.kind == Kind::Parent && me.open != OpenIs::Nothing;
    child_can || before.path != after.path || before.named() != after.named()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Property(property) => f.write_str(property.sentence()),
            Self::RecordIsItsCreators => {
                f.write_str("a record in the named file is by the file's creator")
            }
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "✗ not proved: {}.\n  What one participant sees:\n", self.what)?;
        for (view, from) in &self.story {
            match from.map(|from| (from.label, from.reply)) {
                None => {}
                Some((Label::By(rule), _)) => writeln!(f, "    {rule}")?,
                Some((Label::Own, Reply::Other(_))) => writeln!(f, "    my next step")?,
                Some((Label::Own, reply)) => writeln!(f, "    I get {}", name(&reply))?,
            }
            writeln!(f, "  {view}")?;
        }
        let (one, reply) = self.step;
        match &self.actor {
            None => writeln!(f, "    and then {} {}", name(&one), name(&reply)),
            Some(actor) => writeln!(f, "    and then, by {actor},\n    {}", name(&reply)),
        }
    }
}
