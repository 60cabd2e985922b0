//! A run as a sequence diagram: a column for each participant, time downwards, a lane for the file
//! that the path names and one for the kernel locks, the holders, and the broken property.

mod sheet;

use crate::render::report::{describe, name, sharers};
use crate::render::svg::Svg;
use crate::scenario::machines::Reply;
use crate::scenario::schedule::{Made, Run};
use crate::scenario::state::{Activity, Content, FILES, Inode, Move, PARTICIPANTS, State, Who};
use sheet::Sheet;

/// The heading of a diagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    pub title: String,
    /// Lines below the title.
    pub caption: Vec<String>,
}

/// Draws a run of a scenario with this many participants.
pub fn draw(participants: usize, run: &Run, heading: &Heading) -> String {
    let rows = rows(participants, run);
    let sheet = Sheet::measure(participants, &rows, run, heading);
    let mut svg = Svg::default();
    sheet.draw(&mut svg, &rows, run, heading);
    svg.finish(sheet.width, sheet.height, &heading.title, &described(&rows, run))
}

/// The report's mark of a call after which its participant holds.
const HOLDS: &str = "HOLDS";

/// The condition of a participant between two moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Being {
    /// Absent, or at rest.
    Idle,
    /// Within a call.
    Busy,
    Holds,
    /// It stopped forever, and lives.
    Stopped,
}

/// Files are numbered in the order of their creation. Unlike an inode number, it is not reused.
type FileNumber = usize;

/// A kernel lock: its file, and its owners.
type Locked = (FileNumber, String);

/// One move, and the state after it. The first row is the beginning, without a move.
struct Row {
    /// The number of a call.
    number: Option<usize>,
    actor: Option<Who>,
    words: String,
    /// Details that the words omit.
    note: String,
    /// It removed the file of another, or took the lock of a holder.
    robs: bool,
    /// It holds from here on.
    takes: bool,
    being: Vec<Being>,
    path: Option<(FileNumber, String)>,
    locks: Vec<Locked>,
}

impl Row {
    fn holders(&self) -> impl Iterator<Item = Who> + '_ {
        let holds = |who: &Who| self.being[usize::from(*who)] == Being::Holds;
        (0..self.being.len() as Who).filter(holds)
    }
}

fn rows(participants: usize, run: &Run) -> Vec<Row> {
    let mut files = Numbers::default();
    let first = run.made.first().map_or((&run.end, &run.names), |made| (&made.before, &made.names));
    files.see(first.0);
    let mut rows = vec![row_of(participants, first.0, first.1, &files)];
    let mut number = 0;
    for (at, made) in run.made.iter().enumerate() {
        let after = &made.outcome.state;
        let mut row = {
            let mut later = files.clone();
            later.see(after);
            row_of(participants, after, &made.names, &later)
        };
        number += usize::from(matches!(made.one, Move::Call(..)));
        row.number = matches!(made.one, Move::Call(..)).then_some(number);
        let (actor, words) = describe(made);
        row.takes = words.ends_with(HOLDS);
        row.words = words.trim_end_matches(HOLDS).trim_end().to_owned();
        row.actor = actor;
        (row.note, row.robs) = note(made, &files);
        let before: Vec<Who> = rows.last().map_or(Vec::new(), |row| row.holders().collect());
        if !before.is_empty() && row.holders().count() > before.len() {
            let others: String = before.into_iter().map(name).collect();
            (row.note, row.robs) = (format!("while {others} holds"), true);
        }
        rows.push(row);
        files.see(after);
        if let Some(next) = run.made.get(at + 1) {
            files.follow((after, &made.names), (&next.before, &next.names));
        }
    }
    rows
}

/// The row of a state, without a move.
fn row_of(participants: usize, state: &State, names: &[Who], files: &Numbers) -> Row {
    let place =
        |who: Who| names.iter().position(|&other| other == who).unwrap_or(who.into()) as Who;
    let being = |who| {
        let place = place(who);
        let participant = state.participant(place);
        match participant.activity {
            _ if participant.suspended => Being::Stopped,
            _ if state.believes(place) => Being::Holds,
            Activity::Idle | Activity::Absent => Being::Idle,
            _ => Being::Busy,
        }
    };
    let path = state.path.and_then(|inode| {
        let content = state.file(inode)?.content;
        Some((files.of(inode), content_words(content, names)))
    });
    let lock = |inode: usize| {
        let open = state.files[inode]?.lock?;
        Some((files.of(inode as Inode), sharers(state, names, open)))
    };
    Row {
        number: None,
        actor: None,
        words: String::new(),
        note: String::new(),
        robs: false,
        takes: false,
        being: (0..participants as Who).map(being).collect(),
        path,
        locks: (0..FILES).filter_map(lock).collect(),
    }
}

fn content_words(content: Content, names: &[Who]) -> String {
    let named = |who: Who| name(names[usize::from(who)]);
    match content {
        Content::Empty => "empty".into(),
        Content::Unreadable => "unreadable".into(),
        Content::Foreign => "other data".into(),
        Content::Of(who) => format!("record of {}", named(who)),
        Content::OldOf(who) => format!("old record of {}", named(who)),
        Content::OldAlive => "old record, alive".into(),
        Content::Dead(_) => "record of a dead process".into(),
        Content::OldDead(_) => "old record, dead".into(),
    }
}

/// Details that the words of a move omit, and whether it removed the file of a live process.
fn note(made: &Made, files: &Numbers) -> (String, bool) {
    if let (Some(removal), Some(inode)) = (made.outcome.removal, made.before.path) {
        let file = format!("file {}", files.of(inode));
        let Some(removed) = made.before.file(inode) else { return (String::new(), false) };
        let of = match removed.content {
            Content::Of(who) | Content::OldOf(who) if who != removal.by => Some(who),
            _ => None,
        };
        return match of {
            Some(who) => {
                let whose = name(made.names[usize::from(who)]);
                let holds = if made.before.believes(who) {
                    format!(" while {whose} holds")
                } else {
                    String::new()
                };
                (format!("removes {whose}'s {file}{holds}"), true)
            }
            None if removal.creator_lives => (format!("removes another's {file}"), true),
            None => match made.before.open_inode(removal.by) {
                Some(open) if open != inode => {
                    (format!("removes {file}, and has file {} open", files.of(open)), true)
                }
                _ => (format!("removes {file}"), false),
            },
        };
    }
    // These protocols read and probe in one step, whose words contain no result.
    let judged = made.outcome.reply == Reply::Other("read, kill(pid, 0)");
    let found = match (judged, made.one) {
        (true, Move::Call(who, _)) => match made.before.named().map(|file| file.content) {
            None => "no file: taken for stale",
            Some(Content::Empty | Content::Unreadable | Content::Foreign) => {
                "no record: taken for stale"
            }
            Some(Content::Dead(_) | Content::OldDead(_)) => "no such process: stale",
            Some(Content::Of(other) | Content::OldOf(other)) if other == who => {
                "our own pid: taken for stale"
            }
            Some(Content::Of(_) | Content::OldOf(_) | Content::OldAlive) => "alive: refused",
        },
        _ => "",
    };
    (found.to_owned(), false)
}

/// The number of each file, by its inode, whose own number changes from state to state.
#[derive(Clone, Default)]
struct Numbers {
    by_inode: [Option<FileNumber>; FILES],
    given: FileNumber,
}

impl Numbers {
    fn of(&self, inode: Inode) -> FileNumber {
        self.by_inode[usize::from(inode)].unwrap_or_default()
    }

    /// Drops the files that no longer exist, and numbers the new ones.
    fn see(&mut self, state: &State) {
        for (inode, file) in state.files.iter().enumerate() {
            if file.is_none() {
                self.by_inode[inode] = None;
            } else if self.by_inode[inode].is_none() {
                self.given += 1;
                self.by_inode[inode] = Some(self.given);
            }
        }
    }

    /// The same files in another numbering of inodes and participants.
    fn follow(&mut self, old: (&State, &[Who]), new: (&State, &[Who; PARTICIPANTS])) {
        let mut by_inode = [None; FILES];
        let mut same = |before: Option<Inode>, after: Option<Inode>| {
            if let (Some(before), Some(after)) = (before, after) {
                by_inode[usize::from(after)] = self.by_inode[usize::from(before)];
            }
        };
        same(old.0.path, new.0.path);
        for (before, who) in old.1.iter().enumerate() {
            let Some(after) = new.1.iter().position(|other| other == who) else { continue };
            same(old.0.open_inode(before as Who), new.0.open_inode(after as Who));
            same(old.0.aside[before], new.0.aside[after]);
        }
        self.by_inode = by_inode;
    }
}

/// The picture in words, for screen readers.
fn described(rows: &[Row], run: &Run) -> String {
    let mut text = String::new();
    for row in rows.iter().filter(|row| !row.words.is_empty()) {
        let actor = row.actor.map(|who| format!("{}: ", name(who))).unwrap_or_default();
        let note = if row.note.is_empty() { String::new() } else { format!(" ({})", row.note) };
        text += &format!("{actor}{}{note}. ", row.words);
    }
    let end = match run.broken {
        Some(property) => format!("Broken: {}.", property.sentence()),
        None => "No property is broken.".to_owned(),
    };
    text + &end
}
