//! Directories of locks on the real filesystem: which directory, what is listed, what is swept.
//!
//! The environment, the user and the limits belong to a whole process, so whatever depends on them
//! runs in a child: this test binary once more, which carries out one order and answers.

#![cfg(unix)]
#![allow(unsafe_code)]
// Some tests are of Linux alone; what only they need is needed nowhere else.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]

mod participant;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime};

use portlock::{AcquireError, Holder, LockDir, LockDirError, LockEntry, Status};

use participant::{Participant, not_checked};

/// Held by tests that expect to be told what is stale: where many kernel locks come and go, a list
/// may have to say that it cannot tell.
static KERNEL_LOCKS: RwLock<()> = RwLock::new(());

fn kernel_locks_stay() -> RwLockReadGuard<'static, ()> {
    KERNEL_LOCKS.read().unwrap_or_else(PoisonError::into_inner)
}

/// A user that nobody is, with no entry in the password file.
const STRANGER: u32 = 54_321;

// ---- list and sweep -----------------------------------------------------------------------------

struct Locks {
    _home: tempfile::TempDir,
    dir: LockDir,
}

impl Locks {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let dir = LockDir::at(home.path().join("locks"));
        fs::DirBuilder::new().mode(0o700).create(dir.path()).expect("creates");
        Self { _home: home, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file as it is left by one who created it a minute ago.
    fn leave(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).expect("writes");
        let file = File::options().write(true).open(self.path(name)).expect("opens");
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).expect("sets the time");
    }

    fn held(&self, name: &str) -> Participant {
        Participant::holding(&self.path(name))
    }

    fn leave_of_dead(&self, name: &str) {
        self.held(name).kill();
    }

    /// All that stands in the directory: kind, permissions, inode, times of change, content.
    fn everything(&self) -> BTreeMap<Vec<u8>, String> {
        let all = fs::read_dir(self.dir.path()).expect("stands").map(|entry| {
            let entry = entry.expect("can be read");
            let found = fs::symlink_metadata(entry.path()).expect("stands");
            let content = if found.is_file() { fs::read(entry.path()).ok() } else { None };
            let times = (found.mtime_nsec(), found.ctime(), found.ctime_nsec());
            let said = format!("{:o} {} {times:?} {content:?}", found.mode(), found.ino());
            (entry.file_name().as_bytes().to_owned(), said)
        });
        all.collect()
    }

    fn list(&self) -> Vec<String> {
        said(&self.dir.list().expect("can be listed"))
    }

    /// `{lock}: removed from …` or `{lock}: stays, …`
    fn sweep(&self) -> Vec<String> {
        swept(&self.dir)
    }
}

/// One line for each: its file and its state in a word.
fn said(listed: &[LockEntry]) -> Vec<String> {
    let line = |listed: &LockEntry| {
        let file = listed.lock.path().file_name().expect("a name").to_string_lossy();
        let state = match &listed.status {
            Ok(Status::Free) => "free".to_owned(),
            Ok(Status::Held { .. }) => "held".to_owned(),
            Ok(Status::Stale { .. }) => "stale".to_owned(),
            Ok(Status::Unknown { reason, .. }) => format!("{reason:?}"),
            Err(AcquireError::NotALockFile { found, .. }) => (*found).to_owned(),
            other => format!("{other:?}"),
        };
        format!("{file}: {state}")
    };
    listed.iter().map(line).collect()
}

fn swept(dir: &LockDir) -> Vec<String> {
    let line = |swept: portlock::SweepOutcome| {
        let file = swept.lock.path().file_name().expect("a name").to_string_lossy().into_owned();
        match swept.removed {
            Ok(from) => format!("{file}: removed, of {}", from.holder.map_or(0, |of| of.pid)),
            Err(AcquireError::NotALockFile { found, .. }) => format!("{file}: stays, {found}"),
            Err(AcquireError::Io { op, source, .. }) => {
                format!("{file}: stays, {op:?}, {:?}", source.kind())
            }
            Err(other) => format!("{file}: stays, {other}"),
        }
    };
    dir.sweep().expect("can be listed").into_iter().map(line).collect()
}

/// Whether a query sees every kernel lock: in the initial pid namespace, on Linux.
fn all_locks_are_seen() -> bool {
    const INITIAL: u64 = 0xEFFF_FFFC;
    fs::metadata("/proc/self/ns/pid").is_ok_and(|ns| ns.ino() == INITIAL)
}

/// "stale", where that can be proved by looking alone.
fn stale() -> &'static str {
    if all_locks_are_seen() { "stale" } else { "CannotWatch" }
}

#[test]
fn list_is_ordered_exact_and_read_only() {
    let _quiet = kernel_locks_stay();
    let locks = Locks::new();
    let _live = [
        locks.held("agent-10.lock"),
        locks.held("agent-9.lock"),
        locks.held("build.lock"),
        locks.held("Zebra.lock"),
    ];
    locks.leave_of_dead("agent-65535.lock");
    locks.leave_of_dead("a.b-c_d.lock");
    locks.leave("agent-1.lock", b"no record");
    locks.leave("agent-2.lock", b"");
    symlink(locks.path("build.lock"), locks.path("agent-3.lock")).expect("links");
    fs::create_dir(locks.path("agent-4.lock")).expect("creates");
    for other in [
        "notes.txt",
        "build",
        ".lock",
        ".hidden.lock",
        "agent-0.lock",
        "agent-007.lock",
        "agent-65536.lock",
        "Agent-9.lock",
        "5338.lock",
        "con.lock",
        "two words.lock",
        "build.lock~",
    ] {
        locks.leave(other, b"");
    }
    fs::write(locks.dir.path().join(OsStr::from_bytes(b"\xff.lock")), b"").expect("writes");

    let before = locks.everything();
    let stale = stale();
    assert_eq!(
        locks.list(),
        [
            &format!("agent-1.lock: {stale}"),
            &format!("agent-2.lock: {stale}"),
            "agent-3.lock: a symbolic link",
            "agent-4.lock: a directory",
            "agent-9.lock: held",
            "agent-10.lock: held",
            &format!("agent-65535.lock: {stale}"),
            "Zebra.lock: held",
            &format!("a.b-c_d.lock: {stale}"),
            "build.lock: held",
        ]
    );
    assert_eq!(locks.everything(), before, "a list changed the directory");
}

#[test]
fn list_agrees_with_the_status_of_each_lock() {
    let _quiet = kernel_locks_stay();
    let locks = Locks::new();
    let holder = locks.held("agent-1.lock");
    locks.leave_of_dead("agent-2.lock");
    locks.leave("build.lock", b"");
    // Held by a child of a dead process: the kernel lock alone tells.
    let mut parent = locks.held("handed-over.lock");
    assert_eq!(parent.tell("hand-over-to-cat"), "spawned");
    parent.kill();

    let listed = locks.dir.list().expect("can be listed");
    assert_eq!(listed.len(), 4);
    for LockEntry { lock, status, .. } in &listed {
        let (listed, asked) = (status.as_ref().expect("is told"), lock.status().expect("is told"));
        assert_eq!(*listed, asked, "{}", lock.path().display());
    }
    let of = |at: usize| listed[at].status.as_ref().expect("is told");
    assert_eq!(of(0).holder().map(|holder| holder.pid), Some(holder.pid()));
    // In a container the locks whose taker is gone are not listed.
    assert!(!all_locks_are_seen() || matches!(of(3), Status::Held { .. }), "{:?}", of(3));
    assert_eq!((listed[0].lock.port(), listed[2].lock.name()), (Some(1), Some("build")));
}

#[test]
fn absent_directory_lists_nothing_non_directory_is_named() {
    let locks = Locks::new();
    let absent = LockDir::at(locks.path("absent"));
    assert!(absent.list().expect("is told").is_empty());
    assert!(absent.sweep().expect("is told").is_empty());
    assert!(!absent.path().exists(), "a list made the directory");

    locks.leave("file", b"");
    let error = LockDir::at(locks.path("file")).list().expect_err("no directory");
    assert_eq!(error.path, locks.path("file"));
    let said = format!("{error:#}");
    assert!(said.starts_with("cannot list the directory "), "{said}");
    assert!(said.contains("\n  next step: move away what is there"), "{said}");
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::NotADirectory);
}

#[test]
fn error_names_the_unreadable_directory() {
    let locks = Locks::new();
    let said = if is_root() {
        fs::set_permissions(locks._home.path(), Permissions::from_mode(0o755)).expect("permits");
        child("list", locks.dir.path()).user(STRANGER).run()
    } else {
        fs::set_permissions(locks.dir.path(), Permissions::from_mode(0o300)).expect("permits");
        child("list", locks.dir.path()).run()
    };
    let path = locks.dir.path().display();
    assert!(said.starts_with(&format!("cannot list the directory {path}: ")), "{said}");
    assert!(said.contains("use a directory that you may read"), "{said}");
}

#[test]
fn sweep_removes_only_what_is_provably_stale() {
    let locks = Locks::new();
    let _live = [locks.held("agent-1.lock"), locks.held("build.lock")];
    let mut dead = locks.held("agent-2.lock");
    dead.kill();
    locks.leave_of_dead("other.lock");
    locks.leave("agent-3.lock", b"no record");
    // Too young to be a dead creator's.
    fs::write(locks.path("agent-4.lock"), b"").expect("writes");
    // An agent of the old format, alive, which takes no kernel lock.
    locks.leave("agent-5.lock", format!(r#"{{"pid":{}}}"#, Participant::start().pid()).as_bytes());
    let live = Participant::start();
    locks.leave("agent-6.lock", format!(r#"{{"pid":{},"port":6}}"#, live.pid()).as_bytes());
    let file = File::options().write(true).open(locks.path("agent-6.lock")).expect("opens");
    file.set_modified(SystemTime::now() + Duration::from_secs(5)).expect("sets the time");
    fs::create_dir(locks.path("agent-7.lock")).expect("creates");
    locks.leave("notes.txt", b"");
    locks.leave("agent-007.lock", b"");

    let removed = locks.sweep();
    assert_eq!(removed.len(), 5, "{removed:?}");
    assert_eq!(removed[0], format!("agent-2.lock: removed, of {}", dead.pid()));
    assert_eq!(removed[1], "agent-3.lock: removed, of 0");
    assert!(removed[2].starts_with("agent-5.lock: removed, of "), "{removed:?}");
    assert_eq!(removed[3], "agent-7.lock: stays, a directory");
    assert!(removed[4].starts_with("other.lock: removed, of "), "{removed:?}");
    let name = |name| String::from_utf8(name).expect("UTF-8");
    let left: Vec<String> = locks.everything().into_keys().map(name).collect();
    let expected = [
        "agent-007.lock",
        "agent-1.lock",
        "agent-4.lock",
        "agent-6.lock",
        "agent-7.lock",
        "build.lock",
        "notes.txt",
    ];
    assert_eq!(left, expected);
    assert_eq!(locks.sweep(), ["agent-7.lock: stays, a directory"]);
}

#[test]
fn sweep_reports_each_failed_removal_and_continues() {
    let locks = Locks::new();
    locks.leave_of_dead("agent-1.lock");
    locks.leave_of_dead("agent-2.lock");
    fs::set_permissions(locks.dir.path(), Permissions::from_mode(0o555)).expect("permits");
    let mut sweeper = child("sweep", locks.dir.path());
    if is_root() {
        fs::set_permissions(locks._home.path(), Permissions::from_mode(0o755)).expect("permits");
        for file in ["agent-1.lock", "agent-2.lock"] {
            fs::set_permissions(locks.path(file), Permissions::from_mode(0o644)).expect("permits");
        }
        sweeper = sweeper.user(STRANGER);
    }
    let said = sweeper.run();
    fs::set_permissions(locks.dir.path(), Permissions::from_mode(0o755)).expect("permits");
    assert_eq!(
        said,
        "agent-1.lock: stays, Unlink, PermissionDenied, agent-2.lock: stays, Unlink, \
         PermissionDenied"
    );
    assert_eq!(locks.sweep().len(), 2);
}

#[test]
#[cfg(target_os = "linux")]
fn sweep_tries_locks_it_cannot_watch() {
    let locks = Locks::new();
    let _live = locks.held("agent-1.lock");
    locks.leave_of_dead("agent-2.lock");
    let inside = |order| {
        let within = ["unshare", "--pid", "--fork", "--mount-proc", "--"];
        child(order, locks.dir.path()).within(&within).try_run()
    };
    match inside("list") {
        Ok(said) => {
            let expected = "agent-1.lock: held, agent-2.lock: CannotWatch";
            // Another container cannot ask after the holder, and sees no kernel lock of outside.
            assert_eq!(said.replace("agent-1.lock: CannotWatch", "agent-1.lock: held"), expected);
        }
        Err(reason) => return not_checked(&format!("no pid namespace can be made here: {reason}")),
    }
    let said = inside("sweep").expect("it could before");
    assert!(said.starts_with("agent-2.lock: removed, of "), "{said}");
    assert!(locks.path("agent-1.lock").exists());
    assert!(!locks.path("agent-2.lock").exists());
}

/// The kernel gives out its list of locks in pieces, between which it moves.
#[test]
fn lock_churn_hides_no_held_lock() {
    let _alone = KERNEL_LOCKS.write().unwrap_or_else(PoisonError::into_inner);
    let locks = Locks::new();
    // Held by ourselves: only the kernel lock tells such a lock from a leftover.
    let port = |port| locks.dir.port(port).expect("a port");
    let _held: Vec<_> = (1..=300).map(|at| port(at).try_acquire().expect("free")).collect();
    let finished = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for at in [1001, 1002] {
            let (lock, finished) = (port(at), &finished);
            scope.spawn(move || {
                while !finished.load(SeqCst) {
                    drop(lock.try_acquire().expect("free"));
                }
            });
        }
        for _ in 0..40 {
            let listed = said(&locks.dir.list().expect("can be listed"));
            let wrong =
                listed.iter().find(|said| said.ends_with("stale") || said.ends_with("free"));
            if wrong.is_some() {
                finished.store(true, SeqCst);
            }
            assert_eq!(wrong, None);
            assert!(listed.len() >= 300, "{listed:?}");
        }
        finished.store(true, SeqCst);
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_lack_of_descriptors_changes_no_answer() {
    let _quiet = kernel_locks_stay();
    let locks = Locks::new();
    let live = locks.held("held.lock");
    // Its number was given out again, which only /proc tells, for which it takes a descriptor.
    let mut reused = Holder::parse(&fs::read(locks.path("held.lock")).expect("stands"));
    reused.as_mut().expect("a record").process_start = Some(1);
    for at in 1..=100 {
        let record = reused.as_ref().expect("a record").to_bytes();
        locks.leave(&format!("agent-{at}.lock"), &record);
    }
    let expected = locks.list();
    assert_eq!(expected.iter().filter(|said| said.ends_with(stale())).count(), 100);
    assert_eq!(expected.len(), 101);
    // Three are enough for one file: itself, and two for what else must be looked at.
    for left in (3..32).chain([60, 120]) {
        let said = child("list", locks.dir.path()).leaving(left).run();
        assert_eq!(said, expected.join(", "), "with {left} descriptors");
    }
    drop(live);
}

// ---- which directory ----------------------------------------------------------------------------

/// A home directory, a runtime directory and one for temporary files, which a child is told of.
struct Environment {
    all: tempfile::TempDir,
}

impl Environment {
    fn new() -> Self {
        let all = tempfile::tempdir().expect("a directory");
        fs::set_permissions(all.path(), Permissions::from_mode(0o755)).expect("permits");
        for (name, mode) in [("home", 0o755), ("run", 0o700), ("tmp", 0o700)] {
            fs::DirBuilder::new().mode(mode).create(all.path().join(name)).expect("creates");
        }
        Self { all }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.all.path().join(name)
    }

    fn permit(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).expect("permits");
    }

    fn mode(&self, name: &str) -> u32 {
        fs::symlink_metadata(self.path(name)).expect("stands").mode() & 0o7777
    }

    /// A child without `PORTLOCK_DIR` and `XDG_RUNTIME_DIR`.
    fn child(&self, order: &str) -> Child {
        child(order, self.all.path())
            .env("HOME", Some(&self.path("home")))
            .env("TMPDIR", Some(&self.path("tmp")))
            .env("XDG_RUNTIME_DIR", None::<&str>)
            .env("PORTLOCK_DIR", None::<&str>)
    }

    /// One whose home directory cannot be made, not even by root.
    fn homeless(&self, order: &str) -> Child {
        self.child(order).env("HOME", Some("/dev/null/home"))
    }

    fn temporary(&self) -> PathBuf {
        self.path(&self.temporary_name())
    }

    fn temporary_name(&self) -> String {
        format!("tmp/portlock-{}", our_id())
    }

    fn entries(&self, of: &str) -> usize {
        fs::read_dir(self.path(of)).expect("stands").count()
    }
}

#[test]
fn s15_directory_is_from_environment_or_home() {
    let all = Environment::new();
    let home = all.path("home/.percy").display().to_string();
    let named = all.path("named").display().to_string();
    for order in ["user", "user-or-fallback"] {
        assert_eq!(all.child(order).run(), home);
        assert_eq!(all.child(order).env("PORTLOCK_DIR", Some("")).run(), home);
        assert_eq!(all.child(order).env("PORTLOCK_DIR", Some(&named)).run(), named);
        // Counts from the working directory.
        assert_eq!(all.child(order).env("PORTLOCK_DIR", Some("named")).run(), named);
    }
    let taken = all.child("acquire-5338").env("PORTLOCK_DIR", Some(&named)).run();
    assert_eq!(taken, format!("{named}/agent-5338.lock"));
    assert_eq!(all.child("acquire-5338").run(), format!("{home}/agent-5338.lock"));
    assert_eq!([all.entries("run"), all.entries("tmp")], [0, 0], "nobody asked for those");
}

#[test]
fn ambiguous_directory_in_environment_is_an_error() {
    let all = Environment::new();
    for order in ["user", "user-or-fallback"] {
        for (variable, value, words) in [
            ("PORTLOCK_DIR", "~/locks", "and only a shell expands '~'"),
            ("PORTLOCK_DIR", "~", "and only a shell expands '~'"),
            ("PORTLOCK_DIR", "~me/locks", "and only a shell expands '~'"),
            ("HOME", "home", "which is not a path from the root"),
            ("HOME", "~/home", "and only a shell expands '~'"),
        ] {
            let said = all.child(order).env(variable, Some(value)).run();
            let advice = format!("set {variable} to a path from the root");
            assert_eq!(said, format!("{variable} is {value:?}, {words}; {advice}"));
        }
    }
    assert_eq!(all.entries("tmp"), 0, "it is not fallen back from");
}

#[test]
#[cfg(target_os = "linux")]
fn relative_directory_needs_a_working_directory() {
    let all = Environment::new();
    assert_eq!(
        all.child("at-a-lost-place").run(),
        "\"\" counts from the working directory, which cannot be found out; name the directory by \
         its path from the root"
    );
}

#[test]
fn directory_named_by_environment_never_falls_back() {
    let all = Environment::new();
    let named = "/dev/null/named";
    let child = all.homeless("user-or-fallback").env("PORTLOCK_DIR", Some(named));
    assert_eq!(child.run(), named);
    assert_eq!(all.entries("tmp"), 0);
}

#[test]
fn unwritable_home_falls_back_to_runtime_directory() {
    let all = Environment::new();
    let run = Some(all.path("run"));
    let stands_in = all.path("run/portlock").display().to_string();
    for _ in 0..2 {
        let said = all.homeless("user-or-fallback").env("XDG_RUNTIME_DIR", run.as_ref()).run();
        let reason = "no lock file can be made in /dev/null/home/.percy: Not a directory (";
        assert!(said.starts_with(&format!("{stands_in} instead: {reason}")), "{said}");
        assert_eq!(all.mode("run/portlock"), 0o700);
    }
    // The command and the library's short form keep to the user's own: it is opt-in.
    assert_eq!(all.homeless("user").run(), "/dev/null/home/.percy");
    // One that others may look into is no runtime directory.
    all.permit("run", 0o755);
    let said = all.homeless("user-or-fallback").env("XDG_RUNTIME_DIR", run.as_ref()).run();
    assert!(said.starts_with(&format!("{} instead: ", all.temporary().display())), "{said}");
    // Neither is one that is not there, or that is named from no root.
    for other in ["/dev/null/run", "run"] {
        let said = all.homeless("user-or-fallback").env("XDG_RUNTIME_DIR", Some(other)).run();
        assert!(said.starts_with(&format!("{} instead: ", all.temporary().display())), "{said}");
    }
}

#[test]
fn temporary_directory_fallback_is_private() {
    let all = Environment::new();
    let stands_in = all.temporary().display().to_string();
    // As /tmp is.
    all.permit("tmp", 0o1777);
    for _ in 0..2 {
        let said = all.homeless("user-or-fallback").run();
        assert!(said.starts_with(&format!("{stands_in} instead: ")), "{said}");
        assert_eq!(all.mode(&all.temporary_name()), 0o700);
    }
    // Nothing to fall back from.
    let home = all.path("home/.percy").display().to_string();
    assert_eq!(all.child("user-or-fallback").run(), home);
    assert_eq!(all.entries("home"), 0, "a question made the directory");
}

#[test]
fn s15_unwritable_home_directory_falls_back() {
    let all = Environment::new();
    all.permit("tmp", 0o1777);
    all.permit("home", 0o555);
    let (user, id) = if is_root() { (Some(STRANGER), STRANGER) } else { (None, our_id()) };
    let asked = || {
        let child = all.child("user-or-fallback");
        if let Some(user) = user { child.user(user) } else { child }
    };
    let stands_in = all.path(&format!("tmp/portlock-{id}")).display().to_string();
    let home = all.path("home/.percy").display().to_string();
    let reason = format!("no lock file can be made in {home}: Permission denied (");
    let said = asked().run();
    assert!(said.starts_with(&format!("{stands_in} instead: {reason}")), "{said}");

    // The directory itself counts, where it is there; else the nearest above it.
    all.permit("home", 0o755);
    fs::create_dir(all.path("home/.percy")).expect("creates");
    all.permit("home/.percy", 0o555);
    assert!(asked().run().starts_with(&format!("{stands_in} instead: ")));
    all.permit("home/.percy", 0o777);
    assert_eq!(asked().run(), home);
    fs::remove_dir(all.path("home/.percy")).expect("removes");

    // A file or a link to nowhere stands in the way of a directory.
    fs::write(all.path("home/.percy"), b"").expect("writes");
    all.permit("home/.percy", 0o777);
    assert!(asked().run().contains("instead: "));
    fs::remove_file(all.path("home/.percy")).expect("removes");
    symlink("nowhere", all.path("home/.percy")).expect("links");
    assert!(asked().run().contains("instead: "));
}

#[test]
fn s15_missing_home_falls_back_only_when_allowed() {
    if !is_root() {
        return not_checked("a user without a home directory: it takes root to become one");
    }
    let all = Environment::new();
    all.permit("tmp", 0o1777);
    let stranger = |order| all.child(order).env("HOME", None::<&str>).user(STRANGER);
    let said = stranger("user").run();
    assert!(said.starts_with("there is no home directory; set HOME"), "{said}");
    let said = stranger("user-or-fallback").run();
    let stands_in = all.path(&format!("tmp/portlock-{STRANGER}"));
    assert!(
        said.starts_with(&format!("{} instead: there is no home", stands_in.display())),
        "{said}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn home_on_read_only_filesystem_falls_back() {
    let all = Environment::new();
    let home = all.path("home").display().to_string();
    let mounted = format!(
        "mount --bind '{home}' '{home}' && mount -o remount,ro,bind '{home}' && exec \"$0\" \"$@\""
    );
    let within = ["unshare", "--mount", "--", "sh", "-c", &mounted];
    match all.child("user-or-fallback").within(&within).try_run() {
        Ok(said) => assert!(said.contains(": Read-only file system ("), "{said}"),
        Err(reason) => not_checked(&format!("nothing can be mounted here: {reason}")),
    }
}

#[test]
fn unsafe_fallback_directory_is_refused_and_left_alone() {
    let all = Environment::new();
    let name = all.temporary_name();
    let refused = |reason: &str| {
        let said = all.homeless("user-or-fallback").run();
        let expected = format!("{} is not safe: {reason}; ", all.temporary().display());
        assert!(said.starts_with(&expected), "{said}");
    };

    fs::create_dir(all.path("tmp/other")).expect("creates");
    symlink("other", all.temporary()).expect("links");
    refused("it is a symbolic link");
    assert_eq!(fs::read_link(all.temporary()).expect("a link"), Path::new("other"));
    fs::remove_file(all.temporary()).expect("removes");

    fs::write(all.temporary(), b"a file").expect("writes");
    refused("it is not a directory");
    assert_eq!(fs::read(all.temporary()).expect("stands"), b"a file");
    fs::remove_file(all.temporary()).expect("removes");

    fs::create_dir(all.temporary()).expect("creates");
    for mode in [0o770, 0o707, 0o722] {
        all.permit(&name, mode);
        refused("others may write to it");
        assert_eq!(all.mode(&name), mode, "it is not repaired");
    }
    all.permit(&name, 0o755);
    assert!(all.homeless("user-or-fallback").run().contains("instead: "), "the control");

    if is_root() {
        chown(all.temporary(), Some(STRANGER), None).expect("root may");
        refused("it belongs to another user");
    } else {
        not_checked("a directory of another user: it takes root to make one");
    }
}

#[test]
fn fallback_avoids_directories_others_can_replace() {
    let all = Environment::new();
    for mode in [0o777, 0o770] {
        all.permit("tmp", mode);
        let said = all.homeless("user-or-fallback").run();
        assert!(said.contains(" is not safe: others can replace it; "), "{said}");
        assert_eq!(all.entries("tmp"), 0);
    }
}

#[test]
fn named_lock_records_no_port() {
    let locks = Locks::new();
    let lock = locks.dir.name("build").expect("a name");
    let guard = lock.try_acquire().expect("free");
    assert_eq!(guard.path(), locks.path("build.lock"));
    assert_eq!(guard.holder().port, None);
    let refused = lock.try_acquire().expect_err("it is held").to_string();
    assert!(refused.starts_with("lock build is locked by pid "), "{refused}");
    guard.release().expect("is ours");
    let place: AcquireError = locks.dir.name("5338").expect_err("a port").into();
    assert!(matches!(place, AcquireError::LockDir(LockDirError::Name { .. })));
}

// ---- the child ----------------------------------------------------------------------------------

const ORDER: &str = "PORTLOCK_TEST_ORDER";
const DIR: &str = "PORTLOCK_TEST_DIR";
const USER: &str = "PORTLOCK_TEST_USER";
const LEAVING: &str = "PORTLOCK_TEST_LEAVING";
const ANSWER: &str = "answer: ";

struct Child {
    command: Command,
}

/// This test binary with an order about `dir`, which is its working directory.
fn child(order: &str, dir: &Path) -> Child {
    let binary = std::env::current_exe().expect("the test binary has a path");
    let mut command = Command::new(binary);
    command.args(["a_child_carries_out_its_order", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(ORDER, order).env(DIR, dir).current_dir(dir);
    Child { command }
}

impl Child {
    fn env(mut self, name: &str, value: Option<impl AsRef<OsStr>>) -> Self {
        match value {
            Some(value) => self.command.env(name, value),
            None => self.command.env_remove(name),
        };
        self
    }

    /// It becomes this user, which takes root.
    fn user(self, id: u32) -> Self {
        self.env(USER, Some(id.to_string()))
    }

    /// It can open so many files more.
    fn leaving(self, descriptors: usize) -> Self {
        self.env(LEAVING, Some(descriptors.to_string()))
    }

    /// It is run by this command.
    fn within(self, command: &[&str]) -> Self {
        let mut outer = Command::new(command[0]);
        outer.args(&command[1..]).arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => outer.env(name, value),
                None => outer.env_remove(name),
            };
        }
        if let Some(dir) = self.command.get_current_dir() {
            outer.current_dir(dir);
        }
        Self { command: outer }
    }

    fn run(self) -> String {
        self.try_run().expect("it answers")
    }

    fn try_run(mut self) -> Result<String, String> {
        let output = self.command.output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let answer = said.lines().find_map(|line| line.split_once(ANSWER));
        let lost = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
        answer.map(|(_, answer)| answer.to_owned()).ok_or_else(lost)
    }
}

#[test]
fn a_child_carries_out_its_order() {
    let (Some(order), Some(dir)) = (std::env::var_os(ORDER), std::env::var_os(DIR)) else {
        assert_eq!(child("dance", Path::new("/")).run(), "no such order");
        return;
    };
    if let Some(id) = std::env::var_os(USER) {
        become_user(id.to_str().and_then(|id| id.parse().ok()).expect("a number"));
    }
    let left = std::env::var_os(LEAVING);
    let taken = left.map(|left| {
        take_all_descriptors_but(left.to_str().and_then(|left| left.parse().ok()).expect("number"))
    });
    let said = carried_out(&order.to_string_lossy(), &LockDir::at(dir));
    drop(taken);
    println!("{ANSWER}{said}");
}

fn carried_out(order: &str, dir: &LockDir) -> String {
    let path = |dir: Result<LockDir, LockDirError>| match dir {
        Ok(dir) => match dir.instead_of() {
            Some(reason) => format!("{} instead: {}", dir.path().display(), in_one_line(reason)),
            None => dir.path().display().to_string(),
        },
        Err(error) => in_one_line(&error),
    };
    match order {
        "list" => match dir.list() {
            Ok(listed) => said(&listed).join(", "),
            Err(error) => in_one_line(&error),
        },
        "sweep" => swept(dir).join(", "),
        "user" => path(LockDir::user()),
        "user-or-fallback" => path(LockDir::user_or_fallback()),
        "acquire-5338" => {
            let guard = portlock::try_acquire(5338).expect("free");
            let path = guard.path().display().to_string();
            guard.release().expect("is ours");
            path
        }
        "at-a-lost-place" => {
            let lost = tempfile::tempdir().expect("a directory");
            std::env::set_current_dir(lost.path()).expect("enters");
            lost.close().expect("removes");
            let here = LockDir::at("");
            here.list().expect_err("no place to list");
            in_one_line(&here.port(5338).expect_err("no place for a lock"))
        }
        _ => "no such order".to_owned(),
    }
}

/// An error with its cause and the next step: an answer has one line.
fn in_one_line(error: &dyn std::error::Error) -> String {
    format!("{error:#}").replace("\n  next step: ", "; ")
}

fn become_user(id: u32) {
    // SAFETY: the calls take numbers and a length of zero.
    let became = unsafe {
        libc::setgroups(0, std::ptr::null()) == 0 && libc::setgid(id) == 0 && libc::setuid(id) == 0
    };
    assert!(became, "{}", std::io::Error::last_os_error());
}

/// Lowers the limit, so that few have to be taken.
fn take_all_descriptors_but(left: usize) -> Vec<File> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid pointer.
    let lowered = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = 256;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit)
    };
    assert_eq!(lowered, 0, "{}", std::io::Error::last_os_error());
    let mut taken: Vec<File> =
        std::iter::from_fn(|| File::open("/dev/null").ok()).take(256).collect();
    assert!(taken.len() > left, "so many are not free");
    taken.truncate(taken.len() - left);
    taken
}

fn is_root() -> bool {
    our_id() == 0
}

fn our_id() -> u32 {
    // SAFETY: geteuid only returns a number.
    unsafe { libc::geteuid() }
}
