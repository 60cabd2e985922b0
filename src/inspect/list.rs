//! All locks of a directory, each with its status, read-only.
//!
//! A query whose answer depends on the kernel lock reads all kernel locks of the system (on Linux,
//! which lists them in /proc/locks alone), so one query a lock would take time that grows with the
//! square of their number. Here many queries run side by side, with the machine of
//! [`Lock::status`], and one look at the kernel's locks serves all of them:
//!
//! ```text
//!  lock 1   open ─ date ─ read ─ probe ─┐                  ┌─ watch ─ confirm ─ close
//!  lock 2   open ─ date ─ read ─ probe ─┼─ one look at the ┼─ watch ─ confirm ─ close
//!  lock n   open ─ date ─ read ─ probe ─┘  kernel's locks  └─ watch ─ confirm ─ close
//! ```
//!
//! **The look comes after the last read.** An older look misses the lock of a process that acquired
//! in between, and whose record was then read:
//!
//! 1. We look at the kernel's locks. No process holds X.
//! 2. A process of another container acquires X: creates, locks, writes.
//! 3. We read its record. From here its process cannot be probed, so the kernel lock decides.
//! 4. By the look no process has it. X seems stale, and is held.
//!
//! In the order above the watch of each lock happens at the instant of the look, which lies between
//! that query's own read and its confirm, as in a query that runs alone.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::dir::LockDir;
use crate::error::AcquireError;
use crate::inspect::status::Status;
use crate::lock::Lock;
use crate::protocol::{Query, depends_on_watch};
use crate::sys::{self, KernelLocks, LockFile};

/// How many lock files are open at a time, at most; and at most half of what the process may have
/// open, so that its other threads are left some.
///
/// A look at 10,000 kernel locks takes as long as all else for a thousand files.
const WIDEST: usize = 4096;

/// How many descriptors are kept free for the probe and for the look, which need one or two, and
/// would say less without, or something wrong.
const RESERVE: usize = 4;

/// A lock file that was found in a directory.
#[derive(Debug)]
#[non_exhaustive]
pub struct LockEntry {
    /// The lock.
    pub lock: Lock,
    /// What [`Lock::status`] would have returned, at some instant of the call.
    pub status: Result<Status, AcquireError>,
}

impl LockDir {
    /// Every lock that has a lock file in this directory, with its status: ports first, by number,
    /// then names. An absent directory has none.
    ///
    /// Read-only, as [`Lock::status`]. Files that are no lock files are left out, and so is one that
    /// is removed during the call.
    ///
    /// # Errors
    ///
    /// [`ListError`] if the directory cannot be read. An error of one lock file is in its
    /// [`LockEntry::status`].
    pub fn list(&self) -> Result<Vec<LockEntry>, ListError> {
        let failed = |source| ListError { path: self.path().to_owned(), source };
        if !self.path().is_absolute() {
            return Err(failed(io::Error::other("the working directory cannot be found out")));
        }
        let names = sys::names_in(self.path()).map_err(failed)?;
        let locks: Vec<Lock> =
            names.iter().filter_map(|name| self.lock_of_file(name.to_str()?)).collect();
        let mut listed = statuses(locks.into(), WIDEST.min(sys::process::descriptor_limit() / 2));
        listed.retain(|listed| !matches!(listed.status, Ok(Status::Free)));
        listed.sort_by(|a, b| order(&a.lock).cmp(&order(&b.lock)));
        Ok(listed)
    }
}

/// Ports by number, then names.
fn order(lock: &Lock) -> (bool, Option<u16>, Option<&str>) {
    (lock.port().is_none(), lock.port(), lock.name())
}

/// The status of each, in no order, with at most `widest` lock files open at a time.
fn statuses(mut left: VecDeque<Lock>, widest: usize) -> Vec<LockEntry> {
    let widest = widest.max(1);
    // Before any descriptors are taken, for it is found out once and needs one.
    sys::process::current_process();
    let mut answered = Vec::with_capacity(left.len());
    let mut waiting = Vec::new();
    while !left.is_empty() {
        let (opened, is_full) = open(&mut left, widest - waiting.len(), waiting.is_empty());
        let (need_look, decided): (Vec<_>, Vec<_>) =
            opened.into_iter().map(Asked::read).partition(Asked::needs_look);
        answered.extend(decided.into_iter().map(Asked::answered));
        waiting.extend(need_look);
        if is_full || waiting.len() == widest {
            answered.extend(look(std::mem::take(&mut waiting)));
        }
    }
    answered.extend(look(waiting));
    answered
}

/// Opens the next of `left`, at most `most`, and says whether the descriptors ran out: then the
/// rest is left. If it is `alone` it opens one, with whatever that says about it.
fn open(left: &mut VecDeque<Lock>, most: usize, alone: bool) -> (Vec<Asked>, bool) {
    let mut opened = Vec::new();
    let mut is_full = false;
    let reserve = sys::process::reserve_descriptors(RESERVE);
    while opened.len() < most && !is_full {
        let Some(lock) = left.pop_front() else { break };
        let next = Asked::new(lock).step();
        is_full = next.file.lacked_descriptors();
        if is_full {
            // Not an answer about this lock.
            left.push_front(next.lock);
        } else {
            opened.push(next);
        }
    }
    drop(reserve);
    if alone && opened.is_empty() {
        opened.extend(left.pop_front().map(|lock| Asked::new(lock).step()));
    }
    (opened, is_full)
}

/// One look at the kernel's locks, after all of `waiting` have read, and their answers from it.
fn look(waiting: Vec<Asked>) -> impl Iterator<Item = LockEntry> {
    let locks = (!waiting.is_empty()).then(|| Arc::new(KernelLocks::snapshot()));
    waiting.into_iter().map(move |mut asked| {
        asked.file.watch_in(locks.clone().unwrap_or_default());
        asked.answered()
    })
}

/// A query under way.
struct Asked {
    lock: Lock,
    file: LockFile,
    state: Query,
}

impl Asked {
    fn new(lock: Lock) -> Self {
        let file = LockFile::to_ask(lock.shared_path());
        Self { lock, file, state: Query::START }
    }

    fn step(mut self) -> Self {
        self.state = self.state.step(&mut self.file);
        self
    }

    /// Up to where it waits for its watch, or for its driver, or has ended.
    fn read(mut self) -> Self {
        while matches!(
            self.state,
            Query::Opening(_)
                | Query::CheckingAge(_)
                | Query::Reading(_)
                | Query::Judging(_)
                | Query::Closing(_)
        ) {
            self = self.step();
        }
        self
    }

    fn needs_look(&self) -> bool {
        matches!(self.state, Query::Watching(watching) if depends_on_watch(watching.evidence))
    }

    fn answered(self) -> LockEntry {
        let status = self.lock.finished(self.file, self.state);
        LockEntry { lock: self.lock, status }
    }
}

/// Why the lock files of a directory could not be listed.
#[derive(Debug)]
#[non_exhaustive]
pub struct ListError {
    /// The directory, from the root.
    pub path: PathBuf,
    /// The system's error.
    pub source: io::Error,
}

impl ListError {
    /// What a person can do about it.
    pub fn next_step(&self) -> String {
        match self.source.kind() {
            io::ErrorKind::PermissionDenied => "use a directory that you may read".to_owned(),
            _ => crate::error::remedy(&self.source).to_owned(),
        }
    }
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot list the directory {}", self.path.display())?;
        crate::error::end(f, self.source(), &self.next_step())
    }
}

impl Error for ListError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

impl From<ListError> for io::Error {
    /// Keeps the kind; the whole error is the source.
    fn from(error: ListError) -> Self {
        Self::new(error.source.kind(), error)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::sys::in_time::in_time;

    /// The order of a list, and the wrong one, around an acquire that comes between.
    #[test]
    fn lock_snapshot_before_read_shows_held_as_stale() {
        let dir = tempfile::tempdir().expect("a directory");
        let is_not_seen = |port| {
            let lock = LockDir::at(dir.path()).port(port).expect("a port");
            let older = Arc::new(KernelLocks::snapshot());
            let _guard = lock.try_acquire().expect("free");
            let mut asked = Asked::new(lock.clone()).read();
            assert!(asked.needs_look());
            asked.file.watch_in(older);
            let wrong = asked.answered().status.expect("the status is known");
            let right = look(vec![Asked::new(lock).read()]).next().expect("one").status;
            assert!(matches!(right, Ok(Status::Held { .. })), "{right:?}");
            // Where not all kernel locks are listed, the absence of one proves nothing.
            matches!(wrong, Status::Stale { .. } | Status::Unknown { .. })
        };
        // A file may get the number of one whose lock another test has just given up.
        assert!((5331..5431).any(is_not_seen), "the control");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "it makes a file that is no directory")]
    fn unreadable_directory_is_named_with_advice() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("file");
        std::fs::write(&file, "").expect("written");
        let error = LockDir::at(&file).list().expect_err("it is no directory");
        assert!(error.to_string().starts_with("cannot list the directory /"), "{error}");
        assert!(error.source().is_some() && !error.next_step().is_empty());
        let source = io::ErrorKind::PermissionDenied.into();
        let denied = ListError { path: file, source };
        assert_eq!(denied.next_step(), "use a directory that you may read");
    }

    /// Five locks that are held.
    fn held(dir: &LockDir) -> (VecDeque<Lock>, Vec<crate::Guard>) {
        let locks: VecDeque<Lock> =
            (5331..5336).map(|port| dir.port(port).expect("a port")).collect();
        let guards = locks.iter().map(|lock| lock.try_acquire().expect("free")).collect();
        (locks, guards)
    }

    #[test]
    fn no_more_files_are_opened_than_allowed() {
        let home = tempfile::tempdir().expect("a directory");
        let (mut locks, _guards) = held(&LockDir::at(home.path()));
        let (opened, is_full) = open(&mut locks, 2, true);
        assert_eq!((opened.len(), locks.len(), is_full), (2, 3, false));
        let (opened, is_full) = open(&mut locks, 0, true);
        assert_eq!((opened.len(), locks.len(), is_full), (1, 2, false), "one, if it is alone");
        let (opened, _) = open(&mut locks, 9, false);
        assert_eq!((opened.len(), locks.len()), (2, 0));
    }

    #[test]
    fn every_lock_is_listed_at_any_width() {
        let home = tempfile::tempdir().expect("a directory");
        let (locks, _guards) = held(&LockDir::at(home.path()));
        for widest in [0, 1, 2, 5, 9] {
            let locks = locks.clone();
            let listed = in_time(move || statuses(locks, widest));
            let held = |entry: &LockEntry| matches!(entry.status, Ok(Status::Held { .. }));
            assert!(listed.len() == 5 && listed.iter().all(held), "{widest}: {listed:?}");
        }
    }

    #[test]
    fn only_a_lock_file_needs_a_look() {
        let home = tempfile::tempdir().expect("a directory");
        let lock = LockDir::at(home.path()).port(5338).expect("a port");
        assert!(!Asked::new(lock).read().needs_look());
    }

    #[test]
    fn open_discards_the_previous_files_snapshot() {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = LockDir::at(dir.path()).port(5338).expect("a port");
        let older = Arc::new(KernelLocks::snapshot());
        let _guard = lock.try_acquire().expect("free");
        // As after a pause: the machine starts again, and so must the look.
        let mut asked = Asked::new(lock);
        asked.file.watch_in(older);
        let status = asked.answered().status.expect("the status is known");
        assert!(matches!(status, Status::Held { .. }), "{status:?}");
    }
}
