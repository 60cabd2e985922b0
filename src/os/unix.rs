//! The Unix adapter: one lock path, as system calls.
//!
//! Paths are resolved anew at every call, and not relative to a directory that was opened once:
//! the promise is about what the *path* names, and a directory that is renamed away or removed
//! under a long-lived process would go on working, unseen, for that process alone. It also saves
//! the two calls that open and close the directory.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::{DirBuilder, File, FileType, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{
    DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt,
};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use super::author::{Filesystem, author};
use super::listener::Listener;
use super::own_file::{OwnFile, Passed};
use super::{Deadline, KernelLocks, age, nothing_open, process, whole_milliseconds};
use crate::fs::{
    Confirm, Create, Dated, Done, FileSystem, Listen, Lock, Open, Probed, Read, Unlink,
};
use crate::judge::{Age, Probe, Watch};
use crate::place::port_of_file;
use crate::record::{Contents, FileName, Holder, MAX_RECORD};

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
    /// The last error that may pass (`ESTALE`): not one yet.
    passing: Option<io::Error>,
    /// What a watch of the open file is answered from, if one look at the kernel's locks serves
    /// many files.
    locks: Option<Arc<KernelLocks>>,
    listener: Listener,
    /// Whether a holder is waited for as long as it takes.
    waits_without_end: bool,
    /// Whether it only asks, and opens for reading: on overlayfs an open for writing makes a copy.
    only_reads: bool,
    /// How the last try for the kernel lock of the open file ended.
    tried: Option<Lock>,
}

#[derive(Debug)]
struct Opened {
    file: Arc<OwnFile>,
    /// Device and inode number: an identity for as long as the file is open.
    identity: Option<(u64, u64)>,
    changed: Option<SystemTime>,
    /// We created it, and have not confirmed it yet.
    is_new: bool,
    /// It could be opened for writing.
    is_writable: bool,
    /// The server has said that the file is gone (`ESTALE`), so the path cannot name it any more.
    gone: bool,
}

impl Opened {
    fn created(file: OwnFile) -> Self {
        let file = Arc::new(file);
        let (is_new, is_writable) = (true, true);
        Self { file, identity: None, changed: None, is_new, is_writable, gone: false }
    }

    fn existing(file: OwnFile, identity: (u64, u64), is_writable: bool) -> Self {
        let (file, identity) = (Arc::new(file), Some(identity));
        Self { file, identity, changed: None, is_new: false, is_writable, gone: false }
    }
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
            passing: None,
            locks: None,
            listener: Listener::default(),
            waits_without_end: false,
            only_reads: false,
            tried: None,
        }
    }

    /// A view for a query, which opens the file for reading alone.
    pub(crate) fn to_ask(path: impl Into<Arc<Path>>) -> Self {
        Self { only_reads: true, ..Self::new(path, process::me().into_owned()) }
    }

    /// Says that no holder is ever refused: what has the kernel lock is waited for, whoever it is,
    /// so that nobody needs to be asked after. The judge is told that it cannot be known, which any
    /// probe may say at any time (P8).
    ///
    /// The probe is the dearest part of a look, and every waiter looks at every holder.
    pub(crate) fn wait_without_end(&mut self) {
        self.waits_without_end = true;
    }

    /// Has every wait by [`FileSystem::listen`] end then.
    pub(crate) fn listen_until(&mut self, deadline: Deadline) {
        self.listener = Listener::new(deadline);
    }

    /// What the exit of the process needs of the open file, if there is one.
    pub(crate) fn left_open(&self) -> Option<LeftOpen> {
        let Opened { file, identity, .. } = self.open.as_ref()?;
        let (path, file) = (self.path.clone(), Arc::downgrade(file));
        Some(LeftOpen { path, file, identity: *identity })
    }

    /// Whether the open file, if there is one, is this process's, as far as forks were noticed.
    pub(crate) fn is_ours(&self) -> bool {
        self.open.as_ref().is_none_or(|opened| opened.file.is_ours())
    }

    /// The open file.
    pub(crate) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.open.as_ref().map(|opened| opened.file.as_fd())
    }

    /// Another descriptor of the open file.
    pub(crate) fn another_descriptor(&self) -> io::Result<File> {
        self.open.as_ref().ok_or_else(nothing_open)?.file.try_clone()
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

    /// The first error since the last call, or else the passing one that lasted.
    pub(crate) fn take_error(&mut self) -> io::Error {
        let error = self.error.take().or(self.passing.take());
        error.unwrap_or_else(|| io::Error::other("the reason is not known"))
    }

    /// Whether a name is being deleted: never, since it is free as soon as its file is removed.
    pub(crate) fn is_being_deleted(&self) -> bool {
        false
    }

    /// Whether the first error was a lack of file descriptors: of this process, or of the system.
    pub(crate) fn lacked_descriptors(&self) -> bool {
        self.error.as_ref().is_some_and(lacks_descriptors)
    }

    /// Has the next watch answered from `locks`, which must have been looked at **after** the open
    /// file was read: from an older look the lock of one who came in between is missing, and a
    /// held file seems stale. An open forgets it, so that it never serves a file that came later.
    pub(crate) fn watch_in(&mut self, locks: Arc<KernelLocks>) {
        self.locks = Some(locks);
    }

    /// Makes `command` inherit the open file, and with it the kernel lock, or fail to start if the
    /// file has been closed by then.
    ///
    /// Close-on-exec is cleared in the child alone, between `fork` and `exec`, so that no other
    /// command of this process gets the file.
    pub(crate) fn pass_to_child(&self, command: &mut Command) {
        let Some(opened) = &self.open else { return };
        let passed = Passed::new(&opened.file);
        // SAFETY: the closure makes one call, which is async-signal-safe, and allocates nothing.
        unsafe { command.pre_exec(move || passed.keep_on_exec()) };
    }

    /// Does the path still name our open file? With the error, if that cannot be told.
    pub(crate) fn is_named(&self) -> io::Result<bool> {
        let Some(opened) = &self.open else { return Ok(false) };
        match twice_if_stale(|| self.names(opened)) {
            // Of the path or of our own file: the path does not lead to a file that is ours.
            Err(error) if is_absent(&error) || is_stale(&error) => Ok(false),
            named => named,
        }
    }

    fn names(&self, opened: &Opened) -> io::Result<bool> {
        let ours = match opened.identity {
            Some(identity) => identity,
            None => identity(&retried(|| opened.file.metadata())?),
        };
        let named = retried(|| std::fs::symlink_metadata(&self.path))?;
        if identity(&named) != ours || shows_the_present(&opened.file, &named) {
            return Ok(identity(&named) == ours);
        }
        self.is_named_by_the_server(ours)
    }

    /// The same by asking who keeps the file, and not the attributes that this machine remembers,
    /// which on NFS tell for seconds of a file that is gone.
    ///
    /// Two opens, by the promise that NFS keeps (close-to-open): that of the directory brings up
    /// to date what is known of its names, that of the file what the name stands for. The second
    /// alone is enough for NFS 4.0, and neither for 3, where a client that has the file open
    /// renames it instead of removing it, nor for 4.2, as measured by `.ci/filesystems`. What even
    /// both do not show is a change of the name in the same tick of the server's clock, some
    /// milliseconds, as the directory's last change before, where the server counts by that.
    ///
    /// A number stands for one file only as long as the server has it open, which it has for
    /// those who have the kernel lock.
    fn is_named_by_the_server(&self, ours: (u64, u64)) -> io::Result<bool> {
        // Who may not read the directory goes without, and trusts the second.
        let _directory = self.path.parent().map(File::open);
        let named = retried(|| {
            OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(&self.path)
        });
        match named.and_then(|named| named.metadata()) {
            Ok(named) => Ok(identity(&named) == ours),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// As [`FileSystem::listen`], in a task: blocks no thread.
    #[cfg(feature = "tokio")]
    pub(crate) async fn listen_in_task(&mut self) -> Listen {
        match self.listener.listen_in_task().await {
            Ok(told) => told,
            Err(error) => self.failed(error, Listen::Failed),
        }
    }

    /// Keeps the last error that may pass.
    fn may_pass<T>(&mut self, error: io::Error, reply: T) -> T {
        self.passing = Some(error);
        reply
    }

    /// Keeps the first error: what fails afterwards, while cleaning up, explains nothing.
    fn failed<T>(&mut self, error: io::Error, reply: T) -> T {
        self.error.get_or_insert(error);
        reply
    }

    /// An operation on the open file failed. `reply` is for any error but `ESTALE`; that one says
    /// that the file was removed at its server, and `gone` leads to a confirm, which answers
    /// [`Confirm::Changed`] from then on.
    fn failed_on_open<T>(&mut self, error: io::Error, gone: T, reply: T) -> T {
        match &mut self.open {
            Some(opened) if is_stale(&error) => {
                opened.gone = true;
                gone
            }
            _ => self.failed(error, reply),
        }
    }

    fn create_new(&self) -> io::Result<File> {
        let created = retried(|| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&self.path)
        });
        created.map(above_standard)
    }

    /// Our newly created file once more.
    fn open_again(&self) -> io::Result<File> {
        retried(|| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&self.path)
        })
        .map(above_standard)
    }

    fn open_existing(&mut self) -> io::Result<Option<Opened>> {
        let before = match retried(|| std::fs::symlink_metadata(&self.path)) {
            Ok(before) => before,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        self.only_a_regular_file(before.file_type())?;
        let open = |write| {
            retried(|| {
                OpenOptions::new()
                    .read(true)
                    .write(write)
                    .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
                    .open(&self.path)
            })
        };
        let open = |write| OwnFile::opened(|| open(write).map(above_standard));
        // NFS grants an exclusive lock only on a file that is open for writing.
        let opened = if self.only_reads {
            open(false).map(|file| (file, false))
        } else {
            open(true).map(|file| (file, true)).or_else(|error| match error.kind() {
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                    open(false).map(|file| (file, false))
                }
                _ => Err(error),
            })
        };
        let (file, is_writable) = match opened {
            Ok((file, is_writable)) => (file, is_writable),
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = retried(|| file.metadata())?;
        self.only_a_regular_file(found.file_type())?;
        Ok(Some(Opened::existing(file, identity(&found), is_writable)))
    }

    fn only_a_regular_file(&mut self, found: FileType) -> io::Result<()> {
        if found.is_file() {
            return Ok(());
        }
        let kind = match found {
            kind if kind.is_dir() => "a directory",
            kind if kind.is_symlink() => "a symbolic link",
            kind if kind.is_fifo() => "a FIFO",
            kind if kind.is_socket() => "a socket",
            _ => "a device",
        };
        self.not_a_lock_file = Some(kind);
        Err(io::Error::new(ErrorKind::InvalidInput, format!("it is {kind}")))
    }

    fn contents(&self, file: &File) -> io::Result<Contents> {
        let mut bytes = [0; MAX_RECORD + 1];
        let mut filled = 0;
        while filled < bytes.len() {
            match retried(|| file.read_at(&mut bytes[filled..], filled as u64))? {
                0 => break,
                more => filled += more,
            }
        }
        let name = self.path.file_name().and_then(|name| name.to_str());
        let name = match name.and_then(port_of_file) {
            Some(_) => FileName::OfPort,
            None => FileName::Any,
        };
        Ok(Contents::of(&bytes[..filled], name))
    }
}

/// What is kept of a participant's open file for the exit of the process. It keeps nothing open.
#[derive(Debug)]
pub(crate) struct LeftOpen {
    path: Arc<Path>,
    file: Weak<OwnFile>,
    identity: Option<(u64, u64)>,
}

impl LeftOpen {
    /// A view of the file, if it is still open.
    pub(crate) fn view(self) -> Option<LockFile> {
        let Self { path, file, identity } = self;
        // A file that is left was created here.
        let (changed, is_new, is_writable, gone) = (None, false, true, false);
        let open = Opened { file: file.upgrade()?, identity, changed, is_new, is_writable, gone };
        let nameless = LockFile::new(path, process::me().into_owned());
        Some(LockFile { open: Some(open), ..nameless })
    }
}

impl FileSystem for LockFile {
    fn create(&mut self) -> Create {
        let create = || OwnFile::created(|| self.create_new(), || self.open_again());
        let mut created = create();
        if created.as_ref().is_err_and(is_absent) {
            if let Some(parent) = self.path.parent() {
                // Something else may stand there, as a link that leads nowhere: that says nothing
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

    fn open(&mut self) -> Open {
        self.tried = None;
        self.seen = None;
        self.locks = None;
        match self.open_existing() {
            Ok(Some(opened)) => {
                self.open = Some(opened);
                Open::Opened
            }
            Ok(None) => Open::Absent,
            Err(error) if is_stale(&error) => self.may_pass(error, Open::Denied),
            Err(error) => self.failed(error, Open::Failed),
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

    fn lock(&mut self) -> Lock {
        self.tried = None;
        let Some(opened) = &self.open else { return self.failed(nothing_open(), Lock::Failed) };
        loop {
            let error = match fs4::FileExt::try_lock(&**opened.file) {
                Ok(()) => return *self.tried.insert(Lock::Ours),
                Err(fs4::TryLockError::WouldBlock) => return *self.tried.insert(Lock::Busy),
                Err(fs4::TryLockError::Error(error)) => error,
            };
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EOPNOTSUPP | libc::ENOSYS) => return Lock::Unsupported,
                // Nothing is ever taken from one whose lock is busy.
                Some(_) | None => return self.failed_on_open(error, Lock::Busy, Lock::Failed),
            }
        }
    }

    fn arm(&mut self) {
        let Some(opened) = &self.open else { return };
        let device = opened.identity.map_or(0, |(device, _)| device);
        if events_are_of_all(&opened.file, device) {
            self.listener.arm(&self.path, &opened.file);
        } else {
            self.listener.poll();
        }
    }

    fn listen(&mut self) -> Listen {
        match self.listener.listen() {
            Ok(told) => told,
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
        record.since = Some(whole_milliseconds(SystemTime::now()));
        (record.kernel_lock, record.device) = (self.tried == Some(Lock::Ours), Some(ours.0));
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
            Err(error) => self.failed_on_open(error, Read::Empty, Read::Failed),
        }
    }

    fn probe(&mut self) -> Probed {
        let (Some(opened), Some(holder)) = (&self.open, &self.seen) else {
            return self.failed(nothing_open(), Probed::Failed);
        };
        // The later of the two: a copied file keeps an old record, a touched one an old text.
        let written = opened.changed.max(holder.since);
        let found = author(
            &process::me(),
            holder,
            opened.identity.map(|(device, _)| device),
            || filesystem(opened, holder),
            |identify| {
                if self.tried == Some(Lock::Busy) && self.waits_without_end {
                    return Ok(Probe::Unknown);
                }
                process::probe(holder, identify, written, self.tried == Some(Lock::Ours))
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
                    // It got its one name when we created it, and nobody gives or changes names
                    // (S9), so the path names it for as long as it has one. A person who moves it
                    // away just now comes before us as if a moment later.
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

    fn void(&mut self) -> Done {
        let Some(opened) = &self.open else { return self.failed(nothing_open(), Done::Failed) };
        match retried(|| opened.file.set_len(1)) {
            Ok(()) => Done::Done,
            Err(error) => self.failed(error, Done::Failed),
        }
    }

    fn watch(&mut self) -> Watch {
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

    fn leave(&mut self) {
        self.open = None;
    }
}

/// Whether a call failed for want of a file descriptor: of this process, or of the system.
pub(crate) fn lacks_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

pub(crate) fn lacks_locks(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOLCK)
}

/// The number of the user that the file at `path` belongs to, if that is another user than ours.
pub(crate) fn foreign_owner(path: &Path) -> Option<u32> {
    let owner = retried(|| std::fs::symlink_metadata(path)).ok()?.uid();
    // SAFETY: geteuid only returns a number.
    (owner != unsafe { libc::geteuid() }).then_some(owner)
}

/// Calls again for as long as a signal interrupts.
pub(super) fn retried<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// Nothing stands at the path: no such entry, or a directory on the way is none.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

/// Calls once more after `ESTALE`: a name that was looked up anew may lead somewhere.
fn twice_if_stale<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    call().or_else(|error| if is_stale(&error) { call() } else { Err(error) })
}

/// The file, its name or its directory was removed or replaced at a file server, and the kernel has
/// looked it up once more in vain.
fn is_stale(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESTALE)
}

/// The same open file by a number that is none of the three standard ones.
///
/// In a process that has closed one of those, as daemons do, a new file gets its number. Messages
/// would then be written into a lock file, and a child would get another file in its place. Without
/// a free number above it stays where it is: it must not be lost, since it may have been created.
pub(super) fn above_standard<F: AsRawFd + From<OwnedFd>>(file: F) -> F {
    if file.as_raw_fd() > libc::STDERR_FILENO {
        return file;
    }
    // SAFETY: the descriptor is open for as long as `file` is.
    let above =
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, libc::STDERR_FILENO + 1) };
    if above < 0 {
        return file;
    }
    // SAFETY: the descriptor is new, and nobody else's.
    unsafe { OwnedFd::from_raw_fd(above) }.into()
}

/// How large a file this process may make (`RLIMIT_FSIZE`); `None` without a limit.
///
/// A write at the limit does not only fail: the kernel sends SIGXFSZ, which ends the process. It is
/// asked before every write, since a program may change it.
fn file_size_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` has room for the answer.
    let told = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) } == 0;
    #[allow(clippy::useless_conversion, reason = "signed on some systems")]
    let bytes = u64::try_from(limit.rlim_cur).ok();
    bytes.filter(|_| told && limit.rlim_cur != libc::RLIM_INFINITY)
}

/// Gives the owner of our new file the permissions that it was created with, if the umask has
/// removed them: without, no other process of the same user could read who holds the lock.
///
/// A filesystem that has no permissions may refuse that, and needs it not.
fn permit_owner(file: &File, found: &Metadata) {
    if found.mode() & 0o600 != 0o600 {
        let _ = retried(|| file.set_permissions(Permissions::from_mode(0o600)));
    }
}

/// Makes the directory `dir` and its absent ancestors, mode 0700 whatever the umask is.
fn make_directories(dir: &Path) -> io::Result<()> {
    match make_directory(dir) {
        Err(error) if is_absent(&error) => {
            let Some(parent) = dir.parent() else { return Err(error) };
            make_directories(parent)?;
            make_directory(dir).or_else(|error| is_directory(dir).then_some(()).ok_or(error))
        }
        // It was there, or another process was first.
        Err(_) if is_directory(dir) => Ok(()),
        made => made,
    }
}

fn is_directory(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_dir())
}

/// Makes the directory `dir`, mode 0700 whatever the umask is.
pub(super) fn make_directory(dir: &Path) -> io::Result<()> {
    retried(|| DirBuilder::new().mode(0o700).create(dir))?;
    let found = retried(|| std::fs::symlink_metadata(dir));
    // Not looked at, it is taken to be as it was asked for.
    if found.is_ok_and(|found| found.is_dir() && found.mode() & 0o700 != 0o700) {
        let path = CString::new(dir.as_os_str().as_bytes())?;
        // A link in its place is not followed. An error is no reason to stop: what cannot be used
        // says so itself.
        // SAFETY: the path is a C string.
        unsafe {
            libc::fchmodat(libc::AT_FDCWD, path.as_ptr(), 0o700, libc::AT_SYMLINK_NOFOLLOW);
        }
    }
    Ok(())
}

/// Whether what the path names is seen as it is at once, since the file is this kernel's own.
///
/// A device with a number of its own is a disk here. For the others the filesystem is asked.
#[cfg(target_os = "linux")]
fn shows_the_present(file: &File, found: &Metadata) -> bool {
    libc::major(found.dev()) != 0 || counts_names(file, found)
}

/// Whether an open file's number of names (`st_nlink`) is 0 as soon as its one name is removed. It
/// is not where a removed file that is open is renamed instead: NFS, FUSE, also on a disk.
///
/// The filesystem is asked, and the last answer kept: it costs one call a process, not one a
/// confirm. The number of a device is given out again when it is unmounted; the block size beside
/// it tells NFS (a whole request) from what is local (a page).
#[cfg(target_os = "linux")]
fn counts_names(file: &File, found: &Metadata) -> bool {
    static LOCAL: AtomicU64 = AtomicU64::new(0);
    let filesystem = found.dev() << 32 | found.blksize();
    if LOCAL.load(Ordering::Relaxed) == filesystem {
        return true;
    }
    let local = kind(file, found.dev()) != Kind::Other;
    if local {
        LOCAL.store(filesystem, Ordering::Relaxed);
    }
    local
}

/// Elsewhere filesystems are not told apart.
#[cfg(not(target_os = "linux"))]
fn counts_names(_: &File, _: &Metadata) -> bool {
    false
}

/// Elsewhere nothing is asked, and the name always looked up anew.
#[cfg(not(target_os = "linux"))]
fn shows_the_present(_: &File, _: &Metadata) -> bool {
    false
}

/// Whose the filesystem of an open lock file is, which has the record of `holder` in it.
fn filesystem(opened: &Opened, holder: &Holder) -> Filesystem {
    let is_ours = match kind(&opened.file, opened.identity.map_or(0, |(device, _)| device)) {
        Kind::Local => true,
        // An overlay is one kernel's, and shows files of a directory below that others may have
        // open by another way, whose locks are not seen here. An open for writing has made a copy
        // of such a file, which is younger than the record in it. (The kernel dates a new file by
        // a clock that is some milliseconds late, so a copy within those is not noticed.)
        Kind::Overlay => opened.is_writable && !is_copy(&opened.file, holder),
        Kind::Other => false,
    };
    if is_ours { Filesystem::OfThisKernel } else { Filesystem::MayBeShared }
}

/// Whether a file came to be after the record in it was written. Not known counts as a copy.
fn is_copy(file: &File, holder: &Holder) -> bool {
    let born = file.metadata().and_then(|found| found.created());
    match (born, holder.since) {
        // The record's time has whole milliseconds.
        (Ok(born), Some(since)) => {
            born.duration_since(since).is_ok_and(|after| after.as_millis() > 0)
        }
        (Ok(_) | Err(_), None) | (Err(_), Some(_)) => true,
    }
}

/// Kinds of filesystems, by what their locks and attributes are worth.
// Elsewhere the kernel is not asked, and every filesystem is `Other`.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// On a disk or in the memory of this machine, with no server or daemon behind it.
    Local,
    /// overlayfs.
    Overlay,
    /// A network's, FUSE's, or not known.
    Other,
}

/// Asks the kernel: by the type of the filesystem where that decides, and else by its device, which
/// has a major number if it is a disk of this machine.
///
/// A disk under FUSE is a daemon's, and GFS2 and OCFS2 share theirs with other machines.
#[cfg(target_os = "linux")]
fn kind(file: &File, device: u64) -> Kind {
    const BCACHEFS: i64 = 0xca45_1a4e;
    const GFS2: i64 = 0x0116_1970;
    const OCFS2: i64 = 0x7461_636f;
    const RAMFS: i64 = 0x8584_58f6;
    const ZFS: i64 = 0x2fc1_2fc1;

    let mut found = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the descriptor is open for as long as `file` is, and `found` has room.
    if unsafe { libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) } != 0 {
        return Kind::Other;
    }
    // SAFETY: the call filled it in when it returned 0.
    let found = unsafe { found.assume_init() }.f_type;
    // Its type and that of the numbers of statfs(2) differ by platform.
    #[allow(clippy::unnecessary_cast)]
    let (found, overlay, fuse, of_memory_or_many_devices) = (
        found as i64,
        libc::OVERLAYFS_SUPER_MAGIC as i64,
        libc::FUSE_SUPER_MAGIC as i64,
        [libc::TMPFS_MAGIC as i64, RAMFS, libc::BTRFS_SUPER_MAGIC as i64, BCACHEFS, ZFS],
    );
    if found == overlay {
        Kind::Overlay
    } else if [fuse, GFS2, OCFS2].contains(&found) {
        Kind::Other
    } else if of_memory_or_many_devices.contains(&found) || libc::major(device) != 0 {
        Kind::Local
    } else {
        Kind::Other
    }
}

/// Elsewhere filesystems are not told apart.
#[cfg(not(target_os = "linux"))]
fn kind(_: &File, _: u64) -> Kind {
    Kind::Other
}

/// Whether an event tells of everybody who comes and goes. It does not of those on another machine
/// or at another mount, and NFS is silent of a file that is removed while it is open.
#[cfg(target_os = "linux")]
fn events_are_of_all(file: &File, device: u64) -> bool {
    kind(file, device) != Kind::Other
}

/// Elsewhere filesystems are not told apart.
#[cfg(not(target_os = "linux"))]
fn events_are_of_all(_: &File, _: u64) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::judge::{Author, FreeLock};

    fn in_a_new_directory() -> (tempfile::TempDir, LockFile) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.lock");
        (dir, LockFile::new(path, process::me().into_owned()))
    }

    #[test]
    fn created_files_and_directories_are_for_the_owner_alone_and_old_ones_left_as_they_are() {
        let (dir, _) = in_a_new_directory();
        let mode = |path: &Path| std::fs::metadata(path).expect("stands").mode() & 0o7777;
        let before = mode(dir.path());
        let path = dir.path().join("a/b/x.lock");
        let mut file = LockFile::new(path.clone(), process::me().into_owned());
        assert_eq!(file.create(), Create::Created);
        assert_eq!(mode(&path), 0o600);
        assert_eq!([mode(&dir.path().join("a")), mode(&dir.path().join("a/b"))], [0o700; 2]);
        assert_eq!(mode(dir.path()), before);
    }

    #[test]
    fn the_record_that_is_written_is_the_record_that_is_read() {
        let (_dir, mut file) = in_a_new_directory();
        assert_eq!(
            (file.create(), file.lock(), file.write()),
            (Create::Created, Lock::Ours, Done::Done)
        );
        assert_eq!(file.read(), Read::Record);
        assert_eq!(file.seen(), Some(file.record()));
        assert_eq!(file.void(), Done::Done);
        assert_eq!(file.read(), Read::Unreadable, "cut to one byte");
    }

    #[test]
    fn a_confirm_compares_the_path_with_the_open_file() {
        let (_dir, mut file) = in_a_new_directory();
        assert_eq!((file.create(), file.confirm()), (Create::Created, Confirm::Same));
        std::fs::remove_file(file.path()).expect("removes");
        assert_eq!(file.confirm(), Confirm::Changed);
        std::fs::write(file.path(), b"").expect("writes");
        assert_eq!(file.confirm(), Confirm::Changed);
        std::fs::remove_file(file.path()).expect("removes");
        assert_eq!(file.unlink(), Unlink::Absent);
    }

    /// Only `.ci/filesystems` has an NFS that tells of the past. Here it is as another confirm.
    #[test]
    fn a_confirm_by_the_server_compares_the_path_with_the_open_file() {
        let (_dir, mut file) = in_a_new_directory();
        assert_eq!((file.create(), file.confirm()), (Create::Created, Confirm::Same));
        let ours = file.open.as_ref().and_then(|opened| opened.identity).expect("confirmed");
        let named = || file.is_named_by_the_server(ours).expect("it can be told");
        assert!(named());
        std::fs::remove_file(file.path()).expect("removes");
        assert!(!named());
        std::fs::write(file.path(), b"").expect("writes");
        assert!(!named());
    }

    #[test]
    fn an_age_beyond_the_grace_is_old_in_either_direction() {
        let (_dir, mut file) = in_a_new_directory();
        assert_eq!(file.create(), Create::Created);
        let mut dated = |changed| {
            file.open.as_ref().expect("open").file.set_modified(changed).expect("sets the time");
            file.age()
        };
        let now = SystemTime::now();
        let minute = Duration::from_secs(60);
        assert_eq!(dated(now), Dated::Known(Age::Young));
        assert_eq!(dated(now - minute), Dated::Known(Age::Old));
        assert_eq!(dated(now + minute), Dated::Known(Age::Old));
    }

    #[test]
    fn who_waits_without_end_asks_after_the_holder_only_when_nobody_has_the_kernel_lock() {
        let (_dir, mut holder) = in_a_new_directory();
        assert_eq!(holder.create(), Create::Created);
        assert_eq!((holder.lock(), holder.write()), (Lock::Ours, Done::Done));
        let mut look = |waits_without_end: bool, expected, lock| {
            let mut file = LockFile::new(holder.path(), holder.record().clone());
            if waits_without_end {
                file.wait_without_end();
            }
            assert_eq!((file.open(), file.read(), file.lock()), (Open::Opened, Read::Record, lock));
            let Probed::Known(Author::Here(_, probe)) = file.probe() else { panic!("it is ours") };
            assert_eq!(probe, expected);
            if lock == Lock::Busy {
                holder.close();
                // Ours, and hence to be judged by what is so.
                assert_eq!(file.lock(), Lock::Ours);
                let ours = Author::Here(FreeLock::ProvesDeath, Probe::Ourselves);
                assert_eq!(file.probe(), Probed::Known(ours));
            }
        };
        look(true, Probe::Unknown, Lock::Busy);
        look(true, Probe::Ourselves, Lock::Ours);
        look(false, Probe::Ourselves, Lock::Ours);
    }

    #[test]
    fn the_first_error_is_kept() {
        let (dir, _) = in_a_new_directory();
        let no_directory = dir.path().join("x.lock");
        std::fs::write(&no_directory, b"").expect("writes");
        let mut file = LockFile::new(no_directory.join("below-a-file"), process::me().into_owned());
        assert_eq!(file.open(), Open::Failed);
        assert_eq!(file.lock(), Lock::Failed);
        assert_eq!(file.take_error().kind(), ErrorKind::NotADirectory);
    }
}
