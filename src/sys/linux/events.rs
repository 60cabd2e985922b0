//! Events of one file, by inotify(7): its unlink or rename, and every close of it.
//!
//! The kernel reports a close when the last process that shares an open file closes it or dies.
//!
//! To close a queue that has just had a watch takes the kernel 8 to 17 ms (it waits until no
//! thread can use the watch any more), and 20 µs a moment later. So queues are kept for the next wait.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::AtomicPtr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sys::per_process::PerProcess;
use crate::sys::unix::own_file::OwnFile;
use crate::sys::unix::process;
use crate::sys::unix::{above_standard, retried};

/// The file that is listened to, and what happened to it since.
#[derive(Debug)]
pub(crate) struct Events {
    /// A forked child does not keep it.
    queue: Arc<OwnFile>,
    /// The number of the present watch.
    watch: i32,
}

/// The most queues that are kept: of those a user has 128, by default.
const MOST_SPARE: usize = 16;

/// The queues of this process that no wait uses now.
fn spare() -> MutexGuard<'static, Vec<Arc<OwnFile>>> {
    static SPARE: PerProcess<Mutex<Vec<Arc<OwnFile>>>> =
        PerProcess::new(AtomicPtr::new(std::ptr::null_mut()));
    // Nothing is done while it is locked that can panic.
    let spare = SPARE.get(process::generation(), Mutex::default);
    spare.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An unlink changes the link count, which is `IN_ATTRIB`; `IN_DELETE_SELF` would come only when no
/// process has the file open, and we have.
const OF_INTEREST: u32 =
    libc::IN_ATTRIB | libc::IN_CLOSE | libc::IN_MOVE_SELF | libc::IN_DONT_FOLLOW;

impl Events {
    /// Fails with `EMFILE` when the user has as many queues as `max_user_instances` allows.
    pub(crate) fn new() -> io::Result<Self> {
        if let Some(queue) = spare().pop() {
            return Ok(Self { queue, watch: -1 });
        }
        Ok(Self { queue: OwnFile::opened(new_queue)?.into(), watch: -1 })
    }

    /// Events of the file that `path` names, and of no earlier one.
    ///
    /// That it is still the file in question must be asked afterwards.
    pub(crate) fn watch(&mut self, path: &Path, _: &File) -> io::Result<()> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        self.forget();
        let queue = self.as_fd().as_raw_fd();
        // SAFETY: the descriptor is open, and the path a C string.
        self.watch = unsafe { libc::inotify_add_watch(queue, path.as_ptr(), OF_INTEREST) };
        if self.watch < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn forget(&self) {
        if self.watch >= 0 {
            // SAFETY: numbers alone. A watch that went with its file is none any more.
            unsafe { libc::inotify_rm_watch(self.as_fd().as_raw_fd(), self.watch) };
        }
    }

    /// Readable when something has happened.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }

    /// Forgets what has happened, and returns whether any of it was to the present file.
    pub(crate) fn take(&mut self) -> io::Result<bool> {
        let mut any = false;
        let mut bytes = [0; 4096];
        loop {
            let read = match retried(|| (&**self.queue).read(&mut bytes)) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(any),
                Err(error) => return Err(error),
            };
            any |= numbers(&bytes[..read])
                .any(|(watch, mask)| watch == self.watch || mask & libc::IN_Q_OVERFLOW != 0);
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if !self.queue.is_ours() {
            return;
        }
        self.forget();
        let mut spare = spare();
        if spare.len() < MOST_SPARE {
            spare.push(Arc::clone(&self.queue));
        }
    }
}

fn new_queue() -> io::Result<File> {
    // SAFETY: takes flags and returns a number.
    let queue = unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) };
    if queue < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and has no other owner.
    Ok(above_standard(unsafe { File::from_raw_fd(queue) }))
}

/// The watch and the mask of each `struct inotify_event`: four numbers of 32 bits, and a name of
/// the length that the last one says, which is 0 for a file.
fn numbers(mut bytes: &[u8]) -> impl Iterator<Item = (i32, u32)> {
    std::iter::from_fn(move || {
        let (head, rest) = bytes.split_first_chunk::<16>()?;
        let [watch, mask, _, length] =
            [0, 4, 8, 12].map(|at| [head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let length = usize::try_from(u32::from_ne_bytes(length)).ok()?;
        bytes = rest.get(length..)?;
        Some((i32::from_ne_bytes(watch), u32::from_ne_bytes(mask)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> (tempfile::TempDir, std::path::PathBuf, File, Events) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x");
        let file = File::create(&path).expect("creates");
        let mut events = Events::new().expect("inotify");
        events.watch(&path, &file).expect("watches");
        (dir, path, file, events)
    }

    #[test]
    fn unlink_rename_and_close_are_events_writes_not() {
        alone("unlink_rename_and_close_are_events_writes_not", which_are_events);
    }

    fn which_are_events() {
        let (dir, path, file, mut events) = watched();
        assert!(!events.take().expect("reads"));
        std::fs::write(dir.path().join("other"), b"x").expect("writes");
        io::Write::write_all(&mut &file, b"x").expect("writes");
        assert!(!events.take().expect("reads"));
        drop(File::open(&path).expect("opens"));
        assert!(events.take().expect("reads") && !events.take().expect("reads"));
        std::fs::rename(&path, dir.path().join("away")).expect("renames");
        assert!(events.take().expect("reads"));
        std::fs::remove_file(dir.path().join("away")).expect("removes");
        assert!(events.take().expect("reads"), "though the file is open still");
        drop(file);
        assert!(events.take().expect("reads"));
    }

    /// The names of the tests that no child of another test may disturb: a child that was forked
    /// while a file was open delays the event of its close.
    fn alone(test: &str, body: impl FnOnce()) {
        crate::sys::forked::alone(&format!("sys::linux::events::tests::{test}"), body);
    }

    #[test]
    fn events_of_an_earlier_file_are_none() {
        alone("events_of_an_earlier_file_are_none", events_of_an_earlier_file);
    }

    fn events_of_an_earlier_file() {
        let (dir, _, file, mut events) = watched();
        let next = dir.path().join("next");
        let _next = File::create(&next).expect("creates");
        drop(file);
        events.watch(&next, &File::open(&next).expect("opens")).expect("watches");
        // The close of what was opened for the call is one.
        assert!(events.take().expect("reads"));
        std::fs::remove_file(dir.path().join("x")).expect("removes");
        assert!(!events.take().expect("reads"));
    }

    #[test]
    fn earlier_file_is_watched_no_longer() {
        alone("earlier_file_is_watched_no_longer", || {
            let (dir, path, file, mut events) = watched();
            let next = dir.path().join("next");
            let next_file = File::create(&next).expect("creates");
            events.watch(&next, &next_file).expect("watches");
            // That the earlier watch has ended is an event as well.
            events.take().expect("reads");
            std::fs::remove_file(path).expect("removes");
            drop(file);
            let left = (&**events.queue).read(&mut [0; 64]);
            assert_eq!(left.expect_err("nothing").kind(), io::ErrorKind::WouldBlock);
        });
    }

    /// What was lost may have been an event of the present file.
    #[test]
    fn overflow_of_the_queue_is_an_event() {
        let (dir, path, _file, mut events) = watched();
        let longest = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events");
        let longest: usize = longest.expect("inotify").trim().parse().expect("a number");
        for _ in 0..=longest / 2 {
            // Of two kinds, because one that is as the last one is not queued.
            drop(File::open(&path).expect("opens"));
            drop(File::options().append(true).open(&path).expect("opens"));
        }
        let next = dir.path().join("next");
        let file = File::create(&next).expect("creates");
        events.watch(&next, &file).expect("watches");
        std::fs::remove_file(&next).expect("removes");
        assert!(events.take().expect("reads"));
    }

    #[test]
    fn queue_without_standard_input_is_moved() {
        let said = crate::sys::forked::in_a_child(|| {
            // SAFETY: closes the standard input of a child that does not use it.
            unsafe { libc::close(libc::STDIN_FILENO) };
            let queue = new_queue().expect("inotify");
            vec![u8::from(queue.as_raw_fd() > libc::STDERR_FILENO)]
        });
        assert_eq!(said, [1]);
    }

    #[test]
    fn queue_without_a_descriptor_is_an_error() {
        let said = crate::sys::forked::in_a_child(|| {
            crate::sys::forked::no_more_descriptors();
            let refused = new_queue().map(drop);
            vec![u8::from(refused.is_err_and(|error| error.raw_os_error() == Some(libc::EMFILE)))]
        });
        assert_eq!(said, [1]);
    }

    #[test]
    fn queues_are_pooled_up_to_a_limit() {
        alone("queues_are_pooled_up_to_a_limit", || {
            let queues: Vec<_> = (0..MOST_SPARE + 4).map_while(|_| Events::new().ok()).collect();
            let taken = queues.len();
            drop(queues);
            assert_eq!(spare().len(), taken.min(MOST_SPARE));
        });
    }

    #[test]
    fn forked_child_pools_no_queue_of_its_parent() {
        alone("forked_child_pools_no_queue_of_its_parent", || {
            drop(watched());
            assert_eq!(spare().len(), 1);
            let (_dir, _path, _file, events) = watched();
            drop(Events::new());
            let mine = std::cell::Cell::new(Some(events));
            let said = crate::sys::forked::in_a_child(|| {
                let before = spare().len();
                drop(mine.take());
                [before, spare().len()].map(|pooled| u8::try_from(pooled).unwrap_or(9)).to_vec()
            });
            assert_eq!(said, [0, 0]);
            assert_eq!(spare().len(), 1, "the parent's are its own");
        });
    }

    #[test]
    fn watch_needs_a_file_and_follows_no_link() {
        let (dir, path, file, mut events) = watched();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("links");
        events.watch(&link, &file).expect("watches the link itself");
        drop(file);
        assert!(!events.take().expect("reads"));
        std::fs::remove_file(&link).expect("removes");
        let absent = events.watch(&link, &File::open(&path).expect("opens"));
        assert_eq!(absent.expect_err("absent").kind(), io::ErrorKind::NotFound);
    }
}
