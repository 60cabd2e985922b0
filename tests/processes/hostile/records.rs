//! Hostile records.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Instant, SystemTime};

use portlock::{Status, UnknownReason};

use super::{COMMANDS, HANG, HUNG, OPERATIONS, Outcome, PANICKED, Scene};
#[cfg(target_os = "linux")]
use crate::participant::strace_is_there;
use crate::participant::{DEAD_PID, Participant, must_return, old_record};

/// Where not all kernel locks are listed, a query cannot report a file as stale.
fn is_stale(status: &Status) -> bool {
    matches!(
        status,
        Status::Stale { .. } | Status::Unknown { reason: UnknownReason::CannotWatch, .. }
    )
}

/// A record, and the pid that it names if that process may be alive, so that an acquire is refused.
struct Record {
    bytes: Vec<u8>,
    live: Option<u32>,
    /// Whether it lives cannot be checked.
    is_elsewhere: bool,
    /// Too long for a record.
    is_foreign: bool,
}

fn records(victim: u32) -> Vec<Record> {
    let record = |bytes: &[u8], live| Record {
        bytes: bytes.to_owned(),
        live,
        is_elsewhere: false,
        is_foreign: bytes.len() > portlock::MAX_RECORD,
    };
    let live = |text: String| record(text.as_bytes(), Some(victim));
    let dead = |bytes: &[u8]| record(bytes, None);
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    // Without one it is a record in the old format.
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let boot = boot.trim();
    let evil = r"\u001b]0;evil\u0007\u001b[31mred\r\n\u009b2J\u202eend";
    let mut records = vec![
        // Escape sequences: from another container, and of a live and a dead process.
        Record {
            is_elsewhere: true,
            ..live(format!(
                r#"{{"pid":{victim},"command":"{evil}","host":"{evil}","boot":"{boot}","pidNamespace":7}}"#
            ))
        },
        live(format!(r#"{{"pid":{victim},"command":"{evil}","startedAt":"{evil}"}}"#)),
        dead(format!(r#"{{"pid":{DEAD_PID},"command":"{evil}","startedAt":"{evil}"}}"#).as_bytes()),
        dead(format!("{{\"pid\":{DEAD_PID},\"command\":\"\u{1b}[2J\"}}").as_bytes()),
        // The last of two keys counts, as it does for JSON.parse.
        live(format!(r#"{{"pid":{DEAD_PID},"pid":{victim}}}"#)),
        dead(format!(r#"{{"pid":{victim},"pid":{DEAD_PID}}}"#).as_bytes()),
        dead(format!(r#"{{"pid":{victim},"pid":0}}"#).as_bytes()),
        // Huge numbers and wrong types next to a valid pid.
        live(format!(
            r#"{{"pid":{victim},"port":1e9,"processStart":18446744073709551616,"pidNamespace":-1}}"#
        )),
        live(format!(r#"{{"pid":{victim},"startedAt":"9999-12-31T23:59:59.999Z"}}"#)),
        live(format!(r#"{{"pid":{victim},"startedAt":"+999999-01-01T00:00:00Z"}}"#)),
        live(format!(r#"{{"pid":{victim},"more":{}}}"#, deep(100))),
        live(format!("{{\"pid\":{victim}}}{}", " ".repeat(3000))),
        // Invalid records.
        dead(format!(r#"{{"pid":{victim},"more":{}}}"#, deep(1000)).as_bytes()),
        dead("[".repeat(4096).as_bytes()),
        dead("[".repeat(1_000_000).as_bytes()),
        dead(format!("\u{feff}{{\"pid\":{victim}}}").as_bytes()),
        dead(format!("{{\"pid\":{victim}}}{}", " ".repeat(5000)).as_bytes()),
        dead(format!("{{\"pid\":{victim}}}\0").as_bytes()),
        dead(&[format!("{{\"pid\":{victim},\"x\":\"").as_bytes(), b"\xff\xfe\"}"].concat()),
        dead(format!("{{\"pid\":{victim}").as_bytes()),
        dead(&[0; 4096]),
        dead(&[0xff; 100]),
    ];
    // Invalid pids: groups, all processes, and numbers that truncate to the victim's.
    for pid in [
        "0".to_owned(),
        "-1".to_owned(),
        "-0".to_owned(),
        format!("-{victim}"),
        format!("{victim}.5"),
        format!("\"{victim}\""),
        format!("[{victim}]"),
        (u64::from(victim) + (1 << 32)).to_string(),
        (i64::from(victim) - (1 << 32)).to_string(),
        "2147483648".to_owned(),
        "4294967295".to_owned(),
        "18446744073709551615".to_owned(),
        "1e400".to_owned(),
        "9".repeat(400),
        "true".to_owned(),
        "null".to_owned(),
    ] {
        records.push(dead(format!("{{\"pid\":{pid},\"port\":5338}}").as_bytes()));
    }
    // Valid pids: the first, and the highest possible.
    records.push(record(old_record(1, SystemTime::now()).as_bytes(), Some(1)));
    records.push(dead(b"{\"pid\":2147483647}"));
    records
}

#[test]
fn every_operation_agrees_on_every_hostile_record() {
    let mut victim = Participant::start();
    let scene = Scene::new();
    let others = scene.sibling("locks").join("kept.txt");
    fs::write(&others, "no lock").expect("writes");
    let records = records(victim.pid());
    for Record { bytes, live, is_elsewhere, is_foreign } in &records {
        let shown = bytes[..bytes.len().min(90)].escape_ascii();
        let began = Instant::now();
        for operation in OPERATIONS {
            scene.plant(bytes);
            let before = scene.everything();
            let outcome = scene.operate(operation);
            match (live, outcome) {
                (None, Outcome::NotALockFile(_)) if *is_foreign => {}
                (Some(pid), Outcome::Status(Status::Held { holder, .. })) if !is_elsewhere => {
                    assert_eq!(holder.map(|holder| holder.pid), Some(*pid), "{operation}: {shown}");
                }
                (Some(pid), Outcome::Status(Status::Unknown { holder, reason, .. }))
                    if *is_elsewhere && reason == UnknownReason::NoSharedLock =>
                {
                    assert_eq!(holder.map(|holder| holder.pid), Some(*pid), "{operation}: {shown}");
                }
                (Some(pid), Outcome::Held(said)) => {
                    assert!(said.contains(&format!("pid {pid}")), "{operation}: {said}");
                    assert!(!said.contains(is_raw), "{said:?}");
                }
                (Some(_), Outcome::Done(None)) if operation == "sweep" => {}
                (None, Outcome::Status(status)) => {
                    assert!(is_stale(&status), "{operation}, {shown}: {status:?}");
                    assert!(!status.describe(&scene.lock).contains(is_raw), "{status:?}");
                }
                (None, Outcome::Done(Some(from))) => assert!(!from.contains(is_raw), "{from:?}"),
                (_, other) => panic!("{operation}, {shown}: {other:?}"),
            }
            let is_query = ["status", "list"].contains(&operation);
            if live.is_some() || is_query || *is_foreign {
                assert_eq!(scene.everything(), before, "{operation}: {shown}");
            } else {
                assert!(
                    !fs::exists(scene.lock.path()).expect("it can be checked"),
                    "{operation}: {shown}"
                );
            }
        }
        assert!(began.elapsed() < HANG, "{shown}");
    }
    assert_eq!(fs::read(&others).expect("exists"), b"no lock");
    assert_eq!(victim.request("pid"), victim.pid().to_string(), "it is alive");
    println!("{} records, 7 operations each", records.len());
}

/// The same for the subcommands. By strace, the only signal sent is 0, to a single process.
#[test]
#[cfg(target_os = "linux")]
fn subcommands_send_no_signals_and_escape_records() {
    let mut victim = Participant::start();
    let scene = Scene::new();
    let traced = strace_is_there("the signals of the subcommands");
    let (saved, trace) = (scene.sibling("saved"), scene.sibling("trace"));
    let script: String = COMMANDS
        .iter()
        .map(|words| format!("cp -p saved \"$FILE\"; timeout 20 \"$PORTLOCK\" {words}; echo =$?\n"))
        .collect();
    let (mut probes, mut codes) = (0, BTreeMap::new());
    let records = records(victim.pid());
    for Record { bytes, live, .. } in &records {
        scene.plant(bytes);
        fs::rename(scene.lock.path(), &saved).expect("renames");
        let mut shell = Command::new(if traced { "strace" } else { "sh" });
        if traced {
            let signals =
                "--trace=kill,tkill,tgkill,rt_sigqueueinfo,rt_tgsigqueueinfo,pidfd_send_signal";
            shell.args(["-f", "-qq", "--seccomp-bpf", signals, "-o"]).arg(&trace).arg("sh");
        }
        shell.args(["-c", &script]).env("FILE", scene.lock.path());
        shell.env("PORTLOCK", env!("CARGO_BIN_EXE_portlock")).env("HOME", scene.home.path());
        shell.env("PORTLOCK_DIR", scene.dir.path()).current_dir(scene.home.path());
        let done = must_return("the shell ends", || shell.output()).expect("it runs");
        let shown = bytes[..bytes.len().min(90)].escape_ascii();
        for out in [done.stdout, done.stderr] {
            let said = String::from_utf8(out).expect("UTF-8");
            assert!(!said.contains(|c| c != '\n' && is_raw(c)), "{shown}: {said:?}");
            for code in said.lines().filter_map(|line| line.strip_prefix('=')) {
                let code: i32 = code.parse().expect("a number");
                assert!(code < 128 && code != PANICKED && code != HUNG, "{shown}: {said}");
                *codes.entry((live.is_some(), code)).or_insert(0) += 1;
            }
        }
        let signals =
            if traced { fs::read_to_string(&trace).expect("it wrote") } else { "".into() };
        for line in signals.lines().filter(|line| !line.contains("---") && !line.contains("+++")) {
            let (_, call) = line.split_once(' ').expect("a pid and a call");
            let pid =
                call.trim_start().strip_prefix("kill(").and_then(|call| call.split_once(", 0)"));
            let pid: i32 = pid.and_then(|(pid, _)| pid.parse().ok()).unwrap_or(0);
            assert!(pid > 0, "{shown}: {line}");
            probes += 1;
        }
    }
    assert!(probes > 0 || !traced, "the control: the probes are traced");
    assert_eq!(victim.request("pid"), victim.pid().to_string(), "it is alive");
    println!(
        "{} records, {probes} probes; whether it lives, exit status, times: {codes:?}",
        records.len()
    );
}

fn is_raw(c: char) -> bool {
    c.is_control() || c == '\u{202e}'
}
