//! `clear`, with and without force, and `sweep`.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::recorder::STATUS;
use super::{Finished, Home, PORT, ended, finished, locked, must_return, since, terminal};

fn clear(home: &Home, options: &[&str]) -> Finished {
    finished(home.portlock(["clear"]).args(options).arg(PORT))
}

/// A legacy agent's record with the pid of this live process.
fn live_old_record() -> Value {
    json!({ "pid": std::process::id(), "port": 5338, "startedAt": "2999-01-02T03:04:05.678Z" })
}

#[test]
fn clear_reports_an_absent_lock_file() {
    let home = Home::new();
    for options in [&[][..], &["--force", "--yes"]] {
        let done = clear(&home, options);
        assert_eq!((done.code(), &*done.err), (0, ""));
        assert_eq!(done.out, format!("there is no lock file of port {PORT}\n"));
    }
    let done = finished(&mut home.portlock(["clear", "0"]));
    assert_eq!((done.code(), &*done.out), (0, "port 0 means any free port and has no lock\n"));
    assert!(!home.locks().exists(), "the directory is not created either");
}

#[test]
#[cfg(target_os = "linux")]
fn clear_removes_a_provably_stale_file() {
    let home = Home::new();
    let record = home.dead_record();
    for options in [&[][..], &["--force", "--yes"]] {
        home.plant(record.to_string().as_bytes());
        let done = clear(&home, options);
        assert_eq!((done.code(), &*done.err), (0, ""));
        assert_eq!(
            done.out,
            format!(
                "removed the lock file of port {PORT}, left by pid {} (sh, since {})\n",
                record["pid"],
                since(&record)
            )
        );
        assert!(home.is_idle());
    }
}

#[test]
fn force_leaves_a_held_lock() {
    let home = Home::new();
    let holder = home.recorder();
    let record = home.record();
    let done = clear(&home, &[]);
    assert_eq!((done.code(), &*done.out), (75, ""));
    let said = format!("portlock: nothing was removed: port {PORT} is locked by pid");
    assert!(done.err.starts_with(&said), "{}", done.err);
    assert!(done.err.ends_with("\n  next step: stop that process\n"), "{}", done.err);
    assert!(!done.err.contains("--force"), "it would not help: {}", done.err);

    let done = clear(&home, &["--force", "--yes"]);
    assert_eq!((done.code(), &*done.out), (75, ""));
    assert!(
        done.err.contains("another process has its kernel lock, so it is in use"),
        "{}",
        done.err
    );
    assert_eq!(home.record(), record);
    assert_eq!(holder.end().code(), STATUS);
    assert!(home.is_idle());
}

#[test]
fn unproved_file_stays_and_force_is_advised() {
    let home = Home::new();
    let mut records = vec![live_old_record()];
    if cfg!(target_os = "linux") {
        records.push(home.foreign_record());
    }
    for record in records {
        home.plant(record.to_string().as_bytes());
        let done = clear(&home, &[]);
        assert_eq!((done.code(), &*done.out), (75, ""));
        assert!(done.err.contains("\n  or: clear --force, if you know that"), "{}", done.err);
        assert_eq!(home.record(), record);

        let done = clear(&home, &["--force"]);
        assert_eq!((done.code(), &*done.out), (64, ""));
        assert!(done.err.contains("there is no terminal to ask on; --yes"), "{}", done.err);
        assert_eq!(home.record(), record);

        let done = clear(&home, &["--force", "--yes"]);
        assert_eq!(done.code(), 0, "{}", done.err);
        let said = format!("removed the lock file of port {PORT} by force, left by pid ");
        assert!(done.out.starts_with(&said), "{}", done.out);
        assert!(done.err.contains("though nothing proves that it is stale"), "{}", done.err);
        assert!(home.is_idle());
    }
}

/// What is recorded, whether its kernel lock is held, and what is advised to one that wants to hold
/// the lock and to one that wants to clear it.
#[test]
#[cfg(target_os = "linux")]
fn advice_suits_what_cannot_be_proved() {
    let home = Home::new();
    let another_namespace = home.foreign_record();
    let mut another_machine = another_namespace.clone();
    another_machine.as_object_mut().expect("an object").remove("boot");
    for (record, is_locked, to_hold, to_clear) in [
        (
            &another_machine,
            false,
            "if that machine no longer runs it, remove the lock with clear --force; or use a \
             directory that is not shared",
            "make sure that that machine no longer runs it",
        ),
        (
            &another_namespace,
            false,
            "if that process no longer runs, remove the lock with clear --force; or use a \
             directory on a local disk",
            "make sure that that process no longer runs",
        ),
        (
            &another_namespace,
            true,
            "stop that process where it runs, or use another port",
            "stop that process where it runs",
        ),
    ] {
        home.plant(record.to_string().as_bytes());
        let _locked = is_locked.then(|| locked(&home.lock_file()));
        let advised = |done: Finished, next_step: &str| {
            assert_eq!((done.code(), &*done.out), (75, ""));
            let next_step = format!("\n  next step: {next_step}\n");
            assert!(done.err.contains(&next_step), "{next_step}: {}", done.err);
        };
        advised(home.run(["true"]), to_hold);
        advised(clear(&home, &[]), to_clear);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn force_never_removes_a_locked_file() {
    let home = Home::new();
    let record = home.foreign_record();
    home.plant(record.to_string().as_bytes());
    let locked = locked(&home.lock_file());
    let done = clear(&home, &["--force", "--yes"]);
    assert_eq!((done.code(), &*done.out), (75, ""));
    assert!(
        done.err.contains("nothing was removed: another process has its kernel lock"),
        "{}",
        done.err
    );
    assert_eq!(home.record(), record);
    drop(locked);
    assert_eq!(clear(&home, &["--force", "--yes"]).code(), 0);
}

#[test]
fn other_file_at_the_lock_path_stays() {
    let home = Home::new();
    std::fs::create_dir_all(home.lock_file()).expect("makes the directory");
    for options in [&[][..], &["--force", "--yes"]] {
        let done = clear(&home, options);
        assert_eq!((done.code(), &*done.out), (73, ""));
        assert!(done.err.contains("is a directory, not a lock file"), "{}", done.err);
    }
    assert!(home.lock_file().is_dir());
}

/// `clear --force` at a terminal. `at_the_question` gets the output before the question, and
/// returns the typed reply. Returns also the output before and after the reply.
fn asked(
    home: &Home,
    at_the_question: impl FnOnce(&str) -> &'static [u8],
) -> (Finished, String, String) {
    let (mut keyboard, terminal) = terminal::open();
    let copy = || Stdio::from(terminal.try_clone().expect("a second descriptor"));
    let mut clear: Command = home.portlock(["clear", "--force", PORT]);
    clear.stdin(copy()).stderr(copy()).stdout(Stdio::piped());
    let child = clear.spawn().expect("portlock starts");
    // The command must not keep the terminal open in this process.
    drop(clear);
    drop::<OwnedFd>(terminal);
    let mut shown = Vec::new();
    let mut byte = [0];
    while !shown.ends_with(b"remove it? [y/N] ") {
        let read = must_return("it asks before its end", || keyboard.read_exact(&mut byte));
        read.expect("it asks before its end");
        shown.push(byte[0]);
    }
    let before = String::from_utf8(shown).expect("UTF-8");
    keyboard.write_all(at_the_question(&before)).expect("types");
    let done = ended(child);
    let mut rest = Vec::new();
    // Linux reports EIO at the end of a terminal.
    let _ = keyboard.read_to_end(&mut rest);
    (done, before, String::from_utf8(rest).expect("UTF-8"))
}

/// A question that nobody sees, or that nobody can answer, is not asked.
#[test]
fn force_asks_only_at_a_whole_terminal() {
    let home = Home::new();
    let record = live_old_record();
    home.plant(record.to_string().as_bytes());
    let (_keyboard, terminal) = terminal::open();
    let at_it = || Stdio::from(terminal.try_clone().expect("a second descriptor"));
    for (input, errors) in [(at_it(), Stdio::piped()), (Stdio::null(), at_it())] {
        let mut clear = home.portlock(["clear", "--force", PORT]);
        clear.stdin(input).stdout(Stdio::piped()).stderr(errors);
        let done = ended(clear.spawn().expect("portlock starts"));
        assert_eq!((done.code(), &*done.out), (64, ""));
        assert_eq!(home.record(), record);
    }
}

#[test]
fn force_asks_and_only_yes_removes() {
    let home = Home::new();
    let record = live_old_record();
    for answer in [&b"n\n"[..], b"\n", b"\x04", b"yy\n", b"maybe\n"] {
        home.plant(record.to_string().as_bytes());
        let (done, shown, rest) = asked(&home, |_| answer);
        assert_eq!((done.code(), &*done.out), (75, ""), "{answer:?}");
        assert!(shown.contains(&format!("locked by pid {}", record["pid"])), "{shown}");
        assert!(shown.contains("nothing proves that it is stale"), "{shown}");
        assert!(rest.contains("portlock: nothing was removed"), "{rest}");
        assert_eq!(home.record(), record);
    }
    for answer in [&b"y\n"[..], b"Yes\n"] {
        home.plant(record.to_string().as_bytes());
        let (done, ..) = asked(&home, |_| answer);
        assert_eq!(done.code(), 0, "{answer:?}");
        assert!(done.out.starts_with("removed the lock file"), "{}", done.out);
        assert!(home.is_idle());
    }
}

#[test]
fn force_removes_no_file_changed_since_confirmation() {
    let home = Home::new();
    home.plant(live_old_record().to_string().as_bytes());
    let mut other = live_old_record();
    other["startedAt"] = "2999-01-02T03:04:05.679Z".into();
    let (done, _, rest) = asked(&home, |_| {
        home.plant(other.to_string().as_bytes());
        b"y\n"
    });
    assert_eq!((done.code(), &*done.out), (75, ""));
    assert_eq!(home.record(), other);
    assert!(rest.contains("its record is another one than a moment ago"), "{rest}");
}

#[test]
#[cfg(target_os = "linux")]
fn sweep_removes_only_stale_files() {
    let home = Home::new();
    let (dead, foreign) = (home.dead_record(), home.foreign_record());
    let holder = home.recorder();
    let plant = |file, record: &Value| home.plant_as(file, record.to_string().as_bytes());
    for json in [false, true] {
        plant("agent-1.lock", &dead);
        plant("build.lock", &dead);
        home.plant_as("Cargo.lock", b"# This file is automatically @generated by Cargo.\n");
        plant("agent-2.lock", &foreign);
        plant("agent-3.lock", &live_old_record());
        plant("notes.txt", &dead);
        plant("agent-0.lock", &dead);
        let done = finished(home.portlock(["sweep"]).args(json.then_some("--json")));
        let cargo = home.locks().join("Cargo.lock").display().to_string();
        let left_alone = format!(
            "portlock: left alone: {cargo} is a file with other content, not a lock file\n"
        );
        assert_eq!((done.code(), done.err), (0, left_alone));
        let from = format!("left by pid {} (sh, since {})", dead["pid"], since(&dead));
        let lines = [
            format!("removed the lock file of port 1, {from}"),
            format!("removed the lock file of lock build, {from}"),
        ];
        if json {
            let found: Vec<Value> = serde_json::from_str(&done.out).expect("an array");
            assert_eq!(found.len(), 2);
            for (found, (message, port, name, file)) in found.iter().zip([
                (&lines[0], json!(1), Value::Null, "agent-1.lock"),
                (&lines[1], Value::Null, json!("build"), "build.lock"),
            ]) {
                let keys: Vec<&String> = found.as_object().expect("an object").keys().collect();
                assert_eq!(keys, ["holder", "message", "name", "path", "port", "removed"]);
                assert_eq!((&found["port"], &found["name"]), (&port, &name));
                assert_eq!((&found["removed"], &found["message"]), (&json!(true), &json!(message)));
                assert_eq!(found["path"], home.locks().join(file).to_str().expect("UTF-8"));
                assert_eq!(found["holder"]["pid"], dead["pid"]);
            }
        } else {
            assert_eq!(done.out, format!("{}\n{}\n", lines[0], lines[1]));
        }
        let mut left: Vec<String> = std::fs::read_dir(home.locks())
            .expect("reads")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
            .collect();
        left.sort();
        let holders = format!("agent-{PORT}.lock");
        let kept =
            ["Cargo.lock", "agent-0.lock", "agent-2.lock", "agent-3.lock", &holders, "notes.txt"];
        assert_eq!(left, kept);
    }
    assert_eq!(holder.end().code(), STATUS);
}

#[test]
fn sweep_of_nothing_is_quiet() {
    let home = Home::new();
    for (arguments, out) in [(&["sweep"][..], ""), (&["sweep", "--json"], "[]\n")] {
        let done = finished(&mut home.portlock(arguments));
        assert_eq!((done.code(), &*done.out, &*done.err), (0, out, ""));
    }
    assert!(!home.locks().exists());
}

#[test]
fn sweep_reports_a_failure_and_continues() {
    let home = Home::new();
    std::fs::create_dir_all(home.locks().join("agent-1.lock")).expect("makes the directory");
    let others = if cfg!(target_os = "linux") {
        home.plant_as("agent-2.lock", home.dead_record().to_string().as_bytes());
        1
    } else {
        0
    };
    let done = finished(&mut home.portlock(["sweep", "--json"]));
    assert_eq!(done.code(), 74, "{done:?}");
    assert!(done.err.starts_with("portlock: cannot clear port 1: "), "{}", done.err);
    assert!(done.err.contains("is a directory, not a lock file"), "{}", done.err);
    let found: Vec<Value> = serde_json::from_str(&done.out).expect("an array");
    assert_eq!(found.len(), 1 + others);
    assert_eq!((&found[0]["removed"], &found[0]["holder"]), (&json!(false), &Value::Null));
    assert!(home.locks().join("agent-1.lock").is_dir());
    assert!(!home.locks().join("agent-2.lock").exists());

    let done = finished(&mut home.portlock(["sweep"]));
    assert_eq!((done.code(), &*done.out), (74, ""));
}
