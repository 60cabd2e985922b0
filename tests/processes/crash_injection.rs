//! Crash injection: a process is killed, stopped, or ended in another way, before and after each
//! call of acquire, hold, release, reclaim, clear and query.
//!
//! A child drives the shipped machines over the shipped adapter and stops before and after each
//! call until the order to continue (`target.rs`). An undisturbed run records the calls of each
//! scenario; then each site, on both sides of each call, gets an injection in its own run. The test
//! fails unless every recorded site had its injection, and prints the list.
//!
//! After each injection the next acquire gets the lock, the directory ends empty, and no two
//! processes have held at once. The witness is a byte-range lock on another file, which the kernel
//! gives to one process.
//!
//! **The one exception** is P3's: a process that dies between its create and its write leaves an
//! empty file, which waiters respect until it is two seconds old. Here its time is set back
//! instead, and the test fails if that is necessary at any other site.
//!
//! `system_calls.rs` does the same to the library itself, at each system call, by `strace`.

mod scenarios;
mod stage;
#[cfg(target_os = "linux")]
mod system_calls;
mod target;

use std::collections::BTreeSet;
use std::fmt;

use portlock::Guard;

use crate::participant::{ending, refused_by};
use scenarios::{Injection, SCENARIOS, Scenario, Wrong};
use stage::{Stage, Stop};

#[test]
fn kill_at_any_call_never_blocks() {
    inject_at_every_site(Injection::Kill);
}

/// A stopped holder is not dead and is not evicted (P7). Then it dies.
#[test]
fn stop_at_any_call_evicts_only_after_kill() {
    inject_at_every_site(Injection::StopAndKill);
}

/// Another process acquires while the child is stopped, if the lock is free.
#[test]
fn exclusion_survives_stop_and_continue_at_any_call() {
    inject_at_every_site(Injection::StopAndContinue);
}

#[test]
fn exit_at_any_call_never_blocks() {
    inject_at_every_site(Injection::End("exit"));
}

#[test]
fn another_threads_exit_at_any_call_never_blocks() {
    inject_at_every_site(Injection::End("exit-in-a-thread"));
}

#[test]
fn unwinding_panic_at_any_call_never_blocks() {
    inject_at_every_site(Injection::End("panic"));
}

#[test]
fn abort_at_any_call_never_blocks() {
    inject_at_every_site(Injection::End("abort"));
}

/// The process continues as another program: the recorded holder is not evicted while it lives.
#[test]
fn exec_at_any_call_blocks_only_until_death() {
    inject_at_every_site(Injection::Exec);
}

/// Another thread forks. The child shares the open file, and outlives its parent.
#[test]
fn fork_at_any_call_blocks_until_child_dies() {
    inject_at_every_site(Injection::Fork);
}

#[test]
fn exclusion_survives_another_thread_at_any_call() {
    inject_at_every_site(Injection::Thread);
}

/// The controls: wrong drivers and adapters must be detected by the same injections.
#[test]
fn injection_detects_wrong_protocols() {
    for (wrong, scenario) in [
        // It takes no kernel lock, and unlinks a file that it has not confirmed.
        (Wrong::Naive, "acquire: a dead holder's record"),
        // Each of these two faults alone.
        (Wrong::NoLock, "acquire: a dead holder's record"),
        (Wrong::NoConfirm, "release: the file was removed"),
    ] {
        let scenario = SCENARIOS.iter().find(|one| one.name == scenario).expect("it is listed");
        let sites = recorded(scenario, wrong);
        let found: Vec<String> = sites
            .iter()
            .filter_map(|site| {
                let seen = inject(scenario, wrong, site, Injection::StopAndContinue);
                seen.err().map(|violation| format!("{site}: {violation}"))
            })
            .collect();
        println!("{wrong:?}, {}, stopped and resumed:", scenario.name);
        found.iter().for_each(|violation| println!("    {violation}"));
        assert!(!found.is_empty(), "{wrong:?} was not detected");
    }
}

/// Where the child stops: before or after a call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Site {
    /// The number of stops before it.
    number: usize,
    /// `before` or `after`, the state of the machine, the call.
    name: String,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)
    }
}

fn inject_at_every_site(injection: Injection) {
    let (mut all, mut injections, mut concurrent) = (0, 0, Vec::new());
    for scenario in SCENARIOS {
        let sites = recorded(scenario, Wrong::No);
        let mut done = BTreeSet::new();
        println!("{}, {} sites, {injection:?}:", scenario.name, sites.len());
        for site in &sites {
            let seen = inject(scenario, Wrong::No, site, injection)
                .unwrap_or_else(|violation| panic!("{}, {site}: {violation}", scenario.name));
            println!("    {site}: {seen}");
            done.insert(seen.site);
            concurrent.extend(seen.concurrent);
        }
        assert_eq!(done, sites.iter().cloned().collect(), "a site had no injection");
        (all, injections) = (all + sites.len(), injections + done.len());
    }
    assert!(all > 200, "the record is empty: {all}");
    println!("{injections} of {all} sites, in {} scenarios", SCENARIOS.len());
    for word in ["held", "refused, held by"] {
        let seen = concurrent.iter().filter(|said| said.starts_with(word)).count();
        println!("concurrently {word}: {seen}");
        assert!(concurrent.is_empty() || seen > 0, "no concurrent acquire was {word}");
    }
}

/// The stops of an undisturbed run.
fn recorded(scenario: &Scenario, wrong: Wrong) -> Vec<Site> {
    let mut stage = Stage::set(scenario, wrong);
    let mut sites = Vec::new();
    while let Stop::At(name) = stage.stop() {
        sites.push(Site { number: sites.len(), name });
        stage.go();
    }
    stage.child.finish();
    sites
}

/// The result of an injection.
struct Seen {
    site: Site,
    /// The outcome of another process's attempt while the child was stopped.
    concurrent: Option<String>,
    /// The child's own outcome, if it continued.
    resumed: Option<String>,
    /// Whether a dead creator's empty file had to be made old.
    new_file: bool,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let concurrent = self.concurrent.as_deref().unwrap_or("-");
        write!(f, "concurrent: {concurrent}")?;
        if let Some(resumed) = &self.resumed {
            write!(f, "; resumed: {resumed}")?;
        }
        if self.new_file { f.write_str("; empty file made old") } else { Ok(()) }
    }
}

/// One run with an injection at `site`. The error is the promise that was broken.
fn inject(
    scenario: &Scenario,
    wrong: Wrong,
    site: &Site,
    injection: Injection,
) -> Result<Seen, String> {
    let mut stage = Stage::set(scenario, wrong);
    for _ in 0..site.number {
        let stop = stage.stop();
        assert!(matches!(stop, Stop::At(_)), "the run differs from the record: {stop:?}");
        stage.go();
    }
    let Stop::At(name) = stage.stop() else { panic!("the run is shorter than the record") };
    assert_eq!(name, site.name, "the run differs from the record");
    let mut seen = Seen {
        site: Site { number: site.number, name },
        concurrent: None,
        resumed: None,
        new_file: false,
    };
    let holds = stage.child_holds(site);
    match injection {
        Injection::Kill => stage.child.kill(),
        Injection::End(how) => stage.child.end(how),
        Injection::StopAndKill => {
            stage.child.stop();
            let (said, guard) = stage.another_acquires(holds)?;
            seen.concurrent = Some(said);
            stage.child.kill();
            give_back(guard)?;
        }
        Injection::StopAndContinue => {
            stage.child.stop();
            let (said, guard) = stage.another_acquires(holds)?;
            seen.concurrent = Some(said);
            stage.child.resume();
            seen.resumed = Some(stage.resume(guard)?);
        }
        Injection::Exec => {
            assert_eq!(stage.child.request("exec"), "executed");
            // The recorded process may still use what it had locked.
            let recorded = stage.names_child();
            let (said, guard) = stage.another_acquires(recorded)?;
            seen.concurrent = Some(said);
            give_back(guard)?;
            stage.child.dismiss();
            stage.child.reap();
        }
        Injection::Fork => {
            assert_eq!(stage.child.request("fork"), "forked");
            stage.child.kill();
            // The dead process's child may have the kernel lock; the refusal does not name it.
            let (said, guard) = stage.another_acquires(false)?;
            seen.concurrent = Some(said);
            give_back(guard)?;
            stage.child.dismiss();
        }
        Injection::Thread => {
            let said = stage.child.request("thread");
            let by_itself = refused_by(stage.child.pid());
            if holds && said != by_itself {
                return Err(format!("another thread's outcome: {said}"));
            }
            seen.concurrent = Some(said);
            seen.resumed = Some(stage.resume(None)?);
        }
    }
    seen.new_file = stage.next_acquire_succeeds(injection)?;
    let expected = NEWLY_CREATED.contains(&site.name.as_str()) || !scenario.faults.is_empty();
    if seen.new_file && !expected {
        return Err("an empty file was left, and not directly after a create".to_owned());
    }
    Ok(seen)
}

/// A process that ends here leaves a new empty file. So may one whose write fails, in the scenarios
/// with faults.
const NEWLY_CREATED: [&str; 4] = [
    "after Creating create",
    "before LockingCreated lock",
    "after LockingCreated lock",
    "before Recording write",
];

/// The concurrent holder must still have the lock.
fn give_back(guard: Option<Guard>) -> Result<(), String> {
    let Some(guard) = guard else { return Ok(()) };
    match ending(&guard.release()) {
        "released" => Ok(()),
        other => Err(format!("the concurrent holder's release ended as {other}")),
    }
}
