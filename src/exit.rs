//! Last-chance release when the process exits (S11).
//!
//! `std::process::exit`, and a return from `main`, run no destructor of a guard that is still
//! alive: in another frame, in a `static`, forgotten, or in a thread. What the C library runs at
//! exit (`atexit(3)`) releases those locks, as the machine of a release does it: confirm, unlink.
//!
//! Other threads go on running during that, and the process ends at whichever call they are. So the
//! exit closes a gate: no acquire begins to create its file from then on, and the exit waits for
//! those that have begun, which hold or have withdrawn their file a few calls later, and for the
//! releases. Without it one in three exits in the midst of acquires left an empty file, which
//! refuses others for two seconds.
//!
//! Only in the process that took the lock: a forked child has a gate and a registry of its own.
//! Never blocks for long and never panics. Not run by `_exit`, `abort`, `exec` or a signal: then
//! the next acquire reclaims the lock (P3); after an `exec`, once the new program has ended.
//!
//! **A race that stays:** a thread that still uses what the lock protects while the process exits
//! does so for that instant without the lock. Join such threads first, or release by hand when they
//! are done.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::protocol::{Acquire, Pausing, Release};
use crate::sys::{self, LeftOpen, LockFile, per_process::PerProcess};

/// What the exit of this process waits for, and what it cleans up.
#[derive(Debug, Default)]
struct Exit {
    gate: AtomicU8,
    /// How many threads are within the gate.
    within: AtomicUsize,
    /// By number of their registration.
    left: Mutex<BTreeMap<usize, (LeftOpen, Left)>>,
}

/// The state of the gate, for a thread that is about to create a lock file.
const OPEN: u8 = 0;
/// The process is about to execute another program, or to find that it cannot.
const SHUT: u8 = 1;
/// The process exits.
const LOCKED: u8 = 2;

/// What is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// A lock that is held.
    Held,
    /// A file that was just created, and whose acquire pauses.
    Created,
}

/// Something that the exit would clean up.
#[derive(Debug)]
pub(crate) struct Registered(usize);

/// Has `file`, which is open, cleaned up when the process exits.
pub(crate) fn register(file: &LockFile, left: Left) -> Registered {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, SeqCst);
    if let Some(open) = file.left_open() {
        this().left().insert(number, (open, left));
    }
    Registered(number)
}

/// Takes it back, in the process that registered it. `false` if the exit has cleaned it up.
pub(crate) fn take(registered: &Registered) -> bool {
    this().left().remove(&registered.0).is_some()
}

/// A thread within the gate: the exit waits until it has left.
#[derive(Debug)]
pub(crate) struct Within(&'static Exit);

impl Drop for Within {
    fn drop(&mut self) {
        self.0.within.fetch_sub(1, SeqCst);
    }
}

/// To create a lock file. `None` once the process exits.
pub(crate) fn enter() -> Option<Within> {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    if !REGISTERED.swap(true, SeqCst) {
        sys::process::at_exit(at_exit);
    }
    this().enter()
}

/// To release a lock or withdraw a file, which is possible to the end: the exit waits for it.
pub(crate) fn hold_off() -> Within {
    this().count()
}

/// Keeps others from creating lock files, and returns when those that had begun are done; until it
/// is dropped. For an `exec`, which ends all threads.
#[cfg(unix)]
pub(crate) fn shut() -> Shut {
    this().shut()
}

/// A gate that is shut.
#[cfg(unix)]
#[derive(Debug)]
pub(crate) struct Shut(&'static Exit);

#[cfg(unix)]
impl Drop for Shut {
    fn drop(&mut self) {
        let _ = self.0.gate.compare_exchange(SHUT, OPEN, SeqCst, SeqCst);
    }
}

fn this() -> &'static Exit {
    static EXIT: PerProcess<Exit> = PerProcess::new(AtomicPtr::new(std::ptr::null_mut()));
    EXIT.get(sys::process::generation(), Exit::default)
}

pub(crate) extern "C" fn at_exit() {
    sys::process::notice_fork();
    this().clean_up();
}

impl Exit {
    fn enter(&'static self) -> Option<Within> {
        loop {
            match self.gate.load(SeqCst) {
                OPEN => {
                    let within = self.count();
                    // The thread that shuts the gate reads the count afterwards.
                    if self.gate.load(SeqCst) == OPEN {
                        return Some(within);
                    }
                }
                SHUT => std::thread::yield_now(),
                _ => return None,
            }
        }
    }

    #[cfg(unix)]
    fn shut(&'static self) -> Shut {
        // No exit is undone.
        let _ = self.gate.compare_exchange(OPEN, SHUT, SeqCst, SeqCst);
        self.until_none_is_within();
        Shut(self)
    }

    fn count(&'static self) -> Within {
        self.within.fetch_add(1, SeqCst);
        Within(self)
    }

    /// Gives up after a while, and says so: a thread may be stopped, or be the one that exits, in a
    /// signal handler.
    fn until_none_is_within(&self) -> bool {
        waited(|| (self.within.load(SeqCst) == 0).then_some(())).is_some()
    }

    fn left(&self) -> MutexGuard<'_, BTreeMap<usize, (LeftOpen, Left)>> {
        // Nothing is done while it is locked that can panic.
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clean_up(&self) {
        self.gate.store(LOCKED, SeqCst);
        loop {
            let is_quiet = self.until_none_is_within();
            // A thread that has it locked adds or removes a line, unless it is stopped.
            let left = waited(|| self.left.try_lock().ok());
            let left = left.map(|mut left| std::mem::take(&mut *left)).unwrap_or_default();
            let was_empty = left.is_empty();
            for (open, left) in left.into_values() {
                let Some(mut file) = open.view() else { continue };
                match left {
                    Left::Held => release(&mut file),
                    Left::Created => withdraw(&mut file),
                }
            }
            // A thread that takes back what it had left to the exit is within the gate before.
            if !is_quiet || was_empty && self.within.load(SeqCst) == 0 {
                return;
            }
        }
    }
}

/// Waits for other threads, if there are any.
fn waited<T>(mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    if sys::process::other_threads_are_gone() { ready() } else { sys::wait_a_little_until(ready) }
}

fn release(file: &mut LockFile) {
    let mut state = Release::START;
    loop {
        state = match state {
            Release::Ended(_) => return,
            Release::ReleaseFailed(stuck) => stuck.abandon(),
            unfinished => unfinished.step(file),
        };
    }
}

fn withdraw(file: &mut LockFile) {
    let mut state = Pausing::Created.give_up();
    while !matches!(state, Acquire::Refused(_) | Acquire::Failed(_)) {
        state = state.step(file);
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;
    use crate::Lock;
    use crate::sys::forked::in_a_child;
    use crate::sys::in_time::in_time;

    const MINUTE: Duration = Duration::from_secs(60);

    /// A gate that is not the process's own.
    fn gate() -> &'static Exit {
        Box::leak(Box::default())
    }

    #[test]
    fn open_gate_is_entered_and_cleaned_up_at_once() {
        let gate = gate();
        assert!(in_time(|| gate.enter().is_some()));
        in_time(|| gate.clean_up());
        assert_eq!(gate.gate.load(SeqCst), LOCKED);
        drop(Shut(gate));
        assert_eq!(gate.gate.load(SeqCst), LOCKED, "no exit is undone");
    }

    #[test]
    fn thread_that_has_left_is_not_within() {
        let gate = gate();
        let within = gate.enter().expect("it is open");
        assert!(!gate.until_none_is_within(), "a thread is within");
        drop(within);
        assert!(gate.until_none_is_within());
    }

    #[test]
    fn locked_gate_turns_creators_away() {
        let gate = gate();
        gate.gate.store(LOCKED, SeqCst);
        assert!(gate.enter().is_none());
        assert!(gate.until_none_is_within(), "a creator that was turned away is not within");
    }

    #[test]
    fn gate_opens_when_what_shut_it_is_dropped() {
        let shut = gate();
        shut.gate.store(SHUT, SeqCst);
        drop(Shut(shut));
        assert_eq!(shut.gate.load(SeqCst), OPEN);
        for _ in 0..1_000 {
            let gate = gate();
            gate.gate.store(SHUT, SeqCst);
            std::thread::scope(|scope| {
                scope.spawn(|| drop(Shut(gate)));
                assert!(gate.enter().is_some(), "no exit has begun");
            });
            assert_eq!(gate.gate.load(SeqCst), OPEN);
        }
    }

    #[test]
    fn a_shut_gate_waits_for_creators() {
        for _ in 0..100 {
            let gate = gate();
            let within = gate.enter().expect("it is open");
            let [has_left, is_over] = [(); 2].map(|()| AtomicBool::new(false));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while gate.gate.load(SeqCst) != SHUT && !is_over.load(SeqCst) {
                        std::thread::yield_now();
                    }
                    has_left.store(true, SeqCst);
                    drop(within);
                });
                let shut = gate.shut();
                let was_empty = has_left.load(SeqCst);
                is_over.store(true, SeqCst);
                drop(shut);
                assert!(was_empty, "it was still within");
            });
        }
    }

    #[test]
    fn shut_gate_blocks_creators_until_it_opens() {
        let (done, is_done) = channel();
        let (gate, is_open) = (gate(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let shut = gate.shut();
            scope.spawn(|| {
                let within = gate.enter();
                done.send(within.is_some() && is_open.load(SeqCst)).expect("the test listens");
            });
            is_open.store(true, SeqCst);
            drop(shut);
            assert!(is_done.recv_timeout(MINUTE).expect("it gets in"), "it was kept out");
        });
    }

    #[test]
    fn an_exit_releases_every_lock() {
        let home = tempfile::tempdir().expect("a directory");
        let locks = ["x.lock", "y.lock", "z.lock"].map(|name| Lock::at(home.path().join(name)));
        let said = in_a_child(|| {
            let guards = locks.each_ref().map(|lock| lock.try_acquire().expect("free"));
            at_exit();
            std::mem::forget(guards);
            Vec::new()
        });
        assert_eq!(said, b"");
        assert_eq!(std::fs::read_dir(home.path()).expect("it is there").count(), 0);
    }

    /// It cannot keep the lock: the process ends.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "another file is put in the directory's place")]
    fn exit_truncates_a_file_it_cannot_remove() {
        let home = tempfile::tempdir().expect("a directory");
        let [before, after] = ["before", "after"].map(|name| home.path().join(name));
        let lock = Lock::at(before.join("x.lock"));
        let said = in_a_child(|| {
            let guard = lock.try_acquire().expect("free");
            // The path leads through a file, so that neither a confirm nor an unlink can succeed.
            std::fs::rename(&before, &after).expect("renames");
            std::fs::write(&before, b"").expect("writes");
            at_exit();
            std::mem::forget(guard);
            std::fs::read(after.join("x.lock")).expect("it is still there")
        });
        assert_eq!(said.len(), 1, "{}", said.escape_ascii());
    }

    #[test]
    fn exit_releases_locks_and_refuses_new_ones() {
        let home = tempfile::tempdir().expect("a directory");
        let [held, other] = ["x.lock", "y.lock"].map(|name| Lock::at(home.path().join(name)));
        let said = in_a_child(|| {
            let guard = held.try_acquire().expect("free");
            at_exit();
            let refused = other.try_acquire().expect_err("it is exiting");
            // Released as if by its guard, which finds nothing to do.
            let released = guard.release().is_ok();
            format!("{released} {refused:#}").into_bytes()
        });
        let said = String::from_utf8(said).expect("text");
        assert!(said.starts_with("true cannot create"), "{said}");
        assert!(said.contains("this process is exiting"), "{said}");
        assert!(std::fs::read_dir(home.path()).expect("it is there").next().is_none());
    }
}
