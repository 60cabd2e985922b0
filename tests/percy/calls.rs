//! The model's legacy agent, and the conformance's, which makes real calls, against the published
//! JavaScript: in the same situation all make the same calls on the lock file, in the same order.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use portlock_model::conformance::legacy_agent::LegacyAgent;
use portlock_model::scenario::catalogue::Scenario;
use portlock_model::scenario::machines::Reply;
use portlock_model::scenario::other::{Percy, Repairs};
use portlock_model::scenario::state::{Content, Creator, Look};
use portlock_model::scenario::view::View;

use super::published::published_lock;
use super::{PORT, old_record};
use crate::participant::{DEAD_PID, not_checked, strace_is_there};

const AS_PUBLISHED: Repairs = Repairs { reread: false, guard: false };

/// Acquires, and releases if it holds.
const AGENT: &str = r"
    import { acquireLock, releaseLockSync, LockHeldError } from './lock.mjs';
    try { releaseLockSync(acquireLock({ port: Number(process.argv[2]) })); }
    catch (error) { if (!(error instanceof LockHeldError)) throw error; }";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Found {
    Nothing,
    Dead,
    Alive,
}

const SITUATIONS: [Found; 3] = [Found::Nothing, Found::Dead, Found::Alive];

#[test]
fn model_of_legacy_agent_makes_its_calls() {
    let Some(lock) = lock_to_trace() else { return };
    for found in SITUATIONS {
        let published = published_calls(&lock, found);
        println!("{found:?}: {}", published.join(", "));
        assert_eq!(published, model_calls(found, AS_PUBLISHED), "{found:?}");
    }
}

#[test]
fn model_with_an_extra_call_is_detected() {
    let Some(lock) = lock_to_trace() else { return };
    let published = published_calls(&lock, Found::Dead);
    for (reread, guard) in [(true, false), (false, true)] {
        assert_ne!(published, model_calls(Found::Dead, Repairs { reread, guard }));
    }
}

#[test]
fn conformance_legacy_agent_makes_its_calls() {
    if let Some(path) = std::env::var_os(AT) {
        return run_alone(Path::new(&path));
    }
    let Some(lock) = lock_to_trace() else { return };
    for found in SITUATIONS {
        let mut published = published_calls(&lock, found);
        // The model decides which process lives.
        published.retain(|call| call != "kill");
        assert_eq!(published, conformance_calls(found, "none"), "{found:?}");
        // An agent that does not write, or does not read, is detected.
        let left_out = if found == Found::Alive { "Reading" } else { "Writing" };
        assert_ne!(published, conformance_calls(found, left_out), "{found:?}");
    }
}

/// Set in the traced process: the path of the lock file, and the situation.
const AT: &str = "PORTLOCK_TEST_LEGACY_AGENT_AT";
const FOUND: &str = "PORTLOCK_TEST_LEGACY_AGENT_FINDS";
/// The state that makes no call.
const WITHOUT: &str = "PORTLOCK_TEST_LEGACY_AGENT_LEAVES_OUT";

/// The calls of the conformance's agent on the lock file, by strace.
fn conformance_calls(found: Found, without: &str) -> Vec<String> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.lock");
    place(&path, found);
    let this = std::env::current_exe().expect("the test binary has a path");
    let program = [this.to_str().expect("UTF-8"), "--exact", "--nocapture", "--test-threads=1"];
    let program = [&program[..], &["calls::conformance_legacy_agent_makes_its_calls"]].concat();
    traced(directory.path(), &path, &program, |strace| {
        strace.env(AT, &path).env(FOUND, format!("{found:?}")).env(WITHOUT, without)
    })
}

/// Makes each step of the model's agent on the real file.
fn run_alone(path: &Path) {
    let found = std::env::var(FOUND).expect("the situation");
    let found =
        SITUATIONS.into_iter().find(|one| format!("{one:?}") == found).expect("a known situation");
    let without = std::env::var(WITHOUT).expect("a state");
    let mut agent = LegacyAgent::default();
    let record = old_record(std::process::id());
    in_the_model(found, AS_PUBLISHED, |state, expected| {
        if format!("{state:?}") == without {
            return;
        }
        let made = agent.step(state, path, record.as_bytes()).expect("the system allows it");
        assert_eq!(made, Some(expected));
    });
}

/// The published module, if it can be traced.
fn lock_to_trace() -> Option<Vec<u8>> {
    if !strace_is_there("the legacy agent's system calls") {
        return None;
    }
    match published_lock() {
        Ok(lock) => Some(lock),
        Err(reason) => {
            not_checked(&format!("the legacy agent's system calls: {reason}"));
            None
        }
    }
}

/// Runs the model's agent, and calls `each` with every step and its reply.
fn in_the_model(found: Found, repairs: Repairs, mut each: impl FnMut(Percy, &'static str)) {
    let scenario = Scenario::named("legacy-agents", 2).expect("the scenario exists");
    let mut state = scenario
        .beginnings()
        .into_iter()
        .find(|state| state.named().is_none())
        .expect("the scenario begins with no file");
    // The author takes no part, so that the agent sees only the file.
    match found {
        Found::Nothing => {}
        Found::Dead => _ = state.place(Content::OldDead(Look::Gone), Creator::Start),
        Found::Alive => _ = state.place(Content::OldAlive, Creator::Start),
    }
    let mut agent = Some(Percy::START);
    while let Some(now) = agent {
        let mut view = View::new(&mut state, &scenario, 0, 0);
        agent = now.step(&mut view, true, repairs);
        if now == Percy::Holding {
            continue;
        }
        let Reply::Other(reply) = view.reply else { panic!("{now:?}: not a legacy agent's reply") };
        each(now, reply);
    }
}

/// The calls of the model's agent, by its replies.
fn model_calls(found: Found, repairs: Repairs) -> Vec<String> {
    let mut calls = Vec::new();
    in_the_model(found, repairs, |_, reply| {
        calls.extend(reply.split(", ").filter(|part| *part != "0)").map(|part| match part {
            "kill(pid" => "kill".to_owned(),
            "unlink by name" => "unlink".to_owned(),
            other => other.to_owned(),
        }));
    });
    calls
}

fn place(path: &Path, found: Found) {
    match found {
        Found::Nothing => {}
        Found::Dead => fs::write(path, old_record(DEAD_PID)).expect("written"),
        Found::Alive => fs::write(path, old_record(std::process::id())).expect("written"),
    }
}

/// The calls of the published JavaScript on the lock file, by strace.
fn published_calls(lock: &[u8], found: Found) -> Vec<String> {
    let home = tempfile::tempdir().expect("a directory");
    fs::write(home.path().join("lock.mjs"), lock).expect("written");
    fs::write(home.path().join("agent.mjs"), AGENT).expect("written");
    fs::create_dir(home.path().join(".percy")).expect("made");
    let path = home.path().join(format!(".percy/agent-{PORT}.lock"));
    place(&path, found);
    let agent = home.path().join("agent.mjs");
    let port = PORT.to_string();
    let program = ["node", agent.to_str().expect("UTF-8"), &port];
    traced(home.path(), &path, &program, |strace| strace.env("HOME", home.path()))
}

/// The calls of a program on the file `path`, by strace.
fn traced(
    directory: &Path,
    path: &Path,
    program: &[&str],
    prepare: impl FnOnce(&mut Command) -> &mut Command,
) -> Vec<String> {
    // One file for each thread, so that no call is split over two lines.
    let mut strace = Command::new("strace");
    strace
        .args(["-ff", "-s", "256", "-e", "trace=%file,%desc,kill", "-o"])
        .arg(directory.join("trace"))
        .args(["timeout", "60"])
        .args(program)
        .stdin(Stdio::null());
    let done = prepare(&mut strace).output().expect("strace runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut calls = Vec::new();
    for entry in fs::read_dir(directory).expect("it can be listed") {
        let entry = entry.expect("it can be listed").path();
        if entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with("trace.")) {
            calls.extend(on_the_lock(&fs::read_to_string(&entry).expect("a trace"), path));
        }
    }
    calls
}

/// The calls of one thread on the lock file, in the model's words. Any other call on it keeps its
/// own name, which the model never uses.
fn on_the_lock(trace: &str, path: &Path) -> Vec<String> {
    let quoted = format!("\"{}\"", path.display());
    let mut calls: Vec<String> = Vec::new();
    // The descriptor, and whether it was opened for reading.
    let mut open: Option<(String, bool)> = None;
    for line in trace.lines() {
        let Some((name, rest)) = line.split_once('(') else { continue };
        let result = line.rsplit_once(" = ").map_or("", |(_, result)| result);
        let on_descriptor = open
            .as_ref()
            .filter(|(fd, _)| rest.split([',', ')']).next() == Some(fd.as_str()))
            .map(|(_, reads)| *reads);
        if rest.contains(&quoted) {
            let exclusive = rest.contains("O_EXCL");
            if name.starts_with("open") && !result.starts_with('-') {
                open = Some((result.to_owned(), !exclusive));
            }
            calls.push(match name {
                "open" | "openat" if exclusive && result.contains("EEXIST") => "wx: exists".into(),
                "open" | "openat" if exclusive => "wx: created".into(),
                "open" | "openat" if rest.contains("O_RDONLY") => "read".into(),
                "unlink" | "unlinkat" => "unlink".into(),
                other => other.into(),
            });
        } else if let Some(reads) = on_descriptor {
            match name {
                "close" => {
                    open = None;
                    if !reads {
                        calls.push("close".into());
                    }
                }
                // Part of reading a whole file.
                "read" | "fstat" | "statx" | "fstatat" | "newfstatat" if reads => {}
                "write" | "pwrite64" => calls.push("write".into()),
                // With debug assertions, std checks that a descriptor is open before it closes it.
                "fcntl" if rest.contains("F_GETFD") => {}
                other => calls.push(other.into()),
            }
        } else if name == "kill" && !calls.is_empty() && rest.contains(", 0)") {
            calls.push("kill".into());
        }
    }
    calls
}
