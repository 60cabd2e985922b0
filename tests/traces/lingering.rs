//! A kernel lock that outlives its holder is distinguished from one that is refused for no reason.

use std::fs::File;
use std::time::Duration;

use portlock::protocol::{Acquire, LockReply};
use portlock_model::conformance::trace::{
    Event, Recorder, Trace, explain, explain_with_lingering_lock, parse,
};
use portlock_model::scenario::machines::Reply;
use portlock_model::scenario::state::Kind;

use crate::recording::run;

#[test]
fn only_lock_of_just_dead_holder_may_linger() {
    let directory = tempfile::tempdir().expect("there is room");
    let path = directory.path().join("agent-5338.lock");
    let lines = |name: &str| directory.path().join(name);
    let record = |name| {
        let out = File::create(lines(name)).expect("a new file");
        let mut recorder = Recorder::new(portlock::adapter(&path, None), out);
        recorder.note(format_args!("begins"));
        run(Acquire::START, &mut recorder, &mut fastrand::Rng::with_seed(1));
        recorder
    };
    let holder = record("holder");
    drop(record("contender"));
    drop(holder);
    let read = |name| std::fs::read_to_string(lines(name)).expect("its lines");

    let text = read("contender");
    let mut contender = parse(text.lines(), Duration::MAX).expect("a trace");
    let is_refused = |event: &Event| event.reply() == Some(Reply::Lock(LockReply::Busy));
    let refused = contender.iter().position(is_refused).expect("the holder has the lock");
    contender.truncate(refused + 1);
    // As if the holder had been killed and reaped just before the refusal, or a second before it.
    let reaped = contender[refused].from - Duration::from_nanos(1);
    let text = read("holder");
    let holder = parse(text.lines(), reaped).expect("a trace");
    let mut trace = Trace {
        lanes: vec![(Kind::Process, holder), (Kind::Process, contender)],
        outside: vec![Vec::new(); 2],
    };
    explain(&trace).expect_err("the lock is free in the model");
    explain_with_lingering_lock(&trace).expect("it was free only just");
    trace.lanes[1].1[refused].from += Duration::from_secs(1);
    trace.lanes[1].1[refused].to += Duration::from_secs(1);
    explain_with_lingering_lock(&trace).expect_err("no reference lasts for so long");
}
