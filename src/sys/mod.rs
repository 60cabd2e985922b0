//! The real adapter: the only place that calls the system.
//!
//! One small type per platform, [`LockFile`], behind one name. `process` is the probe, and what a
//! process says of itself in a record.

#![expect(
    clippy::disallowed_methods,
    reason = "files, clocks and processes are banned everywhere else so that they are all here"
)]

// Without an adapter there is no lock: better no program than one that holds nothing.
#[cfg(not(any(unix, windows)))]
compile_error!(
    "portlock has no adapter for this platform: src/sys knows Unix and Windows. \
     A new one is a `LockFile` with the operations of src/protocol/ops.rs, and a `process`."
);

pub(crate) mod author;
mod deadline;
#[cfg(test)]
pub(crate) mod in_time;
mod origin;
pub(crate) mod per_process;
#[cfg(test)]
pub(crate) mod wakes;

#[cfg(target_vendor = "apple")]
mod apple;
#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
mod bsd;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as imp;
#[cfg(windows)]
use windows as imp;

pub(crate) use deadline::{Backoff, Deadline};
pub(crate) use imp::{LeftOpen, LockFile, cancel, fallback, foreign_owner, process};
#[cfg(target_os = "linux")]
pub(crate) use linux::KernelLocks;
pub(crate) use origin::Origin;
#[cfg(all(test, unix))]
pub(crate) use unix::{
    forked,
    tests::{given_away, left_by_a_dead_creator},
};

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicPtr;
use std::time::{Duration, SystemTime};

use crate::protocol::{Age, GRACE};

/// The home directory: `$HOME`, or else what the system says, which is asked once. On Windows
/// `%USERPROFILE%`, where Node looks and hence Percy.
pub(crate) fn home() -> Option<PathBuf> {
    // With the variable set this makes no system call, and a program may change the variable.
    home_or(std::env::var_os(HOME_VARIABLE))
}

fn home_or(named: Option<OsString>) -> Option<PathBuf> {
    static ASKED: per_process::PerProcess<Option<PathBuf>> =
        per_process::PerProcess::new(AtomicPtr::new(std::ptr::null_mut()));
    if let Some(named) = named.filter(|named| !named.is_empty()) {
        return Some(named.into());
    }
    ASKED.get(0, dirs::home_dir).clone()
}

/// The variable that names the home directory.
pub(crate) const HOME_VARIABLE: &str = if cfg!(windows) { "USERPROFILE" } else { "HOME" };

/// The variable that names the directory of lock files.
pub(crate) const DIRECTORY_VARIABLE: &str = "PORTLOCK_DIR";

/// `path` from the root, by name alone: no link is resolved. The empty one is the working
/// directory. It stays relative where the working directory is not known.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    let absolute = if path.as_os_str().is_empty() {
        std::env::current_dir()
    } else {
        std::path::absolute(path)
    };
    absolute.unwrap_or_else(|_| path.to_owned())
}

/// What `$PORTLOCK_DIR` names, as it is; `None` if it is unset or empty.
pub(crate) fn directory_of_environment() -> Option<PathBuf> {
    let named = std::env::var_os(DIRECTORY_VARIABLE).filter(|named| !named.is_empty())?;
    Some(named.into())
}

/// The names of the entries of the directory `dir`, in no order; none if it is absent.
pub(crate) fn names_in(dir: &Path) -> io::Result<Vec<OsString>> {
    let names = || -> io::Result<Vec<_>> {
        std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
    };
    loop {
        match names() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            listed => return listed,
        }
    }
}

/// Panics, as tokio does, where there is none with what a wait in a task needs: at once, and not
/// only when another process holds the lock.
#[cfg(feature = "tokio")]
pub(crate) fn require_a_runtime() {
    drop(tokio::time::sleep(Duration::ZERO));
    // Without a descriptor left this is not known: then the acquire fails, and does not wait.
    #[cfg(unix)]
    drop(tokio::net::UnixDatagram::unbound());
}

/// Whether a path begins with a `~` that no shell has expanded: `~`, `~/locks`, `~user/locks`.
pub(crate) fn has_tilde(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().first() == Some(&b'~')
}

/// Whether an operation failed because this process, or the system, has no file descriptor left.
pub(crate) fn lacks_descriptors(error: &io::Error) -> bool {
    imp::lacks_descriptors(error)
}

/// Whether a lock failed because no more locks can be had (`ENOLCK`).
pub(crate) fn lacks_locks(error: &io::Error) -> bool {
    imp::lacks_locks(error)
}

/// What `ready` returns, which is asked again and again for at most a second.
pub(crate) fn wait_a_little_until<T>(mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Deadline::within(Some(Duration::from_secs(1)), None);
    let mut pause = Backoff::FIRST;
    loop {
        let found = ready();
        if found.is_some() || deadline.is_late() {
            return found;
        }
        // No jitter: the exit of a process, where this is used, has no use for it.
        deadline.sleep(pause);
        pause = (pause * 2).min(Backoff::LONGEST_POLL);
    }
}

/// An adapter was asked about its open file, and has none.
pub(crate) fn nothing_open() -> io::Error {
    io::Error::other("no file is open, which is a defect of the driver")
}

/// The age of a file that was `changed` then.
///
/// A time of more than the grace in the future means that a clock was set, not that a creator is
/// active.
pub(crate) fn age(now: SystemTime, changed: SystemTime) -> Age {
    let apart = match now.duration_since(changed) {
        Ok(ago) => ago,
        Err(ahead) => ahead.duration(),
    };
    if apart < GRACE { Age::Young } else { Age::Old }
}

/// Whether a process that was started then is another one than the author of an old-format record
/// that was `written` then.
///
/// Both times are of the wall clock, which may have been set in between. A minute is more than
/// clocks that are kept by NTP step; a clock that is set by more, while an old agent runs, is the
/// risk (P7). `written` comes from outside and may be any time that there is.
#[cfg(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd", windows))]
pub(crate) fn is_clearly_after(started: SystemTime, written: SystemTime) -> bool {
    const SLACK: Duration = Duration::from_secs(60);
    started.duration_since(written).is_ok_and(|later| later > SLACK)
}

/// As precise as the record, so that what was written is what is read back.
pub(crate) fn whole_milliseconds(time: SystemTime) -> SystemTime {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => time - Duration::from_nanos(u64::from(since.subsec_nanos() % 1_000_000)),
        Err(_) => time,
    }
}

/// Which files have a kernel lock: known on Linux alone.
#[cfg(not(target_os = "linux"))]
#[derive(Debug, Default)]
pub(crate) struct KernelLocks(());

#[cfg(not(target_os = "linux"))]
impl KernelLocks {
    /// Nothing is asked.
    pub(crate) fn snapshot() -> Self {
        Self(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_home_is_unset() {
        assert_eq!(home_or(Some("/h".into())), Some("/h".into()));
        assert_eq!(home_or(Some(OsString::new())), home_or(None));
        assert_ne!(home_or(None), Some(PathBuf::new()));
    }

    #[test]
    fn absent_directory_has_no_names() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("file");
        assert_eq!(names_in(&file).expect("none"), Vec::<OsString>::new());
        std::fs::write(&file, "").expect("written");
        in_time::in_time(move || names_in(&file)).expect_err("it is no directory");
        assert_eq!(names_in(home.path()).expect("one"), ["file"]);
    }

    #[test]
    fn tilde_counts_at_the_beginning_only() {
        for (path, has) in
            [("~", true), ("~/x", true), ("~user/x", true), ("/~", false), ("", false)]
        {
            assert_eq!(has_tilde(Path::new(path)), has, "{path}");
        }
    }

    #[test]
    fn file_is_old_from_the_grace_on() {
        let now = SystemTime::now();
        let just_younger = GRACE - Duration::from_micros(1);
        for (apart, is) in
            [(Duration::ZERO, Age::Young), (just_younger, Age::Young), (GRACE, Age::Old)]
        {
            assert_eq!(age(now, now - apart), is, "{apart:?} ago");
            assert_eq!(age(now, now + apart), is, "in {apart:?}");
        }
    }

    #[cfg(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd", windows))]
    #[test]
    fn clocks_may_differ_by_a_minute() {
        let (written, minute) = (SystemTime::now(), Duration::from_secs(60));
        assert!(!is_clearly_after(written + minute, written));
        assert!(is_clearly_after(written + minute + Duration::from_millis(1), written));
        assert!(!is_clearly_after(written, written + minute * 2));
    }

    #[test]
    fn time_is_cut_to_milliseconds() {
        let at = |nanoseconds| SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds);
        assert_eq!(whole_milliseconds(at(5_001_999_900)), at(5_001_000_000));
    }

    #[test]
    fn short_wait_ends_at_once_or_after_a_second() {
        in_time::in_time(short_waits);
    }

    fn short_waits() {
        let mut asked = 0;
        let mut found = |at| {
            asked = 0;
            wait_a_little_until(|| {
                asked += 1;
                (asked >= at).then_some(())
            })
        };
        assert!(found(3).is_some());
        assert!(found(u32::MAX).is_none());
        // The pauses grow, so that the wait costs nothing.
        assert!((10..1_000).contains(&asked), "{asked} times");
        wait_a_little_until(|| {
            asked = 1;
            Some(())
        });
        assert_eq!(asked, 1);
    }
}
