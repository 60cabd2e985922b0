//! Layout and drawing of a diagram: cards in columns, and lines between them.

use std::collections::BTreeMap;

use super::edges::{At, edges, op_words, place_of};
use super::{Column, Place, Side};
use crate::render::svg::{Anchor, Style, Svg, pale};
use crate::render::table::name;
use crate::scenario::machines::{Machine, Op, graph};

pub(super) const WIDTH: i32 = 830;
pub(super) const MARGIN: i32 = 16;
/// The widths of a card, between two columns, and outside the outer columns.
const CARD: i32 = 168;
const CHANNEL: i32 = 36;
pub(super) const OUTSIDE: i32 = (WIDTH - 4 * CARD - 3 * CHANNEL) / 2;
/// Between two cards of a column.
const GAP: i32 = 30;
const HEADER: i32 = 41;
const LINE: i32 = 16;
/// Between a card's edge and its texts.
const INSET: i32 = 9;
/// The width for a line of text in a card.
const ROOM: i32 = CARD - 2 * INSET + 4;
/// From a card's top to the arrival of lines at its side.
const ARRIVAL: i32 = 20;
/// From a card's left edge to the line to its neighbour in the column.
const DOWN: i32 = 26;

pub(super) const TITLE: Style = Style::sans(16, "ink").bold();
const STATE: Style = Style::mono(13, "ink").bold();
pub(super) const OPERATION: Style = Style::sans(11, "muted");
const REPLY: Style = Style::sans(11, "ink");
const SIGN: Style = Style::sans(10, "ink");

/// The form of an edge, and its target.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    /// To the next card of the column.
    Straight(At),
    /// Out at this side, and along the channel there.
    Channel(Side, At),
    /// From the top of one column to the top of another.
    Over(At),
    /// No line, but the signs of the targets.
    Signed(Vec<At>),
}

impl Way {
    fn new(columns: &[Column], from: At, to: At) -> Result<Self, String> {
        let place = |(column, row): At| &columns[column].places[row];
        let adjacent = from.0.abs_diff(to.0) == 1;
        let has_line = place(to).sign.is_empty() || (adjacent && place(to).near);
        if from.0 == to.0 && from.1.abs_diff(to.1) == 1 {
            Ok(Self::Straight(to))
        } else if !has_line {
            Ok(Self::Signed(vec![to]))
        } else if from.0 == to.0 {
            Ok(Self::Channel(columns[from.0].pass, to))
        } else if adjacent {
            Ok(Self::Channel(if to.0 < from.0 { Side::Left } else { Side::Right }, to))
        } else if from.1 == 0 && to.1 == 0 {
            Ok(Self::Over(to))
        } else {
            let (from, to) = (place(from).states, place(to).states);
            Err(format!("no line can lead from {from} to {to}: give {to} a sign, in diagram.rs"))
        }
    }

    fn ends(&self) -> &[At] {
        match self {
            Self::Straight(to) | Self::Channel(_, to) | Self::Over(to) => std::slice::from_ref(to),
            Self::Signed(ends) => ends,
        }
    }
}

/// An edge out of a card.
struct Exit {
    way: Way,
    words: String,
    /// The words in the card; none if they are next to the line.
    lines: Vec<String>,
}

impl Exit {
    fn new(columns: &[Column], way: Way, words: String) -> Self {
        let lines = match &way {
            Way::Straight(_) | Way::Over(_) => Vec::new(),
            Way::Channel(..) if words.is_empty() => Vec::new(),
            Way::Channel(..) => wrapped(&words, ROOM),
            Way::Signed(ends) => {
                let mut lines = wrapped(&words, ROOM);
                let signs: i32 = ends.iter().map(|&to| sign_width(columns, to)).sum();
                let last = lines.last().map_or(0, |line| REPLY.width(line));
                if last + signs > ROOM {
                    // The signs get a line of their own.
                    lines.push(String::new());
                }
                lines
            }
        };
        Self { way, words, lines }
    }
}

/// `words` in lines of this width, broken at commas.
fn wrapped(words: &str, width: i32) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words.split_inclusive(", ") {
        match lines.last_mut() {
            Some(line) if REPLY.width(format!("{line}{word}").trim_end()) <= width => {
                line.push_str(word)
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
}

fn sign_width(columns: &[Column], (column, row): At) -> i32 {
    SIGN.width(columns[column].places[row].sign) + 12
}

/// A place, with its states.
struct Card {
    place: &'static Place,
    /// The operation of its states; none for the driver, or an end.
    operation: Option<Op>,
    is_start: bool,
    left: i32,
    top: i32,
    exits: Vec<Exit>,
}

impl Card {
    fn height(&self) -> i32 {
        let lines = self.exits.iter().map(|exit| exit.lines.len() as i32).sum::<i32>();
        HEADER + if lines > 0 { LINE * lines + 6 } else { 0 }
    }

    fn bottom(&self) -> i32 {
        self.top + self.height()
    }

    fn edge(&self, side: Side) -> i32 {
        if side == Side::Left { self.left } else { self.left + CARD }
    }

    fn arrival(&self) -> i32 {
        self.top + ARRIVAL
    }

    /// The height at which an exit's line leaves: the middle of its first line of words, if any.
    fn departure(&self, exit: usize) -> i32 {
        let above: usize = self.exits[..exit].iter().map(|exit| exit.lines.len()).sum();
        match self.exits[exit].lines.len() {
            0 => self.arrival(),
            _ => self.top + HEADER + LINE * above as i32 + LINE / 2,
        }
    }

    fn is_end(&self) -> bool {
        self.exits.is_empty()
    }

    fn draw(&self, svg: &mut Svg, columns: &[Column]) {
        let colour = self.place.path.colour();
        let (fill, ink, muted) = match self.is_end() {
            true => (colour, "page", "page"),
            false => (pale(colour), "ink", OPERATION.colour),
        };
        svg.frame([self.left, self.top, CARD, self.height()], 8, fill, colour);
        let (x, right) = (self.left + INSET, self.left + CARD - INSET);
        svg.text(x, self.top + 18, self.place.title(), Style { colour: ink, ..STATE });
        let operation = match self.place.note {
            "" => self.operation.map_or("", op_words),
            note => note,
        };
        svg.text(x, self.top + 34, operation, Style { colour: muted, ..OPERATION });
        let tag = OPERATION.anchored(Anchor::End);
        svg.text(right, self.top + 18, self.place.tag, Style { colour: muted, ..tag });
        // A sign other than the state's name is explained by showing it on the card.
        if self.place.sign != self.place.title() {
            draw_sign(svg, self.place, right + 3, self.top + 14);
        }
        for (number, exit) in self.exits.iter().enumerate() {
            let y = self.departure(number);
            let at_right = matches!(exit.way, Way::Channel(Side::Right, _));
            for (line, words) in exit.lines.iter().enumerate() {
                let y = y + 4 + LINE * line as i32;
                match at_right {
                    true => svg.text(right, y, words, REPLY.anchored(Anchor::End)),
                    false => svg.text(x, y, words, REPLY),
                }
            }
            if let Way::Signed(ends) = &exit.way {
                let y = y + LINE * (exit.lines.len() as i32 - 1);
                let mut right = right + 3;
                for &(column, row) in ends.iter().rev() {
                    right = draw_sign(svg, &columns[column].places[row], right, y) - 4;
                }
            }
        }
    }
}

/// Draws the sign of a place, ending at `right`, and returns its left edge.
fn draw_sign(svg: &mut Svg, place: &Place, right: i32, middle: i32) -> i32 {
    if place.sign.is_empty() {
        return right;
    }
    let colour = place.path.colour();
    let wide = SIGN.width(place.sign) + 8;
    let left = right - wide;
    svg.frame([left, middle - 7, wide, 14], 7, "page", colour);
    let style = Style { colour, ..SIGN.anchored(Anchor::Middle) };
    svg.text(left + wide / 2, middle + 4, place.sign, style);
    left
}

/// The layout of one machine.
pub(super) struct Sheet {
    machine: &'static str,
    columns: &'static [Column],
    cards: BTreeMap<At, Card>,
    pub(super) bottom: i32,
}

impl Sheet {
    pub(super) fn arrange<M: Machine>(
        columns: &'static [Column],
        top: i32,
    ) -> Result<Self, String> {
        let mut ways: BTreeMap<At, Vec<(Way, String)>> = BTreeMap::new();
        for ((from, to), words) in edges::<M>(columns)? {
            let ways = ways.entry(from).or_default();
            let way = Way::new(columns, from, to)?;
            // Exits that differ only by the sign share a row.
            let same = ways.iter_mut().find(|(known, same)| {
                *same == words && matches!((known, &way), (Way::Signed(_), Way::Signed(_)))
            });
            match same {
                Some((Way::Signed(ends), _)) => ends.push(to),
                _ => ways.push((way, words)),
            }
        }
        let mut operations = BTreeMap::new();
        for (state, follows) in graph::<M>() {
            if let Some(reply) = follows.replies.keys().next() {
                operations.insert(place_of(columns, &name(&state))?, reply.op());
            }
        }
        let starts = M::STARTS.iter().map(|start| place_of(columns, &name(start)));
        let starts = starts.collect::<Result<Vec<At>, String>>()?;
        let mut cards = BTreeMap::new();
        let mut bottom = top;
        for (number, column) in columns.iter().enumerate() {
            let left = OUTSIDE + number as i32 * (CARD + CHANNEL);
            let mut y = top + column.down;
            for (row, place) in column.places.iter().enumerate() {
                let at = (number, row);
                let ways = ways.remove(&at).unwrap_or_default();
                let mut exits: Vec<Exit> =
                    ways.into_iter().map(|(way, words)| Exit::new(columns, way, words)).collect();
                exits.sort_by_key(|exit| matches!(exit.way, Way::Signed(_)));
                let operation = operations.get(&at).copied();
                let is_start = starts.contains(&at);
                let card = Card { place, operation, is_start, left, top: y, exits };
                bottom = bottom.max(card.bottom());
                y = card.bottom() + GAP;
                cards.insert(at, card);
            }
        }
        Ok(Self { machine: M::NAME, columns, cards, bottom })
    }

    pub(super) fn draw(&self, svg: &mut Svg) {
        for channel in 0..=self.columns.len() {
            self.draw_channel(svg, channel);
        }
        for (&from, card) in &self.cards {
            if card.is_start {
                let (x, y) = (card.left, card.arrival());
                svg.dot(x - 15, y, 5, "ink");
                svg.arrow(&[(x - 15, y), (x - 1, y)], "ink");
            }
            for exit in &card.exits {
                match exit.way {
                    Way::Straight(to) => {
                        self.edge(svg, from, exit, |svg| self.straight(svg, from, to, &exit.words))
                    }
                    Way::Over(to) => self.edge(svg, from, exit, |svg| self.over(svg, from, to)),
                    Way::Signed(_) => self.edge(svg, from, exit, |_| {}),
                    Way::Channel(..) => {}
                }
            }
        }
        for card in self.cards.values() {
            svg.begin(&[("machine", self.machine), ("states", card.place.states)]);
            card.draw(svg, self.columns);
            svg.end();
        }
    }

    /// Draws an edge, with attributes for other programs.
    fn edge(&self, svg: &mut Svg, from: At, exit: &Exit, draw: impl FnOnce(&mut Svg)) {
        let states = |at: &At| self.cards[at].place.states;
        let ends: Vec<_> = exit.way.ends().iter().map(states).collect();
        svg.begin(&[
            ("machine", self.machine),
            ("from", states(&from)),
            ("to", &ends.join(" ")),
            ("replies", &exit.words),
        ]);
        draw(svg);
        svg.end();
    }

    /// The colour of an edge's target, or of its origin if it leads back to the start.
    fn colour(&self, from: At, to: At) -> &'static str {
        let coloured = if self.cards[&to].is_start { from } else { to };
        self.cards[&coloured].place.path.colour()
    }

    fn straight(&self, svg: &mut Svg, from: At, to: At, words: &str) {
        let (card, target) = (&self.cards[&from], &self.cards[&to]);
        let (x, start, end, anchor, offset) = if from.1 < to.1 {
            (card.left + DOWN, card.bottom(), target.top - 1, Anchor::Start, 8)
        } else {
            (card.left + CARD - DOWN, card.top, target.bottom() + 1, Anchor::End, -8)
        };
        svg.arrow(&[(x, start), (x, end)], self.colour(from, to));
        svg.text(x + offset, (start + end) / 2 + 4, words, REPLY.anchored(anchor));
    }

    fn over(&self, svg: &mut Svg, from: At, to: At) {
        let (card, target) = (&self.cards[&from], &self.cards[&to]);
        let (start, end) = (card.left + CARD / 2, target.left + CARD / 2);
        let y = card.top.min(target.top) - 20;
        let points = [(start, card.top), (start, y), (end, y), (end, target.top - 1)];
        svg.arrow(&points, self.colour(from, to));
    }

    /// The lines of the channel left of a column. Lines with the same target share a track, and the
    /// tracks are chosen to minimize crossings.
    fn draw_channel(&self, svg: &mut Svg, channel: usize) {
        let mut bundles: BTreeMap<At, Vec<(At, usize)>> = BTreeMap::new();
        for (&from, card) in &self.cards {
            for (number, exit) in card.exits.iter().enumerate() {
                match exit.way {
                    Way::Channel(side, to)
                        if from.0 + usize::from(side == Side::Right) == channel =>
                    {
                        bundles.entry(to).or_default().push((from, number));
                    }
                    _ => {}
                }
            }
        }
        let lines = |tracks: &[usize]| -> Vec<Vec<Line>> {
            let placed = bundles.iter().zip(tracks).map(|((&to, exits), &track)| {
                let x = self.track(channel, track, bundles.len());
                exits.iter().map(|&(from, number)| self.line(from, number, to, x)).collect()
            });
            placed.collect()
        };
        let orders = permutations(bundles.len()).into_iter();
        let best = orders.min_by_key(|tracks| crossings(&lines(tracks))).unwrap_or_default();
        for ((&to, exits), lines) in bundles.iter().zip(lines(&best)) {
            for (&(from, number), line) in exits.iter().zip(lines) {
                let exit = &self.cards[&from].exits[number];
                self.edge(svg, from, exit, |svg| svg.arrow(&line, self.colour(from, to)));
            }
        }
    }

    /// The position of a track in the channel left of a column.
    fn track(&self, channel: usize, track: usize, tracks: usize) -> i32 {
        let right = OUTSIDE + channel as i32 * (CARD + CHANNEL);
        let (left, right) = match channel {
            0 => (MARGIN / 2, OUTSIDE),
            _ if channel == self.columns.len() => (right - CHANNEL, WIDTH - MARGIN / 2),
            _ => (right - CHANNEL, right),
        };
        left + (right - left) * (track as i32 + 1) / (tracks as i32 + 1)
    }

    fn line(&self, from: At, number: usize, to: At, x: i32) -> Line {
        let (card, target) = (&self.cards[&from], &self.cards[&to]);
        let out = if x < card.left { Side::Left } else { Side::Right };
        let (into, gap) = if x < target.left { (Side::Left, -1) } else { (Side::Right, 1) };
        let (start, end) = (card.departure(number), target.arrival());
        [(card.edge(out), start), (x, start), (x, end), (target.edge(into) + gap, end)]
    }

    /// The machine in words, for screen readers.
    pub(super) fn described(&self) -> String {
        let mut text = format!("{}.", self.machine);
        let said = |place: &Place| place.states.replace('(', " ");
        for card in self.cards.values().filter(|card| !card.is_end()) {
            let ways = card.exits.iter().map(|exit| {
                let ends = exit.way.ends().iter().map(|to| said(self.cards[to].place));
                format!("{} to {}", exit.words, ends.collect::<Vec<_>>().join(" or "))
            });
            let ways: Vec<_> = ways.map(|way| way.trim_start().to_owned()).collect();
            text += &format!(" {}: {}.", said(card.place), ways.join("; "));
        }
        text
    }
}

/// Out of a card, to the track, along it, into a card.
type Line = [(i32, i32); 4];

/// How often lines of different bundles cross.
fn crossings(bundles: &[Vec<Line>]) -> usize {
    let cross = |one: &Line, other: &Line| {
        let (x, from, to) = (one[1].0, one[1].1.min(one[2].1), one[1].1.max(one[2].1));
        let level = |ends: [(i32, i32); 2]| {
            let (left, right) = (ends[0].0.min(ends[1].0), ends[0].0.max(ends[1].0));
            left < x && x < right && from <= ends[0].1 && ends[0].1 <= to
        };
        usize::from(level([other[0], other[1]])) + usize::from(level([other[2], other[3]]))
    };
    let mut count = 0;
    for (at, bundle) in bundles.iter().enumerate() {
        for other in bundles.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, o)| o) {
            count += bundle
                .iter()
                .flat_map(|one| other.iter().map(|two| cross(one, two)))
                .sum::<usize>();
        }
    }
    count
}

/// Every order of `0..count`; only the plain one for many.
fn permutations(count: usize) -> Vec<Vec<usize>> {
    if count == 0 || count > 7 {
        return vec![(0..count).collect()];
    }
    let mut all = Vec::new();
    for fewer in permutations(count - 1) {
        for at in 0..count {
            let mut one = fewer.clone();
            one.insert(at, count - 1);
            all.push(one);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn crossings_count_lines_of_different_bundles() {
        let far = [(0, 10), (20, 10), (20, 50), (40, 50)];
        let through = [(0, 30), (30, 30), (30, 60), (40, 60)];
        let below = [(0, 70), (30, 70), (30, 90), (40, 90)];
        assert_eq!(crossings(&[vec![far], vec![through]]), 2);
        assert_eq!(crossings(&[vec![far], vec![below]]), 0);
        assert_eq!(crossings(&[vec![far, through]]), 0, "they end alike");
    }

    #[test]
    fn permutations_are_all_orders() {
        let orders: BTreeSet<_> = permutations(4).into_iter().collect();
        assert_eq!(orders.len(), 24);
    }
}
