//! The operations of the protocol, as system calls.

use std::fs::{File, Metadata, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::time::SystemTime;

use super::filesystem::{counts_names, events_are_of_all, filesystem};
use super::{LockFile, Opened};
use crate::protocol::{
    Age, Confirm, Create, Dated, Done, FileSystem, Listen, LockReply, OpenReply, Probe, Probed,
    ReadReply, Unlink, Watch,
};
use crate::record::Contents;
#[cfg(target_os = "linux")]
use crate::sys::KernelLocks;
use crate::sys::author::author;
use crate::sys::unix::own_file::OwnFile;
use crate::sys::unix::{
    identity, is_absent, is_stale, make_directories, process, retried, twice_if_stale,
};
use crate::sys::{age, nothing_open, whole_milliseconds};

impl FileSystem for LockFile {
    fn create(&mut self) -> Create {
        let create = || OwnFile::created(|| self.create_new(), || self.open_again());
        let mut created = create();
        if created.as_ref().is_err_and(is_absent) {
            if let Some(parent) = self.path.parent() {
                // Something else may be there, as a link that leads nowhere: that says nothing
                // of the lock file.
                if let Err(error) = make_directories(parent) {
                    return self.failed(error, Create::Failed);
                }
                created = create();
            }
        }
        match created {
            Ok(file) => {
                self.open = Some(Opened::created(file));
                Create::Created
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Create::Exists,
            Err(error) if is_stale(&error) => self.may_pass(error, Create::Denied),
            Err(error) => self.failed(error, Create::Failed),
        }
    }

    fn open(&mut self) -> OpenReply {
        self.tried = None;
        self.seen = None;
        self.locks = None;
        match self.open_existing() {
            Ok(Some(opened)) => {
                self.open = Some(opened);
                OpenReply::Opened
            }
            Ok(None) => OpenReply::Absent,
            Err(error) if is_stale(&error) => self.may_pass(error, OpenReply::Denied),
            Err(error) => self.failed(error, OpenReply::Failed),
        }
    }

    fn age(&mut self) -> Dated {
        let now = SystemTime::now();
        let Some(opened) = &mut self.open else {
            return self.failed(nothing_open(), Dated::Failed);
        };
        match retried(|| opened.file.metadata()).and_then(|found| found.modified()) {
            Ok(changed) => {
                opened.changed = Some(changed);
                Dated::Known(age(now, changed))
            }
            Err(error) => self.failed_on_open(error, Dated::Known(Age::Young), Dated::Failed),
        }
    }

    fn lock(&mut self) -> LockReply {
        self.tried = None;
        let Some(opened) = &self.open else {
            return self.failed(nothing_open(), LockReply::Failed);
        };
        loop {
            let error = match fs4::FileExt::try_lock(&**opened.file) {
                Ok(()) => return *self.tried.insert(LockReply::Ours),
                Err(fs4::TryLockError::WouldBlock) => return *self.tried.insert(LockReply::Busy),
                Err(fs4::TryLockError::Error(error)) => error,
            };
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EOPNOTSUPP | libc::ENOSYS) => return LockReply::Unsupported,
                // Nothing is ever taken from one whose lock is busy.
                Some(_) | None => {
                    return self.failed_on_open(error, LockReply::Busy, LockReply::Failed);
                }
            }
        }
    }

    fn subscribe(&mut self) {
        let Some(opened) = &self.open else { return };
        let device = opened.identity.map_or(0, |(device, _)| device);
        if events_are_of_all(&opened.file, device) {
            self.listener.arm(&self.path, &opened.file);
        } else {
            self.listener.poll();
        }
    }

    fn wait_event(&mut self) -> Listen {
        match self.listener.wait_event() {
            Ok(returned) => returned,
            Err(error) => self.failed(error, Listen::Failed),
        }
    }

    fn write(&mut self) -> Done {
        let Some(opened) = &mut self.open else { return self.failed(nothing_open(), Done::Failed) };
        let ours = match retried(|| opened.file.metadata()) {
            Ok(ours) => ours,
            Err(error) => return self.failed(error, Done::Failed),
        };
        permit_owner(&opened.file, &ours);
        let ours = identity(&ours);
        opened.identity = Some(ours);
        let record = Arc::make_mut(&mut self.record);
        record.started_at = Some(whole_milliseconds(SystemTime::now()));
        (record.kernel_lock, record.device) = (self.tried == Some(LockReply::Ours), Some(ours.0));
        let bytes = record.to_bytes();
        if file_size_limit().is_some_and(|limit| limit < bytes.len() as u64) {
            return self.failed(io::Error::from_raw_os_error(libc::EFBIG), Done::Failed);
        }
        match retried(|| (&**opened.file).write(&bytes)) {
            Ok(written) if written == bytes.len() => Done::Done,
            Ok(_) => self.failed(ErrorKind::StorageFull.into(), Done::Failed),
            Err(error) => self.failed(error, Done::Failed),
        }
    }

    fn read(&mut self) -> ReadReply {
        self.seen = None;
        let Some(opened) = &self.open else {
            return self.failed(nothing_open(), ReadReply::Failed);
        };
        match self.contents(&opened.file) {
            Ok(Contents::Record(holder)) => {
                self.seen = Some(*holder);
                ReadReply::Record
            }
            Ok(Contents::Empty) => ReadReply::Empty,
            Ok(Contents::Unreadable) => ReadReply::Unreadable,
            Ok(Contents::Foreign) => {
                self.not_a_lock_file = Some("a file with other content");
                ReadReply::Foreign
            }
            Err(error) => self.failed_on_open(error, ReadReply::Empty, ReadReply::Failed),
        }
    }

    fn probe(&mut self) -> Probed {
        let (Some(opened), Some(holder)) = (&self.open, &self.seen) else {
            return self.failed(nothing_open(), Probed::Failed);
        };
        // The later of the two: a copied file keeps an old record, a touched one an old text.
        let written = opened.changed.max(holder.started_at);
        let found = author(
            &process::current_process(),
            holder,
            opened.identity.map(|(device, _)| device),
            || filesystem(opened, holder),
            |identify| {
                if self.tried == Some(LockReply::Busy) && self.waits_without_end {
                    return Ok(Probe::Unknown);
                }
                // No test sees the difference that the last argument makes: it takes a process that
                // has begun to exit and is no zombie yet, which nothing can hold there.
                process::probe(holder, identify, written, self.tried == Some(LockReply::Ours))
            },
        );
        match found {
            Ok(author) => Probed::Known(author),
            Err(error) => self.failed(error, Probed::Failed),
        }
    }

    fn confirm(&mut self) -> Confirm {
        if self.open.as_ref().is_some_and(|opened| opened.gone) {
            return Confirm::Changed;
        }
        if let Some(opened) = self.open.as_mut().filter(|opened| opened.is_new) {
            match retried(|| opened.file.metadata()) {
                Ok(ours) => {
                    (opened.identity, opened.is_new) = (Some(identity(&ours)), false);
                    // It got its one name when we created it, and no process links or renames a
                    // lock file (S9), so the path names it for as long as it has one. A person who
                    // moves it away at this instant might as well do so after the confirm.
                    if ours.nlink() <= 1 && counts_names(&opened.file, &ours) {
                        return if ours.nlink() == 1 { Confirm::Same } else { Confirm::Changed };
                    }
                }
                Err(error) => {
                    return self.failed_on_open(error, Confirm::Changed, Confirm::Failed);
                }
            }
        }
        match self.is_named() {
            Ok(true) => Confirm::Same,
            Ok(false) => Confirm::Changed,
            Err(error) => self.failed(error, Confirm::Failed),
        }
    }

    fn unlink(&mut self) -> Unlink {
        match twice_if_stale(|| retried(|| std::fs::remove_file(&self.path))) {
            Ok(()) => Unlink::Unlinked,
            // Stale: the directory is gone, and all that was in it.
            Err(error) if is_absent(&error) || is_stale(&error) => Unlink::Absent,
            Err(error) => self.failed(error, Unlink::Failed),
        }
    }

    fn truncate(&mut self) -> Done {
        let Some(opened) = &self.open else { return self.failed(nothing_open(), Done::Failed) };
        match retried(|| opened.file.set_len(1)) {
            Ok(()) => Done::Done,
            Err(error) => self.failed(error, Done::Failed),
        }
    }

    fn query_lock(&mut self) -> Watch {
        #[cfg(target_os = "linux")]
        if let Some(opened) = &self.open {
            let locks = self.locks.take().unwrap_or_else(|| KernelLocks::snapshot().into());
            return locks.watch(&opened.file, process::pid_namespace());
        }
        Watch::Unknown
    }

    fn close(&mut self) {
        if let Some(opened) = self.open.take() {
            // Nothing to do about an error: the close that follows frees the lock, unless a child
            // shares the file.
            let _ = fs4::FileExt::unlock(&**opened.file);
        }
    }

    fn close_without_unlock(&mut self) {
        self.open = None;
    }
}

/// How large a file this process may make (`RLIMIT_FSIZE`); `None` without a limit.
///
/// A write at the limit does not only fail: the kernel sends SIGXFSZ, which ends the process. It is
/// asked before every write, because a program may change it.
fn file_size_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` has room for the answer.
    let returned = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) } == 0;
    #[allow(clippy::useless_conversion, reason = "signed on some systems")]
    let bytes = u64::try_from(limit.rlim_cur).ok();
    bytes.filter(|_| returned && limit.rlim_cur != libc::RLIM_INFINITY)
}

/// Gives the owner of our new file the permissions that it was created with, if the umask has
/// removed them: without, no other process of the same user could read the record.
///
/// A filesystem that has no permissions may refuse that, and needs it not.
fn permit_owner(file: &File, found: &Metadata) {
    if found.mode() & 0o600 != 0o600 {
        let _ = retried(|| file.set_permissions(Permissions::from_mode(0o600)));
    }
}
