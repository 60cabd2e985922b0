//! What there is to say of a lock: for people, and as JSON for programs.

use std::path::PathBuf;

use portlock::{AcquireError, Holder, Lock, Refusal, Status};
use serde_json::{Value, json};

use crate::advice::in_one_line;
use crate::output::{naming, visible};
use crate::place::Target;
use crate::status_code::{CANNOT_TELL, HELD, STALE};

/// What was found out about a lock.
pub(crate) struct Found {
    pub(crate) state: &'static str,
    /// The exit status that says the same.
    pub(crate) exit: u8,
    pub(crate) target: Target,
    pub(crate) path: Option<PathBuf>,
    pub(crate) holder: Option<Holder>,
    /// Why it is not known for certain; one of the words of `UnknownReason::as_str` and [`why_not`].
    pub(crate) reason: Option<&'static str>,
    pub(crate) message: String,
}

impl Found {
    /// The answer of a query about `lock`.
    pub(crate) fn of(lock: &Lock, answer: &Result<Status, AcquireError>) -> Self {
        let found = match answer {
            Ok(status) => Self::status(lock, status),
            Err(error) => Self::unknown(
                Target::of(lock),
                why_not(error),
                &naming(lock.path(), &in_one_line(error)),
            ),
        };
        Self { path: Some(lock.path().to_owned()), ..found }
    }

    /// Port 0, which is never locked.
    pub(crate) fn any_port() -> Self {
        let message = "port 0 means any free port and is never locked".to_owned();
        Self { reason: Some("any-port"), ..Self::new("free", 0, Target::Port(0), message) }
    }

    /// Nothing was found out, for the reason that `reason` and `error` give.
    pub(crate) fn unknown(target: Target, reason: &'static str, error: &str) -> Self {
        let message = format!("cannot tell whether {target} is locked: {error}");
        Self { reason: Some(reason), ..Self::new("unknown", CANNOT_TELL, target, message) }
    }

    fn status(lock: &Lock, status: &Status) -> Self {
        let (state, exit, reason) = match status {
            Status::Free => ("free", 0, None),
            Status::Held { reason: Refusal::Holder, .. } => ("held", HELD, None),
            Status::Held { reason: Refusal::Unknown(reason), .. } => {
                ("held", HELD, Some(reason.as_str()))
            }
            Status::Stale { .. } => ("stale", STALE, None),
            Status::Unknown { reason, .. } => ("unknown", CANNOT_TELL, Some(reason.as_str())),
            _ => ("unknown", CANNOT_TELL, None),
        };
        let holder = status.holder().cloned();
        Self { holder, reason, ..Self::new(state, exit, Target::of(lock), status.describe(lock)) }
    }

    fn new(state: &'static str, exit: u8, target: Target, message: String) -> Self {
        Self { state, exit, target, path: None, holder: None, reason: None, message }
    }

    /// A sentence, and the path in a second line.
    pub(crate) fn text(&self) -> String {
        let path = match &self.path {
            Some(path) => naming(path, &format!("  lock file: {}\n", path.display())),
            None => String::new(),
        };
        visible(&format!("{}\n{path}", self.message))
    }

    /// The object whose keys `status --help` lists.
    pub(crate) fn json(&self) -> Value {
        json!({
            "state": self.state,
            "port": self.target.port(),
            "name": self.target.name(),
            "path": self.path.as_ref().map(|path| path.to_string_lossy()),
            "holder": self.holder.as_ref().map(recorded),
            "reason": self.reason,
            "message": self.message,
        })
    }
}

/// The keys of a record that are for people, as it has them; `null` for those that it has not.
pub(crate) fn recorded(holder: &Holder) -> Value {
    let record: Value = serde_json::from_slice(&holder.to_bytes()).unwrap_or_default();
    let keys = ["pid", "port", "startedAt", "command", "host", "note"];
    keys.into_iter().map(|key| (key.to_owned(), record[key].clone())).collect()
}

/// Says of a file that only its name made look like a lock's that it was left alone. `None` for all
/// others: a port's own file is a matter of that port.
pub(crate) fn left_alone(lock: &Lock, error: &AcquireError) -> Option<String> {
    let is_other = matches!(error, AcquireError::NotALockFile { .. }) && lock.port().is_none();
    is_other.then(|| naming(lock.path(), &format!("left alone: {error}")))
}

fn why_not(error: &AcquireError) -> &'static str {
    match error {
        AcquireError::NotALockFile { .. } => "not-a-lock-file",
        AcquireError::Io { source, .. } | AcquireError::Directory { source, .. }
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            "not-permitted"
        }
        _ => "failed",
    }
}
