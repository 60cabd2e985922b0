//! The locks of a directory: list and sweep.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime};

use portlock::{AcquireError, Holder, LockDir, LockDirError, LockEntry, Status};

use crate::child::child;
use crate::participant::{Participant, not_checked, set_modified};
use crate::{STRANGER, is_root};

/// Held by tests that expect stale locks to be reported as stale: while many kernel locks change, a
/// list may report them as unknown.
static KERNEL_LOCKS: RwLock<()> = RwLock::new(());

fn without_lock_churn() -> RwLockReadGuard<'static, ()> {
    KERNEL_LOCKS.read().unwrap_or_else(PoisonError::into_inner)
}

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

    /// A file as left by a process that created it a minute ago.
    fn leave(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).expect("writes");
        set_modified(&self.path(name), SystemTime::now() - Duration::from_secs(60));
    }

    fn held(&self, name: &str) -> Participant {
        Participant::holding(&self.path(name))
    }

    fn leave_of_dead(&self, name: &str) {
        self.held(name).kill();
    }

    /// All entries of the directory: kind, permissions, inode, times of change, content.
    fn everything(&self) -> BTreeMap<Vec<u8>, String> {
        let all = fs::read_dir(self.dir.path()).expect("exists").map(|entry| {
            let entry = entry.expect("can be read");
            let found = fs::symlink_metadata(entry.path()).expect("exists");
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

/// One line for each: its file and its state.
pub(super) fn said(listed: &[LockEntry]) -> Vec<String> {
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

pub(super) fn swept(dir: &LockDir) -> Vec<String> {
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

/// Whether a query can see every kernel lock: in the initial pid namespace, on Linux.
fn all_locks_are_seen() -> bool {
    const INITIAL: u64 = 0xEFFF_FFFC;
    fs::metadata("/proc/self/ns/pid").is_ok_and(|ns| ns.ino() == INITIAL)
}

/// The state of a stale lock: "stale", where a query can prove that.
fn stale() -> &'static str {
    if all_locks_are_seen() { "stale" } else { "CannotWatch" }
}

#[test]
fn list_is_ordered_exact_and_read_only() {
    let _quiet = without_lock_churn();
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
    let _quiet = without_lock_churn();
    let locks = Locks::new();
    let holder = locks.held("agent-1.lock");
    locks.leave_of_dead("agent-2.lock");
    locks.leave("build.lock", b"");
    // Held by a child of a dead process: only the kernel lock shows that.
    let mut parent = locks.held("handed-over.lock");
    assert_eq!(parent.request("pass-to-cat"), "spawned");
    parent.kill();

    let listed = locks.dir.list().expect("can be listed");
    assert_eq!(listed.len(), 4);
    for LockEntry { lock, status, .. } in &listed {
        let (listed, queried) =
            (status.as_ref().expect("a status"), lock.status().expect("a status"));
        assert_eq!(*listed, queried, "{}", lock.path().display());
    }
    let of = |at: usize| listed[at].status.as_ref().expect("a status");
    assert_eq!(of(0).holder().map(|holder| holder.pid), Some(holder.pid()));
    // In a container /proc/locks omits locks whose taker has ended.
    assert!(!all_locks_are_seen() || matches!(of(3), Status::Held { .. }), "{:?}", of(3));
    assert_eq!((listed[0].lock.port(), listed[2].lock.name()), (Some(1), Some("build")));
}

#[test]
fn absent_directory_lists_nothing_non_directory_is_named() {
    let locks = Locks::new();
    let absent = LockDir::at(locks.path("absent"));
    assert!(absent.list().expect("a status").is_empty());
    assert!(absent.sweep().expect("a status").is_empty());
    assert!(!absent.path().exists(), "a list created the directory");

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
    // Too recent for a dead creator's.
    fs::write(locks.path("agent-4.lock"), b"").expect("writes");
    // Legacy agents, which take no kernel lock: one dead, one live.
    locks.leave("agent-5.lock", format!(r#"{{"pid":{}}}"#, Participant::start().pid()).as_bytes());
    let live = Participant::start();
    locks.leave("agent-6.lock", format!(r#"{{"pid":{},"port":6}}"#, live.pid()).as_bytes());
    set_modified(&locks.path("agent-6.lock"), SystemTime::now() + Duration::from_secs(5));
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
            // Another container cannot probe the holder, and sees no outer kernel lock.
            assert_eq!(said.replace("agent-1.lock: CannotWatch", "agent-1.lock: held"), expected);
        }
        Err(reason) => return not_checked(&format!("no pid namespace can be made here: {reason}")),
    }
    let said = inside("sweep").expect("it worked before");
    assert!(said.starts_with("agent-2.lock: removed, of "), "{said}");
    assert!(locks.path("agent-1.lock").exists());
    assert!(!locks.path("agent-2.lock").exists());
}

/// The kernel's list of locks is read in pieces, between which it changes.
#[test]
fn lock_churn_hides_no_held_lock() {
    let _alone = KERNEL_LOCKS.write().unwrap_or_else(PoisonError::into_inner);
    let locks = Locks::new();
    // Held by this process: only the kernel lock distinguishes such a lock from a leftover.
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

/// What `look` returns as it `is_so`, or else the fiftieth time: another process may take and release
/// so many locks that the kernel's list shows one in none of the looks at it.
#[cfg(target_os = "linux")]
fn settled<T>(look: impl Fn() -> T, is_so: impl Fn(&T) -> bool) -> T {
    let mut seen = look();
    for _ in 1..50 {
        if is_so(&seen) {
            break;
        }
        seen = look();
    }
    seen
}

#[test]
#[cfg(target_os = "linux")]
fn descriptor_shortage_changes_no_status() {
    let _quiet = without_lock_churn();
    let locks = Locks::new();
    let live = locks.held("held.lock");
    // Its pid was reused, which only /proc shows, and reading it takes a descriptor.
    let mut reused = Holder::parse(&fs::read(locks.path("held.lock")).expect("exists"));
    reused.as_mut().expect("a record").process_start = Some(1);
    for at in 1..=100 {
        let record = reused.as_ref().expect("a record").to_bytes();
        locks.leave(&format!("agent-{at}.lock"), &record);
    }
    let are_stale =
        |listed: &Vec<String>| listed.iter().filter(|said| said.ends_with(stale())).count() == 100;
    let expected = settled(|| locks.list(), are_stale);
    assert!(are_stale(&expected) && expected.len() == 101, "{expected:?}");
    let expected = expected.join(", ");
    // Three are enough for one file: the file itself, and two for evidence.
    for left in (3..32).chain([60, 120]) {
        let list = || child("list", locks.dir.path()).leaving(left).run();
        let said = settled(list, |said| *said == expected);
        assert_eq!(said, expected, "with {left} descriptors");
    }
    drop(live);
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
    guard.release().expect("held");
    let place: AcquireError = locks.dir.name("5338").expect_err("a port").into();
    assert!(matches!(place, AcquireError::LockDir(LockDirError::Name { .. })));
}
