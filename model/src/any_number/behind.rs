//! The states behind a view, and behind two views at once: the concretization.
//!
//! They are states of the explorer, so that a step in them is a step of the shipped machines over
//! the explorer's filesystem. All other participants are represented by ghosts ([`SIBLING`],
//! [`STRANGER`]), which own records, locks and open files and never move.

use super::local_view::{
    ACTOR, LocalView, ME, OpenIs, SIBLING, STRANGER, as_seen, content_as_seen,
};
use crate::scenario::catalogue::{Scenario, Start};
use crate::scenario::state::{
    Activity, Content, Creator, FILES, Inode, Kind, Listens, OpenFile, PARTICIPANTS, Participant,
    State, Who,
};

/// The two participants under consideration, and the ghosts.
const ALL: [Who; 4] = [ME, ACTOR, SIBLING, STRANGER];

/// States that `me` may be a view of: one for each way in which what the view omits can matter to
/// my next step.
pub fn behind_one(scenario: &Scenario, me: &LocalView) -> Vec<State> {
    let mut states = Vec::new();
    for orphan in orphans(scenario, me.open) {
        for (&more, &kept) in pairs(more(me), kept(scenario)) {
            let forgotten = Forgotten {
                content: me.named.map_or(Content::Empty, |named| named.content),
                seen: me.seen,
                creator: me.named.filter(|named| named.created_by_me).map(|_| ME),
                lock: me.named.and_then(|named| named.lock),
                sharing: Sharing { together: false, more },
                kept,
                orphan,
            };
            states.push(forgotten.build(scenario, &[(ME, *me)]));
        }
    }
    states
}

/// States of two participants with the views `me` and `actor`: one for each way in which what the
/// views omit can matter to what I see of the actor's step.
pub fn behind_two(scenario: &Scenario, me: &LocalView, actor: &LocalView) -> Vec<State> {
    let creator = match (me.named, actor.named) {
        (None, None) => None,
        (Some(mine), Some(theirs)) => match (mine.created_by_me, theirs.created_by_me) {
            (true, true) => return Vec::new(),
            (true, false) => Some(ME),
            (false, true) => Some(ACTOR),
            // All strangers and dead processes are alike.
            (false, false) => None,
        },
        (None, Some(_)) | (Some(_), None) => return Vec::new(),
    };
    let seated = [(ME, *me), (ACTOR, *actor)];
    let empty = empty(scenario, &seated);
    let orphan = Orphan { content: Content::Empty, lock: None };
    let mut states = Vec::new();
    for content in contents(&empty, me, actor) {
        for seen in authored(me.seen).filter(|&seen| content_as_seen(&empty, ME, seen) == me.seen) {
            for (lock, sharing) in locks_and_shares(&empty, me, actor) {
                for &kept in kept(scenario) {
                    let forgotten =
                        Forgotten { content, seen, creator, lock, sharing, kept, orphan };
                    states.push(forgotten.build(scenario, &seated));
                }
            }
        }
    }
    // Keep only the states that have both views.
    states.retain(|state| {
        LocalView::of(state, ME) == *me
            && LocalView::of(state, ACTOR) == *actor
            && is_possible(state, ME)
            && is_possible(state, ACTOR)
    });
    states
}

/// Whether the record in the named file, and the one that `who` has read from it, is by the file's
/// creator. No step leads to other states, which the closure checks.
pub fn is_possible(state: &State, who: Who) -> bool {
    let Some(file) = state.named() else { return true };
    let by_creator = |content| match (content, file.creator) {
        (Content::Of(author), Creator::Alive(creator)) => author == creator,
        (Content::Of(author), Creator::Start | Creator::Dead) => author != ME && author != ACTOR,
        _ => true,
    };
    // Its creator has read nothing from it.
    let has_read = state.open_inode(who) == state.path && file.creator != Creator::Alive(who);
    by_creator(file.content) && (!has_read || by_creator(state.participant(who).seen))
}

/// What may be in the named file.
fn contents<'a>(
    state: &'a State,
    me: &LocalView,
    actor: &LocalView,
) -> impl Iterator<Item = Content> + use<'a> {
    let seen = |view: &LocalView| view.named.map_or(Content::Empty, |named| named.content);
    let (mine, theirs) = (seen(me), seen(actor));
    authored(mine).filter(move |&content| {
        content_as_seen(state, ME, content) == mine
            && content_as_seen(state, ACTOR, content) == theirs
    })
}

/// The possible owners of the named file's lock, and whether the two may share an open file.
fn locks_and_shares(
    state: &State,
    me: &LocalView,
    actor: &LocalView,
) -> Vec<(Option<Who>, Sharing)> {
    let related = forks(me.kind) && forks(actor.kind) && [me.kind, actor.kind] != [Kind::Parent; 2];
    let may_share = related && me.open == actor.open && me.open != OpenIs::Nothing;
    let togethers: &[bool] = if may_share { &[false, true] } else { &[false] };
    let sees = |view: &LocalView| view.named.and_then(|named| named.lock);
    let mut found = Vec::new();
    for owner in [None].into_iter().chain(ALL.map(Some)) {
        for (&together, &more) in pairs(togethers, more(actor)) {
            let ours = together && [Some(ME), Some(ACTOR)].contains(&owner);
            let seen_by =
                |who| owner.map(|owner| if ours { ME } else { as_seen(state, who, owner) });
            if seen_by(ME) == sees(me) && seen_by(ACTOR) == sees(actor) {
                found.push((owner, Sharing { together, more }));
            }
        }
    }
    found
}

/// Which participants share an open file. A child whose parent is not `ME` or `ACTOR` shares it
/// with a stranger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sharing {
    /// `ME` and `ACTOR` have one open file.
    together: bool,
    /// Another child shares the open file of the participant that acts.
    more: bool,
}

fn forks(kind: Kind) -> bool {
    matches!(kind, Kind::Parent | Kind::Child)
}

/// Whether another child may have the open file of `view`.
fn more(view: &LocalView) -> &'static [bool] {
    if forks(view.kind) && view.open != OpenIs::Nothing { &[false, true] } else { &[false] }
}

/// Whether a stranger may have the named file open, which matters only where that keeps the name.
fn kept(scenario: &Scenario) -> &'static [bool] {
    if scenario.delete_pending { &[false, true] } else { &[false] }
}

fn pairs<'a, A, B>(one: &'a [A], other: &'a [B]) -> impl Iterator<Item = (&'a A, &'a B)> {
    one.iter().flat_map(move |one| other.iter().map(move |other| (one, other)))
}

/// The same content, by each possible author.
fn authored(content: Content) -> impl Iterator<Item = Content> {
    let authors = if matches!(content, Content::Of(_) | Content::OldOf(_)) { 4 } else { 1 };
    ALL.into_iter().take(authors).map(move |author| content.with_author(|_| author))
}

/// An open file without a name.
#[derive(Debug, Clone, Copy)]
struct Orphan {
    content: Content,
    lock: Option<Who>,
}

/// Every possible orphan, if one is open.
fn orphans(scenario: &Scenario, open: OpenIs) -> Vec<Orphan> {
    if open != OpenIs::Orphan {
        return vec![Orphan { content: Content::Empty, lock: None }];
    }
    let mut contents = vec![Content::Empty, Content::Unreadable];
    contents.extend([ME, SIBLING, STRANGER].map(Content::Of));
    contents.extend(scenario.looks.iter().map(|&look| Content::Dead(look)));
    contents.extend(scenario.starts.iter().filter_map(|start| match start {
        Start::Absent => None,
        Start::File(content) => Some(*content),
    }));
    contents.sort();
    contents.dedup();
    let locks: &[_] =
        if scenario.kernel_locks { &[None, Some(ME), Some(STRANGER)] } else { &[None] };
    pairs(&contents, locks).map(|(&content, &lock)| Orphan { content, lock }).collect()
}

/// A choice of what views omit.
#[derive(Debug, Clone, Copy)]
struct Forgotten {
    /// The content of the named file.
    content: Content,
    /// What I read last.
    seen: Content,
    creator: Option<Who>,
    lock: Option<Who>,
    sharing: Sharing,
    /// A stranger has the named file open.
    kept: bool,
    orphan: Orphan,
}

impl Forgotten {
    /// The state of the `seated` participants. The last one acts.
    fn build(self, scenario: &Scenario, seated: &[(Who, LocalView)]) -> State {
        let mut state = empty(scenario, seated);
        state.participant_mut(ME).seen = self.seen;
        for &(who, view) in seated.iter().filter(|(_, view)| view.open == OpenIs::Orphan) {
            self.open_orphan(&mut state, who, view.with_parent);
        }
        self.place_named(&mut state, seated);
        let acts = seated.last().and_then(|&(who, _)| state.participant(who).open);
        if let Some(opened) = acts.and_then(|open| state.opened[usize::from(open)].as_mut()) {
            opened.shared_by |= u8::from(self.sharing.more) << SIBLING;
        }
        state
    }

    fn open_orphan(self, state: &mut State, who: Who, with_parent: bool) {
        let inode = state.place(self.orphan.content, Creator::Start);
        state.path = None;
        self.open(state, who, inode, with_parent);
        let lock = match self.orphan.lock {
            None => None,
            Some(STRANGER) => Some(open_for_a_stranger(state, inode)),
            Some(_) => state.participant(who).open,
        };
        state.file_mut(inode).expect("just placed").lock = lock;
    }

    fn place_named(self, state: &mut State, seated: &[(Who, LocalView)]) {
        let Some(named) = seated[0].1.named else { return };
        let creator = self.creator.map_or(Creator::Start, Creator::Alive);
        let inode = state.place(self.content, creator);
        for &(who, view) in seated.iter().filter(|(_, view)| view.open == OpenIs::Named) {
            self.open(state, who, inode, view.with_parent);
        }
        let lock = match self.lock {
            None => None,
            Some(STRANGER) => Some(open_for_a_stranger(state, inode)),
            Some(SIBLING) => {
                // Its own open file, so that the death of its process frees the lock.
                state.open(SIBLING, inode);
                state.participant(SIBLING).open
            }
            Some(who) => state.participant(who).open,
        };
        if self.kept {
            open_for_a_stranger(state, inode);
        }
        let file = state.file_mut(inode).expect("just placed");
        (file.lock, file.pending) = (lock, named.pending);
    }

    fn open(self, state: &mut State, who: Who, inode: Inode, with_parent: bool) {
        if who == ACTOR && self.sharing.together {
            state.participant_mut(ACTOR).open = state.participant(ME).open;
        } else {
            state.open(who, inode);
        }
        let is_parent = |one| state.participant(one).kind == Kind::Parent;
        let has_parent = self.sharing.together && (is_parent(ME) || is_parent(ACTOR));
        let open = state.participant(who).open.expect("just opened");
        let opened = state.opened[usize::from(open)].as_mut().expect("just opened");
        opened.shared_by |= 1 << who;
        if with_parent && !has_parent {
            opened.shared_by |= 1 << STRANGER;
        }
    }
}

/// Opens a file for one more stranger.
fn open_for_a_stranger(state: &mut State, inode: Inode) -> OpenFile {
    state.open(STRANGER, inode);
    state.participant_mut(STRANGER).open.take().expect("just opened")
}

/// A state without files. Each event of the scenario may happen once more.
fn empty(scenario: &Scenario, seated: &[(Who, LocalView)]) -> State {
    let ghost = Participant {
        kind: Kind::Process,
        activity: Activity::Absent,
        open: None,
        // A view omits events: there may be one at any time, even without a cause.
        listens: Listens::Event,
        seen: Content::Empty,
        witnessed: 0,
        in_window: false,
        suspended: false,
        out_of_reach: false,
    };
    let mut participants = [ghost; PARTICIPANTS];
    // No state has both threads and forks. With forks, the ghosts are another child and a parent.
    let forks = seated.iter().any(|(_, view)| forks(view.kind));
    participants[usize::from(SIBLING)].kind = if forks { Kind::Child } else { Kind::Thread };
    participants[usize::from(STRANGER)].kind = if forks { Kind::Parent } else { Kind::Process };
    for &(who, view) in seated {
        let LocalView { kind, activity, seen, in_window, out_of_reach, .. } = view;
        participants[usize::from(who)] =
            Participant { kind, activity, seen, in_window, out_of_reach, ..ghost };
    }
    State {
        path: None,
        files: [None; FILES],
        opened: [None; FILES],
        participants,
        count: ALL.len() as u8,
        guard: None,
        aside: [None; PARTICIPANTS],
        crashes_left: scenario.crashes.min(1),
        faults_left: scenario.faults.min(1),
        removals_left: scenario.removals.min(1),
        // A participant that stops forever has the view of a slow one.
        suspensions_left: 0,
        chroots_left: scenario.chroots.min(1),
        removal_failed: false,
        robbed: false,
    }
}
