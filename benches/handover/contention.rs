//! Many processes that acquire, hold and release as fast as they can.

use std::io::{BufRead, BufReader, Write};
use std::process::Child;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use crate::calls::Calls;
use crate::contender::{ALL, Contender};
use crate::shared::{Part, Role, Shared, median, now};

/// The lengths of a hold in microseconds, without yielding the processor.
const HOLDS: [u64; 2] = [0, 200];

/// The figures of one round, or the medians of many.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Acquisitions a second, of all processes.
    throughput: f64,
    /// Of the hand-overs, in microseconds.
    median: f64,
    /// The 99th percentile of the hand-overs, in microseconds.
    high: f64,
    /// Jain's index of the acquisitions of each process in the window of the round: 1 if all
    /// acquired equally often, and 1/n if one did alone.
    jain: f64,
    /// The longest acquire, in milliseconds.
    longest: f64,
    /// System calls for each acquisition and its release; NaN without permission to count. From
    /// separate rounds, because counting slows each call.
    calls: f64,
    /// Processor time for each acquisition, user and system, beyond the hold; in microseconds.
    processor: f64,
    /// Context switches for each acquisition, of all processes, voluntary and not.
    switches: f64,
}

impl Row {
    fn numbers(&self) -> [f64; 8] {
        let Self { throughput, median, high, jain, longest, calls, processor, switches } = *self;
        [throughput, median, high, jain, longest, calls, processor, switches]
    }

    fn of_rounds(rounds: &[Self]) -> Self {
        let of = |at: usize| median(rounds.iter().map(|row| row.numbers()[at]).collect());
        Self {
            throughput: of(0),
            median: of(1),
            high: of(2),
            jain: of(3),
            longest: of(4),
            calls: of(5),
            processor: of(6),
            switches: of(7),
        }
    }
}

/// Prints a table, and returns the same as lines of comma-separated values.
pub(crate) fn measure(processes: &[usize], seconds: f64, rounds: f64) -> Vec<String> {
    println!(
        "Windows of {seconds} s, {rounds} rounds.\n\n\
         | contender | processes | held, µs | acquisitions/s | hand-over, µs | of flock's | \
         99 %, µs | Jain | longest wait, ms | calls | processor, µs | switches |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    );
    let mut lines = vec![
        "contender,processes,held_us,window_s,rounds,acquisitions_per_s,handover_us_median,\
         of_flock,handover_us_p99,jain,longest_wait_ms,calls,processor_us,switches"
            .to_owned(),
    ];
    for &processes in processes {
        for hold in HOLDS {
            let mut flock = f64::NAN;
            for (contender, row) in cell(processes, hold, seconds, rounds) {
                if contender == Contender::Flock {
                    flock = row.median;
                }
                let (name, ratio) = (contender.name(), row.median / flock);
                let Row { throughput, median, high, jain, longest, calls, processor, switches } =
                    row;
                println!(
                    "| {name} | {processes} | {hold} | {throughput:.0} | {median:.1} | {ratio:.2} | \
                     {high:.0} | {jain:.3} | {longest:.1} | {calls:.1} | {processor:.1} | \
                     {switches:.2} |"
                );
                lines.push(format!(
                    "{name},{processes},{hold},{seconds},{rounds},{throughput:.1},{median:.2},\
                     {ratio:.3},{high:.1},{jain:.4},{longest:.2},{calls:.2},{processor:.2},\
                     {switches:.3}"
                ));
            }
        }
    }
    lines
}

/// All contenders in turn, so that other load affects all of them.
fn cell(processes: usize, hold: u64, seconds: f64, rounds: f64) -> Vec<(Contender, Row)> {
    let mut measured = ALL.map(|contender| (contender, Vec::new()));
    for _ in 0..rounds as usize {
        for (contender, rows) in &mut measured {
            let mut row = contend(*contender, processes, hold, seconds, false);
            row.calls = contend(*contender, processes, hold, seconds / 4.0, true).calls;
            rows.push(row);
        }
    }
    measured.map(|(contender, rows)| (contender, Row::of_rounds(&rows))).into()
}

fn contend(contender: Contender, processes: usize, hold: u64, seconds: f64, counts: bool) -> Row {
    let dir = tempfile::tempdir().expect("a directory");
    let all = Shared::of(dir.path());
    let part = |number| {
        let dir = dir.path().to_owned();
        Part { role: Role::Contend, contender, number, hold, counts, dir }
    };
    let parts: Vec<Child> = (0..processes as u64).map(|number| part(number).start()).collect();
    all.until_ready(processes);
    all.phase.store(1, SeqCst);
    std::thread::sleep(Duration::from_secs_f64(seconds));
    all.phase.store(2, SeqCst);
    let reports: Vec<Report> = parts.into_iter().map(Report::by).collect();
    let sum = |of: fn(&Report) -> f64| reports.iter().map(of).sum::<f64>();
    let held = sum(|report| report.held);
    let mut handovers: Vec<f64> =
        reports.iter().flat_map(|report| &report.handovers).map(|&one| one / 1e3).collect();
    handovers.sort_by(f64::total_cmp);
    let at = |part: f64| handovers.get((handovers.len() as f64 * part) as usize).copied();
    Row {
        throughput: held / seconds,
        median: at(0.5).unwrap_or(f64::NAN),
        high: at(0.99).unwrap_or(f64::NAN),
        jain: held * held / (processes as f64 * sum(|report| report.held * report.held)),
        longest: reports.iter().map(|report| report.longest).fold(0.0, f64::max) / 1e6,
        calls: sum(|report| report.calls) / held,
        processor: sum(|report| report.processor) / held - hold as f64,
        switches: sum(|report| report.switches) / held,
    }
}

/// The report of one process.
#[derive(Debug)]
struct Report {
    held: f64,
    /// In nanoseconds.
    longest: f64,
    calls: f64,
    /// In microseconds.
    processor: f64,
    switches: f64,
    /// In nanoseconds; a thousand of them, if there are more.
    handovers: Vec<f64>,
}

impl Report {
    fn by(mut part: Child) -> Self {
        let mut line = String::new();
        BufReader::new(part.stdout.take().expect("a pipe")).read_line(&mut line).expect("text");
        assert!(part.wait().expect("ends").success());
        let mut numbers = line.split_whitespace().map(|word| word.parse().expect("a number"));
        let mut next = || numbers.next().expect("five numbers");
        let (held, longest, calls) = (next(), next(), next());
        let (processor, switches) = (next(), next());
        Self { held, longest, calls, processor, switches, handovers: numbers.collect() }
    }
}

/// One process.
pub(crate) fn take_part(part: &Part) {
    let (all, file) = (Shared::of(&part.dir), part.lock_file());
    let mut longest = 0;
    let mut handovers = Vec::new();
    let mut held = 0_u64;
    all.ready.fetch_add(1, SeqCst);
    while all.phase.load(SeqCst) == 0 {
        std::thread::yield_now();
    }
    let before = Usage::now();
    let mut calls = part.counts.then(Calls::start).flatten();
    while all.phase.load(SeqCst) < 2 {
        let began = now();
        let holds = part.contender.acquire(&file);
        let got = now();
        let (by, at) = (all.releaser.load(SeqCst), all.released.load(SeqCst));
        if by != part.number && at > 0 {
            handovers.push(got.saturating_sub(at));
        }
        (held, longest) = (held + 1, longest.max(got - began));
        let until = Instant::now() + Duration::from_micros(part.hold);
        while part.hold > 0 && Instant::now() < until {
            std::hint::spin_loop();
        }
        all.releaser.store(part.number, SeqCst);
        all.released.store(now(), SeqCst);
        holds.release();
    }
    let calls = calls.as_mut().map_or(f64::NAN, |calls| calls.so_far() as f64);
    let used = Usage::now();
    let (processor, switches) =
        (used.processor - before.processor, used.switches - before.switches);
    let mut out = std::io::stdout().lock();
    write!(out, "{held} {longest} {calls} {processor} {switches}").expect("the bench listens");
    for one in handovers.iter().step_by(handovers.len().div_ceil(1000).max(1)) {
        write!(out, " {one}").expect("the bench listens");
    }
    writeln!(out).expect("the bench listens");
}

/// The resources that this process has used so far.
struct Usage {
    /// In microseconds.
    processor: f64,
    switches: f64,
}

impl Usage {
    fn now() -> Self {
        // SAFETY: a structure of numbers, which the call fills in.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
            usage
        };
        let micros = |time: libc::timeval| time.tv_sec as f64 * 1e6 + time.tv_usec as f64;
        Self {
            processor: micros(usage.ru_utime) + micros(usage.ru_stime),
            switches: (usage.ru_nvcsw + usage.ru_nivcsw) as f64,
        }
    }
}
