//! What ends a wait before its time.

use std::io;

use crate::os::cancel::Cancellation;

/// Ends waits: [`Lock::acquire_unless`](crate::Lock::acquire_unless) takes one, and another thread
/// tells it.
///
/// Clones are one. Once told it stays told, and ends every wait that it is given.
///
/// ```
/// # let home = tempfile::tempdir()?;
/// # let lock = portlock::LockDir::at(home.path()).port(5338)?;
/// # let _guard = lock.try_acquire()?;
/// let cancel = portlock::Cancel::new()?;
/// let waiter = cancel.clone();
/// let waits = std::thread::spawn(move || lock.acquire_unless(&waiter, None));
/// cancel.tell();
/// assert!(waits.join().unwrap().unwrap_err().is_held());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Cancel(Cancellation);

impl Cancel {
    /// One that has not been told. Takes two file descriptors until the last clone is dropped.
    ///
    /// # Errors
    ///
    /// Any error of making them: `EMFILE`, `ENFILE`.
    pub fn new() -> io::Result<Self> {
        Cancellation::new().map(Self)
    }

    /// One that is told when `told` becomes readable, or its other end is closed: a pipe that a
    /// signal handler writes to, an `eventfd`, a socket. It is never read from.
    #[cfg(unix)]
    pub fn when_readable(told: impl Into<std::os::fd::OwnedFd>) -> Self {
        Self(Cancellation::when_readable(told.into()))
    }

    /// Ends the waits. Does not block. Nothing follows of what was made by
    /// [`when_readable`](Self::when_readable).
    pub fn tell(&self) {
        self.0.tell();
    }

    /// Whether it has been told.
    pub fn is_told(&self) -> bool {
        self.0.is_told()
    }

    pub(crate) fn within(&self) -> &Cancellation {
        &self.0
    }
}
