//! Why a release did not remove the lock file.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use super::Guard;
use crate::error::end;
use crate::protocol::Op;

/// Why a release did not remove the lock file.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The lock file had been removed or replaced while it was held, so nothing was removed, and
    /// the lock is no longer held. Another process may have acquired it since.
    #[non_exhaustive]
    Lost {
        /// The lock file, from the root.
        path: PathBuf,
    },
    /// The lock file could not be removed, and **the lock is still held**, by the guard in here.
    ///
    /// Release it again later, or drop it. A drop tries once more. If the file cannot be removed, it
    /// empties the record, so that no process is refused because of it, and releases the kernel lock.
    #[non_exhaustive]
    Failed {
        /// The lock, still held.
        guard: Box<Guard>,
        /// The operation.
        op: Op,
        /// The system's error.
        source: io::Error,
    },
    /// This process got the guard by `fork`: the lock is its parent's, and was left alone.
    #[non_exhaustive]
    Forked {
        /// The lock file, from the root.
        path: PathBuf,
    },
}

impl ReleaseError {
    /// The guard, if the lock is still held.
    pub fn into_guard(self) -> Option<Guard> {
        match self {
            Self::Failed { guard, .. } => Some(*guard),
            Self::Lost { .. } | Self::Forked { .. } => None,
        }
    }

    /// The lock file, from the root.
    pub fn path(&self) -> &Path {
        match self {
            Self::Lost { path } | Self::Forked { path } => path,
            Self::Failed { guard, .. } => guard.path(),
        }
    }
}

impl ReleaseError {
    /// What a person can do about it.
    pub fn next_step(&self) -> String {
        match self {
            Self::Lost { .. } => {
                "find out what removes it: another process may have acquired the lock since"
            }
            Self::Failed { .. } => {
                "fix the problem and release it again; a guard that is dropped empties the file, \
                 which then refuses no process, and the next acquire that may remove it does"
            }
            Self::Forked { .. } => {
                "a lock does not go with a fork: acquire it in the process that does the work"
            }
        }
        .to_owned()
    }
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path().display();
        match self {
            Self::Lost { .. } => {
                write!(f, "{path} was removed or replaced while the lock was held")?;
            }
            Self::Failed { op, .. } => write!(f, "the lock is still held: cannot {op} {path}")?,
            Self::Forked { .. } => write!(
                f,
                "{path} is locked by the process that this one was forked from, and was left alone"
            )?,
        }
        end(f, self.source(), &self.next_step())
    }
}

impl Error for ReleaseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed { source, .. } => Some(source),
            Self::Lost { .. } | Self::Forked { .. } => None,
        }
    }
}
