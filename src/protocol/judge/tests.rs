use super::*;

use Assessment::{Held, HeldBy, Stale};
use Author::{EarlierBoot, Here, OldFormat, OtherMachine, OtherNamespace};
use Evidence::{Empty, Record, Unreadable};
use FreeLock::{ProvesDeath, ProvesNothing};
use KernelLock::{Busy, Ours, Unsupported};
use Probe::{Alive, Gone, NotPermitted, Other, Ourselves, StartedLater, Thread, Unknown, Zombie};
use UnknownReason::{
    BeingCreated, CannotProbe, CannotWatch, HolderExited, NoKernelLocks, NoSharedLock,
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
fn ours_with_process_gone_is_always_dead() {
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
fn ours_unprobed_is_dead_only_by_shared_lock() {
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
fn own_record_is_leftover_only_by_shared_lock() {
    assert_eq!(judge(Ours, Record(Here(ProvesDeath, Ourselves))), Dead);
    let unshared = judge(Ours, Record(Here(ProvesNothing, Ourselves)));
    assert_eq!(unshared, Verdict::Unknown(NoSharedLock));
    assert_eq!(judge(Ours, Record(OldFormat(Ourselves))), Dead);
}

#[test]
fn ours_of_an_earlier_boot_is_dead() {
    assert_eq!(judge(Ours, Record(EarlierBoot)), Dead);
}

#[test]
fn ours_of_another_machine_is_unknown() {
    assert_eq!(judge(Ours, Record(OtherMachine)), Verdict::Unknown(UnknownReason::OtherMachine));
}

#[test]
fn ours_old_format_is_dead_once_pid_gone() {
    for probe in GONE {
        assert_eq!(judge(Ours, Record(OldFormat(probe))), Dead, "{probe:?}");
    }
    for probe in [Alive, NotPermitted] {
        assert_eq!(judge(Ours, Record(OldFormat(probe))), Verdict::Alive, "{probe:?}");
    }
}

#[test]
fn ours_and_empty_is_dead_after_the_grace() {
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
fn busy_with_unprobeable_process_is_not_final() {
    for free in FREE {
        assert_eq!(judge(Busy, Record(OtherNamespace(free))), NotFinal(CannotProbe));
        assert_eq!(judge(Busy, Record(Here(free, Unknown))), NotFinal(CannotProbe));
    }
    assert_eq!(judge(Busy, Record(OtherMachine)), NotFinal(CannotProbe));
}

#[test]
fn busy_with_process_gone_is_not_final() {
    for probe in GONE {
        for author in [Here(ProvesDeath, probe), OldFormat(probe)] {
            assert_eq!(judge(Busy, Record(author)), NotFinal(HolderExited));
        }
    }
    assert_eq!(judge(Busy, Record(EarlierBoot)), NotFinal(HolderExited));
}

#[test]
fn busy_without_a_record_is_not_final() {
    for age in [Age::Young, Age::Old] {
        assert_eq!(judge(Busy, Empty(age)), NotFinal(BeingCreated));
    }
    assert_eq!(judge(Busy, Unreadable), NotFinal(UnknownReason::Unreadable));
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
fn every_query_cell_is_as_written_here() {
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
        HeldBy(_) | Assessment::Unknown(_) => return false,
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
fn query_that_saw_lock_agrees_with_acquire() {
    for (_, found) in evidence() {
        for (watch, lock) in [(Watch::Free, Ours), (Watch::Held, Busy)] {
            let agreed = match (judge(lock, found), assess(watch, found)) {
                (Dead, Stale) | (Verdict::Alive, Held) => true,
                (
                    NotFinal(why) | Verdict::Unknown(why),
                    HeldBy(said) | Assessment::Unknown(said),
                ) => why == said,
                _ => false,
            };
            assert!(agreed, "{watch:?} {found:?}");
        }
    }
}

#[test]
fn query_result_is_equal_where_lock_is_irrelevant() {
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
        ("t", why) => Assessment::Unknown(reason(why)),
        (_, _) => panic!("{code} is no assessment"),
    }
}

fn reason(code: &str) -> UnknownReason {
    match code {
        "c" => BeingCreated,
        "r" => UnknownReason::Unreadable,
        "g" => HolderExited,
        "p" => CannotProbe,
        "m" => UnknownReason::OtherMachine,
        "s" => NoSharedLock,
        "k" => NoKernelLocks,
        "w" => CannotWatch,
        _ => panic!("{code} is no reason"),
    }
}
