//! A query: who holds a lock, without touching it.

use std::fmt;

use crate::acquire::backoff::RetryPolicy;
use crate::error::AcquireError;
use crate::error::held::{Headline, On, Recorded, Subject};
use crate::lock::Lock;
use crate::protocol::{Assessment, Query, Refusal, Unsure, Watch, depends_on_watch};
use crate::record::Holder;
use crate::sys::LockFile;

/// Whether a lock is held, as [`Lock::status`] found it. True of some instant of the call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// There is no lock file.
    Free,
    /// Somebody holds it.
    #[non_exhaustive]
    Held {
        /// The recorded holder, if a record could be read.
        holder: Option<Holder>,
        /// Whether the recorded holder is known to hold it, and why not.
        why: Refusal,
    },
    /// The lock file is provably a dead holder's: the next acquire reclaims it.
    #[non_exhaustive]
    Stale {
        /// The recorded holder, if a record could be read.
        holder: Option<Holder>,
    },
    /// Neither can be proved from here.
    #[non_exhaustive]
    CannotTell {
        /// The recorded holder, if a record could be read.
        holder: Option<Holder>,
        /// Why not.
        why: Unsure,
    },
}

impl Status {
    /// The recorded holder, live or dead.
    pub fn holder(&self) -> Option<&Holder> {
        match self {
            Self::Free => None,
            Self::Held { holder, .. }
            | Self::Stale { holder }
            | Self::CannotTell { holder, .. } => holder.as_ref(),
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
            Self::Held { holder, why: Refusal::Holder } => {
                write!(f, "held by {}", Recorded(holder.as_ref()))
            }
            Self::Held { holder, why: Refusal::Unknown(why) } => {
                write!(f, "held; recorded: {}; {why}", Recorded(holder.as_ref()))
            }
            Self::Stale { holder } => write!(f, "stale, left by {}", Recorded(holder.as_ref())),
            Self::CannotTell { holder, why } => {
                write!(f, "unknown; recorded: {}; {why}", Recorded(holder.as_ref()))
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
        let held = |why| Headline { subject, holder, why, locked_by: &[] };
        match self.status {
            Status::Free => write!(f, "{subject} is free"),
            // Its kernel lock is seen to be taken.
            Status::Held { why: Refusal::Unknown(Unsure::CannotProbe), .. } => write!(
                f,
                "{subject} is locked; the recorded holder is {}{}, whose state cannot be checked \
                 from here",
                Recorded(holder),
                On(holder)
            ),
            Status::Held { why, .. } => held(*why).fmt(f),
            Status::Stale { .. } => {
                write!(f, "{subject} has a stale lock, left by {}", Recorded(holder))
            }
            Status::CannotTell { why: Unsure::BeingCreated, .. } => {
                write!(f, "{subject} may be locked: its lock file has no record yet")
            }
            Status::CannotTell { why, .. } => held(Refusal::Unknown(*why)).fmt(f),
        }
    }
}

impl Lock {
    /// Who holds the lock. Creates, locks, writes and removes nothing, and can neither be seen by
    /// others nor make an acquire fail. Does not wait.
    ///
    /// # Errors
    ///
    /// As [`Lock::try_acquire`], other than [`AcquireError::Held`].
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
                // Not looked at, since both replies lead to one answer: with thousands of kernel locks
                // the look takes milliseconds.
                Query::Watching(watching) if !depends_on_watch(watching.evidence) => {
                    watching.on_watch(Watch::Held)
                }
                Query::Answered(answer) => return Ok(self.answered(&file, answer)),
                // No permission lacks: a program keeps a removed file open, and its name taken.
                Query::Failed(_) if file.is_being_deleted() => {
                    let why = Unsure::Contended;
                    return Ok(Status::CannotTell { holder: None, why });
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
            Some(Assessment::Held) => Status::Held { holder, why: Refusal::Holder },
            Some(Assessment::HeldBy(why)) => Status::Held { holder, why: Refusal::Unknown(why) },
            Some(Assessment::Stale) => Status::Stale { holder },
            Some(Assessment::CannotTell(why)) => Status::CannotTell { holder, why },
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
        let held = |why| Status::Held { holder: holder.clone(), why };
        let unknown = |why| Status::CannotTell { holder: holder.clone(), why };
        for (status, words, short) in [
            (Status::Free, "the lock is free", "free"),
            (held(Refusal::Holder), "the lock is locked by pid 20211", "held by pid 20211"),
            (
                held(Refusal::Unknown(Unsure::CannotProbe)),
                "the lock is locked; the recorded holder is pid 20211, whose state",
                "held; recorded: pid 20211; the state of the recorded process",
            ),
            (
                unknown(Unsure::CannotProbe),
                "the lock may be locked by pid 20211, whose state cannot be checked",
                "unknown; recorded: pid 20211; the state of the recorded process",
            ),
            (
                unknown(Unsure::OtherMachine),
                "the lock may be locked on another machine, or was on this one under another name",
                "unknown; recorded: pid 20211; the record is of another machine, or of this one",
            ),
            (
                unknown(Unsure::BeingCreated),
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
            assert!(!certain || matches!(status, Status::Held { why: Refusal::Holder, .. }));
        }
    }
}
