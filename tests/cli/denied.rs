//! System calls of portlock itself that fail: strace answers instead of the kernel.

use std::collections::BTreeMap;
use std::process::Command;

use super::recorder::STATUS;
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

/// What the last one of these wrote.
fn trace(home: &Home) -> String {
    std::fs::read_to_string(home.path().join("trace")).expect("strace wrote it")
}

/// The number of calls of each name by portlock's first thread, except its start by the loader.
fn calls(home: &Home, arguments: &[&str]) -> BTreeMap<String, usize> {
    assert_eq!(finished(&mut strace(home, &[], arguments)).code(), 4);
    let trace = trace(home);
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
        // It is mounted, and nothing else is missing.
        assert!(!outcomes.keys().any(|(_, said)| said.contains("/proc")), "{outcomes:?}");
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
    for (call, warning) in [("sendto", ""), ("recvfrom", NO_MORE_SIGNALS), ("waitid", "")] {
        let inject = format!("inject={call}:error=EPERM:when=1+");
        let done = finished(&mut strace(&home, &["-f", "-e", &inject], &arguments));
        assert_eq!(done.code(), 4, "{call}: {done:?}");
        assert!(done.err.starts_with(warning) && done.err.is_empty() == warning.is_empty());
        assert!(home.is_idle(), "{call}");
    }
}

const NO_MORE_SIGNALS: &str = "portlock: warning: no more signals are handed on: ";

#[test]
fn interrupted_read_of_a_signal_is_repeated() {
    let home = Home::new();
    if !strace_is_there("interrupted system calls") {
        return;
    }
    let arguments = ["run", PORT, "--", "sh", "-c", "kill -USR1 $PPID; exit 4"];
    let options = ["-f", "-e", "inject=recvfrom:error=EINTR:when=1..3"];
    let done = finished(&mut strace(&home, &options, &arguments));
    assert_eq!((done.code(), &*done.err), (4, ""));
    // The control: it was called.
    let trace = trace(&home);
    assert!(trace.contains("EINTR (Interrupted system call) (INJECTED)"), "{trace}");
}

/// One look at a held lock fails, and the next ones do not.
#[test]
fn wait_survives_a_failed_look() {
    let home = Home::new();
    if !strace_is_there("refused system calls") {
        return;
    }
    let holder = home.recorder();
    let file = home.lock_file().display().to_string();
    let options = ["-P", &file, "-e", "trace=openat", "-e", "inject=openat:error=EIO:when=1"];
    let done = finished(&mut strace(&home, &options, &["wait", "-w", "0.3", PORT]));
    assert_eq!(done.code(), 75, "{done:?}");
    let trace = trace(&home);
    assert!(trace.contains("EIO (Input/output error) (INJECTED)"), "the control: {trace}");
    // It sleeps between two looks, longer each time.
    let looks = trace.lines().count();
    assert!((2..50).contains(&looks), "{looks} looks");
    assert_eq!(holder.end().code(), STATUS);
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
    for (arguments, next_step) in [
        (
            &["run", PORT, "--", "true"][..],
            "if that process no longer runs, remove the lock with clear --force; or use a \
             directory on a filesystem with kernel locks",
        ),
        (&["clear", PORT], "make sure that that process no longer runs"),
    ] {
        let done = finished(&mut strace(&home, &options, arguments));
        let next_step = format!("\n  next step: {next_step}\n");
        assert!(done.err.contains(&next_step), "{next_step}: {done:?}");
    }
}
