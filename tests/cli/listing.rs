//! `list`: table, JSON, colours.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::recorder::STATUS;
use super::{Home, PORT, finished, must_return, since, terminal};

/// Plants a dead holder's lock, one of another container, and a directory.
fn plant_three(home: &Home) -> (Value, Value) {
    let (dead, foreign) = (home.dead_record(), home.foreign_record());
    home.plant_as("agent-80.lock", dead.to_string().as_bytes());
    home.plant_as("build.lock", foreign.to_string().as_bytes());
    std::fs::create_dir_all(home.locks().join("x.lock")).expect("makes the directory");
    (dead, foreign)
}

/// The message about the directory.
fn left_alone(home: &Home) -> String {
    let path = home.locks().join("x.lock");
    format!("portlock: left alone: {} is a directory, not a lock file\n", path.display())
}

#[test]
#[cfg(target_os = "linux")]
fn the_table_is_aligned_and_ordered() {
    let home = Home::new();
    let (dead, foreign) = plant_three(&home);
    let holder = home.recorder();
    let record = home.record();
    let done = finished(&mut home.portlock(["list"]));
    assert_eq!((done.code(), done.err), (0, left_alone(&home)));
    let pid = |record: &Value| record["pid"].to_string();
    let width = [&dead, &foreign, &record].map(|record| pid(record).len()).into_iter().max();
    let width = width.expect("three").max(3);
    let line = |lock: &str, state: &str, pid: &str, since: &str, reason: &str, command: &str| {
        format!("{lock:5}  {state:7}  {pid:width$}  {since:23}  {reason:14}  {command}\n")
    };
    let name = record["command"].as_str().expect("a name");
    let expected = [
        line("LOCK", "STATE", "PID", "STARTED", "REASON", "COMMAND"),
        line("80", "stale", &pid(&dead), &since(&dead), "-", "sh"),
        line(PORT, "held", &pid(&record), &since(&record), "-", name),
        line("build", "unknown", &pid(&foreign), &since(&foreign), "no-shared-lock", "sh"),
    ];
    assert_eq!(done.out, expected.concat());

    let done = finished(&mut home.portlock(["list", "--stale"]));
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!((done.code(), lines.len()), (0, 2), "{}", done.out);
    assert!(lines[1].starts_with("80    stale") && !lines[0].contains("REASON"), "{}", done.out);
    assert_eq!(holder.end().code(), STATUS);
}

#[test]
#[cfg(target_os = "linux")]
fn list_json_has_one_status_object_a_line() {
    let home = Home::new();
    plant_three(&home);
    let holder = home.recorder();
    let all = finished(&mut home.portlock(["list", "--json"]));
    assert_eq!((all.code(), all.err), (0, left_alone(&home)));
    let found: Vec<Value> = serde_json::from_str(&all.out).expect("an array");
    let states: Vec<&Value> = found.iter().map(|found| &found["state"]).collect();
    assert_eq!(states, ["stale", "held", "unknown"]);
    for (found, lock) in found.iter().zip(["80", PORT, "build"]) {
        let one = finished(&mut home.portlock(["status", "--json", lock]));
        assert!(all.out.lines().any(|line| line.trim_end_matches(',') == one.out.trim_end()));
        assert_eq!(*found, serde_json::from_str::<Value>(&one.out).expect("an object"));
    }
    assert_eq!((&found[0]["port"], &found[0]["name"]), (&json!(80), &Value::Null));
    assert_eq!((&found[2]["port"], &found[2]["name"]), (&Value::Null, &json!("build")));

    let stale = finished(&mut home.portlock(["list", "--json", "--stale"]));
    let found: Vec<Value> = serde_json::from_str(&stale.out).expect("an array");
    assert_eq!((found.len(), &found[0]["port"]), (1, &json!(80)));
    assert_eq!(holder.end().code(), STATUS);
}

/// With the feature `serde` the library's entries equal the command's, except for longer messages.
#[test]
fn library_serializes_what_the_command_prints() {
    let home = Home::new();
    plant_three(&home);
    // An error for a port's file: other files are reported as left alone.
    std::fs::create_dir_all(home.locks().join("agent-82.lock")).expect("makes the directory");
    let dir = portlock::LockDir::at(home.locks());
    let lock = dir.port(81).expect("a port").note("http://localhost:81");
    let _guard = lock.try_acquire().expect("free");
    let listed = finished(&mut home.portlock(["list", "--json"]));
    let mut printed: Value = serde_json::from_str(&listed.out).expect("an array");
    let mut serialized = serde_json::to_value(dir.list().expect("lists")).expect("an array");
    serialized.as_array_mut().expect("an array").retain(|entry| entry["name"] != "x");
    for found in [&mut printed, &mut serialized] {
        let entries = found.as_array_mut().expect("an array");
        assert_eq!(entries.len(), 4);
        for entry in entries.iter_mut().filter(|entry| entry["holder"].is_null()) {
            let message = entry["message"].take();
            assert!(message.as_str().is_some_and(|said| said.starts_with("cannot tell whether")));
        }
    }
    assert_eq!(serialized, printed);
}

#[test]
fn note_is_shown_by_every_query_and_refusal() {
    let home = Home::new();
    let dir = portlock::LockDir::at(home.locks());
    let lock = dir.port(5338).expect("a port").note("http://localhost:5338 \u{1b}[31m");
    let _guard = lock.try_acquire().expect("free");
    let note = "http://localhost:5338 [31m";
    let list = finished(&mut home.portlock(["list"]));
    let lines: Vec<&str> = list.out.lines().collect();
    assert!(lines[0].ends_with("  NOTE") && lines[1].ends_with(note), "{}", list.out);
    assert!(home.status().out.contains(&format!(", note: {note})\n")), "{}", home.status().out);
    assert_eq!(home.status_json().1["holder"]["note"], note);
    let refused = home.run(["true"]);
    assert!(refused.err.contains(&format!(", note: {note})\n")), "{}", refused.err);
}

#[test]
fn list_of_no_locks_is_empty() {
    let home = Home::new();
    for made in [false, true] {
        for (arguments, out) in [
            (&["list"][..], ""),
            (&["list", "--stale"], ""),
            (&["list", "--json"], "[]\n"),
            (&["list", "--json", "--stale"], "[]\n"),
        ] {
            let done = finished(&mut home.portlock(arguments));
            assert_eq!((done.code(), &*done.out, &*done.err), (0, out, ""));
            assert_eq!(home.locks().exists(), made);
        }
        std::fs::create_dir_all(home.locks()).expect("makes the directory");
        home.plant_as("notes.txt", b"");
    }
}

#[test]
fn unreadable_directory_is_74_and_named() {
    let home = Home::new();
    std::fs::write(home.locks(), "").expect("writes");
    for arguments in [&["list"][..], &["list", "--json"], &["sweep"]] {
        let done = finished(&mut home.portlock(arguments));
        assert_eq!((done.code(), &*done.out), (74, ""), "{arguments:?}");
        assert!(done.err.contains(home.locks().to_str().expect("UTF-8")), "{}", done.err);
        assert_eq!(done.err.lines().count(), 1, "{}", done.err);
    }
}

#[test]
fn list_escapes_records_and_file_names() {
    let home = Home::new();
    let text = r"\u001b]0;evil\u0007\u001b[31mred\r\n\u009b2J\u202eend";
    let record = format!(
        r#"{{"pid":{},"startedAt":"\u001b[2J","command":"{text}","host":"{text}"}}"#,
        std::process::id()
    );
    home.plant(record.as_bytes());
    home.plant_as("\u{1b}[31m.lock", record.as_bytes());
    home.plant_as("a\nb.lock", record.as_bytes());
    for arguments in [&["list"][..], &["list", "--json"], &["sweep"], &["sweep", "--json"]] {
        let done = finished(&mut home.portlock(arguments));
        assert_eq!(done.code(), 0);
        for text in [&done.out, &done.err] {
            let raw = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
            assert!(!text.contains(raw), "{text:?}");
        }
        if arguments[0] == "list" {
            assert!(done.out.contains("]0;evil[31mred2Jend"), "the rest is shown: {}", done.out);
            assert!(!done.out.contains("a\\nb"), "not a lock's file: {}", done.out);
        }
    }
}

/// The output of `list` on a terminal.
fn on_a_terminal(list: &mut Command) -> String {
    let (mut keyboard, terminal) = terminal::open();
    list.stdout(Stdio::from(terminal.try_clone().expect("a second descriptor")));
    let mut child = list.spawn().expect("portlock starts");
    // Kept open until the end, because output is lost when the last descriptor is closed.
    assert_eq!(must_return("it ends", || child.wait()).expect("ours").code(), Some(0));
    list.stdout(Stdio::null());
    drop::<OwnedFd>(terminal);
    let mut shown = Vec::new();
    // Linux reports EIO at the end of a terminal.
    let _ = keyboard.read_to_end(&mut shown);
    String::from_utf8(shown).expect("UTF-8")
}

#[test]
#[cfg(target_os = "linux")]
fn states_are_coloured_on_a_terminal() {
    let home = Home::new();
    plant_three(&home);
    let held = portlock::LockDir::at(home.locks()).name("held").expect("a name");
    let guard = held.try_acquire().expect("free");
    let plain = finished(&mut home.portlock(["list"])).out;
    assert!(!plain.contains('\x1b'));
    let on_terminal = |variable: &str, value: &str| {
        let mut list = home.portlock(["list"]);
        list.env("TERM", "xterm").env(variable, value);
        on_a_terminal(&mut list).replace("\r\n", "\n")
    };
    let coloured = on_terminal("TERM", "xterm");
    assert!(coloured.contains("\x1b[31mheld   \x1b[0m"), "{coloured:?}");
    assert!(coloured.contains("\x1b[33mstale  \x1b[0m"), "{coloured:?}");
    assert!(coloured.contains("\x1b[35munknown\x1b[0m"), "{coloured:?}");
    let mut stripped = coloured.clone();
    for escape in ["\x1b[31m", "\x1b[33m", "\x1b[35m", "\x1b[0m"] {
        stripped = stripped.replace(escape, "");
    }
    assert_eq!(stripped, plain, "only colours are added");
    assert_eq!(on_terminal("NO_COLOR", "1"), plain);
    assert_eq!(on_terminal("TERM", "dumb"), plain);
    assert_eq!(on_terminal("NO_COLOR", ""), coloured, "empty is unset");
    drop(guard);
}
