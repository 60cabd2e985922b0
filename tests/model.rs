//! Every interleaving of the shipped machines, in every scenario: no property breaks, and the
//! counts of states are the committed ones, so an incomplete search cannot pass.
//!
//! A change of the machines, of the scenarios or of the model changes the counts:
//! `cargo run --release -p portlock-model -- check --pin` writes them.

use std::collections::BTreeSet;

use portlock::protocol::{Acquire, Clear, Query, Release};
use portlock_model::render::report::{Origin, report};
use portlock_model::render::table::{UNREACHED, name};
use portlock_model::scenario::catalogue::Scenario;
use portlock_model::scenario::machines::{Machine, Reply, graph};
use portlock_model::scenario::state::{Activity, Kind};
use portlock_model::search::counts::{self, Counts, Pinned};
use portlock_model::search::coverage::Coverage;
use portlock_model::search::explore::{Limits, Seen, explore};
use portlock_model::variants::SHIPPED;

/// What must happen somewhere in every scenario.
const ALWAYS_SOMETIMES: &[&str] = &["a participant holds", "a participant retries"];

fn search(scenario: &Scenario, participants: usize) -> Seen {
    let seen =
        explore(scenario, &SHIPPED, Limits::on_all_processors()).expect("searched to the end");
    if let Some(found) = &seen.found {
        let origin = Origin { variant: None, participants };
        panic!("\n{}", report(scenario, &SHIPPED, found, origin));
    }
    println!(
        "{:<16} {participants} {:>9} states {:>10} transitions, depth {}, {:.1?}",
        scenario.name, seen.states, seen.transitions, seen.depth, seen.took
    );
    seen
}

fn check_counts(scenario: &Scenario, participants: usize, seen: &Seen) {
    let pinned = Pinned::read().expect("committed counts");
    let compared = pinned.compare(scenario.name, participants, Counts::of(seen));
    compared.unwrap_or_else(|why| panic!("{why}"));
    for what in ALWAYS_SOMETIMES {
        let happens = seen.coverage.sometimes.contains(what);
        assert!(happens, "{} at {participants}: never {what}", scenario.name);
    }
}

#[test]
fn every_property_holds_and_is_exercised_at_2() {
    let scenarios = Scenario::all(2);
    let mut coverage = Coverage::default();
    for scenario in &scenarios {
        let seen = &search(scenario, 2);
        check_counts(scenario, 2, seen);
        coverage.add(&seen.coverage);
        for (what, properties) in [
            ("a process dies", scenario.crashes > 0),
            ("the path is removed from outside", scenario.removals > 0),
            ("a participant stops forever", scenario.suspensions > 0),
            ("a child is forked", scenario.name == "fork"),
            ("a query is answered", scenario.kinds.contains(&Kind::Asker)),
            ("an acquire fails", scenario.faults > 0),
            ("an open of a free path is denied", scenario.faults > 0),
            ("a release finds its lock lost", scenario.removals > 0),
            ("a dead holder's file is reclaimed", scenario.kernel_locks),
            ("a refusal names the holder", true),
            ("a refusal names a creator that has not confirmed", scenario.name == "base"),
            ("a refusal reports an unknown holder", true),
            // A command ends with its process.
            ("a holder releases", scenario.name != "command"),
            ("a holder can no longer reach the path", scenario.chroots > 0),
            ("a participant listens", scenario.listens),
            ("a listener notices a release", scenario.listens),
            ("a listener gets a dead holder's lock", scenario.name == "listening"),
            ("a clear removes a file", scenario.kinds.contains(&Kind::Clearer)),
            ("an old agent takes the lock that a child uses", scenario.name == "passed-to-child"),
            ("a clear is refused", scenario.kinds.contains(&Kind::Clearer)),
            ("a file is removed by force", scenario.forces),
            ("a lock that cannot be released is kept", scenario.faults > 0),
        ] {
            let happens = seen.coverage.sometimes.contains(what);
            assert!(happens || !properties, "{}: never {what}", scenario.name);
        }
    }
    every_transition_is_reached(&coverage);
    a_process_dies_in_every_state(&coverage);
}

#[test]
fn every_property_holds_at_3_with_2_crashes() {
    let base = Scenario::named("base", 3).expect("there is a base scenario");
    assert_eq!(base.crashes, 2);
    check_counts(&base, 3, &search(&base, 3));
}

#[test]
fn every_search_and_no_other_has_committed_counts() {
    let pinned = Pinned::read().expect("committed counts");
    let searched = counts::searches(true);
    let searched: BTreeSet<_> =
        searched.iter().map(|(scenario, made_for)| (scenario.name.to_owned(), *made_for)).collect();
    assert_eq!(pinned.scenarios().cloned().collect::<BTreeSet<_>>(), searched);
    assert_eq!(pinned.to_string().parse::<Pinned>().as_ref(), Ok(&pinned));
}

#[test]
fn deviation_from_committed_counts_is_detected() {
    let mut pinned = Pinned::read().expect("committed counts");
    let counts = Counts { states: 10, transitions: 20, depth: 3, longest_solo_run: 4 };
    pinned.pin("base", 2, counts);
    assert_eq!(pinned.compare("base", 2, counts), Ok(()));
    for other in [
        Counts { states: 11, ..counts },
        Counts { transitions: 21, ..counts },
        Counts { depth: 4, ..counts },
        Counts { longest_solo_run: 5, ..counts },
    ] {
        assert!(pinned.compare("base", 2, other).is_err(), "{other}");
    }
    assert!(pinned.compare("base", 9, counts).is_err(), "no such line");
    for text in ["base 2 1 2 3", "base 2 1 2 3 4 5", "base 2 1 2 x 4", "base 2 1 -2 3 4"] {
        assert!(text.parse::<Pinned>().is_err(), "{text}");
    }
}

/// Every cell of the transition tables is reached in some scenario, except those that are
/// explained.
fn every_transition_is_reached(coverage: &Coverage) {
    let mut unreached = BTreeSet::new();
    fn compare<M: Machine>(
        coverage: &Coverage,
        activity: impl Fn(M) -> Activity,
        unreached: &mut BTreeSet<String>,
    ) {
        let followed: BTreeSet<(Activity, Activity)> =
            coverage.steps.iter().map(|&(from, _, to)| (from, to)).collect();
        for (state, follows) in graph::<M>() {
            for (reply, next) in follows.replies {
                let step = (activity(state), reply, activity(next));
                // Replies of the probe with the same next state are equivalent.
                let reached = match reply {
                    Reply::Probe(_) => followed.contains(&(step.0, step.2)),
                    _ => coverage.steps.contains(&step),
                };
                if !reached {
                    unreached.insert(format!(
                        "{} {} {} -> {}",
                        M::NAME,
                        state.label(),
                        name(&reply),
                        next.label()
                    ));
                }
            }
            for (answer, next) in follows.driver {
                if !followed.contains(&(activity(state), activity(next))) {
                    unreached.insert(format!(
                        "{} {} {} -> {}",
                        M::NAME,
                        state.label(),
                        answer.words(),
                        next.label()
                    ));
                }
            }
        }
    }
    compare::<Acquire>(coverage, Activity::Acquiring, &mut unreached);
    compare::<Release>(coverage, Activity::Releasing, &mut unreached);
    compare::<Query>(coverage, Activity::Asking, &mut unreached);
    compare::<Clear>(coverage, Activity::Clearing, &mut unreached);
    for line in &unreached {
        println!("UNREACHED {line}");
    }
    let explained = |line: &String| UNREACHED.iter().any(|cells| cells.explains(line));
    let unexplained: Vec<_> = unreached.iter().filter(|line| !explained(line)).collect();
    assert!(unexplained.is_empty(), "no scenario reaches {unexplained:#?}");
    for cells in UNREACHED {
        let needed = unreached.iter().any(|line| cells.explains(line));
        assert!(needed, "listed as unreached, but reached: {cells}");
    }
}

/// A process dies in every state that makes a call.
fn a_process_dies_in_every_state(coverage: &Coverage) {
    let visited: BTreeSet<Activity> = coverage
        .steps
        .iter()
        .map(|&(from, _, _)| from)
        .filter(|activity| {
            matches!(
                activity,
                Activity::Acquiring(_) | Activity::Releasing(_) | Activity::Clearing(_)
            )
        })
        .collect();
    assert!(visited.contains(&Activity::Acquiring(Acquire::START)));
    assert!(visited.contains(&Activity::Releasing(Release::START)));
    assert!(visited.contains(&Activity::Clearing(Clear::START)));
    let unhurt: Vec<_> =
        visited.difference(&coverage.crashed_in.iter().copied().collect()).copied().collect();
    assert!(unhurt.is_empty(), "no process dies in {unhurt:?}");
}
