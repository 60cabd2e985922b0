//! The Windows adapter: one lock path, as calls of the system.
//!
//! Windows differs from Unix in three ways that matter here. A kernel lock is mandatory, so it
//! covers one byte far past the end of the file, and the record stays readable while it is held. A
//! file that is removed may keep its name until its last handle is closed ("delete pending"); the
//! name is then denied to every process, which is tried again. And a file is removed through a handle:
//! what is removed is the very file that was compared with ours, whatever the path names by then.

pub(crate) mod cancel;
pub(crate) mod fallback;
mod lock_file;
mod open_file;
mod owner;
pub(crate) mod process;
mod request;
mod values;

pub(crate) use lock_file::{LeftOpen, LockFile};

use std::io::{self, ErrorKind};
use std::path::Path;

use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_DELETE_PENDING, ERROR_SHARING_VIOLATION, ERROR_TOO_MANY_OPEN_FILES,
};

use self::values::code;

pub(crate) fn lacks_descriptors(error: &io::Error) -> bool {
    code(error) == Some(ERROR_TOO_MANY_OPEN_FILES)
}

/// Windows has no limit for locks.
pub(crate) fn lacks_locks(_: &io::Error) -> bool {
    false
}

/// Users have no numbers.
pub(crate) fn foreign_owner(_: &Path) -> Option<u32> {
    None
}

/// The path names nothing, or its directory is absent.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

/// What may come from a name that is being deleted, or from a program that has the file open for a
/// moment and does not share it.
fn is_denied(error: &io::Error) -> bool {
    matches!(
        code(error),
        Some(ERROR_ACCESS_DENIED | ERROR_DELETE_PENDING | ERROR_SHARING_VIOLATION)
    )
}

fn not_pending(pending: bool) -> io::Result<()> {
    if pending {
        // Not kept open: the name is free when the last handle is closed.
        return Err(io::Error::from_raw_os_error(ERROR_DELETE_PENDING as i32));
    }
    Ok(())
}
