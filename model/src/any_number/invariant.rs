//! The closed set in words: why each property holds, and for each state of the machines, what is
//! true whenever a participant is in it.

use std::collections::{BTreeMap, BTreeSet};

use super::closure::Views;
use super::local_view::{LocalView, ME, Named, OpenIs, STRANGER, state_in_words};
use crate::scenario::catalogue::Scenario;
use crate::scenario::state::{Activity, Content, Kind};
use portlock::protocol::Release;

/// States that share an invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub is_true: String,
    pub states: Vec<String>,
    pub views: usize,
}

/// The properties that the scenario checks, each with the reason why it holds.
pub fn properties(scenario: &Scenario, views: &Views) -> Vec<String> {
    let holds = |view: &&LocalView| {
        let believes = matches!(
            view.activity,
            Activity::Holding
                | Activity::Releasing(
                    Release::Confirming(_) | Release::Unlinking(_) | Release::ReleaseFailed(_)
                )
        );
        believes && view.kind != Kind::Child
    };
    let all = |is_true: fn(Named) -> bool| {
        let named = |view: &LocalView| view.named.filter(|_| view.open == OpenIs::Named);
        views.keys().filter(holds).filter_map(named).all(is_true)
    };
    let holder = match scenario.removals {
        0 => "the path names the file of every holder",
        _ => "at most one holder has the file that the path names",
    };
    let why = if all(|file| file.lock == Some(ME)) {
        "the holder has the kernel lock on that file, and a kernel lock has one owner"
    } else if all(|file| file.created_by_me) {
        "the holder created that file, and an exclusive create has one winner"
    } else {
        "the holder's record is in that file, and a file has one author"
    };
    let removes = match (scenario.kernel_locks, scenario.probe_lies || scenario.forces) {
        (false, _) => "only the creator of a file removes it, because no file is reclaimed",
        (true, false) => {
            "a file is removed by its creator, or by a participant that has its kernel lock and has \
             judged its holder dead"
        }
        (true, true) => {
            "a file is removed by its creator, or by a participant that has its kernel lock; where the \
             probe lies or force is used, the author may live, without the lock"
        }
    };
    let except = match scenario.removals {
        0 => "",
        _ => "; except for an unlink whose file was removed from outside since the confirm",
    };
    vec![format!("P1: {holder}; {why}"), format!("P2: {removes}{except}")]
}

/// What is true in every state in which a file is open.
pub fn invariant(views: &Views) -> Vec<Fact> {
    let mut by_state: BTreeMap<String, Vec<&LocalView>> = BTreeMap::new();
    for view in views.keys().filter(|view| view.open != OpenIs::Nothing) {
        by_state.entry(state_in_words(view.activity)).or_default().push(view);
    }
    let mut facts: BTreeMap<String, (BTreeSet<String>, usize)> = BTreeMap::new();
    for (state, views) in by_state {
        let (states, count) = facts.entry(in_words(&views)).or_default();
        states.insert(state);
        *count += views.len();
    }
    let of = |(is_true, (states, views)): (String, (BTreeSet<String>, usize))| Fact {
        is_true,
        states: states.into_iter().collect(),
        views,
    };
    facts.into_iter().map(of).collect()
}

fn in_words(views: &[&LocalView]) -> String {
    let named: Vec<_> = views
        .iter()
        .filter(|view| view.open == OpenIs::Named)
        .filter_map(|view| view.named)
        .collect();
    if named.is_empty() {
        return "the path does not name the open file".to_owned();
    }
    let mut words = vec![if named.len() == views.len() {
        "the path names the open file"
    } else {
        "if the path names the open file"
    }];
    let mut say = |sentence, holds| {
        if holds {
            words.push(sentence);
        }
    };
    let all = |holds: fn(Content) -> bool| named.iter().all(|file| holds(file.content));
    let mine = all(|content| content == Content::Of(ME));
    let no_record = all(|content| !content.is_record());
    let no_stranger = all(|content| {
        !matches!(content, Content::Of(STRANGER) | Content::OldOf(STRANGER) | Content::OldAlive)
    });
    say("its kernel lock is mine", named.iter().all(|file| file.lock == Some(ME)));
    say("I created it", named.iter().all(|file| file.created_by_me));
    say("the record in it is mine", mine);
    say("there is no record in it", no_record);
    say("it has no record of another live process", no_stranger && !mine && !no_record);
    if words.len() == 1 { "nothing is certain".to_owned() } else { words.join("; ") }
}
