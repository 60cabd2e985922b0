//! Rules of interference: how a step of another participant changes my view. Each is derived from a
//! step, as the difference between the views before and after it.

use std::fmt;

use super::local_view::{LocalView, OpenIs};
use crate::scenario::machines::{Op, Reply};
use crate::scenario::state::{Activity, Content, Move, State, Who};

/// The cause of a step from view to view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Label {
    Own,
    By(Rule),
}

/// What happens, and how that changes a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    pub act: Act,
    pub changes: Changes,
}

/// What another participant does, or an event that no participant makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Act {
    Call(Op),
    Fork,
    Crash,
    /// The path is removed from outside.
    Remove,
    /// A begin, an answer or a stop, which others cannot see.
    Unseen,
}

/// The participant that acts or dies.
fn actor(one: Move) -> Option<Who> {
    match one {
        Move::Begin(who)
        | Move::Call(who, _)
        | Move::Answer(who, _)
        | Move::Release(who)
        | Move::Crash(who, _)
        | Move::Suspend(who)
        | Move::LoseReach(who)
        | Move::Fork(who) => Some(who),
        Move::Remove => None,
    }
}

impl Label {
    /// The label of a move in `state` that changed the view of `who` from `before` to `after`.
    pub fn of(
        state: &State,
        who: Who,
        (one, reply): (Move, Reply),
        (before, after): (&LocalView, &LocalView),
    ) -> Self {
        let act = match one {
            Move::Call(..) => Act::Call(reply.op()),
            Move::Fork(_) => Act::Fork,
            Move::Crash(..) => Act::Crash,
            Move::Remove => Act::Remove,
            Move::Begin(_)
            | Move::Answer(..)
            | Move::Release(_)
            | Move::Suspend(_)
            | Move::LoseReach(_) => Act::Unseen,
        };
        let own = actor(one).is_some_and(|actor| match act {
            // A death ends all threads of a process.
            Act::Crash => state.same_process(actor, who),
            Act::Call(_) | Act::Fork | Act::Remove | Act::Unseen => actor == who,
        });
        if own { Self::Own } else { Self::By(Rule { act, changes: Changes::of(before, after) }) }
    }
}

/// What a step of another participant can change in a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Appears,
    Vanishes,
    Recorded,
    Garbled,
    Emptied,
    Dies,
    Locked,
    Unlocked,
    Pends,
    SeenDies,
    Orphaned,
    ParentCloses,
    WindowOpens,
    Forked,
    Other,
}

const CHANGES: [(Change, &str); 15] = [
    (Change::Appears, "a file appears at the path"),
    (Change::Vanishes, "the path names no file"),
    (Change::Recorded, "the named file gets its record"),
    (Change::Garbled, "the named file gets a part of a record"),
    (Change::Emptied, "the named file is emptied"),
    (Change::Dies, "the author of the named file's record is dead"),
    (Change::Locked, "the named file is locked"),
    (Change::Unlocked, "the named file is unlocked"),
    (Change::Pends, "the named file is being deleted"),
    (Change::SeenDies, "the author of what I read is dead"),
    (Change::Orphaned, "my open file has lost its name"),
    (Change::ParentCloses, "my parent has closed our open file"),
    (Change::WindowOpens, "what I confirmed is out of date"),
    (Change::Forked, "I am forked"),
    (Change::Other, "something else changes"),
];

/// A set of changes, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Changes(u32);

impl Changes {
    fn of(before: &LocalView, after: &LocalView) -> Self {
        let mut bits = 0;
        let mut note = |change, happens| bits |= u32::from(happens) << change as u32;
        note(Change::Appears, before.named.is_none() && after.named.is_some());
        note(Change::Vanishes, before.named.is_some() && after.named.is_none());
        if let (Some(was), Some(is)) = (before.named, after.named) {
            let changed = was.content != is.content;
            let dies = changed && is_dead(is.content);
            note(Change::Dies, dies);
            note(Change::Recorded, changed && is.content.is_record() && !dies);
            note(Change::Garbled, changed && is.content == Content::Unreadable);
            note(Change::Emptied, changed && is.content == Content::Empty);
            note(Change::Locked, was.lock != is.lock && is.lock.is_some());
            note(Change::Unlocked, was.lock.is_some() && is.lock.is_none());
            note(Change::Pends, !was.pending && is.pending);
        }
        let forked = before.activity == Activity::Absent && after.activity != Activity::Absent;
        note(Change::SeenDies, before.seen != after.seen && is_dead(after.seen));
        note(Change::Orphaned, before.open == OpenIs::Named && after.open == OpenIs::Orphan);
        note(Change::ParentCloses, before.with_parent && !after.with_parent);
        note(Change::WindowOpens, !before.in_window && after.in_window);
        note(Change::Forked, forked);
        note(Change::Other, before.activity != after.activity && !forked);
        Self(bits)
    }
}

fn is_dead(content: Content) -> bool {
    matches!(content, Content::Dead(_) | Content::OldDead(_))
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.act {
            Act::Call(op) => write!(f, "{} by another", format!("{op:?}").to_lowercase())?,
            Act::Fork => f.write_str("a fork")?,
            Act::Crash => f.write_str("a death")?,
            Act::Remove => f.write_str("a removal from outside")?,
            Act::Unseen => f.write_str("an invisible step of another")?,
        }
        let happens = |change: Change| self.changes.0 & (1 << change as u32) != 0;
        let words = CHANGES.iter().filter(|(change, _)| happens(*change)).map(|&(_, words)| words);
        write!(f, ": {}", words.collect::<Vec<_>>().join(", "))
    }
}
