//! `replay`: runs one schedule, and prints or draws it.

use std::path::PathBuf;

use clap::Args;

use super::{Chosen, write_to};
use crate::render::report::{history, lines, report};
use crate::render::sequence;
use crate::scenario::catalogue::Scenario;
use crate::scenario::schedule::{self, Schedule};
use crate::search::explore::Found;
use crate::variants::Protocol;

#[derive(Args)]
pub(super) struct Replay {
    #[command(flatten)]
    chosen: Chosen,
    /// One JSON object for each move, and one for the end.
    #[arg(long)]
    json: bool,
    /// Also draw it into this file, as a sequence diagram.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// The beginning and the moves, as `0/3/1/…`.
    schedule: Schedule,
}

pub(super) fn run(replay: &Replay) -> Result<(), String> {
    let (mut scenario, protocol) = replay.chosen.get()?;
    let origin = replay.chosen.origin();
    let found = broken_by(&scenario, &protocol, &replay.schedule);
    let (schedule, solo) = match &found {
        Some(found) => {
            scenario.properties = found.property.only();
            (&found.schedule, found.solo)
        }
        None => (&replay.schedule, false),
    };
    let run = schedule::run(&scenario, &protocol, schedule, solo);
    if let Some(file) = &replay.svg {
        write_to(file, &sequence::draw(scenario.kinds.len(), &run, &origin.heading(&scenario)))?;
    }
    if replay.json {
        lines(&run).iter().for_each(|line| outln!("{line}"));
        return found.map_or(Ok(()), |found| Err(found.property.sentence().to_owned()));
    }
    if let Some(found) = found {
        return Err(report(&scenario, &protocol, &found, origin));
    }
    out!("{}", history(&scenario, &run));
    outln!("\n  No property is broken.");
    Ok(())
}

/// The property that a schedule breaks. Another property may break before the end of the schedule,
/// so each is checked alone, and the one that breaks at the end is returned. If none does, it is
/// the first that breaks, and the schedule ends there.
fn broken_by(scenario: &Scenario, protocol: &Protocol, schedule: &Schedule) -> Option<Found> {
    let at_the_end = scenario.properties.iter().find_map(|&property| {
        let one = Scenario { properties: property.only(), ..scenario.clone() };
        let moves = schedule::run(&one, protocol, schedule, false);
        let broken = schedule::run(&one, protocol, schedule, true).broken;
        (broken == Some(property) && moves.made.len() == schedule.steps.len()).then(|| Found {
            property,
            schedule: schedule.clone(),
            solo: moves.broken.is_none(),
        })
    });
    at_the_end.or_else(|| {
        let run = schedule::run(scenario, protocol, schedule, false);
        let mut schedule = schedule.clone();
        schedule.steps.truncate(run.made.len());
        Some(Found { property: run.broken?, schedule, solo: false })
    })
}
