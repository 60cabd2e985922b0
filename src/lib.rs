//! A lock file per port, name or path that one process holds at a time.
//!
//! **Once [`Lock::try_acquire`] has returned a [`Guard`], no other participant of the protocol
//! holds the same path, until the guard is released or its process ends.** Whoever is refused is
//! told who holds it. When the holder dies, by any signal, panic or power loss, the next acquire
//! gets the lock with no one's help.
//!
//! # Not promised
//!
//! - A program that ignores the protocol, or a person with `rm`, can remove the file under its
//!   holder; then somebody else can acquire. The holder can notice ([`Guard::is_current`]), and its
//!   release removes nothing of the other's, except in the instant between its last look and the
//!   unlink right after it, which no system call can close.
//! - [`Lock::force_clear`] stands outside of the promises, and says so.
//! - Where a filesystem has no kernel locks (`flock`), nothing is reclaimed: a dead holder's file
//!   stays until a person removes it. [`Guard::guarantee`] tells.
//! - Nothing is queued: who gets a lock that is released is not decided by who came first.
//! - A process that uses the resource without acquiring is not kept from it: the lock is advisory.
//!
//! # Dangers
//!
//! - `let _ = lock.try_acquire()?;` releases at once. Bind the guard to a name.
//! - [`std::process::exit`] runs no destructors. The lock of a guard that is alive at that moment is
//!   released anyway (S11), while threads that still work go on working for an instant. An abort or a
//!   signal leaves the file, which the next acquire reclaims. So does an `exec`, but only when the new
//!   program has ended: until then its pid is that of a live holder ([`Guard::exec`] is the way to
//!   execute a program under the lock).
//! - [`Lock::acquire`] waits for as long as it takes, and without end if this very process holds the
//!   lock.
//! - A lock does not go with a `fork`. A daemon acquires after its last fork: see [`Guard`].
//! - A forked child that has locks of its own must end by `exit`, or leaves them to be reclaimed.
//!
//! # Not offered
//!
//! - **A shared mode**, for many readers: the lock file has one record, so a refusal could not name
//!   the readers, and a reader that died could not be told from one that lives.
//! - **Re-entrancy**: a second acquire in one process is refused, as one in another is. What a thread
//!   may do while another one holds the lock is a question for a mutex; share the [`Guard`].
//! - **An order among processes**: a queue would have to be kept in files, which a process that dies
//!   in it would have to be removed from. Waiters of one process are served in order.
//!
//! # Example
//!
//! ```
//! # let home = tempfile::tempdir()?;
//! use portlock::{AcquireError, LockDir};
//!
//! let lock = LockDir::at(home.path()).port(5338)?;
//! let guard = lock.try_acquire()?;
//! match lock.try_acquire() {
//!     Err(AcquireError::Held(held)) => println!("{held}"),
//!     other => unreachable!("we hold it: {other:?}"),
//! }
//! guard.release()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The promises
//!
//! The code, the model and the tests cite these by number.
//!
//! - **P1 exclusion.** At most one participant holds a path at any time. Who holds has the kernel
//!   lock on the file that the path names, with its own record in it.
//! - **P2 no foreign removal.** A file is removed only by its holder's release, by its creator whose
//!   acquire failed, or by a reclaimer that has the kernel lock on exactly that file and has judged
//!   its holder dead.
//! - **P3 recovery.** Who dies at any step blocks nobody, where the kernel lock or the probe can
//!   prove the death: the next acquire gets the lock, at once, or after two seconds if the dead one
//!   had created its file and not yet written to it.
//! - **P4 truthful refusal.** A refusal names one who, at some instant of the call, had the kernel
//!   lock on the file that the path named with its record in it (or, in the old format, stood in
//!   the file and lived), or says that the holder is not known, and why.
//! - **P5 bounded.** An acquire or release that runs alone ends within a small, fixed number of
//!   calls. None blocks, unless the caller asked to wait ([`Lock::acquire`],
//!   [`Lock::acquire_timeout`], [`Lock::acquire_with`]); a caller that waits gets the lock when it is free.
//! - **P6 no litter.** An idle directory is empty, unless someone died in it or the system refused a
//!   removal. What is left then is empty or a dead one's, and the next acquire removes it.
//! - **P7 time is never safety** between participants that take kernel locks. For files of the old
//!   format time is evidence: see [`protocol::GRACE`].
//! - **P8 the pid is not needed for safety.** Exclusion holds even if every answer of the pid probe
//!   is wrong.
//!
//! # When the world changes under a lock
//!
//! | what happens | what follows |
//! | --- | --- |
//! | the clock is set, by however much | nothing, between participants of this crate: a record is told by pid, start since boot, boot and namespace. A file without a record is waited for up to two seconds more. An agent of the old format is taken for a dead one's pid, given out again, if the clock is set forward by over a minute while it runs |
//! | the machine sleeps | nothing: the kernel lock stays, and the start of a process counts the sleep. An agent of the old format that falls asleep between its create and its write, for over two seconds by the clock, is taken for dead |
//! | the machine gets another name | nothing, until it is booted anew: then a lock from before counts as another machine's, and is refused (`clear --force` removes it) |
//! | the home is shared with another machine | a holder there is refused as long as its kernel lock is seen, and after that too, as unknown: nothing here proves its death |
//! | a person or a cleaner removes the file | the holder can notice ([`Guard::is_current`]), and its release removes nothing of a successor's |
//!
//! # Map
//!
//! | file | what |
//! | --- | --- |
//! | `protocol/` | the machines: states, and the one call that each waits for |
//! | `protocol/ops.rs` | the operations, as a trait |
//! | `protocol/judge.rs` | the verdict over a lock file that stands in the way |
//! | `acquire/` | how an acquire is driven, and how long it goes on |
//! | `inspect/` | status, list and sweep |
//! | `record.rs` | what stands in the file |
//! | `dir.rs`, `lock.rs`, `guard.rs` | what users hold |
//! | `error/` | what they are told |
//! | `percy.rs` | what is kept for the old agent: its directory, its names of files, its words |
//! | `exit.rs` | the release of what is held when the process exits |
//! | `sys/` | the real system behind the trait, and the process probe |
//! | `trace.rs` | events for `tracing`, with feature `tracing` |
//! | `bin/portlock/` | the command, with feature `cli` |

#![deny(missing_docs)]
#![deny(clippy::disallowed_methods)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod acquire;
mod dir;
mod error;
mod exit;
mod guard;
mod inspect;
mod lock;
mod percy;
pub mod protocol;
mod record;
#[cfg(feature = "serde")]
mod serial;
mod sys;
pub mod testing;
mod trace;
mod words;

pub use acquire::cancel::CancelToken;
pub use acquire::wait::WaitOptions;
pub use dir::{LockDir, LockKey};
pub use error::held::Held;
pub use error::{AcquireError, BadName, PlaceError, ReleaseError};
pub use guard::{Guard, Reclaimed};
pub use inspect::list::{ListError, Listed};
pub use inspect::status::Status;
pub use inspect::sweep::Swept;
pub use lock::Lock;
pub use protocol::{Guarantee, Op, Refusal, Unsure};
pub use record::{Holder, MAX_NOTE, MAX_RECORD};

/// The shipped adapter on `path`, for programs that check it against the model or record its calls.
/// A create is recorded as `record`: this process, if `None`. **Not covered by semantic versioning.**
#[doc(hidden)]
pub fn adapter(path: impl AsRef<std::path::Path>, record: Option<Holder>) -> impl Adapter {
    let record = record.unwrap_or_else(|| sys::process::me().into_owned());
    sys::LockFile::new(sys::absolute(path.as_ref()), record)
}

/// What [`adapter`] gives. **Not covered by semantic versioning.**
#[doc(hidden)]
pub trait Adapter: protocol::FileSystem + Send {
    /// Another descriptor of the open file, as a forked child has one.
    #[cfg(unix)]
    fn another_descriptor(&self) -> std::io::Result<std::fs::File>;
}

impl Adapter for sys::LockFile {
    #[cfg(unix)]
    fn another_descriptor(&self) -> std::io::Result<std::fs::File> {
        self.another_descriptor()
    }
}

/// Acquires the lock of `port` in the user's directory: `$PORTLOCK_DIR/agent-<port>.lock`, or
/// `~/.percy/agent-<port>.lock` where that is not set.
///
/// Short for `LockDir::user()?.port(port)?.try_acquire()`.
///
/// # Errors
///
/// As [`Lock::try_acquire`], and [`AcquireError::Place`] for port 0 or without a home directory.
pub fn try_acquire(port: u16) -> Result<Guard, AcquireError> {
    LockDir::user()?.port(port)?.try_acquire()
}

/// The example of the README, so that it compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
