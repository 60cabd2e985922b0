//! The search itself: its result does not depend on the number of threads, on fingerprints or on
//! the reduction, and its finds are replayed.

use rustc_hash::FxHashSet;

use portlock_model::properties::property::Property;
use portlock_model::scenario::catalogue::Scenario;
use portlock_model::scenario::moves::successors;
use portlock_model::scenario::schedule::run;
use portlock_model::scenario::state::State;
use portlock_model::search::counts::Counts;
use portlock_model::search::explore::{Limits, Seen, explore};
use portlock_model::search::reduce::Reduction;
use portlock_model::variants::{Caught, Protocol, SHIPPED, named};

fn search(scenario: &Scenario, protocol: &Protocol, limits: Limits) -> Seen {
    explore(scenario, protocol, limits).expect("searched to the end")
}

/// The scenarios that are searched in an instant.
fn small() -> impl Iterator<Item = Scenario> {
    ["threads", "no-kernel-locks", "delete-pending"]
        .into_iter()
        .map(|name| Scenario::named(name, 2).expect("a scenario of the model"))
}

/// A search without fingerprints, levels, threads and packed states.
fn plain(scenario: &Scenario, reduced: bool) -> (usize, usize) {
    let reduction = Reduction::of(scenario, &SHIPPED);
    let settle = |mut state: State| {
        if reduced {
            reduction.reduce(&mut state);
        }
        state.canonical().0
    };
    let mut known: FxHashSet<State> = scenario.beginnings().into_iter().map(settle).collect();
    let mut open: Vec<State> = known.iter().copied().collect();
    let (mut transitions, mut possible) = (0, Vec::new());
    while let Some(state) = open.pop() {
        successors(scenario, &SHIPPED, &state, &mut possible);
        transitions += possible.len();
        let next = possible.iter().map(|(_, outcome)| settle(outcome.state));
        open.extend(next.filter(|&state| known.insert(state)));
    }
    (known.len(), transitions)
}

#[test]
fn fingerprints_count_the_same_as_scenarios() {
    for scenario in small() {
        for whole in [false, true] {
            let seen = search(&scenario, &SHIPPED, Limits { whole, ..Limits::default() });
            let counted = (seen.states, seen.transitions);
            assert_eq!(counted, plain(&scenario, !whole), "{}, whole: {whole}", scenario.name);
        }
    }
}

#[test]
fn any_number_of_threads_finds_the_same() {
    let variants = ["no-confirm-before-unlink", "zombie-is-alive", "listen-without-recheck"];
    let wrong = variants.map(|name| {
        let variant = named(name).expect("a wrong protocol");
        let Caught::Breaks { property, scenario, participants } = variant.caught else {
            panic!("{name} is not harmless")
        };
        let scenario = Scenario::named(scenario, participants).expect("a scenario of the model");
        (Scenario { properties: property.only(), ..scenario }, variant.protocol)
    });
    let faults = Scenario::named("faults", 2).expect("a scenario of the model");
    let right = small().chain([faults]).map(|scenario| (scenario, SHIPPED));
    for (scenario, protocol) in right.chain(wrong) {
        let of = |threads| {
            let seen = search(&scenario, &protocol, Limits { threads, ..Limits::default() });
            let counts = Counts::of(&seen);
            let found = seen.found.map(|found| (found.property, found.schedule, found.solo));
            (found, counts, seen.coverage.sometimes)
        };
        let one = of(1);
        for threads in [2, 3, 5] {
            let many = of(threads);
            assert_eq!(many.0, one.0, "{}", scenario.name);
            // Where a property breaks, other threads may have searched a little further.
            if one.0.is_none() {
                assert_eq!((many.1, many.2), (one.1, one.2.clone()), "{}", scenario.name);
            }
        }
    }
}

#[test]
fn reduced_scenarios_give_shortest_traces_too() {
    for (name, property, scenario) in [
        ("no-confirm-before-unlink", Property::P2, "base"),
        ("new-file-left-when-lock-fails", Property::P6, "faults"),
        ("start-time-ignored", Property::P3, "base"),
        ("clear-without-lock", Property::P2, "clears"),
    ] {
        let protocol = named(name).expect("a wrong protocol").protocol;
        let scenario = Scenario::named(scenario, 2).expect("a scenario of the model");
        let scenario = Scenario { properties: property.only(), ..scenario };
        let [reduced, whole] = [false, true].map(|whole| {
            let seen = search(&scenario, &protocol, Limits { whole, ..Limits::default() });
            seen.found.expect("it breaks")
        });
        assert_eq!(reduced.schedule.steps.len(), whole.schedule.steps.len(), "{name}");
        let replayed = run(&scenario, &protocol, &reduced.schedule, reduced.solo);
        assert_eq!(replayed.broken, Some(property), "{name}");
    }
}

#[test]
fn a_search_that_is_cut_short_says_so() {
    let scenario = Scenario::named("base", 2).expect("a scenario of the model");
    let limits = Limits { states: 1_000, ..Limits::on_all_processors() };
    let cut = explore(&scenario, &SHIPPED, limits).expect_err("it has more");
    assert!(cut.states > 1_000, "{cut:?}");
}
