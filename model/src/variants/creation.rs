//! Creations and locks of a new file with a step left out, or in another order.

use portlock::protocol::{
    Acquire, Age, CheckingAge, CleanupLocking, CleanupVerifying, Guarantee, LockingCreated,
    LockingExisting, Peeked, ReadingUnlocked, Recording, Then, UnknownReason,
};

use super::{
    CONFIRM_DEAD, EVERY_ENGINE, Engine, Protocol, SHIPPED, Variant, breaks, closing, with_acquire,
};
use crate::properties::property::Property;

pub(super) const NO_CONFIRM_AFTER_CREATE: Variant = Variant {
    name: "no-confirm-after-create",
    shipped_by: "",
    caught: breaks(Property::P1, "base", 2),
    calls: 12,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match state.step(fs) {
        Acquire::ConfirmingCreated(new) => Acquire::Held(new.guarantee),
        next => next,
    }),
};

pub(super) const WRITE_BEFORE_LOCK: Variant = Variant {
    name: "write-before-lock",
    shipped_by: "",
    caught: breaks(Property::P4, "base", 2),
    calls: 10,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match (state, state.step(fs)) {
        (Acquire::Creating(_), Acquire::LockingCreated(_)) => {
            Acquire::Recording(Recording { guarantee: Guarantee::KernelLock })
        }
        (Acquire::Recording(_), Acquire::ConfirmingCreated(_)) => {
            Acquire::LockingCreated(LockingCreated)
        }
        (Acquire::LockingCreated(_), Acquire::Recording(recording)) => {
            Acquire::ConfirmingCreated(portlock::protocol::ConfirmingCreated {
                guarantee: recording.guarantee,
            })
        }
        (_, next) => next,
    }),
};

pub(super) const NEW_FILE_LEFT_WHEN_WRITE_FAILS: Variant = Variant {
    name: "new-file-left-when-write-fails",
    shipped_by: "",
    caught: breaks(Property::P6, "faults", 2),
    calls: 4,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match (state, state.step(fs)) {
        (Acquire::Recording(_), Acquire::CleanupVerifying(CleanupVerifying { then })) => {
            closing(then)
        }
        (_, next) => next,
    }),
};

pub(super) const NEW_FILE_LEFT_WHEN_LOCK_FAILS: Variant = Variant {
    name: "new-file-left-when-lock-fails",
    shipped_by: "",
    caught: breaks(Property::P6, "faults", 2),
    calls: 3,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match (state, state.step(fs)) {
        (Acquire::LockingCreated(_), Acquire::CleanupLocking(CleanupLocking { then })) => {
            closing(then)
        }
        (_, next) => next,
    }),
};

pub(super) const NEW_FILE_LEFT_WHEN_CONFIRM_FAILS: Variant = Variant {
    name: "new-file-left-when-confirm-fails",
    shipped_by: "",
    caught: breaks(Property::P6, "faults", 2),
    calls: 5,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match (state, state.step(fs)) {
        (Acquire::ConfirmingCreated(_), Acquire::CleanupVerifying(CleanupVerifying { then })) => {
            closing(then)
        }
        (_, next) => next,
    }),
};

pub(super) const CONTINUE_WITHOUT_LOCK_ON_ENOLCK: Variant = Variant {
    name: "continue-without-lock-on-enolck",
    shipped_by: "",
    caught: breaks(Property::P1, "faults", 2),
    calls: 4,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match (state, state.step(fs)) {
        (Acquire::LockingCreated(_), Acquire::CleanupLocking(_)) => {
            Acquire::Recording(Recording { guarantee: Guarantee::ExclusiveCreate })
        }
        (_, next) => next,
    }),
};

pub(super) const COMPARE_OPEN_FILE_WITH_ITSELF: Variant = Variant {
    name: "compare-open-file-with-itself",
    shipped_by: "",
    caught: breaks(Property::P2, "base", 2),
    calls: 15,
    engines: EVERY_ENGINE,
    protocol: Protocol { confirms_itself: true, ..SHIPPED },
};

pub(super) const LOCK_A_NEW_FILE_TO_INSPECT: Variant = Variant {
    name: "lock-a-new-file-to-inspect",
    shipped_by: "",
    caught: breaks(Property::P6, "base", 2),
    calls: 11,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match (state, state.step(fs)) {
        (Acquire::ReadingUnlocked(ReadingUnlocked { age: Age::Young }), next)
            if next == closing(Then::Pause(UnknownReason::BeingCreated)) =>
        {
            Acquire::LockingExisting(LockingExisting { peeked: Peeked::Record })
        }
        (_, next) => next,
    }),
};

pub(super) const CLOCK_AFTER_CONTENT: Variant = Variant {
    name: "clock-after-content",
    shipped_by: "",
    caught: breaks(Property::P2, "legacy-agents", 2),
    calls: 10,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match (state, state.step(fs)) {
        // CheckingAge is moved after the read under the lock.
        (Acquire::Opening(_), Acquire::CheckingAge(_)) => {
            Acquire::ReadingUnlocked(ReadingUnlocked { age: Age::Old })
        }
        (Acquire::Reading(_), CONFIRM_DEAD) => Acquire::CheckingAge(CheckingAge),
        (Acquire::CheckingAge(_), Acquire::ReadingUnlocked(ReadingUnlocked { age: Age::Old })) => {
            CONFIRM_DEAD
        }
        (
            Acquire::CheckingAge(_),
            Acquire::ReadingUnlocked(ReadingUnlocked { age: Age::Young }),
        ) => closing(Then::Pause(UnknownReason::BeingCreated)),
        (_, next) => next,
    }),
};

pub(super) const CUT_SHORT_IS_A_NEW_FILE: Variant = Variant {
    name: "cut-short-is-a-new-file",
    shipped_by: "portlock 0.1",
    caught: breaks(Property::P3, "base", 2),
    calls: 18,
    engines: &[Engine::Explorer, Engine::Random],
    protocol: with_acquire(|state, fs| match (state, state.step(fs)) {
        (
            Acquire::ReadingUnlocked(ReadingUnlocked { age: Age::Young }),
            Acquire::LockingExisting(LockingExisting { peeked: Peeked::Unreadable }),
        ) => closing(Then::Pause(UnknownReason::BeingCreated)),
        (_, next) => next,
    }),
};
