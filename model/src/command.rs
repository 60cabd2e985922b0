//! The command `portlock-model`: check, any-number, variants, replay, picture, table, steps,
//! conform.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::any_number;
use crate::any_number::closure::Closure;
use crate::any_number::cover::Explicit;
use crate::any_number::invariant::{invariant, properties};
use crate::render::export;
use crate::render::pictures::Picture;
use crate::render::report::{Origin, report};
use crate::render::table::wrapped;
use crate::render::{sequence, table};
use crate::scenario::catalogue::Scenario;
use crate::scenario::schedule::{self, Schedule};
use crate::scenario::state::PARTICIPANTS;
use crate::search::counts::{self, Counts, Pinned};
use crate::search::explore::Found;
use crate::search::explore::{Incomplete, Limits, Seen, explore};
use crate::variants::catalogue;
use crate::variants::{self, Caught, Protocol, SHIPPED};
use clap::{Args, Parser, Subcommand};
use serde_json::json;

/// As `print!`, but a reader that has left ends the program quietly.
macro_rules! out {
    ($($part:tt)*) => {
        if write!(std::io::stdout(), $($part)*).is_err() {
            std::process::exit(0);
        }
    };
}

/// As [`out!`], with a line's end.
macro_rules! outln {
    ($($part:tt)*) => {
        out!("{}\n", format_args!($($part)*))
    };
}

/// Explores the machines that portlock ships, in every interleaving.
#[derive(Parser)]
struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Searches scenarios to the end: by default all at 2 participants, and base at 3.
    Check(Check),
    /// Proves P1 and P2 for any number of participants, in every scenario where that is possible.
    AnyNumber(AnyNumber),
    /// Catches every wrong protocol and prints the table; with a name, that one's shortest trace.
    Variants {
        /// The one to show.
        name: Option<String>,
        /// Only their names, and what is known to break: one JSON object each.
        #[arg(long, conflicts_with_all = ["name", "check"])]
        names: bool,
        /// Compare the table with the one in model/README.md, and fail if it differs.
        #[arg(long, conflicts_with = "name")]
        check: bool,
        #[arg(long)]
        json: bool,
    },
    /// Runs one schedule, and prints it move by move.
    Replay(Replay),
    /// Draws one of the pictures of `model/pictures`, as SVG.
    Picture {
        name: Picture,
        /// Where to; standard output if it is not given.
        #[arg(long)]
        svg: Option<PathBuf>,
    },
    /// Prints the transition tables of the shipped machines.
    Table {
        /// One JSON object a start and a cell.
        #[arg(long)]
        json: bool,
        /// That of a wrong protocol.
        #[arg(long, requires = "json")]
        variant: Option<String>,
    },
    /// Prints every step of a scenario, one JSON object a line, in the words of model/smt.
    Steps {
        #[arg(long)]
        scenario: String,
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=PARTICIPANTS as i64))]
        participants: u8,
        #[command(flatten)]
        budgets: Budgets,
        /// A wrong protocol instead of the shipped one.
        #[arg(long)]
        variant: Option<String>,
        /// Look at no further states beyond so many steps.
        #[arg(long, default_value_t = usize::MAX)]
        limit: usize,
    },
    /// Makes every transition of the search on a real filesystem, and compares: by default all
    /// scenarios at 2 participants that can be had there.
    #[cfg(target_os = "linux")]
    Conform(crate::conformance::command::Conform),
}

/// Numbers of a scenario, instead of its own.
#[derive(Args)]
struct Budgets {
    /// How many processes die in all.
    #[arg(long)]
    crashes: Option<u8>,
    /// How many calls fail in all.
    #[arg(long)]
    faults: Option<u8>,
    /// How often somebody outside the protocol removes the path.
    #[arg(long)]
    removals: Option<u8>,
    /// How many participants stop forever.
    #[arg(long)]
    suspensions: Option<u8>,
}

impl Budgets {
    /// Whether any is not the scenario's own.
    fn any(&self) -> bool {
        let Self { crashes, faults, removals, suspensions } = self;
        [crashes, faults, removals, suspensions].into_iter().any(Option::is_some)
    }

    fn put_into(&self, scenario: &mut Scenario) {
        let put = |own: &mut u8, asked: Option<u8>| *own = asked.unwrap_or(*own);
        put(&mut scenario.crashes, self.crashes);
        put(&mut scenario.faults, self.faults);
        put(&mut scenario.removals, self.removals);
        put(&mut scenario.suspensions, self.suspensions);
    }
}

#[derive(Args)]
struct Check {
    /// Only the scenario of this name.
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
    /// Writes the counts that are found to model/counts.txt, with which they are compared otherwise.
    #[arg(long, conflicts_with_all = ["variant", "states", "crashes", "faults", "removals", "suspensions"])]
    pin: bool,
    /// Stop, as incomplete, beyond so many states.
    #[arg(long, default_value_t = usize::MAX)]
    states: usize,
    /// One JSON object a scenario on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct AnyNumber {
    /// Only the scenario of this name; and in full, with the invariant and the rules of interference.
    #[arg(long)]
    scenario: Option<String>,
    /// A wrong protocol instead of the shipped one.
    #[arg(long)]
    variant: Option<String>,
    /// Hold the proof to every state and transition of the search with so many that acquire.
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=PARTICIPANTS as i64))]
    cover: Option<u8>,
    #[command(flatten)]
    budgets: Budgets,
    /// One JSON object a scenario on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Replay {
    #[arg(long)]
    scenario: String,
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=PARTICIPANTS as i64))]
    participants: u8,
    #[command(flatten)]
    budgets: Budgets,
    #[arg(long)]
    variant: Option<String>,
    /// One JSON object a move, and one for the end.
    #[arg(long)]
    json: bool,
    /// Draw it into this file as well, as a sequence diagram.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// The beginning and the moves, as `0/3/1/…`.
    schedule: Schedule,
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let done = match Command::parse().what {
        What::Check(check) => run_check(&check),
        What::AnyNumber(asked) => run_any_number(&asked),
        What::Variants { name: Some(name), .. } => show_variant(&name),
        What::Variants { names: true, .. } => {
            variants::all().iter().for_each(|variant| outln!("{}", export::named(variant)));
            Ok(())
        }
        What::Variants { check: true, .. } => catalogue::compare_with_readme(),
        What::Variants { json, .. } => {
            let caught = catalogue::catch_all();
            match (json, caught) {
                (true, Ok(rows)) => {
                    rows.iter().for_each(|row| outln!("{}", row.to_json()));
                    Ok(())
                }
                (false, Ok(rows)) => {
                    out!("{}", catalogue::table(&rows));
                    Ok(())
                }
                (_, Err(why)) => Err(why),
            }
        }
        What::Replay(replay) => run_replay(&replay),
        What::Picture { name, svg } => draw_picture(name, svg.as_deref()),
        #[cfg(target_os = "linux")]
        What::Conform(conform) => crate::conformance::command::run(&conform),
        What::Table { json: true, variant } => print_cells(variant.as_deref()),
        What::Steps { scenario, participants, budgets, variant, limit } => {
            protocol_of(variant.as_deref()).and_then(|protocol| {
                let mut scenario = scenario_of(&scenario, participants.into())?;
                budgets.put_into(&mut scenario);
                export::steps(&scenario, &protocol, limit, &mut |step| outln!("{step}"))
            })
        }
        What::Table { json: false, .. } => {
            out!("{}", table::print_tables());
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn protocol_of(variant: Option<&str>) -> Result<Protocol, String> {
    match variant {
        None => Ok(SHIPPED),
        Some(name) => variants::named(name)
            .map(|variant| variant.protocol)
            .ok_or_else(|| format!("there is no variant {name:?}; `variants` lists them")),
    }
}

fn print_cells(variant: Option<&str>) -> Result<(), String> {
    let cells = export::cells(&protocol_of(variant)?)
        .map_err(|why| format!("no table of {}: {why}", variant.unwrap_or("the protocol")))?;
    cells.iter().for_each(|cell| outln!("{cell}"));
    Ok(())
}

fn scenario_of(name: &str, participants: usize) -> Result<Scenario, String> {
    Scenario::named(name, participants).ok_or_else(|| {
        let names: Vec<_> =
            Scenario::all(participants).iter().map(|scenario| scenario.name).collect();
        format!("there is no scenario {name:?} but {}", names.join(", "))
    })
}

impl Check {
    /// The scenarios to search, and how many participants each was made for.
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

fn run_check(check: &Check) -> Result<(), String> {
    let protocol = protocol_of(check.variant.as_deref())?;
    // What is committed is of the shipped machines in the usual scenarios.
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

fn run_any_number(asked: &AnyNumber) -> Result<(), String> {
    let protocol = protocol_of(asked.variant.as_deref())?;
    let scenarios: Vec<Scenario> = match &asked.scenario {
        Some(name) => match any_number::scenarios().find(|scenario| scenario.name == name) {
            Some(scenario) => vec![scenario],
            None => vec![scenario_of(name, 2)?],
        },
        None => any_number::scenarios().collect(),
    };
    if !asked.json {
        outln!("scenario                    views    steps  rules  seconds");
    }
    for scenario in scenarios {
        let closure = any_number::prove(scenario.name, &protocol).ok_or_else(|| {
            let why = any_number::NOT_PROVED.iter().find(|(name, _)| *name == scenario.name);
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
        for (scenario, why) in any_number::NOT_PROVED {
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

fn show_variant(name: &str) -> Result<(), String> {
    let variant = variants::named(name)
        .ok_or_else(|| format!("there is no variant {name:?}; `variants` lists them"))?;
    match variant.caught {
        Caught::Harmless { why, both } => {
            outln!("{name} is harmless: {why}. Both left out: {both}.");
            Ok(())
        }
        Caught::Breaks { property, scenario, participants } => {
            let (scenario, found) =
                catalogue::find(&variant.protocol, property, scenario, participants)?;
            let origin = Origin { variant: Some(name), participants };
            out!("{}", report(&scenario, &variant.protocol, &found, origin));
            Ok(())
        }
    }
}

fn draw_picture(picture: Picture, file: Option<&Path>) -> Result<(), String> {
    let drawn = picture.draw()?;
    match file {
        Some(file) => write_to(file, &drawn),
        None => {
            out!("{drawn}");
            Ok(())
        }
    }
}

fn write_to(file: &Path, drawn: &str) -> Result<(), String> {
    std::fs::write(file, drawn).map_err(|why| format!("cannot write {}: {why}", file.display()))
}

fn run_replay(replay: &Replay) -> Result<(), String> {
    let protocol = protocol_of(replay.variant.as_deref())?;
    let participants = usize::from(replay.participants);
    let mut scenario = scenario_of(&replay.scenario, participants)?;
    replay.budgets.put_into(&mut scenario);
    let origin = Origin { variant: replay.variant.as_deref(), participants };
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
        write_to(file, &sequence::draw(scenario.kinds.len(), &run, &origin.story(&scenario)))?;
    }
    if replay.json {
        crate::render::report::lines(&run).iter().for_each(|line| outln!("{line}"));
        return found.map_or(Ok(()), |found| Err(found.property.sentence().to_owned()));
    }
    if let Some(found) = found {
        return Err(report(&scenario, &protocol, &found, origin));
    }
    out!("{}", crate::render::report::history(&scenario, &run));
    outln!("\n  No property is broken.");
    Ok(())
}

/// The property that a schedule breaks. One that an engine found breaks one property; another may
/// break on the way there, so the one that breaks at its end is meant, with each property looked at
/// by itself. If none does, it is the first that breaks, and the schedule ends there.
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
