//! What the command inherits: portlock's pid with `-F`, its lock file unless `-o` closes it.

use super::recorder::{self, STATUS};
use super::{Home, PORT, Running, all_locks_are_seen, finished, with_default_signals};

/// A run with `option` whose command is the recorder.
fn recorder_with(home: &Home, option: &str) -> Running {
    Running::start(recorder::command(&mut home.portlock(["run", option, PORT, "--"])))
}

#[test]
fn exec_keeps_the_recorded_pid() {
    let home = Home::new();
    for option in ["-F", "--no-fork"] {
        let mut running = recorder_with(&home, option);
        assert_eq!(running.command, running.pid());
        assert_eq!(home.record()["pid"], running.command);
        let done = home.run(["echo", "ran"]);
        assert_eq!((done.code(), &*done.out), (75, ""));
        assert!(
            done.err.contains(&format!("is locked by pid {}", running.command)),
            "{}",
            done.err
        );
        running.send(libc::SIGUSR1);
        assert_eq!(running.line().trim_end(), "USR1");
        let (pid, done) = (running.command, running.end());
        assert_eq!((done.code(), &*done.out, &*done.err), (STATUS, "ended\n", ""));

        // No process was left to remove the file.
        assert_eq!(home.record()["pid"], pid);
        assert_eq!(home.status().code(), if all_locks_are_seen() { 3 } else { 4 });
        let done = home.run(["true"]);
        assert_eq!(done.code(), 0);
        let said = format!("took over the lock of port {PORT} from pid {pid}");
        assert!(done.err.contains(&said), "{}", done.err);
        assert!(home.is_idle());
    }
}

#[test]
fn exec_leaves_signals_unchanged() {
    use std::os::unix::process::ExitStatusExt;
    let home = Home::new();
    let running = recorder_with(&home, "-F");
    assert!(running.ignored.is_empty(), "{:?}", running.ignored);
    drop(running);
    let done = finished(&mut home.portlock(["run", "-F", PORT, "--", "sh", "-c", "kill $$"]));
    assert_eq!(done.status.signal(), Some(libc::SIGTERM), "killed, and not 143");
}

#[test]
fn failed_exec_is_69_and_releases() {
    let home = Home::new();
    let absent = home.path().join("no-such-command");
    let absent = absent.to_str().expect("UTF-8");
    for port in [PORT, "0"] {
        let done = finished(&mut home.portlock(["run", "-F", port, "--", absent]));
        assert_eq!((done.code(), &*done.out), (69, ""));
        let said = format!("portlock: cannot run {absent}: No such file or directory");
        assert!(
            done.err.lines().last().is_some_and(|line| line.starts_with(&said)),
            "{}",
            done.err
        );
        assert!(home.is_idle());
    }
}

#[test]
fn exec_is_refused_while_the_lock_is_held() {
    let home = Home::new();
    let holder = home.recorder();
    for (options, code) in [(&["-F"][..], 75), (&["-F", "-E", "3"], 3), (&["-F", "-w", "0"], 75)] {
        let mut portlock = home.portlock(["run"]);
        let done = finished(portlock.args(options).args([PORT, "--", "echo", "ran"]));
        assert_eq!((done.code(), &*done.out), (code, ""));
    }
    let done = finished(&mut home.portlock(["run", "-F", "0", "--", "sh", "-c", "exit 4"]));
    assert_eq!(done.code(), 4);
    assert!(done.err.contains("the command runs without one"), "{}", done.err);
    assert_eq!(holder.end().code(), STATUS);
}

/// The command has the lock file open, unless `-o` closes it.
#[test]
#[cfg(target_os = "linux")]
fn command_has_the_lock_file_unless_closed() {
    let home = Home::new();
    // The shell resolves its own descriptors, so that no other process's files are listed.
    let script = "for fd in /proc/$$/fd/*; do readlink \"$fd\"; done";
    for (options, inherits) in
        [(&[][..], true), (&["-F"], true), (&["-o"], false), (&["--close"], false)]
    {
        let mut portlock = home.portlock(["run"]);
        let done = finished(portlock.args(options).args([PORT, "--", "sh", "-c", script]));
        let path = home.lock_file().display().to_string();
        assert_eq!(
            done.out.lines().any(|open| open == path),
            inherits,
            "{options:?}: {}",
            done.out
        );
        let _ = std::fs::remove_file(home.lock_file());
    }
}

#[test]
fn closed_lock_ends_with_portlock() {
    let home = Home::new();
    for option in ["-o", "--close"] {
        let mut running = recorder_with(&home, option);
        let record = home.record();
        assert_eq!(home.run(["true"]).code(), 75, "it is held as long as portlock lives");
        running.kill_portlock();
        let done = home.run(["true"]);
        assert_eq!(done.code(), 0, "{}", done.err);
        let said = format!("took over the lock of port {PORT} from pid {}", record["pid"]);
        assert!(done.err.contains(&said), "{}", done.err);
        assert!(home.is_idle());
        drop(running.keep.take());
        assert_eq!(running.line(), "ended", "the command has outlived portlock");
    }
}

#[test]
fn close_releases_when_the_command_ends() {
    let home = Home::new();
    let running = recorder_with(&home, "-o");
    let done = running.end();
    assert_eq!((done.code(), &*done.out, &*done.err), (STATUS, "ended\n", ""));
    assert!(home.is_idle());
}

/// Blocked and ignored signals are the same as without portlock, including SIGPIPE, which Rust's
/// runtime ignores in portlock itself.
#[test]
#[cfg(target_os = "linux")]
fn command_inherits_blocked_and_ignored_signals() {
    use std::os::unix::process::CommandExt;
    let home = Home::new();
    let state = |mut command: std::process::Command, ignored: &'static [libc::c_int]| {
        let command = command.args(["grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status"]);
        // SAFETY: all calls are async-signal-safe, and the set is initialised before it is used.
        unsafe {
            command.pre_exec(move || {
                let mut set = std::mem::zeroed();
                libc::sigemptyset(&mut set);
                for signal in [libc::SIGUSR1, libc::SIGWINCH] {
                    libc::sigaddset(&mut set, signal);
                }
                libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
                for &signal in ignored {
                    libc::signal(signal, libc::SIG_IGN);
                }
                Ok(())
            });
        }
        let done = finished(command);
        assert_eq!(done.code(), 0);
        // The signals above are the C library's.
        const NAMED: u64 = 0x7fff_ffff;
        let mask = |line: &str| {
            u64::from_str_radix(line.split('\t').nth(1).expect("a mask"), 16).expect("a number")
        };
        done.out.lines().map(|line| mask(line) & NAMED).collect::<Vec<_>>()
    };
    for ignored in [&[][..], &[libc::SIGPIPE], &[libc::SIGHUP, libc::SIGPIPE, libc::SIGTSTP]] {
        let mut env = std::process::Command::new("env");
        env.stdin(std::process::Stdio::null());
        with_default_signals(&mut env);
        let without = state(env, ignored);
        for option in ["-n", "-o", "-F"] {
            let with = state(home.portlock(["run", option, PORT]), ignored);
            assert_eq!(with, without, "{option} {ignored:?}");
            let _ = std::fs::remove_file(home.lock_file());
        }
        let with = state(home.portlock(["run", "0"]), ignored);
        assert_eq!(with, without, "port 0, {ignored:?}");
    }
}
