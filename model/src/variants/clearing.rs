//! Clears without the lock or the confirm, and a query that is not read-only.

use portlock::protocol::{
    Acquire, Blocked, Clear, FileSystem, Judging, KernelLock, Query, QueryWatching, Refusal, Then,
    UnknownReason,
};

use super::{
    CONFIRM_DEAD, EVERY_ENGINE, Protocol, SHIPPED, UNLINK, Variant, breaks, closing, with_clear,
};
use crate::properties::property::Property;

pub(super) const CLEAR_WITHOUT_LOCK: Variant = Variant {
    name: "clear-without-lock",
    shipped_by: "",
    caught: breaks(Property::P2, "clears", 2),
    calls: 6,
    engines: EVERY_ENGINE,
    protocol: with_clear(|state, fs| match (state, state.step(fs)) {
        (Clear::At(Acquire::ReadingUnlocked(_)), Clear::At(Acquire::LockingExisting(_))) => {
            Clear::At(Acquire::Judging(Judging { lock: KernelLock::Ours }))
        }
        (_, next) => next,
    }),
};

pub(super) const CLEAR_WITHOUT_CONFIRM: Variant = Variant {
    name: "clear-without-confirm",
    shipped_by: "",
    caught: breaks(Property::P2, "clears", 2),
    calls: 16,
    engines: EVERY_ENGINE,
    protocol: with_clear(|state, fs| match state.step(fs) {
        Clear::At(CONFIRM_DEAD) => Clear::At(UNLINK),
        next => next,
    }),
};

pub(super) const CLEAR_LEAVES_THE_DEAD: Variant = Variant {
    name: "clear-leaves-the-dead",
    shipped_by: "",
    caught: breaks(Property::P3, "clears", 2),
    calls: 7,
    engines: EVERY_ENGINE,
    protocol: with_clear(|state, fs| match state.step(fs) {
        Clear::At(CONFIRM_DEAD) => {
            Clear::At(closing(Then::Refuse(Refusal::Unknown(UnknownReason::HolderExited))))
        }
        next => next,
    }),
};

pub(super) const FORCE_WITHOUT_THE_LOCK: Variant = Variant {
    name: "force-without-the-lock",
    shipped_by: "",
    caught: breaks(Property::P2, "forced-removal", 2),
    calls: 8,
    engines: EVERY_ENGINE,
    protocol: with_clear(|state, fs| match state.step(fs) {
        Clear::At(Acquire::Blocked(Blocked { disposition, .. })) => {
            Clear::At(Acquire::Blocked(Blocked { lock: KernelLock::Ours, disposition }))
        }
        next => next,
    }),
};

pub(super) const QUERY_TAKES_THE_LOCK: Variant = Variant {
    name: "query-takes-the-lock",
    shipped_by: "",
    caught: breaks(Property::Query, "queries", 2),
    calls: 4,
    engines: EVERY_ENGINE,
    protocol: Protocol {
        query: |state, fs| match state {
            Query::Watching(QueryWatching { .. }) => {
                fs.lock();
                let reply = fs.reply;
                let next = state.step(fs);
                fs.reply = reply;
                next
            }
            other => other.step(fs),
        },
        ..SHIPPED
    },
};
