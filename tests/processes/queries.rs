//! Queries are read-only.

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::SystemTime;

use portlock::{Lock, Refusal, Status, UnknownReason};

use crate::participant::{
    DEAD_PID, Participant, Place, ending, frees_names_at_once, old_record, outcome, reclaimed_from,
};
use crate::visible;

#[test]
fn query_is_read_only() {
    let place = Place::new();
    let query = || {
        let before = (visible(place.dir.path()), changed(place.dir.path()));
        let status = place.lock.status().expect("it can be queried");
        let after = (visible(place.dir.path()), changed(place.dir.path()));
        assert_eq!(before, after);
        status
    };
    assert_eq!(query(), Status::Free);

    let mut holder = Participant::holding(place.path());
    let Status::Held { holder: Some(named), reason: Refusal::Holder, .. } = query() else {
        panic!("it is held: {:?}", query());
    };
    assert_eq!(named.pid, holder.pid());

    holder.kill();
    match query() {
        Status::Stale { holder: Some(named), .. } => assert_eq!(named.pid, holder.pid()),
        Status::Unknown { reason: UnknownReason::CannotWatch, .. } => {
            println!(
                "whether the file is locked cannot be seen here: not the initial pid namespace"
            );
        }
        other => panic!("its holder is dead: {other:?}"),
    }
    // The query has reclaimed nothing, and blocks no acquire.
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(holder.pid()));

    fs::write(place.path(), "").expect("a new file");
    assert!(matches!(
        query(),
        Status::Unknown { holder: None, reason: UnknownReason::BeingCreated, .. }
    ));
}

fn changed(dir: &Path) -> SystemTime {
    fs::metadata(dir).and_then(|found| found.modified()).expect("it exists")
}

#[test]
fn query_in_absent_directory_creates_none() {
    let place = Place::new();
    let lock = Lock::at(place.sibling("a/b/x.lock"));
    assert_eq!(lock.status().expect("no file"), Status::Free);
    assert!(place.is_empty());
}

#[test]
fn queries_never_refuse_an_acquire() {
    const ACQUIRES: usize = if cfg!(windows) { 600 } else { 3_000 };
    // Elsewhere a query keeps a removed file open, and its name in use.
    if !frees_names_at_once() {
        return;
    }
    let place = Place::new();
    let over = AtomicBool::new(false);
    let queries = AtomicUsize::new(0);
    let started = Barrier::new(3);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                started.wait();
                while !over.load(SeqCst) {
                    place.lock.status().expect("it can be queried");
                    queries.fetch_add(1, SeqCst);
                }
            });
        }
        started.wait();
        // Ends the queries even if an assertion below fails.
        let _ends = Ends(&over);
        for _ in 0..ACQUIRES / 2 {
            let attempt = place.try_acquire();
            assert_eq!(outcome(&attempt), "held");
            assert_eq!(ending(&attempt.expect("held").release()), "released");
            // A stale file stays longer, and a process that locks it stops its reclaim.
            fs::write(place.path(), old_record(DEAD_PID, SystemTime::now())).expect("a stale file");
            let attempt = place.try_acquire();
            assert_eq!(outcome(&attempt), reclaimed_from(DEAD_PID));
            assert_eq!(ending(&attempt.expect("held").release()), "released");
        }
    });
    println!("{ACQUIRES} acquires among {} queries", queries.load(SeqCst));
    assert!(queries.load(SeqCst) > 0);
    assert!(place.is_empty());
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
