//! The participant's side: it carries out orders and answers them.

use std::io::Write;
use std::path::Path;
#[cfg(unix)]
use std::process::{Command, Stdio};
use std::time::Duration;

use portlock::{AcquireError, Guard, Lock, ReleaseError};

use super::{ANSWER, cleared, ending, outcome, runtime, witness};
#[cfg(unix)]
use super::{this_test_binary, unix};

/// Carries out orders until its input ends.
pub(super) fn play() -> ! {
    let mut part = Worker { guard: None };
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

/// Set for a participant after its exec of itself.
const AGAIN: &str = "PORTLOCK_TEST_PARTICIPANT_AGAIN";

pub(crate) fn answer(said: &str) {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{ANSWER}{said}").expect("the test listens");
    stdout.flush().expect("the test listens");
}

struct Worker {
    guard: Option<Guard>,
}

impl Worker {
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
            // In the default directory.
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
            // Ends the process in this way, with the guard alive, without an answer.
            "end" => end(rest, self.guard.take()),
            "contend" => witness::contend(rest),
            "current" => self
                .guard
                .as_ref()
                .expect("holds")
                .is_still_held()
                .expect("it can be checked")
                .to_string(),
            #[cfg(unix)]
            "spawn-cat" => self.spawn_cat(false),
            #[cfg(unix)]
            "pass-to-cat" => self.spawn_cat(true),
            // A command prepared under the lock and started after its release.
            #[cfg(unix)]
            "pass-too-late" => {
                let mut command = Command::new("true");
                self.guard.as_ref().expect("holds").pass_to_child(&mut command);
                let released = self.carry_out("release", "");
                // Reuses the lock file's descriptor number.
                let _other = std::fs::File::open("/dev/null").expect("it opens");
                match command.status() {
                    Ok(status) => format!("{released}, {status}"),
                    Err(error) => format!("{released}, {:?}", error.raw_os_error()),
                }
            }
            #[cfg(unix)]
            "exec-cat" => {
                // The shell answers, and lives until the input ends.
                let script = format!("echo '{ANSWER}executed'; exec cat >/dev/null");
                self.exec(Command::new("sh").args(["-c", &script]))
            }
            #[cfg(unix)]
            "exec-nothing" => self.exec(&mut Command::new("/nonexistent")),
            "release-and-say" => match self.guard.take().expect("holds").release() {
                Ok(()) => "released".to_owned(),
                Err(error) => format!("{error:#}").replace('\n', "; "),
            },
            // Checks that it records itself, and not its parent.
            "hold-for-a-moment" => {
                let guard = match Lock::at(rest).try_acquire() {
                    Ok(guard) => guard,
                    refused => return outcome(&refused),
                };
                let is_named = guard.holder().pid == std::process::id();
                let current = guard.is_still_held().expect("it can be checked");
                format!("{is_named}, {current}, {}", ending(&guard.release()))
            }
            // Exits while some threads acquire and release locks in this directory.
            "exit-among" => witness::exit_among(Path::new(rest)),
            #[cfg(unix)]
            "in-a-fork" => self.in_a_fork(rest, unix::leave),
            // The child exits with its guard alive.
            #[cfg(unix)]
            "in-a-fork-that-exits" => self.in_a_fork(rest, std::process::exit),
            // No descriptor is available during the fork.
            #[cfg(unix)]
            "in-a-fork-without-descriptors" => {
                let (order, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let fork = unix::fork_without_descriptors;
                unix::in_a_child(fork, || self.carry_out(order, rest), unix::leave)
            }
            // The child lives until the input ends, and consumes any further orders.
            #[cfg(unix)]
            "in-a-fork-that-stays" => self.in_a_fork_that_stays(rest, unix::fork),
            // By the system call, which runs no fork handlers.
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
            // Descriptor 2 may be any file.
            #[cfg(unix)]
            "write-to-descriptor-2" => unix::write_to_descriptor_2(rest),
            // The open descriptors below 3.
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

    /// Keeps the guard of a successful attempt.
    fn keep(&mut self, attempt: Result<Guard, AcquireError>) -> String {
        let said = outcome(&attempt);
        self.guard = attempt.ok().or(self.guard.take());
        said
    }

    #[cfg(unix)]
    fn exec(&mut self, command: &mut Command) -> String {
        format!("failed, {:?}", self.guard.take().expect("holds").exec(command).kind())
    }

    /// A command that lives until the input ends, and consumes any further orders.
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

    /// Carries out one order in a forked child, and returns its answer.
    #[cfg(unix)]
    fn in_a_fork(&mut self, line: &str, leave: fn(i32) -> !) -> String {
        let (order, rest) = line.split_once(' ').unwrap_or((line, ""));
        unix::in_a_child(unix::fork, || self.carry_out(order, rest), leave)
    }

    /// The same in a child that outlives this process.
    #[cfg(unix)]
    fn in_a_fork_that_stays(&mut self, line: &str, fork: fn() -> libc::pid_t) -> String {
        let (order, rest) = line.split_once(' ').unwrap_or((line, ""));
        unix::in_a_child_that_stays(fork, || self.carry_out(order, rest))
    }
}

/// Ends the process, with its guard alive or leaked.
fn end(how: &str, guard: Option<Guard>) -> ! {
    // Its destructor never runs.
    let _guard = std::mem::ManuallyDrop::new(guard);
    match how {
        "exit" => std::process::exit(0),
        // As a return from `main` does.
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
