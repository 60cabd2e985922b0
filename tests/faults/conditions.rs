//! Real or injected conditions: full and read-only filesystems, no kernel locks, no descriptors.

use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use portlock::{Lock, LockDir};

use crate::participant::{Participant, must_return, not_checked};
use crate::scenarios::Harness;
use crate::strace_is_there;

/// A directory on a filesystem that is mounted in one process's namespace, reached through /proc.
struct Mounted {
    process: Child,
    dir: PathBuf,
    _outer: tempfile::TempDir,
}

impl Mounted {
    /// `script` mounts a filesystem on `$DIR`. `None`, reported as not checked, where it cannot.
    fn by(script: &str) -> Option<Self> {
        let outer = tempfile::tempdir().expect("a directory");
        let dir = outer.path().join("locks");
        fs::create_dir(&dir).expect("creates");
        let mut unshare = Command::new("unshare");
        unshare.args([
            "--mount",
            "--",
            "sh",
            "-c",
            &format!("{script} && echo mounted && exec cat"),
        ]);
        unshare.env("DIR", &dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = unshare.spawn().ok()?;
        let mut said = String::new();
        let out = process.stdout.take().expect("a pipe");
        must_return("the mount", || BufReader::new(out).read_line(&mut said)).expect("text");
        if said != "mounted\n" {
            process.wait().expect("ours");
            not_checked("a separate filesystem: mounting takes root");
            return None;
        }
        let dir = PathBuf::from(format!("/proc/{}/root{}", process.id(), dir.display()));
        Some(Self { process, dir, _outer: outer })
    }

    /// The directory outside the mount namespace.
    fn outside(&self) -> PathBuf {
        self._outer.path().join("locks")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The process ends with its input, and its mount with it.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Asserts that the operation failed with this system error, and names operation and path.
fn assert_error(error: &dyn Error, operation: &str, path: &Path, code: i32) {
    let message = error.to_string();
    assert_eq!(message, format!("{operation} {}", path.display()), "the cause is its source");
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    assert_eq!(source.and_then(io::Error::raw_os_error), Some(code), "{message}");
}

/// A participant whose calls on `path` of one name are answered by strace, and not made.
fn with_injected_replies(path: &Path, inject: &str) -> Participant {
    let call = inject.split(':').next().expect("a name");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(path);
    strace.args(["-e", &format!("trace={call}"), "-e", &format!("inject={inject}")]);
    Participant::start_within(strace)
}

#[test]
fn without_kernel_locks_the_exclusive_create_excludes() {
    if !strace_is_there("calls that fail") {
        return;
    }
    for error in ["EOPNOTSUPP", "ENOSYS"] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.lock");
        let start = || with_injected_replies(&path, &format!("flock:error={error}"));
        let (mut holder, mut rival) = (start(), start());
        assert_eq!(holder.try_acquire(&path), "held", "{error}");
        assert_eq!(holder.request("guarantee"), "ExclusiveCreate");
        assert!(!fs::read_to_string(&path).expect("its record").contains("kernelLock"));
        assert!(rival.try_acquire(&path).starts_with("refused, "));
        holder.end("abort");
        // Its death cannot be proved without a race.
        assert!(rival.try_acquire(&path).starts_with("refused, "));
        assert!(fs::exists(&path).expect("it can be checked"));
    }
}

/// A process without a kernel lock next to one that has it would break exclusion.
#[test]
fn enolck_is_an_error() {
    if !strace_is_there("calls that fail") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.lock");
    let said = with_injected_replies(&path, "flock:error=ENOLCK").try_acquire(&path);
    assert!(said.starts_with("failed, Lock, "), "{said}");
}

#[test]
fn short_write_fails_and_leaves_no_file() {
    if !strace_is_there("calls that fail") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.lock");
    let mut writer = with_injected_replies(&path, "write:retval=10");
    assert_eq!(writer.try_acquire(&path), "failed, Write, StorageFull");
    assert!(!fs::exists(&path).expect("it can be checked"));
}

#[test]
fn full_filesystem_is_reported_and_cleaned_up() {
    let script = "mount -t tmpfs -o size=64k none \"$DIR\" && \
                  ! head -c 1000000 /dev/zero 2>/dev/null > \"$DIR/fill\"";
    let Some(mounted) = Mounted::by(script) else { return };
    let lock = LockDir::at(&mounted.dir).port(5338).expect("a port");
    for _ in 0..3 {
        let error = lock.try_acquire().expect_err("no room for a record");
        assert_error(&error, "cannot write the record to", lock.path(), libc::ENOSPC);
        assert!(error.next_step().contains("free some space"), "{error:#}");
        assert!(!fs::exists(lock.path()).expect("it can be checked"), "the new file is gone");
    }
    // Freed space is enough to succeed.
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
    let operation = "cannot create a lock file in the directory";
    assert_error(&error, operation, &mounted.dir, libc::ENOSPC);
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
    let operation = "cannot create a lock file in the directory";
    assert_error(&error, operation, &mounted.dir, libc::EROFS);

    let mut holder = Participant::holding(outside.path());
    let error = within.try_acquire().expect_err("held");
    let held = error.held().unwrap_or_else(|| panic!("{error}"));
    assert_eq!(held.holder.as_ref().map(|holder| holder.pid), Some(holder.pid()));

    // A dead holder's file cannot be removed there, and blocks no process where it can.
    holder.kill();
    let error = within.try_acquire().expect_err("read only");
    assert_error(&error, "cannot remove", within.path(), libc::EROFS);
    let error = within.clear().expect_err("read only");
    assert_error(&error, "cannot remove", within.path(), libc::EROFS);
    let guard = outside.try_acquire().expect("its holder is dead");
    assert!(guard.recovered_from().is_some());
}

/// A sticky directory, as /tmp: any user may open another user's file, and only its owner remove
/// it.
#[test]
fn unremovable_stale_file_is_reported_and_stays() {
    use std::os::unix::fs::PermissionsExt;
    if !rustix::process::geteuid().is_root() {
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
    let before = fs::read(&path).expect("exists");
    let mut other = Participant::start();
    assert_eq!(other.request("become-user 65534"), "done");
    assert_eq!(other.try_acquire(&path), "failed, Unlink, PermissionDenied");
    let said = other.request(&format!("clear {}", path.display()));
    assert_eq!(said, format!("failed, cannot remove {}", path.display()));
    assert_eq!(fs::read(&path).expect("exists"), before);
    permit(dir.path(), 0o700);
    assert_eq!(other.try_acquire(&path), "failed, Create, PermissionDenied");
    let guard = Lock::at(&path).try_acquire().expect("its owner may remove it");
    assert!(guard.recovered_from().is_some());
}

/// Without a free descriptor a process cannot find out its boot and its start. The failure must not
/// be cached.
#[test]
fn descriptor_exhaustion_is_reported_and_recoverable() {
    let mut harness = Harness::untraced();
    let path = harness.dir.path().join("locks/x.lock");
    let whole: serde_json::Value = serde_json::from_slice(&harness.dead).expect("JSON");
    let mut request = |order: &str| {
        harness.order(order);
        harness.answer()
    };
    let acquire = format!("try {}", path.display());
    request("fork");
    for _ in 0..3 {
        assert_eq!(request("limit 0"), "limited");
        let said = request(&acquire);
        let operation = format!(
            "failed\t{}\tcannot create a lock file in the directory {}",
            libc::EMFILE,
            path.parent().expect("a directory").display()
        );
        assert_eq!(said, operation);
        assert!(!fs::exists(&path).expect("it can be checked"));
        assert_eq!(request("limit 1024"), "limited");
        assert_eq!(request(&acquire), "held");
        let record = fs::read(&path).expect("exists");
        let record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
        for key in ["boot", "host", "pidNamespace"] {
            assert_eq!(record[key], whole[key], "{record}");
        }
        assert!(record["processStart"].is_u64(), "{record}");
        // The release needs no descriptor.
        assert_eq!(request("limit 0"), "limited");
        assert_eq!(request("release"), "released");
    }
    assert_eq!(request("end"), "ended 0");
}
