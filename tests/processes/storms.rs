//! Barrier storms: many processes start an acquire at one instant, hundreds of times in each cell.
//!
//! The gate does a thousand. A hundred thousand, with the table:
//!
//! ```text
//! PORTLOCK_STORM_TRIALS=100000 cargo test --release --test processes storms -- --nocapture
//! ```
//!
//! The witness is a file elsewhere that whoever holds creates exclusively, and nothing of this
//! crate. The same storm over the naive protocol must fail: `naive.rs`.
//!
//! The processes wait for each trial at a word in shared memory, and give up their processor while
//! they do. A trial has three barriers: all are ready; all have their answer, and nobody has
//! released; all have released, and the directory is looked at.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant, SystemTime};

use portlock::{AcquireError, Guard, Lock, Refusal, UnknownReason};

use crate::naive::{self, Attempt};
use crate::participant::{NOBODY, Place, ending, old_record, wait_until};

/// Trials in each cell, unless the environment says otherwise: a few seconds on an idle machine.
const TRIALS: u32 = 250;

/// The control needs no more to fail.
const MOST_CONTROL_TRIALS: u32 = 1_000;

const PROCESSES: [usize; 4] = [2, 4, 8, 16];

/// How long a holder holds in a churn: as in the measurement of the published agent.
const HOLD: Duration = Duration::from_micros(200);

#[test]
fn exactly_one_of_simultaneous_processes_holds() {
    if std::env::var_os(BOARD).is_some() {
        contend();
    }
    let _alone = ONE_STORM.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let trials = trials();
    println!("{HEADING}");
    for processes in PROCESSES {
        let mut storm = Storm::start(processes);
        for start in [Start::Nothing, Start::Stale, Start::OldEmpty] {
            let seen = storm.cell(Protocol::Portlock, start, trials);
            println!("{}", seen.row());
            assert_eq!((seen.two_or_more, seen.nobody, seen.witnessed), (0, 0, 0), "{start:?}");
            assert_eq!(seen.misnamed, 0, "{start:?}: a refusal names one who does not hold");
            assert!(seen.named > 0, "{start:?}: no refusal names the holder");
            assert_eq!(seen.litter, 0, "{start:?}: trials that left something behind");
        }

        let seen = storm.cell(Protocol::Portlock, Start::LiveOldFormat, trials);
        println!("{}", seen.row());
        assert_eq!((seen.nobody, seen.witnessed), (trials, 0), "somebody held beside a live agent");
        assert_eq!(seen.named, trials * processes as u32, "each refusal names the agent");

        // Each takes all its tries, about 30 ms: its creator may be at work.
        let few = trials.div_ceil(50);
        let seen = storm.cell(Protocol::Portlock, Start::YoungEmpty, few);
        println!("{}", seen.row());
        assert_eq!((seen.nobody, seen.witnessed), (few, 0), "a new file was taken");
        assert_eq!(seen.unnamed, few * processes as u32, "nobody can be named");

        let seen = storm.churn(Protocol::Portlock, trials);
        println!("{}", seen.row());
        assert_eq!((seen.witnessed, seen.litter), (0, 0), "churn");
        assert!(seen.holds >= trials);
        storm.end();
    }
}

/// The control: the witness sees what is wrong with the protocol that this crate replaces.
#[test]
fn naive_protocol_fails_under_the_same_stress() {
    let _alone = ONE_STORM.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let trials = trials().min(MOST_CONTROL_TRIALS);
    println!("{HEADING}");
    let mut violations = 0;
    for processes in PROCESSES {
        let mut storm = Storm::start(processes);
        for start in [Start::Nothing, Start::Stale, Start::OldEmpty] {
            let seen = storm.cell(Protocol::Naive, start, trials);
            println!("{}", seen.row());
            violations += seen.two_or_more;
        }
        let seen = storm.cell(Protocol::Naive, Start::LiveOldFormat, trials.div_ceil(10));
        println!("{}", seen.row());
        assert_eq!(seen.nobody, seen.trials, "it does refuse beside a live one");
        let seen = storm.churn(Protocol::Naive, trials);
        println!("{}", seen.row());
        violations += seen.witnessed;

        let seen = storm.cell(Protocol::NaiveForced, Start::Stale, trials.div_ceil(10));
        println!("{}", seen.row());
        assert!(seen.two_or_more > 0, "{processes} processes, and the control did not fail");
        assert!(seen.witnessed > 0, "the witness saw nothing");
        storm.end();
    }
    println!("two or more holders, unforced: {violations}");
}

/// Two storms at once would be half a storm each.
static ONE_STORM: Mutex<()> = Mutex::new(());

fn trials() -> u32 {
    match std::env::var("PORTLOCK_STORM_TRIALS") {
        Ok(number) => number.parse().expect("PORTLOCK_STORM_TRIALS is a number"),
        Err(_) => TRIALS,
    }
}

/// What stands at the path when a trial begins.
#[derive(Debug, Clone, Copy)]
enum Start {
    Nothing,
    /// A dead agent's file of the old format.
    Stale,
    /// Empty, and from before the grace: its creator has died.
    OldEmpty,
    /// Empty, and new: its creator may be about to write.
    YoungEmpty,
    /// A live agent's file of the old format: the storm's own process.
    LiveOldFormat,
}

impl Start {
    fn put(self, path: &Path) {
        let empty = |time| {
            let file = File::create(path).expect("an empty file");
            file.set_modified(time).expect("its time is set");
        };
        let record = |pid| fs::write(path, old_record(pid, SystemTime::now())).expect("a record");
        match self {
            Self::Nothing => {}
            Self::Stale => record(NOBODY),
            Self::OldEmpty => empty(SystemTime::UNIX_EPOCH),
            // Ahead, so that it stays young even if the machine stalls for three seconds.
            Self::YoungEmpty => empty(SystemTime::now() + Duration::from_secs(1)),
            Self::LiveOldFormat => record(std::process::id()),
        }
    }

    /// Whom a refusal must name that is not by a contender.
    fn owner(self) -> Option<u32> {
        matches!(self, Self::LiveOldFormat).then(std::process::id)
    }

    fn named(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Stale => "a stale file",
            Self::OldEmpty => "an empty file, old",
            Self::YoungEmpty => "an empty file, new",
            Self::LiveOldFormat => "a live agent's file",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(u32)]
enum Protocol {
    Portlock,
    Naive,
    /// It waits between its probe and its unlink, so that one reclaim follows on the other.
    NaiveForced,
}

impl Protocol {
    const ALL: [Self; 3] = [Self::Portlock, Self::Naive, Self::NaiveForced];

    fn named(self) -> &'static str {
        match self {
            Self::Portlock => "portlock",
            Self::Naive => "naive",
            Self::NaiveForced => "naive, forced",
        }
    }
}

const HEADING: &str = "\
| protocol | processes | start | trials | two or more hold | nobody holds | the witness saw two \
| refusals by name | refusals, unknown | seconds |";

/// What a cell has shown.
#[derive(Default)]
struct Seen {
    protocol: &'static str,
    processes: usize,
    start: &'static str,
    trials: u32,
    churn: bool,
    /// Trials in which two or more said that they hold, before any of them had released.
    two_or_more: u32,
    nobody: u32,
    /// How often a holder found that somebody else held, by the witness.
    witnessed: u32,
    holds: u32,
    /// Refusals that name the holder; that say it is not known; that name somebody else.
    named: u32,
    unnamed: u32,
    misnamed: u32,
    /// Trials after which the directory was not empty.
    litter: u32,
    time: Duration,
}

impl Seen {
    fn row(&self) -> String {
        // A churn has no trials to be counted by: only the witness.
        let by_trial = |count: u32| match self.churn {
            true => "-".to_owned(),
            false => count.to_string(),
        };
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.1} |",
            self.protocol,
            self.processes,
            self.start,
            self.trials,
            by_trial(self.two_or_more),
            by_trial(self.nobody),
            self.witnessed,
            self.named,
            self.unnamed,
            self.time.as_secs_f64(),
        )
    }
}

// ---- the storm's side ---------------------------------------------------------------------------

/// Names the file of the board, for a contender.
const BOARD: &str = "PORTLOCK_TEST_STORM";

/// Some contenders, and what they share with the test.
struct Storm {
    place: Place,
    /// Where the board and the witness are.
    elsewhere: tempfile::TempDir,
    board: &'static Board,
    contenders: Vec<Child>,
    round: u32,
}

impl Storm {
    fn start(processes: usize) -> Self {
        let place = Place::new();
        let elsewhere = tempfile::tempdir().expect("a directory");
        let board_path = elsewhere.path().join("board");
        let board = Board::new(&board_path);
        let entry = concat!("storms::", "exactly_one_of_simultaneous_processes_holds");
        let contenders = (0..processes).map(|number| {
            Command::new(std::env::current_exe().expect("the test binary has a path"))
                .args([entry, "--exact", "--nocapture", "--test-threads=1"])
                .env(BOARD, &board_path)
                .env(NUMBER, number.to_string())
                .env(LOCK_PATH, place.path())
                .stdout(Stdio::null())
                .spawn()
                .expect("the contender starts")
        });
        let contenders = contenders.collect();
        Self { place, elsewhere, board, contenders, round: 0 }
    }

    fn cell(&mut self, protocol: Protocol, start: Start, trials: u32) -> Seen {
        let began = Instant::now();
        let mut seen = self.seen(protocol, start.named(), trials);
        for _ in 0..trials {
            self.all_are_ready();
            start.put(self.place.path());
            self.go(Order::Try, protocol);
            self.all(|slot| &slot.answered);
            self.count(&mut seen, start);
            self.board.over.store(self.round, SeqCst);
            self.all_are_ready();
            seen.litter += u32::from(start.owner().is_none() && !self.place.is_empty());
            self.clean_up();
        }
        seen.witnessed = self.board.witnessed.swap(0, SeqCst);
        seen.time = began.elapsed();
        seen
    }

    /// All come and go until they have held so many times between them.
    fn churn(&mut self, protocol: Protocol, holds: u32) -> Seen {
        let began = Instant::now();
        let mut seen = self.seen(protocol, "churn, 200 us held", holds);
        seen.churn = true;
        self.all_are_ready();
        self.board.holds_left.store(holds, SeqCst);
        self.go(Order::Churn, protocol);
        self.all(|slot| &slot.answered);
        for slot in self.slots() {
            seen.holds += slot.held.load(SeqCst);
            seen.named += slot.told_whom.load(SeqCst);
            seen.unnamed += slot.not_told.load(SeqCst);
        }
        self.board.over.store(self.round, SeqCst);
        self.all_are_ready();
        seen.litter = u32::from(!self.place.is_empty());
        self.clean_up();
        seen.witnessed = self.board.witnessed.swap(0, SeqCst);
        seen.time = began.elapsed();
        seen
    }

    /// Has them leave, and sees that none of them had failed.
    fn end(mut self) {
        self.all_are_ready();
        self.go(Order::End, Protocol::Portlock);
        for contender in &mut self.contenders {
            assert!(contender.wait().expect("it can be reaped").success());
        }
    }

    fn seen(&self, protocol: Protocol, start: &'static str, trials: u32) -> Seen {
        let processes = self.contenders.len();
        Seen { protocol: protocol.named(), processes, start, trials, ..Seen::default() }
    }

    fn count(&self, seen: &mut Seen, start: Start) {
        let pids = self.contenders.iter().map(Child::id);
        let answers: Vec<(u32, Answer)> =
            pids.zip(self.slots().map(|slot| slot.answer())).collect();
        let holders: Vec<u32> = answers
            .iter()
            .filter(|(_, answer)| *answer == Answer::Held)
            .map(|(pid, _)| *pid)
            .collect();
        seen.holds += holders.len() as u32;
        seen.two_or_more += u32::from(holders.len() > 1);
        seen.nobody += u32::from(holders.is_empty());
        for (_, answer) in answers {
            match answer {
                Answer::Held => {}
                Answer::Unknown => seen.unnamed += 1,
                Answer::Refused(pid) if holders.contains(&pid) || start.owner() == Some(pid) => {
                    seen.named += 1;
                }
                Answer::Refused(_) => seen.misnamed += 1,
            }
        }
    }

    fn go(&mut self, order: Order, protocol: Protocol) {
        self.round += 1;
        self.board.order.store(order as u32, SeqCst);
        self.board.protocol.store(protocol as u32, SeqCst);
        self.board.found_stale.store(0, SeqCst);
        self.board.held.store(0, SeqCst);
        // Last: it is what they wait for.
        self.board.go.store(self.round, SeqCst);
    }

    fn all_are_ready(&mut self) {
        self.all_at(self.round + 1, |slot| &slot.ready);
    }

    fn all(&mut self, what: fn(&Slot) -> &AtomicU32) {
        self.all_at(self.round, what);
    }

    /// Returns when all are at this round; fails if one of them has ended.
    fn all_at(&mut self, round: u32, what: fn(&Slot) -> &AtomicU32) {
        let mut looks = 0_u32;
        wait_until("every contender has come to this round", || {
            looks += 1;
            if looks % 1_000 == 0 {
                for contender in &mut self.contenders {
                    let ended = contender.try_wait().expect("it can be asked");
                    assert_eq!(ended, None, "a contender has ended");
                }
            }
            self.slots().all(|slot| what(slot).load(SeqCst) == round)
        });
    }

    fn slots(&self) -> impl Iterator<Item = &'static Slot> + use<> {
        self.board.slots[..self.contenders.len()].iter()
    }

    /// What a wrong protocol left, or the trial had put there.
    fn clean_up(&self) {
        let _ = fs::remove_file(self.place.path());
        let _ = fs::remove_file(self.elsewhere.path().join(WITNESS));
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        for contender in &mut self.contenders {
            let _ = contender.kill();
            let _ = contender.wait();
        }
    }
}

// ---- the shared memory --------------------------------------------------------------------------

/// Shared by the test and its contenders. All zero at first.
#[repr(C)]
struct Board {
    order: AtomicU32,
    protocol: AtomicU32,
    go: AtomicU32,
    over: AtomicU32,
    holds_left: AtomicU32,
    witnessed: AtomicU32,
    /// How many have found the file stale, and how many have held, in this trial.
    found_stale: AtomicU32,
    held: AtomicU32,
    slots: [Slot; 16],
}

/// One contender's. On a cache line of its own.
#[repr(C, align(128))]
struct Slot {
    /// The round that it waits for.
    ready: AtomicU32,
    /// The round that it has answered in.
    answered: AtomicU32,
    answer: AtomicU32,
    named: AtomicU32,
    /// In a churn.
    held: AtomicU32,
    told_whom: AtomicU32,
    not_told: AtomicU32,
}

impl Board {
    fn new(path: &Path) -> &'static Self {
        let file = File::create_new(path).expect("the board");
        file.set_len(size_of::<Self>() as u64).expect("its size is set");
        Self::open(path)
    }

    /// The double reclaim: the first goes on when a second has found the file stale, and the others
    /// when somebody holds. Only for a while: they may have been alone.
    fn reclaim_one_after_the_other(&self) {
        let first = self.found_stale.fetch_add(1, SeqCst) == 0;
        let goes_on = || match first {
            true => self.found_stale.load(SeqCst) > 1,
            false => self.held.load(SeqCst) > 0,
        };
        for _ in 0..10_000 {
            if goes_on() {
                return;
            }
            std::thread::yield_now();
        }
    }

    /// Mapped for as long as the process lives.
    fn open(path: &Path) -> &'static Self {
        let file = File::options().read(true).write(true).open(path).expect("the board");
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping of an open file, of the size that it has.
        let memory = unsafe {
            let size = size_of::<Self>();
            libc::mmap(
                std::ptr::null_mut(),
                size,
                protection,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(memory, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        // SAFETY: aligned to a page, of that size, never unmapped, and all of it atomic numbers,
        // of which zero is one.
        unsafe { &*memory.cast::<Self>() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(u32)]
enum Order {
    Try,
    Churn,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Answer {
    Held,
    Refused(u32),
    Unknown,
}

impl Slot {
    fn say(&self, answer: Answer) {
        let (kind, pid) = match answer {
            Answer::Held => (0, 0),
            Answer::Refused(pid) => (1, pid),
            Answer::Unknown => (2, 0),
        };
        self.answer.store(kind, SeqCst);
        self.named.store(pid, SeqCst);
    }

    fn answer(&self) -> Answer {
        match self.answer.load(SeqCst) {
            0 => Answer::Held,
            1 => Answer::Refused(self.named.load(SeqCst)),
            _ => Answer::Unknown,
        }
    }
}

// ---- the contender's side -----------------------------------------------------------------------

const NUMBER: &str = "PORTLOCK_TEST_STORM_NUMBER";
const LOCK_PATH: &str = "PORTLOCK_TEST_STORM_LOCK";
const WITNESS: &str = "witness";

/// Contends until it is told to end. Does not return.
fn contend() -> ! {
    let text = |name| std::env::var(name).expect("set by the storm");
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

/// Deals the contenders out over the processors that they may use: else the scheduler may leave all
/// of them on one, beside the storm on another, and they come one after the other.
#[cfg(target_os = "linux")]
fn keep_to_a_processor(number: usize) {
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: a set of bits, of which all zero is the empty one.
    let (mut allowed, mut one): (libc::cpu_set_t, libc::cpu_set_t) = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a set of that size. 0 means ourselves.
    assert_eq!(unsafe { libc::sched_getaffinity(0, size, &raw mut allowed) }, 0);
    let bits = 8 * size;
    // SAFETY: the number is below that of the bits.
    let processors = (0..bits).filter(|&bit| unsafe { libc::CPU_ISSET(bit, &allowed) });
    let processors: Vec<usize> = processors.collect();
    // SAFETY: as above.
    unsafe { libc::CPU_SET(processors[number % processors.len()], &mut one) };
    // SAFETY: as above.
    assert_eq!(unsafe { libc::sched_setaffinity(0, size, &raw const one) }, 0);
}

/// How often a contender looks before it lets another one have its processor.
const LOOKS: u32 = 100;

/// The storm may have gone.
fn wait_for(word: &AtomicU32, round: u32) {
    use std::os::unix::process::parent_id;
    let parent = parent_id();
    while word.load(SeqCst) != round {
        if parent_id() != parent {
            std::process::exit(1);
        }
        // Long enough that one on each processor is at its look when the word changes.
        for _ in 0..LOOKS {
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

/// Anything but a refusal ends the contender, and the storm with it.
fn refusal(error: &AcquireError) -> Answer {
    let held = error.held().unwrap_or_else(|| panic!("{error}"));
    match held.reason {
        Refusal::Holder => Answer::Refused(held.holder.as_ref().expect("a record").pid),
        // The winner may have lost its processor for longer than the other tries.
        Refusal::Unknown(
            UnknownReason::BeingCreated | UnknownReason::Contended | UnknownReason::HolderExited,
        ) => Answer::Unknown,
        reason => panic!("{reason:?}: {error}"),
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        // While the lock is held still.
        self.witnessed.give_back();
        match self.guard.take() {
            Some(guard) => assert_eq!(ending(&guard.release()), "released"),
            None => naive::release(self.path),
        }
    }
}

fn churn(protocol: Protocol, lock: &Lock, witness: &Witness, slot: &Slot) {
    let (mut held, mut told_whom, mut not_told) = (0, 0, 0);
    while witness.board.holds_left.load(SeqCst) > 0 {
        let (answer, hold) = attempt(protocol, lock, witness);
        match answer {
            Answer::Refused(_) => told_whom += 1,
            Answer::Unknown => not_told += 1,
            Answer::Held => {
                held += 1;
                let less = |left: u32| left.checked_sub(1);
                // None are left where others were quicker.
                let _ = witness.board.holds_left.fetch_update(SeqCst, SeqCst, less);
                // Not asleep: others need not find the processor free.
                let began = Instant::now();
                while began.elapsed() < HOLD {
                    std::hint::spin_loop();
                }
            }
        }
        drop(hold);
    }
    slot.held.store(held, SeqCst);
    slot.told_whom.store(told_whom, SeqCst);
    slot.not_told.store(not_told, SeqCst);
}

/// A file elsewhere: `O_EXCL` gives it to one at a time.
struct Witness {
    path: PathBuf,
    board: &'static Board,
}

struct Witnessed<'a> {
    witness: &'a Witness,
    /// Whether it was ours to create, and so is ours to remove.
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
            fs::remove_file(&self.witness.path).expect("nobody else removes it");
        }
    }
}
