//! When a wait ends, and the pauses in it.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::cancel::Cancellation;

/// When a wait ends, other than by what is waited for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deadline {
    /// At this time.
    pub(crate) end: Option<Instant>,
    /// When this is cancelled.
    pub(crate) cancelled: Option<Cancellation>,
}

impl Deadline {
    /// In so long; never, if that is beyond the clock's range.
    pub(crate) fn within(limit: Option<Duration>, cancelled: Option<Cancellation>) -> Self {
        Self { end: limit.and_then(|limit| Instant::now().checked_add(limit)), cancelled }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_late() || self.is_cancelled()
    }

    /// Whether the time has passed.
    pub(crate) fn is_late(&self) -> bool {
        self.end.is_some_and(|end| end <= Instant::now())
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.as_ref().is_some_and(Cancellation::is_cancelled)
    }

    /// What is left of `pause` before the time has passed.
    pub(crate) fn at_most(&self, pause: Duration) -> Duration {
        match self.end {
            Some(end) => pause.min(end.saturating_duration_since(Instant::now())),
            None => pause,
        }
    }

    /// For so long, or until it is cancelled.
    pub(crate) fn sleep(&self, pause: Duration) {
        match &self.cancelled {
            Some(cancelled) => {
                cancelled.sleep(pause);
            }
            None => std::thread::sleep(pause),
        }
    }
}

/// In a task of tokio: blocks no thread.
#[cfg(feature = "tokio")]
impl Deadline {
    /// For so long, or until it is cancelled.
    pub(crate) async fn sleep_in_task(&self, pause: Duration) {
        self.unless_cancelled(tokio::time::sleep(pause)).await;
    }

    /// The output of `future`; `None` if it is cancelled first.
    pub(crate) async fn unless_cancelled<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        use std::pin::pin;
        use std::task::Poll;

        let Some(cancelled) = &self.cancelled else { return Some(future.await) };
        if cancelled.is_cancelled() {
            return None;
        }
        let (mut future, mut cancelled) = (pin!(future), pin!(cancelled.in_task()));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            cancelled.as_mut().poll(cx).map(|()| None)
        })
        .await
    }
}

/// The pauses between two tries or looks; each is twice the one before.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    pub(super) next: Duration,
}

impl Backoff {
    /// The first where something is about to happen: others need tens of microseconds for it.
    pub(crate) const FIRST: Duration = Duration::from_micros(50);

    /// The longest for a waiter that polls a holder: a hundred looks a second, each of at most
    /// 40 µs.
    pub(crate) const LONGEST_POLL: Duration = Duration::from_millis(10);

    pub(crate) fn from(first: Duration) -> Self {
        Self { next: first }
    }

    /// The next one, before the end of the time. Those that follow are no longer than `longest`.
    pub(crate) fn next(&mut self, longest: Duration, deadline: &Deadline) -> Duration {
        let pause = jittered(self.next);
        self.next = (self.next * 2).min(longest);
        deadline.at_most(pause)
    }
}

/// Half to the whole of a pause, so that participants which met once do not meet at every try.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + f64::from(jitter(super::process::pid())) / 1024.0)
}

/// From 0 to 511.
///
/// The hasher's keys change at each use, and are random for each process that was started. Forked
/// children continue with their parent's, all with the same, hence the pid.
fn jitter(pid: u32) -> u16 {
    (RandomState::new().hash_one(pid) % 512) as u16
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::sys::forked::in_a_child;
    use crate::sys::in_time::in_time;

    #[test]
    fn cancelled_wait_is_over_but_not_late() {
        let token = Cancellation::new().expect("a token");
        let deadline = Deadline { end: None, cancelled: Some(token.clone()) };
        assert!(!deadline.is_over());
        token.cancel();
        assert!(deadline.is_cancelled() && deadline.is_over() && !deadline.is_late());
        in_time(move || deadline.sleep(Duration::from_secs(86_400)));
    }

    #[test]
    fn pause_lasts() {
        let (began, pause) = (Instant::now(), Duration::from_millis(5));
        Deadline::default().sleep(pause);
        assert!(began.elapsed() >= pause);
    }

    /// Each from a child forked at the same moment in its parent's life.
    fn of_siblings(jitter: fn() -> u16) -> [Vec<u8>; 2] {
        [(); 2].map(|()| in_a_child(|| (0..8).flat_map(|_| jitter().to_ne_bytes()).collect()))
    }

    #[test]
    fn forked_siblings_have_jitter_of_their_own() {
        // Their parent has paused before.
        jitter(0);
        let [first, second] = of_siblings(|| jitter(crate::sys::process::pid()));
        assert_ne!(first, second);
        // The control: without the pid they pause in step.
        let [first, second] = of_siblings(|| jitter(0));
        assert_eq!(first, second);
    }
}

#[cfg(all(test, feature = "tokio"))]
mod tasks {
    use std::future::pending;

    use super::*;

    /// Waits with a token that is cancelled by `cancel` once the wait has begun.
    fn is_ended(cancelled: &Cancellation, cancel: impl FnOnce()) -> bool {
        let deadline = Deadline { end: None, cancelled: Some(cancelled.clone()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let waits = deadline.unless_cancelled(pending::<()>());
            let minute = tokio::time::timeout(Duration::from_secs(60), waits);
            let (ended, ()) = tokio::join!(minute, async { cancel() });
            ended == Ok(None)
        })
    }

    #[test]
    fn a_token_wakes_a_task() {
        let token = Cancellation::new().expect("a token");
        assert!(is_ended(&token, || token.cancel()));
        assert!(is_ended(&token, || ()), "it stays cancelled");
    }

    #[test]
    #[cfg(unix)]
    fn a_token_of_a_descriptor_wakes_a_task() {
        let (readable, writable) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let token = Cancellation::from_fd(readable.into());
        assert!(is_ended(&token, || drop(writable)), "its other end is closed");
    }
}
