//! A thousand tasks wait for one lock: each holds it alone, with one descriptor and no thread.

use std::fs::File;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Poll;

use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, yield_now};

use portlock::Lock;

use super::block_on;
use super::descriptors::{open_and_watched, threads};
use super::participant::{Participant, Place, wait_until};

const TASKS: usize = 1_000;

/// Tasks that wait for one lock. The witness of exclusion is a file that only one task can create.
struct Crowd {
    place: Place,
    waiting: AtomicUsize,
    held: AtomicUsize,
}

impl Crowd {
    fn new() -> Arc<Self> {
        let (waiting, held) = Default::default();
        Arc::new(Self { place: Place::new(), waiting, held })
    }

    async fn take_part(self: Arc<Self>) {
        let lock: Lock = self.place.lock.clone();
        let mut acquire = pin!(lock.acquire_async());
        let first = std::future::poll_fn(|cx| Poll::Ready(acquire.as_mut().poll(cx))).await;
        self.waiting.fetch_add(1, SeqCst);
        let guard = match first {
            Poll::Ready(acquired) => acquired,
            Poll::Pending => acquire.await,
        };
        let guard = guard.expect("nothing failed");
        let alone = self.place.sibling("alone");
        File::create_new(&alone).expect("one at a time");
        yield_now().await;
        std::fs::remove_file(&alone).expect("one at a time");
        self.held.fetch_add(1, SeqCst);
        guard.release().expect("held until then");
    }

    /// Returns when this many tasks have been polled.
    async fn until_waiting(&self, tasks: usize) {
        while self.waiting.load(SeqCst) < tasks {
            yield_now().await;
        }
    }
}

fn spawn(crowd: &Arc<Crowd>, tasks: usize, runtime: &Runtime) -> JoinSet<()> {
    let mut spawned = JoinSet::new();
    for _ in 0..tasks {
        spawned.spawn_on(Arc::clone(crowd).take_part(), runtime.handle());
    }
    spawned
}

/// A runtime with two threads. All its threads have this name.
fn named(name: &str) -> Runtime {
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(2).thread_name(name).enable_all().build().expect("a runtime")
}

async fn all(mut tasks: JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no assertion failed");
    }
}

#[test]
fn thousand_tasks_acquire_with_one_descriptor_no_thread() {
    let name = "crowd-of-tasks";
    let runtime = named(name);
    let crowd = Crowd::new();
    let mut holder = Participant::holding(crowd.place.path());
    let tasks = spawn(&crowd, TASKS, &runtime);
    block_on(&runtime, crowd.until_waiting(TASKS));
    assert_eq!(crowd.held.load(SeqCst), 0);
    // The first waits at the file. Others may be at their recheck, once a second.
    let (open, watched) = open_and_watched(crowd.place.path());
    assert!(open <= 3 && watched == 1, "{open} open, {watched} watched");
    assert_eq!(threads(name), 2);
    assert_eq!(holder.request("release"), "released");
    block_on(&runtime, all(tasks));
    assert_eq!(crowd.held.load(SeqCst), TASKS);
    assert_eq!(threads(name), 2);
    assert!(crowd.place.is_empty());
}

#[test]
fn tasks_of_two_runtimes_acquire_one_by_one() {
    let crowd = Crowd::new();
    let mut holder = Participant::holding(crowd.place.path());
    let runtimes = [(); 2].map(|()| super::runtime());
    std::thread::scope(|threads| {
        for runtime in &runtimes {
            let tasks = spawn(&crowd, 50, runtime);
            threads.spawn(move || block_on(runtime, all(tasks)));
        }
        block_on(&super::runtime(), crowd.until_waiting(100));
        holder.kill();
    });
    assert_eq!(crowd.held.load(SeqCst), 100);
    assert!(crowd.place.is_empty());
}

/// The control: with blocking waits the number of threads grows with the tasks.
#[test]
fn control_waits_left_to_threads_are_caught() {
    let name = "crowd-of-thread";
    let runtime = named(name);
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let begun = Arc::new(AtomicUsize::new(0));
    let waits: Vec<_> = (0..5)
        .map(|_| {
            let (lock, begun) = (place.lock.clone(), Arc::clone(&begun));
            runtime.spawn_blocking(move || {
                begun.fetch_add(1, SeqCst);
                lock.acquire().map(drop)
            })
        })
        .collect();
    wait_until("all threads have begun", || begun.load(SeqCst) == waits.len());
    assert_eq!(threads(name), 7);
    assert_eq!(holder.request("release"), "released");
    for wait in waits {
        block_on(&runtime, wait).expect("no panic").expect("held, and released");
    }
}
