//! Real threads and processes: exclusion, checked by a witness outside this crate; every way for a
//! holder to end or to lose its file, at every call.
//!
//! No test sleeps. Barriers start contenders together, and a participant's answer confirms that an
//! order was carried out.

#![allow(unsafe_code)]
// Some tests run on Linux only, so their helpers and imports are unused elsewhere.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]

#[path = "../participant/mod.rs"]
mod participant;

#[cfg(unix)]
mod crash_injection;
mod endings;
mod exclusion;
#[cfg(unix)]
mod foreign;
#[cfg(unix)]
mod forks;
#[cfg(unix)]
mod hostile;
mod identity;
mod lost;
#[cfg(unix)]
mod naive;
mod queries;
mod removals;
#[cfg(unix)]
mod stress;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

#[cfg(unix)]
fn as_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether any process has the kernel lock. It tries the lock, independent of this crate.
#[cfg(unix)]
fn is_locked(path: &Path) -> bool {
    use std::os::fd::AsRawFd;
    let file = fs::File::open(path).expect("the lock file opens");
    // SAFETY: flock on a number; the file is open.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) != 0 }
}

/// All that other processes can see of a directory, except access times.
fn visible(dir: &Path) -> Vec<(PathBuf, [u64; 3], SystemTime, Vec<u8>)> {
    let mut entries: Vec<_> = fs::read_dir(dir)
        .expect("the directory exists")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let found = fs::symlink_metadata(&path).expect("it exists");
            let modified = found.modified().expect("a time");
            let bytes = fs::read(&path).expect("it can be read");
            (path, numbers(&found), modified, bytes)
        })
        .collect();
    entries.sort();
    entries
}

/// Inode, mode and number of links.
#[cfg(unix)]
fn numbers(found: &fs::Metadata) -> [u64; 3] {
    use std::os::unix::fs::MetadataExt;
    [found.ino(), u64::from(found.mode()), found.nlink()]
}

/// Attributes, size and creation time.
#[cfg(windows)]
fn numbers(found: &fs::Metadata) -> [u64; 3] {
    use std::os::windows::fs::MetadataExt;
    [u64::from(found.file_attributes()), found.file_size(), found.creation_time()]
}
