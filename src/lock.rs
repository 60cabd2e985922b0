//! What users hold: a lock and the driver's loop. The only place that waits.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::AcquireError;
use crate::guard::{Guard, Reclaimed};
use crate::os::{self, LockFile};
use crate::protocol::{Acquire, Op, Refusal, Unsure};

/// How often [`Lock::try_acquire`] tries before "not final" becomes a refusal (P5).
///
/// Another participant needs tens of microseconds to record itself, to release or to reclaim.
/// With [`FIRST_PAUSE`] and [`LONGEST_PAUSE`] the tries spread over about 30 ms, which also rides
/// out a participant that loses its processor for a few time slices.
pub(crate) const TRIES: u32 = 20;

/// The first pause between two tries; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_micros(50);

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

/// A lock that can be acquired: a path, and whose it is. It holds nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    path: PathBuf,
    port: Option<u16>,
    command: Option<String>,
}

impl Lock {
    pub(crate) fn new(path: PathBuf, port: Option<u16>) -> Self {
        Self { path, port, command: None }
    }

    /// The lock whose file is `path`. A relative one counts from the working directory now.
    ///
    /// The file must be used for nothing else: a release removes it.
    pub fn at(path: impl AsRef<Path>) -> Self {
        Self::new(os::absolute(path.as_ref()), None)
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

    /// The port that it locks; `None` for a lock by path.
    pub fn port(&self) -> Option<u16> {
        self.port
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
        let mut record = os::process::me().clone();
        record.port = self.port;
        if self.command.is_some() {
            record.command.clone_from(&self.command);
        }
        let mut file = LockFile::new(self.path.clone(), record);
        let mut patience = Patience::new();
        let mut reclaimed = None;
        let mut state = Acquire::START;
        loop {
            state = match state {
                Acquire::Pausing(pause) => {
                    if patience.again() {
                        pause.again()
                    } else {
                        pause.give_up()
                    }
                }
                Acquire::Held(guarantee) => return Ok(Guard::new(file, guarantee, reclaimed)),
                Acquire::Refused(why) => return Err(self.refused(&file, why)),
                Acquire::Failed(op) => return Err(self.failed(file, op)),
                unfinished => {
                    let next = unfinished.step(&mut file);
                    if next == UNLINKED {
                        reclaimed = Some(Reclaimed { holder: file.seen().cloned() });
                    }
                    next
                }
            };
        }
    }

    fn refused(&self, file: &LockFile, why: Refusal) -> AcquireError {
        let holder = match why {
            // Nobody was looked at to the end.
            Refusal::Unknown(Unsure::Contended | Unsure::BeingCreated) => None,
            Refusal::Holder | Refusal::Unknown(_) => file.seen().cloned(),
        };
        AcquireError::Held { holder, path: self.path.clone(), why, port: self.port }
    }

    pub(crate) fn failed(&self, mut file: LockFile, op: Op) -> AcquireError {
        let path = self.path.clone();
        match file.not_a_lock_file() {
            Some(found) => AcquireError::NotALockFile { path, found },
            None => AcquireError::Failed { op, path, source: file.take_error() },
        }
    }
}

/// The state that follows the unlink of a dead holder's file, and no other.
const UNLINKED: Acquire =
    Acquire::Closing(crate::protocol::Closing { then: crate::protocol::Then::Create });

/// Counts tries, and sleeps between them: short, growing, with jitter.
pub(crate) struct Patience {
    tries_left: u32,
    pause: Duration,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self { tries_left: TRIES, pause: FIRST_PAUSE }
    }

    /// Whether there is another try; if so, after a sleep.
    #[expect(clippy::disallowed_methods, reason = "the one place that waits")]
    pub(crate) fn again(&mut self) -> bool {
        if self.tries_left <= 1 {
            return false;
        }
        self.tries_left -= 1;
        // Half to the whole of the pause, so that participants which met once do not meet at
        // every try. The hasher's keys are random for each process and change at each use.
        let jitter = RandomState::new().hash_one(()) % 512;
        std::thread::sleep(self.pause.mul_f64(0.5 + jitter as f64 / 1024.0));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends() {
        let mut patience = Patience::new();
        let tries = std::iter::from_fn(|| patience.again().then_some(())).count();
        assert_eq!(tries + 1, TRIES as usize);
    }
}
