//! Names as well as ports, and the choice of the lock directory.

use std::os::unix::fs::PermissionsExt;

use super::{Home, PORT, finished, since};

#[test]
fn name_is_locked_like_a_port() {
    let home = Home::new();
    let file = home.locks().join("build.lock");
    let script = format!(
        "cat '{}'; {} run build -- echo ran; echo $?",
        file.display(),
        env!("CARGO_BIN_EXE_portlock")
    );
    let done = finished(&mut home.portlock(["run", "build", "--", "sh", "-c", &script]));
    let (record, code) = done.out.trim_end().split_once('\n').unwrap_or_else(|| {
        // The record contains no line break.
        done.out.trim_end().split_at(done.out.find('}').expect("a record") + 1)
    });
    let record: serde_json::Value = serde_json::from_str(record).expect("the record");
    assert_eq!((code, &record["port"]), ("75", &serde_json::Value::Null));
    assert_eq!(
        done.err,
        format!(
            "portlock: lock build is locked by pid {} (sh, since {})\n  lock file: {}\n  \
             next step: stop that process, or use another name\n",
            record["pid"],
            since(&record),
            file.display()
        )
    );
    assert!(home.is_idle());
    for name in ["b", "Build-7_x.y", &"n".repeat(64)] {
        let done = finished(&mut home.portlock(["run", name, "--", "echo", "ran"]));
        assert_eq!((done.code(), &*done.out, &*done.err), (0, "ran\n", ""));
    }
}

#[test]
fn the_status_of_a_name() {
    let home = Home::new();
    let done = finished(&mut home.portlock(["status", "build"]));
    let path = home.locks().join("build.lock");
    assert_eq!((done.code(), &*done.err), (0, ""));
    assert_eq!(done.out, format!("lock build is free\n  lock file: {}\n", path.display()));
    let done = finished(&mut home.portlock(["status", "--json", "build"]));
    let found: serde_json::Value = serde_json::from_str(&done.out).expect("JSON");
    let expected = serde_json::json!({
        "state": "free", "port": null, "name": "build", "path": path.to_str(), "holder": null,
        "reason": null, "message": "lock build is free",
    });
    assert_eq!(found, expected);
}

#[test]
#[cfg(target_os = "linux")]
fn takeover_of_a_name_is_reported() {
    let home = Home::new();
    let record = home.dead_record();
    home.plant_as("build.lock", record.to_string().as_bytes());
    let done = finished(&mut home.portlock(["run", "build", "--", "true"]));
    assert_eq!(done.code(), 0);
    let said = format!("portlock: took over the lock build from pid {} (sh, ", record["pid"]);
    assert!(done.err.starts_with(&said), "{}", done.err);
}

#[test]
fn invalid_names_are_64_everywhere() {
    let home = Home::new();
    let long = "n".repeat(65);
    for name in [
        "",
        ".",
        "..",
        ".x",
        "a/b",
        "../x",
        "/etc/x",
        "a\\b",
        "a b",
        "a\nb",
        "\u{1b}[31m",
        "é",
        "+80",
        "agent-5338",
        "nul",
        "80\n",
        &long,
    ] {
        for arguments in [
            &["run", name, "--", "true"][..],
            &["run", "--wait", name, "--", "true"],
            &["run", "-F", name, "--", "true"],
            &["status", name],
            &["status", "--json", name],
            &["clear", name],
            &["clear", "--force", "--yes", name],
            &["wait", name],
        ] {
            let done = finished(&mut home.portlock(arguments));
            assert_eq!((done.code(), &*done.out), (64, ""), "{arguments:?}: {}", done.err);
            assert!(done.err.contains("cannot be a lock's name"), "{}", done.err);
            let raw = |c: char| c != '\n' && c.is_control();
            assert!(!done.err.contains(raw) && done.err.lines().count() == 1, "{:?}", done.err);
        }
    }
    let done = finished(&mut home.portlock(["run", "-x", "--", "true"]));
    assert_eq!(done.code(), 64, "an unknown option");
    assert_eq!(std::fs::read_dir(home.path()).expect("reads").count(), 0);
}

#[test]
fn option_overrides_the_environments_directory() {
    let home = Home::new();
    let (named, other) = (home.path().join("named"), home.path().join("other"));
    let other = other.to_str().expect("UTF-8");
    let file = format!("agent-{PORT}.lock");
    for (options, expected) in [
        (&[][..], named.as_path()),
        (&["--fall-back"], &named),
        (&["--dir", other], other.as_ref()),
        (&["--app", "my-app"], &home.path().join(".my-app")),
    ] {
        let mut portlock = home.portlock(["run"]);
        portlock.env("PORTLOCK_DIR", &named).args(options).args([PORT, "--", "test", "-f"]);
        let done = finished(portlock.arg(expected.join(&file)));
        assert_eq!((done.code(), &*done.err), (0, ""), "{options:?}");
        let mut list = home.portlock(["list"]);
        let done = finished(list.env("PORTLOCK_DIR", &named).args(options));
        assert_eq!((done.code(), &*done.out, &*done.err), (0, "", ""), "{options:?}");
    }
    assert!(!home.locks().exists());
}

#[test]
fn fall_back_replaces_an_unwritable_home() {
    let home = Home::new();
    let file = home.path().join("file");
    std::fs::write(&file, "").expect("writes");
    let runtime = home.path().join("run\ntime");
    std::fs::create_dir(&runtime).expect("makes the directory");
    std::fs::set_permissions(&runtime, std::fs::Permissions::from_mode(0o700)).expect("changes");
    let lock = runtime.join(format!("portlock/agent-{PORT}.lock"));
    let portlock = |arguments: &[&str]| {
        let mut portlock = home.portlock(arguments);
        // Not even root can create a directory below a file.
        finished(portlock.env("HOME", &file).env("XDG_RUNTIME_DIR", &runtime).arg(&lock))
    };
    let done = portlock(&["run", PORT, "--", "test", "-f"]);
    assert_eq!((done.code(), runtime.join("portlock").exists()), (73, false), "{}", done.err);

    if cfg!(target_os = "linux") {
        let done = portlock(&["run", "--fall-back", PORT, "--", "test", "-f"]);
        assert_eq!(done.code(), 0, "{}", done.err);
        let used = runtime.join("portlock");
        let used_in_words = used.display().to_string().replace('\n', "\\n");
        let said = format!("portlock: warning: the lock files are in {used_in_words} instead: ");
        assert!(done.err.starts_with(&said) && done.err.lines().count() == 1, "{}", done.err);

        std::fs::set_permissions(&used, std::fs::Permissions::from_mode(0o777)).expect("changes");
        let done = portlock(&["run", "--fall-back", PORT, "--", "test", "-f"]);
        assert_eq!(done.code(), 73);
        assert!(done.err.contains("others may write to it"), "{}", done.err);
        assert!(done.err.contains(&used_in_words), "{}", done.err);
    }
}

#[test]
fn unexpanded_tilde_is_refused() {
    let home = Home::new();
    for arguments in [&["run", PORT, "--", "true"][..], &["status", PORT], &["list"], &["sweep"]] {
        let mut portlock = home.portlock(arguments);
        let done = finished(portlock.env("PORTLOCK_DIR", "~/locks").current_dir(home.path()));
        assert_eq!((done.code(), &*done.out), (78, ""), "{arguments:?}");
        assert_eq!(
            done.err,
            "portlock: PORTLOCK_DIR is \"~/locks\", and only a shell expands '~'; set PORTLOCK_DIR \
             to a path from the root\n"
        );
    }
    let done = finished(home.portlock(["list", "--dir=~/locks"]).current_dir(home.path()));
    assert_eq!(done.code(), 64);
    assert!(done.err.contains("no shell has expanded '~'"), "{}", done.err);
    let done = finished(home.portlock(["list", "--dir", ""]).current_dir(home.path()));
    assert_eq!(done.code(), 64, "most likely a variable that is not set: {}", done.err);
    assert_eq!(std::fs::read_dir(home.path()).expect("reads").count(), 0);
}

#[test]
fn relative_home_directory_is_refused() {
    let home = Home::new();
    for value in ["home", "~"] {
        let mut portlock = home.portlock(["run", PORT, "--", "true"]);
        let done = finished(portlock.env("HOME", value).current_dir(home.path()));
        assert_eq!(done.code(), 78);
        assert!(done.err.starts_with(&format!("portlock: HOME is \"{value}\", ")), "{}", done.err);
    }
    assert_eq!(std::fs::read_dir(home.path()).expect("reads").count(), 0);
}
