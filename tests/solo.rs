//! Solo runs (P3, P5) with every reply of each call, and with the shipped number of tries. The
//! search makes one solo run of each participant from each state, with the first replies and three
//! tries; these tests show that this is enough.

use rustc_hash::FxHashMap;

use portlock::protocol::{
    Acquire, Age, Closing, Peeked, ReadingUnlocked, Refusal, TRIES, Then, UnknownReason,
};
use portlock_model::properties::property::Property;
use portlock_model::properties::solo::{EverySolo, Reached, every_run};
use portlock_model::properties::{LivenessViolation, check_every_reply, check_solo};
use portlock_model::scenario::catalogue::Scenario;
use portlock_model::scenario::state::State;
use portlock_model::search::explore::{Limits, explore_watched};
use portlock_model::variants::catalogue::on_all_processors;
use portlock_model::variants::{Protocol, SHIPPED};

/// The moves of the longest solo run: a busy try makes eight calls (create, open, age, read, lock,
/// probe, confirm, close) and two answers; a reclaim uses no try, and begins another run of calls.
const BOUND: u32 = TRIES * 10 + 12;

/// The first violation of P3 or P5, or the moves of the longest solo run; and the number of
/// different solo runs.
fn solo_runs(scenario: &Scenario, protocol: &Protocol) -> (Result<u32, LivenessViolation>, usize) {
    let mut known: FxHashMap<Reached, EverySolo> = FxHashMap::default();
    let (mut violation, mut last): (Result<u32, LivenessViolation>, Option<State>) = (Ok(0), None);
    let seen = explore_watched(scenario, protocol, Limits::default(), |state, _, _| {
        let Ok(longest) = violation else { return };
        if last.replace(*state) == Some(*state) {
            return;
        }
        let run = check_every_reply(scenario, protocol, state, |begun, who| {
            let reached = Reached::by(scenario, begun, who).expect("no other protocol");
            *known.entry(reached).or_insert_with(|| every_run(scenario, protocol, begun, who))
        });
        violation = run.map(|calls| calls.max(longest));
    });
    assert!(seen.is_ok_and(|seen| seen.found.is_none()), "{}: the search finds it", scenario.name);
    (violation, known.len())
}

#[test]
fn solo_runs_end_well_whatever_each_call_replies() {
    let owes = |property| move |scenario: &Scenario| scenario.properties.contains(&property);
    let scenarios: Vec<_> = Scenario::all(2)
        .into_iter()
        .chain(Scenario::of_windows(2))
        .filter(|scenario| owes(Property::P3)(scenario) || owes(Property::P5)(scenario))
        .collect();
    let found = on_all_processors(&scenarios, |scenario| solo_runs(scenario, &SHIPPED));
    for (scenario, (violation, runs)) in scenarios.iter().zip(found) {
        let longest =
            violation.unwrap_or_else(|violation| panic!("{}: {violation:?}", scenario.name));
        println!(
            "{:<24} {runs:>6} sets of solo runs, {longest:>3} moves at the most",
            scenario.name
        );
        assert!(longest > 0 && longest <= BOUND, "{}: {longest} moves", scenario.name);
    }
}

/// Refuses a record that looks old, which is never the first reply of an age call.
fn old_record_is_refused(state: Acquire, next: Acquire) -> Acquire {
    let old = Acquire::ReadingUnlocked(ReadingUnlocked { age: Age::Old });
    match next {
        Acquire::LockingExisting(locking) if state == old && locking.peeked == Peeked::Record => {
            let refusal = Refusal::Unknown(UnknownReason::CannotProbe);
            Acquire::Closing(Closing { then: Then::Refuse(refusal) })
        }
        next => next,
    }
}

#[test]
fn later_replies_find_what_the_first_misses() {
    let wrong =
        Protocol { acquire: |state, fs| old_record_is_refused(state, state.step(fs)), ..SHIPPED };
    let scenario = Scenario { properties: Property::P3.only(), ..Scenario::base(2) };
    for state in scenario.beginnings() {
        assert_eq!(check_solo(&scenario, &wrong, &state), check_solo(&scenario, &SHIPPED, &state));
    }
    let (violation, _) = solo_runs(&scenario, &wrong);
    assert_eq!(violation.map_err(|violation| violation.broken), Err(Property::P3));
}
