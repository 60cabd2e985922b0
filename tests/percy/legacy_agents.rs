//! The published JavaScript itself, `@percy/core` at one version, against the library and the
//! command, in both directions: a live holder is respected, a dead one reclaimed, records are read.
//!
//! `published.rs` fetches the package.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;

use portlock::{Guard, LockDir};
use serde_json::{Value, json};

use super::PORT;
use super::published::published_lock;
use crate::participant::{Participant, ending, must_return, not_checked, outcome, reclaimed_from};

/// Answers each order with a line of JSON. It uses the lock as `percy start` and `percy stop` do:
/// `handle` is what they keep.
const AGENT: &str = r"
    import { createInterface } from 'node:readline';
    import { acquireLock, releaseLockSync, LockHeldError } from './lock.mjs';
    let handle;
    const orders = {
        acquire(port) {
            try {
                handle = acquireLock({ port });
                return { did: 'held', path: handle.path, record: JSON.parse(handle.payload) };
            } catch (error) {
                if (!(error instanceof LockHeldError)) return { did: 'failed', error: `${error}` };
                return { did: 'refused', path: error.lockPath, record: error.meta,
                         message: error.message };
            }
        },
        release() { releaseLockSync(handle); return { did: 'released' }; },
    };
    for await (const line of createInterface({ input: process.stdin })) {
        const [order, port] = line.split(' ');
        console.log(JSON.stringify(orders[order](Number(port))));
    }";

// ---- a legacy agent holds, or died --------------------------------------------------------------

#[test]
fn refusals_name_live_legacy_agents_pid_and_path() {
    let Some(home) = Home::new() else { return };
    let agent = home.agent_that_holds();
    let before = (home.record(), fs::read(home.lock_file()).expect("it exists"));

    let error = home.lock().try_acquire().expect_err("it is held");
    let held = error.held().expect("held");
    assert_eq!(held.holder.as_ref().map(|holder| holder.pid), Some(agent.pid()));
    assert_eq!(held.path, home.lock_file());

    let done = home.portlock(&["run", "5338", "--", "echo", "ran"]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!((done.status.code(), &*done.stdout), (Some(75), &b""[..]), "{said}");
    assert!(said.contains(&format!("is locked by pid {}", agent.pid())), "{said}");
    assert!(said.contains(&home.lock_file().display().to_string()), "{said}");
    let after = (home.record(), fs::read(home.lock_file()).expect("it exists"));
    assert_eq!(after, before, "the file is unchanged");
}

#[test]
fn library_reclaims_a_dead_legacy_agent() {
    let Some(home) = Home::new() else { return };
    let mut agent = home.agent_that_holds();
    agent.kill();
    assert_eq!(home.record()["pid"], agent.pid(), "it died with the lock held");
    let attempt = home.lock().try_acquire();
    assert_eq!(outcome(&attempt), reclaimed_from(agent.pid()));
}

#[test]
fn command_reclaims_a_dead_legacy_agent() {
    let Some(home) = Home::new() else { return };
    let mut agent = home.agent_that_holds();
    agent.kill();
    let done = home.portlock(&["run", "5338", "--", "echo", "ran"]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!((done.status.code(), &*done.stdout), (Some(0), &b"ran\n"[..]), "{said}");
    assert!(said.contains(&format!("from pid {}", agent.pid())), "{said}");
    assert!(home.is_idle());
}

#[test]
fn library_and_command_read_legacy_agents_record() {
    let Some(home) = Home::new() else { return };
    let agent = home.agent_that_holds();
    let record = home.record();
    let since = record["startedAt"].as_str().expect("a time");

    let error = home.lock().try_acquire().expect_err("it is held");
    let holder = error.held().and_then(|held| held.holder.as_ref()).expect("its record is read");
    assert_eq!((holder.pid, holder.port), (agent.pid(), Some(PORT)));
    assert_eq!(holder.started_at, humantime::parse_rfc3339(since).ok());

    let done = home.portlock(&["status", "--json", "5338"]);
    let status: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let holder = &status["holder"];
    let keys = ["pid", "port", "startedAt"];
    assert_eq!(keys.map(|key| &holder[key]), keys.map(|key| &record[key]), "{status}");
}

// ---- the library or the command holds, or died --------------------------------------------------

#[test]
fn library_refuses_legacy_agent_which_reads_its_record() {
    let Some(home) = Home::new() else { return };
    let guard = home.lock().try_acquire().expect("free");
    let said = home.agent().request("acquire 5338");
    assert_refused_by(&said, &guard, &home);
    assert!(guard.is_still_held().expect("it exists"));
    assert_eq!(ending(&guard.release()), "released");
}

#[test]
fn refused_legacy_agent_names_the_commands_pid() {
    let Some(home) = Home::new() else { return };
    let (mut portlock, command) = home.running();
    let said = home.agent().request("acquire 5338");
    assert_eq!(said["did"], "refused", "{said}");
    assert_eq!(said["record"]["pid"], command);
    assert_eq!(said["record"]["port"], PORT);
    drop(portlock.stdin.take());
    assert!(must_return("it ends", || portlock.wait()).expect("it ends").success());
    assert!(home.is_idle());
}

/// The agent only probes the recorded pid, so that process must live as long as the lock is used.
#[test]
fn legacy_agent_is_refused_while_the_command_lives() {
    let Some(home) = Home::new() else { return };
    let (mut portlock, command) = home.running();
    let keep = portlock.stdin.take();
    portlock.kill().expect("it is ours");
    portlock.wait().expect("it is ours");
    let said = home.agent().request("acquire 5338");
    assert_eq!((&said["did"], &said["record"]["pid"]), (&json!("refused"), &json!(command)));
    drop(keep);
}

#[test]
fn legacy_agent_reclaims_and_removes_killed_holders_file() {
    let Some(home) = Home::new() else { return };
    let mut holder = Participant::holding(&home.lock_file());
    holder.kill();
    assert_eq!(home.record()["pid"], holder.pid(), "it died with the lock held");
    let mut agent = home.agent_that_holds();
    assert_eq!(home.record()["pid"], agent.pid());
    assert_eq!(agent.request("release")["did"], "released");
    assert!(home.is_idle());
}

/// The control of the refusals above: the agent takes an unreadable record for stale. Therefore P1
/// holds next to a legacy agent only after the record is written.
#[test]
fn legacy_agent_steals_lock_with_unreadable_record() {
    let Some(home) = Home::new() else { return };
    let guard = home.lock().try_acquire().expect("free");
    fs::write(home.lock_file(), "").expect("it is emptied");
    let mut agent = home.agent_that_holds();
    assert!(!guard.is_still_held().expect("another file exists"));
    assert_eq!(ending(&guard.release()), "lost");
    assert_eq!(home.record()["pid"], agent.pid(), "the agent's file was not removed");
    agent.request("release");
}

/// A stopping agent unlinks any file at the path: here the library's, after its own was removed by
/// hand, as its message advises. The holder can detect that, and its release reports it.
#[test]
fn file_removed_by_legacy_agents_stop_is_detected() {
    let Some(home) = Home::new() else { return };
    let mut agent = home.agent_that_holds();
    fs::remove_file(home.lock_file()).expect("it is removed by hand");
    let guard = home.lock().try_acquire().expect("free");
    assert!(guard.is_still_held().expect("it exists"));
    assert_eq!(agent.request("release")["did"], "released");
    assert!(home.is_idle(), "it removed the library's file");
    assert!(!guard.is_still_held().expect("it can be checked"));
    assert_eq!(ending(&guard.release()), "lost");
}

fn assert_refused_by(said: &Value, guard: &Guard, home: &Home) {
    let holder = guard.holder();
    let since = humantime::format_rfc3339_millis(holder.started_at.expect("recorded")).to_string();
    assert_eq!(said["did"], "refused", "{said}");
    assert_eq!(said["path"], home.lock_file().to_str().expect("UTF-8"));
    let keys = ["pid", "port", "startedAt"];
    let record = keys.map(|key| said["record"][key].clone());
    assert_eq!(record, [json!(std::process::id()), json!(PORT), json!(since)]);
    let message = said["message"].as_str().expect("a message");
    assert!(message.contains(&format!("pid {}, started {since}", holder.pid)), "{message}");
}

// ---- set-up -------------------------------------------------------------------------------------

/// A temporary home directory, and one with the JavaScript.
struct Home {
    home: tempfile::TempDir,
    scripts: tempfile::TempDir,
}

impl Home {
    /// `None`, reported as not checked, where the JavaScript cannot be run.
    fn new() -> Option<Self> {
        static LOCK: OnceLock<Result<Vec<u8>, String>> = OnceLock::new();
        let lock = match LOCK.get_or_init(published_lock) {
            Ok(lock) => lock,
            Err(reason) => {
                let test = std::thread::current();
                let test = test.name().unwrap_or("a test");
                not_checked(&format!("{test}: {reason}"));
                return None;
            }
        };
        let new = || tempfile::tempdir().expect("a directory");
        let home = Self { home: new(), scripts: new() };
        fs::write(home.scripts.path().join("lock.mjs"), lock).expect("written");
        fs::write(home.scripts.path().join("agent.mjs"), AGENT).expect("written");
        Some(home)
    }

    fn lock_file(&self) -> PathBuf {
        self.home.path().join(format!(".percy/agent-{PORT}.lock"))
    }

    fn lock(&self) -> portlock::Lock {
        LockDir::at(self.home.path().join(".percy")).port(PORT).expect("a port")
    }

    fn record(&self) -> Value {
        let bytes = fs::read(self.lock_file()).expect("the lock file exists");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    fn is_idle(&self) -> bool {
        let mut entries = fs::read_dir(self.home.path().join(".percy")).expect("it was made");
        entries.next().is_none()
    }

    fn agent(&self) -> Agent {
        Agent::start(self.home.path(), &self.scripts.path().join("agent.mjs"))
    }

    fn agent_that_holds(&self) -> Agent {
        let mut agent = self.agent();
        let said = agent.request("acquire 5338");
        assert_eq!((&said["did"], &said["record"]), (&json!("held"), &self.record()), "{said}");
        assert_eq!(said["record"]["pid"], agent.pid());
        agent
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portlock"));
        command.args(arguments).env("HOME", self.home.path()).env_remove("PORTLOCK_DIR");
        command
    }

    fn portlock(&self, arguments: &[&str]) -> Output {
        must_return("portlock ends", || self.command(arguments).output()).expect("portlock runs")
    }

    /// `portlock run`, whose command holds the lock until its input is closed, and the command's
    /// pid.
    fn running(&self) -> (Child, u32) {
        let script = ["run", "5338", "--", "sh", "-c", "echo $$; exec cat"];
        let mut running = self
            .command(&script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("portlock runs");
        let mut line = String::new();
        let output = running.stdout.as_mut().expect("a pipe");
        must_return("the command starts", || BufReader::new(output).read_line(&mut line))
            .expect("reads");
        (running, line.trim_end().parse().expect("a pid"))
    }
}

/// A Node.js process with the published lock. Killed and reaped when dropped.
struct Agent {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Agent {
    fn start(home: &Path, script: &Path) -> Self {
        let mut command = Command::new("node");
        command.arg(script).env("HOME", home).env_remove("NODE_OPTIONS");
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node starts");
        let orders = process.stdin.take().expect("a pipe");
        let answers = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, orders, answers }
    }

    fn pid(&self) -> u32 {
        self.process.id()
    }

    fn request(&mut self, order: &str) -> Value {
        writeln!(self.orders, "{order}").expect("it is alive");
        let mut line = String::new();
        must_return("the agent answers", || self.answers.read_line(&mut line)).expect("reads");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// Kills it as `kill -9` does, and reaps it.
    fn kill(&mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it is ours");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have been killed and reaped before.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
