//! The lock of a test: one lock file in its own directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use portlock::{AcquireError, Guard, Lock, LockDir};

/// No process has this pid: Linux's end at 2^22, those of other systems below.
pub(crate) const DEAD_PID: u32 = 2_147_483_646;

/// A temporary directory with one lock.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) lock: Lock,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = Lock::at(dir.path().join("x.lock"));
        Self { dir, lock }
    }

    /// The same with the lock of a port.
    pub(crate) fn of_port(port: u16) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = LockDir::at(dir.path()).port(port).expect("a port");
        Self { dir, lock }
    }

    pub(crate) fn path(&self) -> &Path {
        self.lock.path()
    }

    pub(crate) fn sibling(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).expect("the lock file exists")
    }

    pub(crate) fn is_empty(&self) -> bool {
        fs::read_dir(self.dir.path()).expect("the directory exists").next().is_none()
    }

    pub(crate) fn try_acquire(&self) -> Result<Guard, AcquireError> {
        self.lock.try_acquire()
    }
}

pub(crate) fn set_modified(path: &Path, time: SystemTime) {
    let file = fs::File::options().write(true).open(path).expect("it opens");
    file.set_modified(time).expect("its time is set");
}

/// The record of an agent that uses the old format.
pub(crate) fn old_record(pid: u32, started: SystemTime) -> String {
    let started = humantime::format_rfc3339_millis(started);
    format!("{{\"pid\":{pid},\"port\":5338,\"startedAt\":\"{started}\"}}")
}

/// Whether the name of a removed file is free at once, even while a process has the file open. If
/// not, reports that as not checked: no file can replace one that its holder has open.
pub(crate) fn frees_names_at_once() -> bool {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x");
    let _open = fs::File::create(&path).expect("it is made");
    fs::remove_file(&path).expect("it is removed");
    let frees = fs::symlink_metadata(&path).is_err();
    if !frees {
        super::not_checked("the loss of a held file: a name stays here until the last close");
    }
    frees
}
