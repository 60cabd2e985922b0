//! Feature `tracing`: the events of a lock.

mod participant;

use std::fs;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portlock::Guard;
use tracing_subscriber::util::SubscriberInitExt;

use participant::{Participant, Place, outcome};

/// The output of a subscriber.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The events of a call in this thread, one a line.
fn events(call: impl FnOnce()) -> String {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .without_time()
        .finish();
    let default = subscriber.set_default();
    call();
    drop(default);
    let bytes = log.0.lock().expect("no panic").clone();
    String::from_utf8(bytes).expect("text")
}

#[test]
fn uncontended_acquire_and_release_are_silent() {
    let place = Place::new();
    assert_eq!(events(|| drop(place.try_acquire().expect("free"))), "");
}

#[test]
fn reclaim_event_names_the_dead_holder() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    holder.kill();
    let said = events(|| drop(place.try_acquire()));
    let words = format!(" INFO portlock: reclaimed the lock of pid {}", holder.pid());
    assert!(said.starts_with(&words) && said.contains(&format!("pid={}", holder.pid())), "{said}");
    assert!(said.contains(&place.path().display().to_string()), "{said}");
}

#[test]
fn a_wait_is_an_event_with_the_holder() {
    let place = Place::new();
    let holder = Participant::holding(place.path());
    let said = events(|| {
        let timed_out = place.lock.acquire_timeout(Duration::from_millis(20));
        assert_eq!(outcome(&timed_out), format!("timed out, held by pid {}", holder.pid()));
    });
    let words = format!(" INFO portlock: waiting: the lock is locked by pid {}", holder.pid());
    assert!(said.starts_with(&words) && said.lines().count() == 1, "{said}");
}

#[test]
fn a_lost_lock_is_a_warning() {
    let releases: [fn(Guard); 2] = [drop, |guard| drop(guard.release())];
    for release in releases {
        let place = Place::new();
        let guard = place.try_acquire().expect("free");
        fs::rename(place.path(), place.sibling("aside")).expect("it is moved");
        let said = events(|| release(guard));
        assert!(said.starts_with(" WARN portlock: the lock file was removed"), "{said}");
    }
}

/// A symbolic link to itself, which no user can resolve.
#[test]
#[cfg(unix)]
fn failed_release_in_drop_is_an_error() {
    let place = Place::new();
    let (dir, aside) = (place.sibling("dir"), place.sibling("aside"));
    let guard = portlock::Lock::at(dir.join("x.lock")).try_acquire().expect("free");
    fs::rename(&dir, &aside).expect("it is moved");
    std::os::unix::fs::symlink(&dir, &dir).expect("a link to itself");
    let said = events(|| drop(guard));
    assert!(said.starts_with("ERROR portlock: cannot confirm the lock file"), "{said}");
    assert_eq!(
        fs::read(aside.join("x.lock")).expect("it stays"),
        b"{",
        "and the record is truncated"
    );
}
