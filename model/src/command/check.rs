//! `check`: searches scenarios to the end, and compares with the committed counts.

use clap::Args;
use serde_json::json;

use super::{Budgets, protocol_of, scenario_of};
use crate::render::report::{Origin, report};
use crate::scenario::catalogue::Scenario;
use crate::scenario::state::PARTICIPANTS;
use crate::search::counts::{self, Counts, Pinned};
use crate::search::explore::{Incomplete, Limits, Seen, explore};

#[derive(Args)]
pub(super) struct Check {
    /// Only this scenario.
    #[arg(long)]
    scenario: Option<String>,
    /// How many participants that acquire, 2 or more.
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=PARTICIPANTS as i64))]
    participants: Option<u8>,
    #[command(flatten)]
    budgets: Budgets,
    /// A wrong protocol instead of the shipped one.
    #[arg(long)]
    variant: Option<String>,
    /// All scenarios at 3 participants and base at 4 as well.
    #[arg(long, conflicts_with_all = ["scenario", "participants"])]
    long: bool,
    /// Write the counts to model/counts.txt instead of comparing with it.
    #[arg(long, conflicts_with_all = ["variant", "states", "crashes", "faults", "removals", "suspensions"])]
    pin: bool,
    /// Stop, as incomplete, beyond this many states.
    #[arg(long, default_value_t = usize::MAX)]
    states: usize,
    /// One JSON object a scenario on standard output.
    #[arg(long)]
    json: bool,
}

impl Check {
    /// The scenarios to search, each with its number of participants.
    fn scenarios(&self) -> Result<Vec<(Scenario, usize)>, String> {
        let participants = self.participants.map(usize::from);
        let mut scenarios: Vec<_> = match (&self.scenario, participants) {
            (Some(name), participants) => {
                let participants = participants.unwrap_or(2);
                vec![(scenario_of(name, participants)?, participants)]
            }
            (None, Some(participants)) => {
                let all = Scenario::all(participants).into_iter();
                all.map(|scenario| (scenario, participants)).collect()
            }
            (None, None) => counts::searches(self.long),
        };
        scenarios.iter_mut().for_each(|(scenario, _)| self.budgets.put_into(scenario));
        Ok(scenarios)
    }
}

pub(super) fn run(check: &Check) -> Result<(), String> {
    let protocol = protocol_of(check.variant.as_deref())?;
    // The committed counts are of the shipped machines with the scenarios' own budgets.
    let usual = check.variant.is_none() && !check.budgets.any();
    let mut pinned =
        Pinned::read().or_else(|why| if check.pin { Ok(Pinned::default()) } else { Err(why) })?;
    let mut changed = Vec::new();
    let limits = Limits { states: check.states, progress: true, ..Limits::on_all_processors() };
    if !check.json {
        outln!(
            "scenario                             participants      states  transitions  depth   solo  seconds"
        );
    }
    for (scenario, participants) in check.scenarios()? {
        let seen = explore(&scenario, &protocol, limits).map_err(|Incomplete { states }| {
            format!("{}: incomplete at {states} states: nothing is proved", scenario.name)
        })?;
        print_seen(&scenario, participants, &seen, check.json);
        if let Some(found) = &seen.found {
            let origin = Origin { variant: check.variant.as_deref(), participants };
            return Err(report(&scenario, &protocol, found, origin));
        }
        let counts = Counts::of(&seen);
        if check.pin {
            pinned.pin(scenario.name, participants, counts);
            pinned.write()?;
        } else if usual && pinned.has(scenario.name, participants) {
            changed.extend(pinned.compare(scenario.name, participants, counts).err());
        }
    }
    if changed.is_empty() { Ok(()) } else { Err(changed.join("\n")) }
}

fn print_seen(scenario: &Scenario, participants: usize, seen: &Seen, as_json: bool) {
    if as_json {
        let line = json!({
            "scenario": scenario.name,
            "participants": participants,
            "crashes": scenario.crashes,
            "states": seen.states,
            "transitions": seen.transitions,
            "depth": seen.depth,
            "longestAlone": seen.longest_solo,
            "seconds": seen.took.as_secs_f64(),
            "sometimes": seen.coverage.sometimes,
            "broken": seen.found.as_ref().map(|found| found.property.to_string()),
            "schedule": seen.found.as_ref().map(|found| found.schedule.to_string()),
        });
        outln!("{line}");
    } else {
        outln!(
            "{:<33} {:>12} {:>11} {:>12} {:>6} {:>6} {:>8.1}",
            scenario.name,
            scenario.kinds.len(),
            seen.states,
            seen.transitions,
            seen.depth,
            seen.longest_solo,
            seen.took.as_secs_f64()
        );
    }
}
