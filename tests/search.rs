//! The search itself: it finds the same with any number of threads, by fingerprints as by the worlds
//! themselves, in reduced worlds as in whole ones; and what it finds is replayed.

use rustc_hash::FxHashSet;

use portlock_model::scenario::moves::successors;
use portlock_model::scenario::schedule::run;
use portlock_model::scenario::world::World;
use portlock_model::scenario::worlds::{Config, Promise};
use portlock_model::search::counts::Counts;
use portlock_model::search::explore::{Limits, Seen, explore};
use portlock_model::search::reduce::Reduction;
use portlock_model::variants::{Caught, Protocol, SHIPPED, named};

fn search(config: &Config, protocol: &Protocol, limits: Limits) -> Seen {
    explore(config, protocol, limits).expect("searched to the end")
}

/// The scenarios that are searched in an instant.
fn small() -> impl Iterator<Item = Config> {
    ["threads", "no-kernel-locks", "delete-pending"]
        .into_iter()
        .map(|name| Config::named(name, 2).expect("a world of the model"))
}

/// A search without fingerprints, levels, threads and packed worlds.
fn plain(config: &Config, reduced: bool) -> (usize, usize) {
    let reduction = Reduction::of(config, &SHIPPED);
    let settle = |mut world: World| {
        if reduced {
            reduction.reduce(&mut world);
        }
        world.canonical().0
    };
    let mut known: FxHashSet<World> = config.beginnings().into_iter().map(settle).collect();
    let mut open: Vec<World> = known.iter().copied().collect();
    let (mut transitions, mut possible) = (0, Vec::new());
    while let Some(world) = open.pop() {
        successors(config, &SHIPPED, &world, &mut possible);
        transitions += possible.len();
        let next = possible.iter().map(|(_, outcome)| settle(outcome.world));
        open.extend(next.filter(|&world| known.insert(world)));
    }
    (known.len(), transitions)
}

#[test]
fn fingerprints_count_the_same_as_worlds() {
    for config in small() {
        for whole in [false, true] {
            let seen = search(&config, &SHIPPED, Limits { whole, ..Limits::default() });
            let counted = (seen.states, seen.transitions);
            assert_eq!(counted, plain(&config, !whole), "{}, whole: {whole}", config.name);
        }
    }
}

#[test]
fn any_number_of_threads_finds_the_same() {
    let variants = ["no-confirm-before-unlink", "zombie-is-alive", "listen-without-a-look"];
    let wrong = variants.map(|name| {
        let variant = named(name).expect("a wrong protocol");
        let Caught::Breaks { promise, world, participants } = variant.caught else {
            panic!("{name} is not harmless")
        };
        let config = Config::named(world, participants).expect("a world of the model");
        (Config { owed: promise.alone(), ..config }, variant.protocol)
    });
    let faults = Config::named("faults", 2).expect("a world of the model");
    let right = small().chain([faults]).map(|config| (config, SHIPPED));
    for (config, protocol) in right.chain(wrong) {
        let of = |threads| {
            let seen = search(&config, &protocol, Limits { threads, ..Limits::default() });
            let counts = Counts::of(&seen);
            let found = seen.found.map(|found| (found.promise, found.schedule, found.alone));
            (found, counts, seen.coverage.sometimes)
        };
        let one = of(1);
        for threads in [2, 3, 5] {
            let many = of(threads);
            assert_eq!(many.0, one.0, "{}", config.name);
            // Where a promise breaks, other threads may have gone a little further.
            if one.0.is_none() {
                assert_eq!((many.1, many.2), (one.1, one.2.clone()), "{}", config.name);
            }
        }
    }
}

#[test]
fn a_find_in_reduced_worlds_is_as_short_as_in_whole_ones() {
    for (name, promise, world) in [
        ("no-confirm-before-unlink", Promise::P2, "base"),
        ("new-file-left-when-lock-fails", Promise::P6, "faults"),
        ("start-time-ignored", Promise::P3, "base"),
        ("clear-without-lock", Promise::P2, "clears"),
    ] {
        let protocol = named(name).expect("a wrong protocol").protocol;
        let config = Config::named(world, 2).expect("a world of the model");
        let config = Config { owed: promise.alone(), ..config };
        let [reduced, whole] = [false, true].map(|whole| {
            let seen = search(&config, &protocol, Limits { whole, ..Limits::default() });
            seen.found.expect("it breaks")
        });
        assert_eq!(reduced.schedule.steps.len(), whole.schedule.steps.len(), "{name}");
        let replayed = run(&config, &protocol, &reduced.schedule, reduced.alone);
        assert_eq!(replayed.broken, Some(promise), "{name}");
    }
}

#[test]
fn a_search_that_is_cut_short_says_so() {
    let config = Config::named("base", 2).expect("a world of the model");
    let limits = Limits { states: 1_000, ..Limits::on_all_processors() };
    let cut = explore(&config, &SHIPPED, limits).expect_err("it has more");
    assert!(cut.states > 1_000, "{cut:?}");
}
