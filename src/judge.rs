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
//! | proof | premise | where it is told |
//! | --- | --- | --- |
//! | the pid is gone, or another process has it | the record is of this boot and this pid namespace | [`Author::Here`] |
//! | the kernel lock is free | the author took it, and its lock and ours exclude each other | [`FreeLock`] |
//! | the boot is over | it is an earlier boot of this very machine, or nobody else has the filesystem | [`Author::EarlierBoot`] |
//! | there is no record to lose | both writers write a record with one call | [`Evidence::Unreadable`] |
//! | a creator would have written by now | it writes within the grace | [`Age::Old`] |

// A new reply or state must be decided on, not fall into `_`.
#![deny(clippy::wildcard_enum_match_arm)]

/// What exclusion rests on while a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// What it says about the author of a record that the kernel lock is free.
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
pub enum Unsure {
    /// The file is empty: its creator is about to write, or died within the last two seconds.
    BeingCreated,
    /// The file has no readable record, and another process has it locked.
    Unreadable,
    /// The recorded process is gone, and yet another process has the file locked: a child that
    /// inherited it, or a reclaimer.
    RecordedGone,
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

/// What to do about an existing lock file.
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
        (KernelLock::Ours, Evidence::Empty(Age::Old) | Evidence::Unreadable) => Verdict::Dead,
        (KernelLock::Ours, Evidence::Empty(Age::Young)) => Verdict::NotFinal(Unsure::BeingCreated),
        (KernelLock::Ours, Evidence::Record(author)) => unlocked(author),

        (KernelLock::Busy, Evidence::Empty(_)) => Verdict::NotFinal(Unsure::BeingCreated),
        (KernelLock::Busy, Evidence::Unreadable) => Verdict::NotFinal(Unsure::Unreadable),
        (KernelLock::Busy, Evidence::Record(author)) => locked(author),

        // Never reclaim. An active creator is still worth another try.
        (KernelLock::Unsupported, Evidence::Empty(Age::Young)) => {
            Verdict::NotFinal(Unsure::BeingCreated)
        }
        (KernelLock::Unsupported, Evidence::Empty(Age::Old) | Evidence::Unreadable) => {
            Verdict::Unknown(Unsure::NoKernelLocks)
        }
        (KernelLock::Unsupported, Evidence::Record(author)) => match unlocked(author) {
            Verdict::Alive => Verdict::Alive,
            Verdict::Dead | Verdict::NotFinal(_) | Verdict::Unknown(_) => {
                Verdict::Unknown(Unsure::NoKernelLocks)
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
            (Probe::Ourselves, FreeLock::ProvesNothing) => Verdict::Unknown(Unsure::NoSharedLock),
            // It lost its kernel lock, as a daemon does that closes all its files.
            (Probe::Alive, FreeLock::ProvesDeath | FreeLock::ProvesNothing) => Verdict::Alive,
            // What has its number is most likely a stranger, and is not named.
            (Probe::NotPermitted | Probe::Unknown, FreeLock::ProvesDeath) => Verdict::Dead,
            (Probe::NotPermitted | Probe::Unknown, FreeLock::ProvesNothing) => {
                Verdict::Unknown(Unsure::CannotProbe)
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
            Probe::Unknown => Verdict::Unknown(Unsure::CannotProbe),
        },
        Author::OtherNamespace(FreeLock::ProvesDeath) | Author::EarlierBoot => Verdict::Dead,
        Author::OtherNamespace(FreeLock::ProvesNothing) => Verdict::Unknown(Unsure::NoSharedLock),
        Author::OtherMachine => Verdict::Unknown(Unsure::OtherMachine),
    }
}

/// The rows in which another process has the kernel lock. Never dead.
fn locked(author: Author) -> Verdict {
    match author {
        Author::Here(_, probe) => match probe {
            Probe::Ourselves | Probe::Alive => Verdict::Alive,
            Probe::Gone | Probe::Zombie | Probe::Thread | Probe::Other | Probe::StartedLater => {
                Verdict::NotFinal(Unsure::RecordedGone)
            }
            Probe::NotPermitted | Probe::Unknown => Verdict::NotFinal(Unsure::CannotProbe),
        },
        Author::OldFormat(probe) => match probe {
            Probe::Ourselves | Probe::Alive | Probe::NotPermitted => Verdict::Alive,
            Probe::Gone | Probe::Zombie | Probe::Thread | Probe::Other | Probe::StartedLater => {
                Verdict::NotFinal(Unsure::RecordedGone)
            }
            Probe::Unknown => Verdict::NotFinal(Unsure::CannotProbe),
        },
        Author::EarlierBoot => Verdict::NotFinal(Unsure::RecordedGone),
        Author::OtherNamespace(_) | Author::OtherMachine => Verdict::NotFinal(Unsure::CannotProbe),
    }
}

/// The answer of a query about a lock file that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Assessment {
    /// Held by the recorded process, which lives.
    Held,
    /// Held, by which process is not certain.
    HeldBy(Unsure),
    /// Provably stale: the next acquire reclaims it.
    Stale,
    /// Neither can be proved.
    CannotTell(Unsure),
}

/// The answer of a query. Agrees with [`judge`] wherever the kernel lock could be watched, and is
/// never surer than it: what an acquire would not reclaim is not called stale.
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
            (Assessment::CannotTell(unsure), _) => Assessment::CannotTell(unsure),
            (Assessment::Held | Assessment::HeldBy(_) | Assessment::Stale, _) => {
                Assessment::CannotTell(Unsure::CannotWatch)
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
mod tests {
    use super::*;

    use Assessment::{CannotTell, Held, HeldBy, Stale};
    use Author::{EarlierBoot, Here, OldFormat, OtherMachine, OtherNamespace};
    use Evidence::{Empty, Record, Unreadable};
    use FreeLock::{ProvesDeath, ProvesNothing};
    use KernelLock::{Busy, Ours, Unsupported};
    use Probe::{
        Alive, Gone, NotPermitted, Other, Ourselves, StartedLater, Thread, Unknown, Zombie,
    };
    use Unsure::{
        BeingCreated, CannotProbe, CannotWatch, NoKernelLocks, NoSharedLock, RecordedGone,
    };
    use Verdict::{Dead, NotFinal};

    const PROBES: [Probe; 9] =
        [Gone, Zombie, Thread, Other, StartedLater, Ourselves, Alive, NotPermitted, Unknown];
    const GONE: [Probe; 5] = [Gone, Zombie, Thread, Other, StartedLater];
    const FREE: [FreeLock; 2] = [ProvesDeath, ProvesNothing];

    /// All evidence, each piece with its name in the tables below.
    fn evidence() -> Vec<(&'static str, Evidence)> {
        let probed = |of: fn(Probe) -> Author| PROBES.map(|probe| Record(of(probe)));
        let rows: [(&str, Vec<Evidence>); 10] = [
            ("Here", probed(|probe| Here(ProvesDeath, probe)).into()),
            ("HereUnshared", probed(|probe| Here(ProvesNothing, probe)).into()),
            ("OldFormat", probed(OldFormat).into()),
            ("OtherNamespace", vec![Record(OtherNamespace(ProvesDeath))]),
            ("OtherUnshared", vec![Record(OtherNamespace(ProvesNothing))]),
            ("EarlierBoot", vec![Record(EarlierBoot)]),
            ("OtherMachine", vec![Record(OtherMachine)]),
            ("Unreadable", vec![Unreadable]),
            ("Young", vec![Empty(Age::Young)]),
            ("Old", vec![Empty(Age::Old)]),
        ];
        rows.into_iter()
            .flat_map(|(name, found)| found.into_iter().map(move |found| (name, found)))
            .collect()
    }

    #[test]
    fn free_lock_proves_death_only_with_both_premises() {
        let proves = |author, domain| FreeLock::of(author, domain) == ProvesDeath;
        assert!(proves(Guarantee::KernelLock, LockDomain::Shared));
        assert!(!proves(Guarantee::ExclusiveCreate, LockDomain::Shared));
        assert!(!proves(Guarantee::KernelLock, LockDomain::Unknown));
        assert!(!proves(Guarantee::ExclusiveCreate, LockDomain::Unknown));
    }

    #[test]
    fn ours_and_process_gone_is_dead_whatever_the_lock_proves() {
        for (free, probe) in FREE.into_iter().flat_map(|free| GONE.map(|probe| (free, probe))) {
            assert_eq!(judge(Ours, Record(Here(free, probe))), Dead, "{free:?} {probe:?}");
        }
    }

    #[test]
    fn ours_and_recorded_process_alive_is_alive() {
        for free in FREE {
            assert_eq!(judge(Ours, Record(Here(free, Alive))), Verdict::Alive);
        }
    }

    #[test]
    fn ours_and_unprobed_process_is_dead_only_by_a_shared_lock() {
        for probe in [NotPermitted, Unknown] {
            assert_eq!(judge(Ours, Record(Here(ProvesDeath, probe))), Dead);
            let unshared = judge(Ours, Record(Here(ProvesNothing, probe)));
            assert_eq!(unshared, Verdict::Unknown(CannotProbe));
        }
        assert_eq!(judge(Ours, Record(OtherNamespace(ProvesDeath))), Dead);
        let unshared = judge(Ours, Record(OtherNamespace(ProvesNothing)));
        assert_eq!(unshared, Verdict::Unknown(NoSharedLock));
    }

    #[test]
    fn our_own_record_is_a_leftover_only_by_a_shared_lock() {
        assert_eq!(judge(Ours, Record(Here(ProvesDeath, Ourselves))), Dead);
        let unshared = judge(Ours, Record(Here(ProvesNothing, Ourselves)));
        assert_eq!(unshared, Verdict::Unknown(NoSharedLock));
        assert_eq!(judge(Ours, Record(OldFormat(Ourselves))), Dead);
    }

    #[test]
    fn ours_of_a_boot_that_is_over_is_dead() {
        assert_eq!(judge(Ours, Record(EarlierBoot)), Dead);
    }

    #[test]
    fn ours_of_another_machine_is_unknown() {
        assert_eq!(judge(Ours, Record(OtherMachine)), Verdict::Unknown(Unsure::OtherMachine));
    }

    #[test]
    fn ours_in_old_format_is_dead_when_its_pid_is_gone() {
        for probe in GONE {
            assert_eq!(judge(Ours, Record(OldFormat(probe))), Dead, "{probe:?}");
        }
        for probe in [Alive, NotPermitted] {
            assert_eq!(judge(Ours, Record(OldFormat(probe))), Verdict::Alive, "{probe:?}");
        }
    }

    #[test]
    fn ours_and_empty_waits_for_its_creator_within_the_grace() {
        assert_eq!(judge(Ours, Empty(Age::Young)), NotFinal(BeingCreated));
        assert_eq!(judge(Ours, Empty(Age::Old)), Dead);
    }

    #[test]
    fn ours_and_unreadable_is_dead_at_once() {
        assert_eq!(judge(Ours, Unreadable), Dead);
    }

    #[test]
    fn busy_naming_a_live_process_is_alive() {
        for free in FREE {
            for probe in [Alive, Ourselves] {
                assert_eq!(judge(Busy, Record(Here(free, probe))), Verdict::Alive, "{probe:?}");
            }
        }
        for probe in [Alive, NotPermitted, Ourselves] {
            assert_eq!(judge(Busy, Record(OldFormat(probe))), Verdict::Alive, "{probe:?}");
        }
    }

    #[test]
    fn busy_naming_a_process_that_cannot_be_probed_is_not_final() {
        for free in FREE {
            assert_eq!(judge(Busy, Record(OtherNamespace(free))), NotFinal(CannotProbe));
            assert_eq!(judge(Busy, Record(Here(free, Unknown))), NotFinal(CannotProbe));
        }
        assert_eq!(judge(Busy, Record(OtherMachine)), NotFinal(CannotProbe));
    }

    #[test]
    fn busy_naming_a_process_that_is_gone_is_not_final() {
        for probe in GONE {
            for author in [Here(ProvesDeath, probe), OldFormat(probe)] {
                assert_eq!(judge(Busy, Record(author)), NotFinal(RecordedGone));
            }
        }
        assert_eq!(judge(Busy, Record(EarlierBoot)), NotFinal(RecordedGone));
    }

    #[test]
    fn busy_without_a_record_is_not_final() {
        for age in [Age::Young, Age::Old] {
            assert_eq!(judge(Busy, Empty(age)), NotFinal(BeingCreated));
        }
        assert_eq!(judge(Busy, Unreadable), NotFinal(Unsure::Unreadable));
    }

    #[test]
    fn unsupported_never_reclaims() {
        for (_, found) in evidence() {
            assert_ne!(judge(Unsupported, found), Dead, "{found:?}");
        }
    }

    /// P8: whatever the probe says, no process is evicted whose kernel lock is held.
    #[test]
    fn busy_is_never_dead() {
        for (_, found) in evidence() {
            assert_ne!(judge(Busy, found), Dead, "{found:?}");
        }
    }

    /// The whole of the judge, written a second time: authors down, answers of the probe across.
    ///
    /// D dead, A alive, n not final, u unknown; after n and u the reason: c being created, r
    /// unreadable, g the recorded one is gone, p cannot probe, m other machine, s no shared lock,
    /// k no kernel locks.
    #[rustfmt::skip]
    const VERDICTS: [(KernelLock, &str); 3] = [
        (Ours, "
                        Gone Zombie Thread Other StartedLater Ourselves Alive NotPermitted Unknown
Here                    D    D      D      D     D            D         A     D            D
HereUnshared            D    D      D      D     D            us        A     up           up
OldFormat               D    D      D      D     D            D         A     A            up
OtherNamespace          D
OtherUnshared           us
EarlierBoot             D
OtherMachine            um
Unreadable              D
Young                   nc
Old                     D"),
        (Busy, "
                        Gone Zombie Thread Other StartedLater Ourselves Alive NotPermitted Unknown
Here                    ng   ng     ng     ng    ng           A         A     np           np
HereUnshared            ng   ng     ng     ng    ng           A         A     np           np
OldFormat               ng   ng     ng     ng    ng           A         A     A            np
OtherNamespace          np
OtherUnshared           np
EarlierBoot             ng
OtherMachine            np
Unreadable              nr
Young                   nc
Old                     nc"),
        (Unsupported, "
                        Gone Zombie Thread Other StartedLater Ourselves Alive NotPermitted Unknown
Here                    uk   uk     uk     uk    uk           uk        A     uk           uk
HereUnshared            uk   uk     uk     uk    uk           uk        A     uk           uk
OldFormat               uk   uk     uk     uk    uk           uk        A     A            uk
OtherNamespace          uk
OtherUnshared           uk
EarlierBoot             uk
OtherMachine            uk
Unreadable              uk
Young                   nc
Old                     uk"),
    ];

    #[test]
    fn every_cell_is_as_written_here() {
        let mut cells = 0;
        for (lock, table) in VERDICTS {
            for (found, code) in read_table(table) {
                assert_eq!(judge(lock, found), verdict(code), "{lock:?} {found:?}");
                cells += 1;
            }
        }
        assert_eq!(cells, 3 * evidence().len());
    }

    /// What a query says, likewise: S stale, H held; h held by one who is not certain, t cannot
    /// tell, each with the reason; w is "cannot watch".
    #[rustfmt::skip]
    const ASSESSMENTS: [(Watch, &str); 3] = [
        (Watch::Free, "
                        Gone Zombie Thread Other StartedLater Ourselves Alive NotPermitted Unknown
Here                    S    S      S      S     S            S         H     S            S
HereUnshared            S    S      S      S     S            ts        H     tp           tp
OldFormat               S    S      S      S     S            S         H     H            tp
OtherNamespace          S
OtherUnshared           ts
EarlierBoot             S
OtherMachine            tm
Unreadable              S
Young                   tc
Old                     S"),
        (Watch::Held, "
                        Gone Zombie Thread Other StartedLater Ourselves Alive NotPermitted Unknown
Here                    hg   hg     hg     hg    hg           H         H     hp           hp
HereUnshared            hg   hg     hg     hg    hg           H         H     hp           hp
OldFormat               hg   hg     hg     hg    hg           H         H     H            hp
OtherNamespace          hp
OtherUnshared           hp
EarlierBoot             hg
OtherMachine            hp
Unreadable              hr
Young                   hc
Old                     hc"),
        (Watch::Unknown, "
                        Gone Zombie Thread Other StartedLater Ourselves Alive NotPermitted Unknown
Here                    tw   tw     tw     tw    tw           tw        H     tw           tw
HereUnshared            tw   tw     tw     tw    tw           ts        H     tp           tp
OldFormat               tw   tw     tw     tw    tw           tw        H     H            tp
OtherNamespace          tw
OtherUnshared           ts
EarlierBoot             tw
OtherMachine            tm
Unreadable              tw
Young                   tc
Old                     tw"),
    ];

    #[test]
    fn every_cell_of_a_query_is_as_written_here() {
        let mut cells = 0;
        for (watch, table) in ASSESSMENTS {
            for (found, code) in read_table(table) {
                assert_eq!(assess(watch, found), assessment(code), "{watch:?} {found:?}");
                cells += 1;
            }
        }
        assert_eq!(cells, 3 * evidence().len());
    }

    /// What is wrong with the answer of a query, if it is surer than an acquire would be.
    fn is_surer(watch: Watch, found: Evidence, assessed: Assessment) -> bool {
        let possible = match watch {
            Watch::Free => vec![Ours],
            Watch::Held => vec![Busy],
            Watch::Unknown => vec![Ours, Busy],
        };
        let expected = match assessed {
            Stale => Dead,
            Held => Verdict::Alive,
            HeldBy(_) | CannotTell(_) => return false,
        };
        possible.into_iter().any(|lock| judge(lock, found) != expected)
    }

    #[test]
    fn query_is_never_surer_than_an_acquire() {
        for watch in [Watch::Free, Watch::Held, Watch::Unknown] {
            for (_, found) in evidence() {
                assert!(!is_surer(watch, found, assess(watch, found)), "{watch:?} {found:?}");
            }
        }
        // The control, which portlock 0.1 shipped: an earlier boot is stale though unseen.
        assert!(is_surer(Watch::Unknown, Record(EarlierBoot), Stale));
    }

    #[test]
    fn query_that_saw_the_lock_agrees_with_an_acquire() {
        for (_, found) in evidence() {
            for (watch, lock) in [(Watch::Free, Ours), (Watch::Held, Busy)] {
                let agreed = match (judge(lock, found), assess(watch, found)) {
                    (Dead, Stale) | (Verdict::Alive, Held) => true,
                    (NotFinal(why) | Verdict::Unknown(why), HeldBy(said) | CannotTell(said)) => {
                        why == said
                    }
                    _ => false,
                };
                assert!(agreed, "{watch:?} {found:?}");
            }
        }
    }

    #[test]
    fn query_that_need_not_see_the_lock_says_the_same_without() {
        let mut needless = Vec::new();
        for (_, found) in evidence().into_iter().filter(|&(_, found)| !depends_on_watch(found)) {
            let all = [Watch::Free, Watch::Held, Watch::Unknown].map(|watch| assess(watch, found));
            assert_eq!(all, [all[0]; 3], "{found:?}");
            needless.push(found);
        }
        assert!(needless.contains(&Record(Here(ProvesDeath, Alive))));
        assert!(!needless.contains(&Record(Here(ProvesDeath, Ourselves))));
        assert!(!needless.contains(&Record(OtherNamespace(ProvesDeath))));
    }

    fn read_table(table: &str) -> impl Iterator<Item = (Evidence, &str)> {
        let mut lines = table.lines().filter(|line| !line.is_empty());
        let heading = lines.next().expect("a heading").split_whitespace();
        assert!(heading.eq(PROBES.map(|probe| format!("{probe:?}"))), "columns in order");
        lines.flat_map(|line| {
            let mut words = line.split_whitespace();
            let row = words.next().expect("a label");
            let found: Vec<Evidence> = evidence()
                .into_iter()
                .filter_map(|(name, found)| (name == row).then_some(found))
                .collect();
            let codes: Vec<&str> = words.collect();
            assert_eq!(found.len(), codes.len(), "{line}");
            found.into_iter().zip(codes)
        })
    }

    fn verdict(code: &str) -> Verdict {
        match code.split_at(1) {
            ("D", "") => Dead,
            ("A", "") => Verdict::Alive,
            ("n", why) => NotFinal(reason(why)),
            ("u", why) => Verdict::Unknown(reason(why)),
            (_, _) => panic!("{code} is no verdict"),
        }
    }

    fn assessment(code: &str) -> Assessment {
        match code.split_at(1) {
            ("S", "") => Stale,
            ("H", "") => Held,
            ("h", why) => HeldBy(reason(why)),
            ("t", why) => CannotTell(reason(why)),
            (_, _) => panic!("{code} is no assessment"),
        }
    }

    fn reason(code: &str) -> Unsure {
        match code {
            "c" => BeingCreated,
            "r" => Unsure::Unreadable,
            "g" => RecordedGone,
            "p" => CannotProbe,
            "m" => Unsure::OtherMachine,
            "s" => NoSharedLock,
            "k" => NoKernelLocks,
            "w" => CannotWatch,
            _ => panic!("{code} is no reason"),
        }
    }
}
