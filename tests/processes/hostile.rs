//! Hostile files at the path, and hostile records. Every operation and every subcommand must return
//! a clear error or the right verdict: no panic, no hang, no foreign file removed, no signal sent,
//! no raw bytes on a terminal.

mod paths;
mod records;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use portlock::{AcquireError, Holder, Lock, LockDir, Status, SweepOutcome};

use crate::participant::{DEAD_PID, must_return, set_modified};

/// Longer than any operation here takes.
const HANG: Duration = Duration::from_secs(20);

/// A lock directory with one lock, next to files that must not change.
struct Scene {
    home: tempfile::TempDir,
    dir: LockDir,
    lock: Lock,
}

impl Scene {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let dir = LockDir::at(home.path().join("locks"));
        fs::create_dir(dir.path()).expect("creates");
        let lock = dir.port(5338).expect("a port");
        Self { home, dir, lock }
    }

    fn sibling(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a record with a time some seconds ago, so that it is past the creator's grace period.
    fn plant(&self, record: &[u8]) {
        fs::write(self.lock.path(), record).expect("writes");
        set_modified(self.lock.path(), SystemTime::now() - Duration::from_secs(10));
    }

    /// All files below, without following links: mode, inode, size, time, owner.
    fn everything(&self) -> BTreeMap<PathBuf, (u32, u64, u64, i64, i64, u32)> {
        let mut found = BTreeMap::new();
        let mut left = vec![self.home.path().to_owned()];
        while let Some(path) = left.pop() {
            let at = fs::symlink_metadata(&path).expect("exists");
            if at.is_dir() {
                left.extend(fs::read_dir(&path).expect("reads").flatten().map(|e| e.path()));
            }
            let seen = (at.mode(), at.ino(), at.size(), at.mtime(), at.mtime_nsec(), at.uid());
            found.insert(path, seen);
        }
        found
    }

    fn each_operation(&self) -> [(&'static str, Outcome); 7] {
        OPERATIONS.map(|operation| (operation, self.operate(operation)))
    }

    fn operate(&self, operation: &str) -> Outcome {
        let other = Holder::new(DEAD_PID);
        let acquired = |attempt: Result<portlock::Guard, AcquireError>| match attempt {
            Ok(guard) => Outcome::Done(guard.recovered_from().map(ToString::to_string)),
            Err(error) => error.into(),
        };
        let cleared = |attempt: Result<Option<portlock::Reclaimed>, AcquireError>| match attempt {
            Ok(from) => Outcome::Done(from.map(|from| from.to_string())),
            Err(error) => error.into(),
        };
        let status = |status: Result<Status, AcquireError>| match status {
            Ok(status) => Outcome::Status(status),
            Err(error) => error.into(),
        };
        let one = |listed: Vec<portlock::LockEntry>| {
            listed
                .into_iter()
                .next()
                .map_or(Outcome::Status(Status::Free), |one| status(one.status))
        };
        let swept = |swept: Vec<SweepOutcome>| {
            swept.into_iter().next().map_or(Outcome::Done(None), |one| match one.removed {
                Ok(from) => Outcome::Done(Some(from.to_string())),
                Err(error) => error.into(),
            })
        };
        match operation {
            "status" => status(self.lock.status()),
            "list" => one(self.dir.list().expect("the directory can be read")),
            "sweep" => swept(self.dir.sweep().expect("the directory can be read")),
            "clear" => cleared(self.lock.clear()),
            "force_clear" => cleared(self.lock.force_clear(&other)),
            "acquire_timeout" => acquired(self.lock.acquire_timeout(Duration::ZERO)),
            "try_acquire" => acquired(self.lock.try_acquire()),
            other => unreachable!("{other}"),
        }
    }

    /// Every subcommand: its exit status, and its output.
    fn each_command(&self) -> [(&'static str, i32, String); 10] {
        COMMANDS.map(|words| {
            let mut command = Command::new("timeout");
            command.args(["20", env!("CARGO_BIN_EXE_portlock")]).args(words.split(' '));
            command.env("PORTLOCK_DIR", self.dir.path()).env("HOME", self.home.path());
            let done = must_return("portlock ends", || command.output()).expect("it runs");
            let code = done.status.code().expect("no signal");
            let said = [done.stdout, done.stderr].map(|out| String::from_utf8(out).expect("UTF-8"));
            let said = said.concat();
            assert!(code != PANICKED && code != HUNG, "{words}: {code}, {said}");
            (words, code, said)
        })
    }
}

const OPERATIONS: [&str; 7] =
    ["status", "list", "sweep", "clear", "force_clear", "acquire_timeout", "try_acquire"];

const COMMANDS: [&str; 10] = [
    "status 5338",
    "status --json 5338",
    "list",
    "list --json",
    "wait --timeout 0 5338",
    "sweep",
    "clear 5338",
    "clear --force --yes 5338",
    "run --timeout 0 5338 -- true",
    "run 5338 -- true",
];

/// The exit statuses of a panic in Rust, and of `timeout`.
const PANICKED: i32 = 101;
const HUNG: i32 = 124;

/// The outcome of an operation.
#[derive(Debug)]
enum Outcome {
    /// It succeeded, and recovered from this holder, if any.
    Done(Option<String>),
    Status(Status),
    Held(String),
    NotALockFile(String),
    #[allow(dead_code, reason = "shown where nothing of the kind was expected")]
    Failed(String),
}

impl From<AcquireError> for Outcome {
    fn from(error: AcquireError) -> Self {
        let said = error.to_string();
        match error {
            AcquireError::Held(_) | AcquireError::Timeout { .. } => Self::Held(said),
            AcquireError::NotALockFile { .. } => Self::NotALockFile(said),
            _ => Self::Failed(said),
        }
    }
}
