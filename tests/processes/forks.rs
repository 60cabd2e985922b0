//! Forks: a guard belongs to the process that acquired it.

use crate::participant::{Participant, Place, outcome};
use crate::{is_locked, reclaimed_from, refused_by};

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
fn a_child_forked_without_descriptors_leaves_the_lock_alone() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    for (order, answer) in [("current", "false"), ("drop", "dropped"), ("release", "forked")] {
        // Nothing could take the place of the file, whose number is another's by then.
        assert_eq!(holder.tell(&format!("in-a-fork-without-descriptors {order}")), answer);
        assert_eq!(holder.tell("current"), "true");
        assert!(is_locked(place.path()), "after {order} in the child");
    }
}

#[test]
fn a_forked_child_that_acquires_is_another_participant() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let order = format!("in-a-fork try {}", place.path().display());
    assert_eq!(holder.tell(&order), refused_by(holder.pid()));
    assert_eq!(holder.tell("current"), "true");
}

#[test]
fn a_lock_dies_with_its_process_whatever_a_forked_child_does() {
    for order in ["drop", "release", "keep", "current"] {
        let place = Place::new();
        let mut holder = Participant::holding(place.path());
        holder.tell(&format!("in-a-fork-that-stays {order}"));
        holder.kill();
        // The child lives, and has what it had open of its parent's.
        let reclaimed = reclaimed_from(holder.pid());
        assert_eq!(outcome(&place.try_acquire()), reclaimed, "{order} in the child");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_child_without_fork_handlers_leaves_its_parents_lock_alone() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let before = place.bytes();
    for (order, answer) in [
        ("in-a-raw-fork current", "false"),
        ("in-a-raw-fork drop", "dropped"),
        ("in-a-raw-fork release", "forked"),
        ("in-a-raw-fork-that-exits keep", "kept"),
    ] {
        assert_eq!(holder.tell(order), answer);
        assert_eq!(place.bytes(), before, "after {order}");
        assert!(is_locked(place.path()), "after {order}");
        assert_eq!(holder.tell("current"), "true");
    }
    assert_eq!(holder.tell("release"), "released");
    assert!(place.is_empty());
}

#[test]
#[cfg(target_os = "linux")]
fn a_child_without_fork_handlers_records_itself() {
    let (parents, childs) = (Place::new(), Place::new());
    let mut holder = Participant::holding(parents.path());
    let order = format!("in-a-raw-fork hold-for-a-moment {}", childs.path().display());
    assert_eq!(holder.tell(&order), "true, true, released");
    assert!(childs.is_empty());
    assert_eq!(holder.tell("current"), "true");
}

#[test]
fn a_command_started_after_the_release_fails() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let failed = format!("released, {:?}", Some(libc::ENOLCK));
    assert_eq!(holder.tell("hand-over-too-late"), failed);
}
