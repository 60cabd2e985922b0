//! The states of an acquire that waits at a holder's file.

use super::acquire::{Acquire, Claim, Confirming, Reading, Refusal, Then};
use super::judge::{Age, KernelLock, UnknownReason};
#[cfg(doc)]
use super::ops::FileSystem;
use super::ops::{Confirm, Listen, LockReply, Op};

/// What is to be said of a file that is not ours to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Disposition {
    /// Refuse.
    Final(Refusal),
    /// Try again, and refuse for this reason when the tries are used up.
    NotFinal(UnknownReason),
}

/// Waits for the driver. The file is open, and no call is made on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blocked {
    /// What trying the lock said.
    pub lock: KernelLock,
    /// What is to be said of the file.
    pub disposition: Disposition,
}

/// Every answer of the driver to [`Blocked`]. Each has a method of `Blocked` as its short form; the
/// model goes through the enum, so that an answer it does not know does not compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockedAnswer {
    /// [`Blocked::leave`].
    Leave,
    /// [`Blocked::listen`].
    Listen,
    /// [`Blocked::force`].
    Force,
}

impl Blocked {
    /// The driver's answer.
    #[must_use = "the state that follows is the whole result"]
    pub fn answer(self, answer: BlockedAnswer) -> Acquire {
        match answer {
            BlockedAnswer::Leave => self.leave(),
            BlockedAnswer::Listen => self.listen(),
            BlockedAnswer::Force => self.force(),
        }
    }

    /// Closes the file, and then refuses or tries again.
    #[must_use = "the state that follows is the whole result"]
    pub fn leave(self) -> Acquire {
        Acquire::close(match self.disposition {
            Disposition::Final(refusal) => Then::Refuse(refusal),
            Disposition::NotFinal(unsure) => Then::Pause(unsure),
        })
    }

    /// Waits, by events of the file, until the lock may be free or the driver's time is over. Leaves
    /// if no other process has the kernel lock: there is nothing to wait for.
    #[must_use = "the state that follows is the whole result"]
    pub fn listen(self) -> Acquire {
        match self.lock {
            KernelLock::Busy => Acquire::Subscribing(Subscribing { blocked: self }),
            KernelLock::Ours | KernelLock::Unsupported => self.leave(),
        }
    }

    /// Removes the file, whatever the verdict was: for a person who knows better, and **outside of
    /// P1 and P2**. A file whose kernel lock another process has is left alone.
    ///
    /// The driver must have compared the record that was read under the lock with the one that the
    /// person saw.
    #[must_use = "the state that follows is the whole result"]
    pub fn force(self) -> Acquire {
        match self.lock {
            KernelLock::Ours | KernelLock::Unsupported => {
                Acquire::Confirming(Confirming { claim: Claim::Dead })
            }
            KernelLock::Busy => self.leave(),
        }
    }
}

/// Waits for [`FileSystem::confirm`] of a file whose kernel lock came to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revalidating;

impl Revalidating {
    pub(super) fn on_confirm(self, reply: Confirm) -> Acquire {
        match reply {
            // Its holder died or failed: judge it. As young, because the last owner of the lock may
            // have changed it just now.
            Confirm::Same => Acquire::Reading(Reading { age: Age::Young }),
            // Released: create at once, as after an unlink of ours.
            Confirm::Changed => Acquire::close(Then::Create),
            Confirm::Failed => Acquire::close(Then::Fail(Op::Confirm)),
        }
    }
}

/// Waits for [`FileSystem::subscribe`]: what happens from here on is an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subscribing {
    /// What it found, and reports when its time is over.
    pub blocked: Blocked,
}

impl Subscribing {
    pub(super) fn on_subscribe(self) -> Acquire {
        Acquire::Rechecking(Rechecking { blocked: self.blocked })
    }
}

/// Waits for [`FileSystem::confirm`] of the file that it listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rechecking {
    /// As of [`Subscribing`].
    pub blocked: Blocked,
}

impl Rechecking {
    pub(super) fn on_confirm(self, reply: Confirm) -> Acquire {
        match reply {
            Confirm::Same => Acquire::Retrying(Retrying { blocked: self.blocked }),
            // Released: create at once. Its holder may not have closed it yet.
            Confirm::Changed => Acquire::close(Then::Create),
            Confirm::Failed => Acquire::close(Then::Fail(Op::Confirm)),
        }
    }
}

/// Waits for [`FileSystem::lock`] on the file that it listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Retrying {
    /// As of [`Subscribing`].
    pub blocked: Blocked,
}

impl Retrying {
    pub(super) fn on_lock(self, reply: LockReply) -> Acquire {
        match reply {
            LockReply::Ours => Acquire::Revalidating(Revalidating),
            LockReply::Busy => Acquire::Listening(Listening { blocked: self.blocked }),
            // It had an owner, so the filesystem has locks.
            LockReply::Unsupported | LockReply::Failed => Acquire::close(Then::Fail(Op::Lock)),
        }
    }
}

/// Waits for [`FileSystem::wait_event`] on a file that was checked after the events were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listening {
    /// As of [`Subscribing`].
    pub blocked: Blocked,
}

impl Listening {
    /// Crate-wide for a driver that must not block in [`FileSystem::wait_event`], waits by its own means
    /// and passes the reply.
    pub(crate) fn on_wait_event(self, reply: Listen) -> Acquire {
        match reply {
            Listen::Event => Acquire::Rechecking(Rechecking { blocked: self.blocked }),
            Listen::Over => self.blocked.leave(),
            Listen::Failed => Acquire::close(Then::Fail(Op::Listen)),
        }
    }
}
