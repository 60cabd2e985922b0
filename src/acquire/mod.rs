//! An acquire under way: what drives the machine, and how long it waits.

#[cfg(feature = "tokio")]
pub(crate) mod async_acquire;
pub(crate) mod backoff;
pub(crate) mod cancel;
pub(crate) mod driver;
pub(crate) mod wait;
pub(crate) mod wait_queue;

use std::time::Duration;

use crate::error::AcquireError;
use crate::guard::Guard;
use crate::lock::Lock;
use driver::Driver;
use wait::WaitOptions;
use wait_queue::Waiter;

impl Lock {
    /// Acquires the lock if it is free; reclaims it if its holder is dead.
    ///
    /// Does not wait for a holder. It may pause for about 30 ms in all, while other participants
    /// finish what they are doing.
    ///
    /// # Errors
    ///
    /// [`AcquireError::Held`] if another participant holds it, or may; see its variants for the rest.
    pub fn try_acquire(&self) -> Result<Guard, AcquireError> {
        Driver::trying(self).run()
    }

    /// Acquires the lock, and waits for as long as it is held: **blocks**.
    ///
    /// It waits in the kernel (`flock`), which wakes it when the holder releases or dies. A holder
    /// without a kernel lock (an agent of the old format, a holder on another machine, a filesystem
    /// without kernel locks) is looked at again at intervals that grow to 10 ms. A handled signal
    /// does not end the wait. Waiters of different processes are not served in order.
    ///
    /// It waits for the file that it found locked. If another program removes that file from under
    /// its holder, the wait still ends when that holder does. Of the threads of one process that
    /// wait for the same path one is at the file, and the others follow it in the order in which they
    /// came, though a new caller may get a lock that is just free before them.
    ///
    /// A process that already holds the lock waits for itself, without end.
    ///
    /// # Errors
    ///
    /// Same as [`try_acquire`](Self::try_acquire), but never [`AcquireError::Held`].
    pub fn acquire(&self) -> Result<Guard, AcquireError> {
        self.acquire_with(WaitOptions::new())
    }

    /// Acquires the lock, and waits for at most `limit` for its holder: **blocks**.
    ///
    /// On Linux it is woken when the holder releases or dies (inotify), as far as the user's number
    /// of watches reaches, on filesystems whose events cover all participants (not NFS, not FUSE); on
    /// macOS and FreeBSD too (kqueue); on Windows it waits for the kernel lock itself. Beyond that,
    /// and elsewhere, it looks again at intervals that grow to 10 ms. At the end of the time it has
    /// nothing open, and nothing is left that would take the lock later, but for the queue of
    /// inotify's events, which is kept for the next wait: a descriptor for each wait at the same
    /// time, at most 16. Threads of one process queue as in [`acquire`](Self::acquire), and with each
    /// other. With [`Duration::ZERO`] it does what [`try_acquire`](Self::try_acquire) does; a limit
    /// that ends beyond the clock's range is none.
    ///
    /// # Errors
    ///
    /// Same as [`try_acquire`](Self::try_acquire), with [`AcquireError::Timeout`] in the place of
    /// [`AcquireError::Held`].
    pub fn acquire_timeout(&self, limit: Duration) -> Result<Guard, AcquireError> {
        self.acquire_with(WaitOptions::new().timeout(limit))
    }

    /// Acquires the lock, and waits as `options` say: **blocks**.
    ///
    /// Without a limit and a token it waits as [`acquire`](Self::acquire) does, with a limit as
    /// [`acquire_timeout`](Self::acquire_timeout). With a token it waits as with a limit, but always
    /// at the file and never behind other threads. At the end of the wait nothing is open, and nothing
    /// is left that would take the lock later.
    ///
    /// # Errors
    ///
    /// Same as [`try_acquire`](Self::try_acquire), with [`AcquireError::Timeout`] or
    /// [`AcquireError::Cancelled`] in the place of [`AcquireError::Held`].
    pub fn acquire_with(&self, options: WaitOptions<'_>) -> Result<Guard, AcquireError> {
        Driver::waiting(self, options, Waiter::Thread).run()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_no_time_out() {
        let home = tempfile::tempdir().expect("a directory");
        let error = Lock::at(home.path()).acquire_timeout(Duration::from_secs(3600));
        let error = error.expect_err("a directory is no lock file");
        assert!(matches!(error, AcquireError::NotALockFile { .. }), "{error:?}");
    }
}
