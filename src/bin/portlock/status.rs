//! `portlock status`: who holds a lock, without touching it.

use std::path::PathBuf;

use clap::Args;
use portlock::{AcquireError, Holder, PlaceError, Refusal, Status, Unsure};
use serde_json::{Value, json};

use crate::{Place, USAGE, answer, is_printable, naming, say, visible};

/// Tell who holds the lock of a port
///
/// Changes nothing: it creates, locks, writes and removes nothing, and fails nobody's attempt.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct Query {
    /// Print one JSON object: state, port, path, holder, why, message
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    place: Place,
}

const FREE: u8 = 0;
const STALE: u8 = 3;
const CANNOT_TELL: u8 = 4;
const OUTPUT_LOST: u8 = 74;
const HELD: u8 = 75;

const EXIT_STATUS: &str = "\
Exit status:
   0  free: there is no lock file
   3  stale: the lock file is provably a dead holder's, and the next run takes it over
   4  cannot tell: neither can be proved from here, or the lock file cannot be read
  64  an argument is wrong
  74  the answer cannot be written
  75  held";

impl Query {
    pub(crate) fn run(self) -> u8 {
        let port = self.place.port;
        let found = match self.place.lock() {
            Ok(None) => Found {
                why: Some("any-port"),
                ..Found::new("free", FREE, "port 0 means any free port and is never locked".into())
            },
            Ok(Some(lock)) => Found {
                path: Some(lock.path().to_owned()),
                ..match lock.status() {
                    Ok(status) => Found::status(&status, port),
                    Err(error) => Found::unknown(
                        port,
                        why_not(&error),
                        &naming(lock.path(), &error.to_string()),
                    ),
                }
            },
            Err(error @ PlaceError::NoHome) => Found::unknown(port, "no-home", &error.to_string()),
            Err(error) => {
                say(&error.to_string());
                return USAGE;
            }
        };
        let text = if self.json { found.json(port) } else { found.text() };
        if answer(&text) {
            return found.exit;
        }
        say("cannot write the answer");
        OUTPUT_LOST
    }
}

/// What there is to say.
struct Found {
    state: &'static str,
    exit: u8,
    path: Option<PathBuf>,
    holder: Option<Holder>,
    why: Option<&'static str>,
    message: String,
}

impl Found {
    fn new(state: &'static str, exit: u8, message: String) -> Self {
        Self { state, exit, path: None, holder: None, why: None, message }
    }

    fn status(status: &Status, port: u16) -> Self {
        let (state, exit, why) = match status {
            Status::Free => ("free", FREE, None),
            Status::Held { why: Refusal::Holder, .. } => ("held", HELD, None),
            Status::Held { why: Refusal::Unknown(why), .. } => ("held", HELD, Some(word(*why))),
            Status::Stale { .. } => ("stale", STALE, None),
            Status::CannotTell { why, .. } => ("unknown", CANNOT_TELL, Some(word(*why))),
            _ => ("unknown", CANNOT_TELL, None),
        };
        let holder = status.holder().cloned();
        Self { holder, why, ..Self::new(state, exit, status.describe(Some(port))) }
    }

    fn unknown(port: u16, why: &'static str, error: &str) -> Self {
        let message = format!("cannot tell whether port {port} is locked: {error}");
        Self { why: Some(why), ..Self::new("unknown", CANNOT_TELL, message) }
    }

    fn text(&self) -> String {
        let path = match &self.path {
            Some(path) => naming(path, &format!("  lock file: {}\n", path.display())),
            None => String::new(),
        };
        visible(&format!("{}\n{path}", self.message))
    }

    fn json(&self, port: u16) -> String {
        let object = json!({
            "state": self.state,
            "port": port,
            "path": self.path.as_ref().map(|path| path.to_string_lossy()),
            "holder": self.holder.as_ref().map(recorded),
            "why": self.why,
            "message": self.message,
        });
        // What serde_json leaves as it is and a terminal may not: all of it stands in strings.
        let escaped = |c: char| {
            let units = |c: char| c.encode_utf16(&mut [0; 2]).to_vec();
            let escape = |unit: &u16| format!("\\u{unit:04x}");
            if is_printable(c) { c.to_string() } else { units(c).iter().map(escape).collect() }
        };
        object.to_string().chars().map(escaped).chain(["\n".to_owned()]).collect()
    }
}

/// The keys of a record that are for people, as it has them; `null` for those that it has not.
fn recorded(holder: &Holder) -> Value {
    let record: Value = serde_json::from_slice(&holder.to_bytes()).unwrap_or_default();
    let keys = ["pid", "port", "startedAt", "command", "host"];
    keys.into_iter().map(|key| (key.to_owned(), record[key].clone())).collect()
}

/// The words are for programs, and never change.
fn word(why: Unsure) -> &'static str {
    match why {
        Unsure::BeingCreated => "being-created",
        Unsure::RecordedGone => "recorded-gone",
        Unsure::CannotProbe => "cannot-probe",
        Unsure::OtherMachine => "other-machine",
        Unsure::OtherNamespace => "other-namespace",
        Unsure::NoKernelLocks => "no-kernel-locks",
        Unsure::Contended => "contended",
        Unsure::CannotWatch => "cannot-watch",
    }
}

fn why_not(error: &AcquireError) -> &'static str {
    match error {
        AcquireError::NotALockFile { .. } => "not-a-lock-file",
        AcquireError::Failed { source, .. }
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            "not-permitted"
        }
        _ => "failed",
    }
}
