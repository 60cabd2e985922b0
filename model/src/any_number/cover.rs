//! The soundness of the proof, tested: the closed set contains what the explicit search sees.

use std::fmt;

use rustc_hash::FxHashSet;

use super::closure::Closure;
use super::local_view::LocalView;
use super::rule::Label;
use crate::scenario::catalogue::Scenario;
use crate::scenario::state::State;
use crate::search::explore::{Incomplete, Limits, explore_watched};
use crate::search::reduce::Reduction;
use crate::variants::Protocol;

/// What the participants of an explicit search see.
#[derive(Default)]
pub struct Explicit {
    pub states: usize,
    pub transitions: usize,
    /// The views of all participants in every state.
    pub views: FxHashSet<LocalView>,
    /// The views of all participants before and after every transition that changes their view.
    pub steps: FxHashSet<(LocalView, LocalView, Label)>,
}

/// A view or a step of the search that the closed set lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncovered {
    View(LocalView),
    Step(LocalView, LocalView, Label),
}

impl fmt::Display for Uncovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::View(view) => write!(f, "  {view}"),
            Self::Step(before, after, Label::Own) => {
                write!(f, "  {before}\n    my own step\n  {after}")
            }
            Self::Step(before, after, Label::By(rule)) => {
                write!(f, "  {before}\n    {rule}\n  {after}")
            }
        }
    }
}

impl Explicit {
    /// Adds the result of another search.
    pub fn add(&mut self, other: Self) {
        self.states += other.states;
        self.transitions += other.transitions;
        self.views.extend(other.views);
        self.steps.extend(other.steps);
    }

    /// Searches a scenario to the end, without checking properties.
    pub fn search(scenario: &Scenario, protocol: &Protocol) -> Result<Self, Incomplete> {
        let scenario = Scenario { properties: &[], ..scenario.clone() };
        let reduction = Reduction::of(&scenario, protocol);
        let mut seen = Self::default();
        let views_of = |state: &State| -> Vec<LocalView> {
            state.everyone().map(|who| LocalView::reduced(state, who, &reduction)).collect()
        };
        scenario.beginnings().iter().for_each(|state| seen.views.extend(views_of(state)));
        // The moves from one state are shown consecutively.
        let mut from: Option<(State, Vec<LocalView>)> = None;
        let end =
            explore_watched(&scenario, protocol, Limits::default(), |state, one, outcome| {
                if from.as_ref().is_none_or(|(before, _)| before != state) {
                    from = Some((*state, views_of(state)));
                }
                let Some((_, befores)) = &from else { return };
                for (who, &before) in state.everyone().zip(befores) {
                    let after = LocalView::reduced(&outcome.state, who, &reduction);
                    if before != after {
                        let label = Label::of(state, who, (one, outcome.reply), (&before, &after));
                        seen.views.insert(after);
                        seen.steps.insert((before, after, label));
                    }
                }
            })?;
        (seen.states, seen.transitions) = (end.states, end.transitions);
        Ok(seen)
    }

    /// The first view or step that the closed set lacks, if any.
    pub fn uncovered_by(&self, closure: &Closure) -> Option<Uncovered> {
        let number =
            |view: &LocalView| closure.views.get_index_of(view).map(|number| number as u32);
        let missing = |&&(before, after, label): &&(LocalView, LocalView, Label)| {
            let step = number(&before).zip(number(&after)).map(|(from, to)| (from, to, label));
            step.is_none_or(|step| !closure.steps.contains(&step))
        };
        let view = self.views.iter().find(|view| number(view).is_none());
        let step = self.steps.iter().find(missing);
        view.map(|&view| Uncovered::View(view)).or(step.map(|&(b, a, l)| Uncovered::Step(b, a, l)))
    }
}
