//! Real runs are runs of the model: many processes acquire, wait, release, ask and are killed, some
//! calls are made to fail, somebody removes the file; each records its calls, and there is an order
//! of all of them in which the model gives every reply.
//!
//! Each kind of reply is falsified in turn, in the record of a run and in a run itself, whose
//! process then goes on as if it were true. Then there must be no such order, or a reason why there
//! is one.
//!
//! `PORTLOCK_SEED` is the first seed, and `PORTLOCK_TRACES` how many runs there are.

#![cfg(target_os = "linux")]

// Of its two waits, this needs one.
#[allow(dead_code)]
#[path = "../participant/deadline.rs"]
mod deadline;
mod falsehoods;
mod lingering;
mod recording;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use portlock_model::conformance::trace::{
    Event, Trace, What, explain, explain_with_lingering_lock, now, parse,
};
use portlock_model::scenario::machines::{Op, Reply};
use portlock_model::scenario::state::Kind;

use deadline::must_return;
use recording::{LIE, ROLE, let_the_grace_pass};

/// Which lane asks.
const ASKER: u64 = 3;

/// A run that is to be recorded.
#[derive(Clone, Copy)]
struct Plan {
    seed: u64,
    /// How many processes follow one another in each lane.
    generations: u64,
    /// What the first process of the lane that makes such calls is told falsely.
    lie: Option<Reply>,
}

impl Plan {
    /// One in which most processes are killed, and the path is removed now and then.
    fn rough(seed: u64) -> Self {
        Self { seed, generations: 8, lie: None }
    }

    /// A shorter one.
    fn to_be_falsified(seed: u64) -> Self {
        Self { seed, generations: 4, lie: None }
    }

    /// The shortest in which everybody meets.
    fn with_lie(seed: u64, lie: Reply) -> Self {
        Self { seed, generations: 2, lie: Some(lie) }
    }
}

fn start(role: &str, seed: u64, lie: Option<Reply>, path: &Path) -> Child {
    let this = std::env::current_exe().expect("the test binary has a path");
    let mut command = Command::new(this);
    command
        .args([
            "recording::a_process_records_its_calls",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(ROLE, format!("{role} {seed} {}", path.display()))
        .stdout(Stdio::piped());
    if let Some(lie) = lie {
        command.env(LIE, format!("{lie:?}"));
    }
    command.spawn().expect("it starts")
}

/// One process after another, most of them killed at some line. Also what was done by the one who
/// starts and kills them.
fn lane(role: &str, number: u64, plan: Plan, path: &Path) -> (Vec<Event>, Vec<Event>) {
    let seed = plan.seed * 10 + number;
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut events, mut outside) = (Vec::new(), Vec::new());
    for generation in 0..plan.generations {
        let liar = |lie: &Reply| number == if lie.op() == Op::Watch { ASKER } else { 0 };
        let lie = plan.lie.filter(|lie| generation == 0 && liar(lie));
        let mut child = start(role, seed * 1000 + generation, lie, path);
        let is_killed = generation % 4 != 3 && lie.is_none();
        let last = is_killed.then(|| random.usize(1..160));
        let removes = (generation % 4 == 2).then(|| random.usize(1..160));
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut lines = Vec::new();
        let mut killed = false;
        must_return("the lines of one process", || {
            for line in output.lines() {
                lines.push(line.expect("text"));
                // What it has written by then is read to the end.
                if Some(lines.len()) == last {
                    child.kill().expect("it can be killed");
                    killed = true;
                }
                if Some(lines.len()) == removes {
                    let from = now();
                    if std::fs::remove_file(path).is_ok() {
                        outside.push(Event::new(from, now(), What::Removes));
                    }
                }
            }
        });
        let status = must_return("its end", || child.wait()).expect("it can be reaped");
        assert!(killed || status.success(), "it ended with {status}");
        events.extend(parse(lines.iter().map(String::as_str), now()).expect("a trace"));
        if !status.success() {
            let_the_grace_pass(path);
        }
    }
    (events, outside)
}

fn record(plan: Plan) -> Trace {
    let directory = tempfile::tempdir().expect("there is room");
    let path = directory.path().join("agent-5338.lock");
    let roles = [(Kind::Process, "acquire"); 3].into_iter().chain([(Kind::Asker, "ask")]);
    let lanes: Vec<_> = std::thread::scope(|scope| {
        let path = &path;
        let threads: Vec<_> = (0..)
            .zip(roles)
            .map(|(number, (kind, role))| {
                (kind, scope.spawn(move || lane(role, number, plan, path)))
            })
            .collect();
        threads.into_iter().map(|(kind, lane)| (kind, lane.join().expect("it ends"))).collect()
    });
    let mut trace = Trace::default();
    for (kind, (events, outside)) in lanes {
        trace.lanes.push((kind, events));
        trace.outside.push(outside);
    }
    trace
}

fn number(name: &str, otherwise: u64) -> u64 {
    let number = std::env::var(name).map_or(otherwise, |number| number.parse().expect("a number"));
    println!("{name}={number}");
    number
}

/// The seeds of the runs.
fn seeds() -> std::ops::Range<u64> {
    let seed = number("PORTLOCK_SEED", 1);
    seed..seed + number("PORTLOCK_TRACES", 8)
}

/// The calls that have more than one reply in a recorded run.
fn ops() -> impl Iterator<Item = Op> {
    let is_plain = |op: &Op| matches!(op, Op::Arm | Op::Listen | Op::Close | Op::Leave);
    Op::SHIPPED.into_iter().filter(move |op| !is_plain(op))
}

/// Every reply of those calls.
fn replies() -> Vec<Reply> {
    ops().flat_map(Op::replies).collect()
}

/// Whether a run has an order with no lock that outlived its holder. With none at all, it panics.
fn explained(trace: &Trace, what: &str) -> bool {
    let reason = match explain(trace) {
        Ok(explained) => {
            println!("{what}: {explained:?}");
            return true;
        }
        Err(reason) => reason,
    };
    match explain_with_lingering_lock(trace) {
        Ok(_) => println!("{what}: a lock outlived its holder, because {reason}"),
        Err(_) => panic!("{what}: {reason}"),
    }
    false
}

#[test]
fn trace_with_killed_processes_is_a_model_run() {
    let (mut seen, mut unfinished, mut removed, mut lingered) = (BTreeSet::new(), 0, 0, 0);
    for seed in seeds() {
        let trace = record(Plan::rough(seed));
        lingered += usize::from(!explained(&trace, &format!("seed {seed}")));
        for (_, event) in calls(&trace) {
            match event.reply() {
                Some(reply) => drop(seen.insert(reply)),
                None => unfinished += 1,
            }
        }
        let outside = trace.outside.iter().flatten();
        removed += outside.filter(|event| event.what == What::Removes).count();
    }
    println!("{unfinished} were killed in a call, {removed} files removed; replies: {seen:?}");
    assert!(unfinished > 0 && removed > 0);
    assert!(lingered <= 1, "{lingered} locks outlived their holders: it should be a rare instant");
    for op in ops() {
        let ways = seen.iter().filter(|reply| reply.op() == op).count();
        assert!(ways >= 2, "{op:?} was replied to in {ways} ways only");
    }
}

/// Every call, and where in the trace it stands.
fn calls(trace: &Trace) -> impl Iterator<Item = ((usize, usize), &Event)> {
    trace.lanes.iter().enumerate().flat_map(|(lane, (_, events))| {
        let calls = events.iter().enumerate();
        calls
            .filter(|(_, event)| matches!(event.what, What::Calls(..) | What::Fails(_)))
            .map(move |(number, event)| ((lane, number), event))
    })
}
