//! `portlock list`: all locks of a directory. Read-only.

use clap::Args;
use portlock::LockEntry;

use crate::advice;
use crate::found::{Found, left_alone, recorded};
use crate::output::{answer, is_coloured, json_array, naming, one_line, say};
use crate::place::{Directory, refused};
use crate::status_code::of_list;

/// List the locks of a directory
///
/// Read-only, like status. In a table: LOCK (the port or name), STATE (held, stale, unknown),
/// PID and STARTED (from the record), REASON (where it is not certain; see status --help), COMMAND, NOTE
/// (where a program has left one). Files that end in .lock and are no lock files, as Cargo.lock, are
/// named on stderr.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct List {
    /// Print a JSON array, one line for each lock: the objects that status --json prints
    #[arg(long)]
    json: bool,

    /// Only those whose holder has provably died
    #[arg(long)]
    stale: bool,

    #[command(flatten)]
    directory: Directory,
}

const EXIT_STATUS: &str = "\
Exit status:
   0  the locks were listed; there may be none
  64  an argument is wrong
  73  the directory that --fall-back would use cannot be made or trusted
  74  the directory cannot be read, or the answer cannot be written
  77  not permitted to read the directory
  78  the home directory is not known, or HOME or PORTLOCK_DIR is no full path";

impl List {
    pub(crate) fn run(self) -> u8 {
        let dir = match self.directory.open() {
            Ok(dir) => dir,
            Err(error) => return refused(&error),
        };
        let listed = match dir.list() {
            Ok(listed) => listed,
            Err(error) => {
                say(&naming(dir.path(), &advice::of_list(&error)));
                return of_list(&error);
            }
        };
        let mut found = Vec::with_capacity(listed.len());
        for LockEntry { lock, status, .. } in &listed {
            match status.as_ref().err().and_then(|error| left_alone(lock, error)) {
                Some(said) => say(&said),
                None => found.push(Found::of(lock, status)),
            }
        }
        found.retain(|found| !self.stale || found.state == "stale");
        let text = if self.json {
            json_array(&found.iter().map(Found::json).collect::<Vec<_>>())
        } else {
            table(&found)
        };
        answer(&text, 0)
    }
}

/// Nothing for no locks. The column without a fixed alphabet is the last, so that the width of its
/// characters moves nothing.
fn table(found: &[Found]) -> String {
    let some_reason = found.iter().any(|found| found.reason.is_some());
    let mut heads = vec!["LOCK", "STATE", "PID", "STARTED"];
    heads.extend(some_reason.then_some("REASON"));
    heads.push("COMMAND");
    let some_note = found.iter().any(|found| note(found).is_some());
    heads.extend(some_note.then_some("NOTE"));
    let mut rows: Vec<Vec<String>> = vec![heads.into_iter().map(str::to_owned).collect()];
    rows.extend(found.iter().map(|found| cells(found, some_reason, some_note)));
    if rows.len() == 1 {
        return String::new();
    }
    let columns = rows[0].len();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let coloured = is_coloured();
    rows.iter().map(|row| line(row, &widths, coloured)).collect()
}

fn note(found: &Found) -> Option<&str> {
    found.holder.as_ref()?.note.as_deref()
}

fn cells(found: &Found, some_reason: bool, some_note: bool) -> Vec<String> {
    let record = found.holder.as_ref().map(recorded).unwrap_or_default();
    let text = |key: &str| record[key].as_str().unwrap_or("-").to_owned();
    let lock = match found.target.port() {
        Some(port) => port.to_string(),
        None => found.target.name().unwrap_or_default().to_owned(),
    };
    let pid = found.holder.as_ref().map_or("-".to_owned(), |holder| holder.pid.to_string());
    let mut cells = vec![lock, found.state.to_owned(), pid, since(&text("startedAt"))];
    cells.extend(some_reason.then(|| found.reason.unwrap_or("-").to_owned()));
    cells.push(text("command"));
    cells.extend(some_note.then(|| text("note")));
    cells.iter().map(|cell| one_line(cell)).collect()
}

/// "2026-11-23 02:09:04 UTC" of a record's time, as messages have it.
fn since(time: &str) -> String {
    match time.split_once('T') {
        Some((date, clock)) => {
            format!("{date} {} UTC", clock.split('.').next().unwrap_or(clock))
        }
        None => time.to_owned(),
    }
}

fn line(cells: &[String], widths: &[usize], coloured: bool) -> String {
    let padded = cells.iter().zip(widths).enumerate().map(|(column, (cell, &width))| {
        let padded = format!("{cell:width$}");
        match colour(cell) {
            Some(colour) if coloured && column == STATE => format!("\x1b[{colour}m{padded}\x1b[0m"),
            _ => padded,
        }
    });
    padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
}

/// The number of the column that is coloured.
const STATE: usize = 1;

/// Red, yellow and magenta, as ECMA-48 numbers them.
fn colour(state: &str) -> Option<u8> {
    match state {
        "held" => Some(31),
        "stale" => Some(33),
        "unknown" => Some(35),
        _ => None,
    }
}
