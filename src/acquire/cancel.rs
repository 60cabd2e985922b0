//! What ends a wait before its time.

use std::io;

use crate::sys::cancel::Cancellation;

/// Ends waits that were given it by
/// [`WaitOptions::cancel_token`](crate::WaitOptions::cancel_token): another thread or task cancels.
///
/// Clones are one. Once cancelled it stays so, and ends every wait that it is given to.
///
/// ```
/// # let home = tempfile::tempdir()?;
/// # let lock = portlock::LockDir::at(home.path()).port(5338)?;
/// # let _guard = lock.try_acquire()?;
/// use portlock::{CancelToken, WaitOptions};
///
/// let token = CancelToken::new()?;
/// let options = WaitOptions::new().cancel_token(&token);
/// let waits = std::thread::spawn(move || lock.acquire_with(options));
/// token.cancel();
/// assert!(waits.join().unwrap().unwrap_err().is_held());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct CancelToken(Cancellation);

impl CancelToken {
    /// A token that is not cancelled. Takes two file descriptors until the last clone is dropped.
    ///
    /// # Errors
    ///
    /// Any error of making them: `EMFILE`, `ENFILE`.
    pub fn new() -> io::Result<Self> {
        Cancellation::new().map(Self)
    }

    /// A token that is cancelled when `readable` becomes readable, or its other end is closed: a
    /// pipe that a signal handler writes to, an `eventfd`, a socket.
    ///
    /// It is never read from, and nothing else should read from it: what another reader takes away
    /// before a wait or [`is_cancelled`](Self::is_cancelled) has seen it cancels nothing.
    #[cfg(unix)]
    pub fn from_fd(readable: impl Into<std::os::fd::OwnedFd>) -> Self {
        Self(Cancellation::from_fd(readable.into()))
    }

    /// Ends the waits. Does not block.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// Whether it has been cancelled. At most one system call, which does not block.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    pub(crate) fn within(&self) -> &Cancellation {
        &self.0
    }
}
