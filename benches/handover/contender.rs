//! The compared ways to acquire and release.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portlock::{Guard, Lock};

/// A way to acquire and release.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Contender {
    /// Blocking `flock` on a file that stays: no record, and nothing to recover.
    Flock,
    /// `Lock::acquire`: waits in the kernel.
    Acquire,
    /// `Lock::acquire_timeout`: waits by events.
    Timeout,
    /// The protocol of Percy's agents, polled every millisecond. It does not exclude: two may hold
    /// at once. Its figures are those of a polled lock.
    Percy,
}

pub(crate) const ALL: [Contender; 4] =
    [Contender::Flock, Contender::Acquire, Contender::Timeout, Contender::Percy];

impl Contender {
    pub(crate) fn of(name: &str) -> Self {
        *ALL.iter().find(|one| one.name() == name).expect("a contender")
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Flock => "flock",
            Self::Acquire => "acquire",
            Self::Timeout => "acquire_timeout",
            Self::Percy => "percy-1ms",
        }
    }

    /// Blocks.
    pub(crate) fn acquire(self, file: &Path) -> Held {
        match self {
            Self::Flock => {
                let open = File::options().create(true).truncate(false).write(true).open(file);
                let open = open.expect("opens");
                // SAFETY: the file is open.
                assert_eq!(unsafe { libc::flock(open.as_raw_fd(), libc::LOCK_EX) }, 0);
                Held::Flock(open)
            }
            Self::Acquire => Held::Guard(Box::new(Lock::at(file).acquire().expect("acquires"))),
            Self::Timeout => {
                let hour = Duration::from_secs(3600);
                Held::Guard(Box::new(Lock::at(file).acquire_timeout(hour).expect("acquires")))
            }
            Self::Percy => {
                while !percy(file) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Held::Percy(file.to_owned())
            }
        }
    }
}

/// One try: an exclusive create, repeated after the unlink of a file that names no live process.
fn percy(file: &Path) -> bool {
    let create = || match File::options().write(true).create_new(true).open(file) {
        Ok(mut new) => {
            let record = format!(r#"{{"pid":{},"port":5338}}"#, std::process::id());
            new.write_all(record.as_bytes()).expect("writes");
            true
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
        Err(error) => panic!("cannot create the lock file: {error}"),
    };
    if create() {
        return true;
    }
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let pid = text.split([':', ',']).nth(1).and_then(|pid| pid.parse::<libc::pid_t>().ok());
    // SAFETY: takes numbers; signal 0 sends no signal.
    if pid.is_some_and(|pid| unsafe { libc::kill(pid, 0) } == 0) {
        return false;
    }
    let _ = std::fs::remove_file(file);
    create()
}

/// A held lock.
pub(crate) enum Held {
    Flock(File),
    Guard(Box<Guard>),
    Percy(PathBuf),
}

impl Held {
    pub(crate) fn release(self) {
        match self {
            Self::Flock(file) => drop(file),
            Self::Guard(guard) => guard.release().expect("releases"),
            // By name, without a check of the owner.
            Self::Percy(file) => drop(std::fs::remove_file(file)),
        }
    }
}
