//! The directory that is used instead of the user's own: none on Windows, where the directory for
//! temporary files is in the user's profile as well. So the user's own is always used.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::LockDirError;

/// Nothing is known to be in the way; an acquire reports it if there is.
pub(crate) fn why_not_writable(_: &Path) -> Option<io::Error> {
    None
}

/// There is none.
pub(crate) fn directory() -> Result<PathBuf, LockDirError> {
    Err(LockDirError::NoHome)
}
