//! The guard: a lock that is held, and its release.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::error::ReleaseError;
use crate::exit::{self, Registered};
use crate::os::{self, LockFile};
use crate::protocol::{Guarantee, Release, Released, Stuck};
use crate::record::Holder;

/// A lock that is held. Dropping it releases the lock; [`release`](Self::release) also tells how
/// that went.
///
/// While it exists and [`is_current`](Self::is_current), no other participant holds the path (P1).
/// It must be kept: `let _ = lock.try_acquire()?` releases at once, `let _guard = …` does not.
///
/// The lock dies with the process, however it ends. An orderly exit ([`std::process::exit`], or the
/// return from `main`) with a guard still alive removes the lock file too (S11); a thread that goes
/// on working at that instant does so without the lock. It does not outlive it for a child, unless
/// [`hand_over_to`](Self::hand_over_to) asked for that. In a forked child the guard is a stranger:
/// there it removes and unlocks nothing.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct Guard {
    file: LockFile,
    /// Which process acquired: a forked child has another generation.
    generation: usize,
    guarantee: Guarantee,
    reclaimed: Option<Reclaimed>,
    /// In the process that acquired, until the release: the exit of the process releases it.
    registered: Option<Registered>,
}

impl Guard {
    pub(crate) fn new(file: LockFile, guarantee: Guarantee, reclaimed: Option<Reclaimed>) -> Self {
        let generation = os::process::generation();
        let registered = Some(exit::register(&file));
        Self { file, generation, guarantee, reclaimed, registered }
    }

    /// Removes the lock file and then drops the kernel lock. Does not block.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::Failed`] if the file could not be removed: it has the guard, and the lock is
    /// **still held**. [`ReleaseError::Lost`] if somebody else had removed the file, and
    /// [`ReleaseError::Forked`] in a child that was forked: both are told of a lock that this
    /// process does not hold, and removed nothing.
    pub fn release(mut self) -> Result<(), ReleaseError> {
        match self.run_release(Stuck::keep) {
            Released::Removed => Ok(()),
            Released::Lost => Err(ReleaseError::Lost { path: self.path().to_owned() }),
            Released::Left => Err(ReleaseError::Forked { path: self.path().to_owned() }),
            Released::Kept(op) | Released::Failed(op) => {
                let source = self.file.take_error();
                self.registered = Some(exit::register(&self.file));
                Err(ReleaseError::Failed { guard: Box::new(self), op, source })
            }
        }
    }

    /// Whether the path still names our lock file: `false` once somebody has removed or replaced
    /// it, and in a forked child. Two system calls at most on a local filesystem; worth asking
    /// before something that must not happen twice.
    ///
    /// # Errors
    ///
    /// Any error of looking at the path, other than its absence.
    pub fn is_current(&self) -> io::Result<bool> {
        if self.is_forked() { Ok(false) } else { self.file.is_named() }
    }

    /// Ourselves, as the record in the lock file says.
    pub fn holder(&self) -> &Holder {
        self.file.record()
    }

    /// From whom the lock was taken over, if its last holder had died with it.
    pub fn reclaimed(&self) -> Option<&Reclaimed> {
        self.reclaimed.as_ref()
    }

    /// What exclusion rests on: the kernel lock, or, where the filesystem has none, the exclusive
    /// create alone, after which a dead holder's file stays until a person removes it.
    pub fn guarantee(&self) -> Guarantee {
        self.guarantee
    }

    /// The lock file, from the root.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Makes `command` inherit the open lock file when it is spawned, so that the kernel lock
    /// lives for as long as the command does, even if this process is killed.
    ///
    /// Not on Windows, where a kernel lock belongs to the process that took it and does not go with
    /// the open file: there nothing is handed over.
    ///
    /// Others are then refused with [`Unsure::RecordedGone`](crate::Unsure::RecordedGone): the
    /// record goes on naming this process. The release by this guard ends the lock for both.
    pub fn hand_over_to(&self, command: &mut Command) {
        self.file.hand_over(command);
    }

    fn is_forked(&self) -> bool {
        self.generation != os::process::generation()
    }

    /// The machine of a release, to its end. `stuck` decides what follows a failure.
    fn run_release(&mut self, stuck: fn(Stuck) -> Release) -> Released {
        let registered = self.registered.take();
        let mut state = if self.is_forked() {
            Release::FORKED
        } else if registered.as_ref().is_some_and(exit::take) {
            Release::START
        } else {
            // The process is exiting, and has released it.
            return Released::Removed;
        };
        loop {
            state = match state {
                Release::Ended(released) => return released,
                Release::Stuck(failed) => stuck(failed),
                unfinished => unfinished.step(&mut self.file),
            };
        }
    }
}

/// The open lock file, which has the kernel lock.
#[cfg(unix)]
impl std::os::fd::AsFd for Guard {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd().unwrap_or_else(|| unreachable!("the file of a guard is open"))
    }
}

impl Drop for Guard {
    /// Releases quietly. Never panics.
    fn drop(&mut self) {
        if self.registered.is_some() {
            self.run_release(Stuck::abandon);
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("path", &self.path())
            .field("holder", self.holder())
            .field("guarantee", &self.guarantee)
            .field("reclaimed", &self.reclaimed)
            .finish_non_exhaustive()
    }
}

/// From whom a lock was taken over: it had died with the lock held.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reclaimed {
    /// The recorded holder; `None` if the record could not be read, because its author died
    /// before it had written it.
    pub holder: Option<Holder>,
}

impl fmt::Display for Reclaimed {
    /// "pid 20211 (node, since 2026-11-23 02:09:04 UTC)".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::held::Recorded(self.holder.as_ref()).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use crate::Lock;

    #[test]
    fn a_guard_shows_its_path_and_holder_and_not_its_file() {
        let home = tempfile::tempdir().expect("a directory");
        let guard = Lock::at(home.path().join("x.lock")).try_acquire().expect("free");
        let shown = format!("{guard:?}");
        let (path, holder) = (guard.path(), guard.holder());
        let start = format!("Guard {{ path: {path:?}, holder: {holder:?}, guarantee: KernelLock");
        assert!(shown.starts_with(&start), "{shown}");
        assert!(shown.ends_with("reclaimed: None, .. }"), "{shown}");
    }
}
