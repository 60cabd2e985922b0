//! The README: its length, its links, its example with the output, and its shell session.

#![cfg(unix)]

// This suite uses one of its two functions.
#[allow(dead_code)]
#[path = "participant/deadline.rs"]
mod deadline;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use deadline::must_return;

const README: &str = include_str!("../README.md");

/// Longer than any wait here takes.
const MINUTE: Duration = Duration::from_secs(60);

/// The pid, the start and the home directory that README.md shows.
const PID: &str = "20211";
const SINCE: &str = "2026-11-28 19:21:20 UTC";
const HOME: &str = "/home/me";

/// Set for a process that runs the example.
const EXAMPLE: &str = "PORTLOCK_TEST_README";

mod example {
    include!("../examples/single_instance.rs");

    pub(super) fn run() -> Result<(), Box<dyn std::error::Error>> {
        main()
    }
}

#[test]
fn readme_is_short() {
    let lines = README.lines().count();
    assert!(lines <= 150, "{lines} lines");
    assert!(README.len() <= 12 * 1024, "{} bytes", README.len());
}

#[test]
fn readme_links_lead_to_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let links = README.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let images = README.split("src=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let here: Vec<&str> = links
        .chain(images)
        .filter(|link| !link.starts_with('#') && !link.starts_with("https://"))
        .collect();
    assert!(here.len() > 10, "{here:?}");
    // The package has the README without the rest of the repository.
    if !root.join("model").is_dir() {
        return;
    }
    for link in here {
        assert!(root.join(link).exists(), "README.md links to {link}, which does not exist");
    }
}

#[test]
fn readme_example_is_the_one_in_examples() {
    let example = include_str!("../examples/single_instance.rs");
    assert!(README.contains(&format!("```rust,no_run\n{example}```\n")), "{example}");
}

/// Not a test by itself: runs the example in a new process.
#[test]
fn the_example() {
    if std::env::var_os(EXAMPLE).is_some() {
        example::run().expect("it serves");
    }
}

#[test]
fn readme_example_prints_what_is_shown() {
    let home = tempfile::tempdir().expect("a directory");
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = socket.local_addr().expect("an address").port();
    drop(socket);
    let start = || {
        let mut command = Command::new(std::env::current_exe().expect("the test has a path"));
        command.args(["the_example", "--exact", "--nocapture", "--test-threads=1"]);
        command.env(EXAMPLE, "1").env("HOME", home.path()).env("PORT", port.to_string());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("it starts")
    };
    let mut first = Ended(start());
    let mut lines = BufReader::new(first.0.stdout.take().expect("a pipe")).lines();
    let says_so = |line: std::io::Result<String>| {
        Some(line.expect("text")).filter(|line| line.contains(" serves port "))
    };
    let serves = must_return("it serves", || lines.find_map(says_so)).expect("it serves");
    // The harness prints the test's name on the same line.
    let serves = &serves[serves.find("pid ").expect("its pid")..];
    let second = must_return("its end", || start().wait_with_output()).expect("it ends");
    assert_eq!(second.status.code(), Some(75));
    let refused = String::from_utf8(second.stderr).expect("text");
    let program = std::env::current_exe().expect("the test has a path");
    let program = program.file_name().expect("a name").to_string_lossy().into_owned();
    let printed = as_shown(&format!("{serves}\n{refused}"), first.0.id(), home.path())
        .replace(&format!("port {port}"), "port 5338")
        .replace(&format!("agent-{port}"), "agent-5338")
        .replace(&format!("({program}, "), "(single_instance, ");
    let shown = block("```text\n");
    assert_eq!(printed.trim_end(), shown.trim_end());
}

#[test]
fn readme_session_runs_as_shown() {
    let home = tempfile::tempdir().expect("a directory");
    let programs = home.path().join("bin");
    std::fs::create_dir(&programs).expect("made");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_portlock"), programs.join("portlock"))
        .expect("linked");
    let mut session = Session { home: home.path().to_owned(), programs, background: None };
    let shown = block("```console\n");
    let mut went = String::new();
    for command in shown.lines().filter_map(|line| line.strip_prefix("$ ")) {
        went += &format!("$ {command}\n{}", session.run(command));
    }
    assert_eq!(went, shown);
}

/// A shell in which one program runs in the background.
struct Session {
    home: PathBuf,
    programs: PathBuf,
    background: Option<Ended>,
}

impl Session {
    fn shell(&self, command: &str) -> Command {
        let path = std::env::var("PATH").expect("a path");
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).env("HOME", &self.home).env_remove("PORTLOCK_DIR");
        shell.env("PATH", format!("{}:{path}", self.programs.display()));
        shell
    }

    /// What the command prints, as the README shows it.
    fn run(&mut self, command: &str) -> String {
        if let Some(command) = command.strip_suffix(" &") {
            let started = self.shell(&format!("exec {command}")).stdout(Stdio::null()).spawn();
            let started = self.background.insert(Ended(started.expect("it starts"))).0.id();
            // The next command must run when this one holds.
            let until = Instant::now() + MINUTE;
            while self.output("portlock status 5338").status.code() != Some(75) {
                assert!(Instant::now() < until, "{started} does not hold");
                std::thread::yield_now();
            }
            return String::new();
        }
        let pid = self.background.as_ref().expect("one runs in the background").0.id();
        let output = self.output(&command.replace(PID, &pid.to_string()));
        if command.starts_with("kill ") {
            // Its lock file is left. Waits until the kill has taken effect.
            must_return("it ends", || self.background.as_mut().expect("it ran").0.wait())
                .expect("it has ended");
        }
        let printed = [output.stderr, output.stdout].concat();
        as_shown(&String::from_utf8(printed).expect("text"), pid, &self.home)
    }

    fn output(&self, command: &str) -> Output {
        must_return("the shell ends", || self.shell(command).output()).expect("a shell")
    }
}

/// A process that does not outlive the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first block of README.md with this beginning.
fn block(begin: &str) -> &'static str {
    let (_, rest) = README.split_once(begin).expect("README.md has such a block");
    rest.split_once("```").expect("it ends").0
}

/// Replaces the pid, the time and the home directory by those of the README.
fn as_shown(printed: &str, pid: u32, home: &Path) -> String {
    let mut shown = printed
        .replace(&format!("pid {pid} "), &format!("pid {PID} "))
        .replace(&home.display().to_string(), HOME);
    if let Some((before, rest)) = printed.split_once("since ") {
        let since = rest.get(..SINCE.len()).expect("a time");
        assert!(since.ends_with(" UTC") && !before.is_empty(), "{printed}");
        shown = shown.replace(since, SINCE);
    }
    shown
}
