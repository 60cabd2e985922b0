//! Releases that remove the file of another holder, or leave litter.

use portlock::protocol::{
    FileSystem, Release, ReleaseClosing, ReleaseTruncating, ReleaseUnlinking, Released,
};

use super::{
    EVERY_ENGINE, Engine, Protocol, SHIPPED, Variant, breaks, unlock_then_unlink, with_release,
};
use crate::properties::property::Property;

pub(super) const RELEASE_BY_NAME: Variant = Variant {
    name: "release-by-name",
    shipped_by: "Percy, pidlock, proper-lockfile",
    caught: breaks(Property::P2, "external-unlink", 2),
    calls: 6,
    engines: EVERY_ENGINE,
    protocol: Protocol { release_start: Release::Unlinking(ReleaseUnlinking), ..SHIPPED },
};

pub(super) const DROP_LOCK_THEN_UNLINK: Variant = Variant {
    name: "drop-lock-then-unlink",
    shipped_by: "",
    caught: breaks(Property::P2, "base", 2),
    calls: 7,
    engines: EVERY_ENGINE,
    protocol: Protocol { release: unlock_then_unlink, ..SHIPPED },
};

pub(super) const LOST_LOCK_KEEPS_ITS_RECORD: Variant = Variant {
    name: "lost-lock-keeps-its-record",
    shipped_by: "portlock 0.1",
    caught: breaks(Property::P5, "out-of-reach", 2),
    calls: 15,
    engines: &[Engine::Explorer, Engine::Random],
    protocol: with_release(|state, fs| match state.step(fs) {
        Release::Truncating(ReleaseTruncating { ending: Released::Lost }) => {
            Release::Closing(ReleaseClosing { ending: Released::Lost })
        }
        next => next,
    }),
};

pub(super) const KEEP_AFTER_VOID: Variant = Variant {
    name: "keep-after-void",
    shipped_by: "",
    caught: breaks(Property::P1, "faults", 2),
    calls: 7,
    engines: EVERY_ENGINE,
    protocol: with_release(|state, fs| match state.step(fs) {
        Release::Closing(ReleaseClosing { ending: Released::Failed(op) }) => {
            Release::Closing(ReleaseClosing { ending: Released::Kept(op) })
        }
        next => next,
    }),
};

pub(super) const ABANDON_WITHOUT_VOID: Variant = Variant {
    name: "abandon-without-void",
    shipped_by: "",
    caught: breaks(Property::P6, "faults", 2),
    calls: 6,
    engines: EVERY_ENGINE,
    protocol: with_release(|state, fs| match state {
        Release::Truncating(ReleaseTruncating { ending }) => {
            fs.close();
            Release::Ended(ending)
        }
        other => other.step(fs),
    }),
};
