//! Protocols with other calls than ours: the old agent's, repairs of it in other software, and the
//! rename aside.
//!
//! They have machines of their own, over the same state. The old agent is also a participant in the
//! scenarios with old agents.

use crate::scenario::machines::Reply;
use crate::scenario::state::{Content, Creator, State};
use crate::scenario::view::View;

/// Percy's protocol: exclusive create, write, close; read, probe, unlink by name, create again;
/// release by name. `reread` and `guard` are two repairs that other software ships.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Percy {
    Creating {
        again: bool,
    },
    Writing,
    /// Repair: reads the file again, and gives up if the record is not its own.
    Rereading,
    Guarding,
    Reading,
    Unlinking,
    Holding,
    Releasing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repairs {
    /// Unlink, create, read again and give up.
    pub reread: bool,
    /// A second lock, taken by reclaimers only, from the read to the second create.
    pub guard: bool,
}

impl Percy {
    pub const START: Self = Self::Creating { again: false };

    pub fn believes(self) -> bool {
        matches!(self, Self::Holding | Self::Releasing)
    }

    /// One call. `None` is the end: refused, or released.
    pub fn step(self, view: &mut View<'_>, old_format: bool, repairs: Repairs) -> Option<Self> {
        let me = view.me;
        match self {
            Self::Creating { again } => {
                if view.state.path.is_some() {
                    view.reply = Reply::Other("wx: exists");
                    if again {
                        view.state.release_guard(me);
                        return None;
                    }
                    return Some(if repairs.guard { Self::Guarding } else { Self::Reading });
                }
                view.state.release_guard(me);
                view.create_by_wx();
                Some(Self::Writing)
            }
            Self::Writing if old_format && view.is_cut_short() => {
                // The disk is full: its acquire throws, and leaves what was written.
                view.write_and_close(Content::Unreadable);
                None
            }
            Self::Writing => {
                view.write_and_close(if old_format { Content::OldOf(me) } else { Content::Of(me) });
                Some(if repairs.reread { Self::Rereading } else { Self::Holding })
            }
            Self::Rereading => {
                view.reply = Reply::Other("read again");
                let mine = view.state.named().is_some_and(
                    |file| matches!(file.content, Content::Of(who) | Content::OldOf(who) if who == me),
                );
                mine.then_some(Self::Holding)
            }
            Self::Guarding => {
                view.reply = Reply::Other("guard");
                // Without the guard it is refused, because another reclaimer is active.
                view.state.take_guard(me).then_some(Self::Reading)
            }
            Self::Reading => {
                view.reply = Reply::Other("read, kill(pid, 0)");
                let alive = match view.state.named().map(|file| file.content) {
                    // Absent, empty and unreadable are all taken for stale.
                    None | Some(Content::Empty | Content::Unreadable | Content::Foreign) => false,
                    Some(Content::Of(who) | Content::OldOf(who)) => who != me,
                    Some(Content::OldAlive) => true,
                    Some(Content::Dead(_) | Content::OldDead(_)) => false,
                };
                if alive {
                    view.state.release_guard(me);
                    return None;
                }
                Some(Self::Unlinking)
            }
            Self::Unlinking => {
                view.reply = Reply::Other("unlink");
                view.remove_path();
                Some(Self::Creating { again: true })
            }
            Self::Holding => Some(Self::Releasing),
            Self::Releasing => {
                view.reply = Reply::Other("unlink by name");
                view.remove_path();
                None
            }
        }
    }
}

/// Renames a stale file aside, checks that it is the one that was judged, and puts it back if not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aside {
    Creating,
    Writing,
    Reading,
    Renaming,
    Checking,
    PuttingBack,
    Removing,
    Holding,
    Releasing,
}

impl Aside {
    pub const START: Self = Self::Creating;

    pub fn believes(self) -> bool {
        matches!(self, Self::Holding | Self::Releasing)
    }

    /// One call. `None` is the end: refused, or released.
    pub fn step(self, view: &mut View<'_>) -> Option<Self> {
        let me = view.me;
        match self {
            Self::Creating => {
                if view.state.path.is_some() {
                    view.reply = Reply::Other("wx: exists");
                    return Some(Self::Reading);
                }
                view.create_by_wx();
                Some(Self::Writing)
            }
            Self::Writing => {
                view.write_and_close(Content::Of(me));
                Some(Self::Holding)
            }
            Self::Reading => {
                view.reply = Reply::Other("read, kill(pid, 0)");
                match view.state.named().map(|file| file.content) {
                    None => Some(Self::Creating),
                    Some(Content::Dead(_) | Content::OldDead(_)) => Some(Self::Renaming),
                    Some(
                        Content::Empty
                        | Content::Unreadable
                        | Content::Foreign
                        | Content::Of(_)
                        | Content::OldOf(_)
                        | Content::OldAlive,
                    ) => None,
                }
            }
            Self::Renaming => {
                view.reply = Reply::Other("rename aside");
                let Some(inode) = view.state.path.take() else { return Some(Self::Creating) };
                view.state.aside[usize::from(me)] = Some(inode);
                Some(Self::Checking)
            }
            Self::Checking => {
                view.reply = Reply::Other("is it the judged one?");
                // A live file may have replaced the judged one, which stays dead.
                let same = view.state.aside[usize::from(me)]
                    .and_then(|inode| view.state.file(inode))
                    .is_some_and(|file| {
                        matches!(file.content, Content::Dead(_) | Content::OldDead(_))
                    });
                Some(if same { Self::Removing } else { Self::PuttingBack })
            }
            Self::PuttingBack => {
                view.reply = Reply::Other("link back");
                if view.state.path.is_none() {
                    view.state.path = view.state.aside[usize::from(me)].take();
                }
                Some(Self::Creating)
            }
            Self::Removing => {
                view.reply = Reply::Other("unlink the one aside");
                view.state.aside[usize::from(me)] = None;
                view.state.sweep();
                Some(Self::Creating)
            }
            Self::Holding => Some(Self::Releasing),
            Self::Releasing => {
                view.reply = Reply::Other("unlink by name");
                view.remove_path();
                None
            }
        }
    }
}

impl View<'_> {
    /// The exclusive create of these protocols, at a free path.
    fn create_by_wx(&mut self) {
        self.reply = Reply::Other("wx: created");
        let inode = self.state.place(Content::Empty, Creator::Alive(self.me));
        self.state.open(self.me, inode);
    }

    /// Whether its write is cut short, which may happen at any time.
    fn is_cut_short(&mut self) -> bool {
        self.choices = 2;
        self.choice == 1
    }

    /// Writes without a lock, and closes the file.
    fn write_and_close(&mut self, record: Content) {
        self.reply = Reply::Other("write, close");
        if let Some(file) = self.state.open_file_mut(self.me) {
            file.content = record;
        }
        self.state.close(self.me);
    }
}

impl State {
    fn take_guard(&mut self, who: u8) -> bool {
        if self.guard.is_none() {
            self.guard = Some(who);
        }
        self.guard == Some(who)
    }

    fn release_guard(&mut self, who: u8) {
        if self.guard == Some(who) {
            self.guard = None;
        }
    }
}
