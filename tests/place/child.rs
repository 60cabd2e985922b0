//! A process with its own environment or user, which carries out one order and answers.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::Command;

use portlock::{LockDir, LockDirError};

use crate::listing::{said, swept};
use crate::participant::{become_user, must_return};

const ORDER: &str = "PORTLOCK_TEST_ORDER";
const DIR: &str = "PORTLOCK_TEST_DIR";
const USER: &str = "PORTLOCK_TEST_USER";
const LEAVING: &str = "PORTLOCK_TEST_LEAVING";
const ANSWER: &str = "answer: ";

pub(super) struct Child {
    command: Command,
}

/// This test binary with an order for `dir`, its working directory.
pub(super) fn child(order: &str, dir: &Path) -> Child {
    let binary = std::env::current_exe().expect("the test binary has a path");
    let mut command = Command::new(binary);
    command.args([
        "child::a_child_carries_out_its_order",
        "--exact",
        "--nocapture",
        "--test-threads=1",
    ]);
    command.env(ORDER, order).env(DIR, dir).current_dir(dir);
    Child { command }
}

impl Child {
    pub(super) fn env(mut self, name: &str, value: Option<impl AsRef<OsStr>>) -> Self {
        match value {
            Some(value) => self.command.env(name, value),
            None => self.command.env_remove(name),
        };
        self
    }

    /// Becomes this user, which takes root.
    pub(super) fn user(self, id: u32) -> Self {
        self.env(USER, Some(id.to_string()))
    }

    /// Can open only so many more files.
    pub(super) fn leaving(self, descriptors: usize) -> Self {
        self.env(LEAVING, Some(descriptors.to_string()))
    }

    /// Runs within this command.
    pub(super) fn within(self, command: &[&str]) -> Self {
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

    pub(super) fn run(self) -> String {
        self.try_run().expect("it answers")
    }

    pub(super) fn try_run(mut self) -> Result<String, String> {
        let output =
            must_return("a child", || self.command.output()).map_err(|error| error.to_string())?;
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
        let id = id.to_str().and_then(|id| id.parse().ok());
        assert_eq!(become_user(id.expect("a number")), "done");
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
            guard.release().expect("held");
            path
        }
        "in-a-removed-directory" => {
            let lost = tempfile::tempdir().expect("a directory");
            std::env::set_current_dir(lost.path()).expect("enters");
            lost.close().expect("removes");
            let here = LockDir::at("");
            here.list().expect_err("no directory");
            in_one_line(&here.port(5338).expect_err("no directory"))
        }
        _ => "no such order".to_owned(),
    }
}

/// An error with its cause and next step, in one line.
fn in_one_line(error: &dyn std::error::Error) -> String {
    format!("{error:#}").replace("\n  next step: ", "; ")
}

/// Lowers the limit first, so that few have to be opened.
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
    assert!(taken.len() > left, "too few are free");
    taken.truncate(taken.len() - left);
    taken
}
