//! The calls of the trait and other events in a random order, which no machine makes, in lock-step
//! with the model.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use portlock::protocol::{Create, FileSystem};

use super::kernel::{Calls, Differs, Kernel};
use super::slips::Slip;
use super::{Disagreement, SHOWN};
use crate::scenario::catalogue::Scenario;
use crate::scenario::machines::{Op, Reply};
use crate::scenario::moves::{Outcome, apply};
use crate::scenario::state::{Activity, Kind, Listens, Look, Move, State, Who};
use crate::scenario::view::View;
use crate::variants::SHIPPED;

/// A forking process, two others, and the child.
const KINDS: [Kind; 4] = [Kind::Parent, Kind::Process, Kind::Process, Kind::Child];

/// Makes this many random calls from a seed, in a new directory in `parent`.
pub fn run(
    parent: &Path,
    moves: u64,
    seed: u64,
    slip: Option<&Slip>,
) -> io::Result<Result<Calls, Box<Disagreement>>> {
    let base = Scenario::all(2).swap_remove(0);
    let scenario = Scenario { name: "random", kinds: KINDS.to_vec(), ..base };
    let beginnings = scenario.beginnings();
    let mut random = fastrand::Rng::with_seed(seed);
    let state = beginnings[random.usize(..beginnings.len())];
    let mut kernel = Kernel::new(&scenario, parent)?;
    kernel.begin(&state)?;
    let mut run = Random { scenario: &scenario, kernel, state, random, may_write: [false; 4] };
    let mut shown = VecDeque::new();
    let names = std::array::from_fn(|name| name as Who);
    for _ in 0..moves {
        let (one, before) = (run.choose(), run.state);
        let Some((one, mut outcome)) = one else { continue };
        if let Some(slip) = slip {
            (slip.spoil)(&before, one, &mut outcome);
        }
        if shown.len() == SHOWN {
            shown.pop_front();
        }
        shown.push_back(one);
        let made = run.make(&before, one, &outcome);
        if let Err(differs) = made.and_then(|()| run.kernel.compare(&outcome.state)) {
            let (moves, before) = (shown.into(), Box::new(before));
            return Ok(Err(Box::new(Disagreement { scenario: "random", differs, moves, before })));
        }
        run.kernel.renumber(&outcome.state, &outcome.state, &names);
        run.state = outcome.state;
    }
    Ok(Ok(run.kernel.calls))
}

struct Random<'a> {
    scenario: &'a Scenario,
    kernel: Kernel<'a>,
    state: State,
    random: fastrand::Rng,
    /// Participants that have created their open file and not written to it.
    may_write: [bool; 4],
}

impl Random<'_> {
    /// A random possible move, with its outcome in the model.
    fn choose(&mut self) -> Option<(Move, Outcome)> {
        let who = self.random.u8(..self.state.count);
        let happens = match self.random.u8(..40) {
            0 => Some(Move::Crash(who, Look::Gone)),
            1 => Some(Move::Remove),
            2 | 3 => Some(Move::Fork(0)),
            _ => None,
        };
        match happens {
            Some(one) => Some((one, self.happen(one)?)),
            None => self.call(who),
        }
    }

    fn happen(&mut self, one: Move) -> Option<Outcome> {
        if let Move::Crash(who, look) = one {
            let mut state = self.state;
            let child = state.participant(who).kind == Kind::Child;
            let there = !child || state.participant(who).activity != Activity::Absent;
            state.crash(who, look);
            self.may_write[usize::from(who)] = false;
            return there.then(|| outcome(state, Reply::Other("")));
        }
        let state = State { removals_left: 1, ..self.state };
        apply(self.scenario, &SHIPPED, &state, one)
    }

    fn call(&mut self, who: Who) -> Option<(Move, Outcome)> {
        // The reply of a probe depends on a record, which random calls seldom write.
        let ops = || Op::SHIPPED.into_iter().filter(|&op| op != Op::Probe);
        let op = ops().nth(self.random.usize(..ops().count()))?;
        let mut state = self.state;
        let open = state.open_inode(who).and_then(|inode| state.file(inode)).copied();
        let is_child = state.participant(who).kind == Kind::Child;
        let possible = match op {
            Op::Create | Op::Open => open.is_none() && !is_child,
            Op::Unlink => !is_child,
            Op::Leave => open.is_some(),
            Op::Write => open.is_some() && self.may_write[usize::from(who)],
            Op::Listen => {
                open.is_some_and(|_| !is_child && state.participant(who).listens == Listens::Event)
            }
            _ => open.is_some() && !is_child,
        };
        if !possible {
            return None;
        }
        // An empty file may look young or old.
        let choice = if op == Op::Age { self.random.u8(..2) } else { 0 };
        let mut view = View::new(&mut state, self.scenario, who, choice);
        ask(op, &mut view);
        let reply = view.reply;
        if is_child {
            state.participant_mut(who).activity = Activity::Absent;
        }
        match reply {
            Reply::Create(Create::Created) => self.may_write[usize::from(who)] = true,
            Reply::Write(_) | Reply::Close | Reply::Leave => {
                self.may_write[usize::from(who)] = false;
            }
            _ => {}
        }
        Some((Move::Call(who, choice), outcome(state, reply)))
    }

    fn make(&mut self, before: &State, one: Move, outcome: &Outcome) -> Result<(), Differs> {
        let Move::Call(who, _) = one else { return self.kernel.make(before, one, outcome) };
        let mut fs = self.kernel.in_lock_step(before, who, outcome.reply, &outcome.state);
        ask(outcome.reply.op(), &mut fs);
        fs.end()
    }
}

fn ask(op: Op, fs: &mut impl FileSystem) {
    match op {
        Op::Create => drop(fs.create()),
        Op::Open => drop(fs.open()),
        Op::Age => drop(fs.age()),
        Op::Lock => drop(fs.lock()),
        Op::Arm => fs.subscribe(),
        Op::Listen => drop(fs.wait_event()),
        Op::Write => drop(fs.write()),
        Op::Read => drop(fs.read()),
        Op::Probe => drop(fs.probe()),
        Op::Confirm => drop(fs.confirm()),
        Op::Unlink => drop(fs.unlink()),
        Op::Void => drop(fs.truncate()),
        Op::Watch => drop(fs.query_lock()),
        Op::Close => fs.close(),
        Op::Leave => fs.close_without_unlock(),
        Op::Other => {}
    }
}

fn outcome(state: State, reply: Reply) -> Outcome {
    Outcome { state, reply, removal: None, by: None, choices: 1, ended: Activity::Idle }
}
