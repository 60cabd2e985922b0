//! A run as a sequence diagram: a column for each participant, time downwards, a lane for what the
//! path names and one for the kernel locks; who holds, and for how long; and the broken property.

mod sheet;

use crate::render::report::{describe, name, sharers};
use crate::render::svg::Svg;
use crate::scenario::machines::Reply;
use crate::scenario::schedule::{Made, Run};
use crate::scenario::state::{Activity, Content, FILES, Inode, Move, PARTICIPANTS, State, Who};
use sheet::Sheet;

/// What is above a diagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    pub title: String,
    /// Lines below the title.
    pub told: Vec<String>,
}

/// Draws a run of a scenario with so many participants.
pub fn draw(participants: usize, run: &Run, story: &Story) -> String {
    let rows = rows(participants, run);
    let sheet = Sheet::measure(participants, &rows, run, story);
    let mut svg = Svg::default();
    sheet.draw(&mut svg, &rows, run, story);
    svg.finish(sheet.width, sheet.height, &story.title, &described(&rows, run))
}

/// What the report says of a call after which its participant holds.
const HOLDS: &str = "HOLDS";

/// How a participant is, between two moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Being {
    /// Not there, or at rest.
    Idle,
    /// Within a call.
    Busy,
    Holds,
    /// It stopped forever, and lives.
    Stopped,
}

/// Files are numbered in the order in which they come to be; a number is never given twice, other
/// than an inode's.
type FileNumber = usize;

/// A kernel lock: of which file, who has it.
type Locked = (FileNumber, String);

/// One move, and what is true after it. The first row is the beginning, without a move.
struct Row {
    /// Of a call: its number.
    number: Option<usize>,
    actor: Option<Who>,
    words: String,
    /// What the words leave out.
    note: String,
    /// It removed what is not its to remove, or took what another holds.
    robs: bool,
    /// From here on it holds.
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
    let mut rows = vec![blocked(participants, first.0, first.1, &files)];
    let mut number = 0;
    for (at, made) in run.made.iter().enumerate() {
        let after = &made.outcome.state;
        let mut row = {
            let mut later = files.clone();
            later.see(after);
            blocked(participants, after, &made.names, &later)
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

/// What is true in a state.
fn blocked(participants: usize, state: &State, names: &[Who], files: &Numbers) -> Row {
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

/// What the words of a move leave out, and whether it removed the file of one that lives.
fn note(made: &Made, files: &Numbers) -> (String, bool) {
    if let (Some(removal), Some(inode)) = (made.outcome.removal, made.before.path) {
        let file = format!("file {}", files.of(inode));
        let Some(blocked) = made.before.file(inode) else { return (String::new(), false) };
        let of = match blocked.content {
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
    // These protocols read and probe in one step, whose words tell no result.
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
            Some(Content::Of(_) | Content::OldOf(_) | Content::OldAlive) => "it lives: refused",
        },
        _ => "",
    };
    (found.to_owned(), false)
}

/// The number of each file, by its inode: an inode's own number changes from state to state.
#[derive(Clone, Default)]
struct Numbers {
    by_inode: [Option<FileNumber>; FILES],
    given: FileNumber,
}

impl Numbers {
    fn of(&self, inode: Inode) -> FileNumber {
        self.by_inode[usize::from(inode)].unwrap_or_default()
    }

    /// Forgets the files that are gone, and numbers those that have come.
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

/// The picture in words, for who cannot see it.
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
