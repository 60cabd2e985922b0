//! What a process does when it is struck, what it finds, and what strikes it.

use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

use super::stage::make_old;
use crate::participant::{NOBODY, Participant, old_record};

/// What is done to the child at a site.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Strike {
    Kill,
    StopAndKill,
    StopAndContinue,
    /// By itself, in this way.
    End(&'static str),
    Exec,
    Fork,
    Thread,
}

/// A participant that does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Wrong {
    No,
    /// The protocol of the published agent, over the same calls.
    Naive,
    /// Its kernel lock is always its own, and was never asked for.
    NoLock,
    /// The path always names its file, and was not looked at.
    NoConfirm,
}

/// What stands at the path, what the child does, and which of its calls fail.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) stands: Stands,
    pub(super) action: Action,
    /// As `struck.rs` has it.
    pub(super) faults: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stands {
    Nothing,
    DeadHolder,
    DeadOfOldFormat,
    OldEmpty,
    LiveHolder,
    /// The child's own, which then somebody removes.
    RemovedFile,
}

impl Stands {
    /// Puts it there; returns the live holder, if there is one.
    pub(super) fn put(self, path: &Path) -> Option<Participant> {
        match self {
            Self::Nothing | Self::RemovedFile => {}
            Self::DeadHolder => Participant::holding(path).kill(),
            Self::DeadOfOldFormat => {
                fs::write(path, old_record(NOBODY, SystemTime::now())).expect("a record");
            }
            Self::OldEmpty => {
                File::create_new(path).expect("an empty file");
                make_old(path);
            }
            Self::LiveHolder => return Some(Participant::holding(path)),
        }
        None
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Action {
    Acquire,
    /// Listens to the file; the holder has released before it is told.
    Listen,
    /// Listens to the file; the holder has been killed before it is told.
    ListenForDeath,
    /// It holds already.
    HoldAndRelease,
    Clear,
    Query,
}

const fn scenario(name: &'static str, stands: Stands, action: Action) -> Scenario {
    Scenario { name, stands, action, faults: "" }
}

const fn faulty(name: &'static str, faults: &'static str) -> Scenario {
    Scenario { name, stands: Stands::Nothing, action: Action::Acquire, faults }
}

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("acquire: nothing there", Stands::Nothing, Action::Acquire),
    scenario("acquire: a dead holder's record", Stands::DeadHolder, Action::Acquire),
    scenario("acquire: a dead one's of the old format", Stands::DeadOfOldFormat, Action::Acquire),
    scenario("acquire: an old empty file", Stands::OldEmpty, Action::Acquire),
    scenario("acquire: refused by a live holder", Stands::LiveHolder, Action::Acquire),
    scenario("acquire: listens for a release", Stands::LiveHolder, Action::Listen),
    scenario("acquire: listens for a death", Stands::LiveHolder, Action::ListenForDeath),
    faulty("acquire: the write fails", "write"),
    faulty("acquire: the lock fails", "lock"),
    faulty("acquire: the write and the unlink fail", "write unlink"),
    scenario("hold and release", Stands::Nothing, Action::HoldAndRelease),
    scenario("release: somebody removed the file", Stands::RemovedFile, Action::HoldAndRelease),
    scenario("clear: a dead holder's record", Stands::DeadHolder, Action::Clear),
    scenario("query: a dead holder's record", Stands::DeadHolder, Action::Query),
];
