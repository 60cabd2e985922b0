//! The promises, as checks of a move and of the world that it leads to.

pub mod solo;

use portlock::protocol::{
    Acquire, Assessment, Blocked, Clear, Closing, Disposition, Guarantee, Query, QueryClosing,
    QueryConfirming, QueryThen, Refusal, Then,
};

use self::solo::{EverySolo, Solo};
use crate::scenario::moves::{Alone, Manner, Outcome, apply, is_blocked, patiently};
use crate::scenario::other::Percy;
use crate::scenario::world::{Content, Creator, Doing, Kind, Move, Participant, Who, World};
use crate::scenario::worlds::{Config, Promise};
use crate::variants::Protocol;

/// Whether every promise that the world owes is kept by this move.
pub fn check_move(
    config: &Config,
    before: &World,
    one: Move,
    outcome: &Outcome,
) -> Result<(), Promise> {
    let owes = |promise| config.owed.contains(&promise);
    let after = &outcome.world;
    if owes(Promise::P1) && !(excludes(config, after) && knows_its_guarantee(config, outcome)) {
        return Err(Promise::P1);
    }
    if owes(Promise::P1) && takes_a_used_lock(before, one, after) == Some(Kind::Command) {
        return Err(Promise::P1);
    }
    if owes(Promise::P2) && !removes_its_own(config, outcome) {
        return Err(Promise::P2);
    }
    if owes(Promise::P4) && !tells_the_truth(before, one, outcome) {
        return Err(Promise::P4);
    }
    if owes(Promise::Query) && !asks_unseen(before, one, after) {
        return Err(Promise::Query);
    }
    if owes(Promise::P6) && !leaves_nothing(after) {
        return Err(Promise::P6);
    }
    Ok(())
}

/// P1. Where others may remove the path, it is owed for who is still current; where an old agent has
/// robbed somebody, or force has where there are no kernel locks, no longer.
fn excludes(config: &Config, world: &World) -> bool {
    if world.robbed {
        return true;
    }
    let was_removed = world.removals_left < config.removals;
    let is_ours = |who| !matches!(world.participant(who).kind, Kind::OldAgent);
    let mut holders = 0;
    for who in world.everyone() {
        if world.uses_the_lock_of_the_dead(who) {
            holders += 1;
            continue;
        }
        if !is_ours(who) || !world.believes(who) {
            continue;
        }
        // Who follows another protocol closes its file and has no kernel lock.
        let ours = !matches!(world.participant(who).doing, Doing::Percy(_) | Doing::Aside(_));
        let current = world.open_inode(who) == world.path;
        if was_removed && ours && !current {
            continue;
        }
        holders += 1;
        if ours {
            let recorded = world.named().is_some_and(|file| file.content == Content::Of(who));
            let needs_lock = config.kernel_locks && world.participant(who).kind != Kind::Unlocked;
            let locked = world.has_lock(who) || !needs_lock;
            if !(current && recorded && locked) {
                return false;
            }
        }
    }
    holders <= 1
}

/// P1, towards agents of the old format, which look at the recorded process alone: none takes a file
/// for stale while a participant uses its lock. Returns the kind of the participant that uses it.
///
/// It is owed to a command, whose record names the command itself. It is not owed to a child that a
/// guard was passed to, whose record goes on naming the parent.
pub fn takes_a_used_lock(before: &World, one: Move, after: &World) -> Option<Kind> {
    let Move::Call(who, _) = one else { return None };
    let looks = before.participant(who).doing == Doing::Percy(Percy::Reading);
    let takes = after.participant(who).doing == Doing::Percy(Percy::Unlinking);
    if before.participant(who).kind != Kind::OldAgent || !looks || !takes {
        return None;
    }
    let uses = |&user: &Who| {
        let holds = match before.participant(user).doing {
            Doing::Holding => before.participant(user).kind == Kind::Command,
            Doing::Inherited { guard } => guard,
            _ => false,
        };
        holds && before.has_lock(user) && before.open_inode(user) == before.path
    };
    before.everyone().find(uses).map(|user| before.participant(user).kind)
}

/// P1, as the guard tells it: who is told that the kernel lock protects it has the kernel lock, and
/// who is told otherwise is on a filesystem without.
fn knows_its_guarantee(config: &Config, outcome: &Outcome) -> bool {
    match outcome.ended {
        Doing::Acquiring(Acquire::Held(guarantee)) => {
            let has_locks = config.kernel_locks
                && outcome
                    .by
                    .is_none_or(|who| outcome.world.participant(who).kind != Kind::Unlocked);
            has_locks == (guarantee == Guarantee::KernelLock)
        }
        _ => true,
    }
}

/// P2. A removal from outside, an old agent's, and a forced one without kernel locks may each fall
/// between the confirm and the unlink of another participant, whose unlink is then excused.
fn removes_its_own(config: &Config, outcome: &Outcome) -> bool {
    let Some(removal) = outcome.removal else { return true };
    if outcome.world.participant(removal.by).kind == Kind::OldAgent || removal.in_window {
        return true;
    }
    if removal.of_foreign_data {
        return false;
    }
    if removal.created {
        return removal.is_ours && removal.locked;
    }
    // Force without kernel locks may remove a holder's file, or a successor that was created since
    // its confirm. What it leads others to remove is `in_window`.
    let may_force = config.forces && outcome.world.participant(removal.by).kind == Kind::Clearer;
    if may_force && !config.kernel_locks {
        return true;
    }
    // P8: where the probe lies, the lock alone is owed, between those who take it.
    let of_live_other = removal.of_live_other && !config.probe_lies;
    let of_live_old_agent = removal.of_live_old_agent && !(config.probe_lies || may_force);
    removal.is_ours && removal.locked && !of_live_other && !of_live_old_agent
}

/// P4, of acquires and clears that name a holder, and of queries that say who holds, or that nobody
/// does.
///
/// Named is a participant that, at some instant of the call, had the kernel lock on the file that the
/// path named, with its record in it. A creator that has not confirmed its file yet is one: P1 does
/// not count it as a holder, and it may still fail to hold. In the old format, and without kernel
/// locks, named is the recorded author, alive while its record was in the file.
fn tells_the_truth(before: &World, one: Move, outcome: &Outcome) -> bool {
    let (Move::Call(who, _) | Move::Answer(who, _)) = one else { return true };
    let was = before.participant(who).doing;
    let after = &outcome.world;
    let now = after.participant(who).doing;
    if names(now) && !names(was) {
        return after
            .open_inode(who)
            .is_some_and(|inode| after.participant(who).witnessed & (1 << inode) != 0);
    }
    // "Stale" is true of the instant in which nobody was seen to have the lock.
    let stale = Doing::Asking(Query::Confirming(QueryConfirming { assessment: Assessment::Stale }));
    if now == stale && after.open_inode(who) == after.path {
        return after.named().is_some_and(|file| match file.content {
            Content::Of(author) | Content::OldOf(author) => after.same_process(author, who),
            Content::OldAlive | Content::Foreign => false,
            Content::Empty | Content::Unreadable | Content::Dead(_) | Content::OldDead(_) => true,
        });
    }
    true
}

/// Whether who is at this says who holds, or is about to.
pub fn names(doing: Doing) -> bool {
    match doing {
        Doing::Acquiring(state) | Doing::Clearing(Clear::At(state)) => matches!(
            state,
            Acquire::Blocked(Blocked { disposition: Disposition::Final(Refusal::Holder), .. })
                | Acquire::Closing(Closing { then: Then::Refuse(Refusal::Holder) })
        ),
        Doing::Asking(state) => matches!(
            state,
            Query::Closing(QueryClosing { then: QueryThen::Answer(Assessment::Held) })
        ),
        _ => false,
    }
}

/// A query changes nothing that others can see: the path, the files, the kernel locks.
fn asks_unseen(before: &World, one: Move, after: &World) -> bool {
    let Move::Call(who, _) = one else { return true };
    if before.participant(who).kind != Kind::Asker {
        return true;
    }
    let locks = |world: &World| world.files.map(|file| file.map(|file| (file.content, file.lock)));
    // A name that is being deleted goes with the last file that is open, and that may be ours.
    let pending = before.named().is_some_and(|file| file.pending);
    let named_alike = before.path == after.path || (pending && after.path.is_none());
    // A file that only the query had open may end with it.
    named_alike
        && locks(before)
            .iter()
            .zip(&locks(after))
            .all(|(before, after)| before == after || after.is_none())
}

/// P6: when everybody is idle, the path names nothing that a living participant made.
fn leaves_nothing(world: &World) -> bool {
    let at_rest = world
        .everyone()
        .all(|who| matches!(world.participant(who).doing, Doing::Idle | Doing::Absent));
    if !at_rest {
        return true;
    }
    world.aside.iter().all(Option::is_none)
        && world.named().is_none_or(|file| {
            let litter = matches!(file.creator, Creator::Alive(_)) && !file.abandoned;
            // What could not be removed is voided, so that it refuses nobody.
            !litter || (world.removal_failed && !file.content.is_record())
        })
}

/// A participant that did not fare as it is owed when it ran alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fared {
    pub broken: Promise,
    pub who: Who,
    /// Whether it waited, and the others then ended what they were at.
    pub manner: Manner,
}

/// P5, and with it P3: each living participant, run alone from here, ends; one that is idle gets
/// the lock if nobody keeps it rightly; and one that waits gets it when the others have ended.
/// Tells the longest run, in calls.
pub fn check_alone(config: &Config, protocol: &Protocol, world: &World) -> Result<u32, Fared> {
    check_alone_by(config, protocol, world, &mut |begun, who| {
        solo::run(config, protocol, begun, who)
    })
}

/// Same as [`check_alone`], except that `solo` makes the solo runs, or remembers them.
pub fn check_alone_by(
    config: &Config,
    protocol: &Protocol,
    world: &World,
    solo: &mut impl FnMut(&World, Who) -> Solo,
) -> Result<u32, Fared> {
    let owes_recovery = config.owed.contains(&Promise::P3);
    let owes_bounds = config.owed.contains(&Promise::P5);
    if !owes_recovery && !owes_bounds {
        return Ok(0);
    }
    let mut longest = 0;
    for who in world.everyone() {
        let participant = world.participant(who);
        if participant.suspended {
            continue;
        }
        let alone = match participant.doing {
            Doing::Acquiring(_) | Doing::Releasing(_) | Doing::Asking(_) | Doing::Clearing(_)
                if owes_bounds =>
            {
                ends(solo(world, who))
            }
            Doing::Idle if participant.open.is_some() || participant.out_of_reach => Ok(0),
            Doing::Idle if is_acquirer(participant.kind) => {
                gets_it(config, world, who, solo(&begun(config, protocol, world, who), who))
            }
            Doing::Idle if participant.kind == Kind::Clearer => {
                clears_it(config, world, who, solo(&begun(config, protocol, world, who), who))
            }
            _ => Ok(0),
        };
        let fared = |manner| move |broken| Fared { broken, who, manner };
        longest = longest.max(alone.map_err(fared(Manner::Leaves))?);
        for manner in manners(config).filter(|_| may_wait(participant)) {
            is_served(config, protocol, world, who, manner).map_err(fared(manner))?;
        }
    }
    Ok(longest)
}

/// Same as [`check_alone`], of every reply that a call can give and with as many tries as ship. Of
/// calls whose callers leave: `every` makes the runs of one participant that has begun.
pub fn check_every_reply(
    config: &Config,
    protocol: &Protocol,
    world: &World,
    mut every: impl FnMut(&World, Who) -> EverySolo,
) -> Result<u32, Fared> {
    let owes_bounds = config.owed.contains(&Promise::P5);
    let mut longest = 0;
    for who in world.everyone() {
        let participant = world.participant(who);
        let may_begin = participant.open.is_none() && !participant.out_of_reach;
        let is_clearer = participant.kind == Kind::Clearer;
        let run = match participant.doing {
            _ if participant.suspended => continue,
            Doing::Acquiring(_) | Doing::Releasing(_) | Doing::Asking(_) | Doing::Clearing(_)
                if owes_bounds =>
            {
                every(world, who)
            }
            Doing::Idle if may_begin && (is_clearer || is_acquirer(participant.kind)) => {
                every(&begun(config, protocol, world, who), who)
            }
            _ => continue,
        };
        let fared = |broken| Fared { broken, who, manner: Manner::Leaves };
        if participant.doing != Doing::Idle {
            longest = longest.max(run.longest.ok_or(fared(Promise::P5))?);
            continue;
        }
        // Only an empty file may be one that its creator is about to write to.
        let has_to_pause =
            world.named().is_some_and(|file| file.content == Content::Empty || file.pending);
        let gets_it = if is_clearer {
            run.all_leave_the_path_free
        } else {
            run.all_hold && (has_to_pause || !run.some_pause)
        };
        let is_blocked = is_blocked(config, world, who);
        match run.longest {
            Some(calls) if gets_it || is_blocked => longest = longest.max(calls),
            _ => longest = longest.max(owed_by(config, world).map_err(fared)?),
        }
    }
    Ok(longest)
}

/// The manner of waiting that a world allows for.
fn manners(config: &Config) -> impl Iterator<Item = Manner> + use<> {
    config.listens.then_some(Manner::Listens).into_iter()
}

fn is_acquirer(kind: Kind) -> bool {
    match kind {
        Kind::Process
        | Kind::Thread
        | Kind::Parent
        | Kind::Command
        | Kind::Unlocked
        | Kind::Remote => true,
        Kind::Child | Kind::OldAgent | Kind::Asker | Kind::Clearer | Kind::Runner => false,
    }
}

/// Whether it may still answer that it waits: it has not been refused, and no call of it failed.
fn may_wait(participant: &Participant) -> bool {
    match participant.doing {
        Doing::Idle => {
            let may_begin = participant.open.is_none() && !participant.out_of_reach;
            is_acquirer(participant.kind) && may_begin
        }
        Doing::Acquiring(state) => !matches!(
            state,
            Acquire::Closing(Closing { then: Then::Refuse(_) | Then::Fail(_) })
                | Acquire::CleanupLocking(_)
                | Acquire::CleanupVerifying(_)
                | Acquire::CleanupUnlinking(_)
                | Acquire::Truncating(_)
        ),
        _ => false,
    }
}

fn ends(run: Solo) -> Result<u32, Promise> {
    match run.alone {
        Alone::Held(calls) | Alone::Ended(calls) => Ok(calls),
        Alone::Endless => Err(Promise::P5),
    }
}

fn gets_it(config: &Config, world: &World, who: Who, run: Solo) -> Result<u32, Promise> {
    // Only an empty file may be one that its creator is about to write to.
    let has_to_pause =
        world.named().is_some_and(|file| file.content == Content::Empty || file.pending);
    match run.alone {
        Alone::Held(_) if run.paused && !has_to_pause && !is_blocked(config, world, who) => {
            owed_by(config, world)
        }
        Alone::Held(calls) => Ok(calls),
        Alone::Ended(calls) if is_blocked(config, world, who) => Ok(calls),
        Alone::Ended(_) | Alone::Endless => owed_by(config, world),
    }
}

/// A clear that runs alone leaves nothing that an acquire would reclaim.
fn clears_it(config: &Config, world: &World, who: Who, run: Solo) -> Result<u32, Promise> {
    match run.alone {
        Alone::Ended(calls) if run.leaves_the_path_free || is_blocked(config, world, who) => {
            Ok(calls)
        }
        Alone::Held(_) | Alone::Ended(_) | Alone::Endless => owed_by(config, world),
    }
}

/// Who waits, and whose others end what they are at, gets it.
fn is_served(
    config: &Config,
    protocol: &Protocol,
    world: &World,
    who: Who,
    manner: Manner,
) -> Result<(), Promise> {
    let begun = begun(config, protocol, world, who);
    match patiently(config, protocol, &begun, who, manner, |_, _, _| {}) {
        (Alone::Held(_), _) => Ok(()),
        (Alone::Ended(_), end) if is_blocked(config, &end, who) => Ok(()),
        (Alone::Ended(_), end) => owed_by(config, &end).map(|_| ()),
        (Alone::Endless, _) if config.owed.contains(&Promise::P5) => Err(Promise::P5),
        (Alone::Endless, _) => Ok(()),
    }
}

/// The world in which a participant that was idle has begun.
pub fn begun(config: &Config, protocol: &Protocol, world: &World, who: Who) -> World {
    apply(config, protocol, world, Move::Begin(who)).map_or(*world, |outcome| outcome.world)
}

/// What is broken when a file stands in the way of one that nobody keeps from it: recovery, if it
/// is not a living participant's.
fn owed_by(config: &Config, world: &World) -> Result<u32, Promise> {
    let died = world.named().is_some_and(|file| !matches!(file.creator, Creator::Alive(_)));
    let broken = if died { Promise::P3 } else { Promise::P5 };
    if config.owed.contains(&broken) { Err(broken) } else { Ok(0) }
}
