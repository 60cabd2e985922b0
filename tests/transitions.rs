//! The transition tables of the four machines, printed by running the shipped `step`, and compared
//! with `tests/transitions.txt`.
//!
//! A change of the protocol changes that file, and is reviewed there like code. After an intended
//! change:
//!
//! ```text
//! PORTLOCK_BLESS=1 cargo test --test transitions
//! ```
//!
//! writes the file and then fails, so that a run without a comparison never passes. Read the
//! difference, and run the tests again without the variable.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::mem::size_of;

use portlock::protocol::{Acquire, Clear, Listen, OpenReply, Query, Release};
use portlock_model::render::table::{WIDTH, print_tables};
use portlock_model::scenario::machines::{Answer, Follows, Machine, Op, Reply, Script, graph};

const COMMITTED: &str = include_str!("transitions.txt");

#[test]
fn the_transition_tables_are_those_that_are_committed() {
    let printed = print_tables();
    if std::env::var_os("PORTLOCK_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transitions.txt");
        std::fs::write(path, &printed).expect("the table is written");
        panic!("{path} is written: read the difference, and run again without PORTLOCK_BLESS");
    }
    assert!(
        printed == COMMITTED,
        "the machines differ from tests/transitions.txt (- committed, + running):\n{}\n\
         If the change is intended: PORTLOCK_BLESS=1 cargo test --test transitions",
        difference(COMMITTED, &printed)
    );
}

#[test]
fn no_line_of_the_tables_needs_wrapping() {
    let widest = COMMITTED.lines().max_by_key(|line| line.chars().count()).expect("has lines");
    assert!(widest.chars().count() <= WIDTH, "{} columns: {widest}", widest.chars().count());
}

#[test]
fn every_calling_state_makes_one_call_others_none() {
    fn check<M: Machine>() {
        for (state, follows) in graph::<M>() {
            let asked: BTreeSet<_> = follows.replies.keys().map(|reply| reply.op()).collect();
            assert_eq!(asked.len(), usize::from(follows.waits_for_a_call()), "{state:?}");
            let mut script = Script::new(Reply::Open(OpenReply::Opened));
            let next = state.step(&mut script);
            if follows.waits_for_a_call() {
                assert_eq!(script.asked.len(), 1, "{state:?} made {:?}", script.asked);
            } else {
                assert_eq!((script.asked.len(), next), (0, state));
            }
        }
    }
    check::<Acquire>();
    check::<Release>();
    check::<Query>();
    check::<Clear>();
}

#[test]
fn state_kind_alone_determines_the_next_call() {
    fn check<M: Machine>() {
        // The kinds of states, by name, and the calls that they wait for.
        let mut waits: BTreeMap<String, BTreeSet<Op>> = BTreeMap::new();
        for (state, follows) in graph::<M>() {
            let kind = state.label().split('(').next().expect("a name").to_owned();
            let asked = waits.entry(kind).or_default();
            asked.extend(follows.replies.keys().map(|reply| reply.op()));
        }
        for (kind, asked) in waits {
            assert!(asked.len() <= 1, "{kind} waits for {asked:?}");
        }
    }
    check::<Acquire>();
    check::<Release>();
    check::<Query>();
    check::<Clear>();
}

#[test]
fn states_are_plain_data_within_eight_bytes() {
    fn plain<T: Copy + Eq + Ord + std::hash::Hash + Send + Sync + 'static>() -> usize {
        size_of::<T>()
    }
    let sizes = [
        ("Acquire", plain::<Acquire>()),
        ("Release", plain::<Release>()),
        ("Query", plain::<Query>()),
        ("Clear", plain::<Clear>()),
    ];
    println!("bytes of a state: {sizes:?}");
    for (machine, size) in sizes {
        assert!(size <= 8, "a state of {machine} has {size} bytes");
    }
}

/// P5: a run that the driver does not count must end by itself. The only cycles without another try
/// lead back to the start, after a reclaim or a wait, which require that another process died or
/// released, or repeat a wait after an event, which another process caused.
#[test]
fn states_repeat_only_through_retry_or_reclaim() {
    fn longest<M: Machine>() -> usize {
        fn calls_from<M: Machine>(
            state: M,
            graph: &BTreeMap<M, Follows<M>>,
            path: &mut Vec<M>,
            known: &mut BTreeMap<M, usize>,
        ) -> usize {
            if let Some(&calls) = known.get(&state) {
                return calls;
            }
            assert!(!path.contains(&state), "{path:?} returns to {state:?}");
            path.push(state);
            let answers =
                graph[&state].driver.iter().filter(|&(&answer, _)| answer != Answer::Again);
            let answers = answers.map(|(_, &next)| next);
            let replies = graph[&state].replies.iter();
            let replies = replies.filter(|&(&reply, _)| reply != Reply::Listen(Listen::Event));
            let successors: BTreeSet<M> = replies.map(|(_, &next)| next).chain(answers).collect();
            let calls = successors
                .into_iter()
                .filter(|&next| !M::STARTS.contains(&next))
                .map(|next| calls_from(next, graph, path, known))
                .max()
                .unwrap_or(0)
                + usize::from(graph[&state].waits_for_a_call());
            path.pop();
            known.insert(state, calls);
            calls
        }
        let graph = graph::<M>();
        let start = |&start: &M| calls_from(start, &graph, &mut Vec::new(), &mut BTreeMap::new());
        M::STARTS.iter().map(start).max().expect("a start")
    }
    let longest =
        [longest::<Acquire>(), longest::<Release>(), longest::<Query>(), longest::<Clear>()];
    assert_eq!(longest, [17, 4, 7, 10], "calls of one try at the most");
}

/// The lines that differ, with `-` and `+`, by the longest common subsequence.
fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, String::new());
    while i < old.len() || j < new.len() {
        let (sign, line) = if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
            continue;
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            i += 1;
            ('-', old[i - 1])
        } else {
            j += 1;
            ('+', new[j - 1])
        };
        writeln!(out, "{sign} {line}").expect("a string");
    }
    out
}

#[test]
fn a_difference_shows_only_the_lines_that_differ() {
    assert_eq!(difference("a\nb\nc\n", "a\nx\nc\nd\n"), "- b\n+ x\n+ d\n");
}
