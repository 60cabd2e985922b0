//! The example daemon (examples/daemon.rs), as real processes: the starter and the daemon.

#![cfg(unix)]

// This suite uses one of its two functions.
#[allow(dead_code)]
#[path = "participant/deadline.rs"]
mod deadline;
#[path = "../examples/daemon.rs"]
#[allow(dead_code)]
mod example;

use std::process::Command;
use std::time::Duration;

use portlock::{Lock, LockDir};

use deadline::must_return;
use example::daemon;

/// The port, set for the starter and the daemon.
const PORT: &str = "PORTLOCK_TEST_DAEMON";

/// Longer than any wait here takes.
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn the_daemon() {
    let Ok(port) = std::env::var(PORT) else { return };
    let ran = daemon::run(port.parse().expect("a port"));
    if let Err(error) = &ran {
        eprintln!("{error}");
    }
    std::process::exit(i32::from(ran.is_err()));
}

/// Starts the daemon, prints its pid, and exits.
#[test]
fn the_starter() {
    let Ok(port) = std::env::var(PORT) else { return };
    let started = daemon::start(&mut part("the_daemon", &port));
    std::process::exit(match started {
        Ok(pid) => {
            println!("\nstarted {pid}");
            0
        }
        Err(error) => {
            println!("\n{error}");
            1
        }
    });
}

fn part(test: &str, port: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test has a path"));
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(PORT, port);
    command
}

/// A temporary lock directory.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn lock(&self) -> Lock {
        LockDir::at(self.0.path()).port(5338).expect("a port")
    }

    /// Runs the starter, and returns its output.
    fn start(&self) -> Result<u32, String> {
        let mut starter = part("the_starter", "5338");
        starter.env("PORTLOCK_DIR", self.0.path());
        let output = must_return("the starter ends", || starter.output()).expect("it starts");
        let said = String::from_utf8(output.stdout).expect("text");
        match said.lines().find_map(|line| line.strip_prefix("started ")) {
            Some(pid) => Ok(pid.parse().expect("a pid")),
            None => Err(said),
        }
    }
}

/// A running daemon, which ends when this is dropped.
struct Daemon(rustix::process::Pid);

impl Daemon {
    fn of(pid: u32) -> Self {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        Self(pid.expect("a pid"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It holds the lock until then, so the pid is its own.
        let _ = rustix::process::kill_process(self.0, rustix::process::Signal::TERM);
    }
}

#[test]
fn a_daemon_holds_after_its_starter_has_exited() {
    let place = Place::new();
    let pid = place.start().expect("it starts");
    let daemon = Daemon::of(pid);
    let error = place.lock().try_acquire().expect_err("the daemon holds it");
    assert_eq!(error.held().and_then(|held| held.holder.as_ref()).map(|it| it.pid), Some(pid));
    drop(daemon);
    let guard = place.lock().acquire_timeout(MINUTE).expect("it ends");
    assert_eq!(guard.recovered_from(), None, "it has released");
}

#[test]
fn a_starter_reports_that_the_lock_is_held() {
    let place = Place::new();
    let first = place.start().expect("it starts");
    let daemon = Daemon::of(first);
    let said = place.start().expect_err("the first holds it");
    let words = format!("it did not start: port 5338 is locked by pid {first} ");
    assert!(said.contains(&words), "{said}");
    drop(daemon);
    place.lock().acquire_timeout(MINUTE).expect("it ends").release().expect("held");
}
