//! Injections into the library itself: killed before each system call, or stopped after it.
//!
//! A participant runs under strace, which sends the signal. An undisturbed run records the calls of
//! each scenario, and each gets an injection in its own run. Calls for memory, orders and answers
//! are not the library's. The queries that a process makes about itself once are made before the
//! record begins.
//!
//! A kill *after* a call is the kill before the next one. A stop after a call differs: another
//! process acts after the call.

use std::collections::BTreeMap;
use std::fs;

use super::give_back;
use super::scenarios::Initial;
use super::stage::next_acquire;
use crate::participant::{
    Participant, Place, outcome, refused_by, sampled, sleeps_in_poll, strace_is_there, stride,
    wait_until,
};

#[test]
fn kill_before_any_syscall_never_blocks() {
    if !strace_is_there("a kill at each system call") {
        return;
    }
    let mut all = 0;
    for (at, scenario) in SCENARIOS.iter().enumerate() {
        let calls = recorded(scenario);
        println!("{}, {} calls:", scenario.name, calls.len());
        for (number, call) in sampled(at, &calls) {
            let new_file = killed(scenario, &calls, number).unwrap_or_else(|violation| {
                panic!("{}, {}: {violation}", scenario.name, call.text)
            });
            println!("    {}{}", call.text, if new_file { ": empty file made old" } else { "" });
        }
        all += sampled(at, &calls).count();
    }
    println!("{all} calls, in {} scenarios", SCENARIOS.len());
    assert!(all * stride() > 100, "the record is empty: {all}");
}

#[test]
fn exclusion_survives_a_stop_after_any_syscall() {
    if !strace_is_there("a kill at each system call") {
        return;
    }
    let (mut all, mut acquired) = (0, 0);
    // A waiter is left out: nothing would end its wait after it is resumed.
    for (at, scenario) in SCENARIOS.iter().filter(|one| one.may_be_stopped()).enumerate() {
        let calls = recorded(scenario);
        println!("{}, {} calls:", scenario.name, calls.len());
        for (number, call) in sampled(at, &calls) {
            let (concurrent, resumed) = stopped(scenario, &calls, number, "trace=all")
                .unwrap_or_else(|violation| {
                    panic!("{}, {}: {violation}", scenario.name, call.text)
                });
            println!("    {}: concurrent: {concurrent}; resumed: {resumed}", call.text);
            acquired += usize::from(concurrent.starts_with("held"));
        }
        all += sampled(at, &calls).count();
    }
    println!("{all} calls; {acquired} times another process acquired in between");
    assert!(all * stride() > 90 && acquired * stride() > 10, "{all} calls, {acquired} acquires");
}

/// The control: strace reports a successful `flock` to the participant that the kernel never made.
#[test]
fn control_without_kernel_lock_exclusion_breaks() {
    if !strace_is_there("a kill at each system call") {
        return;
    }
    let scenario = SCENARIOS.iter().find(|one| one.initial == Initial::DeadHolder);
    let scenario = scenario.expect("it is listed");
    let calls = recorded(scenario);
    let first = calls.iter().find(|call| call.name == "flock").expect("it locks");
    let tamper = format!("inject=flock:retval=0:when={}+", first.ordinal);
    let mut found = 0;
    for (number, call) in calls.iter().enumerate().filter(|(_, call)| call.name != "flock") {
        if let Err(violation) = stopped(scenario, &calls, number, &tamper) {
            println!("    {}: {violation}", call.text);
            found += 1;
        }
    }
    assert!(found > 0, "it was not detected");
}

struct Scenario {
    pub(super) name: &'static str,
    pub(super) initial: Initial,
    /// Each gets the path of the lock.
    orders: &'static [&'static str],
}

impl Scenario {
    fn waits(&self) -> bool {
        self.orders.contains(&"acquire")
    }

    fn may_be_stopped(&self) -> bool {
        !self.waits() && !self.orders.contains(&"end exit")
    }
}

// No query: it is read-only, and its number of calls depends on the length of the list of all
// kernel locks.
const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "acquire and release",
        initial: Initial::Nothing,
        orders: &["try", "release"],
    },
    Scenario {
        name: "acquire, and exit with the lock held",
        initial: Initial::Nothing,
        orders: &["try", "end exit"],
    },
    Scenario { name: "reclaim a dead holder's", initial: Initial::DeadHolder, orders: &["try"] },
    Scenario {
        name: "reclaim a dead holder's old record",
        initial: Initial::DeadOfOldFormat,
        orders: &["try"],
    },
    Scenario { name: "reclaim an old empty file", initial: Initial::OldEmpty, orders: &["try"] },
    Scenario { name: "refused by a live holder", initial: Initial::LiveHolder, orders: &["try"] },
    Scenario { name: "wait for a release", initial: Initial::LiveHolder, orders: &["acquire"] },
    Scenario { name: "clear a dead holder's", initial: Initial::DeadHolder, orders: &["clear"] },
];

/// A recorded call.
#[derive(Debug)]
struct Call {
    name: String,
    /// Its number among the thread's calls of that name, from 1.
    ordinal: usize,
    /// The number of orders answered before it.
    order: usize,
    text: String,
}

fn recorded(scenario: &Scenario) -> Vec<Call> {
    let mut stage = Stage::set(scenario, &[]);
    for number in 0..scenario.orders.len() {
        stage.order(number);
        stage.end_the_wait();
        if scenario.orders[number] != "end exit" {
            stage.participant.answer();
        }
    }
    stage.participant.dismiss();
    stage.participant.reap();
    stage.calls()
}

/// Returns whether an empty new file was left. The error is the promise that was broken.
fn killed(scenario: &Scenario, calls: &[Call], number: usize) -> Result<bool, String> {
    let call = &calls[number];
    let inject = format!("inject={}:signal=SIGKILL:when={}", call.name, call.ordinal);
    let mut stage = Stage::set(scenario, &["-e", &inject]);
    // The last order is answered by the participant's end.
    for number in 0..call.order {
        stage.order(number);
        stage.end_the_wait();
        stage.participant.answer();
    }
    stage.order(call.order);
    stage.end_the_wait();
    stage.participant.reap();
    let trace = stage.trace();
    assert!(trace.contains("+++ killed by SIGKILL +++"), "{}: it was not killed", call.text);
    stage.was_injected_at(calls, number);
    let new_file = next_acquire(&stage.place, stage.holder.take(), false)?;
    let is_create = |call: &&Call| call.text.contains("O_CREAT");
    let mut before = calls[..number].iter().rev();
    let last = before.find(|call| is_create(call) || call.name == "write");
    if new_file && !last.as_ref().is_some_and(is_create) {
        return Err("an empty file was left, and not directly after a create".to_owned());
    }
    Ok(new_file)
}

/// The outcomes of a concurrent acquire, and of the stopped process after it is resumed. `tamper`
/// is one more option of strace.
fn stopped(
    scenario: &Scenario,
    calls: &[Call],
    number: usize,
    tamper: &str,
) -> Result<(String, String), String> {
    let call = &calls[number];
    let inject = format!("inject={}:signal=SIGSTOP:when={}", call.name, call.ordinal);
    let mut stage = Stage::set(scenario, &["-e", &inject, "-e", tamper]);
    for number in 0..call.order {
        stage.order(number);
        stage.participant.answer();
    }
    stage.order(call.order);
    wait_until("it is stopped at the call", || {
        assert!(!stage.participant.has_ended(), "{}: it was not stopped", call.text);
        stage.trace().contains("--- stopped by SIGSTOP ---")
    });
    stage.was_injected_at(calls, number);
    let record = fs::read_to_string(stage.place.path()).unwrap_or_default();
    let recorded = record.starts_with(&format!("{{\"pid\":{},", stage.pid));
    let attempt = stage.place.try_acquire();
    let concurrent = outcome(&attempt);
    // The recorded process has the kernel lock, from before its write until after its unlink.
    if recorded && concurrent != refused_by(stage.pid) {
        return Err(format!(
            "pid {} has the lock, and another acquire was: {concurrent}",
            stage.pid
        ));
    }
    // SAFETY: a signal to a stopped process, whose pid is therefore still its own.
    let sent = unsafe { libc::kill(stage.pid.try_into().expect("a pid"), libc::SIGCONT) };
    assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
    let resumed = stage.participant.answer();
    if attempt.is_ok() && resumed.starts_with("held") {
        return Err("both hold".to_owned());
    }
    give_back(attempt.ok())?;
    if resumed.starts_with("held") {
        let ended = stage.participant.request("release");
        if ended != "released" {
            return Err(format!("its release ended as {ended}"));
        }
    }
    stage.participant.dismiss();
    stage.participant.reap();
    next_acquire(&stage.place, stage.holder.take(), false)?;
    Ok((concurrent, resumed))
}

// ---- under strace -------------------------------------------------------------------------------

/// How often another lock is acquired, refused and released first. strace counts calls by thread,
/// and injects into the first thread that reaches the number: these put the participant's thread
/// ahead of the one that started it.
const WARM: usize = 30;

struct Stage {
    scenario: &'static [&'static str],
    place: Place,
    elsewhere: tempfile::TempDir,
    holder: Option<Participant>,
    /// strace.
    participant: Participant,
    /// The traced process.
    pid: u32,
}

impl Stage {
    fn set(scenario: &Scenario, inject: &[&str]) -> Self {
        let place = Place::new();
        let elsewhere = tempfile::tempdir().expect("a directory");
        let mut strace = std::process::Command::new("strace");
        strace.args(["-f", "-s", "16", "-o"]).arg(elsewhere.path().join("trace")).args(inject);
        let mut participant = Participant::start_within(strace);
        let warm = elsewhere.path().join("warm");
        for _ in 0..WARM {
            assert_eq!(participant.try_acquire(&warm), "held");
            assert!(participant.try_acquire(&warm).starts_with("refused, held by"));
            assert_eq!(participant.request("release"), "released");
        }
        let pid = participant.request("pid").parse().expect("a pid");
        let holder = scenario.initial.put(place.path());
        Self { scenario: scenario.orders, place, elsewhere, holder, participant, pid }
    }

    fn order(&mut self, number: usize) {
        let path = self.place.path().display();
        match self.scenario[number] {
            alone @ ("release" | "end exit") => self.participant.order(alone),
            order => self.participant.order(&format!("{order} {path}")),
        }
    }

    /// The holder releases, unless the waiter ends before it waits.
    fn end_the_wait(&mut self) {
        if !self.scenario.contains(&"acquire") {
            return;
        }
        wait_until("it waits or has ended", || {
            self.participant.has_ended() || sleeps_in_poll(self.pid)
        });
        if !self.participant.has_ended() {
            let mut holder = self.holder.take().expect("it is waited for");
            assert_eq!(holder.request("release"), "released");
        }
    }

    fn trace(&self) -> String {
        fs::read_to_string(self.elsewhere.path().join("trace")).expect("strace writes the trace")
    }

    /// The calls made for the orders so far.
    fn calls(&self) -> Vec<Call> {
        let trace = self.trace();
        let path = format!("\"{}\"", self.place.path().display());
        let lines = trace.lines().filter_map(|line| line.split_once(' '));
        let lines: Vec<(&str, &str)> = lines.map(|(thread, call)| (thread, call.trim())).collect();
        let reads = |call: &str| call.starts_with("read(0, ");
        let (thread, _) = *lines.iter().find(|(_, call)| reads(call)).expect("it reads orders");
        let (mut calls, mut counts, mut answered) = (Vec::new(), BTreeMap::new(), 0);
        for (_, call) in lines.into_iter().filter(|(of, _)| *of == thread) {
            let Some((name, arguments)) = call.split_once('(') else { continue };
            if name.contains(' ') {
                // The end of a call whose beginning has its own line.
                continue;
            }
            let count: &mut usize = counts.entry(name.to_owned()).or_default();
            *count += 1;
            let warm = 3 * WARM + 1;
            if call.starts_with("write(1, \"answer: ") {
                answered += 1;
            } else if answered >= warm && is_the_librarys(name, arguments) {
                let text = call.split(" = ").next().unwrap_or(call).replace(&path, "path");
                let text = text.trim_end_matches("<unfinished ...>").trim_end();
                let text = text.split(", {stx_mask").next().unwrap_or(text).to_owned();
                let order = answered - warm;
                if order == self.scenario.len() {
                    // The exit of the participant is a separate scenario.
                    break;
                }
                calls.push(Call { name: name.to_owned(), ordinal: *count, order, text });
            }
        }
        calls
    }

    /// The run was as recorded, and the injection was at its last call.
    fn was_injected_at(&self, recorded: &[Call], number: usize) {
        let names = |calls: &[Call]| {
            calls.iter().map(|call| (call.name.clone(), call.ordinal)).collect::<Vec<_>>()
        };
        assert_eq!(
            names(&self.calls()),
            names(&recorded[..=number]),
            "the injection was at another call"
        );
    }
}

fn is_the_librarys(name: &str, arguments: &str) -> bool {
    let memory = ["mmap", "munmap", "mremap", "brk", "madvise", "sigaltstack"];
    // An order, or a file in /proc, in a varying number of calls. The lock file is read by
    // `pread64`.
    let reads_else = name == "read";
    // With debug assertions, std checks that a descriptor is open before it closes it.
    let checks = name == "fcntl" && arguments.contains("F_GETFD");
    // The seed of the pauses.
    let draws = name == "getrandom";
    !memory.contains(&name) && !draws && !reads_else && !checks && name != "exit_group"
}
