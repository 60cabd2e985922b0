//! A value that is computed once a process, and once more after a `fork`.
//!
//! The one thing that the threads of a process share in this crate. `OnceLock` would not do: a
//! child forked while another thread computes the value would wait for that thread forever, and
//! would take over its parent's value otherwise.
//!
//! tests/loom.rs compiles this file a second time, below a parent whose `AtomicPtr` is loom's.

#![allow(unsafe_code)]

use std::ptr;
use std::sync::atomic::Ordering;

use super::AtomicPtr;

/// A value, and the generation of the process (how many forks lie behind it) that computed it.
pub(crate) struct Computed<T> {
    generation: usize,
    value: T,
}

/// A slot for a value of each generation. A `static`, whose values are never freed: one for each
/// fork after which it is asked for.
pub(crate) struct PerProcess<T: 'static> {
    slot: AtomicPtr<Computed<T>>,
}

impl<T: Send + Sync + 'static> PerProcess<T> {
    /// An empty slot: `slot` is a null pointer.
    pub(crate) const fn new(slot: AtomicPtr<Computed<T>>) -> Self {
        Self { slot }
    }

    /// The value of this generation, if anybody has computed it.
    #[allow(dead_code, reason = "not asked on Windows, nor by tests/loom.rs")]
    pub(crate) fn known(&self, generation: usize) -> Option<&'static T> {
        Self::of(self.slot.load(Ordering::Acquire), generation)
    }

    /// The value of this generation, computed now if no thread has. Never blocks: threads that come
    /// at the same time may compute it twice, and all of them get the same one.
    pub(crate) fn get(&self, generation: usize, compute: impl FnOnce() -> T) -> &'static T {
        let seen = self.slot.load(Ordering::Acquire);
        if let Some(value) = Self::of(seen, generation) {
            return value;
        }
        let fresh = Box::into_raw(Box::new(Computed { generation, value: compute() }));
        match self.slot.compare_exchange(seen, fresh, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: `fresh` came from a box just now and is never freed once it is in the slot.
            Ok(_) => unsafe { &(*fresh).value },
            Err(first) => match Self::of(first, generation) {
                Some(value) => {
                    // SAFETY: `fresh` came from a box, and no one else has seen it.
                    drop(unsafe { Box::from_raw(fresh) });
                    value
                }
                // SAFETY: `fresh` came from a box and is not freed: leaked, as those in the slot.
                None => unsafe { &(*fresh).value },
            },
        }
    }

    fn of(computed: *mut Computed<T>, generation: usize) -> Option<&'static T> {
        if ptr::eq(computed, ptr::null()) {
            return None;
        }
        // SAFETY: every pointer but null in the slot came from a box, was written before the
        // release store that published it, and is never freed or written again.
        let computed = unsafe { &*computed };
        (computed.generation == generation).then_some(&computed.value)
    }
}
