//! The command that `portlock run` runs in the tests: it prints each signal that it receives.
//!
//! It is this test program itself, because a shell may run its traps late, and merges signals.

use std::io::Read;
use std::process::Command;

use super::Running;

const ROLE: &str = "PORTLOCK_TEST_RECORDER";

pub(crate) const NAMES: [(libc::c_int, &str); 6] = [
    (libc::SIGINT, "INT"),
    (libc::SIGTERM, "TERM"),
    (libc::SIGHUP, "HUP"),
    (libc::SIGQUIT, "QUIT"),
    (libc::SIGUSR1, "USR1"),
    (libc::SIGUSR2, "USR2"),
];

/// The exit status of the recorder.
pub(crate) const STATUS: i32 = 7;

/// Adds the recorder to a command line that takes a command.
pub(crate) fn command(portlock: &mut Command) -> &mut Command {
    playing(portlock, "recorder")
}

/// The recorder, in its own process group.
pub(crate) fn in_its_own_group(portlock: &mut Command) -> &mut Command {
    playing(portlock, "own group")
}

/// The recorder, which first sends USR1 to its parent.
pub(crate) fn signalling_its_parent(portlock: &mut Command) -> &mut Command {
    playing(portlock, "signals its parent")
}

fn playing<'a>(portlock: &'a mut Command, role: &str) -> &'a mut Command {
    let test = concat!(module_path!(), "::recorder_prints_each_signal");
    let test = test.split_once("::").expect("a path in this crate").1;
    portlock
        .arg(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
}

/// Checks the recorder without portlock, so that other tests can rely on its output. With the
/// variable set, this test *is* the recorder.
#[test]
fn recorder_prints_each_signal() {
    if let Ok(role) = std::env::var(ROLE) {
        play(&role);
    }
    // env only runs its arguments.
    let mut alone = Running::start(command(&mut Command::new("env")));
    assert_eq!(alone.command, alone.pid());
    for (signal, name) in NAMES {
        if !alone.ignored.iter().any(|ignored| ignored == name) {
            alone.send(signal);
            assert_eq!(alone.line().trim_end(), name);
        }
    }
    let done = alone.end();
    assert_eq!((done.code(), &*done.out), (STATUS, "ended\n"));
}

fn play(role: &str) -> ! {
    // A limit, so that no test waits for its lines forever.
    // SAFETY: alarm only takes a number.
    unsafe { libc::alarm(120) };
    let mut ignored = String::new();
    for (signal, name) in NAMES {
        if !handle(signal) {
            ignored = format!("{ignored} {name}");
        }
    }
    match role {
        // SAFETY: setpgid only takes numbers.
        "own group" => assert_eq!(unsafe { libc::setpgid(0, 0) }, 0),
        // SAFETY: getppid only returns a number.
        "signals its parent" => crate::send(unsafe { libc::getppid() }, libc::SIGUSR1),
        _ => {}
    }
    // On a separate line, after the test harness's output.
    print(format!("\nready {}{ignored}\n", std::process::id()).as_bytes());
    // It resumes after signals.
    std::io::stdin().read_to_end(&mut Vec::new()).expect("a pipe");
    print(b"ended\n");
    // SAFETY: leaves at once, before the test harness prints more.
    unsafe { libc::_exit(STATUS) }
}

/// Prints `signal` whenever it arrives, unless it is ignored.
fn handle(signal: libc::c_int) -> bool {
    // SAFETY: all zeroes is a valid action, whose fields are then set; the handler is
    // async-signal-safe. All signals are blocked while it runs, so they are printed in order.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action);
        if action.sa_sigaction == libc::SIG_IGN {
            return false;
        }
        action.sa_sigaction = record as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = 0;
        libc::sigfillset(&mut action.sa_mask);
        libc::sigaction(signal, &action, std::ptr::null_mut()) == 0
    }
}

extern "C" fn record(signal: libc::c_int) {
    let mut line = *b"????\n";
    for (known, name) in NAMES {
        if known == signal {
            line[..4].fill(b' ');
            line[..name.len()].copy_from_slice(name.as_bytes());
        }
    }
    print(&line);
}

/// A single write, which is async-signal-safe.
fn print(line: &[u8]) {
    // SAFETY: the pointer and the length are those of `line`.
    unsafe { libc::write(1, line.as_ptr().cast(), line.len()) };
}
