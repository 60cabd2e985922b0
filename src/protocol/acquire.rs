//! The machine of an acquire, from its create to the verdict over a file that was there.

use super::cleanup::{Disowning, Retaking, Voiding, Withdrawing};
use super::judge::{Age, Evidence, Guarantee, KernelLock, Unsure, Verdict, judge};
use super::ops::{Confirm, Create, Dated, Done, FileSystem, Lock, Op, Open, Probed, Read, Unlink};
use super::wait::{Arming, Listening, Noticing, Retrying, Stance, Standing, Woken};

/// Why an acquire was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The recorded holder lives, and the path named its file after that was known (P4).
    Holder,
    /// The holder is not known for certain, and why.
    Unknown(Unsure),
}

/// A claim about the open file, to be confirmed immediately before it is acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// Its holder is dead: unlink it.
    Dead,
    /// It is not ours to take: this is what to report.
    Stands(Standing),
}

/// What follows when the open file has been closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Then {
    /// A dead holder's file was unlinked: create again, at no cost of a try.
    Create,
    /// Try again, or give up for this reason.
    Pause(Unsure),
    /// Refuse.
    Refuse(Refusal),
    /// Report the operation that failed.
    Fail(Op),
}

/// An acquire, from its first create to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Acquire {
    /// Waits for the exclusive create.
    Creating(Creating),
    /// Our newborn: waits for its kernel lock.
    LockingNew(LockingNew),
    /// Our newborn: waits for the write of the record.
    Recording(Recording),
    /// Our newborn, recorded: does the path still name it?
    ConfirmingNew(ConfirmingNew),
    /// The path names a file: waits for its open.
    Opening(Opening),
    /// Waits for its age.
    Dating(Dating),
    /// Waits for its content, read without the lock.
    Peeking(Peeking),
    /// Waits for its kernel lock.
    LockingOld(LockingOld),
    /// Waits for its content, read under the lock.
    Reading(Reading),
    /// Waits for the probe of the recorded process.
    Judging(Judging),
    /// Judged: does the path still name it?
    Confirming(Confirming),
    /// Dead and confirmed, under the lock: waits for its unlink.
    Unlinking(Unlinking),
    /// The file is open and not ours to take. Waits for the driver: leave, or wait?
    Standing(Standing),
    /// Has the kernel lock after a wait: does the path still name the file?
    Woken(Woken),
    /// Waits until events of the open file are kept for it.
    Arming(Arming),
    /// Armed: does the path still name the file?
    Noticing(Noticing),
    /// Armed: tries the kernel lock again.
    Retrying(Retrying),
    /// Waits for an event, or for the end of its time. Blocks.
    Listening(Listening),
    /// Our newborn after a failure: takes its kernel lock, if it can.
    Retaking(Retaking),
    /// Our newborn after a failure: does the path still name it?
    Disowning(Disowning),
    /// Our newborn after a failure, confirmed: waits for its unlink.
    Withdrawing(Withdrawing),
    /// Our newborn, which could not be unlinked: waits until it has no record.
    Voiding(Voiding),
    /// Waits for the close of the open file.
    Closing(Closing),
    /// Waits for the driver: again, or give up?
    Pausing(Pausing),
    /// The lock is held.
    Held(Guarantee),
    /// The lock is another participant's.
    Refused(Refusal),
    /// An operation failed.
    Failed(Op),
}

impl Acquire {
    /// Where every acquire starts.
    pub const START: Self = Self::Creating(Creating);

    /// Makes the one call that this state waits for, and returns the state that follows.
    ///
    /// A state that waits for no operation ([`Pausing`](Self::Pausing),
    /// [`Standing`](Self::Standing), [`Held`](Self::Held), [`Refused`](Self::Refused),
    /// [`Failed`](Self::Failed)) is returned as it is.
    #[must_use = "the state that follows is the whole result"]
    pub fn step(self, fs: &mut impl FileSystem) -> Self {
        match self {
            Self::Creating(state) => state.on_create(fs.create()),
            Self::LockingNew(state) => state.on_lock(fs.lock()),
            Self::Recording(state) => state.on_write(fs.write()),
            Self::ConfirmingNew(state) => state.on_confirm(fs.confirm()),
            Self::Opening(state) => state.on_open(fs.open()),
            Self::Dating(state) => state.on_age(fs.age()),
            Self::Peeking(state) => state.on_read(fs.read()),
            Self::LockingOld(state) => state.on_lock(fs.lock()),
            Self::Reading(state) => state.on_read(fs.read()),
            Self::Judging(state) => state.on_probe(fs.probe()),
            Self::Confirming(state) => state.on_confirm(fs.confirm()),
            Self::Unlinking(state) => state.on_unlink(fs.unlink()),
            Self::Woken(state) => state.on_confirm(fs.confirm()),
            Self::Arming(state) => {
                fs.arm();
                state.on_arm()
            }
            Self::Noticing(state) => state.on_confirm(fs.confirm()),
            Self::Retrying(state) => state.on_lock(fs.lock()),
            Self::Listening(state) => state.on_listen(fs.listen()),
            Self::Retaking(state) => state.on_lock(fs.lock()),
            Self::Disowning(state) => state.on_confirm(fs.confirm()),
            Self::Withdrawing(state) => state.on_unlink(fs.unlink()),
            Self::Voiding(state) => state.on_void(fs.void()),
            Self::Closing(state) => {
                fs.close();
                state.on_close()
            }
            Self::Pausing(_)
            | Self::Standing(_)
            | Self::Held(_)
            | Self::Refused(_)
            | Self::Failed(_) => self,
        }
    }
}

/// Waits for [`FileSystem::create`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Creating;

impl Creating {
    pub(super) fn on_create(self, reply: Create) -> Acquire {
        match reply {
            Create::Created => Acquire::LockingNew(LockingNew),
            Create::Exists => Acquire::Opening(Opening),
            Create::Denied => Acquire::Pausing(Pausing::Denied(Op::Create)),
            Create::Failed => Acquire::Failed(Op::Create),
        }
    }
}

/// Waits for [`FileSystem::lock`] on our newborn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockingNew;

impl LockingNew {
    pub(super) fn on_lock(self, reply: Lock) -> Acquire {
        match reply {
            Lock::Ours => Acquire::Recording(Recording { guarantee: Guarantee::KernelLock }),
            Lock::Unsupported => {
                Acquire::Recording(Recording { guarantee: Guarantee::ExclusiveCreate })
            }
            // Another participant took our newborn for an old file, because we were slow.
            Lock::Busy => Acquire::Pausing(Pausing::Newborn),
            Lock::Failed => Acquire::Retaking(Retaking { then: Then::Fail(Op::Lock) }),
        }
    }
}

/// Waits for [`FileSystem::write`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recording {
    /// What exclusion will rest on.
    pub guarantee: Guarantee,
}

impl Recording {
    pub(super) fn on_write(self, reply: Done) -> Acquire {
        match reply {
            Done::Done => Acquire::ConfirmingNew(ConfirmingNew { guarantee: self.guarantee }),
            Done::Failed => Acquire::Disowning(Disowning { then: Then::Fail(Op::Write) }),
        }
    }
}

/// Waits for [`FileSystem::confirm`] of our newborn, recorded and locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfirmingNew {
    /// What exclusion will rest on.
    pub guarantee: Guarantee,
}

impl ConfirmingNew {
    pub(super) fn on_confirm(self, reply: Confirm) -> Acquire {
        match reply {
            // P1: the kernel lock is ours, the record is ours, and the path names the file.
            Confirm::Same => Acquire::Held(self.guarantee),
            Confirm::Changed => Acquire::close(Then::Pause(Unsure::Contended)),
            Confirm::Failed => Acquire::Disowning(Disowning { then: Then::Fail(Op::Confirm) }),
        }
    }
}

/// Waits for [`FileSystem::open`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opening;

impl Opening {
    pub(super) fn on_open(self, reply: Open) -> Acquire {
        match reply {
            Open::Opened => Acquire::Dating(Dating),
            // Absent never means stale: it means that there is nothing to judge.
            Open::Absent => Acquire::Pausing(Pausing::Closed(Unsure::Contended)),
            Open::Denied => Acquire::Pausing(Pausing::Denied(Op::Open)),
            Open::Failed => Acquire::Failed(Op::Open),
        }
    }
}

/// Waits for [`FileSystem::age`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dating;

impl Dating {
    pub(super) fn on_age(self, reply: Dated) -> Acquire {
        match reply {
            Dated::Known(age) => Acquire::Peeking(Peeking { age }),
            Dated::Failed => Acquire::close(Then::Fail(Op::Age)),
        }
    }
}

/// Waits for [`FileSystem::read`], without the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peeking {
    /// Taken before the content was read.
    pub age: Age,
}

impl Peeking {
    pub(super) fn on_read(self, reply: Read) -> Acquire {
        match (reply, self.age) {
            // Its creator may be about to write, and must not find its lock busy.
            (Read::Empty, Age::Young) => Acquire::close(Then::Pause(Unsure::BeingCreated)),
            (Read::Empty, Age::Old) => Acquire::LockingOld(LockingOld { peeked: Peeked::Empty }),
            (Read::Unreadable, _) => Acquire::LockingOld(LockingOld { peeked: Peeked::Unreadable }),
            (Read::Record, _) => Acquire::LockingOld(LockingOld { peeked: Peeked::Record }),
            // No lock file is locked, let alone removed, unless it is one.
            (Read::Foreign | Read::Failed, _) => Acquire::close(Then::Fail(Op::Read)),
        }
    }
}

/// What [`Peeking`] saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peeked {
    /// Nothing, in an old file.
    Empty,
    /// No record that can be read.
    Unreadable,
    /// A record.
    Record,
}

/// Waits for [`FileSystem::lock`] on a file that was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockingOld {
    /// What was read without the lock.
    pub peeked: Peeked,
}

impl LockingOld {
    pub(super) fn on_lock(self, reply: Lock) -> Acquire {
        match (reply, self.peeked) {
            // What was peeked is forgotten: only what is read under the lock is acted on.
            (Lock::Ours, Peeked::Empty) => Acquire::Reading(Reading { age: Age::Old }),
            // What was there does not vanish; if it did, that was just now.
            (Lock::Ours, Peeked::Unreadable | Peeked::Record) => {
                Acquire::Reading(Reading { age: Age::Young })
            }
            (Lock::Busy, peeked) => peeked.judged(KernelLock::Busy),
            (Lock::Unsupported, peeked) => peeked.judged(KernelLock::Unsupported),
            (Lock::Failed, _) => Acquire::close(Then::Fail(Op::Lock)),
        }
    }
}

impl Peeked {
    pub(super) fn judged(self, lock: KernelLock) -> Acquire {
        match self {
            Self::Empty => Acquire::judged(lock, Evidence::Empty(Age::Old)),
            Self::Unreadable => Acquire::judged(lock, Evidence::Unreadable),
            Self::Record => Acquire::Judging(Judging { lock }),
        }
    }
}

/// Waits for [`FileSystem::read`], under the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reading {
    /// Taken before the content was read.
    pub age: Age,
}

impl Reading {
    pub(super) fn on_read(self, reply: Read) -> Acquire {
        match reply {
            Read::Record => Acquire::Judging(Judging { lock: KernelLock::Ours }),
            Read::Empty => Acquire::judged(KernelLock::Ours, Evidence::Empty(self.age)),
            Read::Unreadable => Acquire::judged(KernelLock::Ours, Evidence::Unreadable),
            Read::Foreign | Read::Failed => Acquire::close(Then::Fail(Op::Read)),
        }
    }
}

/// Waits for [`FileSystem::probe`] of the process that the record read last names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Judging {
    /// What trying the lock said.
    pub lock: KernelLock,
}

impl Judging {
    pub(super) fn on_probe(self, reply: Probed) -> Acquire {
        match reply {
            Probed::Known(author) => Acquire::judged(self.lock, Evidence::Record(author)),
            Probed::Failed => Acquire::close(Then::Fail(Op::Probe)),
        }
    }
}

/// Waits for [`FileSystem::confirm`] of a file that was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Confirming {
    /// What the verdict claims.
    pub claim: Claim,
}

impl Confirming {
    pub(super) fn on_confirm(self, reply: Confirm) -> Acquire {
        match (reply, self.claim) {
            (Confirm::Same, Claim::Dead) => Acquire::Unlinking(Unlinking),
            (Confirm::Same, Claim::Stands(standing)) => Acquire::Standing(standing),
            (Confirm::Changed, _) => Acquire::close(Then::Pause(Unsure::Contended)),
            (Confirm::Failed, _) => Acquire::close(Then::Fail(Op::Confirm)),
        }
    }
}

/// Waits for [`FileSystem::unlink`] of a dead holder's file (P2: locked, judged and confirmed).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unlinking;

impl Unlinking {
    pub(super) fn on_unlink(self, reply: Unlink) -> Acquire {
        match reply {
            Unlink::Unlinked => Acquire::close(Then::Create),
            Unlink::Absent => Acquire::close(Then::Pause(Unsure::Contended)),
            Unlink::Failed => Acquire::close(Then::Fail(Op::Unlink)),
        }
    }
}

/// Waits for [`FileSystem::close`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Closing {
    /// What follows.
    pub then: Then,
}

impl Closing {
    pub(super) fn on_close(self) -> Acquire {
        match self.then {
            Then::Create => Acquire::START,
            Then::Pause(unsure) => Acquire::Pausing(Pausing::Closed(unsure)),
            Then::Refuse(refusal) => Acquire::Refused(refusal),
            Then::Fail(op) => Acquire::Failed(op),
        }
    }
}

/// Waits for the driver, which may sleep before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pausing {
    /// Nothing is open. Again starts over; giving up refuses for this reason.
    Closed(Unsure),
    /// Our newborn is open and its lock is busy. Again tries the same lock on the same open file.
    Newborn,
    /// Access was denied, which on Windows passes when a name is being deleted.
    Denied(Op),
}

/// Every answer of the driver to a pause, of an acquire ([`Pausing`]) or of a query. Each has a method
/// of the same name as its short form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PauseAnswer {
    /// [`Pausing::again`].
    Again,
    /// [`Pausing::give_up`].
    GiveUp,
}

impl Pausing {
    /// The driver's answer.
    #[must_use = "the state that follows is the whole result"]
    pub fn answer(self, answer: PauseAnswer) -> Acquire {
        match answer {
            PauseAnswer::Again => self.again(),
            PauseAnswer::GiveUp => self.give_up(),
        }
    }

    /// Another try.
    #[must_use = "the state that follows is the whole result"]
    pub fn again(self) -> Acquire {
        match self {
            Self::Closed(_) | Self::Denied(_) => Acquire::START,
            Self::Newborn => Acquire::LockingNew(LockingNew),
        }
    }

    /// The tries are used up, or the caller no longer waits.
    #[must_use = "the state that follows is the whole result"]
    pub fn give_up(self) -> Acquire {
        match self {
            Self::Closed(unsure) => Acquire::Refused(Refusal::Unknown(unsure)),
            Self::Newborn => Acquire::Retaking(Retaking {
                then: Then::Refuse(Refusal::Unknown(Unsure::Contended)),
            }),
            Self::Denied(op) => Acquire::Failed(op),
        }
    }
}

impl Acquire {
    pub(super) fn close(then: Then) -> Self {
        Self::Closing(Closing { then })
    }

    /// Every act upon a verdict is confirmed first. A verdict that only says "again", and names no
    /// holder, is not worth a call.
    pub(super) fn judged(lock: KernelLock, evidence: Evidence) -> Self {
        let confirm = |claim| Self::Confirming(Confirming { claim });
        let stands = |stance| Standing { lock, stance };
        let refuse = |refusal| confirm(Claim::Stands(stands(Stance::Final(refusal))));
        match judge(lock, evidence) {
            Verdict::Dead => confirm(Claim::Dead),
            Verdict::Alive => refuse(Refusal::Holder),
            Verdict::Unknown(unsure) => refuse(Refusal::Unknown(unsure)),
            // It may be refused by name when the tries are used up.
            Verdict::NotFinal(Unsure::CannotProbe) => {
                confirm(Claim::Stands(stands(Stance::NotFinal(Unsure::CannotProbe))))
            }
            Verdict::NotFinal(unsure) => match lock {
                KernelLock::Busy => Self::Standing(stands(Stance::NotFinal(unsure))),
                // A creator is active, and must not find its lock busy, or its name taken.
                KernelLock::Ours | KernelLock::Unsupported => Self::close(Then::Pause(unsure)),
            },
        }
    }
}
