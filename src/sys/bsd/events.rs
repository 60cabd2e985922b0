//! Events of one file, by kqueue(2) on macOS and FreeBSD: its unlink or rename, and what frees a
//! kernel lock: on macOS the unlock itself (`NOTE_FUNLOCK`), on FreeBSD any close (`NOTE_CLOSE`).
//!
//! The kernel unlocks and closes the files of a process that dies. Our own unlocks are spurious
//! events: the waiter checks again, finds the lock taken and goes on.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr::{null, null_mut};

use crate::sys::Origin;
use crate::sys::unix::{above_standard, retried};

/// The file that is listened to, and what happened to it since.
#[derive(Debug)]
pub(crate) struct Events {
    queue: ManuallyDrop<OwnedFd>,
    /// A forked child does not inherit the queue, and may have given its number to another file.
    origin: Origin,
}

#[cfg(target_vendor = "apple")]
const UNLOCKED: u32 = libc::NOTE_FUNLOCK;
#[cfg(target_os = "freebsd")]
const UNLOCKED: u32 = libc::NOTE_CLOSE | libc::NOTE_CLOSE_WRITE;

const OF_INTEREST: u32 = libc::NOTE_DELETE | libc::NOTE_RENAME | UNLOCKED;

impl Events {
    /// Fails with `EMFILE` or `ENFILE` when there is no descriptor left.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { queue: ManuallyDrop::new(new_queue()?), origin: Origin::here() })
    }

    /// Events of `file`, and of no earlier one.
    pub(crate) fn watch(&mut self, _: &Path, file: &File) -> io::Result<()> {
        // One that is as new as the file has nothing of another.
        let earlier = std::mem::replace(&mut self.queue, ManuallyDrop::new(new_queue()?));
        drop(ManuallyDrop::into_inner(earlier));
        let mut watch = no_event();
        watch.ident = file.as_raw_fd() as libc::uintptr_t;
        watch.filter = libc::EVFILT_VNODE;
        watch.flags = libc::EV_ADD | libc::EV_CLEAR;
        watch.fflags = OF_INTEREST;
        let queue = self.queue.as_raw_fd();
        retried(|| {
            // SAFETY: the descriptor is open, and one change is read and no event written.
            match unsafe { libc::kevent(queue, &raw const watch, 1, null_mut(), 0, null()) } {
                -1 => Err(io::Error::last_os_error()),
                _ => Ok(()),
            }
        })
    }

    /// Readable when something has happened.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }

    /// Forgets what has happened, and returns whether there was anything.
    pub(crate) fn take(&mut self) -> io::Result<bool> {
        let queue = self.queue.as_raw_fd();
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let mut event = no_event();
        // There is one watch, and all that happened to it is one event, which is gone once read.
        let returned = retried(|| {
            // SAFETY: the descriptor is open, no change is read, and there is room for one event.
            match unsafe { libc::kevent(queue, null(), 0, &raw mut event, 1, &raw const now) } {
                -1 => Err(io::Error::last_os_error()),
                returned => Ok(returned),
            }
        })?;
        Ok(returned > 0)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if self.origin.is_here() {
            // SAFETY: it is dropped here alone, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.queue) };
        }
    }
}

fn new_queue() -> io::Result<OwnedFd> {
    // SAFETY: takes nothing and returns a number.
    let queue = unsafe { libc::kqueue() };
    if queue < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and has no other owner.
    let queue = above_standard(unsafe { OwnedFd::from_raw_fd(queue) });
    // SAFETY: fcntl on a number; the descriptor is open.
    match unsafe { libc::fcntl(queue.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(queue),
    }
}

fn no_event() -> libc::kevent {
    // SAFETY: numbers and a pointer, of which zero is a valid one each.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlock_unlink_and_rename_are_events_writes_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x");
        let file = File::options().create_new(true).write(true).open(&path).expect("creates");
        let mut events = Events::new().expect("kqueue");
        events.watch(&path, &file).expect("watches");
        assert!(!events.take().expect("reads"));
        let holder = File::options().write(true).open(&path).expect("opens");
        fs4::FileExt::try_lock(&holder).expect("locks");
        io::Write::write_all(&mut &holder, b"x").expect("writes");
        assert!(!events.take().expect("reads"));
        drop(holder);
        assert!(events.take().expect("reads") && !events.take().expect("reads"));
        std::fs::rename(&path, dir.path().join("away")).expect("renames");
        assert!(events.take().expect("reads"));
        std::fs::remove_file(dir.path().join("away")).expect("removes");
        assert!(events.take().expect("reads"), "though the file is open still");
    }

    #[test]
    fn events_of_an_earlier_file_are_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let paths = ["x", "y"].map(|name| dir.path().join(name));
        let files = paths.clone().map(|path| File::create(path).expect("creates"));
        let mut events = Events::new().expect("kqueue");
        for (path, file) in paths.iter().zip(&files) {
            events.watch(path, file).expect("watches");
        }
        std::fs::remove_file(&paths[0]).expect("removes");
        assert!(!events.take().expect("reads"));
        std::fs::remove_file(&paths[1]).expect("removes");
        assert!(events.take().expect("reads"));
    }
}
