//! The states of an acquire that removes its own file after a failure.

use super::acquire::{Acquire, Then};
#[cfg(doc)]
use super::ops::FileSystem;
use super::ops::{Confirm, Done, Lock, Unlink};

/// Waits for [`FileSystem::lock`], once more, on our newborn that must go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Retaking {
    /// What follows.
    pub then: Then,
}

impl Retaking {
    pub(super) fn on_lock(self, reply: Lock) -> Acquire {
        match reply {
            Lock::Ours | Lock::Unsupported => Acquire::Disowning(Disowning { then: self.then }),
            // A reclaimer has it, which found it old and empty, and is about to unlink it.
            Lock::Busy => Acquire::close(self.then),
            // Without the lock an unlink could hit a successor's file (P2). Cut short it refuses no
            // process, and the next acquire that gets its lock reclaims it.
            Lock::Failed => Acquire::Voiding(Voiding { then: self.then }),
        }
    }
}

/// Waits for [`FileSystem::confirm`] of our newborn that must go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Disowning {
    /// What follows.
    pub then: Then,
}

impl Disowning {
    pub(super) fn on_confirm(self, reply: Confirm) -> Acquire {
        match reply {
            Confirm::Same => Acquire::Withdrawing(Withdrawing { then: self.then }),
            Confirm::Changed => Acquire::close(self.then),
            Confirm::Failed => Acquire::Voiding(Voiding { then: self.then }),
        }
    }
}

/// Waits for [`FileSystem::unlink`] of our newborn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Withdrawing {
    /// What follows.
    pub then: Then,
}

impl Withdrawing {
    pub(super) fn on_unlink(self, reply: Unlink) -> Acquire {
        match reply {
            Unlink::Unlinked | Unlink::Absent => Acquire::close(self.then),
            Unlink::Failed => Acquire::Voiding(Voiding { then: self.then }),
        }
    }
}

/// Waits for [`FileSystem::void`] of our newborn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Voiding {
    /// What follows.
    pub then: Then,
}

impl Voiding {
    pub(super) fn on_void(self, reply: Done) -> Acquire {
        match reply {
            Done::Done | Done::Failed => Acquire::close(self.then),
        }
    }
}
