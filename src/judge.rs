//! The verdict over a lock file that stands in the way: a pure function of the evidence.
//!
//! The evidence is what the kernel lock said, where the record says that its author runs, and
//! what the process probe answered. [`judge`] is the table of the protocol, row by row; the tests
//! below go through every cell. [`assess`] is the same table for a query, which may not take the
//! kernel lock and can only watch it.
//!
//! Exclusion never rests on the probe (P8): a verdict of [`Verdict::Dead`] is acted on only under
//! the kernel lock and after a confirm. The probe decides whether a person is refused.

// A new reply or state must be decided on, not fall into `_`.
#![deny(clippy::wildcard_enum_match_arm)]

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
    /// Somebody has it.
    Held,
    /// Nobody has it.
    Free,
    /// This system cannot say.
    Unknown,
}

/// How long ago a file was changed, against the grace of [`GRACE`](crate::protocol::GRACE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Age {
    /// Within the grace: a creator that has not written yet may still be at work.
    Young,
    /// Before the grace.
    Old,
}

/// Where the record says that its author runs, seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Author {
    /// This boot of this machine, this pid namespace: the pid can be probed.
    Here,
    /// This boot of this machine, another pid namespace. The filesystem's locks are those of the
    /// whole kernel (local disks, tmpfs, overlayfs), so a free lock proves that nobody has it.
    OtherNamespace,
    /// As [`OtherNamespace`](Self::OtherNamespace), on a filesystem whose locks may be local to
    /// one mount (FUSE, network).
    OtherNamespaceUnproved,
    /// An earlier boot of this machine.
    EarlierBoot,
    /// Another machine: a shared directory.
    OtherMachine,
    /// Unknown: the record has the old format, a pid and no more. It is taken to be here.
    OldFormat,
}

/// What the probe of the recorded process answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Probe {
    /// No such process (`ESRCH`, S3).
    Gone,
    /// It has ended and waits for its parent.
    Zombie,
    /// The number is a thread of some process, so no process has it.
    Thread,
    /// Another process has the number: its start time differs from the recorded one.
    Other,
    /// A process has the number and provably started after the record was written.
    StartedLater,
    /// That very process, and it is us.
    Ourselves,
    /// That very process, or one whose start time cannot be compared.
    Alive,
    /// We may not ask (`EPERM`), so some process has the number (S6).
    NotPermitted,
    /// It cannot be asked after from here.
    Unknown,
}

/// The evidence about a lock file, beside the kernel lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Evidence {
    /// Empty, or unreadable as a record; so old.
    Nothing(Age),
    /// A record by this author, and what the probe said.
    Record(Author, Probe),
}

/// Why a holder is not known for certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unsure {
    /// The file has no record yet: its creator is at work, or died within the last two seconds.
    BeingCreated,
    /// The recorded process is gone, and yet somebody has the file locked: a child that inherited
    /// it, or a reclaimer at work.
    RecordedGone,
    /// The recorded process cannot be asked after from here.
    CannotProbe,
    /// The record is another machine's, and nobody has the file locked as far as this one sees.
    OtherMachine,
    /// The record is another pid namespace's, and this filesystem's locks prove nothing there.
    OtherNamespace,
    /// The filesystem has no kernel locks, so nothing is ever reclaimed on it.
    NoKernelLocks,
    /// The file changed hands at every try.
    Contended,
    /// Whether anybody has the file locked cannot be seen here without taking the lock, which a
    /// query must not do. Never a reason of an acquire.
    CannotWatch,
}

/// What to do about a lock file that stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Its holder is dead: confirm and unlink.
    Dead,
    /// Its holder lives: confirm and refuse, naming it.
    Alive,
    /// Not final: try again, and refuse with this reason when the tries are used up.
    NotFinal(Unsure),
    /// Final, and the holder is unknown: confirm and refuse.
    Unknown(Unsure),
}

/// The verdict of an acquire. Total: every combination has an answer.
pub fn judge(lock: KernelLock, evidence: Evidence) -> Verdict {
    match (lock, evidence) {
        (KernelLock::Ours, Evidence::Nothing(Age::Old)) => Verdict::Dead,
        (KernelLock::Ours, Evidence::Nothing(Age::Young)) => {
            Verdict::NotFinal(Unsure::BeingCreated)
        }
        (KernelLock::Ours, Evidence::Record(author, probe)) => unlocked(author, probe),

        (KernelLock::Busy, Evidence::Nothing(_)) => Verdict::NotFinal(Unsure::BeingCreated),
        (KernelLock::Busy, Evidence::Record(author, probe)) => locked(author, probe),

        // Never reclaim. A creator at work is still worth another look.
        (KernelLock::Unsupported, Evidence::Nothing(Age::Young)) => {
            Verdict::NotFinal(Unsure::BeingCreated)
        }
        (KernelLock::Unsupported, Evidence::Nothing(Age::Old)) => {
            Verdict::Unknown(Unsure::NoKernelLocks)
        }
        (KernelLock::Unsupported, Evidence::Record(author, probe)) => {
            match unlocked(author, probe) {
                Verdict::Alive => Verdict::Alive,
                Verdict::Dead | Verdict::NotFinal(_) | Verdict::Unknown(_) => {
                    Verdict::Unknown(Unsure::NoKernelLocks)
                }
            }
        }
    }
}

/// The rows in which nobody else has the kernel lock.
fn unlocked(author: Author, probe: Probe) -> Verdict {
    match author {
        // The kernel lock is free: what lives and is ourselves is a leftover of ours (S7).
        Author::Here | Author::OldFormat => match probe {
            Probe::Gone
            | Probe::Zombie
            | Probe::Thread
            | Probe::Other
            | Probe::StartedLater
            | Probe::Ourselves => Verdict::Dead,
            Probe::Alive | Probe::NotPermitted => Verdict::Alive,
            Probe::Unknown => Verdict::Unknown(Unsure::CannotProbe),
        },
        Author::OtherNamespace | Author::EarlierBoot => Verdict::Dead,
        Author::OtherNamespaceUnproved => Verdict::Unknown(Unsure::OtherNamespace),
        Author::OtherMachine => Verdict::Unknown(Unsure::OtherMachine),
    }
}

/// The rows in which somebody else has the kernel lock. Never dead.
fn locked(author: Author, probe: Probe) -> Verdict {
    match author {
        Author::Here | Author::OldFormat => match probe {
            Probe::Ourselves | Probe::Alive | Probe::NotPermitted => Verdict::Alive,
            Probe::Gone | Probe::Zombie | Probe::Thread | Probe::Other | Probe::StartedLater => {
                Verdict::NotFinal(Unsure::RecordedGone)
            }
            Probe::Unknown => Verdict::NotFinal(Unsure::CannotProbe),
        },
        Author::EarlierBoot => Verdict::NotFinal(Unsure::RecordedGone),
        Author::OtherNamespace | Author::OtherNamespaceUnproved | Author::OtherMachine => {
            Verdict::NotFinal(Unsure::CannotProbe)
        }
    }
}

/// The answer of a query about a lock file that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Assessment {
    /// Held by the recorded process, which lives.
    Held,
    /// Held, by whom is not certain.
    HeldBy(Unsure),
    /// Provably stale: the next acquire reclaims it.
    Stale,
    /// Neither can be proved.
    CannotTell(Unsure),
}

/// The answer of a query. Agrees with [`judge`] wherever the kernel lock could be watched.
pub fn assess(watch: Watch, evidence: Evidence) -> Assessment {
    let seen_as = |lock| match judge(lock, evidence) {
        Verdict::Dead => Assessment::Stale,
        Verdict::Alive => Assessment::Held,
        Verdict::NotFinal(unsure) | Verdict::Unknown(unsure) => match lock {
            KernelLock::Busy => Assessment::HeldBy(unsure),
            KernelLock::Ours | KernelLock::Unsupported => Assessment::CannotTell(unsure),
        },
    };
    match watch {
        Watch::Held => seen_as(KernelLock::Busy),
        Watch::Free => seen_as(KernelLock::Ours),
        // Unseen, the lock may be either: what both agree on is proved.
        Watch::Unknown => match (seen_as(KernelLock::Ours), seen_as(KernelLock::Busy)) {
            (free, held) if free == held => free,
            // No process of an earlier boot can have a lock of this one.
            (Assessment::Stale, _)
                if matches!(evidence, Evidence::Record(Author::EarlierBoot, _)) =>
            {
                Assessment::Stale
            }
            (Assessment::CannotTell(unsure), _) => Assessment::CannotTell(unsure),
            (Assessment::Held | Assessment::HeldBy(_) | Assessment::Stale, _) => {
                Assessment::CannotTell(Unsure::CannotWatch)
            }
        },
    }
}
