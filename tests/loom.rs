//! Threads under loom.
//!
//! `src/sys/per_process.rs`, the data that the crate shares between threads, is compiled again here
//! over loom's atomics. Threads also drive a protocol over the model's state, one call at a time:
//! the naive protocol's double reclaim is found, and the shipped machines pass. All other
//! interleavings of the machines are left to the explorer, which covers every one.
//!
//! `cargo test --features loom --test loom -- --nocapture` prints executions and seconds.

#![cfg(feature = "loom")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use portlock::protocol::Acquire;
use portlock_model::properties::property::Property;
use portlock_model::scenario::catalogue::Scenario;
use portlock_model::scenario::machines::Answer;
use portlock_model::scenario::moves::asks_the_driver;
use portlock_model::scenario::other::Percy;
use portlock_model::scenario::schedule::run;
use portlock_model::scenario::state::{Activity, Move, Who};
use portlock_model::scenario::walk::Walk;
use portlock_model::search::explore::Found;
use portlock_model::variants::{Protocol, SHIPPED, named};

/// How often a thread tries again before it gives up.
const ATTEMPTS: u8 = 2;

/// The start of the base scenario in which a dead holder's record is at the path.
const STALE: u8 = 1;

/// The next move of a participant, which acquires and releases once.
fn next(walk: &Walk<'_>, name: Who, begun: &mut bool, attempts: &mut u8) -> Option<Move> {
    Some(match walk.state.participant(walk.place_of(name)).activity {
        Activity::Idle if *begun => return None,
        Activity::Idle => {
            *begun = true;
            Move::Begin(name)
        }
        Activity::Holding | Activity::Percy(Percy::Holding) => Move::Release(name),
        Activity::Acquiring(Acquire::Blocked(_)) => Move::Answer(name, Answer::Leave),
        activity if asks_the_driver(activity) => {
            *attempts += 1;
            let again = *attempts < ATTEMPTS;
            Move::Answer(name, if again { Answer::Again } else { Answer::GiveUp })
        }
        _ => Move::Call(name, 0),
    })
}

/// A participant, from its first call to its end. It locks the mutex for each move.
fn live(walk: &loom::sync::Mutex<Walk<'static>>, name: Who, found: &Mutex<Option<Found>>) {
    let (mut begun, mut attempts) = (false, 0);
    loop {
        let mut walk = walk.lock().expect("a panic ends the execution");
        let Some(one) = next(&walk, name, &mut begun, &mut attempts) else { return };
        if let Some(Err(property)) = walk.make(one) {
            let schedule = walk.schedule();
            *found.lock().expect("no panic") = Some(Found { property, schedule, solo: false });
            // Not through the panic hook: the test itself reports the find.
            resume_unwind(Box::new(property));
        }
    }
}

/// Two threads that find a dead holder's file, in every interleaving with at most two preemptions:
/// the property that breaks, if one does, and how many executions there were.
fn two_threads(scenario: &'static Scenario, protocol: &'static Protocol) -> (Option<Found>, usize) {
    let found = Arc::new(Mutex::new(None));
    let executions = Arc::new(AtomicUsize::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    // No limit, whatever loom's environment variables are, may cut a check short.
    (builder.max_duration, builder.max_permutations) = (None, None);
    let execution = {
        let (found, executions) = (Arc::clone(&found), Arc::clone(&executions));
        move || {
            executions.fetch_add(1, Ordering::Relaxed);
            // Not loom's `Arc`, which must not be dropped after a find has ended the execution.
            let walk = Arc::new(loom::sync::Mutex::new(Walk::begin(scenario, protocol, STALE)));
            let other = {
                let (walk, found) = (Arc::clone(&walk), Arc::clone(&found));
                loom::thread::spawn(move || live(&walk, 1, &found))
            };
            live(&walk, 0, &found);
            other.join().expect("loom passes panics on");
        }
    };
    let passed = catch_unwind(AssertUnwindSafe(|| builder.check(execution)));
    let found = found.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    if let (Err(panic), None) = (passed, &found) {
        resume_unwind(panic);
    }
    (found, executions.load(Ordering::Relaxed))
}

/// The naive protocol: found after 25 executions. The shipped machines: 353 executions, 0.1 s.
#[test]
fn naive_double_reclaim_is_found_shipped_passes() {
    let scenario = Scenario { properties: Property::P1.only(), ..Scenario::base(2) };
    // Loom needs a 'static closure: two small values are leaked.
    let scenario: &'static Scenario = Box::leak(Box::new(scenario));
    let naive = Box::leak(Box::new(named("naive").expect("it is listed").protocol));
    let (found, executions) = two_threads(scenario, naive);
    println!("naive: found after {executions} executions");
    let found = found.expect("two threads hold");
    let replayed = run(scenario, naive, &found.schedule, found.solo);
    assert_eq!(replayed.broken, Some(Property::P1), "it is replayed");
    let (found, executions) = two_threads(scenario, &SHIPPED);
    println!("shipped: {executions} executions");
    assert!(found.is_none(), "{found:?}");
    assert!(executions > 50, "they were interleaved");
}

/// The shipped file, over loom's atomics.
#[path = "."]
mod sys {
    use loom::sync::atomic::AtomicPtr;

    #[path = "../src/sys/per_process.rs"]
    pub(crate) mod per_process;
}

/// Values that are computed once per process: the shipped implementation, and wrong ones.
mod computed {
    #![allow(unsafe_code)]

    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::atomic::AtomicPtr;
    use std::ptr;

    /// The values of an execution, by their numbers.
    #[derive(Debug, Default)]
    pub(super) struct Seen {
        computed: AtomicUsize,
        dropped: Mutex<Vec<usize>>,
    }

    /// A value whose reads loom checks, and whose drop is recorded.
    pub(super) struct Value {
        number: usize,
        cell: UnsafeCell<usize>,
        seen: Arc<Seen>,
    }

    // SAFETY: the cell is written before the value is shared, which is what loom checks.
    unsafe impl Sync for Value {}
    // SAFETY: as above.
    unsafe impl Send for Value {}

    impl Drop for Value {
        fn drop(&mut self) {
            self.seen.dropped.lock().expect("no panic").push(self.number);
        }
    }

    impl Value {
        fn compute(seen: &Arc<Seen>) -> Self {
            let number = seen.computed.fetch_add(1, Ordering::Relaxed);
            Self { number, cell: UnsafeCell::new(number), seen: Arc::clone(seen) }
        }

        /// Loom panics here if the value was not published before it was seen.
        fn read(&self) -> usize {
            // SAFETY: it is never written.
            self.cell.with(|cell| unsafe { *cell })
        }
    }

    /// A slot, correct or wrong.
    pub(super) trait Slot: Send + Sync + 'static {
        fn get(&self, generation: usize, compute: impl FnOnce() -> Value) -> &'static Value;
    }

    pub(super) type Shipped = sys::per_process::PerProcess<Value>;

    pub(super) fn shipped() -> Shipped {
        Shipped::new(AtomicPtr::new(ptr::null_mut()))
    }

    impl Slot for Shipped {
        fn get(&self, generation: usize, compute: impl FnOnce() -> Value) -> &'static Value {
            self.get(generation, compute)
        }
    }

    /// The mistake of a wrong slot.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) enum Wrong {
        /// The pointer is published without what it points to.
        Relaxed,
        /// The last store wins, so threads get different values.
        Stores,
        /// The value of the previous generation is freed while it may be in use.
        Frees,
        /// A child uses its parent's value.
        IgnoresGeneration,
    }

    pub(super) struct WrongSlot {
        wrong: Wrong,
        slot: AtomicPtr<(usize, Value)>,
    }

    pub(super) fn wrong(wrong: Wrong) -> WrongSlot {
        WrongSlot { wrong, slot: AtomicPtr::new(ptr::null_mut()) }
    }

    impl Slot for WrongSlot {
        fn get(&self, generation: usize, compute: impl FnOnce() -> Value) -> &'static Value {
            let (load, publish) = match self.wrong {
                Wrong::Relaxed => (Ordering::Relaxed, Ordering::Relaxed),
                _ => (Ordering::Acquire, Ordering::AcqRel),
            };
            let of = |seen: *mut (usize, Value)| {
                // SAFETY: the slot's pointer came from a box, which only `Frees` pretends to free.
                let (made_in, value) = unsafe { seen.as_ref() }?;
                let mine = *made_in == generation || self.wrong == Wrong::IgnoresGeneration;
                mine.then_some(value)
            };
            let seen = self.slot.load(load);
            if let Some(value) = of(seen) {
                return value;
            }
            let fresh = Box::into_raw(Box::new((generation, compute())));
            if self.wrong == Wrong::Stores {
                self.slot.store(fresh, Ordering::Release);
                return of(fresh).expect("just made");
            }
            match self.slot.compare_exchange(seen, fresh, publish, load) {
                Ok(_) => {
                    if self.wrong == Wrong::Frees && !seen.is_null() {
                        // It is only recorded as freed, or the test would read freed memory.
                        // SAFETY: it came from a box.
                        let (_, value) = unsafe { &*seen };
                        value.seen.dropped.lock().expect("no panic").push(value.number);
                    }
                    of(fresh).expect("just made")
                }
                Err(first) => {
                    // SAFETY: it came from a box, and no other thread has seen it.
                    drop(unsafe { Box::from_raw(fresh) });
                    of(first).expect("of this generation, as all here are")
                }
            }
        }
    }

    /// A process with a value of its own, a fork, and three threads that ask concurrently.
    pub(super) fn check<S: Slot>(slot: fn(Option<Wrong>) -> S, wrong: Option<Wrong>) -> usize {
        let executions = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&executions);
        let mut builder = loom::model::Builder::new();
        (builder.max_duration, builder.max_permutations) = (None, None);
        builder.preemption_bound = None;
        builder.check(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            let seen = Arc::new(Seen::default());
            let slot = Arc::new(slot(wrong));
            let before = slot.get(0, || Value::compute(&seen));
            let ask = {
                let (slot, seen) = (Arc::clone(&slot), Arc::clone(&seen));
                move || {
                    let value = slot.get(1, || Value::compute(&seen));
                    (value.read(), value)
                }
            };
            let others = [loom::thread::spawn(ask.clone()), loom::thread::spawn(ask.clone())];
            let (mine, value) = ask();
            let mut all = vec![mine];
            all.extend(others.map(|other| other.join().expect("loom passes panics on").0));

            assert!(all.iter().all(|&one| one == mine), "threads got different values: {all:?}");
            assert_eq!(value.number, mine);
            assert_ne!(before.number, mine, "the child took its parent's value");
            let dropped = seen.dropped.lock().expect("no panic").clone();
            assert!(!dropped.contains(&mine), "a value in use was freed");
            assert!(!dropped.contains(&before.number), "a value that may be in use was freed");
            // Only one value of each generation is left.
            assert_eq!(seen.computed.load(Ordering::Relaxed) - dropped.len(), 2);
        });
        executions.load(Ordering::Relaxed)
    }
}

/// No bound: 559 executions, 0.1 s.
#[test]
fn threads_share_one_published_value_per_generation() {
    let began = Instant::now();
    let executions = computed::check(|_| computed::shipped(), None);
    println!("per_process, 3 threads, no bound: {executions} executions, {:.2?}", began.elapsed());
    assert!(executions > 50, "they were interleaved");
}

#[test]
fn every_unsound_way_to_share_is_found() {
    use computed::Wrong;
    for (wrong, words) in [
        (Wrong::Relaxed, "Causality violation"),
        (Wrong::Stores, "different values"),
        (Wrong::Frees, "was freed"),
        (Wrong::IgnoresGeneration, "parent's value"),
    ] {
        let slot = |wrong: Option<Wrong>| computed::wrong(wrong.expect("a wrong one"));
        let found = catch_unwind(AssertUnwindSafe(|| computed::check(slot, Some(wrong))));
        let panic = found.expect_err("it is wrong");
        let message = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default();
        assert!(message.contains(words), "{wrong:?}: {message}");
    }
}
