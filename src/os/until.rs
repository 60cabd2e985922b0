//! When a wait ends, and the pauses in it.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::cancel::Cancellation;

/// When a wait ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Until {
    /// At this time.
    pub(crate) end: Option<Instant>,
    /// When this is told.
    pub(crate) cancelled: Option<Cancellation>,
}

impl Until {
    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some_and(|end| end <= Instant::now())
            || self.cancelled.as_ref().is_some_and(Cancellation::is_told)
    }

    /// What is left of `pause` before the end.
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

/// The pause between two tries or looks; each is twice the one before.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    pub(super) next: Duration,
}

impl Pauses {
    /// The first where something is about to happen: others need tens of microseconds for it.
    pub(crate) const FIRST: Duration = Duration::from_micros(50);

    /// The longest of who waits for a holder and looks: a hundred looks a second, each of at most
    /// 40 µs.
    pub(crate) const LONGEST_POLL: Duration = Duration::from_millis(10);

    pub(crate) fn from(first: Duration) -> Self {
        Self { next: first }
    }

    /// The next one, before the end of the time. Those that follow are no longer than `longest`.
    pub(crate) fn next(&mut self, longest: Duration, until: &Until) -> Duration {
        let pause = jittered(self.next);
        self.next = (self.next * 2).min(longest);
        until.at_most(pause)
    }
}

/// Half to the whole of a pause, so that participants which met once do not meet at every try.
///
/// The hasher's keys are random for each process and change at each use.
fn jittered(pause: Duration) -> Duration {
    let jitter = RandomState::new().hash_one(()) % 512;
    pause.mul_f64(0.5 + jitter as f64 / 1024.0)
}
