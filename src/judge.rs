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
    /// It has ended and waits for its parent; or is ending, nothing of its program runs any more,
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
#[non_exhaustive]
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

/// Whether the answer of a query depends on the kernel lock at all. It does not where the recorded
/// process runs here and is known to live.
pub(crate) fn depends_on_watch(evidence: Evidence) -> bool {
    assess(Watch::Held, evidence) != assess(Watch::Free, evidence)
}

#[cfg(test)]
mod tests {
    use super::*;

    use Assessment::{CannotTell, Held, HeldBy, Stale};
    use Author::{
        EarlierBoot, Here, OldFormat, OtherMachine, OtherNamespace, OtherNamespaceUnproved,
    };
    use Evidence::{Nothing, Record};
    use KernelLock::{Busy, Ours, Unsupported};
    use Probe::{
        Alive, Gone, NotPermitted, Other, Ourselves, StartedLater, Thread, Unknown, Zombie,
    };
    use Unsure::{BeingCreated, CannotProbe, CannotWatch, NoKernelLocks, RecordedGone};
    use Verdict::{Dead, NotFinal};

    const AUTHORS: [Author; 6] =
        [Here, OldFormat, OtherNamespace, OtherNamespaceUnproved, EarlierBoot, OtherMachine];
    const PROBES: [Probe; 9] =
        [Gone, Zombie, Thread, Other, StartedLater, Ourselves, Alive, NotPermitted, Unknown];
    const GONE: [Probe; 5] = [Gone, Zombie, Thread, Other, StartedLater];

    fn evidence() -> impl Iterator<Item = Evidence> {
        let records = AUTHORS.into_iter().flat_map(|a| PROBES.map(|probe| Record(a, probe)));
        [Nothing(Age::Young), Nothing(Age::Old)].into_iter().chain(records)
    }

    #[test]
    fn ours_and_its_process_is_gone_a_zombie_or_another_is_dead() {
        for probe in [Gone, Zombie, Other] {
            assert_eq!(judge(Ours, Record(Here, probe)), Dead, "{probe:?}");
        }
    }

    #[test]
    fn ours_and_that_very_process_is_us_is_dead_a_leftover_of_ours() {
        assert_eq!(judge(Ours, Record(Here, Ourselves)), Dead);
    }

    #[test]
    fn ours_and_that_very_process_lives_and_is_not_us_is_alive() {
        assert_eq!(judge(Ours, Record(Here, Alive)), Verdict::Alive);
    }

    #[test]
    fn ours_in_another_pid_namespace_is_dead_where_locks_are_the_whole_kernels() {
        for probe in PROBES {
            assert_eq!(judge(Ours, Record(OtherNamespace, probe)), Dead);
        }
    }

    #[test]
    fn ours_in_another_pid_namespace_is_refused_as_unknown_elsewhere() {
        for probe in PROBES {
            assert_eq!(
                judge(Ours, Record(OtherNamespaceUnproved, probe)),
                Verdict::Unknown(Unsure::OtherNamespace)
            );
        }
    }

    #[test]
    fn ours_of_an_earlier_boot_is_dead() {
        for probe in PROBES {
            assert_eq!(judge(Ours, Record(EarlierBoot, probe)), Dead);
        }
    }

    #[test]
    fn ours_of_another_machine_is_refused_as_unknown() {
        for probe in PROBES {
            assert_eq!(
                judge(Ours, Record(OtherMachine, probe)),
                Verdict::Unknown(Unsure::OtherMachine)
            );
        }
    }

    #[test]
    fn ours_in_the_old_format_whose_pid_is_gone_a_zombie_or_a_thread_is_dead() {
        for probe in [Gone, Zombie, Thread] {
            assert_eq!(judge(Ours, Record(OldFormat, probe)), Dead, "{probe:?}");
        }
    }

    #[test]
    fn ours_in_the_old_format_with_our_own_pid_is_dead() {
        assert_eq!(judge(Ours, Record(OldFormat, Ourselves)), Dead);
    }

    #[test]
    fn ours_in_the_old_format_is_alive_unless_that_process_started_after_the_record() {
        for probe in [Alive, NotPermitted] {
            assert_eq!(judge(Ours, Record(OldFormat, probe)), Verdict::Alive, "{probe:?}");
        }
        assert_eq!(judge(Ours, Record(OldFormat, StartedLater)), Dead);
    }

    #[test]
    fn ours_without_a_record_is_newborn_within_the_grace_and_dead_after_it() {
        assert_eq!(judge(Ours, Nothing(Age::Young)), NotFinal(BeingCreated));
        assert_eq!(judge(Ours, Nothing(Age::Old)), Dead);
    }

    #[test]
    fn busy_naming_a_live_process_is_alive() {
        for author in [Here, OldFormat] {
            for probe in [Alive, NotPermitted, Ourselves] {
                assert_eq!(judge(Busy, Record(author, probe)), Verdict::Alive, "{probe:?}");
            }
        }
    }

    #[test]
    fn busy_naming_one_that_cannot_be_probed_is_not_final() {
        for author in [OtherNamespace, OtherNamespaceUnproved, OtherMachine] {
            for probe in PROBES {
                assert_eq!(judge(Busy, Record(author, probe)), NotFinal(CannotProbe));
            }
        }
        assert_eq!(judge(Busy, Record(Here, Unknown)), NotFinal(CannotProbe));
    }

    #[test]
    fn busy_naming_one_that_is_gone_is_not_final() {
        for author in [Here, OldFormat] {
            for probe in GONE {
                assert_eq!(judge(Busy, Record(author, probe)), NotFinal(RecordedGone));
            }
        }
        assert_eq!(judge(Busy, Record(EarlierBoot, Unknown)), NotFinal(RecordedGone));
    }

    #[test]
    fn busy_without_a_record_is_not_final() {
        for age in [Age::Young, Age::Old] {
            assert_eq!(judge(Busy, Nothing(age)), NotFinal(BeingCreated));
        }
    }

    #[test]
    fn unsupported_never_reclaims() {
        for found in evidence() {
            assert_ne!(judge(Unsupported, found), Dead, "{found:?}");
        }
    }

    /// P8: whatever the probe says, nobody is evicted whose kernel lock is held.
    #[test]
    fn busy_is_never_dead() {
        for found in evidence() {
            assert_ne!(judge(Busy, found), Dead, "{found:?}");
        }
    }

    /// The whole of the judge, written a second time: authors down, answers of the probe across.
    ///
    /// D dead, A alive, n not final, u unknown; behind n and u the reason: c being created, g the
    /// recorded one is gone, p cannot probe, m other machine, s other namespace, k no kernel locks.
    #[rustfmt::skip]
    const VERDICTS: [(KernelLock, &str); 3] = [
        (Ours, "
                        Gone Zombie Thread Other StartedLater Ourselves Alive NotPermitted Unknown
Here                    D    D      D      D     D            D         A     A            up
OldFormat               D    D      D      D     D            D         A     A            up
OtherNamespace          D    D      D      D     D            D         D     D            D
OtherNamespaceUnproved  us   us     us     us    us           us        us    us           us
EarlierBoot             D    D      D      D     D            D         D     D            D
OtherMachine            um   um     um     um    um           um        um    um           um
Young                   nc
Old                     D"),
        (Busy, "
                        Gone Zombie Thread Other StartedLater Ourselves Alive NotPermitted Unknown
Here                    ng   ng     ng     ng    ng           A         A     A            np
OldFormat               ng   ng     ng     ng    ng           A         A     A            np
OtherNamespace          np   np     np     np    np           np        np    np           np
OtherNamespaceUnproved  np   np     np     np    np           np        np    np           np
EarlierBoot             ng   ng     ng     ng    ng           ng        ng    ng           ng
OtherMachine            np   np     np     np    np           np        np    np           np
Young                   nc
Old                     nc"),
        (Unsupported, "
                        Gone Zombie Thread Other StartedLater Ourselves Alive NotPermitted Unknown
Here                    uk   uk     uk     uk    uk           uk        A     A            uk
OldFormat               uk   uk     uk     uk    uk           uk        A     A            uk
OtherNamespace          uk   uk     uk     uk    uk           uk        uk    uk           uk
OtherNamespaceUnproved  uk   uk     uk     uk    uk           uk        uk    uk           uk
EarlierBoot             uk   uk     uk     uk    uk           uk        uk    uk           uk
OtherMachine            uk   uk     uk     uk    uk           uk        uk    uk           uk
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
        assert_eq!(cells, 3 * evidence().count());
    }

    /// What a query says, likewise: S stale, H held; h held by one who is not certain, t cannot
    /// tell, each with the reason; w is "cannot watch".
    #[rustfmt::skip]
    const ASSESSMENTS: [(Watch, &str); 3] = [
        (Watch::Free, "
                        Gone Zombie Thread Other StartedLater Ourselves Alive NotPermitted Unknown
Here                    S    S      S      S     S            S         H     H            tp
OldFormat               S    S      S      S     S            S         H     H            tp
OtherNamespace          S    S      S      S     S            S         S     S            S
OtherNamespaceUnproved  ts   ts     ts     ts    ts           ts        ts    ts           ts
EarlierBoot             S    S      S      S     S            S         S     S            S
OtherMachine            tm   tm     tm     tm    tm           tm        tm    tm           tm
Young                   tc
Old                     S"),
        (Watch::Held, "
                        Gone Zombie Thread Other StartedLater Ourselves Alive NotPermitted Unknown
Here                    hg   hg     hg     hg    hg           H         H     H            hp
OldFormat               hg   hg     hg     hg    hg           H         H     H            hp
OtherNamespace          hp   hp     hp     hp    hp           hp        hp    hp           hp
OtherNamespaceUnproved  hp   hp     hp     hp    hp           hp        hp    hp           hp
EarlierBoot             hg   hg     hg     hg    hg           hg        hg    hg           hg
OtherMachine            hp   hp     hp     hp    hp           hp        hp    hp           hp
Young                   hc
Old                     hc"),
        (Watch::Unknown, "
                        Gone Zombie Thread Other StartedLater Ourselves Alive NotPermitted Unknown
Here                    tw   tw     tw     tw    tw           tw        H     H            tp
OldFormat               tw   tw     tw     tw    tw           tw        H     H            tp
OtherNamespace          tw   tw     tw     tw    tw           tw        tw    tw           tw
OtherNamespaceUnproved  ts   ts     ts     ts    ts           ts        ts    ts           ts
EarlierBoot             S    S      S      S     S            S         S     S            S
OtherMachine            tm   tm     tm     tm    tm           tm        tm    tm           tm
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
        assert_eq!(cells, 3 * evidence().count());
    }

    #[test]
    fn a_query_that_saw_the_lock_agrees_with_an_acquire() {
        for found in evidence() {
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
    fn a_query_that_could_not_see_the_lock_claims_only_what_is_so_either_way() {
        for found in evidence() {
            let either = [assess(Watch::Free, found), assess(Watch::Held, found)];
            match assess(Watch::Unknown, found) {
                CannotTell(_) => assert_ne!(either[0], either[1], "{found:?}"),
                // A lock on a file of an earlier boot can only be a reclaimer's.
                Stale => assert!(matches!(found, Record(EarlierBoot, _)), "{found:?}"),
                claimed @ (Held | HeldBy(_)) => assert_eq!([claimed; 2], either, "{found:?}"),
            }
        }
    }

    #[test]
    fn a_query_that_need_not_see_the_lock_says_without_it_what_it_would_say() {
        let mut needless = Vec::new();
        for found in evidence().filter(|&found| !depends_on_watch(found)) {
            let all = [Watch::Free, Watch::Held, Watch::Unknown].map(|watch| assess(watch, found));
            assert_eq!(all, [all[0]; 3], "{found:?}");
            needless.push(found);
        }
        assert!(needless.contains(&Record(Here, Probe::Alive)));
        assert!(!needless.contains(&Record(Here, Probe::Ourselves)));
        assert!(!needless.contains(&Record(OtherNamespace, Probe::Unknown)));
    }

    fn read_table(table: &str) -> impl Iterator<Item = (Evidence, &str)> {
        let mut lines = table.lines().filter(|line| !line.is_empty());
        let heading = lines.next().expect("a heading").split_whitespace();
        assert!(heading.eq(PROBES.map(|probe| format!("{probe:?}"))), "columns in order");
        lines.flat_map(|line| {
            let mut words = line.split_whitespace();
            let row = words.next().expect("a label");
            let found: Vec<Evidence> = evidence()
                .filter(|found| match found {
                    Nothing(age) => format!("{age:?}") == row,
                    Record(author, _) => format!("{author:?}") == row,
                })
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
            "g" => RecordedGone,
            "p" => CannotProbe,
            "m" => Unsure::OtherMachine,
            "s" => Unsure::OtherNamespace,
            "k" => NoKernelLocks,
            "w" => CannotWatch,
            _ => panic!("{code} is no reason"),
        }
    }
}
