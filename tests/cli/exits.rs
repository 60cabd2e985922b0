//! Every exit status, and its messages.

mod failures;

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use super::skip_report::not_checked;
use super::{Finished, Home, PORT, finished, is_root, with_default_signals};

fn one_line(done: &Finished) -> &str {
    let line = done.err.strip_suffix('\n').expect("a whole line");
    assert!(!line.contains('\n'), "one line: {line}");
    line
}

#[test]
fn exit_status_is_the_commands_own() {
    let home = Home::new();
    for code in [0, 1, 3, 75, 255] {
        let done = home.run(["sh", "-c", &format!("echo out; echo err >&2; exit {code}")]);
        assert_eq!((done.code(), &*done.out, &*done.err), (code, "out\n", "err\n"));
        assert!(home.locks().is_dir() && home.is_idle());
    }
}

#[test]
fn portlock_dies_by_the_commands_signal() {
    let home = Home::new();
    for option in ["-n", "-o"] {
        for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGHUP, libc::SIGSEGV, libc::SIGPIPE] {
            let command = format!("kill -{signal} $$");
            let arguments = ["run", option, PORT, "--", "sh", "-c", &command];
            let done = finished(&mut home.portlock(arguments));
            assert_eq!((done.status.signal(), &*done.err), (Some(signal), ""));
            assert!(!done.status.core_dumped());
            assert!(home.is_idle());

            let mut shell = Command::new("sh");
            let script = r#""$@"; echo =$?"#;
            let shell = shell.args(["-c", script, "sh", env!("CARGO_BIN_EXE_portlock")]);
            // `nohup` ignores SIGHUP.
            with_default_signals(shell);
            let done = finished(shell.args(arguments).env("PORTLOCK_DIR", home.locks()));
            assert_eq!(done.out, format!("={}\n", 128 + signal));
        }
    }
}

/// It has one of its own, if it was to.
#[test]
#[cfg(target_os = "linux")]
fn core_dump_is_left_to_the_command() {
    let home = Home::new();
    let killed = |portlock: &[&str]| {
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"ulimit -c unlimited && exec "$@""#, "sh"]).args(portlock);
        shell.args(["sh", "-c", "kill -SEGV $$"]).current_dir(home.path());
        let done = finished(shell.env("PORTLOCK_DIR", home.locks()));
        (done.status.signal() == Some(libc::SIGSEGV)).then_some(done.status.core_dumped())
    };
    if killed(&[]) != Some(true) {
        return not_checked("that portlock dumps no core: nothing does here");
    }
    let program = env!("CARGO_BIN_EXE_portlock");
    for option in ["-n", "-o"] {
        assert_eq!(killed(&[program, "run", option, PORT, "--"]), Some(false), "{option}");
    }
}

/// A pid 1 cannot end itself by a signal.
#[test]
#[cfg(target_os = "linux")]
fn pid_1_exits_with_128_plus_signal() {
    let home = Home::new();
    let Some(mut container) = container(&home) else { return };
    let done = finished(container.args(["run", PORT, "--", "sh", "-c", "kill -TERM $$"]));
    assert_eq!((done.code(), &*done.err), (128 + libc::SIGTERM, ""));
    assert!(home.is_idle());
}

/// Orphans become children of the first process, which must reap them.
#[test]
#[cfg(target_os = "linux")]
fn first_process_of_a_container_reaps_orphans() {
    let home = Home::new();
    let Some(mut container) = container(&home) else { return };
    let script = format!(
        "cd '{}' && mkfifo pipe && orphan=$(sh -c 'cat pipe >/dev/null & echo $!')
        : >pipe; while [ -e /proc/$orphan ]; do :; done; echo reaped",
        home.path().display()
    );
    let done = finished(container.args(["run", PORT, "--", "sh", "-c", &script]));
    assert_eq!((done.code(), &*done.out, &*done.err), (0, "reaped\n", ""));
}

#[test]
#[cfg(target_os = "linux")]
fn missing_proc_is_71_except_for_exec() {
    let home = Home::new();
    let Some(container) = container(&home) else { return };
    let script = r#"mount -t tmpfs none /proc && exec "$@""#;
    for (option, code, said) in [
        (
            "-n",
            71,
            "portlock: cannot start a child process: No such file or directory (os error 2)",
        ),
        (
            "-o",
            71,
            "portlock: cannot start a child process: No such file or directory (os error 2)",
        ),
        ("-F", 4, ""),
    ] {
        let mut unshare = Command::new(container.get_program());
        let words: Vec<_> = container.get_args().collect();
        unshare.args(&words[..words.len() - 1]).args(["sh", "-c", script, "sh"]);
        unshare.arg(words[words.len() - 1]).env("PORTLOCK_DIR", home.locks());
        let done = finished(unshare.args(["run", option, PORT, "--", "sh", "-c", "exit 4"]));
        assert_eq!(done.code(), code, "{done:?}");
        assert!(done.err.starts_with(said) && done.err.contains("-F") == (code == 71), "{done:?}");
        // Only `-F` leaves the file.
        let is_left = std::fs::remove_file(home.lock_file()).is_ok();
        assert_eq!(is_left, option == "-F");
    }
}

/// `portlock` as the first process of a pid namespace, or `None`, reported as not checked.
#[cfg(target_os = "linux")]
fn container(home: &Home) -> Option<Command> {
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--mount-proc"]);
    if !is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let works = finished(unshare.arg("true")).status.success();
    if !works {
        not_checked("portlock as the first process of a container: unshare does not work here");
        return None;
    }
    let mut container = Command::new("timeout");
    container.args(["120"]).arg(unshare.get_program());
    let arguments: Vec<_> = unshare.get_args().collect();
    container.args(&arguments[..arguments.len() - 1]).arg(env!("CARGO_BIN_EXE_portlock"));
    container.env("PORTLOCK_DIR", home.locks());
    Some(container)
}

#[test]
fn arguments_after_the_commands_name_are_its_own() {
    let home = Home::new();
    for command in [&["echo", "-n", "--help", "-E"][..], &["--", "echo", "-n", "--help", "-E"]] {
        let done = finished(home.portlock(["run", PORT]).args(command));
        assert_eq!((done.code(), &*done.out), (0, "--help -E"));
    }
    let done = finished(&mut home.portlock(["run", PORT, "echo", "-v", "--", "x"]));
    assert_eq!((done.code(), &*done.out, &*done.err), (0, "-v -- x\n", ""));
    // portlock's options are accepted before the command, too.
    let done = finished(&mut home.portlock(["run", PORT, "-E", "3", "--", "echo", "ran"]));
    assert_eq!((done.code(), &*done.out), (0, "ran\n"));
}

#[test]
fn scripts_without_an_interpreter_line_run() {
    let home = Home::new();
    let script = home.path().join("script");
    std::fs::write(&script, "echo \"ran with $1\"; exit 4\n").expect("writes");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&script, executable).expect("changes the mode");
    let script = script.to_str().expect("UTF-8");
    for arguments in [&["run", PORT][..], &["run", "-o", PORT], &["run", "-F", PORT], &["run", "0"]]
    {
        let done = finished(home.portlock(arguments).args([script, "x"]));
        assert_eq!((done.code(), &*done.out), (4, "ran with x\n"), "{arguments:?}");
    }
}

#[test]
fn port_0_runs_the_command_without_a_lock() {
    let home = Home::new();
    let done = finished(&mut home.portlock(["run", "0", "--", "sh", "-c", "exit 4"]));
    assert_eq!(done.code(), 4);
    assert_eq!(
        one_line(&done),
        "portlock: port 0 means any free port and has no lock: the command runs without one"
    );
    assert!(!home.locks().exists());
}

#[test]
fn lock_file_is_in_the_named_directory() {
    let home = Home::new();
    let dir = home.path().join("a/b");
    let script = |dir: &std::path::Path| {
        format!("test -f '{}' && test ! -e '{}'", dir.display(), home.locks().display())
    };
    let named = script(&dir.join(format!("agent-{PORT}.lock")));
    let dir = dir.to_str().expect("UTF-8");
    let arguments = ["run", "--dir", dir, PORT, "--", "sh", "-c", &named];
    assert_eq!(finished(&mut home.portlock(arguments)).code(), 0);
    let app = script(&home.path().join(format!(".my-app/agent-{PORT}.lock")));
    let arguments = ["run", "--app", "my-app", PORT, "--", "sh", "-c", &app];
    assert_eq!(finished(&mut home.portlock(arguments)).code(), 0);
}

#[test]
fn help_lists_every_exit_status() {
    let home = Home::new();
    for (action, codes) in [
        ("run", &[64, 69, 71, 73, 74, 75, 77, 78][..]),
        ("status", &[0, 3, 4, 64, 73, 74, 75, 77, 78]),
        ("list", &[0, 64, 73, 74, 77, 78]),
        ("clear", &[0, 64, 73, 74, 75, 77, 78]),
        ("sweep", &[0, 64, 73, 74, 77, 78]),
        ("wait", &[0, 4, 64, 73, 75, 77, 78]),
        ("completions", &[0, 64, 74]),
        ("man", &[0, 64, 74]),
    ] {
        let listed = |text: &str, head| -> Vec<i32> {
            let table = text.split_once(head).expect("a table").1;
            let codes = table
                .lines()
                .filter_map(|line| line.strip_prefix("  ")?.trim().split(' ').next()?.parse().ok());
            codes.collect()
        };
        let done = finished(&mut home.portlock([action, "--help"]));
        assert_eq!((done.code(), &*done.err), (0, ""));
        assert_eq!(listed(&done.out, "Exit status"), codes, "{action}");
        let done = finished(&mut home.portlock(["man", action]));
        assert_eq!((done.code(), &*done.err), (0, ""));
        assert_eq!(listed(&done.out, "EXIT STATUS"), codes, "{action}");
    }
    assert!(finished(&mut home.portlock(["--help"])).out.contains("Usage: portlock <COMMAND>"));
    assert_eq!(std::fs::read_dir(home.path()).expect("reads").count(), 0);
}

#[test]
fn version_is_the_crates() {
    let done = finished(&mut Home::new().portlock(["--version"]));
    assert_eq!(done.code(), 0);
    assert_eq!(done.out, format!("portlock {}\n", env!("CARGO_PKG_VERSION")));
}

/// The writing end of a closed pipe.
fn closed_pipe() -> Stdio {
    let (ours, _closed) = UnixStream::pair().expect("a pair");
    OwnedFd::from(ours).into()
}

#[test]
fn closed_output_changes_no_exit_status() {
    let home = Home::new();
    let holder = home.recorder();
    for (arguments, code) in [
        (&["status", PORT][..], 75),
        (&["status", "--json", PORT], 75),
        (&["status", "1"], 0),
        (&["run", PORT, "--", "true"], 75),
        (&["run", "0", "--", "sh", "-c", "exit 2"], 2),
        (&["run", "70000", "--", "true"], 64),
        (&["list"], 0),
        (&["list", "--json"], 0),
        (&["list", "--stale", "--json"], 0),
        (&["sweep"], 0),
        (&["sweep", "--json"], 0),
        (&["clear", PORT], 75),
        (&["clear", "1"], 0),
        (&["wait", "-w", "0", PORT], 75),
        (&["wait", "1"], 0),
        (&["completions", "zsh"], 0),
        (&["man"], 0),
        (&["man", "run"], 0),
        (&["man", "nothing"], 64),
        (&["--help"], 0),
        (&["run", "--help"], 0),
        (&["--version"], 0),
    ] {
        let done = finished(home.portlock(arguments).stdout(closed_pipe()));
        assert_eq!(done.code(), code, "{arguments:?}: {}", done.err);
        assert!(!done.err.contains("panicked"), "{}", done.err);
        let done = finished(home.portlock(arguments).stderr(closed_pipe()));
        assert_eq!(done.code(), code, "{arguments:?}");
    }
    drop(holder);
}

#[test]
#[cfg(target_os = "linux")]
fn unwritable_answer_is_74() {
    let home = Home::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a full device");
    for arguments in [
        &["status", PORT][..],
        &["status", "--json", PORT],
        &["list", "--json"],
        &["sweep", "--json"],
        &["clear", PORT],
        &["completions", "bash"],
        &["man"],
    ] {
        let full = full.try_clone().expect("a second descriptor");
        let done = finished(home.portlock(arguments).stdout(full));
        assert_eq!(done.code(), 74, "{arguments:?}");
        assert_eq!(one_line(&done), "portlock: cannot write the answer");
    }
}
