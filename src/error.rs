//! Errors, and the words for them.
//!
//! Being held is not a failure: [`AcquireError::Held`] is what a caller branches on and shows to
//! a person. Every message names the path; `{:#}` spreads one over lines, with the next step.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fs::Op;
use crate::guard::Guard;
use crate::held::Held;

/// Why a lock was not acquired.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcquireError {
    /// Somebody else holds the lock, or may hold it (S4). Nothing was changed.
    Held(Held),
    /// As [`Held`](Self::Held), at the end of the time that the caller gave. Nothing is left that
    /// would take the lock later.
    #[non_exhaustive]
    Timeout {
        /// Who held it at the last try.
        held: Held,
        /// The time that the caller gave.
        limit: Duration,
    },
    /// As [`Held`](Self::Held), when the caller cancelled the wait. Nothing is left that would take
    /// the lock later.
    #[non_exhaustive]
    Cancelled {
        /// Who held it at the last try.
        held: Held,
    },
    /// What stands at the path is no regular file. It was neither opened nor followed nor removed.
    #[non_exhaustive]
    NotALockFile {
        /// The path, from the root.
        path: PathBuf,
        /// What stands there: "a directory", "a symbolic link", "a FIFO", "a socket", "a device".
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
    /// file that blocks nobody for longer than two seconds.
    #[non_exhaustive]
    Io {
        /// The operation.
        op: Op,
        /// The lock file, from the root.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// There is no place for such a lock.
    Place(PlaceError),
}

impl AcquireError {
    /// Whether somebody else holds the lock, or may hold it: [`Held`](Self::Held),
    /// [`Timeout`](Self::Timeout) or [`Cancelled`](Self::Cancelled).
    pub fn is_held(&self) -> bool {
        self.held().is_some()
    }

    /// Who holds the lock, of [`Held`](Self::Held), [`Timeout`](Self::Timeout) and
    /// [`Cancelled`](Self::Cancelled).
    pub fn held(&self) -> Option<&Held> {
        match self {
            Self::Held(held) | Self::Timeout { held, .. } | Self::Cancelled { held } => Some(held),
            Self::NotALockFile { .. }
            | Self::Directory { .. }
            | Self::Io { .. }
            | Self::Place(_) => None,
        }
    }

    /// What a person can do about it.
    pub fn next_step(&self) -> String {
        match self {
            Self::Held(held) | Self::Timeout { held, .. } | Self::Cancelled { held } => {
                held.next_step()
            }
            Self::NotALockFile { .. } => "move it away, or use another directory".to_owned(),
            Self::Directory { source, .. } => to_mend(source.kind()).to_owned(),
            Self::Io { op, source, .. } => match (op, source.kind()) {
                (Op::Open | Op::Read, io::ErrorKind::PermissionDenied) => {
                    "it may be another user's lock: ask that user, or use another directory"
                }
                (_, kind) => to_mend(kind),
            }
            .to_owned(),
            Self::Place(error) => error.next_step(),
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

fn to_mend(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::PermissionDenied => {
            "use a directory that you may write to: PORTLOCK_DIR, or --dir of the command, names one"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "use a directory that can be written: PORTLOCK_DIR, or --dir of the command, names one"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space, or use another directory"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "move away what stands there, or use another directory"
        }
        _ => "mend the cause, or use another directory",
    }
}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let next = self.next_step();
        let separator = if f.alternate() { "\n  next step:" } else { ";" };
        match self {
            Self::Held(held) => held.fmt(f),
            Self::Timeout { held, limit } => {
                write!(f, "gave up after {}: ", humantime::format_duration(*limit))?;
                held.fmt(f)
            }
            Self::Cancelled { held } => {
                f.write_str("stopped waiting: ")?;
                held.fmt(f)
            }
            Self::NotALockFile { path, found } => {
                write!(f, "{} is {found}, not a lock file{separator} {next}", path.display())
            }
            Self::Directory { path, source } => write!(
                f,
                "cannot create a lock file in the directory {}: {source}{separator} {next}",
                path.display()
            ),
            Self::Io { op, path, source } => {
                write!(f, "cannot {op} {}: {source}{separator} {next}", path.display())
            }
            Self::Place(error) => error.fmt(f),
        }
    }
}

impl Error for AcquireError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } | Self::Directory { source, .. } => Some(source),
            Self::Held(_)
            | Self::Timeout { .. }
            | Self::Cancelled { .. }
            | Self::NotALockFile { .. }
            | Self::Place(_) => None,
        }
    }
}

impl From<PlaceError> for AcquireError {
    fn from(error: PlaceError) -> Self {
        Self::Place(error)
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
            AcquireError::NotALockFile { .. } | AcquireError::Place(_) => {
                io::ErrorKind::InvalidInput
            }
        };
        Self::new(kind, error)
    }
}

/// Why there is no place for such a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlaceError {
    /// Port 0 means "any free port" and takes no lock.
    AnyPort,
    /// The application's name is not a plain file name.
    #[non_exhaustive]
    App {
        /// The name that was given.
        app: String,
        /// What is wrong with it.
        why: BadName,
    },
    /// No lock can have this name.
    #[non_exhaustive]
    Name {
        /// The name that was given.
        name: String,
        /// What is wrong with it.
        why: BadName,
    },
    /// Neither `$HOME` nor the system names a home directory.
    NoHome,
    /// No lock file can be made in the directory.
    #[non_exhaustive]
    NotWritable {
        /// The directory, from the root.
        path: PathBuf,
        /// Why not.
        kind: io::ErrorKind,
    },
    /// What stands where a directory of our own should be cannot be trusted. It was neither
    /// changed nor followed nor removed.
    #[non_exhaustive]
    Unsafe {
        /// The directory, from the root.
        path: PathBuf,
        /// Why not, as in "it belongs to another user".
        why: &'static str,
    },
}

impl PlaceError {
    /// What a person can do about it.
    pub fn next_step(&self) -> String {
        match self {
            Self::AnyPort => "ask for a port from 1 to 65535, or take no lock",
            Self::App { .. } => CHARACTERS,
            Self::Name { name, why: BadName::Port } => match name.parse() {
                Ok(1_u16..) => return format!("ask for port {name} itself"),
                Ok(0) | Err(_) => "use a name that has a letter",
            },
            Self::Name { why: BadName::PortFile | BadName::Device, .. } => "use another name",
            Self::Name { .. } => CHARACTERS,
            Self::NoHome => "set HOME, or name a directory: PORTLOCK_DIR, or --dir of the command",
            Self::NotWritable { .. } => {
                "name a directory that you may write to: PORTLOCK_DIR, or --dir of the command"
            }
            Self::Unsafe { .. } => {
                "find out who made it, and name another directory: PORTLOCK_DIR, or --dir of the \
                 command"
            }
        }
        .to_owned()
    }
}

const CHARACTERS: &str =
    "use 1 to 64 letters, digits, '-', '_' and '.', and neither '-' nor '.' first";

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyPort => write!(f, "port 0 means any free port and has no lock")?,
            Self::App { app, why } => write!(f, "{app:?} cannot be an application's name: {why}")?,
            Self::Name { name, why } => write!(f, "{name:?} cannot be a lock's name: {why}")?,
            Self::NoHome => write!(f, "there is no home directory")?,
            Self::NotWritable { path, kind } => {
                write!(f, "no lock file can be made in {}: {kind}", path.display())?;
            }
            Self::Unsafe { path, why } => write!(f, "{} is not safe: {why}", path.display())?,
        }
        write!(f, "; {}", self.next_step())
    }
}

impl Error for PlaceError {}

/// What is wrong with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BadName {
    /// It has no characters.
    Empty,
    /// It has more than 64.
    TooLong,
    /// `-` is first, as in an option, or `.`, as in a hidden file.
    First,
    /// Another character than an ASCII letter or digit, `-`, `_` or `.`: this one.
    Character(char),
    /// It has digits alone: a port. Only of a lock's name.
    Port,
    /// Its file would be a port's: `agent-` and digits. Only of a lock's name.
    PortFile,
    /// Windows has a device of this name, whatever follows the first dot. Only of a lock's name.
    Device,
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::TooLong => f.write_str("it has more than 64 characters"),
            Self::First => f.write_str("it begins with '-' or '.'"),
            Self::Character(other) => write!(f, "it contains {other:?}"),
            Self::Port => f.write_str("it is a number, as a port is"),
            Self::PortFile => f.write_str("its lock file would be a port's"),
            Self::Device => f.write_str("it is the name of a device on Windows"),
        }
    }
}

/// Why a release did not remove the lock file.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The lock file had been removed or replaced while it was held, so nothing was removed, and
    /// the lock is no longer held. Whoever removed it may have let somebody else in.
    #[non_exhaustive]
    Lost {
        /// The lock file, from the root.
        path: PathBuf,
    },
    /// The lock file could not be removed, and **the lock is still held**, by the guard in here.
    ///
    /// Release it again later, or drop it: a drop tries once more, and if the file cannot be
    /// removed it empties the record, so that nobody is refused in our name, and lets go.
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

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path().display();
        match self {
            Self::Lost { .. } => write!(
                f,
                "{path} had been removed or replaced while it was held; find out what removes it, \
                 since others may have acquired the lock meanwhile"
            ),
            Self::Failed { op, source, .. } => write!(
                f,
                "cannot {op} {path}: {source}; the lock is still held: mend the cause and release \
                 it again, or let go of it, and the next acquire removes the file"
            ),
            Self::Forked { .. } => write!(
                f,
                "{path} was locked by the process that this one was forked from, and was left \
                 alone; a lock does not go with a fork: acquire it in the process that does the work"
            ),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held::Subject;
    use crate::protocol::Refusal;

    fn held() -> Held {
        Held::new(Subject::Port(5338), "/h/agent-5338.lock".into(), None, Refusal::Holder)
    }

    #[test]
    fn held_becomes_would_block_and_timeout_timed_out_and_both_keep_who_holds() {
        let limit = Duration::from_millis(1500);
        let timeout = AcquireError::Timeout { held: held(), limit };
        assert!(timeout.to_string().starts_with("gave up after 1s 500ms: port 5338 is locked"));
        for (error, kind) in [
            (AcquireError::Held(held()), io::ErrorKind::WouldBlock),
            (timeout, io::ErrorKind::TimedOut),
        ] {
            let error = io::Error::from(error);
            assert_eq!(error.kind(), kind);
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<AcquireError>());
            assert!(inner.is_some_and(AcquireError::is_held));
        }
    }

    #[test]
    fn a_failed_operation_keeps_its_kind_and_says_what_to_do() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let of_file = AcquireError::Io { op: Op::Open, path: "/h/x".into(), source: denied() };
        let of_dir = AcquireError::Directory { path: "/h".into(), source: denied() };
        assert!(of_file.to_string().contains("another user's lock"), "{of_file}");
        assert!(of_dir.to_string().contains("the directory /h: "), "{of_dir}");
        assert!(of_dir.to_string().contains("PORTLOCK_DIR"), "{of_dir}");
        for error in [of_file, of_dir] {
            assert_eq!(io::Error::from(error).kind(), io::ErrorKind::PermissionDenied);
        }
    }
}
