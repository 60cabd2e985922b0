//! Random histories, and the violations that they find.

use std::cell::Cell;
use std::fmt;
use std::time::Instant;

use proptest::prelude::*;
use proptest::strategy::{NewTree, ValueTree};
use proptest::test_runner::{
    Config as Runs, FileFailurePersistence, RngAlgorithm, TestCaseError, TestError, TestRng,
    TestRunner,
};

use portlock_model::properties::property::Property;
use portlock_model::render::report::{Origin, report};
use portlock_model::scenario::catalogue::Scenario;
use portlock_model::scenario::machines::Answer;
use portlock_model::scenario::moves::{Outcome, successors};
use portlock_model::scenario::schedule::{Schedule, run};
use portlock_model::scenario::state::{Move, PARTICIPANTS, Who};
use portlock_model::scenario::walk::{Script, Walk, shorten};
use portlock_model::search::explore::Found;
use portlock_model::variants::{Protocol, SHIPPED};

/// The most moves of a history.
const LONGEST: u32 = 4096;

/// A budget of crashes, faults, removals or suspensions that a long history never uses up.
const PLENTY: u8 = u8::MAX;

/// A number from the environment.
fn number(variable: &str, otherwise: u64) -> u64 {
    let parse = |text: String| text.parse().unwrap_or_else(|_| panic!("{variable} is a number"));
    std::env::var(variable).map_or(otherwise, parse)
}

pub(crate) fn seed() -> u64 {
    number("PORTLOCK_SEED", 5338)
}

fn runner(histories: u32, persistence: FileFailurePersistence) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed().to_le_bytes());
    let times = number("PORTLOCK_HISTORIES", 1) as u32;
    let runs = Runs {
        cases: histories * times,
        failure_persistence: Some(Box::new(persistence)),
        ..Runs::default()
    };
    TestRunner::new_with_rng(runs, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// The same scenario with budgets that are never used up.
fn at_length(scenario: Scenario) -> Scenario {
    let plenty = |some: u8| if some > 0 { PLENTY } else { 0 };
    Scenario {
        crashes: PLENTY,
        faults: plenty(scenario.faults),
        removals: plenty(scenario.removals),
        suspensions: plenty(scenario.suspensions),
        // A file whose unlink fails is truncated; if that fails too, it stays.
        properties: if scenario.faults > 0 {
            &[Property::P1, Property::P2]
        } else {
            scenario.properties
        },
        ..scenario
    }
}

/// Random histories of a scenario.
#[derive(Clone)]
pub(crate) struct Histories {
    pub(crate) scenario: Scenario,
    pub(crate) protocol: Protocol,
}

impl fmt::Debug for Histories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "histories of {}", self.scenario.name)
    }
}

/// The weights for the choice of each move.
struct Mood {
    /// In this many of 8 moves the last mover moves again.
    sticky: u32,
    /// The weight of a crash, where a call has 64.
    deadly: u32,
}

impl Mood {
    fn weight(&self, one: Move, last: Option<Who>, stays: bool) -> u32 {
        let (who, weight) = match one {
            Move::Begin(who) | Move::Release(who) => (Some(who), 48),
            Move::Call(who, 0) => (Some(who), 64),
            Move::Call(who, _) => (Some(who), 16),
            Move::Answer(who, Answer::Again | Answer::Listen) => (Some(who), 32),
            Move::Answer(who, _) => (Some(who), 16),
            Move::Fork(_) => (None, 16),
            Move::Crash(..) => (None, self.deadly),
            Move::Suspend(_) | Move::LoseReach(_) => (None, 1),
            Move::Remove => (None, 4),
        };
        if stays && (who.is_none() || who != last) { 0 } else { weight }
    }
}

impl Strategy for Histories {
    type Tree = History;
    type Value = Schedule;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        let rng = runner.rng();
        let mut below = |bound: u32| rng.random_range(0..bound);
        // As many short as long histories, because a legacy agent's violation excuses all later
        // ones.
        let length = 8 << below(LONGEST.ilog2() - 2);
        let mood = Mood { sticky: below(8), deadly: [0, 1, 4, 16][below(4) as usize] };
        let start = below(self.scenario.starts.len() as u32) as u8;

        let mut walk = Walk::begin(&self.scenario, &self.protocol, start);
        let mut steps = Vec::new();
        let mut possible: Vec<(Move, Outcome)> = Vec::new();
        let mut last = None;
        for _ in 0..length {
            successors(&self.scenario, &self.protocol, &walk.state, &mut possible);
            let stays = below(8) < mood.sticky;
            let place = last.map(|name| walk.place_of(name));
            let sum = |stays| -> u32 {
                possible.iter().map(|&(one, _)| mood.weight(one, place, stays)).sum()
            };
            let stays = stays && sum(true) > 0;
            let total = sum(stays);
            if total == 0 {
                break;
            }
            let mut left = below(total);
            let chosen = possible.iter().position(|&(one, _)| {
                let weight = mood.weight(one, place, stays);
                let here = left < weight;
                left = left.saturating_sub(weight);
                here
            });
            let chosen = chosen.expect("the weights add up");
            let (one, outcome) = possible[chosen];
            if let Move::Begin(who)
            | Move::Call(who, _)
            | Move::Answer(who, _)
            | Move::Release(who) = one
            {
                last = Some(walk.names[usize::from(who)]);
            }
            steps.push(chosen as u8);
            if walk.take(one, outcome).is_err() {
                break;
            }
        }
        let schedule = Schedule { start, steps };
        Ok(History { of: self.clone(), schedule, whole: None })
    }
}

/// A history, which shrinks in one step to the fewest moves that break the same property.
pub(crate) struct History {
    of: Histories,
    schedule: Schedule,
    whole: Option<Schedule>,
}

impl ValueTree for History {
    type Value = Schedule;

    fn current(&self) -> Schedule {
        self.schedule.clone()
    }

    fn simplify(&mut self) -> bool {
        if self.whole.is_some() {
            return false;
        }
        let Some(found) = shorten(&self.of.scenario, &self.of.protocol, &self.schedule, true)
        else {
            return false;
        };
        self.whole = Some(std::mem::replace(&mut self.schedule, found.schedule));
        true
    }

    fn complicate(&mut self) -> bool {
        match self.whole.take() {
            Some(whole) => {
                self.schedule = whole;
                false
            }
            None => false,
        }
    }
}

/// The number of histories and moves run.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    pub(crate) histories: Cell<u32>,
    moves: Cell<u64>,
}

impl Ran {
    fn print(&self, what: &str, began: Instant) {
        let (histories, moves) = (self.histories.get(), self.moves.get());
        let took = began.elapsed();
        println!(
            "{what}: {histories} histories, {moves} moves, {:.1} s, {:.0} moves a second",
            took.as_secs_f64(),
            moves as f64 / took.as_secs_f64(),
        );
    }
}

/// Runs random histories of a scenario, and returns the first that breaks a property, shortened.
pub(crate) fn search(of: &Histories, histories: u32, keep: bool, ran: &Ran) -> Option<Found> {
    let persistence = if keep {
        FileFailurePersistence::Direct("tests/properties.proptest-regressions")
    } else {
        FileFailurePersistence::Off
    };
    let result = runner(histories, persistence).run(of, |schedule| {
        let run = run(&of.scenario, &of.protocol, &schedule, true);
        ran.histories.set(ran.histories.get() + 1);
        ran.moves.set(ran.moves.get() + run.made.len() as u64);
        match run.broken {
            Some(property) => Err(TestCaseError::fail(property.sentence())),
            None => Ok(()),
        }
    });
    match result {
        Ok(()) => None,
        Err(TestError::Fail(_, schedule)) => {
            let found = shorten(&of.scenario, &of.protocol, &schedule, true);
            Some(found.expect("the violation is repeatable"))
        }
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

/// The report, in the scenario of `replay` if the history fits into its budgets.
fn reported(of: &Histories, participants: usize, found: &Found) -> String {
    let usual = Scenario::named(of.scenario.name, participants).expect("a scenario of the model");
    let script = Script::of(&of.scenario, &of.protocol, &found.schedule, found.solo);
    let fits = script.and_then(|script| script.plays(&usual, &of.protocol));
    let origin = Origin { variant: None, participants };
    match fits {
        Some(found) => report(&usual, &of.protocol, &found, origin),
        None => report(&of.scenario, &of.protocol, found, origin),
    }
}

/// The scenarios with this many participants that fit into the model.
fn scenarios(participants: usize) -> impl Iterator<Item = Scenario> {
    let all = Scenario::all(participants).into_iter();
    all.filter(|scenario| scenario.kinds.len() <= PARTICIPANTS)
}

/// Random histories of all scenarios, with unlimited budgets and with the model's own.
pub(crate) fn keep_every_promise(participants: usize, histories: u32) {
    println!("PORTLOCK_SEED={}", seed());
    for usual in scenarios(participants) {
        for (how, scenario) in [("usual", usual.clone()), ("long", at_length(usual))] {
            let (began, ran) = (Instant::now(), Ran::default());
            let of = Histories { scenario, protocol: SHIPPED };
            let found = search(&of, histories, true, &ran);
            ran.print(&format!("{participants} · {} · {how}", of.scenario.name), began);
            if let Some(found) = found {
                panic!("PORTLOCK_SEED={}\n{}", seed(), reported(&of, participants, &found));
            }
            assert!(ran.histories.get() >= histories, "all histories were run");
        }
    }
}

/// A wrong protocol that breaks a property in the scenario of this name.
fn control(scenario: &str) -> &'static str {
    match scenario {
        "base" => "no-confirm-before-unlink",
        "threads" => "own-pid-is-stale-without-lock",
        "fork" | "passed-to-child" => "unlink-in-forked-child",
        "command" => "record-names-the-runner",
        "external-unlink" => "release-by-name",
        "legacy-agents" => "clock-after-content",
        "delete-pending" => "refuse-on-an-orphans-record",
        "faults" => "continue-without-lock-on-enolck",
        "stopped-process" => "compare-open-file-with-itself",
        "queries" => "query-takes-the-lock",
        "listening" | "waiting-without-end" => "listen-without-recheck",
        "no-probe" => "number-identifies-the-process",
        "author-without-locks" => "free-lock-proves-all-dead",
        "machines-that-look-alike" => "equal-name-is-the-same-machine",
        "out-of-reach" => "lost-lock-keeps-its-record",
        "clears" | "combined-faults-clears" => "clear-without-confirm",
        "forced-removal" => "force-without-the-lock",
        _ => "drop-lock-then-unlink",
    }
}

/// The same search finds a wrong protocol in every scenario.
pub(crate) fn find_a_control_in_every_scenario(participants: usize, histories: u32) {
    for usual in scenarios(participants) {
        for (how, scenario) in [("usual", usual.clone()), ("long", at_length(usual))] {
            let name = control(scenario.name);
            let protocol =
                portlock_model::variants::named(name).expect("a wrong protocol").protocol;
            let ran = Ran::default();
            let of = Histories { scenario, protocol };
            let found = search(&of, histories, false, &ran);
            let what = format!("{participants} · {} · {how} · {name}", of.scenario.name);
            let found = found.unwrap_or_else(|| panic!("{what}: not found: seed {}", seed()));
            let again = run(&of.scenario, &of.protocol, &found.schedule, found.solo);
            assert_eq!(again.broken, Some(found.property), "{what}: replayed");
            let searched = ran.histories.get();
            println!("{what}: {} after {searched} runs, in {}", found.property, found.schedule);
        }
    }
}
