//! An open file on Windows: each call, with the page of Microsoft's that describes it.
//!
//! Every handle is opened for overlapped requests, so that a request for the kernel lock can be
//! waited for with a limit and taken back. The other calls wait for the end of their request.

#![allow(unsafe_code)]

use std::io::{self, ErrorKind};
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use windows_sys::Win32::Foundation::{
    ERROR_CALL_NOT_IMPLEMENTED, ERROR_HANDLE_EOF, ERROR_INVALID_FUNCTION, ERROR_INVALID_PARAMETER,
    ERROR_IO_PENDING, ERROR_LOCK_VIOLATION, ERROR_NOT_FOUND, ERROR_NOT_SUPPORTED,
    ERROR_OPERATION_ABORTED, FILETIME, GENERIC_READ, GENERIC_WRITE, HANDLE, INVALID_HANDLE_VALUE,
};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, CREATE_NEW, CreateFileW, DELETE, FILE_ATTRIBUTE_DIRECTORY,
    FILE_ATTRIBUTE_NORMAL, FILE_ATTRIBUTE_REPARSE_POINT, FILE_CREATION_DISPOSITION,
    FILE_DISPOSITION_FLAG_DELETE, FILE_DISPOSITION_FLAG_IGNORE_READONLY_ATTRIBUTE,
    FILE_DISPOSITION_FLAG_POSIX_SEMANTICS, FILE_DISPOSITION_INFO, FILE_DISPOSITION_INFO_EX,
    FILE_END_OF_FILE_INFO, FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT,
    FILE_FLAG_OVERLAPPED, FILE_FLAGS_AND_ATTRIBUTES, FILE_ID_INFO, FILE_INFO_BY_HANDLE_CLASS,
    FILE_READ_ATTRIBUTES, FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE, FILE_TYPE_DISK,
    FileDispositionInfo, FileDispositionInfoEx, FileEndOfFileInfo, FileIdInfo, FileStandardInfo,
    GetFileAttributesExW, GetFileExInfoStandard, GetFileInformationByHandle,
    GetFileInformationByHandleEx, GetFileType, LOCK_FILE_FLAGS, LOCKFILE_EXCLUSIVE_LOCK,
    LOCKFILE_FAIL_IMMEDIATELY, LockFileEx, OPEN_EXISTING, ReadFile, SetFileInformationByHandle,
    SetFileTime, UnlockFileEx, WIN32_FILE_ATTRIBUTE_DATA, WriteFile,
};
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult};

use super::owner::UsersOwn;
use super::request::{Request, Waited};
use super::values::{code, filetime_of_unix, hundreds_of_ns, time_of, wide};

/// The byte that the kernel lock covers: the last but one that there can be, far from any record.
///
/// A lock of Windows is mandatory. Who has it here keeps nobody from reading the file; on the
/// record, or on the whole file as std and fs4 lock it, a reader would be refused (error 33).
const LOCKED_BYTE: u64 = u64::MAX - 1;

/// What others may do while a handle of ours is open: everything. A reader that shares less than
/// writing is refused by Windows for as long as we have the file open.
const SHARED: u32 = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;

/// How long a request for the kernel lock waits before it is made anew, the first time.
///
/// Windows wakes whoever waits. Wine 8 takes the request and never answers it ("Async I/O lock wait
/// not implemented"), and a file server may forget it; hence [`LONGEST_REQUEST`] too.
const FIRST_REQUEST: Duration = Duration::from_millis(10);

/// The same after many times. A wait that is forgotten ends late by this much at most.
const LONGEST_REQUEST: Duration = Duration::from_secs(1);

/// The time of last access that says "being deleted", where the system itself does not tell
/// (Wine 8, whose `DeletePending` is always false): the last second of 2038 that a signed 32-bit
/// time has, which every filesystem can store.
const BEING_DELETED: FILETIME = filetime_of_unix(i32::MAX as u64);

/// What tells a file from another, for as long as both are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity {
    /// Volume and 128-bit file number.
    Long(u64, [u8; 16]),
    /// Volume and 64-bit file number, where the filesystem has no longer one.
    Short(u32, u64),
}

impl Identity {
    /// The number of the volume.
    pub(super) fn volume(self) -> u64 {
        match self {
            Self::Long(volume, _) => volume,
            Self::Short(volume, _) => volume.into(),
        }
    }
}

/// What a look at an open file shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) identity: Identity,
    pub(super) written: Option<SystemTime>,
    pub(super) kind: Kind,
    /// It is removed, and still there because somebody has it open.
    pub(super) pending: bool,
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    /// A link, a mount point or a placeholder: the path leads elsewhere.
    ReparsePoint,
    /// A console, a pipe, NUL.
    Device,
}

impl Kind {
    fn of(attributes: u32) -> Self {
        if attributes & FILE_ATTRIBUTE_REPARSE_POINT != 0 {
            Self::ReparsePoint
        } else if attributes & FILE_ATTRIBUTE_DIRECTORY != 0 {
            Self::Directory
        } else {
            Self::File
        }
    }
}

/// How an attempt to lock ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tried {
    Ours,
    Busy,
    Unsupported,
}

/// An open file, and whether its kernel lock is ours.
#[derive(Debug)]
pub(super) struct OpenFile {
    handle: OwnedHandle,
    /// Windows does not give a lock twice, not even to who has it.
    locked: AtomicBool,
}

impl OpenFile {
    /// [`CreateFileW`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew)
    /// with `CREATE_NEW`: exclusive create, for the user alone.
    pub(super) fn create_new(path: &Path) -> io::Result<Self> {
        let own = UsersOwn::file()?;
        let access = GENERIC_READ | GENERIC_WRITE;
        create_file(path, access, Some(&own), CREATE_NEW, FILE_ATTRIBUTE_NORMAL)
    }

    /// The same with `OPEN_EXISTING`: for reading and writing, or for reading alone where that is
    /// all that is permitted, which is enough for the lock.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let open = |access| create_file(path, access, None, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL);
        open(GENERIC_READ | GENERIC_WRITE).or_else(|error| match error.kind() {
            ErrorKind::PermissionDenied => open(GENERIC_READ).map_err(|_| error),
            _ => Err(error),
        })
    }

    /// The same, to look at what stands there, whatever it is. Others' sharing does not forbid it.
    pub(super) fn open_to_look(path: &Path) -> io::Result<Self> {
        let flags = FILE_FLAG_BACKUP_SEMANTICS;
        create_file(path, FILE_READ_ATTRIBUTES, None, OPEN_EXISTING, flags)
    }

    /// The same, to remove it.
    pub(super) fn open_to_remove(path: &Path) -> io::Result<Self> {
        let access = DELETE | FILE_READ_ATTRIBUTES;
        create_file(path, access, None, OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS)
    }

    /// What stands at a path, and whether it is being deleted as far as the system tells that without
    /// an open, which would keep the name taken for that much longer
    /// ([`GetFileAttributesExW`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-getfileattributesexw)).
    pub(super) fn glance(path: &Path) -> io::Result<(Kind, bool)> {
        let path = wide(path)?;
        let mut found = WIN32_FILE_ATTRIBUTE_DATA::default();
        let room = (&raw mut found).cast();
        // SAFETY: the path ends with NUL, and `found` is what this level answers with.
        check(unsafe { GetFileAttributesExW(path.as_ptr(), GetFileExInfoStandard, room) })?;
        Ok((Kind::of(found.dwFileAttributes), is_marked(found.ftLastAccessTime)))
    }

    /// [`GetFileInformationByHandle`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-getfileinformationbyhandle)
    /// and [`GetFileInformationByHandleEx`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-getfileinformationbyhandleex)
    /// with `FileIdInfo` and `FileStandardInfo`, and
    /// [`GetFileType`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-getfiletype).
    pub(super) fn look(&self) -> io::Result<Look> {
        // SAFETY: the handle is open.
        if unsafe { GetFileType(self.raw()) } != FILE_TYPE_DISK {
            let identity = Identity::Short(0, 0);
            let written = Some(SystemTime::UNIX_EPOCH);
            return Ok(Look { identity, written, kind: Kind::Device, pending: false });
        }
        let mut found = BY_HANDLE_FILE_INFORMATION::default();
        // SAFETY: the handle is open, and `found` has room for the answer.
        check(unsafe { GetFileInformationByHandle(self.raw(), &raw mut found) })?;
        let high = u64::from(found.nFileIndexHigh) << 32;
        let index = high | u64::from(found.nFileIndexLow);
        let identity = match self.information::<FILE_ID_INFO>(FileIdInfo) {
            Ok(long) => Identity::Long(long.VolumeSerialNumber, long.FileId.Identifier),
            Err(_) => Identity::Short(found.dwVolumeSerialNumber, index),
        };
        let kind = Kind::of(found.dwFileAttributes);
        let standard = self.information::<StandardInfo>(FileStandardInfo)?;
        let pending = standard.delete_pending != 0 || is_marked(found.ftLastAccessTime);
        Ok(Look { identity, written: time_of(found.ftLastWriteTime), kind, pending })
    }

    fn information<T: Default>(&self, class: FILE_INFO_BY_HANDLE_CLASS) -> io::Result<T> {
        let mut found = T::default();
        let room = (&raw mut found).cast();
        // SAFETY: the handle is open, and `found` is what this class answers with.
        check(unsafe {
            GetFileInformationByHandleEx(self.raw(), class, room, size_of::<T>() as u32)
        })?;
        Ok(found)
    }

    /// Whether the kernel lock is ours.
    pub(super) fn is_locked(&self) -> bool {
        self.locked.load(Ordering::Relaxed)
    }

    /// [`LockFileEx`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-lockfileex),
    /// exclusive, on the one byte; does not wait for whoever has it.
    pub(super) fn try_lock(&self) -> io::Result<Tried> {
        if self.locked.load(Ordering::Relaxed) {
            return Ok(Tried::Ours);
        }
        let request = Request::new(LOCKED_BYTE)?;
        let tried = self.request_lock(&request, LOCKFILE_FAIL_IMMEDIATELY);
        match tried.and_then(|done| if done { Ok(()) } else { self.end_of(&request).map(drop) }) {
            Ok(()) => {
                self.locked.store(true, Ordering::Relaxed);
                Ok(Tried::Ours)
            }
            Err(error) => match code(&error) {
                Some(ERROR_LOCK_VIOLATION) => Ok(Tried::Busy),
                Some(ERROR_NOT_SUPPORTED | ERROR_INVALID_FUNCTION | ERROR_CALL_NOT_IMPLEMENTED) => {
                    Ok(Tried::Unsupported)
                }
                _ => Err(error),
            },
        }
    }

    /// The same, and waits for whoever has it: for `limit` at most, and until the event `cancel` is
    /// set
    /// ([`WaitForMultipleObjects`](https://learn.microsoft.com/windows/win32/api/synchapi/nf-synchapi-waitformultipleobjects),
    /// [`CancelIoEx`](https://learn.microsoft.com/windows/win32/fileio/cancelioex-func)).
    pub(super) fn wait(
        &self,
        limit: Option<Duration>,
        cancel: Option<BorrowedHandle<'_>>,
    ) -> io::Result<Waited> {
        let end = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut longest = FIRST_REQUEST;
        loop {
            if self.try_lock()? == Tried::Ours {
                return Ok(Waited::Ours);
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            match self.wait_once(left.map_or(longest, |left| left.min(longest)), cancel)? {
                Waited::TimeOver if left.is_none_or(|left| left > Duration::ZERO) => {
                    longest = (longest * 2).min(LONGEST_REQUEST);
                }
                ended => return Ok(ended),
            }
        }
    }

    /// One request for the lock, for so long.
    fn wait_once(&self, limit: Duration, cancel: Option<BorrowedHandle<'_>>) -> io::Result<Waited> {
        let request = Request::new(LOCKED_BYTE)?;
        if self.request_lock(&request, 0)? {
            self.locked.store(true, Ordering::Relaxed);
            return Ok(Waited::Ours);
        }
        let ended = request.until_done(limit, cancel);
        let ours = match ended {
            Ok(Waited::Ours) => self.end_of(&request).map(|_| true),
            Ok(Waited::TimeOver | Waited::Cancelled) | Err(_) => self.take_back(&request),
        }?;
        if ours {
            self.locked.store(true, Ordering::Relaxed);
            return Ok(Waited::Ours);
        }
        ended
    }

    /// Whether the lock is ours at once.
    fn request_lock(&self, request: &Request, how: LOCK_FILE_FLAGS) -> io::Result<bool> {
        let flags = LOCKFILE_EXCLUSIVE_LOCK | how;
        // SAFETY: the handle is open, and the request lives until it has ended or is taken back.
        at_once(unsafe { LockFileEx(self.raw(), flags, 0, 1, 0, request.overlapped.get()) })
    }

    /// Takes a request for the lock back. `true` if the lock had become ours by then.
    fn take_back(&self, request: &Request) -> io::Result<bool> {
        // SAFETY: the handle is open, and the request was made through it.
        let cancelled = check(unsafe { CancelIoEx(self.raw(), request.overlapped.get()) });
        match cancelled.map_err(|error| code(&error)) {
            // It ended before, or was never noted (Wine): in either case nothing writes to it.
            Err(Some(ERROR_NOT_FOUND)) if !request.has_ended() => return Ok(false),
            Ok(()) | Err(_) => {}
        }
        match self.end_of(request) {
            Ok(_) => Ok(true),
            Err(error) if code(&error) == Some(ERROR_OPERATION_ABORTED) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// [`UnlockFileEx`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-unlockfileex):
    /// gives the lock up, if it is ours. An error is ignored: the close that follows frees it.
    pub(super) fn unlock(&self) {
        if !self.locked.swap(false, Ordering::Relaxed) {
            return;
        }
        if let Ok(request) = Request::new(LOCKED_BYTE) {
            // SAFETY: the handle is open, and the request lives until it has ended.
            let done =
                at_once(unsafe { UnlockFileEx(self.raw(), 0, 1, 0, request.overlapped.get()) });
            if matches!(done, Ok(false)) {
                let _ = self.end_of(&request);
            }
        }
    }

    /// [`WriteFile`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-writefile) at
    /// the start of the file, once. Returns how much was written.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let request = Request::new(0)?;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        // SAFETY: the handle is open; bytes and request live until the request has ended.
        at_once(unsafe {
            let at = request.overlapped.get();
            WriteFile(self.raw(), bytes.as_ptr(), length, null_mut(), at)
        })?;
        self.end_of(&request)
    }

    /// [`ReadFile`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-readfile) from
    /// the start of the file, until `bytes` is full or the file ends. Returns how much was read.
    pub(super) fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.read_at(&mut bytes[filled..], filled as u64) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if code(&error) == Some(ERROR_HANDLE_EOF) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let request = Request::new(offset)?;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        // SAFETY: the handle is open; bytes and request live until the request has ended.
        at_once(unsafe {
            let at = request.overlapped.get();
            ReadFile(self.raw(), bytes.as_mut_ptr(), length, null_mut(), at)
        })?;
        self.end_of(&request)
    }

    /// [`SetFileInformationByHandle`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-setfileinformationbyhandle)
    /// with `FileEndOfFileInfo`: empties the file.
    pub(super) fn cut_short(&self) -> io::Result<()> {
        self.set_information(FileEndOfFileInfo, &FILE_END_OF_FILE_INFO { EndOfFile: 1 })
    }

    /// The same with `FileDispositionInfoEx`: removes the file that this handle, of
    /// [`open_to_remove`](Self::open_to_remove), is of. Its name is free at once.
    ///
    /// Where the filesystem cannot do that (FAT, before Windows 10 1607, Wine 8), with
    /// `FileDispositionInfo`, which leaves the name taken until the last handle is closed. `ours`,
    /// another handle of the file, then says so, if need be by [`BEING_DELETED`].
    pub(super) fn remove(&self, ours: &Self) -> io::Result<()> {
        let at_once = FILE_DISPOSITION_INFO_EX {
            Flags: FILE_DISPOSITION_FLAG_DELETE
                | FILE_DISPOSITION_FLAG_POSIX_SEMANTICS
                | FILE_DISPOSITION_FLAG_IGNORE_READONLY_ATTRIBUTE,
        };
        match self.set_information(FileDispositionInfoEx, &at_once) {
            Err(error)
                if matches!(
                    code(&error),
                    Some(ERROR_INVALID_PARAMETER | ERROR_INVALID_FUNCTION | ERROR_NOT_SUPPORTED)
                ) => {}
            done => return done,
        }
        self.set_information(FileDispositionInfo, &FILE_DISPOSITION_INFO { DeleteFile: true })?;
        // Who does this has the kernel lock, so nobody acts on the file between the two calls.
        if ours.look().is_ok_and(|look| !look.pending) {
            ours.mark_as_being_deleted();
        }
        Ok(())
    }

    /// [`SetFileTime`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-setfiletime).
    fn mark_as_being_deleted(&self) {
        // SAFETY: the handle is open, and null leaves a time as it is. Without the mark, which is
        // only for who has the file open too, the name is tried in vain until that one closes it.
        unsafe { SetFileTime(self.raw(), null(), &BEING_DELETED, null()) };
    }

    fn set_information<T>(&self, class: FILE_INFO_BY_HANDLE_CLASS, to: &T) -> io::Result<()> {
        let from = (&raw const *to).cast();
        // SAFETY: the handle is open, and `to` is what this class takes.
        check(unsafe { SetFileInformationByHandle(self.raw(), class, from, size_of::<T>() as u32) })
    }

    /// Waits for the end of a request. Returns how many bytes it moved.
    /// ([`GetOverlappedResult`](https://learn.microsoft.com/windows/win32/api/ioapiset/nf-ioapiset-getoverlappedresult).)
    fn end_of(&self, request: &Request) -> io::Result<usize> {
        let mut moved = 0;
        // SAFETY: the handle is open, and the request was made through it.
        check(unsafe {
            GetOverlappedResult(self.raw(), request.overlapped.get(), &raw mut moved, 1)
        })?;
        Ok(moved as usize)
    }

    /// The handle.
    pub(super) fn as_handle(&self) -> BorrowedHandle<'_> {
        self.handle.as_handle()
    }

    fn raw(&self) -> HANDLE {
        self.handle.as_raw_handle()
    }
}

/// Opens without following a link, for no child to inherit.
fn create_file(
    path: &Path,
    access: u32,
    owner: Option<&UsersOwn>,
    disposition: FILE_CREATION_DISPOSITION,
    flags: FILE_FLAGS_AND_ATTRIBUTES,
) -> io::Result<OpenFile> {
    let path = wide(path)?;
    let owner = owner.map(UsersOwn::attributes);
    let owner = owner.as_ref().map_or(null(), |owner| &raw const *owner);
    let flags = flags | FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_OVERLAPPED;
    // SAFETY: the path ends with NUL; what the pointers are to lives for as long as the call.
    let handle = unsafe {
        CreateFileW(path.as_ptr(), access, SHARED, owner, disposition, flags, null_mut())
    };
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle is open and nobody else's.
    let handle = unsafe { OwnedHandle::from_raw_handle(handle) };
    Ok(OpenFile { handle, locked: AtomicBool::new(false) })
}

/// `FILE_STANDARD_INFO`, with bytes where the system need not write a Rust `bool`.
#[repr(C)]
#[derive(Default)]
struct StandardInfo {
    allocated: i64,
    length: i64,
    links: u32,
    delete_pending: u8,
    directory: u8,
}

fn check(done: i32) -> io::Result<()> {
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether a request ended at once; if not, it will.
fn at_once(done: i32) -> io::Result<bool> {
    match check(done) {
        Ok(()) => Ok(true),
        Err(error) => match code(&error) {
            Some(ERROR_IO_PENDING) => Ok(false),
            _ => Err(error),
        },
    }
}

fn is_marked(accessed: FILETIME) -> bool {
    hundreds_of_ns(accessed) == hundreds_of_ns(BEING_DELETED)
}
