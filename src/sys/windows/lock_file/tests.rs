#![allow(unsafe_code)]

use super::*;

use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::AsHandle;
use std::sync::mpsc;
use std::time::Instant;

use crate::protocol::{
    Age, Confirm, Create, Dated, Done, FileSystem, Listen, LockReply, OpenReply, ReadReply, Unlink,
};
use crate::sys::cancel::Cancellation;
use crate::sys::windows::request::Waited;
use crate::sys::windows::values::wide;

#[path = "../../../../tests/skip_report/mod.rs"]
mod skip_report;
use skip_report::not_checked;

fn in_a_new_directory() -> (tempfile::TempDir, LockFile) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.lock");
    (dir, LockFile::new(path, process::current_process().into_owned()))
}

/// Another participant of the same path.
fn beside(file: &LockFile) -> LockFile {
    LockFile::new(file.path.clone(), process::current_process().into_owned())
}

/// Two participants: one holds, and the other has the file open.
fn held_and_opened() -> (tempfile::TempDir, LockFile, LockFile) {
    let (dir, mut holder) = in_a_new_directory();
    assert_eq!((holder.create(), holder.lock()), (Create::Created, LockReply::Ours));
    assert_eq!((holder.write(), holder.confirm()), (Done::Done, Confirm::Same));
    let mut other = beside(&holder);
    assert_eq!(other.open(), OpenReply::Opened);
    (dir, holder, other)
}

#[test]
fn a_create_is_exclusive_and_makes_the_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a/b/x.lock");
    let mut file = LockFile::new(path.clone(), process::current_process().into_owned());
    assert_eq!(file.create(), Create::Created, "{}", file.take_error());
    assert_eq!(beside(&file).create(), Create::Exists);
    assert!(path.is_file());
}

#[test]
fn record_is_readable_while_the_lock_is_held() {
    let (_dir, holder, mut other) = held_and_opened();
    assert_eq!((other.lock(), other.read()), (LockReply::Busy, ReadReply::Record));
    assert_eq!(other.seen(), Some(holder.record()));
    let bytes = std::fs::read(holder.path()).expect("it can be read");
    assert_eq!(Holder::parse(&bytes).as_ref(), Some(holder.record()));
}

#[test]
fn lock_is_reentrant_for_its_handle_until_close() {
    let (_dir, mut holder, mut other) = held_and_opened();
    assert_eq!(
        [holder.lock(), holder.lock(), other.lock()],
        [LockReply::Ours, LockReply::Ours, LockReply::Busy]
    );
    let mut view = holder.left_open().and_then(LeftOpen::view).expect("it is open");
    holder.close();
    assert_eq!(other.lock(), LockReply::Ours, "a close unlocks, even a shared file");
    view.close();
    other.close();
}

#[test]
fn confirm_compares_path_with_open_file() {
    let (_dir, mut file) = in_a_new_directory();
    assert_eq!((file.create(), file.confirm()), (Create::Created, Confirm::Same));
    let aside = file.path().with_extension("aside");
    std::fs::rename(file.path(), &aside).expect("renames");
    assert_eq!(file.confirm(), Confirm::Changed);
    std::fs::write(file.path(), b"").expect("writes");
    assert_eq!(file.confirm(), Confirm::Changed);
    // No call removes another's file, not even in the instant before: ours has gone.
    assert_eq!(file.unlink(), Unlink::Absent);
    assert!(file.path().exists());
    std::fs::remove_file(file.path()).expect("removes");
    assert_eq!(file.unlink(), Unlink::Absent);
}

#[test]
fn removed_file_is_changed_and_close_frees_name() {
    let (_dir, mut holder, mut other) = held_and_opened();
    assert_eq!(holder.unlink(), Unlink::Unlinked);
    assert_eq!([holder.confirm(), other.confirm()], [Confirm::Changed; 2]);
    assert_eq!([holder.unlink(), other.unlink()], [Unlink::Absent; 2]);
    holder.close();
    // Windows 10 has freed the name; older systems and Wine keep it while the other has it open.
    let mut third = beside(&holder);
    match third.create() {
        Create::Created => {}
        Create::Exists | Create::Denied => {
            assert_eq!(third.open(), OpenReply::Denied, "what is being deleted cannot be opened");
            assert!(third.is_being_deleted());
            other.close();
            assert_eq!(third.create(), Create::Created);
        }
        Create::Failed => panic!("{}", third.take_error()),
    }
    assert_eq!(third.confirm(), Confirm::Same);
}

#[test]
fn waiter_gets_the_lock_when_released() {
    let (_dir, mut holder, mut other) = held_and_opened();
    let (done, ended) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| done.send((other.wait_event(), other.lock())).expect("the test listens"));
        holder.close();
        assert_eq!(ended.recv().expect("it ends"), (Listen::Event, LockReply::Ours));
    });
}

#[test]
fn expired_and_cancelled_waits_hold_no_lock() {
    let (_dir, mut holder, other) = held_and_opened();
    let file = &other.open.as_ref().expect("open").file;
    let limit = Some(Duration::from_millis(25));
    assert_eq!(file.wait(limit, None).expect("waits"), Waited::TimeOver);
    assert_eq!(file.wait(Some(Duration::ZERO), None).expect("looks"), Waited::TimeOver);
    let cancel = Cancellation::new().expect("an event");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| file.wait(None, Some(cancel.as_handle())));
        cancel.cancel();
        assert_eq!(waiter.join().expect("no panic").expect("waits"), Waited::Cancelled);
    });
    holder.close();
    let mut third = beside(&holder);
    assert_eq!(
        (third.open(), third.lock()),
        (OpenReply::Opened, LockReply::Ours),
        "no waiter took it late"
    );
}

#[test]
fn listener_gets_lock_with_event_never_at_timeout() {
    let (_dir, mut holder, mut other) = held_and_opened();
    other.listen_until(Deadline { end: Some(Instant::now()), cancelled: None });
    assert_eq!(
        [other.wait_event(), other.wait_event()],
        [Listen::Event, Listen::Over],
        "a last look"
    );
    assert_eq!((other.lock(), holder.lock()), (LockReply::Busy, LockReply::Ours));

    other.listen_until(Deadline::default());
    let (done, ended) = mpsc::channel();
    std::thread::scope(|scope| {
        let listener = &mut other;
        scope.spawn(move || done.send(listener.wait_event()).expect("the test listens"));
        holder.close();
        assert_eq!(ended.recv().expect("it ends"), Listen::Event);
    });
    let mut third = beside(&holder);
    assert_eq!(
        (third.open(), third.lock()),
        (OpenReply::Opened, LockReply::Busy),
        "before it asks for it"
    );
    assert_eq!(other.lock(), LockReply::Ours);
    other.close();
    assert_eq!(third.lock(), LockReply::Ours);
}

#[test]
fn exclusive_open_by_another_program_only_delays() {
    let (_dir, mut file) = in_a_new_directory();
    std::fs::write(file.path(), b"").expect("writes");
    let alone = std::fs::OpenOptions::new().read(true).share_mode(0).open(file.path());
    let alone = alone.expect("opens");
    assert_eq!((file.open(), file.create()), (OpenReply::Denied, Create::Exists));
    assert_eq!(code(&file.take_error()), Some(ERROR_SHARING_VIOLATION));
    drop(alone);
    assert_eq!(file.open(), OpenReply::Opened);
}

#[test]
fn removal_waits_a_bounded_time_for_sharing_violations() {
    let (_dir, mut file) = in_a_new_directory();
    assert_eq!(file.create(), Create::Created);
    let share = FILE_SHARE_READ_AND_WRITE;
    let reader = std::fs::OpenOptions::new().read(true).share_mode(share).open(file.path());
    let reader = reader.expect("opens");
    assert_eq!(file.unlink(), Unlink::Failed);
    assert_eq!(code(&file.take_error()), Some(ERROR_SHARING_VIOLATION));
    drop(reader);
    assert_eq!(file.unlink(), Unlink::Unlinked);
}

const FILE_SHARE_READ_AND_WRITE: u32 = 1 | 2;

#[test]
fn directories_and_devices_are_no_lock_files() {
    let (_dir, mut file) = in_a_new_directory();
    std::fs::create_dir(file.path()).expect("makes");
    assert_eq!((file.create(), file.open()), (Create::Exists, OpenReply::Failed));
    assert_eq!(file.not_a_lock_file(), Some("a directory"));
    let mut device = LockFile::new(Path::new(r"\\.\NUL"), process::current_process().into_owned());
    assert_eq!(device.open(), OpenReply::Failed);
    assert_eq!(device.not_a_lock_file(), Some("a device"));
}

#[test]
fn a_link_is_neither_followed_nor_opened() {
    let (_dir, mut file) = in_a_new_directory();
    let aim = file.path().with_extension("aim");
    let made = std::os::windows::fs::symlink_file(&aim, file.path());
    // A right that not every user has; and Wine 8 says that it made one, and made none.
    if !std::fs::symlink_metadata(file.path()).is_ok_and(|found| found.is_symlink()) {
        return not_checked(&format!("that links are refused: none can be made here ({made:?})"));
    }
    assert_eq!((file.create(), file.open()), (Create::Exists, OpenReply::Failed));
    assert_eq!(file.not_a_lock_file(), Some("a symbolic link or another reparse point"));
    assert!(!aim.exists());
}

#[test]
fn file_older_than_grace_either_way_is_old() {
    let (_dir, mut file) = in_a_new_directory();
    assert_eq!(file.create(), Create::Created);
    let mut dated = |changed| {
        let other = std::fs::OpenOptions::new().write(true).open(&file.path).expect("opens");
        other.set_modified(changed).expect("sets the time");
        file.age()
    };
    let (now, minute) = (SystemTime::now(), Duration::from_secs(60));
    assert_eq!(dated(now), Dated::Known(Age::Young));
    assert_eq!(dated(now - minute), Dated::Known(Age::Old));
    assert_eq!(dated(now + minute), Dated::Known(Age::Old));
}

#[test]
fn a_record_is_voided_through_the_open_file() {
    let (_dir, mut holder, mut other) = held_and_opened();
    assert_eq!((holder.truncate(), other.read()), (Done::Done, ReadReply::Unreadable));
}

#[test]
fn the_first_error_is_kept() {
    let (_dir, file) = in_a_new_directory();
    std::fs::write(file.path(), b"").expect("writes");
    let mut file =
        LockFile::new(file.path().join("below-a-file"), process::current_process().into_owned());
    assert_eq!(file.create(), Create::Failed);
    assert_eq!(file.lock(), LockReply::Failed);
    assert_eq!(file.take_error().kind(), ErrorKind::NotADirectory);
}

#[test]
fn long_paths_work_and_nul_is_refused() {
    let (dir, _) = in_a_new_directory();
    let deep = dir.path().join("x".repeat(120)).join("y".repeat(120)).join("z.lock");
    let mut file = LockFile::new(deep, process::current_process().into_owned());
    assert_eq!(file.create(), Create::Created, "{}", file.take_error());
    assert_eq!((file.confirm(), file.unlink()), (Confirm::Same, Unlink::Unlinked));
    let mut nul = LockFile::new(dir.path().join("a\0b"), process::current_process().into_owned());
    assert_eq!(nul.create(), Create::Failed);
    assert_eq!(nul.take_error().kind(), ErrorKind::InvalidInput);
}

/// The access control list of a path, as Windows writes it in text (SDDL)
/// ([`GetNamedSecurityInfoW`](https://learn.microsoft.com/windows/win32/api/aclapi/nf-aclapi-getnamedsecurityinfow),
/// [`ConvertSecurityDescriptorToStringSecurityDescriptorW`](https://learn.microsoft.com/windows/win32/api/sddl/nf-sddl-convertsecuritydescriptortostringsecuritydescriptorw)).
fn access(path: &Path) -> String {
    use windows_sys::Win32::Security::Authorization::{
        ConvertSecurityDescriptorToStringSecurityDescriptorW, GetNamedSecurityInfoW,
        SDDL_REVISION_1, SE_FILE_OBJECT,
    };
    use windows_sys::Win32::Security::DACL_SECURITY_INFORMATION;
    let name = wide(path).expect("a path");
    let (mut found, mut text) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: the path ends with NUL, the results have room, and what is made of them is leaked.
    unsafe {
        let list = DACL_SECURITY_INFORMATION;
        let (none, nothing) = (std::ptr::null_mut(), std::ptr::null_mut());
        let (dacl, sacl) = (std::ptr::null_mut(), std::ptr::null_mut());
        let name = name.as_ptr();
        let told = GetNamedSecurityInfoW(
            name,
            SE_FILE_OBJECT,
            list,
            none,
            nothing,
            dacl,
            sacl,
            &raw mut found,
        );
        assert_eq!(told, 0);
        let length = std::ptr::null_mut();
        let written = ConvertSecurityDescriptorToStringSecurityDescriptorW(
            found,
            SDDL_REVISION_1,
            list,
            &raw mut text,
            length,
        );
        assert_ne!(written, 0);
        let length = (0..).take_while(|&at| *text.add(at) != 0).count();
        String::from_utf16_lossy(std::slice::from_raw_parts(text, length))
    }
}

#[test]
fn files_and_only_created_directories_are_private() {
    let dir = tempfile::tempdir().expect("a directory");
    let before = access(dir.path());
    let mut file =
        LockFile::new(dir.path().join("a/x.lock"), process::current_process().into_owned());
    assert_eq!(file.create(), Create::Created, "{}", file.take_error());
    assert_eq!(access(dir.path()), before);
    std::fs::write(dir.path().join("y"), b"").expect("writes");
    let others = access(&dir.path().join("y"));
    for path in [file.path().to_owned(), dir.path().join("a")] {
        let list = access(&path);
        // Everyone, users, authenticated users, guests, the world of the network.
        for other in ["WD", "BU", "AU", "BG", "AN", "NU", "IU"] {
            assert!(!list.contains(&format!(";;;{other})")), "{list}");
        }
        assert_ne!(list, others, "as others make it");
        if std::env::var_os("WINEPREFIX").is_some() {
            not_checked("the whole access control list of what is made: Wine keeps a mode of Unix");
            continue;
        }
        // The user, the system, the administrators, and nothing from above.
        assert!(list.starts_with("D:P"), "{list}");
        assert_eq!(list.matches("(A;").count(), 3, "{list}");
    }
}
