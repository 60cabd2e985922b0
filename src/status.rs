//! A query: who holds a lock, without touching it.

use std::fmt;

use crate::backoff::RetryPolicy;
use crate::error::AcquireError;
use crate::held::{Headline, Recorded, Subject};
use crate::judge::{Assessment, Unsure, depends_on_watch};
use crate::lock::Lock;
use crate::os::{self, LockFile};
use crate::protocol::{Refusal, Watch};
use crate::query::Query;
use crate::record::Holder;

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

struct Described<'a> {
    status: &'a Status,
    subject: &'a Subject,
}

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (subject, holder) = (self.subject, self.status.holder());
        let held = |why| Headline { subject, holder, why, open_in: &[] };
        match self.status {
            Status::Free => write!(f, "{subject} is free"),
            Status::Held { why, .. } => held(*why).fmt(f),
            Status::Stale { .. } => {
                write!(f, "{subject} has a stale lock, left by {}", Recorded(holder))
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
        let file = LockFile::new(self.shared_path(), os::process::me().clone());
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
