//! The verdict over an existing lock file: a pure function of the evidence.
//!
//! The evidence is what trying the kernel lock said, where the record says that its author runs,
//! what a free kernel lock proves about that author, and what the process probe answered. [`judge`]
//! is the table of the protocol, row by row; the tests below go through every cell. [`assess`] is
//! the same table for a query, which may not take the kernel lock and can only watch it.
//!
//! Exclusion never rests on the probe (P8): a verdict of [`Verdict::Dead`] is acted on only under
//! the kernel lock and after a confirm. The probe decides whether a person is refused.
//!
//! # What counts as proof of a death
//!
//! Each row of the table that says "dead" rests on a premise. The premises are facts of the
//! evidence, and not assumptions:
//!
//! | proof | premise | where it is stated |
//! | --- | --- | --- |
//! | the pid is gone, or another process has it | the record is of this boot and this pid namespace | [`Author::Here`] |
//! | the kernel lock is free | the author took it, and its lock and ours exclude each other | [`FreeLock`] |
//! | the boot is over | it is an earlier boot of this very machine, or no other kernel has the filesystem | [`Author::EarlierBoot`] |
//! | there is no record to lose | both writers write a record with one call | [`Evidence::Unreadable`] |
//! | a creator would have written by now | it writes within the grace | [`Age::Old`] |

// A new reply or state must be decided on, not fall into `_`.
#![deny(clippy::wildcard_enum_match_arm)]

/// What exclusion rests on while a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Guarantee {
    /// The kernel lock: freed by the kernel when the holder dies.
    KernelLock,
    /// The exclusive create alone, because the filesystem has no kernel locks. Nothing is reclaimed.
    ExclusiveCreate,
}

/// What trying the kernel lock said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KernelLock {
    /// We have it.
    Ours,
    /// Another open file has it.
    Busy,
    /// The filesystem has none.
    Unsupported,
}

/// What watching the kernel lock, without taking it, said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watch {
    /// Another open file has it.
    Held,
    /// No open file has it.
    Free,
    /// This system cannot say.
    Unknown,
}

/// How long ago a file was changed, against the grace of [`GRACE`](crate::protocol::GRACE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Age {
    /// Within the grace: a creator that has not written yet may still be active.
    Young,
    /// Before the grace.
    Old,
}

/// Whose kernel locks on this file exclude ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockDomain {
    /// The author's: it had the file open on this very filesystem, or no other kernel has the
    /// filesystem.
    Shared,
    /// Not known to include the author's: another mount, another machine, a copy of its file.
    Unknown,
}

/// What a free kernel lock proves about the author of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FreeLock {
    /// The author died or lost its lock: it had taken the lock, and while it had it, ours was busy.
    ProvesDeath,
    /// Nothing.
    ProvesNothing,
}

impl FreeLock {
    /// From its two premises: on what the author's exclusion rests, as its record says, and whether
    /// its lock and ours exclude each other.
    pub fn of(author: Guarantee, domain: LockDomain) -> Self {
        match (author, domain) {
            (Guarantee::KernelLock, LockDomain::Shared) => Self::ProvesDeath,
            (Guarantee::ExclusiveCreate, LockDomain::Shared | LockDomain::Unknown)
            | (Guarantee::KernelLock, LockDomain::Unknown) => Self::ProvesNothing,
        }
    }
}

/// Where the record says that its author runs, seen from here, and what follows from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Author {
    /// This boot of this machine, this pid namespace: the pid can be probed.
    Here(FreeLock, Probe),
    /// This boot of this machine, another pid namespace: its pid means nothing here.
    OtherNamespace(FreeLock),
    /// A boot that is over: an earlier one of this machine, or any other one if the filesystem is
    /// this kernel's alone.
    EarlierBoot,
    /// Another machine, or a boot that is not known to be over: a shared directory.
    OtherMachine,
    /// Unknown: the record has the old format, a pid and no more. It is taken to be here, and to
    /// have no kernel lock.
    OldFormat(Probe),
}

/// What the probe of the recorded process answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Probe {
    /// No such process (`ESRCH`, S3).
    Gone,
    /// It has ended and waits for its parent; or it is ending, none of its program runs any more,
    /// and its kernel lock is free.
    Zombie,
    /// The number is a thread of some process, so no process has it.
    Thread,
    /// Another process has the number: its start time differs from the recorded one.
    Other,
    /// A process has the number and provably started after the record was written.
    StartedLater,
    /// That very process, and it is us.
    Ourselves,
    /// That very process; in the old format, a process with its number.
    Alive,
    /// In the old format: we may not ask (`EPERM`), so some process has the number (S6).
    NotPermitted,
    /// It cannot be probed from here, or what has its number cannot be identified.
    Unknown,
}

/// The evidence about a lock file, beyond the kernel lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Evidence {
    /// Empty, and so old: its creator may be about to write.
    Empty(Age),
    /// A record that was cut short, or what else a lock file can be left as: it names no process,
    /// and no process is about to complete it.
    Unreadable,
    /// A record by this author.
    Record(Author),
}

/// Why a holder is not known for certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum UnknownReason {
    /// The file is empty: its creator is about to write, or died within the last two seconds.
    BeingCreated,
    /// The file has no readable record, and another process has it locked.
    Unreadable,
    /// The recorded process is gone, and yet another process has the file locked: a child that
    /// inherited it, or a reclaimer.
    HolderExited,
    /// The recorded process cannot be probed from here.
    CannotProbe,
    /// The record is another machine's, and no process has the file locked as far as this one sees.
    OtherMachine,
    /// The recorded process has no kernel lock that is shared with this mount, and cannot be probed
    /// from here: another container, another mount, or a process without kernel locks.
    NoSharedLock,
    /// The filesystem has no kernel locks, so nothing is ever reclaimed on it.
    NoKernelLocks,
    /// The file changed hands at every try.
    Contended,
    /// Whether any process has the file locked cannot be seen here without taking the lock, which a
    /// query must not do. Never a reason of an acquire.
    CannotWatch,
}

#[cfg(test)]
impl UnknownReason {
    /// Every reason, for the tests of their texts.
    pub(crate) const ALL: [Self; 9] = [
        Self::BeingCreated,
        Self::Unreadable,
        Self::HolderExited,
        Self::CannotProbe,
        Self::OtherMachine,
        Self::NoSharedLock,
        Self::NoKernelLocks,
        Self::Contended,
        Self::CannotWatch,
    ];
}

/// What to do about an existing lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Its holder is dead: confirm and unlink.
    Dead,
    /// Its holder lives: confirm and refuse, naming it.
    Alive,
    /// Not final: try again, and refuse with this reason when the tries are used up.
    NotFinal(UnknownReason),
    /// Final, and the holder is unknown: confirm and refuse.
    Unknown(UnknownReason),
}

/// The verdict of an acquire. Total: every combination has an answer.
pub fn judge(lock: KernelLock, evidence: Evidence) -> Verdict {
    match (lock, evidence) {
        (KernelLock::Ours, Evidence::Empty(Age::Old) | Evidence::Unreadable) => Verdict::Dead,
        (KernelLock::Ours, Evidence::Empty(Age::Young)) => {
            Verdict::NotFinal(UnknownReason::BeingCreated)
        }
        (KernelLock::Ours, Evidence::Record(author)) => unlocked(author),

        (KernelLock::Busy, Evidence::Empty(_)) => Verdict::NotFinal(UnknownReason::BeingCreated),
        (KernelLock::Busy, Evidence::Unreadable) => Verdict::NotFinal(UnknownReason::Unreadable),
        (KernelLock::Busy, Evidence::Record(author)) => locked(author),

        // Never reclaim. An active creator is still worth another try.
        (KernelLock::Unsupported, Evidence::Empty(Age::Young)) => {
            Verdict::NotFinal(UnknownReason::BeingCreated)
        }
        (KernelLock::Unsupported, Evidence::Empty(Age::Old) | Evidence::Unreadable) => {
            Verdict::Unknown(UnknownReason::NoKernelLocks)
        }
        (KernelLock::Unsupported, Evidence::Record(author)) => match unlocked(author) {
            Verdict::Alive => Verdict::Alive,
            Verdict::Dead | Verdict::NotFinal(_) | Verdict::Unknown(_) => {
                Verdict::Unknown(UnknownReason::NoKernelLocks)
            }
        },
    }
}

/// The rows in which no other process has the kernel lock.
fn unlocked(author: Author) -> Verdict {
    match author {
        Author::Here(free, probe) => match (probe, free) {
            (
                Probe::Gone | Probe::Zombie | Probe::Thread | Probe::Other | Probe::StartedLater,
                FreeLock::ProvesDeath | FreeLock::ProvesNothing,
            ) => Verdict::Dead,
            // A leftover of ours: we would find our own lock busy.
            (Probe::Ourselves, FreeLock::ProvesDeath) => Verdict::Dead,
            // We may hold it through another mount.
            (Probe::Ourselves, FreeLock::ProvesNothing) => {
                Verdict::Unknown(UnknownReason::NoSharedLock)
            }
            // It lost its kernel lock, as a daemon does that closes all its files.
            (Probe::Alive, FreeLock::ProvesDeath | FreeLock::ProvesNothing) => Verdict::Alive,
            // What has its number is most likely a stranger, and is not named.
            (Probe::NotPermitted | Probe::Unknown, FreeLock::ProvesDeath) => Verdict::Dead,
            (Probe::NotPermitted | Probe::Unknown, FreeLock::ProvesNothing) => {
                Verdict::Unknown(UnknownReason::CannotProbe)
            }
        },
        Author::OldFormat(probe) => match probe {
            // The kernel lock is free: a record with our own pid is a leftover of ours (S7).
            Probe::Gone
            | Probe::Zombie
            | Probe::Thread
            | Probe::Other
            | Probe::StartedLater
            | Probe::Ourselves => Verdict::Dead,
            Probe::Alive | Probe::NotPermitted => Verdict::Alive,
            Probe::Unknown => Verdict::Unknown(UnknownReason::CannotProbe),
        },
        Author::OtherNamespace(FreeLock::ProvesDeath) | Author::EarlierBoot => Verdict::Dead,
        Author::OtherNamespace(FreeLock::ProvesNothing) => {
            Verdict::Unknown(UnknownReason::NoSharedLock)
        }
        Author::OtherMachine => Verdict::Unknown(UnknownReason::OtherMachine),
    }
}

/// The rows in which another process has the kernel lock. Never dead.
fn locked(author: Author) -> Verdict {
    match author {
        Author::Here(_, probe) => match probe {
            Probe::Ourselves | Probe::Alive => Verdict::Alive,
            Probe::Gone | Probe::Zombie | Probe::Thread | Probe::Other | Probe::StartedLater => {
                Verdict::NotFinal(UnknownReason::HolderExited)
            }
            Probe::NotPermitted | Probe::Unknown => Verdict::NotFinal(UnknownReason::CannotProbe),
        },
        Author::OldFormat(probe) => match probe {
            Probe::Ourselves | Probe::Alive | Probe::NotPermitted => Verdict::Alive,
            Probe::Gone | Probe::Zombie | Probe::Thread | Probe::Other | Probe::StartedLater => {
                Verdict::NotFinal(UnknownReason::HolderExited)
            }
            Probe::Unknown => Verdict::NotFinal(UnknownReason::CannotProbe),
        },
        Author::EarlierBoot => Verdict::NotFinal(UnknownReason::HolderExited),
        Author::OtherNamespace(_) | Author::OtherMachine => {
            Verdict::NotFinal(UnknownReason::CannotProbe)
        }
    }
}

/// The answer of a query about a lock file that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Assessment {
    /// Held by the recorded process, which lives.
    Held,
    /// Held, by which process is not certain.
    HeldBy(UnknownReason),
    /// Provably stale: the next acquire reclaims it.
    Stale,
    /// Neither can be proved.
    Unknown(UnknownReason),
}

/// The answer of a query. Agrees with [`judge`] wherever the kernel lock could be watched, and is
/// never surer than it: what an acquire would not reclaim is not called stale.
pub fn assess(watch: Watch, evidence: Evidence) -> Assessment {
    let seen_as = |lock| match judge(lock, evidence) {
        Verdict::Dead => Assessment::Stale,
        Verdict::Alive => Assessment::Held,
        Verdict::NotFinal(unsure) | Verdict::Unknown(unsure) => match lock {
            KernelLock::Busy => Assessment::HeldBy(unsure),
            KernelLock::Ours | KernelLock::Unsupported => Assessment::Unknown(unsure),
        },
    };
    match watch {
        Watch::Held => seen_as(KernelLock::Busy),
        Watch::Free => seen_as(KernelLock::Ours),
        // Unseen, the lock may be either: what both agree on is proved.
        Watch::Unknown => match (seen_as(KernelLock::Ours), seen_as(KernelLock::Busy)) {
            (free, held) if free == held => free,
            (Assessment::Unknown(unsure), _) => Assessment::Unknown(unsure),
            (Assessment::Held | Assessment::HeldBy(_) | Assessment::Stale, _) => {
                Assessment::Unknown(UnknownReason::CannotWatch)
            }
        },
    }
}

/// Whether the answer of a query depends on the kernel lock at all. It does not where the recorded
/// process runs here and is known to live.
pub(crate) fn depends_on_watch(evidence: Evidence) -> bool {
    assess(Watch::Held, evidence) != assess(Watch::Free, evidence)
}

#[cfg(test)]
mod tests;
