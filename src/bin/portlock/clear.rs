//! `portlock clear`: removes one lock file that is stale, or that a person knows to be stale.

use std::io::{BufRead, IsTerminal, Read};

use clap::Args;
use portlock::{AcquireError, Held, Holder, Lock, Reclaimed, Refusal, UnknownReason};

use crate::advice::{Purpose, in_full};
use crate::output::{answer, naming, say, say_as_it_is, visible};
use crate::place::{Place, refused};
use crate::status_code::{HELD, USAGE, of_refusal};

/// Remove a lock file that is provably stale
///
/// Never that of a live holder. It is not needed before a run, which takes a stale lock over by
/// itself.
///
/// --force is for the cases in which a refusal says that nothing can be proved: another machine,
/// another container, a filesystem without kernel locks, an agent of the old format whose pid
/// belongs to another process now. It removes the file of the holder that it shows, and is OUTSIDE
/// of the promises: if that holder is active after all, two will hold the lock. It never removes a
/// file whose kernel lock is seen to be taken, nor one whose record differs from the one shown.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct Clear {
    /// Remove it though it is not provably stale, after a question
    #[arg(long)]
    force: bool,

    /// Do not ask; needed without a terminal
    #[arg(short, long, requires = "force")]
    yes: bool,

    #[command(flatten)]
    place: Place,
}

const EXIT_STATUS: &str = "\
Exit status:
   0  the lock file was removed, or there was none; stdout says which
  64  an argument is wrong, or --force cannot ask and --yes is not there
  73  something else is in the place of the lock file
  74  the lock file cannot be read, locked or removed, or the answer cannot be written
  75  it is held, or not provably stale, and stays; also if the answer is not yes
  77  not permitted
  78  the home directory is not known, or HOME or PORTLOCK_DIR is no full path";

impl Clear {
    pub(crate) fn run(self) -> u8 {
        if self.force && !self.yes && !can_ask() {
            say(
                "--force asks before it removes, and there is no terminal to ask on; --yes is the \
                 answer",
            );
            return USAGE;
        }
        let lock = match self.place.lock() {
            Ok(Some(lock)) => lock,
            Ok(None) => return answer("port 0 means any free port and has no lock\n", 0),
            Err(error) => return refused(&error),
        };
        match lock.clear() {
            Ok(cleared) => self.cleared(cleared, ""),
            Err(error @ AcquireError::Held(_)) => match error.held().map(|held| &held.holder) {
                Some(Some(holder)) if self.force => self.forced(&lock, &error, holder),
                _ => self.refused(&lock, &error),
            },
            Err(error) => {
                say(&naming(lock.path(), &in_full(&error, Purpose::Clear)));
                of_refusal(&error)
            }
        }
    }

    fn cleared(&self, cleared: Option<Reclaimed>, how: &str) -> u8 {
        let which = &self.place.target;
        let said = match cleared {
            Some(from) => format!("removed the lock file of {which}{how}, left by {from}"),
            None => format!("there is no lock file of {which}"),
        };
        answer(&(visible(&said) + "\n"), 0)
    }

    fn refused(&self, lock: &Lock, error: &AcquireError) -> u8 {
        let mut said = format!("nothing was removed: {}", in_full(error, Purpose::Clear));
        if !self.force && error.held().is_some_and(may_be_forced) {
            said +=
                "\n  or: clear --force, if you know that it is held no longer; see clear --help";
        }
        say(&naming(lock.path(), &said));
        HELD
    }

    fn forced(&self, lock: &Lock, error: &AcquireError, holder: &Holder) -> u8 {
        let said = format!(
            "{}\n\
             --force removes that file though nothing proves that it is stale. If its holder is \
             alive after all, the next one will hold the lock as well.",
            in_full(error, Purpose::Clear)
        );
        say(&naming(lock.path(), &said));
        if !self.yes && !is_answered_with_yes() {
            say("nothing was removed");
            return HELD;
        }
        match lock.force_clear(holder) {
            Ok(cleared) => self.cleared(cleared, " by force"),
            Err(error) => {
                let reason = match error.held().and_then(|held| held.holder.as_ref()) {
                    Some(seen) if seen == holder => {
                        "another process has its kernel lock, so it is in use: "
                    }
                    Some(_) => "its record is another one than a moment ago: ",
                    None => "",
                };
                let said =
                    format!("nothing was removed: {reason}{}", in_full(&error, Purpose::Clear));
                say(&naming(lock.path(), &said));
                of_refusal(&error)
            }
        }
    }
}

/// Whether it is one of the refusals that nothing but a person can decide.
fn may_be_forced(held: &Held) -> bool {
    match (held.reason, &held.holder) {
        (_, None) => false,
        // The old format names no boot, and its agents take no kernel lock.
        (Refusal::Holder, Some(holder)) => holder.boot.is_none(),
        (Refusal::Unknown(reason), Some(_)) => {
            matches!(
                reason,
                UnknownReason::OtherMachine
                    | UnknownReason::NoSharedLock
                    | UnknownReason::NoKernelLocks
            )
        }
        (_, Some(_)) => false,
    }
}

fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Whether a person at the terminal says yes. Silence, an error and anything else mean no.
fn is_answered_with_yes() -> bool {
    say_as_it_is("portlock: remove it? [y/N] ");
    let mut line = String::new();
    let _ = std::io::stdin().lock().take(64).read_line(&mut line);
    matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}
