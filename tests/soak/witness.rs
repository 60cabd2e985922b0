//! The witness of exclusion: a byte-range lock of POSIX on a file that is not the lock file. No code
//! of this crate takes such a lock, and the kernel keeps it apart from `flock`.
//!
//! It belongs to the process: a forked child has none of its parent's, and it ends with the process.
//! A process that dies loses it no later than the lock that it witnesses: its files are closed from
//! the lowest descriptor up, witnesses are opened first, and the kernel drops a `flock` after the
//! last of them.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

pub(crate) struct Witness(File);

impl Witness {
    pub(crate) fn open(path: &Path) -> Self {
        Self(File::options().create(true).truncate(false).write(true).open(path).expect("opens"))
    }

    /// Whether nobody else holds. If somebody does, it says which process.
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

    /// To be called before the lock itself can be anybody else's.
    pub(crate) fn leave(&self) {
        let lock = range(libc::F_UNLCK);
        // SAFETY: the file is open, and the pointer is to a lock.
        let left = unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_SETLK, &raw const lock) };
        assert_eq!(left, 0, "{}", std::io::Error::last_os_error());
    }
}

/// The first byte of the file.
fn range(kind: impl TryInto<libc::c_short>) -> libc::flock {
    // SAFETY: a structure of numbers, of which zero is a valid one each.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind.try_into().ok().expect("a small number");
    lock.l_len = 1;
    lock
}
