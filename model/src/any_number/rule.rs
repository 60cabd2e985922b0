//! Rules of interference: what another's step does to what I see. None is written down: each is
//! read off a step, as the difference between the view before and the view after.

use std::fmt;

use super::local_view::{LocalView, OpenIs};
use crate::scenario::machines::{Op, Reply};
use crate::scenario::state::{Activity, Content, Move, State, Who};

/// How a step that changed a view came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Label {
    /// It was my own.
    Own,
    By(Rule),
}

/// What happens, and what that does to a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    pub act: Act,
    pub changes: Changes,
}

/// What another does, or what happens of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Act {
    Call(Op),
    Fork,
    Crash,
    /// Somebody outside the protocol removes the path.
    Remove,
    /// Begins, decides, stops: nothing that others can see.
    Unseen,
}

/// Whose move it is: who acts, or who dies.
fn whose(one: Move) -> Option<Who> {
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
    /// Of a move in `state` that took what `who` sees from `before` to `after`.
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
        let own = whose(one).is_some_and(|actor| match act {
            // With a process all its threads die.
            Act::Crash => state.same_process(actor, who),
            Act::Call(_) | Act::Fork | Act::Remove | Act::Unseen => actor == who,
        });
        if own { Self::Own } else { Self::By(Rule { act, changes: Changes::of(before, after) }) }
    }
}

/// What can change in a view by another's step.
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
    (Change::Vanishes, "the path names nothing any more"),
    (Change::Recorded, "the named file gets its record"),
    (Change::Garbled, "the named file gets a part of a record"),
    (Change::Emptied, "the named file is emptied"),
    (Change::Dies, "the named file's record is a dead one's"),
    (Change::Locked, "the named file is locked"),
    (Change::Unlocked, "the named file is unlocked"),
    (Change::Pends, "the named file is being deleted"),
    (Change::SeenDies, "the author of what I read is dead"),
    (Change::Orphaned, "my open file has no name any more"),
    (Change::ParentCloses, "my parent has closed our open file"),
    (Change::WindowOpens, "what I confirmed is out of date"),
    (Change::Forked, "I come to be, a child"),
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
        let comes = before.activity == Activity::Absent && after.activity != Activity::Absent;
        note(Change::SeenDies, before.seen != after.seen && is_dead(after.seen));
        note(Change::Orphaned, before.open == OpenIs::Named && after.open == OpenIs::Orphan);
        note(Change::ParentCloses, before.with_parent && !after.with_parent);
        note(Change::WindowOpens, !before.in_window && after.in_window);
        note(Change::Forked, comes);
        note(Change::Other, before.activity != after.activity && !comes);
        Self(bits)
    }
}

fn is_dead(content: Content) -> bool {
    matches!(content, Content::Dead(_) | Content::OldDead(_))
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.act {
            Act::Call(op) => write!(f, "another's {}", format!("{op:?}").to_lowercase())?,
            Act::Fork => f.write_str("a fork")?,
            Act::Crash => f.write_str("a death")?,
            Act::Remove => f.write_str("a removal from outside")?,
            Act::Unseen => f.write_str("another's own business")?,
        }
        let happens = |change: Change| self.changes.0 & (1 << change as u32) != 0;
        let words = CHANGES.iter().filter(|(change, _)| happens(*change)).map(|&(_, words)| words);
        write!(f, ": {}", words.collect::<Vec<_>>().join(", "))
    }
}
