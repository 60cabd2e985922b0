//! The library under unusual limits: closed standard descriptors, a file size limit, a umask that
//! permits nothing.

#![cfg(unix)]
#![allow(unsafe_code)]
// Some tests run on Linux only, so their helpers and imports are unused elsewhere.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]

mod participant;

use std::fs;
use std::os::unix::fs::MetadataExt;

use portlock::Holder;

use participant::{Participant, Place, outcome};

#[test]
fn no_lock_file_takes_a_standard_descriptor() {
    let place = Place::new();
    let mut daemon = Participant::start();
    assert_eq!(daemon.request("close-descriptor 2"), "closed");
    assert_eq!(daemon.try_acquire(place.path()), "held");
    assert_eq!(daemon.request("standard-descriptors"), "0 1");
    // As a panic in another thread does.
    daemon.request("write-to-descriptor-2 thread 'main' panicked at the worst moment, and said so");
    let record = Holder::parse(&place.bytes()).expect("the record is whole");
    assert_eq!(record.pid, daemon.pid());
    assert_eq!(daemon.request("release"), "released");
    assert!(place.is_empty());
}

#[test]
fn reclaimed_file_takes_no_standard_descriptor() {
    let place = Place::new();
    Participant::holding(place.path()).kill();
    let mut daemon = Participant::start();
    assert_eq!(daemon.request("close-descriptor 2"), "closed");
    assert!(daemon.try_acquire(place.path()).starts_with("held, reclaimed from "));
    assert_eq!(daemon.request("standard-descriptors"), "0 1");
}

#[test]
#[cfg(target_os = "linux")]
fn wait_takes_no_standard_descriptor() {
    let place = Place::new();
    let holder = place.try_acquire().expect("free");
    let mut daemon = Participant::start();
    assert_eq!(daemon.request("close-descriptor 2"), "closed");
    // The queue of events stays for the next wait.
    let said = daemon.request(&format!("acquire-within 1 {}", place.path().display()));
    assert_eq!(said, format!("timed out, held by pid {}", std::process::id()));
    assert_eq!(daemon.request("standard-descriptors"), "0 1");
    // In the kernel, with the file open.
    daemon.order(&format!("acquire {}", place.path().display()));
    participant::until_listening(daemon.pid());
    assert!(fs::read_link(format!("/proc/{}/fd/2", daemon.pid())).is_err());
    holder.release().expect("held");
    assert_eq!(daemon.answer(), "held");
    assert_eq!(daemon.request("standard-descriptors"), "0 1");
}

#[test]
#[cfg(target_os = "linux")]
fn passed_lock_survives_closed_standard_descriptors() {
    let place = Place::new();
    let mut daemon = Participant::start();
    assert_eq!(daemon.request("close-descriptor 2"), "closed");
    assert_eq!(daemon.try_acquire(place.path()), "held");
    assert_eq!(daemon.request("pass-to-cat"), "spawned");
    daemon.kill();
    let refused = format!("refused, HolderExited, pid {}", daemon.pid());
    assert_eq!(outcome(&place.try_acquire()), refused, "its command has the lock");
}

/// At the limit the kernel would send SIGXFSZ, below it a write would be short.
#[test]
fn file_size_limit_error_leaves_nothing() {
    let place = Place::new();
    let mut host = Participant::start();
    for limit in [0, 1, 100] {
        assert_eq!(host.request(&format!("limit-file-size {limit}")), "limited");
        assert_eq!(host.try_acquire(place.path()), "failed, Write, FileTooLarge", "{limit}");
        assert!(place.is_empty(), "{limit}");
    }
    assert_eq!(host.request("limit-file-size 4096"), "limited");
    assert_eq!(host.try_acquire(place.path()), "held");
}

#[test]
fn umask_takes_no_permission_from_the_owner() {
    let place = Place::new();
    let dir = place.sibling("a/b");
    let path = dir.join("x.lock");
    let mut host = Participant::start();
    // Root ignores modes.
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(place.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .expect("permits");
        assert_eq!(host.request("become-user 65534"), "done");
    }
    assert_eq!(host.request("umask 777"), "masked");
    assert_eq!(host.try_acquire(&path), "held");
    let mode = |path: &std::path::Path| fs::metadata(path).expect("exists").mode() & 0o7777;
    assert_eq!([mode(&place.sibling("a")), mode(&dir), mode(&path)], [0o700, 0o700, 0o600]);
    assert_eq!(host.request("release"), "released");
    assert_eq!(host.try_acquire(&path), "held");
}
