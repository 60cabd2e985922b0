//! A query: which process holds a lock, read-only.

use std::fmt;

use crate::acquire::backoff::RetryPolicy;
use crate::error::AcquireError;
use crate::error::held::{Headline, On, Recorded};
use crate::lock::Lock;
use crate::protocol::{Assessment, Query, Refusal, UnknownReason, Watch, depends_on_watch};
use crate::record::Holder;
use crate::subject::Subject;
use crate::sys::LockFile;

/// Whether a lock is held, as [`Lock::status`] found it. True of some instant of the call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// There is no lock file.
    Free,
    /// A process holds it.
    #[non_exhaustive]
    Held {
        /// The recorded holder, if a record could be read.
        holder: Option<Holder>,
        /// Whether the recorded holder is known to hold it, and why not.
        reason: Refusal,
    },
    /// The lock file is provably a dead holder's: the next acquire reclaims it.
    #[non_exhaustive]
    Stale {
        /// The recorded holder, if a record could be read.
        holder: Option<Holder>,
    },
    /// Neither can be proved from here.
    #[non_exhaustive]
    Unknown {
        /// The recorded holder, if a record could be read.
        holder: Option<Holder>,
        /// Why not.
        reason: UnknownReason,
    },
}

impl Status {
    /// The recorded holder, live or dead.
    pub fn holder(&self) -> Option<&Holder> {
        match self {
            Self::Free => None,
            Self::Held { holder, .. } | Self::Stale { holder } | Self::Unknown { holder, .. } => {
                holder.as_ref()
            }
        }
    }

    /// A sentence for people: "port 5338 is locked by pid 20211 (…)". `lock` is the one asked.
    pub fn describe(&self, lock: &Lock) -> String {
        Described { status: self, subject: lock.subject() }.to_string()
    }
}

impl fmt::Display for Status {
    /// "held by pid 20211 (node, since 2026-11-23 02:09:04 UTC)": [`describe`](Self::describe) names
    /// the lock as well.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("free"),
            Self::Held { holder, reason: Refusal::Holder } => {
                write!(f, "held by {}", Recorded(holder.as_ref()))
            }
            Self::Held { holder, reason: Refusal::Unknown(reason) } => {
                write!(f, "held; recorded: {}; {reason}", Recorded(holder.as_ref()))
            }
            Self::Stale { holder } => write!(f, "stale, left by {}", Recorded(holder.as_ref())),
            Self::Unknown { holder, reason } => {
                write!(f, "unknown; recorded: {}; {reason}", Recorded(holder.as_ref()))
            }
        }
    }
}

struct Described<'a> {
    status: &'a Status,
    subject: &'a Subject,
}

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (subject, holder) = (self.subject, self.status.holder());
        let held = |reason| Headline { subject, holder, reason, locked_by: &[] };
        match self.status {
            Status::Free => write!(f, "{subject} is free"),
            // Its kernel lock is seen to be taken.
            Status::Held { reason: Refusal::Unknown(UnknownReason::CannotProbe), .. } => write!(
                f,
                "{subject} is locked; the recorded holder is {}{}, whose state cannot be checked \
                 from here",
                Recorded(holder),
                On(holder)
            ),
            Status::Held { reason, .. } => held(*reason).fmt(f),
            Status::Stale { .. } => {
                write!(f, "{subject} has a stale lock, left by {}", Recorded(holder))
            }
            Status::Unknown { reason: UnknownReason::BeingCreated, .. } => {
                write!(f, "{subject} may be locked: its lock file has no record yet")
            }
            Status::Unknown { reason, .. } => held(Refusal::Unknown(*reason)).fmt(f),
        }
    }
}

impl Lock {
    /// Which process holds the lock. Read-only: other processes do not see it, and no acquire fails
    /// because of it. Does not wait.
    ///
    /// # Errors
    ///
    /// Same as [`Lock::try_acquire`], except [`AcquireError::Held`].
    pub fn status(&self) -> Result<Status, AcquireError> {
        let file = LockFile::to_ask(self.shared_path());
        self.finished(file, Query::START)
    }

    /// The machine of a query, from `state` to its end.
    pub(crate) fn finished(
        &self,
        mut file: LockFile,
        mut state: Query,
    ) -> Result<Status, AcquireError> {
        let mut retries = RetryPolicy::new(None);
        loop {
            state = match state {
                Query::Pausing(pause) => {
                    if retries.slept() {
                        pause.again()
                    } else {
                        pause.give_up()
                    }
                }
                // Both replies lead to one answer, and with thousands of kernel locks the call takes
                // milliseconds.
                Query::Watching(watching) if !depends_on_watch(watching.evidence) => {
                    watching.on_watch(Watch::Held)
                }
                Query::Answered(answer) => return Ok(self.answered(&file, answer)),
                // Not a permission error: a program keeps a removed file open, and its name taken.
                Query::Failed(_) if file.is_being_deleted() => {
                    let reason = UnknownReason::Contended;
                    return Ok(Status::Unknown { holder: None, reason });
                }
                Query::Failed(op) => return Err(self.failed(file, op)),
                unfinished => unfinished.step(&mut file),
            };
        }
    }

    fn answered(&self, file: &LockFile, answer: Option<Assessment>) -> Status {
        let holder = file.seen().cloned();
        match answer {
            None => Status::Free,
            Some(Assessment::Held) => Status::Held { holder, reason: Refusal::Holder },
            Some(Assessment::HeldBy(reason)) => {
                Status::Held { holder, reason: Refusal::Unknown(reason) }
            }
            Some(Assessment::Stale) => Status::Stale { holder },
            Some(Assessment::Unknown(reason)) => Status::Unknown { holder, reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_claims_no_more_than_it_knows() {
        let lock = Lock::at("/h/x.lock");
        let holder = Some(Holder::new(20211));
        let held = |reason| Status::Held { holder: holder.clone(), reason };
        let unknown = |reason| Status::Unknown { holder: holder.clone(), reason };
        for (status, words, short) in [
            (Status::Free, "the lock is free", "free"),
            (held(Refusal::Holder), "the lock is locked by pid 20211", "held by pid 20211"),
            (
                held(Refusal::Unknown(UnknownReason::CannotProbe)),
                "the lock is locked; the recorded holder is pid 20211, whose state",
                "held; recorded: pid 20211; the state of the recorded process",
            ),
            (
                unknown(UnknownReason::CannotProbe),
                "the lock may be locked by pid 20211, whose state cannot be checked",
                "unknown; recorded: pid 20211; the state of the recorded process",
            ),
            (
                unknown(UnknownReason::OtherMachine),
                "the lock may be locked on another machine, or was on this one under another name",
                "unknown; recorded: pid 20211; the record is of another machine, or of this one",
            ),
            (
                unknown(UnknownReason::BeingCreated),
                "the lock may be locked: its lock file has no record yet",
                "unknown; recorded: pid 20211; the lock file has no record yet",
            ),
            (
                Status::Stale { holder: holder.clone() },
                "the lock has a stale lock, left by pid 20211",
                "stale, left by pid 20211",
            ),
        ] {
            let described = status.describe(&lock);
            assert!(described.starts_with(words), "{described}");
            assert!(status.to_string().starts_with(short), "{status}");
            let certain = described.contains("is locked by");
            assert!(!certain || matches!(status, Status::Held { reason: Refusal::Holder, .. }));
        }
    }
}
