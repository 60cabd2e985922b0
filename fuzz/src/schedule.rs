//! The seed corpus of the schedule fuzzer.
//!
//! Seeded walks through every scenario find the seeds, and the shortest one is kept for each place:
//! a hold, a reclaim, a refusal, a release, a death in each state. `PORTLOCK_BLESS=1 cargo test`
//! writes the corpus again.

use std::collections::BTreeMap;

use portlock_model::scenario::machines::Answer;
use portlock_model::scenario::moves::successors;
use portlock_model::scenario::state::{Activity, Look, Move, Who};
use portlock_model::scenario::walk::{Walk, from_fuzz};
use portlock_model::variants::SHIPPED;

use portlock::protocol::{Acquire, Clear, Closing, Release, Released, Then};

/// The number of walks through each scenario, and their moves.
const WALKS: u32 = 400;
const MOVES: u32 = 60;

/// The place that a move reaches, if it is worth a seed.
fn place(walk: &Walk<'_>, one: Move, ended: Activity) -> Option<String> {
    match one {
        Move::Answer(_, Answer::Force) => Some("forces".into()),
        Move::Call(who, _) | Move::Answer(who, _) => Some(match ended {
            Activity::Acquiring(Acquire::Held(_)) => "holds".into(),
            Activity::Acquiring(Acquire::Closing(Closing { then: Then::Create })) => {
                match walk.state.participant(who).activity {
                    Activity::Acquiring(Acquire::Revalidating(_)) => "revalidated-to-create".into(),
                    _ => "reclaims".into(),
                }
            }
            Activity::Acquiring(Acquire::Refused(refusal)) => word("refused", refusal),
            Activity::Acquiring(Acquire::Failed(op)) => word("fails", op),
            Activity::Releasing(Release::Ended(Released::Removed)) => "releases".into(),
            Activity::Releasing(Release::Ended(released)) => word("ends", released),
            Activity::Asking(_) => "asks".into(),
            Activity::Clearing(Clear::Ended(cleared)) => word("clears", cleared),
            _ => return None,
        }),
        Move::Crash(who, Look::Gone) => match walk.state.participant(who).activity {
            Activity::Acquiring(state) => Some(word("dies", state)),
            Activity::Releasing(state) => Some(word("dies-releasing", state)),
            Activity::Clearing(Clear::At(state)) => Some(word("dies-clearing", state)),
            Activity::Holding => Some("dies-holding".into()),
            _ => None,
        },
        Move::Fork(_) => Some("forks".into()),
        Move::Remove => Some("removed".into()),
        Move::Suspend(_) => Some("stopped-process".into()),
        _ => None,
    }
}

/// The name of a state: the first word of its `Debug` output.
fn word(what: &str, state: impl std::fmt::Debug) -> String {
    let all = format!("{state:?}").to_lowercase();
    let name: String = all.chars().take_while(char::is_ascii_alphanumeric).collect();
    format!("{what}-{name}")
}

/// The scenarios of two participants, by their byte in a seed.
pub fn scenarios() -> impl Iterator<Item = u8> {
    (0..u8::MAX).take_while(|&state| from_fuzz(&[state]).1 == 2)
}

/// The places that the schedule of these bytes reaches.
pub fn places(bytes: &[u8]) -> Vec<String> {
    let (scenario, _, schedule) = from_fuzz(bytes);
    let mut walk = Walk::begin(scenario, &SHIPPED, schedule.start);
    let (mut possible, mut places) = (Vec::new(), Vec::new());
    for step in schedule.steps {
        successors(scenario, &SHIPPED, &walk.state, &mut possible);
        let Some(&(one, outcome)) = possible.get(usize::from(step) % possible.len().max(1)) else {
            break;
        };
        places.extend(place(&walk, one, outcome.ended));
        walk.take(one, outcome).expect("the shipped machines keep their properties");
    }
    places
}

/// All seeds, by name. Places with a `-` in their name are kept only for the first scenario that
/// reaches them.
pub fn seeds() -> BTreeMap<String, Vec<u8>> {
    let mut seeds: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut known: Vec<String> = Vec::new();
    let mut random = 5338_u64;
    let mut below = |bound: u32| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((random >> 33) % u64::from(bound)) as u32
    };
    for state in scenarios() {
        let (scenario, ..) = from_fuzz(&[state]);
        let mut here: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut possible = Vec::new();
        for _ in 0..WALKS {
            let start = below(scenario.starts.len() as u32) as u8;
            let mut bytes = vec![state, start];
            let mut walk = Walk::begin(scenario, &SHIPPED, start);
            let mut last: Option<Who> = None;
            for _ in 0..MOVES {
                successors(scenario, &SHIPPED, &walk.state, &mut possible);
                // A woken waiter leaves this state with its next call, so deaths in it are rare.
                let is_woken = last.is_some_and(|last| {
                    matches!(
                        walk.state.participant(last).activity,
                        Activity::Acquiring(Acquire::Revalidating(_))
                    )
                });
                let dies = below(if is_woken { 2 } else { 24 }) == 0;
                let stays = below(4) > 0;
                // Other replies are mostly faults, which would be used up before any release.
                let usual = below(4) > 0;
                let fits = |one: Move| match one {
                    Move::Crash(..) | Move::Suspend(_) => dies,
                    Move::Call(who, choice) => {
                        !dies
                            && (!usual || choice == 0)
                            && (!stays || last.is_none_or(|last| last == who))
                    }
                    _ => !dies,
                };
                let mut wanted: Vec<usize> =
                    (0..possible.len()).filter(|&number| fits(possible[number].0)).collect();
                if wanted.is_empty() {
                    wanted = (0..possible.len()).collect();
                }
                if wanted.is_empty() {
                    break;
                }
                let number = wanted[below(wanted.len() as u32) as usize];
                let (one, outcome) = possible[number];
                last = match one {
                    Move::Call(who, _) | Move::Begin(who) => Some(who),
                    _ => last,
                };
                bytes.push(number as u8);
                if let Some(place) = place(&walk, one, outcome.ended) {
                    let shorter = here.get(&place).is_none_or(|seed| bytes.len() < seed.len());
                    if shorter && !known.contains(&place) {
                        here.insert(place, bytes.clone());
                    }
                }
                walk.take(one, outcome).expect("the shipped machines keep their properties");
            }
        }
        known.extend(here.keys().filter(|place| place.contains('-')).cloned());
        seeds.extend(
            here.into_iter().map(|(place, seed)| (format!("{}-{place}", scenario.name), seed)),
        );
    }
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/schedule");

    #[test]
    fn the_committed_corpus_reaches_every_place() {
        if std::env::var_os("PORTLOCK_BLESS").is_some() {
            fs::create_dir_all(FOLDER).expect("a folder");
            // The scenarios are numbered, so old seeds may belong to other scenarios.
            for file in fs::read_dir(FOLDER).expect("a folder") {
                fs::remove_file(file.expect("a file").path()).expect("removed");
            }
            for (name, bytes) in seeds() {
                fs::write(format!("{FOLDER}/{name}"), bytes).expect("written");
            }
        }
        let files = fs::read_dir(FOLDER).expect("the corpus is committed");
        let mut reached: Vec<String> = files
            .flat_map(|file| places(&fs::read(file.expect("a file").path()).expect("its bytes")))
            .collect();
        reached.sort();
        reached.dedup();
        println!("{reached:?}");
        let states = [
            "creating",
            "lockingcreated",
            "recording",
            "confirmingcreated",
            "opening",
            "checkingage",
            "readingunlocked",
            "lockingexisting",
            "reading",
            "judging",
            "confirming",
            "unlinking",
            "blocked",
            "revalidating",
            "subscribing",
            "rechecking",
            "retrying",
            "listening",
            "closing",
            "pausing",
        ];
        let deaths = states.map(|state| format!("dies-{state}"));
        let others = [
            "holds",
            "reclaims",
            "refused-holder",
            "refused-unknown",
            "releases",
            "dies-holding",
            "dies-releasing-confirming",
            "dies-releasing-unlinking",
            "dies-releasing-releasefailed",
            "dies-releasing-closing",
            "dies-clearing-unlinking",
            "revalidated-to-create",
            "ends-kept",
            "ends-failed",
            "clears-removed",
            "clears-refused",
            "forces",
            "forks",
            "removed",
            "stopped-process",
            "asks",
            "fails-create",
        ];
        let expected = deaths.iter().map(String::as_str).chain(others);
        let missing: Vec<_> =
            expected.filter(|place| !reached.iter().any(|one| one == place)).collect();
        assert!(missing.is_empty(), "no seed reaches {missing:?}");
    }
}
