//! The explorer of the model next to a peer engine, `stateright`, on the same successors.
//!
//! `cargo bench -p portlock-bench --bench search`. Both search the same reduced, canonical states
//! of one scenario breadth first, made by the same code, and both check that at most one holds.
//! They must find the same number of states. Each runs in a separate process, for its peak memory.
//! `PORTLOCK_BENCH_ROUNDS` sets the rounds, otherwise 5; the ratios are medians of the rounds.
//!
//! Base with three participants and 2 crashes, 367,422 states, on two cores at load 1.8: the
//! explorer visits 1.2 times as many states a second, with one thread and with two, in 0.60 (one
//! thread) and 0.80 (two) of the bytes a state. Its fingerprints have 128 bits, those of the peer
//! 64. Most of the time is the computation of successors, which both share.

use std::process::Command;
use std::time::Instant;

use portlock_bench::{load, measures, number};
use portlock_model::properties::property::Property;
use portlock_model::scenario::catalogue::Scenario;
use portlock_model::scenario::moves::{Outcome, successors};
use portlock_model::scenario::state::{Move, State};
use portlock_model::search::explore::{Limits, explore};
use portlock_model::search::reduce::Reduction;
use portlock_model::variants::SHIPPED;
use stateright::{Checker, Model};

/// The variables that choose the engine and its threads in a child process.
const ENGINE: &str = "PORTLOCK_BENCH_ENGINE";
const THREADS: &str = "PORTLOCK_BENCH_THREADS";

fn main() {
    if let Ok(engine) = std::env::var(ENGINE) {
        let threads = number(THREADS, 1);
        let measured = match engine.as_str() {
            "explorer" => explorer(threads),
            _ => peer(threads),
        };
        println!("{} {} {}", measured.states, measured.seconds, measured.bytes);
        return;
    }
    let rounds = if measures() { number("PORTLOCK_BENCH_ROUNDS", 5) } else { 1 };
    println!("load {}; {}, medians of {rounds} rounds", load(), scenario().name);
    println!(
        "\n| threads | engine | states | states/s | bytes a state |\n| --- | --- | --- | --- | --- |"
    );
    for threads in [1, 2] {
        let (mut speed, mut memory) = (Vec::new(), Vec::new());
        let mut last = Vec::new();
        for _ in 0..rounds {
            let [ours, theirs] = ["explorer", "stateright"].map(|engine| apart(engine, threads));
            assert_eq!(ours.states, theirs.states, "they visit the same states");
            speed.push(ours.rate() / theirs.rate());
            memory.push(ours.bytes_a_state() / theirs.bytes_a_state());
            last = vec![("explorer", ours), ("stateright", theirs)];
        }
        for (engine, one) in last {
            let (rate, bytes) = (one.rate(), one.bytes_a_state());
            println!("| {threads} | {engine} | {} | {rate:.0} | {bytes:.0} |", one.states);
        }
        let (speed, memory) = (median(speed), median(memory));
        println!("| {threads} | ratio | | {speed:.2} | {memory:.2} |");
    }
    println!("\nload {}", load());
}

/// The searched scenario. A test of the bench itself uses a smaller one.
fn scenario() -> Scenario {
    let participants = if measures() { 3 } else { 2 };
    Scenario { properties: Property::P1.only(), ..Scenario::base(participants) }
}

/// The cost of one search.
struct Measured {
    states: usize,
    seconds: f64,
    /// The growth to the peak.
    bytes: u64,
}

impl Measured {
    fn rate(&self) -> f64 {
        self.states as f64 / self.seconds
    }

    fn bytes_a_state(&self) -> f64 {
        self.bytes as f64 / self.states as f64
    }
}

/// Runs an engine in a separate process.
fn apart(engine: &str, threads: usize) -> Measured {
    let this = std::env::current_exe().expect("the path of this bench");
    let mut command = Command::new(this);
    command.args(std::env::args_os().skip(1)).env(ENGINE, engine);
    let output = command.env(THREADS, threads.to_string()).output().expect("it starts");
    let text = String::from_utf8(output.stdout).expect("three numbers");
    let numbers: Vec<&str> = text.split_whitespace().collect();
    let &[states, seconds, bytes] = numbers.as_slice() else {
        panic!("{engine}: {text}{}", String::from_utf8_lossy(&output.stderr))
    };
    let states = states.parse().expect("a number");
    let seconds = seconds.parse().expect("a number");
    Measured { states, seconds, bytes: bytes.parse().expect("a number") }
}

/// Measures a search, which returns its number of states.
fn measured(search: impl FnOnce() -> usize) -> Measured {
    let (before, began) = (memory("VmRSS:"), Instant::now());
    let states = search();
    let seconds = began.elapsed().as_secs_f64();
    Measured { states, seconds, bytes: memory("VmHWM:").saturating_sub(before).max(1) }
}

/// A line of Linux about the memory of this process, in bytes; 0 on other systems.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = status.lines().find_map(|text| text.strip_prefix(line));
    let kib = value.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn median(mut ratios: Vec<f64>) -> f64 {
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

fn explorer(threads: usize) -> Measured {
    let scenario = scenario();
    measured(|| {
        let limits = Limits { threads, ..Limits::default() };
        let seen = explore(&scenario, &SHIPPED, limits).expect("searched to the end");
        assert!(seen.found.is_none(), "at most one holds");
        seen.states
    })
}

fn peer(threads: usize) -> Measured {
    let scenario = scenario();
    let reduction = Reduction::of(&scenario, &SHIPPED);
    measured(|| {
        let checker = Peer { scenario, reduction }.checker().threads(threads);
        let checker = checker.spawn_bfs().join();
        checker.assert_properties();
        checker.unique_state_count()
    })
}

/// The scenario as a stateright model.
struct Peer {
    scenario: Scenario,
    reduction: Reduction,
}

/// A move, and its resulting state.
#[derive(Debug, Clone, PartialEq)]
struct Step {
    one: Move,
    after: State,
}

impl Peer {
    fn settled(&self, mut state: State) -> State {
        self.reduction.reduce(&mut state);
        state.canonical().0
    }
}

impl Model for Peer {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        self.scenario.beginnings().into_iter().map(|state| self.settled(state)).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        let mut possible = Vec::new();
        successors(&self.scenario, &SHIPPED, state, &mut possible);
        let step = |(one, outcome): (Move, Outcome)| Step { one, after: outcome.state };
        actions.extend(possible.into_iter().map(step));
    }

    fn next_state(&self, _: &State, step: Step) -> Option<State> {
        Some(self.settled(step.after))
    }

    fn properties(&self) -> Vec<stateright::Property<Self>> {
        vec![stateright::Property::always("at most one holds", |_, state: &State| {
            state.everyone().filter(|&who| state.believes(who)).count() <= 1
        })]
    }
}
