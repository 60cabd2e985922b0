//! The machines of acquire and release, as pure data. (A query's is in `query.rs`, a
//! clear's in `clear.rs`.)
//!
//! **Not covered by semantic versioning.** This module and what it re-exports are public so that
//! the model checker, loom, proptest, the fuzzer and other drivers run the code that ships. To
//! take a lock, use [`try_acquire`](crate::try_acquire).
//!
//! One arm, one state, one operation: a state waits for the reply of one operation of the
//! [`FileSystem`] trait and is named after it. States are plain data. They know no path, clock,
//! pid or file, and hold only what is true in them.
//!
//! # Acquire
//!
//! ```text
//!                      exists                record, or old and empty
//!  START ─► Creating ─────────► Opening ─► Dating ─► Peeking ────────► LockingOld
//!              │ created           │ absent             │ young, empty    │        │
//!              ▼                   ▼                    ▼            ours │   busy │
//!          LockingNew           Pausing ◄────────── Closing               ▼        │
//!              │ ours              │ again              ▲              Reading     │
//!              ▼                   ▼                    │                 │        │
//!          Recording            Creating                │                 ▼        ▼
//!              │ done                                   │              Judging (probe)
//!              ▼                                        │           dead │      │ all else
//!        ConfirmingNew ── changed ──────────────────────┤                ▼      ▼
//!              │ same                                   ├─ changed ── Confirming
//!              ▼                                        │           dead │      │
//!            Held          unlinked: again, at no cost  │                ▼      ▼
//!                          of a try                     ├────────── Unlinking  Standing
//!                                                       │                       │    │ wait
//!                                  final: to Refused    └─────────────── leave ─┘    ▼
//!                                                       ▲                         Waiting
//!                                                       └── changed ─ Woken ◄── ours ┘
//!                                                                       └─ same ─► Reading
//!
//!  Standing ─ listen ─► Arming ─► Noticing ── same ─► Retrying ── ours ─► Woken
//!                                  │  ▲ event            │ busy
//!           Closing ◄── changed ───┘  └─── Listening ◄───┘
//!                                              └─ over ─► as leave
//!
//!  our own newborn, after a failure:  Retaking ─► Disowning ─► Withdrawing ─► Closing ─► Failed
//!                                                     └───────────┴► Voiding ────┘
//! ```
//!
//! # Release
//!
//! ```text
//!  START ─► Confirming ── same ──► Unlinking ── unlinked ──► Closing ─► Ended(Removed)
//!               ├─ changed ────────────│── absent ─────────► Closing ─► Ended(Lost)
//!               └─ failed ──► Stuck ◄──┘ failed
//!                       keep │    │ abandon
//!                Ended(Kept) ◄    └─► Voiding ──────────────► Closing ─► Ended(Failed)
//!  FORKED ─► Leaving ─► Ended(Left)
//! ```
//!
//! # The driver's duty
//!
//! **Run one state at a time, and decide only where the machine asks.**
//!
//! 1. Start with [`Acquire::START`] and a [`FileSystem`] value that has nothing open.
//! 2. At [`Acquire::Pausing`] decide: [`Pausing::again`], after a short sleep if you like, or
//!    [`Pausing::give_up`]. Count the tries: the machine does not.
//! 3. At [`Acquire::Standing`] decide: [`Standing::leave`], or [`Standing::listen`] until the file
//!    has an event or your time is over. ([`Standing::force`] is outside of the promises.)
//! 4. At `Held`, `Refused` or `Failed` stop. After `Held` keep the value with its open file, and
//!    hand it to a [`Release`] later, in the same process.
//! 5. At [`Release::Stuck`] decide: [`Stuck::keep`] the lock, or [`Stuck::abandon`] it.
//! 6. At any other state call `step`.
//!
//! Order is what makes it right. Confirm comes after the kernel lock and after the verdict, and
//! immediately before the act. Unlink comes before the kernel lock is dropped. The record is
//! written under the kernel lock. What was read before the lock was taken serves only to refuse.
//! Who listens arms first and looks afterwards, else it sleeps through what came in between.

// A new reply or state must be decided on, not fall into `_`.
#![deny(clippy::wildcard_enum_match_arm)]

pub use crate::clear::{Clear, Cleared};
pub use crate::fs::{
    Confirm, Create, Dated, Done, FileSystem, Listen, Lock, Op, Open, Probed, Read, Unlink,
};
pub use crate::judge::{
    Age, Assessment, Author, Evidence, FreeLock, Guarantee, KernelLock, LockDomain, Probe, Unsure,
    Verdict, Watch, assess, judge,
};
pub use crate::query::{
    Query, QueryClosing, QueryConfirming, QueryDating, QueryJudging, QueryOpening, QueryPausing,
    QueryReading, QueryThen, QueryWatching,
};
pub use crate::record::{Contents, FileName};

use std::time::Duration;

/// How long after its last change a file without a record is taken to be at its creator's hands.
///
/// A creator writes within microseconds of creating; two seconds is the coarsest file time in use
/// (FAT). The grace only decides when something is tried again, never who holds (P7), except for
/// old-format agents, which take no kernel lock: one that stalls for longer between its create
/// and its write is taken for dead.
pub const GRACE: Duration = Duration::from_secs(2);

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
    /// It stands in the way: this is to be said of it.
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
    /// Something stands at the path: waits for its open.
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
    /// The lock is somebody else's.
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
    fn on_create(self, reply: Create) -> Acquire {
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
    fn on_lock(self, reply: Lock) -> Acquire {
        match reply {
            Lock::Ours => Acquire::Recording(Recording { guarantee: Guarantee::KernelLock }),
            Lock::Unsupported => {
                Acquire::Recording(Recording { guarantee: Guarantee::ExclusiveCreate })
            }
            // Somebody took our newborn for an old file, since we were slow.
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
    fn on_write(self, reply: Done) -> Acquire {
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
    fn on_confirm(self, reply: Confirm) -> Acquire {
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
    fn on_open(self, reply: Open) -> Acquire {
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
    fn on_age(self, reply: Dated) -> Acquire {
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
    fn on_read(self, reply: Read) -> Acquire {
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

/// Waits for [`FileSystem::lock`] on a file that stood at the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockingOld {
    /// What was read without the lock.
    pub peeked: Peeked,
}

impl LockingOld {
    fn on_lock(self, reply: Lock) -> Acquire {
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
    fn judged(self, lock: KernelLock) -> Acquire {
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
    fn on_read(self, reply: Read) -> Acquire {
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
    fn on_probe(self, reply: Probed) -> Acquire {
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
    fn on_confirm(self, reply: Confirm) -> Acquire {
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
    fn on_unlink(self, reply: Unlink) -> Acquire {
        match reply {
            Unlink::Unlinked => Acquire::close(Then::Create),
            Unlink::Absent => Acquire::close(Then::Pause(Unsure::Contended)),
            Unlink::Failed => Acquire::close(Then::Fail(Op::Unlink)),
        }
    }
}

/// What is to be said of a file that is not ours to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stance {
    /// Refuse.
    Final(Refusal),
    /// Try again, and refuse for this reason when the tries are used up.
    NotFinal(Unsure),
}

/// Waits for the driver. The file is open; nothing else is done to it meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Standing {
    /// What trying the lock said.
    pub lock: KernelLock,
    /// What is to be said of the file.
    pub stance: Stance,
}

impl Standing {
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
    /// P1 and P2**. Still never a file whose kernel lock somebody else has: that it leaves.
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
    fn on_confirm(self, reply: Confirm) -> Acquire {
        match reply {
            // Its holder died or failed: judge it. As young, since whoever had the lock may have
            // changed it just now.
            Confirm::Same => Acquire::Reading(Reading { age: Age::Young }),
            // Released: create at once, as after an unlink of ours.
            Confirm::Changed => Acquire::close(Then::Create),
            Confirm::Failed => Acquire::close(Then::Fail(Op::Confirm)),
        }
    }
}

/// Waits for [`FileSystem::arm`], before it looks again: what happens from here on is an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arming {
    /// What it found, and says when its time is over.
    pub standing: Standing,
}

impl Arming {
    fn on_arm(self) -> Acquire {
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
    fn on_confirm(self, reply: Confirm) -> Acquire {
        match reply {
            Confirm::Same => Acquire::Retrying(Retrying { standing: self.standing }),
            // Released: create at once. Its releaser need not have closed it yet.
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
    fn on_lock(self, reply: Lock) -> Acquire {
        match reply {
            Lock::Ours => Acquire::Woken(Woken),
            Lock::Busy => Acquire::Listening(Listening { standing: self.standing }),
            // It had an owner, so the filesystem has locks.
            Lock::Unsupported | Lock::Failed => Acquire::close(Then::Fail(Op::Lock)),
        }
    }
}

/// Waits for [`FileSystem::listen`] on a file that was armed before it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listening {
    /// As of [`Arming`].
    pub standing: Standing,
}

impl Listening {
    /// Crate-wide for a driver that must not block in [`FileSystem::listen`]: it waits by its own
    /// means, and brings the reply.
    pub(crate) fn on_listen(self, reply: Listen) -> Acquire {
        match reply {
            Listen::Event => Acquire::Noticing(Noticing { standing: self.standing }),
            Listen::Over => self.standing.leave(),
            Listen::Failed => Acquire::close(Then::Fail(Op::Listen)),
        }
    }
}

/// Waits for [`FileSystem::lock`], once more, on our newborn that must go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Retaking {
    /// What follows.
    pub then: Then,
}

impl Retaking {
    fn on_lock(self, reply: Lock) -> Acquire {
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
    fn on_confirm(self, reply: Confirm) -> Acquire {
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
    fn on_unlink(self, reply: Unlink) -> Acquire {
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
    fn on_void(self, reply: Done) -> Acquire {
        match reply {
            Done::Done | Done::Failed => Acquire::close(self.then),
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
    fn on_close(self) -> Acquire {
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

impl Pausing {
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
    fn close(then: Then) -> Self {
        Self::Closing(Closing { then })
    }

    /// Every act upon a verdict is confirmed first; what only says "again" and names nobody is
    /// not worth a call.
    fn judged(lock: KernelLock, evidence: Evidence) -> Self {
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
                // A creator is at work, and must not find its lock busy, or its name taken.
                KernelLock::Ours | KernelLock::Unsupported => Self::close(Then::Pause(unsure)),
            },
        }
    }
}

/// How a release ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Released {
    /// Our file was unlinked, and then the kernel lock dropped.
    Removed,
    /// The path did not name our file: it had been removed, or cannot be reached from here.
    /// Nothing was removed; our file, if it is still somewhere, has no record.
    Lost,
    /// An operation failed, and the lock is still held: everything is as before the release.
    Kept(Op),
    /// An operation failed; the record was voided, so that nobody is refused in our name.
    Failed(Op),
    /// In a forked child: the lock is the parent's, and was left alone.
    Left,
}

/// A release, from its confirm to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Release {
    /// Does the path still name our file?
    Confirming(ReleaseConfirming),
    /// Confirmed, under the kernel lock: waits for the unlink.
    Unlinking(ReleaseUnlinking),
    /// Could not be confirmed or unlinked. Waits for the driver: keep the lock, or abandon it?
    Stuck(Stuck),
    /// Lost or abandoned: waits until our file has no record.
    Voiding(ReleaseVoiding),
    /// Waits for the close, which drops the kernel lock.
    Closing(ReleaseClosing),
    /// In a forked child: waits for the close, which leaves the kernel lock.
    Leaving(ReleaseLeaving),
    /// The end.
    Ended(Released),
}

impl Release {
    /// Where a release starts in the process that acquired.
    pub const START: Self = Self::Confirming(ReleaseConfirming);

    /// Where a release starts in a process that got the guard by `fork`.
    pub const FORKED: Self = Self::Leaving(ReleaseLeaving);

    /// Makes the one call that this state waits for, and returns the state that follows.
    ///
    /// A state that waits for no operation ([`Stuck`](Self::Stuck), [`Ended`](Self::Ended)) is
    /// returned as it is.
    #[must_use = "the state that follows is the whole result"]
    pub fn step(self, fs: &mut impl FileSystem) -> Self {
        match self {
            Self::Confirming(state) => state.on_confirm(fs.confirm()),
            Self::Unlinking(state) => state.on_unlink(fs.unlink()),
            Self::Voiding(state) => state.on_void(fs.void()),
            Self::Closing(state) => {
                fs.close();
                state.on_close()
            }
            Self::Leaving(state) => {
                fs.leave();
                state.on_leave()
            }
            Self::Stuck(_) | Self::Ended(_) => self,
        }
    }

    fn close(ending: Released) -> Self {
        Self::Closing(ReleaseClosing { ending })
    }

    fn void(ending: Released) -> Self {
        Self::Voiding(ReleaseVoiding { ending })
    }
}

/// Waits for [`FileSystem::confirm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseConfirming;

impl ReleaseConfirming {
    fn on_confirm(self, reply: Confirm) -> Release {
        match reply {
            Confirm::Same => Release::Unlinking(ReleaseUnlinking),
            // Where the path is only out of our reach, others would be refused in our name.
            Confirm::Changed => Release::void(Released::Lost),
            Confirm::Failed => Release::Stuck(Stuck { op: Op::Confirm }),
        }
    }
}

/// Waits for [`FileSystem::unlink`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseUnlinking;

impl ReleaseUnlinking {
    fn on_unlink(self, reply: Unlink) -> Release {
        match reply {
            Unlink::Unlinked => Release::close(Released::Removed),
            Unlink::Absent => Release::void(Released::Lost),
            Unlink::Failed => Release::Stuck(Stuck { op: Op::Unlink }),
        }
    }
}

/// Waits for the driver. The file is open, and its kernel lock ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stuck {
    /// The operation that failed.
    pub op: Op,
}

impl Stuck {
    /// The lock stays held, for another release later.
    #[must_use = "the state that follows is the whole result"]
    pub fn keep(self) -> Release {
        Release::Ended(Released::Kept(self.op))
    }

    /// The lock is given up, and the file, which stays, made to refuse no process.
    #[must_use = "the state that follows is the whole result"]
    pub fn abandon(self) -> Release {
        Release::void(Released::Failed(self.op))
    }
}

/// Waits for [`FileSystem::void`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseVoiding {
    /// How the release will have ended.
    pub ending: Released,
}

impl ReleaseVoiding {
    fn on_void(self, reply: Done) -> Release {
        match reply {
            Done::Done | Done::Failed => Release::close(self.ending),
        }
    }
}

/// Waits for [`FileSystem::close`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseClosing {
    /// How the release will have ended.
    pub ending: Released,
}

impl ReleaseClosing {
    fn on_close(self) -> Release {
        Release::Ended(self.ending)
    }
}

/// Waits for [`FileSystem::leave`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseLeaving;

impl ReleaseLeaving {
    fn on_leave(self) -> Release {
        Release::Ended(Released::Left)
    }
}
