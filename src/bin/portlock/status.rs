//! `portlock status`: which process holds a lock. Read-only.

use clap::Args;
use portlock::LockDirError;

use crate::advice;
use crate::found::Found;
use crate::output::{answer, json};
use crate::place::{Place, refused};

/// Show which process holds a lock
///
/// Read-only: it creates, locks, writes and removes nothing, and makes no other attempt fail.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Query {
    /// Print one JSON object: state, port, name, path, holder, why, message
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    place: Place,
}

const AFTER_HELP: &str = "\
JSON, with null for what does not apply or is not known:
  state    \"free\", \"held\", \"stale\" or \"unknown\"
  port     the port, a number; null for a name
  name     the name; null for a port
  path     the lock file
  holder   the record: pid, port, startedAt, command, host, note
  reason   why it is not certain, a word: \"being-created\", \"unreadable\", \"holder-exited\",
           \"cannot-probe\", \"other-machine\", \"no-shared-lock\", \"no-kernel-locks\",
           \"contended\", \"cannot-watch\", \"not-a-lock-file\", \"not-permitted\", \"no-home\", \"failed\";
           \"any-port\" for port 0
  message  the same as a sentence

Exit status:
   0  free: there is no lock file
   3  stale: the holder has provably died, and the next run takes the lock over
   4  unknown: neither can be proved from here, or the lock file cannot be read
  64  an argument is wrong
  73  the directory that --fall-back would use cannot be made or trusted
  74  the answer cannot be written
  75  held
  77  not permitted to make that directory
  78  HOME or PORTLOCK_DIR is no full path";

impl Query {
    pub(crate) fn run(self) -> u8 {
        let found = match self.place.lock() {
            Ok(None) => Found::any_port(),
            Ok(Some(lock)) => Found::of(&lock, &lock.status()),
            Err(error @ LockDirError::NoHome) => {
                Found::unknown(self.place.target, "no-home", &advice::of_place(&error))
            }
            Err(error) => return refused(&error),
        };
        let text = if self.json { json(&found.json()) + "\n" } else { found.text() };
        answer(&text, found.exit)
    }
}
