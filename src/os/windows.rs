//! The Windows adapter: a stub. Every operation fails, so nothing is locked and nothing touched.
//!
//! It shows that the trait fits: each operation says what it will be. `LockFileEx` is mandatory
//! where `flock` is advisory, so the kernel lock will cover one byte far past the end of the file,
//! at offset 2^64 - 2, and the record stays readable while it is held.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::{KernelLocks, process};
use crate::fs::{Confirm, Create, Dated, Done, FileSystem, Lock, Open, Read, Unlink, Wait};
use crate::judge::{Age, Evidence, Watch};
use crate::record::Holder;

/// One participant's view of one lock path, of which nothing can be opened yet.
#[derive(Debug)]
pub(crate) struct LockFile {
    path: PathBuf,
    record: Holder,
    seen: Option<Holder>,
    error: Option<io::Error>,
}

impl LockFile {
    /// A view of `path`. `record` is what a create would be recorded as.
    pub(crate) fn new(path: PathBuf, record: Holder) -> Self {
        Self { path, record, seen: None, error: None }
    }

    /// A second view of the same open file: there is none.
    pub(crate) fn for_exit(&self) -> Self {
        Self::new(self.path.clone(), self.record.clone())
    }

    /// The path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Our own record.
    pub(crate) fn record(&self) -> &Holder {
        &self.record
    }

    /// The record that was read last: none ever is.
    pub(crate) fn seen(&self) -> Option<&Holder> {
        self.seen.as_ref()
    }

    /// What stands at the path, if it is no regular file: nothing is ever looked at.
    ///
    /// Will be "a directory", "a symbolic link" for any reparse point, or "a device" for the
    /// reserved names (NUL, CON, COM1).
    pub(crate) fn not_a_lock_file(&self) -> Option<&'static str> {
        None
    }

    /// The first error since the last call.
    pub(crate) fn take_error(&mut self) -> io::Error {
        self.error.take().unwrap_or_else(unsupported)
    }

    /// Nothing is opened, so nothing lacks.
    pub(crate) fn lacked_descriptors(&self) -> bool {
        false
    }

    /// No watch is answered yet.
    pub(crate) fn watch_in(&mut self, _: Arc<KernelLocks>) {}

    /// Makes `command` inherit the open file. There is none.
    ///
    /// Will mark the handle inheritable for one `CreateProcess`, with a handle list
    /// (`PROC_THREAD_ATTRIBUTE_HANDLE_LIST`), so that no other child gets it. A lock of
    /// `LockFileEx` belongs to the process that took it and is not inherited with the handle, so
    /// the child will have to take its own: an open question of the port.
    pub(crate) fn hand_over(&self, _: &mut Command) {}

    /// Does the path still name our open file? There is none, so it does not.
    pub(crate) fn is_named(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Keeps the first error, as the other adapters do.
    fn failed<T>(&mut self, reply: T) -> T {
        self.error.get_or_insert_with(unsupported);
        reply
    }
}

impl FileSystem for LockFile {
    /// Will be `CreateFileW(CREATE_NEW)`, sharing read, write and delete, with
    /// `FILE_FLAG_OPEN_REPARSE_POINT` and a handle that is not inherited.
    ///
    /// `ERROR_FILE_EXISTS` is [`Create::Exists`]. `ERROR_ACCESS_DENIED` is [`Create::Denied`]: the
    /// name may be that of a file which was deleted and is still open somewhere.
    fn create(&mut self) -> Create {
        self.failed(Create::Failed)
    }

    /// Will be `CreateFileW(OPEN_EXISTING)`, sharing and flags as in `create`, then
    /// `GetFileInformationByHandle`: a directory or a reparse point is not a lock file.
    ///
    /// `ERROR_FILE_NOT_FOUND` and `ERROR_PATH_NOT_FOUND` are [`Open::Absent`],
    /// `ERROR_ACCESS_DENIED` and `ERROR_DELETE_PENDING` are [`Open::Denied`].
    fn open(&mut self) -> Open {
        self.failed(Open::Failed)
    }

    /// Will be `GetSystemTimePreciseAsFileTime`, then `GetFileInformationByHandle` for the time of
    /// the last write: the clock first, as on Unix.
    fn age(&mut self) -> Dated {
        self.failed(Dated::Failed)
    }

    /// Will be `LockFileEx(LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY)` on one byte at
    /// offset 2^64 - 2.
    ///
    /// `ERROR_LOCK_VIOLATION` is [`Lock::Busy`]; `ERROR_INVALID_FUNCTION` and
    /// `ERROR_NOT_SUPPORTED` are [`Lock::Unsupported`]. fs4 and std lock the whole file, so
    /// that a contender could not read the record (`ERROR_LOCK_VIOLATION` from `ReadFile`).
    fn lock(&mut self) -> Lock {
        self.failed(Lock::Failed)
    }

    /// Will be `LockFileEx(LOCKFILE_EXCLUSIVE_LOCK)` on the same byte: it waits.
    fn wait(&mut self) -> Wait {
        self.failed(Wait::Failed)
    }

    /// Will be one `WriteFile` at offset 0.
    fn write(&mut self) -> Done {
        self.failed(Done::Failed)
    }

    /// Will be `ReadFile` at explicit offsets, 4097 bytes at most.
    fn read(&mut self) -> Read {
        self.failed(Read::Failed)
    }

    /// Will be `OpenProcess(SYNCHRONIZE | PROCESS_QUERY_LIMITED_INFORMATION)`,
    /// `WaitForSingleObject(0)` and `GetProcessTimes`, whose creation time tells a pid that was
    /// given out again.
    ///
    /// The exit code proves nothing, since a process may exit with 259 (`STILL_ACTIVE`). A pid is
    /// rounded down to a multiple of 4, so only the creation time identifies.
    fn probe(&mut self) -> Evidence {
        // There are no pid namespaces, so what the filesystem's locks prove is never asked.
        match &self.seen {
            Some(holder) => {
                let author = process::author(holder, || true);
                Evidence::Record(author, process::probe(holder, author, holder.since))
            }
            None => Evidence::Nothing(Age::Young),
        }
    }

    /// Will open the path again, without rights to read or write, and compare volume serial number
    /// and file index of both handles (`GetFileInformationByHandle`).
    ///
    /// The index cannot be given out again while a handle is open. A denial that may come from a
    /// name which is being deleted is [`Confirm::Changed`].
    fn confirm(&mut self) -> Confirm {
        self.failed(Confirm::Failed)
    }

    /// Will be `SetFileInformationByHandle(FileDispositionInfoEx)` with POSIX semantics, which
    /// frees the name at once, or `DeleteFileW` where the filesystem refuses that (FAT, older
    /// systems): there the name stays taken until the last handle is closed.
    fn unlink(&mut self) -> Unlink {
        self.failed(Unlink::Failed)
    }

    /// Will be `SetFileInformationByHandle(FileEndOfFileInfo)` with 0.
    fn void(&mut self) -> Done {
        self.failed(Done::Failed)
    }

    /// Not settled: `LockFileEx`, even shared, would take the lock for a moment, which a query must
    /// not. Until a way is found the answer is "unknown", and the probe decides.
    fn watch(&mut self) -> Watch {
        Watch::Unknown
    }

    /// Will be `UnlockFileEx`, then `CloseHandle`. There is nothing to close.
    fn close(&mut self) {}

    /// Will be `CloseHandle`. There is nothing to close.
    fn leave(&mut self) {}
}

fn unsupported() -> io::Error {
    io::Error::new(ErrorKind::Unsupported, "portlock does not support Windows yet")
}
