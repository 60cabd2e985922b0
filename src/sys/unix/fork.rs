//! Forks: in which process this code runs, and what happens when it becomes another one.
//!
//! The C library runs the handlers here around its `fork` (pthread_atfork(3)). It runs none for
//! `_Fork`, nor for a fork by the system call alone. Such a child is noticed when it next asks for
//! its own pid ([`notice_fork`]), which costs a system call, and until then acts as its parent.

#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};

use super::own_file;

/// How many forks lie between the process that started and this one.
static GENERATION: AtomicUsize = AtomicUsize::new(0);

/// The process that this generation is.
static PID: AtomicU32 = AtomicU32::new(0);

/// How many forks this process has begun, and how many of them are done.
static BEGUN: AtomicUsize = AtomicUsize::new(0);
static DONE: AtomicUsize = AtomicUsize::new(0);

/// The generation of this process: a forked child has another one than its parent.
///
/// Costs no system call after the first time.
pub(crate) fn generation() -> usize {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    if !REGISTERED.load(SeqCst) {
        PID.store(std::process::id(), SeqCst);
        // Two threads may both register: everything is then counted twice, which is as good.
        // SAFETY: the handlers have the C ABI, and the child's is async-signal-safe.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(in_child)) };
        REGISTERED.store(true, SeqCst);
    }
    GENERATION.load(SeqCst)
}

/// The number of this process. Costs no system call after the first time.
pub(crate) fn pid() -> u32 {
    generation();
    PID.load(SeqCst)
}

/// Notices that this process is a forked child, if no handler could: by its pid, which is one
/// system call.
pub(crate) fn notice_fork() {
    generation();
    let (known, pid) = (PID.load(SeqCst), std::process::id());
    if pid != known && PID.compare_exchange(known, pid, SeqCst, SeqCst).is_ok() {
        become_child();
    }
}

extern "C" fn before_fork() {
    BEGUN.fetch_add(1, SeqCst);
}

extern "C" fn after_fork() {
    DONE.fetch_add(1, SeqCst);
}

extern "C" fn in_child() {
    PID.store(std::process::id(), SeqCst);
    become_child();
}

/// Async-signal-safe: it may run in a child of which only this thread was copied.
fn become_child() {
    GENERATION.fetch_add(1, SeqCst);
    DONE.store(BEGUN.load(SeqCst), SeqCst);
    own_file::leave_all();
}

/// Begins a fork that does not end.
#[cfg(test)]
pub(super) fn begin() {
    before_fork();
}

/// A moment in the life of this process, to find out whether a fork may have happened since.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment(usize);

impl Moment {
    pub(super) fn now() -> Self {
        generation();
        Self(DONE.load(SeqCst))
    }

    /// Whether it is certain that no child was forked since then.
    pub(super) fn is_undivided(self) -> bool {
        BEGUN.load(SeqCst) == self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::forked::in_a_child;

    /// In a process of its own: another test that forks would divide these moments.
    #[test]
    fn moment_is_divided_only_by_a_fork_since() {
        let said = in_a_child(|| {
            let before = Moment::now();
            let was_undivided = before.is_undivided();
            assert!(in_a_child(Vec::new).is_empty());
            [was_undivided, before.is_undivided(), Moment::now().is_undivided()]
                .map(u8::from)
                .to_vec()
        });
        assert_eq!(said, [1, 0, 1]);
    }
}
