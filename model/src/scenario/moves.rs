//! What can happen next, and how it happens. Successor states come only from the shipped machines
//! (or from a wrong protocol, when one is being caught).

use portlock::protocol::{Acquire, Clear, Query, Release, Released};

use crate::scenario::machines::{Answer, Machine, Reply};
use crate::scenario::other::{Aside, Percy, Repairs};
use crate::scenario::view::{Removal, View};
use crate::scenario::world::{Content, Creator, Doing, Kind, Look, Move, Who, World};
use crate::scenario::worlds::Config;
use crate::variants::Protocol;

/// What a move led to.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    pub world: World,
    /// What was called and replied, of a [`Move::Call`].
    pub reply: Reply,
    pub removal: Option<Removal>,
    /// The participant that made it, of its own accord.
    pub by: Option<Who>,
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
    for who in world.everyone() {
        successors_of(config, protocol, world, who, into);
    }
    let mut try_move = |one| {
        into.extend(apply(config, protocol, world, one).map(|outcome| (one, outcome)));
    };
    try_move(Move::Remove);
}

/// Adds the moves of one participant.
pub fn successors_of(
    config: &Config,
    protocol: &Protocol,
    world: &World,
    who: Who,
    into: &mut Vec<(Move, Outcome)>,
) {
    let mut try_move = |one: Move| {
        if let Some(outcome) = apply(config, protocol, world, one) {
            let choices = outcome.choices;
            into.push((one, outcome));
            return choices;
        }
        0
    };
    try_move(Move::Begin(who));
    if asks_the_driver(world.participant(who).doing) {
        for answer in Answer::ALL {
            try_move(Move::Answer(who, answer));
        }
    } else {
        let choices = match try_move(Move::Call(who, 0)) {
            0 => other_ends(config, world, who),
            choices => choices,
        };
        for choice in 1..choices {
            try_move(Move::Call(who, choice));
        }
    }
    try_move(Move::Release(who));
    try_move(Move::Fork(who));
    try_move(Move::Suspend(who));
    try_move(Move::LoseReach(who));
    for &look in config.looks {
        try_move(Move::Crash(who, look));
    }
}

/// How many choices there are for a wait that goes on blocking: it may fail, its time be over, or an
/// event come for nothing.
fn other_ends(config: &Config, world: &World, who: Who) -> u8 {
    let faults = u8::from(world.faults_left > 0);
    match world.participant(who).doing {
        Doing::Acquiring(Acquire::Listening(_)) => 2 + u8::from(config.windows) + faults,
        _ => 0,
    }
}

/// Makes one move, if it is possible.
pub fn apply(config: &Config, protocol: &Protocol, world: &World, one: Move) -> Option<Outcome> {
    if !is_possible(world, one) {
        return None;
    }
    let mut outcome = Outcome {
        world: *world,
        reply: Reply::Other(""),
        removal: None,
        by: actor(one),
        choices: 1,
        ended: Doing::Absent,
    };
    let next = &mut outcome.world;
    match one {
        Move::Begin(who) => begin(protocol, next, who)?,
        Move::Call(who, choice) => return call(config, protocol, outcome, who, choice),
        Move::Answer(who, answer) => {
            let doing = answered(config, next.participant(who).doing, answer)?;
            next.removal_failed |= answer == Answer::Abandon;
            outcome.ended = doing;
            settle(protocol, next, who, doing);
        }
        // A command ends, and with it the process.
        Move::Release(who) if next.participant(who).kind == Kind::Command => {
            next.crash(who, Look::Gone);
            forgive(next);
        }
        Move::Release(who) => {
            let doing = match next.participant(who).doing {
                Doing::Holding => Doing::Releasing(protocol.release_start),
                Doing::Inherited { guard: true } => Doing::Releasing(protocol.forked_start),
                Doing::Inherited { guard: false } => Doing::Releasing(protocol.forked_attempt),
                Doing::Percy(Percy::Holding) => Doing::Percy(Percy::Releasing),
                Doing::Aside(Aside::Holding) => Doing::Aside(Aside::Releasing),
                _ => return None,
            };
            next.participant_mut(who).doing = doing;
        }
        Move::Crash(who, look) => {
            next.crashes_left -= 1;
            next.crash(who, look);
            forgive(next);
        }
        Move::Suspend(who) => {
            next.suspensions_left -= 1;
            next.participant_mut(who).suspended = true;
        }
        Move::LoseReach(who) => {
            next.chroots_left -= 1;
            next.participant_mut(who).out_of_reach = true;
            // What it cannot reach it cannot remove.
            next.removal_failed = true;
        }
        Move::Fork(who) => fork(protocol, next, who)?,
        Move::Remove => {
            next.removals_left -= 1;
            if let Some(inode) = next.path.take() {
                next.tell(inode);
            }
            open_windows(next, None);
            next.sweep();
        }
    }
    outcome.world.witness(config.kernel_locks);
    Some(outcome)
}

/// Whether a move is possible, as far as that can be told before it is made: most are not, and to
/// make one is to copy the world.
fn is_possible(world: &World, one: Move) -> bool {
    if actor(one).is_some_and(|who| world.participant(who).suspended) {
        return false;
    }
    let at_rest = |who| matches!(world.participant(who).doing, Doing::Idle | Doing::Absent);
    match one {
        // Who has left something open does not come back.
        Move::Begin(who) => {
            let participant = world.participant(who);
            participant.doing == Doing::Idle
                && participant.open.is_none()
                && !participant.out_of_reach
        }
        Move::Call(who, _) => {
            let doing = world.participant(who).doing;
            !at_rest(who) && doing != Doing::Holding && !asks_the_driver(doing)
        }
        Move::Answer(who, _) => asks_the_driver(world.participant(who).doing),
        Move::Release(who) => matches!(
            world.participant(who).doing,
            Doing::Holding
                | Doing::Inherited { .. }
                | Doing::Percy(Percy::Holding)
                | Doing::Aside(Aside::Holding)
        ),
        Move::Crash(who, _) => {
            // One thread dies for all, and nothing dies that has nothing to lose.
            let first = || world.everyone().find(|&one| world.same_process(one, who));
            let rests =
                || world.everyone().all(|one| !world.same_process(one, who) || at_rest(one));
            let there = world.participant(who).doing != Doing::Absent;
            world.crashes_left > 0 && there && first() == Some(who) && !rests()
        }
        Move::Suspend(who) => world.suspensions_left > 0 && !at_rest(who),
        Move::LoseReach(who) => {
            let holds = world.participant(who).doing == Doing::Holding;
            world.chroots_left > 0 && holds && world.participant(who).kind == Kind::Process
        }
        Move::Fork(who) => matches!(world.participant(who).kind, Kind::Parent | Kind::Runner),
        Move::Remove => world.removals_left > 0 && world.path.is_some(),
    }
}

/// The participant that makes a move of its own accord.
fn actor(one: Move) -> Option<Who> {
    match one {
        Move::Begin(who)
        | Move::Call(who, _)
        | Move::Answer(who, _)
        | Move::Release(who)
        | Move::Suspend(who)
        | Move::LoseReach(who)
        | Move::Fork(who) => Some(who),
        Move::Crash(..) | Move::Remove => None,
    }
}

/// Whether a participant's machine waits for an answer of its driver.
pub fn asks_the_driver(doing: Doing) -> bool {
    match doing {
        Doing::Acquiring(state) | Doing::Clearing(Clear::At(state)) => {
            matches!(state, Acquire::Pausing(_) | Acquire::Blocked(_))
        }
        Doing::Releasing(state) => matches!(state, Release::ReleaseFailed(_)),
        Doing::Asking(state) => matches!(state, Query::Pausing(_)),
        Doing::Absent
        | Doing::Idle
        | Doing::Holding
        | Doing::Clearing(Clear::Ended(_))
        | Doing::Inherited { .. }
        | Doing::Percy(_)
        | Doing::Aside(_) => false,
    }
}

/// What follows an answer of the driver, if its machine asks and its world allows for it.
fn answered(config: &Config, doing: Doing, answer: Answer) -> Option<Doing> {
    let allowed = match answer {
        Answer::Listen => config.listens,
        Answer::Force => config.forces && matches!(doing, Doing::Clearing(_)),
        Answer::Again | Answer::GiveUp | Answer::Leave | Answer::Keep | Answer::Abandon => true,
    };
    if !allowed {
        return None;
    }
    match doing {
        Doing::Acquiring(state) => state.answered(answer).map(Doing::Acquiring),
        Doing::Releasing(state) => state.answered(answer).map(Doing::Releasing),
        Doing::Asking(state) => state.answered(answer).map(Doing::Asking),
        Doing::Clearing(state) => state.answered(answer).map(Doing::Clearing),
        Doing::Absent
        | Doing::Idle
        | Doing::Holding
        | Doing::Inherited { .. }
        | Doing::Percy(_)
        | Doing::Aside(_) => None,
    }
}

fn begin(protocol: &Protocol, next: &mut World, who: Who) -> Option<()> {
    let doing = match next.participant(who).kind {
        Kind::Process | Kind::Thread | Kind::Parent | Kind::Unlocked | Kind::Remote => {
            protocol.begin
        }
        Kind::OldAgent => Doing::Percy(Percy::START),
        Kind::Asker => Doing::Asking(Query::START),
        Kind::Clearer => Doing::Clearing(Clear::START),
        Kind::Runner if !protocol.runner_holds => Doing::Clearing(Clear::START),
        Kind::Command if !protocol.runner_holds => protocol.begin,
        Kind::Runner => protocol.begin,
        Kind::Child | Kind::Command => return None,
    };
    next.forget_call(who);
    next.participant_mut(who).doing = doing;
    Some(())
}

fn fork(protocol: &Protocol, next: &mut World, who: Who) -> Option<()> {
    let parent = *next.participant(who);
    let open = parent.open?;
    let child = match parent.kind {
        Kind::Runner if protocol.runner_holds && parent.doing == Doing::Holding => {
            (Kind::Command, Doing::Idle)
        }
        Kind::Runner => return None,
        _ => (Kind::Child, Doing::Absent),
    };
    let child = next
        .everyone()
        .find(|&one| (next.participant(one).kind, next.participant(one).doing) == child)?;
    let guard = matches!(parent.doing, Doing::Holding | Doing::Releasing(_));
    let participant = next.participant_mut(child);
    participant.doing = Doing::Inherited { guard };
    participant.open = Some(open);
    if let Some(opened) = &mut next.opened[usize::from(open)] {
        opened.shared_by |= 1 << child;
    }
    Some(())
}

/// The path has just been removed, by somebody outside the protocol, by force where there are no
/// kernel locks, or by a participant whose kernel lock keeps nobody from acting at the same time:
/// whoever is about to unlink acts on a confirm that no system call can bring up to date. Tells
/// whether anybody is.
fn open_windows(next: &mut World, by: Option<Who>) -> bool {
    let mut any = false;
    for who in next.everyone() {
        let acts = matches!(
            next.participant(who).doing,
            Doing::Acquiring(Acquire::Unlinking(_) | Acquire::CleanupUnlinking(_))
                | Doing::Clearing(Clear::At(Acquire::Unlinking(_)))
                | Doing::Releasing(Release::Unlinking(_))
        );
        if acts && by.is_none_or(|by| !next.share_locks(by, who)) {
            next.participant_mut(who).in_window = true;
            any = true;
        }
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
        Doing::Acquiring(state) => Doing::Acquiring((protocol.acquire)(state, &mut view)),
        Doing::Releasing(state) => Doing::Releasing((protocol.release)(state, &mut view)),
        Doing::Asking(state) => Doing::Asking((protocol.query)(state, &mut view)),
        Doing::Clearing(state) => Doing::Clearing((protocol.clear)(state, &mut view)),
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
    if view.blocked {
        return None;
    }
    (outcome.reply, outcome.removal, outcome.choices) = (view.reply, view.removal, view.choices);
    outcome.ended = doing;
    settle(protocol, &mut outcome.world, who, doing);
    if let Some(removal) = outcome.removal {
        outcome.world.participant_mut(who).in_window = false;
        if participant.kind == Kind::OldAgent {
            outcome.world.robbed |= removal.creator_lives | open_windows(&mut outcome.world, None);
        } else if participant.kind == Kind::Clearer && !config.kernel_locks {
            // Without kernel locks force excludes nobody, just as an old agent's unlink.
            outcome.world.robbed |= removal.creator_lives | open_windows(&mut outcome.world, None);
        } else if removal.in_window && !removal.is_ours {
            // The harm of one removal from outside goes on: this one is as foreign.
            open_windows(&mut outcome.world, None);
            outcome.world.robbed |= config.removals == 0;
        } else {
            // Two on different mounts may both reclaim one file.
            open_windows(&mut outcome.world, Some(who));
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
fn settle(protocol: &Protocol, next: &mut World, who: Who, doing: Doing) {
    let settled = match doing {
        Doing::Acquiring(Acquire::Held(_)) => Doing::Holding,
        Doing::Acquiring(Acquire::Refused(_) | Acquire::Failed(_)) => Doing::Idle,
        Doing::Releasing(Release::Ended(Released::Kept(_))) => Doing::Holding,
        Doing::Releasing(Release::Ended(_)) if next.participant(who).kind == Kind::Child => {
            Doing::Absent
        }
        Doing::Releasing(Release::Ended(_)) => Doing::Idle,
        Doing::Asking(Query::Answered(_) | Query::Failed(_)) => Doing::Idle,
        Doing::Clearing(Clear::Ended(_)) => Doing::Idle,
        other => other,
    };
    next.participant_mut(who).doing = settled;
    if matches!(settled, Doing::Idle | Doing::Holding | Doing::Absent) {
        next.forget_call(who);
    }
    if settled == Doing::Idle {
        forgive(next);
        // What a protocol has open when it ends is closed by then; ours closes by itself.
        if !protocol.leaks {
            debug_assert!(next.participant(who).open.is_none(), "{who} ends with a file open");
            next.close(who);
        }
    }
}

/// Whether a participant other than `who` may rightly keep it from the lock.
pub fn is_blocked(config: &Config, world: &World, who: Who) -> bool {
    let Some(file) = world.named() else { return false };
    // Not by who is at rest, and has forgotten what it left open.
    let at_work = |other| {
        let rests = matches!(world.participant(other).doing, Doing::Idle | Doing::Absent);
        other != who && !rests
    };
    let held_by_others = file.lock.is_some_and(|open| {
        world.opened[usize::from(open)].is_some_and(|opened| {
            world.everyone().any(|other| opened.shared_by & (1 << other) != 0 && at_work(other))
        })
    });
    // A reclaimed new file keeps its name for as long as its slow creator has it open.
    let kept_open =
        config.delete_pending
            && world.opened.iter().flatten().any(|opened| {
                Some(opened.file) == world.path && opened.shared_by & !(1 << who) != 0
            });
    let old_agent = matches!(file.content, Content::OldOf(_) | Content::OldAlive)
        || matches!(file.creator, Creator::Alive(other)
            if world.participant(other).kind == Kind::OldAgent
                && world.participant(other).doing == Doing::Percy(Percy::Writing));
    let unseen = |author| author != who && !world.share_locks(author, who);
    let cannot_be_proved = match file.content {
        Content::Foreign => true,
        Content::Of(author) => unseen(author),
        Content::Dead(Look::OnOtherMachine) => world.participant(who).kind != Kind::Remote,
        Content::Dead(Look::Unlocked) => true,
        Content::Dead(_) => world.participant(who).kind == Kind::Remote,
        Content::Empty | Content::Unreadable => {
            matches!(file.creator, Creator::Alive(creator) if unseen(creator))
        }
        Content::OldOf(_) | Content::OldAlive | Content::OldDead(_) => false,
    };
    let never_reclaims = !config.kernel_locks || world.participant(who).kind == Kind::Unlocked;
    held_by_others || kept_open || old_agent || cannot_be_proved || never_reclaims
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

/// What one who runs alone does where somebody stands in its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It tries so often as `TRIES` says, and is refused.
    Leaves,
    /// It listens, and does not give up.
    Listens,
}

/// More calls than any call that runs alone makes.
const ENDLESS: u32 = 200;
/// How often a call that runs alone is given another try.
const TRIES: u32 = 3;

/// Whether it is about to find out how old the open file is.
pub(crate) fn dates(doing: Doing) -> bool {
    matches!(
        doing,
        Doing::Acquiring(Acquire::CheckingAge(_))
            | Doing::Clearing(Clear::At(Acquire::CheckingAge(_)))
            | Doing::Asking(Query::CheckingAge(_))
    )
}

/// A run of one participant after another, with nothing in between. Shows `watch` every move with
/// the world before it.
struct Lonely<'a, W> {
    config: &'a Config,
    protocol: &'a Protocol,
    world: World,
    calls: u32,
    watch: W,
}

impl<W: FnMut(&World, Move, &Outcome)> Lonely<'_, W> {
    /// Makes a move, if it is possible.
    fn make(&mut self, one: Move) -> bool {
        let Some(outcome) = apply(self.config, self.protocol, &self.world, one) else {
            return false;
        };
        self.calls += 1;
        (self.watch)(&self.world, one, &outcome);
        self.world = outcome.world;
        true
    }

    /// Runs a call until it holds, ends, or is blocked, while the grace passes at every pause.
    fn call(&mut self, who: Who, manner: Manner) -> Alone {
        let began = self.calls;
        let (mut tries, mut waited) = (0, None);
        while self.calls - began < ENDLESS {
            let doing = self.world.participant(who).doing;
            let next = match doing {
                Doing::Holding => return Alone::Held(self.calls),
                Doing::Acquiring(Acquire::Blocked(_)) if manner != Manner::Leaves => {
                    // It has been here, and alone it does the same again.
                    if waited.replace(self.world) == Some(self.world) {
                        return Alone::Endless;
                    }
                    Move::Answer(who, Answer::Listen)
                }
                // Its time is over.
                Doing::Acquiring(Acquire::Listening(_)) if manner == Manner::Leaves => {
                    Move::Call(who, 1)
                }
                Doing::Acquiring(Acquire::Blocked(_))
                | Doing::Clearing(Clear::At(Acquire::Blocked(_))) => {
                    Move::Answer(who, Answer::Leave)
                }
                Doing::Releasing(Release::ReleaseFailed(_)) => Move::Answer(who, Answer::Abandon),
                doing if asks_the_driver(doing) => {
                    tries += 1;
                    match manner {
                        _ if tries < TRIES => Move::Answer(who, Answer::Again),
                        Manner::Leaves => Move::Answer(who, Answer::GiveUp),
                        // Somebody is at work, and does not go on meanwhile.
                        Manner::Listens => return Alone::Ended(self.calls),
                    }
                }
                // At the first pause the grace has passed.
                doing if dates(doing) && tries > 0 && self.world.may_look_old(who) => {
                    Move::Call(who, 1)
                }
                _ => Move::Call(who, 0),
            };
            if !self.make(next) {
                return Alone::Ended(self.calls);
            }
        }
        Alone::Endless
    }

    /// Lets a participant end what it is at: it gives up, or releases. Tells whether it could.
    fn end(&mut self, who: Who) -> bool {
        let began = self.calls;
        loop {
            let next = match self.world.participant(who).doing {
                Doing::Idle | Doing::Absent => break,
                Doing::Acquiring(Acquire::Pausing(_)) => Move::Answer(who, Answer::GiveUp),
                Doing::Holding
                | Doing::Inherited { .. }
                | Doing::Percy(Percy::Holding)
                | Doing::Aside(Aside::Holding) => Move::Release(who),
                _ => match self.call(who, Manner::Leaves) {
                    Alone::Held(_) => continue,
                    Alone::Ended(_) | Alone::Endless => break,
                },
            };
            self.make(next);
        }
        self.calls > began
    }
}

/// Runs one participant alone to the end of its call, while the grace passes at every pause.
/// Shows `watch` every move with the world before it.
pub fn alone(
    config: &Config,
    protocol: &Protocol,
    world: &World,
    who: Who,
    watch: impl FnMut(&World, Move, &Outcome),
) -> Alone {
    Lonely { config, protocol, world: *world, calls: 0, watch }.call(who, Manner::Leaves)
}

/// Runs one participant that waits in this manner, and whenever it is blocked lets all others end what they are
/// at. Also tells the world at the end.
pub fn patiently(
    config: &Config,
    protocol: &Protocol,
    world: &World,
    who: Who,
    manner: Manner,
    watch: impl FnMut(&World, Move, &Outcome),
) -> (Alone, World) {
    let mut run = Lonely { config, protocol, world: *world, calls: 0, watch };
    loop {
        let ended = run.call(who, manner);
        let blocked = matches!(ended, Alone::Ended(_))
            && matches!(run.world.participant(who).doing, Doing::Acquiring(_));
        let mut others = run.world.everyone().filter(|&other| other != who);
        // One by one, since one may wait for another.
        if !blocked || !others.any(|other| run.end(other)) {
            return (ended, run.world);
        }
    }
}
