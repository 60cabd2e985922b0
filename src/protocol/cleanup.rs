//! The states of an acquire that removes its own file after a failure.

use super::acquire::{Acquire, Then};
#[cfg(doc)]
use super::ops::FileSystem;
use super::ops::{Confirm, Done, LockReply, Unlink};

/// Waits for [`FileSystem::lock`], once more, on our new file that must go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CleanupLocking {
    /// What follows.
    pub then: Then,
}

impl CleanupLocking {
    pub(super) fn on_lock(self, reply: LockReply) -> Acquire {
        match reply {
            LockReply::Ours | LockReply::Unsupported => {
                Acquire::CleanupVerifying(CleanupVerifying { then: self.then })
            }
            // A reclaimer has it, which found it old and empty, and is about to unlink it.
            LockReply::Busy => Acquire::close(self.then),
            // Without the lock an unlink could hit a successor's file (P2). Cut short it refuses no
            // process, and the next acquire that gets its lock reclaims it.
            LockReply::Failed => Acquire::Truncating(Truncating { then: self.then }),
        }
    }
}

/// Waits for [`FileSystem::confirm`] of our new file that must go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CleanupVerifying {
    /// What follows.
    pub then: Then,
}

impl CleanupVerifying {
    pub(super) fn on_confirm(self, reply: Confirm) -> Acquire {
        match reply {
            Confirm::Same => Acquire::CleanupUnlinking(CleanupUnlinking { then: self.then }),
            Confirm::Changed => Acquire::close(self.then),
            Confirm::Failed => Acquire::Truncating(Truncating { then: self.then }),
        }
    }
}

/// Waits for [`FileSystem::unlink`] of our new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CleanupUnlinking {
    /// What follows.
    pub then: Then,
}

impl CleanupUnlinking {
    pub(super) fn on_unlink(self, reply: Unlink) -> Acquire {
        match reply {
            Unlink::Unlinked | Unlink::Absent => Acquire::close(self.then),
            Unlink::Failed => Acquire::Truncating(Truncating { then: self.then }),
        }
    }
}

/// Waits for [`FileSystem::truncate`] of our new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Truncating {
    /// What follows.
    pub then: Then,
}

impl Truncating {
    pub(super) fn on_truncate(self, reply: Done) -> Acquire {
        match reply {
            Done::Done | Done::Failed => Acquire::close(self.then),
        }
    }
}
