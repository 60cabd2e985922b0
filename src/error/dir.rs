//! Why a lock has no directory or no name.

use std::error::Error;
use std::path::PathBuf;
use std::{fmt, io};

use super::end;
use crate::sys;

/// Why a lock has no usable directory or name.
#[derive(Debug)]
#[non_exhaustive]
pub enum LockDirError {
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
        reason: InvalidName,
    },
    /// No lock can have this name.
    #[non_exhaustive]
    Name {
        /// The name that was given.
        name: String,
        /// What is wrong with it.
        reason: InvalidName,
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
        reason: &'static str,
    },
}

impl LockDirError {
    /// What a person can do about it.
    pub fn next_step(&self) -> String {
        match self {
            Self::AnyPort => "ask for a port from 1 to 65535, or take no lock",
            Self::Port { .. } => "ask for a port from 1 to 65535, or use a name that has a letter",
            Self::App { .. } => CHARACTERS,
            Self::Name { name, reason: InvalidName::Port } => match name.parse() {
                Ok(1_u16..) => return format!("ask for port {name} itself"),
                Ok(0) | Err(_) => "use a name that has a letter",
            },
            Self::Name {
                reason: InvalidName::ReservedPrefix | InvalidName::ReservedOnWindows,
                ..
            } => "use another name",
            Self::Name { .. } => CHARACTERS,
            Self::NoHome => "set HOME, or name another directory",
            Self::Environment { variable, .. } => {
                return format!("set {variable} to a path from the root");
            }
            Self::NoWorkingDirectory { .. } => "name the directory by its path from the root",
            Self::NotWritable { .. } => "name a directory that you may write to",
            Self::Unsafe { .. } => "find out which user made it, and name another directory",
        }
        .to_owned()
    }
}

const CHARACTERS: &str =
    "use 1 to 64 letters, digits, '-', '_' and '.', and neither '-' nor '.' first";

impl fmt::Display for LockDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyPort => write!(f, "port 0 means any free port and has no lock")?,
            Self::Port { port } => write!(f, "{port} is not a port")?,
            Self::App { app, reason } => {
                write!(f, "{app:?} cannot be an application's name: {reason}")?
            }
            Self::Name { name, reason } => write!(f, "{name:?} cannot be a lock's name: {reason}")?,
            Self::NoHome => write!(f, "there is no home directory")?,
            Self::Environment { variable, value } if sys::has_tilde(value) => {
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
            Self::Unsafe { path, reason } => write!(f, "{} is not safe: {reason}", path.display())?,
        }
        end(f, self.source(), &self.next_step())
    }
}

impl Error for LockDirError {
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
pub enum InvalidName {
    /// It has no characters.
    Empty,
    /// It has more than 64.
    TooLong,
    /// `-` is first, as in an option, or `.`, as in a hidden file.
    LeadingChar,
    /// Another character than an ASCII letter or digit, `-`, `_` or `.`: this one.
    Character(char),
    /// It has digits alone: a port. Only of a lock's name.
    Port,
    /// Its file would be a port's: `agent-` and digits. Only of a lock's name.
    ReservedPrefix,
    /// Windows has a device of this name, whatever follows the first dot. Only of a lock's name.
    ReservedOnWindows,
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::TooLong => f.write_str("it has more than 64 characters"),
            Self::LeadingChar => f.write_str("it begins with '-' or '.'"),
            Self::Character(other) => write!(f, "it contains {other:?}"),
            Self::Port => f.write_str("it is a number, as a port is"),
            Self::ReservedPrefix => f.write_str("its lock file would be a port's"),
            Self::ReservedOnWindows => f.write_str("it is the name of a device on Windows"),
        }
    }
}
