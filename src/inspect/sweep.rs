//! Removal of stale lock files: one, all of a directory, or by force.

use crate::acquire::backoff::RetryPolicy;
use crate::dir::LockDir;
use crate::error::AcquireError;
use crate::guard::Reclaimed;
use crate::inspect::list::{ListError, LockEntry};
use crate::inspect::status::Status;
use crate::lock::Lock;
use crate::protocol::{Acquire, Clear, Cleared, UnknownReason};
use crate::record::Holder;
use crate::sys::{self, LockFile};

/// A lock file that a sweep removed, or could not.
#[derive(Debug)]
#[non_exhaustive]
pub struct SweepOutcome {
    /// The lock.
    pub lock: Lock,
    /// The holder that it was recovered from, or why it stays. Never [`AcquireError::Held`].
    pub removed: Result<Reclaimed, AcquireError>,
}

impl LockDir {
    /// Removes every lock file of this directory that is provably stale, as [`Lock::clear`] does,
    /// and leaves all others alone. Files that are no lock files are not opened.
    ///
    /// Returns those that were removed, and those that could not be read or removed, in the order of
    /// [`list`](Self::list). Held ones, and ones whose holder cannot be proved dead from here, are no
    /// failure and are left out. No acquire needs this: an acquire reclaims by itself.
    ///
    /// # Errors
    ///
    /// [`ListError`] if the directory cannot be read. One lock's failure does not end the sweep.
    pub fn sweep(&self) -> Result<Vec<SweepOutcome>, ListError> {
        Ok(self.list()?.into_iter().filter_map(LockEntry::swept).collect())
    }
}

impl LockEntry {
    fn swept(self) -> Option<SweepOutcome> {
        let Self { lock, status } = self;
        let removed = match status {
            // Not every system lists kernel locks; a clear finds out, because it tries the lock as
            // an acquire does.
            Ok(
                Status::Stale { .. } | Status::Unknown { reason: UnknownReason::CannotWatch, .. },
            ) => {
                match lock.clear() {
                    // Another process cleared it, or took it.
                    Ok(None) | Err(AcquireError::Held(_)) => return None,
                    Ok(Some(reclaimed)) => Ok(reclaimed),
                    Err(error) => Err(error),
                }
            }
            Ok(Status::Free | Status::Held { .. } | Status::Unknown { .. }) => return None,
            Err(error) => Err(error),
        };
        Some(SweepOutcome { lock, removed })
    }
}

impl Lock {
    /// Removes the lock file if it is provably stale, as an acquire would, and takes no lock. Never
    /// the file of a live holder (P2). Does not wait for a holder; it may pause for about 30 ms.
    ///
    /// Returns the holder that left it; `None` if there was no lock file.
    ///
    /// No acquire needs this: an acquire reclaims by itself.
    ///
    /// # Errors
    ///
    /// [`AcquireError::Held`] if a process holds it, or may; other errors as of
    /// [`try_acquire`](Self::try_acquire).
    pub fn clear(&self) -> Result<Option<Reclaimed>, AcquireError> {
        self.run_clear(|_| false)
    }

    /// Removes the lock file that `holder` left, for a person who knows that `holder` is dead where
    /// nothing proves it: on another machine, in another container, on a filesystem without kernel
    /// locks, or an agent of the old format whose pid was reused.
    ///
    /// **Outside of P1 and P2**: if `holder` is alive after all, and its kernel lock is not visible
    /// from here, two processes will hold the lock. Two checks stay: it never removes a file whose
    /// kernel lock another process has, and it compares the whole record with `holder` after it has
    /// taken that lock. So it removes nothing under a participant on the same machine that takes
    /// kernel locks, unless the filesystem's locks are local to a mount.
    ///
    /// Where the filesystem has no kernel locks, a forced removal is like a removal from outside. The
    /// record is compared with `holder` before the unlink, and a file that was created between the
    /// two is removed instead. If `holder` is alive and between the last check and the unlink of its
    /// own release, or of its failed acquire, its unlink may remove the file of the next holder.
    ///
    /// A file that is provably stale is removed even if its record is not `holder`'s.
    ///
    /// # Errors
    ///
    /// [`AcquireError::Held`] if another process has its kernel lock, or if the record is not
    /// `holder`'s; other errors as of [`try_acquire`](Self::try_acquire).
    pub fn force_clear(&self, holder: &Holder) -> Result<Option<Reclaimed>, AcquireError> {
        self.run_clear(|seen| seen == Some(holder))
    }

    /// `is_forced` is asked about the record that was read under the kernel lock.
    fn run_clear(
        &self,
        is_forced: impl Fn(Option<&Holder>) -> bool,
    ) -> Result<Option<Reclaimed>, AcquireError> {
        let mut file =
            LockFile::new(self.shared_path(), sys::process::current_process().into_owned());
        let mut retries = RetryPolicy::new(None);
        let mut state = Clear::START;
        loop {
            state = match state {
                Clear::At(Acquire::Pausing(_)) if retries.slept() => state.again(),
                Clear::At(Acquire::Pausing(_)) => state.give_up(),
                Clear::At(Acquire::Blocked(_)) if is_forced(file.seen()) => state.force(),
                Clear::At(Acquire::Blocked(_)) => state.leave(),
                Clear::Ended(Cleared::Nothing) => return Ok(None),
                Clear::Ended(Cleared::Removed) => {
                    return Ok(Some(Reclaimed { holder: file.seen().cloned() }));
                }
                Clear::Ended(Cleared::Refused(reason)) => {
                    return Err(AcquireError::Held(self.held(&file, reason)));
                }
                Clear::Ended(Cleared::Failed(op)) => return Err(self.failed(file, op)),
                Clear::At(_) => state.step(&mut file),
            };
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::protocol::{Refusal, UnknownReason};

    /// A directory with a record that was cut short, a held lock, and the record of a process in
    /// another pid namespace, which took no kernel lock.
    #[expect(clippy::disallowed_methods, reason = "it plants what others have left")]
    fn planted() -> (tempfile::TempDir, LockDir, crate::Guard, Holder) {
        let home = tempfile::tempdir().expect("a directory");
        let dir = LockDir::at(home.path());
        let port = |port| dir.port(port).expect("a port");
        std::fs::write(port(5331).path(), r#"{"pid":7"#).expect("writes");
        let guard = port(5332).try_acquire().expect("free");
        let mut holder = sys::process::current_process().into_owned();
        (holder.pid_namespace, holder.kernel_lock) = (Some(1), false);
        std::fs::write(port(5333).path(), holder.to_bytes()).expect("writes");
        (home, dir, guard, holder)
    }

    #[test]
    fn clear_removes_what_is_provably_stale() {
        let (_home, dir, _guard, _) = planted();
        let clear = |port| dir.port(port).expect("a port").clear();
        assert!(clear(5331).expect("it is stale").is_some_and(|gone| gone.holder.is_none()));
        assert!(clear(5331).expect("it is gone").is_none());
        for port in [5332, 5333] {
            assert!(clear(port).is_err_and(|error| error.is_held()), "{port}");
        }
    }

    /// How often this thread has given up its processor by itself (proc_pid_status(5)).
    #[expect(clippy::disallowed_methods, reason = "what the kernel counts")]
    fn sleeps() -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").expect("/proc is there");
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|sleeps| sleeps.trim().parse().ok()).expect("the kernel counts them")
    }

    /// It has the time that its creator may need, and no more.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a creator's file, of now")]
    fn file_being_created_is_tried_again_and_left() {
        let home = tempfile::tempdir().expect("a directory");
        let lock = LockDir::at(home.path()).port(5331).expect("a port");
        std::fs::write(lock.path(), "").expect("writes");
        let before = sleeps();
        let Err(AcquireError::Held(held)) = lock.clear() else { panic!("it is removed") };
        assert_eq!(held.reason, Refusal::Unknown(UnknownReason::BeingCreated));
        assert!(sleeps() - before >= 10, "it is not tried again");
        assert!(std::fs::exists(lock.path()).expect("it can be examined"));
    }

    #[test]
    fn force_removes_the_named_holders_file_alone() {
        let (_home, dir, guard, holder) = planted();
        let lock = dir.port(5333).expect("a port");
        let mut another = holder.clone();
        another.pid += 1;
        assert!(lock.force_clear(&another).is_err_and(|error| error.is_held()));
        let held = dir.port(5332).expect("a port").force_clear(guard.holder());
        assert!(held.is_err_and(|error| error.is_held()), "its kernel lock is held");
        let removed = lock.force_clear(&holder).expect("it is removed").expect("it was there");
        assert_eq!(removed.holder, Some(holder));
        assert!(matches!(lock.status(), Ok(Status::Free)));
    }

    #[test]
    fn sweep_removes_stale_files_alone() {
        let (_home, dir, guard, _) = planted();
        let swept = dir.sweep().expect("lists");
        let ports: Vec<_> =
            swept.iter().map(|one| (one.lock.port(), one.removed.is_ok())).collect();
        assert_eq!(ports, [(Some(5331), true)]);
        assert!(guard.is_still_held().expect("it can be examined"));
        let left = dir.port(5333).expect("a port").status();
        assert!(matches!(left, Ok(Status::Unknown { .. } | Status::Held { .. })), "{left:?}");
    }
}
