//! Lock files that are lost while they are held.

use std::fs;

use portlock::{Lock, ReleaseError};

use crate::participant::{Participant, Place, ending, frees_names_at_once};
#[cfg(unix)]
use crate::participant::{not_checked, outcome};

#[test]
fn holder_and_release_report_a_removed_file() {
    if !frees_names_at_once() {
        return;
    }
    let place = Place::new();
    let guard = place.try_acquire().expect("free");
    assert!(guard.is_still_held().expect("it can be checked"));
    fs::remove_file(place.path()).expect("it is removed by hand");
    assert!(!guard.is_still_held().expect("it can be checked"));
    match guard.release() {
        Err(ReleaseError::Lost { path, .. }) => assert_eq!(path, place.path()),
        other => panic!("{other:?}"),
    }
    assert!(place.is_empty());
}

#[test]
fn holder_of_replaced_file_keeps_successors_file() {
    if !frees_names_at_once() {
        return;
    }
    let place = Place::new();
    let guard = place.try_acquire().expect("free");
    fs::remove_file(place.path()).expect("it is removed by hand");
    let mut successor = Participant::holding(place.path());
    let before = place.bytes();
    assert!(!guard.is_still_held().expect("it can be checked"));
    drop(guard);
    assert_eq!(place.bytes(), before);
    assert_eq!(successor.request("current"), "true");
    assert_eq!(successor.request("release"), "released");
}

#[test]
fn removed_lock_directory_is_detected_and_recreated() {
    if !frees_names_at_once() {
        return;
    }
    let place = Place::new();
    let lock = Lock::at(place.sibling("d/x.lock"));
    let guard = lock.try_acquire().expect("free");
    fs::remove_dir_all(place.sibling("d")).expect("a cleaner removes it");
    assert!(!guard.is_still_held().expect("it can be checked"));
    let next = lock.try_acquire().expect("free");
    assert_eq!(ending(&guard.release()), "lost");
    assert!(next.is_still_held().expect("it can be checked"));
}

/// Its file stays at a path it can no longer reach, and must not block other processes.
#[test]
#[cfg(unix)]
fn release_after_chroot_frees_the_lock() {
    for order in ["release", "drop"] {
        let place = Place::new();
        let root = tempfile::tempdir().expect("a directory");
        let mut holder = Participant::holding(place.path());
        let changed = holder.request(&format!("change-root {}", root.path().display()));
        if changed != "done" {
            return not_checked(&format!("a change of root ({changed}); it takes root"));
        }
        let refused = crate::participant::refused_by(holder.pid());
        assert_eq!(outcome(&place.try_acquire()), refused, "it still holds");
        let said = holder.request(order);
        assert!(order == "drop" || said == "lost", "{said}");
        assert_eq!(outcome(&place.try_acquire()), "held, reclaimed from unknown");
        assert!(place.is_empty());
    }
}
