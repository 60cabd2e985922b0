//! The properties, as checks of a move and its resulting state.

pub mod property;
pub mod runs;
pub mod solo;

use portlock::protocol::{
    Acquire, Assessment, Blocked, Clear, Closing, Disposition, Guarantee, Query, QueryClosing,
    QueryConfirming, QueryThen, Refusal, Then,
};

use self::solo::{EverySolo, Solo};
use crate::properties::property::Property;
use crate::properties::runs::{Manner, SoloEnd, fair_run};
use crate::scenario::catalogue::Scenario;
use crate::scenario::moves::{Outcome, apply, is_blocked};
use crate::scenario::other::Percy;
use crate::scenario::state::{Activity, Content, Creator, Kind, Move, Participant, State, Who};
use crate::variants::Protocol;

/// Whether a move keeps every property of the scenario.
pub fn check_move(
    scenario: &Scenario,
    before: &State,
    one: Move,
    outcome: &Outcome,
) -> Result<(), Property> {
    let owes = |property| scenario.properties.contains(&property);
    let after = &outcome.state;
    if owes(Property::P1) && !(excludes(scenario, after) && knows_its_guarantee(scenario, outcome))
    {
        return Err(Property::P1);
    }
    if owes(Property::P1) && takes_a_used_lock(before, one, after) == Some(Kind::Command) {
        return Err(Property::P1);
    }
    if owes(Property::P2) && !removes_its_own(scenario, outcome) {
        return Err(Property::P2);
    }
    if owes(Property::P4) && !names_a_real_holder(before, one, outcome) {
        return Err(Property::P4);
    }
    if owes(Property::Query) && !query_is_read_only(before, one, after) {
        return Err(Property::Query);
    }
    if owes(Property::P6) && !leaves_nothing(after) {
        return Err(Property::P6);
    }
    Ok(())
}

/// P1. After a removal from outside it is checked for current holders only. It is not checked once
/// an old agent, or force without kernel locks, has removed a live file.
fn excludes(scenario: &Scenario, state: &State) -> bool {
    if state.robbed {
        return true;
    }
    let was_removed = state.removals_left < scenario.removals;
    let is_ours = |who| !matches!(state.participant(who).kind, Kind::OldAgent);
    let mut holders = 0;
    for who in state.everyone() {
        if state.uses_the_lock_of_the_dead(who) {
            holders += 1;
            continue;
        }
        if !is_ours(who) || !state.believes(who) {
            continue;
        }
        // The other protocols close their file and have no kernel lock.
        let ours =
            !matches!(state.participant(who).activity, Activity::Percy(_) | Activity::Aside(_));
        let current = state.open_inode(who) == state.path;
        if was_removed && ours && !current {
            continue;
        }
        holders += 1;
        if ours {
            let recorded = state.named().is_some_and(|file| file.content == Content::Of(who));
            let needs_lock = scenario.kernel_locks && state.participant(who).kind != Kind::Unlocked;
            let locked = state.has_lock(who) || !needs_lock;
            if !(current && recorded && locked) {
                return false;
            }
        }
    }
    holders <= 1
}

/// P1 towards agents of the old format, which check only the recorded process: none takes a file
/// for stale while a participant uses its lock. Returns the kind of the participant that uses it.
///
/// It is checked for a command, whose record names the command itself. It is not checked for a
/// child that inherited a guard, whose record still names the parent.
pub fn takes_a_used_lock(before: &State, one: Move, after: &State) -> Option<Kind> {
    let Move::Call(who, _) = one else { return None };
    let looks = before.participant(who).activity == Activity::Percy(Percy::Reading);
    let takes = after.participant(who).activity == Activity::Percy(Percy::Unlinking);
    if before.participant(who).kind != Kind::OldAgent || !looks || !takes {
        return None;
    }
    let uses = |&user: &Who| {
        let holds = match before.participant(user).activity {
            Activity::Holding => before.participant(user).kind == Kind::Command,
            Activity::Inherited { guard } => guard,
            _ => false,
        };
        holds && before.has_lock(user) && before.open_inode(user) == before.path
    };
    before.everyone().find(uses).map(|user| before.participant(user).kind)
}

/// P1, as the guard reports it: a holder with the guarantee `KernelLock` has the kernel lock, and a
/// holder with another guarantee is on a filesystem without kernel locks.
fn knows_its_guarantee(scenario: &Scenario, outcome: &Outcome) -> bool {
    match outcome.ended {
        Activity::Acquiring(Acquire::Held(guarantee)) => {
            let has_locks = scenario.kernel_locks
                && outcome
                    .by
                    .is_none_or(|who| outcome.state.participant(who).kind != Kind::Unlocked);
            has_locks == (guarantee == Guarantee::KernelLock)
        }
        _ => true,
    }
}

/// P2. A removal from outside, an old agent's, and a forced one without kernel locks may each fall
/// between the confirm and the unlink of another participant, whose unlink is then excused.
fn removes_its_own(scenario: &Scenario, outcome: &Outcome) -> bool {
    let Some(removal) = outcome.removal else { return true };
    if outcome.state.participant(removal.by).kind == Kind::OldAgent || removal.in_window {
        return true;
    }
    if removal.of_foreign_data {
        return false;
    }
    if removal.created {
        return removal.is_ours && removal.locked;
    }
    // Force without kernel locks may remove a holder's file, or one that was created after its
    // confirm. The removals by others that follow are `in_window`.
    let may_force = scenario.forces && outcome.state.participant(removal.by).kind == Kind::Clearer;
    if may_force && !scenario.kernel_locks {
        return true;
    }
    // P8: where the probe lies, only the lock is checked, among participants that take it.
    let of_live_other = removal.of_live_other && !scenario.probe_lies;
    let of_live_old_agent = removal.of_live_old_agent && !(scenario.probe_lies || may_force);
    removal.is_ours && removal.locked && !of_live_other && !of_live_old_agent
}

/// P4, for acquires and clears that name a holder, and for queries that report a holder or a stale
/// file.
///
/// The named participant had, at some instant of the call, the kernel lock on the file that the
/// path named, with its record in it. This includes a creator that has not confirmed its file yet:
/// P1 does not count it as a holder, and it may still fail to hold. In the old format, and without
/// kernel locks, the recorded author is named, alive while its record was in the file.
fn names_a_real_holder(before: &State, one: Move, outcome: &Outcome) -> bool {
    let (Move::Call(who, _) | Move::Answer(who, _)) = one else { return true };
    let was = before.participant(who).activity;
    let after = &outcome.state;
    let now = after.participant(who).activity;
    if names(now) && !names(was) {
        return after
            .open_inode(who)
            .is_some_and(|inode| after.participant(who).witnessed & (1 << inode) != 0);
    }
    // "Stale" is true of the instant in which the lock was seen free.
    let stale =
        Activity::Asking(Query::Confirming(QueryConfirming { assessment: Assessment::Stale }));
    if now == stale && after.open_inode(who) == after.path {
        return after.named().is_some_and(|file| match file.content {
            Content::Of(author) | Content::OldOf(author) => after.same_process(author, who),
            Content::OldAlive | Content::Foreign => false,
            Content::Empty | Content::Unreadable | Content::Dead(_) | Content::OldDead(_) => true,
        });
    }
    true
}

/// Whether a participant in this state names a holder, or is about to.
pub fn names(activity: Activity) -> bool {
    match activity {
        Activity::Acquiring(state) | Activity::Clearing(Clear::At(state)) => matches!(
            state,
            Acquire::Blocked(Blocked { disposition: Disposition::Final(Refusal::Holder), .. })
                | Acquire::Closing(Closing { then: Then::Refuse(Refusal::Holder) })
        ),
        Activity::Asking(state) => matches!(
            state,
            Query::Closing(QueryClosing { then: QueryThen::Answer(Assessment::Held) })
        ),
        _ => false,
    }
}

/// A query changes no path, file or kernel lock.
fn query_is_read_only(before: &State, one: Move, after: &State) -> bool {
    let Move::Call(who, _) = one else { return true };
    if before.participant(who).kind != Kind::Asker {
        return true;
    }
    let locks = |state: &State| state.files.map(|file| file.map(|file| (file.content, file.lock)));
    // A name that is being deleted ends with the last open file, which may be ours.
    let pending = before.named().is_some_and(|file| file.pending);
    let named_alike = before.path == after.path || (pending && after.path.is_none());
    // A file that only the query had open may end with the query.
    named_alike
        && locks(before)
            .iter()
            .zip(&locks(after))
            .all(|(before, after)| before == after || after.is_none())
}

/// P6: when all participants are idle, the path names no file that a living participant made.
fn leaves_nothing(state: &State) -> bool {
    let at_rest = state
        .everyone()
        .all(|who| matches!(state.participant(who).activity, Activity::Idle | Activity::Absent));
    if !at_rest {
        return true;
    }
    state.aside.iter().all(Option::is_none)
        && state.named().is_none_or(|file| {
            let litter = matches!(file.creator, Creator::Alive(_)) && !file.abandoned;
            // A file that cannot be removed is truncated, so that it causes no refusal.
            !litter || (state.removal_failed && !file.content.is_record())
        })
}

/// A participant for which P3 or P5 failed when it ran alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LivenessViolation {
    pub broken: Property,
    pub who: Who,
    /// Whether it waited, in which case the others ended their calls.
    pub manner: Manner,
}

/// P5, and with it P3: each living participant that runs alone from here ends; an idle one gets the
/// lock unless another has it rightly; a waiter gets it when the others have ended. Returns the
/// calls of the longest run.
pub fn check_solo(
    scenario: &Scenario,
    protocol: &Protocol,
    state: &State,
) -> Result<u32, LivenessViolation> {
    check_solo_by(scenario, protocol, state, &mut |begun, who| {
        solo::run(scenario, protocol, begun, who)
    })
}

/// Same as [`check_solo`], with the solo runs of `solo`.
pub fn check_solo_by(
    scenario: &Scenario,
    protocol: &Protocol,
    state: &State,
    solo: &mut impl FnMut(&State, Who) -> Solo,
) -> Result<u32, LivenessViolation> {
    let owes_recovery = scenario.properties.contains(&Property::P3);
    let owes_bounds = scenario.properties.contains(&Property::P5);
    if !owes_recovery && !owes_bounds {
        return Ok(0);
    }
    let mut longest = 0;
    for who in state.everyone() {
        let participant = state.participant(who);
        if participant.suspended {
            continue;
        }
        let solo = match participant.activity {
            Activity::Acquiring(_)
            | Activity::Releasing(_)
            | Activity::Asking(_)
            | Activity::Clearing(_)
                if owes_bounds =>
            {
                ends(solo(state, who))
            }
            Activity::Idle if participant.open.is_some() || participant.out_of_reach => Ok(0),
            Activity::Idle if is_acquirer(participant.kind) => {
                gets_it(scenario, state, who, solo(&begun(scenario, protocol, state, who), who))
            }
            Activity::Idle if participant.kind == Kind::Clearer => {
                clears_it(scenario, state, who, solo(&begun(scenario, protocol, state, who), who))
            }
            _ => Ok(0),
        };
        let violation = |manner| move |broken| LivenessViolation { broken, who, manner };
        longest = longest.max(solo.map_err(violation(Manner::Leaves))?);
        for manner in manners(scenario).filter(|_| may_wait(participant)) {
            is_served(scenario, protocol, state, who, manner).map_err(violation(manner))?;
        }
    }
    Ok(longest)
}

/// Same as [`check_solo`], with every reply of each call and with the shipped number of tries, for
/// callers that leave when they are blocked. `every` makes the runs of one participant that has
/// begun.
pub fn check_every_reply(
    scenario: &Scenario,
    protocol: &Protocol,
    state: &State,
    mut every: impl FnMut(&State, Who) -> EverySolo,
) -> Result<u32, LivenessViolation> {
    let owes_bounds = scenario.properties.contains(&Property::P5);
    let mut longest = 0;
    for who in state.everyone() {
        let participant = state.participant(who);
        let may_begin = participant.open.is_none() && !participant.out_of_reach;
        let is_clearer = participant.kind == Kind::Clearer;
        let run = match participant.activity {
            _ if participant.suspended => continue,
            Activity::Acquiring(_)
            | Activity::Releasing(_)
            | Activity::Asking(_)
            | Activity::Clearing(_)
                if owes_bounds =>
            {
                every(state, who)
            }
            Activity::Idle if may_begin && (is_clearer || is_acquirer(participant.kind)) => {
                every(&begun(scenario, protocol, state, who), who)
            }
            _ => continue,
        };
        let violation = |broken| LivenessViolation { broken, who, manner: Manner::Leaves };
        if participant.activity != Activity::Idle {
            longest = longest.max(run.longest.ok_or(violation(Property::P5))?);
            continue;
        }
        // Only an empty file may be one that its creator is about to write to.
        let has_to_pause =
            state.named().is_some_and(|file| file.content == Content::Empty || file.pending);
        let gets_it = if is_clearer {
            run.all_leave_the_path_free
        } else {
            run.all_hold && (has_to_pause || !run.some_pause)
        };
        let is_blocked = is_blocked(scenario, state, who);
        match run.longest {
            Some(calls) if gets_it || is_blocked => longest = longest.max(calls),
            _ => longest = longest.max(checked_in(scenario, state).map_err(violation)?),
        }
    }
    Ok(longest)
}

/// The ways of waiting that a scenario allows.
fn manners(scenario: &Scenario) -> impl Iterator<Item = Manner> + use<> {
    scenario.listens.then_some(Manner::Listens).into_iter()
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

/// Whether it may still wait: it has not been refused, and none of its calls has failed.
fn may_wait(participant: &Participant) -> bool {
    match participant.activity {
        Activity::Idle => {
            let may_begin = participant.open.is_none() && !participant.out_of_reach;
            is_acquirer(participant.kind) && may_begin
        }
        Activity::Acquiring(state) => !matches!(
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

fn ends(run: Solo) -> Result<u32, Property> {
    match run.solo {
        SoloEnd::Held(calls) | SoloEnd::Ended(calls) => Ok(calls),
        SoloEnd::Endless => Err(Property::P5),
    }
}

fn gets_it(scenario: &Scenario, state: &State, who: Who, run: Solo) -> Result<u32, Property> {
    // Only an empty file may be one that its creator is about to write to.
    let has_to_pause =
        state.named().is_some_and(|file| file.content == Content::Empty || file.pending);
    match run.solo {
        SoloEnd::Held(_) if run.paused && !has_to_pause && !is_blocked(scenario, state, who) => {
            checked_in(scenario, state)
        }
        SoloEnd::Held(calls) => Ok(calls),
        SoloEnd::Ended(calls) if is_blocked(scenario, state, who) => Ok(calls),
        SoloEnd::Ended(_) | SoloEnd::Endless => checked_in(scenario, state),
    }
}

/// A clear that runs alone leaves nothing that an acquire would reclaim.
fn clears_it(scenario: &Scenario, state: &State, who: Who, run: Solo) -> Result<u32, Property> {
    match run.solo {
        SoloEnd::Ended(calls) if run.leaves_the_path_free || is_blocked(scenario, state, who) => {
            Ok(calls)
        }
        SoloEnd::Held(_) | SoloEnd::Ended(_) | SoloEnd::Endless => checked_in(scenario, state),
    }
}

/// A waiter gets the lock when the others end their calls.
fn is_served(
    scenario: &Scenario,
    protocol: &Protocol,
    state: &State,
    who: Who,
    manner: Manner,
) -> Result<(), Property> {
    let begun = begun(scenario, protocol, state, who);
    match fair_run(scenario, protocol, &begun, who, manner, |_, _, _| {}) {
        (SoloEnd::Held(_), _) => Ok(()),
        (SoloEnd::Ended(_), end) if is_blocked(scenario, &end, who) => Ok(()),
        (SoloEnd::Ended(_), end) => checked_in(scenario, &end).map(|_| ()),
        (SoloEnd::Endless, _) if scenario.properties.contains(&Property::P5) => Err(Property::P5),
        (SoloEnd::Endless, _) => Ok(()),
    }
}

/// The state in which a participant that was idle has begun.
pub fn begun(scenario: &Scenario, protocol: &Protocol, state: &State, who: Who) -> State {
    apply(scenario, protocol, state, Move::Begin(who)).map_or(*state, |outcome| outcome.state)
}

/// The property that breaks when a file blocks a participant without a living holder: recovery, if
/// its creator is dead.
fn checked_in(scenario: &Scenario, state: &State) -> Result<u32, Property> {
    let died = state.named().is_some_and(|file| !matches!(file.creator, Creator::Alive(_)));
    let broken = if died { Property::P3 } else { Property::P5 };
    if scenario.properties.contains(&broken) { Err(broken) } else { Ok(0) }
}
