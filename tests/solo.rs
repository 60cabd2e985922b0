//! Solo runs (P3, P5) with every reply that a call can give, and with as many tries as the shipped
//! drivers make. The search makes one solo run of each participant from each state, of the first
//! replies and of three tries; that these few are enough is shown here.

use rustc_hash::FxHashMap;

use portlock::protocol::{
    Acquire, Age, Closing, Peeked, ReadingUnlocked, Refusal, TRIES, Then, UnknownReason,
};
use portlock_model::properties::solo::{EverySolo, Reached, every_run};
use portlock_model::properties::{Fared, check_alone, check_every_reply};
use portlock_model::scenario::world::World;
use portlock_model::scenario::worlds::{Config, Promise};
use portlock_model::search::explore::{Limits, explore_watched};
use portlock_model::variants::catalogue::on_all_processors;
use portlock_model::variants::{Protocol, SHIPPED};

/// The moves of the longest solo run: a busy try makes eight calls (create, open, age, read, lock,
/// probe, confirm, close) and two answers; a reclaim costs no try, and begins another run of calls.
const BOUND: u32 = TRIES * 10 + 12;

/// The first participant that does not fare as it is owed, or the moves of the longest solo run; and
/// how many different solo runs there were.
fn fares(config: &Config, protocol: &Protocol) -> (Result<u32, Fared>, usize) {
    let mut known: FxHashMap<Reached, EverySolo> = FxHashMap::default();
    let (mut fared, mut last): (Result<u32, Fared>, Option<World>) = (Ok(0), None);
    let seen = explore_watched(config, protocol, Limits::default(), |world, _, _| {
        let Ok(longest) = fared else { return };
        if last.replace(*world) == Some(*world) {
            return;
        }
        let run = check_every_reply(config, protocol, world, |begun, who| {
            let reached = Reached::by(config, begun, who).expect("no other protocol");
            *known.entry(reached).or_insert_with(|| every_run(config, protocol, begun, who))
        });
        fared = run.map(|calls| calls.max(longest));
    });
    assert!(seen.is_ok_and(|seen| seen.found.is_none()), "{}: the search finds it", config.name);
    (fared, known.len())
}

#[test]
fn solo_runs_end_well_whatever_each_call_replies() {
    let owes = |promise| move |config: &Config| config.owed.contains(&promise);
    let worlds: Vec<_> = Config::all(2)
        .into_iter()
        .chain(Config::of_windows(2))
        .filter(|config| owes(Promise::P3)(config) || owes(Promise::P5)(config))
        .collect();
    let found = on_all_processors(&worlds, |config| fares(config, &SHIPPED));
    for (config, (fared, runs)) in worlds.iter().zip(found) {
        let longest = fared.unwrap_or_else(|fared| panic!("{}: {fared:?}", config.name));
        println!("{:<24} {runs:>6} sets of solo runs, {longest:>3} moves at the most", config.name);
        assert!(longest > 0 && longest <= BOUND, "{}: {longest} moves", config.name);
    }
}

/// Refuses at a record that looks old, which the first reply of an age never says.
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
fn other_replies_than_the_first_find_what_it_misses() {
    let wrong =
        Protocol { acquire: |state, fs| old_record_is_refused(state, state.step(fs)), ..SHIPPED };
    let config = Config { owed: Promise::P3.alone(), ..Config::base(2) };
    for world in config.beginnings() {
        assert_eq!(check_alone(&config, &wrong, &world), check_alone(&config, &SHIPPED, &world));
    }
    let (fared, _) = fares(&config, &wrong);
    assert_eq!(fared.map_err(|fared| fared.broken), Err(Promise::P3));
}
