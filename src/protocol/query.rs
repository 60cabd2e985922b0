//! The machine of a query: which process holds the lock, read-only.
//!
//! It creates, locks, writes and removes nothing, so it leaves the directory as it is and cannot
//! turn an acquire into a refusal. Like the other machines it is plain data, and **not covered by
//! semantic versioning**.
//!
//! ```text
//!  Opening ─► CheckingAge ─► Reading ─► Judging ─► Watching ─► Confirming ─► Closing ─► Answered
//!     │ absent                  │ no record  (probe)    ▲          │ changed
//!     ▼                         └───────────────────────┘          └─► Closing ─► Pausing
//!  Answered(None)
//! ```

// A new reply or state must be decided on, not fall into `_`.
#![deny(clippy::wildcard_enum_match_arm)]

use crate::protocol::{
    Age, Assessment, Confirm, Dated, Evidence, FileSystem, Op, OpenReply, PauseAnswer, Probed,
    ReadReply, UnknownReason, Watch, assess,
};

/// A query, from its open to its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Query {
    /// Waits for the open of the path.
    Opening(QueryOpening),
    /// Waits for its age.
    CheckingAge(QueryCheckingAge),
    /// Waits for its content.
    Reading(QueryReading),
    /// Waits for the probe of the recorded process.
    Judging(QueryJudging),
    /// Waits for a look at the kernel lock.
    Watching(QueryWatching),
    /// Assessed: does the path still name it?
    Confirming(QueryConfirming),
    /// Waits for the close of the open file.
    Closing(QueryClosing),
    /// Waits for the driver: again, or give up?
    Pausing(QueryPausing),
    /// The answer: `None` is free.
    Answered(Option<Assessment>),
    /// An operation failed.
    Failed(Op),
}

impl Query {
    /// Where every query starts.
    pub const START: Self = Self::Opening(QueryOpening);

    /// Makes the one call that this state waits for, and returns the state that follows.
    ///
    /// A state that waits for no operation is returned as it is.
    #[must_use = "the state that follows is the whole result"]
    pub fn step(self, fs: &mut impl FileSystem) -> Self {
        match self {
            Self::Opening(state) => state.on_open(fs.open()),
            Self::CheckingAge(state) => state.on_age(fs.age()),
            Self::Reading(state) => state.on_read(fs.read()),
            Self::Judging(state) => state.on_probe(fs.probe()),
            Self::Watching(state) => state.on_watch(fs.query_lock()),
            Self::Confirming(state) => state.on_confirm(fs.confirm()),
            Self::Closing(state) => {
                fs.close_without_unlock();
                state.on_close()
            }
            Self::Pausing(_) | Self::Answered(_) | Self::Failed(_) => self,
        }
    }

    fn close(then: QueryThen) -> Self {
        Self::Closing(QueryClosing { then })
    }
}

/// What follows when the open file has been closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueryThen {
    /// Answer.
    Answer(Assessment),
    /// Look again, because the file was replaced while it was looked at.
    Pause,
    /// Report the operation that failed.
    Fail(Op),
}

/// Waits for [`FileSystem::open`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryOpening;

impl QueryOpening {
    fn on_open(self, reply: OpenReply) -> Query {
        match reply {
            OpenReply::Opened => Query::CheckingAge(QueryCheckingAge),
            OpenReply::Absent => Query::Answered(None),
            OpenReply::Denied => Query::Pausing(QueryPausing::Denied),
            OpenReply::Failed => Query::Failed(Op::Open),
        }
    }
}

/// Waits for [`FileSystem::age`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryCheckingAge;

impl QueryCheckingAge {
    fn on_age(self, reply: Dated) -> Query {
        match reply {
            Dated::Known(age) => Query::Reading(QueryReading { age }),
            Dated::Failed => Query::close(QueryThen::Fail(Op::Age)),
        }
    }
}

/// Waits for [`FileSystem::read`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryReading {
    /// Taken before the content was read.
    pub age: Age,
}

impl QueryReading {
    fn on_read(self, reply: ReadReply) -> Query {
        match reply {
            ReadReply::Record => Query::Judging(QueryJudging),
            ReadReply::Empty => {
                Query::Watching(QueryWatching { evidence: Evidence::Empty(self.age) })
            }
            ReadReply::Unreadable => {
                Query::Watching(QueryWatching { evidence: Evidence::Unreadable })
            }
            ReadReply::Foreign | ReadReply::Failed => Query::close(QueryThen::Fail(Op::Read)),
        }
    }
}

/// Waits for [`FileSystem::probe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryJudging;

impl QueryJudging {
    fn on_probe(self, reply: Probed) -> Query {
        match reply {
            Probed::Known(author) => {
                Query::Watching(QueryWatching { evidence: Evidence::Record(author) })
            }
            Probed::Failed => Query::close(QueryThen::Fail(Op::Probe)),
        }
    }
}

/// Waits for [`FileSystem::query_lock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryWatching {
    /// What was found out about the file.
    pub evidence: Evidence,
}

impl QueryWatching {
    /// Crate-wide for a driver that need not look, because the answer does not depend on it.
    pub(crate) fn on_watch(self, reply: Watch) -> Query {
        Query::Confirming(QueryConfirming { assessment: assess(reply, self.evidence) })
    }
}

/// Waits for [`FileSystem::confirm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryConfirming {
    /// The answer, if the path still names the file.
    pub assessment: Assessment,
}

impl QueryConfirming {
    fn on_confirm(self, reply: Confirm) -> Query {
        match reply {
            Confirm::Same => Query::close(QueryThen::Answer(self.assessment)),
            Confirm::Changed => Query::close(QueryThen::Pause),
            Confirm::Failed => Query::close(QueryThen::Fail(Op::Confirm)),
        }
    }
}

/// Waits for [`FileSystem::close_without_unlock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryClosing {
    /// What follows.
    pub then: QueryThen,
}

impl QueryClosing {
    fn on_close(self) -> Query {
        match self.then {
            QueryThen::Answer(assessment) => Query::Answered(Some(assessment)),
            QueryThen::Pause => Query::Pausing(QueryPausing::Replaced),
            QueryThen::Fail(op) => Query::Failed(op),
        }
    }
}

/// Waits for the driver, which may sleep before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueryPausing {
    /// The file was replaced while it was looked at.
    Replaced,
    /// Access was denied, which on Windows passes when a name is being deleted.
    Denied,
}

impl QueryPausing {
    /// The driver's answer.
    #[must_use = "the state that follows is the whole result"]
    pub fn answer(self, answer: PauseAnswer) -> Query {
        match answer {
            PauseAnswer::Again => self.again(),
            PauseAnswer::GiveUp => self.give_up(),
        }
    }

    /// Another look.
    #[must_use = "the state that follows is the whole result"]
    pub fn again(self) -> Query {
        Query::START
    }

    /// The tries are used up.
    #[must_use = "the state that follows is the whole result"]
    pub fn give_up(self) -> Query {
        match self {
            Self::Replaced => Query::Answered(Some(Assessment::Unknown(UnknownReason::Contended))),
            Self::Denied => Query::Failed(Op::Open),
        }
    }
}
