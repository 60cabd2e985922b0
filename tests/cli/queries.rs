//! `portlock status` in each state. It is read-only.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Home, PORT, all_locks_are_seen, finished, locked, since};

fn port() -> u16 {
    PORT.parse().expect("a port")
}

/// The six keys of a record that `status` reports.
fn reported_keys(record: &Value) -> Value {
    let keys = ["pid", "port", "startedAt", "command", "host", "note"];
    keys.iter().map(|&key| (key.to_owned(), record[key].clone())).collect()
}

/// Checks both forms of the output, key by key.
fn assert_answer(
    home: &Home,
    code: i32,
    state: &str,
    holder: Value,
    reason: Option<&str>,
    message: &str,
) {
    let path = home.lock_file();
    let done = home.status();
    assert_eq!((done.code(), &*done.err), (code, ""), "{}", done.out);
    assert_eq!(done.out, format!("{message}\n  lock file: {}\n", path.display()));
    let (json_code, found) = home.status_json();
    assert_eq!(json_code, code);
    let keys: Vec<&String> = found.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["holder", "message", "name", "path", "port", "reason", "state"]);
    assert_eq!(found["state"], state);
    assert_eq!((&found["port"], &found["name"]), (&port().into(), &Value::Null));
    assert_eq!(found["path"], path.to_str().expect("UTF-8"));
    assert_eq!(found["holder"], holder);
    assert_eq!(found["reason"], json!(reason));
    assert_eq!(found["message"], message);
}

#[test]
fn free() {
    let home = Home::new();
    assert_answer(&home, 0, "free", Value::Null, None, &format!("port {PORT} is free"));
}

#[test]
fn held_by_a_live_process() {
    let home = Home::new();
    let holder = home.recorder();
    let record = home.record();
    let name = record["command"].as_str().expect("a name");
    let message = format!(
        "port {PORT} is locked by pid {} ({name}, since {})",
        holder.command,
        since(&record)
    );
    assert_answer(&home, 75, "held", reported_keys(&record), None, &message);
}

#[test]
fn held_by_a_legacy_agent() {
    let home = Home::new();
    let pid = std::process::id();
    let now = home.a_real_record()["startedAt"].clone();
    home.plant(json!({ "pid": pid, "port": port(), "startedAt": now }).to_string().as_bytes());
    let holder = json!({ "pid": pid, "port": port(), "startedAt": now, "command": null, "host": null, "note": null });
    let message =
        format!("port {PORT} is locked by pid {pid} (since {})", since(&json!({"startedAt": now})));
    assert_answer(&home, 75, "held", holder, None, &message);
}

#[test]
fn held_while_the_record_is_not_written_yet() {
    let home = Home::new();
    home.plant(b"");
    let _locked = locked(&home.lock_file());
    let message = format!("port {PORT} is being locked: its lock file has no record yet");
    assert_answer(&home, 75, "held", Value::Null, Some("being-created"), &message);
}

#[test]
fn held_from_another_container() {
    let home = Home::new();
    let mut record = home.a_real_record();
    record["pidNamespace"] = 1.into();
    home.plant(record.to_string().as_bytes());
    let _locked = locked(&home.lock_file());
    let message = format!(
        "port {PORT} is locked; the recorded holder is pid {} (sh, since {}) on {}, whose state \
         cannot be checked from here",
        record["pid"],
        since(&record),
        record["host"].as_str().expect("a name")
    );
    if cfg!(target_os = "linux") {
        assert_answer(&home, 75, "held", reported_keys(&record), Some("cannot-probe"), &message);
    }
}

#[test]
fn stale_after_a_reboot() {
    let home = Home::new();
    let record = home.dead_record();
    home.plant(record.to_string().as_bytes());
    let message = format!(
        "port {PORT} has a stale lock, left by pid {} (sh, since {})",
        record["pid"],
        since(&record)
    );
    if cfg!(target_os = "linux") {
        assert_answer(&home, 3, "stale", reported_keys(&record), None, &message);
    }
}

#[test]
fn stale_after_kill_9_where_visible() {
    let home = Home::new();
    let record = home.a_real_record();
    home.plant(record.to_string().as_bytes());
    let holder = format!("pid {} (sh, since {})", record["pid"], since(&record));
    if all_locks_are_seen() {
        let message = format!("port {PORT} has a stale lock, left by {holder}");
        assert_answer(&home, 3, "stale", reported_keys(&record), None, &message);
    } else {
        let message = format!(
            "port {PORT} may be locked; the recorded holder is {holder}, and whether the file is \
             locked cannot be seen from here"
        );
        assert_answer(&home, 4, "unknown", reported_keys(&record), Some("cannot-watch"), &message);
    }
}

#[test]
fn unknown_without_a_kernel_lock_shared_with_holder() {
    let home = Home::new();
    let record = home.foreign_record();
    home.plant(record.to_string().as_bytes());
    let message = format!(
        "port {PORT} may be locked by pid {} (sh, since {}) on build-7, which has no kernel lock \
         that can be seen from here (another container or mount, a copy of its file, or no kernel locks)",
        record["pid"],
        since(&record)
    );
    if cfg!(target_os = "linux") {
        assert_answer(
            &home,
            4,
            "unknown",
            reported_keys(&record),
            Some("no-shared-lock"),
            &message,
        );
    }
}

#[test]
fn unknown_if_not_a_lock_file() {
    let home = Home::new();
    std::fs::create_dir_all(home.lock_file()).expect("makes the directory");
    let message = format!(
        "cannot tell whether port {PORT} is locked: {} is a directory, not a lock file; move it \
         away, or use another directory (--dir or PORTLOCK_DIR names one)",
        home.lock_file().display()
    );
    assert_answer(&home, 4, "unknown", Value::Null, Some("not-a-lock-file"), &message);
}

#[test]
fn unknown_if_the_parent_is_not_a_directory() {
    let home = Home::new();
    std::fs::write(home.locks(), "").expect("writes");
    let message = format!(
        "cannot tell whether port {PORT} is locked: cannot open {}: Not a directory (os error 20); \
         move away what is there, or use another directory (--dir or PORTLOCK_DIR names one)",
        home.lock_file().display()
    );
    assert_answer(&home, 4, "unknown", Value::Null, Some("failed"), &message);
}

#[test]
fn port_0_is_never_locked() {
    let home = Home::new();
    let message = "port 0 means any free port and is never locked";
    let done = finished(&mut home.portlock(["status", "0"]));
    assert_eq!((done.code(), &*done.err), (0, ""));
    assert_eq!(done.out, format!("{message}\n"));
    let done = finished(&mut home.portlock(["status", "--json", "0"]));
    let found: Value = serde_json::from_str(&done.out).expect("JSON");
    let expected = json!({
        "state": "free", "port": 0, "name": null, "path": null, "holder": null, "reason": "any-port",
        "message": message,
    });
    assert_eq!((done.code(), found), (0, expected));
}

/// All that a query must not change: names, content, and metadata except access times.
fn everything_below(dir: &Path) -> BTreeMap<PathBuf, (Vec<i128>, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        let its = std::fs::symlink_metadata(&path).expect("it exists");
        let mut content = Vec::new();
        if its.is_dir() {
            let entries = std::fs::read_dir(&path).expect("reads");
            left.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else {
            content = std::fs::read(&path).expect("reads");
        }
        let mut numbers: Vec<i128> =
            [its.ino(), its.mode().into(), its.nlink(), its.size()].map(i128::from).into();
        numbers
            .extend([its.mtime(), its.mtime_nsec(), its.ctime(), its.ctime_nsec()].map(i128::from));
        found.insert(path, (numbers, content));
    }
    found
}

#[test]
fn query_neither_changes_nor_creates_files() {
    let home = Home::new();
    let unchanged = |code| {
        let before = everything_below(home.path());
        assert_eq!(home.status().code(), code);
        assert_eq!(home.status_json().0, code);
        assert_eq!(everything_below(home.path()), before);
    };
    unchanged(0);
    assert!(!home.locks().exists(), "the directory is not created either");

    let record = home.a_real_record();
    unchanged(0);
    home.plant(record.to_string().as_bytes());
    unchanged(if all_locks_are_seen() { 3 } else { 4 });
    std::fs::remove_file(home.lock_file()).expect("removes");

    let mut holder = home.recorder();
    unchanged(75);
    holder.kill_portlock();
    unchanged(if all_locks_are_seen() { 75 } else { 4 });
    drop(holder);

    let home = Home::new();
    home.plant(b"no record at all");
    let before = everything_below(home.path());
    home.status();
    assert_eq!(everything_below(home.path()), before);
}
