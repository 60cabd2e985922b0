//! Layout and drawing of a sequence diagram.

use super::{Being, FileNumber, HOLDS, Heading, Locked, Row};
use crate::properties::property::Property;
use crate::render::report::{calls, name};
use crate::render::svg::{Anchor, Style, Svg, pale};
use crate::scenario::schedule::Run;
use crate::scenario::state::Who;

const MARGIN: i32 = 16;
/// From a column's left edge to its lifeline, and on to its words.
const LIFELINE: i32 = 14;
const WORDS: i32 = 16;
const CALL: Style = Style::mono(12, "ink");
const MOVE: Style = Style::sans(12, "muted");
const NOTE: Style = Style::sans(11, "muted");
const LANE: Style = Style::sans(11, "ink");
const HEAD: Style = Style::sans(13, "ink").bold();
const TITLE: Style = Style::sans(16, "ink").bold();
const CAPTION: Style = Style::sans(12, "muted");
const VERDICT: Style = Style::sans(13, "red").bold();
/// Beneath the last row, where the bars end.
const TAIL: i32 = 16;
/// The colours of files, in turn.
const FILE_COLOURS: [&str; 4] = ["grey", "blue", "amber", "violet"];

fn colour_of(file: FileNumber) -> &'static str {
    FILE_COLOURS[file.saturating_sub(1) % FILE_COLOURS.len()]
}

pub(super) struct Sheet {
    pub(super) width: i32,
    pub(super) height: i32,
    /// The left edge of each participant's column.
    columns: Vec<i32>,
    path: i32,
    locks: i32,
    /// How many kernel locks there are at once.
    slots: usize,
    heads: i32,
    /// The middle of each row's words, and one entry for the end.
    rows: Vec<i32>,
}

impl Sheet {
    pub(super) fn measure(participants: usize, rows: &[Row], run: &Run, heading: &Heading) -> Self {
        let widest =
            |widths: &mut dyn Iterator<Item = i32>, least| widths.max().unwrap_or(0).max(least);
        let mut left = MARGIN + 24;
        let mut columns = Vec::new();
        for who in 0..participants {
            columns.push(left);
            // Moves without a participant are in the first column.
            let mine = rows.iter().filter(|row| usize::from(row.actor.unwrap_or(0)) == who);
            let mut widths = mine.map(|row| Self::words_width(row).max(NOTE.width(&row.note)));
            left += LIFELINE + WORDS + widest(&mut widths, 90) + 12;
        }
        let path = left;
        let mut widths = rows.iter().map(|row| LANE.width(&path_words(row)));
        left += 24 + widest(&mut widths, HEAD.width("the path names") - 20) + 20;
        let locks = left;
        let slots = rows.iter().map(|row| row.locks.len()).max().unwrap_or(0);
        let words = rows.iter().flat_map(|row| row.locks.iter().map(lock_words));
        let mut widths = words.map(|words| LANE.width(&words));
        let one = 24 + widest(&mut widths, 40);
        left += (one * slots.max(1) as i32).max(HEAD.width("kernel locks"));

        let verdict = verdict(run);
        let lines = verdict.len() as i32;
        let verdict = verdict.iter().map(|line| VERDICT.width(line) + 24).max().unwrap_or(0);
        let caption = heading.caption.iter().map(|line| CAPTION.width(line)).max().unwrap_or(0);
        let widest_line = TITLE.width(&heading.title).max(caption).max(verdict) + MARGIN;
        let heads = MARGIN + 34 + 18 * heading.caption.len() as i32 + 20;
        let mut y = heads + 28;
        let mut middles = Vec::new();
        for row in rows {
            middles.push(y);
            y += if row.note.is_empty() { 26 } else { 38 };
        }
        y += TAIL;
        middles.push(y);
        Self {
            width: left.max(widest_line) + MARGIN,
            height: y + 16 + 20 * lines + 10 + MARGIN,
            columns,
            path,
            locks,
            slots: slots.max(1),
            heads,
            rows: middles,
        }
    }

    pub(super) fn draw(&self, svg: &mut Svg, rows: &[Row], run: &Run, heading: &Heading) {
        self.draw_heading(svg, heading);
        self.draw_stripes(svg, rows, run);
        for who in 0..self.columns.len() {
            self.draw_lifeline(svg, rows, who);
        }
        self.draw_path(svg, rows);
        self.draw_locks(svg, rows);
        self.draw_calls(svg, rows);
        self.draw_verdict(svg, run);
    }

    fn words_width(row: &Row) -> i32 {
        let style = if row.number.is_some() { CALL } else { MOVE };
        style.width(&row.words) + if row.takes { 10 + CALL.bold().width(HOLDS) } else { 0 }
    }

    fn lifeline(&self, who: usize) -> i32 {
        self.columns[who] + LIFELINE
    }

    /// From the beginning of a row's move to that of the next.
    fn span(&self, row: usize) -> (i32, i32) {
        (self.rows[row], self.rows[row + 1])
    }

    fn end(&self) -> i32 {
        self.rows[self.rows.len() - 1]
    }

    fn draw_heading(&self, svg: &mut Svg, heading: &Heading) {
        svg.text(MARGIN, MARGIN + 16, &heading.title, TITLE);
        for (at, line) in heading.caption.iter().enumerate() {
            svg.text(MARGIN, MARGIN + 38 + 18 * at as i32, line, CAPTION);
        }
        for (who, &x) in self.columns.iter().enumerate() {
            let letter = name(who as Who).to_string();
            svg.frame([x, self.heads - 16, 28, 22], 6, "panel", "frame");
            svg.text(x + LIFELINE, self.heads, &letter, HEAD.anchored(Anchor::Middle));
        }
        svg.text(self.path, self.heads, "the path names", HEAD);
        svg.text(self.locks, self.heads, "kernel locks", HEAD);
    }

    /// Every second row is tinted, to connect a call with the lanes. The row that breaks the
    /// property is red.
    fn draw_stripes(&self, svg: &mut Svg, rows: &[Row], run: &Run) {
        let last = rows.len() - 1;
        for (at, row) in rows.iter().enumerate().skip(1) {
            let broken = at == last && run.broken.is_some();
            let colour = match (broken || row.robs, at % 2) {
                (true, _) => "red-pale",
                (false, 1) => "panel",
                (false, _) => continue,
            };
            let (top, bottom) = self.span(at);
            svg.fill([MARGIN - 6, top - 14, self.width - 2 * MARGIN + 12, bottom - top], 4, colour);
        }
    }

    fn draw_lifeline(&self, svg: &mut Svg, rows: &[Row], who: usize) {
        let x = self.lifeline(who);
        svg.route(&[(x, self.heads + 8), (x, self.end())], "grey", true);
        for (being, from, to) in runs(rows.iter().map(|row| row.being[who])) {
            let (top, height) = (self.rows[from], self.rows[to] - self.rows[from]);
            match being {
                Being::Idle => {}
                Being::Busy => svg.frame([x - 3, top, 6, height], 3, "page", "grey"),
                Being::Holds => svg.fill([x - 6, top, 12, height], 4, "green"),
                Being::Stopped => svg.frame([x - 3, top, 6, height], 3, "grey", "grey"),
            }
        }
    }

    fn draw_path(&self, svg: &mut Svg, rows: &[Row]) {
        let files = rows.iter().map(|row| row.path.as_ref().map(|(file, _)| *file));
        for (file, from, to) in runs(files) {
            let (top, bottom) = (self.rows[from], self.rows[to]);
            match file {
                Some(file) => svg.fill([self.path, top, 12, bottom - top - 2], 4, colour_of(file)),
                None => {
                    svg.route(&[(self.path + 6, top), (self.path + 6, bottom - 2)], "grey", true)
                }
            }
        }
        for (words, from, _) in runs(rows.iter().map(path_words)) {
            svg.text(self.path + 20, self.rows[from] + 4, &words, LANE);
        }
    }

    fn draw_locks(&self, svg: &mut Svg, rows: &[Row]) {
        if rows.iter().all(|row| row.locks.is_empty()) {
            svg.text(self.locks, self.rows[0] + 4, "never taken", NOTE);
            return;
        }
        let slots = in_slots(rows, self.slots);
        let wide = (self.width - MARGIN - self.locks) / self.slots as i32;
        for slot in 0..self.slots {
            let x = self.locks + slot as i32 * wide;
            for (lock, from, to) in runs(slots.iter().map(|row| row[slot].clone())) {
                let Some(lock) = lock else { continue };
                let (top, bottom) = (self.rows[from], self.rows[to]);
                svg.fill([x, top, 12, bottom - top - 2], 4, colour_of(lock.0));
                svg.text(x + 20, top + 4, &lock_words(&lock), LANE);
            }
        }
    }

    fn draw_calls(&self, svg: &mut Svg, rows: &[Row]) {
        for (at, row) in rows.iter().enumerate().skip(1) {
            let y = self.rows[at];
            if let Some(number) = row.number {
                let style = NOTE.anchored(Anchor::End);
                svg.text(MARGIN + 18, y + 4, &number.to_string(), style);
            }
            let Some(who) = row.actor.map(usize::from) else {
                svg.text(self.columns[0] + LIFELINE + WORDS, y + 4, &row.words, MOVE);
                continue;
            };
            let x = self.lifeline(who) + WORDS;
            let style = if row.number.is_some() { CALL } else { MOVE };
            svg.dot(self.lifeline(who), y, 4, "ink");
            svg.text(x, y + 4, &row.words, style);
            let mut end = x + style.width(&row.words);
            if row.takes {
                let colour = if row.robs { "red" } else { "green" };
                svg.text(end + 10, y + 4, HOLDS, Style { colour, ..CALL.bold() });
                end += 10 + CALL.bold().width(HOLDS);
            }
            let colour = if row.robs { "red" } else { NOTE.colour };
            if !row.note.is_empty() {
                svg.text(x, y + 18, &row.note, Style { colour, ..NOTE });
            }
            // An arrow from a call to the path that it changed.
            if row.path != rows[at - 1].path {
                let colour = if row.robs { "red" } else { "grey" };
                svg.route(&[(end + 6, y), (self.path - 8, y)], colour, true);
                svg.arrow(&[(self.path - 9, y), (self.path - 1, y)], colour);
            }
        }
    }

    fn draw_verdict(&self, svg: &mut Svg, run: &Run) {
        let lines = verdict(run);
        let height = 20 * lines.len() as i32 + 10;
        let (colour, words) =
            if run.broken.is_some() { ("red", VERDICT) } else { ("green", CAPTION) };
        let top = self.end() + 16;
        svg.frame([MARGIN, top, self.width - 2 * MARGIN, height], 6, pale(colour), colour);
        for (at, line) in lines.iter().enumerate() {
            let style = if at == 0 { words } else { CAPTION };
            svg.text(MARGIN + 12, top + 20 + 20 * at as i32, line, style);
        }
    }
}

fn path_words(row: &Row) -> String {
    match &row.path {
        Some((file, content)) => format!("file {file}: {content}"),
        None => "nothing".to_owned(),
    }
}

fn lock_words((file, owner): &Locked) -> String {
    format!("{owner}: file {file}")
}

/// The result of the run: a headline, and the rest of a broken property's sentence.
fn verdict(run: &Run) -> Vec<String> {
    let calls = calls(run);
    match run.broken.map(Property::sentence) {
        Some(sentence) => {
            let (property, rest) = sentence.split_once(": ").unwrap_or((sentence, ""));
            vec![format!("✗ broken after {calls} calls: {property}"), rest.to_owned()]
        }
        None => vec![format!("No property is broken in these {calls} calls.")],
    }
}

/// Runs of equal values: the value, its first index, and the first index of the next run.
fn runs<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<(T, usize, usize)> {
    let mut runs: Vec<(T, usize, usize)> = Vec::new();
    for (at, value) in values.enumerate() {
        match runs.last_mut() {
            Some((same, _, end)) if *same == value => *end = at + 1,
            _ => runs.push((value, at, at + 1)),
        }
    }
    runs
}

/// The locks of each row, each in its first slot.
fn in_slots(rows: &[Row], slots: usize) -> Vec<Vec<Option<Locked>>> {
    let mut before: Vec<Option<Locked>> = vec![None; slots];
    let mut all = Vec::new();
    for row in rows {
        let mut now: Vec<Option<Locked>> = before
            .iter()
            .map(|old| row.locks.iter().find(|lock| old.as_ref().is_some_and(|o| o.0 == lock.0)))
            .map(|kept| kept.cloned())
            .collect();
        for lock in &row.locks {
            if !now.iter().flatten().any(|placed| placed.0 == lock.0) {
                if let Some(free) = now.iter_mut().find(|slot| slot.is_none()) {
                    *free = Some(lock.clone());
                }
            }
        }
        all.push(now.clone());
        before = now;
    }
    all
}
