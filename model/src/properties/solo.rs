//! A memo of solo runs: the result of a solo run depends on the few things that the participant can
//! reach, which most states have in common.
//!
//! Fair runs ([`fair_run`](crate::properties::runs::fair_run)) depend on the states of the others
//! as well, and are not remembered.

use portlock::protocol::{Acquire, Clear, Release, TRIES};
use rustc_hash::FxHashMap;

use crate::properties::runs::{SoloEnd, dates, solo};
use crate::scenario::catalogue::Scenario;
use crate::scenario::machines::Answer;
use crate::scenario::moves::{Outcome, apply, asks_the_driver};
use crate::scenario::state::{
    Activity, Content, Creator, File, Inode, Kind, Move, OpenFile, Participant, State, Who,
};
use crate::variants::Protocol;

/// How a solo run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Solo {
    pub solo: SoloEnd,
    /// The path names no file at its end.
    pub leaves_the_path_free: bool,
    /// It retried after a pause.
    pub paused: bool,
}

/// Runs a participant that has begun, alone.
pub fn run(scenario: &Scenario, protocol: &Protocol, state: &State, who: Who) -> Solo {
    let (mut end, mut paused) = (state.path, false);
    let solo = solo(scenario, protocol, state, who, |_, one, outcome| {
        end = outcome.state.path;
        paused |= matches!(one, Move::Answer(_, Answer::Again));
    });
    Solo { solo, leaves_the_path_free: end.is_none(), paused }
}

/// What is true of every solo run of a participant, with every reply of its calls except failures,
/// and with the shipped number of tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EverySolo {
    /// Moves of the longest run; `None` if one does not end.
    pub longest: Option<u32>,
    /// Each ends with the lock.
    pub all_hold: bool,
    /// Each ends with no file at the path.
    pub all_leave_the_path_free: bool,
    /// One gets the lock after a pause.
    pub some_pause: bool,
}

impl EverySolo {
    const ENDLESS: Self =
        Self { longest: None, all_hold: false, all_leave_the_path_free: false, some_pause: false };

    fn and(self, other: Self) -> Self {
        Self {
            longest: self.longest.zip(other.longest).map(|(one, other)| one.max(other)),
            all_hold: self.all_hold && other.all_hold,
            all_leave_the_path_free: self.all_leave_the_path_free && other.all_leave_the_path_free,
            some_pause: self.some_pause || other.some_pause,
        }
    }
}

/// Makes every solo run of a participant that has begun.
///
/// A file without a record looks old after the first pause, if it may, because the grace has
/// passed.
pub fn every_run(scenario: &Scenario, protocol: &Protocol, state: &State, who: Who) -> EverySolo {
    let known = FxHashMap::default();
    let state = State { faults_left: 0, ..*state };
    Every { scenario, protocol, who, known }.from(state, 0)
}

struct Every<'a> {
    scenario: &'a Scenario,
    protocol: &'a Protocol,
    who: Who,
    /// By state and pauses so far. `None` while its runs are being made, so a cycle is detected.
    known: FxHashMap<(State, u32), Option<EverySolo>>,
}

impl Every<'_> {
    fn from(&mut self, state: State, pauses: u32) -> EverySolo {
        if let Some(known) = self.known.get(&(state, pauses)) {
            return known.unwrap_or(EverySolo::ENDLESS);
        }
        self.known.insert((state, pauses), None);
        let activity = state.participant(self.who).activity;
        let (next, now) = self.moves(&state, pauses);
        let runs = next.into_iter().map(|outcome| self.from(outcome.state, now));
        let every = match runs.reduce(EverySolo::and) {
            Some(every) => EverySolo { longest: every.longest.map(|calls| calls + 1), ..every },
            None => EverySolo {
                longest: Some(0),
                all_hold: activity == Activity::Holding,
                all_leave_the_path_free: state.path.is_none(),
                some_pause: activity == Activity::Holding && pauses > 0,
            },
        };
        self.known.insert((state, pauses), Some(every));
        every
    }

    /// The possible moves, and the pauses after them. There are none at an end.
    fn moves(&self, state: &State, pauses: u32) -> (Vec<Outcome>, u32) {
        let who = self.who;
        let make = |one| apply(self.scenario, self.protocol, state, one);
        let only = |one| Vec::from_iter(make(one));
        match state.participant(who).activity {
            Activity::Idle | Activity::Absent | Activity::Holding => (Vec::new(), pauses),
            // Its timeout has expired.
            Activity::Acquiring(Acquire::Listening(_)) => (only(Move::Call(who, 1)), pauses),
            Activity::Acquiring(Acquire::Blocked(_))
            | Activity::Clearing(Clear::At(Acquire::Blocked(_))) => {
                (only(Move::Answer(who, Answer::Leave)), pauses)
            }
            Activity::Releasing(Release::ReleaseFailed(_)) => {
                (only(Move::Answer(who, Answer::Abandon)), pauses)
            }
            activity if asks_the_driver(activity) => {
                let again = pauses + 1 < TRIES;
                let answer = if again { Answer::Again } else { Answer::GiveUp };
                (only(Move::Answer(who, answer)), pauses + u32::from(again))
            }
            activity if dates(activity) && pauses > 0 && state.may_look_old(who) => {
                (only(Move::Call(who, 1)), pauses)
            }
            _ => {
                let mut next = only(Move::Call(who, 0));
                let choices = next.first().map_or(0, |outcome| outcome.choices);
                next.extend((1..choices).filter_map(|choice| make(Move::Call(who, choice))));
                (next, pauses)
            }
        }
    }
}

/// The solo runs of one state under one protocol.
#[derive(Debug, Default)]
pub struct Memo {
    known: FxHashMap<Reached, Solo>,
}

impl Memo {
    /// Same as [`run`], from the memo where possible.
    pub fn run(
        &mut self,
        scenario: &Scenario,
        protocol: &Protocol,
        state: &State,
        who: Who,
    ) -> Solo {
        match Reached::by(scenario, state, who) {
            Some(reached) => {
                *self.known.entry(reached).or_insert_with(|| run(scenario, protocol, state, who))
            }
            None => run(scenario, protocol, state, who),
        }
    }

    /// How many different runs there were.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

/// All that the calls of one participant reach while no other participant moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reached {
    pub kind: Kind,
    pub activity: Activity,
    pub seen: Content,
    pub out_of_reach: bool,
    /// Others share its open file.
    pub shared: bool,
    pub named: Option<ReachedFile>,
    /// Its open file, if the path does not name it.
    pub orphan: Option<ReachedFile>,
    /// The path names its open file.
    pub has_named_open: bool,
    /// Others have the named file open, and a removed name stays until they close it.
    pub kept: bool,
}

/// A file as one participant sees it. Authors are `MYSELF`, `MY_PROCESS`, `ANOTHER`, or one whose
/// kernel locks do not exclude those of this participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReachedFile {
    pub content: Content,
    pub creator: Maker,
    pub lock: Owner,
    pub pending: bool,
}

const MYSELF: Who = 0;
const MY_PROCESS: Who = 1;
const ANOTHER: Who = 2;
const REMOTE: Who = 3;
const UNLOCKED: Who = 4;

/// The maker of a file, as far as a call depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Maker {
    Myself,
    /// A maker that only the grace protects, and that writes within it.
    WritesInTime,
    Other,
}

/// The owner of a kernel lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    None,
    MyOpenFile,
    Another,
}

impl Reached {
    /// `None` where a call reaches more: a guard, or a file set aside, of another protocol.
    pub fn by(scenario: &Scenario, state: &State, who: Who) -> Option<Self> {
        let State {
            path,
            files: _,
            opened,
            participants: _,
            count: _,
            guard,
            aside,
            // The first reply of a call uses no budget.
            crashes_left: _,
            faults_left: _,
            removals_left: _,
            suspensions_left: _,
            chroots_left: _,
            // Read by properties alone.
            removal_failed: _,
            robbed: _,
        } = state;
        if guard.is_some() || aside.iter().any(Option::is_some) {
            return None;
        }
        let Participant {
            kind,
            activity,
            open,
            // A solo run does not wait for events.
            listens: _,
            seen,
            // Read by properties alone.
            witnessed: _,
            in_window: _,
            // A suspended participant makes no run.
            suspended: _,
            out_of_reach,
        } = *state.participant(who);
        let mine = state.open_inode(who);
        let sharers =
            open.and_then(|open| opened[usize::from(open)]).map_or(0, |one| one.shared_by);
        let shared = sharers & !(1 << who) != 0;
        let of_others = |inode: &Inode| {
            let is_of_others = |(number, one): (usize, &Option<_>)| {
                one.is_some_and(|one: crate::scenario::state::Opened| one.file == *inode)
                    && (shared || open.map(usize::from) != Some(number))
            };
            opened.iter().enumerate().any(is_of_others)
        };
        let file = |inode| state.file(inode).map(|file| ReachedFile::of(state, who, open, *file));
        Some(Self {
            kind,
            activity,
            seen: seen_by(state, who, seen),
            out_of_reach,
            shared,
            named: path.and_then(file),
            orphan: mine.filter(|_| mine != *path).and_then(file),
            has_named_open: mine.is_some() && mine == *path,
            kept: scenario.delete_pending && path.as_ref().is_some_and(of_others),
        })
    }
}

impl ReachedFile {
    fn of(state: &State, who: Who, open: Option<OpenFile>, file: File) -> Self {
        // Whether it was abandoned is read by a property alone.
        let File { content, creator, lock, pending, abandoned: _ } = file;
        Self {
            content: seen_by(state, who, content),
            creator: match creator {
                Creator::Alive(one) if one == who => Maker::Myself,
                Creator::Alive(one) if state.writes_in_time(one, who) => Maker::WritesInTime,
                Creator::Alive(_) | Creator::Start | Creator::Dead => Maker::Other,
            },
            lock: match lock {
                None => Owner::None,
                Some(_) if lock == open => Owner::MyOpenFile,
                Some(_) => Owner::Another,
            },
            pending,
        }
    }
}

/// The content, with its author as a call of `who` distinguishes authors.
fn seen_by(state: &State, who: Who, content: Content) -> Content {
    let author = |author| {
        if author == who {
            MYSELF
        } else if state.same_process(author, who) {
            MY_PROCESS
        } else {
            match state.participant(author).kind {
                Kind::Remote => REMOTE,
                Kind::Unlocked => UNLOCKED,
                Kind::Process
                | Kind::Thread
                | Kind::Parent
                | Kind::Child
                | Kind::OldAgent
                | Kind::Asker
                | Kind::Clearer
                | Kind::Runner
                | Kind::Command => ANOTHER,
            }
        }
    };
    content.with_author(author)
}
