//! The directory that is used instead of the user's own, made safely.
//!
//! Other users write to its parent as well, so its name proves nothing: it must be a directory and
//! no link, ours, and writable by no other user. Anything else is refused, and never repaired,
//! followed or removed.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::make_directory;
use crate::error::LockDirError;

/// Why no file can be made in the directory `dir`, or in its nearest ancestor that exists: the
/// lack of a permission, a filesystem that is read-only, or that it is no directory.
pub(crate) fn why_not_writable(dir: &Path) -> Option<io::Error> {
    for dir in dir.ancestors() {
        let error = match may_write_in(dir) {
            Ok(()) => return None,
            Err(error) => error,
        };
        match error.kind() {
            // A link to nowhere is in the way of a directory.
            ErrorKind::NotFound if std::fs::symlink_metadata(dir).is_ok() => {
                return Some(ErrorKind::NotADirectory.into());
            }
            ErrorKind::NotFound => {}
            ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::NotADirectory => return Some(error),
            // It may pass, and if it does not, an acquire reports it.
            _ => return None,
        }
    }
    None
}

/// `faccessat(AT_EACCESS)`: asks for the effective user, and a read-only filesystem says so.
fn may_write_in(dir: &Path) -> io::Result<()> {
    // With the dot it has to be a directory.
    let path = CString::new(dir.join(".").as_os_str().as_bytes())?;
    let wanted = libc::W_OK | libc::X_OK;
    // SAFETY: the path ends with NUL and lives for as long as the call.
    match unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), wanted, libc::AT_EACCESS) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `portlock` in the user's runtime directory if that is the user's alone, or else
/// `portlock-<uid>` in the directory for temporary files. Made here if it is absent, mode 0700.
///
/// # Errors
///
/// [`LockDirError::Unsafe`], [`LockDirError::NotWritable`].
pub(crate) fn directory() -> Result<PathBuf, LockDirError> {
    match dirs::runtime_dir() {
        // With `su` and `sudo` the variable may be another user's.
        Some(dir) if is_ours_alone(&dir) && why_not_writable(&dir).is_none() => {
            made_in(&dir, "portlock")
        }
        _ => {
            made_in(&crate::sys::absolute(&std::env::temp_dir()), &format!("portlock-{}", our_id()))
        }
    }
}

fn made_in(parent: &Path, name: &str) -> Result<PathBuf, LockDirError> {
    let path = parent.join(name);
    let not_writable = |source: io::Error| LockDirError::NotWritable { path: path.clone(), source };
    let not_safe = |reason| Err(LockDirError::Unsafe { path: path.clone(), reason });
    if !is_kept_by(&std::fs::metadata(parent).map_err(not_writable)?) {
        return not_safe("others can replace it");
    }
    match make_directory(&path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(not_writable(error)),
        _ => {}
    }
    let found = std::fs::symlink_metadata(&path).map_err(not_writable)?;
    if found.is_symlink() {
        not_safe("it is a symbolic link")
    } else if !found.is_dir() {
        not_safe("it is not a directory")
    } else if found.uid() != our_id() {
        not_safe("it belongs to another user")
    } else if found.mode() & 0o022 != 0 {
        not_safe("others may write to it")
    } else {
        Ok(path)
    }
}

/// Whether an entry of the directory `parent` can be replaced by its owner alone.
fn is_kept_by(parent: &std::fs::Metadata) -> bool {
    let by_root_or_us = parent.uid() == 0 || parent.uid() == our_id();
    let sticky = parent.mode() & 0o1000 != 0;
    by_root_or_us && (sticky || parent.mode() & 0o022 == 0)
}

fn is_ours_alone(dir: &Path) -> bool {
    let found = std::fs::symlink_metadata(dir);
    found.is_ok_and(|dir| dir.is_dir() && dir.uid() == our_id() && dir.mode() & 0o077 == 0)
}

fn our_id() -> u32 {
    // SAFETY: geteuid only returns a number.
    unsafe { libc::geteuid() }
}
