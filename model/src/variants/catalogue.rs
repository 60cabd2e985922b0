//! The table of wrong protocols: catches each, prints the rows, and compares them with
//! model/README.md.

use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::properties::property::Property;
use crate::scenario::catalogue::Scenario;
use crate::scenario::schedule::run;
use crate::search::explore::{Found, Incomplete, Limits, explore};
use crate::variants::{Caught, Protocol, Variant, all};

pub struct Row {
    pub variant: Variant,
    /// Calls of the shortest trace; `None` for a harmless one.
    pub calls: Option<usize>,
    pub schedule: Option<String>,
}

impl Row {
    pub fn to_json(&self) -> Value {
        let (property, scenario, participants, why) = match self.variant.caught {
            Caught::Breaks { property, scenario, participants } => {
                (Some(property.to_string()), Some(scenario), Some(participants), None)
            }
            Caught::Harmless { why, .. } => (None, None, None, Some(why)),
        };
        json!({
            "variant": self.variant.name,
            "shippedBy": self.variant.shipped_by,
            "property": property,
            "scenario": scenario,
            "participants": participants,
            "calls": self.calls,
            "schedule": self.schedule,
            "harmless": why,
            "engines": self.variant.engines.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }
}

/// Searches with one property only, to find its own shortest trace.
pub fn find(
    protocol: &Protocol,
    property: Property,
    name: &str,
    participants: usize,
) -> Result<(Scenario, Found), String> {
    let scenario = Scenario::named(name, participants)
        .ok_or_else(|| format!("there is no scenario {name:?}"))?;
    let scenario = Scenario { properties: property.only(), ..scenario };
    let seen = explore(&scenario, protocol, Limits::default())
        .map_err(|Incomplete { states }| format!("incomplete at {states} states"))?;
    match seen.found {
        Some(found) => Ok((scenario, found)),
        None => Err(format!(
            "not caught: {property} holds in the scenario {name} with {participants} participants, \
             in all {} states",
            seen.states
        )),
    }
}

/// Catches one variant, or shows that it is harmless in every scenario at 2, and in base at 3 with
/// one crash.
pub fn catch(&variant: &Variant) -> Result<Row, String> {
    let failed = |why: String| format!("variant {}: {why}", variant.name);
    match variant.caught {
        Caught::Breaks { property, scenario, participants } => {
            let (scenario, found) =
                find(&variant.protocol, property, scenario, participants).map_err(failed)?;
            let made = run(&scenario, &variant.protocol, &found.schedule, found.solo);
            if made.broken != Some(property) {
                return Err(failed(format!("its schedule replays as {:?}", made.broken)));
            }
            let calls = crate::render::report::calls(&made);
            Ok(Row { variant, calls: Some(calls), schedule: Some(found.schedule.to_string()) })
        }
        Caught::Harmless { both, .. } => {
            if !all().iter().any(|other| other.name == both) {
                return Err(failed(format!("there is no variant {both:?} that leaves out both")));
            }
            let three = Scenario::named("base", 3).map(|scenario| scenario.with_crashes(1));
            let scenarios = Scenario::all(2).into_iter().chain(three);
            for scenario in scenarios {
                let seen = explore(&scenario, &variant.protocol, Limits::default())
                    .map_err(|Incomplete { states }| failed(format!("incomplete at {states}")))?;
                if let Some(found) = seen.found {
                    let property = found.property;
                    return Err(failed(format!(
                        "not harmless: breaks {property} in {}",
                        scenario.name
                    )));
                }
            }
            Ok(Row { variant, calls: None, schedule: None })
        }
    }
}

/// Catches all of them, on as many threads as there are processors; in the order of the list.
pub fn catch_all() -> Result<Vec<Row>, String> {
    on_all_processors(&all(), catch).into_iter().collect()
}

/// `work` on each of `items`, on as many threads as there are processors; results in order.
pub fn on_all_processors<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number) else { return done };
            done.push((number, work(item)));
        }
    };
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no worker panics")).collect()
    });
    done.sort_by_key(|&(number, _)| number);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The table, in Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| variant | shipped by | breaks | scenario | participants | calls | found by |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for row in rows {
        let Variant { name, shipped_by, .. } = row.variant;
        let engines: Vec<_> = row.variant.engines.iter().map(ToString::to_string).collect();
        let engines = engines.join(", ");
        let calls = row.calls.map_or_else(String::new, |calls| calls.to_string());
        let _ = match row.variant.caught {
            Caught::Breaks { property, scenario, participants } => writeln!(
                text,
                "| {name} | {shipped_by} | {property} | {scenario} | {participants} | {calls} | {engines} |"
            ),
            Caught::Harmless { why, both } => writeln!(
                text,
                "| {name} | {shipped_by} | nothing: {why}; without both: {both} | all | 2, 3 | | |"
            ),
        };
    }
    text
}

/// The bounds of the table in model/README.md.
const BEGIN: &str = "<!-- variants:begin -->\n";
const END: &str = "<!-- variants:end -->";

/// Compares the table in model/README.md with the printed one.
pub fn compare_with_readme() -> Result<(), String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let table = table(&catch_all()?);
    let present = readme
        .split_once(BEGIN)
        .and_then(|(_, rest)| rest.split_once(END))
        .map(|(present, _)| present)
        .ok_or_else(|| format!("model/README.md has no part between {BEGIN:?} and {END:?}"))?;
    if present == table {
        println!(
            "the table of wrong protocols in model/README.md is current: {} rows",
            all().len()
        );
        return Ok(());
    }
    let stale: Vec<_> = table.lines().filter(|line| !present.contains(line)).collect();
    Err(format!(
        "the table of wrong protocols in model/README.md is not current: put in what \
         `cargo run -p portlock-model -- variants` prints. Rows that differ:\n{}",
        stale.join("\n")
    ))
}
