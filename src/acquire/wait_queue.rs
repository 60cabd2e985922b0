//! The wait queue: of the waiters of this process for one lock, threads or tasks, one is at its
//! file.
//!
//! If all were, a release would wake all of them for one to get the lock, and each would have its
//! descriptors open. Those behind have none, and come to the front in the order in which they came.
//! Threads and tasks are in two queues: a task that is not polled keeps no thread back.
//!
//! Nothing rests on it. A new waiter tries the lock before it waits for its turn, and one that is
//! behind looks at the lock every second anyway: the one in front of it may be in a future that is
//! not polled, while the lock is free. To the machine each of these is another try.
//!
//! Wakers are other code's: to clone, drop or wake one may come back here. None of that happens
//! while the queues are locked.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicPtr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::sys::{Backoff, Deadline, Origin, per_process::PerProcess, process};

/// The longest that a waiter that is behind goes without a look. As where events of a file are kept.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Waiter {
    Thread,
    #[cfg_attr(not(feature = "tokio"), allow(dead_code))]
    Task,
}

/// A place in the queue of the waiters of this process for the same path. It is given up on drop,
/// and the waiter that is in front then is woken.
#[derive(Debug)]
pub(crate) struct Ticket {
    queue: (Arc<Path>, Waiter),
    number: u64,
    /// A forked child has no queue that its parent's waiters are in.
    origin: Origin,
}

impl Ticket {
    pub(crate) fn join(path: Arc<Path>, waiter: Waiter) -> Self {
        let (queue, origin) = ((path, waiter), Origin::here());
        let mut queues = queues();
        let waiting = queues.entry(queue.clone()).or_default();
        let number = waiting.last_key_value().map_or(0, |(last, _)| last + 1);
        waiting.insert(number, Waker::noop().clone());
        drop(queues);
        Self { queue, number, origin }
    }

    pub(crate) fn is_in_front(&self) -> bool {
        !self.origin.is_here() || self.is_first(queues().get(&self.queue))
    }

    fn is_first(&self, waiting: Option<&Queue>) -> bool {
        let first = waiting.and_then(Queue::first_key_value);
        first.is_none_or(|(&first, _)| first == self.number)
    }

    /// Ready once it is in front, for which `waker` will be woken.
    fn poll(&self, waker: &Waker) -> Poll<()> {
        if !self.origin.is_here() {
            return Poll::Ready(());
        }
        // Declared before the lock, hence dropped after it.
        let mut waker = waker.clone();
        let mut queues = queues();
        if self.is_first(queues.get(&self.queue)) {
            return Poll::Ready(());
        }
        let known = queues.get_mut(&self.queue).and_then(|waiting| waiting.get_mut(&self.number));
        if let Some(known) = known {
            std::mem::swap(known, &mut waker);
        }
        Poll::Pending
    }

    /// Blocks until it is in front, or a look is due, or `deadline` is over; or for nothing.
    pub(crate) fn park(&self, deadline: &Deadline) {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        if self.poll(&waker).is_pending() {
            thread::park_timeout(Self::recheck(deadline));
        }
    }

    /// Waits until it is in front, or a look is due, or `deadline` is over.
    #[cfg(feature = "tokio")]
    pub(crate) async fn advance(&self, deadline: &Deadline) {
        let turn = std::future::poll_fn(|cx| self.poll(cx.waker()));
        let turn = tokio::time::timeout(Self::recheck(deadline), turn);
        // Its place is kept from one call to the next.
        let _ = deadline.unless_cancelled(turn).await;
    }

    fn recheck(deadline: &Deadline) -> Duration {
        Backoff::from(RECHECK_INTERVAL).next(RECHECK_INTERVAL, deadline)
    }

    /// Leaves the queue. Returns its own waker and that of the waiter which is in front then.
    fn leave(&self) -> [Option<Waker>; 2] {
        let mut queues = queues();
        let Some(waiting) = queues.get_mut(&self.queue) else { return [None, None] };
        let own = waiting.remove(&self.number);
        // From the middle it wakes one that knows its turn, or has yet to come to its poll.
        let next = waiting
            .first_entry()
            .map(|mut first| std::mem::replace(first.get_mut(), Waker::noop().clone()));
        if next.is_none() {
            queues.remove(&self.queue);
        }
        [own, next]
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.origin.is_here() {
            let [_own, next] = self.leave();
            next.into_iter().for_each(Waker::wake);
        }
    }
}

/// Wakes a thread from [`Ticket::park`].
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Those that wait, in the order in which they came, and how to wake them.
type Queue = BTreeMap<u64, Waker>;
type Queues = BTreeMap<(Arc<Path>, Waiter), Queue>;

fn queues() -> MutexGuard<'static, Queues> {
    static QUEUES: PerProcess<Mutex<Queues>> =
        PerProcess::new(AtomicPtr::new(std::ptr::null_mut()));
    // Nothing is done while it is locked that can panic.
    let queues = QUEUES.get(process::generation(), Mutex::default);
    queues.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(unix)]
    use crate::sys::in_time::in_time;
    use crate::sys::wakes::Wakes;

    fn path(name: &str) -> Arc<Path> {
        Path::new("/turns").join(name).into()
    }

    fn has_queue(path: &Arc<Path>) -> bool {
        queues().contains_key(&(Arc::clone(path), Waiter::Thread))
    }

    #[test]
    fn waiters_come_to_the_front_in_order() {
        let line = path("of-one");
        let join = || Ticket::join(Arc::clone(&line), Waiter::Thread);
        let [first, second, third, fourth] = [(); 4].map(|()| join());
        assert!(Ticket::join(path("of-another"), Waiter::Thread).is_in_front());
        assert!(Ticket::join(Arc::clone(&line), Waiter::Task).is_in_front());
        let counts = [(); 3].map(|()| Arc::new(Wakes::default()));
        let woken = || counts.each_ref().map(|count| count.so_far());
        for (place, count) in [&second, &third, &fourth].into_iter().zip(&counts) {
            assert!(place.poll(&Waker::from(Arc::clone(count))).is_pending());
        }
        assert!(first.is_in_front());
        drop(first);
        assert_eq!(woken(), [1, 0, 0]);
        assert!(second.is_in_front() && !third.is_in_front());
        assert!(third.poll(&Waker::from(Arc::clone(&counts[1]))).is_pending());
        // One that leaves from the middle is skipped.
        drop(third);
        drop(second);
        assert_eq!(woken(), [1, 0, 1]);
        let fifth = join();
        assert!(fourth.is_in_front() && !fifth.is_in_front());
        drop(fourth);
        assert!(fifth.is_in_front() && has_queue(&line));
        drop(fifth);
        assert!(!has_queue(&line));
    }

    #[test]
    fn queued_thread_sleeps_until_turn_or_limit() {
        let line = path("of-threads");
        let first = Ticket::join(Arc::clone(&line), Waiter::Thread);
        let second = Ticket::join(line, Waiter::Thread);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let deadline = Deadline::within(Some(Duration::from_secs(60)), None);
                while !second.is_in_front() && !deadline.is_late() {
                    second.park(&deadline);
                }
                assert!(second.is_in_front());
            });
            drop(first);
            waiting.join().expect("no panic");
        });
        let third = Ticket::join(Arc::clone(&second.queue.0), Waiter::Thread);
        let deadline = Deadline::within(Some(Duration::from_millis(20)), None);
        // It may also wake for nothing, which it hardly ever does.
        let parks = std::iter::repeat_with(|| third.park(&deadline));
        assert!(parks.take_while(|()| !deadline.is_late()).count() < 100, "it does not sleep");
        assert!(!third.is_in_front());
    }

    #[test]
    fn woken_thread_does_not_park() {
        Waker::from(Arc::new(Unpark(thread::current()))).wake();
        #[expect(clippy::disallowed_methods, reason = "measures")]
        let begun = std::time::Instant::now();
        thread::park_timeout(Duration::from_secs(10));
        assert!(begun.elapsed() < Duration::from_secs(5), "it was not woken");
    }

    #[test]
    #[cfg(feature = "tokio")]
    fn a_waiter_behind_an_unpolled_one_rechecks() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let line = path("behind");
        let _unpolled = Ticket::join(Arc::clone(&line), Waiter::Task);
        let behind = Ticket::join(line, Waiter::Task);
        runtime.expect("a runtime").block_on(async {
            let deadline = Deadline::default();
            let minute = Duration::from_secs(60);
            let rechecks = tokio::time::timeout(minute, behind.advance(&deadline)).await;
            rechecks.expect("it rechecks by itself");
        });
        assert!(!behind.is_in_front());
    }

    /// A waker that asks for a place in the queue as it wakes or goes, as one may that keeps a task
    /// alive.
    #[cfg(unix)]
    struct Reentrant(Arc<Ticket>);

    #[cfg(unix)]
    impl Wake for Reentrant {
        fn wake(self: Arc<Self>) {
            let _ = self.0.is_in_front();
        }
    }

    #[cfg(unix)]
    impl Drop for Reentrant {
        fn drop(&mut self) {
            let _ = self.0.is_in_front();
        }
    }

    #[test]
    #[cfg(unix)]
    fn wakers_run_while_the_queues_are_unlocked() {
        // If not, they stay locked.
        let name = "acquire::wait_queue::tests::wakers_run_while_the_queues_are_unlocked";
        crate::sys::forked::alone(name, || {
            in_time(|| {
                let queue = path("of-wakers");
                let join = || Ticket::join(Arc::clone(&queue), Waiter::Task);
                let [front, behind, other] = [(); 3].map(|()| join());
                let other = Arc::new(other);
                let waker = || Waker::from(Arc::new(Reentrant(Arc::clone(&other))));
                // Replaced by another, and taken along by the waiter that leaves.
                assert!(behind.poll(&waker()).is_pending() && behind.poll(&waker()).is_pending());
                drop(behind);
                // Revalidating by the waiter in front that leaves.
                assert!(other.poll(&waker()).is_pending());
                drop(front);
            });
        });
    }
}
