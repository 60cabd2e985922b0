//! The shipped machines as graphs: every state that is reachable when every operation may give
//! every reply, and its next states. They are made by running the shipped `step`.

use std::collections::BTreeMap;
use std::fmt::Debug;

use portlock::protocol::{
    Acquire, Age, Author, BlockedAnswer, Clear, ClearAnswer, Confirm, Create, Dated, Done,
    Evidence, FileSystem, FreeLock, Listen, LockReply, OpenReply, PauseAnswer, Probe, Probed,
    Query, ReadReply, Release, ReleaseFailedAnswer, Unlink, Watch,
};

/// All variants of an enum without fields. A variant that is not listed does not compile.
macro_rules! all {
    ($kind:ident: $($variant:ident),+) => {{
        let _is_listed = |value: $kind| match value { $($kind::$variant => ()),+ };
        [$($kind::$variant),+]
    }};
}

pub trait Machine: Copy + Ord + Debug + 'static {
    const NAME: &'static str;
    const STARTS: &'static [Self];

    fn step(self, fs: &mut impl FileSystem) -> Self;

    /// The next state after an answer of the driver, where the machine asks for one.
    fn answered(self, answer: Answer) -> Option<Self>;

    /// A short name of the state.
    fn label(&self) -> String {
        crate::render::table::name(self)
    }
}

/// An answer of a driver to any machine. Each machine has its own enum. A new answer there does not
/// compile until it is listed here, and until the scenarios of the explorer decide on it. The
/// tables and the proofs in logic are made from this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    /// To a pause.
    Again,
    /// To a pause.
    GiveUp,
    /// To a file that exists.
    Leave,
    /// To a file that blocks: waits for its events.
    Listen,
    /// To a file that exists.
    Force,
    /// To a failed release: the lock stays held.
    Keep,
    /// To a failed release: the file is truncated and the lock released.
    Abandon,
}

const PAUSE: [PauseAnswer; 2] = all!(PauseAnswer: Again, GiveUp);
const BLOCKED: [BlockedAnswer; 3] = all!(BlockedAnswer: Leave, Listen, Force);
const RELEASE_FAILED: [ReleaseFailedAnswer; 2] = all!(ReleaseFailedAnswer: Keep, Abandon);
const CLEAR: [ClearAnswer; 4] = all!(ClearAnswer: Again, GiveUp, Leave, Force);

/// The machine's own answer for `meant`, if it has one.
fn one_of<A: Copy + Into<Answer>>(answers: &[A], meant: Answer) -> Option<A> {
    answers.iter().copied().find(|&answer| answer.into() == meant)
}

impl From<PauseAnswer> for Answer {
    fn from(answer: PauseAnswer) -> Self {
        match answer {
            PauseAnswer::Again => Self::Again,
            PauseAnswer::GiveUp => Self::GiveUp,
        }
    }
}

impl From<BlockedAnswer> for Answer {
    fn from(answer: BlockedAnswer) -> Self {
        match answer {
            BlockedAnswer::Leave => Self::Leave,
            BlockedAnswer::Listen => Self::Listen,
            BlockedAnswer::Force => Self::Force,
        }
    }
}

impl From<ReleaseFailedAnswer> for Answer {
    fn from(answer: ReleaseFailedAnswer) -> Self {
        match answer {
            ReleaseFailedAnswer::Keep => Self::Keep,
            ReleaseFailedAnswer::Abandon => Self::Abandon,
        }
    }
}

impl From<ClearAnswer> for Answer {
    fn from(answer: ClearAnswer) -> Self {
        match answer {
            ClearAnswer::Again => Self::Again,
            ClearAnswer::GiveUp => Self::GiveUp,
            ClearAnswer::Leave => Self::Leave,
            ClearAnswer::Force => Self::Force,
        }
    }
}

impl Answer {
    pub const ALL: [Self; 7] = all!(Self: Again, GiveUp, Leave, Listen, Force, Keep, Abandon);

    pub fn words(self) -> &'static str {
        match self {
            Self::Again => "again",
            Self::GiveUp => "give up",
            Self::Leave => "leave",
            Self::Listen => "listen",
            Self::Force => "force",
            Self::Keep => "keep",
            Self::Abandon => "abandon",
        }
    }
}

impl Machine for Acquire {
    const NAME: &'static str = "Acquire";
    const STARTS: &'static [Self] = &[Self::START];

    fn step(self, fs: &mut impl FileSystem) -> Self {
        self.step(fs)
    }

    fn answered(self, answer: Answer) -> Option<Self> {
        match self {
            Self::Pausing(pause) => Some(pause.answer(one_of(&PAUSE, answer)?)),
            Self::Blocked(blocked) => Some(blocked.answer(one_of(&BLOCKED, answer)?)),
            _ => None,
        }
    }
}

impl Machine for Release {
    const NAME: &'static str = "Release";
    const STARTS: &'static [Self] = &[Self::START, Self::FORKED];

    fn step(self, fs: &mut impl FileSystem) -> Self {
        self.step(fs)
    }

    fn answered(self, answer: Answer) -> Option<Self> {
        match self {
            Self::ReleaseFailed(failed) => Some(failed.answer(one_of(&RELEASE_FAILED, answer)?)),
            _ => None,
        }
    }
}

impl Machine for Query {
    const NAME: &'static str = "Query";
    const STARTS: &'static [Self] = &[Self::START];

    fn step(self, fs: &mut impl FileSystem) -> Self {
        self.step(fs)
    }

    fn answered(self, answer: Answer) -> Option<Self> {
        match self {
            Self::Pausing(pause) => Some(pause.answer(one_of(&PAUSE, answer)?)),
            _ => None,
        }
    }
}

impl Machine for Clear {
    const NAME: &'static str = "Clear";
    const STARTS: &'static [Self] = &[Self::START];

    fn step(self, fs: &mut impl FileSystem) -> Self {
        self.step(fs)
    }

    fn answered(self, answer: Answer) -> Option<Self> {
        self.answer(one_of(&CLEAR, answer)?)
    }

    fn label(&self) -> String {
        match self {
            Self::At(state) => state.label(),
            Self::Ended(_) => crate::render::table::name(self),
        }
    }
}

/// The next states of a state.
pub struct Follows<M> {
    /// By reply of its one call; empty where it asks the driver, and at an end.
    pub replies: BTreeMap<Reply, M>,
    /// By answer of the driver; empty where it does not ask.
    pub driver: BTreeMap<Answer, M>,
}

impl<M> Follows<M> {
    pub fn waits_for_a_call(&self) -> bool {
        !self.replies.is_empty()
    }
}

/// Every state that is reachable from a start, with its next states.
pub fn graph<M: Machine>() -> BTreeMap<M, Follows<M>> {
    graph_of(M::STARTS, |state, script| state.step(script))
}

/// Same as [`graph`], with other starts and steps.
pub fn graph_of<M: Machine>(
    starts: &[M],
    step: impl Fn(M, &mut Script) -> M,
) -> BTreeMap<M, Follows<M>> {
    let mut found = BTreeMap::new();
    let mut open: Vec<M> = starts.to_vec();
    while let Some(state) = open.pop() {
        if found.contains_key(&state) {
            continue;
        }
        let mut script = Script::new(Reply::Open(OpenReply::Opened));
        let _ = step(state, &mut script);
        let replies: BTreeMap<Reply, M> = script
            .asked
            .iter()
            .flat_map(|op| op.replies())
            .map(|reply| (reply, step(state, &mut Script::new(reply))))
            .collect();
        let driver: BTreeMap<Answer, M> = Answer::ALL
            .into_iter()
            .filter_map(|answer| Some((answer, state.answered(answer)?)))
            .collect();
        open.extend(replies.values().chain(driver.values()));
        found.insert(state, Follows { replies, driver });
    }
    found
}

/// The operations of the trait, in the order of its methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    Create,
    Open,
    Age,
    Lock,
    Arm,
    Listen,
    Write,
    Read,
    Probe,
    Confirm,
    Unlink,
    Void,
    Watch,
    Close,
    Leave,
    /// A call of another protocol.
    Other,
}

/// A call and its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reply {
    Create(Create),
    Open(OpenReply),
    Age(Dated),
    Lock(LockReply),
    Arm,
    Listen(Listen),
    Write(Done),
    Read(ReadReply),
    Probe(Probed),
    Confirm(Confirm),
    Unlink(Unlink),
    Void(Done),
    Watch(Watch),
    Close,
    Leave,
    /// A call of another protocol, or none.
    Other(&'static str),
}

impl Reply {
    pub fn op(self) -> Op {
        match self {
            Self::Create(_) => Op::Create,
            Self::Open(_) => Op::Open,
            Self::Age(_) => Op::Age,
            Self::Lock(_) => Op::Lock,
            Self::Arm => Op::Arm,
            Self::Listen(_) => Op::Listen,
            Self::Write(_) => Op::Write,
            Self::Read(_) => Op::Read,
            Self::Probe(_) => Op::Probe,
            Self::Confirm(_) => Op::Confirm,
            Self::Unlink(_) => Op::Unlink,
            Self::Void(_) => Op::Void,
            Self::Watch(_) => Op::Watch,
            Self::Close => Op::Close,
            Self::Leave => Op::Leave,
            Self::Other(_) => Op::Other,
        }
    }
}

impl Op {
    /// The calls of the shipped protocol.
    pub const SHIPPED: [Self; 15] = [
        Self::Create,
        Self::Open,
        Self::Age,
        Self::Lock,
        Self::Arm,
        Self::Listen,
        Self::Write,
        Self::Read,
        Self::Probe,
        Self::Confirm,
        Self::Unlink,
        Self::Void,
        Self::Watch,
        Self::Close,
        Self::Leave,
    ];

    /// Every reply that the operation can give.
    pub fn replies(self) -> Vec<Reply> {
        let ages = all!(Age: Young, Old);
        match self {
            Op::Create => all!(Create: Created, Exists, Denied, Failed).map(Reply::Create).into(),
            Op::Open => all!(OpenReply: Opened, Absent, Denied, Failed).map(Reply::Open).into(),
            Op::Age => {
                let _is_listed = |dated| match dated {
                    Dated::Known(Age::Young | Age::Old) | Dated::Failed => (),
                };
                ages.map(Dated::Known).into_iter().chain([Dated::Failed]).map(Reply::Age).collect()
            }
            Op::Lock => all!(LockReply: Ours, Busy, Unsupported, Failed).map(Reply::Lock).into(),
            Op::Arm => vec![Reply::Arm],
            Op::Listen => all!(Listen: Event, Over, Failed).map(Reply::Listen).into(),
            Op::Write => all!(Done: Done, Failed).map(Reply::Write).into(),
            Op::Read => {
                all!(ReadReply: Record, Empty, Unreadable, Foreign, Failed).map(Reply::Read).into()
            }
            Op::Probe => {
                let _is_listed = |probed| match probed {
                    Probed::Known(_) | Probed::Failed => (),
                };
                let known = authors().into_iter().map(Probed::Known);
                known.chain([Probed::Failed]).map(Reply::Probe).collect()
            }
            Op::Confirm => all!(Confirm: Same, Changed, Failed).map(Reply::Confirm).into(),
            Op::Unlink => all!(Unlink: Unlinked, Absent, Failed).map(Reply::Unlink).into(),
            Op::Void => all!(Done: Done, Failed).map(Reply::Void).into(),
            Op::Watch => all!(Watch: Held, Free, Unknown).map(Reply::Watch).into(),
            Op::Close => vec![Reply::Close],
            Op::Leave => vec![Reply::Leave],
            Op::Other => vec![],
        }
    }
}

/// The number of results of a process probe.
pub const PROBES: usize = 9;

pub fn probes() -> [Probe; PROBES] {
    all!(Probe: Gone, Zombie, Thread, Other, StartedLater, Ourselves, Alive, NotPermitted, Unknown)
}

pub fn authors() -> Vec<Author> {
    let _is_listed = |author| match author {
        Author::Here(_, _)
        | Author::OtherNamespace(_)
        | Author::EarlierBoot
        | Author::OtherMachine
        | Author::OldFormat(_) => (),
    };
    let free = all!(FreeLock: ProvesDeath, ProvesNothing);
    let here = free.into_iter().flat_map(|free| probes().map(|probe| Author::Here(free, probe)));
    here.chain(probes().map(Author::OldFormat))
        .chain(free.map(Author::OtherNamespace))
        .chain([Author::EarlierBoot, Author::OtherMachine])
        .collect()
}

pub fn evidence() -> Vec<Evidence> {
    let _is_listed = |evidence| match evidence {
        Evidence::Empty(_) | Evidence::Unreadable | Evidence::Record(_) => (),
    };
    let empty = all!(Age: Young, Old).map(Evidence::Empty);
    let records = authors().into_iter().map(Evidence::Record);
    records.chain(empty).chain([Evidence::Unreadable]).collect()
}

/// Gives one scripted reply, and records the calls. A call of another operation gets an arbitrary
/// reply, which only serves to find out the call of a state.
pub struct Script {
    reply: Reply,
    pub asked: Vec<Op>,
}

impl Script {
    pub fn new(reply: Reply) -> Self {
        Self { reply, asked: Vec::new() }
    }
}

/// The methods of the script: each records the call, and gives the scripted reply if it is of this
/// kind.
macro_rules! replies {
    ($($method:ident: $kind:ident -> $reply:ty, or $otherwise:expr;)+) => {
        $(fn $method(&mut self) -> $reply {
            self.asked.push(Op::$kind);
            if let Reply::$kind(reply) = self.reply { reply } else { $otherwise }
        })+
    };
}

impl FileSystem for Script {
    replies! {
        create: Create -> Create, or Create::Failed;
        open: Open -> OpenReply, or OpenReply::Failed;
        age: Age -> Dated, or Dated::Failed;
        lock: Lock -> LockReply, or LockReply::Failed;
        wait_event: Listen -> Listen, or Listen::Failed;
        write: Write -> Done, or Done::Failed;
        read: Read -> ReadReply, or ReadReply::Failed;
        probe: Probe -> Probed, or Probed::Failed;
        confirm: Confirm -> Confirm, or Confirm::Failed;
        unlink: Unlink -> Unlink, or Unlink::Failed;
        truncate: Void -> Done, or Done::Failed;
        query_lock: Watch -> Watch, or Watch::Unknown;
    }

    fn subscribe(&mut self) {
        self.asked.push(Op::Arm);
    }

    fn close(&mut self) {
        self.asked.push(Op::Close);
    }

    fn close_without_unlock(&mut self) {
        self.asked.push(Op::Leave);
    }
}
