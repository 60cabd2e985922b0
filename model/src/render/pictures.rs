//! The committed pictures in `model/pictures`, which a test compares with the drawing.

use std::fmt;

use crate::properties::property::Property;
use crate::render::diagram;
use crate::render::sequence::{self, Heading};
use crate::scenario::catalogue::{Scenario, Start};
use crate::scenario::schedule::{Run, Schedule, run};
use crate::scenario::state::{Content, Look, Move, Who};
use crate::scenario::walk::Walk;
use crate::variants;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Picture {
    /// The machines of acquire and release as a state diagram.
    Machine,
    /// The naive protocol's double reclaim as a sequence diagram.
    DoubleReclaim,
}

impl fmt::Display for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine => "machine",
            Self::DoubleReclaim => "double-reclaim",
        })
    }
}

impl Picture {
    pub const ALL: [Self; 2] = [Self::Machine, Self::DoubleReclaim];

    pub fn draw(self) -> Result<String, String> {
        match self {
            Self::Machine => diagram::draw(),
            Self::DoubleReclaim => {
                let (_, run) = double_reclaim()?;
                let heading = Heading {
                    title: "Double reclaim: how check, unlink, create lets two processes in".into(),
                    caption: vec![
                        "File 1 was left by a process that died. A and B follow Percy's protocol: \
                         exclusive create (wx),"
                            .into(),
                        "and if the file exists: read it, check its process, unlink it by name, \
                         create again."
                            .into(),
                    ],
                };
                Ok(sequence::draw(2, &run, &heading))
            }
        }
    }
}

const A: Who = 0;
const B: Who = 1;

/// A and B read the same dead record; A unlinks and creates; B unlinks A's live file and creates.
/// (The shortest trace of the naive protocol differs: it needs no dead record.)
const DOUBLE_RECLAIM: &[Move] = &[
    Move::Begin(A),
    Move::Begin(B),
    Move::Call(A, 0), // wx: exists
    Move::Call(B, 0), // wx: exists
    Move::Call(A, 0), // read, kill(pid, 0): no such process
    Move::Call(B, 0), // read, kill(pid, 0): no such process
    Move::Call(A, 0), // unlink
    Move::Call(A, 0), // wx: created
    Move::Call(A, 0), // write, close: A holds
    Move::Call(B, 0), // unlink, of A's file
    Move::Call(B, 0), // wx: created
    Move::Call(B, 0), // write, close: B holds, too
];

/// The schedule of the double reclaim for `replay`, and its run.
pub fn double_reclaim() -> Result<(Schedule, Run), String> {
    let naive = variants::named("naive").ok_or("there is no naive variant")?;
    let base = Scenario::named("base", 2).ok_or("there is no base scenario")?;
    // P2 breaks two calls earlier. Only P1 is checked, to show two holders.
    let scenario = Scenario { properties: Property::P1.only(), ..base };
    let dead = Start::File(Content::Dead(Look::Gone));
    let start = scenario.starts.iter().position(|&start| start == dead);
    let start = start.ok_or("no scenario begins with a dead record")?;
    let mut walk = Walk::begin(&scenario, &naive.protocol, start as u8);
    for &one in DOUBLE_RECLAIM {
        // `run` below reports what breaks.
        let _ = walk.make(one).ok_or_else(|| format!("{one:?} is no longer possible"))?;
    }
    let schedule = walk.schedule();
    let run = run(&scenario, &naive.protocol, &schedule, false);
    Ok((schedule, run))
}
