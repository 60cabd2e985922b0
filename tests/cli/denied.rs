//! System calls of portlock itself that fail: strace answers instead of the kernel.

use std::collections::BTreeMap;
use std::process::Command;

use super::skip_report::{strace_is_there, stride};
use super::{Finished, Home, PORT, finished};

/// `portlock` with these arguments under strace, limited to two minutes.
fn strace(home: &Home, options: &[&str], arguments: &[&str]) -> Command {
    let mut strace = Command::new("timeout");
    strace.args(["120", "strace", "-qq", "-o"]).arg(home.path().join("trace")).args(options);
    strace.arg(env!("CARGO_BIN_EXE_portlock")).args(arguments);
    strace.env("HOME", home.path()).env_remove("PORTLOCK_DIR");
    strace
}

/// The number of calls of each name by portlock's first thread, except its start by the loader.
fn calls(home: &Home, arguments: &[&str]) -> BTreeMap<String, usize> {
    assert_eq!(finished(&mut strace(home, &[], arguments)).code(), 4);
    let trace = std::fs::read_to_string(home.path().join("trace")).expect("strace wrote it");
    let mut calls = BTreeMap::new();
    for line in trace.lines() {
        if let Some((call, _)) = line.split_once('(') {
            let is_name = call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            // The launcher neither starts nor ends the process by these.
            if is_name && !["execve", "exit_group"].contains(&call) {
                *calls.entry(call.to_owned()).or_insert(0) += 1;
            }
        }
    }
    calls
}

/// Every occurrence of every call fails once. The run ends, at the latest with its command, and
/// then the lock is free.
#[test]
fn refused_launcher_calls_delay_nothing() {
    let home = Home::new();
    if !strace_is_there("refused system calls") {
        return;
    }
    for option in ["-n", "-o"] {
        let arguments = ["run", option, PORT, "--", "sh", "-c", "exit 4"];
        let mut outcomes = BTreeMap::new();
        for (call, times) in calls(&home, &arguments) {
            // Frequent calls are mostly the loader's and std's.
            let step = if times > 8 { stride() } else { 1 };
            for nth in (1..=times).step_by(step) {
                let inject = format!("inject={call}:error=EPERM:when={nth}");
                let done = finished(&mut strace(&home, &["-e", &inject], &arguments));
                assert_ne!(done.status.code(), Some(124), "it hangs: {inject}");
                *outcomes.entry((done.status.code(), said(&done))).or_insert(0) += 1;
                let next = home.run(["true"]);
                assert_eq!(next.code(), 0, "{inject}: {done:?}, then {next:?}");
                assert!(home.is_idle(), "{inject}");
            }
        }
        for ((code, said), times) in &outcomes {
            println!("{option}: {code:?} {times} times: {said}");
        }
        // The control: some failures are reported.
        let refused = |words: &str| {
            outcomes.keys().any(|(code, said)| *code == Some(71) && said.starts_with(words))
        };
        assert!(refused("portlock: cannot watch for signals"), "{outcomes:?}");
        assert!(refused("portlock: cannot start a child process"), "{outcomes:?}");
    }
}

fn said(done: &Finished) -> String {
    done.err.lines().next().unwrap_or_default().to_owned()
}

/// The wake of the forwarding thread is lost, and the run still ends with its command.
#[test]
fn lost_wakes_do_not_outlive_the_command() {
    let home = Home::new();
    if !strace_is_there("refused system calls") {
        return;
    }
    let arguments = ["run", PORT, "--", "sh", "-c", "kill -USR1 $PPID; exit 4"];
    for call in ["sendto", "recvfrom", "waitid"] {
        let inject = format!("inject={call}:error=EPERM:when=1+");
        let done = finished(&mut strace(&home, &["-f", "-e", &inject], &arguments));
        assert_eq!(done.code(), 4, "{call}: {done:?}");
        assert!(home.is_idle(), "{call}");
    }
}

/// Without kernel locks a death cannot be proved, but portlock has seen its command end.
#[test]
fn lock_file_is_removed_without_kernel_locks() {
    let home = Home::new();
    if !strace_is_there("refused system calls") {
        return;
    }
    let options = ["-f", "-e", "inject=flock:error=EOPNOTSUPP"];
    for option in ["-n", "-o"] {
        let arguments = ["run", option, PORT, "--", "sh", "-c", "exit 4"];
        let done = finished(&mut strace(&home, &options, &arguments));
        assert_eq!((done.code(), &*done.err), (4, ""));
        assert!(home.is_idle(), "{option}");
    }
    // The control: a file that no process removes stays, and blocks the next run.
    for code in [4, 75] {
        let arguments = ["run", "-F", PORT, "--", "sh", "-c", "exit 4"];
        let done = finished(&mut strace(&home, &options, &arguments));
        assert_eq!(done.code(), code, "{done:?}");
    }
}
