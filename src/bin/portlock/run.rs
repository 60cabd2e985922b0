//! `portlock run`: takes the lock, runs the command, releases.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use clap::{Args, ValueHint};
use portlock::{AcquireError, Guard, Lock, ReleaseError, WaitOptions};

use crate::output::{naming, one_line, say};
use crate::place::{Place, Target, refused};
use crate::status_code::{CANNOT_RUN, HELD, SYSTEM, of_refusal};
use crate::wait::seconds;

/// Run a command while holding a lock
///
/// The lock is taken before the command starts, or the command is not run. It lives as long as
/// the command does, even if portlock itself is killed, and is released when the command ends.
/// INT, TERM, HUP, QUIT, USR1 and USR2 are handed on to the command; while portlock waits for the
/// lock there is none, and each of them ends the wait. On Windows these are Ctrl-C and Ctrl-Break,
/// and a portlock that is killed takes the command along.
///
/// Whoever waits is woken when the lock may be free; who comes first is not served first.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct Run {
    #[command(flatten)]
    patience: Patience,

    /// Exit status when somebody else holds the lock, also at the end of the time of -w
    #[arg(short = 'E', value_name = "CODE", default_value_t = HELD)]
    when_held: u8,

    /// Replace portlock by the command (exec), which keeps portlock's pid
    ///
    /// Nothing is left that could release the lock: its file stays when the command ends, is then
    /// stale, and the next run takes it over. Signals are the command's own; one that ends portlock
    /// while it takes the lock may leave the file as well.
    #[cfg(unix)]
    #[arg(short = 'F', long = "no-fork", conflicts_with = "close")]
    no_fork: bool,

    /// Keep the lock file from the command: the lock lives with portlock alone
    ///
    /// For a command that leaves children behind, which would keep the lock. If portlock is killed,
    /// the lock is free though the command goes on.
    #[arg(short = 'o', long)]
    close: bool,

    #[command(flatten)]
    place: Place,

    /// The command and its arguments
    #[arg(
        value_name = "COMMAND",
        required = true,
        last = true,
        value_hint = ValueHint::CommandWithArguments
    )]
    command: Vec<OsString>,
}

/// For how long to wait for the lock.
#[derive(Debug, Args)]
struct Patience {
    /// Do not wait for the lock: the default, accepted as flock(1) has it
    #[arg(short = 'n', long = "nonblock", conflicts_with_all = ["timeout", "wait"])]
    _no_wait: bool,

    /// Wait for at most so many seconds, as in 2.5; 0 is -n
    #[arg(
        short = 'w',
        long,
        value_name = "SECONDS",
        value_parser = seconds,
        conflicts_with = "wait"
    )]
    timeout: Option<Duration>,

    /// Wait for as long as it takes
    #[arg(long)]
    wait: bool,
}

const EXIT_STATUS: &str = "\
Exit status: the command's own, or 128 and the number of the signal that killed it, or that ended
portlock while it waited for the lock. Where the command was not run, portlock says why on stderr,
and the status is
  64  an argument is wrong
  69  the command cannot be run
  71  the system refused to watch for signals
  73  the lock file cannot be created, or something else stands in its place
  74  the lock file cannot be read, locked or written
  75  somebody else holds the lock, or may hold it; -E sets another status
  77  not permitted
  78  the home directory is not known";

impl Run {
    pub(crate) fn run(self) -> u8 {
        #[cfg(unix)]
        if self.no_fork {
            return self.replaced();
        }
        self.held_or_unlocked().unwrap_or_else(|status| status)
    }

    /// `Err` is the status of a command that was not run, after the reason was given.
    fn held_or_unlocked(self) -> Result<u8, u8> {
        // From here on a signal is kept for the command, so that none ends us and not the command.
        let mut signals = Signals::new().map_err(|error| {
            say(&format!("cannot watch for signals: {error}"));
            SYSTEM
        })?;
        let mut command = self.to_run();
        let guard = self.guard(&mut command, |lock| self.patience.acquire(lock, &mut signals))?;
        // The console has told it to us alone, since there is no command yet.
        #[cfg(windows)]
        if let Some(signal) = signals.that_came() {
            drop(guard);
            return Err(status_of_signal(signal));
        }
        #[cfg(windows)]
        let tied = guard.as_ref().filter(|_| !self.close).map(|_| self.tied()).transpose()?;
        let ended = command
            .spawn()
            .map_err(|error| (CANNOT_RUN, self.cannot_run(&error)))
            .and_then(|mut child| {
                signals
                    .until_the_end_of(&mut child)
                    .map_err(|error| (SYSTEM, format!("cannot wait for the command: {error}")))
            });
        // What the command has left behind goes on, as elsewhere.
        #[cfg(windows)]
        drop(tied);
        // Before any message, so that a script that reads it can start again.
        let released = guard.map_or(Ok(()), Guard::release);
        #[cfg(windows)]
        let wide = ended.as_ref().ok().copied();
        let status = ended.map(status_of_command).map_err(|(status, why)| {
            say(&why);
            status
        });
        if let Err(error) = released {
            let warning = release_warning(&error);
            // Lets go of a lock that could not be released, and empties its record.
            drop(error);
            say(&format!("warning: {warning}"));
        }
        #[cfg(windows)]
        if let Some(ended) = wide {
            crate::console::exit_if_wide(ended);
        }
        status
    }

    /// Has the command end with us: on Windows it cannot take the lock over.
    #[cfg(windows)]
    fn tied(&self) -> Result<impl Drop, u8> {
        portlock::tie_to_this_process().map_err(|error| {
            say(&format!("cannot have the command end with portlock: {error}; -o runs it without"));
            SYSTEM
        })
    }

    /// Becomes the command; returns if that cannot be.
    ///
    /// No signal is kept: what came between the last look for one and the exec would be lost, and
    /// whoever uses this leaves the file to be taken over anyway.
    #[cfg(unix)]
    fn replaced(self) -> u8 {
        let mut command = self.to_run();
        match self.guard(&mut command, |lock| Ok(self.patience.acquire_undisturbed(lock))) {
            Ok(guard) => {
                let error = std::os::unix::process::CommandExt::exec(&mut command);
                // Before the message, as above. That of an exec that failed matters more than one
                // of a release that failed too.
                drop(guard);
                say(&self.cannot_run(&error));
                CANNOT_RUN
            }
            Err(status) => status,
        }
    }

    fn to_run(&self) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        command
    }

    fn cannot_run(&self, error: &std::io::Error) -> String {
        format!("cannot run {}: {error}", one_line(&self.command[0].to_string_lossy()))
    }

    /// Takes the lock, and hands it over to the command unless `-o` forbids it; or says why not.
    /// `None` is port 0's.
    fn guard(
        &self,
        command: &mut Command,
        acquire: impl FnOnce(&Lock) -> Result<Result<Guard, AcquireError>, u8>,
    ) -> Result<Option<Guard>, u8> {
        let Some(lock) = self.place.lock().map_err(|error| refused(&error))? else {
            say("port 0 means any free port and has no lock: the command runs without one");
            return Ok(None);
        };
        let name = Path::new(&self.command[0]).file_name().unwrap_or(&self.command[0]);
        let lock = lock.command(name.to_string_lossy());
        let guard = acquire(&lock)?.map_err(|error| {
            say(&naming(lock.path(), &format!("{error:#}")));
            if error.is_held() { self.when_held } else { of_refusal(&error) }
        })?;
        if let Some(reclaimed) = guard.reclaimed() {
            let which = match &self.place.target {
                Target::Port(port) => format!("the lock of port {port}"),
                Target::Name(name) => format!("the lock {name}"),
            };
            say(&format!("took over {which} from {reclaimed}, which is gone"));
        }
        if !self.close {
            guard.pass_to_child(command);
        }
        Ok(Some(guard))
    }
}

impl Patience {
    /// The longest wait, or `None` for one without an end.
    fn limit(&self) -> Option<Duration> {
        if self.wait { None } else { Some(self.timeout.unwrap_or_default()) }
    }

    /// Acquires, and a signal ends the wait: with nothing half done. `Err` is the status of that.
    fn acquire(
        &self,
        lock: &Lock,
        signals: &mut Signals,
    ) -> Result<Result<Guard, AcquireError>, u8> {
        let limit = self.limit();
        if limit == Some(Duration::ZERO) {
            return Ok(lock.try_acquire());
        }
        let cancel = signals.cancel().map_err(|error| {
            say(&format!("cannot watch for signals: {error}"));
            SYSTEM
        })?;
        // What came before there was anything to cancel would cancel nothing.
        let early = signals.that_came();
        let options = WaitOptions::new().cancel_token(&cancel);
        let options = limit.into_iter().fold(options, WaitOptions::timeout);
        let tried = early.is_none().then(|| lock.acquire_with(options));
        match (early.or_else(|| signals.that_came()), tried) {
            (None, Some(tried)) => Ok(tried),
            // A guard that came just now is released.
            (signal, _) => Err(signal.map_or(SYSTEM, status_of_signal)),
        }
    }

    /// Acquires where any signal may end us.
    #[cfg(unix)]
    fn acquire_undisturbed(&self, lock: &Lock) -> Result<Guard, AcquireError> {
        match self.limit() {
            None => lock.acquire(),
            Some(Duration::ZERO) => lock.try_acquire(),
            Some(limit) => lock.acquire_timeout(limit),
        }
    }
}

fn release_warning(error: &ReleaseError) -> String {
    let path = error.path();
    let warning = match error {
        ReleaseError::Failed { op, source, .. } => format!(
            "cannot {op} {}: {source}; it was emptied instead, and the next acquire removes it",
            path.display()
        ),
        _ => error.to_string(),
    };
    naming(path, &warning)
}

fn status_of_command(ended: ExitStatus) -> u8 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&ended) {
        return status_of_signal(signal);
    }
    // Elsewhere a status has 32 bits, of which a failure must stay one.
    ended.code().map_or(u8::MAX, |code| u8::try_from(code).unwrap_or(u8::MAX))
}

fn status_of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

#[cfg(windows)]
use crate::console::Signals;
#[cfg(unix)]
use crate::signals::Signals;
