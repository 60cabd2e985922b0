//! The calls of the trait in an order that no machine makes, and what else may happen, in lock-step
//! with the model.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use portlock::protocol::{Create, FileSystem};

use super::kernel::{Calls, Differs, Kernel};
use super::slips::Slip;
use super::{Disagreement, SHOWN};
use crate::scenario::machines::{Op, Reply};
use crate::scenario::moves::{Outcome, apply};
use crate::scenario::view::View;
use crate::scenario::world::{Doing, Kind, Listens, Look, Move, Who, World};
use crate::scenario::worlds::Config;
use crate::variants::SHIPPED;

/// A forking process, two others, and the child.
const KINDS: [Kind; 4] = [Kind::Parent, Kind::Process, Kind::Process, Kind::Child];

/// Makes so many calls in an order that the seed decides, in a directory of its own in `parent`.
pub fn run(
    parent: &Path,
    moves: u64,
    seed: u64,
    slip: Option<&Slip>,
) -> io::Result<Result<Calls, Box<Disagreement>>> {
    let base = Config::all(2).swap_remove(0);
    let config = Config { name: "random", kinds: KINDS.to_vec(), ..base };
    let beginnings = config.beginnings();
    let mut random = fastrand::Rng::with_seed(seed);
    let world = beginnings[random.usize(..beginnings.len())];
    let mut kernel = Kernel::new(&config, parent)?;
    kernel.begin(&world)?;
    let mut run = Random { config: &config, kernel, world, random, may_write: [false; 4] };
    let mut shown = VecDeque::new();
    let names = std::array::from_fn(|name| name as Who);
    for _ in 0..moves {
        let (one, before) = (run.choose(), run.world);
        let Some((one, mut outcome)) = one else { continue };
        if let Some(slip) = slip {
            (slip.spoil)(&before, one, &mut outcome);
        }
        if shown.len() == SHOWN {
            shown.pop_front();
        }
        shown.push_back(one);
        let made = run.make(&before, one, &outcome);
        if let Err(differs) = made.and_then(|()| run.kernel.compare(&outcome.world)) {
            let (moves, before) = (shown.into(), Box::new(before));
            return Ok(Err(Box::new(Disagreement { world: "random", differs, moves, before })));
        }
        run.kernel.renumber(&outcome.world, &outcome.world, &names);
        run.world = outcome.world;
    }
    Ok(Ok(run.kernel.calls))
}

struct Random<'a> {
    config: &'a Config,
    kernel: Kernel<'a>,
    world: World,
    random: fastrand::Rng,
    /// Who has created the file that it has open, and not written to it.
    may_write: [bool; 4],
}

impl Random<'_> {
    /// Something that is possible, and what it leads to in the model.
    fn choose(&mut self) -> Option<(Move, Outcome)> {
        let who = self.random.u8(..self.world.count);
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
            let mut world = self.world;
            let child = world.participant(who).kind == Kind::Child;
            let there = !child || world.participant(who).doing != Doing::Absent;
            world.crash(who, look);
            self.may_write[usize::from(who)] = false;
            return there.then(|| outcome(world, Reply::Other("")));
        }
        let world = World { removals_left: 1, ..self.world };
        apply(self.config, &SHIPPED, &world, one)
    }

    fn call(&mut self, who: Who) -> Option<(Move, Outcome)> {
        let op = OPS[self.random.usize(..OPS.len())];
        let mut world = self.world;
        let open = world.open_inode(who).and_then(|inode| world.file(inode)).copied();
        let is_child = world.participant(who).kind == Kind::Child;
        let possible = match op {
            Op::Create | Op::Open => open.is_none() && !is_child,
            Op::Unlink => !is_child,
            Op::Leave => open.is_some(),
            Op::Write => open.is_some() && self.may_write[usize::from(who)],
            Op::Listen => {
                open.is_some_and(|_| !is_child && world.participant(who).listens == Listens::Event)
            }
            _ => open.is_some() && !is_child,
        };
        if !possible {
            return None;
        }
        // An empty file may look young or old.
        let choice = if op == Op::Age { self.random.u8(..2) } else { 0 };
        let mut view = View::new(&mut world, self.config, who, choice);
        ask(op, &mut view);
        let reply = view.reply;
        if is_child {
            world.participant_mut(who).doing = Doing::Absent;
        }
        match reply {
            Reply::Create(Create::Created) => self.may_write[usize::from(who)] = true,
            Reply::Write(_) | Reply::Close | Reply::Leave => {
                self.may_write[usize::from(who)] = false;
            }
            _ => {}
        }
        Some((Move::Call(who, choice), outcome(world, reply)))
    }

    fn make(&mut self, before: &World, one: Move, outcome: &Outcome) -> Result<(), Differs> {
        let Move::Call(who, _) = one else { return self.kernel.make(before, one, outcome) };
        let mut fs = self.kernel.in_lock_step(before, who, outcome.reply, &outcome.world);
        ask(outcome.reply.op(), &mut fs);
        fs.end()
    }
}

const OPS: [Op; 14] = [
    Op::Create,
    Op::Open,
    Op::Age,
    Op::Lock,
    Op::Arm,
    Op::Listen,
    Op::Write,
    Op::Read,
    Op::Confirm,
    Op::Unlink,
    Op::Void,
    Op::Watch,
    Op::Close,
    Op::Leave,
];

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

fn outcome(world: World, reply: Reply) -> Outcome {
    Outcome { world, reply, removal: None, by: None, choices: 1, ended: Doing::Idle }
}
