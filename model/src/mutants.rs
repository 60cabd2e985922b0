//! Mutants of the transition tables: each cell in turn leads where another reply of the same state
//! leads. Tells how many of them the promises catch, which is how strong the promises are.
//!
//! (`cargo mutants` finds little to change in machines of plain data; this is the same question.)
//! Measured when there were 270, of acquire and release before they could wait: 90 break a promise, 6
//! act on a file that is not open, 147 reach other numbers of states, most of them since they give
//! another reason. 27 are noticed by the committed table alone: cells that only the larger worlds or
//! none reach, and reasons that lead to as many states.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use portlock::protocol::{Acquire, Clear, Release};

use crate::explore::{Incomplete, Limits, explore};
use crate::machines::{Machine, Reply, graph};
use crate::table::name;
use crate::variants::{Protocol, SHIPPED};
use crate::view::View;
use crate::world::{Doing, Kind};
use crate::worlds::{Config, Promise};

/// One cell, changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mutant {
    from: Doing,
    /// `None` stands for all replies that lead to `instead_of`, as with the probe.
    reply: Option<Reply>,
    instead_of: Doing,
    to: Doing,
}

impl std::fmt::Display for Mutant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = |doing: &Doing| match doing {
            Doing::Acquiring(state) => format!("Acquire {}", name(state)),
            Doing::Releasing(state) => format!("Release {}", name(state)),
            Doing::Clearing(state) => format!("Clear {}", state.label()),
            other => format!("{other:?}"),
        };
        let reply = self.reply.map_or_else(|| "the probe".to_owned(), crate::report::words);
        let (_, instead) = state(&self.instead_of).split_once(' ').map_or_else(
            || (String::new(), state(&self.instead_of)),
            |(kind, rest)| (kind.to_owned(), rest.to_owned()),
        );
        let to = state(&self.to);
        let to = to.split_once(' ').map_or(to.as_str(), |(_, rest)| rest);
        write!(f, "{}, {reply}: {to} instead of {instead}", state(&self.from))
    }
}

/// Who noticed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// A promise broke.
    Promise(Promise),
    /// It made a call that needs an open file, with none open.
    NothingOpen,
    /// No promise broke, but other states were reached than those that are pinned.
    Counts,
    /// None of these: the committed table would have to tell.
    Survives,
}

/// Every mutant of the tables of acquire, release and clear. (A query changes nothing, so a wrong one has
/// no promise to break but P4.)
pub fn all() -> Vec<Mutant> {
    let mut mutants = Vec::new();
    of::<Acquire>(Doing::Acquiring, &mut mutants);
    of::<Release>(Doing::Releasing, &mut mutants);
    of::<Clear>(Doing::Clearing, &mut mutants);
    mutants
}

fn of<M: Machine>(doing: impl Fn(M) -> Doing, mutants: &mut Vec<Mutant>) {
    for (state, follows) in graph::<M>() {
        let mut successors: Vec<M> = follows.replies.values().copied().collect();
        successors.sort_unstable();
        successors.dedup();
        let mut of_this_state = Vec::new();
        for (&reply, &next) in &follows.replies {
            for &other in successors.iter().filter(|&&other| other != next) {
                let reply = match reply {
                    Reply::Probe(_) => None,
                    other => Some(other),
                };
                let (from, instead_of, to) = (doing(state), doing(next), doing(other));
                let mutant = Mutant { from, reply, instead_of, to };
                if !of_this_state.contains(&mutant) {
                    of_this_state.push(mutant);
                }
            }
        }
        mutants.extend(of_this_state);
    }
}

thread_local! {
    static RUNNING: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Where the mutant that runs on this thread goes, instead of to `next`.
fn changed(from: Doing, reply: Reply, next: Doing) -> Doing {
    match RUNNING.get() {
        Some(mutant)
            if mutant.from == from
                && mutant.instead_of == next
                && mutant.reply.is_none_or(|one| one == reply) =>
        {
            mutant.to
        }
        _ => next,
    }
}

fn acquire(state: Acquire, view: &mut View<'_>) -> Acquire {
    let next = state.step(view);
    match changed(Doing::Acquiring(state), view.reply, Doing::Acquiring(next)) {
        Doing::Acquiring(next) => next,
        _ => next,
    }
}

fn release(state: Release, view: &mut View<'_>) -> Release {
    let next = state.step(view);
    match changed(Doing::Releasing(state), view.reply, Doing::Releasing(next)) {
        Doing::Releasing(next) => next,
        _ => next,
    }
}

fn clear(state: Clear, view: &mut View<'_>) -> Clear {
    let next = state.step(view);
    match changed(Doing::Clearing(state), view.reply, Doing::Clearing(next)) {
        Doing::Clearing(next) => next,
        _ => next,
    }
}

const MUTATED: Protocol = Protocol { acquire, release, clear, ..SHIPPED };

/// Worlds to run mutants in, with what the shipped machines do there.
pub struct Bench {
    worlds: Vec<(Config, usize, usize)>,
}

impl Bench {
    /// The worlds at 2 that are searched in a second, small ones first, with fewer starts.
    pub fn new() -> Result<Self, Incomplete> {
        let mut worlds = Vec::new();
        // The queries' worlds are large and about another machine.
        let acquirers = |config: &Config| !config.kinds.contains(&Kind::Asker);
        for mut config in Config::all(2).into_iter().filter(acquirers) {
            if config.starts.len() > 6 {
                config.starts = &config.starts[..6];
            }
            config.crashes = config.crashes.min(1);
            let seen = explore(&config, &SHIPPED, Limits::default())?;
            if seen.states < 500_000 {
                worlds.push((config, seen.states, seen.transitions));
            }
        }
        worlds.sort_by_key(|&(_, states, _)| states);
        Ok(Self { worlds })
    }

    /// Runs a mutant, world by world, until somebody notices.
    pub fn run(&self, &mutant: &Mutant) -> Verdict {
        RUNNING.set(Some(mutant));
        let mut verdict = Verdict::Survives;
        // A machine is looked at where it runs.
        let clears = matches!(mutant.from, Doing::Clearing(_));
        let runs = |config: &Config| config.kinds.contains(&Kind::Clearer) == clears;
        for (config, states, transitions) in self.worlds.iter().filter(|(one, ..)| runs(one)) {
            // A mutant may go round for ever; shipped machines reach a known number of states.
            let limits = Limits { states: states * 4, ..Limits::default() };
            let search = AssertUnwindSafe(|| explore(config, &MUTATED, limits));
            match catch_unwind(search) {
                Err(_) => {
                    verdict = Verdict::NothingOpen;
                    break;
                }
                Ok(Err(Incomplete { .. })) => verdict = Verdict::Counts,
                Ok(Ok(seen)) => {
                    if let Some(found) = seen.found {
                        verdict = Verdict::Promise(found.promise);
                        break;
                    }
                    if (seen.states, seen.transitions) != (*states, *transitions) {
                        verdict = Verdict::Counts;
                    }
                }
            }
        }
        RUNNING.set(None);
        verdict
    }
}
