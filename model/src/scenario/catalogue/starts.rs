//! The files at the path when a scenario begins.

use crate::scenario::state::{Content, Look};

/// The file at the path when a scenario begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Absent,
    /// A file with this content.
    File(Content),
}

/// The starts of the base scenario: absent, stale in both formats, empty, a record cut short,
/// another program's data, a live old agent.
pub(super) const STARTS: &[Start] = &[
    Start::Absent,
    Start::File(Content::Dead(Look::Gone)),
    Start::File(Content::OldDead(Look::Gone)),
    Start::File(Content::Empty),
    Start::File(Content::Unreadable),
    Start::File(Content::Foreign),
    Start::File(Content::OldAlive),
];

/// Same as [`STARTS`], with every [`Look`] of a dead holder.
pub(super) const ALL_STARTS: &[Start] = &[
    Start::Absent,
    Start::File(Content::Dead(Look::Gone)),
    Start::File(Content::Dead(Look::Zombie)),
    Start::File(Content::Dead(Look::Reused)),
    Start::File(Content::Dead(Look::EarlierBoot)),
    Start::File(Content::Dead(Look::OtherNamespace)),
    Start::File(Content::Dead(Look::Unlocked)),
    Start::File(Content::Dead(Look::OnOtherMachine)),
    Start::File(Content::OldDead(Look::Gone)),
    Start::File(Content::OldDead(Look::Zombie)),
    Start::File(Content::OldDead(Look::Thread)),
    Start::File(Content::OldDead(Look::Reused)),
    Start::File(Content::Empty),
    Start::File(Content::Unreadable),
    Start::File(Content::Foreign),
    Start::File(Content::OldAlive),
];

pub(super) const FEW_STARTS: &[Start] = &[Start::Absent, Start::File(Content::Dead(Look::Gone))];

/// The starts of a scenario in which no process can be probed.
pub(super) const UNPROBED_STARTS: &[Start] = &[
    Start::Absent,
    Start::File(Content::Dead(Look::Gone)),
    Start::File(Content::Dead(Look::Reused)),
    Start::File(Content::Dead(Look::OtherNamespace)),
    Start::File(Content::OldDead(Look::Gone)),
    Start::File(Content::Empty),
    Start::File(Content::Unreadable),
    Start::File(Content::OldAlive),
];
