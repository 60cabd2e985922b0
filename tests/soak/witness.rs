//! The witness of exclusion: a POSIX byte-range lock on another file. This crate never takes such a
//! lock, and the kernel keeps it separate from `flock`.
//!
//! It belongs to the process: a forked child does not inherit it, and it ends with the process. A
//! process that dies loses it no later than the lock that it witnesses: the kernel closes its files
//! from the lowest descriptor up, and witnesses are opened first.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

pub(crate) struct Witness(File);

impl Witness {
    pub(crate) fn open(path: &Path) -> Self {
        Self(File::options().create(true).truncate(false).write(true).open(path).expect("opens"))
    }

    /// Takes the witness. The error is the pid of another holder.
    pub(crate) fn enter(&self) -> Result<(), i32> {
        let mut lock = range(libc::F_WRLCK);
        // SAFETY: the file is open, and the pointer is to a lock.
        if unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_SETLK, &raw const lock) } == 0 {
            return Ok(());
        }
        // SAFETY: the same.
        unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_GETLK, &raw mut lock) };
        Err(lock.l_pid)
    }

    /// Must be called before another process can acquire the lock.
    pub(crate) fn leave(&self) {
        let lock = range(libc::F_UNLCK);
        // SAFETY: the file is open, and the pointer is to a lock.
        let left = unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_SETLK, &raw const lock) };
        assert_eq!(left, 0, "{}", std::io::Error::last_os_error());
    }
}

/// The first byte of the file.
fn range(kind: impl TryInto<libc::c_short>) -> libc::flock {
    // SAFETY: a structure of numbers, for which zero is valid.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind.try_into().ok().expect("a small number");
    lock.l_len = 1;
    lock
}
