//! How often something is tried again, and the pauses between. Here, and in the adapter's waits, is
//! all the time that passes in this crate.

use std::time::Duration;

use crate::os::{Pauses, Until};
use crate::turns::{Place, Waiter};

/// How often [`Lock::try_acquire`](crate::Lock::try_acquire) tries before "not final" becomes a
/// refusal (P5).
///
/// Another participant needs tens of microseconds to record itself, to release or to reclaim.
/// With [`Pauses::FIRST`] and [`LONGEST_PAUSE`] the tries spread over about 30 ms, which also rides
/// out a participant that loses its processor for a few time slices.
pub(crate) const TRIES: u32 = 20;

/// The longest pause between two tries, for as long as what is waited for takes microseconds.
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

/// For how long a caller waits for a holder.
#[derive(Debug, Clone)]
pub(crate) enum Limit {
    /// Not at all.
    NoWait,
    /// Until then.
    Wait(Until),
    /// Until its task waits no more: never in the kernel.
    #[cfg(feature = "tokio")]
    Task,
}

/// What a caller does about a file that somebody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtHolder {
    /// Closes it, and is refused; or looks again later.
    Leave,
    /// Waits for events of it.
    Listen,
}

/// Counts tries, and tells the pauses between them: short, growing, with jitter.
#[derive(Debug)]
pub(crate) struct Patience {
    limit: Limit,
    tries_left: u32,
    pauses: Pauses,
}

impl Patience {
    pub(crate) fn new(limit: Limit) -> Self {
        Self { limit, tries_left: TRIES, pauses: Pauses::from(Pauses::FIRST) }
    }

    /// The pause before another try, if there is one. What is `passing` ends by itself, and a
    /// caller that waits goes on for longer than the tries last.
    pub(crate) fn again(&mut self, passing: bool) -> Option<Duration> {
        if self.tries_left > 1 {
            self.tries_left -= 1;
            return Some(self.next(LONGEST_PAUSE));
        }
        if passing { self.for_holder() } else { None }
    }

    /// As [`again`](Self::again), and sleeps. For who does not wait for a holder.
    pub(crate) fn slept(&mut self) -> bool {
        let pause = self.again(true);
        if let Some(pause) = pause {
            self.sleep(pause);
        }
        pause.is_some()
    }

    /// The pause of a caller that was refused and goes on waiting, if it does.
    pub(crate) fn for_holder(&mut self) -> Option<Duration> {
        self.waits().then(|| self.next(Pauses::LONGEST_POLL))
    }

    /// All tries again, since something else is in the way.
    fn renew(&mut self) {
        (self.tries_left, self.pauses) = (TRIES, Pauses::from(Pauses::FIRST));
    }

    /// What is done at a holder, after which there are all tries again if it is waited for.
    ///
    /// `in_front` tells whether the caller is in front of those of its process that wait for it.
    pub(crate) fn at_holder(&mut self, in_front: bool) -> AtHolder {
        if !self.waits() {
            return AtHolder::Leave;
        }
        self.renew();
        match (in_front, self.is_endless()) {
            (false, _) => AtHolder::Leave,
            (true, _) => AtHolder::Listen,
        }
    }

    /// In which line of its process the caller waits for its turn, if it waits. Who may be cancelled
    /// does so at the file, since nothing else would wake it.
    pub(crate) fn line(&self) -> Option<Waiter> {
        match &self.limit {
            Limit::Wait(Until { cancelled: None, .. }) => Some(Waiter::Thread),
            Limit::NoWait | Limit::Wait(_) => None,
            #[cfg(feature = "tokio")]
            Limit::Task => Some(Waiter::Task),
        }
    }

    /// Whether only the holder's end ends the wait, in a thread.
    pub(crate) fn is_endless(&self) -> bool {
        matches!(&self.limit, Limit::Wait(Until { end: None, cancelled: None }))
    }

    /// Whether a holder is waited for, and the time is not over.
    fn waits(&self) -> bool {
        match &self.limit {
            Limit::NoWait => false,
            Limit::Wait(until) => !until.is_over(),
            #[cfg(feature = "tokio")]
            Limit::Task => true,
        }
    }

    /// For so long, or until the wait is cancelled.
    pub(crate) fn sleep(&self, pause: Duration) {
        match &self.limit {
            Limit::Wait(until) => until.sleep(pause),
            _ => Until::default().sleep(pause),
        }
    }

    /// Until its turn, a look, or the end of the wait.
    pub(crate) fn park(&self, place: &Place) {
        match &self.limit {
            Limit::Wait(until) => place.park(until),
            _ => place.park(&Until::default()),
        }
    }

    fn next(&mut self, longest: Duration) -> Duration {
        match &self.limit {
            Limit::Wait(until) => self.pauses.next(longest, until),
            _ => self.pauses.next(longest, &Until::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn until(end: Instant) -> Limit {
        Limit::Wait(Until { end: Some(end), cancelled: None })
    }

    #[test]
    fn patience_ends() {
        let mut patience = Patience::new(Limit::NoWait);
        let tries = std::iter::from_fn(|| patience.again(true)).count();
        assert_eq!(tries + 1, TRIES as usize);
        assert_eq!(patience.for_holder(), None);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the end must have come")]
    fn patience_with_a_limit_ends_at_it_and_not_before_the_tries_are_used_up() {
        let end = Instant::now();
        let mut patience = Patience::new(until(end));
        let tries = std::iter::from_fn(|| patience.again(true)).count();
        assert_eq!(tries + 1, TRIES as usize);
        assert_eq!(patience.for_holder(), None);

        let end = Instant::now() + Duration::from_millis(20);
        let mut patience = Patience::new(until(end));
        while let Some(pause) = patience.for_holder() {
            patience.sleep(pause);
        }
        assert!(Instant::now() >= end);
    }

    #[test]
    fn who_waits_without_a_limit_goes_on_but_not_with_what_does_not_pass() {
        let mut patience = Patience::new(Limit::Wait(Until::default()));
        let tries = std::iter::from_fn(|| patience.again(false)).count();
        assert_eq!(tries + 1, TRIES as usize);
        assert!(patience.again(true).is_some() && patience.for_holder().is_some());
    }
}
