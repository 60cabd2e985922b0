//! One schedule format for all engines: a number for each move, among the possible ones.
//!
//! The explorer, proptest, the fuzzer and `replay` share it, so a find in one is a test in all.

use std::fmt;
use std::str::FromStr;

use crate::properties::property::Property;
use crate::properties::runs::{Manner, fair_run, solo};
use crate::properties::{LivenessViolation, check_move, check_solo};
use crate::scenario::catalogue::Scenario;
use crate::scenario::moves::{Outcome, apply, successors};
use crate::scenario::state::{Move, PARTICIPANTS, State, Who};
use crate::variants::Protocol;

/// A run of a scenario: the beginning, and the moves.
///
/// Each number is an index into the possible moves of the canonical state, modulo their count: any
/// numbers are a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schedule {
    /// The index of the beginning, modulo their count.
    pub start: u8,
    pub steps: Vec<u8>,
}

impl Schedule {
    /// Decodes a schedule. The first byte is the beginning.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        match bytes.split_first() {
            Some((&start, steps)) => Self { start, steps: steps.to_vec() },
            None => Self::default(),
        }
    }

    /// The reverse of [`from_bytes`](Self::from_bytes).
    pub fn to_bytes(&self) -> Vec<u8> {
        [&[self.start], self.steps.as_slice()].concat()
    }
}

impl fmt::Display for Schedule {
    /// `0/3/1/…`: the beginning, then the moves.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.start)?;
        self.steps.iter().try_for_each(|step| write!(f, "/{step}"))
    }
}

impl FromStr for Schedule {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers: Result<Vec<u8>, _> = text.split('/').map(str::parse).collect();
        Ok(Self::from_bytes(&numbers?))
    }
}

/// One move of a run.
#[derive(Debug, Clone, Copy)]
pub struct Made {
    pub before: State,
    pub one: Move,
    pub outcome: Outcome,
    /// The beginning's name of each participant of `before`.
    pub names: [Who; PARTICIPANTS],
}

/// The run of a schedule.
#[derive(Debug, Clone)]
pub struct Run {
    pub made: Vec<Made>,
    /// The canonical state at the end, and the names of its participants.
    pub end: State,
    pub names: [Who; PARTICIPANTS],
    /// The property that broke, which ends the run.
    pub broken: Option<Property>,
}

/// Runs a schedule, and checks every property of its scenario after every move.
///
/// With `solo`, also runs every participant alone from the last state, as the explorer does from
/// each state, and adds the moves of one that violates a property.
pub fn run(scenario: &Scenario, protocol: &Protocol, schedule: &Schedule, solo: bool) -> Run {
    let beginnings = scenario.beginnings();
    let begin = beginnings[usize::from(schedule.start) % beginnings.len()];
    let (mut state, went) = begin.canonical();
    let mut names = [0; PARTICIPANTS];
    for (old, &new) in went.iter().enumerate() {
        names[usize::from(new)] = old as Who;
    }
    let mut run = Run { made: Vec::new(), end: state, names, broken: None };
    let mut possible = Vec::new();
    for &step in &schedule.steps {
        successors(scenario, protocol, &state, &mut possible);
        if possible.is_empty() {
            break;
        }
        let (one, outcome) = possible[usize::from(step) % possible.len()];
        run.made.push(Made { before: state, one, outcome, names: run.names });
        let broken = check_move(scenario, &state, one, &outcome).err();
        let (next, went) = outcome.state.canonical();
        let before = run.names;
        for (old, &new) in went.iter().enumerate() {
            run.names[usize::from(new)] = before[old];
        }
        (state, run.end) = (next, next);
        if broken.is_some() {
            run.broken = broken;
            return run;
        }
    }
    let solo_runs = if solo { check_solo(scenario, protocol, &state) } else { Ok(0) };
    if let Err(violation) = solo_runs {
        run.broken = Some(violation.broken);
        run.made.extend(solo_moves(scenario, protocol, &state, violation, run.names));
    }
    run
}

/// The solo run of a participant, from the start of its call if it is idle.
fn solo_moves(
    scenario: &Scenario,
    protocol: &Protocol,
    state: &State,
    LivenessViolation { who, manner, .. }: LivenessViolation,
    names: [Who; PARTICIPANTS],
) -> Vec<Made> {
    let mut made = Vec::new();
    let mut from = *state;
    if let Some(outcome) = apply(scenario, protocol, state, Move::Begin(who)) {
        made.push(Made { before: from, one: Move::Begin(who), outcome, names });
        from = outcome.state;
    }
    let watch = |before: &State, one, outcome: &Outcome| {
        made.push(Made { before: *before, one, outcome: *outcome, names });
    };
    match manner {
        Manner::Leaves => {
            solo(scenario, protocol, &from, who, watch);
        }
        Manner::Listens => {
            fair_run(scenario, protocol, &from, who, manner, watch);
        }
    }
    made
}
