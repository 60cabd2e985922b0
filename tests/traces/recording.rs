//! A process that records its calls.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use portlock::protocol::{Acquire, FileSystem, Query, Release};
use portlock_model::conformance::trace::Recorder;
use portlock_model::scenario::machines::{Answer, Machine, Op};

use crate::{ops, replies};

/// Set for a process that records: `acquire` or `ask`, a seed, and the path.
pub(super) const ROLE: &str = "PORTLOCK_TEST_RECORDS";
/// The reply with which its recorder lies to it, if there is one.
pub(super) const LIE: &str = "PORTLOCK_TEST_LIES";

/// How often a process acquires, or asks.
const ROUNDS: usize = 12;
/// How often one tries before it gives up.
const TRIES: u32 = 6;
/// One of so many rounds has a call that fails.
const FAILS: usize = 6;
/// How often one who holds lets others go first, at most.
const YIELDS: usize = 20;

#[test]
pub(super) fn a_process_records_its_calls() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let mut words = role.splitn(3, ' ');
    let mut word = || words.next().expect("three words");
    let (role, seed, path) = (word(), word().parse().expect("a number"), Path::new(word()));
    let mut recorder = Recorder::new(portlock::adapter(path, None), std::io::stdout());
    if let Ok(lie) = std::env::var(LIE) {
        recorder.lies = replies().into_iter().find(|reply| format!("{reply:?}") == lie);
    }
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..ROUNDS {
        recorder.fails.clear();
        if random.usize(..FAILS) == 0 {
            recorder.fails.extend(random.choice(ops().collect::<Vec<_>>()));
        }
        recorder.note(format_args!("begins"));
        match role {
            "acquire" => match run(Acquire::START, &mut recorder, &mut random) {
                Acquire::Held(_) => {
                    // So that the others meet it.
                    for _ in 0..random.usize(..YIELDS) {
                        std::thread::yield_now();
                    }
                    const TROUBLE: [&[Op]; 4] =
                        [&[], &[Op::Confirm], &[Op::Unlink], &[Op::Unlink, Op::Void]];
                    let trouble = random.choice(TROUBLE).unwrap_or_default();
                    recorder.fails.extend(trouble);
                    recorder.note(format_args!("releases"));
                    run(Release::START, &mut recorder, &mut random);
                    if !trouble.is_empty() {
                        let_the_grace_pass(path);
                    }
                }
                Acquire::Failed(_) => drop(let_the_grace_pass(path)),
                _ => {}
            },
            _ => drop(run(Query::START, &mut recorder, &mut random)),
        }
    }
    std::process::exit(0);
}

/// Runs a machine to its end, and answers what it asks.
pub(super) fn run<M: Machine + PartialEq>(
    start: M,
    recorder: &mut Recorder<impl FileSystem, impl Write>,
    random: &mut fastrand::Rng,
) -> M {
    let mut state = start;
    let mut tries = 0;
    loop {
        let asks = |answer| state.answered(answer).is_some();
        let answer = match asks(Answer::Again) {
            true if tries < TRIES => Some(Answer::Again),
            true => Some(Answer::GiveUp),
            false if asks(Answer::Listen) && random.u8(..3) == 0 => Some(Answer::Listen),
            false if asks(Answer::Leave) => Some(Answer::Leave),
            false if asks(Answer::Abandon) => Some(Answer::Abandon),
            false => None,
        };
        let Some(answer) = answer else {
            let next = state.step(recorder);
            if next == state {
                return state;
            }
            state = next;
            continue;
        };
        recorder.note(format_args!("answers {answer:?}"));
        if answer == Answer::Again {
            tries += 1;
            std::thread::yield_now();
        }
        state = state.answered(answer).expect("it was asked for");
    }
}

pub(super) fn let_the_grace_pass(path: &Path) -> Option<()> {
    let file = File::options().write(true).open(path).ok()?;
    if file.metadata().ok()?.len() > 0 {
        return None;
    }
    file.set_modified(SystemTime::now() - Duration::from_secs(10)).ok()
}
