//! The states of an acquire that waits at a holder's file.

use super::acquire::{Acquire, Claim, Confirming, Reading, Refusal, Then};
use super::judge::{Age, KernelLock, Unsure};
#[cfg(doc)]
use super::ops::FileSystem;
use super::ops::{Confirm, Listen, Lock, Op};

/// What is to be said of a file that is not ours to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stance {
    /// Refuse.
    Final(Refusal),
    /// Try again, and refuse for this reason when the tries are used up.
    NotFinal(Unsure),
}

/// Waits for the driver. The file is open, and no call is made on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Standing {
    /// What trying the lock said.
    pub lock: KernelLock,
    /// What is to be said of the file.
    pub stance: Stance,
}

/// Every answer of the driver to [`Standing`]. Each has a method of `Standing` as its short form; the
/// model goes through the enum, so that an answer it does not know does not compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockedAnswer {
    /// [`Standing::leave`].
    Leave,
    /// [`Standing::listen`].
    Listen,
    /// [`Standing::force`].
    Force,
}

impl Standing {
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
        Acquire::close(match self.stance {
            Stance::Final(refusal) => Then::Refuse(refusal),
            Stance::NotFinal(unsure) => Then::Pause(unsure),
        })
    }

    /// Waits, by events of the file, until the lock may be free or the driver's time is over. Leaves
    /// if no other process has the kernel lock: there is nothing to wait for.
    #[must_use = "the state that follows is the whole result"]
    pub fn listen(self) -> Acquire {
        match self.lock {
            KernelLock::Busy => Acquire::Arming(Arming { standing: self }),
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
pub struct Woken;

impl Woken {
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

/// Waits for [`FileSystem::arm`]: what happens from here on is an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arming {
    /// What it found, and reports when its time is over.
    pub standing: Standing,
}

impl Arming {
    pub(super) fn on_arm(self) -> Acquire {
        Acquire::Noticing(Noticing { standing: self.standing })
    }
}

/// Waits for [`FileSystem::confirm`] of the file that it listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Noticing {
    /// As of [`Arming`].
    pub standing: Standing,
}

impl Noticing {
    pub(super) fn on_confirm(self, reply: Confirm) -> Acquire {
        match reply {
            Confirm::Same => Acquire::Retrying(Retrying { standing: self.standing }),
            // Released: create at once. Its holder may not have closed it yet.
            Confirm::Changed => Acquire::close(Then::Create),
            Confirm::Failed => Acquire::close(Then::Fail(Op::Confirm)),
        }
    }
}

/// Waits for [`FileSystem::lock`] on the file that it listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Retrying {
    /// As of [`Arming`].
    pub standing: Standing,
}

impl Retrying {
    pub(super) fn on_lock(self, reply: Lock) -> Acquire {
        match reply {
            Lock::Ours => Acquire::Woken(Woken),
            Lock::Busy => Acquire::Listening(Listening { standing: self.standing }),
            // It had an owner, so the filesystem has locks.
            Lock::Unsupported | Lock::Failed => Acquire::close(Then::Fail(Op::Lock)),
        }
    }
}

/// Waits for [`FileSystem::listen`] on a file that was checked after the events were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listening {
    /// As of [`Arming`].
    pub standing: Standing,
}

impl Listening {
    /// Crate-wide for a driver that must not block in [`FileSystem::listen`], waits by its own means
    /// and passes the reply.
    pub(crate) fn on_listen(self, reply: Listen) -> Acquire {
        match reply {
            Listen::Event => Acquire::Noticing(Noticing { standing: self.standing }),
            Listen::Over => self.standing.leave(),
            Listen::Failed => Acquire::close(Then::Fail(Op::Listen)),
        }
    }
}
