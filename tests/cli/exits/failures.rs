//! The exit statuses of portlock itself: wrong use, failed calls, files left behind.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::one_line;
use crate::skip_report::not_checked;
use crate::{Finished, Home, PORT, all_locks_are_seen, finished, is_root};

/// A user without files here.
const NOBODY: u32 = 65534;

/// A user without an entry in the password file.
const UNLISTED: u32 = 54321;

#[test]
fn wrong_arguments_are_64_and_run_nothing() {
    let home = Home::new();
    let touch = home.path().join("ran");
    let touch = touch.to_str().expect("UTF-8");
    for (arguments, said) in [
        (&["run", "70000", "--", "touch", touch][..], "70000 is not in 0..=65535"),
        (&["run", "-1", "--", "touch", touch], "unexpected argument '-1'"),
        (&["run", "65536", "--", "touch", touch], "invalid value '65536' for '<PORT|NAME>'"),
        (&["run"], "<PORT|NAME>"),
        (&["run", "--"], "<PORT|NAME>"),
        (&["run", "-w", "x", PORT, "--", "touch", touch], "not a number of seconds"),
        (&["run", "-w", "nan", PORT, "--", "touch", touch], "not a number of seconds"),
        (&["run", "-w", "inf", PORT, "--", "touch", touch], "not a number of seconds"),
        (&["run", "-w-1", PORT, "--", "touch", touch], "not a number of seconds from 0 on"),
        (&["run", "-w", "1e30", PORT, "--", "touch", touch], "not a number of seconds from 0 on"),
        (&["run", "-n", "-w", "1", PORT, "--", "touch", touch], "cannot be used with"),
        (&["run", "--wait", "-w", "1", PORT, "--", "touch", touch], "cannot be used with"),
        (&["run", "--wait", "-n", PORT, "--", "touch", touch], "cannot be used with"),
        (&["run", "-F", "-o", PORT, "--", "touch", touch], "cannot be used with"),
        (&["run", "-E", "256", PORT, "--", "touch", touch], "256 is not in 0..=255"),
        (&["run", "-E", "-1", PORT, "--", "touch", touch], "'-1'"),
        (&["run", "-E", "x", PORT, "--", "touch", touch], "invalid value 'x' for '-E <CODE>'"),
        (&["run", PORT], "<COMMAND>..."),
        (&["run", PORT, "--"], "<COMMAND>..."),
        (&["run", PORT, "-x", "touch", touch], "unexpected argument '-x'"),
        (&["--as-child=1:2:", "run", PORT, "touch", touch], "--as-child"),
        (&["--as-child=", "run", PORT, "touch", touch], "--as-child"),
        (&["run", "--dir", "", PORT, "--", "touch", touch], "--dir <DIR>"),
        (&["run", "--app", "../x", PORT, "--", "touch", touch], "cannot be an application's name"),
        (&["run", "--app", "a", "--dir", "/", PORT, "--", "touch", touch], "cannot be used with"),
        (&["status", "70000"], "70000 is not in 0..=65535"),
        (&["status", "--app", ".x", PORT], "use 1 to 64 letters"),
        (&["run", "--app", "a", "--fall-back", PORT, "--", "touch", touch], "cannot be used with"),
        (&["run", "--dir", "/", "--fall-back", PORT, "--", "touch", touch], "cannot be used with"),
        (&["status"], "<PORT|NAME>"),
        (&["wait"], "<PORT|NAME>"),
        (&["wait", "-w", "x", PORT], "not a number of seconds"),
        (&["clear"], "<PORT|NAME>"),
        (&["clear", "--yes", PORT], "--force"),
        (&["list", PORT], "unexpected argument '5338'"),
        (&["sweep", PORT], "unexpected argument '5338'"),
        (&["completions"], "<SHELL>"),
        (&["completions", "cmd"], "invalid value 'cmd' for '<SHELL>'"),
        (&["man", "lock"], "there is no subcommand \"lock\""),
        (&["lock", PORT], "unrecognized subcommand 'lock'"),
    ] {
        let done = finished(&mut home.portlock(arguments));
        assert_eq!((done.code(), &*done.out), (64, ""), "{arguments:?}");
        assert!(done.err.starts_with("portlock: ") && done.err.contains(said), "{}", done.err);
        assert_eq!(std::fs::read_dir(home.path()).expect("reads").count(), 0, "{arguments:?}");
    }
    let done = finished(&mut home.portlock::<&str>([]));
    assert_eq!((done.code(), &*done.out), (64, ""));
    assert!(done.err.contains("Usage: portlock <COMMAND>"), "{}", done.err);
}

#[test]
fn command_that_cannot_run_is_69() {
    let home = Home::new();
    let absent = home.path().join("no-such-command");
    let done = home.run([&absent]);
    assert_eq!(done.code(), 69);
    assert_eq!(
        one_line(&done),
        format!(
            "portlock: cannot run {}: No such file or directory (os error 2)",
            absent.display()
        )
    );
    assert!(home.locks().is_dir() && home.is_idle());

    let text = home.path().join("text");
    std::fs::write(&text, "no program").expect("writes");
    let done = home.run([&text]);
    assert_eq!(done.code(), 69);
    assert!(one_line(&done).ends_with("Permission denied (os error 13)"), "{}", done.err);
    assert!(home.is_idle());
}

#[test]
fn signals_that_cannot_be_watched_are_71() {
    let home = Home::new();
    let mut portlock = home.portlock(["run", PORT, "--", "true"]);
    // SAFETY: both calls are async-signal-safe. One more file than the standard three is enough for
    // the loader, and not for the pair of sockets that a signal handler writes to; none of them may
    // be a terminal that another test opens at this moment.
    unsafe {
        portlock.pre_exec(|| {
            for number in 3..256 {
                libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
            }
            let limit = libc::rlimit { rlim_cur: 4, rlim_max: 4 };
            match libc::setrlimit(libc::RLIMIT_NOFILE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let done = finished(&mut portlock);
    assert_eq!(done.code(), 71, "{done:?}");
    assert!(one_line(&done).starts_with("portlock: cannot watch for signals: "), "{}", done.err);
    assert!(!home.locks().exists());
}

#[test]
fn lock_file_that_cannot_be_created_is_73() {
    let home = Home::new();
    let file = home.path().join("file");
    std::fs::write(&file, "").expect("writes");
    let dir = file.to_str().expect("UTF-8");
    let done = finished(&mut home.portlock(["run", "--dir", dir, PORT, "--", "true"]));
    assert_eq!(done.code(), 73);
    assert_eq!(
        done.err,
        format!(
            "portlock: cannot create a lock file in the directory {dir}: Not a directory (os error \
             20)\n  next step: move away what is there, or use another directory (--dir or \
             PORTLOCK_DIR names one)\n"
        )
    );
}

#[test]
fn other_file_at_the_lock_path_is_73() {
    let home = Home::new();
    std::fs::create_dir_all(home.lock_file()).expect("makes the directory");
    let done = home.run(["true"]);
    assert_eq!(done.code(), 73);
    assert_eq!(
        done.err,
        format!(
            "portlock: {} is a directory, not a lock file\n  \
             next step: move it away, or use another directory (--dir or PORTLOCK_DIR names one)\n",
            home.lock_file().display()
        )
    );
    assert!(home.lock_file().is_dir());

    std::fs::remove_dir(home.lock_file()).expect("removes");
    std::os::unix::fs::symlink("/dev/null", home.lock_file()).expect("links");
    let done = home.run(["true"]);
    assert_eq!(done.code(), 73);
    assert!(done.err.contains(" is a symbolic link, not a lock file\n"), "{}", done.err);
    assert!(home.lock_file().is_symlink());
}

#[test]
fn lock_file_that_cannot_be_written_is_74() {
    let home = Home::new();
    let mut portlock = home.portlock(["run", PORT, "--", "true"]);
    // SAFETY: setrlimit is async-signal-safe. No regular file may grow.
    unsafe {
        portlock.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let done = finished(&mut portlock);
    assert_eq!(done.code(), 74, "{done:?}");
    assert!(done.err.starts_with("portlock: cannot write "), "{}", done.err);
    assert!(home.locks().is_dir() && home.is_idle());
}

#[test]
fn held_is_75_or_the_requested_status() {
    let home = Home::new();
    let holder = home.recorder();
    for (options, code) in [
        (&[][..], 75),
        (&["-n"], 75),
        (&["-E", "9"], 9),
        (&["-n", "-E", "0"], 0),
        (&["-E", "255"], 255),
    ] {
        let mut portlock = home.portlock(["run"]);
        let done = finished(portlock.args(options).args([PORT, "--", "echo", "ran"]));
        assert_eq!((done.code(), &*done.out), (code, ""), "{options:?}");
        assert!(done.err.contains("is locked by pid"), "{}", done.err);
    }
    assert_eq!(holder.end().code(), crate::recorder::STATUS);
}

/// `portlock` as a user without root's permissions: `nobody`, if the tests run as root. The
/// program is copied, because that user may not have access to the build directory.
fn unprivileged(home: &Home, arguments: &[&str]) -> Command {
    if !is_root() {
        return home.portlock(arguments);
    }
    let permissions = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(home.path(), permissions).expect("changes the mode");
    let program = home.path().join("portlock");
    if !program.exists() {
        // By another process: a child that another test forks during the copy would inherit the
        // file open for writing, and such a program cannot be run.
        let mut copy = Command::new("cp");
        copy.arg(env!("CARGO_BIN_EXE_portlock")).arg(&program);
        assert!(copy.status().expect("cp runs").success());
    }
    let mut portlock = Command::new(program);
    portlock.args(arguments).env("HOME", home.path()).current_dir("/").uid(NOBODY).gid(NOBODY);
    portlock
}

#[test]
fn directory_without_permission_is_77() {
    let home = Home::new();
    std::fs::create_dir(home.locks()).expect("makes the directory");
    let read_only = std::fs::Permissions::from_mode(0o555);
    std::fs::set_permissions(home.locks(), read_only).expect("changes the mode");
    let done = finished(&mut unprivileged(&home, &["run", PORT, "--", "true"]));
    assert_eq!(done.code(), 77, "{done:?}");
    assert_eq!(
        done.err,
        format!(
            "portlock: cannot create a lock file in the directory {}: Permission denied (os error \
             13)\n  next step: use a directory that you may write to (--dir or PORTLOCK_DIR \
             names one)\n",
            home.locks().display()
        )
    );
    assert!(home.is_idle());
    let closed = std::fs::Permissions::from_mode(0o300);
    std::fs::set_permissions(home.locks(), closed).expect("changes the mode");
    let done = finished(&mut unprivileged(&home, &["list"]));
    assert_eq!((done.code(), &*done.out), (77, ""), "{done:?}");
    let open = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(home.locks(), open).expect("changes the mode");
}

#[test]
fn fall_back_status_follows_the_reason() {
    let home = Home::new();
    let [denied, file] = ["denied", "file"].map(|name| home.path().join(name));
    std::fs::write(&file, "").expect("writes");
    for directory in [&denied, &home.locks()] {
        std::fs::create_dir(directory).expect("makes the directory");
        let read_only = std::fs::Permissions::from_mode(0o555);
        std::fs::set_permissions(directory, read_only).expect("changes the mode");
    }
    for (temporary, code, reason) in
        [(&denied, 77, "Permission denied"), (&file, 73, "Not a directory")]
    {
        let mut portlock = unprivileged(&home, &["run", "--fall-back", PORT, "--", "true"]);
        let done = finished(portlock.env("TMPDIR", temporary).env_remove("XDG_RUNTIME_DIR"));
        assert_eq!((done.code(), &*done.out), (code, ""), "{done:?}");
        assert!(done.err.contains(reason), "{}", done.err);
    }
}

#[test]
fn unreadable_lock_file_of_another_user_is_77() {
    let home = Home::new();
    home.plant(b"{\"pid\":1}");
    let closed = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(home.lock_file(), closed).expect("changes the mode");
    if is_root() {
        chown(home.locks(), Some(NOBODY), Some(NOBODY)).expect("changes the owner");
    }
    let done = finished(&mut unprivileged(&home, &["run", PORT, "--", "true"]));
    assert_eq!(done.code(), 77, "{done:?}");
    let advice = if is_root() {
        "the lock file belongs to user 0: ask that user"
    } else {
        "restore the permissions of the lock file"
    };
    assert!(done.err.contains(advice), "{}", done.err);

    let done = finished(&mut unprivileged(&home, &["status", PORT]));
    assert_eq!((done.code(), &*done.err), (4, ""));
    let said = format!("cannot tell whether port {PORT} is locked: cannot open ");
    assert!(done.out.starts_with(&said), "{}", done.out);
    let done = finished(&mut unprivileged(&home, &["status", "--json", PORT]));
    let found: serde_json::Value = serde_json::from_str(&done.out).expect("JSON");
    assert_eq!((&found["state"], &found["reason"]), (&"unknown".into(), &"not-permitted".into()));
    assert!(home.lock_file().exists());
}

/// `portlock run` whose command makes the directory read-only, so that the file cannot be removed.
fn without_permission_to_remove(home: &Home, option: &str) -> Finished {
    std::fs::create_dir(home.locks()).expect("makes the directory");
    if is_root() {
        chown(home.locks(), Some(NOBODY), Some(NOBODY)).expect("changes the owner");
    }
    let script = format!("chmod 555 '{}'; exit 5", home.locks().display());
    finished(&mut unprivileged(home, &["run", option, PORT, "--", "sh", "-c", &script]))
}

#[test]
fn unremovable_lock_file_is_a_warning() {
    let home = Home::new();
    let done = without_permission_to_remove(&home, "-n");
    assert_eq!(done.code(), 5, "{done:?}");
    assert_eq!(
        one_line(&done),
        format!(
            "portlock: warning: cannot remove {}: Permission denied (os error 13); the file stays, \
             and locks nothing",
            home.lock_file().display()
        )
    );
    let (code, found) = home.status_json();
    let expected = if all_locks_are_seen() { (3, "stale") } else { (4, "unknown") };
    assert_eq!((code, found["state"].as_str()), (expected.0, Some(expected.1)));
}

#[test]
fn unremovable_lock_file_names_no_holder() {
    let home = Home::new();
    let done = without_permission_to_remove(&home, "-o");
    assert_eq!(done.code(), 5, "{done:?}");
    let warning = one_line(&done);
    let path = home.lock_file();
    let said = format!("portlock: warning: cannot remove {}: Permission denied", path.display());
    assert!(warning.starts_with(&said), "{warning}");
    let given_up = "; the lock was given up, and the next run that may remove the file does";
    assert!(warning.ends_with(given_up), "{warning}");
    assert_eq!(std::fs::read(path).expect("it stays"), b"{", "the record is truncated");
}

/// With `-o` portlock holds the lock and detects it. Without it the holder is the command.
#[test]
fn only_close_warns_of_a_removed_file() {
    let home = Home::new();
    let script = format!("rm '{}'; exit 6", home.lock_file().display());
    let done = finished(&mut home.portlock(["run", "-o", PORT, "--", "sh", "-c", &script]));
    assert_eq!(done.code(), 6);
    let said = format!("portlock: warning: {} was removed or replaced", home.lock_file().display());
    assert!(one_line(&done).starts_with(&said), "{}", done.err);
    let done = home.run(["sh", "-c", &script]);
    assert_eq!((done.code(), &*done.err), (6, ""));
}

#[test]
fn unknown_home_directory_is_78() {
    if !is_root() {
        not_checked("only root can become a user without an entry in the password file");
        return;
    }
    let home = Home::new();
    let homeless = |arguments: &[&str]| {
        let mut portlock = unprivileged(&home, arguments);
        finished(portlock.uid(UNLISTED).gid(UNLISTED).env_remove("HOME"))
    };
    let done = homeless(&["run", PORT, "--", "true"]);
    assert_eq!(done.code(), 78, "{done:?}");
    assert_eq!(
        one_line(&done),
        "portlock: there is no home directory; set HOME, or name another directory (--dir or \
         PORTLOCK_DIR names one)"
    );
    let done = homeless(&["status", PORT]);
    assert_eq!((done.code(), &*done.err), (4, ""));
    let done = homeless(&["status", "--json", PORT]);
    let found: serde_json::Value = serde_json::from_str(&done.out).expect("JSON");
    assert_eq!(
        (done.code(), &found["reason"], &found["path"]),
        (4, &"no-home".into(), &serde_json::Value::Null)
    );
    // A run that needs no home succeeds.
    assert_eq!(homeless(&["run", "0", "--", "true"]).code(), 0);
}
