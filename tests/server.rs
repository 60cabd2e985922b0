//! The example server (examples/server.rs), as a real process: the requirements for a program and
//! not for a lock (S10, S13, S15, S16).

#![cfg(unix)]
#![allow(unsafe_code)]

#[path = "participant/deadline.rs"]
#[allow(dead_code)]
mod deadline;
#[path = "../examples/server.rs"]
#[allow(dead_code)]
mod example;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use deadline::must_return;
use portlock::LockDir;

const PORT: &str = "PORTLOCK_TEST_SERVER";

/// The server, if the environment names its port.
#[test]
fn the_server() {
    let Ok(port) = std::env::var(PORT) else { return };
    if let Err(error) = example::run(port.parse().expect("a port")) {
        eprintln!("{error}");
        std::process::exit(1);
    }
    std::process::exit(0);
}

struct Place {
    dir: tempfile::TempDir,
    port: u16,
}

impl Place {
    /// A lock directory, and a port that is bound while the listener lives.
    fn bound() -> (Self, TcpListener) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("some port is free");
        let port = listener.local_addr().expect("it is bound").port();
        (Self { dir: tempfile::tempdir().expect("a directory"), port }, listener)
    }

    /// A lock directory, and a server on a free port. Retries if another program binds the port
    /// first.
    fn serving() -> (Self, Server) {
        let taken = std::io::Error::from_raw_os_error(libc::EADDRINUSE).to_string();
        loop {
            let (place, listener) = Self::bound();
            drop(listener);
            let mut server = place.start();
            if server.says("serving") {
                return (place, server);
            }
            let (_, errors) = server.end();
            assert!(errors.contains(&taken), "it does not serve: {errors}");
        }
    }

    fn start(&self) -> Server {
        let mut command = Command::new(std::env::current_exe().expect("the test has a path"));
        command.args(["the_server", "--exact", "--nocapture", "--test-threads=1"]);
        command.env(PORT, self.port.to_string()).env("PORTLOCK_DIR", self.dir.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the server starts");
        let said = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        Server { child, said }
    }

    fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("it serves");
        BufReader::new(stream)
    }

    fn is_empty(&self) -> bool {
        std::fs::read_dir(self.dir.path()).expect("the directory exists").next().is_none()
    }
}

struct Server {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Server {
    fn wait_for(&mut self, word: &str) {
        assert!(self.says(word), "it ended without saying {word:?}");
    }

    /// Reads until a line contains this word, or the output ends.
    fn says(&mut self, word: &str) -> bool {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            let read = must_return("the server prints a line", || self.said.read_line(&mut line));
            if read.expect("its output is text") == 0 {
                return false;
            }
        }
        true
    }

    fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        // SAFETY: a signal to a child that has not been reaped.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    fn end(mut self) -> (ExitStatus, String) {
        let mut errors = String::new();
        let stderr = self.child.stderr.as_mut().expect("its errors are a pipe");
        must_return("the server ends", || stderr.read_to_string(&mut errors))
            .expect("they are text");
        (must_return("it ends", || self.child.wait()).expect("it can be reaped"), errors)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It runs only if a test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn exchange(connection: &mut BufReader<TcpStream>, line: &str) {
    writeln!(connection.get_mut(), "{line}").expect("it is sent");
    let mut answer = String::new();
    let read = must_return("the server answers", || connection.read_line(&mut answer));
    read.expect("it is answered");
    assert_eq!(answer.trim_end(), line);
}

/// The port is bound as well, so that a server that binds first would report that instead.
#[test]
fn s10_held_lock_fails_before_the_bind() {
    let (place, _bound) = Place::bound();
    let guard = LockDir::at(place.dir.path()).port(place.port).unwrap().try_acquire().unwrap();
    let (status, errors) = place.start().end();
    assert_eq!(status.code(), Some(1));
    let words = format!("port {} is locked by pid {}", place.port, std::process::id());
    assert!(errors.contains(&words), "{errors}");
    assert!(guard.is_still_held().expect("it can be checked"));
}

#[test]
fn s10_failed_bind_leaves_no_lock_behind() {
    let (place, _bound) = Place::bound();
    let (status, errors) = place.start().end();
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(place.is_empty());
}

#[test]
fn s13_messages_keep_percys_words() {
    let (place, _first) = Place::serving();
    let (_, errors) = place.start().end();
    let old = format!("Percy is already running or the port {} is in use", place.port);
    assert!(errors.contains(&old), "{errors}");
    for detail in ["is locked by pid", "lock file: ", "next step: stop that process"] {
        assert!(errors.contains(detail), "{detail}: {errors}");
    }
}

#[test]
fn s16_the_first_signal_drains_and_releases() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let (place, mut server) = Place::serving();
        let mut connection = place.connect();
        exchange(&mut connection, "before");
        server.signal(signal);
        server.wait_for("draining");
        // Open connections continue, and the lock is held until they end.
        exchange(&mut connection, "after");
        assert!(!place.is_empty());
        drop(connection);
        server.wait_for("drained");
        let (status, errors) = server.end();
        assert!(status.success(), "{status}: {errors}");
        assert!(place.is_empty());
    }
}

#[test]
fn s16_forced_shutdown_still_releases() {
    let (place, mut server) = Place::serving();
    let mut connection = place.connect();
    exchange(&mut connection, "before");
    server.signal(libc::SIGINT);
    server.wait_for("draining");
    server.signal(libc::SIGTERM);
    let (status, errors) = server.end();
    assert_eq!(status.code(), Some(128 + libc::SIGTERM), "{errors}");
    assert!(place.is_empty());
}
