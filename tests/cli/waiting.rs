//! Waiting for a lock: `run -w`, `run --wait` and `wait`.

use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};

use super::recorder::STATUS;
use super::{Home, PORT, ended, finished, locked, must_return, since};
#[cfg(target_os = "linux")]
use super::{child_of, wait_until};

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("portlock starts")
}

/// Counts opens of the lock file, which show that a waiter has polled it again.
#[cfg(target_os = "linux")]
struct Opens(std::fs::File);

#[cfg(target_os = "linux")]
impl Opens {
    fn at(home: &Home) -> Self {
        use std::os::fd::FromRawFd;
        use std::os::unix::ffi::OsStrExt;
        let path = std::ffi::CString::new(home.lock_file().as_os_str().as_bytes()).expect("a path");
        // SAFETY: both calls take numbers and a path that ends with NUL.
        let fd = unsafe {
            let fd = libc::inotify_init1(libc::IN_CLOEXEC);
            assert_ne!(libc::inotify_add_watch(fd, path.as_ptr(), libc::IN_OPEN), -1);
            fd
        };
        // SAFETY: it is open, and not owned elsewhere.
        Self(unsafe { std::fs::File::from_raw_fd(fd) })
    }

    /// Returns after at least `times` more opens: a waiter's second open follows a refusal and a
    /// wait. Unread events of the same kind are merged.
    fn until(&mut self, times: u32, waiter: &Child) {
        let out = waiter.stdout.as_ref().expect("a pipe");
        for _ in 0..times {
            let polled = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            let mut both = [polled(self.0.as_raw_fd()), polled(out.as_raw_fd())];
            // SAFETY: the pointer and the length are those of `both`.
            assert_ne!(unsafe { libc::poll(both.as_mut_ptr(), 2, -1) }, -1);
            assert_eq!(both[1].revents, 0, "it has ended, or runs its command");
            assert_ne!(std::io::Read::read(&mut self.0, &mut [0; 512]).expect("reads"), 0);
        }
    }
}

#[cfg(not(target_os = "linux"))]
struct Opens;

#[cfg(not(target_os = "linux"))]
impl Opens {
    fn at(_: &Home) -> Self {
        Self
    }

    /// Opens cannot be detected: the waiter may arrive late, and the test shows less.
    fn until(&mut self, _: u32, _: &Child) {}
}

/// Returns when a `run` waits: the intended holder has the file watched.
#[cfg(target_os = "linux")]
fn until_waiting(waiter: &Child) {
    until_watching(child_of(waiter.id()));
}

/// The same for a `run` with `-F` or `-o`, which takes the lock itself.
#[cfg(target_os = "linux")]
fn until_waiting_itself(waiter: &Child) {
    until_watching(libc::pid_t::try_from(waiter.id()).expect("a pid"));
}

#[cfg(target_os = "linux")]
fn until_watching(pid: libc::pid_t) {
    wait_until("it watches the file", || {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("it is alive");
        let infos = entries.flatten().filter_map(|one| std::fs::read_to_string(one.path()).ok());
        infos.into_iter().any(|info| info.contains("inotify wd:"))
    });
}

/// A wait cannot be detected: the waiter may arrive late, and the test shows less.
#[cfg(not(target_os = "linux"))]
fn until_waiting_itself(_: &Child) {}

/// The same.
#[cfg(not(target_os = "linux"))]
fn until_waiting(_: &Child) {}

#[test]
fn waiting_run_starts_when_the_holder_ends() {
    let home = Home::new();
    for options in [
        &["-w", "100"][..],
        &["--timeout", "100.5"],
        &["--wait"],
        &["-F", "--wait"],
        &["-o", "--wait"],
    ] {
        let holder = home.recorder();
        let mut waiter = home.portlock(["run"]);
        let waiter = start(waiter.args(options).args([PORT, "--", "echo", "got it"]));
        match options[0] {
            "-F" | "-o" => until_waiting_itself(&waiter),
            _ => until_waiting(&waiter),
        }
        assert_eq!(holder.end().code(), STATUS);
        let done = ended(waiter);
        assert_eq!((done.code(), &*done.out, &*done.err), (0, "got it\n", ""), "{options:?}");
        if options[0] == "-F" {
            // With exec the file stays, unless the ended holder has found it stale.
            let _ = std::fs::remove_file(home.lock_file());
        }
        assert!(home.is_idle(), "{options:?}");
    }
}

/// Without `-v` it does not report the end of the holder that it has waited for.
#[test]
fn waiting_run_takes_over_from_a_killed_holder() {
    let home = Home::new();
    for options in [&["--wait"][..], &["--wait", "-v"]] {
        let mut holder = home.recorder();
        let record = home.record();
        let mut waiter = home.portlock(["run"]);
        let waiter = start(waiter.args(options).args([PORT, "--", "echo", "got it"]));
        until_waiting(&waiter);
        holder.kill_portlock();
        super::send(holder.command, libc::SIGKILL);
        let done = ended(waiter);
        assert_eq!((done.code(), &*done.out), (0, "got it\n"));
        let said = format!("took over the lock of port {PORT} from pid {}", record["pid"]);
        assert_eq!(done.err.contains(&said), options.contains(&"-v"), "{}", done.err);
        assert!(home.is_idle());
    }
}

/// The line that names the holder of a record.
fn waits_for(record: &serde_json::Value) -> String {
    format!(
        "portlock: waiting for port {PORT}, locked by pid {} ({}, since {})",
        record["pid"],
        record["command"].as_str().expect("a name"),
        since(record)
    )
}

#[test]
fn verbose_wait_names_each_holder_once() {
    let home = Home::new();
    let holder = home.recorder();
    let mut waiter = start(&mut home.portlock(["run", "-v", "--wait", PORT, "echo", "got it"]));
    let mut lines = BufReader::new(waiter.stderr.take().expect("a pipe")).lines();
    let mut line = || lines.next().expect("a line").expect("text");
    assert_eq!(line(), waits_for(&home.record()));
    // Stopped, so that the next holder acquires first.
    #[cfg(target_os = "linux")]
    {
        let child = child_of(waiter.id());
        super::send(child, libc::SIGSTOP);
        assert_eq!(holder.end().code(), STATUS);
        let next = home.recorder();
        super::send(child, libc::SIGCONT);
        assert_eq!(line(), waits_for(&home.record()));
        assert_eq!(next.end().code(), STATUS);
    }
    #[cfg(not(target_os = "linux"))]
    assert_eq!(holder.end().code(), STATUS);
    assert!(must_return("it ends", || waiter.wait()).expect("ours").success());
    assert!(home.is_idle());
}

/// It runs as /proc/self/exe, and would be listed as "exe".
#[test]
#[cfg(target_os = "linux")]
fn waiting_child_is_listed_as_portlock() {
    let home = Home::new();
    let holder = home.recorder();
    let waiter = start(&mut home.portlock(["run", "--wait", PORT, "--", "true"]));
    until_waiting(&waiter);
    let name = std::fs::read_to_string(format!("/proc/{}/comm", child_of(waiter.id())));
    assert_eq!(name.expect("it waits"), "portlock\n");
    assert_eq!(holder.end().code(), STATUS);
    assert_eq!(ended(waiter).code(), 0);
}

#[test]
fn wait_on_a_terminal_names_the_holder() {
    let home = Home::new();
    let holder = home.recorder();
    let (keyboard, terminal) = crate::terminal::open();
    let mut waiter = home.portlock(["run", "--wait", PORT, "true"]);
    let mut waiter = waiter.stderr(Stdio::from(terminal)).spawn().expect("portlock starts");
    let mut line = String::new();
    must_return("it reports that it waits", || BufReader::new(keyboard).read_line(&mut line))
        .expect("reads");
    assert_eq!(line.trim_end(), waits_for(&home.record()));
    assert_eq!(holder.end().code(), STATUS);
    assert!(must_return("it ends", || waiter.wait()).expect("ours").success());
}

/// Its child ends too, and does not run the command later.
#[test]
#[cfg(target_os = "linux")]
fn killed_waiting_portlock_runs_no_command() {
    let home = Home::new();
    let holder = home.recorder();
    let mut waiter = start(&mut home.portlock(["run", "--wait", PORT, "--", "echo", "ran"]));
    until_waiting(&waiter);
    waiter.kill().expect("ours");
    // Returns when its child has closed the pipes.
    let done = ended(waiter);
    assert_eq!((&*done.out, done.err.contains("the command is not run")), ("", true), "{done:?}");
    assert_eq!(holder.end().code(), STATUS);
    assert!(home.is_idle());
}

#[test]
fn timed_out_wait_is_75_and_read_only() {
    let home = Home::new();
    let holder = home.recorder();
    let record = home.record();
    for (options, code) in [(&["-w", "0.05"][..], 75), (&["-w", "0.05", "-E", "9"], 9)] {
        let mut portlock = home.portlock(["run"]);
        let done = finished(portlock.args(options).args([PORT, "--", "echo", "ran"]));
        assert_eq!((done.code(), &*done.out), (code, ""));
        assert_eq!(
            done.err,
            format!(
                "portlock: gave up after 50ms: port {PORT} is locked by pid {} ({}, since {})\n  \
                 lock file: {}\n  \
                 next step: stop that process, or use another port\n",
                record["pid"],
                record["command"].as_str().expect("a name"),
                since(&record),
                home.lock_file().display()
            )
        );
    }
    // More than one slice of time.
    let done = finished(&mut home.portlock(["run", "-w", "0.25", PORT, "--", "echo", "ran"]));
    assert_eq!((done.code(), &*done.out), (75, ""));
    assert!(done.err.starts_with("portlock: gave up after 250ms: port"), "{}", done.err);
    let done = finished(&mut home.portlock(["run", "-F", "-w", "0.05", PORT, "--", "echo", "ran"]));
    assert_eq!((done.code(), &*done.out), (75, ""));
    assert!(done.err.starts_with("portlock: gave up after 50ms: port"), "{}", done.err);
    let done = finished(&mut home.portlock(["run", "-w", "0", PORT, "--", "echo", "ran"]));
    assert_eq!((done.code(), &*done.out), (75, ""));
    assert!(done.err.starts_with(&format!("portlock: port {PORT} is locked")), "as with -n");
    assert_eq!(home.record(), record);
    assert_eq!(holder.end().code(), STATUS);
    assert!(home.is_idle());
}

#[test]
fn signal_ends_the_wait_and_portlock() {
    let home = Home::new();
    let holder = home.recorder();
    let record = home.record();
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1] {
        for options in [&["--wait"][..], &["-w", "100"], &["-o", "--wait"], &["-F", "--wait"]] {
            let mut waiter = home.portlock(["run"]);
            let waiter = start(waiter.args(options).args([PORT, "--", "echo", "ran"]));
            match options[0] {
                "-F" | "-o" => until_waiting_itself(&waiter),
                _ => until_waiting(&waiter),
            }
            super::send(libc::pid_t::try_from(waiter.id()).expect("a pid"), signal);
            let done = ended(waiter);
            assert_eq!((done.status.signal(), &*done.out, &*done.err), (Some(signal), "", ""));
        }
    }
    assert_eq!(home.record(), record);
    assert_eq!(holder.end().code(), STATUS);
    assert!(home.is_idle());
}

#[test]
fn ignored_signal_ends_no_wait() {
    let home = Home::new();
    for option in ["-n", "-o", "-F"] {
        let holder = home.recorder();
        let mut waiter = home.portlock(["run"]);
        if option != "-n" {
            waiter.arg(option);
        }
        // SAFETY: signal is async-signal-safe.
        unsafe {
            waiter.pre_exec(|| {
                libc::signal(libc::SIGHUP, libc::SIG_IGN);
                Ok(())
            });
        }
        let waiter = start(waiter.args(["--wait", PORT, "--", "echo", "got it"]));
        match option {
            "-n" => until_waiting(&waiter),
            _ => until_waiting_itself(&waiter),
        }
        super::send(libc::pid_t::try_from(waiter.id()).expect("a pid"), libc::SIGHUP);
        assert_eq!(holder.end().code(), STATUS);
        let done = ended(waiter);
        assert_eq!((done.status.code(), &*done.out), (Some(0), "got it\n"), "{option}: {done:?}");
        let _ = std::fs::remove_file(home.lock_file());
    }
}

#[test]
fn waiting_runs_never_overlap() {
    let home = Home::new();
    let holder = home.recorder();
    let log = home.path().join("log");
    // Each adds two lines, which must be adjacent.
    let script = format!("echo $$ >>'{0}'; echo $$ >>'{0}'", log.display());
    let waiters: Vec<Child> = (0..4)
        .map(|_| start(&mut home.portlock(["run", "--wait", PORT, "--", "sh", "-c", &script])))
        .collect();
    assert_eq!(holder.end().code(), STATUS);
    for waiter in waiters {
        let done = ended(waiter);
        assert_eq!((done.code(), &*done.err), (0, ""));
    }
    let log = std::fs::read_to_string(log).expect("a log");
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 8);
    assert!(lines.chunks(2).all(|pair| pair[0] == pair[1]), "{lines:?}");
    assert!(home.is_idle());
}

#[test]
fn wait_ends_at_once_for_a_free_lock() {
    let home = Home::new();
    let nothing = |arguments: &[&str]| {
        let done = finished(home.portlock(["wait"]).args(arguments));
        assert_eq!((done.code(), &*done.out, &*done.err), (0, "", ""), "{arguments:?}");
    };
    for options in [&[][..], &["-w", "0"], &["-w", "100"]] {
        nothing(&[options, &[PORT]].concat());
        nothing(&[options, &["build"]].concat());
        nothing(&[options, &["0"]].concat());
    }
    assert!(!home.locks().exists());
    if cfg!(target_os = "linux") {
        let record = home.dead_record();
        home.plant(record.to_string().as_bytes());
        nothing(&[PORT]);
        assert_eq!(home.record(), record, "it clears nothing");
    }
}

#[test]
fn wait_ends_with_the_holder() {
    let home = Home::new();
    let holder = home.recorder();
    let mut opens = Opens::at(&home);
    let waiters =
        [&["wait", PORT][..], &["wait", "-w", "100", PORT]].map(|it| start(&mut home.portlock(it)));
    opens.until(4, &waiters[0]);
    assert_eq!(holder.end().code(), STATUS);
    for waiter in waiters {
        let done = ended(waiter);
        assert_eq!((done.code(), &*done.out, &*done.err), (0, "", ""));
    }
    assert!(home.is_idle());
}

#[test]
fn wait_names_the_holder_at_its_limit() {
    let home = Home::new();
    let holder = home.recorder();
    let record = home.record();
    for (limit, shown) in [("0.05", "50ms"), ("0", "0s")] {
        let done = finished(&mut home.portlock(["wait", "-w", limit, PORT]));
        assert_eq!((done.code(), &*done.out), (75, ""));
        assert_eq!(
            done.err,
            format!(
                "portlock: gave up after {shown}: port {PORT} is locked by pid {} ({}, since {})\n\
                 \x20 lock file: {}\n",
                record["pid"],
                record["command"].as_str().expect("a name"),
                since(&record),
                home.lock_file().display()
            )
        );
    }
    assert_eq!(home.record(), record);
    assert_eq!(holder.end().code(), STATUS);
}

#[test]
fn wait_continues_while_a_lock_is_created() {
    let home = Home::new();
    home.plant(b"");
    let _locked = locked(&home.lock_file());
    let done = finished(&mut home.portlock(["wait", "-w", "0.05", PORT]));
    assert_eq!(done.code(), 75, "{done:?}");
    assert!(done.err.contains("is being locked"), "{}", done.err);
}

#[test]
fn wait_ends_with_4_on_unknown_state() {
    let home = Home::new();
    if cfg!(target_os = "linux") {
        home.plant(home.foreign_record().to_string().as_bytes());
        for options in [&[][..], &["-w", "100"], &["-w", "0"]] {
            let done = finished(home.portlock(["wait"]).args(options).arg(PORT));
            assert_eq!((done.code(), &*done.out), (4, ""), "{options:?}");
            assert!(
                done.err.contains("has no kernel lock that can be seen from here"),
                "{}",
                done.err
            );
        }
        std::fs::remove_file(home.lock_file()).expect("removes");
    }
    std::fs::create_dir_all(home.lock_file()).expect("makes the directory");
    let done = finished(&mut home.portlock(["wait", PORT]));
    assert_eq!((done.code(), &*done.out), (4, ""));
    assert!(done.err.contains("is a directory, not a lock file"), "{}", done.err);
}
