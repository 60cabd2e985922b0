//! P1 and P2 for any number of participants: a thread-modular proof.
//!
//! The explorer stops at three or four. Here one participant is followed exactly, and of all others
//! no more is known than what it sees of them. The set of all such views is small, and can be
//! closed: under the participant's own steps, and under the steps of others as it sees them.
//!
//! | file | what |
//! | --- | --- |
//! | `local_view.rs` | what one participant sees of a state: the abstraction |
//! | `behind.rs` | the states behind a view, and behind two views at once: the abstraction turned round |
//! | `closure.rs` | the closed set of views |
//! | `rule.rs` | the rules of interference, read off the steps |
//! | `invariant.rs` | what the closed set says, in words |
//! | `cover.rs` | soundness, tested against the explicit search |
//!
//! # The argument
//!
//! *Every view that any participant has in any reachable state, of however many participants, is in
//! the closed set.* By induction over the steps to that state. The views of the beginnings are put
//! in. Let one participant make a step from a state all of whose views are in the set.
//!
//! - The view that it has itself afterwards is in the set: a step reads and changes the path, the
//!   file that the path names and the one file that the participant has open, and nothing else.
//!   The first two are in its view; of an open file without a name every kind is tried. So the step
//!   is made, by the explorer's own [`successors`](crate::scenario::moves::successors), in a state behind the
//!   view, and what it leads to is put into the set.
//! - The view of each other participant afterwards is in the set. Take the two of them, and forget
//!   all others: this leaves a state of two, behind both of their views, and the step does in it
//!   what it does in the whole. All states behind two views of the set are made, and all steps in
//!   them; no other rule says what others may do. The two views must agree on what both see, and
//!   this is what keeps the set small: who has a lock is not seen without one by another who has it.
//! - What happens of itself (a grace passes, somebody removes the path) is a step of nobody, and
//!   made in the states behind each view.
//!
//! *So what is true of every view in the set is true for any number.* P2 is about one step, and
//! checked at each. P1 is checked of each view of a holder: the path names its file, its record is
//! in it, and (where there are kernel locks) the lock is its own. A file has one author and a kernel
//! lock one owner, so no two can be in such a view at once.
//!
//! What the argument takes for granted, since the explorer's states are so made: participants of a
//! kind are alike and finite in number, one call is one indivisible step, no call asks about all
//! participants, an unlinked file never returns to the path, an inode number is not given out while
//! the file is open, a kernel lock has one open file, an exclusive create has one winner.
//! What it says of the states behind two views (in `behind.rs`) could be wrong; therefore
//! `tests/any_number.rs` holds the closed set to every state and every transition of the explicit
//! search. A view can also be too poor: then a property seems to break that does not. It proves
//! safety; P3 to P6 are left to the explorer, which runs every participant alone from every state.

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

/// The scenarios for which nothing is proved, and why.
pub const NOT_PROVED: &[(&str, &str)] = &[
    (
        "author-without-locks",
        "until its record is there, only the grace keeps others from a file whose creator has no \
         kernel lock; a view of one participant cannot tell at what another is",
    ),
    (
        "machines-that-look-alike",
        "as above; and two who reclaim one file through different mounts may both hold",
    ),
    (
        "legacy-agents",
        "an old agent may remove a holder's file at any time, after which P1 is not checked until all \
         are idle again; a view of one participant cannot tell when that is",
    ),
    ("command", "as above: an old agent takes part"),
    ("passed-to-child", "as above: an old agent takes part"),
    (
        "combined-faults-clears-no-locks",
        "without kernel locks a forced clear may remove a holder's file, with the same consequence",
    ),
];

/// Closes a scenario's views. `None` if there is no such scenario, or if it is one of [`NOT_PROVED`].
pub fn prove(name: &str, protocol: &Protocol) -> Option<Closure> {
    if NOT_PROVED.iter().any(|(scenario, _)| *scenario == name) {
        return None;
    }
    let scenario = scenarios().find(|scenario| scenario.name == name)?;
    // How many removals there were is forgotten: there may always have been one.
    let removals = 2 * scenario.removals;
    let scenario = Scenario { properties: &[Property::P1, Property::P2], removals, ..scenario };
    Some(close(&scenario, protocol, &beginnings(&scenario)))
}

/// The scenarios that are proved: everything at once, and those of the explorer, as they are for two.
pub fn scenarios() -> impl Iterator<Item = Scenario> {
    let proved = |scenario: &Scenario| NOT_PROVED.iter().all(|(name, _)| *name != scenario.name);
    Scenario::mixes().into_iter().chain(Scenario::all(2).into_iter().filter(proved))
}

/// Everybody's view of every beginning: with three there are more kinds of participants than with
/// two, and with two there are more beginnings.
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
