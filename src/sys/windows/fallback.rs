//! The directory that stands in for the user's own: none on Windows, where the directory for temporary
//! files is in the user's profile as well, and no safer to come by. So the user's is used.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::PlaceError;

/// Nothing is known to be in the way: who acquires will be told.
pub(crate) fn why_not_writable(_: &Path) -> Option<io::Error> {
    None
}

/// There is none.
pub(crate) fn directory() -> Result<PathBuf, PlaceError> {
    Err(PlaceError::NoHome)
}
