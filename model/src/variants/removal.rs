//! Removals of a file without its lock, without a confirm, or more than once.

use portlock::protocol::{
    Acquire, Age, Author, Claim, Confirming, Judging, KernelLock, LockingExisting, Op, Pausing,
    Peeked, Probe, Probed, ReadReply, Reading, Then, UnknownReason,
};

use super::{
    CONFIRM_DEAD, Caught, EVERY_ENGINE, Engine, LOCK_OLD, Protocol, SHIPPED, UNLINK, Variant,
    breaks, closing, names, unlock_then_unlink, with_acquire,
};
use crate::properties::property::Property;
use crate::scenario::machines::Reply;
use crate::scenario::view::View;

fn no_confirm_before_unlink(state: Acquire, fs: &mut View<'_>) -> Acquire {
    match state.step(fs) {
        CONFIRM_DEAD => UNLINK,
        next => next,
    }
}

fn read_once(state: Acquire, fs: &mut View<'_>) -> Acquire {
    match (state, state.step(fs)) {
        (
            Acquire::LockingExisting(LockingExisting {
                peeked: Peeked::Empty | Peeked::Unreadable,
            }),
            Acquire::Reading(_),
        ) => CONFIRM_DEAD,
        (Acquire::LockingExisting(_), Acquire::Reading(_)) => {
            Acquire::Judging(Judging { lock: KernelLock::Ours })
        }
        (_, next) => next,
    }
}

pub(super) const EMPTY_IS_STALE_WITHOUT_LOCK: Variant = Variant {
    name: "empty-is-stale-without-lock",
    shipped_by: "Percy, pidlock",
    caught: breaks(Property::P2, "base", 2),
    calls: 6,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match (state, state.step(fs)) {
        (Acquire::ReadingUnlocked(_), next)
            if next == closing(Then::Pause(UnknownReason::BeingCreated))
                || next == Acquire::LockingExisting(LockingExisting { peeked: Peeked::Empty }) =>
        {
            CONFIRM_DEAD
        }
        (_, next) => next,
    }),
};

pub(super) const ABSENT_IS_STALE: Variant = Variant {
    name: "absent-is-stale",
    shipped_by: "Percy",
    caught: breaks(Property::P2, "base", 2),
    calls: 11,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match (state, state.step(fs)) {
        (Acquire::Opening(_), Acquire::Pausing(_)) => UNLINK,
        // Nothing is open to close.
        (Acquire::Unlinking(_), _) if fs.state.participant(fs.me).open.is_none() => Acquire::START,
        (_, next) => next,
    }),
};

pub(super) const NO_CONFIRM_BEFORE_UNLINK: Variant = Variant {
    name: "no-confirm-before-unlink",
    shipped_by: "",
    caught: breaks(Property::P2, "base", 2),
    calls: 16,
    engines: EVERY_ENGINE,
    protocol: with_acquire(no_confirm_before_unlink),
};

pub(super) const CONFIRM_BEFORE_LOCK: Variant = Variant {
    name: "confirm-before-lock",
    shipped_by: "",
    caught: breaks(Property::P2, "base", 2),
    calls: 18,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match (state, state.step(fs)) {
        (Acquire::ReadingUnlocked(_), Acquire::LockingExisting(_)) => CONFIRM_DEAD,
        (Acquire::Confirming(Confirming { claim: Claim::Dead }), UNLINK) => LOCK_OLD,
        (Acquire::Judging(_) | Acquire::Reading(_), CONFIRM_DEAD) => UNLINK,
        (_, next) => next,
    }),
};

pub(super) const CONFIRM_BEFORE_VERDICT_UNLOCK_BEFORE_UNLINK: Variant = Variant {
    name: "confirm-before-verdict-unlock-before-unlink",
    shipped_by: "the obvious repair",
    caught: breaks(Property::P1, "base", 3),
    calls: 20,
    // Random histories find it too, but it takes many more of them than the others.
    engines: &[Engine::Explorer],
    protocol: Protocol {
        acquire: |state, fs| match (state, state.step(fs)) {
            (Acquire::LockingExisting(_), Acquire::Reading(_)) => CONFIRM_DEAD,
            (Acquire::Confirming(Confirming { claim: Claim::Dead }), UNLINK) => {
                Acquire::Reading(Reading { age: Age::Old })
            }
            (Acquire::Judging(_) | Acquire::Reading(_), CONFIRM_DEAD) => UNLINK,
            (_, next) => next,
        },
        release: unlock_then_unlink,
        ..SHIPPED
    },
};

pub(super) const READ_BEFORE_LOCK_AND_NOT_AGAIN: Variant = Variant {
    name: "read-before-lock-and-not-again",
    shipped_by: "",
    caught: Caught::Harmless {
        why: "a record never changes after its write, and the confirm detects a replaced file",
        both: "read-once-no-confirm",
    },
    calls: 0,
    engines: &[],
    protocol: with_acquire(read_once),
};

pub(super) const READ_ONCE_NO_CONFIRM: Variant = Variant {
    name: "read-once-no-confirm",
    shipped_by: "",
    caught: breaks(Property::P2, "base", 2),
    calls: 14,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match read_once(state, fs) {
        CONFIRM_DEAD => UNLINK,
        next => next,
    }),
};

pub(super) const UNLINK_TWICE: Variant = Variant {
    name: "unlink-twice",
    shipped_by: "",
    caught: breaks(Property::P2, "base", 2),
    calls: 10,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match (state, state.step(fs)) {
        (Acquire::Unlinking(_), next) if next == closing(Then::Create) => UNLINK,
        (_, next) => next,
    }),
};

pub(super) const UNREADABLE_IS_STALE: Variant = Variant {
    name: "unreadable-is-stale",
    shipped_by: "Percy",
    caught: breaks(Property::P2, "faults", 2),
    calls: 3,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match (state, state.step(fs)) {
        (Acquire::Opening(_), Acquire::Failed(Op::Open)) => UNLINK,
        (Acquire::Unlinking(_), _) if fs.state.participant(fs.me).open.is_none() => Acquire::START,
        (_, next) => next,
    }),
};

pub(super) const DENIED_IS_STALE: Variant = Variant {
    name: "denied-is-stale",
    shipped_by: "",
    caught: breaks(Property::P2, "faults", 2),
    calls: 3,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match (state, state.step(fs)) {
        (Acquire::Opening(_), Acquire::Pausing(Pausing::Denied(_))) => UNLINK,
        (Acquire::Unlinking(_), _) if fs.state.participant(fs.me).open.is_none() => Acquire::START,
        (_, next) => next,
    }),
};

pub(super) const OWN_PID_IS_STALE_WITHOUT_LOCK: Variant = Variant {
    name: "own-pid-is-stale-without-lock",
    shipped_by: "Percy",
    caught: breaks(Property::P2, "threads", 2),
    calls: 11,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| {
        let next = state.step(fs);
        let ours =
            matches!(fs.reply, Reply::Probe(Probed::Known(Author::Here(_, Probe::Ourselves))));
        if ours && names(next) { CONFIRM_DEAD } else { next }
    }),
};

pub(super) const OLD_AGE_IS_DEAD: Variant = Variant {
    name: "old-age-is-dead",
    shipped_by: "proper-lockfile",
    caught: breaks(Property::P2, "base", 2),
    calls: 10,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match (state, state.step(fs)) {
        // The age of a record depends on a clock.
        (
            Acquire::LockingExisting(LockingExisting { peeked: Peeked::Record }),
            Acquire::Judging(Judging { lock: KernelLock::Busy }),
        ) => CONFIRM_DEAD,
        (_, next) => next,
    }),
};

pub(super) const FOREIGN_DATA_IS_STALE: Variant = Variant {
    name: "foreign-data-is-stale",
    shipped_by: "portlock 0.1, Percy",
    caught: breaks(Property::P2, "base", 2),
    calls: 8,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| {
        let next = state.step(fs);
        match (state, fs.reply) {
            (Acquire::ReadingUnlocked(_), Reply::Read(ReadReply::Foreign)) => {
                Acquire::LockingExisting(LockingExisting { peeked: Peeked::Unreadable })
            }
            (Acquire::Reading(_), Reply::Read(ReadReply::Foreign)) => CONFIRM_DEAD,
            _ => next,
        }
    }),
};
