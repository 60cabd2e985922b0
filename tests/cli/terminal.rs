//! Signals from a terminal, to its foreground group or to the session leader alone.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::ptr;

use super::recorder::{self, STATUS};
use super::skip_report::not_checked;
use super::{Home, PORT, Running, must_return};

const CTRL_C: &[u8] = b"\x03";
const CTRL_BACKSLASH: &[u8] = b"\x1c";

/// The keyboard's side of a terminal, and the terminal.
pub(crate) fn open() -> (File, OwnedFd) {
    let (mut keyboard, mut terminal) = (-1, -1);
    // SAFETY: there is room for both descriptors; the other arguments are optional.
    let opened = unsafe {
        libc::openpty(
            &mut keyboard,
            &mut terminal,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
    for fd in [keyboard, terminal] {
        // SAFETY: the descriptor is open and owned. No child may keep the terminal open.
        assert_eq!(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }, 0);
    }
    // SAFETY: both are open, and not owned elsewhere.
    unsafe { (File::from_raw_fd(keyboard), OwnedFd::from_raw_fd(terminal)) }
}

/// Makes `portlock` the leader of a session and of the terminal's foreground group.
pub(crate) fn lead_a_session(portlock: &mut Command, terminal: &OwnedFd) {
    let fd = terminal.as_raw_fd();
    // SAFETY: both calls are async-signal-safe, and fail if the descriptor is not open any more.
    unsafe {
        portlock.pre_exec(move || {
            if libc::setsid() == -1 || libc::ioctl(fd, libc::TIOCSCTTY as _, 0) == -1 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

fn start(portlock: &mut Command, terminal: OwnedFd) -> Running {
    lead_a_session(portlock, &terminal);
    let mut running = Running::start(portlock);
    // The command may run before portlock has detected that, and until then portlock forwards every
    // signal. The forwarded USR2 shows that this has passed.
    running.send(libc::SIGUSR2);
    assert_eq!(running.line().trim_end(), "USR2");
    running
}

fn portlock(home: &Home) -> Command {
    home.portlock(["run", PORT, "--"])
}

/// A shell ends a loop at Ctrl-C only if its command was ended by it.
#[test]
fn ctrl_c_ends_the_loop_of_a_shell() {
    if Command::new("bash").arg("--version").output().is_err() {
        return not_checked("Ctrl-C in the loop of a shell: bash is missing");
    }
    let home = Home::new();
    for option in ["-n", "-o"] {
        let (mut keyboard, terminal) = open();
        let script = r#"for i in 1 2 3; do "$@"; done; echo after the loop"#;
        let mut bash = Command::new("bash");
        bash.args(["-c", script, "bash", env!("CARGO_BIN_EXE_portlock"), "run", option, PORT]);
        bash.args(["sh", "-c", "echo ready; exec cat"]).env("PORTLOCK_DIR", home.locks());
        bash.stdin(Stdio::piped()).stdout(Stdio::piped());
        super::with_default_signals(&mut bash);
        lead_a_session(&mut bash, &terminal);
        let mut bash = bash.spawn().expect("bash starts");
        let _keep = bash.stdin.take();
        let mut out = BufReader::new(bash.stdout.take().expect("a pipe"));
        let mut line = String::new();
        must_return("the command starts", || out.read_line(&mut line)).expect("reads");
        assert_eq!(line, "ready\n");
        keyboard.write_all(CTRL_C).expect("types");
        let mut rest = String::new();
        must_return("bash ends", || out.read_to_string(&mut rest)).expect("reads");
        assert_eq!(rest, "", "no second iteration, and no command after the loop");
        assert_eq!(
            must_return("it ends", || bash.wait()).expect("ours").signal(),
            Some(libc::SIGINT)
        );
        assert!(home.is_idle());
    }
}

#[test]
fn terminal_signal_reaches_the_command_once() {
    let home = Home::new();
    let (mut keyboard, terminal) = open();
    let mut running = start(recorder::command(&mut portlock(&home)), terminal);
    for _ in 0..5 {
        for (key, name) in [(CTRL_C, "INT"), (CTRL_BACKSLASH, "QUIT")] {
            keyboard.write_all(key).expect("types");
            assert_eq!(running.line().trim_end(), name);
            // portlock has received the key by now, and forwards signals in order.
            running.send(libc::SIGUSR1);
            assert_eq!(running.line().trim_end(), "USR1", "and no second {name}");
        }
    }
    let done = running.end();
    assert_eq!((done.code(), &*done.out), (STATUS, "ended\n"));
    assert!(home.is_idle());
}

#[test]
fn terminal_signal_is_forwarded_to_another_group() {
    let home = Home::new();
    let (mut keyboard, terminal) = open();
    let mut running = start(recorder::in_its_own_group(&mut portlock(&home)), terminal);
    for _ in 0..3 {
        keyboard.write_all(CTRL_C).expect("types");
        assert_eq!(running.line().trim_end(), "INT");
    }
    assert_eq!(running.end().code(), STATUS);
}

#[test]
fn hangup_of_session_leader_is_forwarded() {
    let home = Home::new();
    let (keyboard, terminal) = open();
    let mut running = start(recorder::command(&mut portlock(&home)), terminal);
    drop(keyboard);
    assert_eq!(running.line().trim_end(), "HUP");
    running.send(libc::SIGUSR1);
    assert_eq!(running.line().trim_end(), "USR1", "and no second HUP");
    assert_eq!(running.end().code(), STATUS);
}
