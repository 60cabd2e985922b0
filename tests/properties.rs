//! Long random histories of every scenario of the model, on the shipped machines.
//!
//! A history is a [`Schedule`]. A violation is shortened, printed as a table, and replayed by the
//! line below it. The seed is fixed, and printed; `PORTLOCK_SEED=1234` sets another one, and
//! `PORTLOCK_HISTORIES=100` runs a hundred times as many histories (the gate: 8). proptest saves
//! violations in `tests/properties.proptest-regressions`, which is committed and run first.
//!
//! The fuzz target `schedule` runs the same engine and checks, guided by coverage.

#[path = "properties/histories.rs"]
mod histories;

use histories::{
    Histories, Ran, find_a_control_in_every_scenario, keep_every_promise, search, seed,
};

use proptest::prelude::*;

use portlock_model::render::report::calls;
use portlock_model::scenario::catalogue::Scenario;
use portlock_model::scenario::schedule::{Schedule, run};
use portlock_model::variants::{Caught, Engine, all};

#[test]
fn two_participants_keep_every_promise() {
    keep_every_promise(2, 8);
}

#[test]
fn three_participants_keep_every_promise() {
    keep_every_promise(3, 8);
}

#[test]
fn five_participants_keep_every_promise() {
    keep_every_promise(5, 4);
}

#[test]
fn eight_participants_keep_every_promise() {
    // Some scenarios add a participant to the seven, others need all eight.
    keep_every_promise(7, 4);
    keep_every_promise(8, 4);
}

#[test]
fn every_scenario_finds_a_wrong_protocol() {
    find_a_control_in_every_scenario(2, 1024);
    find_a_control_in_every_scenario(7, 1024);
}

#[test]
fn every_variant_claimed_by_random_histories_is_found() {
    let mut missed = Vec::new();
    for variant in all() {
        let Caught::Breaks { property, scenario, participants } = variant.caught else { continue };
        if !variant.engines.contains(&Engine::Random) {
            continue;
        }
        let mut scenario =
            Scenario::named(scenario, participants).expect("a scenario of the model");
        // A wrong protocol may break several properties.
        scenario.properties = property.only();
        let ran = Ran::default();
        let of = Histories { scenario, protocol: variant.protocol };
        match search(&of, 4096, false, &ran) {
            Some(found) => {
                let again = run(&of.scenario, &of.protocol, &found.schedule, found.solo);
                assert_eq!(again.broken, Some(property), "{} is replayed", variant.name);
                let (searched, calls) = (ran.histories.get(), calls(&again));
                println!("{}: {property} after {searched} runs, {calls} calls", variant.name);
            }
            None => missed.push(variant.name),
        }
    }
    assert!(missed.is_empty(), "seed {}: random histories miss {missed:?}", seed());
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: proptest::test_runner::RngSeed::Fixed(5338),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Bytes of the fuzzer, text of the replay line: the same schedule.
    #[test]
    fn schedule_round_trips_as_bytes_and_text(start: u8, steps: Vec<u8>) {
        let schedule = Schedule { start, steps };
        prop_assert_eq!(&Schedule::from_bytes(&schedule.to_bytes()), &schedule);
        prop_assert_eq!(&schedule.to_string().parse::<Schedule>().unwrap(), &schedule);
    }

    /// Only lists of small numbers are accepted.
    #[test]
    fn other_text_is_not_a_schedule(text in "[0-9/]{0,8}(x|/-1|/256|//|/)[0-9/]{0,8}") {
        let fine = text.split('/').all(|number| number.parse::<u8>().is_ok());
        prop_assert_eq!(text.parse::<Schedule>().is_ok(), fine);
    }
}
