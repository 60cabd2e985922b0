//! A lock: its path, what it is for, and what its holder records.

use std::path::Path;
use std::sync::Arc;

use crate::error::AcquireError;
use crate::error::held::Held;
use crate::protocol::{Op, Refusal, UnknownReason};
use crate::record::Holder;
use crate::subject::Subject;
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

    /// What a create is recorded as.
    pub(crate) fn record(&self) -> Holder {
        let mut record = sys::process::current_process().into_owned();
        record.port = self.port();
        if self.command.is_some() {
            record.command.clone_from(&self.command);
        }
        record.note.clone_from(&self.note);
        record
    }

    /// The holder that a refusal names.
    pub(crate) fn known_holder(file: &LockFile, reason: Refusal) -> Option<&Holder> {
        match reason {
            // No file was looked at to the end.
            Refusal::Unknown(
                UnknownReason::Contended | UnknownReason::BeingCreated | UnknownReason::Unreadable,
            ) => None,
            Refusal::Holder | Refusal::Unknown(_) => file.seen(),
        }
    }

    pub(crate) fn held(&self, file: &LockFile, reason: Refusal) -> Held {
        let holder = Self::known_holder(file, reason).cloned();
        let mut held = Held::new(self, holder, reason);
        if reason == Refusal::Unknown(UnknownReason::HolderExited) {
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

impl Held {
    /// A refusal of `lock`, as an acquire makes it: for the tests of a program that shows one, or
    /// branches on it ([`testing`](crate::testing)).
    pub fn new(lock: &Lock, holder: Option<Holder>, reason: Refusal) -> Self {
        Self::of(lock.subject.clone(), lock.path().to_owned(), holder, reason)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// They are looked for only where the recorded process is not one of them.
    #[test]
    #[cfg(target_os = "linux")]
    fn only_an_orphaned_lock_names_who_has_it() {
        let home = tempfile::tempdir().expect("a directory");
        let lock = Lock::at(home.path().join("x.lock"));
        let guard = lock.try_acquire().expect("free");
        let file = LockFile::to_ask(lock.shared_path());
        let locked_by = |reason| lock.held(&file, reason).locked_by;
        assert!(locked_by(Refusal::Holder).is_empty());
        assert!(locked_by(Refusal::Unknown(UnknownReason::CannotProbe)).is_empty());
        let orphaned = locked_by(Refusal::Unknown(UnknownReason::HolderExited));
        assert!(orphaned.contains(&sys::process::pid()), "{orphaned:?}");
        drop(guard);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "another user's file")]
    fn owner_is_named_for_lack_of_permission_only() {
        let home = tempfile::tempdir().expect("a directory");
        let lock = Lock::at(home.path().join("x.lock"));
        std::fs::write(lock.path(), "").expect("writes");
        if !sys::given_away(lock.path()) {
            return;
        }
        // Nothing has failed, so that the reason is not known.
        let failed = lock.failed(LockFile::to_ask(lock.shared_path()), Op::Read);
        assert!(matches!(failed, AcquireError::Io { owner: None, .. }), "{failed:?}");
    }
}
