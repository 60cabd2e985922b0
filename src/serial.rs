//! `serde::Serialize` for what a query found, in the shape of the command's `--json`.
//!
//! Keys are never missing: what does not apply or is not known is null.

use std::error::Error;
use std::io::ErrorKind;

use serde_core::ser::{Serialize, SerializeStruct, Serializer};

use crate::error::AcquireError;
use crate::inspect::list::LockEntry;
use crate::inspect::status::Status;
use crate::protocol::Refusal;
use crate::record::{Holder, time_text};

/// With feature `serde`: `pid`, `port`, `startedAt`, `command`, `host`, `note`. That is what the
/// record says to people; [`to_bytes`](Holder::to_bytes) is the record itself.
impl Serialize for Holder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut holder = serializer.serialize_struct("Holder", 6)?;
        holder.serialize_field("pid", &self.pid)?;
        holder.serialize_field("port", &self.port)?;
        holder.serialize_field("startedAt", &self.started_at.and_then(time_text))?;
        holder.serialize_field("command", &self.command)?;
        holder.serialize_field("host", &self.host)?;
        holder.serialize_field("note", &self.note)?;
        holder.end()
    }
}

/// With feature `serde`: `state`, `holder`, `reason`, `message`. The lock itself is not known to a
/// status; a [`LockEntry`] has its keys as well.
impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut status = serializer.serialize_struct("Status", 4)?;
        status.serialize_field("state", state(self))?;
        status.serialize_field("holder", &self.holder())?;
        status.serialize_field("reason", &reason(self))?;
        status.serialize_field("message", &self.to_string())?;
        status.end()
    }
}

/// With feature `serde`: `state`, `port`, `name`, `path`, `holder`, `reason`, `message`, as an object of
/// `portlock list --json`. A path that is not UTF-8 has replacement characters.
impl Serialize for LockEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { lock, status } = self;
        let (state, holder, reason, message) = match status {
            Ok(status) => (state(status), status.holder(), reason(status), status.describe(lock)),
            Err(error) => {
                let message =
                    format!("cannot tell whether {} is locked: {}", lock.subject(), chain(error));
                ("unknown", None, Some(reason_of(error)), message)
            }
        };
        let mut listed = serializer.serialize_struct("Listed", 7)?;
        listed.serialize_field("state", state)?;
        listed.serialize_field("port", &lock.port())?;
        listed.serialize_field("name", &lock.name())?;
        listed.serialize_field("path", &lock.path().to_string_lossy())?;
        listed.serialize_field("holder", &holder)?;
        listed.serialize_field("reason", &reason)?;
        listed.serialize_field("message", &message)?;
        listed.end()
    }
}

fn state(status: &Status) -> &'static str {
    match status {
        Status::Free => "free",
        Status::Held { .. } => "held",
        Status::Stale { .. } => "stale",
        Status::Unknown { .. } => "unknown",
    }
}

fn reason(status: &Status) -> Option<&'static str> {
    match status {
        Status::Held { reason: Refusal::Unknown(reason), .. } | Status::Unknown { reason, .. } => {
            Some(reason.as_str())
        }
        Status::Free | Status::Held { reason: Refusal::Holder, .. } | Status::Stale { .. } => None,
    }
}

fn reason_of(error: &AcquireError) -> &'static str {
    match error {
        AcquireError::NotALockFile { .. } => "not-a-lock-file",
        AcquireError::Io { source, .. } | AcquireError::Directory { source, .. }
            if source.kind() == ErrorKind::PermissionDenied =>
        {
            "not-permitted"
        }
        AcquireError::Io { .. }
        | AcquireError::Directory { .. }
        | AcquireError::Held(_)
        | AcquireError::Timeout { .. }
        | AcquireError::Cancelled { .. }
        | AcquireError::LockDir(_) => "failed",
    }
}

/// An error and its causes.
fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{LockDir, UnknownReason};

    #[test]
    fn holder_serializes_the_records_readable_keys() {
        let mut holder = Holder::parse(
            br#"{"pid":7,"port":5338,"startedAt":"2026-11-23T02:09:04.848Z","command":"node","host":"h","note":"n","boot":"b"}"#,
        )
        .expect("a record");
        let expected = json!({
            "pid": 7, "port": 5338, "startedAt": "2026-11-23T02:09:04.848Z", "command": "node",
            "host": "h", "note": "n",
        });
        assert_eq!(serde_json::to_value(&holder).expect("JSON"), expected);
        holder = Holder::new(7);
        let expected = json!({
            "pid": 7, "port": null, "startedAt": null, "command": null, "host": null, "note": null,
        });
        assert_eq!(serde_json::to_value(&holder).expect("JSON"), expected);
    }

    #[test]
    fn each_status_has_its_state_and_reason() {
        let holder = Some(Holder::new(7));
        for (status, state, reason) in [
            (Status::Free, "free", None),
            (Status::Held { holder: holder.clone(), reason: Refusal::Holder }, "held", None),
            (
                Status::Held {
                    holder: None,
                    reason: Refusal::Unknown(UnknownReason::BeingCreated),
                },
                "held",
                Some("being-created"),
            ),
            (Status::Stale { holder: holder.clone() }, "stale", None),
            (
                Status::Unknown { holder, reason: UnknownReason::OtherMachine },
                "unknown",
                Some("other-machine"),
            ),
        ] {
            let found = serde_json::to_value(&status).expect("JSON");
            assert_eq!((&found["state"], &found["reason"]), (&json!(state), &json!(reason)));
            assert_eq!(found["holder"]["pid"].as_u64(), status.holder().map(|_| 7));
            assert_eq!(found["message"], status.to_string());
        }
    }

    #[test]
    fn error_has_its_reason_and_its_causes() {
        let io = |kind: ErrorKind| AcquireError::Io {
            op: crate::protocol::Op::Open,
            path: "/h/x".into(),
            owner: None,
            source: kind.into(),
        };
        assert_eq!(reason_of(&io(ErrorKind::PermissionDenied)), "not-permitted");
        assert_eq!(reason_of(&io(ErrorKind::StorageFull)), "failed");
        let error = io(ErrorKind::StorageFull);
        let cause = std::io::Error::from(ErrorKind::StorageFull);
        assert_eq!(chain(&error), format!("{error}: {cause}"));
    }

    #[test]
    fn list_entries_name_lock_or_error_reason() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = LockDir::at(home.path());
        let guard = dir.port(5338).expect("a port").note("n").try_acquire().expect("free");
        let path = dir.name("x").expect("a name").path().to_owned();
        std::fs::DirBuilder::new().create(&path).expect("makes the directory");
        let found = serde_json::to_value(dir.list().expect("lists")).expect("JSON");
        assert_eq!((&found[0]["port"], &found[0]["name"]), (&json!(5338), &json!(null)));
        assert_eq!(found[0]["holder"]["note"], "n");
        assert_eq!(found[0]["path"], guard.path().to_str().expect("UTF-8"));
        assert_eq!((&found[1]["port"], &found[1]["name"]), (&json!(null), &json!("x")));
        assert_eq!(
            (&found[1]["state"], &found[1]["reason"]),
            (&json!("unknown"), &json!("not-a-lock-file"))
        );
    }
}
