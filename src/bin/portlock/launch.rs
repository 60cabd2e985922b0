//! On Unix the command is a child that takes the lock itself and then becomes the command.
//!
//! The record names a process that lives for as long as the lock is used. Killing that process frees
//! the lock, and an agent of the old format, which looks at the pid alone, is refused while it lives.
//! portlock stays as its parent: it hands signals on, and removes the lock file afterwards.
//!
//! The child is portlock once more, because a process may do little between fork and exec.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::Signal;
use nix::unistd::getppid;
use portlock::{AcquireError, Guard, Holder, Lock, Refusal, UnknownReason};
use rustix::process::{Pid, WaitStatus};

use crate::forward::Forwarder;
use crate::output::{naming, say};
use crate::run::{Run, release};
use crate::signals::{Blocked, HANDLED, Watch, end_by};
use crate::status_code::{CANNOT_RUN, SYSTEM, USAGE};

/// The first argument of the child, which no user gives: the number of the parent, the signals to
/// unblock, and whether SIGPIPE is to be ignored.
const AS_CHILD: &str = "--as-child=";

/// What the parent passes to its child.
pub(crate) struct Child {
    parent: i32,
    unblock: Vec<Signal>,
    ignores_sigpipe: bool,
}

impl Child {
    /// Takes the argument of [`AS_CHILD`] out of a command line.
    ///
    /// # Errors
    ///
    /// The exit status, if the argument is not one of portlock's.
    pub(crate) fn taken_from(arguments: &mut Vec<OsString>) -> Result<Option<Self>, u8> {
        let received = arguments.get(1).and_then(|argument| argument.to_str());
        let Some(received) = received.and_then(|argument| argument.strip_prefix(AS_CHILD)) else {
            return Ok(None);
        };
        let child = Self::parse(received).filter(Self::has_its_parent);
        arguments.remove(1);
        child.map(Some).ok_or_else(|| {
            say("--as-child is what portlock itself starts its child with");
            USAGE
        })
    }

    fn parse(received: &str) -> Option<Self> {
        let mut parts = received.split(':');
        let (parent, unblock, ignored) = (parts.next()?, parts.next()?, parts.next()?);
        let signal =
            |number: &str| HANDLED.into_iter().find(|&known| (known as i32).to_string() == number);
        let numbers = unblock.split(',').filter(|number| !number.is_empty());
        Some(Self {
            parent: parent.parse().ok()?,
            unblock: numbers.map(signal).collect::<Option<_>>()?,
            ignores_sigpipe: ignored == "pipe",
        })
    }

    fn argument(blocked: Blocked) -> String {
        let unblock: Vec<String> =
            blocked.iter().map(|signal| (signal as i32).to_string()).collect();
        let ignored = if ignores_sigpipe() { "pipe" } else { "" };
        format!("{AS_CHILD}{}:{}:{ignored}", std::process::id(), unblock.join(","))
    }

    fn has_its_parent(&self) -> bool {
        getppid().as_raw() == self.parent
    }

    /// Whether the command is still to be run: not once the parent has been killed.
    fn is_wanted(&self) -> Result<(), u8> {
        if self.has_its_parent() {
            return Ok(());
        }
        say("portlock was killed, so the command is not run");
        Err(SYSTEM)
    }

    /// Takes the lock, unless the parent has it, and becomes the command. Returns if it cannot.
    fn run(&self, run: &Run) -> u8 {
        be_called_portlock();
        let blocked = Blocked::these(self.unblock.iter().copied());
        become_command(run, blocked, Some(self)).unwrap_or_else(|status| status)
    }
}

/// Runs the command, in the way that the options ask for. The exit status.
pub(crate) fn run(run: &Run, child: Option<&Child>) -> u8 {
    match child {
        Some(child) => child.run(run),
        None if run.no_fork => replace(run),
        None => supervise(run),
    }
}

/// Becomes the command in this very process. Returns if it cannot.
fn replace(run: &Run) -> u8 {
    become_command(run, Blocked::here(), None).unwrap_or_else(|status| status)
}

/// Starts the child, and returns the exit status when it has ended.
fn supervise(run: &Run) -> u8 {
    supervised(run).unwrap_or_else(|status| status)
}

fn supervised(run: &Run) -> Result<u8, u8> {
    let blocked = Blocked::here().map_err(|error| cannot_watch(&error))?;
    let guard = if run.keeps_lock_from_command() {
        let watch = Watch::new(blocked).map_err(|error| cannot_watch(&error))?;
        run.lock(&watch, || Ok(()))?
    } else {
        None
    };
    let forwarder = Forwarder::new().map_err(|error| cannot_watch(&error))?;
    let child = itself(blocked).and_then(|mut itself| itself.spawn()).map_err(|error| {
        let without = if cfg!(target_os = "linux") && error.kind() == io::ErrorKind::NotFound {
            "; this needs /proc, -F does without"
        } else {
            ""
        };
        say(&format!("cannot start a child process: {error}{without}"));
        SYSTEM
    })?;
    let child = Pid::from_child(&child);
    forwarder.start(child, blocked);
    let ended = forwarder.until_the_end_of(child);
    // Before any message, so that a script that reads it can start again.
    let left = match guard {
        Some(guard) => release(guard),
        None => clear(run, child, ended.as_ref().ok().copied()),
    };
    if let Some(left) = left {
        say(&left);
    }
    match ended {
        Ok(status) => Ok(end_as(status)),
        Err(error) => {
            say(&format!("cannot wait for the command: {error}"));
            Err(SYSTEM)
        }
    }
}

fn cannot_watch(error: &io::Error) -> u8 {
    say(&format!("cannot watch for signals: {error}"));
    SYSTEM
}

/// This program with the same arguments, as the child.
fn itself(blocked: Blocked) -> io::Result<Command> {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "portlock".into());
    // On Linux the very file that runs here, though another version may have its name by now.
    let program =
        if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe()? };
    let mut command = Command::new(program);
    command.arg0(name).arg(Child::argument(blocked)).args(arguments);
    Ok(command)
}

fn end_as(status: WaitStatus) -> u8 {
    if let Some(signal) = status.terminating_signal() {
        return end_by(signal);
    }
    status.exit_status().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// Takes the lock if this process is to hold it, and becomes the command. Returns if it cannot.
fn become_command(
    run: &Run,
    blocked: io::Result<Blocked>,
    child: Option<&Child>,
) -> Result<u8, u8> {
    let blocked = blocked.map_err(|error| cannot_watch(&error))?;
    let guard = if child.is_some() && run.keeps_lock_from_command() {
        None
    } else {
        let watch = Watch::new(blocked).map_err(|error| cannot_watch(&error))?;
        run.lock(&watch, || child.map_or(Ok(()), Child::is_wanted))?
    };
    child.map_or(Ok(()), Child::is_wanted)?;
    let ignores_sigpipe = child.map_or_else(ignores_sigpipe, |child| child.ignores_sigpipe);
    // What came until here ends this process now. The lock file is then removed by the parent, or by
    // the next acquire.
    let error = match blocked.unblock() {
        Ok(()) => exec(run.to_run(), guard, ignores_sigpipe),
        Err(error) => {
            drop(guard);
            error
        }
    };
    let _ = blocked.block_again();
    say(&run.cannot_run(&error));
    Ok(CANNOT_RUN)
}

fn ignores_sigpipe() -> bool {
    #[cfg(target_os = "linux")]
    return crate::ignored::is_ignored(Signal::SIGPIPE);
    // No safe way to find out: Rust's runtime has changed it before `main`.
    #[cfg(not(target_os = "linux"))]
    return false;
}

/// Replaces this program by the command. Returns only if that fails, with the lock released.
fn exec(mut command: Command, guard: Option<Guard>, ignores_sigpipe: bool) -> io::Error {
    match guard {
        Some(guard) if !ignores_sigpipe => guard.exec(&mut command),
        None if !ignores_sigpipe => command.exec(),
        guard => exec_without_sigpipe(&command, guard.as_ref()),
    }
}

fn exec_without_sigpipe(command: &Command, guard: Option<&Guard>) -> io::Error {
    // `Command` gives SIGPIPE its default action. Here it is still ignored, as by Rust's runtime.
    let passed = guard
        .map_or(Ok(()), |guard| Ok(rustix::io::fcntl_setfd(guard, rustix::io::FdFlags::empty())?));
    let c_string = |text: &OsStr| CString::new(text.as_bytes());
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(c_string);
    let words: Result<Vec<CString>, _> = words.collect();
    match (passed, words) {
        (Err(error), _) => error,
        (_, Err(error)) => error.into(),
        (Ok(()), Ok(words)) => match nix::unistd::execvp(&words[0], &words) {
            Err(error) => error.into(),
            Ok(never) => match never {},
        },
    }
}

/// Shows the child as portlock, and not as "exe", in lists of processes.
fn be_called_portlock() {
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_name(c"portlock");
}

/// Removes the lock file that the command has left, unless others that it started have it open. The
/// warning, if it stays.
fn clear(run: &Run, command: Pid, ended: Option<WaitStatus>) -> Option<String> {
    let lock = run.lock_again()?;
    let is_commands = |holder: Option<&Holder>| {
        holder.is_some_and(|holder| i64::from(holder.pid) == i64::from(command.as_raw_pid()))
    };
    // Then it may have been refused, and the file be another holder's. A clear would leave that
    // alone too, but takes longer.
    let is_perhaps_refused =
        ended.and_then(|ended| ended.exit_status()) == Some(i32::from(run.when_held));
    if is_perhaps_refused && !is_commands(lock.status().ok()?.holder()) {
        return None;
    }
    let error = lock.clear().err()?;
    let held = match &error {
        AcquireError::Held(held) if is_commands(held.holder.as_ref()) => held,
        // Another run has taken over already.
        AcquireError::Held(_) => return None,
        _ if is_commands(lock.status().ok()?.holder()) => return Some(stays(&lock, &error)),
        _ => return None,
    };
    match (held.reason, &held.holder) {
        // Nothing else proves its death there, and portlock has seen it.
        (Refusal::Unknown(UnknownReason::NoKernelLocks), Some(holder)) => {
            lock.force_clear(holder).err().map(|error| stays(&lock, &error))
        }
        _ if run.is_verbose() => Some(naming(lock.path(), &format!("the lock file stays: {held}"))),
        _ => None,
    }
}

fn stays(lock: &Lock, error: &AcquireError) -> String {
    let reason = match error {
        AcquireError::Io { op, source, .. } => {
            format!("cannot {op} {}: {source}", lock.path().display())
        }
        other => other.to_string(),
    };
    naming(lock.path(), &format!("warning: {reason}; the file stays, and locks nothing"))
}
