//! What can happen next, and how it happens. Successor states come only from the shipped machines
//! (or from a wrong protocol, when one is being caught).

use portlock::protocol::{Acquire, Age, Query, Release};

use crate::machines::Reply;
use crate::other::{Aside, Percy, Repairs};
use crate::variants::Protocol;
use crate::view::{Removal, View};
use crate::world::{Content, Creator, Doing, Kind, Move, Who, World};
use crate::worlds::Config;

/// What a move led to.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    pub world: World,
    /// What was called and replied, of a [`Move::Call`].
    pub reply: Reply,
    pub removal: Option<Removal>,
    /// How many replies the call could have had.
    pub choices: u8,
    /// The machine's state after the call, before a call that has ended becomes idle.
    pub ended: Doing,
}

/// All moves that are possible, in a fixed order, with what they lead to.
pub fn successors(
    config: &Config,
    protocol: &Protocol,
    world: &World,
    into: &mut Vec<(Move, Outcome)>,
) {
    into.clear();
    let mut try_move = |one: Move| {
        if let Some(outcome) = apply(config, protocol, world, one) {
            let choices = outcome.choices;
            into.push((one, outcome));
            return choices;
        }
        0
    };
    for who in world.everyone() {
        try_move(Move::Begin(who));
        let choices = try_move(Move::Call(who, 0));
        for choice in 1..choices {
            try_move(Move::Call(who, choice));
        }
        try_move(Move::Again(who));
        try_move(Move::GiveUp(who));
        try_move(Move::Release(who));
        try_move(Move::Fork(who));
        try_move(Move::Suspend(who));
        for &look in config.looks {
            try_move(Move::Crash(who, look));
        }
    }
    for inode in 0..world.files.len() as u8 {
        try_move(Move::Age(inode));
    }
    try_move(Move::Remove);
}

/// Makes one move, if it is possible.
pub fn apply(config: &Config, protocol: &Protocol, world: &World, one: Move) -> Option<Outcome> {
    if actor(one).is_some_and(|who| world.participant(who).suspended) {
        return None;
    }
    let mut outcome = Outcome {
        world: *world,
        reply: Reply::Other(""),
        removal: None,
        choices: 1,
        ended: Doing::Absent,
    };
    let next = &mut outcome.world;
    match one {
        Move::Begin(who) => begin(protocol, next, who)?,
        Move::Call(who, choice) => return call(config, protocol, outcome, who, choice),
        Move::Again(who) => match next.participant(who).doing {
            Doing::Acquiring(Acquire::Pausing(pause)) => {
                next.participant_mut(who).doing = Doing::Acquiring(pause.again());
            }
            Doing::Asking(Query::Pausing(pause)) => {
                next.participant_mut(who).doing = Doing::Asking(pause.again());
            }
            _ => return None,
        },
        Move::GiveUp(_) if config.waiting => return None,
        Move::GiveUp(who) => {
            let doing = match next.participant(who).doing {
                Doing::Acquiring(Acquire::Pausing(pause)) => Doing::Acquiring(pause.give_up()),
                Doing::Asking(Query::Pausing(pause)) => Doing::Asking(pause.give_up()),
                _ => return None,
            };
            outcome.ended = doing;
            settle(next, who, doing);
        }
        Move::Release(who) => {
            let doing = match next.participant(who).doing {
                Doing::Holding => Doing::Releasing(protocol.release_start),
                Doing::Inherited { guard: true } => Doing::Releasing(protocol.forked_start),
                // A child that never had the guard just ends.
                Doing::Inherited { guard: false } => Doing::Releasing(Release::FORKED),
                Doing::Percy(Percy::Holding) => Doing::Percy(Percy::Releasing),
                Doing::Aside(Aside::Holding) => Doing::Aside(Aside::Releasing),
                _ => return None,
            };
            next.participant_mut(who).doing = doing;
        }
        Move::Crash(who, look) => {
            let doing = next.participant(who).doing;
            // One thread dies for all, and nothing dies that has nothing to lose.
            let first = next.everyone().find(|&one| next.same_process(one, who));
            let idle = next.everyone().all(|one| {
                !next.same_process(one, who)
                    || matches!(next.participant(one).doing, Doing::Idle | Doing::Absent)
            });
            if next.crashes_left == 0 || idle || first != Some(who) || doing == Doing::Absent {
                return None;
            }
            next.crashes_left -= 1;
            next.crash(who, look);
            forgive(next);
        }
        Move::Suspend(who) => {
            if next.suspensions_left == 0
                || matches!(next.participant(who).doing, Doing::Idle | Doing::Absent)
            {
                return None;
            }
            next.suspensions_left -= 1;
            next.participant_mut(who).suspended = true;
        }
        Move::Fork(who) => fork(next, who)?,
        Move::Age(inode) => {
            let writes_in_time = {
                let file = next.file(inode)?;
                file.age == Age::Old
                    || file.content.is_record()
                    || matches!(file.creator, Creator::Alive(who)
                        if next.participant(who).doing == Doing::Percy(Percy::Writing)
                            && next.participant(who).kind == Kind::OldAgent)
            };
            if writes_in_time {
                return None;
            }
            next.file_mut(inode)?.age = Age::Old;
        }
        Move::Remove => {
            if next.removals_left == 0 || next.path.is_none() {
                return None;
            }
            next.removals_left -= 1;
            next.path = None;
            open_windows(next);
            next.sweep();
        }
    }
    outcome.world.witness(config.kernel_locks);
    Some(outcome)
}

/// The participant that makes a move of its own accord.
fn actor(one: Move) -> Option<Who> {
    match one {
        Move::Begin(who)
        | Move::Call(who, _)
        | Move::Again(who)
        | Move::GiveUp(who)
        | Move::Release(who)
        | Move::Suspend(who)
        | Move::Fork(who) => Some(who),
        Move::Crash(..) | Move::Age(_) | Move::Remove => None,
    }
}

fn begin(protocol: &Protocol, next: &mut World, who: Who) -> Option<()> {
    let participant = next.participant(who);
    if participant.doing != Doing::Idle {
        return None;
    }
    let doing = match participant.kind {
        Kind::Process | Kind::Thread | Kind::Parent => protocol.begin,
        Kind::OldAgent => Doing::Percy(Percy::START),
        Kind::Asker => Doing::Asking(Query::START),
        Kind::Child => return None,
    };
    next.forget_call(who);
    next.participant_mut(who).doing = doing;
    Some(())
}

fn fork(next: &mut World, who: Who) -> Option<()> {
    let parent = *next.participant(who);
    let open = parent.open?;
    if parent.kind != Kind::Parent {
        return None;
    }
    let child = next.everyone().find(|&one| {
        next.participant(one).kind == Kind::Child && next.participant(one).doing == Doing::Absent
    })?;
    let guard = matches!(parent.doing, Doing::Holding | Doing::Releasing(_));
    let participant = next.participant_mut(child);
    participant.doing = Doing::Inherited { guard };
    participant.open = Some(open);
    if let Some(opened) = &mut next.opened[usize::from(open)] {
        opened.shared_by |= 1 << child;
    }
    Some(())
}

/// The path has just been removed by somebody outside the protocol: who is about to unlink acts on
/// a confirm that no system call can bring up to date. Tells whether anybody is.
fn open_windows(next: &mut World) -> bool {
    let mut any = false;
    for participant in &mut next.participants {
        let acts = matches!(
            participant.doing,
            Doing::Acquiring(Acquire::Unlinking(_) | Acquire::Withdrawing(_))
                | Doing::Releasing(Release::Unlinking(_))
        );
        participant.in_window |= acts;
        any |= acts;
    }
    any
}

fn call(
    config: &Config,
    protocol: &Protocol,
    mut outcome: Outcome,
    who: Who,
    choice: u8,
) -> Option<Outcome> {
    let participant = *outcome.world.participant(who);
    let mut view = View::new(&mut outcome.world, config, who, choice);
    view.doctor = protocol.doctor;
    view.confirms_itself = protocol.confirms_itself;
    let doing = match participant.doing {
        Doing::Acquiring(Acquire::Pausing(_)) | Doing::Asking(Query::Pausing(_)) => return None,
        Doing::Acquiring(state) => Doing::Acquiring((protocol.acquire)(state, &mut view)),
        Doing::Releasing(state) => Doing::Releasing((protocol.release)(state, &mut view)),
        Doing::Asking(state) => Doing::Asking((protocol.query)(state, &mut view)),
        Doing::Percy(Percy::Holding) | Doing::Aside(Aside::Holding) => return None,
        Doing::Percy(state) => {
            let old_format = participant.kind == Kind::OldAgent;
            let repairs =
                if old_format { Repairs { reread: false, guard: false } } else { protocol.repairs };
            state.step(&mut view, old_format, repairs).map_or(Doing::Idle, Doing::Percy)
        }
        Doing::Aside(state) => state.step(&mut view).map_or(Doing::Idle, Doing::Aside),
        Doing::Absent | Doing::Idle | Doing::Holding | Doing::Inherited { .. } => return None,
    };
    (outcome.reply, outcome.removal, outcome.choices) = (view.reply, view.removal, view.choices);
    outcome.ended = doing;
    settle(&mut outcome.world, who, doing);
    if let Some(removal) = outcome.removal {
        outcome.world.participant_mut(who).in_window = false;
        if participant.kind == Kind::OldAgent {
            outcome.world.robbed |= removal.creator_lives | open_windows(&mut outcome.world);
        } else if removal.in_window && !removal.is_ours {
            // The harm of one removal from outside goes on: this one is as foreign.
            open_windows(&mut outcome.world);
        }
    }
    outcome.world.witness(config.kernel_locks);
    Some(outcome)
}

/// When everybody is idle and nothing stands at the path, the past excuses nothing any more.
fn forgive(next: &mut World) {
    let at_rest = |one| matches!(next.participant(one).doing, Doing::Idle | Doing::Absent);
    if next.path.is_none() && next.everyone().all(at_rest) {
        next.robbed = false;
        next.removal_failed = false;
    }
}

/// Puts a participant into its next state; a call that has ended leaves it idle or holding.
fn settle(next: &mut World, who: Who, doing: Doing) {
    let settled = match doing {
        Doing::Acquiring(Acquire::Held(_)) => Doing::Holding,
        Doing::Acquiring(Acquire::Refused(_) | Acquire::Failed(_)) => Doing::Idle,
        Doing::Releasing(Release::Ended(_)) if next.participant(who).kind == Kind::Child => {
            Doing::Absent
        }
        Doing::Releasing(Release::Ended(_)) => Doing::Idle,
        Doing::Asking(Query::Answered(_) | Query::Failed(_)) => Doing::Idle,
        other => other,
    };
    next.participant_mut(who).doing = settled;
    if matches!(settled, Doing::Idle | Doing::Holding | Doing::Absent) {
        next.forget_call(who);
    }
    if settled == Doing::Idle {
        forgive(next);
        // What a protocol has open when it ends is closed by then; ours closes by itself.
        debug_assert!(next.participant(who).open.is_none(), "{who} ends with a file open");
        next.close(who);
    }
}

/// Whether a participant other than `who` may rightly keep it from the lock.
pub fn is_blocked(config: &Config, world: &World, who: Who) -> bool {
    let Some(file) = world.named() else { return false };
    let held_by_others = file.lock.is_some_and(|open| {
        world.opened[usize::from(open)].is_some_and(|opened| opened.shared_by & !(1 << who) != 0)
    });
    // A reclaimed newborn keeps its name for as long as its slow creator has it open.
    let kept_open =
        config.delete_pending
            && world.opened.iter().flatten().any(|opened| {
                Some(opened.file) == world.path && opened.shared_by & !(1 << who) != 0
            });
    let old_agent = matches!(file.content, Content::OldOf(_) | Content::OldAlive)
        || matches!(file.creator, Creator::Alive(other)
            if world.participant(other).kind == Kind::OldAgent
                && world.participant(other).doing == Doing::Percy(Percy::Writing));
    held_by_others || kept_open || old_agent || !config.kernel_locks
}

/// How a call that ran alone ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alone {
    /// So many calls, and it holds.
    Held(u32),
    /// So many calls, and it does not.
    Ended(u32),
    /// It did not end.
    Endless,
}

/// More calls than any call that runs alone makes.
const ENDLESS: u32 = 200;
/// How often a call that runs alone is given another try.
const TRIES: u32 = 3;

/// Runs one participant alone to the end of its call, while the grace passes at every pause.
/// Shows `watch` every move with the world before it.
pub fn alone(
    config: &Config,
    protocol: &Protocol,
    world: &World,
    who: Who,
    mut watch: impl FnMut(&World, Move, &Outcome),
) -> Alone {
    let mut world = *world;
    let mut tries = 0;
    for calls in 0..ENDLESS {
        let next = match world.participant(who).doing {
            Doing::Holding => return Alone::Held(calls),
            Doing::Acquiring(Acquire::Pausing(_)) | Doing::Asking(Query::Pausing(_)) => {
                tries += 1;
                for inode in 0..world.files.len() as u8 {
                    if let Some(aged) = apply(config, protocol, &world, Move::Age(inode)) {
                        world = aged.world;
                    }
                }
                if tries < TRIES { Move::Again(who) } else { Move::GiveUp(who) }
            }
            _ => Move::Call(who, 0),
        };
        match apply(config, protocol, &world, next) {
            Some(outcome) => {
                watch(&world, next, &outcome);
                world = outcome.world;
            }
            None => return Alone::Ended(calls),
        }
    }
    Alone::Endless
}
