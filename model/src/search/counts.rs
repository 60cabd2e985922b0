//! The committed counts of every complete search, in `model/counts.txt`: an incomplete search
//! cannot pass, and a change of the machines or of the model shows.
//!
//! `portlock-model check --pin` writes them, with `--long` those of the long searches.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::scenario::catalogue::Scenario;
use crate::search::explore::Seen;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub states: usize,
    pub transitions: usize,
    /// The most moves on a shortest path to a state.
    pub depth: usize,
    /// Calls of the longest solo run.
    pub longest_solo_run: u32,
}

impl Counts {
    pub fn of(seen: &Seen) -> Self {
        Self {
            states: seen.states,
            transitions: seen.transitions,
            depth: seen.depth,
            longest_solo_run: seen.longest_solo,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, transitions, depth, longest_solo_run } = self;
        write!(f, "{states:>11} {transitions:>12} {depth:>6} {longest_solo_run:>6}")
    }
}

/// The searches with committed counts, each with its number of participants: those of every
/// `check`, and with `long` those that take minutes.
pub fn searches(long: bool) -> Vec<(Scenario, usize)> {
    let of = |participants| move |scenario| (scenario, participants);
    let base = |participants| (Scenario::base(participants), participants);
    let short = Scenario::all(2).into_iter().chain(Scenario::of_windows(2)).map(of(2));
    let mut searches: Vec<_> = short.chain([base(3)]).collect();
    if long {
        let others = Scenario::all(3).into_iter().filter(|scenario| scenario.name != "base");
        searches.extend(others.map(of(3)).chain([base(4)]));
    }
    searches
}

/// A scenario by its name, and its number of participants.
pub type Searched = (String, usize);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pinned(BTreeMap<Searched, Counts>);

const HEAD: &str = "\
# What a search of each scenario to its end finds. `cargo run --release -p portlock-model -- check --pin`
# writes this file; `check` and tests/model.rs compare with it.
#
# scenario                   participants      states  transitions  depth   solo
";

impl Pinned {
    pub fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("counts.txt")
    }

    pub fn read() -> Result<Self, String> {
        let path = Self::path();
        let failed = |why: &dyn fmt::Display| format!("{}: {why}", path.display());
        let text = std::fs::read_to_string(&path).map_err(|why| failed(&why))?;
        text.parse().map_err(|why: String| failed(&why))
    }

    pub fn write(&self) -> Result<(), String> {
        let path = Self::path();
        std::fs::write(&path, self.to_string()).map_err(|why| format!("{}: {why}", path.display()))
    }

    pub fn pin(&mut self, scenario: &str, participants: usize, counts: Counts) {
        self.0.insert((scenario.to_owned(), participants), counts);
    }

    pub fn has(&self, scenario: &str, participants: usize) -> bool {
        self.0.contains_key(&(scenario.to_owned(), participants))
    }

    /// Compares the counts of a search with the committed ones.
    pub fn compare(
        &self,
        scenario: &str,
        participants: usize,
        counts: Counts,
    ) -> Result<(), String> {
        let pinned = self.0.get(&(scenario.to_owned(), participants));
        let pinned = pinned.ok_or_else(|| {
            format!("{scenario} with {participants} has no counts in model/counts.txt")
        })?;
        if *pinned == counts {
            return Ok(());
        }
        Err(format!(
            "{scenario} with {participants}: states, transitions, depth and longest solo run are not \
             those of model/counts.txt\n  found  {counts}\n  pinned {pinned}\n\
             If the change is intended: cargo run --release -p portlock-model -- check --pin"
        ))
    }

    pub fn scenarios(&self) -> impl Iterator<Item = &Searched> {
        self.0.keys()
    }
}

impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        self.0.iter().try_for_each(|((scenario, participants), counts)| {
            writeln!(f, "{scenario:<33} {participants:>7} {counts}")
        })
    }
}

impl FromStr for Pinned {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pinned = Self::default();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let bad = || format!("not a line of counts: {line:?}");
            let fields: Vec<&str> = line.split_whitespace().collect();
            let &[state, participants, states, transitions, depth, solo] = fields.as_slice() else {
                return Err(bad());
            };
            let number = |text: &str| text.parse::<usize>().map_err(|_| bad());
            let counts = Counts {
                states: number(states)?,
                transitions: number(transitions)?,
                depth: number(depth)?,
                longest_solo_run: solo.parse().map_err(|_| bad())?,
            };
            pinned.pin(state, number(participants)?, counts);
        }
        Ok(pinned)
    }
}
