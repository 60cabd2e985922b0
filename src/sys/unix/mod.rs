//! The Unix adapter: one lock path, as system calls.
//!
//! Paths are resolved at every call, and not relative to a directory that was opened once. The
//! promise is about what the *path* names: a directory that is renamed or removed under a long-lived
//! process would go on working, unnoticed, for that process alone. It also saves the two calls that
//! open and close the directory.

#![allow(unsafe_code)]

pub(crate) mod cancel;
pub(crate) mod fallback;
mod fork;
#[cfg(test)]
pub(crate) mod forked;
mod listener;
mod lock_file;
#[cfg(not(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd")))]
mod no_events;
pub(super) mod own_file;
pub(crate) mod process;

#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
use crate::sys::bsd::events;
#[cfg(target_os = "linux")]
use crate::sys::linux::events;
#[cfg(not(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd")))]
use no_events as events;

pub(crate) use lock_file::{LeftOpen, LockFile};

use std::ffi::CString;
use std::fs::{DirBuilder, Metadata};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

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

/// The path names nothing: no such entry, or no such directory on the way.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

/// Calls once more after `ESTALE`: another lookup of the name may succeed.
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
/// a free number above it stays where it is: it must not be lost, because it may have been created.
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
    // SAFETY: the descriptor is new, and has no other owner.
    unsafe { OwnedFd::from_raw_fd(above) }.into()
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
