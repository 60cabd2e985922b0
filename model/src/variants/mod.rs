//! The wrong protocols that must be caught. Each rewrites transitions, or the evidence, around the
//! shipped machine. The shipped code has no switch for them.

pub mod catalogue;
mod clearing;
mod creation;
mod evidence;
mod processes;
mod release;
mod removal;
mod waiting;

use portlock::protocol::{
    Acquire, Author, Blocked, Claim, Clear, Closing, Confirming, Disposition, FileSystem,
    LockingExisting, Peeked, Query, Refusal, Release, ReleaseClosing, ReleaseTruncating, Released,
    Then, Unlinking,
};

use crate::properties::property::Property;
use crate::scenario::other::Repairs;
use crate::scenario::state::Activity;
use crate::scenario::view::View;

/// The shipped machines, or a wrong protocol around them.
#[derive(Clone, Copy)]
pub struct Protocol {
    pub begin: Activity,
    pub acquire: fn(Acquire, &mut View<'_>) -> Acquire,
    pub release: fn(Release, &mut View<'_>) -> Release,
    pub query: fn(Query, &mut View<'_>) -> Query,
    pub clear: fn(Clear, &mut View<'_>) -> Clear,
    pub release_start: Release,
    /// The start of a forked child that drops its copy of a guard.
    pub forked_start: Release,
    /// The start of a forked child that drops its copy of an acquire in progress.
    pub forked_attempt: Release,
    pub rewrite_evidence: fn(Author) -> Author,
    pub confirms_itself: bool,
    /// A call may end without closing its file.
    pub leaks: bool,
    pub repairs: Repairs,
    /// A runner holds the lock for its command, which shares its open file.
    pub runner_holds: bool,
}

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

/// How a variant is caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caught {
    /// This property breaks in this scenario, with this many participants.
    Breaks { property: Property, scenario: &'static str, participants: usize },
    /// No property breaks, because another step compensates: the reason, and the variant that
    /// leaves out both.
    Harmless { why: &'static str, both: &'static str },
}

/// A way to find a broken property.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Engine {
    /// Exhaustive search (`search/explore.rs`).
    Explorer,
    /// Seeded random schedules (tests/properties.rs), and those of the coverage-guided fuzzer.
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

#[derive(Clone, Copy)]
pub struct Variant {
    pub name: &'static str,
    /// Software that shipped it, where known.
    pub shipped_by: &'static str,
    pub caught: Caught,
    /// Calls of the shortest trace, which the explorer finds.
    pub calls: usize,
    /// The engines that find it, which a test of each engine checks.
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
/// The refusal that names a live holder.
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

/// A release that drops the lock and then unlinks by name, when it no longer believes that it
/// holds.
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

const fn with_repairs(begin: Activity, reread: bool, guard: bool) -> Protocol {
    Protocol { begin, repairs: Repairs { reread, guard }, ..SHIPPED }
}

const fn with_acquire(acquire: fn(Acquire, &mut View<'_>) -> Acquire) -> Protocol {
    Protocol { acquire, ..SHIPPED }
}

const fn with_release(release: fn(Release, &mut View<'_>) -> Release) -> Protocol {
    Protocol { release, ..SHIPPED }
}

const fn with_clear(clear: fn(Clear, &mut View<'_>) -> Clear) -> Protocol {
    Protocol { clear, ..SHIPPED }
}

const fn with_evidence(rewrite_evidence: fn(Author) -> Author) -> Protocol {
    Protocol { rewrite_evidence, ..SHIPPED }
}

/// Every wrong protocol, in the order of the design.
pub fn all() -> Vec<Variant> {
    vec![
        processes::NAIVE,
        removal::EMPTY_IS_STALE_WITHOUT_LOCK,
        removal::ABSENT_IS_STALE,
        removal::NO_CONFIRM_BEFORE_UNLINK,
        removal::CONFIRM_BEFORE_LOCK,
        removal::CONFIRM_BEFORE_VERDICT_UNLOCK_BEFORE_UNLINK,
        removal::READ_BEFORE_LOCK_AND_NOT_AGAIN,
        removal::READ_ONCE_NO_CONFIRM,
        removal::UNLINK_TWICE,
        processes::RENAME_ASIDE_THEN_CHECK,
        processes::UNLINK_CREATE_REREAD_GIVE_UP,
        processes::GUARD_FOR_RECLAIMERS_ONLY,
        evidence::NOT_PERMITTED_IS_DEAD,
        removal::UNREADABLE_IS_STALE,
        removal::DENIED_IS_STALE,
        removal::OWN_PID_IS_STALE_WITHOUT_LOCK,
        removal::OLD_AGE_IS_DEAD,
        evidence::ZOMBIE_IS_ALIVE,
        evidence::START_TIME_IGNORED,
        creation::NO_CONFIRM_AFTER_CREATE,
        creation::WRITE_BEFORE_LOCK,
        creation::NEW_FILE_LEFT_WHEN_WRITE_FAILS,
        creation::NEW_FILE_LEFT_WHEN_LOCK_FAILS,
        creation::NEW_FILE_LEFT_WHEN_CONFIRM_FAILS,
        creation::CONTINUE_WITHOUT_LOCK_ON_ENOLCK,
        release::RELEASE_BY_NAME,
        release::DROP_LOCK_THEN_UNLINK,
        processes::UNLINK_IN_FORKED_CHILD,
        creation::COMPARE_OPEN_FILE_WITH_ITSELF,
        evidence::NAME_THE_DEAD_WHILE_RECLAIMER_WORKS,
        evidence::REFUSE_ON_AN_ORPHANS_RECORD,
        creation::LOCK_A_NEW_FILE_TO_INSPECT,
        creation::CLOCK_AFTER_CONTENT,
        waiting::HOLD_AFTER_WAIT_WITHOUT_CONFIRM,
        waiting::LISTEN_TO_A_NEW_FILE,
        waiting::LISTEN_THOUGH_THE_LOCK_IS_FREE,
        waiting::REFUSED_WHEN_THE_HOLDER_RELEASES,
        waiting::TIMED_OUT_WAITER_STAYS,
        waiting::LISTEN_WITHOUT_RECHECK,
        waiting::AN_EVENT_IS_THE_LOCK,
        removal::FOREIGN_DATA_IS_STALE,
        creation::CUT_SHORT_IS_A_NEW_FILE,
        evidence::FREE_LOCK_PROVES_ALL_DEAD,
        evidence::EQUAL_NAME_IS_THE_SAME_MACHINE,
        evidence::UNPROBED_IS_REFUSED_THOUGH_ITS_LOCK_IS_FREE,
        evidence::NUMBER_IDENTIFIES_THE_PROCESS,
        evidence::FAILED_PROBE_IS_ALIVE,
        release::LOST_LOCK_KEEPS_ITS_RECORD,
        processes::FORKED_CHILD_GIVES_UP_FOR_ITS_PARENT,
        processes::FORKED_CHILD_KEEPS_THE_FILE_OPEN,
        release::KEEP_AFTER_VOID,
        release::ABANDON_WITHOUT_VOID,
        clearing::CLEAR_WITHOUT_LOCK,
        clearing::CLEAR_WITHOUT_CONFIRM,
        clearing::CLEAR_LEAVES_THE_DEAD,
        clearing::FORCE_WITHOUT_THE_LOCK,
        processes::RECORD_NAMES_THE_RUNNER,
        clearing::QUERY_TAKES_THE_LOCK,
    ]
}

pub fn named(name: &str) -> Option<Variant> {
    all().into_iter().find(|variant| variant.name == name)
}
