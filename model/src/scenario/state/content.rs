//! The content of a file, its creator, and what a probe finds of a dead author.

use super::Who;

/// What a probe finds of a dead process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Look {
    /// No process has its pid.
    Gone,
    /// It has not been reaped.
    Zombie,
    /// A process that started later has its pid.
    Reused,
    /// A thread has its number.
    Thread,
    /// It ended with an earlier boot.
    EarlierBoot,
    /// It ran in another pid namespace of this boot, and had a kernel lock that excludes ours.
    OtherNamespace,
    /// It had no kernel lock: a sandbox without them.
    Unlocked,
    /// It ran on another machine.
    OnOtherMachine,
}

/// The content of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Content {
    Empty,
    /// A record that was cut short.
    Unreadable,
    /// Another program's data.
    Foreign,
    /// The record of this participant's current process.
    Of(Who),
    /// The old-format record of this participant's current process.
    OldOf(Who),
    /// The old-format record of a live process that is no participant.
    OldAlive,
    /// The record of a process that is dead.
    Dead(Look),
    /// The old-format record of a process that is dead.
    OldDead(Look),
}

impl Content {
    pub fn is_record(self) -> bool {
        !matches!(self, Self::Empty | Self::Unreadable | Self::Foreign)
    }

    /// The same content by another author, if its author is a participant.
    pub fn with_author(self, author: impl FnOnce(Who) -> Who) -> Self {
        match self {
            Self::Of(who) => Self::Of(author(who)),
            Self::OldOf(who) => Self::OldOf(author(who)),
            Self::Empty
            | Self::Unreadable
            | Self::Foreign
            | Self::OldAlive
            | Self::Dead(_)
            | Self::OldDead(_) => self,
        }
    }
}

/// The creator of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Creator {
    /// The file existed at the start.
    Start,
    /// This participant, in its current process.
    Alive(Who),
    /// A process that is dead.
    Dead,
}
