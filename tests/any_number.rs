//! P1 and P2 for any number of participants (`model/src/any_number`): proved in every scenario
//! where that is possible, compared with the explicit search, and not proved for wrong protocols.
//!
//! A change of the machines, of the scenarios or of the model changes the counts: run
//! `cargo run --release -p portlock-model -- any-number` and this test, and enter the printed ones.

use std::sync::LazyLock;

use portlock_model::any_number::closure::{Closure, Fault};
use portlock_model::any_number::cover::Explicit;
use portlock_model::any_number::invariant::{invariant, properties};
use portlock_model::any_number::{NOT_PROVED, prove, scenarios};
use portlock_model::properties::property::Property;
use portlock_model::scenario::catalogue::Scenario;
use portlock_model::scenario::state::Kind;
use portlock_model::variants::catalogue::on_all_processors;
use portlock_model::variants::{Caught, SHIPPED, all};

/// Scenario; views, steps and rules of the closed set; states and transitions of the explicit
/// searches with which it is compared.
const PINNED: &[(&str, [usize; 3], [usize; 2])] = &[
    ("everything", [9170, 59010, 15], [401499, 1544539]),
    ("everything-forked", [9367, 64832, 22], [9778, 34484]),
    ("everything-in-threads", [16963, 114469, 15], [89288, 363061]),
    ("base", [1299, 5703, 11], [185345, 765870]),
    ("lying-probe", [1174, 4549, 8], [92088, 476733]),
    ("threads", [3301, 15099, 11], [125235, 509154]),
    ("fork", [792, 3602, 18], [74152, 275733]),
    ("external-unlink", [1470, 8414, 14], [393994, 1366853]),
    ("delete-pending", [1183, 5253, 12], [39159, 196039]),
    ("no-kernel-locks", [470, 1498, 7], [37688, 158123]),
    ("faults", [2167, 12157, 15], [233207, 902214]),
    ("stopped-process", [1299, 5703, 11], [140554, 449594]),
    ("out-of-reach", [501, 2075, 12], [5121, 12897]),
    ("queries", [851, 3349, 11], [49889, 168438]),
    ("listening", [1740, 7712, 11], [102518, 431043]),
    ("waiting-without-end", [1513, 6743, 11], [97604, 405897]),
    ("no-probe", [571, 2290, 11], [8456, 28245]),
    ("clears", [629, 1664, 6], [56174, 186196]),
    ("forced-removal", [485, 1354, 6], [32229, 107752]),
    ("combined-faults", [2051, 13078, 15], [155704, 615110]),
    ("combined-faults-no-locks", [471, 2352, 11], [47866, 196349]),
    ("combined-faults-listeners", [2769, 18302, 15], [285904, 1140592]),
    ("combined-faults-clears", [6629, 47210, 17], [167280, 701096]),
    ("combined-faults-queries", [5933, 28881, 13], [192556, 1069924]),
];

/// The shipped machines, in every scenario that is proved.
static PROOFS: LazyLock<Vec<(Scenario, Closure)>> = LazyLock::new(|| {
    let scenarios: Vec<_> = scenarios().collect();
    let closed = on_all_processors(&scenarios, |scenario| prove(scenario.name, &SHIPPED));
    let closed = closed.into_iter().map(|closure| closure.expect("it is listed"));
    scenarios.iter().cloned().zip(closed).collect()
});

fn proof(name: &str) -> &'static Closure {
    let (_, closure) = PROOFS.iter().find(|(scenario, _)| scenario.name == name).expect("listed");
    closure
}

#[test]
fn p1_p2_hold_for_any_number_unless_explained() {
    let all = Scenario::all(2).len() + Scenario::mixes().len();
    assert_eq!(PROOFS.len() + NOT_PROVED.len(), all);
    let mut found = Vec::new();
    for (scenario, closure) in PROOFS.iter() {
        if let Some(broken) = &closure.broken {
            panic!("{}\n{broken}", scenario.name);
        }
        let size = [closure.views.len(), closure.steps.len(), closure.rules.len()];
        println!("{:<22} {size:?} {:.1?}", scenario.name, closure.took);
        found.push((scenario.name, size));
    }
    let pinned: Vec<_> = PINNED.iter().map(|&(state, size, _)| (state, size)).collect();
    assert_eq!(found, pinned, "views, steps and rules");
}

#[test]
fn invariant_names_kernel_lock_or_exclusive_create() {
    for (scenario, closure) in PROOFS.iter() {
        let why = properties(scenario, &closure.views).remove(0);
        let reason = if scenario.kernel_locks { "kernel lock" } else { "exclusive create" };
        assert!(why.contains(reason), "{}: {why}", scenario.name);
    }
    let base = invariant(&proof("base").views);
    let of_holders = base.iter().find(|fact| fact.states.contains(&"Holding".to_owned()));
    let is_true = &of_holders.expect("a participant holds").is_true;
    let sentence = "the path names the open file; its kernel lock is mine; I created it; the \
                    record in it is mine";
    assert_eq!(is_true, sentence);
}

/// The explicit searches with which a scenario is compared. Those that would take minutes have
/// fewer beginnings, crashes or participants; `any-number --cover` makes them in full.
fn searches(name: &str) -> Vec<Scenario> {
    if let Some(mix) = Scenario::mixes().into_iter().find(|scenario| scenario.name == name) {
        // The first kinds of the mix, two of each. Its other kinds have scenarios of their own.
        let kinds = match name {
            "everything" => [Kind::Process; 2],
            "everything-forked" => [Kind::Parent, Kind::Child],
            _ => [Kind::Thread; 2],
        };
        let starts = &mix.starts[..1];
        return vec![Scenario { kinds: kinds.into(), starts, suspensions: 0, ..mix }];
    }
    let of = |participants| Scenario::named(name, participants).expect("there is such a scenario");
    let (two, three) = (of(2), of(3));
    let few = |scenario: &Scenario, starts: usize, crashes| Scenario {
        starts: &scenario.starts[..starts],
        crashes,
        ..scenario.clone()
    };
    let with =
        |scenario: &Scenario, kinds: &[Kind]| Scenario { kinds: kinds.into(), ..scenario.clone() };
    match name {
        "base" => vec![two, three.with_crashes(1)],
        "lying-probe" => vec![two, few(&three, 2, 0)],
        // Other processes die too, for which two participants are enough.
        "threads" => vec![with(&two, &[Kind::Thread, Kind::Process]), two, few(&three, 2, 0)],
        // A child in addition to two participants; two children; two possible parents.
        "fork" => vec![
            with(&few(&two, 1, 1), &[Kind::Parent, Kind::Child, Kind::Child]),
            with(&few(&two, 1, 1), &[Kind::Parent, Kind::Parent, Kind::Child]),
            two,
        ],
        "external-unlink" => vec![two, few(&three, 1, 0)],
        // A live process's record without a lock takes two faults.
        "faults" => vec![Scenario { faults: 2, ..few(&two, 2, 1) }, two, few(&three, 1, 0)],
        "queries" => vec![with(&two, &[Kind::Process, Kind::Asker]), few(&two, 6, 0)],
        "combined-faults" => vec![Scenario { faults: 2, ..few(&two, 1, 1) }],
        "combined-faults-queries" => vec![Scenario { faults: 2, ..few(&two, 1, 1) }, two],
        "combined-faults-clears" | "combined-faults-listeners" => {
            vec![Scenario { faults: 2, ..few(&two, 1, 1) }]
        }
        "clears" | "forced-removal" | "combined-faults-no-locks" => vec![two],
        "listening" | "waiting-without-end" | "stopped-process" => vec![two, few(&three, 2, 0)],
        "no-probe" | "out-of-reach" => vec![two],
        "delete-pending" | "no-kernel-locks" => vec![two, few(&three, 2, 1)],
        _ => panic!("no search is chosen for {name}"),
    }
}

/// The views of all participants in the explicit searches of each scenario.
static EXPLICIT: LazyLock<Vec<(Scenario, Explicit)>> = LazyLock::new(|| {
    let scenarios: Vec<_> = scenarios().collect();
    let jobs: Vec<_> = scenarios.iter().flat_map(|scenario| searches(scenario.name)).collect();
    let mut found: Vec<_> = scenarios.into_iter().map(|one| (one, Explicit::default())).collect();
    let seen = on_all_processors(&jobs, |scenario| {
        let seen = Explicit::search(scenario, &SHIPPED).expect("searched to the end");
        (scenario.name, seen)
    });
    for (name, seen) in seen {
        let (_, all) =
            found.iter_mut().find(|(scenario, _)| scenario.name == name).expect("listed");
        all.add(seen);
    }
    found
});

#[test]
fn proof_covers_every_state_and_transition_explored() {
    let mut found = Vec::new();
    for (scenario, explicit) in EXPLICIT.iter() {
        let size = [explicit.states, explicit.transitions];
        println!("{:<22} covers {size:?} states and transitions", scenario.name);
        if let Some(uncovered) = explicit.uncovered_by(proof(scenario.name)) {
            panic!("{}: the closed set misses\n{uncovered}", scenario.name);
        }
        found.push((scenario.name, size));
    }
    let pinned: Vec<_> = PINNED.iter().map(|&(state, _, size)| (state, size)).collect();
    assert_eq!(found, pinned, "states and transitions that were searched");
}

#[test]
fn every_interference_rule_is_needed_for_coverage() {
    // Some rules of the mixes appear only with three or more participants; other scenarios have
    // them too.
    let is_mix = |name| Scenario::mixes().iter().any(|mix| mix.name == name);
    for (scenario, explicit) in EXPLICIT.iter().filter(|(scenario, _)| !is_mix(scenario.name)) {
        let proof = proof(scenario.name);
        for &rule in proof.rules.keys() {
            let fewer = proof.without(rule);
            println!("{:<22} {:>6} views without {rule}", scenario.name, fewer.views.len());
            let missed = explicit.uncovered_by(&fewer);
            assert!(missed.is_some(), "{}: no step needs the rule {rule}", scenario.name);
        }
    }
}

/// The wrong protocols for which P1 and P2 are proved: they break another property, or none. (A
/// view lacks the guard file and the files set aside of protocols with machines of their own, so a
/// failed proof of those means little.)
const KEEP_P1_AND_P2: &[&str] = &[
    "read-before-lock-and-not-again",
    "zombie-is-alive",
    "start-time-ignored",
    "new-file-left-when-write-fails",
    "new-file-left-when-lock-fails",
    "new-file-left-when-confirm-fails",
    "name-the-dead-while-reclaimer-works",
    "refuse-on-an-orphans-record",
    "lock-a-new-file-to-inspect",
    "listen-to-a-new-file",
    "listen-though-the-lock-is-free",
    "refused-when-the-holder-releases",
    "timed-out-waiter-stays",
    "listen-without-recheck",
    "cut-short-is-a-new-file",
    "unprobed-is-refused-though-its-lock-is-free",
    "number-identifies-the-process",
    "failed-probe-is-alive",
    "lost-lock-keeps-its-record",
    "forked-child-keeps-the-file-open",
    "abandon-without-void",
    "clear-leaves-the-dead",
    "query-takes-the-lock",
];

#[test]
fn proof_fails_for_every_protocol_breaking_p1_p2() {
    let variants = all();
    let judged = on_all_processors(&variants, |variant| {
        let (scenario, breaks) = match variant.caught {
            Caught::Breaks { property, scenario, .. } => (scenario, Some(property)),
            Caught::Harmless { .. } => ("base", None),
        };
        let broken = prove(scenario, &variant.protocol)?.broken;
        println!("{:<44} {:?}", variant.name, broken.as_ref().map(|broken| broken.what));
        let safety = matches!(breaks, Some(Property::P1 | Property::P2));
        let kept = KEEP_P1_AND_P2.contains(&variant.name);
        let found = match broken.map(|broken| broken.what) {
            Some(Fault::Property(Property::P1 | Property::P2)) => !kept,
            // It writes its record into the file of another, which no proof of this kind covers.
            Some(_) => variant.name == "hold-after-wait-without-confirm",
            None => kept && !safety,
        };
        Some((variant.name, found))
    });
    for (variant, judged) in variants.iter().zip(judged) {
        match judged {
            Some((name, found)) => assert!(found, "{name}"),
            None => {
                let Caught::Breaks { scenario, .. } = variant.caught else { panic!("of base") };
                assert!(NOT_PROVED.iter().any(|(name, _)| *name == scenario), "{}", variant.name);
            }
        }
    }
}
