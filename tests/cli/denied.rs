//! System calls of portlock itself that are refused: strace answers in the kernel's place.

use std::collections::BTreeMap;
use std::process::Command;

use super::loud::{strace_is_there, stride};
use super::{Finished, Home, PORT, finished};

/// `portlock` with these arguments under strace, which ends after two minutes in any case.
fn strace(home: &Home, options: &[&str], arguments: &[&str]) -> Command {
    let mut strace = Command::new("timeout");
    strace.args(["120", "strace", "-qq", "-o"]).arg(home.path().join("trace")).args(options);
    strace.arg(env!("CARGO_BIN_EXE_portlock")).args(arguments);
    strace.env("HOME", home.path()).env_remove("PORTLOCK_DIR");
    strace
}

/// How often portlock's first thread makes each call, its start by the loader apart.
fn calls(home: &Home, arguments: &[&str]) -> BTreeMap<String, usize> {
    assert_eq!(finished(&mut strace(home, &[], arguments)).code(), 4);
    let trace = std::fs::read_to_string(home.path().join("trace")).expect("strace wrote it");
    let mut calls = BTreeMap::new();
    for line in trace.lines() {
        if let Some((call, _)) = line.split_once('(') {
            let is_name = call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            // What ends the process, or starts it, is no call of the launcher's.
            if is_name && !["execve", "exit_group"].contains(&call) {
                *calls.entry(call.to_owned()).or_insert(0) += 1;
            }
        }
    }
    calls
}

/// Every occurrence of every call is refused once. The run ends, at the latest with its command,
/// and nothing holds the lock then.
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
            // What is called often is mostly the loader's and std's.
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
        // The control: it does make a difference.
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

/// The wake of what hands signals on is lost, and the run ends with its command all the same.
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

/// Where the filesystem has no kernel locks nothing proves a death, and portlock has seen it.
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
    // The control: what nobody removes stays, and refuses the next.
    for code in [4, 75] {
        let arguments = ["run", "-F", PORT, "--", "sh", "-c", "exit 4"];
        let done = finished(&mut strace(&home, &options, &arguments));
        assert_eq!(done.code(), code, "{done:?}");
    }
}
