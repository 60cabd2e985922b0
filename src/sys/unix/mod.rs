//! The Unix adapter: one lock path, as system calls.
//!
//! Paths are resolved at every call, and not relative to a directory that was opened once. The
//! promise is about what the *path* names: a directory that is renamed or removed under a long-lived
//! process would go on working, unnoticed, for that process alone. It also saves the two calls that
//! open and close the directory.

#![allow(unsafe_code)]

pub(crate) mod cancel;
pub(crate) mod fallback;
mod fork;
#[cfg(test)]
pub(crate) mod forked;
mod listener;
mod lock_file;
#[cfg(not(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd")))]
mod no_events;
pub(super) mod own_file;
pub(crate) mod process;

#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
use crate::sys::bsd::events;
#[cfg(target_os = "linux")]
use crate::sys::linux::events;
#[cfg(not(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd")))]
use no_events as events;

pub(crate) use lock_file::{LeftOpen, LockFile};

use std::ffi::CString;
use std::fs::{DirBuilder, Metadata};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

/// Whether a call failed for want of a file descriptor: of this process, or of the system.
pub(crate) fn lacks_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

pub(crate) fn lacks_locks(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOLCK)
}

/// The number of the user that the file at `path` belongs to, if that is another user than ours.
pub(crate) fn foreign_owner(path: &Path) -> Option<u32> {
    let owner = retried(|| std::fs::symlink_metadata(path)).ok()?.uid();
    // SAFETY: geteuid only returns a number.
    (owner != unsafe { libc::geteuid() }).then_some(owner)
}

/// Calls again for as long as a signal interrupts.
pub(super) fn retried<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// The path names nothing: no such entry, or no such directory on the way.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

/// Calls once more after `ESTALE`: another lookup of the name may succeed.
fn twice_if_stale<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    call().or_else(|error| if is_stale(&error) { call() } else { Err(error) })
}

/// The file, its name or its directory was removed or replaced at a file server, and the kernel has
/// looked it up once more in vain.
fn is_stale(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESTALE)
}

/// The same open file by a number that is none of the three standard ones.
///
/// In a process that has closed one of those, as daemons do, a new file gets its number. Messages
/// would then be written into a lock file, and a child would get another file in its place. Without
/// a free number above it stays where it is: it must not be lost, because it may have been created.
pub(super) fn above_standard<F: AsRawFd + From<OwnedFd>>(file: F) -> F {
    if file.as_raw_fd() > libc::STDERR_FILENO {
        return file;
    }
    // SAFETY: the descriptor is open for as long as `file` is.
    let above =
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, libc::STDERR_FILENO + 1) };
    if above < 0 {
        return file;
    }
    // SAFETY: the descriptor is new, and has no other owner.
    unsafe { OwnedFd::from_raw_fd(above) }.into()
}

/// Makes the directory `dir` and its absent ancestors, mode 0700 whatever the umask is.
fn make_directories(dir: &Path) -> io::Result<()> {
    match make_directory(dir) {
        Err(error) if is_absent(&error) => {
            let Some(parent) = dir.parent() else { return Err(error) };
            make_directories(parent)?;
            make_directory(dir).or_else(|error| is_directory(dir).then_some(()).ok_or(error))
        }
        // It was there, or another process was first.
        Err(_) if is_directory(dir) => Ok(()),
        made => made,
    }
}

fn is_directory(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_dir())
}

/// Makes the directory `dir`, mode 0700 whatever the umask is.
pub(super) fn make_directory(dir: &Path) -> io::Result<()> {
    retried(|| DirBuilder::new().mode(0o700).create(dir))?;
    let found = retried(|| std::fs::symlink_metadata(dir));
    // Not looked at, it is taken to be as it was asked for.
    if found.is_ok_and(|found| found.is_dir() && found.mode() & 0o700 != 0o700) {
        let path = CString::new(dir.as_os_str().as_bytes())?;
        // A link in its place is not followed. An error is no reason to stop: what cannot be used
        // says so itself.
        // SAFETY: the path is a C string.
        unsafe {
            libc::fchmodat(libc::AT_FDCWD, path.as_ptr(), 0o700, libc::AT_SYMLINK_NOFOLLOW);
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;
    use std::fs::{File, Permissions, metadata, set_permissions};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    /// Another user than that of the tests.
    pub(crate) const ANOTHER: u32 = 4711;

    /// Makes an empty file at `path` that is old: its creator died before it had written its record.
    pub(crate) fn left_by_a_dead_creator(path: &Path) {
        let file = File::create(path).expect("creates");
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("sets its time");
    }

    /// Gives `path` to another user, which only root can do. Reports past the harness what is not
    /// checked without.
    pub(crate) fn given_away(path: &Path) -> bool {
        let is_given = chown(path, Some(ANOTHER), None).is_ok();
        if !is_given {
            let line = "!!! NOT CHECKED: a file of another user: only root can make one\n";
            io::Write::write_all(&mut io::stderr(), line.as_bytes()).expect("stderr is open");
        }
        is_given
    }

    #[test]
    fn interrupted_call_is_made_again() {
        let calls = Cell::new(0);
        let returned = retried(|| {
            calls.set(calls.get() + 1);
            assert!(calls.get() <= 3, "one more call");
            if calls.get() < 3 { Err(ErrorKind::Interrupted.into()) } else { Ok(calls.get()) }
        });
        assert_eq!(returned.expect("the third call"), 3);
        let refused = retried(|| -> io::Result<()> {
            calls.set(calls.get() + 1);
            assert_eq!(calls.get(), 4, "one more call");
            Err(ErrorKind::NotFound.into())
        });
        assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::NotFound));
    }

    #[test]
    fn stale_handle_is_looked_up_twice() {
        let stale = || io::Error::from_raw_os_error(libc::ESTALE);
        assert!(is_stale(&stale()) && !is_stale(&ErrorKind::NotFound.into()));
        for (error, expected) in [(stale(), 2), (ErrorKind::NotFound.into(), 1)] {
            let (calls, error) = (Cell::new(0), Cell::new(Some(error)));
            let returned = twice_if_stale(|| {
                calls.set(calls.get() + 1);
                error.take().map_or_else(|| Ok(()), Err)
            });
            assert_eq!((calls.get(), returned.is_ok()), (expected, expected == 2));
        }
    }

    #[test]
    fn only_another_users_file_has_a_foreign_owner() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(foreign_owner(dir.path()), None);
        assert_eq!(foreign_owner(&dir.path().join("absent")), None);
        if given_away(dir.path()) {
            assert_eq!(foreign_owner(dir.path()), Some(ANOTHER));
        }
    }

    #[test]
    fn standard_descriptors_stay_free() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = File::create(dir.path().join("x")).expect("creates");
        let before = file.as_raw_fd();
        let file = above_standard(file);
        assert_eq!(file.as_raw_fd(), before, "it is above");
        let said = forked::in_a_child(|| {
            let opened = |number| {
                // SAFETY: closes a standard descriptor of a child that does not use it.
                unsafe { libc::close(number) };
                let file = File::open(dir.path()).expect("opens");
                assert_eq!(file.as_raw_fd(), number);
                let moved = above_standard(file);
                let number = moved.as_raw_fd();
                std::mem::forget(moved);
                u8::try_from(number).unwrap_or(u8::MAX)
            };
            // With the last one closed first, the lower ones are free as well.
            let last = opened(libc::STDERR_FILENO);
            // SAFETY: as above.
            unsafe { libc::close(libc::STDOUT_FILENO) };
            vec![last, opened(libc::STDIN_FILENO)]
        });
        assert!(said.len() == 2 && said.iter().all(|&number| number > 2), "{said:?}");
    }

    #[test]
    fn file_stays_where_no_number_above_is_free() {
        let said = forked::in_a_child(|| {
            // SAFETY: closes a standard descriptor of a child that does not use it.
            unsafe { libc::close(libc::STDIN_FILENO) };
            forked::descriptors_below(3);
            let file = above_standard(File::open("/").expect("opens"));
            vec![u8::from(file.as_raw_fd() == libc::STDIN_FILENO && file.metadata().is_ok())]
        });
        assert_eq!(said, [1]);
    }

    #[test]
    fn only_a_missing_entry_is_absent() {
        assert!(is_absent(&ErrorKind::NotFound.into()));
        assert!(!is_absent(&ErrorKind::PermissionDenied.into()));
    }

    #[test]
    fn directory_is_the_owners_whatever_the_umask() {
        let dir = tempfile::tempdir().expect("a directory");
        let mode = |path: &Path| metadata(path).expect("made").mode() & 0o7777;
        let path = dir.path().join("masked");
        forked::in_a_child(|| {
            // SAFETY: sets a number of this child.
            unsafe { libc::umask(0o777) };
            make_directory(&path).expect("makes it");
            Vec::new()
        });
        assert_eq!(mode(&path), 0o700);
        // What a directory inherits from its parent is left to it.
        set_permissions(dir.path(), Permissions::from_mode(0o2755)).expect("it is ours");
        let path = dir.path().join("group");
        make_directory(&path).expect("makes it");
        assert_eq!(mode(&path) & 0o777, 0o700);
        if cfg!(target_os = "linux") {
            assert_eq!(mode(&path), 0o2700);
        }
    }

    #[test]
    fn directories_are_made_unless_a_file_is_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        make_directories(&at("a/b/c")).expect("makes three");
        make_directories(&at("a/b/c")).expect("they are there");
        symlink("a", at("link")).expect("links");
        make_directories(&at("link")).expect("it leads to a directory");
        assert!(is_directory(&at("link")) && !is_directory(&at("absent")));
        std::fs::write(at("file"), "").expect("writes");
        assert!(!is_directory(&at("file")));
        for path in ["file", "file/a"] {
            make_directories(&at(path)).expect_err("a file is in the way");
        }
    }
}
