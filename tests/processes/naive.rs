//! The control: the protocol that this crate replaces.
//!
//! An exclusive create. If the file exists, the recorded pid is probed; a dead process's file is
//! unlinked by name and created again. No kernel lock, no confirm. An unreadable record counts as
//! stale, and the release unlinks by name.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::SystemTime;

use crate::participant::old_record;

/// The outcome of an attempt.
pub(crate) enum Attempt {
    Held,
    /// By this pid, if it could be read.
    Refused(Option<u32>),
}

/// Calls `between` after a file was found stale, before its unlink.
pub(crate) fn try_acquire(path: &Path, between: impl Fn()) -> Attempt {
    let mut found = None;
    for reclaimed in [false, true] {
        match File::create_new(path) {
            Ok(mut file) => {
                let record = old_record(std::process::id(), SystemTime::now());
                file.write_all(record.as_bytes()).expect("the record is written");
                return Attempt::Held;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}"),
        }
        found = fs::read_to_string(path).ok().and_then(|text| pid_in(&text));
        if reclaimed || found.is_some_and(lives) {
            break;
        }
        between();
        // Another process may have removed it.
        let _ = fs::remove_file(path);
    }
    Attempt::Refused(found)
}

pub(crate) fn release(path: &Path) {
    let _ = fs::remove_file(path);
}

fn pid_in(record: &str) -> Option<u32> {
    let (_, from_pid) = record.split_once("\"pid\":")?;
    from_pid.split_once(',')?.0.parse().ok()
}

/// Its own pid is a leftover; a pid that it may not signal is alive.
fn lives(pid: u32) -> bool {
    let Ok(number) = i32::try_from(pid) else { return false };
    // SAFETY: signal 0 sends nothing.
    let answered = unsafe { libc::kill(number, 0) } == 0;
    let forbidden = std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM);
    pid != std::process::id() && (answered || forbidden)
}
