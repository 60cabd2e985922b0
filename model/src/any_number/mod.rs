//! P1 and P2 for any number of participants: a thread-modular proof.
//!
//! The explorer stops at three or four. Here one participant is followed exactly, and all others
//! are known only by what this participant sees. The set of all such views is small, and can be
//! closed under the participant's own steps, and under the visible effects of the others' steps.
//!
//! | file | what |
//! | --- | --- |
//! | `local_view.rs` | what one participant sees of a state: the abstraction |
//! | `behind.rs` | the states behind a view, and behind two views at once: the concretization |
//! | `closure.rs` | the closed set of views |
//! | `rule.rs` | the rules of interference, derived from the steps |
//! | `invariant.rs` | the closed set in words |
//! | `cover.rs` | soundness, tested against the explicit search |
//!
//! # The argument
//!
//! *Every view that any participant has in any reachable state, with any number of participants, is
//! in the closed set.* The proof is by induction over the steps to that state. The set contains the
//! views of the beginnings. Let one participant make a step from a state whose views are all in the
//! set.
//!
//! - Its own next view is in the set. A step reads and changes only the path, the file that the
//!   path names and the file that the participant has open. The first two are in its view; for an
//!   open file without a name every kind is tried. So the explorer's own
//!   [`successors`](crate::scenario::moves::successors) makes the step in a state behind the view,
//!   and the resulting view is added.
//! - The next view of each other participant is in the set. Keep only these two participants: the
//!   result is a state of two, behind both of their views, in which the step has the same effect.
//!   All states behind two views of the set are made, and all steps in them; no other rule
//!   describes the others. The two views must agree on what both see, which keeps the set small: a
//!   participant that has the lock is only paired with views that see the lock taken.
//! - An event that no participant makes (a grace passes, the path is removed from outside) is made
//!   in the states behind each view.
//!
//! *So what is true of every view in the set is true for any number.* P2 is about one step, and is
//! checked at each. P1 is checked in each view of a holder: the path names its file, its record is
//! in it, and (where there are kernel locks) the lock is its own. A file has one author and a
//! kernel lock one owner, so no two participants can be in such a view at once.
//!
//! The argument assumes what the explorer's states guarantee: participants of a kind are alike and
//! finite in number, one call is one indivisible step, no call depends on all participants, an
//! unlinked file never returns to the path, an inode number is not reused while the file is open, a
//! kernel lock has one open file, an exclusive create has one winner. The states behind two views
//! (`behind.rs`) could be wrong, so `tests/any_number.rs` compares the closed set with every state
//! and every transition of the explicit search. A view can also be too coarse: then a property
//! seems to break that does not. The proof covers safety; P3 to P6 are left to the explorer, which
//! runs every participant alone from every state.

pub mod behind;
pub mod closure;
pub mod cover;
pub mod invariant;
pub mod local_view;
pub mod rule;

use crate::properties::property::Property;
use crate::scenario::catalogue::Scenario;
use crate::variants::Protocol;
use closure::{Closure, close};
use local_view::LocalView;

/// The scenarios that are not proved, each with the reason.
pub const NOT_PROVED: &[(&str, &str)] = &[
    (
        "author-without-locks",
        "until the record is written, only the grace protects a file whose creator has no kernel lock; \
         a view of one participant does not show the state of another",
    ),
    (
        "machines-that-look-alike",
        "as above; and two participants that reclaim one file through different mounts may both hold",
    ),
    (
        "legacy-agents",
        "an old agent may remove a holder's file at any time, after which P1 is not checked until all \
         are idle again; a view of one participant does not show when that is",
    ),
    ("command", "as above: an old agent takes part"),
    ("passed-to-child", "as above: an old agent takes part"),
    (
        "combined-faults-clears-no-locks",
        "without kernel locks a forced clear may remove a holder's file, with the same consequence",
    ),
];

/// Closes a scenario's views. `None` if there is no such scenario, or if it is one of
/// [`NOT_PROVED`].
pub fn prove(name: &str, protocol: &Protocol) -> Option<Closure> {
    if NOT_PROVED.iter().any(|(scenario, _)| *scenario == name) {
        return None;
    }
    let scenario = scenarios().find(|scenario| scenario.name == name)?;
    // A view does not count removals: there may always have been one.
    let removals = 2 * scenario.removals;
    let scenario = Scenario { properties: &[Property::P1, Property::P2], removals, ..scenario };
    Some(close(&scenario, protocol, &beginnings(&scenario)))
}

/// The scenarios that are proved: the mixes, and those of the explorer for two participants.
pub fn scenarios() -> impl Iterator<Item = Scenario> {
    let proved = |scenario: &Scenario| NOT_PROVED.iter().all(|(name, _)| *name != scenario.name);
    Scenario::mixes().into_iter().chain(Scenario::all(2).into_iter().filter(proved))
}

/// The views of all participants in every beginning. Scenarios for three have more kinds of
/// participants, and scenarios for two have more beginnings.
fn beginnings(scenario: &Scenario) -> Vec<LocalView> {
    let mut scenarios = vec![scenario.clone()];
    if let Some(three) = Scenario::named(scenario.name, 3) {
        scenarios.push(Scenario { starts: scenario.starts, ..three.clone() });
        scenarios.push(three);
    }
    let mut views = Vec::new();
    for state in scenarios.iter().flat_map(Scenario::beginnings) {
        views.extend(state.everyone().map(|who| LocalView::of(&state, who)));
    }
    views
}
