//! One run: a process stopped at a call, and the next acquire.

use std::fs::{self, File};
use std::process::Command;
use std::time::SystemTime;

use portlock::Guard;

use super::scenarios::{Action, Initial, Injection, Scenario, Wrong};
use super::{Site, give_back, target};
use crate::participant::{Participant, Place, outcome, refused_by, set_byte_lock, set_modified};

/// A child, and the files it works on.
pub(super) struct Stage {
    place: Place,
    /// For the witness, because the lock's directory must end empty.
    _elsewhere: tempfile::TempDir,
    witness: File,
    action: Action,
    initial: Initial,
    holder: Option<Participant>,
    pub(super) child: Participant,
    /// The child is about to wait for an event.
    listens: bool,
}

#[derive(Debug)]
pub(super) enum Stop {
    At(String),
    Ended(String),
}

impl Stage {
    pub(super) fn set(scenario: &Scenario, wrong: Wrong) -> Self {
        let place = Place::new();
        let elsewhere = tempfile::tempdir().expect("a directory");
        let witness_path = elsewhere.path().join("witness");
        let witness = File::create_new(&witness_path).expect("the witness");
        let mut child = Participant::start_as(target::command());
        let wrong = format!("{wrong:?}");
        let path = place.path().display();
        let setting = format!("set {wrong} {} {path}", witness_path.display());
        assert_eq!(child.request(&setting), "set");
        assert_eq!(child.request(&format!("faults {}", scenario.faults)), "set");
        let holder = scenario.initial.put(place.path());
        let mut stage = Self {
            place,
            _elsewhere: elsewhere,
            witness,
            action: scenario.action,
            initial: scenario.initial,
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
                assert_eq!(self.child.request("hold"), "held, and the witness was free");
                "release"
            }
            Action::Clear => "clear",
            Action::Query => "query",
        };
        if self.initial == Initial::RemovedFile {
            fs::remove_file(self.place.path()).expect("its file exists");
        }
        self.child.order(order);
    }

    pub(super) fn stop(&mut self) -> Stop {
        let said = self.child.answer();
        self.listens = said == "before Listening listen";
        match said.strip_prefix("ended ") {
            Some(how) => Stop::Ended(how.to_owned()),
            None => Stop::At(said),
        }
    }

    /// Lets it make its call, or continue after it.
    pub(super) fn go(&mut self) {
        if self.listens {
            // The holder ends completely, so that one event wakes the child, and not one or two.
            self.end_the_holder();
        }
        self.child.order("go");
    }

    fn end_the_holder(&mut self) {
        let Some(mut holder) = self.holder.take() else { return };
        match self.action {
            Action::ListenForDeath => holder.kill(),
            _ => assert_eq!(holder.request("release"), "released"),
        }
    }

    /// Whether the record at the path names the child.
    pub(super) fn names_child(&self) -> bool {
        let record = fs::read_to_string(self.place.path()).unwrap_or_default();
        record.starts_with(&format!("{{\"pid\":{},", self.child.pid()))
    }

    /// From the step that confirms its file until the step that unlinks it (P1).
    pub(super) fn child_holds(&self, site: &Site) -> bool {
        let confirmed = site.name == "after ConfirmingCreated confirm";
        self.names_child() && (confirmed || self.action == Action::HoldAndRelease)
    }

    /// This process tries to acquire. A refusal must name the holder.
    pub(super) fn another_acquires(
        &mut self,
        child_holds: bool,
    ) -> Result<(String, Option<Guard>), String> {
        let attempt = self.place.try_acquire();
        let said = outcome(&attempt);
        let pid = self.child.pid();
        if child_holds && said != refused_by(pid) {
            return Err(format!("pid {pid} holds, and another acquire was: {said}"));
        }
        if let Some(holder) = &self.holder {
            if said != refused_by(holder.pid()) {
                return Err(format!("pid {} holds, and another acquire was: {said}", holder.pid()));
            }
        }
        let known = ["held", "refused"].iter().any(|word| said.starts_with(word));
        if !known {
            return Err(said);
        }
        let guard = attempt.ok();
        // A holder whose file was removed does not know that yet, and keeps the witness.
        let asked = guard.is_some() && self.initial != Initial::RemovedFile;
        if asked && !set_byte_lock(&self.witness, libc::F_WRLCK) {
            return Err("another acquired, and the witness was taken".to_owned());
        }
        Ok((said, guard))
    }

    /// Lets the child run to its end, next to a possible holder, which must keep the lock.
    pub(super) fn resume(&mut self, guard: Option<Guard>) -> Result<String, String> {
        self.go();
        let how = self.run_to_the_end();
        if how == "held, and the witness was taken" {
            return Err("the child and another process hold".to_owned());
        }
        if guard.is_some() && how.starts_with("held") {
            return Err("the child reports that it holds next to another process".to_owned());
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

    /// The next acquire gets the lock alone, by the witness.
    pub(super) fn next_acquire_succeeds(&mut self, injection: Injection) -> Result<bool, String> {
        if !set_byte_lock(&self.witness, libc::F_WRLCK) {
            return Err("no process is left, and the witness is taken".to_owned());
        }
        // The dead process's child cannot be waited for here, so the acquire waits.
        next_acquire(&self.place, self.holder.take(), injection == Injection::Fork)
    }
}

/// After an injection: a live holder still holds, and releases; the next acquire gets the lock, and
/// leaves no file. Returns whether a dead creator's empty file had to be made old.
pub(super) fn next_acquire(
    place: &Place,
    holder: Option<Participant>,
    waits: bool,
) -> Result<bool, String> {
    if let Some(mut holder) = holder {
        let said = outcome(&place.try_acquire());
        if said != refused_by(holder.pid()) {
            return Err(format!("the holder lives, and another acquire was: {said}"));
        }
        if holder.request("release") != "released" {
            return Err("the holder had lost its lock".to_owned());
        }
    }
    let young = |file: &fs::Metadata| file.modified().expect("a time") > SystemTime::UNIX_EPOCH;
    let new_file = fs::metadata(place.path()).is_ok_and(|file| file.len() == 0 && young(&file));
    if new_file {
        set_modified(place.path(), SystemTime::UNIX_EPOCH);
    }
    let attempt = if waits { place.lock.acquire() } else { place.try_acquire() };
    let guard = attempt.map_err(|error| format!("the next acquire: {error}"))?;
    give_back(Some(guard))?;
    if place.is_empty() { Ok(new_file) } else { Err("a file was left".to_owned()) }
}

/// `sh` reports that it was executed, and becomes `cat`, which ends with its input.
pub(super) fn another_program() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "echo 'answer: executed'; exec cat"]);
    command
}
