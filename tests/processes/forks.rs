//! Forks: a guard belongs to the process that acquired it.

use crate::participant::{Participant, Place, outcome};
use crate::{is_locked, refused_by};

#[test]
fn a_guard_dropped_or_released_in_a_forked_child_leaves_the_parents_lock_alone() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let before = place.bytes();
    for (order, answer) in [("current", "false"), ("drop", "dropped"), ("release", "forked")] {
        assert_eq!(holder.tell(&format!("in-a-fork {order}")), answer);
        assert_eq!(place.bytes(), before, "after {order} in the child");
        assert_eq!(holder.tell("current"), "true");
        // The kernel lock is the parent's still: nobody takes a free lock for held.
        assert!(is_locked(place.path()), "after {order} in the child");
        assert_eq!(outcome(&place.try_acquire()), refused_by(holder.pid()));
    }
    assert_eq!(holder.tell("release"), "released");
    assert!(place.is_empty());
}

#[test]
fn a_forked_child_that_acquires_is_another_participant() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let order = format!("in-a-fork try {}", place.path().display());
    assert_eq!(holder.tell(&order), refused_by(holder.pid()));
    assert_eq!(holder.tell("current"), "true");
}
