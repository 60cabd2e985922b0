//! How often something is tried again, and the pauses between. Here, and in the adapter's waits, is
//! all the time that passes in this crate.

use std::time::Duration;

use crate::acquire::wait_queue::Waiter;
use crate::sys::{Backoff, Deadline};

/// How often [`Lock::try_acquire`](crate::Lock::try_acquire) tries before "not final" becomes a
/// refusal (P5).
///
/// Another participant needs tens of microseconds to record itself, to release or to reclaim.
/// With pauses that grow to 2 ms the tries spread over about 30 ms, which also rides
/// out a participant that loses its processor for a few time slices.
pub const TRIES: u32 = 20;

/// The longest pause between two tries, for as long as what is waited for takes microseconds.
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

/// What a caller does about a file that another participant holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnContention {
    /// Closes it, and is refused.
    Leave,
    /// Closes it, and waits for its turn: another waiter of this process is at the file.
    Queue,
    /// Waits for events of it.
    Listen,
}

/// What is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    /// Something that takes another participant microseconds.
    Passing,
    /// A holder.
    Holder,
}

/// For how long a caller waits, and as what.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) deadline: Deadline,
    pub(crate) waiter: Waiter,
}

/// Counts tries, and sets the pauses between them: short, growing, with jitter.
#[derive(Debug)]
pub(crate) struct RetryPolicy {
    /// `None` for a caller that does not wait for a holder.
    waiting: Option<Waiting>,
    /// What the tries and the pauses so far were for. Another obstacle has tries and pauses of its
    /// own.
    obstacle: Obstacle,
    tries_left: u32,
    backoff: Backoff,
}

impl RetryPolicy {
    pub(crate) fn new(waiting: Option<Waiting>) -> Self {
        let (obstacle, backoff) = (Obstacle::Passing, Backoff::from(Backoff::FIRST));
        Self { waiting, obstacle, tries_left: TRIES, backoff }
    }

    /// The pause before another try, if there is one. What is `passing` ends by itself, and a
    /// caller that waits goes on for longer than the tries last.
    pub(crate) fn again(&mut self, passing: bool) -> Option<Duration> {
        self.meet(Obstacle::Passing);
        if self.tries_left > 1 {
            self.tries_left -= 1;
            return Some(self.next(LONGEST_PAUSE));
        }
        (passing && self.waits()).then(|| self.next(Backoff::LONGEST_POLL))
    }

    /// Whether the next [`again`](Self::again) comes after more tries than something that passes
    /// needs.
    pub(crate) fn is_out_of_tries(&self) -> bool {
        self.obstacle == Obstacle::Passing && self.tries_left <= 1
    }

    /// Same as [`again`](Self::again), and sleeps. For callers that do not wait for a holder.
    pub(crate) fn slept(&mut self) -> bool {
        let pause = self.again(true);
        if let Some(pause) = pause {
            self.sleep(pause);
        }
        pause.is_some()
    }

    /// The pause of a caller that was refused and goes on waiting, if it does.
    pub(crate) fn for_holder(&mut self) -> Option<Duration> {
        if !self.waits() {
            return None;
        }
        self.meet(Obstacle::Holder);
        Some(self.next(Backoff::LONGEST_POLL))
    }

    /// What is done at a holder. `in_front` says whether the caller is in front of the waiters of
    /// its process, if it is one.
    pub(crate) fn at_holder(&mut self, in_front: impl FnOnce() -> bool) -> OnContention {
        if !self.waits() {
            return OnContention::Leave;
        }
        self.meet(Obstacle::Holder);
        if in_front() { OnContention::Listen } else { OnContention::Queue }
    }

    /// In which queue of its process the caller waits for its turn, if it waits. A thread that may be
    /// cancelled waits at the file, because nothing else would wake it.
    pub(crate) fn queue(&self) -> Option<Waiter> {
        match self.waiting.as_ref()? {
            Waiting { waiter: Waiter::Thread, deadline: Deadline { cancelled: Some(_), .. } } => {
                None
            }
            Waiting { waiter, .. } => Some(*waiter),
        }
    }

    /// Whether only the holder's end ends the wait.
    pub(crate) fn is_endless(&self) -> bool {
        let endless = |deadline: &Deadline| deadline.end.is_none() && deadline.cancelled.is_none();
        self.waiting.as_ref().is_some_and(|waiting| endless(&waiting.deadline))
    }

    /// When the wait ends at the latest.
    pub(crate) fn deadline(&self) -> Deadline {
        self.waiting.as_ref().map(|waiting| waiting.deadline.clone()).unwrap_or_default()
    }

    /// For so long, or until the wait is cancelled.
    pub(crate) fn sleep(&self, pause: Duration) {
        self.deadline().sleep(pause);
    }

    /// Whether a holder is waited for, and the time is not over.
    fn waits(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| !waiting.deadline.is_over())
    }

    /// Begins with tries and pauses from the start, if something else is in the way now.
    fn meet(&mut self, obstacle: Obstacle) {
        if self.obstacle != obstacle {
            *self = Self { obstacle, ..Self::new(self.waiting.take()) };
        }
    }

    fn next(&mut self, longest: Duration) -> Duration {
        self.backoff.next(longest, &self.deadline())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn waiting(end: Option<Instant>) -> RetryPolicy {
        let deadline = Deadline { end, cancelled: None };
        RetryPolicy::new(Some(Waiting { deadline, waiter: Waiter::Thread }))
    }

    fn tries(policy: &mut RetryPolicy, passing: bool) -> usize {
        let tries = 1 + std::iter::from_fn(|| policy.again(passing)).take(1_000).count();
        assert!(tries < 1_000, "they do not end");
        tries
    }

    #[test]
    fn tries_end() {
        let mut policy = RetryPolicy::new(None);
        assert_eq!(tries(&mut policy, true), TRIES as usize);
        assert_eq!(policy.for_holder(), None);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the end must have come")]
    fn limit_ends_the_wait_not_the_retries() {
        let mut policy = waiting(Some(Instant::now()));
        assert_eq!(tries(&mut policy, true), TRIES as usize);
        assert_eq!(policy.for_holder(), None);

        let end = Instant::now() + Duration::from_millis(20);
        let mut policy = waiting(Some(end));
        while let Some(pause) = policy.for_holder() {
            assert!(Instant::now() < end + Duration::from_secs(60), "it waits beyond its limit");
            policy.sleep(pause);
        }
        assert!(Instant::now() >= end);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "measures")]
    fn pause_of_a_wait_lasts() {
        let (begun, pause) = (Instant::now(), Duration::from_millis(5));
        waiting(None).sleep(pause);
        assert!(begun.elapsed() >= pause);
    }

    #[test]
    fn last_try_is_announced() {
        let mut policy = waiting(None);
        for _ in 1..TRIES {
            assert!(!policy.is_out_of_tries());
            assert!(policy.slept());
        }
        assert!(policy.is_out_of_tries());
        // A holder is met with tries of its own.
        assert_eq!(policy.at_holder(|| false), OnContention::Queue);
        assert!(!policy.is_out_of_tries());
    }

    #[test]
    fn only_a_wait_without_limit_is_endless() {
        assert!(waiting(None).is_endless());
        #[expect(clippy::disallowed_methods, reason = "any limit")]
        let end = Instant::now();
        let limited = waiting(Some(end));
        assert!(!limited.is_endless());
        assert_eq!(limited.deadline().end, Some(end));
        let refused = RetryPolicy::new(None);
        assert!(!refused.is_endless() && refused.queue().is_none());
        assert_eq!(limited.queue(), Some(Waiter::Thread));
    }

    #[test]
    fn waiter_continues_unless_denied() {
        let mut policy = waiting(None);
        assert_eq!(tries(&mut policy, false), TRIES as usize);
        assert!(policy.again(true).is_some() && policy.for_holder().is_some());
    }

    /// The pauses of so many looks at a holder.
    fn pauses(policy: &mut RetryPolicy, looks: usize) -> Vec<Duration> {
        (0..looks).map(|_| policy.for_holder().expect("it waits")).collect()
    }

    #[test]
    fn pauses_at_one_holder_grow() {
        let mut policy = waiting(None);
        assert!(pauses(&mut policy, 1)[0] <= Backoff::FIRST);
        for look in 0..12 {
            assert_eq!(policy.at_holder(|| true), OnContention::Listen);
            assert!(pauses(&mut policy, 1)[0] >= Backoff::FIRST * (1 << look).min(100));
        }
        // Something that passes, and then a holder again.
        assert!(policy.again(true).expect("another try") <= Backoff::FIRST);
        assert!(pauses(&mut policy, 1)[0] <= Backoff::FIRST);
    }
}
