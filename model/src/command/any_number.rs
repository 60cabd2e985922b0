//! `any-number`: proves exclusion and removal for any number of participants.

use clap::Args;
use serde_json::json;

use super::{Budgets, protocol_of, scenario_of};
use crate::any_number::closure::Closure;
use crate::any_number::cover::Explicit;
use crate::any_number::invariant::{invariant, properties};
use crate::any_number::{NOT_PROVED, prove, scenarios};
use crate::render::table::wrapped;
use crate::scenario::catalogue::Scenario;
use crate::scenario::state::PARTICIPANTS;
use crate::search::explore::Incomplete;
use crate::variants::Protocol;

#[derive(Args)]
pub(super) struct AnyNumber {
    /// Only this scenario, in full: with the invariant and the rules of interference.
    #[arg(long)]
    scenario: Option<String>,
    /// A wrong protocol instead of the shipped one.
    #[arg(long)]
    variant: Option<String>,
    /// Compare the proof with every state and transition of the search with this many participants.
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=PARTICIPANTS as i64))]
    cover: Option<u8>,
    #[command(flatten)]
    budgets: Budgets,
    /// One JSON object a scenario on standard output.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(asked: &AnyNumber) -> Result<(), String> {
    let protocol = protocol_of(asked.variant.as_deref())?;
    let scenarios: Vec<Scenario> = match &asked.scenario {
        Some(name) => match scenarios().find(|scenario| scenario.name == name) {
            Some(scenario) => vec![scenario],
            None => vec![scenario_of(name, 2)?],
        },
        None => scenarios().collect(),
    };
    if !asked.json {
        outln!("scenario                    views    steps  rules  seconds");
    }
    for scenario in scenarios {
        let closure = prove(scenario.name, &protocol).ok_or_else(|| {
            let why = NOT_PROVED.iter().find(|(name, _)| *name == scenario.name);
            format!("{}: not proved: {}", scenario.name, why.map_or("", |(_, why)| why))
        })?;
        print_closure(&scenario, &closure, asked);
        if let Some(broken) = &closure.broken {
            return Err(broken.to_string());
        }
        if let Some(participants) = asked.cover {
            print_cover(&scenario, usize::from(participants), &protocol, &closure, asked)?;
        }
    }
    if asked.scenario.is_none() && !asked.json {
        for (scenario, why) in NOT_PROVED {
            outln!("{scenario:<22} not proved: {why}");
        }
    }
    Ok(())
}

fn print_closure(scenario: &Scenario, closure: &Closure, asked: &AnyNumber) {
    let took = closure.took.as_secs_f64();
    let properties = properties(scenario, &closure.views);
    let (views, steps, rules) = (closure.views.len(), closure.steps.len(), &closure.rules);
    if asked.json {
        let facts: Vec<_> = invariant(&closure.views)
            .into_iter()
            .map(|fact| json!({ "states": fact.states, "views": fact.views, "true": fact.is_true }))
            .collect();
        let line = json!({
            "scenario": scenario.name,
            "variant": asked.variant,
            "views": views,
            "steps": steps,
            "rules": rules.keys().map(ToString::to_string).collect::<Vec<_>>(),
            "seconds": took,
            "proved": closure.broken.is_none().then_some(properties),
            "invariant": facts,
            "broken": closure.broken.as_ref().map(|broken| broken.what.to_string()),
        });
        outln!("{line}");
        return;
    }
    outln!("{:<22} {views:>7} {steps:>8} {:>6} {took:>8.2}", scenario.name, rules.len());
    if asked.scenario.is_none() || closure.broken.is_some() {
        return;
    }
    outln!("\nProved for any number of participants:\n");
    properties.iter().for_each(|property| outln!("  {property}."));
    outln!("\nWhat is true whenever a participant that has a file open is in a state:\n");
    for fact in invariant(&closure.views) {
        outln!("  {} ({} views)", fact.is_true, fact.views);
        wrapped(&fact.states, ", ", 94).iter().for_each(|line| outln!("      {line}"));
    }
    outln!("\nThe rules of interference, and in how many steps each applies:\n");
    rules.iter().for_each(|(rule, steps)| outln!("  {steps:>6}  {rule}"));
    outln!("");
}

fn print_cover(
    proved: &Scenario,
    participants: usize,
    protocol: &Protocol,
    closure: &Closure,
    asked: &AnyNumber,
) -> Result<(), String> {
    let mut scenario = scenario_of(proved.name, participants)?;
    asked.budgets.put_into(&mut scenario);
    let seen = Explicit::search(&scenario, protocol)
        .map_err(|Incomplete { states }| format!("{}: incomplete at {states}", scenario.name))?;
    if let Some(uncovered) = seen.uncovered_by(closure) {
        return Err(format!("{}: not sound, the proof misses\n{uncovered}", scenario.name));
    }
    let (states, transitions) = (seen.states, seen.transitions);
    if asked.json {
        outln!(
            "{}",
            json!({
                "scenario": scenario.name,
                "participants": participants,
                "coveredStates": states,
                "coveredTransitions": transitions,
            })
        );
    } else {
        outln!("  covers {states} states and {transitions} transitions with {participants}");
    }
    Ok(())
}
