//! Another participant: a real process that carries out orders, and answers each with one line. No
//! sleeps: an answer confirms that the order was carried out.
//!
//! A test binary runs itself again as a participant: the environment makes the single test of this
//! module one.

// Each test binary uses a part of this module.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

mod deadline;
mod orders;
mod place;
#[path = "../skip_report/mod.rs"]
mod skip_report;
#[cfg(unix)]
mod unix;
mod witness;
#[allow(unused_imports)]
pub(crate) use deadline::{must_return, wait_until};
#[allow(unused_imports)]
pub(crate) use orders::answer;
#[allow(unused_imports)]
pub(crate) use place::{DEAD_PID, Place, frees_names_at_once, old_record, set_modified};
#[allow(unused_imports)]
pub(crate) use skip_report::not_checked;
#[cfg(target_os = "linux")]
#[allow(unused_imports, reason = "only some suites trace system calls")]
pub(crate) use skip_report::{sampled, strace_is_there, stride};
#[cfg(unix)]
#[allow(unused_imports)]
pub(crate) use unix::{become_user, set_byte_lock};

use portlock::{AcquireError, Guard, Held, Holder, Reclaimed, Refusal, ReleaseError};

const ROLE: &str = "PORTLOCK_TEST_PARTICIPANT";

/// Longer than any order takes, on any machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(600);

/// Distinguishes an answer from the test harness's own output.
const ANSWER: &str = "answer: ";

#[test]
fn a_participant_is_a_process_that_follows_orders() {
    if std::env::var_os(ROLE).is_some() {
        orders::play();
    }
    let mut other = Participant::start();
    assert_eq!(other.request("pid"), other.pid().to_string());
    assert_ne!(other.pid(), std::process::id());
    assert_eq!(other.request("dance"), "no such order");
}

/// The process, for the test that started it. It is killed and reaped when dropped.
pub(crate) struct Participant {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Participant {
    pub(crate) fn start() -> Self {
        Self::start_as(this_test_binary())
    }

    /// `outer` gets [`this_test_binary`] as its last arguments, and must run it.
    pub(crate) fn start_within(mut outer: Command) -> Self {
        let inner = this_test_binary();
        outer.arg(inner.get_program()).args(inner.get_args());
        outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self::start_as(outer)
    }

    /// `command` must run [`this_test_binary`] in the end; the caller sets its environment.
    pub(crate) fn start_as(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the participant starts");
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        Self { child, orders, answers }
    }

    /// A holder of the lock file `path`.
    pub(crate) fn holding(path: &Path) -> Self {
        let mut holder = Self::start();
        assert_eq!(holder.try_acquire(path), "held");
        holder
    }

    /// A waiter: it has the order to acquire, and waits for events of the file.
    #[cfg(target_os = "linux")]
    pub(crate) fn waiting(path: &Path) -> Self {
        let mut waiter = Self::start();
        waiter.order(&format!("acquire {}", path.display()));
        until_listening(waiter.pid());
        waiter
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends an order and waits for its answer.
    pub(crate) fn request(&mut self, order: &str) -> String {
        self.order(order);
        self.answer()
    }

    pub(crate) fn try_acquire(&mut self, path: &Path) -> String {
        self.request(&format!("try {}", path.display()))
    }

    /// Sends an order without waiting, so that several participants can act concurrently.
    pub(crate) fn order(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("it still takes orders");
        writeln!(orders, "{order}").expect("it is alive");
    }

    pub(crate) fn answer(&mut self) -> String {
        loop {
            let line = self.line();
            // The harness does not end its own line before the first answer.
            if let Some((_, answer)) = line.trim_end_matches(['\r', '\n']).split_once(ANSWER) {
                return answer.to_owned();
            }
        }
    }

    /// The next line of its output.
    fn line(&mut self) -> String {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            #[cfg(unix)]
            if self.answers.buffer().is_empty() {
                unix::until_readable(self.answers.get_ref(), ANSWER_LIMIT);
            }
            let available = self.answers.fill_buf().expect("its output can be read");
            assert!(
                !available.is_empty(),
                "participant {} ended without an answer",
                self.child.id()
            );
            let end = available
                .iter()
                .position(|&byte| byte == b'\n')
                .map_or(available.len(), |at| at + 1);
            line.extend(&available[..end]);
            self.answers.consume(end);
        }
        String::from_utf8(line).expect("its output is text")
    }

    /// Waits until no process can answer any more. `false` if one answered instead.
    #[cfg(windows)]
    pub(crate) fn reaches_end_of_answers(&mut self) -> bool {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("its output can be read") == 0
    }

    /// Waits for its end.
    #[cfg(windows)]
    pub(crate) fn status(&mut self) -> std::process::ExitStatus {
        self.child.wait().expect("it can be waited for")
    }

    /// Closes its input: it ends, and so does a `cat` that it left with the same input.
    pub(crate) fn dismiss(&mut self) {
        drop(self.orders.take());
    }

    /// Makes it end in this way, with its lock held, and waits for the end.
    pub(crate) fn end(&mut self, how: &str) {
        self.order(&format!("end {how}"));
        self.reap();
    }

    /// Closes its input, and waits for its end.
    pub(crate) fn finish(mut self) {
        self.dismiss();
        let status = self.ended();
        assert!(status.success(), "the participant ended with {status}");
    }

    /// Kills it as `kill -9` does, and reaps it, which frees its pid.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.reap();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn reap(&mut self) {
        self.ended();
    }

    fn ended(&mut self) -> std::process::ExitStatus {
        must_return("a participant ends", || self.child.wait()).expect("it can be reaped")
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its status can be read").is_some()
    }

    /// Stops it as `kill -STOP` does, and returns when it has stopped.
    #[cfg(unix)]
    pub(crate) fn stop(&self) {
        self.signal(libc::SIGSTOP);
        let pid = libc::pid_t::try_from(self.pid()).expect("a pid");
        let mut status = 0;
        // SAFETY: a child of this process that has not been reaped; `status` has room.
        #[allow(unsafe_code)]
        let stopped = unsafe { libc::waitpid(pid, &raw mut status, libc::WUNTRACED) };
        assert!(stopped == pid && libc::WIFSTOPPED(status), "it did not stop: {status}");
    }

    /// Resumes it after [`stop`](Self::stop).
    #[cfg(unix)]
    pub(crate) fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    #[cfg(unix)]
    fn signal(&self, signal: i32) {
        let pid = libc::pid_t::try_from(self.pid()).expect("a pid");
        // SAFETY: a signal to a child of this process that has not been reaped.
        #[allow(unsafe_code)]
        let sent = unsafe { libc::kill(pid, signal) };
        assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
    }

    /// Kills it, waits until it has ended, and does not reap it.
    #[cfg(unix)]
    pub(crate) fn kill_and_leave_a_zombie(&mut self) {
        self.child.kill().expect("it can be killed");
        let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
        let flags = libc::WEXITED | libc::WNOWAIT;
        // SAFETY: `info` has room for the answer.
        #[allow(unsafe_code)]
        let waited = unsafe {
            libc::waitid(libc::P_PID, self.pid() as libc::id_t, info.as_mut_ptr(), flags)
        };
        assert_eq!(waited, 0, "{}", std::io::Error::last_os_error());
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        // It may have been killed and reaped before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns when the process `pid` has a file watched.
#[cfg(target_os = "linux")]
pub(crate) fn until_listening(pid: u32) {
    wait_until("a process has a file watched", || is_listening(pid));
}

/// Whether the process `pid` has a file watched: the kernel lists it with the descriptor, as
/// `inotify wd:1 ino:5678 …`.
#[cfg(target_os = "linux")]
pub(crate) fn is_listening(pid: u32) -> bool {
    // A process that has ended has no descriptors.
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return false };
    entries.flatten().any(|entry| {
        let info = std::fs::read_to_string(entry.path()).unwrap_or_default();
        info.lines().any(|line| line.starts_with("inotify wd:"))
    })
}

/// Whether a thread of the process waits in `ppoll`, and so has made all calls before it.
#[cfg(target_os = "linux")]
pub(crate) fn sleeps_in_poll(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().any(|thread| {
        let call = std::fs::read_to_string(thread.path().join("syscall")).unwrap_or_default();
        call.split(' ').next() == Some(&*libc::SYS_ppoll.to_string())
    })
}

/// This test binary as a participant.
pub(crate) fn this_test_binary() -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test binary has a path"));
    let entry = concat!("participant::", "a_participant_is_a_process_that_follows_orders");
    // One test at a time: when it forks, the harness's own thread only waits for it.
    command.args([entry, "--exact", "--nocapture", "--test-threads=1"]).env(ROLE, "1");
    command
}

/// A runtime whose tasks run on the thread that waits for one.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

/// The outcome of an attempt to acquire, in one line.
pub(crate) fn outcome(attempt: &Result<Guard, AcquireError>) -> String {
    let named = |holder: Option<&Holder>| match holder {
        Some(holder) => format!("pid {}", holder.pid),
        None => "unknown".to_owned(),
    };
    match attempt {
        Ok(guard) => match guard.recovered_from() {
            None => "held".to_owned(),
            Some(from) => format!("held, reclaimed from {}", named(from.holder.as_ref())),
        },
        Err(AcquireError::Held(Held { holder, reason, .. })) => match reason {
            Refusal::Holder => format!("refused, held by {}", named(holder.as_ref())),
            Refusal::Unknown(reason) => format!("refused, {reason:?}, {}", named(holder.as_ref())),
            other => format!("refused, {other:?}, {}", named(holder.as_ref())),
        },
        Err(AcquireError::Timeout { held, .. }) => {
            format!("timed out, held by {}", named(held.holder.as_ref()))
        }
        Err(AcquireError::Cancelled { held, .. }) => {
            format!("cancelled, held by {}", named(held.holder.as_ref()))
        }
        Err(AcquireError::NotALockFile { found, .. }) => format!("not a lock file, {found}"),
        Err(AcquireError::Io { op, source, .. }) => format!("failed, {op:?}, {:?}", source.kind()),
        Err(AcquireError::Directory { source, .. }) => {
            format!("failed, Create, {:?}", source.kind())
        }
        Err(other) => format!("failed, {other}"),
    }
}

/// The [`outcome`] for a lock that a live process holds.
pub(crate) fn refused_by(pid: u32) -> String {
    format!("refused, held by pid {pid}")
}

/// The [`outcome`] for the lock of a dead process.
pub(crate) fn reclaimed_from(pid: u32) -> String {
    format!("held, reclaimed from pid {pid}")
}

/// The outcome of a release, in one word.
pub(crate) fn ending(released: &Result<(), ReleaseError>) -> &'static str {
    match released {
        Ok(()) => "released",
        Err(ReleaseError::Lost { .. }) => "lost",
        Err(ReleaseError::Forked { .. }) => "forked",
        Err(_) => "failed",
    }
}
/// The outcome of an attempt to clear, in one line.
pub(crate) fn cleared(attempt: &Result<Option<Reclaimed>, AcquireError>) -> String {
    match attempt {
        Ok(None) => "nothing".to_owned(),
        Ok(Some(from)) => match &from.holder {
            Some(holder) => format!("cleared of pid {}", holder.pid),
            None => "cleared of unknown".to_owned(),
        },
        Err(AcquireError::Held(held)) => match &held.holder {
            Some(holder) => format!("refused, {:?}, pid {}", held.reason, holder.pid),
            None => format!("refused, {:?}, unknown", held.reason),
        },
        Err(error) => format!("failed, {error}"),
    }
}
