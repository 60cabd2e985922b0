//! The model agrees with Windows: the shipped adapter makes every transition of scenarios with 2
//! participants, in lock-step with the model. Under Wine a name stays in use until the last handle
//! is closed; on Windows 10 and later it is free at once.

#![cfg(windows)]

#[path = "skip_report/mod.rs"]
mod skip_report;

use portlock_model::conformance::slips::Slip;
use portlock_model::conformance::{Conformed, Grain, SceneGraph, cannot_be_real};
use portlock_model::scenario::catalogue::Scenario;
use portlock_model::scenario::machines::Reply;
use portlock_model::scenario::state::{Activity, Move};
use portlock_model::search::explore::{Limits, explore};
use portlock_model::variants::SHIPPED;

use portlock::protocol::{Acquire, Confirm, Create, LockReply};

fn scenario(name: &str, delete_pending: bool) -> Scenario {
    let scenario = Scenario::named(name, 2).expect("the scenario exists");
    Scenario { delete_pending, removals: 0, properties: &[], ..scenario }.on_windows()
}

/// The scenario with this system's behaviour of names.
fn as_here(name: &str) -> Scenario {
    let pending = scenario(name, true);
    if cannot_be_real(&pending).is_none() { pending } else { scenario(name, false) }
}

fn conforms(scenario: Scenario, grain: Grain) -> Conformed {
    let (name, pending) = (scenario.name, scenario.delete_pending);
    assert_eq!(cannot_be_real(&scenario), None, "{name}");
    let directory = tempfile::tempdir().expect("there is room");
    match SceneGraph::new(scenario, grain).conform(directory.path(), None).expect("it works") {
        Ok(seen) => {
            println!(
                "{name:<16} names stay: {pending}, {} transitions are {} steps, {} calls, {:.1?}",
                seen.transitions, seen.steps, seen.calls.made, seen.took
            );
            assert!(seen.calls.made > seen.calls.instead, "the system makes most calls");
            seen
        }
        Err(disagreement) => panic!("\n{disagreement}"),
    }
}

#[test]
fn every_base_transition_agrees() {
    let scenario = as_here("base");
    if scenario.delete_pending {
        skip_report::not_checked(
            "names that are free at once: here one stays until the last close",
        );
    } else {
        skip_report::not_checked("names that stay until the last close: here one is free at once");
    }
    let whole = Limits { whole: true, ..Limits::default() };
    let searched = explore(&scenario, &SHIPPED, whole).expect("searched to the end");
    let seen = conforms(scenario, Grain::Machines);
    println!("of {} transitions of the search", searched.transitions);
    assert!(seen.states <= searched.states && seen.states * 2 > searched.states);
}

/// Its event is a call of the system: the listener has got the kernel lock.
#[test]
fn every_transition_of_the_listening_scenario_agrees() {
    conforms(as_here("listening").with_crashes(1), Grain::Scenes);
}

#[test]
fn transitions_of_the_other_scenarios_agree() {
    for name in ["threads", "listening", "faults", "queries", "clears"] {
        conforms(as_here(name).with_crashes(0), Grain::Scenes);
    }
}

/// The controls: a model with one error disagrees.
#[test]
fn every_semantic_mutation_is_detected() {
    let pending = as_here("base").delete_pending;
    for slip in SLIPS.iter().filter(|slip| pending || !slip.name.starts_with("pending")) {
        let directory = tempfile::tempdir().expect("there is room");
        let scenario = as_here(slip.scenario).with_crashes(0);
        let seen = SceneGraph::new(scenario, Grain::Machines).conform(directory.path(), Some(slip));
        let Err(noticed) = seen.expect("it works") else { panic!("{} is not noticed", slip.name) };
        assert!(noticed.differs.contains(slip.noticed), "{}: {}", slip.name, noticed.differs);
        println!("{:<32} {}", slip.name, noticed.differs);
    }
}

const SLIPS: &[Slip] = &[
    Slip {
        name: "lock-does-not-exclude",
        scenario: "base",
        in_random_calls: false,
        noticed: "the reply is Lock(Busy), and Lock(Ours)",
        spoil: |_, _, outcome| {
            if outcome.reply == Reply::Lock(LockReply::Busy) {
                outcome.reply = Reply::Lock(LockReply::Ours);
            }
        },
    },
    Slip {
        name: "who-listens-loses-the-lock",
        scenario: "listening",
        in_random_calls: false,
        noticed: "a process holds the kernel lock",
        spoil: |before, one, outcome| {
            let Move::Call(who, _) = one else { return };
            let looks = matches!(
                before.participant(who).activity,
                Activity::Acquiring(Acquire::Rechecking(_))
            );
            if looks && before.has_lock(who) {
                outcome.state.unlock(who);
            }
        },
    },
    Slip {
        name: "pending-is-not-told",
        scenario: "base",
        in_random_calls: false,
        noticed: "the reply is Confirm(Changed), and Confirm(Same)",
        spoil: |before, _, outcome| {
            let pending = before.named().is_some_and(|file| file.pending);
            if pending && outcome.reply == Reply::Confirm(Confirm::Changed) {
                outcome.reply = Reply::Confirm(Confirm::Same);
            }
        },
    },
    Slip {
        name: "pending-name-is-free",
        scenario: "base",
        in_random_calls: false,
        noticed: "the reply is Create(Exists), and Create(Created)",
        spoil: |before, _, outcome| {
            let pending = before.named().is_some_and(|file| file.pending);
            if pending && outcome.reply == Reply::Create(Create::Exists) {
                outcome.reply = Reply::Create(Create::Created);
            }
        },
    },
];
