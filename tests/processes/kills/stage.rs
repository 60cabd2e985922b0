//! One run: a process that is stopped at a call, and the next acquire.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use portlock::Guard;

use super::scenarios::{Action, Scenario, Stands, Strike, Wrong};
use super::{Site, give_back, struck};
use crate::participant::{Participant, Place, outcome, refused_by, set_byte_lock};

/// A child at work, and what it works on.
pub(super) struct Stage {
    place: Place,
    /// The witness is there, since the directory of the lock must end empty.
    _elsewhere: tempfile::TempDir,
    witness: File,
    action: Action,
    stands: Stands,
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

    pub(super) fn stop(&mut self) -> Stop {
        let said = self.child.answer();
        self.listens = said == "before Listening listen";
        match said.strip_prefix("ended ") {
            Some(how) => Stop::Ended(how.to_owned()),
            None => Stop::At(said),
        }
    }

    /// Lets it make its call, or go on after it.
    pub(super) fn go(&mut self) {
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
    pub(super) fn names_child(&self) -> bool {
        let record = fs::read_to_string(self.place.path()).unwrap_or_default();
        record.starts_with(&format!("{{\"pid\":{},", self.child.pid()))
    }

    /// From the step that confirms its file until the step in which its release unlinks it (P1).
    pub(super) fn child_holds(&self, site: &Site) -> bool {
        let confirmed = site.name == "after ConfirmingCreated confirm";
        self.names_child() && (confirmed || self.action == Action::HoldAndRelease)
    }

    /// Somebody else, this process, tries to acquire. Whoever holds must be named.
    pub(super) fn somebody_acts(
        &mut self,
        child_holds: bool,
    ) -> Result<(String, Option<Guard>), String> {
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
    pub(super) fn goes_on(&mut self, guard: Option<Guard>) -> Result<String, String> {
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
    pub(super) fn next_acquire_gets_it(&mut self, strike: Strike) -> Result<bool, String> {
        if !set_byte_lock(&self.witness, libc::F_WRLCK) {
            return Err("nobody is left, and the witness is taken".to_owned());
        }
        // The end of the dead one's child is nobody's to wait for but the kernel's.
        next_acquire(&self.place, self.holder.take(), strike == Strike::Fork)
    }
}

/// After a strike: a live holder was not disturbed, and releases; the next acquire gets the lock,
/// and leaves nothing. Whether the empty file of a dead creator had to be made old.
pub(super) fn next_acquire(
    place: &Place,
    holder: Option<Participant>,
    waits: bool,
) -> Result<bool, String> {
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

pub(super) fn make_old(path: &Path) {
    let file = File::options().write(true).open(path).expect("it opens");
    file.set_modified(SystemTime::UNIX_EPOCH).expect("its time is set");
}

/// `sh` says that it was executed, and then is `cat`, until it is given no more.
pub(super) fn another_program() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "echo 'answer: executed'; exec cat"]);
    command
}
