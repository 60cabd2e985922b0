//! What a hostile neighbour may have put at the path, or into a record: for every operation of the
//! library, and for every subcommand, a clear error or a right verdict, and nothing else: no panic,
//! no hang, no foreign file removed, no signal sent, nothing raw on a terminal.

mod paths;
mod records;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use portlock::{AcquireError, Holder, Lock, LockDir, Status, SweepOutcome};

use crate::participant::{NOBODY, must_return};

/// Far more than anything here takes, and less than a person waits.
const HANG: Duration = Duration::from_secs(20);

/// A directory of locks with one in it, and beside it what must stay as it is.
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

    fn beside(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A record of some seconds ago, so that no creator is at work.
    fn plant(&self, record: &[u8]) {
        fs::write(self.lock.path(), record).expect("writes");
        let file = File::options().write(true).open(self.lock.path()).expect("opens");
        file.set_modified(SystemTime::now() - Duration::from_secs(10)).expect("sets the time");
    }

    /// Everything below, without following a link: kind, number, mode, size, times, owner.
    fn everything(&self) -> BTreeMap<PathBuf, (u32, u64, u64, i64, i64, u32)> {
        let mut found = BTreeMap::new();
        let mut left = vec![self.home.path().to_owned()];
        while let Some(path) = left.pop() {
            let at = fs::symlink_metadata(&path).expect("stands");
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
        let somebody = Holder::new(NOBODY);
        let acquired = |attempt: Result<portlock::Guard, AcquireError>| match attempt {
            Ok(guard) => Outcome::Done(guard.recovered_from().map(ToString::to_string)),
            Err(error) => error.into(),
        };
        let cleared = |attempt: Result<Option<portlock::Reclaimed>, AcquireError>| match attempt {
            Ok(from) => Outcome::Done(from.map(|from| from.to_string())),
            Err(error) => error.into(),
        };
        let status = |status: Result<Status, AcquireError>| match status {
            Ok(status) => Outcome::Told(status),
            Err(error) => error.into(),
        };
        let one = |listed: Vec<portlock::LockEntry>| {
            listed.into_iter().next().map_or(Outcome::Told(Status::Free), |one| status(one.status))
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
            "force_clear" => cleared(self.lock.force_clear(&somebody)),
            "acquire_timeout" => acquired(self.lock.acquire_timeout(Duration::ZERO)),
            "try_acquire" => acquired(self.lock.try_acquire()),
            other => unreachable!("{other}"),
        }
    }

    /// Every subcommand: its exit status, and all that it said.
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

/// What became of an operation.
#[derive(Debug)]
enum Outcome {
    /// It worked, on what somebody left, if anything was.
    Done(Option<String>),
    Told(Status),
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
