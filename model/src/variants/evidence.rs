//! Wrong verdicts about the author of a record: misread evidence, or the wrong holder named.

use portlock::protocol::{
    Acquire, Author, Blocked, Claim, Confirming, Disposition, FreeLock, Judging, Op, Probe, Then,
    UnknownReason,
};

use super::{EVERY_ENGINE, Engine, NAMED, Variant, breaks, closing, with_acquire, with_evidence};
use crate::properties::property::Property;

/// The same author with another result of the probe.
fn probed(author: Author, answer: fn(Probe) -> Probe) -> Author {
    match author {
        Author::Here(free, probe) => Author::Here(free, answer(probe)),
        Author::OldFormat(probe) => Author::OldFormat(answer(probe)),
        other => other,
    }
}

pub(super) const NOT_PERMITTED_IS_DEAD: Variant = Variant {
    name: "not-permitted-is-dead",
    shipped_by: "pidlock",
    caught: breaks(Property::P2, "base", 2),
    calls: 9,
    engines: EVERY_ENGINE,
    protocol: with_evidence(|author| match author {
        Author::OldFormat(Probe::NotPermitted) => Author::OldFormat(Probe::Gone),
        other => other,
    }),
};

pub(super) const ZOMBIE_IS_ALIVE: Variant = Variant {
    name: "zombie-is-alive",
    shipped_by: "Percy, filelock",
    caught: breaks(Property::P3, "base", 2),
    calls: 9,
    engines: EVERY_ENGINE,
    protocol: with_evidence(|author| {
        probed(author, |probe| match probe {
            Probe::Zombie => Probe::Alive,
            other => other,
        })
    }),
};

pub(super) const START_TIME_IGNORED: Variant = Variant {
    name: "start-time-ignored",
    shipped_by: "Percy",
    caught: breaks(Property::P3, "base", 2),
    calls: 9,
    engines: EVERY_ENGINE,
    protocol: with_evidence(|author| {
        probed(author, |probe| match probe {
            Probe::Other | Probe::StartedLater => Probe::Alive,
            other => other,
        })
    }),
};

pub(super) const NAME_THE_DEAD_WHILE_RECLAIMER_WORKS: Variant = Variant {
    name: "name-the-dead-while-reclaimer-works",
    shipped_by: "",
    caught: breaks(Property::P4, "base", 2),
    calls: 12,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match (state, state.step(fs)) {
        (
            Acquire::Judging(_),
            Acquire::Blocked(Blocked {
                lock,
                disposition: Disposition::NotFinal(UnknownReason::HolderExited),
            }),
        ) => Acquire::Confirming(Confirming {
            claim: Claim::Blocks(Blocked { lock, disposition: NAMED }),
        }),
        (_, next) => next,
    }),
};

pub(super) const REFUSE_ON_AN_ORPHANS_RECORD: Variant = Variant {
    name: "refuse-on-an-orphans-record",
    shipped_by: "",
    caught: breaks(Property::P4, "base", 3),
    calls: 18,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match state.step(fs) {
        Acquire::Confirming(Confirming { claim: Claim::Blocks(blocked) })
            if blocked.disposition == NAMED =>
        {
            Acquire::Blocked(blocked)
        }
        next => next,
    }),
};

pub(super) const FREE_LOCK_PROVES_ALL_DEAD: Variant = Variant {
    name: "free-lock-proves-all-dead",
    shipped_by: "portlock 0.1",
    caught: breaks(Property::P2, "author-without-locks", 2),
    calls: 12,
    engines: &[Engine::Explorer, Engine::Random],
    protocol: with_evidence(|author| match author {
        Author::OtherNamespace(FreeLock::ProvesNothing) => {
            Author::OtherNamespace(FreeLock::ProvesDeath)
        }
        other => other,
    }),
};

pub(super) const EQUAL_NAME_IS_THE_SAME_MACHINE: Variant = Variant {
    name: "equal-name-is-the-same-machine",
    shipped_by: "portlock 0.1",
    caught: breaks(Property::P2, "machines-that-look-alike", 2),
    calls: 12,
    engines: EVERY_ENGINE,
    protocol: with_evidence(|author| match author {
        Author::OtherMachine => Author::EarlierBoot,
        other => other,
    }),
};

pub(super) const UNPROBED_IS_REFUSED_THOUGH_ITS_LOCK_IS_FREE: Variant = Variant {
    name: "unprobed-is-refused-though-its-lock-is-free",
    shipped_by: "portlock 0.1",
    caught: breaks(Property::P3, "no-probe", 2),
    calls: 9,
    engines: &[Engine::Explorer, Engine::Random],
    protocol: with_evidence(|author| match author {
        Author::Here(_, Probe::Unknown) => Author::Here(FreeLock::ProvesNothing, Probe::Unknown),
        other => other,
    }),
};

pub(super) const NUMBER_IDENTIFIES_THE_PROCESS: Variant = Variant {
    name: "number-identifies-the-process",
    shipped_by: "portlock 0.1, Percy",
    caught: breaks(Property::P4, "no-probe", 2),
    calls: 8,
    engines: EVERY_ENGINE,
    protocol: with_evidence(|author| {
        probed(author, |probe| match probe {
            Probe::Unknown => Probe::Alive,
            other => other,
        })
    }),
};

pub(super) const FAILED_PROBE_IS_ALIVE: Variant = Variant {
    name: "failed-probe-is-alive",
    shipped_by: "portlock 0.1",
    caught: breaks(Property::P4, "faults", 2),
    calls: 8,
    engines: EVERY_ENGINE,
    protocol: with_acquire(|state, fs| match (state, state.step(fs)) {
        (Acquire::Judging(Judging { lock }), next) if next == closing(Then::Fail(Op::Probe)) => {
            let claim = Claim::Blocks(Blocked { lock, disposition: NAMED });
            Acquire::Confirming(Confirming { claim })
        }
        (_, next) => next,
    }),
};
