//! The Unix adapter: one lock path, as system calls.
//!
//! Paths are resolved anew at every call, and not relative to a directory that was opened once:
//! the promise is about what the *path* names, and a directory that is renamed away or removed
//! under a long-lived process would go on working, unseen, for that process alone. It also saves
//! the two calls that open and close the directory.

#![allow(unsafe_code)]

use std::fs::{DirBuilder, File, FileType, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use super::listener::Listener;
use super::own_file::{OwnFile, Passed};
use super::{Deadline, KernelLocks, nothing_open, process, whole_milliseconds};
use crate::fs::{Confirm, Create, Dated, Done, FileSystem, Listen, Lock, Open, Read, Unlink, Wait};
use crate::judge::{Age, Evidence, Probe, Watch};
use crate::protocol::GRACE;
use crate::record::{Holder, MAX_RECORD};

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
    /// What a watch of the open file is answered from, if one look at the kernel's locks serves
    /// many files.
    locks: Option<Arc<KernelLocks>>,
    listener: Listener,
    /// Whether a holder is waited for as long as it takes.
    waits_without_end: bool,
    /// How the last try for the kernel lock of the open file ended.
    tried: Option<Lock>,
}

#[derive(Debug)]
struct Opened {
    file: Arc<OwnFile>,
    /// Device and inode number: an identity for as long as the file is open.
    identity: Option<(u64, u64)>,
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
            locks: None,
            listener: Listener::default(),
            waits_without_end: false,
            tried: None,
        }
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

    /// The first error since the last call.
    pub(crate) fn take_error(&mut self) -> io::Error {
        self.error.take().unwrap_or_else(|| io::Error::other("the reason is not known"))
    }

    /// Whether a name is being deleted: never, since it is free as soon as its file is removed.
    pub(crate) fn is_being_deleted(&self) -> bool {
        false
    }

    /// Whether the first error was a lack of file descriptors: of this process, or of the system.
    pub(crate) fn lacked_descriptors(&self) -> bool {
        let code = self.error.as_ref().and_then(io::Error::raw_os_error);
        matches!(code, Some(libc::EMFILE | libc::ENFILE))
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

    /// The open file's descriptor.
    pub(crate) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.open.as_ref().map(|opened| opened.file.as_fd())
    }

    /// Does the path still name our open file? With the error, if that cannot be told.
    pub(crate) fn is_named(&self) -> io::Result<bool> {
        let Some(opened) = &self.open else { return Ok(false) };
        let ours = match opened.identity {
            Some(identity) => identity,
            None => identity(&retried(|| opened.file.metadata())?),
        };
        let named = match retried(|| std::fs::symlink_metadata(&self.path)) {
            Ok(named) => named,
            Err(error) if is_absent(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
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

    /// Keeps the first error: what fails afterwards, while cleaning up, explains nothing.
    fn failed<T>(&mut self, error: io::Error, reply: T) -> T {
        self.error.get_or_insert(error);
        reply
    }

    fn create_new(&self) -> io::Result<File> {
        retried(|| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&self.path)
        })
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
        let open = |write| OwnFile::opened(|| open(write));
        // NFS grants an exclusive lock only on a file that is open for writing.
        let opened = open(true).or_else(|error| match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => open(false),
            _ => Err(error),
        });
        let file = match opened {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = retried(|| file.metadata())?;
        self.only_a_regular_file(found.file_type())?;
        Ok(Some(Opened { file: file.into(), identity: Some(identity(&found)), changed: None }))
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

    fn read_record(file: &File) -> io::Result<Option<Holder>> {
        let mut bytes = [0; MAX_RECORD + 1];
        let mut filled = 0;
        while filled < bytes.len() {
            match retried(|| file.read_at(&mut bytes[filled..], filled as u64))? {
                0 => break,
                more => filled += more,
            }
        }
        Ok(Holder::parse(&bytes[..filled]))
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
        let open = Opened { file: self.file.upgrade()?, identity: self.identity, changed: None };
        let nameless = LockFile::new(self.path, process::me().clone());
        Some(LockFile { open: Some(open), ..nameless })
    }
}

impl FileSystem for LockFile {
    fn create(&mut self) -> Create {
        let create = || OwnFile::created(|| self.create_new(), || self.open_again());
        let mut created = create();
        if created.as_ref().is_err_and(is_absent) {
            if let Some(parent) = self.path.parent() {
                let mut make = DirBuilder::new();
                // Something else may stand there, as a link that leads nowhere: that says nothing
                // of the lock file.
                if let Err(error) = retried(|| make.recursive(true).mode(0o700).create(parent)) {
                    return self.failed(error, Create::Failed);
                }
                created = create();
            }
        }
        match created {
            Ok(file) => {
                self.open = Some(Opened { file: file.into(), identity: None, changed: None });
                Create::Created
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Create::Exists,
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
                // A time of more than the grace in the future tells of a clock that was set, not
                // of a creator at work.
                let apart = match now.duration_since(changed) {
                    Ok(ago) => ago,
                    Err(ahead) => ahead.duration(),
                };
                Dated::Known(if apart < GRACE { Age::Young } else { Age::Old })
            }
            Err(error) => self.failed(error, Dated::Failed),
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
                Some(_) | None => return self.failed(error, Lock::Failed),
            }
        }
    }

    fn wait(&mut self) -> Wait {
        self.tried = None;
        let Some(opened) = &self.open else { return self.failed(nothing_open(), Wait::Failed) };
        match retried(|| fs4::FileExt::lock(&**opened.file)) {
            Ok(()) => {
                self.tried = Some(Lock::Ours);
                Wait::Ours
            }
            Err(error) => self.failed(error, Wait::Failed),
        }
    }

    fn arm(&mut self) {
        let Some(opened) = &self.open else { return };
        if events_are_of_all(&opened.file) {
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
        Arc::make_mut(&mut self.record).since = Some(whole_milliseconds(SystemTime::now()));
        let bytes = self.record.to_bytes();
        let Some(opened) = &mut self.open else { return self.failed(nothing_open(), Done::Failed) };
        match retried(|| (&**opened.file).write(&bytes)) {
            Ok(written) if written == bytes.len() => Done::Done,
            Ok(_) => self.failed(ErrorKind::StorageFull.into(), Done::Failed),
            Err(error) => self.failed(error, Done::Failed),
        }
    }

    fn read(&mut self) -> Read {
        let Some(opened) = &self.open else { return self.failed(nothing_open(), Read::Failed) };
        match Self::read_record(&opened.file) {
            Ok(seen) => {
                self.seen = seen;
                if self.seen.is_some() { Read::Record } else { Read::Nothing }
            }
            Err(error) => self.failed(error, Read::Failed),
        }
    }

    fn probe(&mut self) -> Evidence {
        let (Some(opened), Some(holder)) = (&self.open, &self.seen) else {
            // The machines probe only what they have read.
            return Evidence::Nothing(Age::Young);
        };
        let author = process::author(holder, || locks_are_kernel_wide(&opened.file));
        if self.tried == Some(Lock::Busy) && self.waits_without_end {
            return Evidence::Record(author, Probe::Unknown);
        }
        // The later of the two: a copied file keeps an old record, a touched one an old text.
        let written = opened.changed.max(holder.since);
        let probe = match self.tried {
            Some(Lock::Ours) => process::probe_under_lock,
            _ => process::probe,
        };
        Evidence::Record(author, probe(holder, author, written))
    }

    fn confirm(&mut self) -> Confirm {
        if let Some(opened) = self.open.as_mut().filter(|opened| opened.identity.is_none()) {
            match retried(|| opened.file.metadata()) {
                Ok(ours) => {
                    opened.identity = Some(identity(&ours));
                    // Our newborn: it got its one name when it was created, and nobody gives or
                    // changes names (S9), so that the path names it for as long as it has one. A
                    // person who moves it away just now comes before us as if a moment later.
                    if ours.nlink() <= 1 && counts_names(&opened.file, &ours) {
                        return if ours.nlink() == 1 { Confirm::Same } else { Confirm::Changed };
                    }
                }
                Err(error) => return self.failed(error, Confirm::Failed),
            }
        }
        match self.is_named() {
            Ok(true) => Confirm::Same,
            Ok(false) => Confirm::Changed,
            Err(error) => self.failed(error, Confirm::Failed),
        }
    }

    fn unlink(&mut self) -> Unlink {
        match retried(|| std::fs::remove_file(&self.path)) {
            Ok(()) => Unlink::Unlinked,
            Err(error) if is_absent(&error) => Unlink::Absent,
            Err(error) => self.failed(error, Unlink::Failed),
        }
    }

    fn void(&mut self) -> Done {
        let Some(opened) = &self.open else { return self.failed(nothing_open(), Done::Failed) };
        match retried(|| opened.file.set_len(0)) {
            Ok(()) => Done::Done,
            Err(error) => self.failed(error, Done::Failed),
        }
    }

    fn watch(&mut self) -> Watch {
        #[cfg(target_os = "linux")]
        if let Some(opened) = &self.open {
            let locks = self.locks.take().unwrap_or_else(|| KernelLocks::snapshot().into());
            return locks.watch(&opened.file, process::me().pid_namespace);
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
    let local = locks_are_kernel_wide(file);
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

/// Whether the locks of this filesystem are those of the whole kernel, for every mount of it.
///
/// An unknown type counts as not: FUSE mounts of one directory do not see each other's locks.
#[cfg(target_os = "linux")]
fn locks_are_kernel_wide(file: &File) -> bool {
    let mut found = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the descriptor is open for as long as `file` is, and `found` has room.
    if unsafe { libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: the call filled it in when it returned 0.
    let kind = unsafe { found.assume_init() }.f_type;
    // statfs(2); ext2, ext3 and ext4 share one number. The type of both sides differs by platform.
    #[allow(clippy::unnecessary_cast)]
    let (kind, known) = (
        kind as i64,
        [
            libc::EXT4_SUPER_MAGIC as i64,
            libc::XFS_SUPER_MAGIC as i64,
            libc::BTRFS_SUPER_MAGIC as i64,
            libc::TMPFS_MAGIC as i64,
            libc::OVERLAYFS_SUPER_MAGIC as i64,
            libc::F2FS_SUPER_MAGIC as i64,
        ],
    );
    known.contains(&kind)
}

/// Elsewhere there are no pid namespaces to tell apart.
#[cfg(not(target_os = "linux"))]
fn locks_are_kernel_wide(_: &File) -> bool {
    false
}

/// Whether an event tells of everybody who comes and goes. It does not of those on another machine
/// or at another mount, and NFS is silent of a file that is removed while it is open.
#[cfg(target_os = "linux")]
fn events_are_of_all(file: &File) -> bool {
    locks_are_kernel_wide(file)
}

/// Elsewhere filesystems are not told apart.
#[cfg(not(target_os = "linux"))]
fn events_are_of_all(_: &File) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn in_a_new_directory() -> (tempfile::TempDir, LockFile) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.lock");
        (dir, LockFile::new(path, process::me().clone()))
    }

    #[test]
    fn created_files_and_directories_are_for_the_owner_alone_and_old_ones_left_as_they_are() {
        let (dir, _) = in_a_new_directory();
        let mode = |path: &Path| std::fs::metadata(path).expect("stands").mode() & 0o7777;
        let before = mode(dir.path());
        let path = dir.path().join("a/b/x.lock");
        let mut file = LockFile::new(path.clone(), process::me().clone());
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
        assert_eq!(file.read(), Read::Nothing);
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
            let Evidence::Record(_, probe) = file.probe() else { panic!("there is a record") };
            assert_eq!(probe, expected);
            if lock == Lock::Busy {
                holder.close();
                // Ours, and hence to be judged by what is so.
                assert_eq!(file.wait(), Wait::Ours);
                assert!(matches!(file.probe(), Evidence::Record(_, Probe::Ourselves)));
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
        let mut file = LockFile::new(no_directory.join("below-a-file"), process::me().clone());
        assert_eq!(file.open(), Open::Failed);
        assert_eq!(file.lock(), Lock::Failed);
        assert_eq!(file.take_error().kind(), ErrorKind::NotADirectory);
    }
}
