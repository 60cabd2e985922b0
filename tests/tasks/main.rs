//! Waits in tokio tasks: woken by the release or the death of the holder, or ended by a drop that
//! leaves no pending acquire. No thread waits.
//!
//! `tests/waiting.rs` tests waits of tasks together with waits of threads, and tasks that wait
//! without an event queue.

#[path = "../participant/mod.rs"]
mod participant;

#[cfg(target_os = "linux")]
mod crowd;
#[cfg(target_os = "linux")]
mod descriptors;
#[cfg(target_os = "linux")]
mod drops;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use portlock::{AcquireError, CancelToken, Guard, Lock, WaitOptions};

use participant::{Participant, Place, must_return, old_record, outcome, reclaimed_from, runtime};

const HOUR: Duration = Duration::from_secs(3600);

/// Longer than any wait here takes.
const MINUTE: Duration = Duration::from_secs(60);

/// What a future returns, in bounded time.
#[track_caller]
fn block_on<F: Future>(runtime: &Runtime, future: F) -> F::Output {
    must_return("a future", || runtime.block_on(future))
}

/// A runtime of each kind.
fn runtimes() -> [Runtime; 2] {
    [
        runtime(),
        Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("another"),
    ]
}

/// Acquires in a spawned task. Returns after its first poll.
async fn spawned(lock: &Lock) -> tokio::task::JoinHandle<Result<Guard, AcquireError>> {
    spawned_with(lock, WaitOptions::new()).await
}

async fn spawned_with(
    lock: &Lock,
    options: WaitOptions<'static>,
) -> tokio::task::JoinHandle<Result<Guard, AcquireError>> {
    let lock = lock.clone();
    let (polled, is_polled) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let mut acquire = pin!(lock.acquire_async_with(options));
        let first = std::future::poll_fn(|cx| Poll::Ready(acquire.as_mut().poll(cx))).await;
        polled.send(()).expect("the test waits");
        match first {
            Poll::Ready(ended) => ended,
            Poll::Pending => acquire.await,
        }
    });
    is_polled.await.expect("it was polled");
    task
}

#[test]
fn release_wakes_task_whose_guard_changes_thread() {
    for runtime in runtimes() {
        let place = Place::new();
        let mut holder = Participant::holding(place.path());
        let guard = block_on(&runtime, async {
            let task = spawned(&place.lock).await;
            assert_eq!(holder.request("release"), "released");
            timeout(HOUR, task).await.expect("in time").expect("no panic").expect("held")
        });
        assert!(
            guard.is_still_held().expect("it can be checked") && guard.recovered_from().is_none()
        );
        let released = std::thread::spawn(|| guard.release());
        released.join().expect("no panic").expect("released");
        assert!(place.is_empty());
    }
}

#[test]
fn death_of_holder_wakes_task_and_is_reported() {
    for runtime in runtimes() {
        let place = Place::new();
        let mut holder = Participant::holding(place.path());
        let acquired = block_on(&runtime, async {
            let task = spawned(&place.lock).await;
            holder.kill();
            task.await.expect("no panic")
        });
        assert_eq!(outcome(&acquired), reclaimed_from(holder.pid()));
    }
}

#[test]
fn first_poll_acquires_a_free_or_stale_lock() {
    let _within = runtime();
    let _within = _within.enter();
    let place = Place::new();
    let once = || {
        let mut acquire = pin!(place.lock.acquire_async());
        match acquire.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(acquired) => outcome(&acquired),
            Poll::Pending => "pending".to_owned(),
        }
    };
    assert_eq!(once(), "held");
    let mut holder = Participant::holding(place.path());
    assert_eq!(once(), "pending");
    holder.kill();
    assert_eq!(once(), reclaimed_from(holder.pid()));
}

#[test]
fn timeout_reports_the_holder() {
    for runtime in runtimes() {
        let place = Place::new();
        let holder = Participant::holding(place.path());
        let options = WaitOptions::new().timeout(Duration::from_millis(20));
        let acquire = async { timeout(MINUTE, place.lock.acquire_async_with(options)).await };
        let timed_out = block_on(&runtime, acquire).expect("in time");
        assert_eq!(outcome(&timed_out), format!("timed out, held by pid {}", holder.pid()));
    }
}

/// The first waits at the file, the others in the queue.
#[test]
fn one_token_ends_the_waits_of_many_tasks() {
    for runtime in runtimes() {
        let place = Place::new();
        let mut holder = Participant::holding(place.path());
        let token = CancelToken::new().expect("a token");
        block_on(&runtime, async {
            let mut tasks = Vec::new();
            for _ in 0..3 {
                let options = WaitOptions::new().cancel_token(&token);
                tasks.push(spawned_with(&place.lock, options).await);
            }
            token.cancel();
            for task in tasks {
                let cancelled = timeout(MINUTE, task).await.expect("in time").expect("no panic");
                assert_eq!(outcome(&cancelled), format!("cancelled, held by pid {}", holder.pid()));
            }
        });
        #[cfg(target_os = "linux")]
        assert_eq!(descriptors::open_and_watched(place.path()), (0, 0));
        assert_eq!(holder.request("release"), "released");
        assert_eq!(outcome(&place.try_acquire()), "held");
    }
}

#[test]
fn task_timeout_leaves_nothing_pending() {
    for runtime in runtimes() {
        let place = Place::new();
        let mut holder = Participant::holding(place.path());
        block_on(&runtime, async {
            let timed_out = timeout(Duration::from_millis(20), place.lock.acquire_async()).await;
            assert!(timed_out.is_err());
            let status = place.lock.status().expect("it can be checked");
            assert_eq!(status.holder().map(|holder| holder.pid), Some(holder.pid()));
            assert_eq!(holder.request("release"), "released");
            assert!(place.is_empty());
            let acquired = timeout(HOUR, place.lock.acquire_async()).await.expect("in time");
            assert_eq!(outcome(&acquired), "held");
        });
    }
}

/// A legacy agent takes no kernel lock, so no event reports its end.
#[test]
fn live_legacy_agent_is_polled() {
    let place = Place::new();
    let mut agent = Participant::start();
    fs::write(place.path(), old_record(agent.pid(), SystemTime::now())).expect("the agent's file");
    let acquired = block_on(&runtime(), async {
        let task = spawned(&place.lock).await;
        let behind = spawned(&place.lock).await;
        agent.kill();
        let first = task.await.expect("no panic");
        assert_eq!(outcome(&first), reclaimed_from(agent.pid()));
        drop(first);
        behind.await.expect("no panic")
    });
    assert_eq!(outcome(&acquired), "held");
}

#[test]
fn unpolled_future_in_front_blocks_no_acquire() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let acquired = block_on(&runtime(), async {
        let mut unpolled = pin!(place.lock.acquire_async());
        assert!(timeout(Duration::ZERO, unpolled.as_mut()).await.is_err());
        let behind = spawned(&place.lock).await;
        assert_eq!(holder.request("release"), "released");
        behind.await.expect("no panic")
    });
    assert_eq!(outcome(&acquired), "held");
}

#[test]
fn failure_ends_the_wait_at_once() {
    let home = tempfile::tempdir().expect("a directory");
    let error = block_on(&runtime(), Lock::at(home.path()).acquire_async());
    assert!(matches!(&error, Err(AcquireError::NotALockFile { .. })), "{error:?}");
}

#[test]
fn missing_runtime_timers_or_io_panics_without_effects() {
    let place = Place::new();
    let panics = || {
        let mut acquire = Box::pin(place.lock.acquire_async());
        let mut context = Context::from_waker(Waker::noop());
        let polled = catch_unwind(AssertUnwindSafe(|| acquire.as_mut().poll(&mut context)));
        assert!(place.is_empty());
        polled.is_err()
    };
    assert!(panics(), "there is no runtime");
    let mut lacking = vec![Builder::new_current_thread().build()];
    if cfg!(unix) {
        lacking.push(Builder::new_current_thread().enable_time().build());
        lacking.push(Builder::new_current_thread().enable_io().build());
    }
    for lacking in lacking {
        let lacking = lacking.expect("a runtime");
        let _within = lacking.enter();
        assert!(panics(), "{lacking:?}");
    }
}

#[test]
fn future_and_guard_are_send() {
    fn sendable<T: Send + 'static>(value: T) -> T {
        value
    }
    let place = Place::new();
    let lock = place.lock.clone();
    let acquire = sendable(async move { lock.acquire_async().await });
    let guard = block_on(&runtime(), acquire).expect("free");
    sendable(guard).release().expect("released");
}
