//! The transition tables of the shipped machines, as tests/transitions.txt has them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write};

use portlock::protocol::{Acquire, Author, Clear, Evidence, Probe, Probed, Query, Release};

use crate::scenario::machines::{self, Answer, Machine, Op, PROBES, Reply, authors, evidence};

/// The widest line that a code review shows without wrapping.
pub const WIDTH: usize = 132;

const HEAD: &str = "\
The transition tables of Acquire, Release, Query and Clear, printed by running the shipped code.

There is a table for each operation: a row for each state that waits for it, a column for each reply,
and the next state in the cell. A state takes every reply of its operation, so no cell is empty.

  (=)          the contents of the state in that row
  Refuse(X)    with a reason X is Refuse(Unknown(X)): the holder is not known for certain; so is
               Refused(X)
  Blocked(L, X)  L is the result of trying the kernel lock, X is the refusal, and X? one that is not
               final; Confirming(L, X) is the claim that is confirmed
  probe        its replies are the rows: by author, and by the result of the probe where that matters
  op -> Kind   every next state is Kind(cell)
  a table that is too wide continues below, with the same states

Every cell is reached in some scenario of the model (tests/model.rs), except:

";

/// Cells that no scenario of the model reaches, each with the reason.
pub const UNREACHED: &[Unreached] = &[
    Unreached {
        begins: "Acquire Reading(",
        goes_on: "Read(Foreign)",
        why: "another program's data is seen before the lock is tried",
    },
    Unreached {
        begins: "Clear Reading(",
        goes_on: "Read(Foreign)",
        why: "another program's data is seen before the lock is tried",
    },
    Unreached {
        begins: "Clear Reading(Young)",
        goes_on: "Read(Empty)",
        why: "a file with a record, whole or cut short, is never emptied",
    },
    Unreached {
        begins: "Acquire CleanupLocking(Refuse(Contended)) ",
        goes_on: "Lock(Unsupported)",
        why: "its lock was busy before, so the filesystem has locks",
    },
    Unreached {
        begins: "Acquire Retrying(",
        goes_on: "Lock(Unsupported)",
        why: "its lock was busy before, so the filesystem has locks",
    },
    Unreached {
        begins: "Acquire Blocked(",
        goes_on: "force",
        why: "only a clear may force, in the table of Clear",
    },
];

/// Cells that no scenario of the model reaches.
pub struct Unreached {
    begins: &'static str,
    goes_on: &'static str,
    pub why: &'static str,
}

impl Unreached {
    /// Whether it explains this cell, which starts with the machine and its state.
    pub fn explains(&self, cell: &str) -> bool {
        cell.strip_prefix(self.begins).is_some_and(|rest| rest.contains(self.goes_on))
    }
}

impl std::fmt::Display for Unreached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dots = if self.begins.ends_with(' ') { "" } else { "… " };
        write!(f, "{}{dots}{}…: {}", self.begins, self.goes_on, self.why)
    }
}

/// The tables of all four machines.
pub fn print_tables() -> String {
    let mut out = HEAD.to_owned();
    for cells in UNREACHED {
        writeln!(out, "  {cells}").expect("a string");
    }
    print_machine::<Acquire>(&mut out);
    print_machine::<Release>(&mut out);
    print_machine::<Query>(&mut out);
    print_machine::<Clear>(&mut out);
    out
}

fn print_machine<M: Machine>(out: &mut String) {
    let graph = machines::graph::<M>();
    let mut by_op: BTreeMap<Op, Vec<M>> = BTreeMap::new();
    // The states that ask the driver, by the answers that they take.
    let mut asking: BTreeMap<Vec<Answer>, Vec<M>> = BTreeMap::new();
    let mut ends = Vec::new();
    for (&state, follows) in &graph {
        let answers: Vec<Answer> = follows.driver.keys().copied().collect();
        match follows.replies.keys().next() {
            Some(reply) => by_op.entry(reply.op()).or_default().push(state),
            None if answers.is_empty() => ends.push(state),
            None => asking.entry(answers).or_default().push(state),
        }
    }
    let starts: Vec<String> = M::STARTS.iter().map(M::label).collect();
    let title = format!("{}: {} states, from {}", M::NAME, graph.len(), starts.join(" and "));
    writeln!(out, "\n\n{title}\n{}", "=".repeat(title.len())).expect("a string");

    for (op, states) in by_op {
        let heading = format!("{op:?}").to_lowercase();
        let follows = |state: &M, reply: &Reply| graph[state].replies[reply];
        if op == Op::Probe {
            let heading = [heading].into_iter().chain(states.iter().map(M::label)).collect();
            let replies = authors().into_iter().map(Probed::Known).chain([Probed::Failed]);
            let rows = replies.map(|reply| {
                let cell = |state| after_probe(reply, &follows(state, &Reply::Probe(reply)));
                let piece = match reply {
                    Probed::Known(author) => piece_of_author(author),
                    Probed::Failed => (name(&reply), None),
                };
                (piece, states.iter().map(cell).collect())
            });
            print_grid(out, heading, by_piece(rows));
        } else {
            let replies = op.replies();
            let heading = [heading].into_iter().chain(replies.iter().map(reply_name)).collect();
            let cells = |state: &M| {
                replies.iter().map(|reply| cell(state, &follows(state, reply))).collect()
            };
            let carrying: Vec<_> =
                states.iter().filter_map(|s| Some((carried_evidence(s)?, cells(s)))).collect();
            let plain = states.iter().filter(|s| carried_evidence(*s).is_none());
            let mut rows: Vec<Row> = plain
                .map(|state| Row { label: vec![state.label()], cells: cells(state) })
                .collect();
            if !carrying.is_empty() {
                rows.extend(by_piece(evidence().into_iter().filter_map(|found| {
                    let (_, cells) = carrying.iter().find(|(carried, _)| *carried == found)?;
                    Some((piece_of_evidence(found), cells.clone()))
                })));
            }
            print_grid(out, heading, rows);
        }
    }
    for (answers, states) in asking {
        let words = answers.iter().map(|answer| answer.words());
        let heading = ["the driver answers"].into_iter().chain(words).map(str::to_owned).collect();
        let rows = states.iter().map(|state| {
            let cells = graph[state].driver.values().map(|next| cell(state, next)).collect();
            Row { label: vec![state.label()], cells }
        });
        print_grid(out, heading, rows.collect());
    }
    out.push_str("\nends\n");
    for line in wrapped(&ends.iter().map(M::label).collect::<Vec<_>>(), ", ", WIDTH - 2) {
        writeln!(out, "  {line}").expect("a string");
    }
}

/// A row of a table. Its cells are in the first line of the label.
struct Row {
    label: Vec<String>,
    cells: Vec<String>,
}

/// A reply of the probe, or the evidence in a state: a part shared with others, and the result of
/// the process probe.
type Piece = (String, Option<Probe>);

fn piece_of_author(author: Author) -> Piece {
    match author {
        Author::Here(free, probe) => (format!("Here({free:?})"), Some(probe)),
        Author::OldFormat(probe) => ("OldFormat".to_owned(), Some(probe)),
        Author::OtherNamespace(_) | Author::EarlierBoot | Author::OtherMachine => {
            (name(&author), None)
        }
    }
}

fn piece_of_evidence(evidence: Evidence) -> Piece {
    match evidence {
        Evidence::Record(author) => piece_of_author(author),
        Evidence::Empty(_) | Evidence::Unreadable => (name(&evidence), None),
    }
}

/// Rows for pieces. Those with equal cells are grouped at the position of the first.
fn by_piece(rows: impl Iterator<Item = (Piece, Vec<String>)>) -> Vec<Row> {
    let mut groups: Vec<(Vec<Piece>, Vec<String>)> = Vec::new();
    for (piece, cells) in rows {
        match groups.iter_mut().find(|(_, known)| *known == cells) {
            Some((pieces, _)) => pieces.push(piece),
            None => groups.push((vec![piece], cells)),
        }
    }
    if let [(_, cells)] = &groups[..] {
        return vec![Row { label: vec!["any".to_owned()], cells: cells.clone() }];
    }
    let row = |cells: &Vec<String>, label| Row { label, cells: cells.clone() };
    groups
        .iter()
        .flat_map(|(alike, cells)| labels(alike).into_iter().map(|label| row(cells, label)))
        .collect()
}

/// The labels of rows with equal cells. Pieces with the same probe results share one.
fn labels(alike: &[Piece]) -> Vec<Vec<String>> {
    let mut by_answers: Vec<(Vec<Probe>, Vec<String>)> = Vec::new();
    let mut heads: Vec<&String> = alike.iter().map(|(head, _)| head).collect();
    heads.dedup();
    for head in heads {
        let of_head = alike.iter().filter(|(other, _)| other == head);
        let mut answers: Vec<Probe> = of_head.filter_map(|&(_, probe)| probe).collect();
        if answers.len() == PROBES {
            // Every result.
            answers.clear();
        }
        match by_answers.iter_mut().find(|(known, _)| *known == answers) {
            Some((_, heads)) => heads.push(head.clone()),
            None => by_answers.push((answers, vec![head.clone()])),
        }
    }
    let label = |(answers, heads): (Vec<Probe>, Vec<String>)| {
        let mut label = wrapped(&heads, "|", 24);
        let answers: Vec<String> = answers.iter().map(name).collect();
        if !answers.is_empty() {
            label.extend(wrapped(&answers, "|", 20).into_iter().map(|line| format!("  {line}")));
        }
        label
    };
    by_answers.into_iter().map(label).collect()
}

/// The evidence in a state, if any.
fn carried_evidence(state: &impl Machine) -> Option<Evidence> {
    let state = state.label();
    evidence().into_iter().find(|found| state.ends_with(&format!("({})", name(found))))
}

fn after_probe(reply: Probed, next: &impl Machine) -> String {
    let next = next.label();
    let Probed::Known(author) = reply else { return next };
    match next.strip_suffix(&format!("({})", name(&Evidence::Record(author)))) {
        Some(kind) => format!("{kind}(the reply)"),
        None => next,
    }
}

/// `words` in lines of at most `width`, with `separator` between them.
pub fn wrapped(words: &[String], separator: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for (number, word) in words.iter().enumerate() {
        let word =
            if number + 1 < words.len() { format!("{word}{separator}") } else { word.clone() };
        match lines.last_mut() {
            Some(line) if line.is_empty() || line.len() + word.trim_end().len() <= width => {
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines.into_iter().map(|line| line.trim_end().to_owned()).collect()
}

fn cell<M: Machine>(state: &M, next: &M) -> String {
    let (state, next) = (state.label(), next.label());
    let Some(at) = state.find('(') else { return next };
    let end = next.trim_end_matches(')').len();
    // The parentheses that close the contents; the rest close the enclosing state.
    let carried = &state[at..];
    for end in end..=next.len() {
        if let Some(kind) = next[..end].strip_suffix(carried) {
            return format!("{kind}(=){}", &next[end..]);
        }
    }
    next
}

/// A short name, from the `Debug` output: `Recording(Recording { guarantee: KernelLock })` becomes
/// `Recording(KernelLock)`, and `Creating(Creating)` becomes `Creating`.
pub fn name(value: &impl Debug) -> String {
    let full = format!("{value:?}");
    // The names of a struct within a variant and of its fields are redundant.
    let mut short = full.clone();
    while let Some(open) = short.find(" { ") {
        let start = short[..open].rfind(['(', ' ']).map_or(0, |at| at + 1);
        let colon = open + short[open..].find(": ").expect("a field");
        short.replace_range(start..colon + 2, "");
        let end = short.rfind(" }").expect("the end of the struct");
        short.replace_range(end..end + 2, "");
    }
    if let Some((outer, inner)) = short.split_once('(') {
        let inner = inner.strip_suffix(')').unwrap_or(inner);
        if [outer, &format!("Release{outer}"), &format!("Query{outer}")].contains(&inner) {
            return outer.to_owned();
        }
    }
    // Of a disposition and of an unknown holder only the reason is kept.
    short = short.replace(", disposition: ", ", ");
    for (kind, mark) in [("Unknown(", ""), ("NotFinal(", "?"), ("Final(", ""), ("Blocks(", "")] {
        while let Some(at) = short.find(kind) {
            let open = at + kind.len();
            let end = open + closing(&short[open..]);
            let reason = format!("{}{mark}", &short[open..end]);
            short.replace_range(at..=end, &reason);
        }
    }
    short
}

/// The position of the parenthesis that closes the one before `text`.
fn closing(text: &str) -> usize {
    let mut depth = 1;
    let end = text.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    });
    end.expect("what is opened is closed")
}

fn print_grid(out: &mut String, mut heading: Vec<String>, mut rows: Vec<Row>) {
    let width = |heading: &[String], rows: &[Row], column: usize| {
        let labels = rows.iter().flat_map(|row| row.label.iter().map(|line| line.len() + 2));
        match column {
            0 => labels.chain([heading[0].len()]).max().unwrap_or(0),
            _ => {
                let cells = rows.iter().map(|row| row.cells[column - 1].len());
                cells.chain([heading[column].len()]).max().unwrap_or(0)
            }
        }
    };
    let widths = |heading: &[String], rows: &[Row]| -> Vec<usize> {
        (0..heading.len()).map(|column| width(heading, rows, column)).collect()
    };
    // Too wide, and all cells have the same prefix: it moves to the heading.
    let wide = widths(&heading, &rows).iter().map(|width| width + 2).sum::<usize>() > WIDTH + 2;
    let kinds: BTreeSet<&str> =
        rows.iter().flat_map(|row| &row.cells).filter_map(|c| Some(c.split_once('(')?.0)).collect();
    if let (true, Some(kind), 1) = (wide, kinds.first(), kinds.len()) {
        let kind = format!("{kind}(");
        heading[0] = format!("{} -> {}", heading[0], kind.trim_end_matches('('));
        for cell in rows.iter_mut().flat_map(|row| &mut row.cells) {
            *cell =
                cell.strip_prefix(&kind).and_then(|c| c.strip_suffix(')')).unwrap_or(cell).into();
        }
    }
    let widths = widths(&heading, &rows);
    // Still too wide: the remaining columns are below, with the same labels.
    let mut from = 1;
    while from < heading.len() {
        let mut to = from + 1;
        let fits = |to| widths[0] + widths[from..to].iter().map(|w| w + 2).sum::<usize>() <= WIDTH;
        while to < heading.len() && fits(to + 1) {
            to += 1;
        }
        let mut line = |label: &str, cells: &[String]| {
            let columns = cells.iter().zip(&widths[from..to]);
            let cells: String = columns.map(|(cell, &width)| format!("  {cell:width$}")).collect();
            let line = format!("{label:width$}{cells}", width = widths[0]);
            writeln!(out, "{}", line.trim_end()).expect("a string");
        };
        line("", &[]);
        line(&heading[0], &heading[from..to]);
        for row in &rows {
            line(&format!("  {}", row.label[0]), &row.cells[from - 1..to - 1]);
            row.label[1..].iter().for_each(|more| line(&format!("  {more}"), &[]));
        }
        from = to;
    }
}

/// `Exists` for `Create(Exists)`; the operation is the heading of the table.
fn reply_name(reply: &Reply) -> String {
    let full = name(reply);
    match full.split_once('(') {
        Some((_, reply)) => reply.strip_suffix(')').unwrap_or(reply).to_owned(),
        None => "(no reply)".to_owned(),
    }
}
