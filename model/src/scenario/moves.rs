//! The possible moves of a state, and their outcomes. Successor states come only from the shipped
//! machines, or from the wrong protocol that is checked.

use portlock::protocol::{Acquire, Clear, Query, Release, Released};

use crate::scenario::catalogue::Scenario;
use crate::scenario::machines::{Answer, Machine, Reply};
use crate::scenario::other::{Aside, Percy, Repairs};
use crate::scenario::state::{Activity, Content, Creator, Kind, Look, Move, State, Who};
use crate::scenario::view::{Removal, View};
use crate::variants::Protocol;

/// The result of a move.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    pub state: State,
    /// The call and its reply, for a [`Move::Call`].
    pub reply: Reply,
    pub removal: Option<Removal>,
    /// The participant that made the move.
    pub by: Option<Who>,
    /// The number of possible replies to the call.
    pub choices: u8,
    /// The machine's state after the call, before a call that has ended becomes idle.
    pub ended: Activity,
}

/// All possible moves, in a fixed order, with their outcomes.
pub fn successors(
    scenario: &Scenario,
    protocol: &Protocol,
    state: &State,
    into: &mut Vec<(Move, Outcome)>,
) {
    into.clear();
    for who in state.everyone() {
        successors_of(scenario, protocol, state, who, into);
    }
    let mut try_move = |one| {
        into.extend(apply(scenario, protocol, state, one).map(|outcome| (one, outcome)));
    };
    try_move(Move::Remove);
}

/// Adds the moves of one participant.
pub fn successors_of(
    scenario: &Scenario,
    protocol: &Protocol,
    state: &State,
    who: Who,
    into: &mut Vec<(Move, Outcome)>,
) {
    let mut try_move = |one: Move| {
        if let Some(outcome) = apply(scenario, protocol, state, one) {
            let choices = outcome.choices;
            into.push((one, outcome));
            return choices;
        }
        0
    };
    try_move(Move::Begin(who));
    if asks_the_driver(state.participant(who).activity) {
        for answer in Answer::ALL {
            try_move(Move::Answer(who, answer));
        }
    } else {
        let choices = match try_move(Move::Call(who, 0)) {
            0 => other_ends(scenario, state, who),
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
    for &look in scenario.looks {
        try_move(Move::Crash(who, look));
    }
}

/// The number of choices for a wait that blocks: an event (blocked), a timeout, a spurious event, a
/// failure.
fn other_ends(scenario: &Scenario, state: &State, who: Who) -> u8 {
    let faults = u8::from(state.faults_left > 0);
    match state.participant(who).activity {
        Activity::Acquiring(Acquire::Listening(_)) => 2 + u8::from(scenario.windows) + faults,
        _ => 0,
    }
}

/// Makes one move, if it is possible.
pub fn apply(
    scenario: &Scenario,
    protocol: &Protocol,
    state: &State,
    one: Move,
) -> Option<Outcome> {
    if !is_possible(state, one) {
        return None;
    }
    let mut outcome = Outcome {
        state: *state,
        reply: Reply::Other(""),
        removal: None,
        by: actor(one),
        choices: 1,
        ended: Activity::Absent,
    };
    let next = &mut outcome.state;
    match one {
        Move::Begin(who) => begin(protocol, next, who)?,
        Move::Call(who, choice) => return call(scenario, protocol, outcome, who, choice),
        Move::Answer(who, answer) => {
            let activity = answered(scenario, next.participant(who).activity, answer)?;
            next.removal_failed |= answer == Answer::Abandon;
            outcome.ended = activity;
            settle(protocol, next, who, activity);
        }
        // A command ends, and with it the process.
        Move::Release(who) if next.participant(who).kind == Kind::Command => {
            next.crash(who, Look::Gone);
            forgive(next);
        }
        Move::Release(who) => {
            let activity = match next.participant(who).activity {
                Activity::Holding => Activity::Releasing(protocol.release_start),
                Activity::Inherited { guard: true } => Activity::Releasing(protocol.forked_start),
                Activity::Inherited { guard: false } => {
                    Activity::Releasing(protocol.forked_attempt)
                }
                Activity::Percy(Percy::Holding) => Activity::Percy(Percy::Releasing),
                Activity::Aside(Aside::Holding) => Activity::Aside(Aside::Releasing),
                _ => return None,
            };
            next.participant_mut(who).activity = activity;
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
                next.notify_listeners(inode);
            }
            open_windows(next, None);
            next.sweep();
        }
    }
    outcome.state.witness(scenario.kernel_locks);
    Some(outcome)
}

/// A cheap necessary condition for a move. Most moves are impossible, and making one copies the
/// state.
fn is_possible(state: &State, one: Move) -> bool {
    if actor(one).is_some_and(|who| state.participant(who).suspended) {
        return false;
    }
    let at_rest =
        |who| matches!(state.participant(who).activity, Activity::Idle | Activity::Absent);
    match one {
        // A participant that left a file open makes no further call.
        Move::Begin(who) => {
            let participant = state.participant(who);
            participant.activity == Activity::Idle
                && participant.open.is_none()
                && !participant.out_of_reach
        }
        Move::Call(who, _) => {
            let activity = state.participant(who).activity;
            !at_rest(who) && activity != Activity::Holding && !asks_the_driver(activity)
        }
        Move::Answer(who, _) => asks_the_driver(state.participant(who).activity),
        Move::Release(who) => matches!(
            state.participant(who).activity,
            Activity::Holding
                | Activity::Inherited { .. }
                | Activity::Percy(Percy::Holding)
                | Activity::Aside(Aside::Holding)
        ),
        Move::Crash(who, _) => {
            // A crash is a move of the first thread, and only of a process that is active.
            let first = || state.everyone().find(|&one| state.same_process(one, who));
            let rests =
                || state.everyone().all(|one| !state.same_process(one, who) || at_rest(one));
            let there = state.participant(who).activity != Activity::Absent;
            state.crashes_left > 0 && there && first() == Some(who) && !rests()
        }
        Move::Suspend(who) => state.suspensions_left > 0 && !at_rest(who),
        Move::LoseReach(who) => {
            let holds = state.participant(who).activity == Activity::Holding;
            state.chroots_left > 0 && holds && state.participant(who).kind == Kind::Process
        }
        Move::Fork(who) => matches!(state.participant(who).kind, Kind::Parent | Kind::Runner),
        Move::Remove => state.removals_left > 0 && state.path.is_some(),
    }
}

/// The participant that makes a move. None makes a crash or a removal from outside.
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
pub fn asks_the_driver(activity: Activity) -> bool {
    match activity {
        Activity::Acquiring(state) | Activity::Clearing(Clear::At(state)) => {
            matches!(state, Acquire::Pausing(_) | Acquire::Blocked(_))
        }
        Activity::Releasing(state) => matches!(state, Release::ReleaseFailed(_)),
        Activity::Asking(state) => matches!(state, Query::Pausing(_)),
        Activity::Absent
        | Activity::Idle
        | Activity::Holding
        | Activity::Clearing(Clear::Ended(_))
        | Activity::Inherited { .. }
        | Activity::Percy(_)
        | Activity::Aside(_) => false,
    }
}

/// The next state after an answer of the driver, if the machine asks and the scenario allows it.
fn answered(scenario: &Scenario, activity: Activity, answer: Answer) -> Option<Activity> {
    let allowed = match answer {
        Answer::Listen => scenario.listens,
        Answer::Force => scenario.forces && matches!(activity, Activity::Clearing(_)),
        Answer::Again | Answer::GiveUp | Answer::Leave | Answer::Keep | Answer::Abandon => true,
    };
    if !allowed {
        return None;
    }
    match activity {
        Activity::Acquiring(state) => state.answered(answer).map(Activity::Acquiring),
        Activity::Releasing(state) => state.answered(answer).map(Activity::Releasing),
        Activity::Asking(state) => state.answered(answer).map(Activity::Asking),
        Activity::Clearing(state) => state.answered(answer).map(Activity::Clearing),
        Activity::Absent
        | Activity::Idle
        | Activity::Holding
        | Activity::Inherited { .. }
        | Activity::Percy(_)
        | Activity::Aside(_) => None,
    }
}

fn begin(protocol: &Protocol, next: &mut State, who: Who) -> Option<()> {
    let activity = match next.participant(who).kind {
        Kind::Process | Kind::Thread | Kind::Parent | Kind::Unlocked | Kind::Remote => {
            protocol.begin
        }
        Kind::OldAgent => Activity::Percy(Percy::START),
        Kind::Asker => Activity::Asking(Query::START),
        Kind::Clearer => Activity::Clearing(Clear::START),
        Kind::Runner if !protocol.runner_holds => Activity::Clearing(Clear::START),
        Kind::Command if !protocol.runner_holds => protocol.begin,
        Kind::Runner => protocol.begin,
        Kind::Child | Kind::Command => return None,
    };
    next.forget_call(who);
    next.participant_mut(who).activity = activity;
    Some(())
}

fn fork(protocol: &Protocol, next: &mut State, who: Who) -> Option<()> {
    let parent = *next.participant(who);
    let open = parent.open?;
    let child = match parent.kind {
        Kind::Runner if protocol.runner_holds && parent.activity == Activity::Holding => {
            (Kind::Command, Activity::Idle)
        }
        Kind::Runner => return None,
        _ => (Kind::Child, Activity::Absent),
    };
    let child = next
        .everyone()
        .find(|&one| (next.participant(one).kind, next.participant(one).activity) == child)?;
    let guard = matches!(parent.activity, Activity::Holding | Activity::Releasing(_));
    let participant = next.participant_mut(child);
    participant.activity = Activity::Inherited { guard };
    participant.open = Some(open);
    if let Some(opened) = &mut next.opened[usize::from(open)] {
        opened.shared_by |= 1 << child;
    }
    Some(())
}

/// Marks the participants that are about to unlink after the path was removed from outside, by
/// force without kernel locks, or by a participant whose kernel lock does not exclude them: they
/// act on a confirm that no system call can refresh. Returns whether there are any.
fn open_windows(next: &mut State, by: Option<Who>) -> bool {
    let mut any = false;
    for who in next.everyone() {
        let acts = matches!(
            next.participant(who).activity,
            Activity::Acquiring(Acquire::Unlinking(_) | Acquire::CleanupUnlinking(_))
                | Activity::Clearing(Clear::At(Acquire::Unlinking(_)))
                | Activity::Releasing(Release::Unlinking(_))
        );
        if acts && by.is_none_or(|by| !next.share_locks(by, who)) {
            next.participant_mut(who).in_window = true;
            any = true;
        }
    }
    any
}

fn call(
    scenario: &Scenario,
    protocol: &Protocol,
    mut outcome: Outcome,
    who: Who,
    choice: u8,
) -> Option<Outcome> {
    let participant = *outcome.state.participant(who);
    let mut view = View::new(&mut outcome.state, scenario, who, choice);
    view.rewrite_evidence = protocol.rewrite_evidence;
    view.confirms_itself = protocol.confirms_itself;
    let activity = match participant.activity {
        Activity::Acquiring(state) => Activity::Acquiring((protocol.acquire)(state, &mut view)),
        Activity::Releasing(state) => Activity::Releasing((protocol.release)(state, &mut view)),
        Activity::Asking(state) => Activity::Asking((protocol.query)(state, &mut view)),
        Activity::Clearing(state) => Activity::Clearing((protocol.clear)(state, &mut view)),
        Activity::Percy(Percy::Holding) | Activity::Aside(Aside::Holding) => return None,
        Activity::Percy(state) => {
            let old_format = participant.kind == Kind::OldAgent;
            let repairs =
                if old_format { Repairs { reread: false, guard: false } } else { protocol.repairs };
            state.step(&mut view, old_format, repairs).map_or(Activity::Idle, Activity::Percy)
        }
        Activity::Aside(state) => state.step(&mut view).map_or(Activity::Idle, Activity::Aside),
        Activity::Absent | Activity::Idle | Activity::Holding | Activity::Inherited { .. } => {
            return None;
        }
    };
    if view.blocked {
        return None;
    }
    (outcome.reply, outcome.removal, outcome.choices) = (view.reply, view.removal, view.choices);
    outcome.ended = activity;
    settle(protocol, &mut outcome.state, who, activity);
    if let Some(removal) = outcome.removal {
        outcome.state.participant_mut(who).in_window = false;
        if participant.kind == Kind::OldAgent {
            outcome.state.robbed |= removal.creator_lives | open_windows(&mut outcome.state, None);
        } else if participant.kind == Kind::Clearer && !scenario.kernel_locks {
            // Without kernel locks force excludes no other participant, like an old agent's unlink.
            outcome.state.robbed |= removal.creator_lives | open_windows(&mut outcome.state, None);
        } else if removal.in_window && !removal.is_ours {
            // This removal follows from one from outside, and opens further windows.
            open_windows(&mut outcome.state, None);
            outcome.state.robbed |= scenario.removals == 0;
        } else {
            // Two participants on different mounts may both reclaim one file.
            open_windows(&mut outcome.state, Some(who));
        }
    }
    outcome.state.witness(scenario.kernel_locks);
    Some(outcome)
}

/// When all participants are idle and the path names no file, all properties are checked again.
fn forgive(next: &mut State) {
    let at_rest = |one| matches!(next.participant(one).activity, Activity::Idle | Activity::Absent);
    if next.path.is_none() && next.everyone().all(at_rest) {
        next.robbed = false;
        next.removal_failed = false;
    }
}

/// Puts a participant into its next state; a call that has ended leaves it idle or holding.
fn settle(protocol: &Protocol, next: &mut State, who: Who, activity: Activity) {
    let settled = match activity {
        Activity::Acquiring(Acquire::Held(_)) => Activity::Holding,
        Activity::Acquiring(Acquire::Refused(_) | Acquire::Failed(_)) => Activity::Idle,
        Activity::Releasing(Release::Ended(Released::Kept(_))) => Activity::Holding,
        Activity::Releasing(Release::Ended(_)) if next.participant(who).kind == Kind::Child => {
            Activity::Absent
        }
        Activity::Releasing(Release::Ended(_)) => Activity::Idle,
        Activity::Asking(Query::Answered(_) | Query::Failed(_)) => Activity::Idle,
        Activity::Clearing(Clear::Ended(_)) => Activity::Idle,
        other => other,
    };
    next.participant_mut(who).activity = settled;
    if matches!(settled, Activity::Idle | Activity::Holding | Activity::Absent) {
        next.forget_call(who);
    }
    if settled == Activity::Idle {
        forgive(next);
        // A wrong protocol may end with a file open, which is closed here. The shipped one closes
        // it.
        if !protocol.leaks {
            debug_assert!(next.participant(who).open.is_none(), "{who} ends with a file open");
            next.close(who);
        }
    }
}

/// Whether another participant may rightly block `who`.
pub fn is_blocked(scenario: &Scenario, state: &State, who: Who) -> bool {
    let Some(file) = state.named() else { return false };
    // A participant at rest does not count, even if it left a file open.
    let is_active = |other| {
        let rests = matches!(state.participant(other).activity, Activity::Idle | Activity::Absent);
        other != who && !rests
    };
    let held_by_others = file.lock.is_some_and(|open| {
        state.opened[usize::from(open)].is_some_and(|opened| {
            state.everyone().any(|other| opened.shared_by & (1 << other) != 0 && is_active(other))
        })
    });
    // A reclaimed new file keeps its name for as long as its slow creator has it open.
    let kept_open =
        scenario.delete_pending
            && state.opened.iter().flatten().any(|opened| {
                Some(opened.file) == state.path && opened.shared_by & !(1 << who) != 0
            });
    let old_agent = matches!(file.content, Content::OldOf(_) | Content::OldAlive)
        || matches!(file.creator, Creator::Alive(other)
            if state.participant(other).kind == Kind::OldAgent
                && state.participant(other).activity == Activity::Percy(Percy::Writing));
    let unseen = |author| author != who && !state.share_locks(author, who);
    let cannot_be_proved = match file.content {
        Content::Foreign => true,
        Content::Of(author) => unseen(author),
        Content::Dead(Look::OnOtherMachine) => state.participant(who).kind != Kind::Remote,
        Content::Dead(Look::Unlocked) => true,
        Content::Dead(_) => state.participant(who).kind == Kind::Remote,
        Content::Empty | Content::Unreadable => {
            matches!(file.creator, Creator::Alive(creator) if unseen(creator))
        }
        Content::OldOf(_) | Content::OldAlive | Content::OldDead(_) => false,
    };
    let never_reclaims = !scenario.kernel_locks || state.participant(who).kind == Kind::Unlocked;
    held_by_others || kept_open || old_agent || cannot_be_proved || never_reclaims
}
