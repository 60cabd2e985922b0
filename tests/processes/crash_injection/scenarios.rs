//! The action of a process, the file it finds, and the injection.

use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

use crate::participant::{DEAD_PID, Participant, old_record, set_modified};

/// What happens to the child at a site.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Injection {
    Kill,
    StopAndKill,
    StopAndContinue,
    /// The child ends itself in this way.
    End(&'static str),
    Exec,
    Fork,
    Thread,
}

/// An incorrect participant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Wrong {
    No,
    /// The protocol of the published agent, over the same calls.
    Naive,
    /// Takes no kernel lock, and acts as if it had it.
    NoLock,
    /// Assumes that the path names its file, without a check.
    NoConfirm,
}

/// The file at the path, the child's action, and which of its calls fail.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) initial: Initial,
    pub(super) action: Action,
    /// Names of calls, as in `target.rs`.
    pub(super) faults: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Initial {
    Nothing,
    DeadHolder,
    DeadOfOldFormat,
    OldEmpty,
    LiveHolder,
    /// The child's own file, removed by hand.
    RemovedFile,
}

impl Initial {
    /// Creates the file; returns the live holder, if there is one.
    pub(super) fn put(self, path: &Path) -> Option<Participant> {
        match self {
            Self::Nothing | Self::RemovedFile => {}
            Self::DeadHolder => Participant::holding(path).kill(),
            Self::DeadOfOldFormat => {
                fs::write(path, old_record(DEAD_PID, SystemTime::now())).expect("a record");
            }
            Self::OldEmpty => {
                File::create_new(path).expect("an empty file");
                set_modified(path, SystemTime::UNIX_EPOCH);
            }
            Self::LiveHolder => return Some(Participant::holding(path)),
        }
        None
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Action {
    Acquire,
    /// Listens to the file; the holder has released before the event is read.
    Listen,
    /// Listens to the file; the holder has been killed before the event is read.
    ListenForDeath,
    /// It holds at the start.
    HoldAndRelease,
    Clear,
    Query,
}

const fn scenario(name: &'static str, initial: Initial, action: Action) -> Scenario {
    Scenario { name, initial, action, faults: "" }
}

const fn faulty(name: &'static str, faults: &'static str) -> Scenario {
    Scenario { name, initial: Initial::Nothing, action: Action::Acquire, faults }
}

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("acquire: no file", Initial::Nothing, Action::Acquire),
    scenario("acquire: a dead holder's record", Initial::DeadHolder, Action::Acquire),
    scenario("acquire: a dead holder's old record", Initial::DeadOfOldFormat, Action::Acquire),
    scenario("acquire: an old empty file", Initial::OldEmpty, Action::Acquire),
    scenario("acquire: refused by a live holder", Initial::LiveHolder, Action::Acquire),
    scenario("acquire: listens for a release", Initial::LiveHolder, Action::Listen),
    scenario("acquire: listens for a death", Initial::LiveHolder, Action::ListenForDeath),
    faulty("acquire: the write fails", "write"),
    faulty("acquire: the lock fails", "lock"),
    faulty("acquire: the write and the unlink fail", "write unlink"),
    scenario("hold and release", Initial::Nothing, Action::HoldAndRelease),
    scenario("release: the file was removed", Initial::RemovedFile, Action::HoldAndRelease),
    scenario("clear: a dead holder's record", Initial::DeadHolder, Action::Clear),
    scenario("query: a dead holder's record", Initial::DeadHolder, Action::Query),
];
