//! Errors and their texts.
//!
//! Being held is not a failure: [`AcquireError::Held`] is what a caller branches on and shows to
//! a person.
//!
//! Every error has three parts, so that it composes with other errors. `{}` is one line, which names
//! the path and not the cause. [`source`](Error::source) is the cause. `next_step` is the advice.
//! `{:#}` has all three, over lines; a chain of errors, as `anyhow` prints it, has each of them once.

mod acquire;
mod dir;
pub(crate) mod held;
#[cfg(test)]
mod tests;

pub use acquire::AcquireError;
pub use dir::{InvalidName, LockDirError};

use std::error::Error;
use std::{fmt, io};

use crate::sys;

/// What to do about an error of the system, for a person who can choose the directory.
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
        _ if sys::lacks_descriptors(error) => {
            "close some files, or raise the limit for open files (ulimit -n)"
        }
        _ => "fix the problem, or use another directory",
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
