//! `portlock sweep`: removes all lock files of a directory that are provably stale.

use clap::Args;
use portlock::SweepOutcome;
use serde_json::{Value, json};

use crate::advice;
use crate::found::{left_alone, recorded};
use crate::output::{answer, json_array, naming, say, visible};
use crate::place::{Directory, Target, refused};
use crate::status_code::{IO, of_list};

/// Remove all lock files of a directory that are provably stale
///
/// Like clear, for each of them: never that of a live holder, and what cannot be proved stays. Prints
/// a line for each that was removed. Files that end in .lock and are no lock files, as Cargo.lock,
/// are left alone, and named on stderr. It is not needed before a run, which takes a stale lock over
/// by itself.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Sweep {
    /// Print a JSON array, one line for each: removed, port, name, path, holder, message
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    directory: Directory,
}

const AFTER_HELP: &str = "\
JSON, with null for what does not apply or is not known:
  removed  true; false for one that could not be removed
  port     the port, a number; null for a name
  name     the name; null for a port
  path     the lock file
  holder   the record that it had: pid, port, startedAt, command, host, note
  message  the same as a sentence

Exit status:
   0  all that is provably stale was removed; there may be none
  64  an argument is wrong
  73  the directory that --fall-back would use cannot be made or trusted
  74  one could not be read or removed, or the directory cannot be read, or the answer cannot
      be written
  77  not permitted to read the directory
  78  the home directory is not known, or HOME or PORTLOCK_DIR is no full path";

impl Sweep {
    pub(crate) fn run(self) -> u8 {
        let dir = match self.directory.open() {
            Ok(dir) => dir,
            Err(error) => return refused(&error),
        };
        let mut swept = match dir.sweep() {
            Ok(swept) => swept,
            Err(error) => {
                say(&naming(dir.path(), &advice::of_list(&error)));
                return of_list(&error);
            }
        };
        let mut status = 0;
        swept.retain(|each| {
            let Err(error) = &each.removed else { return true };
            let left_alone = left_alone(&each.lock, error);
            match &left_alone {
                Some(said) => say(said),
                None => {
                    say(&message(each));
                    status = IO;
                }
            }
            left_alone.is_none()
        });
        let text = if self.json {
            json_array(&swept.iter().map(object).collect::<Vec<_>>())
        } else {
            let removed = swept.iter().filter(|each| each.removed.is_ok());
            removed.map(|each| visible(&message(each)) + "\n").collect()
        };
        answer(&text, status)
    }
}

fn message(each: &SweepOutcome) -> String {
    let target = Target::of(&each.lock);
    match &each.removed {
        Ok(from) => format!("removed the lock file of {target}, left by {from}"),
        Err(error) => naming(
            each.lock.path(),
            &format!("cannot clear {target}: {}", advice::in_one_line(error)),
        ),
    }
}

fn object(each: &SweepOutcome) -> Value {
    let target = Target::of(&each.lock);
    let holder = each.removed.as_ref().ok().and_then(|from| from.holder.as_ref());
    json!({
        "removed": each.removed.is_ok(),
        "port": target.port(),
        "name": target.name(),
        "path": each.lock.path().to_string_lossy(),
        "holder": holder.map(recorded),
        "message": message(each),
    })
}
