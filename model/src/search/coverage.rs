//! What a search exercised, so that no check passes because it had nothing to check.

use std::collections::BTreeSet;

use rustc_hash::FxHashSet;

use portlock::protocol::{
    Acquire, Clear, Cleared, Closing, OpenReply, Query, Refusal, Release, Released, Then,
};

use crate::properties::{names, takes_a_used_lock};
use crate::scenario::machines::{Answer, Reply};
use crate::scenario::moves::Outcome;
use crate::scenario::state::{Activity, Content, Kind, Move, State, Who};

#[derive(Debug, Clone, Default)]
pub struct Coverage {
    /// The steps of the machines: a state, the call and its reply, the next state.
    pub steps: FxHashSet<(Activity, Reply, Activity)>,
    /// States in which a process died.
    pub crashed_in: FxHashSet<Activity>,
    pub sometimes: BTreeSet<&'static str>,
}

impl Coverage {
    /// Adds the coverage of another search.
    pub fn add(&mut self, other: &Self) {
        self.steps.extend(&other.steps);
        self.crashed_in.extend(&other.crashed_in);
        self.sometimes.extend(&other.sometimes);
    }

    pub(super) fn note(&mut self, before: &State, one: Move, outcome: &Outcome) {
        let Outcome { state: after, reply, ended, .. } = *outcome;
        let after = &after;
        match one {
            Move::Call(who, _) => {
                let was = before.participant(who).activity;
                if names(after.participant(who).activity) && !names(was) {
                    let named = after.named().map(|file| file.content);
                    let confirms = |one: Who| {
                        let activity = after.participant(one).activity;
                        named == Some(Content::Of(one))
                            && matches!(
                                activity,
                                Activity::Acquiring(Acquire::ConfirmingCreated(_))
                            )
                    };
                    if after.everyone().any(confirms) {
                        self.sometimes.insert("a refusal names a creator that has not confirmed");
                    }
                }
                match takes_a_used_lock(before, one, after) {
                    Some(Kind::Command) => {
                        self.sometimes.insert("an old agent takes the lock of a live command");
                    }
                    Some(_) => {
                        self.sometimes.insert("an old agent takes the lock that a child uses");
                    }
                    None => {}
                }
                if reply == Reply::Open(OpenReply::Denied) && before.path.is_none() {
                    self.sometimes.insert("an open of a free path is denied");
                }
                if !matches!(was, Activity::Percy(_) | Activity::Aside(_)) {
                    self.steps.insert((was, reply, ended));
                    self.note_end(was, ended);
                }
            }
            Move::Answer(who, answer) => {
                let was = before.participant(who).activity;
                self.steps.insert((was, reply, ended));
                self.note_end(was, ended);
                match answer {
                    Answer::Again => self.sometimes.insert("a participant retries"),
                    Answer::Listen => self.sometimes.insert("a participant listens"),
                    Answer::Force => self.sometimes.insert("a file is removed by force"),
                    Answer::Keep => self.sometimes.insert("a lock that cannot be released is kept"),
                    Answer::GiveUp | Answer::Leave | Answer::Abandon => false,
                };
            }
            Move::Crash(who, _) => {
                self.crashed_in.insert(before.participant(who).activity);
                self.sometimes.insert("a process dies");
            }
            Move::Remove => {
                self.sometimes.insert("the path is removed from outside");
            }
            Move::Suspend(_) => {
                self.sometimes.insert("a participant stops forever");
            }
            Move::Fork(_) => {
                self.sometimes.insert("a child is forked");
            }
            Move::LoseReach(_) => {
                self.sometimes.insert("a holder can no longer reach the path");
            }
            Move::Begin(_) | Move::Release(_) => {}
        }
    }

    fn note_end(&mut self, was: Activity, ended: Activity) {
        const CREATE: Acquire = Acquire::Closing(Closing { then: Then::Create });
        let what = match (was, ended) {
            (Activity::Acquiring(Acquire::Unlinking(_)), Activity::Acquiring(CREATE)) => {
                "a dead holder's file is reclaimed"
            }
            (Activity::Acquiring(Acquire::Rechecking(_)), Activity::Acquiring(CREATE)) => {
                "a listener notices a release"
            }
            (
                Activity::Acquiring(Acquire::Retrying(_)),
                Activity::Acquiring(Acquire::Revalidating(_)),
            ) => "a listener gets a dead holder's lock",
            (_, Activity::Acquiring(Acquire::Held(_))) => "a participant holds",
            (_, Activity::Acquiring(Acquire::Refused(Refusal::Holder))) => {
                "a refusal names the holder"
            }
            (_, Activity::Acquiring(Acquire::Refused(_))) => "a refusal reports an unknown holder",
            (_, Activity::Acquiring(Acquire::Failed(_))) => "an acquire fails",
            (_, Activity::Releasing(Release::Ended(Released::Removed))) => "a holder releases",
            (_, Activity::Releasing(Release::Ended(Released::Lost))) => {
                "a release finds its lock lost"
            }
            (_, Activity::Asking(Query::Answered(_))) => "a query is answered",
            (_, Activity::Clearing(Clear::Ended(Cleared::Removed))) => "a clear removes a file",
            (_, Activity::Clearing(Clear::Ended(Cleared::Refused(_)))) => "a clear is refused",
            _ => return,
        };
        self.sometimes.insert(what);
    }
}
