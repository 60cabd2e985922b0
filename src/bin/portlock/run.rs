//! `portlock run`: its arguments, and how it takes the lock. How the command is then run is in
//! `launch.rs`, on Windows in `console.rs`.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use clap::{Args, ValueHint};
use portlock::{
    AcquireError, Guard, Held, Lock, MAX_NOTE, Refusal, ReleaseError, UnknownReason, WaitOptions,
};

use crate::advice::{Purpose, after, in_full, refusal};
use crate::output::{naming, one_line, say};
use crate::place::{Place, Target, refused};
use crate::status_code::{HELD, of_refusal};
use crate::wait::seconds;

/// Run a command that holds a lock
///
/// The command starts once it has the lock. The lock file names the command's process. It is held
/// until that process ends: when it exits, when it is killed, and also when portlock is killed.
/// Processes that the command leaves behind keep the lock, as with flock(1); -o prevents that.
///
/// portlock hands INT, TERM, HUP, QUIT, USR1 and USR2 on to the command. While it waits for the
/// lock, each of them ends the wait, and portlock. A signal to the whole process group or control
/// group, other than from a terminal, reaches the command twice: directly, and through portlock. A
/// systemd unit needs KillMode=mixed.
///
/// On Windows portlock holds the lock, the lock file names portlock, and killing portlock ends the
/// command. Ctrl-C and Ctrl-Break reach the command from the console.
///
/// Waiting processes are woken when the lock may be free, in no particular order.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Run {
    #[command(flatten)]
    waiting: Waiting,

    /// Exit status when another process holds the lock, also at the end of the time of -w
    #[arg(short = 'E', value_name = "CODE", default_value_t = HELD)]
    pub(crate) when_held: u8,

    /// Replace portlock by the command (exec), which then has portlock's pid
    ///
    /// Nothing remains to remove the lock file: it stays when the command ends, is then stale, and
    /// the next run takes the lock over. Signals go to the command without portlock.
    #[cfg(unix)]
    #[arg(short = 'F', long = "no-fork", conflicts_with = "close")]
    pub(crate) no_fork: bool,

    /// Let portlock hold the lock instead of the command
    ///
    /// The lock file names portlock. The lock ends with the command, though processes that it left
    /// behind go on, or with portlock: if portlock is killed, the lock is free while the command
    /// still runs.
    #[arg(short = 'o', long)]
    close: bool,

    /// Say on stderr which holder is waited for, also without a terminal; with -w or --wait also
    /// which one the lock was taken over from; and that a process left behind keeps the lock
    #[arg(short, long)]
    verbose: bool,

    /// A text to record with the lock, such as a URL or a version: at most 128 characters, shown by
    /// refusals, status and list; every user who may read the lock file can read it
    #[arg(long, value_name = "TEXT", value_parser = note)]
    note: Option<String>,

    #[command(flatten)]
    place: Place,

    /// The command and its arguments; options of portlock come before it
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        value_hint = ValueHint::CommandWithArguments
    )]
    command: Vec<OsString>,
}

/// For how long to wait for the lock.
#[derive(Debug, Args)]
struct Waiting {
    /// Do not wait for the lock: the default, accepted as in flock(1)
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

const AFTER_HELP: &str = "\
A systemd unit, with the lines that matter:
  [Service]
  ExecStart=/usr/bin/portlock run 5338 /usr/bin/node server.js
  KillMode=mixed

Exit status: the command's own. If a signal ended the command, or the wait for the lock, portlock
ends by the same signal: a shell shows 128 and its number. Where the command was not run, portlock
says why on stderr, and the status is
  64  an argument is wrong
  69  the command cannot be run
  71  the system refused to watch for signals, or to start a process
  73  the lock file cannot be created, or something else is in its place
  74  the lock file cannot be read, locked or written
  75  another process holds the lock, or may hold it; -E sets another status
  77  not permitted
  78  the home directory is not known, or HOME or PORTLOCK_DIR is no full path";

/// The longest wait between two checks: of the parent, of signals where no descriptor shows them, and
/// of another holder.
const LONGEST_WAIT: Duration =
    Duration::from_millis(if cfg!(unix) && !cfg!(target_os = "linux") { 100 } else { 1000 });

impl Run {
    /// Takes the lock, or says why not. `None` is port 0's.
    ///
    /// # Errors
    ///
    /// The exit status. What `still_wanted` returns as an error is one: it is asked while nothing
    /// is held.
    pub(crate) fn lock(
        &self,
        watch: &Watch,
        still_wanted: impl Fn() -> Result<(), u8>,
    ) -> Result<Option<Guard>, u8> {
        let Some(lock) = self.place.lock().map_err(|error| refused(&error))? else {
            say("port 0 means any free port and has no lock: the command runs without one");
            return Ok(None);
        };
        let name = Path::new(&self.command[0]).file_name().unwrap_or(&self.command[0]);
        let lock = lock.command(name.to_string_lossy());
        let lock = match &self.note {
            Some(note) => lock.note(note),
            None => lock,
        };
        let guard = self.acquire(&lock, watch, still_wanted)?;
        // A run that waits may get the lock before the portlock of the command that has just ended
        // has removed the file, so there it is no news.
        let is_news = self.verbose || self.waiting.limit() == Some(Duration::ZERO);
        if let Some(reclaimed) = guard.recovered_from().filter(|_| is_news) {
            let which = match &self.place.target {
                Target::Port(port) => format!("the lock of port {port}"),
                Target::Name(name) => format!("the lock {name}"),
            };
            say(&format!("took over {which} from {reclaimed}, which is gone"));
        }
        Ok(Some(guard))
    }

    fn acquire(
        &self,
        lock: &Lock,
        watch: &Watch,
        still_wanted: impl Fn() -> Result<(), u8>,
    ) -> Result<Guard, u8> {
        let limit = self.waiting.limit();
        let end = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut shown = None;
        let mut wait = Duration::ZERO;
        loop {
            watch.act()?;
            still_wanted()?;
            let on_wait = |held: &Held| self.show_wait(held, &mut shown);
            let error = match attempt(lock, watch, wait, on_wait) {
                Ok(guard) if !watch.is_signalled() => return Ok(guard),
                // Released here, so that the signal acts while nothing is held.
                Ok(_) | Err(AcquireError::Cancelled { .. }) => continue,
                Err(error) => error,
            };
            let left = end.map_or(LONGEST_WAIT, |end| {
                end.saturating_duration_since(Instant::now()).min(LONGEST_WAIT)
            });
            if !error.is_held() || left.is_zero() {
                return Err(self.refused(lock, &error, limit));
            }
            wait = left;
        }
    }

    fn refused(&self, lock: &Lock, error: &AcquireError, limit: Option<Duration>) -> u8 {
        let said = match (error.held(), limit) {
            // The tries were many, and the limit of the last is not the user's.
            (Some(held), None | Some(Duration::ZERO)) => refusal(held, Purpose::Hold),
            (Some(held), Some(limit)) => after(limit, held, Purpose::Hold),
            (None, _) => in_full(error, Purpose::Hold),
        };
        say(&naming(lock.path(), &said));
        if error.is_held() { self.when_held } else { of_refusal(error) }
    }

    /// Says what is waited for, to a person or if asked to: at once, and when it changes.
    fn show_wait(&self, held: &Held, shown: &mut Option<String>) {
        if !self.verbose && !std::io::stderr().is_terminal() {
            return;
        }
        let target = &self.place.target;
        let line = match (&held.holder, held.reason) {
            (Some(holder), Refusal::Holder) => {
                format!("waiting for {target}, locked by {holder}")
            }
            (Some(holder), Refusal::Unknown(UnknownReason::HolderExited)) => {
                format!("waiting for {target}, locked by what {holder} left behind")
            }
            (Some(holder), _) => {
                format!("waiting for {target}, perhaps locked by {holder}")
            }
            (None, _) => format!("waiting for {target}"),
        };
        if shown.as_ref() != Some(&line) {
            say(&line);
            *shown = Some(line);
        }
    }

    /// Whether portlock itself is to hold the lock.
    pub(crate) fn keeps_lock_from_command(&self) -> bool {
        self.close
    }

    #[cfg(unix)]
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// The lock once more, without a warning. `None` is port 0's.
    #[cfg(unix)]
    pub(crate) fn lock_again(&self) -> Option<Lock> {
        self.place.lock_again().ok().flatten()
    }

    /// The command, to be started.
    pub(crate) fn to_run(&self) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        command
    }

    pub(crate) fn cannot_run(&self, error: &std::io::Error) -> String {
        format!("cannot run {}: {error}", one_line(&self.command[0].to_string_lossy()))
    }
}

impl Waiting {
    /// The longest wait, or `None` for one without an end.
    fn limit(&self) -> Option<Duration> {
        if self.wait { None } else { Some(self.timeout.unwrap_or_default()) }
    }
}

/// A note as it will be recorded. The library would cut it, and a person should know.
fn note(text: &str) -> Result<String, String> {
    let length = text.chars().count();
    if length > MAX_NOTE {
        return Err(format!("it has {length} characters, at most {MAX_NOTE} are recorded"));
    }
    if text.chars().any(char::is_control) {
        return Err("it has control characters, and must be one line of text".into());
    }
    Ok(text.to_owned())
}

/// One try that waits for at most `wait`, or until a signal comes.
fn attempt(
    lock: &Lock,
    watch: &Watch,
    wait: Duration,
    on_wait: impl FnMut(&Held) + Send,
) -> Result<Guard, AcquireError> {
    let options = WaitOptions::new().timeout(wait).on_wait(on_wait);
    lock.acquire_with(watch.cancel().into_iter().fold(options, WaitOptions::cancel_token))
}

/// Releases a lock that portlock itself holds. The warning, if its file stays or had been removed.
pub(crate) fn release(guard: Guard) -> Option<String> {
    let error = guard.release().err()?;
    let path = error.path().to_owned();
    let warning = match &error {
        ReleaseError::Failed { op, source, .. } => format!(
            "cannot {op} {}: {source}; the lock was given up, and the next run that may remove the \
             file does",
            path.display()
        ),
        _ => format!("{error}; {}", error.next_step()),
    };
    // Releases a lock that could not be released, and empties its record.
    drop(error);
    Some(naming(&path, &format!("warning: {warning}")))
}

#[cfg(windows)]
use crate::console::Watch;
#[cfg(unix)]
use crate::signals::Watch;
