//! What one participant sees of a world: the abstraction.

use std::fmt;

use crate::render::table::name;
use crate::scenario::machines::Machine;
use crate::scenario::world::{Content, Creator, Doing, Kind, Who, World};
use crate::search::reduce::Reduction;

/// The one whose view it is.
pub const ME: Who = 0;
/// The one whose step is looked at, in a world of two.
pub const ACTOR: Who = 1;
/// Any other thread of the process that has threads. It owns things and never moves.
pub const SIBLING: Who = 2;
/// Any participant of another process. It owns things and never moves.
pub const STRANGER: Who = 3;

/// One participant, followed exactly, and the shared part of the world as it concerns that one.
///
/// Whoever else there is, is a [`SIBLING`] or a [`STRANGER`]: which one and how many there are is
/// forgotten. So is all about an open file that the path does not name, but that it is open; and
/// how often something may still happen: anybody may die, and any call fail, at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalView {
    pub kind: Kind,
    pub doing: Doing,
    pub open: OpenIs,
    /// I am a forked child, and my parent has not closed the open file that we share.
    pub with_parent: bool,
    /// What I read last.
    pub seen: Content,
    /// The path was removed from outside between my confirm and my unlink.
    pub in_window: bool,
    /// I cannot reach the path any more.
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
    /// Who has the kernel lock. An open file that I share makes its lock mine.
    pub lock: Option<Who>,
    pub created_by_me: bool,
    /// Removed, and its name still taken (Windows).
    pub pending: bool,
}

impl LocalView {
    /// What `who` sees of `world`.
    pub fn of(world: &World, who: Who) -> Self {
        let participant = world.participant(who);
        let open = match world.open_inode(who) {
            None => OpenIs::Nothing,
            inode if inode == world.path => OpenIs::Named,
            Some(_) => OpenIs::Orphan,
        };
        let named = world.named().map(|file| Named {
            content: content_as_seen(world, who, file.content),
            lock: file.lock.and_then(|open| {
                let shared_by = world.opened[usize::from(open)]?.shared_by;
                let mine = shared_by & (1 << who) != 0;
                Some(if mine { ME } else { as_seen(world, who, shared_by.trailing_zeros() as Who) })
            }),
            created_by_me: file.creator == Creator::Alive(who),
            pending: file.pending,
        });
        let is_my_parent = |other| {
            other != who
                && world.participant(other).kind == Kind::Parent
                && shares(world, who, other)
        };
        Self {
            kind: participant.kind,
            doing: participant.doing,
            open,
            with_parent: world.everyone().any(is_my_parent),
            seen: content_as_seen(world, who, participant.seen),
            in_window: participant.in_window,
            out_of_reach: participant.out_of_reach,
            named,
        }
    }

    /// The same without what I have read, where I will not ask about it again.
    pub fn reduced(world: &World, who: Who, reduction: &Reduction) -> Self {
        let view = Self::of(world, who);
        let seen = if reduction.will_probe(view.doing) { view.seen } else { Content::Empty };
        Self { seen, ..view }
    }

    /// Whether I have anything to do, or to lose.
    pub fn at_work(&self) -> bool {
        self.open != OpenIs::Nothing || !matches!(self.doing, Doing::Idle | Doing::Absent)
    }
}

/// Whether two have one open file.
fn shares(world: &World, who: Who, other: Who) -> bool {
    let open = world.participant(who).open.and_then(|open| world.opened[usize::from(open)]);
    open.is_some_and(|opened| opened.shared_by & (1 << other) != 0)
}

/// Who `other` is, to `who`.
pub fn as_seen(world: &World, who: Who, other: Who) -> Who {
    if other == who {
        ME
    } else if world.same_process(who, other) {
        SIBLING
    } else {
        STRANGER
    }
}

/// What `content` is, to `who`.
pub fn content_as_seen(world: &World, who: Who, content: Content) -> Content {
    match content {
        Content::Of(author) => Content::Of(as_seen(world, who, author)),
        Content::OldOf(author) => Content::OldOf(as_seen(world, who, author)),
        Content::Empty
        | Content::Unreadable
        | Content::Foreign
        | Content::OldAlive
        | Content::Dead(_)
        | Content::OldDead(_) => content,
    }
}

impl fmt::Display for LocalView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", name(&self.kind).to_lowercase(), state_in_words(self.doing))?;
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
            Some(_) => ", locked by another",
        })?;
        f.write_str(if named.pending { ", being deleted" } else { "" })
    }
}

/// `acquire Creating`, `release Unlinking`, `Holding`.
pub fn state_in_words(doing: Doing) -> String {
    match doing {
        Doing::Acquiring(state) => format!("acquire {}", state.label()),
        Doing::Releasing(state) => format!("release {}", state.label()),
        Doing::Asking(state) => format!("query {}", state.label()),
        Doing::Clearing(state) => format!("clear {}", state.label()),
        Doing::Inherited { guard: true } => "Inherited with a guard".to_owned(),
        Doing::Inherited { guard: false } => "Inherited".to_owned(),
        Doing::Absent | Doing::Idle | Doing::Holding | Doing::Percy(_) | Doing::Aside(_) => {
            name(&doing)
        }
    }
}

fn content_in_words(content: Content) -> String {
    let whose = |author| match author {
        ME => "mine",
        SIBLING => "my process's",
        _ => "another's",
    };
    match content {
        Content::Empty => "an empty file".to_owned(),
        Content::Unreadable => "a part of a record".to_owned(),
        Content::Foreign => "another program's data".to_owned(),
        Content::Of(author) => format!("a record, {}", whose(author)),
        Content::OldOf(author) => format!("an old record, {}", whose(author)),
        Content::OldAlive => "the old record of one that lives".to_owned(),
        Content::Dead(look) => format!("a dead one's record ({})", name(&look)),
        Content::OldDead(look) => format!("a dead one's old record ({})", name(&look)),
    }
}
