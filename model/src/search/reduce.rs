//! Dead variables: values that no participant will read again are cleared, so that states which
//! differ only in them become one.
//!
//! Two parts decide which values are dead.
//!
//! - For a participant, `uses` and `overwrites` list what each operation and reply reads and
//!   writes. From these and the graph of the protocol's own machines, [`Live`] is computed for
//!   every state by a backward liveness analysis, along every reply and every answer of the driver.
//!   A new state needs no decision, and a wrong protocol gets a table of its own.
//! - For files, and for values that only a property reads, [`Reduction::reduce`] destructures the
//!   state by name, so that a new field does not compile until it is decided on.
//!
//! `tests/reduction.rs` compares every state with its reduced one: the possible moves, the replies,
//! the properties, and the next states. `PROOF.md` says why this holds for any number of
//! participants.

use std::collections::BTreeMap;
use std::ops::{BitOr, BitOrAssign};

use rustc_hash::FxHashMap;

use portlock::protocol::{Clear, Query, ReadReply};

use crate::properties::names;
use crate::properties::property::Property;
use crate::render::export::Bench;
use crate::scenario::catalogue::Scenario;
use crate::scenario::machines::{Follows, Machine, Op, Reply, graph_of};
use crate::scenario::state::{
    Activity, Content, Creator, File, FileSet, Inode, Kind, Listens, PARTICIPANTS, Participant,
    State, Who,
};
use crate::variants::Protocol;

/// The values that a participant may still read in the current call, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Live(u8);

impl Live {
    const NOTHING: Self = Self(0);
    const EVERYTHING: Self = Self(u8::MAX);
    /// What it read last, which a probe reads.
    const SEEN: Self = Self(1);
    /// Whether an event was kept for it.
    const EVENTS: Self = Self(2);
    /// Whether a file that it may open, or has open, had a holder during the call.
    const WITNESSED: Self = Self(4);
    /// Whether the file that it has open had a holder during the call.
    const WITNESSED_OPEN: Self = Self(8);
    /// The content of the file that it has open.
    const CONTENT: Self = Self(16);
    /// The age of the file that it has open.
    const AGE: Self = Self(32);
    /// Whether another open file has the kernel lock of the file that it has open.
    const LOCK: Self = Self(64);
    /// All values that end with the open file.
    const OF_THE_OPEN_FILE: Self = Self(
        Self::EVENTS.0 | Self::WITNESSED_OPEN.0 | Self::CONTENT.0 | Self::AGE.0 | Self::LOCK.0,
    );

    fn has(self, any_of: Self) -> bool {
        self.0 & any_of.0 != 0
    }

    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Live {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Live {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// The values that an operation of the model's filesystem reads.
fn uses(op: Op) -> Live {
    match op {
        Op::Probe => Live::SEEN,
        Op::Read => Live::CONTENT,
        Op::Age => Live::AGE,
        Op::Lock | Op::Watch => Live::LOCK,
        // With the adapter of Windows the event is the granted lock.
        Op::Listen => Live::EVENTS | Live::LOCK,
        Op::Create
        | Op::Open
        | Op::Arm
        | Op::Write
        | Op::Confirm
        | Op::Unlink
        | Op::Void
        | Op::Close
        | Op::Leave
        | Op::Other => Live::NOTHING,
    }
}

/// The values that an operation overwrites when it gives this reply.
fn overwrites(reply: Reply) -> Live {
    match reply {
        Reply::Open(_)
        | Reply::Read(
            ReadReply::Record | ReadReply::Empty | ReadReply::Unreadable | ReadReply::Foreign,
        ) => Live::SEEN,
        Reply::Arm => Live::EVENTS,
        Reply::Close | Reply::Leave => Live::OF_THE_OPEN_FILE,
        Reply::Read(ReadReply::Failed)
        | Reply::Create(_)
        | Reply::Age(_)
        | Reply::Lock(_)
        | Reply::Listen(_)
        | Reply::Write(_)
        | Reply::Probe(_)
        | Reply::Confirm(_)
        | Reply::Unlink(_)
        | Reply::Void(_)
        | Reply::Watch(_)
        | Reply::Other(_) => Live::NOTHING,
    }
}

/// The dead variables of states, under a protocol.
#[derive(Debug, Clone)]
pub struct Reduction {
    live: FxHashMap<Activity, Live>,
    /// The reply of a probe depends on what was read.
    probes_what_was_read: bool,
    owes_exclusion: bool,
    owes_truth: bool,
    owes_no_litter: bool,
}

impl Reduction {
    pub fn of(scenario: &Scenario, protocol: &Protocol) -> Self {
        let owes = |property| scenario.properties.contains(&property);
        Self {
            live: live_states(protocol),
            probes_what_was_read: !scenario.probe_lies,
            owes_exclusion: owes(Property::P1),
            owes_truth: owes(Property::P4),
            owes_no_litter: owes(Property::P6),
        }
    }

    /// The values that a participant may still read.
    fn live(&self, activity: Activity) -> Live {
        match activity {
            // A participant that left a file open makes no further call, and a call starts without
            // memory.
            Activity::Absent | Activity::Idle => Live::NOTHING,
            // These protocols have calls of their own, which read the named file and nothing else.
            Activity::Percy(_) | Activity::Aside(_) => Live::NOTHING,
            activity @ (Activity::Acquiring(_)
            | Activity::Holding
            | Activity::Releasing(_)
            | Activity::Asking(_)
            | Activity::Clearing(_)
            | Activity::Inherited { .. }) => {
                self.live.get(&activity).copied().unwrap_or(Live::EVERYTHING)
            }
        }
    }

    /// Whether a participant in this state may still probe by what it read last.
    pub fn will_probe(&self, activity: Activity) -> bool {
        self.probes_what_was_read && self.live(activity).has(Live::SEEN)
    }

    pub fn reduce(&self, state: &mut State) {
        let mut live = [Live::NOTHING; PARTICIPANTS];
        for who in state.everyone() {
            live[usize::from(who)] = self.live(state.participant(who).activity);
        }
        self.reduce_files(state, &live);
        let State {
            path,
            files: _,
            opened: _,
            participants: _,
            count: _,
            guard: _,
            aside,
            crashes_left: _,
            faults_left: _,
            removals_left: _,
            suspensions_left: _,
            chroots_left: _,
            removal_failed,
            robbed,
        } = state;
        *removal_failed &= self.owes_no_litter;
        *robbed &= self.owes_exclusion;
        // Files that may be opened, now or after they get their name back.
        let bit = |inode: Inode| -> FileSet { 1 << inode };
        let nameable = aside.iter().flatten().chain(path.iter());
        let nameable = nameable.fold(0, |files, &inode| files | bit(inode));
        for who in state.everyone() {
            let open = state.open_inode(who).map_or(0, bit);
            self.reduce_participant(
                state.participant_mut(who),
                live[usize::from(who)],
                nameable,
                open,
            );
        }
    }

    fn reduce_participant(
        &self,
        participant: &mut Participant,
        live: Live,
        nameable: FileSet,
        has_open: FileSet,
    ) {
        let Participant {
            kind: _,
            activity: _,
            open: _,
            listens,
            seen,
            witnessed,
            in_window: _,
            suspended: _,
            out_of_reach: _,
        } = participant;
        if !live.has(Live::EVENTS) {
            *listens = Listens::No;
        }
        if !(live.has(Live::SEEN) && self.probes_what_was_read) {
            *seen = Content::Empty;
        }
        let mut remembered = 0;
        if live.has(Live::WITNESSED) {
            remembered |= nameable;
        }
        if live.has(Live::WITNESSED_OPEN) {
            remembered |= has_open;
        }
        *witnessed &= if self.owes_truth { remembered } else { 0 };
    }

    fn reduce_files(&self, state: &mut State, live: &[Live; PARTICIPANTS]) {
        for inode in 0..state.files.len() as Inode {
            let Some(mut file) = state.file(inode).copied() else { continue };
            let named = state.path == Some(inode) || state.aside.contains(&Some(inode));
            if named {
                self.reduce_named(&mut file);
            } else {
                reduce_orphan(state, inode, &mut file, live);
            }
            state.files[usize::from(inode)] = Some(file);
        }
    }

    /// Any call may still read a file that can be opened. Two values depend only on a living
    /// creator.
    fn reduce_named(&self, file: &mut File) {
        let File { content: _, creator, lock: _, pending: _, abandoned } = file;
        *creator = match *creator {
            Creator::Start | Creator::Dead => Creator::Dead,
            Creator::Alive(who) => Creator::Alive(who),
        };
        *abandoned &= self.owes_no_litter && *creator != Creator::Dead;
    }
}

/// Only participants that have an orphan open can read it.
fn reduce_orphan(state: &State, inode: Inode, file: &mut File, live: &[Live; PARTICIPANTS]) {
    let (mut read, mut tried) = (Live::NOTHING, Live::NOTHING);
    for (open, opened) in state.opened.iter().enumerate() {
        let Some(opened) = opened.filter(|opened| opened.file == inode) else { continue };
        for who in state.everyone().filter(|who| opened.shared_by & (1 << who) != 0) {
            read |= live[usize::from(who)];
            // An open file is not blocked by its own lock.
            if file.lock.is_none_or(|owner| usize::from(owner) != open) {
                tried |= live[usize::from(who)];
            }
        }
    }
    let File { content, creator, lock, pending: _, abandoned } = file;
    let dated = read.has(Live::AGE);
    if !(read.has(Live::CONTENT) || dated) {
        *content = Content::Empty;
    }
    // It does not look old while its creator is about to write and only the grace protects it.
    let may_write = matches!(*creator, Creator::Alive(who)
        if dated && *content == Content::Empty && takes_no_lock(state, who, inode));
    if !may_write {
        *creator = Creator::Dead;
    }
    if !tried.has(Live::LOCK) {
        *lock = None;
    }
    *abandoned = false;
}

/// Whether the creator of a file takes no kernel lock that excludes all participants that have it
/// open.
fn takes_no_lock(state: &State, creator: Who, inode: Inode) -> bool {
    let shares_with_all = state
        .everyone()
        .filter(|&who| state.open_inode(who) == Some(inode))
        .all(|who| state.share_locks(creator, who));
    state.participant(creator).kind == Kind::OldAgent || !shares_with_all
}

/// The values that may still be read in each state of a protocol's machines.
fn live_states(protocol: &Protocol) -> FxHashMap<Activity, Live> {
    let mut live = FxHashMap::default();
    // The steps of a wrong protocol may depend on whether it has a file open.
    let benches = [false, true].map(|opened| Bench::new(protocol, opened));
    if let Activity::Acquiring(begin) = protocol.begin {
        let graphs = benches.each_ref().map(|bench| {
            graph_of(&[begin], |state, script| {
                bench.with(script, |view| (protocol.acquire)(state, view))
            })
        });
        spread(&mut live, Activity::Acquiring, &graphs);
    }
    let releases = [protocol.release_start, protocol.forked_start, protocol.forked_attempt];
    let graphs = benches.each_ref().map(|bench| {
        graph_of(&releases, |state, script| {
            bench.with(script, |view| (protocol.release)(state, view))
        })
    });
    spread(&mut live, Activity::Releasing, &graphs);
    let graphs = benches.each_ref().map(|bench| {
        graph_of(Query::STARTS, |state, script| {
            bench.with(script, |view| (protocol.query)(state, view))
        })
    });
    spread(&mut live, Activity::Asking, &graphs);
    let graphs = benches.each_ref().map(|bench| {
        graph_of(Clear::STARTS, |state, script| {
            bench.with(script, |view| (protocol.clear)(state, view))
        })
    });
    spread(&mut live, Activity::Clearing, &graphs);
    // The next call is a release.
    for (activity, start) in [
        (Activity::Holding, protocol.release_start),
        (Activity::Inherited { guard: true }, protocol.forked_start),
        (Activity::Inherited { guard: false }, protocol.forked_attempt),
    ] {
        let of_the_release = live[&Activity::Releasing(start)];
        live.insert(activity, of_the_release);
    }
    live
}

/// Propagates liveness backwards along the edges, to the fixed point.
fn spread<M: Machine>(
    live: &mut FxHashMap<Activity, Live>,
    activity: impl Fn(M) -> Activity,
    graphs: &[BTreeMap<M, Follows<M>>],
) {
    let mut edges: Vec<(Activity, Option<Reply>, Activity)> = Vec::new();
    for (&state, follows) in graphs.iter().flatten() {
        live.entry(activity(state)).or_default();
        let replied = follows.replies.iter().map(|(&reply, &next)| (Some(reply), next));
        let answered = follows.driver.values().map(|&next| (None, next));
        let next = replied.chain(answered);
        edges.extend(next.map(|(reply, next)| (activity(state), reply, activity(next))));
    }
    loop {
        let mut quiet = true;
        for &(state, reply, next) in &edges {
            let mut before = live[&state];
            before |= live[&next].without(reply.map_or(Live::NOTHING, overwrites));
            before |= reply.map_or(Live::NOTHING, |reply| uses(reply.op()));
            if names(next) && !names(state) {
                before |= Live::WITNESSED | Live::WITNESSED_OPEN;
            }
            quiet &= before == live[&state];
            live.insert(state, before);
        }
        if quiet {
            return;
        }
    }
}
