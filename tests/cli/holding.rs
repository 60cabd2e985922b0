//! Several runs on one port: refusals, takeovers, and their messages.

use std::fs::File;
use std::io::BufRead;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStdin, Stdio};

use serde_json::Value;

use super::recorder::STATUS;
use super::{
    Finished, Home, PORT, Running, all_locks_are_seen, ended, finished, must_return, since,
};

/// Waits until no process has the kernel lock on `file`.
pub(crate) fn until_unlocked(file: &File) {
    // SAFETY: `file` keeps the descriptor open.
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) }, 0);
}

/// Kills the command, and waits until its lock is free, which shows that it has ended.
fn kill_command(home: &Home, running: &Running) {
    let file = File::open(home.lock_file()).expect("the lock file exists");
    super::send(running.command, libc::SIGKILL);
    until_unlocked(&file);
}

fn assert_took_over(home: &Home, done: &Finished, from: &serde_json::Value) {
    assert_eq!(done.code(), 0, "{done:?}");
    assert_eq!(
        done.err,
        format!(
            "portlock: took over the lock of port {PORT} from pid {} ({}, since {}), which is \
             gone\n",
            from["pid"],
            from["command"].as_str().expect("a name"),
            since(from)
        )
    );
    assert!(home.is_idle());
}

#[test]
fn second_run_is_refused_with_all_details() {
    let home = Home::new();
    let holder = home.recorder();
    let record = home.record();
    assert_eq!(record["pid"], holder.command, "the record names the command");
    assert_eq!(record["port"].to_string(), PORT);
    let program = std::env::current_exe().expect("a path");
    let name = program.file_name().and_then(|name| name.to_str()).expect("UTF-8");
    assert!(record["command"].as_str().is_some_and(|command| name.starts_with(command)));

    let done = home.run(["echo", "ran"]);
    assert_eq!((done.code(), &*done.out), (75, ""));
    assert_eq!(
        done.err,
        format!(
            "portlock: port {PORT} is locked by pid {} ({}, since {})\n  \
             lock file: {}\n  \
             next step: stop that process, or use another port\n",
            holder.command,
            record["command"].as_str().expect("a name"),
            since(&record),
            home.lock_file().display()
        )
    );
    assert_eq!(home.record(), record, "a refusal is read-only");
    let done = holder.end();
    assert_eq!((done.code(), &*done.out, &*done.err), (STATUS, "ended\n", ""));
    assert!(home.is_idle());
}

#[test]
fn record_has_the_commands_file_name() {
    let home = Home::new();
    let script = format!("cat '{}'", home.lock_file().display());
    for program in ["sh", "/bin/sh"] {
        let done = home.run([program, "-c", &script]);
        let record: serde_json::Value = serde_json::from_str(&done.out).expect("the record");
        assert_eq!(record["command"], "sh");
    }
}

#[test]
fn lock_is_taken_before_the_command_starts() {
    let home = Home::new();
    let script = format!("test -s '{}'", home.lock_file().display());
    assert_eq!(home.run(["sh", "-c", &script]).code(), 0);
}

#[test]
fn another_port_is_free() {
    let home = Home::new();
    let holder = home.recorder();
    let done = finished(&mut home.portlock(["run", "5339", "--", "true"]));
    assert_eq!((done.code(), &*done.err), (0, ""));
    assert_eq!(holder.end().code(), STATUS);
}

#[test]
fn lock_of_killed_portlock_and_command_is_reclaimed() {
    let home = Home::new();
    let mut holder = home.recorder();
    let record = home.record();
    holder.kill_portlock();
    kill_command(&home, &holder);
    assert_took_over(&home, &home.run(["true"]), &record);
    assert_eq!(home.run(["true"]).err, "", "it is reported once");
}

#[test]
fn killing_the_recorded_process_frees_the_lock() {
    let home = Home::new();
    let mut holder = home.recorder();
    let pid = libc::pid_t::try_from(home.record()["pid"].as_i64().expect("a pid")).expect("a pid");
    super::send(pid, libc::SIGKILL);
    let status = must_return("it ends", || holder.portlock.wait()).expect("ours");
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    assert!(home.is_idle());
    assert_eq!(home.run(["true"]).err, "", "no file is left to take over");
}

#[test]
fn command_keeps_the_lock_of_a_killed_portlock() {
    let home = Home::new();
    let mut holder = home.recorder();
    let record = home.record();
    holder.kill_portlock();
    let done = home.run(["echo", "ran"]);
    assert_eq!((done.code(), &*done.out), (75, ""));
    let said = format!("portlock: port {PORT} is locked by pid {} (", holder.command);
    assert!(done.err.starts_with(&said), "{}", done.err);
    let (code, found) = home.status_json();
    if all_locks_are_seen() {
        assert_eq!((code, &found["state"], &found["reason"]), (75, &"held".into(), &Value::Null));
    }
    assert_eq!(found["holder"]["pid"], record["pid"]);
    holder.end_command(&File::open(home.lock_file()).expect("the lock file exists"));
    assert_took_over(&home, &home.run(["true"]), &record);
}

/// A run whose command has ended and has left a process that continues until the input ends.
fn left_behind(home: &Home, options: &[&str]) -> (Finished, ChildStdin, libc::pid_t) {
    let script = "exec 3<&0; cat <&3 >/dev/null 2>&1 & echo $!";
    let mut portlock = home.portlock(["run"]);
    portlock.args(options).args([PORT, "--", "sh", "-c", script]);
    portlock.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut portlock = portlock.spawn().expect("portlock starts");
    let keep = portlock.stdin.take().expect("a pipe");
    let done = ended(portlock);
    let pid = done.out.trim_end().parse().expect("a pid");
    (done, keep, pid)
}

/// Another process acquires it before the command has ended.
#[test]
fn new_holder_at_the_end_is_left_alone() {
    let home = Home::new();
    let script = r#"rm "$1"; echo removed; read line"#;
    let mut portlock = home.portlock(["run", "-v", PORT, "--", "sh", "-c", script, "sh"]);
    portlock.arg(home.lock_file()).stdin(Stdio::piped());
    let mut portlock =
        portlock.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("portlock starts");
    let mut line = String::new();
    let mut lines = std::io::BufReader::new(portlock.stdout.take().expect("a pipe"));
    must_return("it has removed its file", || lines.read_line(&mut line)).expect("reads");
    assert_eq!(line, "removed\n");
    let guard = portlock::Lock::at(home.lock_file()).try_acquire().expect("its name is free");
    drop(portlock.stdin.take());
    let done = ended(portlock);
    assert_eq!((done.status.code(), done.err.contains("stays")), (Some(1), false), "{done:?}");
    assert!(guard.is_still_held().expect("its file can be examined"));
}

#[test]
fn process_left_behind_keeps_the_lock() {
    let home = Home::new();
    for options in [&["-n"][..], &["-v"]] {
        let (done, keep, pid) = left_behind(&home, options);
        let record = home.record();
        let recorded = format!(
            "port {PORT} is locked: the recorded process, pid {} (sh, since {}), is gone, but its \
             lock is still held by",
            record["pid"],
            since(&record),
        );
        assert_eq!(done.code(), 0);
        let said = format!("portlock: the lock file stays: {recorded}");
        let is_reported = done.err.starts_with(&said);
        assert_eq!(
            (is_reported, done.err.is_empty()),
            (options == ["-v"], options != ["-v"]),
            "{done:?}"
        );

        let refused = home.run(["echo", "ran"]);
        assert_eq!((refused.code(), &*refused.out), (75, ""));
        assert!(refused.err.starts_with(&format!("portlock: {recorded} ")), "{}", refused.err);
        if cfg!(target_os = "linux") {
            assert!(
                refused.err.contains(&format!("is still held by pid {pid}\n")),
                "{}",
                refused.err
            );
            let next = format!("next step: wait for pid {pid} to end, or stop it\n");
            assert!(refused.err.ends_with(&next), "{}", refused.err);
        }
        let (code, found) = home.status_json();
        if all_locks_are_seen() {
            assert_eq!((code, &found["state"]), (75, &"held".into()));
            assert_eq!(found["reason"], "holder-exited");
        } else {
            assert_eq!((code, &found["reason"]), (4, &"cannot-watch".into()));
        }

        let file = File::open(home.lock_file()).expect("the lock file exists");
        drop(keep);
        until_unlocked(&file);
        assert_took_over(&home, &home.run(["true"]), &record);
    }
}

#[test]
fn process_left_behind_has_no_lock_with_close() {
    let home = Home::new();
    let (done, keep, _) = left_behind(&home, &["-o"]);
    assert_eq!((done.code(), &*done.err), (0, ""));
    assert!(home.is_idle());
    drop(keep);
}

#[test]
fn file_without_a_record_is_taken_over() {
    let home = Home::new();
    home.plant(b"no record");
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    let file = File::options().write(true).open(home.lock_file()).expect("opens");
    file.set_modified(long_ago).expect("sets the time");
    let done = home.run(["true"]);
    assert_eq!(done.code(), 0);
    assert_eq!(
        done.err,
        format!(
            "portlock: took over the lock of port {PORT} from a process that left no readable \
             record, which is gone\n"
        )
    );
}

#[test]
fn messages_escape_records_and_arguments() {
    let home = Home::new();
    let mut gone = std::process::Command::new("true").spawn().expect("true runs");
    let pid = gone.id();
    gone.wait().expect("it is ours");
    let record = |pid: u32, host: &str| {
        let text = r"\u001b]0;evil\u0007\u001b[31mred\r\n\u009b2J\u202eend";
        let start =
            format!(r#"{{"pid":{pid},"port":{PORT},"startedAt":"2026-01-02T03:04:05.678Z""#);
        format!(r#"{start},"command":"{text}"{host}}}"#)
    };
    let mut shown = Vec::new();
    // Records of a live process, of one on another machine, and of a dead one.
    for record in [
        record(std::process::id(), ""),
        record(pid, r#","host":"\u001b[2Jelsewhere\u0085""#),
        record(pid, ""),
    ] {
        home.plant(record.as_bytes());
        shown.push(home.status());
        shown.push(finished(&mut home.portlock(["status", "--json", PORT])));
        shown.push(home.run(["true"]));
    }
    let codes: Vec<i32> = shown.iter().map(Finished::code).collect();
    assert_eq!([codes[0], codes[2], codes[3], codes[5], codes[8]], [75, 75, 4, 75, 0]);
    for done in &shown {
        let said = format!("{}{}", done.out, done.err);
        assert!(said.contains("]0;evil[31mred2Jend"), "the rest is shown: {said}");
    }

    let evil = "\u{1b}[31m\r\n\u{9b}2J\u{202e}";
    let dir = home.path().join(format!("x{evil}"));
    std::fs::create_dir(&dir).expect("makes the directory");
    let dir = dir.to_str().expect("UTF-8");
    std::fs::create_dir(format!("{dir}/agent-1.lock")).expect("makes the directory");
    for arguments in [
        &["run", PORT, "--", evil][..],
        &["run", evil, "--", "true"],
        &["run", evil],
        &[evil],
        &["run", "--app", evil, PORT, "--", "true"],
        &["run", "--dir", dir, "1", "--", "true"],
        &["run", "-o", "--dir", dir, "2", "--", "rm", &format!("{dir}/agent-2.lock")],
        &["status", "--dir", dir, "1"],
        &["status", "--dir", dir, "3"],
        &["status", "--json", "--dir", dir, "1"],
        &["status", "--json", "--dir", dir, "3"],
    ] {
        let done = finished(&mut home.portlock(arguments));
        // Only clap drops escape sequences; otherwise they are escaped.
        let (shown_dir, all) = (arguments.contains(&dir), format!("{}{}", done.out, done.err));
        assert!(
            !shown_dir
                || all.contains("\\u{1b}[31m\\r\\n\\u{9b}2J\\u{202e}")
                || all.contains("\\u001b[31m\\r\\n\\u009b2J\\u202e"),
            "{all:?}"
        );
        shown.push(done);
    }
    for done in &shown {
        for text in [&done.out, &done.err] {
            let raw = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
            assert!(!text.contains(raw), "{text:?}");
            // No argument starts a line.
            assert!(!text.lines().any(|line| line.starts_with("2J")), "{text:?}");
        }
    }
    let answers = shown.iter().filter(|done| done.out.starts_with('{'));
    let paths: Vec<String> = answers
        .map(|done| {
            let found: serde_json::Value = serde_json::from_str(&done.out).expect("JSON");
            found["path"].as_str().expect("a path").to_owned()
        })
        .collect();
    assert_eq!(paths.len(), 5);
    assert_eq!(paths[4], format!("{dir}/agent-3.lock"), "JSON is escaped without loss");
}

#[test]
fn note_of_a_run_is_recorded_and_shown() {
    let home = Home::new();
    for way in [&[][..], &["-o"], &["-F"]] {
        let mut run = home.portlock(["run", "--note", "http://localhost:5338"]);
        let holder = Running::start(super::recorder::command(run.args(way).args([PORT, "--"])));
        assert_eq!(home.record()["note"], "http://localhost:5338", "{way:?}");
        let refused = home.run(["echo", "ran"]);
        assert!(refused.err.contains(", note: http://localhost:5338)\n"), "{}", refused.err);
        assert_eq!(home.status_json().1["holder"]["note"], "http://localhost:5338");
        assert_eq!(holder.end().code(), STATUS);
        let _ = std::fs::remove_file(home.lock_file());
    }
}

#[test]
fn note_that_cannot_be_recorded_whole_is_64() {
    let home = Home::new();
    let fits = "é".repeat(portlock::MAX_NOTE);
    let run =
        |note: &str| finished(&mut home.portlock(["run", "--note", note, PORT, "echo", "ran"]));
    assert_eq!(run(&fits).out, "ran\n");
    for (note, said) in [
        (format!("{fits}é"), "it has 129 characters, at most 128 are recorded"),
        ("two\nlines".into(), "it has control characters"),
        ("\u{1b}[31m".into(), "it has control characters"),
    ] {
        let done = run(&note);
        assert_eq!((done.code(), &*done.out), (64, ""), "{note:?}");
        assert!(done.err.contains(said), "{}", done.err);
        assert!(!done.err.contains('\u{1b}'), "{:?}", done.err);
    }
    assert!(home.is_idle());
}
