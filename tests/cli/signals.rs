//! Signals that processes send: each is handed on, exactly once, unless it is ignored.

use std::os::unix::process::CommandExt;

use super::recorder::{self, NAMES, STATUS};
use super::{Home, PORT, Running};

#[test]
fn each_of_the_six_is_handed_on_exactly_once() {
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
fn a_signal_ends_the_command_and_then_portlock_which_releases() {
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
        std::io::Read::read_exact(&mut portlock.stdout.take().expect("a pipe"), &mut byte)
            .expect("the command runs");
        super::send(libc::pid_t::try_from(portlock.id()).expect("a pid"), signal);
        // Waiting would close the input, and cat would end by itself.
        let keep = portlock.stdin.take();
        let status = portlock.wait().expect("ours");
        drop(keep);
        assert_eq!(status.code(), Some(128 + signal));
        assert!(home.is_idle());
    }
}

#[test]
fn a_signal_that_the_command_sent_is_not_handed_back_to_it() {
    let home = Home::new();
    let mut portlock = home.portlock(["run", PORT, "--"]);
    let mut running = Running::start(recorder::signalling_its_parent(&mut portlock));
    running.send(libc::SIGUSR2);
    assert_eq!(running.line().trim_end(), "USR2", "and not its own USR1");
    assert_eq!(running.end().out, "ended\n");
}

#[test]
fn an_ignored_signal_stays_ignored_as_under_nohup() {
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
fn the_end_of_the_command_is_seen_where_sigchld_is_blocked_or_ignored() {
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

/// Stops portlock at each system call between its start and the command's, and strikes there.
#[cfg(target_os = "linux")]
mod before_the_command {
    use std::io::Write;
    use std::os::unix::process::CommandExt;
    use std::process::Stdio;
    use std::ptr;

    use super::*;
    use crate::{send, terminal};

    /// A traced process; dropped, it is killed.
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
            assert_eq!(unsafe { libc::waitpid(self.0, &mut status, 0) }, self.0);
            status
        }

        /// To the beginning or end of the next system call, or to the fork.
        fn on(&self) -> Stop {
            self.ptrace(libc::PTRACE_SYSCALL, 0);
            let status = self.wait();
            assert!(libc::WIFSTOPPED(status), "portlock has ended without a command");
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
    }

    impl Drop for Traced {
        fn drop(&mut self) {
            if std::thread::panicking() {
                // SAFETY: kill and waitpid only take numbers; the process is ours to reap.
                unsafe {
                    libc::kill(self.0, libc::SIGKILL);
                    libc::waitpid(self.0, ptr::null_mut(), 0);
                }
            }
        }
    }

    /// How portlock is struck.
    #[derive(Clone, Copy, PartialEq)]
    enum Strike {
        /// A process sends TERM.
        Term,
        /// A person types Ctrl-C, which the terminal sends to all that is there of its group.
        CtrlC,
    }

    /// Strikes at the `nth` stop. `None` if there was a command before that, by fork or by exec.
    fn struck_at(nth: usize, strike: Strike, option: &str, home: &Home) -> Option<i32> {
        let mut portlock = home.portlock(["run", option, PORT, "--", "cat"]);
        portlock.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let (mut keyboard, terminal) = terminal::open();
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
        let mut child = portlock.spawn().expect("portlock starts and may be traced");
        // Kept open: cat, should it run, ends by the signal or never.
        let keep = child.stdin.take();
        let traced = Traced(libc::pid_t::try_from(child.id()).expect("a pid"));
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
        for _ in 0..nth {
            match traced.on() {
                Stop::Forked(command) => {
                    // The new process is traced as well, and stops before its first step.
                    let command = Traced(command);
                    command.wait();
                    command.ptrace(libc::PTRACE_DETACH, 0);
                }
                Stop::Executed => {}
                Stop::Call | Stop::Other => continue,
            }
            traced.ptrace(libc::PTRACE_DETACH, 0);
            drop(keep);
            assert_eq!(child.wait().expect("ours").code(), Some(0));
            return None;
        }
        match strike {
            Strike::Term => send(traced.0, libc::SIGTERM),
            Strike::CtrlC => keyboard.write_all(b"\x03").expect("types"),
        }
        traced.ptrace(libc::PTRACE_DETACH, 0);
        let status = child.wait().expect("ours");
        drop(keep);
        Some(std::os::unix::process::ExitStatusExt::into_raw(status))
    }

    /// Strikes at every stop. Returns how often portlock died alone, and how often the command
    /// did; neither may leave anything.
    fn struck_everywhere(strike: Strike, option: &str, signal: libc::c_int) -> (u32, u32) {
        let home = Home::new();
        let (mut alone, mut with_command) = (0, 0);
        for nth in 0.. {
            let Some(status) = struck_at(nth, strike, option, &home) else { break };
            if libc::WIFSIGNALED(status) {
                // The handlers do not stand yet, and there is neither a lock nor a command.
                assert_eq!(libc::WTERMSIG(status), signal, "stop {nth}");
                alone += 1;
            } else {
                assert_eq!(libc::WEXITSTATUS(status), 128 + signal, "stop {nth}");
                with_command += 1;
            }
            assert!(home.is_idle(), "stop {nth}");
        }
        println!("{option}: {alone} stops before the handlers stand, {with_command} after");
        (alone, with_command)
    }

    #[test]
    fn a_term_reaches_the_command_or_there_is_none_and_nothing_is_left() {
        let (alone, with_command) = struck_everywhere(Strike::Term, "-n", libc::SIGTERM);
        assert!(alone > 0 && with_command > 0);
    }

    #[test]
    fn a_key_reaches_the_command_or_there_is_none_and_nothing_is_left() {
        let (alone, with_command) = struck_everywhere(Strike::CtrlC, "-n", libc::SIGINT);
        assert!(alone > 0 && with_command > 0);
    }

    /// It ends the wait or the command; which, depends on whether the lock was taken.
    #[test]
    fn a_term_before_the_command_of_a_run_that_waits_leaves_nothing_either() {
        let (alone, with_status) = struck_everywhere(Strike::Term, "--wait", libc::SIGTERM);
        assert!(alone > 0 && with_status > 0);
    }

    /// What is left then is reclaimed, as is what the command leaves. No signal gets lost.
    #[test]
    fn a_term_before_an_exec_ends_portlock_at_every_step() {
        let home = Home::new();
        let mut stops = 0;
        for nth in 0.. {
            let _ = std::fs::remove_file(home.lock_file());
            let Some(status) = struck_at(nth, Strike::Term, "-F", &home) else { break };
            assert!(libc::WIFSIGNALED(status), "stop {nth}");
            assert_eq!(libc::WTERMSIG(status), libc::SIGTERM, "stop {nth}");
            stops += 1;
        }
        assert!(stops > 0);
    }
}
