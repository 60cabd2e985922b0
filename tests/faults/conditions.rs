//! Conditions that are real, or that strace answers throughout: full and read-only filesystems, no
//! kernel locks, no descriptors.

use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use portlock::{Lock, LockDir};

use crate::participant::{Participant, must_return, not_checked, this_test_binary};
use crate::scenarios::Stage;
use crate::strace_is_there;

/// A directory on a filesystem of its own, which only one process sees, and we by way of that one.
struct Mounted {
    process: Child,
    dir: PathBuf,
    _outer: tempfile::TempDir,
}

impl Mounted {
    /// `script` mounts something on `$DIR`. `None` where nothing can be mounted, which is said.
    fn by(script: &str) -> Option<Self> {
        let outer = tempfile::tempdir().expect("a directory");
        let dir = outer.path().join("locks");
        fs::create_dir(&dir).expect("creates");
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--", "sh", "-c", &format!("{script} && echo there && exec cat")]);
        unshare.env("DIR", &dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = unshare.spawn().ok()?;
        let mut said = String::new();
        let out = process.stdout.take().expect("a pipe");
        must_return("the mount", || BufReader::new(out).read_line(&mut said)).expect("text");
        if said != "there\n" {
            process.wait().expect("ours");
            not_checked("a filesystem of our own: nothing can be mounted here; it takes root");
            return None;
        }
        let dir = PathBuf::from(format!("/proc/{}/root{}", process.id(), dir.display()));
        Some(Self { process, dir, _outer: outer })
    }

    /// By the path that everybody sees.
    fn outside(&self) -> PathBuf {
        self._outer.path().join("locks")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // It ends with its input, and the mount with it.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// The operation failed with this error of the system, and its message names operation and path.
fn is_told(error: &dyn Error, words: &str, path: &Path, code: i32) {
    let message = error.to_string();
    assert_eq!(message, format!("{words} {}", path.display()), "the cause is its source");
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    assert_eq!(source.and_then(io::Error::raw_os_error), Some(code), "{message}");
}

/// A participant of whom each such call on `path` is answered by strace, and not made.
fn answered_by_strace(path: &Path, inject: &str) -> Participant {
    let call = inject.split(':').next().expect("a name");
    let binary = this_test_binary();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(path);
    strace.args(["-e", &format!("trace={call}"), "-e", &format!("inject={inject}")]);
    strace.arg(binary.get_program()).args(binary.get_args());
    for (key, value) in binary.get_envs() {
        strace.env(key, value.expect("set"));
    }
    Participant::start_as(strace)
}

#[test]
fn without_kernel_locks_the_exclusive_create_excludes() {
    if !strace_is_there("calls that fail") {
        return;
    }
    for error in ["EOPNOTSUPP", "ENOSYS"] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.lock");
        let start = || answered_by_strace(&path, &format!("flock:error={error}"));
        let (mut holder, mut rival) = (start(), start());
        assert_eq!(holder.try_acquire(&path), "held", "{error}");
        assert_eq!(holder.tell("guarantee"), "ExclusiveCreate");
        assert!(!fs::read_to_string(&path).expect("its record").contains("kernelLock"));
        assert!(rival.try_acquire(&path).starts_with("refused, "));
        holder.end("abort");
        // Nothing proves its death without a race.
        assert!(rival.try_acquire(&path).starts_with("refused, "));
        assert!(fs::exists(&path).expect("looks"));
    }
}

/// One that went on without a lock next to one that has it would break the exclusion.
#[test]
fn passing_lack_of_locks_is_an_error() {
    if !strace_is_there("calls that fail") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.lock");
    let said = answered_by_strace(&path, "flock:error=ENOLCK").try_acquire(&path);
    assert!(said.starts_with("failed, Lock, "), "{said}");
}

#[test]
fn short_write_is_a_failure_that_leaves_nothing() {
    if !strace_is_there("calls that fail") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.lock");
    let mut writer = answered_by_strace(&path, "write:retval=10");
    assert_eq!(writer.try_acquire(&path), "failed, Write, StorageFull");
    assert!(!fs::exists(&path).expect("looks"));
}

#[test]
fn full_filesystem_is_reported_and_cleaned_up() {
    let script = "mount -t tmpfs -o size=64k none \"$DIR\" && \
                  ! head -c 1000000 /dev/zero 2>/dev/null > \"$DIR/fill\"";
    let Some(mounted) = Mounted::by(script) else { return };
    let lock = LockDir::at(&mounted.dir).port(5338).expect("a port");
    for _ in 0..3 {
        let error = lock.try_acquire().expect_err("no room for a record");
        is_told(&error, "cannot write the record to", lock.path(), libc::ENOSPC);
        assert!(error.next_step().contains("free some space"), "{error:#}");
        assert!(!fs::exists(lock.path()).expect("looks"), "the new file is gone");
    }
    // Space that is freed makes it work at once.
    fs::remove_file(mounted.dir.join("fill")).expect("removes");
    let guard = lock.try_acquire().expect("free");
    // A release needs no space.
    let rest = fs::write(mounted.dir.join("fill"), vec![0; 1_000_000]).expect_err("full");
    assert_eq!(rest.raw_os_error(), Some(libc::ENOSPC), "the control");
    guard.release().expect("removes");
}

#[test]
fn missing_free_inode_is_reported() {
    let script = "mount -t tmpfs -o nr_inodes=2 none \"$DIR\" && : > \"$DIR/last\"";
    let Some(mounted) = Mounted::by(script) else { return };
    let lock = LockDir::at(&mounted.dir).port(5338).expect("a port");
    let error = lock.try_acquire().expect_err("no inode");
    let words = "cannot create a lock file in the directory";
    is_told(&error, words, &mounted.dir, libc::ENOSPC);
    fs::remove_file(mounted.dir.join("last")).expect("removes");
    lock.try_acquire().expect("free").release().expect("removes");
}

#[test]
fn read_only_mount_allows_queries_only() {
    let script = "mount --bind \"$DIR\" \"$DIR\" && mount -o remount,ro,bind \"$DIR\"";
    let Some(mounted) = Mounted::by(script) else { return };
    let within = LockDir::at(&mounted.dir).port(5338).expect("a port");
    let outside = LockDir::at(mounted.outside()).port(5338).expect("a port");
    let error = within.try_acquire().expect_err("read only");
    let words = "cannot create a lock file in the directory";
    is_told(&error, words, &mounted.dir, libc::EROFS);

    let mut holder = Participant::holding(outside.path());
    let error = within.try_acquire().expect_err("held");
    let held = error.held().unwrap_or_else(|| panic!("{error}"));
    assert_eq!(held.holder.as_ref().map(|holder| holder.pid), Some(holder.pid()));

    // A dead one's cannot be removed there, and nobody is kept out where it can.
    holder.kill();
    let error = within.try_acquire().expect_err("read only");
    is_told(&error, "cannot remove", within.path(), libc::EROFS);
    let error = within.clear().expect_err("read only");
    is_told(&error, "cannot remove", within.path(), libc::EROFS);
    let guard = outside.try_acquire().expect("its holder is dead");
    assert!(guard.recovered_from().is_some());
}

/// A sticky directory, as /tmp: what another user left may be opened by all and removed by nobody.
#[test]
fn unremovable_stale_file_is_reported_and_stays() {
    use std::os::unix::fs::PermissionsExt;
    // SAFETY: geteuid only returns a number.
    if unsafe { libc::geteuid() } != 0 {
        return not_checked("another user's directory: it takes root to become another user");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let permit = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permits");
    };
    permit(dir.path(), 0o1777);
    let path = dir.path().join("x.lock");
    let mut dead = Participant::holding(&path);
    dead.kill();
    permit(&path, 0o666);
    let before = fs::read(&path).expect("stands");
    let mut other = Participant::start();
    assert_eq!(other.tell("become-user 65534"), "done");
    assert_eq!(other.try_acquire(&path), "failed, Unlink, PermissionDenied");
    let said = other.tell(&format!("clear {}", path.display()));
    assert_eq!(said, format!("failed, cannot remove {}", path.display()));
    assert_eq!(fs::read(&path).expect("stands"), before);
    permit(dir.path(), 0o700);
    assert_eq!(other.try_acquire(&path), "failed, Create, PermissionDenied");
    let guard = Lock::at(&path).try_acquire().expect("its owner may remove it");
    assert!(guard.recovered_from().is_some());
}

/// Asked for the first time without a free descriptor, a process does not know its boot, nor when
/// it started. That must not stay so.
#[test]
fn descriptor_exhaustion_is_reported_and_recoverable() {
    let mut stage = Stage::untraced();
    let path = stage.dir.path().join("locks/x.lock");
    let whole: serde_json::Value = serde_json::from_slice(&stage.dead).expect("JSON");
    let mut tell = |order: &str| {
        stage.order(order);
        stage.answer()
    };
    let acquire = format!("try {}", path.display());
    tell("fork");
    for _ in 0..3 {
        assert_eq!(tell("limit 0"), "limited");
        let said = tell(&acquire);
        let words = format!(
            "failed\t{}\tcannot create a lock file in the directory {}",
            libc::EMFILE,
            path.parent().expect("a directory").display()
        );
        assert_eq!(said, words);
        assert!(!fs::exists(&path).expect("looks"));
        assert_eq!(tell("limit 1024"), "limited");
        assert_eq!(tell(&acquire), "held");
        let record = fs::read(&path).expect("stands");
        let record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
        for key in ["boot", "host", "pidNamespace"] {
            assert_eq!(record[key], whole[key], "{record}");
        }
        assert!(record["processStart"].is_u64(), "{record}");
        // The release needs none.
        assert_eq!(tell("limit 0"), "limited");
        assert_eq!(tell("release"), "released");
    }
    assert_eq!(tell("end"), "ended 0");
}
