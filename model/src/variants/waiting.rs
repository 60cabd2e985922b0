//! Waits for an event that miss it, trust it, or outlive their caller.

use portlock::protocol::{
    Acquire, Blocked, Disposition, Guarantee, KernelLock, Listening, Recording, Refusal,
    Revalidating, Subscribing, Then, UnknownReason,
};

use super::{EVERY_ENGINE, Protocol, SHIPPED, Variant, breaks, closing, with_acquire};
use crate::properties::property::Property;

pub(super) const HOLD_AFTER_WAIT_WITHOUT_CONFIRM: Variant = Variant {
    name: "hold-after-wait-without-confirm",
    shipped_by: "",
    caught: breaks(Property::P1, "listening", 2),
    calls: 16,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match (state, state.step(fs)) {
        // The guarantee distinguishes the records of woken waiters from those of creators.
        (Acquire::Retrying(_), Acquire::Revalidating(_)) => {
            Acquire::Recording(Recording { guarantee: Guarantee::ExclusiveCreate })
        }
        (
            Acquire::Recording(Recording { guarantee: Guarantee::ExclusiveCreate }),
            Acquire::ConfirmingCreated(_),
        ) => Acquire::Held(Guarantee::KernelLock),
        (_, next) => next,
    }),
};

pub(super) const LISTEN_TO_A_NEW_FILE: Variant = Variant {
    name: "listen-to-a-new-file",
    shipped_by: "",
    caught: breaks(Property::P6, "listening", 2),
    calls: 14,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match (state, state.step(fs)) {
        (Acquire::ReadingUnlocked(_), next)
            if next == closing(Then::Pause(UnknownReason::BeingCreated)) =>
        {
            let disposition = Disposition::NotFinal(UnknownReason::BeingCreated);
            let blocked = Blocked { lock: KernelLock::Busy, disposition };
            Acquire::Subscribing(Subscribing { blocked })
        }
        (_, next) => next,
    }),
};

pub(super) const LISTEN_THOUGH_THE_LOCK_IS_FREE: Variant = Variant {
    name: "listen-though-the-lock-is-free",
    shipped_by: "",
    caught: breaks(Property::P5, "listening", 2),
    calls: 22,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match state.step(fs) {
        Acquire::Blocked(Blocked { disposition, .. }) => {
            Acquire::Blocked(Blocked { lock: KernelLock::Busy, disposition })
        }
        next => next,
    }),
};

pub(super) const REFUSED_WHEN_THE_HOLDER_RELEASES: Variant = Variant {
    name: "refused-when-the-holder-releases",
    shipped_by: "",
    caught: breaks(Property::P5, "listening", 2),
    calls: 23,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match (state, state.step(fs)) {
        (Acquire::Rechecking(_), next) if next == closing(Then::Create) => {
            closing(Then::Refuse(Refusal::Unknown(UnknownReason::Contended)))
        }
        (_, next) => next,
    }),
};

pub(super) const TIMED_OUT_WAITER_STAYS: Variant = Variant {
    name: "timed-out-waiter-stays",
    shipped_by: "",
    caught: breaks(Property::P3, "listening", 2),
    calls: 10,
    engines: EVERY_ENGINE,
    protocol: Protocol {
        // The caller has returned, but its waiting thread gets the lock, and keeps it.
        acquire: |state, fs| match (state, state.step(fs)) {
            (Acquire::Retrying(_), Acquire::Revalidating(_)) => {
                Acquire::Refused(Refusal::Unknown(UnknownReason::Contended))
            }
            (_, next) => next,
        },
        leaks: true,
        ..SHIPPED
    },
};

pub(super) const LISTEN_WITHOUT_RECHECK: Variant = Variant {
    name: "listen-without-recheck",
    shipped_by: "",
    caught: breaks(Property::P5, "listening", 2),
    calls: 13,
    engines: EVERY_ENGINE,
    // An event between the last check and the subscription is missed.
    protocol: with_acquire(|state, fs| match (state, state.step(fs)) {
        (Acquire::Subscribing(Subscribing { blocked }), _) => {
            Acquire::Listening(Listening { blocked })
        }
        (_, next) => next,
    }),
};

pub(super) const AN_EVENT_IS_THE_LOCK: Variant = Variant {
    name: "an-event-is-the-lock",
    shipped_by: "",
    caught: breaks(Property::P2, "listening", 2),
    calls: 17,
    engines: EVERY_ENGINE,
    // The event may be the close of a process that only read the file.
    protocol: with_acquire(|state, fs| match (state, state.step(fs)) {
        (Acquire::Listening(_), Acquire::Rechecking(_)) => Acquire::Revalidating(Revalidating),
        (_, next) => next,
    }),
};
