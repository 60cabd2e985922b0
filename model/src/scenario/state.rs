//! The state in which the shipped machines run: one path, its files, open files, kernel locks,
//! records and processes, as one small value that can be hashed and compared.
//!
//! A [`State`] changes only by a [`Move`]. The [`Scenario`](crate::scenario::catalogue::Scenario),
//! which is plain data, determines the possible moves.

mod canonical;
mod content;
mod endings;

use std::hash::{Hash, Hasher};

use portlock::protocol::{Acquire, Clear, Query, Release};

pub use self::content::{Content, Creator, Look};
use crate::scenario::machines::Answer;
use crate::scenario::other::{Aside, Percy};

/// The most participants of a state. Unused places cost little, because a search packs its states.
pub const PARTICIPANTS: usize = 8;
/// The most files that can be named or open at once: one for each participant, one at the path, and
/// some set aside.
pub const FILES: usize = 2 * PARTICIPANTS;

/// A set of files, one bit each.
pub type FileSet = u16;

/// Index of a participant.
pub type Who = u8;
/// Index of a file (an inode). The number is reused as soon as the file no longer exists.
pub type Inode = u8;
/// Index of an open file (an "open file description"), which owns kernel locks.
pub type OpenFile = u8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct File {
    pub content: Content,
    pub creator: Creator,
    /// The open file that has the kernel lock.
    pub lock: Option<OpenFile>,
    /// Removed, while its name is still taken because it is open (Windows).
    pub pending: bool,
    /// An owner of its lock died or failed, which excuses the file at rest.
    pub abandoned: bool,
}

/// An open file, and which participants share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opened {
    pub file: Inode,
    /// One bit a participant.
    pub shared_by: u8,
}

/// What a participant is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Activity {
    /// A child that has not been forked, or has ended.
    Absent,
    Idle,
    Acquiring(Acquire),
    /// Believes that it holds.
    Holding,
    Releasing(Release),
    Asking(Query),
    Clearing(Clear),
    /// A forked child with its parent's open file; with a guard if the parent held.
    Inherited {
        guard: bool,
    },
    /// Follows Percy's protocol, or one like it.
    Percy(Percy),
    /// Follows the protocol that renames a stale file aside.
    Aside(Aside),
}

/// What a participant can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Acquires and releases, a process of its own.
    Process,
    /// Acquires and releases, a thread of the one process that all threads share.
    Thread,
    /// Same as a process, and may fork the child.
    Parent,
    /// Exists after the parent has forked it.
    Child,
    /// Follows the old agent's protocol.
    OldAgent,
    /// Only asks for the status.
    Asker,
    /// Only removes stale files, or any file by force, where that is allowed.
    Clearer,
    /// Starts the command that is to hold the lock, and clears the file at any time: `portlock
    /// run`. It has no copy of the command's open file. A wrong protocol has it hold for its
    /// command.
    Runner,
    /// Acquires, and then is the command of the runner: it holds as long as it lives, and does not
    /// release.
    Command,
    /// Same as a process, in a sandbox without kernel locks, while all others have them. It writes
    /// within the grace, which is its only protection until then.
    Unlocked,
    /// Same as a process, on another machine and through a mount with kernel locks of its own. It
    /// looks like this machine: only the records distinguish them.
    Remote,
}

impl Kind {
    /// The activity of this kind before it begins, and after its process has died.
    pub const fn at_rest(self) -> Activity {
        match self {
            Self::Child => Activity::Absent,
            Self::Process
            | Self::Thread
            | Self::Parent
            | Self::OldAgent
            | Self::Asker
            | Self::Clearer
            | Self::Runner
            | Self::Command
            | Self::Unlocked
            | Self::Remote => Activity::Idle,
        }
    }
}

/// Whether events of the file that a participant has open are kept for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Listens {
    No,
    /// No event yet.
    Armed,
    /// An event is kept.
    Event,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Participant {
    pub kind: Kind,
    pub activity: Activity,
    pub open: Option<OpenFile>,
    pub listens: Listens,
    /// What it read last.
    pub seen: Content,
    /// Files, one bit each, that had a holder at some instant of the current call (P4).
    pub witnessed: FileSet,
    /// The path was removed from outside between its confirm and its unlink.
    pub in_window: bool,
    /// It never moves again, and lives.
    pub suspended: bool,
    /// It can no longer reach the path, because of chroot(2) or a mount: to it the path names no
    /// file.
    pub out_of_reach: bool,
}

impl Participant {
    /// One of this kind that has not begun.
    pub const fn at_rest(kind: Kind) -> Self {
        Self {
            kind,
            activity: kind.at_rest(),
            open: None,
            listens: Listens::No,
            seen: Content::Empty,
            witnessed: 0,
            in_window: false,
            suspended: false,
            out_of_reach: false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct State {
    pub path: Option<Inode>,
    pub files: [Option<File>; FILES],
    pub opened: [Option<Opened>; FILES],
    pub participants: [Participant; PARTICIPANTS],
    /// How many of `participants` are used.
    pub count: u8,
    /// The owner of the guard file, in protocols that have one.
    pub guard: Option<Who>,
    /// Files that a participant has renamed aside.
    pub aside: [Option<Inode>; PARTICIPANTS],
    pub crashes_left: u8,
    pub faults_left: u8,
    pub removals_left: u8,
    pub suspensions_left: u8,
    /// How many holders can still lose access to the path.
    pub chroots_left: u8,
    /// A release that could not remove its file was abandoned, which excuses an empty file at rest.
    pub removal_failed: bool,
    /// An old agent, or force where there are no kernel locks, has removed a file of ours, or one
    /// that we were about to unlink. P1 is no longer checked.
    pub robbed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Move {
    /// Starts an acquire, a query or a run of another protocol.
    Begin(Who),
    /// Makes the one call of its state. The number chooses among the replies.
    Call(Who, u8),
    /// The driver's answer where its machine asks.
    Answer(Who, Answer),
    /// Starts to release what it holds; in a forked child, drops the guard.
    Release(Who),
    /// Its process dies with all threads. A probe finds this afterwards.
    Crash(Who, Look),
    /// It stops forever, and lives.
    Suspend(Who),
    /// It can no longer reach the path that it has locked.
    LoseReach(Who),
    /// Forks its child, which shares its open file.
    Fork(Who),
    /// The path is removed from outside.
    Remove,
}

/// Skips unused places. Different states still feed different bytes, because every file and open
/// file has a reference, which contains its number.
impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self {
            path,
            files,
            opened,
            participants,
            count,
            guard,
            aside,
            crashes_left,
            faults_left,
            removals_left,
            suspensions_left,
            chroots_left,
            removal_failed,
            robbed,
        } = self;
        (crashes_left, faults_left, removals_left).hash(state);
        (suspensions_left, chroots_left).hash(state);
        (removal_failed, robbed, guard, path).hash(state);
        let present = usize::from(*count);
        participants[..present].hash(state);
        aside[..present].hash(state);
        files.iter().flatten().for_each(|file| file.hash(state));
        // Marks the end of the files: no file begins with this byte.
        u8::MAX.hash(state);
        opened.iter().flatten().for_each(|opened| opened.hash(state));
    }
}

impl State {
    pub fn participant(&self, who: Who) -> &Participant {
        &self.participants[usize::from(who)]
    }

    pub fn participant_mut(&mut self, who: Who) -> &mut Participant {
        &mut self.participants[usize::from(who)]
    }

    pub fn everyone(&self) -> impl Iterator<Item = Who> + use<> {
        0..self.count
    }

    pub fn file(&self, inode: Inode) -> Option<&File> {
        self.files[usize::from(inode)].as_ref()
    }

    pub fn file_mut(&mut self, inode: Inode) -> Option<&mut File> {
        self.files[usize::from(inode)].as_mut()
    }

    pub fn named(&self) -> Option<&File> {
        self.path.and_then(|inode| self.file(inode))
    }

    /// The file that a participant has open.
    pub fn open_inode(&self, who: Who) -> Option<Inode> {
        let open = self.participant(who).open?;
        self.opened[usize::from(open)].map(|opened| opened.file)
    }

    /// The file that a participant has open.
    pub fn open_file_mut(&mut self, who: Who) -> Option<&mut File> {
        self.open_inode(who).and_then(|inode| self.file_mut(inode))
    }

    /// Whether a participant has the kernel lock on the file that it has open. On a mount of its
    /// own it always has, without competitors.
    pub fn has_lock(&self, who: Who) -> bool {
        let open = self.participant(who).open;
        if self.participant(who).kind == Kind::Remote {
            return open.is_some();
        }
        open.is_some()
            && self
                .open_inode(who)
                .and_then(|inode| self.file(inode))
                .is_some_and(|file| file.lock == open)
    }

    /// Whether the kernel locks of two participants exclude each other.
    pub fn share_locks(&self, one: Who, other: Who) -> bool {
        let solo = |who| matches!(self.participant(who).kind, Kind::Remote | Kind::Unlocked);
        one == other || !(solo(one) || solo(other))
    }

    /// Whether the file that a participant has open may look as old as one whose creator has died.
    ///
    /// It may at any time, because no clock is trusted, except while its creator is about to write
    /// and only the grace protects it from this participant.
    pub fn may_look_old(&self, who: Who) -> bool {
        let open = self.open_inode(who).and_then(|inode| self.file(inode));
        let Some(file) = open.filter(|file| file.content == Content::Empty) else { return true };
        !matches!(file.creator, Creator::Alive(creator) if self.writes_in_time(creator, who))
    }

    /// Whether `creator` is about to write to its file, and only the grace protects the file from
    /// `who`.
    pub fn writes_in_time(&self, creator: Who, who: Who) -> bool {
        match self.participant(creator).activity {
            Activity::Percy(Percy::Writing) => self.participant(creator).kind == Kind::OldAgent,
            Activity::Acquiring(_) => !self.share_locks(creator, who),
            _ => false,
        }
    }

    /// Whether two participants are one process.
    pub fn same_process(&self, one: Who, other: Who) -> bool {
        one == other
            || (self.participant(one).kind == Kind::Thread
                && self.participant(other).kind == Kind::Thread)
    }

    /// Whether a participant believes that it holds: from the step that confirms its file to the
    /// step in which its release unlinks it (P1).
    pub fn believes(&self, who: Who) -> bool {
        match self.participant(who).activity {
            Activity::Holding => self.participant(who).kind != Kind::Child,
            Activity::Releasing(
                Release::Confirming(_) | Release::Unlinking(_) | Release::ReleaseFailed(_),
            ) => self.participant(who).kind != Kind::Child,
            Activity::Percy(percy) => percy.believes(),
            Activity::Aside(aside) => aside.believes(),
            Activity::Absent
            | Activity::Idle
            | Activity::Acquiring(_)
            | Activity::Releasing(_)
            | Activity::Asking(_)
            | Activity::Clearing(_)
            | Activity::Inherited { .. } => false,
        }
    }

    /// Whether a participant uses the lock of the named file for a holder whose open file it
    /// shares, and the holder has died: the kernel lock is then its own.
    pub fn uses_the_lock_of_the_dead(&self, who: Who) -> bool {
        let participant = self.participant(who);
        let shares = |other: Who| other != who && self.participant(other).open == participant.open;
        participant.activity == (Activity::Inherited { guard: true })
            && self.has_lock(who)
            && self.open_inode(who) == self.path
            && !self.everyone().any(shares)
    }

    /// Adds a file at the path, which no participant has open.
    pub fn place(&mut self, content: Content, creator: Creator) -> Inode {
        let inode = self.new_file(content, creator);
        self.path = Some(inode);
        inode
    }

    fn new_file(&mut self, content: Content, creator: Creator) -> Inode {
        let free = self.files.iter().position(Option::is_none).expect("room for a file");
        self.files[free] =
            Some(File { content, creator, lock: None, pending: false, abandoned: false });
        free as Inode
    }

    pub fn open(&mut self, who: Who, inode: Inode) {
        let free = self.opened.iter().position(Option::is_none).expect("room for an open file");
        self.opened[free] = Some(Opened { file: inode, shared_by: 1 << who });
        self.participant_mut(who).open = Some(free as OpenFile);
    }

    /// Drops the kernel lock that belongs to a participant's open file, even if others share it.
    pub fn unlock(&mut self, who: Who) {
        let open = self.participant(who).open;
        if let Some(file) = self.open_file_mut(who).filter(|file| file.lock == open) {
            file.lock = None;
        }
    }

    /// Closes a participant's open file. The last close frees the kernel lock.
    pub fn close(&mut self, who: Who) {
        self.participant_mut(who).listens = Listens::No;
        let Some(open) = self.participant_mut(who).open.take() else { return };
        let slot = &mut self.opened[usize::from(open)];
        let Some(opened) = slot else { return };
        opened.shared_by &= !(1 << who);
        if opened.shared_by == 0 {
            let inode = opened.file;
            *slot = None;
            if let Some(file) = self.file_mut(inode).filter(|file| file.lock == Some(open)) {
                file.lock = None;
            }
            self.notify_listeners(inode);
        }
        self.sweep();
    }

    /// Every listener of a file gets an event.
    pub fn notify_listeners(&mut self, inode: Inode) {
        for who in self.everyone() {
            let listens = self.participant(who).listens != Listens::No;
            if listens && self.open_inode(who) == Some(inode) {
                self.participant_mut(who).listens = Listens::Event;
            }
        }
    }

    /// Records for every call in progress that the file at the path has a holder now (P4). With
    /// kernel locks that is the recorded author with the lock; in the old format, and without
    /// kernel locks, it is the live recorded author.
    pub fn witness(&mut self, kernel_locks: bool) {
        let Some(inode) = self.path else { return };
        let Some(file) = self.file(inode) else { return };
        let held = match file.content {
            Content::Of(author) => {
                let has_none = !kernel_locks || self.participant(author).kind == Kind::Unlocked;
                has_none || (self.open_inode(author) == Some(inode) && self.has_lock(author))
            }
            Content::OldOf(_) | Content::OldAlive => true,
            Content::Empty
            | Content::Unreadable
            | Content::Foreign
            | Content::Dead(_)
            | Content::OldDead(_) => false,
        };
        if held {
            for participant in &mut self.participants {
                if matches!(
                    participant.activity,
                    Activity::Acquiring(_) | Activity::Asking(_) | Activity::Clearing(_)
                ) {
                    participant.witnessed |= 1 << inode;
                }
            }
        }
    }
}
