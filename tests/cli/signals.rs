//! Signals that processes send: each is handed on, exactly once, unless it is ignored.

use std::os::unix::process::{CommandExt, ExitStatusExt};

use super::recorder::{self, NAMES, STATUS};
use super::{Home, PORT, Running};

#[test]
fn each_signal_is_handed_on_once() {
    let home = Home::new();
    let mut running = home.recorder();
    assert!(running.ignored.is_empty(), "{:?}", running.ignored);
    // Twice, so that one that was handed on twice would be read in the place of the next.
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
    // The shell has sent it itself, and gets nothing back: it goes on until its input ends.
    drop(portlock.stdin.take());
    assert_eq!(portlock.wait().expect("ours").code(), Some(0));
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
        // Waiting would close the input, and cat would end by itself.
        let keep = portlock.stdin.take();
        let status = portlock.wait().expect("ours");
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
fn command_end_is_seen_without_sigchld() {
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
        // It is handed on from where portlock waits for the command's end.
        running.send(libc::SIGUSR1);
        assert_eq!(running.line().trim_end(), "USR1");
        assert_eq!(running.end().code(), STATUS);
    }
}

/// Stops portlock, or its child, at each system call up to the command's start, and strikes there.
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

    /// Why it has stopped.
    #[derive(Debug, PartialEq)]
    enum Stop {
        Call,
        Forked(libc::pid_t),
        Executed,
        Other,
    }

    impl Traced {
        fn ptrace(&self, request: libc::c_uint, data: usize) {
            // SAFETY: no request that is used here takes an address; the process is traced by us.
            let done = unsafe { libc::ptrace(request, self.0, ptr::null_mut::<u8>(), data) };
            assert_ne!(done, -1, "ptrace: {}", std::io::Error::last_os_error());
        }

        fn wait(&self) -> i32 {
            let mut status = 0;
            // SAFETY: `status` has room for the answer.
            assert_eq!(unsafe { libc::waitpid(self.0, &mut status, libc::__WALL) }, self.0);
            status
        }

        /// To the beginning or end of the next system call, or to a fork or exec.
        fn on(&self) -> Stop {
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

        fn let_go(&self) {
            self.ptrace(libc::PTRACE_DETACH, 0);
        }

        /// Whether it waits for a child to end.
        fn is_waiting(&self) -> bool {
            let call =
                std::fs::read_to_string(format!("/proc/{}/syscall", self.0)).expect("it lives");
            call.starts_with(&format!("{} ", libc::SYS_waitid))
        }

        /// Whether `signal` has come and not acted yet.
        fn has_pending(&self, signal: libc::c_int) -> bool {
            let status =
                std::fs::read_to_string(format!("/proc/{}/status", self.0)).expect("it lives");
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

    /// How portlock is struck.
    #[derive(Clone, Copy, PartialEq)]
    enum Strike {
        /// A process sends TERM to portlock.
        Term,
        /// A person types Ctrl-C, which the terminal sends to all that is there of its group.
        CtrlC,
    }

    impl Strike {
        fn signal(self) -> libc::c_int {
            match self {
                Self::Term => libc::SIGTERM,
                Self::CtrlC => libc::SIGINT,
            }
        }
    }

    /// A traced `portlock run`, whose command ends by a signal alone.
    struct Scene {
        portlock: Child,
        traced: Traced,
        keyboard: File,
        _terminal: OwnedFd,
    }

    impl Scene {
        fn new(strike: Strike, option: &str, home: &Home) -> Self {
            let mut portlock = home.portlock(["run", option, PORT, "--", "cat"]);
            portlock.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            let (keyboard, terminal) = terminal::open();
            if strike == Strike::CtrlC {
                terminal::lead_a_session(&mut portlock, &terminal);
            }
            // SAFETY: ptrace is async-signal-safe here: one system call, which stops us at the exec.
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

        fn strike(&mut self, strike: Strike) {
            match strike {
                Strike::Term => send(self.traced.0, libc::SIGTERM),
                Strike::CtrlC => self.keyboard.write_all(b"\x03").expect("types"),
            }
        }

        /// portlock ends by the signal, and leaves nothing.
        fn ends_by(mut self, strike: Strike, home: Option<&Home>, at: usize) {
            // Waiting would close the input, and the command would end by itself.
            let keep = self.portlock.stdin.take();
            let status = self.portlock.wait().expect("ours");
            drop(keep);
            assert_eq!(status.signal(), Some(strike.signal()), "stop {at}: {status}");
            assert!(home.is_none_or(Home::is_idle), "stop {at}");
        }

        /// The command ends by the end of its input.
        fn ends(mut self) {
            drop(self.portlock.stdin.take());
            assert_eq!(self.portlock.wait().expect("ours").code(), Some(0));
        }
    }

    /// Lets a new process or thread go on untraced.
    fn free(new: libc::pid_t) {
        let new = Traced(new);
        new.wait();
        new.let_go();
    }

    /// Strikes at the `nth` stop of portlock itself. `false` if it waits for the command, or is it,
    /// before that.
    fn portlock_struck_at(nth: usize, strike: Strike, option: &str, home: &Home) -> bool {
        let mut scene = Scene::new(strike, option, home);
        for _ in 0..nth {
            match scene.traced.on() {
                Stop::Forked(new) => free(new),
                Stop::Call if !scene.traced.is_waiting() => {}
                Stop::Other => {}
                Stop::Call | Stop::Executed => {
                    scene.traced.let_go();
                    scene.ends();
                    return false;
                }
            }
        }
        scene.strike(strike);
        scene.traced.let_go();
        // With -F nothing remains that could remove the file of a signal just before the exec.
        scene.ends_by(strike, Some(home).filter(|_| option != "-F"), nth);
        true
    }

    /// Strikes at the `nth` stop of portlock's child. `false` if it is the command before that.
    fn child_struck_at(nth: usize, strike: Strike, option: &str, home: &Home) -> bool {
        let mut scene = Scene::new(strike, option, home);
        let child = loop {
            if let Stop::Forked(new) = scene.traced.on() {
                let new = Traced(new);
                new.wait();
                // A thread has portlock's number as that of its group.
                let status = std::fs::read_to_string(format!("/proc/{}/status", new.0));
                if !status.expect("it lives").contains(&format!("Tgid:\t{}\n", scene.traced.0)) {
                    break new;
                }
                new.let_go();
            }
        };
        scene.traced.let_go();
        let mut execs = 0;
        for _ in 0..nth {
            if child.on() == Stop::Executed {
                execs += 1;
            }
            if execs == 2 {
                child.let_go();
                scene.ends();
                return false;
            }
        }
        scene.strike(strike);
        // Until its first exec portlock waits for it, and hands nothing on.
        if execs == 1 {
            wait_until("portlock hands it on", || child.has_pending(strike.signal()));
        }
        child.let_go();
        scene.ends_by(strike, Some(home), nth);
        true
    }

    /// Strikes at every third stop, or at every one where that was asked for.
    fn everywhere(strike_at: impl Fn(usize, &Home) -> bool) {
        let home = Home::new();
        let step = crate::loud::stride();
        let stops = (0..).step_by(step).take_while(|&nth| strike_at(nth, &home)).count() * step;
        println!("some {stops} stops, each {step}th struck");
        assert!(stops > 50, "{stops}");
    }

    #[test]
    fn term_to_portlock_at_any_call_leaves_nothing() {
        for option in ["-n", "--wait", "-o"] {
            everywhere(|nth, home| portlock_struck_at(nth, Strike::Term, option, home));
        }
    }

    #[test]
    fn term_while_the_child_starts_leaves_nothing() {
        for option in ["-n", "--wait"] {
            everywhere(|nth, home| child_struck_at(nth, Strike::Term, option, home));
        }
    }

    #[test]
    fn ctrl_c_at_any_call_leaves_nothing() {
        everywhere(|nth, home| portlock_struck_at(nth, Strike::CtrlC, "-n", home));
        everywhere(|nth, home| child_struck_at(nth, Strike::CtrlC, "-n", home));
    }

    #[test]
    fn term_before_an_exec_is_never_lost() {
        everywhere(|nth, home| {
            let _ = std::fs::remove_file(home.lock_file());
            portlock_struck_at(nth, Strike::Term, "-F", home)
        });
    }
}
