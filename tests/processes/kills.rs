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

mod struck;
#[cfg(target_os = "linux")]
mod system_calls;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use portlock::Guard;

use crate::participant::{NOBODY, Participant, Place, ending, old_record, outcome, set_byte_lock};
use crate::refused_by;

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

/// The process lives on, as another program: whoever is recorded is not evicted while it does.
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

/// What is done to the child at a site.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Strike {
    Kill,
    StopAndKill,
    StopAndContinue,
    /// By itself, in this way.
    End(&'static str),
    Exec,
    Fork,
    Thread,
}

/// A participant that does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wrong {
    No,
    /// The protocol of the published agent, over the same calls.
    Naive,
    /// Its kernel lock is always its own, and was never asked for.
    NoLock,
    /// The path always names its file, and was not looked at.
    NoConfirm,
}

/// What stands at the path, what the child does, and which of its calls fail.
struct Scenario {
    name: &'static str,
    stands: Stands,
    action: Action,
    /// As `struck.rs` has it.
    faults: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stands {
    Nothing,
    DeadHolder,
    DeadOfOldFormat,
    OldEmpty,
    LiveHolder,
    /// The child's own, which then somebody removes.
    RemovedFile,
}

impl Stands {
    /// Puts it there; returns the live holder, if there is one.
    fn put(self, path: &Path) -> Option<Participant> {
        match self {
            Self::Nothing | Self::RemovedFile => {}
            Self::DeadHolder => Participant::holding(path).kill(),
            Self::DeadOfOldFormat => {
                fs::write(path, old_record(NOBODY, SystemTime::now())).expect("a record");
            }
            Self::OldEmpty => {
                File::create_new(path).expect("an empty file");
                make_old(path);
            }
            Self::LiveHolder => return Some(Participant::holding(path)),
        }
        None
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Action {
    Acquire,
    /// Listens to the file; the holder has released before it is told.
    Listen,
    /// Listens to the file; the holder has been killed before it is told.
    ListenForDeath,
    /// It holds already.
    HoldAndRelease,
    Clear,
    Query,
}

const fn scenario(name: &'static str, stands: Stands, action: Action) -> Scenario {
    Scenario { name, stands, action, faults: "" }
}

const fn faulty(name: &'static str, faults: &'static str) -> Scenario {
    Scenario { name, stands: Stands::Nothing, action: Action::Acquire, faults }
}

const SCENARIOS: &[Scenario] = &[
    scenario("acquire: nothing there", Stands::Nothing, Action::Acquire),
    scenario("acquire: a dead holder's record", Stands::DeadHolder, Action::Acquire),
    scenario("acquire: a dead one's of the old format", Stands::DeadOfOldFormat, Action::Acquire),
    scenario("acquire: an old empty file", Stands::OldEmpty, Action::Acquire),
    scenario("acquire: refused by a live holder", Stands::LiveHolder, Action::Acquire),
    scenario("acquire: listens for a release", Stands::LiveHolder, Action::Listen),
    scenario("acquire: listens for a death", Stands::LiveHolder, Action::ListenForDeath),
    faulty("acquire: the write fails", "write"),
    faulty("acquire: the lock fails", "lock"),
    faulty("acquire: the write and the unlink fail", "write unlink"),
    scenario("hold and release", Stands::Nothing, Action::HoldAndRelease),
    scenario("release: somebody removed the file", Stands::RemovedFile, Action::HoldAndRelease),
    scenario("clear: a dead holder's record", Stands::DeadHolder, Action::Clear),
    scenario("query: a dead holder's record", Stands::DeadHolder, Action::Query),
];

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
    let expected = NEWBORN.contains(&site.name.as_str()) || !scenario.faults.is_empty();
    if seen.new_file && !expected {
        return Err("an empty file was left, and not by one who had just created it".to_owned());
    }
    Ok(seen)
}

/// Whoever ends here leaves an empty file that is new. So may one whose write had failed, here
/// where the scenario has it so.
const NEWBORN: [&str; 4] = [
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

// ---- one run ------------------------------------------------------------------------------------

/// A child at work, and what it works on.
struct Stage {
    place: Place,
    /// The witness is there, since the directory of the lock must end empty.
    _elsewhere: tempfile::TempDir,
    witness: File,
    action: Action,
    stands: Stands,
    holder: Option<Participant>,
    child: Participant,
    /// The child is about to wait for an event.
    listens: bool,
}

#[derive(Debug)]
enum Stop {
    At(String),
    Ended(String),
}

impl Stage {
    fn set(scenario: &Scenario, wrong: Wrong) -> Self {
        let place = Place::new();
        let elsewhere = tempfile::tempdir().expect("a directory");
        let witness_path = elsewhere.path().join("witness");
        let witness = File::create_new(&witness_path).expect("the witness");
        let mut child = Participant::start_as(struck::command());
        let wrong = format!("{wrong:?}");
        let path = place.path().display();
        let setting = format!("set {wrong} {} {path}", witness_path.display());
        assert_eq!(child.tell(&setting), "set");
        assert_eq!(child.tell(&format!("faults {}", scenario.faults)), "set");
        let holder = scenario.stands.put(place.path());
        let mut stage = Self {
            place,
            _elsewhere: elsewhere,
            witness,
            action: scenario.action,
            stands: scenario.stands,
            holder,
            child,
            listens: false,
        };
        stage.begin();
        stage
    }

    fn begin(&mut self) {
        let order = match self.action {
            Action::Acquire => "acquire 0",
            Action::Listen | Action::ListenForDeath => "acquire 1",
            Action::HoldAndRelease => {
                assert_eq!(self.child.tell("hold"), "held, and the witness was free");
                "release"
            }
            Action::Clear => "clear",
            Action::Query => "query",
        };
        if self.stands == Stands::RemovedFile {
            fs::remove_file(self.place.path()).expect("its file stands");
        }
        self.child.order(order);
    }

    fn stop(&mut self) -> Stop {
        let said = self.child.answer();
        self.listens = said == "before Listening listen";
        match said.strip_prefix("ended ") {
            Some(how) => Stop::Ended(how.to_owned()),
            None => Stop::At(said),
        }
    }

    /// Lets it make its call, or go on after it.
    fn go(&mut self) {
        if self.listens {
            // Ended whole, so that it is one event that leads on, and not one or two.
            self.end_the_holder();
        }
        self.child.order("go");
    }

    fn end_the_holder(&mut self) {
        let Some(mut holder) = self.holder.take() else { return };
        match self.action {
            Action::ListenForDeath => holder.kill(),
            _ => assert_eq!(holder.tell("release"), "released"),
        }
    }

    /// Whether the file that the path names is the child's, by its record.
    fn names_child(&self) -> bool {
        let record = fs::read_to_string(self.place.path()).unwrap_or_default();
        record.starts_with(&format!("{{\"pid\":{},", self.child.pid()))
    }

    /// From the step that confirms its file until the step in which its release unlinks it (P1).
    fn child_holds(&self, site: &Site) -> bool {
        let confirmed = site.name == "after ConfirmingCreated confirm";
        self.names_child() && (confirmed || self.action == Action::HoldAndRelease)
    }

    /// Somebody else, this process, tries to acquire. Whoever holds must be named.
    fn somebody_acts(&mut self, child_holds: bool) -> Result<(String, Option<Guard>), String> {
        let attempt = self.place.try_acquire();
        let said = outcome(&attempt);
        let pid = self.child.pid();
        if child_holds && said != refused_by(pid) {
            return Err(format!("pid {pid} holds, and another was told: {said}"));
        }
        if let Some(holder) = &self.holder {
            if said != refused_by(holder.pid()) {
                return Err(format!("pid {} holds, and another was told: {said}", holder.pid()));
            }
        }
        let known = ["held", "refused"].iter().any(|word| said.starts_with(word));
        if !known {
            return Err(said);
        }
        let guard = attempt.ok();
        // Whose file was removed does not know yet that it holds no more, and keeps the witness.
        let asked = guard.is_some() && self.stands != Stands::RemovedFile;
        if asked && !set_byte_lock(&self.witness, libc::F_WRLCK) {
            return Err("another acquired, and the witness was taken".to_owned());
        }
        Ok((said, guard))
    }

    /// Lets the child run to its end, beside one who may hold. Then that one has it still.
    fn goes_on(&mut self, guard: Option<Guard>) -> Result<String, String> {
        self.go();
        let how = self.run_to_the_end();
        if how == "held, and the witness was taken" {
            return Err("the child holds beside another".to_owned());
        }
        if guard.is_some() && how.starts_with("held") {
            return Err("the child says that it holds beside another".to_owned());
        }
        give_back(guard)?;
        assert!(set_byte_lock(&self.witness, libc::F_UNLCK), "it can be unlocked");
        if how.starts_with("held") {
            self.child.order("release");
            let ended = self.run_to_the_end();
            if ended != "released" {
                return Err(format!("its release ended as {ended}"));
            }
        }
        self.child.dismiss();
        self.child.reap();
        Ok(how)
    }

    fn run_to_the_end(&mut self) -> String {
        loop {
            match self.stop() {
                Stop::At(_) => self.go(),
                Stop::Ended(how) => return how,
            }
        }
    }

    /// Beside nobody, by the witness.
    fn next_acquire_gets_it(&mut self, strike: Strike) -> Result<bool, String> {
        if !set_byte_lock(&self.witness, libc::F_WRLCK) {
            return Err("nobody is left, and the witness is taken".to_owned());
        }
        // The end of the dead one's child is nobody's to wait for but the kernel's.
        next_acquire(&self.place, self.holder.take(), strike == Strike::Fork)
    }
}

/// After a strike: a live holder was not disturbed, and releases; the next acquire gets the lock,
/// and leaves nothing. Whether the empty file of a dead creator had to be made old.
fn next_acquire(place: &Place, holder: Option<Participant>, waits: bool) -> Result<bool, String> {
    if let Some(mut holder) = holder {
        let said = outcome(&place.try_acquire());
        if said != refused_by(holder.pid()) {
            return Err(format!("the holder lives, and another was told: {said}"));
        }
        if holder.tell("release") != "released" {
            return Err("the holder had lost its lock".to_owned());
        }
    }
    let young = |file: &fs::Metadata| file.modified().expect("a time") > SystemTime::UNIX_EPOCH;
    let new_file = fs::metadata(place.path()).is_ok_and(|file| file.len() == 0 && young(&file));
    if new_file {
        make_old(place.path());
    }
    let attempt = if waits { place.lock.acquire() } else { place.try_acquire() };
    let guard = attempt.map_err(|error| format!("the next acquire: {error}"))?;
    give_back(Some(guard))?;
    if place.is_empty() { Ok(new_file) } else { Err("something was left".to_owned()) }
}

fn make_old(path: &Path) {
    let file = File::options().write(true).open(path).expect("it opens");
    file.set_modified(SystemTime::UNIX_EPOCH).expect("its time is set");
}

/// `sh` says that it was executed, and then is `cat`, until it is given no more.
fn another_program() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "echo 'answer: executed'; exec cat"]);
    command
}
