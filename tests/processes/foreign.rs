//! Files at the path that are not lock files, or that this process may not open.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

use portlock::AcquireError;

use crate::participant::{
    DEAD_PID, Participant, Place, not_checked, old_record, outcome, refused_by,
};
use crate::{as_root, is_locked};

/// Refused as `found`, and unchanged; no other file appeared in the directory.
fn is_left_alone(place: &Place, found: &str) {
    let before = fs::symlink_metadata(place.path()).expect("it exists");
    let entries = fs::read_dir(place.dir.path()).expect("the directory exists").count();
    let attempt = place.try_acquire();
    assert_eq!(outcome(&attempt), format!("not a lock file, {found}"));
    let message = attempt.expect_err("refused").to_string();
    assert!(message.contains(&place.path().display().to_string()), "{message}");
    assert!(matches!(place.lock.status(), Err(AcquireError::NotALockFile { .. })));
    let after = fs::symlink_metadata(place.path()).expect("it exists");
    assert_eq!((before.ino(), before.mode()), (after.ino(), after.mode()));
    assert_eq!(fs::read_dir(place.dir.path()).expect("the directory exists").count(), entries);
}

#[test]
fn a_symbolic_link_is_neither_followed_nor_replaced() {
    let place = Place::new();
    let target = place.sibling("target");
    // A stale lock file: at the path itself it would be reclaimed.
    fs::write(&target, old_record(DEAD_PID, SystemTime::now())).expect("the target");
    std::os::unix::fs::symlink(&target, place.path()).expect("the link");
    let opens = Opens::of(&target);
    is_left_alone(&place, "a symbolic link");
    opens.assert_none(|| drop(File::open(&target)));
    assert_eq!(fs::read_link(place.path()).expect("a link"), target);
}

#[test]
fn dangling_symlink_creates_nothing_at_its_target() {
    let place = Place::new();
    let target = place.sibling("target");
    std::os::unix::fs::symlink(&target, place.path()).expect("the link");
    is_left_alone(&place, "a symbolic link");
    assert!(!target.exists());
}

#[test]
fn a_directory_is_left_alone() {
    let place = Place::new();
    fs::create_dir(place.path()).expect("the directory");
    is_left_alone(&place, "a directory");
}

/// An open for reading would wake a waiting writer; an open for both would consume its data.
#[test]
fn fifo_is_never_opened() {
    let place = Place::new();
    make_node(place.path(), libc::S_IFIFO, 0).expect("the FIFO");
    let opens = Opens::of(place.path());
    is_left_alone(&place, "a FIFO");
    opens.assert_none(|| drop(open_both_ways(place.path())));
}

#[test]
fn a_socket_is_left_alone() {
    let place = Place::new();
    let listener = std::os::unix::net::UnixListener::bind(place.path()).expect("the socket");
    is_left_alone(&place, "a socket");
    listener.set_nonblocking(true).expect("it can be set");
    assert_eq!(
        listener.accept().expect_err("no process connects").kind(),
        std::io::ErrorKind::WouldBlock
    );
}

#[test]
fn a_device_is_left_alone() {
    let place = Place::new();
    // The null device.
    if let Err(error) = make_node(place.path(), libc::S_IFCHR, libc::makedev(1, 3)) {
        return not_checked(&format!("no device can be made here ({error}); it takes root"));
    }
    let kind = fs::symlink_metadata(place.path()).expect("it exists").file_type();
    assert!(kind.is_char_device());
    let opens = Opens::of(place.path());
    is_left_alone(&place, "a device");
    opens.assert_none(|| drop(open_both_ways(place.path())));
}

pub(crate) fn make_node(
    path: &Path,
    kind: libc::mode_t,
    device: libc::dev_t,
) -> std::io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: the path is a C string.
    match unsafe { libc::mknod(path.as_ptr(), kind | 0o600, device) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

pub(crate) fn open_both_ways(path: &Path) -> std::io::Result<File> {
    File::options().read(true).write(true).open(path)
}

/// Detects every open of a file by any process (Linux: inotify). Elsewhere it detects none.
pub(crate) struct Opens {
    #[cfg(target_os = "linux")]
    events: File,
}

#[cfg(target_os = "linux")]
impl Opens {
    pub(crate) fn of(path: &Path) -> Self {
        use std::os::fd::FromRawFd;
        let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
        // SAFETY: the path is a C string, and the descriptor is new and owned here.
        let events = unsafe {
            let events = libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC);
            assert!(events >= 0, "{}", std::io::Error::last_os_error());
            assert!(libc::inotify_add_watch(events, path.as_ptr(), libc::IN_OPEN) >= 0);
            File::from_raw_fd(events)
        };
        Self { events }
    }

    /// No process has opened it; `control` does, and is detected.
    pub(crate) fn assert_none(mut self, control: impl FnOnce()) {
        assert!(!self.any(), "it was opened");
        control();
        assert!(self.any(), "an open is detected");
    }

    fn any(&mut self) -> bool {
        use std::io::Read;
        self.events.read(&mut [0; 4096]).is_ok()
    }
}

#[cfg(not(target_os = "linux"))]
impl Opens {
    pub(crate) fn of(_: &Path) -> Self {
        not_checked("whether a file was opened: this system does not report opens");
        Self {}
    }

    pub(crate) fn assert_none(self, _: impl FnOnce()) {}
}

/// S15: the original took `EACCES` for corruption and stole the live lock.
#[test]
fn s15_unopenable_file_of_another_user_fails() {
    let place = Place::new();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o777)).expect("open to all");
    let mut other = Participant::start();
    let guard = place.try_acquire().expect("free");
    let before = place.bytes();
    if as_root() {
        assert_eq!(other.request("become-user 65534"), "done");
    } else {
        // Not another user's, but equally impossible to open.
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o000))
            .expect("closed to all");
    }
    assert_eq!(other.try_acquire(place.path()), "failed, Open, PermissionDenied");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o600)).expect("ours again");
    assert!(guard.is_still_held().expect("it can be checked"));
    assert_eq!(place.bytes(), before);
}

#[test]
fn read_only_file_is_judged() {
    let place = Place::new();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o777)).expect("open to all");
    let mut other = Participant::start();
    let guard = place.try_acquire().expect("free");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o444)).expect("readable");
    if as_root() {
        assert_eq!(other.request("become-user 65534"), "done");
    }
    assert_eq!(other.try_acquire(place.path()), refused_by(std::process::id()));
    assert!(guard.is_still_held().expect("it can be checked"));
}

#[test]
fn s15_error_names_the_unwritable_directory() {
    let place = Place::new();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o555)).expect("read only");
    let mut other = Participant::start();
    if as_root() {
        assert_eq!(other.request("become-user 65534"), "done");
    }
    assert_eq!(other.try_acquire(place.path()), "failed, Create, PermissionDenied");
    assert!(place.is_empty());
}

/// A holder whose directory became read-only after its acquire.
fn holding_in_a_directory_that_became_read_only(place: &Place) -> Participant {
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o777)).expect("for all");
    let mut holder = Participant::start();
    if as_root() {
        assert_eq!(holder.request("become-user 65534"), "done");
    }
    assert_eq!(holder.try_acquire(place.path()), "held");
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o555)).expect("read only");
    holder
}

#[test]
fn failed_release_returns_the_guard_still_held() {
    let place = Place::new();
    let mut holder = holding_in_a_directory_that_became_read_only(&place);
    assert_eq!(holder.request("release"), "failed");
    assert_eq!(holder.request("current"), "true");
    assert_eq!(outcome(&place.try_acquire()), refused_by(holder.pid()));
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o777))
        .expect("writable again");
    assert_eq!(holder.request("release"), "released");
    assert!(place.is_empty());
}

#[test]
fn drop_that_cannot_unlink_truncates_the_record() {
    let place = Place::new();
    let mut holder = holding_in_a_directory_that_became_read_only(&place);
    assert_eq!(holder.request("release"), "failed");
    assert_eq!(holder.request("drop"), "dropped");
    assert_eq!(place.bytes(), b"{", "the record is truncated");
    assert!(!is_locked(place.path()));
    // Reclaimed at once, because no process completes a truncated record.
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o777))
        .expect("writable again");
    assert_eq!(outcome(&place.try_acquire()), "held, reclaimed from unknown");
}
