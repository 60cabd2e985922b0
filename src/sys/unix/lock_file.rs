//! What a participant has of one lock path.

mod filesystem;
mod operations;
#[cfg(test)]
mod tests;

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use self::filesystem::has_coherent_attributes;
use super::listener::Listener;
use super::own_file::{OwnFile, Passed};
use super::{
    above_standard, identity, is_absent, is_stale, lacks_descriptors, process, retried,
    twice_if_stale,
};
use crate::percy;
#[cfg(feature = "tokio")]
use crate::protocol::Listen;
use crate::protocol::LockReply;
#[cfg(doc)]
use crate::protocol::{Confirm, FileSystem};
use crate::record::{Contents, Holder, MAX_RECORD};
use crate::sys::{Deadline, KernelLocks, nothing_open};

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
    tried: Option<LockReply>,
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
        Self { only_reads: true, ..Self::new(path, process::current_process().into_owned()) }
    }

    /// For a wait without end: any owner of the kernel lock is waited for, so no holder is probed.
    /// The judge gets "unknown", which any probe may answer at any time (P8).
    ///
    /// The probe is the most expensive part of a check, and every waiter checks every holder.
    pub(crate) fn wait_without_end(&mut self) {
        self.waits_without_end = true;
    }

    /// Has every wait by [`FileSystem::wait_event`] end then.
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

    /// What the path names, if it is no regular file.
    pub(crate) fn not_a_lock_file(&self) -> Option<&'static str> {
        self.not_a_lock_file
    }

    /// The first error since the last call, or else the passing one that lasted.
    pub(crate) fn take_error(&mut self) -> io::Error {
        let error = self.error.take().or(self.passing.take());
        error.unwrap_or_else(|| io::Error::other("the reason is not known"))
    }

    /// Whether a name is being deleted: never, because it is free as soon as its file is removed.
    pub(crate) fn is_being_deleted(&self) -> bool {
        false
    }

    /// Whether the first error was a lack of file descriptors: of this process, or of the system.
    pub(crate) fn lacked_descriptors(&self) -> bool {
        self.error.as_ref().is_some_and(lacks_descriptors)
    }

    /// Has the next watch answered from `locks`, which must have been read **after** the open file
    /// was read: an older snapshot misses the lock of a process that acquired in between, and a held
    /// file seems stale. An open forgets it, so that it never serves a file that came later.
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

    /// Does the path still name our open file? With the error, if that cannot be known.
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
        if identity(&named) != ours || has_coherent_attributes(&opened.file, &named) {
            return Ok(identity(&named) == ours);
        }
        self.is_named_by_the_server(ours)
    }

    /// The same by asking the file server, and not the attributes that this machine has cached,
    /// which on NFS show a removed file for seconds.
    ///
    /// Two opens, by the promise that NFS keeps (close-to-open): that of the directory brings up
    /// to date what is known of its names, that of the file what the name names. The second
    /// alone is enough for NFS 4.0, and neither for 3, where a client that has the file open
    /// renames it instead of removing it, nor for 4.2, as measured by `.ci/filesystems`. What even
    /// both do not show is a change of the name in the same tick of the server's clock, some
    /// milliseconds, as the directory's last change before, where the server counts by that.
    ///
    /// A number means one file only as long as the server has it open, as it has for an owner of
    /// the kernel lock.
    fn is_named_by_the_server(&self, ours: (u64, u64)) -> io::Result<bool> {
        // Without permission to read the directory the second open has to do.
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

    /// Same as [`FileSystem::wait_event`], in a task: blocks no thread.
    #[cfg(feature = "tokio")]
    pub(crate) async fn listen_in_task(&mut self) -> Listen {
        match self.listener.listen_in_task().await {
            Ok(returned) => returned,
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
        Ok(Contents::of(&bytes[..filled], percy::file_name(&self.path)))
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
        let nameless = LockFile::new(path, process::current_process().into_owned());
        Some(LockFile { open: Some(open), ..nameless })
    }
}
