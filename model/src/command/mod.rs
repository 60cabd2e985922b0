//! The command `portlock-model`: check, any-number, variants, replay, picture, table, steps,
//! conform.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::render::pictures::Picture;
use crate::render::report::{Origin, report};
use crate::render::{export, table};
use crate::scenario::catalogue::Scenario;
use crate::scenario::state::PARTICIPANTS;
use crate::variants::catalogue;
use crate::variants::{self, Caught, Protocol, SHIPPED};

/// Same as `print!`, except that a closed pipe ends the program quietly.
macro_rules! out {
    ($($part:tt)*) => {
        if std::io::Write::write_fmt(&mut std::io::stdout(), format_args!($($part)*)).is_err() {
            std::process::exit(0);
        }
    };
}

/// Same as `out!`, with a newline.
macro_rules! outln {
    ($($part:tt)*) => {
        out!("{}\n", format_args!($($part)*))
    };
}

// The macros are in scope from here on.
mod any_number;
mod check;
mod replay;

/// Explores the machines that portlock ships, in every interleaving.
#[derive(Parser)]
struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Searches scenarios to the end: by default all at 2 participants, and base at 3.
    Check(check::Check),
    /// Proves P1 and P2 for any number of participants, in every scenario where that is possible.
    AnyNumber(any_number::AnyNumber),
    /// Catches every wrong protocol and prints the table; with a name, prints its shortest trace.
    Variants {
        /// The wrong protocol to show.
        name: Option<String>,
        /// Only the names and the broken properties, one JSON object each.
        #[arg(long, conflicts_with_all = ["name", "check"])]
        names: bool,
        /// Compare the table with the one in model/README.md, and fail if it differs.
        #[arg(long, conflicts_with = "name")]
        check: bool,
        #[arg(long)]
        json: bool,
    },
    /// Runs one schedule and prints its moves.
    Replay(replay::Replay),
    /// Draws one of the pictures of `model/pictures`, as SVG.
    Picture {
        name: Picture,
        /// The file to write instead of standard output.
        #[arg(long)]
        svg: Option<PathBuf>,
    },
    /// Prints the transition tables of the shipped machines.
    Table {
        /// One JSON object for each start and each cell.
        #[arg(long)]
        json: bool,
        /// The table of a wrong protocol.
        #[arg(long, requires = "json")]
        variant: Option<String>,
    },
    /// Prints every step of a scenario, one JSON object a line, in the words of model/smt.
    Steps {
        #[command(flatten)]
        chosen: Chosen,
        /// Expand no more states after this many steps.
        #[arg(long, default_value_t = usize::MAX)]
        limit: usize,
    },
    /// Makes every transition of the search on a real filesystem, and compares: by default in all
    /// scenarios at 2 participants that are possible there.
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
    /// How often the path is removed from outside.
    #[arg(long)]
    removals: Option<u8>,
    /// How many participants stop forever.
    #[arg(long)]
    suspensions: Option<u8>,
}

impl Budgets {
    /// Whether any budget is not the scenario's own.
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

/// One scenario, and the protocol to run in it.
#[derive(Args)]
struct Chosen {
    #[arg(long)]
    scenario: String,
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=PARTICIPANTS as i64))]
    participants: u8,
    #[command(flatten)]
    budgets: Budgets,
    /// A wrong protocol instead of the shipped one.
    #[arg(long)]
    variant: Option<String>,
}

impl Chosen {
    fn get(&self) -> Result<(Scenario, Protocol), String> {
        let protocol = protocol_of(self.variant.as_deref())?;
        let mut scenario = scenario_of(&self.scenario, self.participants.into())?;
        self.budgets.put_into(&mut scenario);
        Ok((scenario, protocol))
    }

    fn origin(&self) -> Origin<'_> {
        Origin { variant: self.variant.as_deref(), participants: self.participants.into() }
    }
}

pub fn main() -> ExitCode {
    let done = match Command::parse().what {
        What::Check(check) => check::run(&check),
        What::AnyNumber(asked) => any_number::run(&asked),
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
        What::Replay(replay) => replay::run(&replay),
        What::Picture { name, svg } => draw_picture(name, svg.as_deref()),
        #[cfg(target_os = "linux")]
        What::Conform(conform) => crate::conformance::command::run(&conform),
        What::Table { json: true, variant } => print_cells(variant.as_deref()),
        What::Steps { chosen, limit } => chosen.get().and_then(|(scenario, protocol)| {
            export::steps(&scenario, &protocol, limit, &mut |step| outln!("{step}"))
        }),
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
