//! Errors, and the words for them.
//!
//! Being held is not a failure: [`AcquireError::Held`] is what a caller branches on and shows to
//! a person.
//!
//! Every error has three parts, so that it composes with other errors. `{}` is one line, which names
//! the path and not the cause. [`source`](Error::source) is the cause. `next_step` is the advice.
//! `{:#}` has all three, over lines; a chain of errors, as `anyhow` prints it, has each of them once.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fs::Op;
use crate::guard::Guard;
use crate::held::Held;
use crate::os;

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
        /// The number of the user that the lock file belongs to, if permission was denied and the
        /// file is another user's. Only on Unix.
        owner: Option<u32>,
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

/// What to do about an error of the system, for who can choose the directory.
pub(crate) fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "use a directory that you may write to",
        io::ErrorKind::ReadOnlyFilesystem => "use a directory that can be written",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space, or use another directory"
        }
        io::ErrorKind::FileTooLarge => "raise the limit for the size of files (ulimit -f)",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "move away what is there, or use another directory"
        }
        _ if os::lacks_descriptors(error) => {
            "close some files, or raise the limit for open files (ulimit -n)"
        }
        _ => "fix the problem, or use another directory",
    }
}

/// The same about an error of the kernel lock.
fn locking_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "the filesystem or a security policy forbids to lock files (flock) there: permit it, or \
             use another directory"
        }
        _ if os::lacks_locks(error) => {
            "the system, or the lock service of the file server, has no lock left: try again later, \
             or use a directory on a local disk"
        }
        _ => {
            "the filesystem failed to lock the file: try again, or use a directory on a local disk"
        }
    }
}

/// Ends an error's text: with `{:#}` the cause, and the next step in a line of its own.
pub(crate) fn end(
    f: &mut fmt::Formatter<'_>,
    source: Option<&dyn Error>,
    next_step: &str,
) -> fmt::Result {
    if !f.alternate() {
        return Ok(());
    }
    if let Some(source) = source {
        write!(f, ": {source}")?;
    }
    write!(f, "\n  next step: {next_step}")
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
            Self::Place(error) => return error.fmt(f),
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
            Self::Place(error) => error.source(),
            Self::Held(_)
            | Self::Timeout { .. }
            | Self::Cancelled { .. }
            | Self::NotALockFile { .. } => None,
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
#[derive(Debug)]
#[non_exhaustive]
pub enum PlaceError {
    /// Port 0 means "any free port" and takes no lock.
    AnyPort,
    /// Not a port: a number above 65535.
    #[non_exhaustive]
    Port {
        /// The digits that were given.
        port: String,
    },
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
    /// A variable of the environment names no directory that is the same for every process: a `~`
    /// that no shell has expanded, or, for the home directory, a relative path.
    #[non_exhaustive]
    Environment {
        /// The name of the variable.
        variable: &'static str,
        /// Its value.
        value: PathBuf,
    },
    /// The path is relative, and the working directory that it counts from is not known.
    #[non_exhaustive]
    NoWorkingDirectory {
        /// The relative path.
        path: PathBuf,
    },
    /// No lock file can be made in the directory.
    #[non_exhaustive]
    NotWritable {
        /// The directory, from the root.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// What is found in place of a directory of our own cannot be trusted. It was neither changed
    /// nor followed nor removed.
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
            Self::Port { .. } => "ask for a port from 1 to 65535, or use a name that has a letter",
            Self::App { .. } => CHARACTERS,
            Self::Name { name, why: BadName::Port } => match name.parse() {
                Ok(1_u16..) => return format!("ask for port {name} itself"),
                Ok(0) | Err(_) => "use a name that has a letter",
            },
            Self::Name { why: BadName::PortFile | BadName::Device, .. } => "use another name",
            Self::Name { .. } => CHARACTERS,
            Self::NoHome => "set HOME, or name another directory",
            Self::Environment { variable, .. } => {
                return format!("set {variable} to a path from the root");
            }
            Self::NoWorkingDirectory { .. } => "name the directory by its path from the root",
            Self::NotWritable { .. } => "name a directory that you may write to",
            Self::Unsafe { .. } => "find out who made it, and name another directory",
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
            Self::Port { port } => write!(f, "{port} is not a port")?,
            Self::App { app, why } => write!(f, "{app:?} cannot be an application's name: {why}")?,
            Self::Name { name, why } => write!(f, "{name:?} cannot be a lock's name: {why}")?,
            Self::NoHome => write!(f, "there is no home directory")?,
            Self::Environment { variable, value } if os::has_tilde(value) => {
                write!(f, "{variable} is {value:?}, and only a shell expands '~'")?;
            }
            Self::Environment { variable, value } => {
                write!(f, "{variable} is {value:?}, which is not a path from the root")?;
            }
            Self::NoWorkingDirectory { path } => {
                write!(f, "{path:?} counts from the working directory, which cannot be found out")?
            }
            Self::NotWritable { path, .. } => {
                write!(f, "no lock file can be made in {}", path.display())?;
            }
            Self::Unsafe { path, why } => write!(f, "{} is not safe: {why}", path.display())?,
        }
        end(f, self.source(), &self.next_step())
    }
}

impl Error for PlaceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NotWritable { source, .. } => Some(source),
            Self::AnyPort
            | Self::Port { .. }
            | Self::App { .. }
            | Self::Name { .. }
            | Self::NoHome
            | Self::Environment { .. }
            | Self::NoWorkingDirectory { .. }
            | Self::Unsafe { .. } => None,
        }
    }
}

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

impl ReleaseError {
    /// What a person can do about it.
    pub fn next_step(&self) -> String {
        match self {
            Self::Lost { .. } => {
                "find out what removes it: another process may have acquired the lock since"
            }
            Self::Failed { .. } => {
                "fix the problem and release it again; a guard that is dropped empties the file, \
                 which then refuses nobody, and the next acquire that may remove it does"
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held::Subject;
    use crate::protocol::Refusal;

    fn held() -> Held {
        Held::of(Subject::Port(5338), "/h/agent-5338.lock".into(), None, Refusal::Holder)
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

    fn denied() -> io::Error {
        io::ErrorKind::PermissionDenied.into()
    }

    fn io(op: Op, source: io::Error) -> AcquireError {
        AcquireError::Io { op, path: "/h/x".into(), owner: None, source }
    }

    #[test]
    fn failed_operation_keeps_its_kind() {
        let of_dir = AcquireError::Directory { path: "/h".into(), source: denied() };
        for error in [io(Op::Open, denied()), of_dir] {
            assert_eq!(io::Error::from(error).kind(), io::ErrorKind::PermissionDenied);
        }
    }

    /// One of each: a line without its cause, which the chain has once, and all of it in `{:#}`.
    #[test]
    fn chain_of_errors_has_each_text_once() {
        let full = || io::Error::from_raw_os_error(28);
        let not_writable = || PlaceError::NotWritable { path: "/h".into(), source: full() };
        let errors: Vec<Box<dyn Error>> = vec![
            Box::new(AcquireError::Held(held())),
            Box::new(AcquireError::Timeout { held: held(), limit: Duration::ZERO }),
            Box::new(AcquireError::Cancelled { held: held() }),
            Box::new(AcquireError::NotALockFile { path: "/h/x".into(), found: "a FIFO" }),
            Box::new(AcquireError::Directory { path: "/h".into(), source: full() }),
            Box::new(io(Op::Write, full())),
            Box::new(AcquireError::Place(not_writable())),
            Box::new(AcquireError::Place(PlaceError::NoHome)),
            Box::new(io::Error::from(io(Op::Write, full()))),
            Box::new(not_writable()),
            Box::new(PlaceError::AnyPort),
            Box::new(PlaceError::Port { port: "65536".into() }),
            Box::new(PlaceError::Name { name: "a/b".into(), why: BadName::Character('/') }),
            Box::new(PlaceError::Environment { variable: "HOME", value: "~".into() }),
            Box::new(PlaceError::Unsafe { path: "/h".into(), why: "it is a symbolic link" }),
            Box::new(ReleaseError::Lost { path: "/h/x".into() }),
            Box::new(ReleaseError::Forked { path: "/h/x".into() }),
        ];
        for error in errors {
            let mut chain = vec![error.to_string()];
            let mut next = error.source();
            while let Some(source) = next {
                chain.push(source.to_string());
                next = source.source();
            }
            let whole = format!("{error:#}");
            // Over lines, a refusal has the path in its own.
            chain[0] = chain[0].replace(" (lock file /h/agent-5338.lock)", "");
            for (at, text) in chain.iter().enumerate() {
                assert!(!text.contains('\n') && !text.contains("next step"), "{text}");
                let again = chain
                    .iter()
                    .enumerate()
                    .any(|(other, one)| other != at && one.contains(text.as_str()));
                assert!(!again, "{chain:?}");
                // std's own error has no longer form.
                let has_all = whole.contains(text.as_str()) || error.is::<io::Error>();
                assert!(has_all, "{whole:?} lacks {text:?}");
            }
            let advised = whole.contains("\n  next step: ") || error.is::<io::Error>();
            assert!(advised, "{whole:?}");
            // What only the command has.
            assert!(!whole.contains("--") && !whole.contains("PORTLOCK_DIR"), "{whole:?}");
        }
    }

    #[test]
    fn advice_fits_the_cause() {
        let of = |op, source| io(op, source).next_step();
        assert!(of(Op::Open, denied()).contains("permissions of the lock file"));
        assert!(of(Op::Unlink, denied()).contains("that you may write to"));
        assert!(of(Op::Lock, denied()).contains("forbids to lock files"));
        assert!(of(Op::Write, io::ErrorKind::FileTooLarge.into()).contains("ulimit -f"));
        assert!(of(Op::Write, io::ErrorKind::StorageFull.into()).contains("free some space"));
        assert!(of(Op::Lock, io::Error::other("EIO")).contains("failed to lock"));
        #[cfg(unix)]
        for (op, code, words) in [
            (Op::Lock, libc::ENOLCK, "no lock left"),
            (Op::Lock, libc::EPERM, "forbids to lock files"),
            (Op::Lock, libc::EACCES, "forbids to lock files"),
            (Op::Lock, libc::EIO, "failed to lock"),
            (Op::Create, libc::EMFILE, "ulimit -n"),
            (Op::Write, libc::EFBIG, "ulimit -f"),
            (Op::Write, libc::ENOSPC, "free some space"),
            (Op::Write, libc::EDQUOT, "free some space"),
            (Op::Read, libc::EIO, "fix the problem"),
        ] {
            let advice = of(op, io::Error::from_raw_os_error(code));
            assert!(advice.contains(words), "{op:?} {code}: {advice}");
        }
        let of_another = AcquireError::Io {
            op: Op::Open,
            path: "/h/x".into(),
            owner: Some(0),
            source: denied(),
        };
        assert!(of_another.next_step().starts_with("the lock file belongs to user 0: ask"));
    }
}
