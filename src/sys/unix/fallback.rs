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

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, metadata, set_permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::sys::forked::{in_a_child, not_as_root};
    use crate::sys::given_away;

    fn with_mode(path: &Path, mode: u32) {
        set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
    }

    #[test]
    fn only_owner_replaces_entries_of_kept_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let is_kept = || is_kept_by(&metadata(dir.path()).expect("it is there"));
        for (mode, expected) in [
            (0o700, true),
            (0o755, true),
            (0o775, false),
            (0o757, false),
            (0o777, false),
            (0o1777, true),
        ] {
            with_mode(dir.path(), mode);
            assert_eq!(is_kept(), expected, "{mode:o}");
        }
        if given_away(dir.path()) {
            assert!(!is_kept(), "its owner replaces what it likes, sticky or not");
        }
        assert!(is_kept_by(&metadata("/").expect("it is there")), "root's");
        // The same for a user that is not root, if this is.
        let said = in_a_child(|| {
            not_as_root();
            let is_kept = is_kept_by(&metadata("/").expect("it is there"));
            vec![u8::from(is_kept), u8::from(our_id() != 0)]
        });
        assert_eq!(said, [1, 1]);
    }

    #[test]
    fn runtime_directory_must_be_ours_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        for (mode, expected) in [(0o700, true), (0o500, true), (0o710, false), (0o701, false)] {
            with_mode(dir.path(), mode);
            assert_eq!(is_ours_alone(dir.path()), expected, "{mode:o}");
        }
        with_mode(dir.path(), 0o700);
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("writes");
        with_mode(&file, 0o600);
        assert!(!is_ours_alone(&file) && !is_ours_alone(&dir.path().join("absent")));
        if given_away(dir.path()) {
            assert!(!is_ours_alone(dir.path()));
        }
    }

    #[test]
    fn made_directory_is_ours_or_refused() {
        let parent = tempfile::tempdir().expect("a directory");
        let at = |name: &str| parent.path().join(name);
        let reason = |name: &str| match made_in(parent.path(), name) {
            Ok(made) => {
                assert_eq!(made, at(name));
                None
            }
            Err(LockDirError::Unsafe { reason, .. }) => Some(reason),
            Err(other) => panic!("{other}"),
        };
        assert_eq!([reason("new"), reason("new")], [None; 2], "made, and found");
        assert_eq!(metadata(at("new")).expect("made").mode() & 0o777, 0o700);
        symlink("new", at("link")).expect("links");
        assert_eq!(reason("link"), Some("it is a symbolic link"));
        std::fs::write(at("file"), "").expect("writes");
        assert_eq!(reason("file"), Some("it is not a directory"));
        with_mode(&at("new"), 0o720);
        assert_eq!(reason("new"), Some("others may write to it"));
        with_mode(&at("new"), 0o755);
        assert_eq!(reason("new"), None);
        if given_away(&at("new")) {
            assert_eq!(reason("new"), Some("it belongs to another user"));
        }
        with_mode(parent.path(), 0o777);
        assert_eq!(reason("new"), Some("others can replace it"));
        let name = "n".repeat(300);
        with_mode(parent.path(), 0o700);
        let error = made_in(parent.path(), &name).expect_err("no name is so long");
        assert!(matches!(error, LockDirError::NotWritable { .. }), "{error}");
    }

    /// It says why the directory cannot be made, and not that it is not there.
    #[test]
    fn refused_directory_has_the_reason_of_its_creation() {
        let parent = tempfile::tempdir().expect("a directory");
        with_mode(parent.path(), 0o555);
        let said = in_a_child(|| {
            not_as_root();
            let error = made_in(parent.path(), "new").expect_err("it may not be written to");
            let LockDirError::NotWritable { source, .. } = error else { panic!("{error}") };
            source.kind().to_string().into_bytes()
        });
        assert_eq!(String::from_utf8(said).expect("text"), "permission denied");
    }

    #[test]
    fn nearest_ancestor_decides_what_can_be_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let kind = |path: &Path| why_not_writable(path).map(|error| error.kind());
        assert_eq!(kind(&dir.path().join("a/b")), None);
        std::fs::write(dir.path().join("file"), "").expect("writes");
        let not_a_directory = Some(ErrorKind::NotADirectory);
        assert_eq!(kind(&dir.path().join("file/a")), not_a_directory);
        symlink("nowhere", dir.path().join("link")).expect("links");
        assert_eq!(kind(&dir.path().join("link")), not_a_directory);
        assert!(kind(Path::new("/proc/self/a")).is_some(), "no directory can be made there");
    }
}
