//! Semantic mutations: model filesystems with one mistake each. A slip only changes the outcome of
//! one move, because the comparison ends at the first difference.

use portlock::protocol::{Confirm, Create, Done, LockReply, OpenReply, ReadReply, Unlink};

use crate::scenario::machines::Reply;
use crate::scenario::moves::Outcome;
use crate::scenario::state::{Content, Inode, Kind, Listens, Move, State, Who};

/// A semantic mutation of the model filesystem.
pub struct Slip {
    pub name: &'static str,
    /// A scenario that shows it.
    pub scenario: &'static str,
    /// Whether random calls show it too.
    pub in_random_calls: bool,
    /// A part of the reported difference.
    pub noticed: &'static str,
    /// Changes the outcome of a move to that of the mutated filesystem.
    pub spoil: fn(&State, Move, &mut Outcome),
}

/// For random calls only: canonical states sort participants by their events, so the tour of the
/// transitions would confuse the two.
pub const EVENT_FOR_NOTHING: Slip = Slip {
    name: "event-for-nothing",
    scenario: "listening",
    in_random_calls: true,
    noticed: "the system reports no event",
    spoil: |_, one, outcome| {
        if let (Reply::Arm, Some(who)) = (outcome.reply, caller(one)) {
            outcome.state.participant_mut(who).listens = Listens::Event;
        }
    },
};

pub const SLIPS: &[Slip] = &[
    Slip {
        name: "create-does-not-exclude",
        scenario: "base",
        in_random_calls: true,
        noticed: "the reply is Create(Exists), and Create(Created)",
        spoil: |_, _, outcome| {
            replies(outcome, Reply::Create(Create::Exists), Reply::Create(Create::Created))
        },
    },
    Slip {
        name: "create-opens-without-making",
        scenario: "base",
        in_random_calls: true,
        noticed: "the path names a file, and none in the model",
        spoil: |_, _, outcome| {
            if outcome.reply == Reply::Create(Create::Created) {
                outcome.state.path = None;
            }
        },
    },
    Slip {
        name: "open-finds-a-removed-file",
        scenario: "base",
        in_random_calls: true,
        noticed: "the reply is Open(Absent), and Open(Opened)",
        spoil: |_, _, outcome| {
            replies(outcome, Reply::Open(OpenReply::Absent), Reply::Open(OpenReply::Opened))
        },
    },
    Slip {
        name: "lock-does-not-exclude",
        scenario: "base",
        in_random_calls: true,
        noticed: "the reply is Lock(Busy), and Lock(Ours)",
        spoil: |_, _, outcome| {
            replies(outcome, Reply::Lock(LockReply::Busy), Reply::Lock(LockReply::Ours))
        },
    },
    Slip {
        name: "lock-is-the-process's",
        scenario: "threads",
        in_random_calls: false,
        noticed: "the reply is Lock(Busy), and Lock(Ours)",
        spoil: |before, one, outcome| {
            let owner =
                caller(one).and_then(|who| Some((who, owner_of(before, before.open_inode(who)?)?)));
            if owner.is_some_and(|(who, owner)| before.same_process(who, owner)) {
                replies(outcome, Reply::Lock(LockReply::Busy), Reply::Lock(LockReply::Ours));
            }
        },
    },
    Slip {
        name: "lock-is-the-name's",
        scenario: "external-unlink",
        in_random_calls: true,
        noticed: "holds the kernel lock on file",
        spoil: |before, one, outcome| {
            let orphan = caller(one)
                .and_then(|who| before.open_inode(who))
                .filter(|_| before.path.is_some());
            if let Some(orphan) = orphan.filter(|_| outcome.reply == Reply::Lock(LockReply::Ours)) {
                if before.path != Some(orphan) {
                    hand_lock(&mut outcome.state, orphan, before.path);
                }
            }
        },
    },
    Slip {
        name: "lock-of-an-orphan-is-refused",
        scenario: "external-unlink",
        in_random_calls: true,
        noticed: "the reply is Lock(Ours), and Lock(Busy)",
        spoil: |before, one, outcome| {
            if caller(one).is_some_and(|who| before.open_inode(who) != before.path) {
                replies(outcome, Reply::Lock(LockReply::Ours), Reply::Lock(LockReply::Busy));
            }
        },
    },
    Slip {
        name: "confirm-compares-with-itself",
        scenario: "base",
        in_random_calls: true,
        noticed: "the reply is Confirm(Changed), and Confirm(Same)",
        spoil: |_, _, outcome| {
            replies(outcome, Reply::Confirm(Confirm::Changed), Reply::Confirm(Confirm::Same));
        },
    },
    Slip {
        name: "confirm-checks-only-that-a-file-exists",
        scenario: "base",
        in_random_calls: true,
        noticed: "the reply is Confirm(Changed), and Confirm(Same)",
        spoil: |before, _, outcome| {
            if before.path.is_some() {
                replies(outcome, Reply::Confirm(Confirm::Changed), Reply::Confirm(Confirm::Same));
            }
        },
    },
    Slip {
        name: "read-reads-the-named-file",
        scenario: "base",
        in_random_calls: true,
        noticed: "the reply is Read(",
        spoil: |before, _, outcome| {
            let Some(file) = before.named() else { return };
            if let Reply::Read(
                reply @ (ReadReply::Record | ReadReply::Empty | ReadReply::Unreadable),
            ) = &mut outcome.reply
            {
                *reply = match file.content {
                    Content::Empty => ReadReply::Empty,
                    Content::Unreadable => ReadReply::Unreadable,
                    _ => ReadReply::Record,
                };
            }
        },
    },
    Slip {
        name: "write-is-a-part",
        scenario: "base",
        in_random_calls: true,
        noticed: "the content of file",
        spoil: |before, one, outcome| {
            if outcome.reply == Reply::Write(Done::Done) {
                fill(
                    &mut outcome.state,
                    caller(one).and_then(|who| before.open_inode(who)),
                    Content::Unreadable,
                );
            }
        },
    },
    Slip {
        name: "write-changes-the-named-file",
        scenario: "base",
        in_random_calls: true,
        noticed: "the content of file",
        spoil: |before, one, outcome| {
            let written = caller(one).and_then(|who| before.open_inode(who));
            if outcome.reply == Reply::Write(Done::Done) && before.path != written {
                fill(&mut outcome.state, written, Content::Empty);
            }
        },
    },
    Slip {
        name: "truncate-has-no-effect",
        scenario: "faults",
        in_random_calls: true,
        noticed: "the content of file",
        spoil: |before, one, outcome| {
            let voided = caller(one).and_then(|who| before.open_inode(who));
            if let Some(file) = voided.and_then(|inode| before.file(inode)) {
                if outcome.reply == Reply::Void(Done::Done) {
                    fill(&mut outcome.state, voided, file.content);
                }
            }
        },
    },
    Slip {
        name: "unlink-drops-the-lock",
        scenario: "base",
        in_random_calls: true,
        noticed: "a process holds the kernel lock on file",
        spoil: |before, _, outcome| {
            if outcome.reply == Reply::Unlink(Unlink::Unlinked) {
                free(&mut outcome.state, before.path);
            }
        },
    },
    Slip {
        name: "unlink-waits-for-the-last-close",
        scenario: "base",
        in_random_calls: true,
        noticed: "the path names no file, and one in the model",
        spoil: |before, _, outcome| {
            if outcome.reply == Reply::Unlink(Unlink::Unlinked) {
                outcome.state.path = before.path;
            }
        },
    },
    Slip {
        name: "unlink-spares-files-of-others",
        scenario: "external-unlink",
        in_random_calls: true,
        noticed: "the reply is Unlink(Unlinked), and Unlink(Absent)",
        spoil: |before, one, outcome| {
            if caller(one).is_some_and(|who| before.open_inode(who) != before.path) {
                replies(outcome, Reply::Unlink(Unlink::Unlinked), Reply::Unlink(Unlink::Absent));
            }
        },
    },
    Slip {
        name: "unlink-empties-the-file",
        scenario: "base",
        in_random_calls: true,
        noticed: "the content of file",
        spoil: |before, _, outcome| {
            if outcome.reply == Reply::Unlink(Unlink::Unlinked) {
                fill(&mut outcome.state, before.path, Content::Empty);
            }
        },
    },
    Slip {
        name: "removal-from-outside-frees-the-lock",
        scenario: "external-unlink",
        in_random_calls: true,
        noticed: "a process holds the kernel lock on file",
        spoil: |before, one, outcome| {
            if one == Move::Remove {
                free(&mut outcome.state, before.path);
            }
        },
    },
    Slip {
        name: "close-keeps-the-lock",
        scenario: "base",
        in_random_calls: true,
        noticed: "no process holds the kernel lock on file",
        spoil: |before, one, outcome| {
            if outcome.reply == Reply::Close {
                keep_lock(before, caller(one), &mut outcome.state);
            }
        },
    },
    Slip {
        name: "close-leaves-the-lock-to-a-sharer",
        scenario: "fork",
        in_random_calls: true,
        noticed: "no process holds the kernel lock on file",
        spoil: |before, one, outcome| {
            let shared = caller(one).and_then(|who| before.participant(who).open).filter(|&open| {
                before.opened[usize::from(open)]
                    .is_some_and(|opened| opened.shared_by.count_ones() > 1)
            });
            if shared.is_some() && outcome.reply == Reply::Close {
                keep_lock(before, caller(one), &mut outcome.state);
            }
        },
    },
    Slip {
        name: "leave-drops-the-lock",
        scenario: "fork",
        in_random_calls: true,
        noticed: "a process holds the kernel lock on file",
        spoil: |before, one, outcome| {
            if outcome.reply == Reply::Leave {
                free(&mut outcome.state, caller(one).and_then(|who| before.open_inode(who)));
            }
        },
    },
    Slip {
        name: "death-keeps-the-lock",
        scenario: "base",
        in_random_calls: true,
        noticed: "no process holds the kernel lock on file",
        spoil: |before, one, outcome| {
            if let Move::Crash(who, _) = one {
                keep_lock(before, Some(who), &mut outcome.state);
            }
        },
    },
    Slip {
        name: "death-frees-the-lock-that-a-child-shares",
        scenario: "fork",
        in_random_calls: true,
        noticed: "a process holds the kernel lock on file",
        spoil: |before, one, outcome| {
            if let Move::Crash(who, _) = one {
                if before.participant(who).kind == Kind::Parent {
                    free(&mut outcome.state, before.open_inode(who));
                }
            }
        },
    },
    Slip {
        name: "death-removes-the-file",
        scenario: "base",
        in_random_calls: true,
        noticed: "the path names a file, and none in the model",
        spoil: |before, one, outcome| {
            if let Move::Crash(who, _) = one {
                if before.open_inode(who) == before.path {
                    outcome.state.path = None;
                }
            }
        },
    },
    Slip {
        name: "watch-takes-the-lock",
        scenario: "queries",
        in_random_calls: true,
        noticed: "no process holds the kernel lock on file",
        spoil: |before, one, outcome| {
            if let (Reply::Watch(_), Some(who)) = (outcome.reply, caller(one)) {
                let open = before.participant(who).open;
                let file = before.open_inode(who).and_then(|inode| outcome.state.file_mut(inode));
                if let Some(file) = file {
                    file.lock = file.lock.or(open);
                }
            }
        },
    },
];

fn caller(one: Move) -> Option<Who> {
    match one {
        Move::Call(who, _) => Some(who),
        _ => None,
    }
}

fn replies(outcome: &mut Outcome, right: Reply, wrong: Reply) {
    if outcome.reply == right {
        outcome.reply = wrong;
    }
}

/// The owner of the kernel lock on a file.
fn owner_of(state: &State, inode: Inode) -> Option<Who> {
    let lock = state.file(inode)?.lock?;
    state.everyone().find(|&who| state.participant(who).open == Some(lock))
}

fn free(state: &mut State, inode: Option<Inode>) {
    if let Some(file) = inode.and_then(|inode| state.file_mut(inode)) {
        file.lock = None;
    }
}

fn fill(state: &mut State, inode: Option<Inode>, content: Content) {
    if let Some(file) = inode.and_then(|inode| state.file_mut(inode)) {
        file.content = content;
    }
}

/// Moves the lock from one file to another.
fn hand_lock(state: &mut State, from: Inode, to: Option<Inode>) {
    let lock = state.file_mut(from).and_then(|file| file.lock.take());
    if let Some(file) = to.and_then(|inode| state.file_mut(inode)) {
        file.lock = lock;
    }
}

/// Keeps the kernel lock that `who` had before.
fn keep_lock(before: &State, who: Option<Who>, after: &mut State) {
    let Some((who, inode)) = who.and_then(|who| Some((who, before.open_inode(who)?))) else {
        return;
    };
    if before.has_lock(who) {
        if let Some(file) = after.file_mut(inode) {
            file.lock = before.participant(who).open;
        }
    }
}
