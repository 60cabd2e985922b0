use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, SystemTime};

use super::*;
use crate::protocol::{
    Age, Author, Confirm, Create, Dated, Done, FileSystem, FreeLock, Listen, OpenReply, Probe,
    Probed, ReadReply, Unlink,
};
use crate::sys::forked::{in_a_child, no_more_descriptors, not_as_root};
use crate::sys::in_time::in_time;

fn in_a_new_directory() -> (tempfile::TempDir, LockFile) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.lock");
    (dir, LockFile::new(path, process::current_process().into_owned()))
}

#[test]
fn only_created_files_and_directories_are_made_private() {
    let (dir, _) = in_a_new_directory();
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").mode() & 0o7777;
    let before = mode(dir.path());
    let path = dir.path().join("a/b/x.lock");
    let mut file = LockFile::new(path.clone(), process::current_process().into_owned());
    assert_eq!(file.create(), Create::Created);
    assert_eq!(mode(&path), 0o600);
    assert_eq!([mode(&dir.path().join("a")), mode(&dir.path().join("a/b"))], [0o700; 2]);
    assert_eq!(mode(dir.path()), before);
}

#[test]
fn written_record_is_read_back() {
    let (_dir, mut file) = in_a_new_directory();
    assert_eq!(
        (file.create(), file.lock(), file.write()),
        (Create::Created, LockReply::Ours, Done::Done)
    );
    let (read, mut file) = in_time(move || (file.read(), file));
    assert_eq!(read, ReadReply::Record);
    assert_eq!(file.seen(), Some(file.record()));
    assert_eq!(file.truncate(), Done::Done);
    assert_eq!(file.read(), ReadReply::Unreadable, "cut to one byte");
}

#[test]
fn confirm_compares_path_with_open_file() {
    let (_dir, mut file) = in_a_new_directory();
    assert_eq!((file.create(), file.confirm()), (Create::Created, Confirm::Same));
    std::fs::remove_file(file.path()).expect("removes");
    assert_eq!(file.confirm(), Confirm::Changed);
    std::fs::write(file.path(), b"").expect("writes");
    assert_eq!(file.confirm(), Confirm::Changed);
    std::fs::remove_file(file.path()).expect("removes");
    assert_eq!(file.unlink(), Unlink::Absent);
}

/// Only `.ci/filesystems` has an NFS that shows stale attributes. Here it is as another confirm.
#[test]
fn server_confirm_compares_path_with_open_file() {
    let (_dir, mut file) = in_a_new_directory();
    assert_eq!((file.create(), file.confirm()), (Create::Created, Confirm::Same));
    let ours = file.open.as_ref().and_then(|opened| opened.identity).expect("confirmed");
    let named = || file.is_named_by_the_server(ours).expect("it can be known");
    assert!(named());
    std::fs::remove_file(file.path()).expect("removes");
    assert!(!named());
    std::fs::write(file.path(), b"").expect("writes");
    assert!(!named());
    let parent = file.path().parent().expect("a directory");
    std::fs::remove_dir_all(parent).expect("removes");
    std::fs::write(parent, b"").expect("writes");
    file.is_named_by_the_server(ours).expect_err("the path leads through a file");
    std::fs::remove_file(parent).expect("removes");
    std::fs::create_dir(parent).expect("makes it again");
}

#[test]
fn file_older_than_grace_either_way_is_old() {
    let (_dir, mut file) = in_a_new_directory();
    assert_eq!(file.create(), Create::Created);
    let mut dated = |changed| {
        file.open.as_ref().expect("open").file.set_modified(changed).expect("sets the time");
        file.age()
    };
    let now = SystemTime::now();
    let minute = Duration::from_secs(60);
    assert_eq!(dated(now), Dated::Known(Age::Young));
    assert_eq!(dated(now - minute), Dated::Known(Age::Old));
    assert_eq!(dated(now + minute), Dated::Known(Age::Old));
}

#[test]
fn unlimited_waiter_probes_holder_only_without_kernel_lock() {
    let (_dir, mut holder) = in_a_new_directory();
    assert_eq!(holder.create(), Create::Created);
    assert_eq!((holder.lock(), holder.write()), (LockReply::Ours, Done::Done));
    let mut look = |waits_without_end: bool, expected, lock| {
        let mut file = LockFile::new(holder.path(), holder.record().clone());
        if waits_without_end {
            file.wait_without_end();
        }
        assert_eq!(
            (file.open(), file.read(), file.lock()),
            (OpenReply::Opened, ReadReply::Record, lock)
        );
        let Probed::Known(Author::Here(_, probe)) = file.probe() else { panic!("it is ours") };
        assert_eq!(probe, expected);
        if lock == LockReply::Busy {
            holder.close();
            // Ours, and hence to be judged by what is so.
            assert_eq!(file.lock(), LockReply::Ours);
            let ours = Author::Here(FreeLock::ProvesDeath, Probe::Ourselves);
            assert_eq!(file.probe(), Probed::Known(ours));
        }
    };
    look(true, Probe::Unknown, LockReply::Busy);
    look(true, Probe::Ourselves, LockReply::Ours);
    look(false, Probe::Ourselves, LockReply::Ours);
}

#[test]
fn query_opens_for_reading_alone() {
    let (_dir, file) = in_a_new_directory();
    std::fs::write(file.path(), "").expect("writes");
    for (mut file, expected) in [(LockFile::to_ask(file.path()), false), (file, true)] {
        assert_eq!(file.open(), OpenReply::Opened);
        assert_eq!(file.open.as_ref().map(|opened| opened.is_writable), Some(expected));
        let descriptor = file.another_descriptor().expect("it is open");
        assert_eq!(std::io::Write::write(&mut &descriptor, b"x").is_ok(), expected);
    }
}

#[test]
fn file_that_may_only_be_read_is_opened() {
    let (dir, mut file) = in_a_new_directory();
    let permit = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    std::fs::write(file.path(), "").expect("writes");
    permit(dir.path(), 0o755);
    let mut opened = |mode| {
        permit(file.path(), mode);
        let said = in_a_child(|| {
            not_as_root();
            let reply = file.open();
            let is_writable = file.open.as_ref().map(|opened| opened.is_writable);
            format!("{reply:?} {is_writable:?}").into_bytes()
        });
        String::from_utf8(said).expect("text")
    };
    assert_eq!(opened(0o444), "Opened Some(false)");
    assert_eq!(opened(0), "Failed None");
}

#[test]
fn listening_ends_at_its_deadline() {
    let (_dir, mut file) = in_a_new_directory();
    file.listen_until(Deadline { end: Some(std::time::Instant::now()), cancelled: None });
    assert_eq!((file.wait_event(), file.wait_event()), (Listen::Event, Listen::Over));
}

#[test]
fn open_file_belongs_to_its_process() {
    let (_dir, mut file) = in_a_new_directory();
    assert!(file.is_ours(), "nothing is open");
    assert_eq!(file.create(), Create::Created);
    let said = in_a_child(|| vec![u8::from(file.is_ours())]);
    assert_eq!((said, file.is_ours()), (vec![0], true));
}

#[test]
fn lack_of_descriptors_is_told_apart() {
    let (dir, mut file) = in_a_new_directory();
    std::fs::write(file.path(), "").expect("writes");
    let said = in_a_child(|| {
        no_more_descriptors();
        let before = file.lacked_descriptors();
        let failed = file.open() == OpenReply::Failed;
        [before, failed, file.lacked_descriptors()].map(u8::from).to_vec()
    });
    assert_eq!(said, [0, 1, 1]);
    let mut other = LockFile::new(dir.path(), file.record().clone());
    assert_eq!((other.open(), other.lacked_descriptors()), (OpenReply::Failed, false));
}

#[test]
fn path_that_cannot_be_followed_is_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let [before, after] = ["before", "after"].map(|name| dir.path().join(name));
    let path = before.join("x.lock");
    let mut file = LockFile::new(path, process::current_process().into_owned());
    assert_eq!(file.create(), Create::Created);
    assert!(file.is_named().expect("it can be known"));
    std::fs::rename(&before, &after).expect("renames");
    assert!(!file.is_named().expect("there is no such directory"));
    std::fs::write(&before, "").expect("writes");
    file.is_named().expect_err("the path leads through a file");
    assert_eq!(file.unlink(), Unlink::Failed);
}

#[test]
fn owner_may_read_the_record_whatever_the_umask() {
    let mode = |file: &LockFile| {
        std::fs::metadata(file.path()).expect("it is there").permissions().mode() & 0o777
    };
    let (_dir, mut file) = in_a_new_directory();
    let said = in_a_child(|| {
        // SAFETY: sets a number of this child.
        unsafe { libc::umask(0o777) };
        assert_eq!(file.create(), Create::Created);
        let before = mode(&file);
        vec![u8::from(before == 0), u8::from(file.write() == Done::Done)]
    });
    assert_eq!((said, mode(&file)), (vec![1, 1], 0o600));
    // What the owner may do already is left as it is.
    assert_eq!(file.open(), OpenReply::Opened);
    let wider = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(file.path(), wider).expect("it is ours");
    assert_eq!((file.write(), mode(&file)), (Done::Done, 0o640));
}

/// A write beyond the limit would end the process by a signal.
#[test]
fn record_over_the_size_limit_is_refused() {
    let written = |limit: u64| {
        let (_dir, mut file) = in_a_new_directory();
        assert_eq!(file.create(), Create::Created);
        let said = in_a_child(|| {
            #[allow(clippy::useless_conversion, reason = "signed on some systems")]
            let limit = libc::rlim_t::try_from(limit).expect("a small number");
            let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
            // SAFETY: sets a limit of this child.
            unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) };
            // What is open is the parent's.
            file.close_without_unlock();
            assert_eq!(file.open(), OpenReply::Opened);
            vec![u8::from(file.write() == Done::Done)]
        });
        (said, std::fs::metadata(file.path()).expect("it is there").len())
    };
    let (said, length) = written(1 << 20);
    assert!(said == [1] && length > 10, "{length}");
    assert_eq!(written(length), (vec![1], length));
    assert_eq!(written(length - 1), (vec![0], 0));
}

#[test]
fn only_a_stale_open_file_is_gone() {
    for (number, expected) in [(libc::ESTALE, Confirm::Changed), (libc::EIO, Confirm::Same)] {
        let (_dir, mut file) = in_a_new_directory();
        assert_eq!(file.create(), Create::Created);
        let error = std::io::Error::from_raw_os_error(number);
        let is_gone = file.failed_on_open(error, true, false);
        assert_eq!((is_gone, file.confirm()), (expected == Confirm::Changed, expected));
        assert_eq!(file.error.is_none(), is_gone);
    }
}

#[test]
fn the_first_error_is_kept() {
    let (dir, _) = in_a_new_directory();
    let no_directory = dir.path().join("x.lock");
    std::fs::write(&no_directory, b"").expect("writes");
    let mut file =
        LockFile::new(no_directory.join("below-a-file"), process::current_process().into_owned());
    assert_eq!(file.open(), OpenReply::Failed);
    assert_eq!(file.lock(), LockReply::Failed);
    assert_eq!(file.take_error().kind(), ErrorKind::NotADirectory);
}

#[test]
fn open_forgets_what_was_tried_and_seen() {
    let (_dir, mut file) = in_a_new_directory();
    assert_eq!((file.create(), file.lock()), (Create::Created, LockReply::Ours));
    assert_eq!((file.write(), file.read()), (Done::Done, ReadReply::Record));
    assert!(file.tried.is_some() && file.seen().is_some());
    file.close();
    assert_eq!(file.open(), OpenReply::Opened);
    assert_eq!((file.tried, file.seen()), (None, None));
}

#[test]
fn record_over_4096_bytes_is_foreign() {
    let (_dir, mut file) = in_a_new_directory();
    let record = r#"{"pid":7,"port":null}"#;
    for (length, expected) in [
        (MAX_RECORD, ReadReply::Record),
        (MAX_RECORD + 1, ReadReply::Foreign),
        (9000, ReadReply::Foreign),
    ] {
        let padding = " ".repeat(length - record.len());
        std::fs::write(file.path(), format!("{record}{padding}")).expect("writes");
        assert_eq!((file.open(), file.read()), (OpenReply::Opened, expected), "{length} bytes");
        file.close();
    }
}

/// A second name keeps the count of names above 0 when the path is gone.
#[test]
fn new_file_with_more_names_is_looked_up() {
    let (dir, mut file) = in_a_new_directory();
    for is_removed in [false, true] {
        assert_eq!(file.create(), Create::Created);
        for name in ["second", "third"] {
            let other = dir.path().join(format!("{name}-{is_removed}"));
            std::fs::hard_link(file.path(), other).expect("links");
        }
        if is_removed {
            std::fs::remove_file(file.path()).expect("removes");
            assert_eq!(file.confirm(), Confirm::Changed);
        } else {
            assert_eq!(file.confirm(), Confirm::Same);
            assert_eq!(file.unlink(), Unlink::Unlinked);
        }
        file.close();
    }
}

#[test]
fn close_without_unlock_closes() {
    let (_dir, mut file) = in_a_new_directory();
    assert_eq!((file.create(), file.lock()), (Create::Created, LockReply::Ours));
    let shared = file.another_descriptor().expect("a descriptor");
    file.close_without_unlock();
    assert_eq!(file.read(), ReadReply::Failed, "nothing is open");
    let mut other = LockFile::new(file.path(), file.record().clone());
    assert_eq!((other.open(), other.lock()), (OpenReply::Opened, LockReply::Busy));
    drop(shared);
    // A child of another test that is being forked has it for a moment.
    let is_free = || (other.lock() == LockReply::Ours).then_some(());
    assert!(crate::sys::wait_a_little_until(is_free).is_some());
}

#[test]
fn failed_create_finds_no_existing_file() {
    let (dir, mut file) = in_a_new_directory();
    assert_eq!(file.open(), OpenReply::Absent);
    std::fs::write(dir.path().join("file"), "").expect("writes");
    let path = dir.path().join("file/x.lock");
    let mut below = LockFile::new(path, process::current_process().into_owned());
    assert_eq!(below.create(), Create::Failed);
    assert_eq!(file.create(), Create::Created);
    assert_eq!(LockFile::new(file.path(), file.record().clone()).create(), Create::Exists);
}

#[test]
fn what_is_no_regular_file_is_named() {
    let (dir, _) = in_a_new_directory();
    let at = |name| dir.path().join(name);
    std::os::unix::fs::symlink("nowhere", at("link")).expect("links");
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("binds");
    let fifo = std::process::Command::new("mkfifo").arg(at("fifo")).status().expect("starts");
    assert!(fifo.success());
    for (path, kind) in [
        (dir.path().to_owned(), "a directory"),
        (at("link"), "a symbolic link"),
        (at("fifo"), "a FIFO"),
        (at("socket"), "a socket"),
        ("/dev/null".into(), "a device"),
    ] {
        let mut file = LockFile::new(path, process::current_process().into_owned());
        assert_eq!(file.open(), OpenReply::Failed);
        assert_eq!(file.not_a_lock_file(), Some(kind));
    }
}

/// A child that is being forked shares the open file for a moment.
#[test]
fn close_unlocks_a_file_that_is_shared() {
    let (_dir, mut file) = in_a_new_directory();
    assert_eq!((file.create(), file.lock()), (Create::Created, LockReply::Ours));
    let _shared = file.another_descriptor().expect("a descriptor");
    file.close();
    let mut other = LockFile::new(file.path(), file.record().clone());
    assert_eq!((other.open(), other.lock()), (OpenReply::Opened, LockReply::Ours));
}

#[test]
fn passing_a_file_keeps_close_on_exec() {
    let (_dir, mut file) = in_a_new_directory();
    assert_eq!(file.create(), Create::Created);
    let flags = || rustix::io::fcntl_getfd(file.as_fd().expect("open")).expect("open");
    let mut command = Command::new("true");
    file.pass_to_child(&mut command);
    assert_eq!(flags(), rustix::io::FdFlags::CLOEXEC);
    assert!(command.status().expect("starts").success());
    assert_eq!(flags(), rustix::io::FdFlags::CLOEXEC);
}

/// Before the look that decides to listen, not with the wait that follows.
#[test]
#[cfg(target_os = "linux")]
fn subscribed_file_is_watched_before_the_wait() {
    let (_dir, mut file) = in_a_new_directory();
    std::fs::write(file.path(), b"").expect("writes");
    assert_eq!(file.open(), OpenReply::Opened);
    let found = std::fs::metadata(file.path()).expect("it is there");
    let watched = || {
        let of_it = format!(" ino:{:x} ", found.ino());
        let entries = std::fs::read_dir("/proc/self/fdinfo").expect("/proc is there").flatten();
        let mut infos = entries.flat_map(|entry| std::fs::read_to_string(entry.path()));
        infos.any(|info| {
            info.lines().any(|line| line.starts_with("inotify") && line.contains(&of_it))
        })
    };
    assert!(!watched());
    file.subscribe();
    // On a filesystem that may be shared it is polled instead.
    let shared = !filesystem::events_are_of_all(
        &file.another_descriptor().expect("it is open"),
        found.dev(),
    );
    assert!(shared || watched());
}
