//! The model agrees with the kernel: every transition of the explicit search is made on a real
//! filesystem by the shipped adapter, in lock-step with the model, and so are random calls, which
//! no machine makes. Each semantic mutation of the model is detected.
//!
//! The filesystem is that of the temporary directory; `conform --dir` takes others. At 3
//! participants: `cargo run --release -p portlock-model -- conform --participants 3 --scenario
//! base`.

#![cfg(target_os = "linux")]

use std::sync::OnceLock;

use portlock_model::conformance::slips::{EVENT_FOR_NOTHING, SLIPS};
use portlock_model::conformance::{Conformed, Grain, SceneGraph, random};
use portlock_model::scenario::catalogue::Scenario;
use portlock_model::search::explore::{Limits, explore};
use portlock_model::variants::SHIPPED;

fn scenario(name: &str) -> Scenario {
    Scenario::named(name, 2).expect("there is such a scenario")
}

/// The scenarios that are made by scenes, each searched once for all tests.
static SCENES: [(&str, OnceLock<SceneGraph>); 10] = [
    ("base", OnceLock::new()),
    ("threads", OnceLock::new()),
    ("listening", OnceLock::new()),
    ("faults", OnceLock::new()),
    ("fork", OnceLock::new()),
    ("external-unlink", OnceLock::new()),
    ("queries", OnceLock::new()),
    ("clears", OnceLock::new()),
    ("forced-removal", OnceLock::new()),
    ("legacy-agents", OnceLock::new()),
];

fn scenes(name: &str) -> &'static SceneGraph {
    let (name, scenes) =
        SCENES.iter().find(|(known, _)| *known == name).expect("it is one of these");
    scenes.get_or_init(|| {
        // No process dies in these, because their searches are slow.
        let takes_long = ["queries", "legacy-agents"].contains(name);
        let crashes = if takes_long { 0 } else { scenario(name).crashes };
        SceneGraph::new(scenario(name).with_crashes(crashes), Grain::Scenes)
    })
}

fn conforms(name: &str, scenes: &SceneGraph) -> Conformed {
    let directory = tempfile::tempdir().expect("there is room");
    match scenes.conform(directory.path(), None).expect("the filesystem works") {
        Ok(seen) => {
            println!(
                "{name:<16} {:>8} transitions are {:>6} steps, {:>8} calls, {:.1?}",
                seen.transitions, seen.steps, seen.calls.made, seen.took
            );
            seen
        }
        Err(disagreement) => panic!("\n{disagreement}"),
    }
}

#[test]
fn kernel_agrees_on_every_base_transition() {
    let seen = conforms("base", &SceneGraph::new(scenario("base"), Grain::Machines));
    // They are the states and transitions of the search.
    let unchecked = Scenario { properties: &[], ..scenario("base") };
    let whole = Limits { whole: true, ..Limits::on_all_processors() };
    let searched = explore(&unchecked, &SHIPPED, whole).expect("searched to the end");
    assert_eq!((seen.states, seen.transitions), (searched.states, searched.transitions));
    assert!(seen.calls.made > seen.calls.instead, "most is answered by the kernel");
}

#[test]
fn other_process_scenarios_agree_with_the_kernel() {
    for name in ["threads", "listening", "no-kernel-locks"] {
        conforms(name, &SceneGraph::new(scenario(name), Grain::Machines));
    }
}

/// By scenes.
#[test]
fn interference_and_fault_scenarios_agree_with_the_kernel() {
    for (name, _) in &SCENES {
        conforms(name, scenes(name));
    }
}

#[test]
fn calls_in_random_order_agree_with_the_kernel() {
    let directory = tempfile::tempdir().expect("there is room");
    let seed = std::env::var("PORTLOCK_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    println!("PORTLOCK_SEED={seed}");
    match random::run(directory.path(), 300_000, seed, None).expect("the filesystem works") {
        Ok(calls) => assert!(calls.made > 50_000, "{calls:?}"),
        Err(disagreement) => panic!("\n{disagreement}"),
    }
}

#[test]
fn transitions_detect_every_semantic_mutation() {
    let directory = tempfile::tempdir().expect("there is room");
    for slip in SLIPS {
        let seen = scenes(slip.scenario).conform(directory.path(), Some(slip));
        let Err(noticed) = seen.expect("the filesystem works") else {
            panic!("{} is not noticed", slip.name)
        };
        assert!(noticed.differs.contains(slip.noticed), "{}: {}", slip.name, noticed.differs);
        println!("{:<48} {}", slip.name, noticed.differs);
    }
}

#[test]
fn random_calls_detect_every_semantic_mutation() {
    let directory = tempfile::tempdir().expect("there is room");
    let slips = SLIPS.iter().chain([&EVENT_FOR_NOTHING]);
    for slip in slips.filter(|slip| slip.in_random_calls) {
        let seen = random::run(directory.path(), 100_000, 1, Some(slip));
        let Err(noticed) = seen.expect("the filesystem works") else {
            panic!("{} is not noticed", slip.name)
        };
        assert!(noticed.differs.contains(slip.noticed), "{}: {}", slip.name, noticed.differs);
    }
}
