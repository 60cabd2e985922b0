//! Solo runs, in which only one participant moves, and fair runs, in which the others end their
//! calls whenever they block it.

use portlock::protocol::{Acquire, Clear, Query, Release};

use crate::scenario::catalogue::Scenario;
use crate::scenario::machines::Answer;
use crate::scenario::moves::{Outcome, apply, asks_the_driver};
use crate::scenario::other::{Aside, Percy};
use crate::scenario::state::{Activity, Move, State, Who};
use crate::variants::Protocol;

/// How a call that ran alone ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SoloEnd {
    /// It holds after this many calls.
    Held(u32),
    /// It ended without the lock after this many calls.
    Ended(u32),
    /// It did not end.
    Endless,
}

/// What a participant that runs alone does when another blocks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It tries `TRIES` times, and is refused.
    Leaves,
    /// It listens, and does not give up.
    Listens,
}

/// More calls than any call that runs alone makes.
const ENDLESS: u32 = 200;

/// How often a call that runs alone tries.
const TRIES: u32 = 3;

/// Whether its next call asks for the age of the open file.
pub(crate) fn dates(activity: Activity) -> bool {
    matches!(
        activity,
        Activity::Acquiring(Acquire::CheckingAge(_))
            | Activity::Clearing(Clear::At(Acquire::CheckingAge(_)))
            | Activity::Asking(Query::CheckingAge(_))
    )
}

/// A run in which one participant moves at a time. Shows `watch` every move with the state before
/// it.
struct SoloRun<'a, W> {
    scenario: &'a Scenario,
    protocol: &'a Protocol,
    state: State,
    calls: u32,
    watch: W,
}

impl<W: FnMut(&State, Move, &Outcome)> SoloRun<'_, W> {
    /// Makes a move, if it is possible.
    fn make(&mut self, one: Move) -> bool {
        let Some(outcome) = apply(self.scenario, self.protocol, &self.state, one) else {
            return false;
        };
        self.calls += 1;
        (self.watch)(&self.state, one, &outcome);
        self.state = outcome.state;
        true
    }

    /// Runs a call until it holds, ends, or is blocked, while the grace passes at every pause.
    fn call(&mut self, who: Who, manner: Manner) -> SoloEnd {
        let began = self.calls;
        let (mut tries, mut waited) = (0, None);
        while self.calls - began < ENDLESS {
            let activity = self.state.participant(who).activity;
            let next = match activity {
                Activity::Holding => return SoloEnd::Held(self.calls),
                Activity::Acquiring(Acquire::Blocked(_)) if manner != Manner::Leaves => {
                    // The same state again: alone it repeats forever.
                    if waited.replace(self.state) == Some(self.state) {
                        return SoloEnd::Endless;
                    }
                    Move::Answer(who, Answer::Listen)
                }
                // Its timeout has expired.
                Activity::Acquiring(Acquire::Listening(_)) if manner == Manner::Leaves => {
                    Move::Call(who, 1)
                }
                Activity::Acquiring(Acquire::Blocked(_))
                | Activity::Clearing(Clear::At(Acquire::Blocked(_))) => {
                    Move::Answer(who, Answer::Leave)
                }
                Activity::Releasing(Release::ReleaseFailed(_)) => {
                    Move::Answer(who, Answer::Abandon)
                }
                activity if asks_the_driver(activity) => {
                    tries += 1;
                    match manner {
                        _ if tries < TRIES => Move::Answer(who, Answer::Again),
                        Manner::Leaves => Move::Answer(who, Answer::GiveUp),
                        // Another participant is active, and does not move in a solo run.
                        Manner::Listens => return SoloEnd::Ended(self.calls),
                    }
                }
                // At the first pause the grace has passed.
                activity if dates(activity) && tries > 0 && self.state.may_look_old(who) => {
                    Move::Call(who, 1)
                }
                _ => Move::Call(who, 0),
            };
            if !self.make(next) {
                return SoloEnd::Ended(self.calls);
            }
        }
        SoloEnd::Endless
    }

    /// Makes a participant give up or release. Returns whether it made a move.
    fn end(&mut self, who: Who) -> bool {
        let began = self.calls;
        loop {
            let next = match self.state.participant(who).activity {
                Activity::Idle | Activity::Absent => break,
                Activity::Acquiring(Acquire::Pausing(_)) => Move::Answer(who, Answer::GiveUp),
                Activity::Holding
                | Activity::Inherited { .. }
                | Activity::Percy(Percy::Holding)
                | Activity::Aside(Aside::Holding) => Move::Release(who),
                _ => match self.call(who, Manner::Leaves) {
                    SoloEnd::Held(_) => continue,
                    SoloEnd::Ended(_) | SoloEnd::Endless => break,
                },
            };
            self.make(next);
        }
        self.calls > began
    }
}

/// Runs one participant alone to the end of its call, while the grace passes at every pause.
/// Shows `watch` every move with the state before it.
pub fn solo(
    scenario: &Scenario,
    protocol: &Protocol,
    state: &State,
    who: Who,
    watch: impl FnMut(&State, Move, &Outcome),
) -> SoloEnd {
    SoloRun { scenario, protocol, state: *state, calls: 0, watch }.call(who, Manner::Leaves)
}

/// Runs one participant that waits in this manner, and lets all others end their calls whenever it
/// is blocked. Also returns the final state.
pub fn fair_run(
    scenario: &Scenario,
    protocol: &Protocol,
    state: &State,
    who: Who,
    manner: Manner,
    watch: impl FnMut(&State, Move, &Outcome),
) -> (SoloEnd, State) {
    let mut run = SoloRun { scenario, protocol, state: *state, calls: 0, watch };
    loop {
        let ended = run.call(who, manner);
        let blocked = matches!(ended, SoloEnd::Ended(_))
            && matches!(run.state.participant(who).activity, Activity::Acquiring(_));
        let mut others = run.state.everyone().filter(|&other| other != who);
        // One by one, because one may wait for another.
        if !blocked || !others.any(|other| run.end(other)) {
            return (ended, run.state);
        }
    }
}
