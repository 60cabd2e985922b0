//! Runs whose moves are chosen one by one: by loom's threads, by weights, or by the shortening of a
//! schedule that breaks a property. The result is a [`Schedule`].

use std::sync::LazyLock;

use crate::properties::property::Property;
use crate::properties::{check_move, check_solo};
use crate::scenario::catalogue::Scenario;
use crate::scenario::moves::{Outcome, apply, successors};
use crate::scenario::schedule::{Schedule, run};
use crate::scenario::state::{Move, PARTICIPANTS, State, Who};
use crate::search::explore::Found;
use crate::variants::Protocol;

#[derive(Clone)]
pub struct Walk<'a> {
    pub scenario: &'a Scenario,
    pub protocol: &'a Protocol,
    start: u8,
    /// The current canonical state.
    pub state: State,
    /// The beginning's name of each of its participants.
    pub names: [Who; PARTICIPANTS],
    /// The moves so far, each in the names of the canonical state before it.
    moves: Vec<Move>,
}

impl<'a> Walk<'a> {
    /// The walk at this beginning of a schedule.
    pub fn begin(scenario: &'a Scenario, protocol: &'a Protocol, start: u8) -> Self {
        let beginnings = scenario.beginnings();
        let begin = beginnings[usize::from(start) % beginnings.len()];
        let names = std::array::from_fn(|who| who as Who);
        let mut walk = Self { scenario, protocol, start, state: begin, names, moves: Vec::new() };
        walk.follow(begin);
        walk
    }

    /// The current index of the participant that the beginning called `name`.
    pub fn place_of(&self, name: Who) -> Who {
        self.names.iter().position(|&other| other == name).unwrap_or_default() as Who
    }

    /// Makes and checks a move in the names of the beginning, if it is possible.
    pub fn make(&mut self, one: Move) -> Option<Result<Outcome, Property>> {
        let one = renamed(one, |name| self.place_of(name));
        // The same limits as `successors`: a suspended participant only dies, a call has `choices`
        // replies.
        let (acts, choice) = match one {
            Move::Call(who, choice) => (Some(who), choice),
            Move::Begin(who) | Move::Answer(who, _) | Move::Release(who) => (Some(who), 0),
            Move::Suspend(who) | Move::LoseReach(who) | Move::Fork(who) => (Some(who), 0),
            Move::Crash(..) | Move::Remove => (None, 0),
        };
        if acts.is_some_and(|who| self.state.participant(who).suspended) {
            return None;
        }
        let outcome = apply(self.scenario, self.protocol, &self.state, one)?;
        if choice >= outcome.choices {
            return None;
        }
        Some(self.take(one, outcome).map(|()| outcome))
    }

    /// Makes and checks a move that [`successors`] found possible here.
    pub fn take(&mut self, one: Move, outcome: Outcome) -> Result<(), Property> {
        let checked = check_move(self.scenario, &self.state, one, &outcome);
        self.moves.push(one);
        self.follow(outcome.state);
        checked
    }

    /// Whether every participant that runs alone from here ends, and gets a free lock.
    pub fn solo(&self) -> Result<u32, Property> {
        check_solo(self.scenario, self.protocol, &self.state).map_err(|violation| violation.broken)
    }

    fn follow(&mut self, state: State) {
        let (next, went) = state.canonical();
        let before = self.names;
        for (old, &new) in went.iter().enumerate() {
            self.names[usize::from(new)] = before[old];
        }
        self.state = next;
    }

    /// The moves so far, by their numbers.
    pub fn schedule(&self) -> Schedule {
        let mut again = Self::begin(self.scenario, self.protocol, self.start);
        let mut schedule = Schedule { start: self.start, steps: Vec::new() };
        let mut possible = Vec::new();
        for &one in &self.moves {
            successors(self.scenario, self.protocol, &again.state, &mut possible);
            let number = possible.iter().position(|(other, _)| *other == one);
            let number = number.expect("what was possible is possible again");
            schedule.steps.push(number as u8);
            again.follow(possible[number].1.state);
        }
        schedule
    }
}

/// The same move, of the participant `to`.
fn renamed(one: Move, to: impl Fn(Who) -> Who) -> Move {
    match one {
        Move::Begin(who) => Move::Begin(to(who)),
        Move::Call(who, choice) => Move::Call(to(who), choice),
        Move::Answer(who, answer) => Move::Answer(to(who), answer),
        Move::Release(who) => Move::Release(to(who)),
        Move::Crash(who, look) => Move::Crash(to(who), look),
        Move::Suspend(who) => Move::Suspend(to(who)),
        Move::LoseReach(who) => Move::LoseReach(to(who)),
        Move::Fork(who) => Move::Fork(to(who)),
        Move::Remove => one,
    }
}

/// A schedule that breaks a property, as moves in the names of the beginning, so that leaving one
/// out does not change the meaning of the others.
#[derive(Clone)]
pub struct Script {
    start: u8,
    pub moves: Vec<Move>,
    property: Property,
    solo: bool,
}

impl Script {
    /// The script of a schedule, if it breaks a property.
    pub fn of(
        scenario: &Scenario,
        protocol: &Protocol,
        schedule: &Schedule,
        solo: bool,
    ) -> Option<Self> {
        let run = run(scenario, protocol, schedule, solo);
        // The moves after the schedule are those of the solo run.
        let made = run.made.iter().take(schedule.steps.len());
        let moves = made.map(|made| renamed(made.one, |who| made.names[usize::from(who)]));
        Some(Self { start: schedule.start, moves: moves.collect(), property: run.broken?, solo })
    }

    /// Whether it still breaks the property when impossible moves are skipped.
    pub fn plays(&self, scenario: &Scenario, protocol: &Protocol) -> Option<Found> {
        let mut walk = Walk::begin(scenario, protocol, self.start);
        let found = |walk: &Walk<'_>, solo| {
            Some(Found { property: self.property, schedule: walk.schedule(), solo })
        };
        for &one in &self.moves {
            if let Some(Err(broken)) = walk.make(one) {
                return if broken == self.property { found(&walk, false) } else { None };
            }
        }
        let breaks = self.solo && walk.solo().err() == Some(self.property);
        if breaks { found(&walk, true) } else { None }
    }
}

/// Shortens a schedule that breaks a property, until no move and no two moves can be left out.
pub fn shorten(
    scenario: &Scenario,
    protocol: &Protocol,
    schedule: &Schedule,
    solo: bool,
) -> Option<Found> {
    let mut script = Script::of(scenario, protocol, schedule, solo)?;
    let mut found = script.plays(scenario, protocol)?;
    let mut chunk = script.moves.len();
    loop {
        let before = script.moves.len();
        let mut end = before;
        while end > 0 {
            let from = end.saturating_sub(chunk);
            let mut fewer = script.clone();
            fewer.moves.drain(from..end);
            if let Some(shorter) = fewer.plays(scenario, protocol) {
                (script, found) = (fewer, shorter);
            }
            end = from;
        }
        if chunk > 1 {
            chunk /= 2;
        } else if script.moves.len() == before {
            // Some moves can only be left out in pairs: a call and its pause, an acquire and its
            // death.
            match script.without_two(scenario, protocol) {
                Some(shorter) => (script, found) = shorter,
                None => return Some(found),
            }
        }
    }
}

impl Script {
    /// Without two of its moves, if it still breaks the property.
    fn without_two(&self, scenario: &Scenario, protocol: &Protocol) -> Option<(Self, Found)> {
        let pairs = (1..self.moves.len()).flat_map(|later| (0..later).map(move |one| (one, later)));
        for (one, later) in pairs {
            let mut fewer = self.clone();
            fewer.moves.remove(later);
            fewer.moves.remove(one);
            if let Some(found) = fewer.plays(scenario, protocol) {
                return Some((fewer, found));
            }
        }
        None
    }
}

/// Decodes a fuzzer's bytes: the scenario, the number of participants, and the schedule.
pub fn from_fuzz(bytes: &[u8]) -> (&'static Scenario, usize, Schedule) {
    static SCENARIOS: LazyLock<Vec<(usize, Scenario)>> = LazyLock::new(|| {
        let of = |participants| move |scenario| (participants, scenario);
        (2..=3).flat_map(|count| Scenario::all(count).into_iter().map(of(count))).collect()
    });
    let (state, rest) = bytes.split_first().map_or((0, bytes), |(&state, rest)| (state, rest));
    let (participants, scenario) = &SCENARIOS[usize::from(state) % SCENARIOS.len()];
    (scenario, *participants, Schedule::from_bytes(rest))
}
