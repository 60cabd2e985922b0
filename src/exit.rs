//! Last-chance release when the process exits (S11).
//!
//! `std::process::exit`, and a return from `main`, run no destructor of a guard that is still
//! alive: in another frame, in a `static`, forgotten, or in a thread. What the C library runs at
//! exit (`atexit(3)`) releases those locks, as the machine of a release does it: confirm, unlink.
//!
//! Only in the process that took the lock: a forked child has a registry of its own. Never blocks
//! for long and never panics. Not run by `_exit`, `abort`, `exec` or a signal: then the next
//! acquire reclaims the lock (P3).
//!
//! **A race that stays:** other threads go on running while the process exits. One that still uses
//! what the lock protects does so for that instant without the lock. Join such threads first, or
//! release by hand when they are done.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};

use crate::os::{self, LockFile, per_process::PerProcess};
use crate::protocol::Release;

/// The locks that this process holds, by number of their registration. Boxed, since a map keeps
/// room for eleven as soon as there is one.
type Registry = Mutex<Held>;
type Held = BTreeMap<usize, Box<LockFile>>;

/// A registered lock.
#[derive(Debug)]
pub(crate) struct Registered(usize);

/// Has the lock released when the process exits.
pub(crate) fn register(file: &LockFile) -> Registered {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    static ASKED: AtomicBool = AtomicBool::new(false);
    if !ASKED.swap(true, Ordering::Relaxed) {
        os::process::at_exit(release_all);
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    lock(registry()).insert(number, Box::new(file.for_exit()));
    Registered(number)
}

/// Takes a lock from the registry, in the process that registered it. `false` if the exit of the
/// process has already taken it, and released it.
pub(crate) fn take(registered: &Registered) -> bool {
    lock(registry()).remove(&registered.0).is_some()
}

fn registry() -> &'static Registry {
    static HELD: PerProcess<Registry> = PerProcess::new(AtomicPtr::new(std::ptr::null_mut()));
    HELD.get(os::process::generation(), Registry::default)
}

/// Nothing is done while it is held that can panic, so a poisoned one is as good.
fn lock(registry: &Registry) -> MutexGuard<'_, Held> {
    registry.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// How often a registry that another thread has locked is tried at exit. That thread is adding or
/// removing one lock, which takes less than a microsecond, unless it was stopped.
const TRIES: u32 = 10_000;

extern "C" fn release_all() {
    for _ in 0..TRIES {
        let mut held = match registry().try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                std::thread::yield_now();
                continue;
            }
        };
        for (_, mut file) in std::mem::take(&mut *held) {
            release(&mut file);
        }
        return;
    }
}

fn release(file: &mut LockFile) {
    let mut state = Release::START;
    loop {
        state = match state {
            Release::Ended(_) => return,
            Release::Stuck(stuck) => stuck.abandon(),
            unfinished => unfinished.step(file),
        };
    }
}
