//! The machine of an acquire, from its create to the verdict over a file that was there.

use super::cleanup::{CleanupLocking, CleanupUnlinking, CleanupVerifying, Truncating};
use super::judge::{Age, Evidence, Guarantee, KernelLock, UnknownReason, Verdict, judge};
use super::ops::{
    Confirm, Create, Dated, Done, FileSystem, LockReply, Op, OpenReply, Probed, ReadReply, Unlink,
};
use super::wait::{
    Blocked, Disposition, Listening, Rechecking, Retrying, Revalidating, Subscribing,
};

/// Why an acquire was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The recorded process lives, and the path named its file after that was known (P4). During the
    /// call it had that file locked, with its record in it: as a holder, or as a creator that had
    /// still to confirm it.
    Holder,
    /// The holder is not known for certain, and why.
    Unknown(UnknownReason),
}

/// A claim about the open file, to be confirmed immediately before it is acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// Its holder is dead: unlink it.
    Dead,
    /// It is not ours to take: this is what to report.
    Blocks(Blocked),
}

/// What follows when the open file has been closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Then {
    /// A dead holder's file was unlinked: create again, at no cost of a try.
    Create,
    /// Try again, or give up for this reason.
    Pause(UnknownReason),
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
    /// Our new file: waits for its kernel lock.
    LockingCreated(LockingCreated),
    /// Our new file: waits for the write of the record.
    Recording(Recording),
    /// Our new file, recorded: does the path still name it?
    ConfirmingCreated(ConfirmingCreated),
    /// The path names a file: waits for its open.
    Opening(Opening),
    /// Waits for its age.
    CheckingAge(CheckingAge),
    /// Waits for its content, read without the lock.
    ReadingUnlocked(ReadingUnlocked),
    /// Waits for its kernel lock.
    LockingExisting(LockingExisting),
    /// Waits for its content, read under the lock.
    Reading(Reading),
    /// Waits for the probe of the recorded process.
    Judging(Judging),
    /// Judged: does the path still name it?
    Confirming(Confirming),
    /// Dead and confirmed, under the lock: waits for its unlink.
    Unlinking(Unlinking),
    /// The file is open and not ours to take. Waits for the driver: leave, or wait?
    Blocked(Blocked),
    /// Has the kernel lock after a wait: does the path still name the file?
    Revalidating(Revalidating),
    /// Waits until events of the open file are kept for it.
    Subscribing(Subscribing),
    /// Armed: does the path still name the file?
    Rechecking(Rechecking),
    /// Armed: tries the kernel lock again.
    Retrying(Retrying),
    /// Waits for an event, or for the end of its time. Blocks.
    Listening(Listening),
    /// Our new file after a failure: takes its kernel lock, if it can.
    CleanupLocking(CleanupLocking),
    /// Our new file after a failure: does the path still name it?
    CleanupVerifying(CleanupVerifying),
    /// Our new file after a failure, confirmed: waits for its unlink.
    CleanupUnlinking(CleanupUnlinking),
    /// Our new file, which could not be unlinked: waits until it has no record.
    Truncating(Truncating),
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
    /// [`Blocked`](Self::Blocked), [`Held`](Self::Held), [`Refused`](Self::Refused),
    /// [`Failed`](Self::Failed)) is returned as it is.
    #[must_use = "the state that follows is the whole result"]
    pub fn step(self, fs: &mut impl FileSystem) -> Self {
        match self {
            Self::Creating(state) => state.on_create(fs.create()),
            Self::LockingCreated(state) => state.on_lock(fs.lock()),
            Self::Recording(state) => state.on_write(fs.write()),
            Self::ConfirmingCreated(state) => state.on_confirm(fs.confirm()),
            Self::Opening(state) => state.on_open(fs.open()),
            Self::CheckingAge(state) => state.on_age(fs.age()),
            Self::ReadingUnlocked(state) => state.on_read(fs.read()),
            Self::LockingExisting(state) => state.on_lock(fs.lock()),
            Self::Reading(state) => state.on_read(fs.read()),
            Self::Judging(state) => state.on_probe(fs.probe()),
            Self::Confirming(state) => state.on_confirm(fs.confirm()),
            Self::Unlinking(state) => state.on_unlink(fs.unlink()),
            Self::Revalidating(state) => state.on_confirm(fs.confirm()),
            Self::Subscribing(state) => {
                fs.subscribe();
                state.on_subscribe()
            }
            Self::Rechecking(state) => state.on_confirm(fs.confirm()),
            Self::Retrying(state) => state.on_lock(fs.lock()),
            Self::Listening(state) => state.on_wait_event(fs.wait_event()),
            Self::CleanupLocking(state) => state.on_lock(fs.lock()),
            Self::CleanupVerifying(state) => state.on_confirm(fs.confirm()),
            Self::CleanupUnlinking(state) => state.on_unlink(fs.unlink()),
            Self::Truncating(state) => state.on_truncate(fs.truncate()),
            Self::Closing(state) => {
                fs.close();
                state.on_close()
            }
            Self::Pausing(_)
            | Self::Blocked(_)
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
            Create::Created => Acquire::LockingCreated(LockingCreated),
            Create::Exists => Acquire::Opening(Opening),
            Create::Denied => Acquire::Pausing(Pausing::Denied(Op::Create)),
            Create::Failed => Acquire::Failed(Op::Create),
        }
    }
}

/// Waits for [`FileSystem::lock`] on our new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockingCreated;

impl LockingCreated {
    pub(super) fn on_lock(self, reply: LockReply) -> Acquire {
        match reply {
            LockReply::Ours => Acquire::Recording(Recording { guarantee: Guarantee::KernelLock }),
            LockReply::Unsupported => {
                Acquire::Recording(Recording { guarantee: Guarantee::ExclusiveCreate })
            }
            // Another participant took our new file for an old file, because we were slow.
            LockReply::Busy => Acquire::Pausing(Pausing::Created),
            LockReply::Failed => {
                Acquire::CleanupLocking(CleanupLocking { then: Then::Fail(Op::Lock) })
            }
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
            Done::Done => {
                Acquire::ConfirmingCreated(ConfirmingCreated { guarantee: self.guarantee })
            }
            Done::Failed => {
                Acquire::CleanupVerifying(CleanupVerifying { then: Then::Fail(Op::Write) })
            }
        }
    }
}

/// Waits for [`FileSystem::confirm`] of our new file, recorded and locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfirmingCreated {
    /// What exclusion will rest on.
    pub guarantee: Guarantee,
}

impl ConfirmingCreated {
    pub(super) fn on_confirm(self, reply: Confirm) -> Acquire {
        match reply {
            // P1: the kernel lock is ours, the record is ours, and the path names the file.
            Confirm::Same => Acquire::Held(self.guarantee),
            Confirm::Changed => Acquire::close(Then::Pause(UnknownReason::Contended)),
            Confirm::Failed => {
                Acquire::CleanupVerifying(CleanupVerifying { then: Then::Fail(Op::Confirm) })
            }
        }
    }
}

/// Waits for [`FileSystem::open`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opening;

impl Opening {
    pub(super) fn on_open(self, reply: OpenReply) -> Acquire {
        match reply {
            OpenReply::Opened => Acquire::CheckingAge(CheckingAge),
            // Absent never means stale: it means that there is nothing to judge.
            OpenReply::Absent => Acquire::Pausing(Pausing::Closed(UnknownReason::Contended)),
            OpenReply::Denied => Acquire::Pausing(Pausing::Denied(Op::Open)),
            OpenReply::Failed => Acquire::Failed(Op::Open),
        }
    }
}

/// Waits for [`FileSystem::age`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckingAge;

impl CheckingAge {
    pub(super) fn on_age(self, reply: Dated) -> Acquire {
        match reply {
            Dated::Known(age) => Acquire::ReadingUnlocked(ReadingUnlocked { age }),
            Dated::Failed => Acquire::close(Then::Fail(Op::Age)),
        }
    }
}

/// Waits for [`FileSystem::read`], without the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadingUnlocked {
    /// Taken before the content was read.
    pub age: Age,
}

impl ReadingUnlocked {
    pub(super) fn on_read(self, reply: ReadReply) -> Acquire {
        match (reply, self.age) {
            // Its creator may be about to write, and must not find its lock busy.
            (ReadReply::Empty, Age::Young) => {
                Acquire::close(Then::Pause(UnknownReason::BeingCreated))
            }
            (ReadReply::Empty, Age::Old) => {
                Acquire::LockingExisting(LockingExisting { peeked: Peeked::Empty })
            }
            (ReadReply::Unreadable, _) => {
                Acquire::LockingExisting(LockingExisting { peeked: Peeked::Unreadable })
            }
            (ReadReply::Record, _) => {
                Acquire::LockingExisting(LockingExisting { peeked: Peeked::Record })
            }
            // No lock file is locked, let alone removed, unless it is one.
            (ReadReply::Foreign | ReadReply::Failed, _) => Acquire::close(Then::Fail(Op::Read)),
        }
    }
}

/// What [`ReadingUnlocked`] saw.
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
pub struct LockingExisting {
    /// What was read without the lock.
    pub peeked: Peeked,
}

impl LockingExisting {
    pub(super) fn on_lock(self, reply: LockReply) -> Acquire {
        match (reply, self.peeked) {
            // What was peeked is forgotten: only what is read under the lock is acted on.
            (LockReply::Ours, Peeked::Empty) => Acquire::Reading(Reading { age: Age::Old }),
            // What was there does not vanish; if it did, that was just now.
            (LockReply::Ours, Peeked::Unreadable | Peeked::Record) => {
                Acquire::Reading(Reading { age: Age::Young })
            }
            (LockReply::Busy, peeked) => peeked.judged(KernelLock::Busy),
            (LockReply::Unsupported, peeked) => peeked.judged(KernelLock::Unsupported),
            (LockReply::Failed, _) => Acquire::close(Then::Fail(Op::Lock)),
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
    pub(super) fn on_read(self, reply: ReadReply) -> Acquire {
        match reply {
            ReadReply::Record => Acquire::Judging(Judging { lock: KernelLock::Ours }),
            ReadReply::Empty => Acquire::judged(KernelLock::Ours, Evidence::Empty(self.age)),
            ReadReply::Unreadable => Acquire::judged(KernelLock::Ours, Evidence::Unreadable),
            ReadReply::Foreign | ReadReply::Failed => Acquire::close(Then::Fail(Op::Read)),
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
            (Confirm::Same, Claim::Blocks(blocked)) => Acquire::Blocked(blocked),
            (Confirm::Changed, _) => Acquire::close(Then::Pause(UnknownReason::Contended)),
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
            Unlink::Absent => Acquire::close(Then::Pause(UnknownReason::Contended)),
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
    Closed(UnknownReason),
    /// Our new file is open and its lock is busy. Again tries the same lock on the same open file.
    Created,
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
            Self::Created => Acquire::LockingCreated(LockingCreated),
        }
    }

    /// The tries are used up, or the caller no longer waits.
    #[must_use = "the state that follows is the whole result"]
    pub fn give_up(self) -> Acquire {
        match self {
            Self::Closed(unsure) => Acquire::Refused(Refusal::Unknown(unsure)),
            Self::Created => Acquire::CleanupLocking(CleanupLocking {
                then: Then::Refuse(Refusal::Unknown(UnknownReason::Contended)),
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
        let blocked = |disposition| Blocked { lock, disposition };
        let refuse = |refusal| confirm(Claim::Blocks(blocked(Disposition::Final(refusal))));
        match judge(lock, evidence) {
            Verdict::Dead => confirm(Claim::Dead),
            Verdict::Alive => refuse(Refusal::Holder),
            Verdict::Unknown(unsure) => refuse(Refusal::Unknown(unsure)),
            // It may be refused by name when the tries are used up.
            Verdict::NotFinal(UnknownReason::CannotProbe) => {
                confirm(Claim::Blocks(blocked(Disposition::NotFinal(UnknownReason::CannotProbe))))
            }
            Verdict::NotFinal(unsure) => match lock {
                KernelLock::Busy => Self::Blocked(blocked(Disposition::NotFinal(unsure))),
                // A creator is active, and must not find its lock busy, or its name taken.
                KernelLock::Ours | KernelLock::Unsupported => Self::close(Then::Pause(unsure)),
            },
        }
    }
}
