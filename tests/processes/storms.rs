//! Barrier storms: many processes start an acquire at one instant, hundreds of times in each cell.
//!
//! The gate does a thousand. A hundred thousand, with the table:
//!
//! ```text
//! PORTLOCK_STORM_TRIALS=100000 cargo test --release --test processes storms -- --nocapture
//! ```
//!
//! The witness is a file elsewhere that each holder creates exclusively, and nothing of this
//! crate. The same storm over the naive protocol must fail: `naive.rs`.
//!
//! The processes wait for each trial at a word in shared memory, and give up their processor while
//! they do. A trial has three barriers: all are ready; all have their answer, and nobody has
//! released; all have released, and the directory is looked at.

mod board;
mod contender;
mod storm;

use std::fs::{self, File};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use crate::participant::{NOBODY, old_record};
use contender::contend;
use storm::{BOARD, Storm};

/// Trials in each cell, unless the environment says otherwise: a few seconds on an idle machine.
const TRIALS: u32 = 100;

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
