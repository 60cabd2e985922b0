//! The wrong protocols that must be caught: each a rewrite of named transitions, or of the
//! evidence, around the shipped machine. The shipped code has no switch.

pub mod catalogue;

use portlock::protocol::{
    Acquire, Age, Author, Blocked, CheckingAge, Claim, CleanupLocking, CleanupVerifying, Clear,
    Closing, Confirming, Disposition, FileSystem, FreeLock, Guarantee, Judging, KernelLock,
    Listening, LockingCreated, LockingExisting, Op, Pausing, Peeked, Probe, Probed, Query,
    QueryWatching, ReadReply, Reading, ReadingUnlocked, Recording, Refusal, Release,
    ReleaseClosing, ReleaseConfirming, ReleaseTruncating, ReleaseUnlinking, Released, Revalidating,
    Subscribing, Then, UnknownReason, Unlinking,
};

use crate::scenario::catalogue::Property;
use crate::scenario::machines::Reply;
use crate::scenario::other::{Aside, Percy, Repairs};
use crate::scenario::state::Activity;
use crate::scenario::view::View;

/// How participants act: the shipped machines, or a wrong protocol around them.
#[derive(Clone, Copy)]
pub struct Protocol {
    pub begin: Activity,
    pub acquire: fn(Acquire, &mut View<'_>) -> Acquire,
    pub release: fn(Release, &mut View<'_>) -> Release,
    pub query: fn(Query, &mut View<'_>) -> Query,
    pub clear: fn(Clear, &mut View<'_>) -> Clear,
    pub release_start: Release,
    /// Where a forked child starts that drops its copy of a guard.
    pub forked_start: Release,
    /// Where a forked child starts that drops its copy of an acquire under way.
    pub forked_attempt: Release,
    pub rewrite_evidence: fn(Author) -> Author,
    pub confirms_itself: bool,
    /// A call may end with its file open, which then stays open.
    pub leaks: bool,
    pub repairs: Repairs,
    /// A runner holds the lock for its command, which shares its open file.
    pub runner_holds: bool,
}

/// What ships.
pub const SHIPPED: Protocol = Protocol {
    begin: Activity::Acquiring(Acquire::START),
    acquire: |state, fs| state.step(fs),
    release: |state, fs| state.step(fs),
    query: |state, fs| state.step(fs),
    clear: |state, fs| state.step(fs),
    release_start: Release::START,
    forked_start: Release::FORKED,
    forked_attempt: Release::FORKED,
    rewrite_evidence: |author| author,
    confirms_itself: false,
    leaks: false,
    repairs: Repairs { reread: false, guard: false },
    runner_holds: false,
};

/// Where a variant is caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caught {
    /// This property breaks in this scenario, with so many participants.
    Breaks { property: Property, scenario: &'static str, participants: usize },
    /// No property breaks in any scenario, since another step covers for it: the reason, and the
    /// variant that leaves out both.
    Harmless { why: &'static str, both: &'static str },
}

/// A way to find a broken property.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Engine {
    /// Exhaustive search (`explore.rs`).
    Explorer,
    /// Seeded random schedules (tests/properties.rs), and with coverage the fuzzer's.
    Random,
    /// Threads under loom (tests/loom.rs).
    Loom,
}

impl std::fmt::Display for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Explorer => "explorer",
            Self::Random => "random",
            Self::Loom => "loom",
        })
    }
}

/// A wrong protocol.
#[derive(Clone, Copy)]
pub struct Variant {
    pub name: &'static str,
    /// Who shipped it, where that is known.
    pub shipped_by: &'static str,
    pub caught: Caught,
    /// Calls of the shortest trace, which the explorer finds.
    pub calls: usize,
    /// The engines that find it; a test of each engine holds it to this.
    pub engines: &'static [Engine],
    pub protocol: Protocol,
}

const fn breaks(property: Property, scenario: &'static str, participants: usize) -> Caught {
    Caught::Breaks { property, scenario, participants }
}

const EVERY_ENGINE: &[Engine] = &[Engine::Explorer, Engine::Random];

fn closing(then: Then) -> Acquire {
    Acquire::Closing(Closing { then })
}

const CONFIRM_DEAD: Acquire = Acquire::Confirming(Confirming { claim: Claim::Dead });
/// What is said of a holder that lives.
const NAMED: Disposition = Disposition::Final(Refusal::Holder);
const UNLINK: Acquire = Acquire::Unlinking(Unlinking);
const LOCK_OLD: Acquire = Acquire::LockingExisting(LockingExisting { peeked: Peeked::Record });

/// Whether it is about to confirm that a holder lives.
fn names(state: Acquire) -> bool {
    matches!(
        state,
        Acquire::Confirming(Confirming {
            claim: Claim::Blocks(Blocked { disposition: NAMED, .. })
        })
    )
}

/// The release that drops the lock and then unlinks by name, when it no longer believes that it holds.
fn unlock_then_unlink(state: Release, fs: &mut View<'_>) -> Release {
    const UNLINK: Release = Release::Truncating(ReleaseTruncating { ending: Released::Removed });
    if state == UNLINK {
        fs.unlink();
        return Release::Ended(Released::Removed);
    }
    match (state, state.step(fs)) {
        (Release::Confirming(_), Release::Unlinking(_)) => {
            Release::Closing(ReleaseClosing { ending: Released::Removed })
        }
        (Release::Closing(ReleaseClosing { ending: Released::Removed }), _) => UNLINK,
        (_, next) => next,
    }
}

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

/// The same author with another answer of the probe.
fn probed(author: Author, answer: fn(Probe) -> Probe) -> Author {
    match author {
        Author::Here(free, probe) => Author::Here(free, answer(probe)),
        Author::OldFormat(probe) => Author::OldFormat(answer(probe)),
        other => other,
    }
}

/// Every wrong protocol, in the order of the design.
pub fn all() -> Vec<Variant> {
    let own =
        |begin, reread, guard| Protocol { begin, repairs: Repairs { reread, guard }, ..SHIPPED };
    let acquire = |acquire| Protocol { acquire, ..SHIPPED };
    let release = |release| Protocol { release, ..SHIPPED };
    let clear = |clear| Protocol { clear, ..SHIPPED };
    let evidence = |rewrite_evidence| Protocol { rewrite_evidence, ..SHIPPED };
    vec![
        Variant {
            name: "naive",
            shipped_by: "Percy, pidlock",
            caught: breaks(Property::P1, "base", 2),
            calls: 7,
            engines: &[Engine::Explorer, Engine::Random, Engine::Loom],
            protocol: own(Activity::Percy(Percy::START), false, false),
        },
        Variant {
            name: "empty-is-stale-without-lock",
            shipped_by: "Percy, pidlock",
            caught: breaks(Property::P2, "base", 2),
            calls: 6,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match (state, state.step(fs)) {
                (Acquire::ReadingUnlocked(_), next)
                    if next == closing(Then::Pause(UnknownReason::BeingCreated))
                        || next
                            == Acquire::LockingExisting(LockingExisting {
                                peeked: Peeked::Empty,
                            }) =>
                {
                    CONFIRM_DEAD
                }
                (_, next) => next,
            }),
        },
        Variant {
            name: "absent-is-stale",
            shipped_by: "Percy",
            caught: breaks(Property::P2, "base", 2),
            calls: 11,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match (state, state.step(fs)) {
                (Acquire::Opening(_), Acquire::Pausing(_)) => UNLINK,
                // Nothing is open to close.
                (Acquire::Unlinking(_), _) if fs.state.participant(fs.me).open.is_none() => {
                    Acquire::START
                }
                (_, next) => next,
            }),
        },
        Variant {
            name: "no-confirm-before-unlink",
            shipped_by: "",
            caught: breaks(Property::P2, "base", 2),
            calls: 16,
            engines: EVERY_ENGINE,
            protocol: acquire(no_confirm_before_unlink),
        },
        Variant {
            name: "confirm-before-lock",
            shipped_by: "",
            caught: breaks(Property::P2, "base", 2),
            calls: 18,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match (state, state.step(fs)) {
                (Acquire::ReadingUnlocked(_), Acquire::LockingExisting(_)) => CONFIRM_DEAD,
                (Acquire::Confirming(Confirming { claim: Claim::Dead }), UNLINK) => LOCK_OLD,
                (Acquire::Judging(_) | Acquire::Reading(_), CONFIRM_DEAD) => UNLINK,
                (_, next) => next,
            }),
        },
        Variant {
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
        },
        Variant {
            name: "read-before-lock-and-not-again",
            shipped_by: "",
            caught: Caught::Harmless {
                why: "a record never changes once it is written, and what changed hands is \
                      refused by the confirm",
                both: "read-once-no-confirm",
            },
            calls: 0,
            engines: &[],
            protocol: acquire(read_once),
        },
        Variant {
            name: "read-once-no-confirm",
            shipped_by: "",
            caught: breaks(Property::P2, "base", 2),
            calls: 14,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match read_once(state, fs) {
                CONFIRM_DEAD => UNLINK,
                next => next,
            }),
        },
        Variant {
            name: "unlink-twice",
            shipped_by: "",
            caught: breaks(Property::P2, "base", 2),
            calls: 10,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match (state, state.step(fs)) {
                (Acquire::Unlinking(_), next) if next == closing(Then::Create) => UNLINK,
                (_, next) => next,
            }),
        },
        Variant {
            name: "rename-aside-then-check",
            shipped_by: "",
            caught: breaks(Property::P1, "base", 3),
            calls: 10,
            engines: EVERY_ENGINE,
            protocol: own(Activity::Aside(Aside::START), false, false),
        },
        Variant {
            name: "unlink-create-reread-stand-down",
            shipped_by: "",
            caught: breaks(Property::P1, "base", 2),
            calls: 9,
            engines: EVERY_ENGINE,
            protocol: own(Activity::Percy(Percy::START), true, false),
        },
        Variant {
            name: "guard-for-reclaimers-only",
            shipped_by: "",
            caught: breaks(Property::P1, "base", 2),
            calls: 8,
            engines: EVERY_ENGINE,
            protocol: own(Activity::Percy(Percy::START), false, true),
        },
        Variant {
            name: "not-permitted-is-dead",
            shipped_by: "pidlock",
            caught: breaks(Property::P2, "base", 2),
            calls: 9,
            engines: EVERY_ENGINE,
            protocol: evidence(|author| match author {
                Author::OldFormat(Probe::NotPermitted) => Author::OldFormat(Probe::Gone),
                other => other,
            }),
        },
        Variant {
            name: "unreadable-is-stale",
            shipped_by: "Percy",
            caught: breaks(Property::P2, "faults", 2),
            calls: 3,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match (state, state.step(fs)) {
                (Acquire::Opening(_), Acquire::Failed(Op::Open)) => UNLINK,
                (Acquire::Unlinking(_), _) if fs.state.participant(fs.me).open.is_none() => {
                    Acquire::START
                }
                (_, next) => next,
            }),
        },
        Variant {
            name: "denied-is-stale",
            shipped_by: "",
            caught: breaks(Property::P2, "faults", 2),
            calls: 3,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match (state, state.step(fs)) {
                (Acquire::Opening(_), Acquire::Pausing(Pausing::Denied(_))) => UNLINK,
                (Acquire::Unlinking(_), _) if fs.state.participant(fs.me).open.is_none() => {
                    Acquire::START
                }
                (_, next) => next,
            }),
        },
        Variant {
            name: "own-pid-is-stale-without-lock",
            shipped_by: "Percy",
            caught: breaks(Property::P2, "threads", 2),
            calls: 11,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| {
                let next = state.step(fs);
                let ours = matches!(
                    fs.reply,
                    Reply::Probe(Probed::Known(Author::Here(_, Probe::Ourselves)))
                );
                if ours && names(next) { CONFIRM_DEAD } else { next }
            }),
        },
        Variant {
            name: "old-age-is-dead",
            shipped_by: "proper-lockfile",
            caught: breaks(Property::P2, "base", 2),
            calls: 10,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match (state, state.step(fs)) {
                // A record looks as old as a clock makes it.
                (
                    Acquire::LockingExisting(LockingExisting { peeked: Peeked::Record }),
                    Acquire::Judging(Judging { lock: KernelLock::Busy }),
                ) => CONFIRM_DEAD,
                (_, next) => next,
            }),
        },
        Variant {
            name: "zombie-is-alive",
            shipped_by: "Percy, filelock",
            caught: breaks(Property::P3, "base", 2),
            calls: 9,
            engines: EVERY_ENGINE,
            protocol: evidence(|author| {
                probed(author, |probe| match probe {
                    Probe::Zombie => Probe::Alive,
                    other => other,
                })
            }),
        },
        Variant {
            name: "start-time-ignored",
            shipped_by: "Percy",
            caught: breaks(Property::P3, "base", 2),
            calls: 9,
            engines: EVERY_ENGINE,
            protocol: evidence(|author| {
                probed(author, |probe| match probe {
                    Probe::Other | Probe::StartedLater => Probe::Alive,
                    other => other,
                })
            }),
        },
        Variant {
            name: "no-confirm-after-create",
            shipped_by: "",
            caught: breaks(Property::P1, "base", 2),
            calls: 12,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match state.step(fs) {
                Acquire::ConfirmingCreated(new) => Acquire::Held(new.guarantee),
                next => next,
            }),
        },
        Variant {
            name: "write-before-lock",
            shipped_by: "",
            caught: breaks(Property::P4, "base", 2),
            calls: 10,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match (state, state.step(fs)) {
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
        },
        Variant {
            name: "new-file-left-when-write-fails",
            shipped_by: "",
            caught: breaks(Property::P6, "faults", 2),
            calls: 4,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match (state, state.step(fs)) {
                (Acquire::Recording(_), Acquire::CleanupVerifying(CleanupVerifying { then })) => {
                    closing(then)
                }
                (_, next) => next,
            }),
        },
        Variant {
            name: "new-file-left-when-lock-fails",
            shipped_by: "",
            caught: breaks(Property::P6, "faults", 2),
            calls: 3,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match (state, state.step(fs)) {
                (Acquire::LockingCreated(_), Acquire::CleanupLocking(CleanupLocking { then })) => {
                    closing(then)
                }
                (_, next) => next,
            }),
        },
        Variant {
            name: "new-file-left-when-confirm-fails",
            shipped_by: "",
            caught: breaks(Property::P6, "faults", 2),
            calls: 5,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match (state, state.step(fs)) {
                (
                    Acquire::ConfirmingCreated(_),
                    Acquire::CleanupVerifying(CleanupVerifying { then }),
                ) => closing(then),
                (_, next) => next,
            }),
        },
        Variant {
            name: "go-on-without-lock-on-enolck",
            shipped_by: "",
            caught: breaks(Property::P1, "faults", 2),
            calls: 4,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match (state, state.step(fs)) {
                (Acquire::LockingCreated(_), Acquire::CleanupLocking(_)) => {
                    Acquire::Recording(Recording { guarantee: Guarantee::ExclusiveCreate })
                }
                (_, next) => next,
            }),
        },
        Variant {
            name: "release-by-name",
            shipped_by: "Percy, pidlock, proper-lockfile",
            caught: breaks(Property::P2, "external-unlink", 2),
            calls: 6,
            engines: EVERY_ENGINE,
            protocol: Protocol { release_start: Release::Unlinking(ReleaseUnlinking), ..SHIPPED },
        },
        Variant {
            name: "drop-lock-then-unlink",
            shipped_by: "",
            caught: breaks(Property::P2, "base", 2),
            calls: 7,
            engines: EVERY_ENGINE,
            protocol: Protocol { release: unlock_then_unlink, ..SHIPPED },
        },
        Variant {
            name: "unlink-in-forked-child",
            shipped_by: "fd-lock (its unlock)",
            caught: breaks(Property::P2, "fork", 2),
            calls: 6,
            engines: EVERY_ENGINE,
            protocol: Protocol { forked_start: Release::Confirming(ReleaseConfirming), ..SHIPPED },
        },
        Variant {
            name: "compare-open-file-with-itself",
            shipped_by: "",
            caught: breaks(Property::P2, "base", 2),
            calls: 15,
            engines: EVERY_ENGINE,
            protocol: Protocol { confirms_itself: true, ..SHIPPED },
        },
        Variant {
            name: "name-the-dead-while-reclaimer-works",
            shipped_by: "",
            caught: breaks(Property::P4, "base", 2),
            calls: 12,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match (state, state.step(fs)) {
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
        },
        Variant {
            name: "refuse-on-an-orphans-record",
            shipped_by: "",
            caught: breaks(Property::P4, "base", 3),
            calls: 18,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match state.step(fs) {
                Acquire::Confirming(Confirming { claim: Claim::Blocks(blocked) })
                    if blocked.disposition == NAMED =>
                {
                    Acquire::Blocked(blocked)
                }
                next => next,
            }),
        },
        Variant {
            name: "lock-a-new-file-to-look",
            shipped_by: "",
            caught: breaks(Property::P6, "base", 2),
            calls: 11,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match (state, state.step(fs)) {
                (Acquire::ReadingUnlocked(ReadingUnlocked { age: Age::Young }), next)
                    if next == closing(Then::Pause(UnknownReason::BeingCreated)) =>
                {
                    Acquire::LockingExisting(LockingExisting { peeked: Peeked::Record })
                }
                (_, next) => next,
            }),
        },
        Variant {
            name: "clock-after-content",
            shipped_by: "",
            caught: breaks(Property::P2, "legacy-agents", 2),
            calls: 10,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match (state, state.step(fs)) {
                // CheckingAge is left for later, when it waits on what was read under the lock.
                (Acquire::Opening(_), Acquire::CheckingAge(_)) => {
                    Acquire::ReadingUnlocked(ReadingUnlocked { age: Age::Old })
                }
                (Acquire::Reading(_), CONFIRM_DEAD) => Acquire::CheckingAge(CheckingAge),
                (
                    Acquire::CheckingAge(_),
                    Acquire::ReadingUnlocked(ReadingUnlocked { age: Age::Old }),
                ) => CONFIRM_DEAD,
                (
                    Acquire::CheckingAge(_),
                    Acquire::ReadingUnlocked(ReadingUnlocked { age: Age::Young }),
                ) => closing(Then::Pause(UnknownReason::BeingCreated)),
                (_, next) => next,
            }),
        },
        Variant {
            name: "hold-after-wait-without-confirm",
            shipped_by: "",
            caught: breaks(Property::P1, "listening", 2),
            calls: 16,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match (state, state.step(fs)) {
                // The guarantee tells the records of the woken from those of creators.
                (Acquire::Retrying(_), Acquire::Revalidating(_)) => {
                    Acquire::Recording(Recording { guarantee: Guarantee::ExclusiveCreate })
                }
                (
                    Acquire::Recording(Recording { guarantee: Guarantee::ExclusiveCreate }),
                    Acquire::ConfirmingCreated(_),
                ) => Acquire::Held(Guarantee::KernelLock),
                (_, next) => next,
            }),
        },
        Variant {
            name: "listen-to-a-new-file",
            shipped_by: "",
            caught: breaks(Property::P6, "listening", 2),
            calls: 14,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match (state, state.step(fs)) {
                (Acquire::ReadingUnlocked(_), next)
                    if next == closing(Then::Pause(UnknownReason::BeingCreated)) =>
                {
                    let disposition = Disposition::NotFinal(UnknownReason::BeingCreated);
                    let blocked = Blocked { lock: KernelLock::Busy, disposition };
                    Acquire::Subscribing(Subscribing { blocked })
                }
                (_, next) => next,
            }),
        },
        Variant {
            name: "listen-though-nobody-has-the-lock",
            shipped_by: "",
            caught: breaks(Property::P5, "listening", 2),
            calls: 22,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match state.step(fs) {
                Acquire::Blocked(Blocked { disposition, .. }) => {
                    Acquire::Blocked(Blocked { lock: KernelLock::Busy, disposition })
                }
                next => next,
            }),
        },
        Variant {
            name: "refused-when-the-holder-releases",
            shipped_by: "",
            caught: breaks(Property::P5, "listening", 2),
            calls: 23,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match (state, state.step(fs)) {
                (Acquire::Rechecking(_), next) if next == closing(Then::Create) => {
                    closing(Then::Refuse(Refusal::Unknown(UnknownReason::Contended)))
                }
                (_, next) => next,
            }),
        },
        Variant {
            name: "timed-out-waiter-stays",
            shipped_by: "",
            caught: breaks(Property::P3, "listening", 2),
            calls: 10,
            engines: EVERY_ENGINE,
            protocol: Protocol {
                // Its caller has left; the thread that waits for it gets the lock, and keeps it.
                acquire: |state, fs| match (state, state.step(fs)) {
                    (Acquire::Retrying(_), Acquire::Revalidating(_)) => {
                        Acquire::Refused(Refusal::Unknown(UnknownReason::Contended))
                    }
                    (_, next) => next,
                },
                leaks: true,
                ..SHIPPED
            },
        },
        Variant {
            name: "listen-without-a-look",
            shipped_by: "",
            caught: breaks(Property::P5, "listening", 2),
            calls: 13,
            engines: EVERY_ENGINE,
            // It looked before, and what came between the look and the arming is no event.
            protocol: acquire(|state, fs| match (state, state.step(fs)) {
                (Acquire::Subscribing(Subscribing { blocked }), _) => {
                    Acquire::Listening(Listening { blocked })
                }
                (_, next) => next,
            }),
        },
        Variant {
            name: "an-event-is-the-lock",
            shipped_by: "",
            caught: breaks(Property::P2, "listening", 2),
            calls: 17,
            engines: EVERY_ENGINE,
            // It may be of somebody who only looked at the file.
            protocol: acquire(|state, fs| match (state, state.step(fs)) {
                (Acquire::Listening(_), Acquire::Rechecking(_)) => {
                    Acquire::Revalidating(Revalidating)
                }
                (_, next) => next,
            }),
        },
        Variant {
            name: "foreign-data-is-stale",
            shipped_by: "portlock 0.1, Percy",
            caught: breaks(Property::P2, "base", 2),
            calls: 8,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| {
                let next = state.step(fs);
                match (state, fs.reply) {
                    (Acquire::ReadingUnlocked(_), Reply::Read(ReadReply::Foreign)) => {
                        Acquire::LockingExisting(LockingExisting { peeked: Peeked::Unreadable })
                    }
                    (Acquire::Reading(_), Reply::Read(ReadReply::Foreign)) => CONFIRM_DEAD,
                    _ => next,
                }
            }),
        },
        Variant {
            name: "cut-short-is-a-new-file",
            shipped_by: "portlock 0.1",
            caught: breaks(Property::P3, "base", 2),
            calls: 18,
            engines: &[Engine::Explorer, Engine::Random],
            protocol: acquire(|state, fs| match (state, state.step(fs)) {
                (
                    Acquire::ReadingUnlocked(ReadingUnlocked { age: Age::Young }),
                    Acquire::LockingExisting(LockingExisting { peeked: Peeked::Unreadable }),
                ) => closing(Then::Pause(UnknownReason::BeingCreated)),
                (_, next) => next,
            }),
        },
        Variant {
            name: "free-lock-proves-all-dead",
            shipped_by: "portlock 0.1",
            caught: breaks(Property::P2, "author-without-locks", 2),
            calls: 12,
            engines: &[Engine::Explorer, Engine::Random],
            protocol: evidence(|author| match author {
                Author::OtherNamespace(FreeLock::ProvesNothing) => {
                    Author::OtherNamespace(FreeLock::ProvesDeath)
                }
                other => other,
            }),
        },
        Variant {
            name: "equal-name-is-the-same-machine",
            shipped_by: "portlock 0.1",
            caught: breaks(Property::P2, "machines-that-look-alike", 2),
            calls: 12,
            engines: EVERY_ENGINE,
            protocol: evidence(|author| match author {
                Author::OtherMachine => Author::EarlierBoot,
                other => other,
            }),
        },
        Variant {
            name: "unprobed-is-refused-though-its-lock-is-free",
            shipped_by: "portlock 0.1",
            caught: breaks(Property::P3, "no-probe", 2),
            calls: 9,
            engines: &[Engine::Explorer, Engine::Random],
            protocol: evidence(|author| match author {
                Author::Here(_, Probe::Unknown) => {
                    Author::Here(FreeLock::ProvesNothing, Probe::Unknown)
                }
                other => other,
            }),
        },
        Variant {
            name: "number-identifies-the-process",
            shipped_by: "portlock 0.1, Percy",
            caught: breaks(Property::P4, "no-probe", 2),
            calls: 8,
            engines: EVERY_ENGINE,
            protocol: evidence(|author| {
                probed(author, |probe| match probe {
                    Probe::Unknown => Probe::Alive,
                    other => other,
                })
            }),
        },
        Variant {
            name: "failed-probe-is-alive",
            shipped_by: "portlock 0.1",
            caught: breaks(Property::P4, "faults", 2),
            calls: 8,
            engines: EVERY_ENGINE,
            protocol: acquire(|state, fs| match (state, state.step(fs)) {
                (Acquire::Judging(Judging { lock }), next)
                    if next == closing(Then::Fail(Op::Probe)) =>
                {
                    let claim = Claim::Blocks(Blocked { lock, disposition: NAMED });
                    Acquire::Confirming(Confirming { claim })
                }
                (_, next) => next,
            }),
        },
        Variant {
            name: "lost-lock-keeps-its-record",
            shipped_by: "portlock 0.1",
            caught: breaks(Property::P5, "out-of-reach", 2),
            calls: 15,
            engines: &[Engine::Explorer, Engine::Random],
            protocol: release(|state, fs| match state.step(fs) {
                Release::Truncating(ReleaseTruncating { ending: Released::Lost }) => {
                    Release::Closing(ReleaseClosing { ending: Released::Lost })
                }
                next => next,
            }),
        },
        Variant {
            name: "forked-child-gives-up-for-its-parent",
            shipped_by: "portlock 0.1",
            caught: breaks(Property::P1, "fork", 2),
            calls: 5,
            engines: &[Engine::Explorer, Engine::Random],
            protocol: Protocol {
                forked_attempt: Release::Closing(ReleaseClosing { ending: Released::Left }),
                ..SHIPPED
            },
        },
        Variant {
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
        },
        Variant {
            name: "keep-after-void",
            shipped_by: "",
            caught: breaks(Property::P1, "faults", 2),
            calls: 7,
            engines: EVERY_ENGINE,
            protocol: release(|state, fs| match state.step(fs) {
                Release::Closing(ReleaseClosing { ending: Released::Failed(op) }) => {
                    Release::Closing(ReleaseClosing { ending: Released::Kept(op) })
                }
                next => next,
            }),
        },
        Variant {
            name: "abandon-without-void",
            shipped_by: "",
            caught: breaks(Property::P6, "faults", 2),
            calls: 6,
            engines: EVERY_ENGINE,
            protocol: release(|state, fs| match state {
                Release::Truncating(ReleaseTruncating { ending }) => {
                    fs.close();
                    Release::Ended(ending)
                }
                other => other.step(fs),
            }),
        },
        Variant {
            name: "clear-without-lock",
            shipped_by: "",
            caught: breaks(Property::P2, "clears", 2),
            calls: 6,
            engines: EVERY_ENGINE,
            protocol: clear(|state, fs| match (state, state.step(fs)) {
                (
                    Clear::At(Acquire::ReadingUnlocked(_)),
                    Clear::At(Acquire::LockingExisting(_)),
                ) => Clear::At(Acquire::Judging(Judging { lock: KernelLock::Ours })),
                (_, next) => next,
            }),
        },
        Variant {
            name: "clear-without-confirm",
            shipped_by: "",
            caught: breaks(Property::P2, "clears", 2),
            calls: 16,
            engines: EVERY_ENGINE,
            protocol: clear(|state, fs| match state.step(fs) {
                Clear::At(CONFIRM_DEAD) => Clear::At(UNLINK),
                next => next,
            }),
        },
        Variant {
            name: "clear-leaves-the-dead",
            shipped_by: "",
            caught: breaks(Property::P3, "clears", 2),
            calls: 7,
            engines: EVERY_ENGINE,
            protocol: clear(|state, fs| match state.step(fs) {
                Clear::At(CONFIRM_DEAD) => {
                    Clear::At(closing(Then::Refuse(Refusal::Unknown(UnknownReason::HolderExited))))
                }
                next => next,
            }),
        },
        Variant {
            name: "force-without-the-lock",
            shipped_by: "",
            caught: breaks(Property::P2, "forced-removal", 2),
            calls: 8,
            engines: EVERY_ENGINE,
            protocol: clear(|state, fs| match state.step(fs) {
                Clear::At(Acquire::Blocked(Blocked { disposition, .. })) => {
                    Clear::At(Acquire::Blocked(Blocked { lock: KernelLock::Ours, disposition }))
                }
                next => next,
            }),
        },
        Variant {
            name: "record-names-the-runner",
            shipped_by: "",
            caught: breaks(Property::P1, "command", 2),
            calls: 6,
            engines: EVERY_ENGINE,
            protocol: Protocol { runner_holds: true, ..SHIPPED },
        },
        Variant {
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
        },
    ]
}

/// The wrong protocol of this name.
pub fn named(name: &str) -> Option<Variant> {
    all().into_iter().find(|variant| variant.name == name)
}
