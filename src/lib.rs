//! Crash-safe lock files: one process holds a lock, a refusal names the holder, and a lock whose
//! holder died is recovered by the next acquire.
//!
//! **Once [`Lock::try_acquire`] has returned a [`Guard`], no other participant of the protocol
//! holds the same path, until the guard is released or its process ends.**
//!
//! # Example
//!
//! ```
//! # let home = tempfile::tempdir()?;
//! use portlock::{AcquireError, LockDir};
//!
//! // A program uses `LockDir::home("my-app")?`.
//! let lock = LockDir::at(home.path()).port(5338)?;
//! let guard = lock.try_acquire()?;
//! // A second acquire, of this or another process, is refused.
//! match lock.try_acquire() {
//!     Err(AcquireError::Held(held)) => println!("{held}"),
//!     other => unreachable!("we hold it: {other:?}"),
//! }
//! guard.release()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Which function
//!
//! | you have | use |
//! | --- | --- |
//! | a port, and the directory of your program | [`LockDir::home`], [`LockDir::port`] |
//! | a name instead of a port | [`LockDir::name`] |
//! | a path of your own | [`Lock::at`] |
//! | a directory for one test | [`LockDir::at`], and the page [`testing`] |
//! | files that Percy's agent uses | [`try_acquire`], [`LockDir::user`] |
//!
//! | you want | use |
//! | --- | --- |
//! | an answer at once | [`Lock::try_acquire`] |
//! | to wait for as long as it takes | [`Lock::acquire`] |
//! | to wait with a limit | [`Lock::acquire_timeout`] |
//! | a limit, a cancel token, or the holder's name while waiting | [`Lock::acquire_with`] |
#![cfg_attr(
    feature = "tokio",
    doc = "| the same without a blocked thread, in tokio | [`Lock::acquire_async`], [`Lock::acquire_async_with`] |"
)]
#![cfg_attr(
    not(feature = "tokio"),
    doc = "| the same without a blocked thread, in tokio | `Lock::acquire_async`, with feature `tokio` |"
)]
//! | to look without acquiring | [`Lock::status`], [`LockDir::list`] |
//! | to remove stale lock files | [`Lock::clear`], [`LockDir::sweep`] |
//! | to run a program under the lock | [`Guard::pass_to_child`], [`Guard::exec`] |
//!
//! # Pitfalls
//!
//! - **The lock is released at once.** `let _ = lock.try_acquire()?;` drops the guard. Bind it to a name.
//! - **The daemon does not hold the lock.** A lock does not go with a `fork`: acquire after the last
//!   fork. See [`Guard`].
//! - **`acquire` never returns.** A process that already holds the lock waits for itself.
//! - **The lock file stays.** An abort or a signal leaves it, and the next acquire reclaims it.
//!   [`std::process::exit`] does release the lock, while other threads may still run for an instant.
//! - **The program that I executed is refused its own lock.** An `exec` without [`Guard::exec`] loses
//!   the kernel lock and keeps the pid, so the lock is refused until the new program ends.
//! - **Two containers both hold.** Two mounts of a network or FUSE filesystem may not see each other's
//!   kernel locks. Use a local directory.
//!
//! # The promises
//!
//! The code, the model and the tests cite these by number.
//!
//! - **P1 mutual exclusion.** At most one participant holds a path at any time. The holder has the kernel
//!   lock on the file that the path names, with its own record in it.
//! - **P2 no foreign removal.** A file is removed only by its holder's release, by its creator whose
//!   acquire failed, or by a reclaimer that has the kernel lock on exactly that file and has judged
//!   its holder dead.
//! - **P3 recovery.** A participant that dies at any step blocks no other, where the kernel lock or the
//!   probe can prove the death: the next acquire gets the lock, at once, or after two seconds if the
//!   dead one had created its file and not yet written to it.
//! - **P4 truthful refusal.** A refusal that names a holder names one that, at some instant of the
//!   call, had the kernel lock on the file that the path named, with its record in it. That may be a
//!   creator that has still to confirm its file. In the old format, and without kernel locks, it is
//!   the recorded process, alive while its record was in the file. Any other refusal says that the
//!   holder is unknown, and why.
//! - **P5 bounded.** An acquire or release that runs alone ends within a small, fixed number of
//!   calls. None blocks, unless the caller asked to wait ([`Lock::acquire`],
//!   [`Lock::acquire_timeout`], [`Lock::acquire_with`]); a caller that waits gets the lock when it is free.
//! - **P6 no litter.** An idle directory is empty, unless a participant died in it or the system refused
//!   a removal or a kernel lock. What is left then is empty or a dead one's, and the next acquire removes it.
//! - **P7 safety never depends on time**, between participants that take kernel locks. For files of the
//!   old format time is evidence: see [`protocol::GRACE`].
//! - **P8 safety never depends on the pid probe.** Exclusion holds even if every answer of it is wrong.
//!
//! # Not promised
//!
//! - A program that ignores the protocol, or a person with `rm`, can remove the file under its
//!   holder; then another process can acquire. The holder can notice ([`Guard::is_still_held`]), and its
//!   release removes no other's file, except in the window between the final check and the unlink.
//! - [`Lock::force_clear`] is outside of the promises.
//! - Where a filesystem has no kernel locks (`flock`), nothing is reclaimed: a dead holder's file
//!   stays until a person removes it. [`Guard::guarantee`] says which case it is.
//! - Waiting processes are served in no order.
//! - The lock is advisory: it does not stop a process that uses the resource without acquiring.
//!
//! # Not offered
//!
//! - **A shared mode**, for many readers: the lock file has one record, so a refusal could not name
//!   the readers, and a dead reader could not be told from a live one.
//! - **Re-entrancy**: a second acquire in one process is refused, as one in another is. Share the
//!   [`Guard`], and use a mutex between threads.
//! - **An order among processes**: a queue would have to be kept in files, from which a process that
//!   dies would have to be removed. Waiters of one process are served in order.
//!
//! # When the world changes under a lock
//!
//! | what happens | what follows |
//! | --- | --- |
//! | the clock is set, by however much | no effect between participants of this crate: a record is identified by pid, start since boot, boot and namespace. A file without a record is waited for up to two seconds longer. A live agent of the old format is taken for dead if the clock is set forward by over a minute while it runs |
//! | the machine sleeps | no effect: the kernel lock stays, and the start of a process counts the sleep. An agent of the old format that falls asleep between its create and its write, for over two seconds, is taken for dead |
//! | the machine gets another name | no effect on a local disk. On a shared filesystem, after the next boot, a lock from before counts as another machine's and is refused (`clear --force` removes it) |
//! | the home is shared with another machine | a holder there is refused as long as its kernel lock is seen, and as unknown after that: no check here can prove its death |
//! | a person or a cleaner removes the file | the holder can notice ([`Guard::is_still_held`]), and its release leaves a successor's file alone |
//!
//! # Another file system under the same machine
//!
//! The [`protocol`] drives any [`protocol::FileSystem`]: a model, a recorder, a simulation. The
//! driver's whole loop, over a file system in memory on which no other process ever dies:
//!
//! ```
//! use portlock::protocol::*;
//!
//! /// One lock path: the record in it, if the file is there, and which participant has its kernel lock.
//! #[derive(Default)]
//! struct Disk { record: Option<Option<u32>>, locked_by: Option<u32> }
//!
//! /// One participant's view of it.
//! struct View<'a> { disk: &'a mut Disk, me: u32 }
//!
//! impl FileSystem for View<'_> {
//!     fn create(&mut self) -> Create {
//!         if self.disk.record.is_some() { return Create::Exists }
//!         self.disk.record = Some(None);
//!         Create::Created
//!     }
//!     fn open(&mut self) -> OpenReply {
//!         if self.disk.record.is_some() { OpenReply::Opened } else { OpenReply::Absent }
//!     }
//!     fn age(&mut self) -> Dated { Dated::Known(Age::Young) }
//!     fn lock(&mut self) -> LockReply {
//!         let by = *self.disk.locked_by.get_or_insert(self.me);
//!         if by == self.me { LockReply::Ours } else { LockReply::Busy }
//!     }
//!     fn write(&mut self) -> Done { self.disk.record = Some(Some(self.me)); Done::Done }
//!     fn read(&mut self) -> ReadReply {
//!         match self.disk.record { Some(Some(_)) => ReadReply::Record, _ => ReadReply::Empty }
//!     }
//!     fn probe(&mut self) -> Probed {
//!         Probed::Known(Author::Here(FreeLock::ProvesDeath, Probe::Alive))
//!     }
//!     fn confirm(&mut self) -> Confirm { Confirm::Same }
//!     fn unlink(&mut self) -> Unlink { self.disk.record = None; Unlink::Unlinked }
//!     fn close(&mut self) { if self.disk.locked_by == Some(self.me) { self.disk.locked_by = None } }
//! #   fn subscribe(&mut self) {}
//! #   fn wait_event(&mut self) -> Listen { Listen::Over }
//! #   fn truncate(&mut self) -> Done { self.disk.record = Some(None); Done::Done }
//! #   fn query_lock(&mut self) -> Watch { Watch::Unknown }
//! #   fn close_without_unlock(&mut self) {}
//! }
//!
//! /// Without a wait, and with three tries.
//! fn acquire(fs: &mut impl FileSystem) -> Acquire {
//!     let (mut state, mut tries) = (Acquire::START, 0);
//!     loop {
//!         state = match state {
//!             Acquire::Held(_) | Acquire::Refused(_) | Acquire::Failed(_) => return state,
//!             Acquire::Blocked(at_a_holder) => at_a_holder.leave(),
//!             Acquire::Pausing(pausing) if tries < 3 => { tries += 1; pausing.again() }
//!             Acquire::Pausing(pausing) => pausing.give_up(),
//!             waiting => waiting.step(fs),
//!         }
//!     }
//! }
//!
//! let mut disk = Disk::default();
//! let first = acquire(&mut View { disk: &mut disk, me: 1 });
//! assert_eq!(first, Acquire::Held(Guarantee::KernelLock));
//! let second = acquire(&mut View { disk: &mut disk, me: 2 });
//! assert_eq!(second, Acquire::Refused(Refusal::Holder));
//! ```
//!
//! # Features
//!
//! | feature | |
//! | --- | --- |
//! | `cli` | the command `portlock` |
//! | `tokio` | `Lock::acquire_async` |
//! | `serde` | `Serialize` for holders, status and list entries, as the command's JSON |
//! | `tracing` | events: a reclaim, a wait, a lost lock, a release that failed in a drop |
//! | `loom` | for the tests of this crate alone |
//!
//! Platforms and filesystems, the file format and the architecture have pages in the repository.

#![cfg_attr(docsrs, feature(doc_cfg))]
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
mod subject;
mod sys;
pub mod testing;
mod trace;
mod words;

pub use acquire::cancel::CancelToken;
pub use acquire::wait::WaitOptions;
pub use dir::{LockDir, LockKey};
pub use error::held::Held;
pub use error::{AcquireError, InvalidName, LockDirError};
pub use guard::{Guard, Reclaimed, ReleaseError};
pub use inspect::list::{ListError, LockEntry};
pub use inspect::status::Status;
pub use inspect::sweep::SweepOutcome;
pub use lock::Lock;
pub use protocol::{Guarantee, Op, Refusal, UnknownReason};
pub use record::{Holder, MAX_NOTE, MAX_RECORD};

/// The shipped adapter on `path`, for programs that check it against the model or record its calls.
/// A create is recorded as `record`: this process, if `None`. **Not covered by semantic versioning.**
#[doc(hidden)]
pub fn adapter(path: impl AsRef<std::path::Path>, record: Option<Holder>) -> impl Adapter {
    let record = record.unwrap_or_else(|| sys::process::current_process().into_owned());
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
/// As [`Lock::try_acquire`], and [`AcquireError::LockDir`] for port 0 or without a home directory.
pub fn try_acquire(port: u16) -> Result<Guard, AcquireError> {
    LockDir::user()?.port(port)?.try_acquire()
}

/// The example of the README, so that it compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
