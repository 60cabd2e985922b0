//! What a participant has of one lock path.
//!
//! Its accessors and replies are those of the Unix adapter, written again, so that each adapter can be
//! read as a whole.

mod operations;
#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind};
use std::os::windows::io::BorrowedHandle;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use windows_sys::Win32::Foundation::{ERROR_DELETE_PENDING, ERROR_SHARING_VIOLATION};

use super::open_file::{Kind, OpenFile};
use super::owner::make_directory;
use super::values::code;
use super::{is_absent, is_denied, lacks_descriptors, not_pending, process};
use crate::percy;
#[cfg(doc)]
use crate::protocol::FileSystem;
#[cfg(feature = "tokio")]
use crate::protocol::Listen;
use crate::protocol::Unlink;
use crate::record::{Contents, Holder, MAX_RECORD};
#[cfg(feature = "tokio")]
use crate::sys::Backoff;
use crate::sys::{Deadline, KernelLocks};

/// How often a removal is tried while another program has the file open and does not share it for
/// that: an indexer or a virus scanner, for a moment.
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
        Self::new(path, process::current_process().into_owned())
    }

    /// Nothing is spared here: a probe is two calls on a handle.
    pub(crate) fn wait_without_end(&mut self) {}

    /// Has every wait by [`FileSystem::wait_event`] end then.
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

    /// What the path names, if it is no regular file.
    pub(crate) fn not_a_lock_file(&self) -> Option<&'static str> {
        self.not_a_lock_file
    }

    /// The first error since the last call, or else the denial that lasted.
    pub(crate) fn take_error(&mut self) -> io::Error {
        let error = self.error.take().or(self.denial.take());
        error.unwrap_or_else(|| io::Error::other("the reason is not known"))
    }

    /// Whether the denial that lasted was of a name that is being deleted, and not of a permission:
    /// some program still has the file open, and no process holds it.
    pub(crate) fn is_being_deleted(&self) -> bool {
        self.error.is_none() && self.denial.as_ref().and_then(code) == Some(ERROR_DELETE_PENDING)
    }

    /// Whether the first error was a lack of handles. The system has room for 16 million.
    pub(crate) fn lacked_descriptors(&self) -> bool {
        self.error.as_ref().is_some_and(lacks_descriptors)
    }

    /// No watch is answered: see [`watch`](FileSystem::query_lock).
    pub(crate) fn watch_in(&mut self, _: Arc<KernelLocks>) {}

    /// Nothing is passed: a kernel lock of Windows belongs to the process that took it, and
    /// does not go with the handle.
    pub(crate) fn pass_to_child(&self, _: &mut Command) {}

    /// The open file's handle.
    pub(crate) fn as_handle(&self) -> Option<BorrowedHandle<'_>> {
        self.open.as_ref().map(|opened| opened.file.as_handle())
    }

    /// Does the path still name our open file? With the error, if that cannot be known.
    ///
    /// Both files are looked at again: the number of a file on FAT changes when it is moved there.
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

    /// In the place of [`FileSystem::wait_event`], in a task: it looks again, after pauses that grow.
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
            make_directory(parent.ok_or(error)?)?;
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
            // A device has no attributes; for all else the open says what is wrong.
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
        Ok(Contents::of(&bytes[..filled], percy::file_name(&self.path)))
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
        let nameless = LockFile::new(self.path, process::current_process().into_owned());
        Some(LockFile { open: Some(open), ..nameless })
    }
}
