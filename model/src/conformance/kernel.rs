//! A state on a real filesystem: the same participants and files, moved by the same machines
//! through the shipped adapter, and compared with the model after each move.
//!
//! One process drives all participants, because a kernel lock belongs to the open file. The pid
//! probe is simulated ([`InLockStep`] lists the rest): the pids in the records are higher than any
//! that Linux gives out.
//!
//! Each file has a *witness* (`witness.rs`), which is opened right after the file was made and
//! closed when the model drops the file.

mod lock_step;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portlock::protocol::{Age, LockReply};
use portlock::{Adapter, Holder};

pub use self::lock_step::InLockStep;
#[cfg(not(windows))]
use super::filesystem::quirks_of_time;
use super::legacy_agent::{CREATED, LegacyAgent};
use super::witness::{self, Witness};
use crate::scenario::catalogue::Scenario;
use crate::scenario::machines::Reply;
use crate::scenario::moves::Outcome;
use crate::scenario::other::Percy;
use crate::scenario::state::{
    Activity, Content, FILES, Inode, Kind, Move, PARTICIPANTS, State, Who,
};

const NAME: &str = "conformance.lock";

/// Higher than any pid: Linux gives out at most 2^22.
const FIRST_PID: u32 = 5_000_000;
/// The pid of the live process in records of the old format that no participant wrote.
const LIVES: u32 = FIRST_PID - 1;
/// The pid of the dead process that left the file of the beginning.
const DEAD: u32 = FIRST_PID - 2;
/// How far back the time of an old file is set: beyond the grace, and FAT's rounding.
const LONG_AGO: Duration = Duration::from_secs(10);

/// A wait for an event that has happened ends long before. Without an event the adapter polls,
/// after half a second at the earliest.
const LATE: Duration = Duration::from_millis(400);
/// How many waits may be late, because a machine can stall.
const STALLS: u64 = 2;

/// How the model and the kernel differ, as a sentence.
pub type Differs = String;

/// A participant on the real system.
#[derive(Default)]
struct Real {
    /// The pid of its current process, which all its threads share.
    pid: u32,
    /// Its shipped adapter. A forked child has none.
    adapter: Option<Box<dyn Adapter>>,
    /// Makes its calls if it is an agent of the old format.
    legacy: LegacyAgent,
    /// The open file that a forked child shares with its parent.
    inherited: Option<File>,
}

/// How long ago a file of this age was changed.
fn ago(age: Age) -> Duration {
    match age {
        Age::Young => Duration::ZERO,
        Age::Old => LONG_AGO,
    }
}

/// A state on a real filesystem.
pub struct Kernel<'a> {
    scenario: &'a Scenario,
    /// A file may look older or younger than it is, so odd ages are counted and not compared.
    times_are_odd: bool,
    directory: PathBuf,
    path: PathBuf,
    participants: [Real; PARTICIPANTS],
    files: [Option<Witness>; FILES],
    next_pid: u32,
    pub calls: Calls,
}

/// Counts of the calls, and of tolerated differences.
#[derive(Debug, Clone, Copy, Default)]
pub struct Calls {
    /// Calls of the trait that the adapter answered.
    pub made: u64,
    /// Calls that the model answered instead.
    pub instead: u64,
    /// Watches that reported unknown where the model did not.
    pub unknown: u64,
    /// Waits without an event of the system, which ended when the adapter polled.
    pub late: u64,
    /// Ages that differ from the model's, on a filesystem with odd times.
    pub odd_ages: u64,
    /// Names that the filesystem itself left in the directory, such as `.nfs…`.
    pub hidden: u64,
}

impl Calls {
    pub fn add(&mut self, other: Self) {
        self.made += other.made;
        self.instead += other.instead;
        self.unknown += other.unknown;
        self.late += other.late;
        self.odd_ages += other.odd_ages;
        self.hidden += other.hidden;
    }
}

impl<'a> Kernel<'a> {
    /// Makes a new directory in `parent`, which it removes when dropped.
    pub fn new(scenario: &'a Scenario, parent: &Path) -> io::Result<Self> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = parent.join(format!("portlock-conform-{}-{number}", std::process::id()));
        std::fs::create_dir(&directory)?;
        #[cfg(not(windows))]
        let times_are_odd = !quirks_of_time(&directory)?.is_empty();
        #[cfg(windows)]
        let times_are_odd = false;
        Ok(Self {
            scenario,
            times_are_odd,
            path: directory.join(NAME),
            directory,
            participants: Default::default(),
            files: Default::default(),
            next_pid: FIRST_PID,
            calls: Calls::default(),
        })
    }

    /// Begins a run: no participant has a file open, and the path names the file of `state`.
    pub fn begin(&mut self, state: &State) -> io::Result<()> {
        self.participants = Default::default();
        self.files = Default::default();
        if let Err(error) = std::fs::remove_file(&self.path) {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
        }
        for who in state.everyone() {
            self.start_process(state, who);
        }
        let Some((inode, file)) = state.path.zip(state.named()) else { return Ok(()) };
        std::fs::write(&self.path, self.bytes_of(file.content))?;
        self.see_new_file(inode)
    }

    /// A new process for `who` and its threads, without open files.
    fn start_process(&mut self, state: &State, who: Who) {
        let pid = self.next_pid;
        self.next_pid += 1;
        for one in state.everyone().filter(|&one| state.same_process(one, who)) {
            let is_child = state.participant(one).kind == Kind::Child;
            let adapter = (!is_child).then(|| {
                let adapter = portlock::adapter(self.path.clone(), Some(ours(pid)));
                Box::new(adapter) as Box<dyn Adapter>
            });
            self.participants[usize::from(one)] = Real { pid, adapter, ..Real::default() };
        }
    }

    /// Opens the witness of the file that the path has just named.
    fn see_new_file(&mut self, inode: Inode) -> io::Result<()> {
        self.files[usize::from(inode)] = Some(Witness::open(&self.path)?);
        Ok(())
    }

    fn bytes_of(&self, content: Content) -> Vec<u8> {
        let pid = |who| self.participants[usize::from(who)].pid;
        match content {
            Content::Empty => Vec::new(),
            Content::Unreadable => CUT_SHORT.to_vec(),
            Content::Foreign => FOREIGN.to_vec(),
            Content::Of(who) => ours(pid(who)).to_bytes(),
            Content::OldOf(who) => Holder::new(pid(who)).to_bytes(),
            Content::OldAlive => Holder::new(LIVES).to_bytes(),
            Content::Dead(_) => ours(DEAD).to_bytes(),
            Content::OldDead(_) => Holder::new(DEAD).to_bytes(),
        }
    }

    /// Makes a move of the model, from `before` to `outcome`, and compares the replies and the
    /// state of the machine. Both states must number files and participants alike.
    pub fn make(&mut self, before: &State, one: Move, outcome: &Outcome) -> Result<(), Differs> {
        match one {
            Move::Begin(_) | Move::Answer(..) | Move::Release(_) | Move::Suspend(_) => Ok(()),
            Move::LoseReach(_) => Err("no process can be kept from the path here".into()),
            Move::Call(who, _) => match before.participant(who).activity {
                Activity::Percy(state) => self.old_agent(state, before, who, outcome),
                activity => self.step(activity, before, who, outcome),
            },
            Move::Crash(who, _) => {
                // Dropping an adapter closes its file and makes no other call, like a kill.
                self.start_process(before, who);
                Ok(())
            }
            Move::Fork(who) => self.fork(before, who, &outcome.state),
            Move::Remove => std::fs::remove_file(&self.path).map_err(went_wrong("remove the path")),
        }
    }

    /// One step of a shipped machine on the adapter.
    fn step(
        &mut self,
        activity: Activity,
        before: &State,
        who: Who,
        outcome: &Outcome,
    ) -> Result<(), Differs> {
        let mut fs = self.in_lock_step(before, who, outcome.reply, &outcome.state);
        let ended = match activity {
            Activity::Acquiring(state) => Activity::Acquiring(state.step(&mut fs)),
            Activity::Releasing(state) => Activity::Releasing(state.step(&mut fs)),
            Activity::Asking(state) => Activity::Asking(state.step(&mut fs)),
            Activity::Clearing(state) => Activity::Clearing(state.step(&mut fs)),
            Activity::Absent
            | Activity::Idle
            | Activity::Holding
            | Activity::Inherited { .. }
            | Activity::Percy(_)
            | Activity::Aside(_) => return Err(format!("{activity:?} makes no call of the trait")),
        };
        fs.end()?;
        if ended != outcome.ended {
            return Err(format!("{ended:?} follows, and {:?} in the model", outcome.ended));
        }
        Ok(())
    }

    /// The adapter of `who`, whose reply must be the model's.
    pub fn in_lock_step<'k>(
        &'k mut self,
        before: &'k State,
        who: Who,
        expected: Reply,
        after: &'k State,
    ) -> InLockStep<'k, 'a> {
        InLockStep { kernel: self, before, who, expected, after, got: None, trouble: None }
    }

    /// One step of the old agent, which does not use the trait.
    fn old_agent(
        &mut self,
        state: Percy,
        before: &State,
        who: Who,
        outcome: &Outcome,
    ) -> Result<(), Differs> {
        let real = &mut self.participants[usize::from(who)];
        let written = before
            .open_inode(who)
            .and_then(|inode| outcome.state.file(inode))
            .map(|file| file.content);
        let record = Holder::new(real.pid).to_bytes();
        let record = if written == Some(Content::Unreadable) { CUT_SHORT } else { &record };
        let made = real.legacy.step(state, &self.path, record);
        let made = made
            .map_err(went_wrong("a call of the old agent"))?
            .ok_or_else(|| format!("{state:?} is no state of the old agent that makes a call"))?;
        if outcome.reply != Reply::Other(made) {
            return Err(format!("{made}, and {:?} in the model", outcome.reply));
        }
        match outcome.state.path {
            Some(inode) if made == CREATED => {
                self.see_new_file(inode).map_err(went_wrong("see the new file"))
            }
            _ => Ok(()),
        }
    }

    fn witness_of(&mut self, state: &State, who: Who) -> Option<&mut Witness> {
        self.files[usize::from(state.open_inode(who)?)].as_mut()
    }

    /// Gives the child a descriptor of the same open file, like a fork.
    #[cfg(not(windows))]
    fn fork(&mut self, before: &State, who: Who, after: &State) -> Result<(), Differs> {
        let is_new = |&one: &Who| {
            before.participant(one).activity == Activity::Absent
                && after.participant(one).activity != Activity::Absent
        };
        let child = after.everyone().find(is_new).ok_or("no child is forked")?;
        let parent = self.participants[usize::from(who)].adapter.as_ref();
        let parent = parent.ok_or("a child cannot fork")?;
        let shared = parent.another_descriptor().map_err(went_wrong("share the open file"))?;
        self.participants[usize::from(child)].inherited = Some(shared);
        Ok(())
    }

    #[cfg(windows)]
    fn fork(&mut self, _: &State, _: Who, _: &State) -> Result<(), Differs> {
        Err("Windows has no fork".to_owned())
    }

    /// Compares the directory, the files and the locks with the model.
    pub fn compare(&mut self, model: &State) -> Result<(), Differs> {
        self.compare_path(model)?;
        self.compare_directory(model)?;
        for inode in 0..FILES as Inode {
            self.compare_content(model, inode)?;
            if self.scenario.kernel_locks {
                self.compare_lock(model, inode)?;
            }
        }
        Ok(())
    }

    fn compare_path(&self, model: &State) -> Result<(), Differs> {
        let named = witness::named(&self.path).map_err(went_wrong("look at the path"))?;
        let known =
            |inode: Inode| self.files[usize::from(inode)].as_ref().map(|witness| witness.identity);
        match (named, model.path.and_then(known)) {
            (None, None) => Ok(()),
            (Some(named), Some(expected)) if named == expected => Ok(()),
            (None, Some(_)) => Err("the path names no file, and one in the model".to_owned()),
            (Some(_), None) => Err("the path names a file, and none in the model".to_owned()),
            (Some(_), Some(_)) => Err("the path names another file than in the model".to_owned()),
        }
    }

    fn compare_directory(&mut self, model: &State) -> Result<(), Differs> {
        let mut found = false;
        for entry in std::fs::read_dir(&self.directory).map_err(went_wrong("list"))? {
            let name = entry.map_err(went_wrong("list"))?.file_name();
            let bytes = name.as_encoded_bytes();
            // On NFS and some FUSE filesystems a removed open file keeps a name.
            if bytes.starts_with(b".nfs") || bytes.starts_with(b".fuse_hidden") {
                self.calls.hidden += 1;
            } else if bytes == NAME.as_bytes() {
                found = true;
            } else {
                return Err(format!("the directory has {name:?}"));
            }
        }
        match (found, model.path.is_some()) {
            (true, false) => Err("the directory lists a file, and none in the model".to_owned()),
            (false, true) => Err("the directory lists no file, and one in the model".to_owned()),
            _ => Ok(()),
        }
    }

    fn compare_content(&self, model: &State, inode: Inode) -> Result<(), Differs> {
        let (Some(expected), Some(witness)) = (model.file(inode), &self.files[usize::from(inode)])
        else {
            return Ok(());
        };
        let bytes = witness.read().map_err(went_wrong("read"))?;
        let found = Found::of(&bytes);
        let pid = |who: Who| self.participants[usize::from(who)].pid;
        let lives = |pid| pid == LIVES || self.participants.iter().any(|real| real.pid == pid);
        let agrees = match (expected.content, found) {
            (Content::Empty, Found::Empty)
            | (Content::Unreadable, Found::Unreadable)
            | (Content::Foreign, Found::Foreign) => true,
            (Content::Of(who), Found::Record(found)) => found == pid(who),
            (Content::OldOf(who), Found::OldRecord(found)) => found == pid(who),
            (Content::OldAlive, Found::OldRecord(found)) => found == LIVES,
            (Content::Dead(_), Found::Record(found)) => !lives(found),
            (Content::OldDead(_), Found::OldRecord(found)) => !lives(found),
            _ => false,
        };
        if agrees {
            return Ok(());
        }
        Err(format!(
            "the content of file {inode} is {found:?}, and {:?} in the model",
            expected.content
        ))
    }

    fn compare_lock(&mut self, model: &State, inode: Inode) -> Result<(), Differs> {
        let (Some(expected), Some(witness)) = (model.file(inode), &self.files[usize::from(inode)])
        else {
            return Ok(());
        };
        let locked = witness.is_locked().map_err(went_wrong("try the kernel lock"))?;
        let has_it =
            |&who: &Who| expected.lock.is_some() && model.participant(who).open == expected.lock;
        match (!locked, expected.lock) {
            (true, None) => return Ok(()),
            (true, Some(_)) => {
                return Err(format!(
                    "no process holds the kernel lock on file {inode}, and {:?} does in the model",
                    model.everyone().find(has_it)
                ));
            }
            (false, None) => {
                return Err(format!(
                    "a process holds the kernel lock on file {inode}, and none does in the model"
                ));
            }
            (false, Some(_)) => {}
        }
        // The owner of a lock gets it again, and no other does. A child with the lock makes no
        // call.
        for who in model.everyone().filter(has_it) {
            let adapter = self.participants[usize::from(who)].adapter.as_mut();
            if adapter.is_some_and(|adapter| adapter.lock() != LockReply::Ours) {
                return Err(format!(
                    "participant {who} does not hold the kernel lock on file {inode}, and does in the model"
                ));
            }
        }
        Ok(())
    }

    /// Renumbers like the model: `went` and the two states are those of [`State::canonical`].
    /// Closes the witnesses of files that the model has dropped.
    pub fn renumber(&mut self, state: &State, canonical: &State, went: &[Who; PARTICIPANTS]) {
        let mut participants: [Real; PARTICIPANTS] = Default::default();
        let mut files: [Option<Witness>; FILES] = Default::default();
        for (old, real) in std::mem::take(&mut self.participants).into_iter().enumerate() {
            participants[usize::from(went[old])] = real;
        }
        self.participants = participants;
        let pairs = state
            .everyone()
            .map(|old| (state.open_inode(old), canonical.open_inode(went[usize::from(old)])));
        for pair in pairs.chain([(state.path, canonical.path)]) {
            let (Some(old), Some(new)) = pair else { continue };
            if let Some(witness) = self.files[usize::from(old)].take() {
                files[usize::from(new)] = Some(witness);
            }
        }
        self.files = files;
    }
}

impl Drop for Kernel<'_> {
    fn drop(&mut self) {
        self.participants = Default::default();
        // A directory that cannot be removed is left to the caller.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The content of a file, by its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Empty,
    Unreadable,
    Foreign,
    Record(u32),
    OldRecord(u32),
}

impl Found {
    /// Only finds the author: the shipped parser reads the file through the adapter.
    fn of(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::Empty;
        }
        let whole = std::str::from_utf8(bytes).ok().filter(|text| text.ends_with('}'));
        let digits = whole.and_then(|text| text.strip_prefix("{\"pid\":")?.split_once(','));
        match digits.and_then(|(pid, rest)| Some((pid.parse().ok()?, rest))) {
            Some((pid, rest)) if rest.contains("\"boot\":") => Self::Record(pid),
            Some((pid, _)) => Self::OldRecord(pid),
            None if bytes == FOREIGN => Self::Foreign,
            None => Self::Unreadable,
        }
    }
}

/// The first bytes of a record.
const CUT_SHORT: &[u8] = b"{\"pid\":1";

const FOREIGN: &[u8] = b"version = 4\n";

/// A record of this crate's format.
fn ours(pid: u32) -> Holder {
    let mut holder = Holder::new(pid);
    holder.boot = Some("conformance".to_owned());
    holder
}

fn went_wrong(what: &'static str) -> impl Fn(io::Error) -> Differs {
    move |error| format!("{what}: {error}")
}
