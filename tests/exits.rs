//! A lock whose guard is alive when its process ends (S11), in every way.

mod participant;

use std::fs;

use participant::{Participant, Place, outcome, reclaimed_from};

#[cfg(unix)]
const WAYS: [&str; 2] = ["exit", "exit-in-a-thread"];
#[cfg(windows)]
const WAYS: [&str; 3] = ["exit-of-c", "exit", "exit-in-a-thread"];

#[test]
fn s11_exit_with_live_guard_removes_the_file() {
    for how in WAYS {
        if how != "exit-of-c" && std::env::var_os("WINEPREFIX").is_some() {
            participant::not_checked(
                "std::process::exit: Wine does not report a program's end to it",
            );
            continue;
        }
        let place = Place::new();
        let mut holder = Participant::holding(place.path());
        holder.end(how);
        assert!(place.is_empty(), "{how}");
        assert_eq!(outcome(&place.lock.try_acquire()), "held", "{how}");
    }
}

/// The control: an abort runs no handler, so the file stays, and the next acquire reclaims it.
#[test]
fn s11_abort_leaves_the_file_to_be_reclaimed() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    holder.end("abort");
    assert!(!place.is_empty());
    let reclaimed = reclaimed_from(holder.pid());
    assert_eq!(outcome(&place.lock.try_acquire()), reclaimed);
}

#[test]
fn s11_exit_keeps_a_successors_file() {
    if !participant::frees_names_at_once() {
        return;
    }
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    fs::remove_file(place.path()).expect("it is removed by hand");
    let successor = place.lock.try_acquire().expect("free");
    holder.end("exit");
    assert!(successor.is_still_held().expect("it can be checked"));
}

#[test]
#[cfg(unix)]
fn s11_only_the_acquiring_process_releases_at_exit() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let child = holder.request("in-a-fork-that-exits pid");
    assert_ne!(child, holder.pid().to_string());
    assert_eq!(holder.request("current"), "true");
    let refused = participant::refused_by(holder.pid());
    assert_eq!(outcome(&place.lock.try_acquire()), refused);
}

#[test]
#[cfg(unix)]
fn s11_forked_child_releases_own_lock_at_exit() {
    let (parents, childs) = (Place::new(), Place::new());
    let mut holder = Participant::holding(parents.path());
    let order = format!("in-a-fork-that-exits try {}", childs.path().display());
    assert_eq!(holder.request(&order), "held");
    assert!(childs.is_empty());
    assert_eq!(holder.request("current"), "true");
}

#[test]
fn s11_exit_never_releases_a_lock_twice() {
    let place = Place::new();
    let mut first = Participant::holding(place.path());
    assert_eq!(first.request("release"), "released");
    let mut second = Participant::holding(place.path());
    first.end("exit");
    assert_eq!(second.request("current"), "true");
}

/// The number of exits during acquires. Before the fix one in three left a file.
#[cfg(unix)]
const EXITS: usize = 40;

/// Windows ends the other threads before it reports the end of the process.
#[test]
#[cfg(unix)]
fn an_exit_among_acquires_leaves_no_file() {
    for exit in 0..EXITS {
        let place = Place::new();
        let mut process = Participant::start();
        process.order(&format!("exit-among {}", place.dir.path().display()));
        process.reap();
        assert!(place.is_empty(), "after exit {exit}");
    }
}
