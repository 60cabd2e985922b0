//! Signals from processes: each is forwarded exactly once, unless it is ignored.

use std::os::unix::process::{CommandExt, ExitStatusExt};

use super::recorder::{self, NAMES, STATUS};
use super::{Home, PORT, Running, must_return};

#[test]
fn each_signal_is_forwarded_once() {
    let home = Home::new();
    let mut running = home.recorder();
    assert!(running.ignored.is_empty(), "{:?}", running.ignored);
    // Twice, so that a signal forwarded twice would be read instead of the next.
    for (signal, name) in NAMES.into_iter().chain(NAMES) {
        running.send(signal);
        assert_eq!(running.line().trim_end(), name);
    }
    let done = running.end();
    assert_eq!((done.code(), &*done.out, &*done.err), (STATUS, "ended\n", ""));
    assert!(home.is_idle());
}

#[test]
fn signal_ends_the_command_and_then_portlock() {
    let home = Home::new();
    let mut portlock = home.portlock(["run", PORT, "--", "sh", "-c", "kill -TERM $PPID; cat"]);
    let mut portlock = portlock.stdin(std::process::Stdio::piped()).spawn().expect("starts");
    // The shell sent it itself, so it is not forwarded back: the shell continues until its input
    // ends.
    drop(portlock.stdin.take());
    assert_eq!(must_return("it ends", || portlock.wait()).expect("ours").code(), Some(0));
    assert!(home.is_idle());

    for (signal, _) in NAMES {
        let mut portlock = home.portlock(["run", PORT, "--", "sh", "-c", "echo; exec cat"]);
        let mut portlock = portlock
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("starts");
        let mut byte = [0];
        let mut out = portlock.stdout.take().expect("a pipe");
        let runs = || std::io::Read::read_exact(&mut out, &mut byte);
        super::must_return("the command runs", runs).expect("the command runs");
        super::send(libc::pid_t::try_from(portlock.id()).expect("a pid"), signal);
        // A wait would close the input, which ends cat.
        let keep = portlock.stdin.take();
        let status = must_return("it ends", || portlock.wait()).expect("ours");
        drop(keep);
        assert_eq!(status.signal(), Some(signal));
        assert!(home.is_idle());
    }
}

#[test]
fn commands_own_signal_is_not_returned() {
    let home = Home::new();
    let mut portlock = home.portlock(["run", PORT, "--"]);
    let mut running = Running::start(recorder::signalling_its_parent(&mut portlock));
    running.send(libc::SIGUSR2);
    assert_eq!(running.line().trim_end(), "USR2", "and not its own USR1");
    assert_eq!(running.end().out, "ended\n");
}

#[test]
fn ignored_signal_stays_ignored() {
    let home = Home::new();
    let mut portlock = home.portlock(["run", PORT, "--"]);
    // SAFETY: signal is async-signal-safe.
    unsafe {
        portlock.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            Ok(())
        });
    }
    let mut running = Running::start(recorder::command(&mut portlock));
    assert_eq!(running.ignored, ["HUP"]);
    running.send(libc::SIGHUP);
    running.send(libc::SIGUSR1);
    assert_eq!(running.line().trim_end(), "USR1", "and neither has ended");
    let done = running.end();
    assert_eq!((done.code(), &*done.out), (STATUS, "ended\n"));
}

#[test]
fn command_end_is_detected_without_sigchld() {
    for block in [true, false] {
        let home = Home::new();
        let mut portlock = home.portlock(["run", PORT, "--"]);
        // SAFETY: all three calls are async-signal-safe, and the first initialises the set.
        unsafe {
            portlock.pre_exec(move || {
                if block {
                    let mut set = std::mem::zeroed();
                    libc::sigemptyset(&mut set);
                    libc::sigaddset(&mut set, libc::SIGCHLD);
                    libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
                } else {
                    libc::signal(libc::SIGCHLD, libc::SIG_IGN);
                }
                Ok(())
            });
        }
        let mut running = Running::start(recorder::command(&mut portlock));
        // portlock forwards it while it waits for the command's end.
        running.send(libc::SIGUSR1);
        assert_eq!(running.line().trim_end(), "USR1");
        assert_eq!(running.end().code(), STATUS);
    }
}

/// Stops portlock, or its child, at each system call up to the command's start, and signals it.
#[cfg(target_os = "linux")]
mod before_the_command {
    use std::io::Write;
    use std::os::fd::OwnedFd;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;
    use std::ptr;

    use super::*;
    use crate::{Child, File, send, terminal, wait_until};

    /// A traced process; it is killed if the test fails.
    struct Traced(libc::pid_t);

    /// The reason for a stop.
    #[derive(Debug, PartialEq)]
    enum Stop {
        Call,
        Forked(libc::pid_t),
        Executed,
        Other,
    }

    impl Traced {
        fn ptrace(&self, request: libc::c_uint, data: usize) {
            // SAFETY: the requests used here take no address; the process is traced by this one.
            let done = unsafe { libc::ptrace(request, self.0, ptr::null_mut::<u8>(), data) };
            assert_ne!(done, -1, "ptrace: {}", std::io::Error::last_os_error());
        }

        fn wait(&self) -> i32 {
            let mut status = 0;
            // SAFETY: `status` has room for the answer.
            assert_eq!(unsafe { libc::waitpid(self.0, &mut status, libc::__WALL) }, self.0);
            status
        }

        /// Continues to the start or end of the next system call, or to a fork or exec.
        fn to_next_stop(&self) -> Stop {
            self.ptrace(libc::PTRACE_SYSCALL, 0);
            let status = self.wait();
            assert!(libc::WIFSTOPPED(status), "it has ended without a command");
            match (libc::WSTOPSIG(status), status >> 16) {
                (stop, 0) if stop == libc::SIGTRAP | 0x80 => Stop::Call,
                (
                    _,
                    libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE,
                ) => {
                    let mut child: libc::c_ulong = 0;
                    let into = (&raw mut child) as usize;
                    self.ptrace(libc::PTRACE_GETEVENTMSG, into);
                    Stop::Forked(libc::pid_t::try_from(child).expect("a pid"))
                }
                (_, libc::PTRACE_EVENT_EXEC) => Stop::Executed,
                _ => Stop::Other,
            }
        }

        fn detach(&self) {
            self.ptrace(libc::PTRACE_DETACH, 0);
        }

        /// Whether it waits for a child to end.
        fn is_waiting(&self) -> bool {
            let call =
                std::fs::read_to_string(format!("/proc/{}/syscall", self.0)).expect("it is alive");
            call.starts_with(&format!("{} ", libc::SYS_waitid))
        }

        /// Whether `signal` is pending.
        fn has_pending(&self, signal: libc::c_int) -> bool {
            let status =
                std::fs::read_to_string(format!("/proc/{}/status", self.0)).expect("it is alive");
            let mask = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
            let mask = u64::from_str_radix(mask.expect("a mask").trim(), 16).expect("a number");
            mask >> (signal - 1) & 1 == 1
        }
    }

    impl Drop for Traced {
        fn drop(&mut self) {
            if std::thread::panicking() {
                // SAFETY: kill and waitpid only take numbers; the process is ours to reap.
                unsafe {
                    libc::kill(self.0, libc::SIGKILL);
                    libc::waitpid(self.0, ptr::null_mut(), libc::__WALL);
                }
            }
        }
    }

    /// A signal at a stop.
    #[derive(Clone, Copy, PartialEq)]
    enum Injected {
        /// A process sends TERM to portlock.
        Term,
        /// Ctrl-C, which the terminal sends to its whole foreground group.
        CtrlC,
    }

    impl Injected {
        fn signal(self) -> libc::c_int {
            match self {
                Self::Term => libc::SIGTERM,
                Self::CtrlC => libc::SIGINT,
            }
        }
    }

    /// A traced `portlock run`, whose command is `cat`.
    struct Scene {
        portlock: Child,
        traced: Traced,
        keyboard: File,
        _terminal: OwnedFd,
    }

    impl Scene {
        fn new(injected: Injected, option: &str, home: &Home) -> Self {
            let mut portlock = home.portlock(["run", option, PORT, "--", "cat"]);
            portlock.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            let (keyboard, terminal) = terminal::open();
            if injected == Injected::CtrlC {
                terminal::lead_a_session(&mut portlock, &terminal);
            }
            // SAFETY: ptrace is async-signal-safe here: one system call.
            unsafe {
                portlock.pre_exec(|| {
                    match libc::ptrace(libc::PTRACE_TRACEME, 0, ptr::null_mut::<u8>(), 0_usize) {
                        -1 => Err(std::io::Error::last_os_error()),
                        _ => Ok(()),
                    }
                });
            }
            let portlock = portlock.spawn().expect("portlock starts and may be traced");
            let traced = Traced(libc::pid_t::try_from(portlock.id()).expect("a pid"));
            assert!(libc::WIFSTOPPED(traced.wait()), "at its exec");
            traced.ptrace(
                libc::PTRACE_SETOPTIONS as libc::c_uint,
                (libc::PTRACE_O_TRACESYSGOOD
                    | libc::PTRACE_O_TRACEFORK
                    | libc::PTRACE_O_TRACEVFORK
                    | libc::PTRACE_O_TRACECLONE
                    | libc::PTRACE_O_TRACEEXEC
                    | libc::PTRACE_O_EXITKILL) as usize,
            );
            Self { portlock, traced, keyboard, _terminal: terminal }
        }

        fn inject(&mut self, injected: Injected) {
            match injected {
                Injected::Term => send(self.traced.0, libc::SIGTERM),
                Injected::CtrlC => self.keyboard.write_all(b"\x03").expect("types"),
            }
        }

        /// portlock ends by the signal, and leaves no file.
        fn ends_by(mut self, injected: Injected, home: Option<&Home>, at: usize) {
            // A wait would close the input, which ends the command.
            let keep = self.portlock.stdin.take();
            let status = must_return("it ends", || self.portlock.wait()).expect("ours");
            drop(keep);
            assert_eq!(status.signal(), Some(injected.signal()), "stop {at}: {status}");
            assert!(home.is_none_or(Home::is_idle), "stop {at}");
        }

        /// The command ends with its input.
        fn ends(mut self) {
            drop(self.portlock.stdin.take());
            assert_eq!(
                must_return("it ends", || self.portlock.wait()).expect("ours").code(),
                Some(0)
            );
        }
    }

    /// Detaches a new process or thread.
    fn release(new: libc::pid_t) {
        let new = Traced(new);
        new.wait();
        new.detach();
    }

    /// Signals at the `nth` stop of portlock itself. `false` if it waits for the command, or is the
    /// command, before that.
    fn inject_into_portlock(nth: usize, injected: Injected, option: &str, home: &Home) -> bool {
        let mut scene = Scene::new(injected, option, home);
        for _ in 0..nth {
            match scene.traced.to_next_stop() {
                Stop::Forked(new) => release(new),
                Stop::Call if !scene.traced.is_waiting() => {}
                Stop::Other => {}
                Stop::Call | Stop::Executed => {
                    scene.traced.detach();
                    scene.ends();
                    return false;
                }
            }
        }
        scene.inject(injected);
        scene.traced.detach();
        // With -F a signal just before the exec leaves the file, because no process remains to
        // remove it.
        scene.ends_by(injected, Some(home).filter(|_| option != "-F"), nth);
        true
    }

    /// Signals at the `nth` stop of portlock's child. `false` if it is the command before that.
    fn inject_into_child(nth: usize, injected: Injected, option: &str, home: &Home) -> bool {
        let mut scene = Scene::new(injected, option, home);
        let child = loop {
            if let Stop::Forked(new) = scene.traced.to_next_stop() {
                let new = Traced(new);
                new.wait();
                // A thread has portlock's pid as its group's.
                let status = std::fs::read_to_string(format!("/proc/{}/status", new.0));
                if !status.expect("it is alive").contains(&format!("Tgid:\t{}\n", scene.traced.0)) {
                    break new;
                }
                new.detach();
            }
        };
        scene.traced.detach();
        let mut execs = 0;
        for _ in 0..nth {
            if child.to_next_stop() == Stop::Executed {
                execs += 1;
            }
            if execs == 2 {
                child.detach();
                scene.ends();
                return false;
            }
        }
        scene.inject(injected);
        // Until its first exec portlock waits for it, without forwarding.
        if execs == 1 {
            wait_until("portlock forwards it", || child.has_pending(injected.signal()));
        }
        child.detach();
        scene.ends_by(injected, Some(home), nth);
        true
    }

    /// Signals at a sample of the stops, or at every one in the gate.
    fn everywhere(inject_at: impl Fn(usize, &Home) -> bool) {
        let home = Home::new();
        let step = crate::skip_report::stride();
        let stops = (0..).step_by(step).take_while(|&nth| inject_at(nth, &home)).count() * step;
        println!("about {stops} stops, every {step}th signalled");
        assert!(stops > 50, "{stops}");
    }

    #[test]
    fn term_to_portlock_at_any_call_leaves_nothing() {
        for option in ["-n", "--wait", "-o"] {
            everywhere(|nth, home| inject_into_portlock(nth, Injected::Term, option, home));
        }
    }

    #[test]
    fn term_while_the_child_starts_leaves_nothing() {
        for option in ["-n", "--wait"] {
            everywhere(|nth, home| inject_into_child(nth, Injected::Term, option, home));
        }
    }

    #[test]
    fn ctrl_c_at_any_call_leaves_nothing() {
        everywhere(|nth, home| inject_into_portlock(nth, Injected::CtrlC, "-n", home));
        everywhere(|nth, home| inject_into_child(nth, Injected::CtrlC, "-n", home));
    }

    #[test]
    fn term_before_an_exec_is_never_lost() {
        everywhere(|nth, home| {
            let _ = std::fs::remove_file(home.lock_file());
            inject_into_portlock(nth, Injected::Term, "-F", home)
        });
    }
}
