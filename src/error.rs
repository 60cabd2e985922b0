//! Errors, and the words for them.
//!
//! Being held is not a failure: [`AcquireError::Held`] is what a caller branches on and shows to
//! a person. Every message names the path; `{:#}` spreads one over lines, with the next step.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::fs::Op;
use crate::judge::Unsure;
use crate::protocol::Refusal;
use crate::record::{Holder, printable};

/// Why a lock was not acquired.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcquireError {
    /// Somebody else holds the lock, or may hold it (S4). Nothing was changed.
    #[non_exhaustive]
    Held {
        /// The recorded holder; `None` where no record could be read. Whether it is the holder for
        /// certain, `why` tells.
        holder: Option<Holder>,
        /// The lock file, from the root.
        path: PathBuf,
        /// What the refusal rests on.
        why: Refusal,
        /// The port that was asked for; `None` for a lock that is not a port's.
        port: Option<u16>,
    },
    /// What stands at the path is no regular file. It was neither opened nor followed nor removed.
    #[non_exhaustive]
    NotALockFile {
        /// The path, from the root.
        path: PathBuf,
        /// What stands there: "a directory", "a symbolic link", "a FIFO", "a socket", "a device".
        found: &'static str,
    },
    /// An operation of the system failed. Nothing of ours is left at the path, or only an empty
    /// file that blocks nobody for longer than two seconds.
    #[non_exhaustive]
    Failed {
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
    /// Whether somebody else holds the lock, or may hold it.
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Held { .. })
    }

    /// What a person can do about it.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Held { why, .. } => next_step(*why),
            Self::NotALockFile { .. } => "move it away, or use another directory",
            Self::Failed { op, source, .. } => match (op, source.kind()) {
                (Op::Open | Op::Read, io::ErrorKind::PermissionDenied) => {
                    "it may be another user's lock: ask that user, or use another directory"
                }
                (_, io::ErrorKind::PermissionDenied) => "use a directory that you may write to",
                (_, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                    "free some space, or use another directory"
                }
                (_, io::ErrorKind::ReadOnlyFilesystem) => "use a directory that can be written",
                _ => "mend the cause, or use another directory",
            },
            Self::Place(error) => error.next_step(),
        }
    }
}

fn next_step(why: Refusal) -> &'static str {
    match why {
        Refusal::Holder => "stop that process, or use another port",
        Refusal::Unknown(unsure) => match unsure {
            Unsure::BeingCreated => "try again in two seconds",
            Unsure::RecordedGone => {
                "try again; if it stays, stop the command that the recorded process started"
            }
            Unsure::CannotProbe => "stop that process where it runs, or use another port",
            Unsure::OtherMachine => {
                "if that machine no longer runs it, remove the lock file; or use a directory that \
                 is not shared"
            }
            Unsure::OtherNamespace => {
                "if that container no longer runs, remove the lock file; or use a directory on a \
                 local disk"
            }
            Unsure::NoKernelLocks => {
                "if that process no longer runs, remove the lock file; or use a directory on a \
                 filesystem with kernel locks"
            }
            Unsure::Contended => "try again",
            Unsure::CannotWatch => "try to acquire it: that tells for certain",
        },
    }
}

/// Says what is known of a lock that is, or may be, held: "port 5338 is locked by pid 20211
/// (node, since 2026-11-23 02:09:04 UTC)".
pub(crate) struct Headline<'a> {
    pub(crate) port: Option<u16>,
    pub(crate) holder: Option<&'a Holder>,
    pub(crate) why: Refusal,
}

impl fmt::Display for Headline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = Subject(self.port);
        let recorded = Recorded(self.holder);
        match self.why {
            Refusal::Holder => write!(f, "{subject} is locked by {recorded}"),
            Refusal::Unknown(unsure) => match unsure {
                Unsure::BeingCreated => {
                    write!(f, "{subject} is being locked: its lock file has no record yet")
                }
                Unsure::RecordedGone => write!(
                    f,
                    "{subject} is locked, though the recorded holder, {recorded}, is gone: by a \
                     command that inherited the lock, or by one that is just taking it over"
                ),
                Unsure::CannotProbe => write!(
                    f,
                    "{subject} is locked by {recorded}{}, which cannot be asked after from here",
                    On(self.holder)
                ),
                Unsure::OtherMachine => write!(
                    f,
                    "{subject} may be locked on another machine, by {recorded}{}",
                    On(self.holder)
                ),
                Unsure::OtherNamespace => write!(
                    f,
                    "{subject} may be locked in another container, by {recorded}{}, and this \
                     filesystem's locks do not tell",
                    On(self.holder)
                ),
                Unsure::NoKernelLocks => write!(
                    f,
                    "{subject} may be locked by {recorded}; this filesystem has no kernel locks, \
                     so a stale lock cannot be told from a live one"
                ),
                Unsure::Contended => write!(f, "{subject} changed hands at every try"),
                Unsure::CannotWatch => write!(
                    f,
                    "{subject} may be locked; the recorded holder is {recorded}, and whether the \
                     file is locked cannot be seen from here"
                ),
            },
        }
    }
}

/// "port 5338", or "the lock".
pub(crate) struct Subject(pub(crate) Option<u16>);

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(port) => write!(f, "port {port}"),
            None => f.write_str("the lock"),
        }
    }
}

/// The holder, or that there is no record of one.
pub(crate) struct Recorded<'a>(pub(crate) Option<&'a Holder>);

impl fmt::Display for Recorded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(holder) => holder.fmt(f),
            None => f.write_str("a process that left no readable record"),
        }
    }
}

/// " on build-7", if the record names a machine.
struct On<'a>(Option<&'a Holder>);

impl fmt::Display for On<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.and_then(|holder| holder.host.as_deref()).and_then(printable) {
            Some(host) => write!(f, " on {host}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let next = self.next_step();
        match self {
            Self::Held { holder, path, why, port } => {
                let headline = Headline { port: *port, holder: holder.as_ref(), why: *why };
                if f.alternate() {
                    write!(f, "{headline}\n  lock file: {}\n  next step: {next}", path.display())
                } else {
                    write!(f, "{headline} (lock file {}); {next}", path.display())
                }
            }
            Self::NotALockFile { path, found } => {
                let separator = if f.alternate() { "\n  next step:" } else { ";" };
                write!(f, "{} is {found}, not a lock file{separator} {next}", path.display())
            }
            Self::Failed { op, path, source } => {
                let separator = if f.alternate() { "\n  next step:" } else { ";" };
                write!(f, "cannot {op} {}: {source}{separator} {next}", path.display())
            }
            Self::Place(error) => error.fmt(f),
        }
    }
}

impl Error for AcquireError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed { source, .. } => Some(source),
            Self::Held { .. } | Self::NotALockFile { .. } | Self::Place(_) => None,
        }
    }
}

impl From<PlaceError> for AcquireError {
    fn from(error: PlaceError) -> Self {
        Self::Place(error)
    }
}

impl From<AcquireError> for io::Error {
    /// [`AcquireError::Held`] becomes [`io::ErrorKind::WouldBlock`]; a failed operation keeps the
    /// kind of its error. The whole error is the source.
    fn from(error: AcquireError) -> Self {
        let kind = match &error {
            AcquireError::Held { .. } => io::ErrorKind::WouldBlock,
            AcquireError::Failed { source, .. } => source.kind(),
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
    },
    /// Neither `$HOME` nor the system names a home directory.
    NoHome,
}

impl PlaceError {
    fn next_step(&self) -> &'static str {
        match self {
            Self::AnyPort => "ask for a port from 1 to 65535, or take no lock",
            Self::App { .. } => {
                "use 1 to 64 letters, digits, '-', '_' and '.', and neither '-' nor '.' first"
            }
            Self::NoHome => "set HOME, or name a directory",
        }
    }
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyPort => write!(f, "port 0 means any free port and has no lock")?,
            Self::App { app } => write!(f, "{app:?} cannot be an application's name")?,
            Self::NoHome => write!(f, "there is no home directory")?,
        }
        write!(f, "; {}", self.next_step())
    }
}

impl Error for PlaceError {}

/// Why a release did not remove the lock file. The lock is no longer held in any case.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The lock file had been removed or replaced while it was held, so nothing was removed.
    /// Whoever removed it may have let somebody else in.
    #[non_exhaustive]
    Lost {
        /// The lock file, from the root.
        path: PathBuf,
    },
    /// The lock file could not be removed. Its record was emptied, so that it refuses nobody.
    #[non_exhaustive]
    Failed {
        /// The operation.
        op: Op,
        /// The lock file, from the root.
        path: PathBuf,
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

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { path } => write!(
                f,
                "{} had been removed or replaced while it was held; find out what removes it, \
                 since others may have acquired the lock meanwhile",
                path.display()
            ),
            Self::Failed { op, path, source } => write!(
                f,
                "cannot {op} {}: {source}; the lock is released, and the next acquire removes \
                 the file",
                path.display()
            ),
            Self::Forked { path } => write!(
                f,
                "{} is locked by the process that this one was forked from, and was left alone; \
                 release it there",
                path.display()
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

    fn held(why: Refusal) -> AcquireError {
        let holder = Holder::parse(
            br#"{"pid":20211,"port":5338,"startedAt":"2026-11-23T02:09:04.848Z","command":"node"}"#,
        );
        AcquireError::Held { holder, path: "/h/agent-5338.lock".into(), why, port: Some(5338) }
    }

    #[test]
    fn a_refusal_names_pid_command_time_path_and_next_step() {
        let error = held(Refusal::Holder);
        assert_eq!(
            format!("{error:#}"),
            "port 5338 is locked by pid 20211 (node, since 2026-11-23 02:09:04 UTC)\n  \
             lock file: /h/agent-5338.lock\n  \
             next step: stop that process, or use another port"
        );
        assert!(!error.to_string().contains('\n'), "{error}");
    }

    #[test]
    fn only_a_known_holder_is_said_to_hold() {
        for unsure in [
            Unsure::BeingCreated,
            Unsure::RecordedGone,
            Unsure::OtherMachine,
            Unsure::OtherNamespace,
            Unsure::NoKernelLocks,
            Unsure::Contended,
            Unsure::CannotWatch,
        ] {
            let message = held(Refusal::Unknown(unsure)).to_string();
            assert!(!message.contains("is locked by pid"), "{message}");
        }
    }

    #[test]
    fn held_becomes_would_block_and_keeps_the_holder() {
        let error = io::Error::from(held(Refusal::Holder));
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<AcquireError>());
        assert!(inner.is_some_and(AcquireError::is_held));
        let denied = AcquireError::Failed {
            op: Op::Create,
            path: "/h".into(),
            source: io::ErrorKind::PermissionDenied.into(),
        };
        assert_eq!(io::Error::from(denied).kind(), io::ErrorKind::PermissionDenied);
    }
}
