//! The model's old agent against the published JavaScript: in the same situation both make the same
//! calls on the lock file, in the same order.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use portlock_model::scenario::catalogue::Scenario;
use portlock_model::scenario::machines::Reply;
use portlock_model::scenario::other::{Percy, Repairs};
use portlock_model::scenario::state::{Content, Creator, Look};
use portlock_model::scenario::view::View;

use super::published::published_lock;
use super::{NOBODY, PORT, old_record};
use crate::participant::not_checked;

const AS_PUBLISHED: Repairs = Repairs { reread: false, guard: false };

/// Acquires, and releases if it holds.
const AGENT: &str = r"
    import { acquireLock, releaseLockSync, LockHeldError } from './lock.mjs';
    try { releaseLockSync(acquireLock({ port: Number(process.argv[2]) })); }
    catch (error) { if (!(error instanceof LockHeldError)) throw error; }";

#[derive(Debug, Clone, Copy)]
enum Found {
    Nothing,
    Dead,
    Alive,
}

const SITUATIONS: [Found; 3] = [Found::Nothing, Found::Dead, Found::Alive];

#[test]
fn model_of_the_old_agent_makes_its_calls() {
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

/// The published module, where strace can see what it does.
fn lock_to_trace() -> Option<Vec<u8>> {
    let version = Command::new("strace").arg("--version").output();
    if !version.is_ok_and(|version| version.status.success()) {
        not_checked("the old agent's system calls: strace is missing; apt-get install strace");
        return None;
    }
    match published_lock() {
        Ok(lock) => Some(lock),
        Err(reason) => {
            not_checked(&format!("the old agent's system calls: {reason}"));
            None
        }
    }
}

/// What the model's agent does, by its own replies.
fn model_calls(found: Found, repairs: Repairs) -> Vec<String> {
    let scenario = Scenario::named("legacy-agents", 2).expect("there is such a scenario");
    let mut state = scenario
        .beginnings()
        .into_iter()
        .find(|state| state.named().is_none())
        .expect("the scenario begins with no file");
    // Its author takes no part, so that the file is all that the agent sees of it.
    match found {
        Found::Nothing => {}
        Found::Dead => _ = state.place(Content::OldDead(Look::Gone), Creator::Start),
        Found::Alive => _ = state.place(Content::OldAlive, Creator::Start),
    }
    let mut calls = Vec::new();
    let mut agent = Some(Percy::START);
    while let Some(now) = agent {
        let mut view = View::new(&mut state, &scenario, 0, 0);
        agent = now.step(&mut view, true, repairs);
        if now == Percy::Holding {
            continue;
        }
        let Reply::Other(reply) = view.reply else { panic!("{now:?} replies as no old agent") };
        calls.extend(reply.split(", ").filter(|part| *part != "0)").map(|part| match part {
            "kill(pid" => "kill".to_owned(),
            "unlink by name" => "unlink".to_owned(),
            other => other.to_owned(),
        }));
    }
    calls
}

/// What the published JavaScript does to the lock file, as strace sees it.
fn published_calls(lock: &[u8], found: Found) -> Vec<String> {
    let home = tempfile::tempdir().expect("a directory");
    fs::write(home.path().join("lock.mjs"), lock).expect("written");
    fs::write(home.path().join("agent.mjs"), AGENT).expect("written");
    fs::create_dir(home.path().join(".percy")).expect("made");
    let path = home.path().join(format!(".percy/agent-{PORT}.lock"));
    match found {
        Found::Nothing => {}
        Found::Dead => fs::write(&path, old_record(NOBODY)).expect("written"),
        Found::Alive => fs::write(&path, old_record(std::process::id())).expect("written"),
    }
    // One file for each thread, so that no call is split in two lines.
    let done = Command::new("strace")
        .args(["-ff", "-s", "256", "-e", "trace=%file,%desc,kill", "-o"])
        .arg(home.path().join("trace"))
        .args(["timeout", "60", "node"])
        .arg(home.path().join("agent.mjs"))
        .arg(PORT.to_string())
        .env("HOME", home.path())
        .stdin(Stdio::null())
        .output()
        .expect("strace runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut calls = Vec::new();
    for entry in fs::read_dir(home.path()).expect("it can be listed") {
        let entry = entry.expect("it can be listed").path();
        if entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with("trace.")) {
            calls.extend(on_the_lock(&fs::read_to_string(&entry).expect("a trace"), &path));
        }
    }
    calls
}

/// The calls of one thread on the lock file, in the model's words. Any other call on it keeps its
/// own name, which the model never says.
fn on_the_lock(trace: &str, path: &Path) -> Vec<String> {
    let quoted = format!("\"{}\"", path.display());
    let mut calls: Vec<String> = Vec::new();
    // The descriptor, and whether it was opened to read.
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
                other => calls.push(other.into()),
            }
        } else if name == "kill" && !calls.is_empty() && rest.contains(", 0)") {
            calls.push("kill".into());
        }
    }
    calls
}
