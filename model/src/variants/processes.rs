//! Protocols of other agents, and guards that are wrongly shared between processes.

use portlock::protocol::{Release, ReleaseClosing, ReleaseConfirming, Released};

use super::{EVERY_ENGINE, Engine, Protocol, SHIPPED, Variant, breaks, with_repairs};
use crate::properties::property::Property;
use crate::scenario::machines::Reply;
use crate::scenario::other::{Aside, Percy};
use crate::scenario::state::Activity;

pub(super) const NAIVE: Variant = Variant {
    name: "naive",
    shipped_by: "Percy, pidlock",
    caught: breaks(Property::P1, "base", 2),
    calls: 7,
    engines: &[Engine::Explorer, Engine::Random, Engine::Loom],
    protocol: with_repairs(Activity::Percy(Percy::START), false, false),
};

pub(super) const RENAME_ASIDE_THEN_CHECK: Variant = Variant {
    name: "rename-aside-then-check",
    shipped_by: "",
    caught: breaks(Property::P1, "base", 3),
    calls: 10,
    engines: EVERY_ENGINE,
    protocol: with_repairs(Activity::Aside(Aside::START), false, false),
};

pub(super) const UNLINK_CREATE_REREAD_GIVE_UP: Variant = Variant {
    name: "unlink-create-reread-give-up",
    shipped_by: "",
    caught: breaks(Property::P1, "base", 2),
    calls: 9,
    engines: EVERY_ENGINE,
    protocol: with_repairs(Activity::Percy(Percy::START), true, false),
};

pub(super) const GUARD_FOR_RECLAIMERS_ONLY: Variant = Variant {
    name: "guard-for-reclaimers-only",
    shipped_by: "",
    caught: breaks(Property::P1, "base", 2),
    calls: 8,
    engines: EVERY_ENGINE,
    protocol: with_repairs(Activity::Percy(Percy::START), false, true),
};

pub(super) const UNLINK_IN_FORKED_CHILD: Variant = Variant {
    name: "unlink-in-forked-child",
    shipped_by: "fd-lock (its unlock)",
    caught: breaks(Property::P2, "fork", 2),
    calls: 6,
    engines: EVERY_ENGINE,
    protocol: Protocol { forked_start: Release::Confirming(ReleaseConfirming), ..SHIPPED },
};

pub(super) const FORKED_CHILD_GIVES_UP_FOR_ITS_PARENT: Variant = Variant {
    name: "forked-child-gives-up-for-its-parent",
    shipped_by: "portlock 0.1",
    caught: breaks(Property::P1, "fork", 2),
    calls: 5,
    engines: &[Engine::Explorer, Engine::Random],
    protocol: Protocol {
        forked_attempt: Release::Closing(ReleaseClosing { ending: Released::Left }),
        ..SHIPPED
    },
};

pub(super) const FORKED_CHILD_KEEPS_THE_FILE_OPEN: Variant = Variant {
    name: "forked-child-keeps-the-file-open",
    shipped_by: "portlock 0.1",
    caught: breaks(Property::P3, "fork", 2),
    calls: 20,
    engines: &[Engine::Explorer, Engine::Random],
    protocol: Protocol {
        release: |state, fs| match state {
            Release::Leaving(_) => {
                fs.reply = Reply::Leave;
                Release::Ended(Released::Left)
            }
            other => other.step(fs),
        },
        leaks: true,
        ..SHIPPED
    },
};

pub(super) const RECORD_NAMES_THE_RUNNER: Variant = Variant {
    name: "record-names-the-runner",
    shipped_by: "",
    caught: breaks(Property::P1, "command", 2),
    calls: 6,
    engines: EVERY_ENGINE,
    protocol: Protocol { runner_holds: true, ..SHIPPED },
};
