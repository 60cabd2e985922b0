//! The guard: a lock that is held, and its release.

mod release_error;

use std::fmt;
use std::io;
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
#[cfg(windows)]
use std::os::windows::io::{AsHandle, BorrowedHandle};
use std::path::Path;
use std::process::Command;

use crate::exit::{self, Left, Registered};
use crate::protocol::{Guarantee, Release, ReleaseFailed, Released};
use crate::record::Holder;
use crate::sys::{self, LockFile};
use crate::trace;

pub use release_error::ReleaseError;

/// A lock that is held. Dropping it releases the lock; [`release`](Self::release) also reports how
/// that went.
///
/// While it exists and [`is_still_held`](Self::is_still_held), no other participant holds the path (P1).
/// It must be kept: `let _ = lock.try_acquire()?` releases at once, `let _guard = …` does not.
///
/// # The end of the process
///
/// The lock dies with the process, however it ends. An orderly exit ([`std::process::exit`], or the
/// return from `main`) with a guard still alive removes the lock file too (S11); a thread that goes
/// on working at that instant does so without the lock. Once the exit has begun, every acquire fails.
///
/// # Forks and daemons
///
/// A lock belongs to the process that acquired it. A child made by `fork` does not get it: the
/// child's copies of the lock files that are open in its parent are closed before `fork` returns in
/// the child, so that the lock does not outlive the parent. The child's copy of the guard is inert:
/// [`is_still_held`](Self::is_still_held) is `false`, [`release`](Self::release) returns
/// [`ReleaseError::Forked`], and a drop neither removes nor unlocks.
///
/// So **acquire in the process that does the work**. A program that acquires, forks into the
/// background and exits has released the lock while its daemon runs. Let the daemon acquire, and
/// report the outcome to the process that started it over a pipe: `examples/daemon.rs` does that.
///
/// A child made around the C library (`_Fork`, a `clone` system call) runs no fork handlers. It is
/// noticed when it acquires, releases or drops a guard, calls [`is_still_held`](Self::is_still_held), or
/// exits in order, and acts as another process from then on. Until then, or if it does none of these,
/// it shares the open lock file, and the lock lives for as long as the child does. A child that shares
/// its parent's memory or descriptors (`vfork`, `CLONE_VM`, `CLONE_FILES`) must not use this crate.
///
/// # Programs that are executed
///
/// A program that is started by [`Command`] or executed does not get the lock, unless it is asked
/// for: the file is close-on-exec.
///
/// - [`exec`](Self::exec) turns this process into the program. The lock and the pid stay, so the
///   record names what works. For a launcher that has nothing left to do.
/// - [`pass_to_child`](Self::pass_to_child) shares the lock with a child while this process goes on.
///   The record names this process.
///
/// After an `exec` without either the pid lives on without its kernel lock. The lock is then refused
/// as that of a live process until the new program ends, and reclaimed after that.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct Guard {
    file: LockFile,
    guarantee: Guarantee,
    reclaimed: Option<Reclaimed>,
    /// In the process that acquired, until the release: the exit of the process releases it.
    registered: Option<Registered>,
}

impl Guard {
    pub(crate) fn new(file: LockFile, guarantee: Guarantee, reclaimed: Option<Reclaimed>) -> Self {
        let registered = Some(exit::register(&file, Left::Held));
        Self { file, guarantee, reclaimed, registered }
    }

    /// Removes the lock file and then drops the kernel lock. Does not block.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::Failed`] if the file could not be removed: it has the guard, and the lock is
    /// **still held**. [`ReleaseError::Lost`] if another program had removed the file, and
    /// [`ReleaseError::Forked`] in a child that was forked: both report a lock that this process does
    /// not hold, and removed nothing.
    pub fn release(mut self) -> Result<(), ReleaseError> {
        match self.run_release(ReleaseFailed::keep) {
            Released::Removed => Ok(()),
            Released::Lost => {
                trace::lost(self.path());
                Err(ReleaseError::Lost { path: self.path().to_owned() })
            }
            Released::Left => Err(ReleaseError::Forked { path: self.path().to_owned() }),
            Released::Kept(op) | Released::Failed(op) => {
                let source = self.file.take_error();
                self.registered = Some(exit::register(&self.file, Left::Held));
                Err(ReleaseError::Failed { guard: Box::new(self), op, source })
            }
        }
    }

    /// Whether the path still names our lock file: `false` once it was removed or replaced, and in a
    /// forked child. Three system calls at most on a local filesystem; worth asking before something
    /// that must not happen twice.
    ///
    /// # Errors
    ///
    /// Any error of looking at the path, other than its absence.
    pub fn is_still_held(&self) -> io::Result<bool> {
        if self.is_a_childs_copy() { Ok(false) } else { self.file.is_named() }
    }

    /// Ourselves, as the record in the lock file says.
    pub fn holder(&self) -> &Holder {
        self.file.record()
    }

    /// From which holder the lock was taken over, if its last holder had died with it.
    ///
    /// It is the last one that this acquire has seen: that another process acquired and released in
    /// order between the removal of the dead holder's file and the creation of ours goes unnoticed
    /// if its file was gone again by then.
    pub fn recovered_from(&self) -> Option<&Reclaimed> {
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

    /// Shares the lock with `command`: when it is started it inherits the open lock file, so that the
    /// kernel lock lives for as long as the command does, even if this process is killed.
    ///
    /// The record goes on naming this process. After its death the lock is refused with
    /// [`UnknownReason::HolderExited`](crate::UnknownReason::HolderExited) for as long as the command lives, and an
    /// agent of the old format, which looks at the recorded pid alone, takes the lock while the
    /// command works. A program that has nothing left to do is better turned into the command, by
    /// [`exec`](Self::exec); one that goes on can let the command acquire by itself. The release by
    /// this guard ends the lock for both.
    ///
    /// `command` can be started any number of times while this guard exists. After the release it
    /// fails to start, with the system's error `ENOLCK` ("No locks available"). For as long as
    /// `command` exists, the lock is shared with plain forks of this process too: when they are made,
    /// it is not known yet what they will execute.
    ///
    /// Not on Windows, where a kernel lock belongs to the process that took it and does not go with
    /// the open file: there nothing is shared.
    pub fn pass_to_child(&self, command: &mut Command) {
        self.file.pass_to_child(command);
    }

    /// Executes `command` in the place of this program, with the lock held: the command keeps the pid
    /// and the kernel lock, and the record names it (under the name that [`Lock::command`] gave, or
    /// else that of this program).
    ///
    /// For a launcher. Nothing is left that would release the lock: when the command has ended, the
    /// next acquire reclaims it. Waits for other threads that are creating lock files, and keeps
    /// others from it. Other guards of this process are not released: their locks stay with the
    /// pid, and are refused until the command ends.
    ///
    /// Returns only if the command could not be executed; the lock has been released then.
    ///
    /// [`Lock::command`]: crate::Lock::command
    #[cfg(unix)]
    pub fn exec(self, command: &mut Command) -> io::Error {
        use std::os::unix::process::CommandExt;

        if self.is_a_childs_copy() {
            let path = self.path().to_owned();
            return io::Error::other(ReleaseError::Forked { path });
        }
        self.pass_to_child(command);
        let _shut = exit::shut();
        command.exec()
    }

    fn is_a_childs_copy(&self) -> bool {
        sys::process::notice_fork();
        !self.file.is_ours()
    }

    /// The machine of a release, to its end. `stuck` decides what follows a failure.
    fn run_release(&mut self, stuck: fn(ReleaseFailed) -> Release) -> Released {
        let registered = self.registered.take();
        let is_a_childs_copy = self.is_a_childs_copy();
        // The exit of the process waits for the removal of the file.
        let _within = exit::hold_off();
        let mut state = if is_a_childs_copy {
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
                Release::ReleaseFailed(failed) => stuck(failed),
                unfinished => unfinished.step(&mut self.file),
            };
        }
    }
}

impl Drop for Guard {
    /// Releases quietly. Never panics.
    fn drop(&mut self) {
        if self.registered.is_none() {
            return;
        }
        match self.run_release(ReleaseFailed::abandon) {
            Released::Removed | Released::Left => {}
            Released::Lost => trace::lost(self.path()),
            Released::Kept(op) | Released::Failed(op) => {
                let error = self.file.take_error();
                trace::release_failed(self.path(), op, &error);
            }
        }
    }
}

/// The open lock file. A duplicate of it keeps the lock until it is closed, or until this guard is
/// released. In a forked child it is a closed pipe.
#[cfg(unix)]
impl AsFd for Guard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self.file.as_fd() {
            Some(open) => open,
            None => unreachable!("a guard has its file open until it is released"),
        }
    }
}

/// The open lock file. The lock belongs to this process: a duplicate of the handle does not keep it.
#[cfg(windows)]
impl AsHandle for Guard {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        match self.file.as_handle() {
            Some(open) => open,
            None => unreachable!("a guard has its file open until it is released"),
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
        crate::error::held::Recorded(self.holder.as_ref()).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use crate::protocol::Op;
    use crate::{Lock, ReleaseError};

    #[test]
    fn guard_debug_shows_path_and_holder_only() {
        let home = tempfile::tempdir().expect("a directory");
        let guard = Lock::at(home.path().join("x.lock")).try_acquire().expect("free");
        let shown = format!("{guard:?}");
        let (path, holder) = (guard.path(), guard.holder());
        let start = format!("Guard {{ path: {path:?}, holder: {holder:?}, guarantee: KernelLock");
        assert!(shown.starts_with(&start), "{shown}");
        assert!(shown.ends_with("reclaimed: None, .. }"), "{shown}");
    }

    #[cfg(unix)]
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a person removes the file")]
    fn guard_notices_that_its_file_was_removed() {
        let home = tempfile::tempdir().expect("a directory");
        let guard = Lock::at(home.path().join("x.lock")).try_acquire().expect("free");
        assert!(guard.is_still_held().expect("its file can be examined"));
        std::fs::remove_file(guard.path()).expect("it is there");
        assert!(!guard.is_still_held().expect("its file can be examined"));
        assert!(matches!(guard.release(), Err(ReleaseError::Lost { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn guard_tells_whom_it_recovered_from() {
        let home = tempfile::tempdir().expect("a directory");
        let lock = Lock::at(home.path().join("x.lock"));
        crate::sys::left_by_a_dead_creator(lock.path());
        let guard = lock.try_acquire().expect("nobody holds it");
        let from = guard.recovered_from().expect("a dead creator");
        assert_eq!(from.to_string(), "a process that left no readable record");
        assert_eq!(from.holder, None);
        // Dropped, it is released: nobody is recovered from then.
        drop(guard);
        assert_eq!(lock.try_acquire().expect("free").recovered_from(), None);
    }

    #[cfg(unix)]
    #[test]
    fn released_lock_is_passed_to_no_child() {
        let home = tempfile::tempdir().expect("a directory");
        let guard = Lock::at(home.path().join("x.lock")).try_acquire().expect("free");
        let mut command = std::process::Command::new("true");
        guard.pass_to_child(&mut command);
        assert!(command.status().expect("it starts").success());
        guard.release().expect("in order");
        let refused = command.status().expect_err("there is nothing to inherit");
        assert_eq!(refused.raw_os_error(), Some(libc::ENOLCK));
    }

    #[cfg(unix)]
    #[test]
    fn guard_in_a_forked_child_is_a_copy() {
        let home = tempfile::tempdir().expect("a directory");
        let guard = Lock::at(home.path().join("x.lock")).try_acquire().expect("free");
        let copy = std::cell::Cell::new(Some(guard));
        let said = crate::sys::forked::in_a_child(|| {
            let copy = copy.take().expect("it is here as well");
            copy.exec(&mut std::process::Command::new("true")).to_string().into_bytes()
        });
        let said = String::from_utf8(said).expect("text");
        assert!(said.contains("is locked by the process that this one was forked from"), "{said}");
        let guard = copy.take().expect("the child has taken a copy");
        assert!(guard.is_still_held().expect("its file can be examined"));
    }

    #[test]
    fn failed_release_returns_its_guard_and_cause() {
        let home = tempfile::tempdir().expect("a directory");
        let guard = Box::new(Lock::at(home.path().join("x.lock")).try_acquire().expect("free"));
        let source = std::io::ErrorKind::PermissionDenied.into();
        let error = ReleaseError::Failed { guard, op: Op::Unlink, source };
        assert!(error.next_step().contains("release it again"), "{error:#}");
        assert!(error.source().is_some_and(|cause| cause.to_string().contains("permission")));
        let guard = error.into_guard().expect("the lock is still held");
        guard.release().expect("it can be removed");
        let lost = ReleaseError::Lost { path: "/h/x".into() };
        assert!(lost.source().is_none() && lost.into_guard().is_none());
    }
}
