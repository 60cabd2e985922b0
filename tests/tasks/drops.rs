//! A future dropped after each number of polls leaves no effects.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::pin::Pin;
use std::task::Poll;
use std::time::SystemTime;

use portlock::{AcquireError, Guard, Lock};

use super::block_on;
use super::descriptors::{open_and_watched, queues};
use super::participant::{
    Participant, Place, old_record, outcome, reclaimed_from, runtime, wait_until,
};

type Acquired = Result<Guard, AcquireError>;
type Acquiring = Pin<Box<dyn Future<Output = Acquired> + Send>>;

fn in_a_task(lock: Lock) -> Acquiring {
    Box::pin(async move { lock.acquire_async().await })
}

/// The most polls before a drop. Later polls are of the same kind.
const POLLS: usize = 12;

/// Polls `acquire` this often, each time when it is woken. `stir` may wake it. It stays pending.
async fn polled(acquire: &mut Acquiring, polls: usize, stir: impl Fn()) {
    let mut left = polls;
    std::future::poll_fn(|cx| {
        let Poll::Pending = acquire.as_mut().poll(cx) else { panic!("the lock is held") };
        left -= 1;
        if left > 0 {
            stir();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

fn contents(place: &Place) -> BTreeMap<std::ffi::OsString, Vec<u8>> {
    let entries = fs::read_dir(place.dir.path()).expect("exists").flatten();
    entries.map(|entry| (entry.file_name(), fs::read(entry.path()).expect("reads"))).collect()
}

/// Violations after an acquire that was polled this often and then ended by `end`. The lock must
/// not be free.
fn wrong_after(
    place: &Place,
    polls: usize,
    acquire: fn(Lock) -> Acquiring,
    end: impl FnOnce(Acquiring),
) -> Vec<String> {
    let before = contents(place);
    let runtime = runtime();
    let mut acquire = {
        let _within = runtime.enter();
        acquire(place.lock.clone())
    };
    let opened = || drop(File::open(place.path()).expect("it opens"));
    block_on(&runtime, polled(&mut acquire, polls, opened));
    block_on(&runtime, async { end(acquire) });
    let mut wrong = Vec::new();
    let (open, watched) = open_and_watched(place.path());
    if open > 0 {
        wrong.push(format!("{open} open"));
    }
    if watched > 0 {
        wrong.push(format!("{watched} watched"));
    }
    if contents(place) != before {
        wrong.push("the directory has changed".to_owned());
    }
    // A blocking wait that remains is not waited for.
    runtime.shutdown_background();
    wrong
}

fn wrong_after_a_drop(place: &Place, polls: usize) -> Vec<String> {
    wrong_after(place, polls, in_a_task, drop)
}

#[test]
fn drop_while_holder_lives_leaves_nothing() {
    for polls in 1..=POLLS {
        let place = Place::new();
        let mut holder = Participant::holding(place.path());
        assert_eq!(wrong_after_a_drop(&place, polls), Vec::<String>::new(), "{polls} polls");
        assert_eq!(holder.request("release"), "released");
        assert!(place.is_empty());
        assert_eq!(outcome(&place.try_acquire()), "held");
        assert!(place.is_empty());
    }
}

#[test]
fn drop_behind_another_task_leaves_nothing() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let runtime = runtime();
    let mut front = in_a_task(place.lock.clone());
    block_on(&runtime, polled(&mut front, 1, || ()));
    assert_eq!(open_and_watched(place.path()), (1, 1));
    // The second poll is its recheck.
    for polls in 1..=2 {
        let mut behind = in_a_task(place.lock.clone());
        block_on(&runtime, polled(&mut behind, polls, || ()));
        drop(behind);
        assert_eq!(open_and_watched(place.path()), (1, 1), "{polls} polls");
    }
    // A dropped future at the head of the queue passes its turn on.
    let mut next = in_a_task(place.lock.clone());
    let mut last = in_a_task(place.lock.clone());
    block_on(&runtime, polled(&mut next, 1, || ()));
    block_on(&runtime, polled(&mut last, 1, || ()));
    drop(front);
    assert_eq!(open_and_watched(place.path()), (0, 0));
    drop(next);
    block_on(&runtime, polled(&mut last, 1, || ()));
    assert_eq!(open_and_watched(place.path()), (1, 1), "it is in front");
    assert_eq!(holder.request("release"), "released");
    assert_eq!(outcome(&block_on(&runtime, last)), "held");
    assert!(place.is_empty());
}

#[test]
fn drop_while_legacy_agent_holds_leaves_nothing() {
    for polls in 1..=POLLS {
        let place = Place::new();
        let mut agent = Participant::start();
        let record = old_record(agent.pid(), SystemTime::now());
        fs::write(place.path(), record).expect("the agent's file");
        assert_eq!(wrong_after_a_drop(&place, polls), Vec::<String>::new(), "{polls} polls");
        agent.kill();
        let acquired = place.try_acquire();
        assert_eq!(outcome(&acquired), reclaimed_from(agent.pid()));
    }
}

#[test]
fn drop_at_file_being_created_leaves_it_alone() {
    for polls in 1..=POLLS {
        let place = Place::new();
        fs::write(place.path(), b"").expect("it is created");
        assert_eq!(wrong_after_a_drop(&place, polls), Vec::<String>::new(), "{polls} polls");
        fs::remove_file(place.path()).expect("it is removed");
        assert_eq!(outcome(&place.try_acquire()), "held");
    }
}

#[test]
fn two_hundred_lost_selects_leave_nothing() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    block_on(&runtime(), async {
        for _ in 0..200 {
            let mut others = random.usize(0..4);
            tokio::select! {
                acquired = place.lock.acquire_async() => panic!("{acquired:?}"),
                // Another branch wins after some wakes.
                () = std::future::poll_fn(|cx| {
                    drop(File::open(place.path()).expect("it opens"));
                    cx.waker().wake_by_ref();
                    match others {
                        0 => Poll::Ready(()),
                        _ => { others -= 1; Poll::Pending }
                    }
                }) => (),
            }
            assert_eq!(open_and_watched(place.path()), (0, 0));
        }
        // Sixteen are kept for later waits; other tests in this process use some.
        assert!(queues() < 100, "{} queues", queues());
        assert_eq!(holder.request("release"), "released");
        assert_eq!(outcome(&place.lock.acquire_async().await), "held");
    });
    assert!(place.is_empty());
}

#[test]
fn control_forgotten_future_is_caught() {
    let place = Place::new();
    let _holder = Participant::holding(place.path());
    let wrong = wrong_after(&place, 1, in_a_task, std::mem::forget);
    assert_eq!(wrong, ["1 open", "1 watched"]);
}

/// The control: with a blocking wait the thread stays when the future is dropped, and later takes
/// the lock. In the model it is the variant `timed-out-waiter-stays`.
#[test]
fn control_wait_left_to_a_thread_is_caught() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let in_a_thread = |lock: Lock| -> Acquiring {
        let thread = tokio::task::spawn_blocking(move || lock.acquire());
        Box::pin(async { thread.await.expect("no panic") })
    };
    let wrong = wrong_after(&place, 1, in_a_thread, |acquire| {
        wait_until("the thread is at the file", || open_and_watched(place.path()) == (1, 1));
        drop(acquire);
    });
    assert_eq!(wrong, ["1 open", "1 watched"]);
    // The thread acquires, and releases because its result is unused.
    assert_eq!(holder.request("release"), "released");
    wait_until("the thread has released it", || {
        place.is_empty() && open_and_watched(place.path()).0 == 0
    });
}
