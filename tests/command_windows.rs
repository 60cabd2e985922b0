//! The command on Windows: exit codes, the job that ends its command with it, console events. Also
//! waits: those in `tests/waiting.rs` need /proc to detect a waiter, here it may arrive late.

#![cfg(windows)]
#![allow(unsafe_code)]

mod participant;

use std::os::windows::process::CommandExt;
use std::process::Command;

use participant::{Participant, Place, not_checked, outcome, reclaimed_from, refused_by};
use windows_sys::Win32::System::Console::{CTRL_BREAK_EVENT, GenerateConsoleCtrlEvent};
use windows_sys::Win32::System::Threading::CREATE_NEW_PROCESS_GROUP;

/// `portlock run` with these options, which takes the lock of `place`.
fn run(place: &Place, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portlock"));
    command.arg("run").args(options).arg("--dir").arg(place.dir.path()).args(["x", "--"]);
    command
}

/// The same with a participant as its command, and the command's pid.
fn run_participant(place: &Place, options: &[&str]) -> (Participant, u32) {
    let mut command = run(place, options);
    command.creation_flags(CREATE_NEW_PROCESS_GROUP);
    let mut portlock = Participant::start_within(command);
    let commands = portlock.request("pid").parse().expect("a number");
    assert_ne!(commands, portlock.pid());
    (portlock, commands)
}

#[test]
fn waiter_acquires_when_holder_releases_or_dies() {
    let place = Place::new();
    for order in ["acquire".to_owned(), "acquire-within 3600000".to_owned()] {
        let mut holder = Participant::holding(place.path());
        let mut waiter = Participant::start();
        waiter.order(&format!("{order} {}", place.path().display()));
        assert_eq!(holder.request("release"), "released");
        assert_eq!(waiter.answer(), "held");

        let mut next = Participant::start();
        next.order(&format!("{order} {}", place.path().display()));
        waiter.kill();
        assert_eq!(next.answer(), reclaimed_from(waiter.pid()));
        assert_eq!(next.request("release"), "released");
        assert!(place.is_empty());
    }
}

#[test]
fn ended_wait_takes_no_lock_later() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let mut waiter = Participant::start();
    let order = format!("acquire-within 50 {}", place.path().display());
    assert_eq!(waiter.request(&order), format!("timed out, held by pid {}", holder.pid()));
    let cancel = portlock::CancelToken::new().expect("an event");
    std::thread::scope(|threads| {
        let waits = threads
            .spawn(|| place.lock.acquire_with(portlock::WaitOptions::new().cancel_token(&cancel)));
        cancel.cancel();
        let error = waits.join().expect("no panic").expect_err("it was cancelled");
        assert!(error.is_held(), "{error}");
    });
    assert_eq!(holder.request("release"), "released");
    assert!(place.is_empty());
}

fn exit_code(place: &Place, code: &str) -> Option<i32> {
    let status = run(place, &[]).args(["cmd", "/c", "exit", code]).status();
    status.expect("portlock runs").code()
}

#[test]
fn whole_exit_code_of_command_is_passed_through() {
    let place = Place::new();
    for code in [0, 3, 255, 256, 259, -1] {
        assert_eq!(exit_code(&place, &code.to_string()), Some(code));
        assert!(place.is_empty(), "{code}");
    }
}

#[test]
fn concurrent_runs_are_refused_with_75() {
    let place = Place::new();
    let (mut portlock, _) = run_participant(&place, &[]);
    let held = refused_by(portlock.pid());
    assert_eq!(outcome(&place.try_acquire()), held);
    assert_eq!(exit_code(&place, "0"), Some(75));
    portlock.dismiss();
    portlock.finish();
    assert!(place.is_empty());
}

/// The lock is free when portlock is dead, so its command must be dead too.
#[test]
fn killing_portlock_ends_its_command() {
    let place = Place::new();
    let (mut portlock, _) = run_participant(&place, &[]);
    portlock.kill();
    assert!(portlock.reaches_end_of_answers(), "no process has the command's end of the pipe");
    let reclaimed = reclaimed_from(portlock.pid());
    assert_eq!(outcome(&place.try_acquire()), reclaimed);
}

/// The control, and the purpose of `-o`.
#[test]
fn command_with_close_outlives_killed_portlock() {
    let place = Place::new();
    let (mut portlock, commands) = run_participant(&place, &["-o"]);
    portlock.kill();
    assert_eq!(portlock.request("pid"), commands.to_string());
    portlock.dismiss();
}

#[test]
fn ctrl_break_ends_only_the_command() {
    let place = Place::new();
    let (mut portlock, _) = run_participant(&place, &[]);
    // SAFETY: takes numbers. Sent to the group of the new portlock, in which its command is.
    if unsafe { GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, portlock.pid()) } == 0 {
        let reason = std::io::Error::last_os_error();
        return not_checked(&format!("Ctrl-C and Ctrl-Break: no console here ({reason})"));
    }
    assert!(portlock.reaches_end_of_answers());
    // The exit code of a process without a Ctrl-C handler (STATUS_CONTROL_C_EXIT).
    assert_eq!(portlock.status().code(), Some(0xC000_013A_u32 as i32));
    assert!(place.is_empty());
}
