//! `portlock run`: takes the lock, runs the command, releases.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, ExitStatus};

use clap::Args;
use portlock::{AcquireError, Guard, Lock, Op, PlaceError, ReleaseError};

use crate::{Place, USAGE, naming, one_line, say};

/// Run a command while holding the lock of a port
///
/// The lock is taken before the command starts, or the command is not run. It lives as long as
/// the command does, even if portlock itself is killed, and is released when the command ends.
/// INT, TERM, HUP, QUIT, USR1 and USR2 are handed on to the command.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct Run {
    /// Do not wait for the lock: the default, accepted as flock(1) has it
    #[arg(short = 'n')]
    _no_wait: bool,

    /// Exit status when somebody else holds the lock
    #[arg(short = 'E', value_name = "CODE", default_value_t = HELD)]
    when_held: u8,

    #[command(flatten)]
    place: Place,

    /// The command and its arguments
    #[arg(value_name = "COMMAND", required = true, last = true)]
    command: Vec<OsString>,
}

// sysexits.h: EX_UNAVAILABLE, EX_OSERR, EX_CANTCREAT, EX_IOERR, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG.
const CANNOT_RUN: u8 = 69;
const SYSTEM: u8 = 71;
const CANNOT_CREATE: u8 = 73;
const IO: u8 = 74;
const HELD: u8 = 75;
const NOT_PERMITTED: u8 = 77;
const NO_HOME: u8 = 78;

const EXIT_STATUS: &str = "\
Exit status: the command's own, or 128 and the number of the signal that killed it. Where the
command was not run, portlock says why on stderr, and the status is
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
        self.held_or_unlocked().unwrap_or_else(|status| status)
    }

    /// `Err` is the status of a command that was not run, after the reason was given.
    fn held_or_unlocked(self) -> Result<u8, u8> {
        // From here on a signal is kept for the command, so that none ends us and not the command.
        let waiting = Waiting::new().map_err(|error| {
            say(&format!("cannot watch for signals: {error}"));
            SYSTEM
        })?;
        let name = Path::new(&self.command[0]).file_name().unwrap_or(&self.command[0]);
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        let lock = self.place.lock().map_err(|error| {
            say(&error.to_string());
            status_of_place(&error)
        })?;
        let guard = match lock {
            Some(lock) => {
                Some(acquired(lock.command(name.to_string_lossy()), self.when_held, &mut command)?)
            }
            None => {
                say("port 0 means any free port and has no lock: the command runs without one");
                None
            }
        };
        let ended = command
            .spawn()
            .map_err(|error| {
                let program = one_line(&self.command[0].to_string_lossy());
                (CANNOT_RUN, format!("cannot run {program}: {error}"))
            })
            .and_then(|mut child| {
                waiting
                    .until_the_end_of(&mut child)
                    .map_err(|error| (SYSTEM, format!("cannot wait for the command: {error}")))
            });
        // Before any message, so that a script that reads it can start again.
        let released = guard.map_or(Ok(()), Guard::release);
        let status = ended.map(status_of_command).map_err(|(status, why)| {
            say(&why);
            status
        });
        if let Err(error) = released {
            say(&format!("warning: {}", release_warning(&error)));
        }
        status
    }
}

/// Takes the lock and hands it over to the command; or says why not.
fn acquired(lock: Lock, when_held: u8, command: &mut Command) -> Result<Guard, u8> {
    let guard = lock.try_acquire().map_err(|error| {
        say(&naming(lock.path(), &format!("{error:#}")));
        status_of_refusal(&error, when_held)
    })?;
    if let (Some(reclaimed), Some(port)) = (guard.reclaimed(), lock.port()) {
        say(&format!("took over the lock of port {port} from {reclaimed}, which is gone"));
    }
    guard.hand_over_to(command);
    Ok(guard)
}

fn status_of_refusal(error: &AcquireError, when_held: u8) -> u8 {
    match error {
        AcquireError::Held { .. } => when_held,
        AcquireError::Failed { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            NOT_PERMITTED
        }
        AcquireError::Failed { op: Op::Create, .. } | AcquireError::NotALockFile { .. } => {
            CANNOT_CREATE
        }
        AcquireError::Place(error) => status_of_place(error),
        _ => IO,
    }
}

fn status_of_place(error: &PlaceError) -> u8 {
    match error {
        PlaceError::NoHome => NO_HOME,
        _ => USAGE,
    }
}

fn release_warning(error: &ReleaseError) -> String {
    match error {
        ReleaseError::Lost { path, .. }
        | ReleaseError::Failed { path, .. }
        | ReleaseError::Forked { path, .. } => naming(path, &error.to_string()),
        _ => error.to_string(),
    }
}

fn status_of_command(ended: ExitStatus) -> u8 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&ended) {
        return u8::try_from(128 + signal).unwrap_or(u8::MAX);
    }
    // Elsewhere a status has 32 bits, of which a failure must stay one.
    ended.code().map_or(u8::MAX, |code| u8::try_from(code).unwrap_or(u8::MAX))
}

#[cfg(unix)]
use crate::signals::Waiting;

#[cfg(not(unix))]
struct Waiting;

#[cfg(not(unix))]
impl Waiting {
    /// There are no signals to hand on.
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    fn until_the_end_of(self, child: &mut std::process::Child) -> std::io::Result<ExitStatus> {
        child.wait()
    }
}
