//! The machine of a release.

use super::ops::{Confirm, Done, FileSystem, Op, Unlink};

/// How a release ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Released {
    /// Our file was unlinked, and then the kernel lock dropped.
    Removed,
    /// The path did not name our file: it had been removed, or cannot be reached from here.
    /// Nothing was removed; our file, if it is still somewhere, has no record.
    Lost,
    /// An operation failed, and the lock is still held: everything is as before the release.
    Kept(Op),
    /// An operation failed; the record was cut short, so that no process is refused because of it.
    Failed(Op),
    /// In a forked child: the lock is the parent's, and was left alone.
    Left,
}

/// A release, from its confirm to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Release {
    /// Does the path still name our file?
    Confirming(ReleaseConfirming),
    /// Confirmed, under the kernel lock: waits for the unlink.
    Unlinking(ReleaseUnlinking),
    /// Could not be confirmed or unlinked. Waits for the driver: keep the lock, or abandon it?
    ReleaseFailed(ReleaseFailed),
    /// Lost or abandoned: waits until our file has no record.
    Truncating(ReleaseTruncating),
    /// Waits for the close, which drops the kernel lock.
    Closing(ReleaseClosing),
    /// In a forked child: waits for the close, which leaves the kernel lock.
    Leaving(ReleaseLeaving),
    /// The end.
    Ended(Released),
}

impl Release {
    /// Where a release starts in the process that acquired.
    pub const START: Self = Self::Confirming(ReleaseConfirming);

    /// Where a release starts in a process that got the guard by `fork`.
    pub const FORKED: Self = Self::Leaving(ReleaseLeaving);

    /// Makes the one call that this state waits for, and returns the state that follows.
    ///
    /// A state that waits for no operation ([`ReleaseFailed`](Self::ReleaseFailed), [`Ended`](Self::Ended)) is
    /// returned as it is.
    #[must_use = "the state that follows is the whole result"]
    pub fn step(self, fs: &mut impl FileSystem) -> Self {
        match self {
            Self::Confirming(state) => state.on_confirm(fs.confirm()),
            Self::Unlinking(state) => state.on_unlink(fs.unlink()),
            Self::Truncating(state) => state.on_truncate(fs.truncate()),
            Self::Closing(state) => {
                fs.close();
                state.on_close()
            }
            Self::Leaving(state) => {
                fs.close_without_unlock();
                state.on_close_without_unlock()
            }
            Self::ReleaseFailed(_) | Self::Ended(_) => self,
        }
    }

    pub(super) fn close(ending: Released) -> Self {
        Self::Closing(ReleaseClosing { ending })
    }

    fn void(ending: Released) -> Self {
        Self::Truncating(ReleaseTruncating { ending })
    }
}

/// Waits for [`FileSystem::confirm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseConfirming;

impl ReleaseConfirming {
    pub(super) fn on_confirm(self, reply: Confirm) -> Release {
        match reply {
            Confirm::Same => Release::Unlinking(ReleaseUnlinking),
            // Where the path is only out of our reach, others would be refused in our name.
            Confirm::Changed => Release::void(Released::Lost),
            Confirm::Failed => Release::ReleaseFailed(ReleaseFailed { op: Op::Confirm }),
        }
    }
}

/// Waits for [`FileSystem::unlink`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseUnlinking;

impl ReleaseUnlinking {
    pub(super) fn on_unlink(self, reply: Unlink) -> Release {
        match reply {
            Unlink::Unlinked => Release::close(Released::Removed),
            Unlink::Absent => Release::void(Released::Lost),
            Unlink::Failed => Release::ReleaseFailed(ReleaseFailed { op: Op::Unlink }),
        }
    }
}

/// Waits for the driver. The file is open, and its kernel lock ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseFailed {
    /// The operation that failed.
    pub op: Op,
}

/// Every answer of the driver to [`ReleaseFailed`]. Each has a method of the same name as its short form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReleaseFailedAnswer {
    /// [`ReleaseFailed::keep`].
    Keep,
    /// [`ReleaseFailed::abandon`].
    Abandon,
}

impl ReleaseFailed {
    /// The driver's answer.
    #[must_use = "the state that follows is the whole result"]
    pub fn answer(self, answer: ReleaseFailedAnswer) -> Release {
        match answer {
            ReleaseFailedAnswer::Keep => self.keep(),
            ReleaseFailedAnswer::Abandon => self.abandon(),
        }
    }

    /// The lock stays held, for another release later.
    #[must_use = "the state that follows is the whole result"]
    pub fn keep(self) -> Release {
        Release::Ended(Released::Kept(self.op))
    }

    /// The lock is given up, and the file, which stays, made to refuse no process.
    #[must_use = "the state that follows is the whole result"]
    pub fn abandon(self) -> Release {
        Release::void(Released::Failed(self.op))
    }
}

/// Waits for [`FileSystem::truncate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseTruncating {
    /// How the release will have ended.
    pub ending: Released,
}

impl ReleaseTruncating {
    pub(super) fn on_truncate(self, reply: Done) -> Release {
        match reply {
            Done::Done | Done::Failed => Release::close(self.ending),
        }
    }
}

/// Waits for [`FileSystem::close`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseClosing {
    /// How the release will have ended.
    pub ending: Released,
}

impl ReleaseClosing {
    pub(super) fn on_close(self) -> Release {
        Release::Ended(self.ending)
    }
}

/// Waits for [`FileSystem::close_without_unlock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseLeaving;

impl ReleaseLeaving {
    pub(super) fn on_close_without_unlock(self) -> Release {
        Release::Ended(Released::Left)
    }
}
