//! The edges between the places of a diagram and their replies, from the graph of the machine.

use std::collections::{BTreeMap, BTreeSet};

use portlock::protocol::{Author, Evidence, KernelLock, Probed, Verdict, judge};

use super::Column;
use crate::render::table::name;
use crate::scenario::machines::{Machine, Op, Reply, graph};

/// The place of a state: the one with the longest matching prefix.
pub(super) fn place_of(columns: &[Column], state: &str) -> Result<At, String> {
    let all = columns.iter().enumerate().flat_map(|(column, one)| {
        one.places.iter().enumerate().map(move |(row, place)| ((column, row), place.states))
    });
    all.filter(|(_, states)| state.starts_with(states))
        .max_by_key(|(_, states)| states.len())
        .map(|(at, _)| at)
        .ok_or_else(|| format!("{state} has no place in the diagram: give it one in diagram.rs"))
}

/// The position of a place: its column, and its row there.
pub(super) type At = (usize, usize);

/// The edges with their replies in words, which are empty for an only reply.
pub(super) type Edges = BTreeMap<(At, At), String>;

/// All edges between places, from the graph of the machine.
pub(super) fn edges<M: Machine>(columns: &[Column]) -> Result<Edges, String> {
    // By place and reply: the next places, each with the contents of the states that lead there.
    let mut next_places: BTreeMap<(At, String), BTreeMap<At, BTreeSet<String>>> = BTreeMap::new();
    let mut filled = BTreeSet::new();
    for (state, follows) in graph::<M>() {
        let from = place_of(columns, &name(&state))?;
        filled.insert(from);
        let mut add = |words: String, carried: String, next: &M| {
            let to = place_of(columns, &name(next))?;
            next_places.entry((from, words)).or_default().entry(to).or_default().insert(carried);
            Ok::<(), String>(())
        };
        for (reply, next) in &follows.replies {
            add(words(*reply, &name(&state))?, carried_by(&name(&state)), next)?;
        }
        for (answer, next) in &follows.driver {
            add(answer.words().to_owned(), String::new(), next)?;
        }
    }
    for (column, one) in columns.iter().enumerate() {
        for (row, place) in one.places.iter().enumerate() {
            if !filled.contains(&(column, row)) {
                return Err(format!("no state of {} begins with {}", M::NAME, place.states));
            }
        }
    }
    let mut edges: BTreeMap<(At, At), BTreeMap<String, Vec<String>>> = BTreeMap::new();
    for ((from, words), targets) in next_places {
        for (to, carried) in &targets {
            // If the target depends on the state's contents, the label names them, unless the
            // target's name already does.
            let place = columns[to.0].places[to.1].states.to_lowercase();
            let when = carried.first().filter(|when| {
                targets.len() > 1
                    && carried.len() == 1
                    && !when.is_empty()
                    && !place.contains(if when.as_str() == "old" {
                        "existing"
                    } else {
                        when.as_str()
                    })
            });
            let when = when.map_or(String::new(), |when| format!(" ({when})"));
            let alike = edges.entry((from, *to)).or_default();
            alike.entry(when).or_default().push(words.clone());
        }
    }
    let labelled = edges.into_iter().map(|(ends, alike)| {
        let words = alike.into_iter().map(|(when, words)| words.join(", ") + &when);
        (ends, words.collect::<Vec<_>>().join(", "))
    });
    Ok(labelled.collect())
}

/// The contents of a state in one word.
fn carried_by(state: &str) -> String {
    let mut parts = state.split(['(', ')']).skip(1);
    spaced(parts.next().unwrap_or_default())
}

/// `NotFinal` is `not final`.
fn spaced(name: &str) -> String {
    let mut words = String::new();
    for one in name.chars() {
        if one.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(one.to_lowercase());
    }
    words
}

/// A reply in one or two words; for a probe, the verdict.
fn words(reply: Reply, state: &str) -> Result<String, String> {
    let full = name(&reply);
    let inner = full.split_once('(').map_or("", |(_, inner)| inner.trim_end_matches(')'));
    Ok(match (reply, inner) {
        (Reply::Probe(Probed::Known(author)), _) => verdict(state, author)?.to_owned(),
        (Reply::Age(_), _) if inner.starts_with("Known") => "known".to_owned(),
        (Reply::Write(_), "Done") => "written".to_owned(),
        (Reply::Close | Reply::Leave, _) => String::new(),
        _ => spaced(inner),
    })
}

/// The judge's verdict on this author, in a state that carries the result of trying the lock.
fn verdict(state: &str, author: Author) -> Result<&'static str, String> {
    let locks = [KernelLock::Ours, KernelLock::Busy, KernelLock::Unsupported];
    let lock = locks.into_iter().find(|lock| state.ends_with(&format!("({lock:?})")));
    let lock = lock.ok_or_else(|| format!("{state} is judged without a word of its lock"))?;
    Ok(match judge(lock, Evidence::Record(author)) {
        Verdict::Dead => "dead",
        Verdict::Alive => "alive",
        Verdict::NotFinal(_) => "not final",
        Verdict::Unknown(_) => "unknown",
    })
}

pub(super) fn op_words(op: Op) -> &'static str {
    match op {
        Op::Create => "exclusive create",
        Op::Open => "open the existing file",
        Op::Age => "how old is it?",
        Op::Lock => "try the kernel lock",
        Op::Arm => "subscribe to its events",
        Op::Listen => "wait for an event",
        Op::Write => "write the record",
        Op::Read => "read",
        Op::Probe => "check its process",
        Op::Confirm => "path still names it?",
        Op::Unlink => "unlink the path",
        Op::Void => "truncate the file",
        Op::Watch => "query the kernel lock",
        Op::Close => "unlock, close",
        Op::Leave => "close, lock stays",
        Op::Other => "",
    }
}
