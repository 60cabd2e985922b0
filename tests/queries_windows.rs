//! The command on Windows: queries, `clear`, `sweep` and waits. (Messages, and all else that is the
//! same on every system, are in `tests/cli`.)

#![cfg(windows)]

mod participant;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use participant::{Participant, must_return};
use serde_json::{Value, json};

/// A home directory with the default lock directory.
struct Home(tempfile::TempDir);

struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().expect("a directory"));
        fs::create_dir(home.locks()).expect("made");
        home
    }

    fn locks(&self) -> PathBuf {
        self.0.path().join(".percy")
    }

    fn lock_file(&self) -> PathBuf {
        self.locks().join("agent-5338.lock")
    }

    fn portlock(&self, arguments: &[&str]) -> Done {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portlock"));
        command.args(arguments).env("USERPROFILE", self.0.path()).env_remove("PORTLOCK_DIR");
        command.stdin(Stdio::null());
        let ended = must_return("portlock ends", || command.output()).expect("portlock runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Done { code: ended.status.code(), out: text(ended.stdout), err: text(ended.stderr) }
    }

    /// Exit code and output of a query; of a list, its only entry.
    fn answer(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let done = self.portlock(arguments);
        assert_eq!(done.err, "", "{arguments:?}");
        let mut answer: Value = serde_json::from_str(&done.out).expect("JSON");
        if let Some([one]) = answer.as_array().map(Vec::as_slice) {
            answer = one.clone();
        }
        (done.code, answer)
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(self.locks()).expect("it exists").next().is_none()
    }
}

#[test]
fn absent_lock_is_free() {
    let home = Home::new();
    let (code, answer) = home.answer(&["status", "--json", "5338"]);
    assert_eq!((code, &answer["state"]), (Some(0), &json!("free")));
    assert_eq!(answer["path"], home.lock_file().to_str().expect("UTF-8"));
    assert_eq!(home.answer(&["list", "--json"]), (Some(0), json!([])));
    assert_eq!(home.portlock(&["wait", "5338"]).code, Some(0));
}

#[test]
fn held_lock_is_reported_with_holder_and_stays() {
    let home = Home::new();
    let mut holder = Participant::holding(&home.lock_file());
    let record = fs::read(home.lock_file()).expect("it can be read while it is held");
    for (query, code) in [(&["status", "--json", "5338"][..], 75), (&["list", "--json"], 0)] {
        let (found, answer) = home.answer(query);
        assert_eq!((found, &answer["state"]), (Some(code), &json!("held")), "{answer}");
        assert_eq!(answer["holder"]["pid"], holder.pid());
    }
    let refused = format!("locked by pid {}", holder.pid());
    for command in [
        &["run", "5338", "--", "cmd", "/c", "exit", "0"][..],
        &["run", "-w", "0.05", "5338", "--", "cmd", "/c", "exit", "0"],
        &["wait", "-w", "0.05", "5338"],
        &["clear", "5338"],
        &["clear", "--force", "--yes", "5338"],
    ] {
        let done = home.portlock(command);
        assert_eq!(done.code, Some(75), "{command:?}: {}", done.err);
        assert!(done.err.contains(&refused) || command.contains(&"--force"), "{}", done.err);
    }
    let done = home.portlock(&["run", "-E", "9", "5338", "--", "cmd", "/c", "exit", "0"]);
    assert_eq!(done.code, Some(9));
    assert_eq!(
        (home.portlock(&["sweep"]).code, holder.request("current")),
        (Some(0), "true".into())
    );
    assert_eq!(fs::read(home.lock_file()).expect("it exists"), record);
    assert_eq!(holder.request("release"), "released");
    assert!(home.is_empty());
}

/// A query cannot see whether the file is locked; a removal tries the lock.
#[test]
fn lock_of_killed_holder_is_unknown_yet_reclaimable() {
    let home = Home::new();
    for remover in [&["clear", "5338"][..], &["sweep"]] {
        let mut holder = Participant::holding(&home.lock_file());
        holder.kill();
        let (code, answer) = home.answer(&["status", "--json", "5338"]);
        assert_eq!((code, &answer["reason"]), (Some(4), &json!("cannot-watch")), "{answer}");
        let done = home.portlock(remover);
        let said = format!("removed the lock file of port 5338, left by pid {}", holder.pid());
        assert_eq!(done.code, Some(0), "{remover:?}: {}", done.err);
        assert!(done.out.starts_with(&said), "{}", done.out);
        assert!(home.is_empty());
    }
    let mut holder = Participant::holding(&home.lock_file());
    holder.kill();
    let done = home.portlock(&["run", "5338", "--", "cmd", "/c", "exit", "3"]);
    assert_eq!(done.code, Some(3), "{}", done.err);
    assert!(done.err.contains(&format!("from pid {}", holder.pid())), "{}", done.err);
    assert!(home.is_empty());
}

#[test]
fn each_usage_error_has_its_exit_code() {
    let home = Home::new();
    assert_eq!(home.portlock(&["run", "70000", "--", "cmd"]).code, Some(64));
    assert_eq!(home.portlock(&["run", "5338", "--", "there-is-no-such-program"]).code, Some(69));
    assert!(home.is_empty(), "the lock is released");
    fs::create_dir(home.lock_file()).expect("made");
    let done = home.portlock(&["run", "5338", "--", "cmd"]);
    assert_eq!(done.code, Some(73));
    assert!(done.err.contains("is a directory, not a lock file"), "{}", done.err);
    assert_eq!(home.answer(&["status", "--json", "5338"]).1["reason"], "not-a-lock-file");
    assert_eq!(home.portlock(&["completions", "powershell"]).code, Some(0));
}
