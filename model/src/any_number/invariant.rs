//! What the closed set says, in words: which property is kept for what reason, and for each state of
//! the machines, what is true whenever a participant is in it.

use std::collections::{BTreeMap, BTreeSet};

use super::closure::Views;
use super::local_view::{LocalView, ME, Named, OpenIs, STRANGER, state_in_words};
use crate::scenario::catalogue::Scenario;
use crate::scenario::state::{Activity, Content, Kind};
use portlock::protocol::Release;

/// States of which the same is true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub is_true: String,
    pub states: Vec<String>,
    pub views: usize,
}

/// The properties, as far as the scenario owes them, each with why it is kept.
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
    let who = match scenario.removals {
        0 => "whoever holds, the path names its file",
        _ => "of all who hold, at most one has the file that the path names",
    };
    let why = if all(|file| file.lock == Some(ME)) {
        "it has the kernel lock of that file, and a kernel lock has one owner"
    } else if all(|file| file.created_by_me) {
        "it created that file, and an exclusive create has one winner"
    } else {
        "its record is in that file, and a file has one author"
    };
    let removes = match (scenario.kernel_locks, scenario.probe_lies || scenario.forces) {
        (false, _) => "who removes a file created it, since nothing is reclaimed",
        (true, false) => {
            "who removes a file created it, or has its kernel lock and has judged its holder dead"
        }
        (true, true) => {
            "who removes a file created it, or has its kernel lock; where the probe lies or force is \
             used, its author may live, and has no lock"
        }
    };
    let but = match scenario.removals {
        0 => "",
        _ => {
            "; but for the unlink right after a confirm, when somebody outside the protocol \
              removes the file between the two"
        }
    };
    vec![format!("P1: {who}; {why}"), format!("P2: {removes}{but}")]
}

/// What is true wherever a file is open, for every state in which one is.
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
    let nobodys = all(|content| !content.is_record());
    let no_stranger = all(|content| {
        !matches!(content, Content::Of(STRANGER) | Content::OldOf(STRANGER) | Content::OldAlive)
    });
    say("its kernel lock is mine", named.iter().all(|file| file.lock == Some(ME)));
    say("I created it", named.iter().all(|file| file.created_by_me));
    say("the record in it is mine", mine);
    say("there is no record in it", nobodys);
    say("no other process that lives has its record in it", no_stranger && !mine && !nobodys);
    if words.len() == 1 { "nothing is certain".to_owned() } else { words.join("; ") }
}
