//! What one participant sees of a state: the abstraction.

use std::fmt;

use crate::render::table::name;
use crate::scenario::machines::Machine;
use crate::scenario::state::{Activity, Content, Creator, Kind, State, Who};
use crate::search::reduce::Reduction;

/// The participant whose view it is.
pub const ME: Who = 0;
/// The participant that makes the step, in a state of two.
pub const ACTOR: Who = 1;
/// Any other thread of the process that has threads. It owns things and never moves.
pub const SIBLING: Who = 2;
/// Any participant of another process. It owns things and never moves.
pub const STRANGER: Who = 3;

/// One participant, followed exactly, and the shared part of the state as that participant sees it.
///
/// Every other participant is a [`SIBLING`] or a [`STRANGER`], without identity and number. Of an
/// open file that the path does not name, only its existence is kept. Budgets are dropped: any
/// process may die, and any call fail, at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalView {
    pub kind: Kind,
    pub activity: Activity,
    pub open: OpenIs,
    /// I am a forked child, and my parent has not closed the open file that we share.
    pub with_parent: bool,
    /// What I read last.
    pub seen: Content,
    /// The path was removed from outside between my confirm and my unlink.
    pub in_window: bool,
    /// I can no longer reach the path.
    pub out_of_reach: bool,
    /// The file that the path names.
    pub named: Option<Named>,
}

/// Which file I have open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpenIs {
    Nothing,
    /// The one that the path names.
    Named,
    /// One that the path does not name, and never will again.
    Orphan,
}

/// The file that the path names. Authors and owners are [`ME`], [`SIBLING`] or [`STRANGER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Named {
    pub content: Content,
    /// The owner of the kernel lock. The lock of an open file that I share is mine.
    pub lock: Option<Who>,
    pub created_by_me: bool,
    /// Removed, and its name still taken (Windows).
    pub pending: bool,
}

impl LocalView {
    /// What `who` sees of `state`.
    pub fn of(state: &State, who: Who) -> Self {
        let participant = state.participant(who);
        let open = match state.open_inode(who) {
            None => OpenIs::Nothing,
            inode if inode == state.path => OpenIs::Named,
            Some(_) => OpenIs::Orphan,
        };
        let named = state.named().map(|file| Named {
            content: content_as_seen(state, who, file.content),
            lock: file.lock.and_then(|open| {
                let shared_by = state.opened[usize::from(open)]?.shared_by;
                let mine = shared_by & (1 << who) != 0;
                Some(if mine { ME } else { as_seen(state, who, shared_by.trailing_zeros() as Who) })
            }),
            created_by_me: file.creator == Creator::Alive(who),
            pending: file.pending,
        });
        let is_my_parent = |other| {
            other != who
                && state.participant(other).kind == Kind::Parent
                && shares(state, who, other)
        };
        Self {
            kind: participant.kind,
            activity: participant.activity,
            open,
            with_parent: state.everyone().any(is_my_parent),
            seen: content_as_seen(state, who, participant.seen),
            in_window: participant.in_window,
            out_of_reach: participant.out_of_reach,
            named,
        }
    }

    /// Same as [`of`](Self::of), without what I have read where no probe will use it.
    pub fn reduced(state: &State, who: Who, reduction: &Reduction) -> Self {
        let view = Self::of(state, who);
        let seen = if reduction.will_probe(view.activity) { view.seen } else { Content::Empty };
        Self { seen, ..view }
    }

    /// Whether I am within a call, hold, or have a file open.
    pub fn is_active(&self) -> bool {
        self.open != OpenIs::Nothing || !matches!(self.activity, Activity::Idle | Activity::Absent)
    }
}

/// Whether two participants share one open file.
fn shares(state: &State, who: Who, other: Who) -> bool {
    let open = state.participant(who).open.and_then(|open| state.opened[usize::from(open)]);
    open.is_some_and(|opened| opened.shared_by & (1 << other) != 0)
}

/// `other` as `who` sees it.
pub fn as_seen(state: &State, who: Who, other: Who) -> Who {
    if other == who {
        ME
    } else if state.same_process(who, other) {
        SIBLING
    } else {
        STRANGER
    }
}

/// `content` as `who` sees it.
pub fn content_as_seen(state: &State, who: Who, content: Content) -> Content {
    content.with_author(|author| as_seen(state, who, author))
}

impl fmt::Display for LocalView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", name(&self.kind).to_lowercase(), state_in_words(self.activity))?;
        f.write_str(match self.open {
            OpenIs::Nothing => "",
            OpenIs::Named => ", the named file open",
            OpenIs::Orphan => ", another file open",
        })?;
        if self.with_parent {
            f.write_str(" with the parent")?;
        }
        if self.seen.is_record() {
            write!(f, ", has read {}", content_in_words(self.seen))?;
        }
        if self.in_window {
            f.write_str(", confirmed before the removal")?;
        }
        if self.out_of_reach {
            f.write_str(", out of reach of the path")?;
        }
        let Some(named) = self.named else { return f.write_str(" | the path names nothing") };
        write!(f, " | the path names {}", content_in_words(named.content))?;
        f.write_str(if named.created_by_me { ", created by me" } else { "" })?;
        f.write_str(match named.lock {
            None => ", unlocked",
            Some(ME) => ", locked by me",
            Some(SIBLING) => ", locked by my process",
            Some(_) => ", locked by another process",
        })?;
        f.write_str(if named.pending { ", being deleted" } else { "" })
    }
}

/// `acquire Creating`, `release Unlinking`, `Holding`.
pub fn state_in_words(activity: Activity) -> String {
    match activity {
        Activity::Acquiring(state) => format!("acquire {}", state.label()),
        Activity::Releasing(state) => format!("release {}", state.label()),
        Activity::Asking(state) => format!("query {}", state.label()),
        Activity::Clearing(state) => format!("clear {}", state.label()),
        Activity::Inherited { guard: true } => "Inherited with a guard".to_owned(),
        Activity::Inherited { guard: false } => "Inherited".to_owned(),
        Activity::Absent
        | Activity::Idle
        | Activity::Holding
        | Activity::Percy(_)
        | Activity::Aside(_) => name(&activity),
    }
}

fn content_in_words(content: Content) -> String {
    let whose = |author| match author {
        ME => "mine",
        SIBLING => "my process's",
        _ => "another process's",
    };
    match content {
        Content::Empty => "an empty file".to_owned(),
        Content::Unreadable => "a part of a record".to_owned(),
        Content::Foreign => "another program's data".to_owned(),
        Content::Of(author) => format!("a record, {}", whose(author)),
        Content::OldOf(author) => format!("an old record, {}", whose(author)),
        Content::OldAlive => "a live process's old record".to_owned(),
        Content::Dead(look) => format!("a dead process's record ({})", name(&look)),
        Content::OldDead(look) => format!("a dead process's old record ({})", name(&look)),
    }
}
