//! P1 and P2 for any number of participants (`model/src/any_number.rs`): proved in every world where
//! that is possible, held to the explicit search, and not proved of wrong protocols.
//!
//! A change of the machines, of the worlds or of the model changes the counts: run
//! `cargo run --release -p portlock-model -- any-number` and this test, and put in what they print.

use std::sync::LazyLock;

use portlock_model::any_number::closure::{Closure, Fault};
use portlock_model::any_number::cover::Explicit;
use portlock_model::any_number::invariant::{invariant, promises};
use portlock_model::any_number::{NOT_PROVED, prove, worlds};
use portlock_model::scenario::world::Kind;
use portlock_model::scenario::worlds::{Config, Promise};
use portlock_model::variants::catalogue::on_all_processors;
use portlock_model::variants::{Caught, SHIPPED, all};

/// World; views, steps and rules of the closed set; states and transitions of the explicit searches
/// that it is held to.
const PINNED: &[(&str, [usize; 3], [usize; 2])] = &[
    ("everything", [9170, 59010, 15], [401499, 1544539]),
    ("everything-forked", [9367, 64832, 22], [9778, 34484]),
    ("everything-in-threads", [16963, 114469, 15], [89288, 363061]),
    ("base", [1299, 5703, 11], [185345, 765870]),
    ("lying-probe", [1174, 4549, 8], [92088, 476733]),
    ("threads", [3301, 15099, 11], [125235, 509154]),
    ("fork", [792, 3602, 18], [74152, 275733]),
    ("outside-rm", [1470, 8414, 14], [393994, 1366853]),
    ("delete-pending", [1183, 5253, 12], [39159, 196039]),
    ("no-kernel-locks", [470, 1498, 7], [37688, 158123]),
    ("faults", [2167, 12157, 15], [233207, 902214]),
    ("suspended", [1299, 5703, 11], [140554, 449594]),
    ("out-of-reach", [501, 2075, 12], [5121, 12897]),
    ("queries", [851, 3349, 11], [49889, 168438]),
    ("listening", [1740, 7712, 11], [102518, 431043]),
    ("waiting-without-end", [1513, 6743, 11], [97604, 405897]),
    ("no-probe", [571, 2290, 11], [8456, 28245]),
    ("clears", [629, 1664, 6], [56174, 186196]),
    ("forced", [485, 1354, 6], [32229, 107752]),
    ("trouble", [2051, 13078, 15], [155704, 615110]),
    ("trouble-without-locks", [471, 2352, 11], [47866, 196349]),
    ("trouble-for-listeners", [2769, 18302, 15], [285904, 1140592]),
    ("trouble-for-clears", [6629, 47210, 17], [167280, 701096]),
    ("trouble-for-queries", [5933, 28881, 13], [192556, 1069924]),
];

/// The shipped machines, in every world that is proved.
static PROOFS: LazyLock<Vec<(Config, Closure)>> = LazyLock::new(|| {
    let worlds: Vec<_> = worlds().collect();
    let closed = on_all_processors(&worlds, |config| prove(config.name, &SHIPPED));
    let closed = closed.into_iter().map(|closure| closure.expect("it is listed"));
    worlds.iter().cloned().zip(closed).collect()
});

fn proof(world: &str) -> &'static Closure {
    let (_, closure) = PROOFS.iter().find(|(config, _)| config.name == world).expect("listed");
    closure
}

#[test]
fn p1_and_p2_hold_for_any_number_in_every_world_but_those_that_are_explained() {
    let all = Config::all(2).len() + Config::mixes().len();
    assert_eq!(PROOFS.len() + NOT_PROVED.len(), all);
    let mut found = Vec::new();
    for (config, closure) in PROOFS.iter() {
        if let Some(broken) = &closure.broken {
            panic!("{}\n{broken}", config.name);
        }
        let size = [closure.views.len(), closure.steps.len(), closure.rules.len()];
        println!("{:<22} {size:?} {:.1?}", config.name, closure.took);
        found.push((config.name, size));
    }
    let pinned: Vec<_> = PINNED.iter().map(|&(world, size, _)| (world, size)).collect();
    assert_eq!(found, pinned, "views, steps and rules");
}

#[test]
fn the_reason_is_the_kernel_lock_and_without_kernel_locks_the_exclusive_create() {
    for (config, closure) in PROOFS.iter() {
        let why = promises(config, &closure.views).remove(0);
        let reason = if config.kernel_locks { "kernel lock" } else { "exclusive create" };
        assert!(why.contains(reason), "{}: {why}", config.name);
    }
    let base = invariant(&proof("base").views);
    let of_holders = base.iter().find(|fact| fact.states.contains(&"Holding".to_owned()));
    let is_true = &of_holders.expect("somebody holds").is_true;
    let sentence = "the path names the open file; its kernel lock is mine; I created it; the \
                    record in it is mine";
    assert_eq!(is_true, sentence);
}

/// The explicit searches that a world is held to. Those that would take minutes are cut short in
/// their beginnings, crashes or participants; `any-number --cover` makes them in full.
fn searches(world: &str) -> Vec<Config> {
    if let Some(mix) = Config::mixes().into_iter().find(|config| config.name == world) {
        // The first kinds of the mix, two of each; what else it has has worlds of its own.
        let kinds = match world {
            "everything" => [Kind::Process; 2],
            "everything-forked" => [Kind::Parent, Kind::Child],
            _ => [Kind::Thread; 2],
        };
        let starts = &mix.starts[..1];
        return vec![Config { kinds: kinds.into(), starts, suspensions: 0, ..mix }];
    }
    let of = |participants| Config::named(world, participants).expect("there is such a world");
    let (two, three) = (of(2), of(3));
    let few = |config: &Config, starts: usize, crashes| Config {
        starts: &config.starts[..starts],
        crashes,
        ..config.clone()
    };
    let with = |config: &Config, kinds: &[Kind]| Config { kinds: kinds.into(), ..config.clone() };
    match world {
        "base" => vec![two, three.with_crashes(1)],
        "lying-probe" => vec![two, few(&three, 2, 0)],
        // Strangers die as well, for which two are enough.
        "threads" => vec![with(&two, &[Kind::Thread, Kind::Process]), two, few(&three, 2, 0)],
        // For two, a child comes on top. Two children, and two that may be its parent:
        "fork" => vec![
            with(&few(&two, 1, 1), &[Kind::Parent, Kind::Child, Kind::Child]),
            with(&few(&two, 1, 1), &[Kind::Parent, Kind::Parent, Kind::Child]),
            two,
        ],
        "outside-rm" => vec![two, few(&three, 1, 0)],
        // A live one's record without a lock takes two faults.
        "faults" => vec![Config { faults: 2, ..few(&two, 2, 1) }, two, few(&three, 1, 0)],
        "queries" => vec![with(&two, &[Kind::Process, Kind::Asker]), few(&two, 6, 0)],
        "trouble" => vec![Config { faults: 2, ..few(&two, 1, 1) }],
        "trouble-for-queries" => vec![Config { faults: 2, ..few(&two, 1, 1) }, two],
        "trouble-for-clears" | "trouble-for-listeners" => {
            vec![Config { faults: 2, ..few(&two, 1, 1) }]
        }
        "clears" | "forced" | "trouble-without-locks" => vec![two],
        "listening" | "waiting-without-end" | "suspended" => vec![two, few(&three, 2, 0)],
        "no-probe" | "out-of-reach" => vec![two],
        "delete-pending" | "no-kernel-locks" => vec![two, few(&three, 2, 1)],
        _ => panic!("no search is chosen for {world}"),
    }
}

/// What all participants see in the explicit searches of each world.
static EXPLICIT: LazyLock<Vec<(Config, Explicit)>> = LazyLock::new(|| {
    let worlds: Vec<_> = worlds().collect();
    let jobs: Vec<_> = worlds.iter().flat_map(|config| searches(config.name)).collect();
    let mut found: Vec<_> = worlds.into_iter().map(|one| (one, Explicit::default())).collect();
    let seen = on_all_processors(&jobs, |config| {
        let seen = Explicit::search(config, &SHIPPED).expect("searched to the end");
        (config.name, seen)
    });
    for (world, seen) in seen {
        let (_, all) = found.iter_mut().find(|(config, _)| config.name == world).expect("listed");
        all.add(seen);
    }
    found
});

#[test]
fn every_state_and_transition_of_the_explicit_search_is_covered() {
    let mut found = Vec::new();
    for (config, explicit) in EXPLICIT.iter() {
        let size = [explicit.states, explicit.transitions];
        println!("{:<22} covers {size:?} states and transitions", config.name);
        if let Some(uncovered) = explicit.uncovered_by(proof(config.name)) {
            panic!("{}: the closed set misses\n{uncovered}", config.name);
        }
        found.push((config.name, size));
    }
    let pinned: Vec<_> = PINNED.iter().map(|&(world, _, size)| (world, size)).collect();
    assert_eq!(found, pinned, "states and transitions that were searched");
}

#[test]
fn without_any_one_rule_of_interference_the_explicit_search_is_not_covered() {
    // The mixes have rules that only three or more participants show; each is one of another world.
    let is_mix = |name| Config::mixes().iter().any(|mix| mix.name == name);
    for (config, explicit) in EXPLICIT.iter().filter(|(config, _)| !is_mix(config.name)) {
        let proof = proof(config.name);
        for &rule in proof.rules.keys() {
            let fewer = proof.without(rule);
            println!("{:<22} {:>6} views without {rule}", config.name, fewer.views.len());
            let missed = explicit.uncovered_by(&fewer);
            assert!(missed.is_some(), "{}: nothing misses the rule {rule}", config.name);
        }
    }
}

/// The wrong protocols of which P1 and P2 are proved nevertheless: what they break is another
/// promise, or nothing. (Of those with machines of their own a view lacks what only they have, a
/// guard file and files set aside: that the proof fails for them says little.)
const KEEP_P1_AND_P2: &[&str] = &[
    "read-before-lock-and-not-again",
    "zombie-is-alive",
    "start-time-ignored",
    "new-file-left-when-write-fails",
    "new-file-left-when-lock-fails",
    "new-file-left-when-confirm-fails",
    "name-the-dead-while-reclaimer-works",
    "refuse-on-an-orphans-record",
    "lock-a-new-file-to-look",
    "listen-to-a-new-file",
    "listen-though-nobody-has-the-lock",
    "refused-when-the-holder-releases",
    "timed-out-waiter-stays",
    "listen-without-a-look",
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
fn the_proof_fails_for_every_wrong_protocol_that_breaks_p1_or_p2() {
    let variants = all();
    let judged = on_all_processors(&variants, |variant| {
        let (world, breaks) = match variant.caught {
            Caught::Breaks { promise, world, .. } => (world, Some(promise)),
            Caught::Harmless { .. } => ("base", None),
        };
        let broken = prove(world, &variant.protocol)?.broken;
        println!("{:<44} {:?}", variant.name, broken.as_ref().map(|broken| broken.what));
        let safety = matches!(breaks, Some(Promise::P1 | Promise::P2));
        let kept = KEEP_P1_AND_P2.contains(&variant.name);
        let found = match broken.map(|broken| broken.what) {
            Some(Fault::Promise(Promise::P1 | Promise::P2)) => !kept,
            // It writes its record into another's file, which no proof of this kind allows for.
            Some(_) => variant.name == "hold-after-wait-without-confirm",
            None => kept && !safety,
        };
        Some((variant.name, found))
    });
    for (variant, judged) in variants.iter().zip(judged) {
        match judged {
            Some((name, found)) => assert!(found, "{name}"),
            None => {
                let Caught::Breaks { world, .. } = variant.caught else { panic!("of base") };
                assert!(NOT_PROVED.iter().any(|(name, _)| *name == world), "{}", variant.name);
            }
        }
    }
}
