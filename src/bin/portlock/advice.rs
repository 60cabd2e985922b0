//! What a person can do, in the words of the command: the library knows no options and no
//! subcommands.

use std::error::Error;
use std::time::Duration;

use portlock::{AcquireError, Held, ListError, LockDirError, Refusal, UnknownReason};

/// What the lock was wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To hold it.
    Hold,
    /// To have its file removed.
    Clear,
}

/// The error with its cause, and what can be done about it, over lines.
pub(crate) fn in_full(error: &AcquireError, purpose: Purpose) -> String {
    match error {
        AcquireError::Held(held) => refusal(held, purpose),
        AcquireError::Timeout { held, limit, .. } => after(*limit, held, purpose),
        AcquireError::Cancelled { held, .. } => {
            format!("stopped waiting: {}", refusal(held, purpose))
        }
        error => format!("{}\n  next step: {}", with_cause(error), of_error(error)),
    }
}

/// A refusal after a wait of `limit`.
pub(crate) fn after(limit: Duration, held: &Held, purpose: Purpose) -> String {
    format!("gave up after {}: {}", humantime::format_duration(limit), refusal(held, purpose))
}

/// What is known of the holder, and what can be done about it, over lines.
pub(crate) fn refusal(held: &Held, purpose: Purpose) -> String {
    let (path, next) = (held.path.display(), of_held(held, purpose));
    format!("{}\n  lock file: {path}\n  next step: {next}", held.summary())
}

/// The same in one line.
pub(crate) fn in_one_line(error: &AcquireError) -> String {
    match error.held() {
        Some(held) => format!("{error}; {}", of_held(held, Purpose::Clear)),
        None => format!("{}; {}", with_cause(error), of_error(error)),
    }
}

/// Why there is no place for a lock, in one line.
pub(crate) fn of_place(error: &LockDirError) -> String {
    format!("{}; {}", with_cause(error), naming_options(error.next_step()))
}

/// Why a directory was not listed, in one line.
pub(crate) fn of_list(error: &ListError) -> String {
    format!("{}; {}", with_cause(error), naming_options(error.next_step()))
}

/// An error and all its causes.
pub(crate) fn with_cause(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        said += &format!(": {cause}");
        next = cause.source();
    }
    said
}

fn of_error(error: &AcquireError) -> String {
    naming_options(error.next_step())
}

/// Advice to use another directory says how.
fn naming_options(next_step: String) -> String {
    if next_step.contains(" directory") {
        next_step + " (--dir or PORTLOCK_DIR names one)"
    } else {
        next_step
    }
}

/// What to do about a lock that is held, or may be.
fn of_held(held: &Held, purpose: Purpose) -> String {
    let another = match (purpose, held.port()) {
        (Purpose::Hold, Some(_)) => ", or use another port",
        (Purpose::Hold, None) => ", or use another name",
        (Purpose::Clear, _) => "",
    };
    let Refusal::Unknown(unsure) = held.reason else {
        return format!("stop that process{another}");
    };
    let (ended, directory) = match unsure {
        UnknownReason::CannotProbe => return format!("stop that process where it runs{another}"),
        UnknownReason::OtherMachine => {
            ("that machine no longer runs it", "a directory that is not shared")
        }
        UnknownReason::NoSharedLock => {
            ("that process no longer runs", "a directory on a local disk")
        }
        UnknownReason::NoKernelLocks => {
            ("that process no longer runs", "a directory on a filesystem with kernel locks")
        }
        _ => return held.next_step(),
    };
    match purpose {
        Purpose::Hold => {
            format!("if {ended}, remove the lock with clear --force; or use {directory}")
        }
        Purpose::Clear => format!("make sure that {ended}"),
    }
}
