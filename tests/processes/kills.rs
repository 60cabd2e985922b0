//! Struck at every call: killed, stopped, ended in every other way, before and after each call of
//! acquire, hold, release, reclaim, clear and query.
//!
//! A child drives the shipped machines over the shipped adapter and stops before and after each
//! call until it is told to go on (`struck.rs`). A run without a strike records the calls of each
//! scenario; then each of them is struck, in a run of its own, on both sides. The test fails unless
//! every site of the record was struck, and prints the list.
//!
//! After each strike the next acquire gets the lock, the directory ends empty, and nobody has held
//! twice. The witness is a byte-range lock on another file, which the kernel gives to one process.
//!
//! **The one exception** is P3's: who dies between its create and its write leaves an empty file,
//! which is waited for until it is two seconds old. Here its time is set back instead. Where that
//! was necessary is part of the list, and may be nowhere else.
//!
//! `system_calls.rs` does the same to the library itself, at each system call, by `strace`.

mod scenarios;
mod stage;
mod struck;
#[cfg(target_os = "linux")]
mod system_calls;

use std::collections::BTreeSet;
use std::fmt;

use portlock::Guard;

use crate::participant::{ending, refused_by};
use scenarios::{SCENARIOS, Scenario, Strike, Wrong};
use stage::{Stage, Stop};

#[test]
fn kill_at_any_call_never_blocks() {
    every_site_is_struck(Strike::Kill);
}

/// A stopped one is no dead one: who holds is not evicted (P7). Then it dies.
#[test]
fn stop_at_any_call_evicts_only_after_kill() {
    every_site_is_struck(Strike::StopAndKill);
}

/// Somebody else acts in the meantime, and has the lock if it was to be had.
#[test]
fn exclusion_survives_stop_and_continue_at_any_call() {
    every_site_is_struck(Strike::StopAndContinue);
}

#[test]
fn exit_at_any_call_never_blocks() {
    every_site_is_struck(Strike::End("exit"));
}

#[test]
fn another_threads_exit_at_any_call_never_blocks() {
    every_site_is_struck(Strike::End("exit-in-a-thread"));
}

#[test]
fn unwinding_panic_at_any_call_never_blocks() {
    every_site_is_struck(Strike::End("panic"));
}

#[test]
fn abort_at_any_call_never_blocks() {
    every_site_is_struck(Strike::End("abort"));
}

/// The process lives on, as another program: the recorded holder is not evicted while it does.
#[test]
fn exec_at_any_call_blocks_only_until_death() {
    every_site_is_struck(Strike::Exec);
}

/// Another thread forks. The child shares the open file, and outlives the one that it came from.
#[test]
fn fork_at_any_call_blocks_until_child_dies() {
    every_site_is_struck(Strike::Fork);
}

#[test]
fn exclusion_survives_another_thread_at_any_call() {
    every_site_is_struck(Strike::Thread);
}

/// The controls. Each is a wrong driver or adapter, struck in the same way, and found out.
#[test]
fn wrong_protocols_do_not_survive_the_strikes() {
    for (wrong, scenario) in [
        // It wrote its record and took no kernel lock; it unlinks what it has not confirmed.
        (Wrong::Naive, "acquire: a dead holder's record"),
        // Each of the two alone.
        (Wrong::NoLock, "acquire: a dead holder's record"),
        (Wrong::NoConfirm, "release: somebody removed the file"),
    ] {
        let scenario = SCENARIOS.iter().find(|one| one.name == scenario).expect("it is listed");
        let sites = recorded(scenario, wrong);
        let found: Vec<String> = sites
            .iter()
            .filter_map(|site| {
                let seen = struck(scenario, wrong, site, Strike::StopAndContinue);
                seen.err().map(|violation| format!("{site}: {violation}"))
            })
            .collect();
        println!("{wrong:?}, {}, stopped and continued:", scenario.name);
        found.iter().for_each(|violation| println!("    {violation}"));
        assert!(!found.is_empty(), "{wrong:?} was not found out");
    }
}

/// Where the child stops: at this side of this call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Site {
    /// How many stops come before it.
    number: usize,
    /// `before` or `after`, the state of the machine, and the call.
    name: String,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)
    }
}

fn every_site_is_struck(strike: Strike) {
    let (mut all, mut strikes, mut meanwhile) = (0, 0, Vec::new());
    for scenario in SCENARIOS {
        let sites = recorded(scenario, Wrong::No);
        let mut done = BTreeSet::new();
        println!("{}, {} sites, {strike:?}:", scenario.name, sites.len());
        for site in &sites {
            let seen = struck(scenario, Wrong::No, site, strike)
                .unwrap_or_else(|violation| panic!("{}, {site}: {violation}", scenario.name));
            println!("    {site}: {seen}");
            done.insert(seen.site);
            meanwhile.extend(seen.meanwhile);
        }
        assert_eq!(done, sites.iter().cloned().collect(), "a site was not struck");
        (all, strikes) = (all + sites.len(), strikes + done.len());
    }
    assert!(all > 200, "the record is empty: {all}");
    println!("{strikes} of {all} sites struck, in {} scenarios", SCENARIOS.len());
    for word in ["held", "refused, held by"] {
        let seen = meanwhile.iter().filter(|said| said.starts_with(word)).count();
        println!("meanwhile {word}: {seen}");
        assert!(meanwhile.is_empty() || seen > 0, "nobody was told: {word}");
    }
}

/// The stops of a run in which nothing is done to the child.
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

/// What a strike has shown.
struct Seen {
    site: Site,
    /// What became of the attempt of another, while the child was alive and stopped.
    meanwhile: Option<String>,
    /// How the child went on, if it did.
    went_on: Option<String>,
    /// Whether the empty file of a dead creator had to be made old.
    new_file: bool,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meanwhile = self.meanwhile.as_deref().unwrap_or("-");
        write!(f, "meanwhile: {meanwhile}")?;
        if let Some(went_on) = &self.went_on {
            write!(f, "; went on: {went_on}")?;
        }
        if self.new_file { f.write_str("; empty file made old") } else { Ok(()) }
    }
}

/// One run, struck at `site`. The error is the promise that was broken.
fn struck(scenario: &Scenario, wrong: Wrong, site: &Site, strike: Strike) -> Result<Seen, String> {
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
        meanwhile: None,
        went_on: None,
        new_file: false,
    };
    let holds = stage.child_holds(site);
    match strike {
        Strike::Kill => stage.child.kill(),
        Strike::End(how) => stage.child.end(how),
        Strike::StopAndKill => {
            stage.child.stop();
            let (said, guard) = stage.somebody_acts(holds)?;
            seen.meanwhile = Some(said);
            stage.child.kill();
            give_back(guard)?;
        }
        Strike::StopAndContinue => {
            stage.child.stop();
            let (said, guard) = stage.somebody_acts(holds)?;
            seen.meanwhile = Some(said);
            stage.child.resume();
            seen.went_on = Some(stage.goes_on(guard)?);
        }
        Strike::Exec => {
            assert_eq!(stage.child.tell("exec"), "executed");
            // Recorded is recorded: it may still use what it had locked.
            let recorded = stage.names_child();
            let (said, guard) = stage.somebody_acts(recorded)?;
            seen.meanwhile = Some(said);
            give_back(guard)?;
            stage.child.dismiss();
            stage.child.reap();
        }
        Strike::Fork => {
            assert_eq!(stage.child.tell("fork"), "forked");
            stage.child.kill();
            // The child of the dead one may have the kernel lock. It has no say in who is named.
            let (said, guard) = stage.somebody_acts(false)?;
            seen.meanwhile = Some(said);
            give_back(guard)?;
            stage.child.dismiss();
        }
        Strike::Thread => {
            let said = stage.child.tell("thread");
            let by_itself = refused_by(stage.child.pid());
            if holds && said != by_itself {
                return Err(format!("another thread was told: {said}"));
            }
            seen.meanwhile = Some(said);
            seen.went_on = Some(stage.goes_on(None)?);
        }
    }
    seen.new_file = stage.next_acquire_gets_it(strike)?;
    let expected = NEWLY_CREATED.contains(&site.name.as_str()) || !scenario.faults.is_empty();
    if seen.new_file && !expected {
        return Err("an empty file was left, and not by one who had just created it".to_owned());
    }
    Ok(seen)
}

/// Whoever ends here leaves an empty file that is new. So may one whose write had failed, here
/// where the scenario has it so.
const NEWLY_CREATED: [&str; 4] = [
    "after Creating create",
    "before LockingCreated lock",
    "after LockingCreated lock",
    "before Recording write",
];

/// Who had the lock in the meantime has it still.
fn give_back(guard: Option<Guard>) -> Result<(), String> {
    let Some(guard) = guard else { return Ok(()) };
    match ending(&guard.release()) {
        "released" => Ok(()),
        other => Err(format!("the lock that was taken meanwhile ended as {other}")),
    }
}
