//! Real threads and real processes: exclusion, witnessed by something that is not this crate, and
//! every way for a holder to end or for its file to be lost, at every call.
//!
//! Nothing here sleeps. Barriers start contenders together, and a participant's answer says that an
//! order was carried out.

#![cfg(unix)]
#![allow(unsafe_code)]

#[path = "../participant/mod.rs"]
mod participant;

mod endings;
mod exclusion;
mod foreign;
mod forks;
mod hostile;
mod identity;
mod kills;
mod lost;
mod naive;
mod queries;
mod removals;
mod storms;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

fn as_root() -> bool {
    // SAFETY: geteuid only returns a number.
    unsafe { libc::geteuid() == 0 }
}

fn refused_by(pid: u32) -> String {
    format!("refused, held by pid {pid}")
}

fn reclaimed_from(pid: u32) -> String {
    format!("held, reclaimed from pid {pid}")
}

/// Whether somebody has the kernel lock, found out by trying it: no query of this crate.
fn is_locked(path: &Path) -> bool {
    let file = File::open(path).expect("the lock file opens");
    // SAFETY: flock on a number; the file is open.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) != 0 }
}

/// All that others can see of a directory, except when its files were last read.
fn visible(dir: &Path) -> Vec<(PathBuf, u64, u32, u64, SystemTime, Vec<u8>)> {
    let mut entries: Vec<_> = fs::read_dir(dir)
        .expect("the directory stands")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let found = fs::symlink_metadata(&path).expect("it stands");
            let modified = found.modified().expect("a time");
            let bytes = fs::read(&path).expect("it can be read");
            (path, found.ino(), found.mode(), found.nlink(), modified, bytes)
        })
        .collect();
    entries.sort();
    entries
}
