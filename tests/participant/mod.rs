//! Another participant: a real process, which does what it is told and answers each order with a
//! line. There are no sleeps: an answer says that the order was carried out.
//!
//! A test binary runs itself again to become one: the single test of this module plays the
//! participant where the environment says so.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

mod deadline;
#[path = "../loud/mod.rs"]
mod loud;
mod place;
mod witness;
#[allow(unused_imports)]
pub(crate) use deadline::{must_return, wait_until};
#[allow(unused_imports)]
pub(crate) use loud::not_checked;
#[allow(unused_imports)]
pub(crate) use place::{NOBODY, Place, frees_names_at_once, old_record};

use portlock::{AcquireError, Guard, Held, Holder, Lock, Reclaimed, Refusal, ReleaseError};

const ROLE: &str = "PORTLOCK_TEST_PARTICIPANT";

/// No order takes that long, on whatever machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// Distinguishes an answer from what the test harness prints of its own.
const ANSWER: &str = "answer: ";

#[test]
fn a_participant_is_a_process_that_follows_orders() {
    if std::env::var_os(ROLE).is_some() {
        play();
    }
    let mut other = Participant::start();
    assert_eq!(other.tell("pid"), other.pid().to_string());
    assert_ne!(other.pid(), std::process::id());
    assert_eq!(other.tell("dance"), "no such order");
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

    /// `command` must end up running [`this_test_binary`]; its environment is the caller's to set.
    pub(crate) fn start_as(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the participant starts");
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        Self { child, orders, answers }
    }

    /// One that holds the lock file `path`.
    pub(crate) fn holding(path: &Path) -> Self {
        let mut holder = Self::start();
        assert_eq!(holder.try_acquire(path), "held");
        holder
    }

    /// One that has been told to acquire, and waits for events of the file.
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

    /// Gives an order and waits for its answer.
    pub(crate) fn tell(&mut self, order: &str) -> String {
        self.order(order);
        self.answer()
    }

    pub(crate) fn try_acquire(&mut self, path: &Path) -> String {
        self.tell(&format!("try {}", path.display()))
    }

    /// Gives an order. Several participants at once can be given theirs before any answers.
    pub(crate) fn order(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("it still takes orders");
        writeln!(orders, "{order}").expect("it lives");
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
                unix::until_readable(self.answers.get_ref(), PATIENCE);
            }
            let came = self.answers.fill_buf().expect("its output can be read");
            assert!(!came.is_empty(), "participant {} ended without an answer", self.child.id());
            let end = came.iter().position(|&byte| byte == b'\n').map_or(came.len(), |at| at + 1);
            line.extend(&came[..end]);
            self.answers.consume(end);
        }
        String::from_utf8(line).expect("its output is text")
    }

    /// Waits for the end of all that could answer. `false` if something answered instead.
    #[cfg(windows)]
    pub(crate) fn will_answer_no_more(&mut self) -> bool {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("its output can be read") == 0
    }

    /// Waits for its end.
    #[cfg(windows)]
    pub(crate) fn status(&mut self) -> std::process::ExitStatus {
        self.child.wait().expect("it can be waited for")
    }

    /// Gives no more orders: it ends, and so does a `cat` that it left with the same input.
    pub(crate) fn dismiss(&mut self) {
        drop(self.orders.take());
    }

    /// Has it end in this way, with its lock held, and waits for that.
    pub(crate) fn end(&mut self, how: &str) {
        self.order(&format!("end {how}"));
        self.reap();
    }

    /// Gives no more orders, and waits for its end.
    pub(crate) fn finish(mut self) {
        self.dismiss();
        let status = self.ended();
        assert!(status.success(), "the participant ended with {status}");
    }

    /// Kills it as `kill -9` does, and reaps it: after this its pid is gone.
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
        self.child.try_wait().expect("it can be asked").is_some()
    }

    /// Stops it as `kill -STOP` does, and returns when it has stopped.
    #[cfg(unix)]
    pub(crate) fn stop(&self) {
        self.signal(libc::SIGSTOP);
        let pid = libc::pid_t::try_from(self.pid()).expect("a pid");
        let mut status = 0;
        // SAFETY: a child of ours that has not been reaped; `status` has room.
        #[allow(unsafe_code)]
        let stopped = unsafe { libc::waitpid(pid, &raw mut status, libc::WUNTRACED) };
        assert!(stopped == pid && libc::WIFSTOPPED(status), "it did not stop: {status}");
    }

    /// Lets it go on, after [`stop`](Self::stop).
    #[cfg(unix)]
    pub(crate) fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    #[cfg(unix)]
    fn signal(&self, signal: i32) {
        let pid = libc::pid_t::try_from(self.pid()).expect("a pid");
        // SAFETY: a signal to a child of ours that has not been reaped.
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

/// This test binary as a participant.
pub(crate) fn this_test_binary() -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test binary has a path"));
    let entry = concat!("participant::", "a_participant_is_a_process_that_follows_orders");
    // One test at a time: when it forks, the harness's own thread only waits for it.
    command.args([entry, "--exact", "--nocapture", "--test-threads=1"]).env(ROLE, "1");
    command
}

/// A runtime whose tasks are run by the thread that waits for one.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

/// In one line, what became of an attempt to acquire.
pub(crate) fn outcome(attempt: &Result<Guard, AcquireError>) -> String {
    let named = |holder: Option<&Holder>| match holder {
        Some(holder) => format!("pid {}", holder.pid),
        None => "nobody".to_owned(),
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

/// In one word, how a release ended.
pub(crate) fn ending(released: &Result<(), ReleaseError>) -> &'static str {
    match released {
        Ok(()) => "released",
        Err(ReleaseError::Lost { .. }) => "lost",
        Err(ReleaseError::Forked { .. }) => "forked",
        Err(_) => "failed",
    }
}

// ---- the participant's side ---------------------------------------------------------------------

/// Carries out orders until there are no more. Does not return.
fn play() -> ! {
    let mut part = Part { guard: None };
    if std::env::var_os(AGAIN).is_some() {
        answer("executed");
    }
    for line in std::io::stdin().lines() {
        let line = line.expect("orders are text");
        let (order, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let said = part.carry_out(order, rest);
        answer(&said);
    }
    std::process::exit(0);
}

/// Set for a participant that has executed itself anew.
const AGAIN: &str = "PORTLOCK_TEST_PARTICIPANT_AGAIN";

pub(crate) fn answer(said: &str) {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{ANSWER}{said}").expect("the test listens");
    stdout.flush().expect("the test listens");
}

struct Part {
    guard: Option<Guard>,
}

impl Part {
    fn carry_out(&mut self, order: &str, rest: &str) -> String {
        match order {
            "pid" => std::process::id().to_string(),
            "try" => self.keep(Lock::at(rest).try_acquire()),
            "acquire" => self.keep(Lock::at(rest).acquire()),
            // `MILLISECONDS PATH`
            "acquire-within" => {
                let (limit, path) = rest.split_once(' ').expect("two words");
                let limit = Duration::from_millis(limit.parse().expect("a number"));
                self.keep(Lock::at(path).acquire_timeout(limit))
            }
            "acquire-in-a-task" => {
                let lock = Lock::at(rest);
                self.keep(runtime().block_on(lock.acquire_async()))
            }
            // The default place.
            "port" => self.keep(portlock::try_acquire(rest.parse().expect("a port"))),
            "clear" => cleared(&Lock::at(rest).clear()),
            "guarantee" => format!("{:?}", self.guard.as_ref().expect("holds").guarantee()),
            // Does nothing.
            "keep" => "kept".to_owned(),
            "release" => {
                let released = self.guard.take().expect("holds").release();
                let said = ending(&released).to_owned();
                self.guard = released.err().and_then(ReleaseError::into_guard);
                said
            }
            "drop" => {
                drop(self.guard.take().expect("holds"));
                "dropped".to_owned()
            }
            "status" => {
                let lock = Lock::at(rest);
                match lock.status() {
                    Ok(status) => status.describe(&lock),
                    Err(error) => format!("failed, {error}"),
                }
            }
            // Ends the process in this way, with the guard alive; nothing is answered.
            "end" => end(rest, self.guard.take()),
            "contend" => witness::contend(rest),
            "current" => {
                self.guard.as_ref().expect("holds").is_still_held().expect("looks").to_string()
            }
            #[cfg(unix)]
            "spawn-cat" => self.spawn_cat(false),
            #[cfg(unix)]
            "hand-over-to-cat" => self.spawn_cat(true),
            // A command that was prepared under the lock and is started after its release.
            #[cfg(unix)]
            "hand-over-too-late" => {
                let mut command = Command::new("true");
                self.guard.as_ref().expect("holds").pass_to_child(&mut command);
                let released = self.carry_out("release", "");
                // Takes the number that the lock file had.
                let _other = std::fs::File::open("/dev/null").expect("it opens");
                match command.status() {
                    Ok(status) => format!("{released}, {status}"),
                    Err(error) => format!("{released}, {:?}", error.raw_os_error()),
                }
            }
            #[cfg(unix)]
            "exec-cat" => {
                // Answers by itself, and lives until no more orders can come.
                let script = format!("echo '{ANSWER}executed'; exec cat >/dev/null");
                self.exec(Command::new("sh").args(["-c", &script]))
            }
            #[cfg(unix)]
            "exec-nothing" => self.exec(&mut Command::new("/nonexistent")),
            "release-and-say" => match self.guard.take().expect("holds").release() {
                Ok(()) => "released".to_owned(),
                Err(error) => format!("{error:#}").replace('\n', "; "),
            },
            // Records itself, and not the process that it was forked from.
            "hold-for-a-moment" => {
                let guard = match Lock::at(rest).try_acquire() {
                    Ok(guard) => guard,
                    refused => return outcome(&refused),
                };
                let is_named = guard.holder().pid == std::process::id();
                let current = guard.is_still_held().expect("looks");
                format!("{is_named}, {current}, {}", ending(&guard.release()))
            }
            // Exits while some threads acquire and release locks in this directory.
            "exit-among" => witness::exit_among(Path::new(rest)),
            #[cfg(unix)]
            "in-a-fork" => self.in_a_fork(rest, unix::leave),
            // The child ends in an orderly way, its guard alive.
            #[cfg(unix)]
            "in-a-fork-that-exits" => self.in_a_fork(rest, std::process::exit),
            // No descriptor is left when it is forked.
            #[cfg(unix)]
            "in-a-fork-without-descriptors" => {
                let (order, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let fork = unix::fork_without_descriptors;
                unix::in_a_child(fork, || self.carry_out(order, rest), unix::leave)
            }
            // The child lives until no more orders can come. This process must be given none.
            #[cfg(unix)]
            "in-a-fork-that-stays" => self.in_a_fork_that_stays(rest, unix::fork),
            // The same by a system call, which runs no fork handlers.
            #[cfg(target_os = "linux")]
            "in-a-raw-fork" => {
                let (order, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                unix::in_a_child(unix::raw_fork, || self.carry_out(order, rest), unix::leave)
            }
            #[cfg(target_os = "linux")]
            "in-a-raw-fork-that-exits" => {
                let (order, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                unix::in_a_child(unix::raw_fork, || self.carry_out(order, rest), std::process::exit)
            }
            #[cfg(unix)]
            "execute-itself" => {
                use std::os::unix::process::CommandExt;
                format!("failed, {}", this_test_binary().env(AGAIN, "1").exec())
            }
            #[cfg(target_os = "linux")]
            "take-all-watches" => unix::take_all_watches(),
            #[cfg(unix)]
            "become-user" => unix::become_user(rest.parse().expect("a user's number")),
            #[cfg(unix)]
            "close-descriptor" => unix::close_descriptor(rest.parse().expect("a number")),
            // On whatever stands there now.
            #[cfg(unix)]
            "write-to-descriptor-2" => unix::write_to_descriptor_2(rest),
            // The numbers below 3 that are open.
            #[cfg(unix)]
            "standard-descriptors" => unix::standard_descriptors(),
            #[cfg(unix)]
            "limit-file-size" => unix::limit_file_size(rest.parse().expect("a number")),
            #[cfg(unix)]
            "umask" => unix::set_umask(rest),
            #[cfg(unix)]
            "signal-zero" => unix::signal_zero(rest.parse().expect("a pid")),
            #[cfg(target_os = "linux")]
            "enter-a-pid-namespace" => unix::enter_a_pid_namespace(),
            #[cfg(unix)]
            "change-root" => match std::os::unix::fs::chroot(rest) {
                Ok(()) => "done".to_owned(),
                Err(error) => format!("failed, {error}"),
            },
            _ => "no such order".to_owned(),
        }
    }

    /// Keeps the guard of an attempt that got one.
    fn keep(&mut self, attempt: Result<Guard, AcquireError>) -> String {
        let said = outcome(&attempt);
        self.guard = attempt.ok().or(self.guard.take());
        said
    }

    #[cfg(unix)]
    fn exec(&mut self, command: &mut Command) -> String {
        format!("failed, {:?}", self.guard.take().expect("holds").exec(command).kind())
    }

    /// A command that lives until nobody gives orders: it reads what this participant reads, which
    /// is therefore to be given none.
    #[cfg(unix)]
    fn spawn_cat(&self, handed_over: bool) -> String {
        let mut cat = Command::new("cat");
        cat.stdout(Stdio::null()).stderr(Stdio::null());
        if handed_over {
            self.guard.as_ref().expect("holds").pass_to_child(&mut cat);
        }
        match cat.spawn() {
            Ok(_) => "spawned".to_owned(),
            Err(error) => format!("failed, {error}"),
        }
    }

    /// Carries out one order in a forked child, and answers with what it answered.
    #[cfg(unix)]
    fn in_a_fork(&mut self, line: &str, leave: fn(i32) -> !) -> String {
        let (order, rest) = line.split_once(' ').unwrap_or((line, ""));
        unix::in_a_child(unix::fork, || self.carry_out(order, rest), leave)
    }

    /// The same in a child that lives on, whatever becomes of this process.
    #[cfg(unix)]
    fn in_a_fork_that_stays(&mut self, line: &str, fork: fn() -> libc::pid_t) -> String {
        let (order, rest) = line.split_once(' ').unwrap_or((line, ""));
        unix::in_a_child_that_stays(fork, || self.carry_out(order, rest))
    }
}

/// Ends the process, with its guard alive or leaked.
fn end(how: &str, guard: Option<Guard>) -> ! {
    // No destructor of it runs, whatever the way.
    let _guard = std::mem::ManuallyDrop::new(guard);
    match how {
        "exit" => std::process::exit(0),
        // As a return from `main` does it.
        #[cfg(windows)]
        "exit-of-c" => witness::exit_of_c(),
        "exit-in-a-thread" => {
            let thread = std::thread::spawn(|| std::process::exit(0));
            thread.join().expect("never returns");
            unreachable!("the process has ended")
        }
        "abort" => std::process::abort(),
        other => unreachable!("no such end: {other}"),
    }
}

/// In one line, what became of an attempt to clear.
pub(crate) fn cleared(attempt: &Result<Option<Reclaimed>, AcquireError>) -> String {
    match attempt {
        Ok(None) => "nothing".to_owned(),
        Ok(Some(from)) => match &from.holder {
            Some(holder) => format!("cleared of pid {}", holder.pid),
            None => "cleared of nobody".to_owned(),
        },
        Err(AcquireError::Held(held)) => match &held.holder {
            Some(holder) => format!("refused, {:?}, pid {}", held.reason, holder.pid),
            None => format!("refused, {:?}, nobody", held.reason),
        },
        Err(error) => format!("failed, {error}"),
    }
}

#[cfg(unix)]
#[allow(unused_imports)]
pub(crate) use unix::set_byte_lock;

#[cfg(unix)]
mod unix {
    #![allow(unsafe_code)]

    use std::io::{Error, Read, Write};
    use std::os::unix::net::UnixStream;

    pub(super) fn become_user(id: u32) -> String {
        // SAFETY: the calls take numbers and a length of zero.
        let became = unsafe {
            libc::setgroups(0, std::ptr::null()) == 0
                && libc::setgid(id) == 0
                && libc::setuid(id) == 0
        };
        if became { "done".to_owned() } else { format!("failed, {}", Error::last_os_error()) }
    }

    /// Takes what its user may have of inotify queues, and tells how many that were. They go with
    /// the process.
    #[cfg(target_os = "linux")]
    pub(super) fn take_all_watches() -> String {
        // SAFETY: takes flags and returns a number.
        let taken = (0..).take_while(|_| unsafe { libc::inotify_init1(libc::IN_CLOEXEC) } >= 0);
        taken.count().to_string()
    }

    pub(super) fn close_descriptor(number: i32) -> String {
        // SAFETY: closes a standard one, which nothing of this process uses afterwards.
        assert_eq!(unsafe { libc::close(number) }, 0, "{}", Error::last_os_error());
        "closed".to_owned()
    }

    pub(super) fn write_to_descriptor_2(text: &str) -> String {
        // SAFETY: the text is ours, and of that length.
        match unsafe { libc::write(2, text.as_ptr().cast(), text.len()) } {
            -1 => format!("{:?}", Error::last_os_error().kind()),
            written => written.to_string(),
        }
    }

    pub(super) fn standard_descriptors() -> String {
        // SAFETY: fcntl on a number, which need not be open.
        let is_open = |number: &i32| unsafe { libc::fcntl(*number, libc::F_GETFD) } >= 0;
        let open: Vec<String> = (0..3).filter(is_open).map(|number| number.to_string()).collect();
        open.join(" ")
    }

    pub(super) fn limit_file_size(bytes: libc::rlim_t) -> String {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: the pointer is to a limit.
        let set = unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) };
        assert_eq!(set, 0, "{}", Error::last_os_error());
        "limited".to_owned()
    }

    pub(super) fn set_umask(octal: &str) -> String {
        let mask = libc::mode_t::from_str_radix(octal, 8).expect("an octal number");
        // SAFETY: takes and returns numbers.
        unsafe { libc::umask(mask) };
        "masked".to_owned()
    }

    pub(super) fn signal_zero(pid: i32) -> String {
        // SAFETY: signal 0 sends nothing.
        if unsafe { libc::kill(pid, 0) } == 0 {
            return "permitted".to_owned();
        }
        match Error::last_os_error().raw_os_error() {
            Some(libc::ESRCH) => "ESRCH".to_owned(),
            Some(libc::EPERM) => "EPERM".to_owned(),
            other => format!("{other:?}"),
        }
    }

    pub(crate) fn set_byte_lock(file: &std::fs::File, kind: impl TryInto<libc::c_short>) -> bool {
        use std::os::fd::AsRawFd;
        // SAFETY: a structure of numbers, of which zero is a valid one each.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind.try_into().ok().expect("a small number");
        // From the start of the file, which 0 means (SEEK_SET).
        lock.l_whence = 0;
        lock.l_len = 1;
        // SAFETY: the file is open, and the pointer is to a lock.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock) == 0 }
    }

    /// Ends this process and runs nothing.
    pub(super) fn leave(status: i32) -> ! {
        // SAFETY: takes a number and does not return.
        unsafe { libc::_exit(status) }
    }

    /// Fails if nothing can be read from it for that long.
    pub(super) fn until_readable(file: &impl std::os::fd::AsRawFd, limit: std::time::Duration) {
        let mut polled = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let limit = libc::c_int::try_from(limit.as_millis()).expect("a few minutes");
        loop {
            // SAFETY: one file is polled.
            match unsafe { libc::poll(&raw mut polled, 1, limit) } {
                0 => panic!("it does not answer"),
                1.. => return,
                _ => assert_eq!(Error::last_os_error().kind(), std::io::ErrorKind::Interrupted),
            }
        }
    }

    /// `fork(2)` of the C library.
    pub(super) fn fork() -> libc::pid_t {
        // SAFETY: the only other thread is the harness's, which waits for this one and holds no
        // lock, so the child may do anything.
        unsafe { libc::fork() }
    }

    /// The same with no descriptor left meanwhile.
    pub(super) fn fork_without_descriptors() -> libc::pid_t {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: there is room for the limit, and it is set to valid ones; as above.
        unsafe {
            assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
            let none = libc::rlimit { rlim_cur: 0, ..limit };
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const none), 0);
            let child = libc::fork();
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
            child
        }
    }

    /// A fork by the system call alone.
    #[cfg(target_os = "linux")]
    pub(super) fn raw_fork() -> libc::pid_t {
        let none = std::ptr::null::<libc::c_void>();
        // SAFETY: as above. Without a stack and shared memory it is a fork.
        let child =
            unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, none, none, none, none) };
        libc::pid_t::try_from(child).expect("a pid")
    }

    /// Runs `part` in a forked child, which then ends by `leave`, and returns what it said.
    pub(super) fn in_a_child(
        fork: fn() -> libc::pid_t,
        part: impl FnOnce() -> String,
        leave: fn(i32) -> !,
    ) -> String {
        let (child, said) = answer_of_a_child(fork, part, leave);
        // SAFETY: null asks for no status.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        said
    }

    /// The same; the child lives until its standard input ends.
    pub(super) fn in_a_child_that_stays(
        fork: fn() -> libc::pid_t,
        part: impl FnOnce() -> String,
    ) -> String {
        answer_of_a_child(fork, part, |status| {
            let mut byte = 0_u8;
            // SAFETY: there is room for one byte.
            while unsafe { libc::read(0, (&raw mut byte).cast(), 1) } > 0 {}
            leave(status)
        })
        .1
    }

    fn answer_of_a_child(
        fork: fn() -> libc::pid_t,
        part: impl FnOnce() -> String,
        leave: fn(i32) -> !,
    ) -> (libc::pid_t, String) {
        let (mut from_child, mut to_parent) = UnixStream::pair().expect("a pair of sockets");
        match fork() {
            0 => {
                drop(from_child);
                let said = std::panic::catch_unwind(std::panic::AssertUnwindSafe(part))
                    .unwrap_or_else(|_| "panicked".to_owned());
                let written = to_parent.write_all(said.as_bytes());
                drop(to_parent);
                leave(i32::from(written.is_err()))
            }
            child => {
                assert!(child > 0, "{}", Error::last_os_error());
                drop(to_parent);
                let mut said = String::new();
                from_child.read_to_string(&mut said).expect("the child writes text");
                (child, said)
            }
        }
    }

    /// Goes on as the first process of a new pid namespace. The process that the test started
    /// stays outside, waits, and takes the other ones along when it is killed.
    #[cfg(target_os = "linux")]
    pub(super) fn enter_a_pid_namespace() -> String {
        // Once to be alone, without which no user namespace can be made, and once to get in.
        go_on_in_a_child();
        // SAFETY: the calls take numbers.
        let entered = unsafe {
            libc::unshare(libc::CLONE_NEWPID) == 0
                || libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID) == 0
        };
        if !entered {
            return format!("failed, {}", Error::last_os_error());
        }
        go_on_in_a_child();
        format!("done, as pid {}", std::process::id())
    }

    /// Returns in a forked child, which dies with this process; this process waits for it.
    #[cfg(target_os = "linux")]
    fn go_on_in_a_child() {
        // SAFETY: as for the fork above, the child may do anything; the rest takes numbers, and
        // null asks for no status.
        unsafe {
            match libc::fork() {
                0 => assert_eq!(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), 0),
                child => {
                    assert!(child > 0, "{}", Error::last_os_error());
                    libc::waitpid(child, std::ptr::null_mut(), 0);
                    libc::_exit(0)
                }
            }
        }
    }
}
