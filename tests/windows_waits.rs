//! The waits of Windows: there the event is that the listener has got the kernel lock (`wait_event`
//! in `src/sys/windows/lock_file/operations.rs`), a step that the other scenarios lack. Every
//! interleaving of the shipped machines with that step, whether names stay or not; and any number
//! of participants.
//!
//! This is of the model, so it runs everywhere; in `tests/windows.rs` Windows itself makes the
//! steps. A change of the machines or of the model changes the counts of the proofs: copy the
//! printed ones. Those of the searches are in `model/counts.txt`.

use portlock_model::any_number::closure::{Closure, close};
use portlock_model::any_number::local_view::LocalView;
use portlock_model::properties::property::Property;
use portlock_model::render::report::{Origin, report};
use portlock_model::scenario::catalogue::Scenario;
use portlock_model::search::counts::{Counts, Pinned};
use portlock_model::search::explore::{Limits, Seen, explore};
use portlock_model::variants::{Protocol, SHIPPED, named};

/// Views, steps and rules of the closed set, for names that are free at once and for names that
/// stay.
const PROVED: [[usize; 3]; 2] = [[1790, 8540, 12], [1724, 8265, 13]];

fn search(scenario: &Scenario, protocol: &Protocol) -> Seen {
    explore(scenario, protocol, Limits::on_all_processors()).expect("searched to the end")
}

#[test]
fn no_promise_breaks_at_2() {
    let pinned = Pinned::read().expect("committed counts");
    for scenario in Scenario::of_windows(2) {
        let seen = search(&scenario, &SHIPPED);
        if let Some(found) = &seen.found {
            let origin = Origin { variant: None, participants: 2 };
            panic!("\n{}", report(&scenario, &SHIPPED, found, origin));
        }
        for what in [
            "a participant listens",
            "a listener notices a release",
            "a listener gets a dead holder's lock",
        ] {
            assert!(seen.coverage.sometimes.contains(what), "never {what}");
        }
        pinned.compare(scenario.name, 2, Counts::of(&seen)).unwrap_or_else(|why| panic!("{why}"));
    }
}

fn prove(two: &Scenario, three: &Scenario, protocol: &Protocol) -> Closure {
    let both = Scenario { starts: two.starts, ..three.clone() };
    let views: Vec<_> = [two, three, &both]
        .iter()
        .flat_map(|scenario| scenario.beginnings())
        .flat_map(|state| {
            state.everyone().map(|who| LocalView::of(&state, who)).collect::<Vec<_>>()
        })
        .collect();
    let scenario = Scenario { properties: &[Property::P1, Property::P2], ..two.clone() };
    close(&scenario, protocol, &views)
}

#[test]
fn p1_and_p2_hold_for_any_number() {
    let found: Vec<_> = Scenario::of_windows(2)
        .iter()
        .zip(&Scenario::of_windows(3))
        .map(|(two, three)| {
            let closure = prove(two, three, &SHIPPED);
            assert!(closure.broken.is_none(), "{}", closure.broken.expect("it is"));
            [closure.views.len(), closure.steps.len(), closure.rules.len()]
        })
        .collect();
    assert_eq!(found, PROVED, "views, steps and rules");
}

/// The control: an event may be spurious here too, so a protocol that takes it for the lock fails.
#[test]
fn mistaking_the_event_for_the_lock_breaks_p2() {
    let wrong = named("an-event-is-the-lock").expect("the variant exists").protocol;
    for (two, three) in Scenario::of_windows(2).iter().zip(&Scenario::of_windows(3)) {
        let properties = Scenario { properties: Property::P2.only(), ..two.clone() };
        assert!(search(&properties, &wrong).found.is_some(), "P2 breaks");
        assert!(prove(two, three, &wrong).broken.is_some());
    }
}
