//! A process of a run: it contends when the board orders it, and answers there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Instant;

use portlock::{AcquireError, Guard, Lock, Refusal, UnknownReason};

use super::board::{Answer, Board, Order, Slot};
use super::run::BOARD;
use super::{HOLD, Protocol};
use crate::naive::{self, Attempt};
use crate::participant::ending;

pub(super) const NUMBER: &str = "PORTLOCK_TEST_STRESS_NUMBER";
pub(super) const LOCK_PATH: &str = "PORTLOCK_TEST_STRESS_LOCK";
pub(super) const WITNESS: &str = "witness";

/// Contends until the order to end.
pub(super) fn contend() -> ! {
    let text = |name| std::env::var(name).expect("set by the run");
    let board_path = PathBuf::from(text(BOARD));
    let board = Board::open(&board_path);
    let number: usize = text(NUMBER).parse().expect("a number");
    let slot = &board.slots[number];
    #[cfg(target_os = "linux")]
    keep_to_a_processor(number);
    let lock = Lock::at(text(LOCK_PATH));
    let witness = Witness { path: board_path.with_file_name(WITNESS), board };
    for round in 1.. {
        slot.ready.store(round, SeqCst);
        wait_for(&board.go, round);
        let protocol = Protocol::ALL[board.protocol.load(SeqCst) as usize];
        match board.order.load(SeqCst) {
            order if order == Order::End as u32 => break,
            order if order == Order::Try as u32 => {
                let (answer, hold) = attempt(protocol, &lock, &witness);
                slot.say(answer);
                slot.answered.store(round, SeqCst);
                wait_for(&board.over, round);
                drop(hold);
            }
            _ => {
                churn(protocol, &lock, &witness, slot);
                slot.answered.store(round, SeqCst);
                wait_for(&board.over, round);
            }
        }
    }
    std::process::exit(0);
}

/// Spreads the contenders over the allowed processors. Otherwise the scheduler may leave all of
/// them on one, and they run one after the other.
#[cfg(target_os = "linux")]
fn keep_to_a_processor(number: usize) {
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: a bit set; all zero is the empty set.
    let (mut allowed, mut one): (libc::cpu_set_t, libc::cpu_set_t) = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a set of that size. 0 is this process.
    assert_eq!(unsafe { libc::sched_getaffinity(0, size, &raw mut allowed) }, 0);
    let bits = 8 * size;
    // SAFETY: the number is below the number of bits.
    let processors = (0..bits).filter(|&bit| unsafe { libc::CPU_ISSET(bit, &allowed) });
    let processors: Vec<usize> = processors.collect();
    // SAFETY: as above.
    unsafe { libc::CPU_SET(processors[number % processors.len()], &mut one) };
    // SAFETY: as above.
    assert_eq!(unsafe { libc::sched_setaffinity(0, size, &raw const one) }, 0);
}

/// How often a contender polls before it yields its processor.
const POLLS: u32 = 100;

/// Exits if the test process has ended.
fn wait_for(word: &AtomicU32, round: u32) {
    use std::os::unix::process::parent_id;
    let parent = parent_id();
    while word.load(SeqCst) != round {
        if parent_id() != parent {
            std::process::exit(1);
        }
        // Long enough that one contender on each processor is polling when the word changes.
        for _ in 0..POLLS {
            if word.load(SeqCst) == round {
                return;
            }
            std::hint::spin_loop();
        }
        std::thread::yield_now();
    }
}

/// Held until it is dropped.
struct Hold<'a> {
    guard: Option<Guard>,
    path: &'a Path,
    witnessed: Witnessed<'a>,
}

fn attempt<'a>(
    protocol: Protocol,
    lock: &'a Lock,
    witness: &'a Witness,
) -> (Answer, Option<Hold<'a>>) {
    let path = lock.path();
    let guard = match protocol {
        Protocol::Portlock => match lock.try_acquire() {
            Ok(guard) => Ok(Some(guard)),
            Err(error) => Err(refusal(&error)),
        },
        Protocol::Naive => naively(path, || {}),
        Protocol::NaiveForced => naively(path, || witness.board.reclaim_one_after_the_other()),
    };
    match guard {
        Ok(guard) => {
            witness.board.held.fetch_add(1, SeqCst);
            (Answer::Held, Some(Hold { guard, path, witnessed: witness.take() }))
        }
        Err(refused) => (refused, None),
    }
}

fn naively(path: &Path, between: impl Fn()) -> Result<Option<Guard>, Answer> {
    match naive::try_acquire(path, between) {
        Attempt::Held => Ok(None),
        Attempt::Refused(pid) => Err(pid.map_or(Answer::Unknown, Answer::Refused)),
    }
}

/// Any error other than a refusal ends the contender, which fails the run.
fn refusal(error: &AcquireError) -> Answer {
    let held = error.held().unwrap_or_else(|| panic!("{error}"));
    match held.reason {
        Refusal::Holder => Answer::Refused(held.holder.as_ref().expect("a record").pid),
        // The winner may be descheduled for longer than the contender tries.
        Refusal::Unknown(
            UnknownReason::BeingCreated | UnknownReason::Contended | UnknownReason::HolderExited,
        ) => Answer::Unknown,
        reason => panic!("{reason:?}: {error}"),
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        // While the lock is still held.
        self.witnessed.give_back();
        match self.guard.take() {
            Some(guard) => assert_eq!(ending(&guard.release()), "released"),
            None => naive::release(self.path),
        }
    }
}

fn churn(protocol: Protocol, lock: &Lock, witness: &Witness, slot: &Slot) {
    let (mut held, mut refused_named, mut refused_unnamed) = (0, 0, 0);
    while witness.board.holds_left.load(SeqCst) > 0 {
        let (answer, hold) = attempt(protocol, lock, witness);
        match answer {
            Answer::Refused(_) => refused_named += 1,
            Answer::Unknown => refused_unnamed += 1,
            Answer::Held => {
                held += 1;
                let less = |left: u32| left.checked_sub(1);
                // Other contenders may have used up the rest.
                let _ = witness.board.holds_left.fetch_update(SeqCst, SeqCst, less);
                // Not asleep, so that the processor stays busy.
                let began = Instant::now();
                while began.elapsed() < HOLD {
                    std::hint::spin_loop();
                }
            }
        }
        drop(hold);
    }
    slot.held.store(held, SeqCst);
    slot.refused_named.store(refused_named, SeqCst);
    slot.refused_unnamed.store(refused_unnamed, SeqCst);
}

/// A file elsewhere: `O_EXCL` lets one process create it.
struct Witness {
    path: PathBuf,
    board: &'static Board,
}

struct Witnessed<'a> {
    witness: &'a Witness,
    /// Whether this process created it, and so removes it.
    ours: bool,
}

impl Witness {
    fn take(&self) -> Witnessed<'_> {
        let ours = File::create_new(&self.path).is_ok();
        if !ours {
            self.board.witnessed.fetch_add(1, SeqCst);
        }
        Witnessed { witness: self, ours }
    }
}

impl Witnessed<'_> {
    fn give_back(&self) {
        if self.ours {
            fs::remove_file(&self.witness.path).expect("no other process removes it");
        }
    }
}
