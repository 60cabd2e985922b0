//! Every wrong protocol is caught, by the property that it breaks, with a trace as short as the
//! committed one. A checker that has never failed is not known to work.

use portlock_model::properties::property::Property;
use portlock_model::render::report::{Origin, report};
use portlock_model::scenario::catalogue::Scenario;
use portlock_model::scenario::machines::Reply;
use portlock_model::scenario::schedule::run;
use portlock_model::scenario::state::Kind;
use portlock_model::variants::catalogue::{catch, find, on_all_processors};
use portlock_model::variants::{Caught, Engine, all, named};

#[test]
fn every_wrong_protocol_is_caught_with_shortest_trace() {
    let variants = all();
    let mut missed = Vec::new();
    for (variant, caught) in variants.iter().zip(on_all_processors(&variants, catch)) {
        match caught {
            Ok(row) => {
                let calls = row.calls.unwrap_or(0);
                let schedule = row.schedule.as_deref().unwrap_or("harmless");
                println!("{:<44} {calls:>3} calls  {schedule}", variant.name);
                if calls != variant.calls {
                    missed.push(format!(
                        "{}: {calls} calls, and {} are committed",
                        variant.name, variant.calls
                    ));
                }
            }
            Err(reason) => missed.push(reason),
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn every_variant_has_unique_name_and_an_engine() {
    let variants = all();
    for variant in &variants {
        let namesakes = variants.iter().filter(|other| other.name == variant.name).count();
        assert_eq!(namesakes, 1, "{}", variant.name);
        let harmless = matches!(variant.caught, Caught::Harmless { .. });
        assert_eq!(variant.engines.contains(&Engine::Explorer), !harmless, "{}", variant.name);
    }
    // The list of the design, 28 entries (one is three variants), the order variant, one for the
    // queries, and the pair of the harmless one; seven of listening, two of stuck releases, four of
    // clears, ten that shipped, one of denials, and one of a command.
    assert_eq!(variants.len(), 58);
}

/// The trace must show the race: a process exits between a reclaimer's verdict and its unlink.
#[test]
fn order_variants_trace_reads_as_its_story() {
    let variant = named("confirm-before-verdict-unlock-before-unlink").expect("it is listed");
    let Caught::Breaks { property, scenario, participants } = variant.caught else {
        panic!("it is not harmless")
    };
    let (scenario, found) =
        find(&variant.protocol, property, scenario, participants).expect("caught");
    let origin = Origin { variant: Some(variant.name), participants };
    let text = report(&scenario, &variant.protocol, &found, origin);
    let order = [
        "confirm same HOLDS",
        "lock ok",
        "confirm same",
        "read a record",
        "† dies",
        "probe here, gone",
        "unlink ok",
    ];
    let mut rest = text.as_str();
    for part in order {
        let at = rest.find(part).unwrap_or_else(|| panic!("no {part:?} in order in\n{text}"));
        rest = &rest[at + part.len()..];
    }
    assert!(text.starts_with("✗ P1 "), "{text}");
    assert!(text.contains("replay: cargo run -p portlock-model -- replay --variant "), "{text}");
}

/// A forced removal without kernel locks excuses an unlink that follows a confirm, like any removal
/// from outside. It excuses no unlink without a confirm.
#[test]
fn forced_removal_excuses_no_unconfirmed_unlink() {
    let scenario =
        Scenario::named("combined-faults-clears-no-locks", 3).expect("there is this scenario");
    let acquirers = scenario.kinds.iter().filter(|&&kind| kind == Kind::Process).count();
    assert_eq!(acquirers, 2, "one is forced, and one creates after it");
    let wrong = named("release-by-name").expect("it is listed");
    let (_, found) = find(&wrong.protocol, Property::P2, scenario.name, 3).expect("caught");
    let run = run(&scenario, &wrong.protocol, &found.schedule, found.solo);
    assert_eq!(run.broken, Some(Property::P2));
    let unlinks = run.made.iter().filter(|step| matches!(step.outcome.reply, Reply::Unlink(_)));
    assert_eq!(unlinks.count(), 2, "the forced one, and the release's");
}
