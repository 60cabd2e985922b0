//! The Windows adapter: one lock path, as calls of the system.
//!
//! Windows differs from Unix in three ways that matter here. A kernel lock is mandatory, so it
//! covers one byte far past the end of the file, and the record stays readable while it is held. A
//! file that is removed may keep its name until its last handle is closed ("delete pending"); the
//! name is then denied to everybody, which is tried again. And a file is removed through a handle:
//! what is removed is the very file that was compared with ours, whatever the path names by then.

#![allow(unsafe_code)]

mod open_file;
mod owner;

use std::io::{self, ErrorKind};
use std::os::windows::io::{AsHandle, BorrowedHandle};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_DELETE_PENDING, ERROR_SHARING_VIOLATION, ERROR_TOO_MANY_OPEN_FILES,
};

use self::open_file::{Kind, OpenFile, Tried, Waited, code};
#[cfg(feature = "tokio")]
use super::Backoff;
use super::author::{Filesystem, author};
use super::{Deadline, KernelLocks, age, nothing_open, process, whole_milliseconds};
use crate::fs::{
    Confirm, Create, Dated, Done, FileSystem, Listen, Lock, Open, Probed, Read, Unlink,
};
use crate::judge::{Age, Watch};
use crate::place::port_of_file;
use crate::record::{Contents, FileName, Holder, MAX_RECORD};

pub(crate) use self::open_file::{hundreds_of_ns, milliseconds, new_event, time_of};

/// How often a removal is tried while somebody has the file open who does not share it for that:
/// an indexer or a virus scanner, for a moment.
const REMOVALS: u32 = 30;

/// The pause between two such tries. All of them take less than 0.1 s, unless the clock of the
/// system is coarse (16 ms): then half a second.
const BETWEEN_REMOVALS: Duration = Duration::from_millis(3);

/// One participant's view of one lock path.
#[derive(Debug)]
pub(crate) struct LockFile {
    /// Shared, as the record is, with what is kept of it for the exit.
    path: Arc<Path>,
    record: Arc<Holder>,
    open: Option<Opened>,
    seen: Option<Holder>,
    not_a_lock_file: Option<&'static str>,
    error: Option<io::Error>,
    /// The last denial that may have been a passing one: not yet an error.
    denial: Option<io::Error>,
    /// When a wait by `listen` ends, and whether its event for nothing has come since.
    deadline: Deadline,
    looked_last: bool,
    /// Between the looks of a task.
    #[cfg(feature = "tokio")]
    backoff: Backoff,
}

#[derive(Debug)]
struct Opened {
    file: Arc<OpenFile>,
    changed: Option<SystemTime>,
}

impl LockFile {
    /// A view of `path` with nothing open. `record` is what a create would be recorded as.
    pub(crate) fn new(path: impl Into<Arc<Path>>, record: impl Into<Arc<Holder>>) -> Self {
        Self {
            path: path.into(),
            record: record.into(),
            open: None,
            seen: None,
            not_a_lock_file: None,
            error: None,
            denial: None,
            deadline: Deadline::default(),
            looked_last: false,
            #[cfg(feature = "tokio")]
            backoff: Backoff::default(),
        }
    }

    /// The same as any other: an open for reading and writing has no effect here.
    pub(crate) fn to_ask(path: impl Into<Arc<Path>>) -> Self {
        Self::new(path, process::me().into_owned())
    }

    /// Nothing is spared here: a probe is two calls on a handle.
    pub(crate) fn wait_without_end(&mut self) {}

    /// Has every wait by [`FileSystem::listen`] end then.
    pub(crate) fn listen_until(&mut self, deadline: Deadline) {
        (self.deadline, self.looked_last) = (deadline, false);
    }

    /// What the exit of the process needs of the open file, if there is one.
    pub(crate) fn left_open(&self) -> Option<LeftOpen> {
        let file = Arc::downgrade(&self.open.as_ref()?.file);
        Some(LeftOpen { path: self.path.clone(), file })
    }

    /// Whether the open file is this process's: there is no fork.
    pub(crate) fn is_ours(&self) -> bool {
        true
    }

    /// The path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Our own record, as it was written last.
    pub(crate) fn record(&self) -> &Holder {
        &self.record
    }

    /// The record that was read last.
    pub(crate) fn seen(&self) -> Option<&Holder> {
        self.seen.as_ref()
    }

    /// What stands at the path, if it is no regular file.
    pub(crate) fn not_a_lock_file(&self) -> Option<&'static str> {
        self.not_a_lock_file
    }

    /// The first error since the last call, or else the denial that lasted.
    pub(crate) fn take_error(&mut self) -> io::Error {
        let error = self.error.take().or(self.denial.take());
        error.unwrap_or_else(|| io::Error::other("the reason is not known"))
    }

    /// Whether the denial that lasted was of a name that is being deleted, and not of a permission:
    /// some program still has the file open, and nobody holds it.
    pub(crate) fn is_being_deleted(&self) -> bool {
        self.error.is_none() && self.denial.as_ref().and_then(code) == Some(ERROR_DELETE_PENDING)
    }

    /// Whether the first error was a lack of handles. The system has room for 16 million.
    pub(crate) fn lacked_descriptors(&self) -> bool {
        self.error.as_ref().is_some_and(lacks_descriptors)
    }

    /// No watch is answered: see [`watch`](FileSystem::watch).
    pub(crate) fn watch_in(&mut self, _: Arc<KernelLocks>) {}

    /// Nothing is passed: a kernel lock of Windows belongs to the process that took it, and
    /// does not go with the handle.
    pub(crate) fn pass_to_child(&self, _: &mut Command) {}

    /// The open file's handle.
    pub(crate) fn as_handle(&self) -> Option<BorrowedHandle<'_>> {
        self.open.as_ref().map(|opened| opened.file.as_handle())
    }

    /// Does the path still name our open file? With the error, if that cannot be told.
    ///
    /// Both files are looked at anew: the number of a file on FAT changes when it is moved there.
    pub(crate) fn is_named(&self) -> io::Result<bool> {
        let Some(opened) = &self.open else { return Ok(false) };
        let ours = opened.file.look()?;
        if ours.pending {
            return Ok(false);
        }
        match OpenFile::open_to_look(&self.path).and_then(|named| named.look()) {
            Ok(named) => Ok(named.identity == ours.identity),
            Err(error) if is_absent(&error) => Ok(false),
            // Before Windows 10 a name that is being deleted is denied as any other.
            Err(error) if is_denied(&error) && opened.file.look()?.pending => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// In the place of [`FileSystem::listen`], in a task: it looks again, after pauses that grow.
    /// What `listen` waits for needs a thread that waits.
    #[cfg(feature = "tokio")]
    pub(crate) async fn listen_in_task(&mut self) -> Listen {
        if self.deadline.is_late() {
            return if std::mem::replace(&mut self.looked_last, true) {
                Listen::Over
            } else {
                Listen::Event
            };
        }
        let pause = self.backoff.next(Backoff::LONGEST_POLL, &self.deadline);
        self.deadline.sleep_in_task(pause).await;
        if self.deadline.is_cancelled() { Listen::Over } else { Listen::Event }
    }

    /// Keeps the first error: what fails afterwards, while cleaning up, explains nothing.
    fn failed<T>(&mut self, error: io::Error, reply: T) -> T {
        self.error.get_or_insert(error);
        reply
    }

    /// Keeps the last denial, which is an error only if it lasts.
    fn denied<T>(&mut self, error: io::Error, reply: T) -> T {
        self.denial = Some(error);
        reply
    }

    fn create_new(&self) -> io::Result<OpenFile> {
        OpenFile::create_new(&self.path).or_else(|error| {
            let parent = self.path.parent().filter(|_| error.kind() == ErrorKind::NotFound);
            owner::make_directory(parent.ok_or(error)?)?;
            OpenFile::create_new(&self.path)
        })
    }

    fn open_existing(&mut self) -> io::Result<Option<Opened>> {
        match OpenFile::glance(&self.path) {
            Ok((kind, pending)) => {
                self.only_a_regular_file(kind)?;
                not_pending(pending)?;
            }
            Err(error) if is_absent(&error) => return Ok(None),
            // A device has no attributes; of all else the open tells what is wrong.
            Err(_) => {}
        }
        let file = match OpenFile::open(&self.path) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = file.look()?;
        self.only_a_regular_file(found.kind)?;
        not_pending(found.pending)?;
        Ok(Some(Opened { file: file.into(), changed: None }))
    }

    fn only_a_regular_file(&mut self, found: Kind) -> io::Result<()> {
        let kind = match found {
            Kind::File => return Ok(()),
            Kind::Directory => "a directory",
            Kind::ReparsePoint => "a symbolic link or another reparse point",
            Kind::Device => "a device",
        };
        self.not_a_lock_file = Some(kind);
        Err(io::Error::new(ErrorKind::InvalidInput, format!("it is {kind}")))
    }

    fn contents(&self, file: &OpenFile) -> io::Result<Contents> {
        let mut bytes = [0; MAX_RECORD + 1];
        let filled = file.read(&mut bytes)?;
        let name = self.path.file_name().and_then(|name| name.to_str());
        let name = match name.and_then(port_of_file) {
            Some(_) => FileName::OfPort,
            None => FileName::Any,
        };
        Ok(Contents::of(&bytes[..filled], name))
    }

    /// Removes our open file, if the path names it.
    fn remove(&self, ours: &OpenFile) -> io::Result<Unlink> {
        let named = match self.open_to_remove() {
            Ok(named) => named,
            Err(error) if is_absent(&error) => return Ok(Unlink::Absent),
            Err(error) if is_denied(&error) && ours.look()?.pending => return Ok(Unlink::Absent),
            Err(error) => return Err(error),
        };
        let found = named.look()?;
        if found.pending || found.identity != ours.look()?.identity {
            return Ok(Unlink::Absent);
        }
        named.remove(ours)?;
        Ok(Unlink::Unlinked)
    }

    fn open_to_remove(&self) -> io::Result<OpenFile> {
        let mut tries_left = REMOVALS;
        loop {
            match OpenFile::open_to_remove(&self.path) {
                Err(error) if code(&error) == Some(ERROR_SHARING_VIOLATION) && tries_left > 0 => {
                    tries_left -= 1;
                    std::thread::sleep(BETWEEN_REMOVALS);
                }
                done => return done,
            }
        }
    }
}

pub(crate) fn lacks_descriptors(error: &io::Error) -> bool {
    code(error) == Some(ERROR_TOO_MANY_OPEN_FILES)
}

/// Windows has no limit for locks.
pub(crate) fn lacks_locks(_: &io::Error) -> bool {
    false
}

/// Users have no numbers.
pub(crate) fn foreign_owner(_: &Path) -> Option<u32> {
    None
}

/// What is kept of a participant's open file for the exit of the process. It keeps nothing open.
#[derive(Debug)]
pub(crate) struct LeftOpen {
    path: Arc<Path>,
    file: Weak<OpenFile>,
}

impl LeftOpen {
    /// A view of the file, if it is still open.
    pub(crate) fn view(self) -> Option<LockFile> {
        let open = Opened { file: self.file.upgrade()?, changed: None };
        let nameless = LockFile::new(self.path, process::me().into_owned());
        Some(LockFile { open: Some(open), ..nameless })
    }
}

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
    /// What a file is never changes, so nobody can tell the calls from one.
    ///
    /// `ERROR_FILE_NOT_FOUND` and `ERROR_PATH_NOT_FOUND` are [`Open::Absent`];
    /// `ERROR_ACCESS_DENIED`, `ERROR_DELETE_PENDING` and `ERROR_SHARING_VIOLATION` are
    /// [`Open::Denied`], and so is a file that is being deleted where it can be opened all the same.
    fn open(&mut self) -> Open {
        self.seen = None;
        match self.open_existing() {
            Ok(Some(opened)) => {
                self.open = Some(opened);
                Open::Opened
            }
            Ok(None) => Open::Absent,
            Err(error) if is_denied(&error) => self.denied(error, Open::Denied),
            Err(error) => self.failed(error, Open::Failed),
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
    /// `ERROR_LOCK_VIOLATION` is [`Lock::Busy`]; `ERROR_INVALID_FUNCTION` and
    /// `ERROR_NOT_SUPPORTED` are [`Lock::Unsupported`].
    fn lock(&mut self) -> Lock {
        let Some(opened) = &self.open else { return self.failed(nothing_open(), Lock::Failed) };
        match opened.file.try_lock() {
            Ok(Tried::Ours) => Lock::Ours,
            Ok(Tried::Busy) => Lock::Busy,
            Ok(Tried::Unsupported) => Lock::Unsupported,
            Err(error) => self.failed(error, Lock::Failed),
        }
    }

    /// Nothing: what is listened to is the kernel lock of the open file.
    fn arm(&mut self) {
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
    fn listen(&mut self) -> Listen {
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
        record.since = Some(whole_milliseconds(SystemTime::now()));
        (record.kernel_lock, record.device) = (opened.file.is_locked(), Some(volume));
        let bytes = record.to_bytes();
        match opened.file.write(&bytes) {
            Ok(written) if written == bytes.len() => Done::Done,
            Ok(_) => self.failed(ErrorKind::StorageFull.into(), Done::Failed),
            Err(error) => self.failed(error, Done::Failed),
        }
    }

    /// `ReadFile` at explicit offsets, 4097 bytes at most.
    fn read(&mut self) -> Read {
        self.seen = None;
        let Some(opened) = &self.open else { return self.failed(nothing_open(), Read::Failed) };
        match self.contents(&opened.file) {
            Ok(Contents::Record(holder)) => {
                self.seen = Some(*holder);
                Read::Record
            }
            Ok(Contents::Empty) => Read::Empty,
            Ok(Contents::Unreadable) => Read::Unreadable,
            Ok(Contents::Foreign) => {
                self.not_a_lock_file = Some("a file with other content");
                Read::Foreign
            }
            Err(error) => self.failed(error, Read::Failed),
        }
    }

    /// `OpenProcess`, `WaitForSingleObject(0)`, `GetProcessTimes`: see `process_windows.rs`.
    fn probe(&mut self) -> Probed {
        let (Some(opened), Some(holder)) = (&self.open, &self.seen) else {
            return self.failed(nothing_open(), Probed::Failed);
        };
        // The later of the two: a copied file keeps an old record, a touched one an old text.
        let written = opened.changed.max(holder.since);
        let volume = opened.file.look().ok().map(|found| found.identity.volume());
        let found = author(
            &process::me(),
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
    /// The file that is removed is the one that was compared, so somebody else's at the path stays
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
    fn void(&mut self) -> Done {
        let Some(opened) = &self.open else { return self.failed(nothing_open(), Done::Failed) };
        match opened.file.cut_short() {
            Ok(()) => Done::Done,
            Err(error) => self.failed(error, Done::Failed),
        }
    }

    /// Windows lists nobody's locks, and to try the lock, even shared, would take it for a moment,
    /// which a query must not. So the answer is "unknown", and the probe decides.
    fn watch(&mut self) -> Watch {
        Watch::Unknown
    }

    /// `UnlockFileEx`, `CloseHandle`.
    fn close(&mut self) {
        if let Some(opened) = self.open.take() {
            opened.file.unlock();
        }
    }

    /// `CloseHandle`.
    fn leave(&mut self) {
        self.open = None;
    }
}

/// Nothing stands at the path, or its directory is absent.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

/// What may come from a name that is being deleted, or from one who has the file open for a moment
/// and does not share it.
fn is_denied(error: &io::Error) -> bool {
    matches!(
        code(error),
        Some(ERROR_ACCESS_DENIED | ERROR_DELETE_PENDING | ERROR_SHARING_VIOLATION)
    )
}

fn not_pending(pending: bool) -> io::Result<()> {
    if pending {
        // Not kept open: the name is free when the last who has it open has closed it.
        return Err(io::Error::from_raw_os_error(ERROR_DELETE_PENDING as i32));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
