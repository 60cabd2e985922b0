//! Real threads and real processes: exclusion, witnessed by something that is not this crate, and
//! every way for a holder to end or for its file to be lost, at every call.
//!
//! Nothing here sleeps. Barriers start contenders together, and a participant's answer says that an
//! order was carried out.

#![allow(unsafe_code)]
// Some tests are of Linux alone; what only they need is needed nowhere else.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]

#[path = "../participant/mod.rs"]
mod participant;

mod endings;
mod exclusion;
#[cfg(unix)]
mod foreign;
#[cfg(unix)]
mod forks;
#[cfg(unix)]
mod hostile;
mod identity;
#[cfg(unix)]
mod kills;
mod lost;
#[cfg(unix)]
mod naive;
mod queries;
mod removals;
#[cfg(unix)]
mod storms;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

#[cfg(unix)]
fn as_root() -> bool {
    // SAFETY: geteuid only returns a number.
    unsafe { libc::geteuid() == 0 }
}

/// Whether somebody has the kernel lock, found out by trying it: no query of this crate.
#[cfg(unix)]
fn is_locked(path: &Path) -> bool {
    use std::os::fd::AsRawFd;
    let file = fs::File::open(path).expect("the lock file opens");
    // SAFETY: flock on a number; the file is open.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) != 0 }
}

/// All that others can see of a directory, except when its files were last read.
fn visible(dir: &Path) -> Vec<(PathBuf, [u64; 3], SystemTime, Vec<u8>)> {
    let mut entries: Vec<_> = fs::read_dir(dir)
        .expect("the directory stands")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let found = fs::symlink_metadata(&path).expect("it stands");
            let modified = found.modified().expect("a time");
            let bytes = fs::read(&path).expect("it can be read");
            (path, numbers(&found), modified, bytes)
        })
        .collect();
    entries.sort();
    entries
}

/// Which file it is, its mode, and how many names it has.
#[cfg(unix)]
fn numbers(found: &fs::Metadata) -> [u64; 3] {
    use std::os::unix::fs::MetadataExt;
    [found.ino(), u64::from(found.mode()), found.nlink()]
}

/// Its attributes, its size, and when it was made.
#[cfg(windows)]
fn numbers(found: &fs::Metadata) -> [u64; 3] {
    use std::os::windows::fs::MetadataExt;
    [u64::from(found.file_attributes()), found.file_size(), found.creation_time()]
}
