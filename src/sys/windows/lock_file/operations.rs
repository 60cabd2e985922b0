//! The operations of the protocol, as calls of the system.

use std::io::ErrorKind;
use std::os::windows::io::AsHandle;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::{LockFile, Opened};
use crate::protocol::{
    Age, Confirm, Create, Dated, Done, FileSystem, Listen, LockReply, OpenReply, Probed, ReadReply,
    Unlink, Watch,
};
use crate::record::Contents;
#[cfg(feature = "tokio")]
use crate::sys::Backoff;
use crate::sys::author::{Filesystem, author};
use crate::sys::windows::open_file::Tried;
use crate::sys::windows::request::Waited;
use crate::sys::windows::{is_denied, process};
use crate::sys::{age, nothing_open, whole_milliseconds};

impl FileSystem for LockFile {
    /// `CreateFileW(CREATE_NEW)`, for the user alone, sharing everything, not inherited.
    ///
    /// `ERROR_FILE_EXISTS` is [`Create::Exists`]. `ERROR_ACCESS_DENIED` is [`Create::Denied`]: the
    /// name may be that of a file which was removed and is still open somewhere.
    fn create(&mut self) -> Create {
        match self.create_new() {
            Ok(file) => match file.look().and_then(|new| self.only_a_regular_file(new.kind)) {
                Ok(()) => {
                    self.open = Some(Opened { file: file.into(), changed: None });
                    Create::Created
                }
                // A device takes any exclusive create. Of a file it is not known what it is, and
                // it is left empty, as by one that died here.
                Err(error) => self.failed(error, Create::Failed),
            },
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Create::Exists,
            Err(error) if is_denied(&error) => self.denied(error, Create::Denied),
            Err(error) => self.failed(error, Create::Failed),
        }
    }

    /// `GetFileAttributesExW`, `CreateFileW(OPEN_EXISTING)`, sharing everything, links not followed;
    /// then `GetFileInformationByHandle`: a directory, link or device is neither opened nor followed.
    /// The kind of a file never changes, so this is still one step.
    ///
    /// `ERROR_FILE_NOT_FOUND` and `ERROR_PATH_NOT_FOUND` are [`OpenReply::Absent`];
    /// `ERROR_ACCESS_DENIED`, `ERROR_DELETE_PENDING` and `ERROR_SHARING_VIOLATION` are
    /// [`OpenReply::Denied`], and so is a file that is being deleted where it can be opened anyway.
    fn open(&mut self) -> OpenReply {
        self.seen = None;
        match self.open_existing() {
            Ok(Some(opened)) => {
                self.open = Some(opened);
                OpenReply::Opened
            }
            Ok(None) => OpenReply::Absent,
            Err(error) if is_denied(&error) => self.denied(error, OpenReply::Denied),
            Err(error) => self.failed(error, OpenReply::Failed),
        }
    }

    /// `GetSystemTimePreciseAsFileTime`, `GetFileInformationByHandle`: the clock first, as on Unix.
    fn age(&mut self) -> Dated {
        let now = SystemTime::now();
        let Some(opened) = &mut self.open else {
            return self.failed(nothing_open(), Dated::Failed);
        };
        match opened.file.look() {
            Ok(found) => {
                opened.changed = found.written;
                // One that std cannot hold is far in the future.
                Dated::Known(found.written.map_or(Age::Old, |written| age(now, written)))
            }
            Err(error) => self.failed(error, Dated::Failed),
        }
    }

    /// `LockFileEx(LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY)` on one byte at 2^64 - 2.
    ///
    /// `ERROR_LOCK_VIOLATION` is [`LockReply::Busy`]; `ERROR_INVALID_FUNCTION` and
    /// `ERROR_NOT_SUPPORTED` are [`LockReply::Unsupported`].
    fn lock(&mut self) -> LockReply {
        let Some(opened) = &self.open else {
            return self.failed(nothing_open(), LockReply::Failed);
        };
        match opened.file.try_lock() {
            Ok(Tried::Ours) => LockReply::Ours,
            Ok(Tried::Busy) => LockReply::Busy,
            Ok(Tried::Unsupported) => LockReply::Unsupported,
            Err(error) => self.failed(error, LockReply::Failed),
        }
    }

    /// Nothing: what is listened to is the kernel lock of the open file.
    fn subscribe(&mut self) {
        #[cfg(feature = "tokio")]
        {
            self.backoff = Backoff::from(Backoff::FIRST);
        }
    }

    /// `LockFileEx(LOCKFILE_EXCLUSIVE_LOCK)` on the same byte, overlapped, with a time-out and an
    /// event that cancels it: it waits.
    ///
    /// The event is that the kernel lock is ours, and it stays ours: the machine, which looks next
    /// and then tries the lock, finds that it has it. To give it up in between would be a call that
    /// no machine makes. The model has this step (`Config::windows`). At the end of the
    /// time there is one event for nothing, for a last look at the path.
    fn wait_event(&mut self) -> Listen {
        let Some(opened) = &self.open else { return self.failed(nothing_open(), Listen::Failed) };
        let limit = self.deadline.end.map(|end| end.saturating_duration_since(Instant::now()));
        let cancelled = self.deadline.cancelled.as_ref().map(AsHandle::as_handle);
        match opened.file.wait(limit, cancelled) {
            Ok(Waited::Ours) => Listen::Event,
            Ok(Waited::TimeOver) if !std::mem::replace(&mut self.looked_last, true) => {
                Listen::Event
            }
            Ok(Waited::TimeOver | Waited::Cancelled) => Listen::Over,
            Err(error) => self.failed(error, Listen::Failed),
        }
    }

    /// `GetFileInformationByHandleEx`, and one `WriteFile` at the start.
    fn write(&mut self) -> Done {
        let Some(opened) = &self.open else { return self.failed(nothing_open(), Done::Failed) };
        let volume = match opened.file.look() {
            Ok(ours) => ours.identity.volume(),
            Err(error) => return self.failed(error, Done::Failed),
        };
        let record = Arc::make_mut(&mut self.record);
        record.started_at = Some(whole_milliseconds(SystemTime::now()));
        (record.kernel_lock, record.device) = (opened.file.is_locked(), Some(volume));
        let bytes = record.to_bytes();
        match opened.file.write(&bytes) {
            Ok(written) if written == bytes.len() => Done::Done,
            Ok(_) => self.failed(ErrorKind::StorageFull.into(), Done::Failed),
            Err(error) => self.failed(error, Done::Failed),
        }
    }

    /// `ReadFile` at explicit offsets, 4097 bytes at most.
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
            Err(error) => self.failed(error, ReadReply::Failed),
        }
    }

    /// `OpenProcess`, `WaitForSingleObject(0)`, `GetProcessTimes`: see `process_windows.rs`.
    fn probe(&mut self) -> Probed {
        let (Some(opened), Some(holder)) = (&self.open, &self.seen) else {
            return self.failed(nothing_open(), Probed::Failed);
        };
        // The later of the two: a copied file keeps an old record, a touched one an old text.
        let written = opened.changed.max(holder.started_at);
        let volume = opened.file.look().ok().map(|found| found.identity.volume());
        let found = author(
            &process::current_process(),
            holder,
            volume,
            // A volume of this machine may be shared by others: it is not asked whose it is.
            || Filesystem::MayBeShared,
            |identify| Ok(process::probe(holder, identify, written)),
        );
        match found {
            Ok(author) => Probed::Known(author),
            Err(error) => self.failed(error, Probed::Failed),
        }
    }

    /// `GetFileInformationByHandleEx` of the open file, and of the path, opened once more without a
    /// right to read or write: the same volume and file number, and not being deleted?
    ///
    /// The number cannot be given out again while the file is open.
    fn confirm(&mut self) -> Confirm {
        match self.is_named() {
            Ok(true) => Confirm::Same,
            Ok(false) => Confirm::Changed,
            Err(error) => self.failed(error, Confirm::Failed),
        }
    }

    /// `CreateFileW(OPEN_EXISTING)` with the right to delete, `GetFileInformationByHandleEx`: is it
    /// our open file? Then `SetFileInformationByHandle(FileDispositionInfoEx)` with POSIX
    /// semantics, which frees the name at once; or `FileDispositionInfo` where the filesystem
    /// refuses that: there the name stays taken until the last handle is closed.
    ///
    /// The file that is removed is the one that was compared, so another's at the path stays
    /// whenever it came. That answers [`Unlink::Absent`]: ours was gone. While a program that does
    /// not share the file for it has it open, the removal is tried again, for 0.1 s.
    fn unlink(&mut self) -> Unlink {
        let Some(opened) = &self.open else { return self.failed(nothing_open(), Unlink::Failed) };
        match self.remove(&opened.file) {
            Ok(reply) => reply,
            Err(error) => self.failed(error, Unlink::Failed),
        }
    }

    /// `SetFileInformationByHandle(FileEndOfFileInfo)` with 1.
    fn truncate(&mut self) -> Done {
        let Some(opened) = &self.open else { return self.failed(nothing_open(), Done::Failed) };
        match opened.file.cut_short() {
            Ok(()) => Done::Done,
            Err(error) => self.failed(error, Done::Failed),
        }
    }

    /// Windows lists no locks, and to try the lock, even shared, would take it for a moment,
    /// which a query must not. So the answer is "unknown", and the probe decides.
    fn query_lock(&mut self) -> Watch {
        Watch::Unknown
    }

    /// `UnlockFileEx`, `CloseHandle`.
    fn close(&mut self) {
        if let Some(opened) = self.open.take() {
            opened.file.unlock();
        }
    }

    /// `CloseHandle`.
    fn close_without_unlock(&mut self) {
        self.open = None;
    }
}
