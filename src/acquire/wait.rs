//! How a caller waits for a lock.

use std::fmt;
use std::time::Duration;

use crate::acquire::cancel::CancelToken;
use crate::error::held::Held;
use crate::sys::Deadline;

/// How to wait for a lock: for how long, what ends the wait, and what to call while it lasts. For
/// [`Lock::acquire_with`](crate::Lock::acquire_with) and, with feature `tokio`,
/// [`Lock::acquire_async_with`](crate::Lock::acquire_async_with).
///
/// Without any of them it waits for as long as it takes.
///
/// ```
/// # let home = tempfile::tempdir()?;
/// # let lock = portlock::LockDir::at(home.path()).port(5338)?;
/// use std::time::Duration;
/// use portlock::WaitOptions;
///
/// let options = WaitOptions::new()
///     .timeout(Duration::from_secs(30))
///     .on_wait(|held| eprintln!("waiting: {held}"));
/// let guard = lock.acquire_with(options)?;
/// # drop(guard);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
#[must_use = "they do nothing until a lock is acquired with them"]
pub struct WaitOptions<'a> {
    pub(crate) limit: Option<Duration>,
    pub(crate) cancel: Option<CancelToken>,
    pub(crate) on_wait: Option<OnWait<'a>>,
}

/// What is called when the holder is known.
pub(crate) type OnWait<'a> = Box<dyn FnMut(&Held) + Send + 'a>;

impl<'a> WaitOptions<'a> {
    /// Waits for as long as it takes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for at most `limit`, and then fails with
    /// [`AcquireError::Timeout`](crate::AcquireError::Timeout), which names the holder.
    ///
    /// With [`Duration::ZERO`] there is one try, as by
    /// [`try_acquire`](crate::Lock::try_acquire). A limit too large to represent waits
    /// indefinitely.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Waits until `token` is cancelled, and then fails with
    /// [`AcquireError::Cancelled`](crate::AcquireError::Cancelled), which names the holder.
    ///
    /// If it was cancelled before, there is one try.
    pub fn cancel_token(mut self, token: &CancelToken) -> Self {
        self.cancel = Some(token.clone());
        self
    }

    /// Calls `on_wait` with what is known of the holder: at once when a wait begins, and again when
    /// another holder is found. It is never called for a lock that is free.
    ///
    /// A waiter that is behind others of its process finds another holder within a second. `on_wait`
    /// runs where the acquire runs, in the thread or in the poll of the task, and delays it.
    pub fn on_wait(mut self, on_wait: impl FnMut(&Held) + Send + 'a) -> Self {
        self.on_wait = Some(Box::new(on_wait));
        self
    }

    /// When a wait that begins now ends; `None` if there is none.
    pub(crate) fn deadline(&self) -> Option<Deadline> {
        let cancelled = self.cancel.as_ref().map(|token| token.within().clone());
        (self.limit != Some(Duration::ZERO)).then(|| Deadline::within(self.limit, cancelled))
    }
}

impl fmt::Debug for WaitOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitOptions")
            .field("limit", &self.limit)
            .field("cancel", &self.cancel)
            .field("on_wait", &self.on_wait.as_ref().map(|_| ".."))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_keep_what_they_are_given() {
        let nothing = WaitOptions::new();
        assert!(nothing.limit.is_none() && nothing.cancel.is_none() && nothing.on_wait.is_none());
        assert_eq!(
            format!("{nothing:?}"),
            "WaitOptions { limit: None, cancel: None, on_wait: None }"
        );
        let (minute, token) =
            (Duration::from_secs(60), CancelToken::new().expect("two descriptors"));
        let options = WaitOptions::new().timeout(minute).cancel_token(&token).on_wait(|_| ());
        assert_eq!(options.limit, Some(minute));
        let shown = format!("{options:?}");
        assert!(shown.contains("limit: Some(60s), cancel: Some(CancelToken"), "{shown}");
        assert!(shown.ends_with("on_wait: Some(\"..\") }"), "{shown}");
        token.cancel();
        assert!(options.deadline().expect("it waits").is_cancelled());
    }

    #[test]
    fn zero_limit_is_no_wait() {
        assert!(WaitOptions::new().timeout(Duration::ZERO).deadline().is_none());
        assert!(WaitOptions::new().deadline().is_some_and(|deadline| deadline.end.is_none()));
    }
}
