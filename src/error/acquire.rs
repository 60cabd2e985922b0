//! Why an acquire ended without a lock.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, io};

use super::held::Held;
use super::{LockDirError, end, remedy};
use crate::protocol::Op;
use crate::sys;

/// Why a lock was not acquired.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcquireError {
    /// Another participant holds the lock, or may hold it (S4). Nothing was changed.
    Held(Held),
    /// Same as [`Held`](Self::Held), at the end of the time that the caller gave. Nothing is left that
    /// would take the lock later.
    #[non_exhaustive]
    Timeout {
        /// The holder at the last try.
        held: Held,
        /// The time that the caller gave.
        limit: Duration,
    },
    /// Same as [`Held`](Self::Held), when the caller cancelled the wait. Nothing is left that would
    /// take the lock later.
    #[non_exhaustive]
    Cancelled {
        /// The holder at the last try.
        held: Held,
    },
    /// The path names something that is no regular file. It was neither opened nor followed nor removed.
    #[non_exhaustive]
    NotALockFile {
        /// The path, from the root.
        path: PathBuf,
        /// What was found: "a directory", "a symbolic link", "a FIFO", "a socket", "a device".
        found: &'static str,
    },
    /// The directory of the lock file cannot be used: it cannot be made, or no file can be created
    /// in it.
    #[non_exhaustive]
    Directory {
        /// The directory, from the root.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// An operation on the lock file failed. Nothing of ours is left at the path, or only an empty
    /// file that blocks no process for longer than two seconds.
    #[non_exhaustive]
    Io {
        /// The operation.
        op: Op,
        /// The lock file, from the root.
        path: PathBuf,
        /// The number of the user that the lock file belongs to, if permission was denied and the
        /// file is another user's. Only on Unix.
        owner: Option<u32>,
        /// The system's error.
        source: io::Error,
    },
    /// The lock has no usable directory or name.
    LockDir(LockDirError),
}

impl AcquireError {
    /// Whether another participant holds the lock, or may hold it: [`Held`](Self::Held),
    /// [`Timeout`](Self::Timeout) or [`Cancelled`](Self::Cancelled).
    pub fn is_held(&self) -> bool {
        self.held().is_some()
    }

    /// The refusal, with the holder, of [`Held`](Self::Held), [`Timeout`](Self::Timeout) and
    /// [`Cancelled`](Self::Cancelled).
    pub fn held(&self) -> Option<&Held> {
        match self {
            Self::Held(held) | Self::Timeout { held, .. } | Self::Cancelled { held } => Some(held),
            Self::NotALockFile { .. }
            | Self::Directory { .. }
            | Self::Io { .. }
            | Self::LockDir(_) => None,
        }
    }

    /// What a person can do about it.
    pub fn next_step(&self) -> String {
        match self {
            Self::Held(held) | Self::Timeout { held, .. } | Self::Cancelled { held } => {
                held.next_step()
            }
            Self::NotALockFile { .. } => "move it away, or use another directory".to_owned(),
            Self::Directory { source, .. } => remedy(source).to_owned(),
            Self::Io { owner: Some(owner), .. } => format!(
                "the lock file belongs to user {owner}: ask that user, or use another directory"
            ),
            Self::Io { op: Op::Open | Op::Read, source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                "restore the permissions of the lock file, or use another directory".to_owned()
            }
            Self::Io { op: Op::Lock, source, .. } => locking_remedy(source).to_owned(),
            Self::Io { source, .. } => remedy(source).to_owned(),
            Self::LockDir(error) => error.next_step(),
        }
    }

    pub(crate) fn timed_out(self, limit: Duration) -> Self {
        match self {
            Self::Held(held) => Self::Timeout { held, limit },
            other => other,
        }
    }

    pub(crate) fn cancelled(self) -> Self {
        match self {
            Self::Held(held) => Self::Cancelled { held },
            other => other,
        }
    }
}

/// The same about an error of the kernel lock.
fn locking_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "the filesystem or a security policy forbids to lock files (flock) there: permit it, or \
             use another directory"
        }
        _ if sys::lacks_locks(error) => {
            "the system, or the lock service of the file server, has no lock left: try again later, \
             or use a directory on a local disk"
        }
        _ => {
            "the filesystem failed to lock the file: try again, or use a directory on a local disk"
        }
    }
}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(held) => return held.fmt(f),
            Self::Timeout { held, limit } => {
                write!(f, "gave up after {}: ", humantime::format_duration(*limit))?;
                return held.fmt(f);
            }
            Self::Cancelled { held } => {
                f.write_str("stopped waiting: ")?;
                return held.fmt(f);
            }
            Self::LockDir(error) => return error.fmt(f),
            Self::NotALockFile { path, found } => {
                write!(f, "{} is {found}, not a lock file", path.display())?;
            }
            Self::Directory { path, .. } => {
                write!(f, "cannot create a lock file in the directory {}", path.display())?;
            }
            Self::Io { op, path, .. } => write!(f, "cannot {op} {}", path.display())?,
        }
        end(f, self.source(), &self.next_step())
    }
}

impl Error for AcquireError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } | Self::Directory { source, .. } => Some(source),
            // Its text is this one's, so what follows in a chain is its cause.
            Self::LockDir(error) => error.source(),
            Self::Held(_)
            | Self::Timeout { .. }
            | Self::Cancelled { .. }
            | Self::NotALockFile { .. } => None,
        }
    }
}

impl From<LockDirError> for AcquireError {
    fn from(error: LockDirError) -> Self {
        Self::LockDir(error)
    }
}

impl From<AcquireError> for io::Error {
    /// [`AcquireError::Held`] and [`AcquireError::Cancelled`] become
    /// [`io::ErrorKind::WouldBlock`], [`AcquireError::Timeout`] [`io::ErrorKind::TimedOut`]; a
    /// failed operation keeps the kind of its error. The whole error is the source.
    fn from(error: AcquireError) -> Self {
        let kind = match &error {
            AcquireError::Held(_) | AcquireError::Cancelled { .. } => io::ErrorKind::WouldBlock,
            AcquireError::Timeout { .. } => io::ErrorKind::TimedOut,
            AcquireError::Io { source, .. } | AcquireError::Directory { source, .. } => {
                source.kind()
            }
            AcquireError::NotALockFile { .. } | AcquireError::LockDir(_) => {
                io::ErrorKind::InvalidInput
            }
        };
        Self::new(kind, error)
    }
}
