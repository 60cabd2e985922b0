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
//! runs to its end in the drop: our new file is withdrawn, the file closed, and nothing is left that
//! would take the lock later.
//!
//! # Why the model needs no step for it
//!
//! A drop is a driver's decision that the machine asks for and the model has: [`Pausing::give_up`],
//! and [`Listen::Over`] in reply to a `listen`. That a drop can come between any two polls adds
//! nothing, because the model lets others make any number of calls before either. At `Refused`
//! nothing is open, and to stop there is the end of any refused acquire. An await that ends for
//! nothing (a timer, a queue's readiness for an earlier file, a turn) is an event for nothing, or
//! another try, which the model lets come at any time. What would be wrong is to leave a wait
//! behind that takes the lock for no caller: the model's variant `timed-out-waiter-stays`, which
//! tests/tasks brings to this driver's tests as well.
//!
//! [`Pausing::give_up`]: crate::protocol::Pausing::give_up
//! [`Listen::Over`]: crate::protocol::Listen::Over

use scopeguard::{ScopeGuard, guard};

use crate::acquire::driver::{Driver, Step};
use crate::acquire::wait::WaitOptions;
use crate::acquire::wait_queue::Waiter;
use crate::error::AcquireError;
use crate::guard::Guard;
use crate::lock::Lock;
use crate::sys;

impl Lock {
    /// Acquires the lock in a task of tokio, and waits for as long as it is held. No thread waits with
    /// it. With feature `tokio`.
    ///
    /// It is **cancel-safe**: dropped at any moment, its future leaves nothing open and nothing that
    /// would take the lock later. So anything that ends the wait can be an arm of `select!` next to
    /// it. A limit at whose end the holder is reported is
    /// [`acquire_async_with`](Self::acquire_async_with). Futures that borrow nothing own a clone of
    /// the lock: `async move { lock.acquire_async().await }`.
    ///
    /// It is woken as [`acquire_timeout`](Self::acquire_timeout) is: on Linux, macOS and FreeBSD by
    /// events of the file, as far as the user's number of inotify queues reaches; beyond that, and
    /// on Windows, it looks again at intervals that grow to 10 ms. tokio counts its time in
    /// milliseconds, and so the short pauses become one or two.
    ///
    /// Of the tasks of one process that wait for the same path one is at the file, with two
    /// descriptors open, and the others have none. They follow it in the order in which they came,
    /// though a new caller may get a lock that is just free before them, as may another process.
    /// While the future that is in front is not polled, the others find a free lock within a second.
    ///
    /// In a forked child a pending future of its parent's is a copy. Dropped there it changes nothing;
    /// polled there it begins as an acquire of the child's.
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
    /// Same as [`try_acquire`](Self::try_acquire), but never [`AcquireError::Held`].
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
    /// let lock = portlock::LockDir::at(home.path()).port(5338)?;
    /// let guard = lock.acquire_async().await?;
    ///
    /// let waiter = lock.clone();
    /// let waiter = tokio::spawn(async move { waiter.acquire_async().await });
    /// guard.release()?;
    /// let guard = waiter.await??;
    /// # drop(guard);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn acquire_async(&self) -> Result<Guard, AcquireError> {
        self.acquire_async_with(WaitOptions::new()).await
    }

    /// Acquires the lock in a task of tokio, and waits as `options` say: same as
    /// [`acquire_async`](Self::acquire_async), except that it may end earlier. With feature `tokio`.
    ///
    /// A task that waits with a token has one more descriptor open. On Windows a cancelled token is
    /// noticed within 10 ms.
    ///
    /// # Errors
    ///
    /// Same as [`try_acquire`](Self::try_acquire), with [`AcquireError::Timeout`] or
    /// [`AcquireError::Cancelled`] in the place of [`AcquireError::Held`].
    ///
    /// # Panics
    ///
    /// Same as [`acquire_async`](Self::acquire_async).
    ///
    /// # Examples
    ///
    /// ```
    /// # let home = tempfile::tempdir()?;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    /// # runtime.block_on(async {
    /// use std::time::Duration;
    /// use portlock::WaitOptions;
    ///
    /// let lock = portlock::LockDir::at(home.path()).port(5338)?;
    /// let _guard = lock.acquire_async().await?;
    /// // Held by us: the next one gives up after a time, and reports the holder.
    /// let options = WaitOptions::new().timeout(Duration::from_millis(10));
    /// let error = lock.acquire_async_with(options).await.unwrap_err();
    /// assert_eq!(error.held().unwrap().holder.as_ref().unwrap().pid, std::process::id());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn acquire_async_with(
        &self,
        options: WaitOptions<'_>,
    ) -> Result<Guard, AcquireError> {
        sys::require_a_runtime();
        driven(Driver::waiting(self, options, Waiter::Task).go_on()).await
    }
}

/// Drives it to its end, from where it first waits.
pub(crate) async fn driven(mut step: Step<'_>) -> Result<Guard, AcquireError> {
    loop {
        step = match step {
            Step::Ended(ended) => return ended,
            Step::Sleep(driver, pause) => {
                let mut waiting = guard(driver, Driver::give_up);
                waiting.sleep_in_task(pause).await;
                ScopeGuard::into_inner(waiting).tried_again()
            }
            Step::Queue(driver) => {
                let mut waiting = guard(driver, Driver::give_up);
                waiting.queue_in_task().await;
                ScopeGuard::into_inner(waiting).tried_again()
            }
            Step::Listen(driver) => {
                let mut waiting = guard(driver, Driver::give_up);
                let heard = waiting.listen_in_task().await;
                ScopeGuard::into_inner(waiting).heard(heard)
            }
        };
    }
}
