//! Hostile paths: links, devices, huge files, other users' files, odd names.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use portlock::{Lock, LockDir, Status};

use super::{HANG, Outcome, Scene};
use crate::as_root;
use crate::foreign::{Opens, make_node, open_both_ways};
use crate::participant::{DEAD_PID, Participant, not_checked, old_record, set_modified};

/// No operation opens, follows, changes or removes it.
fn is_left_alone(scene: &Scene, found: &str, opens: Option<(Opens, &dyn Fn())>) {
    let before = scene.everything();
    let words = format!("{} is {found}, not a lock file", scene.lock.path().display());
    let began = Instant::now();
    for (operation, outcome) in scene.each_operation() {
        match outcome {
            Outcome::NotALockFile(said) => assert!(said.starts_with(&words), "{said}"),
            // Not provably stale, so only a list reports it.
            Outcome::Done(None) if operation == "sweep" => {}
            other => panic!("{operation}, {found}: {other:?}"),
        }
    }
    for (command, code, said) in scene.each_command() {
        let expected = match command.split(' ').next().expect("a word") {
            "status" | "wait" => 4,
            "sweep" => 74,
            "list" => 0,
            _ => 73,
        };
        assert_eq!(code, expected, "{command}, {found}: {said}");
        let is_named = said.contains(found) || said.contains("not-a-lock-file");
        assert!(is_named, "{command}: {said}");
    }
    assert!(began.elapsed() < HANG);
    assert_eq!(scene.everything(), before, "{found}");
    if let Some((opens, control)) = opens {
        opens.assert_none(control);
    }
}

#[test]
fn links_are_left_alone_by_every_operation() {
    let scene = Scene::new();
    let stale = scene.sibling("stale");
    fs::write(&stale, old_record(DEAD_PID, SystemTime::now())).expect("writes");
    fs::create_dir(scene.sibling("directory")).expect("creates");
    let looping = scene.lock.path().to_owned();
    for target in [
        scene.sibling("nothing"),
        stale.clone(),
        scene.sibling("directory"),
        "/etc/passwd".into(),
        "/dev/zero".into(),
        "/proc/self/mem".into(),
        looping,
    ] {
        symlink(&target, scene.lock.path()).expect("links");
        let opens = (target == stale).then(|| Opens::of(&stale));
        let control = open_of(&stale);
        is_left_alone(&scene, "a symbolic link", opens.map(|opens| (opens, &control as _)));
        assert_eq!(fs::read_link(scene.lock.path()).expect("a link"), target);
        fs::remove_file(scene.lock.path()).expect("removes");
    }
}

fn open_of(path: &Path) -> impl Fn() {
    let path = path.to_owned();
    move || drop(open_both_ways(&path))
}

#[test]
fn non_files_are_left_alone_by_every_operation() {
    let scene = Scene::new();
    let path = scene.lock.path();
    fs::create_dir(path).expect("creates");
    is_left_alone(&scene, "a directory", None);
    fs::write(path.join("inside"), "").expect("writes");
    is_left_alone(&scene, "a directory", None);
    fs::remove_dir_all(path).expect("removes");

    make_node(path, libc::S_IFIFO, 0).expect("the FIFO");
    is_left_alone(&scene, "a FIFO", Some((Opens::of(path), &open_of(path))));
    fs::remove_file(path).expect("removes");

    let listener = std::os::unix::net::UnixListener::bind(path).expect("the socket");
    is_left_alone(&scene, "a socket", None);
    listener.set_nonblocking(true).expect("it can be set");
    assert!(listener.accept().is_err(), "no process connects");
    fs::remove_file(path).expect("removes");

    // The null device, and the zero device, which never ends.
    for minor in [3, 5] {
        if let Err(error) = make_node(path, libc::S_IFCHR, libc::makedev(1, minor)) {
            return not_checked(&format!("no device can be made here ({error}); it takes root"));
        }
        assert!(fs::symlink_metadata(path).expect("exists").file_type().is_char_device());
        is_left_alone(&scene, "a device", Some((Opens::of(path), &open_of(path))));
        fs::remove_file(path).expect("removes");
    }
}

/// At most the length of a record is read.
#[test]
fn gibibyte_file_is_left_alone_cheaply() {
    let scene = Scene::new();
    let began = Instant::now();
    scene.plant(b"{\"pid\":1,");
    let file = File::options().write(true).open(scene.lock.path()).expect("opens");
    file.set_len(1 << 30).expect("a sparse file");
    drop(file);
    set_modified(scene.lock.path(), SystemTime::now() - Duration::from_secs(10));
    is_left_alone(&scene, "a file with other content", None);
    assert!(began.elapsed() < HANG);
}

#[test]
fn unopenable_file_of_another_user_stays_untouched() {
    if !as_root() {
        return not_checked("another user's file: it takes root to become another user");
    }
    for (mode, sticky) in [(0o600, 0o1777), (0o000, 0o777)] {
        let scene = Scene::new();
        scene.plant(old_record(DEAD_PID, SystemTime::now()).as_bytes());
        let permit = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("permits");
        };
        permit(scene.lock.path(), mode);
        permit(scene.dir.path(), sticky);
        permit(scene.home.path(), 0o755);
        let before = scene.everything();
        let mut other = Participant::start();
        assert_eq!(other.request("become-user 65534"), "done");
        let path = scene.lock.path().display();
        let denied = format!("failed, cannot open {path}");
        assert_eq!(other.try_acquire(scene.lock.path()), "failed, Open, PermissionDenied");
        for order in ["status", "clear"] {
            let said = other.request(&format!("{order} {path}"));
            assert_eq!(said, denied, "{order}");
        }
        assert_eq!(
            other.request(&format!("acquire-within 20 {path}")),
            "failed, Open, PermissionDenied"
        );
        assert_eq!(scene.everything(), before);
        // Its owner can reclaim it.
        assert!(scene.lock.try_acquire().expect("dead").recovered_from().is_some());
    }
}

#[test]
fn linked_or_world_writable_directory_excludes() {
    let scene = Scene::new();
    fs::set_permissions(scene.dir.path(), Permissions::from_mode(0o777)).expect("permits");
    let link = scene.sibling("link");
    symlink(scene.dir.path(), &link).expect("links");
    let by_link = LockDir::at(&link).port(5338).expect("a port");
    let mut holder = Participant::holding(by_link.path());
    for lock in [&by_link, &scene.lock] {
        let error = lock.try_acquire().expect_err("held");
        let named = error.held().and_then(|held| held.holder.as_ref()).map(|holder| holder.pid);
        assert_eq!(named, Some(holder.pid()), "{error}");
    }
    holder.kill();
    assert!(scene.lock.try_acquire().expect("dead").recovered_from().is_some());
    assert!(link.is_symlink());
    assert_eq!(fs::metadata(scene.dir.path()).expect("exists").mode() & 0o777, 0o777);

    // The target of a dangling link is not created.
    fs::remove_file(&link).expect("removes");
    symlink(scene.sibling("nowhere"), &link).expect("links");
    let before = scene.everything();
    let error = by_link.try_acquire().expect_err("no directory");
    let words = format!("cannot create a lock file in the directory {}", link.display());
    assert_eq!(error.to_string(), words);
    assert!(matches!(by_link.status(), Ok(Status::Free)));
    assert_eq!(scene.everything(), before);
}

#[test]
fn odd_paths_lock_and_nul_is_an_error() {
    let scene = Scene::new();
    for name in ["a\nb.lock", "\u{1b}[31m.lock", " ", "é\u{202e}", &"n".repeat(255)] {
        let lock = Lock::at(scene.dir.path().join(name));
        let guard = lock.try_acquire().expect("free");
        assert!(lock.try_acquire().expect_err("held").is_held());
        guard.release().expect("removes");
    }
    for name in ["a\0b.lock", &"n".repeat(256)] {
        let lock = Lock::at(scene.dir.path().join(name));
        let attempts = [lock.try_acquire().err(), lock.status().err(), lock.clear().err()];
        for error in attempts {
            let said = error.expect("it cannot be a file").to_string();
            assert!(said.starts_with("cannot "), "{said}");
        }
        let BadName(reason) = BadName::of(&scene.dir, name);
        assert!(reason.contains("cannot be a lock's name"), "{reason}");
    }
    for name in ["/", "..", "../x", "a/b", "a\0b", "a\nb", ""] {
        let BadName(reason) = BadName::of(&scene.dir, name);
        let raw = |c: char| c.is_control();
        assert!(reason.contains("cannot be a lock's name") && !reason.contains(raw), "{reason:?}");
        let app = LockDir::home(name).expect_err("no plain name").to_string();
        assert!(!app.contains(raw), "{app:?}");
    }
    assert!(fs::read_dir(scene.dir.path()).expect("reads").next().is_none());
}

struct BadName(String);

impl BadName {
    fn of(dir: &LockDir, name: &str) -> Self {
        Self(dir.name(name).expect_err("no plain name").to_string())
    }
}
