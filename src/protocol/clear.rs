//! The machine of a clear: removes a lock file that is provably stale, and takes no lock itself.
//!
//! It is an acquire that starts at its open and stops where it would create, so that every step of
//! it is a step of [`Acquire`], and what is true of a reclaim is true of a clear (P2). Like the other
//! machines it is plain data, and **not covered by semantic versioning**.
//!
//! ```text
//!  START = Opening of an acquire ── absent ──► Ended(Nothing)
//!               └─► … Unlinking ─► Closing ─► Creating, which it does not do: Ended(Removed)
//!               └─► … Refused, Failed ─────────────────────────────────► Ended(Refused, Failed)
//! ```

// A new state must be decided on, not fall into `_`.
#![deny(clippy::wildcard_enum_match_arm)]

use crate::protocol::{Acquire, Blocked, FileSystem, Op, Opening, Pausing, Refusal};

/// How a clear ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cleared {
    /// There was no file.
    Nothing,
    /// A dead holder's file was unlinked.
    Removed,
    /// The file is not provably stale, and stays.
    Refused(Refusal),
    /// An operation failed.
    Failed(Op),
}

/// A clear, from its open to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Clear {
    /// At this state of an acquire; at a pause and at [`Acquire::Blocked`] the driver decides.
    At(Acquire),
    /// The end.
    Ended(Cleared),
}

/// Every answer of the driver to a clear. Each has a method of the same name as its short form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClearAnswer {
    /// [`Clear::again`].
    Again,
    /// [`Clear::give_up`].
    GiveUp,
    /// [`Clear::leave`].
    Leave,
    /// [`Clear::force`].
    Force,
}

impl Clear {
    /// Where every clear starts.
    pub const START: Self = Self::At(Acquire::Opening(Opening));

    /// Makes the one call that this state waits for, and returns the state that follows.
    ///
    /// A state that waits for no operation is returned as it is.
    #[must_use = "the state that follows is the whole result"]
    pub fn step(self, fs: &mut impl FileSystem) -> Self {
        match self {
            Self::At(state) => match (state, state.step(fs)) {
                (Acquire::Opening(_), Acquire::Pausing(Pausing::Closed(_))) => {
                    Self::Ended(Cleared::Nothing)
                }
                (_, next) => Self::at(next),
            },
            Self::Ended(_) => self,
        }
    }

    /// The driver's answer. `None` where the machine does not ask for it: at another state than the
    /// one that the answer is for.
    pub fn answer(self, answer: ClearAnswer) -> Option<Self> {
        let Self::At(state) = self else { return None };
        let is_paused = matches!(state, Acquire::Pausing(_));
        let is_blocked = matches!(state, Acquire::Blocked(_));
        match answer {
            ClearAnswer::Again => is_paused.then(|| self.again()),
            ClearAnswer::GiveUp => is_paused.then(|| self.give_up()),
            ClearAnswer::Leave => is_blocked.then(|| self.leave()),
            ClearAnswer::Force => is_blocked.then(|| self.force()),
        }
    }

    /// The driver's answer to a pause: another look.
    #[must_use = "the state that follows is the whole result"]
    pub fn again(self) -> Self {
        match self {
            Self::At(Acquire::Pausing(_)) => Self::START,
            Self::At(_) | Self::Ended(_) => self,
        }
    }

    /// The driver's answer to a pause: the tries are used up.
    #[must_use = "the state that follows is the whole result"]
    pub fn give_up(self) -> Self {
        self.answered(Pausing::give_up, Acquire::Blocked)
    }

    /// The driver's answer to a file that is not ours to take: it stays.
    #[must_use = "the state that follows is the whole result"]
    pub fn leave(self) -> Self {
        self.answered(Acquire::Pausing, Blocked::leave)
    }

    /// The driver's answer to a file that is not ours to take: it is removed, **outside of P1 and
    /// P2**, unless another process has its kernel lock. See [`Blocked::force`].
    #[must_use = "the state that follows is the whole result"]
    pub fn force(self) -> Self {
        self.answered(Acquire::Pausing, Blocked::force)
    }

    fn answered(
        self,
        to_pause: impl FnOnce(Pausing) -> Acquire,
        to_standing: impl FnOnce(Blocked) -> Acquire,
    ) -> Self {
        match self {
            Self::At(Acquire::Pausing(pause)) => Self::at(to_pause(pause)),
            Self::At(Acquire::Blocked(blocked)) => Self::at(to_standing(blocked)),
            Self::At(_) | Self::Ended(_) => self,
        }
    }

    fn at(state: Acquire) -> Self {
        match state {
            // The one way here is an unlink: it neither pauses into START nor waits.
            Acquire::Creating(_) => Self::Ended(Cleared::Removed),
            Acquire::Refused(refusal) => Self::Ended(Cleared::Refused(refusal)),
            Acquire::Failed(op) => Self::Ended(Cleared::Failed(op)),
            Acquire::LockingCreated(_)
            | Acquire::Recording(_)
            | Acquire::ConfirmingCreated(_)
            | Acquire::Opening(_)
            | Acquire::CheckingAge(_)
            | Acquire::ReadingUnlocked(_)
            | Acquire::LockingExisting(_)
            | Acquire::Reading(_)
            | Acquire::Judging(_)
            | Acquire::Confirming(_)
            | Acquire::Unlinking(_)
            | Acquire::Blocked(_)
            | Acquire::Revalidating(_)
            | Acquire::Subscribing(_)
            | Acquire::Rechecking(_)
            | Acquire::Retrying(_)
            | Acquire::Listening(_)
            | Acquire::CleanupLocking(_)
            | Acquire::CleanupVerifying(_)
            | Acquire::CleanupUnlinking(_)
            | Acquire::Truncating(_)
            | Acquire::Closing(_)
            | Acquire::Pausing(_)
            | Acquire::Held(_) => Self::At(state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn driver_answers_only_pauses_and_existing_files() {
        let ends = [Cleared::Nothing, Cleared::Removed, Cleared::Failed(Op::Open)];
        for state in ends.map(Clear::Ended).into_iter().chain([Clear::START]) {
            let answered = [state.again(), state.give_up(), state.leave(), state.force()];
            assert_eq!(answered, [state; 4]);
        }
    }
}
