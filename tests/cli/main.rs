//! The command as a process: its exit status, its output, and the files it leaves.
//!
//! Each test has its own home directory, so that all can lock the same port at the same time. No
//! test sleeps: each waits for a line, for the end of a process or for a kernel lock.

#![cfg(unix)]
#![allow(unsafe_code)]
// Some tests run on Linux only, so their helpers and imports are unused elsewhere.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]

#[path = "../participant/deadline.rs"]
mod deadline;
#[path = "../skip_report/mod.rs"]
mod skip_report;

mod clearing;
#[cfg(target_os = "linux")]
mod denied;
#[cfg(target_os = "linux")]
mod evidence;
mod exits;
mod holding;
mod inheriting;
mod listing;
mod manual;
mod places;
mod queries;
mod recorder;
mod signals;
mod terminal;
mod waiting;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};

use deadline::{must_return, wait_until};
use serde_json::Value;
use tempfile::TempDir;

const PORT: &str = "5338";

/// A temporary home directory.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// The default lock directory.
    fn locks(&self) -> PathBuf {
        self.path().join(".percy")
    }

    fn lock_file(&self) -> PathBuf {
        self.locks().join(format!("agent-{PORT}.lock"))
    }

    /// Writes the lock file, as another process might have left it.
    fn plant(&self, record: &[u8]) {
        self.plant_as(&format!("agent-{PORT}.lock"), record);
    }

    /// Writes a file into the default lock directory.
    fn plant_as(&self, file: &str, record: &[u8]) {
        std::fs::create_dir_all(self.locks()).expect("makes the directory");
        std::fs::write(self.locks().join(file), record).expect("writes the file");
    }

    /// A real record of portlock, whose holder has ended.
    fn a_real_record(&self) -> Value {
        let script = format!("cat '{}'", self.lock_file().display());
        serde_json::from_str(&self.run(["sh", "-c", &script]).out).expect("the record")
    }

    /// The record of a holder from an earlier boot: provably dead on Linux, also in a container.
    fn dead_record(&self) -> Value {
        let mut record = self.a_real_record();
        record["boot"] = "an earlier one".into();
        record
    }

    /// The record of a holder in another container without a kernel lock: its state cannot be
    /// proved from here.
    fn foreign_record(&self) -> Value {
        let mut record = self.a_real_record();
        record["pidNamespace"] = 7.into();
        record["host"] = "build-7".into();
        record.as_object_mut().expect("an object").remove("kernelLock");
        record
    }

    fn record(&self) -> Value {
        let bytes = std::fs::read(self.lock_file()).expect("a lock file exists");
        serde_json::from_slice(&bytes).expect("it has a record")
    }

    fn is_idle(&self) -> bool {
        match std::fs::read_dir(self.locks()) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }

    /// `portlock` with these arguments. SIGALRM ends it if it hangs, and no signal is ignored, even
    /// if the tests run under nohup or in the background of a script.
    fn portlock<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portlock"));
        command.args(arguments).env("HOME", self.path()).stdin(Stdio::null());
        for variable in ["PORTLOCK_DIR", "XDG_RUNTIME_DIR", "TMPDIR", "NO_COLOR"] {
            command.env_remove(variable);
        }
        // SAFETY: alarm is async-signal-safe. It survives exec, and no child inherits it.
        unsafe {
            command.pre_exec(|| {
                libc::alarm(120);
                Ok(())
            });
        }
        with_default_signals(&mut command);
        command
    }

    /// Runs `portlock run PORT -- COMMAND...` to its end.
    fn run<A: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = A>) -> Finished {
        finished(self.portlock(["run", PORT, "--"]).args(command))
    }

    /// Starts `portlock run PORT` with the recorder as its command, and waits until it runs.
    fn recorder(&self) -> Running {
        Running::start(recorder::command(&mut self.portlock(["run", PORT, "--"])))
    }

    /// Runs `portlock status PORT` to its end.
    fn status(&self) -> Finished {
        finished(&mut self.portlock(["status", PORT]))
    }

    /// The object that `portlock status --json PORT` prints, and its exit status.
    fn status_json(&self) -> (i32, Value) {
        let done = finished(&mut self.portlock(["status", "--json", PORT]));
        assert_eq!(done.err, "");
        (done.code(), serde_json::from_str(&done.out).expect("one JSON object"))
    }
}

/// Resets the signals that the tests use to their defaults in a command.
fn with_default_signals(command: &mut Command) {
    let signals = recorder::NAMES.map(|(signal, _)| signal);
    // SAFETY: signal is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            for signal in signals.into_iter().chain([libc::SIGCHLD]) {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        });
    }
}

/// The status and output of an ended process.
#[derive(Debug)]
struct Finished {
    status: ExitStatus,
    out: String,
    err: String,
}

impl Finished {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self { status: output.status, out: text(output.stdout), err: text(output.stderr) }
    }

    fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("killed: {self:?}"))
    }
}

fn finished(command: &mut Command) -> Finished {
    Finished::of(must_return("portlock ends", || command.output()).expect("portlock starts"))
}

fn ended(child: Child) -> Finished {
    Finished::of(must_return("portlock ends", || child.wait_with_output()).expect("ours"))
}

/// A `portlock run` whose command is the recorder. Both end when it is dropped.
struct Running {
    portlock: Child,
    /// The recorder ends when this is closed.
    keep: Option<ChildStdin>,
    lines: BufReader<ChildStdout>,
    /// The pid of the recorder, and the signals that it found ignored.
    command: libc::pid_t,
    ignored: Vec<String>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut portlock = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("portlock starts");
        let keep = portlock.stdin.take();
        let lines = BufReader::new(portlock.stdout.take().expect("a pipe"));
        let mut running = Self { portlock, keep, lines, command: 0, ignored: Vec::new() };
        let ready = loop {
            let line = running.line();
            if let Some(ready) = line.strip_prefix("ready ") {
                break ready.to_owned();
            }
        };
        let mut words = ready.split(' ').map(str::to_owned);
        running.command = words.next().and_then(|pid| pid.parse().ok()).expect("a pid");
        running.ignored = words.collect();
        running
    }

    /// The next line that the command prints.
    fn line(&mut self) -> String {
        let mut line = String::new();
        must_return("the command prints a line", || self.lines.read_line(&mut line))
            .expect("reads");
        match line.strip_suffix('\n') {
            Some(line) => line.to_owned(),
            None => {
                let mut err = String::new();
                if let Some(mut pipe) = self.portlock.stderr.take() {
                    pipe.read_to_string(&mut err).expect("reads");
                }
                panic!("the command has ended after {line:?}; on stderr: {err}")
            }
        }
    }

    fn pid(&self) -> libc::pid_t {
        libc::pid_t::try_from(self.portlock.id()).expect("a pid")
    }

    /// Sends a signal to portlock.
    fn send(&self, signal: libc::c_int) {
        send(self.pid(), signal);
    }

    /// Ends the command, and waits for portlock.
    fn end(mut self) -> Finished {
        drop(self.keep.take());
        let (mut out, mut err) = (String::new(), String::new());
        let status = must_return("portlock ends", || {
            self.lines.read_to_string(&mut out).expect("reads");
            if let Some(mut pipe) = self.portlock.stderr.take() {
                pipe.read_to_string(&mut err).expect("reads");
            }
            self.portlock.wait().expect("portlock is ours")
        });
        Finished { status, out, err }
    }

    /// Ends the command of a killed portlock, and waits until no process has `file` locked.
    fn end_command(&mut self, file: &File) {
        drop(self.keep.take());
        assert_eq!(self.line(), "ended");
        holding::until_unlocked(file);
    }

    /// Kills only portlock with SIGKILL, and reaps it.
    fn kill_portlock(&mut self) {
        self.portlock.kill().expect("it is ours");
        let status = self.portlock.wait().expect("it is ours");
        assert_eq!(status.signal(), Some(libc::SIGKILL));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.portlock.kill();
        let _ = self.portlock.wait();
    }
}

fn send(pid: libc::pid_t, signal: libc::c_int) {
    // SAFETY: kill only takes numbers; the process is a child that is not reaped, or its child.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "{}", std::io::Error::last_os_error());
}

/// The kernel lock on `path`, until it is dropped.
fn locked(path: &Path) -> File {
    let file = File::open(path).expect("opens");
    // SAFETY: `file` keeps the descriptor open.
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }, 0);
    file
}

/// Waits for the only child of a process.
#[cfg(target_os = "linux")]
fn child_of(parent: u32) -> libc::pid_t {
    let children = || {
        let path = format!("/proc/{parent}/task/{parent}/children");
        std::fs::read_to_string(path).expect("the parent is alive")
    };
    wait_until("it has a child", || !children().is_empty());
    children().trim().parse().expect("one child")
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The time of a record as messages show it: "2026-11-23 02:09:04 UTC".
fn since(record: &Value) -> String {
    let (date, time) =
        record["startedAt"].as_str().and_then(|since| since.split_once('T')).expect("a time");
    format!("{date} {} UTC", time.split('.').next().expect("a clock"))
}

/// Whether a query can see every kernel lock: only in the initial pid namespace does /proc/locks
/// list all. In a container it omits locks whose taker has ended or is outside.
fn all_locks_are_seen() -> bool {
    const INITIAL: u64 = 0xEFFF_FFFC;
    let seen = std::fs::metadata("/proc/self/ns/pid").is_ok_and(|ns| ns.ino() == INITIAL);
    if !seen {
        println!("here a query cannot see all kernel locks, and must report that");
    }
    seen
}
