//! An acquire in a task of tokio: the same machine through the same adapter, and no thread waits.
//!
//! Where the driver of a thread sleeps, this one awaits a timer; where that one blocks in `listen`,
//! this one awaits the readiness of the same queue of events, or the end of the same pause, and
//! brings the machine the reply. The calls of the filesystem are made in between, by the thread
//! that polls.
//!
//! # A future that is dropped
//!
//! It can be dropped wherever it awaits, which is where the machine lets time pass: at `Pausing`,
//! `Listening` or `Refused`. There the acquire gives up as one whose time is over, and the machine
//! runs to its end in the drop: our newborn is withdrawn, the file closed, and nothing is left that
//! would take the lock later.
//!
//! # Why the model needs no step for it
//!
//! A drop is a driver's decision that the machine asks for and the model has: [`Pausing::give_up`],
//! and [`Listen::Over`] in reply to a `listen`. That a drop can come between any two polls adds
//! nothing, since the model lets others make any number of calls before either. At `Refused`
//! nothing is open, and to stop there is the end of any refused acquire. An await that ends for
//! nothing (a timer, a queue's readiness for an earlier file, a turn) is an event for nothing, or
//! another try, which the model lets come at any time. What would be wrong is to leave a wait
//! behind that takes the lock for nobody: the model's variant `timed-out-waiter-stays`, which
//! tests/tasks brings to this driver's tests as well.
//!
//! [`Pausing::give_up`]: crate::protocol::Pausing::give_up
//! [`Listen::Over`]: crate::protocol::Listen::Over

use scopeguard::{ScopeGuard, guard};
use tokio::time::sleep;

use crate::attempt::{Attempt, Next};
use crate::error::AcquireError;
use crate::guard::Guard;
use crate::lock::Lock;
use crate::os;
use crate::patience::Limit;

impl Lock {
    /// Acquires the lock in a task of tokio, and waits for as long as somebody holds it. No thread
    /// waits with it. With feature `tokio`.
    ///
    /// It is **cancel-safe**: dropped at any moment, its future leaves nothing open and nothing that
    /// would take the lock later. So a limit is [`tokio::time::timeout`] around it, and anything
    /// else that ends the wait an arm of `select!` beside it. Who held the lock until then,
    /// [`status`](Self::status) tells. Futures that borrow nothing own a clone of the lock:
    /// `async move { lock.acquire_async().await }`.
    ///
    /// It is woken as [`acquire_timeout`](Self::acquire_timeout) is: on Linux, macOS and FreeBSD by
    /// events of the file, as far as the user's number of inotify queues reaches; beyond that, and
    /// on Windows, it looks again at intervals that grow to 10 ms. tokio counts its time in
    /// milliseconds, and so the short pauses become one or two.
    ///
    /// Of the tasks of one process that wait for the same path one is at the file, with two
    /// descriptors open, and the others have none. They follow it in the order in which they came,
    /// though whoever comes may get a lock that is just free before them, as may another process.
    /// While nobody polls the future that is in front, the others find a free lock within a second.
    ///
    /// # Blocking
    ///
    /// The thread that polls makes the calls of the filesystem itself, a few at a poll: tens of
    /// microseconds on a local disk, and for as long as the server takes on a network filesystem.
    /// So does a drop of the future or of the guard. On Windows the removal of a file that another
    /// program has open without sharing it is tried again for 0.1 s.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire), but never [`AcquireError::Held`].
    ///
    /// # Panics
    ///
    /// At its first poll, with nothing done, outside of a tokio runtime, or in one without timers
    /// or, on Unix, IO (`enable_all` of its builder gives both).
    ///
    /// # Examples
    ///
    /// ```
    /// # let home = tempfile::tempdir()?;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    /// # runtime.block_on(async {
    /// use std::time::Duration;
    /// use tokio::time::timeout;
    ///
    /// let lock = portlock::LockDir::at(home.path()).port(5338)?;
    /// let guard = lock.acquire_async().await?;
    /// // Held by us: the next one gives up after a time.
    /// assert!(timeout(Duration::from_millis(10), lock.acquire_async()).await.is_err());
    ///
    /// let waiter = lock.clone();
    /// let waiter = tokio::spawn(async move { waiter.acquire_async().await });
    /// guard.release()?;
    /// let guard = timeout(Duration::from_secs(60), waiter).await???;
    /// # drop(guard);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn acquire_async(&self) -> Result<Guard, AcquireError> {
        os::require_a_runtime();
        driven(Attempt::new(self, Limit::Task).go_on()).await
    }
}

/// Drives it to its end, from where it first waits.
pub(crate) async fn driven(mut next: Next<'_>) -> Result<Guard, AcquireError> {
    loop {
        next = match next {
            Next::Ended(ended) => return ended,
            Next::Sleep(attempt, pause) => {
                let mut waiting = guard(attempt, Attempt::give_up);
                match waiting.behind() {
                    Some(place) => place.advance().await,
                    None => sleep(pause).await,
                }
                ScopeGuard::into_inner(waiting).tried_again()
            }
            Next::Listen(attempt) => {
                let mut waiting = guard(attempt, Attempt::give_up);
                let heard = waiting.listen().await;
                ScopeGuard::into_inner(waiting).heard(heard)
            }
        };
    }
}
