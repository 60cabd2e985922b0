//! The search clears what no participant will read again (`model/src/reduce.rs`). Here every state of
//! the whole worlds is compared with its reduced one: the same moves are possible and get the same
//! replies, every property says the same of them, and what follows is the same when it is reduced.
//! Therefore the reduced search finds what the whole one finds.
//!
//! `cargo test` compares a part of each world; `PORTLOCK_WHOLE=1` compares every state of every world
//! at 2, as the gate does.

use std::collections::VecDeque;
use std::time::Instant;

use rustc_hash::{FxHashMap, FxHashSet};

use portlock_model::properties::solo::{self, Memo, Reached, Solo};
use portlock_model::properties::{Fared, check_alone, check_alone_by, check_move};
use portlock_model::scenario::machines::Reply;
use portlock_model::scenario::moves::{Alone, Manner, Outcome, patiently, successors};
use portlock_model::scenario::world::{
    Content, Creator, Doing, File, Listens, Move, Participant, World,
};
use portlock_model::scenario::worlds::{Config, Promise};
use portlock_model::search::explore::{Limits, explore_watched};
use portlock_model::search::fingerprint::fingerprint;
use portlock_model::search::reduce::Reduction;
use portlock_model::variants::catalogue::on_all_processors;
use portlock_model::variants::{Caught, Protocol, SHIPPED, all};

/// How worlds are reduced: rightly, or by a wrong variant.
type Reduce<'a> = &'a dyn Fn(&mut World);

/// What a move from a state looks like to all who look at it, and what follows, reduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    one: Move,
    reply: Reply,
    choices: u8,
    ended: Doing,
    broken: Option<Promise>,
    after: World,
}

/// What can be said of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
struct All {
    alone: Result<u32, Fared>,
    moves: Vec<Seen>,
}

struct Comparison<'a> {
    config: &'a Config,
    protocol: &'a Protocol,
    reduce: Reduce<'a>,
    memo: Memo,
    possible: Vec<(Move, Outcome)>,
}

impl Comparison<'_> {
    fn all(&mut self, world: &World) -> All {
        let Self { config, protocol, .. } = *self;
        successors(config, protocol, world, &mut self.possible);
        let seen = |&(one, outcome): &(Move, Outcome)| {
            let Outcome { world: mut after, reply, removal: _, by: _, choices, ended } = outcome;
            (self.reduce)(&mut after);
            let broken = check_move(config, world, one, &outcome).err();
            Seen { one, reply, choices, ended, broken, after }
        };
        let moves = self.possible.iter().map(seen).collect();
        All { alone: check_alone(config, protocol, world), moves }
    }

    /// What differs between a whole world and its reduced one, if anything does.
    fn differs(&mut self, world: &World, of_reduced: &mut FxHashMap<u128, All>) -> Option<String> {
        let mut reduced = *world;
        (self.reduce)(&mut reduced);
        let mut twice = reduced;
        (self.reduce)(&mut twice);
        if twice != reduced {
            return Some(format!("it is reduced further:\n{reduced:?}\n{twice:?}"));
        }
        let whole = self.all(world);
        let by_memo = check_alone_by(self.config, self.protocol, world, &mut |begun, who| {
            self.memo.run(self.config, self.protocol, begun, who)
        });
        if by_memo != whole.alone {
            return Some(format!("alone {:?}, and by the memo {by_memo:?}", whole.alone));
        }
        let reduced_too = of_reduced.entry(fingerprint(&reduced)).or_insert_with(|| {
            let Self { config, protocol, reduce, .. } = *self;
            let (memo, possible) = (Memo::default(), Vec::new());
            Comparison { config, protocol, reduce, memo, possible }.all(&reduced)
        });
        if whole == *reduced_too {
            return None;
        }
        let mut pairs = whole.moves.iter().zip(&reduced_too.moves);
        let first = pairs.find(|(one, other)| one != other);
        let (alone, other) = (whole.alone, reduced_too.alone);
        Some(format!(
            "alone {alone:?} and {other:?}, {} and {} moves, of which the first to differ:\n{first:#?}",
            whole.moves.len(),
            reduced_too.moves.len()
        ))
    }
}

/// Compares the states of a world, the first ones if there are more than `limit`, and none beyond the
/// first broken promise, where a search ends. Returns how many there are, whole and reduced.
fn compare(
    config: &Config,
    protocol: &Protocol,
    reduce: Reduce<'_>,
    limit: usize,
) -> Result<(usize, usize), String> {
    let (memo, possible) = (Memo::default(), Vec::new());
    let mut comparison = Comparison { config, protocol, reduce, memo, possible };
    let mut of_reduced = FxHashMap::default();
    let mut known = FxHashSet::default();
    let mut open: VecDeque<World> = config.beginnings().into();
    let mut possible = Vec::new();
    while let Some(world) = open.pop_front() {
        let world = world.canonical().0;
        if known.len() >= limit || !known.insert(fingerprint(&world)) {
            continue;
        }
        if let Some(what) = comparison.differs(&world, &mut of_reduced) {
            return Err(format!("{}: of\n{world:#?}\n{what}", config.name));
        }
        successors(config, protocol, &world, &mut possible);
        let keeps =
            |(one, outcome): &(Move, Outcome)| check_move(config, &world, *one, outcome).is_ok();
        if !possible.iter().all(keeps) || check_alone(config, protocol, &world).is_err() {
            break;
        }
        open.extend(possible.iter().map(|(_, outcome)| outcome.world));
    }
    Ok((known.len(), of_reduced.len()))
}

/// The world as it is searched, in its beginnings.
fn part(config: &Config) -> Config {
    Config {
        starts: &config.starts[..config.starts.len().min(2)],
        crashes: config.crashes.min(1),
        faults: config.faults.min(1),
        ..config.clone()
    }
}

#[test]
fn whole_and_reduced_states_agree_in_every_world() {
    let whole = std::env::var_os("PORTLOCK_WHOLE").is_some();
    let worlds: Vec<_> = Config::all(2)
        .iter()
        .map(|config| if whole { config.clone() } else { part(config) })
        .collect();
    let limit = if whole { usize::MAX } else { 20_000 };
    let compared = on_all_processors(&worlds, |config| {
        let began = Instant::now();
        let reduction = Reduction::of(config, &SHIPPED);
        let compared = compare(config, &SHIPPED, &|world| reduction.reduce(world), limit);
        println!("{:<34} {compared:?} in {:.1?}", config.name, began.elapsed());
        compared
    });
    for compared in compared {
        let (whole, reduced) = compared.unwrap_or_else(|what| panic!("{what}"));
        assert!(reduced < whole, "nothing is dead");
    }
}

/// The whole worlds of a wrong protocol, and no further than a part of its searches goes.
#[test]
fn whole_and_reduced_states_agree_under_every_wrong_protocol() {
    let variants = all();
    let compared = on_all_processors(&variants, |variant| {
        let (promise, world, participants) = match variant.caught {
            Caught::Breaks { promise, world, participants } => (Some(promise), world, participants),
            Caught::Harmless { .. } => (None, "base", 2),
        };
        let config = part(&Config::named(world, participants).expect("a world of the model"));
        // As the catalogue owes it, and as the world does.
        let owed = promise.map_or(config.owed, Promise::alone);
        for config in [Config { owed, ..config.clone() }, config] {
            let reduction = Reduction::of(&config, &variant.protocol);
            let reduce = |world: &mut World| reduction.reduce(world);
            compare(&config, &variant.protocol, &reduce, 3_000)
                .map_err(|what| format!("{}: {what}", variant.name))?;
        }
        Ok::<_, String>(())
    });
    for compared in compared {
        compared.unwrap_or_else(|what| panic!("{what}"));
    }
}

/// Clears more than is dead.
struct Wrong {
    clears: &'static str,
    world: &'static str,
    too_much: fn(&mut World),
}

const WRONG: &[Wrong] = &[
    Wrong {
        clears: "what was read, though it will be probed",
        world: "base",
        too_much: |world| everyone(world, |participant| participant.seen = Content::Empty),
    },
    Wrong {
        clears: "events",
        world: "listening",
        too_much: |world| everyone(world, |participant| participant.listens = Listens::No),
    },
    Wrong {
        clears: "which files had a holder during the call",
        world: "base",
        too_much: |world| everyone(world, |participant| participant.witnessed = 0),
    },
    Wrong {
        clears: "a removal from outside between a confirm and an unlink",
        world: "outside-rm",
        too_much: |world| everyone(world, |participant| participant.in_window = false),
    },
    Wrong {
        clears: "that a participant stopped",
        world: "suspended",
        too_much: |world| everyone(world, |participant| participant.suspended = false),
    },
    Wrong {
        clears: "what is in an orphan",
        world: "base",
        too_much: |world| orphans(world, |file| file.content = Content::Empty),
    },
    Wrong {
        clears: "who made an orphan that only the grace protects",
        world: "old-agents",
        too_much: |world| orphans(world, |file| file.creator = Creator::Dead),
    },
    Wrong {
        clears: "who has lost the path",
        world: "out-of-reach",
        too_much: |world| everyone(world, |participant| participant.out_of_reach = false),
    },
    Wrong {
        clears: "the owner of an orphan's lock",
        world: "base",
        too_much: |world| orphans(world, |file| file.lock = None),
    },
    Wrong {
        clears: "who made the named file",
        world: "base",
        too_much: |world| named(world, |file| file.creator = Creator::Dead),
    },
    Wrong {
        clears: "that the named file was abandoned",
        world: "faults",
        too_much: |world| named(world, |file| file.abandoned = false),
    },
    Wrong {
        clears: "that a removal failed",
        world: "faults",
        too_much: |world| world.removal_failed = false,
    },
    Wrong {
        clears: "that an old agent removed a live file",
        world: "old-agents",
        too_much: |world| world.robbed = false,
    },
];

fn everyone(world: &mut World, clear: impl Fn(&mut Participant)) {
    world.participants.iter_mut().for_each(clear);
}

fn named(world: &mut World, clear: impl Fn(&mut File)) {
    if let Some(file) = world.path.and_then(|inode| world.file_mut(inode)) {
        clear(file);
    }
}

fn orphans(world: &mut World, clear: impl Fn(&mut File)) {
    let path = world.path.map(usize::from);
    let files = world.files.iter_mut().enumerate();
    files
        .filter(|(inode, _)| Some(*inode) != path)
        .filter_map(|(_, file)| file.as_mut())
        .for_each(clear);
}

#[test]
fn clearing_more_than_is_dead_is_noticed() {
    let missed = on_all_processors(WRONG, |wrong| {
        let config = part(&Config::named(wrong.world, 2).expect("a world of the model"));
        let reduction = Reduction::of(&config, &SHIPPED);
        let reduce = |world: &mut World| {
            reduction.reduce(world);
            (wrong.too_much)(world);
        };
        let compared = compare(&config, &SHIPPED, &reduce, usize::MAX);
        compared.is_ok().then_some(wrong.clears)
    });
    let missed: Vec<_> = missed.into_iter().flatten().collect();
    assert!(missed.is_empty(), "nothing shows that these were read: {missed:?}");
}

/// A memo of patient runs would be wrong: the others go on in them, so what they are at matters.
#[test]
fn patient_runs_that_reach_the_same_at_first_end_differently() {
    let config = Config::named("listening", 2).expect("a world of the model");
    let mut ended: FxHashMap<Reached, (Alone, World)> = FxHashMap::default();
    let mut known = FxHashSet::default();
    let mut open: VecDeque<World> = config.beginnings().into();
    let mut possible = Vec::new();
    while let Some(world) = open.pop_front() {
        let world = world.canonical().0;
        if !known.insert(fingerprint(&world)) {
            continue;
        }
        for who in world.everyone().filter(|&who| world.participant(who).doing != Doing::Idle) {
            let reached = Reached::by(&config, &world, who).expect("no other protocol");
            let (now, _) = patiently(&config, &SHIPPED, &world, who, Manner::Listens, |_, _, _| {});
            let (before, other) = *ended.entry(reached).or_insert((now, world));
            if before != now {
                let at = |world: &World| world.participants.map(|one| one.doing);
                println!("{before:?} and {now:?} in {:?}\n{:?}", at(&other), at(&world));
                return;
            }
        }
        successors(&config, &SHIPPED, &world, &mut possible);
        open.extend(possible.iter().map(|(_, outcome)| outcome.world));
    }
    panic!("a memo of them would do: {} states say the same", known.len());
}

/// Leaves something out of what a run reaches.
struct Forgetful {
    what: &'static str,
    world: &'static str,
    forget: fn(&mut Reached),
}

const FORGETFUL: &[Forgetful] = &[
    Forgetful { what: "its state", world: "base", forget: |one| one.doing = Doing::Idle },
    Forgetful { what: "the named file", world: "base", forget: |one| one.named = None },
    Forgetful { what: "its orphan", world: "base", forget: |one| one.orphan = None },
    Forgetful { what: "who keeps a name", world: "delete-pending", forget: |one| one.kept = false },
];

#[test]
fn a_memo_that_forgets_anything_is_wrong() {
    let missed = on_all_processors(FORGETFUL, |&Forgetful { what, world, forget }| {
        let config = part(&Config::named(world, 2).expect("a world of the model"));
        let mut runs: FxHashMap<Reached, Solo> = FxHashMap::default();
        let (mut wrong, mut last) = (false, None);
        let limits = Limits { states: 20_000, whole: true, ..Limits::default() };
        // Cut short or not: what it has seen is enough.
        let _ = explore_watched(&config, &SHIPPED, limits, |world, _, _| {
            if wrong || last.replace(*world) == Some(*world) {
                return;
            }
            for who in world.everyone() {
                let mut reached = Reached::by(&config, world, who).expect("no other protocol");
                forget(&mut reached);
                let now = solo::run(&config, &SHIPPED, world, who);
                wrong |= *runs.entry(reached).or_insert(now) != now;
            }
        });
        (!wrong).then_some(what)
    });
    let missed: Vec<_> = missed.into_iter().flatten().collect();
    assert!(missed.is_empty(), "no run depends on these: {missed:?}");
}
