//! What users hold: a lock, and the ways to acquire it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::acquire::driver::Driver;
use crate::acquire::wait::WaitOptions;
use crate::acquire::wait_queue::Waiter;
use crate::error::AcquireError;
use crate::error::held::{Held, Subject};
use crate::guard::Guard;
use crate::protocol::{Op, Refusal, Unsure};
use crate::record::Holder;
use crate::sys::{self, LockFile};

/// A lock that can be acquired: a path, and whose it is. It holds nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    path: Arc<Path>,
    subject: Subject,
    command: Option<String>,
    note: Option<String>,
}

impl Lock {
    pub(crate) fn new(path: impl Into<Arc<Path>>, subject: Subject) -> Self {
        Self { path: path.into(), subject, command: None, note: None }
    }

    /// The lock whose file is `path`. A relative one counts from the working directory now.
    ///
    /// The file must be used for nothing else: a release removes it.
    pub fn at(path: impl AsRef<Path>) -> Self {
        Self::new(sys::absolute(path.as_ref()), Subject::Path)
    }

    /// Records `command` as the name of the program, instead of the name that this process was
    /// started by. Unprintable characters are dropped, and all after the 64th.
    #[must_use = "returns the changed lock"]
    pub fn command(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }

    /// Records `note` next to the program: what others should know about the holder, such as a URL
    /// or a version. A refusal, a status and a list show it.
    ///
    /// Unprintable characters are dropped, and all after the 128th ([`MAX_NOTE`](crate::MAX_NOTE)).
    /// Every user who may read the lock file can read it: no secrets.
    ///
    /// ```
    /// # let home = tempfile::tempdir()?;
    /// let lock = portlock::LockDir::at(home.path()).port(5338)?.note("http://localhost:5338");
    /// let guard = lock.try_acquire()?;
    /// let refusal = lock.try_acquire().expect_err("it is held").to_string();
    /// assert!(refusal.contains("note: http://localhost:5338"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "returns the changed lock"]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
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

    pub(crate) fn shared_path(&self) -> Arc<Path> {
        self.path.clone()
    }

    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Acquires the lock if it is free; reclaims it if its holder is dead.
    ///
    /// Does not wait for a holder. It may pause for about 30 ms in all, while other participants
    /// finish what they are doing.
    ///
    /// # Errors
    ///
    /// [`AcquireError::Held`] if another participant holds it, or may; see its variants for the rest.
    pub fn try_acquire(&self) -> Result<Guard, AcquireError> {
        Driver::trying(self).run()
    }

    /// Acquires the lock, and waits for as long as it is held: **blocks**.
    ///
    /// It waits in the kernel (`flock`), which wakes it when the holder releases or dies. A holder
    /// without a kernel lock (an agent of the old format, a holder on another machine, a filesystem
    /// without kernel locks) is looked at again at intervals that grow to 10 ms. A handled signal
    /// does not end the wait. Waiters of different processes are not served in order.
    ///
    /// It waits for the file that it found locked. If another program removes that file from under
    /// its holder, the wait still ends when that holder does. Of the threads of one process that
    /// wait for the same path one is at the file, and the others follow it in the order in which they
    /// came, though a new caller may get a lock that is just free before them.
    ///
    /// A process that already holds the lock waits for itself, without end.
    ///
    /// # Errors
    ///
    /// Same as [`try_acquire`](Self::try_acquire), but never [`AcquireError::Held`].
    pub fn acquire(&self) -> Result<Guard, AcquireError> {
        self.acquire_with(WaitOptions::new())
    }

    /// Acquires the lock, and waits for at most `limit` for its holder: **blocks**.
    ///
    /// On Linux it is woken when the holder releases or dies (inotify), as far as the user's number
    /// of watches reaches, on filesystems whose events cover all participants (not NFS, not FUSE); on
    /// macOS and FreeBSD too (kqueue); on Windows it waits for the kernel lock itself. Beyond that,
    /// and elsewhere, it looks again at intervals that grow to 10 ms. At the end of the time it has
    /// nothing open, and nothing is left that would take the lock later, but for the queue of
    /// inotify's events, which is kept for the next wait: a descriptor for each wait at the same
    /// time, at most 16. Threads of one process queue as in [`acquire`](Self::acquire), and with each
    /// other. With [`Duration::ZERO`] it does what [`try_acquire`](Self::try_acquire) does; a limit
    /// that ends beyond the clock's range is none.
    ///
    /// # Errors
    ///
    /// Same as [`try_acquire`](Self::try_acquire), with [`AcquireError::Timeout`] in the place of
    /// [`AcquireError::Held`].
    pub fn acquire_timeout(&self, limit: Duration) -> Result<Guard, AcquireError> {
        self.acquire_with(WaitOptions::new().timeout(limit))
    }

    /// Acquires the lock, and waits as `options` say: **blocks**.
    ///
    /// Without a limit and a token it waits as [`acquire`](Self::acquire) does, with a limit as
    /// [`acquire_timeout`](Self::acquire_timeout). With a token it waits as with a limit, but always
    /// at the file and never behind other threads. At the end of the wait nothing is open, and nothing
    /// is left that would take the lock later.
    ///
    /// # Errors
    ///
    /// Same as [`try_acquire`](Self::try_acquire), with [`AcquireError::Timeout`] or
    /// [`AcquireError::Cancelled`] in the place of [`AcquireError::Held`].
    pub fn acquire_with(&self, options: WaitOptions<'_>) -> Result<Guard, AcquireError> {
        Driver::waiting(self, options, Waiter::Thread).run()
    }

    /// What a create is recorded as.
    pub(crate) fn record(&self) -> Holder {
        let mut record = sys::process::me().into_owned();
        record.port = self.port();
        if self.command.is_some() {
            record.command.clone_from(&self.command);
        }
        record.note.clone_from(&self.note);
        record
    }

    /// The holder that a refusal names.
    pub(crate) fn known_holder(file: &LockFile, why: Refusal) -> Option<&Holder> {
        match why {
            // No file was looked at to the end.
            Refusal::Unknown(Unsure::Contended | Unsure::BeingCreated | Unsure::Unreadable) => None,
            Refusal::Holder | Refusal::Unknown(_) => file.seen(),
        }
    }

    pub(crate) fn held(&self, file: &LockFile, why: Refusal) -> Held {
        let holder = Self::known_holder(file, why).cloned();
        let mut held = Held::new(self, holder, why);
        if why == Refusal::Unknown(Unsure::RecordedGone) {
            let recorded = held.holder.as_ref().map_or(0, |holder| holder.pid);
            held.locked_by = sys::process::pids_with_lock(&self.path, recorded);
        }
        held
    }

    pub(crate) fn failed(&self, mut file: LockFile, op: Op) -> AcquireError {
        let path = self.path.to_path_buf();
        match (file.not_a_lock_file(), op, self.path.parent()) {
            (Some(found), _, _) => AcquireError::NotALockFile { path, found },
            (None, Op::Create, Some(dir)) => {
                AcquireError::Directory { path: dir.to_owned(), source: file.take_error() }
            }
            (None, _, _) => {
                let source = file.take_error();
                let is_denied = source.kind() == std::io::ErrorKind::PermissionDenied;
                let may_be_owners = matches!(op, Op::Open | Op::Read | Op::Unlink);
                let owner =
                    (is_denied && may_be_owners).then(|| sys::foreign_owner(&path)).flatten();
                AcquireError::Io { op, path, owner, source }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_no_time_out() {
        let home = tempfile::tempdir().expect("a directory");
        let error = Lock::at(home.path()).acquire_timeout(Duration::from_secs(3600));
        let error = error.expect_err("a directory is no lock file");
        assert!(matches!(error, AcquireError::NotALockFile { .. }), "{error:?}");
    }
}
