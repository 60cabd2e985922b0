//! Model filesystems with one semantic slip each. The lock-step of `conformance.rs` ends at the
//! first difference, so a slip need not go on after that: it changes what one move leads to.

use portlock::protocol::{Confirm, Create, Done, LockReply, OpenReply, ReadReply, Unlink};

use crate::scenario::machines::Reply;
use crate::scenario::moves::Outcome;
use crate::scenario::world::{Content, Inode, Kind, Listens, Move, Who, World};

/// A slip.
pub struct Slip {
    pub name: &'static str,
    /// A world in which it makes a difference.
    pub world: &'static str,
    /// Whether the calls in random order notice it too: all but those of the rarer worlds.
    pub in_random_calls: bool,
    /// How the difference is put, in part.
    pub noticed: &'static str,
    /// Changes what a move led to into what it would lead to with the slip.
    pub spoil: fn(&World, Move, &mut Outcome),
}

/// For random calls alone: in canonical worlds, who has an event stands before who has none, so that
/// the tour of the transitions would take the two for one another.
pub const EVENT_FOR_NOTHING: Slip = Slip {
    name: "event-for-nothing",
    world: "listening",
    in_random_calls: true,
    noticed: "the system tells of no event",
    spoil: |_, one, outcome| {
        if let (Reply::Arm, Some(who)) = (outcome.reply, caller(one)) {
            outcome.world.participant_mut(who).listens = Listens::Event;
        }
    },
};

/// Every slip.
pub const SLIPS: &[Slip] = &[
    Slip {
        name: "create-does-not-exclude",
        world: "base",
        in_random_calls: true,
        noticed: "the reply is Create(Exists), and Create(Created)",
        spoil: |_, _, outcome| {
            replies(outcome, Reply::Create(Create::Exists), Reply::Create(Create::Created))
        },
    },
    Slip {
        name: "create-opens-without-making",
        world: "base",
        in_random_calls: true,
        noticed: "the path names a file, and nothing in the model",
        spoil: |_, _, outcome| {
            if outcome.reply == Reply::Create(Create::Created) {
                outcome.world.path = None;
            }
        },
    },
    Slip {
        name: "open-finds-what-was-removed",
        world: "base",
        in_random_calls: true,
        noticed: "the reply is Open(Absent), and Open(Opened)",
        spoil: |_, _, outcome| {
            replies(outcome, Reply::Open(OpenReply::Absent), Reply::Open(OpenReply::Opened))
        },
    },
    Slip {
        name: "lock-does-not-exclude",
        world: "base",
        in_random_calls: true,
        noticed: "the reply is Lock(Busy), and Lock(Ours)",
        spoil: |_, _, outcome| {
            replies(outcome, Reply::Lock(LockReply::Busy), Reply::Lock(LockReply::Ours))
        },
    },
    Slip {
        name: "lock-is-the-process's",
        world: "threads",
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
        world: "outside-rm",
        in_random_calls: true,
        noticed: "has the kernel lock of file",
        spoil: |before, one, outcome| {
            let orphan = caller(one)
                .and_then(|who| before.open_inode(who))
                .filter(|_| before.path.is_some());
            if let Some(orphan) = orphan.filter(|_| outcome.reply == Reply::Lock(LockReply::Ours)) {
                if before.path != Some(orphan) {
                    hand_lock(&mut outcome.world, orphan, before.path);
                }
            }
        },
    },
    Slip {
        name: "lock-of-an-orphan-is-refused",
        world: "outside-rm",
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
        world: "base",
        in_random_calls: true,
        noticed: "the reply is Confirm(Changed), and Confirm(Same)",
        spoil: |_, _, outcome| {
            replies(outcome, Reply::Confirm(Confirm::Changed), Reply::Confirm(Confirm::Same));
        },
    },
    Slip {
        name: "confirm-asks-only-whether-a-file-stands-there",
        world: "base",
        in_random_calls: true,
        noticed: "the reply is Confirm(Changed), and Confirm(Same)",
        spoil: |before, _, outcome| {
            if before.path.is_some() {
                replies(outcome, Reply::Confirm(Confirm::Changed), Reply::Confirm(Confirm::Same));
            }
        },
    },
    Slip {
        name: "read-reads-what-the-path-names",
        world: "base",
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
        world: "base",
        in_random_calls: true,
        noticed: "the content of file",
        spoil: |before, one, outcome| {
            if outcome.reply == Reply::Write(Done::Done) {
                fill(
                    &mut outcome.world,
                    caller(one).and_then(|who| before.open_inode(who)),
                    Content::Unreadable,
                );
            }
        },
    },
    Slip {
        name: "write-goes-to-what-the-path-names",
        world: "base",
        in_random_calls: true,
        noticed: "the content of file",
        spoil: |before, one, outcome| {
            let written = caller(one).and_then(|who| before.open_inode(who));
            if outcome.reply == Reply::Write(Done::Done) && before.path != written {
                fill(&mut outcome.world, written, Content::Empty);
            }
        },
    },
    Slip {
        name: "void-voids-nothing",
        world: "faults",
        in_random_calls: true,
        noticed: "the content of file",
        spoil: |before, one, outcome| {
            let voided = caller(one).and_then(|who| before.open_inode(who));
            if let Some(file) = voided.and_then(|inode| before.file(inode)) {
                if outcome.reply == Reply::Void(Done::Done) {
                    fill(&mut outcome.world, voided, file.content);
                }
            }
        },
    },
    Slip {
        name: "unlink-drops-the-lock",
        world: "base",
        in_random_calls: true,
        noticed: "somebody has the kernel lock of file",
        spoil: |before, _, outcome| {
            if outcome.reply == Reply::Unlink(Unlink::Unlinked) {
                free(&mut outcome.world, before.path);
            }
        },
    },
    Slip {
        name: "unlink-waits-for-the-last-close",
        world: "base",
        in_random_calls: true,
        noticed: "the path names nothing, and a file in the model",
        spoil: |before, _, outcome| {
            if outcome.reply == Reply::Unlink(Unlink::Unlinked) {
                outcome.world.path = before.path;
            }
        },
    },
    Slip {
        name: "unlink-removes-nothing-of-others",
        world: "outside-rm",
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
        world: "base",
        in_random_calls: true,
        noticed: "the content of file",
        spoil: |before, _, outcome| {
            if outcome.reply == Reply::Unlink(Unlink::Unlinked) {
                fill(&mut outcome.world, before.path, Content::Empty);
            }
        },
    },
    Slip {
        name: "removal-from-outside-frees-the-lock",
        world: "outside-rm",
        in_random_calls: true,
        noticed: "somebody has the kernel lock of file",
        spoil: |before, one, outcome| {
            if one == Move::Remove {
                free(&mut outcome.world, before.path);
            }
        },
    },
    Slip {
        name: "close-keeps-the-lock",
        world: "base",
        in_random_calls: true,
        noticed: "nobody has the kernel lock of file",
        spoil: |before, one, outcome| {
            if outcome.reply == Reply::Close {
                keep_lock(before, caller(one), &mut outcome.world);
            }
        },
    },
    Slip {
        name: "close-leaves-the-lock-to-who-shares-it",
        world: "fork",
        in_random_calls: true,
        noticed: "nobody has the kernel lock of file",
        spoil: |before, one, outcome| {
            let shared = caller(one).and_then(|who| before.participant(who).open).filter(|&open| {
                before.opened[usize::from(open)]
                    .is_some_and(|opened| opened.shared_by.count_ones() > 1)
            });
            if shared.is_some() && outcome.reply == Reply::Close {
                keep_lock(before, caller(one), &mut outcome.world);
            }
        },
    },
    Slip {
        name: "leave-drops-the-lock",
        world: "fork",
        in_random_calls: true,
        noticed: "somebody has the kernel lock of file",
        spoil: |before, one, outcome| {
            if outcome.reply == Reply::Leave {
                free(&mut outcome.world, caller(one).and_then(|who| before.open_inode(who)));
            }
        },
    },
    Slip {
        name: "death-keeps-the-lock",
        world: "base",
        in_random_calls: true,
        noticed: "nobody has the kernel lock of file",
        spoil: |before, one, outcome| {
            if let Move::Crash(who, _) = one {
                keep_lock(before, Some(who), &mut outcome.world);
            }
        },
    },
    Slip {
        name: "death-frees-the-lock-that-a-child-shares",
        world: "fork",
        in_random_calls: true,
        noticed: "somebody has the kernel lock of file",
        spoil: |before, one, outcome| {
            if let Move::Crash(who, _) = one {
                if before.participant(who).kind == Kind::Parent {
                    free(&mut outcome.world, before.open_inode(who));
                }
            }
        },
    },
    Slip {
        name: "death-removes-the-file",
        world: "base",
        in_random_calls: true,
        noticed: "the path names a file, and nothing in the model",
        spoil: |before, one, outcome| {
            if let Move::Crash(who, _) = one {
                if before.open_inode(who) == before.path {
                    outcome.world.path = None;
                }
            }
        },
    },
    Slip {
        name: "watch-takes-the-lock",
        world: "queries",
        in_random_calls: true,
        noticed: "nobody has the kernel lock of file",
        spoil: |before, one, outcome| {
            if let (Reply::Watch(_), Some(who)) = (outcome.reply, caller(one)) {
                let open = before.participant(who).open;
                let file = before.open_inode(who).and_then(|inode| outcome.world.file_mut(inode));
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

/// Who has the kernel lock of a file.
fn owner_of(world: &World, inode: Inode) -> Option<Who> {
    let lock = world.file(inode)?.lock?;
    world.everyone().find(|&who| world.participant(who).open == Some(lock))
}

fn free(world: &mut World, inode: Option<Inode>) {
    if let Some(file) = inode.and_then(|inode| world.file_mut(inode)) {
        file.lock = None;
    }
}

fn fill(world: &mut World, inode: Option<Inode>, content: Content) {
    if let Some(file) = inode.and_then(|inode| world.file_mut(inode)) {
        file.content = content;
    }
}

/// What was locked is not, and another file is.
fn hand_lock(world: &mut World, from: Inode, to: Option<Inode>) {
    let lock = world.file_mut(from).and_then(|file| file.lock.take());
    if let Some(file) = to.and_then(|inode| world.file_mut(inode)) {
        file.lock = lock;
    }
}

/// The kernel lock that `who` had before is still taken.
fn keep_lock(before: &World, who: Option<Who>, after: &mut World) {
    let Some((who, inode)) = who.and_then(|who| Some((who, before.open_inode(who)?))) else {
        return;
    };
    if before.has_lock(who) {
        if let Some(file) = after.file_mut(inode) {
            file.lock = before.participant(who).open;
        }
    }
}
