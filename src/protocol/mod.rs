//! The machines of acquire, release, query and clear, as pure data.
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
//! Starts at `Creating`.
//!
//! ```text
//! A new file:
//!
//! Creating ─ created ─► LockingCreated ─ ours ─► Recording ─► ConfirmingCreated ─ same ─► Held
//!    │ exists               │ busy  ▲                                │ changed
//!    ▼                      ▼       │ again                          ▼
//! Opening                Pausing ───┘                             Closing ─► Pausing
//!                           │ give up
//!                           ▼
//!                     CleanupLocking
//!
//! A file that was there:
//!
//! Opening ─► CheckingAge ─► ReadingUnlocked ─► LockingExisting ─ ours ─► Reading
//!    │ absent                     │ young, empty      │ busy                │
//!    ▼                            ▼                   ▼                     │
//! Pausing                      Closing             Judging ◄────────────────┘
//!                                 │                   │
//!                                 ▼                   │
//!                              Pausing                │
//!    ┌────────────────────────────────────────────────┘
//!    ├─ dead ─► Confirming ─ same ─► Unlinking ─► Closing ─► Creating, at no cost of a try
//!    └─ else ─► Confirming ─ same ─► Blocked ─ leave ─► Closing ─► Refused or Pausing
//!                   │ changed           │ listen
//!                   ▼                   ▼
//!                Closing            Subscribing
//!                   │
//!                   ▼
//!                Pausing
//!
//! A wait, where another process has the kernel lock:
//!
//! Subscribing ─► Rechecking ─ same ─► Retrying ─ ours ─► Revalidating ─ same ─► Reading
//!                  │     ▲ event         │ busy               │ changed
//!                  │     └── Listening ◄─┘                    ▼
//!          changed │             │ time over               Closing ─► Creating
//!                  ▼             ▼
//!               Closing      as leave
//!                  │
//!                  ▼
//!               Creating
//!
//! A new file after a failure:
//!
//! CleanupLocking ─ ours ─► CleanupVerifying ─ same ─► CleanupUnlinking ─ done ─► Closing ─► Failed
//!        │ failed                 │ failed                   │ failed               ▲
//!        └────────────────────────┴──────────────────────────┴─► Truncating ────────┘
//! ```
//!
//! A call that fails on a file that was there leads to `Closing` and then `Failed`.
//!
//! # Release
//!
//! ```text
//! START ─► Confirming ─ same ─► Unlinking ─ unlinked ─► Closing ─► Ended(Removed)
//!              ├─ changed ─────────┴─ absent ─► Truncating ─► Closing ─► Ended(Lost)
//!              └─ failed, as of Unlinking ─► ReleaseFailed ─ keep ─► Ended(Kept)
//!                                                 │ abandon
//!                                                 └─► Truncating ─► Closing ─► Ended(Failed)
//! FORKED ─► Leaving ─► Ended(Left)
//! ```
//!
//! # The driver's duty
//!
//! **Run one state at a time, and decide only where the machine asks.**
//!
//! 1. Start with [`Acquire::START`] and a [`FileSystem`] value that has nothing open.
//! 2. At [`Acquire::Pausing`] decide: [`Pausing::again`], after a short sleep if you like, or
//!    [`Pausing::give_up`]. The machine does not count the tries, so the driver must.
//! 3. At [`Acquire::Blocked`] decide: [`Blocked::leave`], or [`Blocked::listen`] until the file
//!    has an event or your time is over. ([`Blocked::force`] is outside of the promises.)
//! 4. At `Held`, `Refused` or `Failed` stop. After `Held` keep the value with its open file, and
//!    hand it to a [`Release`] later, in the same process.
//! 5. At [`Release::ReleaseFailed`] decide: [`ReleaseFailed::keep`] the lock, or [`ReleaseFailed::abandon`] it.
//! 6. At any other state call `step`.
//!
//! Order is what makes it right. Confirm comes after the kernel lock and after the verdict, and
//! immediately before the act. Unlink comes before the kernel lock is dropped. The record is
//! written under the kernel lock. What was read before the lock was taken serves only to refuse.
//! A waiter subscribes first and checks afterwards, or it would miss an event between the two.

// A new reply or state must be decided on, not fall into `_`.
#![deny(clippy::wildcard_enum_match_arm)]

mod acquire;
mod cleanup;
mod clear;
mod judge;
mod ops;
mod query;
mod release;
mod wait;

pub use acquire::{
    Acquire, CheckingAge, Claim, Closing, Confirming, ConfirmingCreated, Creating, Judging,
    LockingCreated, LockingExisting, Opening, PauseAnswer, Pausing, Peeked, Reading,
    ReadingUnlocked, Recording, Refusal, Then, Unlinking,
};
pub use cleanup::{CleanupLocking, CleanupUnlinking, CleanupVerifying, Truncating};
pub use clear::{Clear, ClearAnswer, Cleared};
pub use judge::{
    Age, Assessment, Author, Evidence, FreeLock, Guarantee, KernelLock, LockDomain, Probe,
    UnknownReason, Verdict, Watch, assess, judge,
};
pub use ops::{
    Confirm, Create, Dated, Done, FileSystem, Listen, LockReply, Op, OpenReply, Probed, ReadReply,
    Unlink,
};
pub use query::{
    Query, QueryCheckingAge, QueryClosing, QueryConfirming, QueryJudging, QueryOpening,
    QueryPausing, QueryReading, QueryThen, QueryWatching,
};
pub use release::{
    Release, ReleaseClosing, ReleaseConfirming, ReleaseFailed, ReleaseFailedAnswer, ReleaseLeaving,
    ReleaseTruncating, ReleaseUnlinking, Released,
};
pub use wait::{
    Blocked, BlockedAnswer, Disposition, Listening, Rechecking, Retrying, Revalidating, Subscribing,
};

pub use crate::acquire::backoff::TRIES;
pub use crate::record::{Contents, FileName};

pub(crate) use judge::depends_on_watch;

use std::time::Duration;

/// How long after its last change a file without a record counts as one that its creator is about
/// to write.
///
/// A creator writes within microseconds of creating; two seconds is the coarsest file time in use
/// (FAT). The grace only decides when something is tried again, never which process holds (P7).
/// Old-format agents are the exception, because they take no kernel lock: an agent that stalls for
/// longer between its create and its write is taken for dead.
pub const GRACE: Duration = Duration::from_secs(2);
