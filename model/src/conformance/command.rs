//! `conform`: the model against a real filesystem.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use super::filesystem::Row;
use super::{Conformed, Grain, SceneGraph, cannot_be_real, random};
use crate::scenario::catalogue::Scenario;
use crate::scenario::state::PARTICIPANTS;

#[derive(Args)]
pub struct Conform {
    /// Only these scenarios.
    #[arg(long)]
    scenario: Vec<String>,
    /// How many participants acquire, 2 or more.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=PARTICIPANTS as i64))]
    participants: u8,
    /// Only the states that the filesystem and the adapters can distinguish, without those of the
    /// machines.
    #[arg(long)]
    coarse: bool,
    /// Make this many random moves instead, not driven by the machines.
    #[arg(long)]
    random: Option<u64>,
    /// Seed of the random moves.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Measure the filesystem for docs/platforms.md instead, and print its row, which begins with
    /// this name.
    #[arg(long)]
    row: Option<String>,
    /// The same directory, mounted a second time.
    #[arg(long, requires = "row")]
    twin: Option<PathBuf>,
    /// A directory on the filesystem to test. A directory is made in it, and removed at the end.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

pub fn run(args: &Conform) -> Result<(), String> {
    let here = |error| format!("{}: {error}", args.dir.display());
    if let Some(name) = &args.row {
        let row = Row::measure(name, &args.dir, args.twin.as_deref()).map_err(here)?;
        return print_line(&row.to_string());
    }
    if let Some(moves) = args.random {
        let began = Instant::now();
        let calls = random::run(&args.dir, moves, args.seed, None)
            .map_err(here)?
            .map_err(|disagreement| format!("{disagreement}  seed {}", args.seed))?;
        let (seed, took) = (args.seed, began.elapsed().as_secs_f64());
        return print_line(&format!(
            "random, seed {seed}: {} calls agree, {} unknown watches, {} odd ages, {} hidden names, \
             {took:.1} s",
            calls.made, calls.unknown, calls.odd_ages, calls.hidden
        ));
    }
    print_line(&format!(
        "{:<32} {:>9} {:>11} {:>7} {:>8} {:>9} {:>9} {:>7} {:>7} {:>6} {:>6} {:>7}",
        "scenario",
        "states",
        "transitions",
        "scenes",
        "steps",
        "moves",
        "calls",
        "instead",
        "unknown",
        "ages",
        "hidden",
        "seconds"
    ))?;
    for scenario in args.scenarios()? {
        let name = scenario.name;
        if let Some(why) = cannot_be_real(&scenario) {
            print_line(&format!("{name:<32} not made: {why}"))?;
            continue;
        }
        let grain = if args.coarse { Grain::Scenes } else { Grain::Machines };
        let seen = SceneGraph::new(scenario, grain).conform(&args.dir, None).map_err(here)?;
        let seen = seen.map_err(|disagreement| disagreement.to_string())?;
        let Conformed { states, transitions, scenes, steps, moves, calls, took } = seen;
        print_line(&format!(
            "{name:<32} {states:>9} {transitions:>11} {scenes:>7} {steps:>8} {moves:>9} {:>9} {:>7} \
             {:>7} {:>6} {:>6} {:>7.1}",
            calls.made,
            calls.instead,
            calls.unknown,
            calls.odd_ages,
            calls.hidden,
            took.as_secs_f64()
        ))?;
    }
    Ok(())
}

impl Conform {
    fn scenarios(&self) -> Result<Vec<Scenario>, String> {
        let all = Scenario::all(usize::from(self.participants));
        if self.scenario.is_empty() {
            return Ok(all);
        }
        let named = |name: &String| {
            let found = all.iter().find(|scenario| scenario.name == name).cloned();
            found.ok_or_else(|| {
                let names: Vec<_> = all.iter().map(|scenario| scenario.name).collect();
                format!("there is no scenario {name:?} but {}", names.join(", "))
            })
        };
        self.scenario.iter().map(named).collect()
    }
}

/// Prints a line and flushes it, because the next line may take minutes.
fn print_line(line: &str) -> Result<(), String> {
    let mut stdout = std::io::stdout();
    let printed = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    printed.map_err(|error| format!("standard output: {error}"))
}
