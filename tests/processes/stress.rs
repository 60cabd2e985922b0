//! Barrier stress: many processes start an acquire at the same instant, hundreds of times in each
//! cell.
//!
//! The gate runs 1,000 trials. 100,000 trials, with the table:
//!
//! ```text
//! PORTLOCK_STRESS_TRIALS=100000 cargo test --release --test processes stress -- --nocapture
//! ```
//!
//! The witness is a file elsewhere that each holder creates exclusively, without this crate. The
//! same run over the naive protocol must fail: `naive.rs`.
//!
//! The processes wait for each trial at a word in shared memory, and yield their processor
//! while waiting. A trial has three barriers: all are ready; all have their answer and none has
//! released; all have released, and the directory is inspected.

mod board;
mod contender;
mod run;

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use crate::participant::{DEAD_PID, old_record, set_modified};
use contender::contend;
use run::{BOARD, StressRun};

/// Default number of trials in each cell: a few seconds on an idle machine.
const TRIALS: u32 = 50;

/// The control fails within these.
const MOST_CONTROL_TRIALS: u32 = 1_000;

const PROCESSES: [usize; 4] = [2, 4, 8, 16];

/// The length of a hold in a churn, as in the measurement of the published agent.
const HOLD: Duration = Duration::from_micros(200);

#[test]
fn exactly_one_of_simultaneous_processes_holds() {
    if std::env::var_os(BOARD).is_some() {
        contend();
    }
    let _alone = ONE_RUN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let trials = trials();
    println!("{HEADING}");
    for processes in PROCESSES {
        let mut run = StressRun::start(processes);
        for start in [Start::Nothing, Start::Stale, Start::OldEmpty] {
            let seen = run.cell(Protocol::Portlock, start, trials);
            println!("{}", seen.row());
            assert_eq!((seen.two_or_more, seen.unheld, seen.witnessed), (0, 0, 0), "{start:?}");
            assert_eq!(seen.misnamed, 0, "{start:?}: a refusal names a process that does not hold");
            assert!(seen.named > 0, "{start:?}: no refusal names the holder");
            assert_eq!(seen.litter, 0, "{start:?}: trials that left a file");
        }

        let seen = run.cell(Protocol::Portlock, Start::LiveOldFormat, trials);
        println!("{}", seen.row());
        assert_eq!(
            (seen.unheld, seen.witnessed),
            (trials, 0),
            "a contender held next to a live agent"
        );
        assert_eq!(seen.named, trials * processes as u32, "each refusal names the agent");

        // Each contender uses all its tries, about 30 ms, because the creator may be active.
        let few = trials.div_ceil(50);
        let seen = run.cell(Protocol::Portlock, Start::YoungEmpty, few);
        println!("{}", seen.row());
        assert_eq!((seen.unheld, seen.witnessed), (few, 0), "a new file was taken");
        assert_eq!(seen.unnamed, few * processes as u32, "no process can be named");

        let seen = run.churn(Protocol::Portlock, trials);
        println!("{}", seen.row());
        assert_eq!((seen.witnessed, seen.litter), (0, 0), "churn");
        assert!(seen.holds >= trials);
        run.end();
    }
}

/// The control: the witness detects the violations of the protocol that this crate replaces.
#[test]
fn naive_protocol_fails_under_the_same_stress() {
    let _alone = ONE_RUN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let trials = trials().min(MOST_CONTROL_TRIALS);
    println!("{HEADING}");
    let mut violations = 0;
    for processes in PROCESSES {
        let mut run = StressRun::start(processes);
        for start in [Start::Nothing, Start::Stale, Start::OldEmpty] {
            let seen = run.cell(Protocol::Naive, start, trials);
            println!("{}", seen.row());
            violations += seen.two_or_more;
        }
        let seen = run.cell(Protocol::Naive, Start::LiveOldFormat, trials.div_ceil(10));
        println!("{}", seen.row());
        assert_eq!(seen.unheld, seen.trials, "it refuses next to a live agent");
        let seen = run.churn(Protocol::Naive, trials);
        println!("{}", seen.row());
        violations += seen.witnessed;

        let seen = run.cell(Protocol::NaiveForced, Start::Stale, trials.div_ceil(10));
        println!("{}", seen.row());
        assert!(seen.two_or_more > 0, "{processes} processes, and the control did not fail");
        assert!(seen.witnessed > 0, "the witness saw nothing");
        run.end();
    }
    println!("two or more holders, unforced: {violations}");
}

/// Two concurrent runs would share the processors, which weakens both.
static ONE_RUN: Mutex<()> = Mutex::new(());

fn trials() -> u32 {
    match std::env::var("PORTLOCK_STRESS_TRIALS") {
        Ok(number) => number.parse().expect("PORTLOCK_STRESS_TRIALS is a number"),
        Err(_) => TRIALS,
    }
}

/// The file at the path when a trial begins.
#[derive(Debug, Clone, Copy)]
enum Start {
    Nothing,
    /// A dead agent's file, in the old format.
    Stale,
    /// Empty, and older than the grace period: its creator has died.
    OldEmpty,
    /// Empty, and new: its creator may be about to write.
    YoungEmpty,
    /// A live agent's file, in the old format. The agent is the test process.
    LiveOldFormat,
}

impl Start {
    fn put(self, path: &Path) {
        let empty = |time| {
            fs::write(path, "").expect("an empty file");
            set_modified(path, time);
        };
        let record = |pid| fs::write(path, old_record(pid, SystemTime::now())).expect("a record");
        match self {
            Self::Nothing => {}
            Self::Stale => record(DEAD_PID),
            Self::OldEmpty => empty(SystemTime::UNIX_EPOCH),
            // In the future, so that it stays young even if the machine stalls for three seconds.
            Self::YoungEmpty => empty(SystemTime::now() + Duration::from_secs(1)),
            Self::LiveOldFormat => record(std::process::id()),
        }
    }

    /// The process other than a contender that a refusal must name.
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
    /// Waits between its probe and its unlink, which forces a double reclaim.
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
| protocol | processes | start | trials | two or more hold | none holds | the witness saw two \
| refusals by name | refusals, unknown | seconds |";

/// The result of a cell.
#[derive(Default)]
struct Seen {
    protocol: &'static str,
    processes: usize,
    start: &'static str,
    trials: u32,
    churn: bool,
    /// Trials in which two or more reported that they hold, before any of them had released.
    two_or_more: u32,
    unheld: u32,
    /// How often the witness showed a holder another one.
    witnessed: u32,
    holds: u32,
    /// Refusals that name the holder, that report it as unknown, that name another process.
    named: u32,
    unnamed: u32,
    misnamed: u32,
    /// Trials after which the directory was not empty.
    litter: u32,
    time: Duration,
}

impl Seen {
    fn row(&self) -> String {
        // A churn has no trials to count by, only the witness.
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
            by_trial(self.unheld),
            self.witnessed,
            self.named,
            self.unnamed,
            self.time.as_secs_f64(),
        )
    }
}
