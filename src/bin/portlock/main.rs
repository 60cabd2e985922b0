//! The command: runs a program under a port's lock, and tells who holds one.
//!
//! Exit codes are those of sysexits.h, beside the few that scripts branch on; each is in `--help`.
//! All that is written goes through [`say`] and [`answer`]: nothing unprintable from a record or
//! an argument reaches a terminal, and a closed pipe is no panic.

mod run;
#[cfg(unix)]
mod signals;
mod status;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use portlock::{Lock, LockDir, PlaceError};

/// The status that says that the arguments are wrong (EX_USAGE).
const USAGE: u8 = 64;

/// Runs a command while it holds the lock of a port, and tells who holds one.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "`portlock run --help` and `portlock status --help` list the exit \
                                 statuses."
)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Run(run::Run),
    Status(status::Query),
}

/// Which lock.
#[derive(Debug, Args)]
struct Place {
    /// Directory of the lock file [default: ~/.percy]
    #[arg(long, value_name = "DIR", conflicts_with = "app")]
    dir: Option<PathBuf>,

    /// Use the directory .NAME in the home directory
    #[arg(long, value_name = "NAME")]
    app: Option<String>,

    /// Port, 1 to 65535; 0 means any free port and has no lock
    #[arg(value_name = "PORT")]
    port: u16,
}

impl Place {
    /// The lock, or `None` for port 0.
    fn lock(&self) -> Result<Option<Lock>, PlaceError> {
        if self.port == 0 {
            return Ok(None);
        }
        let dir = match (&self.dir, &self.app) {
            (Some(dir), _) => LockDir::at(dir),
            (None, Some(app)) => LockDir::home(app)?,
            (None, None) => LockDir::percy()?,
        };
        dir.port(self.port).map(Some)
    }
}

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(Arguments { action: Action::Run(run) }) => run.run().into(),
        Ok(Arguments { action: Action::Status(query) }) => query.run().into(),
        // `--help` and `--version` come as errors too. Nothing from the arguments is in them.
        Err(help) if !help.use_stderr() => {
            let _ = help.print();
            ExitCode::SUCCESS
        }
        Err(usage) => {
            // Rendered without colours, since the arguments that it quotes must be made visible.
            let text = usage.render().to_string();
            match text.strip_prefix("error: ") {
                Some(error) => say(error.trim_end()),
                // The help, which is what stands in the place of a missing subcommand.
                None => drop(io::stderr().write_all(text.as_bytes())),
            }
            USAGE.into()
        }
    }
}

/// Writes a message to stderr, in one call so that others' lines do not get into it. Where nobody
/// reads it, the exit status has to do.
fn say(message: &str) {
    let _ = io::stderr().write_all(format!("portlock: {}\n", visible(message)).as_bytes());
}

/// Writes an answer to stdout. `false` if it was lost; a reader that left wants no more of it.
fn answer(text: &str) -> bool {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::BrokenPipe,
    }
}

/// `text` with all but printable characters and line breaks escaped, as in `\u{1b}`.
fn visible(text: &str) -> String {
    let shown = |c: char| if c == '\n' { c.to_string() } else { escaped(c) };
    text.chars().map(shown).collect()
}

/// A message that contains `path`, whose own line breaks are then escaped as well.
fn naming(path: &Path, message: &str) -> String {
    let path = path.display().to_string();
    message.replace(&path, &one_line(&path))
}

fn one_line(text: &str) -> String {
    text.chars().map(escaped).collect()
}

fn escaped(c: char) -> String {
    if is_printable(c) { c.to_string() } else { c.escape_debug().to_string() }
}

/// Whether `c` does nothing to a terminal but appear: no control, format or unassigned character.
fn is_printable(c: char) -> bool {
    matches!(c, '\'' | '"' | '\\') || c.escape_debug().len() == 1
}
