//! The search clears values that no participant will read again (`model/src/search/reduce.rs`).
//! Here every whole state is compared with its reduced one: both have the same moves, replies and
//! property results, and their next states are equal after reduction. Therefore the reduced search
//! finds what the whole one finds.
//!
//! `cargo test` compares a part of each scenario. `PORTLOCK_WHOLE=1`, which the gate sets, compares
//! every state of every scenario at 2.

use std::collections::VecDeque;
use std::time::Instant;

use rustc_hash::{FxHashMap, FxHashSet};

use portlock_model::properties::property::Property;
use portlock_model::properties::runs::{Manner, SoloEnd, fair_run};
use portlock_model::properties::solo::{self, Memo, Reached, Solo};
use portlock_model::properties::{LivenessViolation, check_move, check_solo, check_solo_by};
use portlock_model::scenario::catalogue::Scenario;
use portlock_model::scenario::machines::Reply;
use portlock_model::scenario::moves::{Outcome, successors};
use portlock_model::scenario::state::{
    Activity, Content, Creator, File, Listens, Move, Participant, State,
};
use portlock_model::search::explore::{Limits, explore_watched};
use portlock_model::search::fingerprint::fingerprint;
use portlock_model::search::reduce::Reduction;
use portlock_model::variants::catalogue::on_all_processors;
use portlock_model::variants::{Caught, Protocol, SHIPPED, all};

/// The shipped reduction, or a wrong one.
type Reduce<'a> = &'a dyn Fn(&mut State);

/// The visible parts of a move, and the reduced next state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    one: Move,
    reply: Reply,
    choices: u8,
    ended: Activity,
    broken: Option<Property>,
    after: State,
}

/// The solo runs and the moves of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
struct All {
    solo: Result<u32, LivenessViolation>,
    moves: Vec<Seen>,
}

struct Comparison<'a> {
    scenario: &'a Scenario,
    protocol: &'a Protocol,
    reduce: Reduce<'a>,
    memo: Memo,
    possible: Vec<(Move, Outcome)>,
}

impl Comparison<'_> {
    fn all(&mut self, state: &State) -> All {
        let Self { scenario, protocol, .. } = *self;
        successors(scenario, protocol, state, &mut self.possible);
        let seen = |&(one, outcome): &(Move, Outcome)| {
            let Outcome { state: mut after, reply, removal: _, by: _, choices, ended } = outcome;
            (self.reduce)(&mut after);
            let broken = check_move(scenario, state, one, &outcome).err();
            Seen { one, reply, choices, ended, broken, after }
        };
        let moves = self.possible.iter().map(seen).collect();
        All { solo: check_solo(scenario, protocol, state), moves }
    }

    /// The difference between a whole state and its reduced one, if any.
    fn differs(&mut self, state: &State, of_reduced: &mut FxHashMap<u128, All>) -> Option<String> {
        let mut reduced = *state;
        (self.reduce)(&mut reduced);
        let mut twice = reduced;
        (self.reduce)(&mut twice);
        if twice != reduced {
            return Some(format!("it is reduced further:\n{reduced:?}\n{twice:?}"));
        }
        let whole = self.all(state);
        let by_memo = check_solo_by(self.scenario, self.protocol, state, &mut |begun, who| {
            self.memo.run(self.scenario, self.protocol, begun, who)
        });
        if by_memo != whole.solo {
            return Some(format!("alone {:?}, and by the memo {by_memo:?}", whole.solo));
        }
        let reduced_too = of_reduced.entry(fingerprint(&reduced)).or_insert_with(|| {
            let Self { scenario, protocol, reduce, .. } = *self;
            let (memo, possible) = (Memo::default(), Vec::new());
            Comparison { scenario, protocol, reduce, memo, possible }.all(&reduced)
        });
        if whole == *reduced_too {
            return None;
        }
        let mut pairs = whole.moves.iter().zip(&reduced_too.moves);
        let first = pairs.find(|(one, other)| one != other);
        let (solo, other) = (whole.solo, reduced_too.solo);
        Some(format!(
            "alone {solo:?} and {other:?}, {} and {} moves, of which the first to differ:\n{first:#?}",
            whole.moves.len(),
            reduced_too.moves.len()
        ))
    }
}

/// Compares up to `limit` states of a scenario, up to the first broken property, where a search
/// ends. Returns the numbers of whole and of reduced states.
fn compare(
    scenario: &Scenario,
    protocol: &Protocol,
    reduce: Reduce<'_>,
    limit: usize,
) -> Result<(usize, usize), String> {
    let (memo, possible) = (Memo::default(), Vec::new());
    let mut comparison = Comparison { scenario, protocol, reduce, memo, possible };
    let mut of_reduced = FxHashMap::default();
    let mut known = FxHashSet::default();
    let mut open: VecDeque<State> = scenario.beginnings().into();
    let mut possible = Vec::new();
    while let Some(state) = open.pop_front() {
        let state = state.canonical().0;
        if known.len() >= limit || !known.insert(fingerprint(&state)) {
            continue;
        }
        if let Some(what) = comparison.differs(&state, &mut of_reduced) {
            return Err(format!("{}: of\n{state:#?}\n{what}", scenario.name));
        }
        successors(scenario, protocol, &state, &mut possible);
        let keeps =
            |(one, outcome): &(Move, Outcome)| check_move(scenario, &state, *one, outcome).is_ok();
        if !possible.iter().all(keeps) || check_solo(scenario, protocol, &state).is_err() {
            break;
        }
        open.extend(possible.iter().map(|(_, outcome)| outcome.state));
    }
    Ok((known.len(), of_reduced.len()))
}

/// A part of the scenario: fewer beginnings, crashes and faults.
fn part(scenario: &Scenario) -> Scenario {
    Scenario {
        starts: &scenario.starts[..scenario.starts.len().min(2)],
        crashes: scenario.crashes.min(1),
        faults: scenario.faults.min(1),
        ..scenario.clone()
    }
}

#[test]
fn whole_and_reduced_states_agree_in_every_scenario() {
    let whole = std::env::var_os("PORTLOCK_WHOLE").is_some();
    let scenarios: Vec<_> = Scenario::all(2)
        .iter()
        .map(|scenario| if whole { scenario.clone() } else { part(scenario) })
        .collect();
    let limit = if whole { usize::MAX } else { 20_000 };
    let compared = on_all_processors(&scenarios, |scenario| {
        let began = Instant::now();
        let reduction = Reduction::of(scenario, &SHIPPED);
        let compared = compare(scenario, &SHIPPED, &|state| reduction.reduce(state), limit);
        println!("{:<34} {compared:?} in {:.1?}", scenario.name, began.elapsed());
        compared
    });
    for compared in compared {
        let (whole, reduced) = compared.unwrap_or_else(|what| panic!("{what}"));
        assert!(reduced < whole, "nothing is dead");
    }
}

/// The whole states of each wrong protocol, in a part of its scenario.
#[test]
fn reduction_agrees_under_every_wrong_protocol() {
    let variants = all();
    let compared = on_all_processors(&variants, |variant| {
        let (property, scenario, participants) = match variant.caught {
            Caught::Breaks { property, scenario, participants } => {
                (Some(property), scenario, participants)
            }
            Caught::Harmless { .. } => (None, "base", 2),
        };
        let scenario =
            part(&Scenario::named(scenario, participants).expect("a scenario of the model"));
        // With the property of the catalogue, and with those of the scenario.
        let properties = property.map_or(scenario.properties, Property::only);
        for scenario in [Scenario { properties, ..scenario.clone() }, scenario] {
            let reduction = Reduction::of(&scenario, &variant.protocol);
            let reduce = |state: &mut State| reduction.reduce(state);
            compare(&scenario, &variant.protocol, &reduce, 3_000)
                .map_err(|what| format!("{}: {what}", variant.name))?;
        }
        Ok::<_, String>(())
    });
    for compared in compared {
        compared.unwrap_or_else(|what| panic!("{what}"));
    }
}

/// A reduction that clears live values.
struct Wrong {
    clears: &'static str,
    scenario: &'static str,
    too_much: fn(&mut State),
}

const WRONG: &[Wrong] = &[
    Wrong {
        clears: "what was read, though it will be probed",
        scenario: "base",
        too_much: |state| everyone(state, |participant| participant.seen = Content::Empty),
    },
    Wrong {
        clears: "events",
        scenario: "listening",
        too_much: |state| everyone(state, |participant| participant.listens = Listens::No),
    },
    Wrong {
        clears: "which files had a holder during the call",
        scenario: "base",
        too_much: |state| everyone(state, |participant| participant.witnessed = 0),
    },
    Wrong {
        clears: "a removal from outside between a confirm and an unlink",
        scenario: "external-unlink",
        too_much: |state| everyone(state, |participant| participant.in_window = false),
    },
    Wrong {
        clears: "that a participant stopped",
        scenario: "stopped-process",
        too_much: |state| everyone(state, |participant| participant.suspended = false),
    },
    Wrong {
        clears: "the content of an orphan",
        scenario: "base",
        too_much: |state| orphans(state, |file| file.content = Content::Empty),
    },
    Wrong {
        clears: "the creator of an orphan that only the grace protects",
        scenario: "legacy-agents",
        too_much: |state| orphans(state, |file| file.creator = Creator::Dead),
    },
    Wrong {
        clears: "that a participant cannot reach the path",
        scenario: "out-of-reach",
        too_much: |state| everyone(state, |participant| participant.out_of_reach = false),
    },
    Wrong {
        clears: "the owner of an orphan's lock",
        scenario: "base",
        too_much: |state| orphans(state, |file| file.lock = None),
    },
    Wrong {
        clears: "the creator of the named file",
        scenario: "base",
        too_much: |state| named(state, |file| file.creator = Creator::Dead),
    },
    Wrong {
        clears: "that the named file was abandoned",
        scenario: "faults",
        too_much: |state| named(state, |file| file.abandoned = false),
    },
    Wrong {
        clears: "that a removal failed",
        scenario: "faults",
        too_much: |state| state.removal_failed = false,
    },
    Wrong {
        clears: "that an old agent removed a live file",
        scenario: "legacy-agents",
        too_much: |state| state.robbed = false,
    },
];

fn everyone(state: &mut State, clear: impl Fn(&mut Participant)) {
    state.participants.iter_mut().for_each(clear);
}

fn named(state: &mut State, clear: impl Fn(&mut File)) {
    if let Some(file) = state.path.and_then(|inode| state.file_mut(inode)) {
        clear(file);
    }
}

fn orphans(state: &mut State, clear: impl Fn(&mut File)) {
    let path = state.path.map(usize::from);
    let files = state.files.iter_mut().enumerate();
    files
        .filter(|(inode, _)| Some(*inode) != path)
        .filter_map(|(_, file)| file.as_mut())
        .for_each(clear);
}

#[test]
fn clearing_more_than_is_dead_is_detected() {
    let missed = on_all_processors(WRONG, |wrong| {
        let scenario = part(&Scenario::named(wrong.scenario, 2).expect("a scenario of the model"));
        let reduction = Reduction::of(&scenario, &SHIPPED);
        let reduce = |state: &mut State| {
            reduction.reduce(state);
            (wrong.too_much)(state);
        };
        let compared = compare(&scenario, &SHIPPED, &reduce, usize::MAX);
        compared.is_ok().then_some(wrong.clears)
    });
    let missed: Vec<_> = missed.into_iter().flatten().collect();
    assert!(missed.is_empty(), "not detected: {missed:?}");
}

/// A memo of fair runs would be wrong, because they depend on the states of the others.
#[test]
fn fair_runs_with_equal_prefixes_end_differently() {
    let scenario = Scenario::named("listening", 2).expect("a scenario of the model");
    let mut ended: FxHashMap<Reached, (SoloEnd, State)> = FxHashMap::default();
    let mut known = FxHashSet::default();
    let mut open: VecDeque<State> = scenario.beginnings().into();
    let mut possible = Vec::new();
    while let Some(state) = open.pop_front() {
        let state = state.canonical().0;
        if !known.insert(fingerprint(&state)) {
            continue;
        }
        for who in state.everyone().filter(|&who| state.participant(who).activity != Activity::Idle)
        {
            let reached = Reached::by(&scenario, &state, who).expect("no other protocol");
            let (now, _) =
                fair_run(&scenario, &SHIPPED, &state, who, Manner::Listens, |_, _, _| {});
            let (before, other) = *ended.entry(reached).or_insert((now, state));
            if before != now {
                let at = |state: &State| state.participants.map(|one| one.activity);
                println!("{before:?} and {now:?} in {:?}\n{:?}", at(&other), at(&state));
                return;
            }
        }
        successors(&scenario, &SHIPPED, &state, &mut possible);
        open.extend(possible.iter().map(|(_, outcome)| outcome.state));
    }
    panic!("a memo would be correct: {} states agree", known.len());
}

/// A memo key without a part of what a run reaches.
struct Forgetful {
    what: &'static str,
    scenario: &'static str,
    forget: fn(&mut Reached),
}

const FORGETFUL: &[Forgetful] = &[
    Forgetful { what: "its state", scenario: "base", forget: |one| one.activity = Activity::Idle },
    Forgetful { what: "the named file", scenario: "base", forget: |one| one.named = None },
    Forgetful { what: "its orphan", scenario: "base", forget: |one| one.orphan = None },
    Forgetful {
        what: "whether others keep a name",
        scenario: "delete-pending",
        forget: |one| one.kept = false,
    },
];

#[test]
fn a_memo_that_forgets_anything_is_wrong() {
    let missed = on_all_processors(FORGETFUL, |&Forgetful { what, scenario, forget }| {
        let scenario = part(&Scenario::named(scenario, 2).expect("a scenario of the model"));
        let mut runs: FxHashMap<Reached, Solo> = FxHashMap::default();
        let (mut wrong, mut last) = (false, None);
        let limits = Limits { states: 20_000, whole: true, ..Limits::default() };
        // An incomplete search is enough.
        let _ = explore_watched(&scenario, &SHIPPED, limits, |state, _, _| {
            if wrong || last.replace(*state) == Some(*state) {
                return;
            }
            for who in state.everyone() {
                let mut reached = Reached::by(&scenario, state, who).expect("no other protocol");
                forget(&mut reached);
                let now = solo::run(&scenario, &SHIPPED, state, who);
                wrong |= *runs.entry(reached).or_insert(now) != now;
            }
        });
        (!wrong).then_some(what)
    });
    let missed: Vec<_> = missed.into_iter().flatten().collect();
    assert!(missed.is_empty(), "no run depends on these: {missed:?}");
}
