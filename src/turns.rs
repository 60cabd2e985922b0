//! Turns: of the waiters of this process for one lock, threads or tasks, one is at its file.
//!
//! If all were, a release would wake all of them for one to get the lock, and each would have its
//! descriptors open. Those behind have none, and come to the front in the order in which they came.
//! Threads and tasks stand in two lines: what a task does not poll keeps no thread back.
//!
//! Nothing rests on it. Whoever comes tries the lock before it waits for its turn, and who is behind
//! looks at the lock all the same every second: the one in front of it may be in a future that
//! nobody polls, while the lock is free. To the machine each of these is another try.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicPtr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::os::{Pauses, Until, per_process::PerProcess, process};

/// The longest that one who is behind goes without a look. As where events of a file are kept.
const LOOK: Duration = Duration::from_secs(1);

/// Who stands in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Waiter {
    Thread,
    #[cfg_attr(not(feature = "tokio"), allow(dead_code))]
    Task,
}

/// A place in the line of those of this process that wait for the same path. It is given up on
/// drop, and whoever is in front then is told.
#[derive(Debug)]
pub(crate) struct Place {
    line: (Arc<Path>, Waiter),
    ticket: u64,
    /// Of which process: what a forked child drops of its parent's is not its own.
    generation: usize,
}

impl Place {
    pub(crate) fn join(path: Arc<Path>, waiter: Waiter) -> Self {
        let (line, generation) = ((path, waiter), process::generation());
        let mut lines = lines(generation);
        let waiting = lines.entry(line.clone()).or_default();
        let ticket = waiting.last_key_value().map_or(0, |(last, _)| last + 1);
        waiting.insert(ticket, Waker::noop().clone());
        drop(lines);
        Self { line, ticket, generation }
    }

    pub(crate) fn is_in_front(&self) -> bool {
        self.poll(Waker::noop()).is_ready()
    }

    /// Ready once it is in front, which `waker` will be told.
    fn poll(&self, waker: &Waker) -> Poll<()> {
        // A forked child has no line that its parent's threads are in.
        if self.generation != process::generation() {
            return Poll::Ready(());
        }
        let mut lines = lines(self.generation);
        let Some(waiting) = lines.get_mut(&self.line) else { return Poll::Ready(()) };
        if waiting.first_key_value().is_none_or(|(&first, _)| first == self.ticket) {
            return Poll::Ready(());
        }
        waiting.insert(self.ticket, waker.clone());
        Poll::Pending
    }

    /// Blocks until it is in front, or a look is due, or `until` is over; or for nothing.
    pub(crate) fn park(&self, until: &Until) {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        if self.poll(&waker).is_pending() {
            thread::park_timeout(Pauses::from(LOOK).next(LOOK, until));
        }
    }

    /// Waits until it is in front, or a look is due.
    #[cfg(feature = "tokio")]
    pub(crate) async fn advance(&self) {
        let look = Pauses::from(LOOK).next(LOOK, &Until::default());
        let turn = std::future::poll_fn(|cx| self.poll(cx.waker()));
        // Its place is kept from one call to the next.
        let _ = tokio::time::timeout(look, turn).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.generation != process::generation() {
            return;
        }
        let mut lines = lines(self.generation);
        let Some(waiting) = lines.get_mut(&self.line) else { return };
        waiting.remove(&self.ticket);
        let next = match waiting.first_entry() {
            // From the middle of the line it tells one who knows it, or has yet to come to its poll.
            Some(mut first) => std::mem::replace(first.get_mut(), Waker::noop().clone()),
            None => {
                lines.remove(&self.line);
                return;
            }
        };
        drop(lines);
        // Whatever a runtime does here, it does not do it while the lines are locked.
        next.wake();
    }
}

/// Wakes a thread from [`Place::park`].
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// For each path and kind, those who wait in the order in which they came, and how to wake them.
type Lines = BTreeMap<(Arc<Path>, Waiter), BTreeMap<u64, Waker>>;

fn lines(generation: usize) -> MutexGuard<'static, Lines> {
    static LINES: PerProcess<Mutex<Lines>> = PerProcess::new(AtomicPtr::new(std::ptr::null_mut()));
    // Nothing is done while it is locked that can panic.
    LINES.get(generation, Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn path(name: &str) -> Arc<Path> {
        Path::new("/turns").join(name).into()
    }

    fn is_known(path: &Arc<Path>) -> bool {
        lines(process::generation()).contains_key(&(Arc::clone(path), Waiter::Thread))
    }

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Count {
        fn told(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn one_is_in_front_and_the_next_follows_it_in_order_and_the_last_leaves_nothing() {
        let line = path("of-one");
        let join = || Place::join(Arc::clone(&line), Waiter::Thread);
        let [first, second, third, fourth] = [(); 4].map(|()| join());
        assert!(Place::join(path("of-another"), Waiter::Thread).is_in_front());
        assert!(Place::join(Arc::clone(&line), Waiter::Task).is_in_front());
        let counts = [(); 3].map(|()| Arc::new(Count::default()));
        let told = || counts.each_ref().map(|count| count.told());
        for (place, count) in [&second, &third, &fourth].into_iter().zip(&counts) {
            assert!(place.poll(&Waker::from(Arc::clone(count))).is_pending());
        }
        assert!(first.is_in_front());
        drop(first);
        assert_eq!(told(), [1, 0, 0]);
        assert!(second.is_in_front() && !third.is_in_front());
        assert!(third.poll(&Waker::from(Arc::clone(&counts[1]))).is_pending());
        // Who leaves from the middle is skipped.
        drop(third);
        drop(second);
        assert_eq!(told(), [1, 0, 1]);
        let fifth = join();
        assert!(fourth.is_in_front() && !fifth.is_in_front());
        drop(fourth);
        assert!(fifth.is_in_front() && is_known(&line));
        drop(fifth);
        assert!(!is_known(&line));
    }

    #[test]
    fn a_thread_behind_sleeps_until_its_turn_and_no_longer_than_its_limit() {
        let line = path("of-threads");
        let first = Place::join(Arc::clone(&line), Waiter::Thread);
        let second = Place::join(line, Waiter::Thread);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                while !second.is_in_front() {
                    second.park(&Until::default());
                }
            });
            drop(first);
            waiting.join().expect("no panic");
        });
        let third = Place::join(Arc::clone(&second.line.0), Waiter::Thread);
        #[expect(clippy::disallowed_methods, reason = "the end has come")]
        let end = Some(std::time::Instant::now());
        third.park(&Until { end, cancelled: None });
        assert!(!third.is_in_front());
    }

    #[test]
    #[cfg(feature = "tokio")]
    fn who_is_behind_one_that_nobody_polls_looks_all_the_same() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let line = path("behind");
        let _unpolled = Place::join(Arc::clone(&line), Waiter::Task);
        let behind = Place::join(line, Waiter::Task);
        runtime.expect("a runtime").block_on(behind.advance());
        assert!(!behind.is_in_front());
    }
}
