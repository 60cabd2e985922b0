//! Forks: a guard belongs to the process that acquired it.

use crate::is_locked;
use crate::participant::{Participant, Place, outcome, reclaimed_from, refused_by};

#[test]
fn guard_in_forked_child_never_releases_parents_lock() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let before = place.bytes();
    for (order, answer) in [("current", "false"), ("drop", "dropped"), ("release", "forked")] {
        assert_eq!(holder.request(&format!("in-a-fork {order}")), answer);
        assert_eq!(place.bytes(), before, "after {order} in the child");
        assert_eq!(holder.request("current"), "true");
        // The parent must still have the kernel lock: a refusal alone would not show that.
        assert!(is_locked(place.path()), "after {order} in the child");
        assert_eq!(outcome(&place.try_acquire()), refused_by(holder.pid()));
    }
    assert_eq!(holder.request("release"), "released");
    assert!(place.is_empty());
}

#[test]
fn fork_without_descriptors_leaves_the_lock_alone() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    for (order, answer) in [("current", "false"), ("drop", "dropped"), ("release", "forked")] {
        // No descriptor is free to replace the lock file's, whose number may be reused by then.
        assert_eq!(holder.request(&format!("in-a-fork-without-descriptors {order}")), answer);
        assert_eq!(holder.request("current"), "true");
        assert!(is_locked(place.path()), "after {order} in the child");
    }
}

#[test]
fn a_forked_child_that_acquires_is_another_participant() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let order = format!("in-a-fork try {}", place.path().display());
    assert_eq!(holder.request(&order), refused_by(holder.pid()));
    assert_eq!(holder.request("current"), "true");
}

#[test]
fn lock_dies_with_holder_despite_forked_child() {
    for order in ["drop", "release", "keep", "current"] {
        let place = Place::new();
        let mut holder = Participant::holding(place.path());
        holder.request(&format!("in-a-fork-that-stays {order}"));
        holder.kill();
        // The child lives, and has its parent's files open.
        let reclaimed = reclaimed_from(holder.pid());
        assert_eq!(outcome(&place.try_acquire()), reclaimed, "{order} in the child");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn raw_forked_child_leaves_parents_lock_alone() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let before = place.bytes();
    for (order, answer) in [
        ("in-a-raw-fork current", "false"),
        ("in-a-raw-fork drop", "dropped"),
        ("in-a-raw-fork release", "forked"),
        ("in-a-raw-fork-that-exits keep", "kept"),
    ] {
        assert_eq!(holder.request(order), answer);
        assert_eq!(place.bytes(), before, "after {order}");
        assert!(is_locked(place.path()), "after {order}");
        assert_eq!(holder.request("current"), "true");
    }
    assert_eq!(holder.request("release"), "released");
    assert!(place.is_empty());
}

#[test]
#[cfg(target_os = "linux")]
fn a_child_without_fork_handlers_records_itself() {
    let (parents, childs) = (Place::new(), Place::new());
    let mut holder = Participant::holding(parents.path());
    let order = format!("in-a-raw-fork hold-for-a-moment {}", childs.path().display());
    assert_eq!(holder.request(&order), "true, true, released");
    assert!(childs.is_empty());
    assert_eq!(holder.request("current"), "true");
}

#[test]
fn a_command_started_after_the_release_fails() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let failed = format!("released, {:?}", Some(libc::ENOLCK));
    assert_eq!(holder.request("pass-too-late"), failed);
}

/// A daemon forked after the acquire: the process that acquired exits, and its child continues.
#[test]
fn daemon_forked_under_the_lock_gets_advice() {
    let place = Place::new();
    let mut starter = Participant::holding(place.path());
    assert_eq!(starter.request("in-a-fork current"), "false");
    let said = starter.request("in-a-fork release-and-say");
    assert!(said.contains("acquire it in the process that does the work"), "{said}");
    starter.end("exit");
    assert!(place.is_empty(), "it has released the lock, despite its child");
}

#[test]
fn exec_keeps_the_lock_under_its_pid() {
    let place = Place::new();
    let mut launcher = Participant::holding(place.path());
    assert_eq!(launcher.request("exec-cat"), "executed");
    let refused = place.try_acquire();
    assert_eq!(outcome(&refused), refused_by(launcher.pid()));
    assert!(is_locked(place.path()), "with the kernel lock");
    launcher.dismiss();
    launcher.reap();
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(launcher.pid()));
}

#[test]
fn an_exec_that_fails_releases() {
    let place = Place::new();
    let mut launcher = Participant::holding(place.path());
    assert_eq!(launcher.request("exec-nothing"), "failed, NotFound");
    assert!(place.is_empty());
    // It may acquire again.
    assert_eq!(launcher.try_acquire(place.path()), "held");
    let refused = "failed, Other";
    assert_eq!(launcher.request("in-a-fork exec-nothing"), refused, "a child has no lock");
    assert_eq!(launcher.request("current"), "true");
}

#[test]
fn duplicated_descriptor_keeps_lock_until_release() {
    use std::os::fd::AsFd;
    let place = Place::new();
    let guard = place.try_acquire().expect("free");
    let copy = guard.as_fd().try_clone_to_owned().expect("a descriptor");
    assert!(is_locked(place.path()));
    assert!(guard.release().is_ok() && place.is_empty());
    let again = place.try_acquire().expect("free, though the copy is open");
    drop(copy);
    assert!(again.is_still_held().expect("it can be checked"));
}
