//! What users hold: a lock and the driver's loop. The only place that waits.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::AcquireError;
use crate::guard::{Guard, Reclaimed};
use crate::held::{Held, Subject};
use crate::os::{self, LockFile};
use crate::protocol::{Acquire, Op, Pausing, Refusal, Unsure};
use crate::record::Holder;

/// How often [`Lock::try_acquire`] tries before "not final" becomes a refusal (P5).
///
/// Another participant needs tens of microseconds to record itself, to release or to reclaim.
/// With [`FIRST_PAUSE`] and [`LONGEST_PAUSE`] the tries spread over about 30 ms, which also rides
/// out a participant that loses its processor for a few time slices.
pub(crate) const TRIES: u32 = 20;

/// The first pause between two tries; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_micros(50);

/// The longest pause between two tries, for as long as what is waited for takes microseconds.
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

/// The longest pause of a caller that waits for a holder and cannot wait in the kernel: a hundred
/// looks a second, each of about 40 µs.
const LONGEST_POLL: Duration = Duration::from_millis(10);

/// A lock that can be acquired: a path, and whose it is. It holds nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    path: PathBuf,
    subject: Subject,
    command: Option<String>,
}

impl Lock {
    pub(crate) fn new(path: PathBuf, subject: Subject) -> Self {
        Self { path, subject, command: None }
    }

    /// The lock whose file is `path`. A relative one counts from the working directory now.
    ///
    /// The file must be used for nothing else: a release removes it.
    pub fn at(path: impl AsRef<Path>) -> Self {
        Self::new(os::absolute(path.as_ref()), Subject::Path)
    }

    /// Records `command` as the name of the program, instead of the name that this process was
    /// started by. Unprintable characters are dropped, and all after the 64th.
    #[must_use = "returns the changed lock"]
    pub fn command(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }

    /// The lock file, from the root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The port that it locks; `None` for a lock by name or path.
    pub fn port(&self) -> Option<u16> {
        self.subject.port()
    }

    /// The name that it locks; `None` for a lock by port or path.
    pub fn name(&self) -> Option<&str> {
        self.subject.name()
    }

    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Acquires the lock if nobody holds it; reclaims it if its holder is dead.
    ///
    /// Does not wait for a holder. It may pause for about 30 ms in all, while other participants
    /// finish what they are at.
    ///
    /// # Errors
    ///
    /// [`AcquireError::Held`] if somebody holds it, or may; see its variants for the rest.
    pub fn try_acquire(&self) -> Result<Guard, AcquireError> {
        self.run(Limit::NoWait)
    }

    /// Acquires the lock, and waits for as long as somebody holds it: **blocks**.
    ///
    /// It waits in the kernel (`flock`), which wakes it when the holder releases or dies. Who has
    /// no kernel lock to wait for (an agent of the old format, a holder on another machine, a
    /// filesystem without kernel locks) is looked at again every 10 ms. A signal that is handled
    /// does not end the wait. Who comes first is not served first.
    ///
    /// It waits for the file that it found locked. If somebody removes that file from under its
    /// holder, the wait still ends when that holder does.
    ///
    /// A process that holds the lock already waits for itself, for ever.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire), but never [`AcquireError::Held`].
    pub fn acquire(&self) -> Result<Guard, AcquireError> {
        self.run(Limit::None)
    }

    /// Acquires the lock, and waits for at most `limit` for whoever holds it: **blocks**.
    ///
    /// It looks again, at intervals that grow to 10 ms. At the end of the time it has nothing open,
    /// and nothing is left that would take the lock later. With [`Duration::ZERO`] it does what
    /// [`try_acquire`](Self::try_acquire) does; a limit that ends beyond the clock's range is none.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire), with [`AcquireError::Timeout`] in the place of
    /// [`AcquireError::Held`].
    #[expect(clippy::disallowed_methods, reason = "the one place that waits")]
    pub fn acquire_timeout(&self, limit: Duration) -> Result<Guard, AcquireError> {
        let Some(end) = Instant::now().checked_add(limit) else { return self.acquire() };
        self.run(Limit::Until(end)).map_err(|error| match error {
            AcquireError::Held(held) => AcquireError::Timeout { held, limit },
            other => other,
        })
    }

    fn run(&self, limit: Limit) -> Result<Guard, AcquireError> {
        let mut file = LockFile::new(self.path.clone(), self.record());
        let mut patience = Patience::new(limit);
        let mut reclaimed = None;
        let mut state = Acquire::START;
        loop {
            state = match state {
                Acquire::Pausing(pause) => {
                    let passing = !matches!(pause, Pausing::Denied(_));
                    if patience.again(passing) { pause.again() } else { pause.give_up() }
                }
                // In the kernel only who waits without a limit: no lock call has a time-out.
                Acquire::Standing(standing) if matches!(limit, Limit::None) => {
                    patience = Patience::new(limit);
                    standing.wait()
                }
                Acquire::Standing(standing) => standing.leave(),
                Acquire::Held(guarantee) => return Ok(Guard::new(file, guarantee, reclaimed)),
                Acquire::Refused(_) if patience.for_holder() => Acquire::START,
                Acquire::Refused(why) => return Err(AcquireError::Held(self.held(&file, why))),
                Acquire::Failed(op) => return Err(self.failed(file, op)),
                Acquire::Unlinking(_) => {
                    let next = state.step(&mut file);
                    if next == UNLINKED {
                        reclaimed = Some(Reclaimed { holder: file.seen().cloned() });
                    }
                    next
                }
                unfinished => unfinished.step(&mut file),
            };
        }
    }

    /// What a create is recorded as.
    fn record(&self) -> Holder {
        let mut record = os::process::me().clone();
        record.port = self.port();
        if self.command.is_some() {
            record.command.clone_from(&self.command);
        }
        record
    }

    pub(crate) fn held(&self, file: &LockFile, why: Refusal) -> Held {
        let holder = match why {
            // Nobody was looked at to the end.
            Refusal::Unknown(Unsure::Contended | Unsure::BeingCreated) => None,
            Refusal::Holder | Refusal::Unknown(_) => file.seen().cloned(),
        };
        let mut held = Held::new(self.subject.clone(), self.path.clone(), holder, why);
        if why == Refusal::Unknown(Unsure::RecordedGone) {
            held.open_in = os::process::that_have_open(&self.path);
        }
        held
    }

    pub(crate) fn failed(&self, mut file: LockFile, op: Op) -> AcquireError {
        let path = self.path.clone();
        match (file.not_a_lock_file(), op, self.path.parent()) {
            (Some(found), _, _) => AcquireError::NotALockFile { path, found },
            (None, Op::Create, Some(dir)) => {
                AcquireError::Directory { path: dir.to_owned(), source: file.take_error() }
            }
            (None, _, _) => AcquireError::Io { op, path, source: file.take_error() },
        }
    }
}

/// The state that follows the unlink of a dead holder's file.
pub(crate) const UNLINKED: Acquire =
    Acquire::Closing(crate::protocol::Closing { then: crate::protocol::Then::Create });

/// For how long a caller waits for a holder.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    /// Not at all.
    NoWait,
    /// Until then.
    Until(Instant),
    /// For as long as it takes.
    None,
}

/// Counts tries, and sleeps between them: short, growing, with jitter.
pub(crate) struct Patience {
    limit: Limit,
    tries_left: u32,
    pause: Duration,
}

impl Patience {
    pub(crate) fn new(limit: Limit) -> Self {
        Self { limit, tries_left: TRIES, pause: FIRST_PAUSE }
    }

    /// Whether there is another try; if so, after a sleep. What is `passing` ends by itself, and a
    /// caller that waits goes on for longer than the tries last.
    pub(crate) fn again(&mut self, passing: bool) -> bool {
        if self.tries_left > 1 {
            self.tries_left -= 1;
            self.sleep(LONGEST_PAUSE);
            return true;
        }
        passing && self.for_holder()
    }

    /// Whether a caller that was refused goes on waiting; if so, after a sleep.
    pub(crate) fn for_holder(&mut self) -> bool {
        let goes_on = match self.limit {
            Limit::NoWait => false,
            Limit::Until(end) => self.until(end) > Duration::ZERO,
            Limit::None => true,
        };
        if goes_on {
            self.sleep(LONGEST_POLL);
        }
        goes_on
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that waits")]
    fn until(&self, end: Instant) -> Duration {
        end.saturating_duration_since(Instant::now())
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that waits")]
    fn sleep(&mut self, longest: Duration) {
        // Half to the whole of the pause, so that participants which met once do not meet at
        // every try. The hasher's keys are random for each process and change at each use.
        let jitter = RandomState::new().hash_one(()) % 512;
        let pause = self.pause.mul_f64(0.5 + jitter as f64 / 1024.0);
        std::thread::sleep(match self.limit {
            Limit::Until(end) => pause.min(self.until(end)),
            Limit::NoWait | Limit::None => pause,
        });
        self.pause = (self.pause * 2).min(longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends() {
        let mut patience = Patience::new(Limit::NoWait);
        let tries = std::iter::from_fn(|| patience.again(true).then_some(())).count();
        assert_eq!(tries + 1, TRIES as usize);
        assert!(!patience.for_holder());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the end must have come")]
    fn patience_with_a_limit_ends_at_it_and_not_before_the_tries_are_used_up() {
        let end = Instant::now();
        let mut patience = Patience::new(Limit::Until(end));
        let tries = std::iter::from_fn(|| patience.again(true).then_some(())).count();
        assert_eq!(tries + 1, TRIES as usize);
        assert!(!patience.for_holder());

        let end = Instant::now() + Duration::from_millis(20);
        let mut patience = Patience::new(Limit::Until(end));
        while patience.for_holder() {}
        assert!(Instant::now() >= end);
    }

    #[test]
    fn who_waits_without_a_limit_goes_on_but_not_with_what_does_not_pass() {
        let mut patience = Patience::new(Limit::None);
        let tries = std::iter::from_fn(|| patience.again(false).then_some(())).count();
        assert_eq!(tries + 1, TRIES as usize);
        assert!(patience.again(true) && patience.for_holder());
    }
}
