//! `portlock wait`: until no process holds the lock.

use std::time::{Duration, Instant};

use clap::Args;
use portlock::{Lock, Status, UnknownReason};

use crate::found::Found;
use crate::output::{naming, say};
use crate::place::{Place, refused};
use crate::status_code::{CANNOT_TELL, HELD};

/// Wait until no process holds a lock
///
/// Read-only: when it ends, another process may take the lock first. To hold it then, use
/// run --wait. It polls at growing intervals of up to 20 milliseconds.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct Wait {
    /// Wait for at most so many seconds, as in 2.5; 0 polls once [default: as long as it takes]
    #[arg(short = 'w', long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,

    #[command(flatten)]
    place: Place,
}

const EXIT_STATUS: &str = "\
Exit status:
   0  no process holds it: it is free, or its holder has provably died
   4  unknown: neither can be proved from here, or the lock file cannot be read
  64  an argument is wrong
  73  the directory that --fall-back would use cannot be made or trusted
  75  still held at the end of the time
  77  not permitted to make that directory
  78  the home directory is not known, or HOME or PORTLOCK_DIR is no full path";

/// The first pause between two looks; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// The longest: a look takes less than 0.1 ms, so this costs half a percent of a processor.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// How many queries in a row must be uncertain before that is the answer: about 0.1 s.
/// A takeover takes much less.
const LOOKS: u32 = 10;

/// What a look at the lock means for the wait.
enum Look {
    /// No process holds it.
    Free,
    /// A process does, or is about to.
    Held(Found),
    /// It cannot be known.
    Unknown(Found),
}

impl Wait {
    pub(crate) fn run(self) -> u8 {
        let lock = match self.place.lock() {
            Ok(Some(lock)) => lock,
            // Port 0 is never locked.
            Ok(None) => return 0,
            Err(error) => return refused(&error),
        };
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut unknown = 0;
        loop {
            let left = self.timeout.map(|limit| limit.saturating_sub(start.elapsed()));
            let over = left.is_some_and(|left| left.is_zero());
            match look(&lock) {
                Look::Free => return 0,
                Look::Held(found) if over => {
                    say(&naming(lock.path(), &self.gave_up(&found)));
                    return HELD;
                }
                Look::Held(_) => unknown = 0,
                Look::Unknown(found) => {
                    unknown += 1;
                    if over || unknown >= LOOKS {
                        say(found.text().trim_end());
                        return CANNOT_TELL;
                    }
                }
            }
            std::thread::sleep(left.unwrap_or(pause).min(pause));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn gave_up(&self, found: &Found) -> String {
        let limit = humantime::format_duration(self.timeout.unwrap_or_default());
        format!("gave up after {limit}: {}", found.text().trim_end())
    }
}

fn look(lock: &Lock) -> Look {
    let status = lock.status();
    let found = Found::of(lock, &status);
    match status {
        Ok(Status::Free | Status::Stale { .. }) => Look::Free,
        Ok(Status::Held { .. })
        | Ok(Status::Unknown {
            reason: UnknownReason::Contended | UnknownReason::BeingCreated,
            ..
        }) => Look::Held(found),
        Ok(_) | Err(_) => Look::Unknown(found),
    }
}

/// A number of seconds, of which there may be a fraction.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "not a number of seconds from 0 on".to_owned())
}
