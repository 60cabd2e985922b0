//! Threads under loom.
//!
//! Two or three threads drive the shipped machines over the model's world, one call at a time, and
//! loom runs every interleaving within a bound. What the crate itself shares between threads,
//! src/os/per_process.rs, is compiled a second time here, over loom's atomics.
//!
//! `cargo test --features loom --test loom -- --nocapture` prints executions and seconds.

#![cfg(feature = "loom")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portlock::protocol::{Acquire, Clear, Closing, Release, Then};
use portlock_model::explore::Found;
use portlock_model::machines::Answer;
use portlock_model::moves::{Outcome, asks_the_driver};
use portlock_model::other::{Aside, Percy};
use portlock_model::report::{Origin, report};
use portlock_model::schedule::run;
use portlock_model::variants::{self, Caught, Engine, Protocol, SHIPPED};
use portlock_model::walk::{Walk, shorten};
use portlock_model::world::{Doing, Kind, Look, Move, Who};
use portlock_model::worlds::{Config, Promise};

/// How often a thread tries again before it gives up.
const ATTEMPTS: u8 = 2;

/// No check takes this long. Loom's own cap ends a check early as if it had passed, so it is off,
/// and ours panics.
const CAP: Duration = Duration::from_secs(120);

/// What one thread does when it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Releases, and exits.
    Releases,
    /// Exits without a release.
    Dies,
    /// Releases, and lives on.
    Stays,
}

/// What one thread does, beside acquiring.
#[derive(Debug, Clone, Copy)]
struct Script {
    end: End,
    /// Which of its calls fails, counted from 0.
    fault: Option<u8>,
    /// Among the replies that a call can have, where it has several.
    choice: u8,
    /// How often it tries, before it gives up.
    attempts: u8,
    /// What it answers where a file stands.
    standing: Answer,
}

const RELEASES: Script = Script {
    end: End::Releases,
    fault: None,
    choice: 0,
    attempts: ATTEMPTS,
    standing: Answer::Leave,
};
const DIES: Script = Script { end: End::Dies, ..RELEASES };
const LISTENS: Script = Script { standing: Answer::Listen, ..RELEASES };
const FORCES: Script = Script { standing: Answer::Force, ..RELEASES };

/// What is checked: a world, how it begins, and a script for each thread.
#[derive(Debug, Clone)]
struct Scenario {
    config: Config,
    /// The number that the model's worlds take: a child, an asker may come on top.
    participants: usize,
    start: u8,
    scripts: Vec<Script>,
}

/// What happened in some execution.
#[derive(Debug, Default)]
struct Sometimes {
    held: AtomicBool,
    reclaimed: AtomicBool,
    refused: AtomicBool,
    died: AtomicBool,
    woken: AtomicBool,
}

/// How a check ended.
#[derive(Debug)]
enum Ended {
    /// Every interleaving within the bound was run.
    Complete,
    Broken(Found),
    /// The cap was reached.
    Incomplete,
}

#[derive(Debug)]
struct Checked {
    ended: Ended,
    executions: usize,
    took: Duration,
    sometimes: Arc<Sometimes>,
}

/// What the threads share.
struct Shared {
    walk: Walk<'static>,
    sometimes: Arc<Sometimes>,
    found: Arc<Mutex<Option<Found>>>,
    /// How many threads wait for a kernel lock.
    blocked: usize,
}

/// What came of a thread's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// It made its call.
    Called,
    /// Its call does not return yet.
    Blocked,
    /// It has exited.
    Exited,
}

impl Shared {
    /// One move, checked. Tells whether it was possible, and how many replies there were.
    fn make(&mut self, one: Move) -> Option<Outcome> {
        let was = match one {
            Move::Call(name, _) | Move::Crash(name, _) => self.doing(name),
            _ => Doing::Absent,
        };
        let dying = matches!(one, Move::Crash(..));
        match self.walk.make(one)? {
            Ok(outcome) => {
                self.note(was, &outcome, dying);
                Some(outcome)
            }
            Err(promise) => self.fail(promise, false),
        }
    }

    /// Leaves what was found for the check, and ends the execution.
    fn fail(&self, promise: Promise, alone: bool) -> ! {
        let schedule = self.walk.schedule();
        *self.found.lock().expect("nobody panics with it") =
            Some(Found { promise, schedule, alone });
        // Without a word from the panic hook: what was found is reported by who asked for it.
        resume_unwind(Box::new(promise))
    }

    fn note(&self, was: Doing, outcome: &Outcome, dying: bool) {
        const CREATE: Acquire = Acquire::Closing(Closing { then: Then::Create });
        let what = match (was, outcome.ended) {
            (_, Doing::Acquiring(Acquire::Held(_))) => &self.sometimes.held,
            (_, Doing::Acquiring(Acquire::Refused(_))) => &self.sometimes.refused,
            (Doing::Acquiring(Acquire::Unlinking(_)), Doing::Acquiring(CREATE)) => {
                &self.sometimes.reclaimed
            }
            (Doing::Acquiring(Acquire::Listening(_)), Doing::Acquiring(Acquire::Noticing(_))) => {
                &self.sometimes.woken
            }
            _ if dying => &self.sometimes.died,
            _ => return,
        };
        what.store(true, Ordering::Relaxed);
    }

    fn doing(&self, name: Who) -> Doing {
        self.walk.world.participant(self.walk.place_of(name)).doing
    }

    fn kind(&self, name: Who) -> Kind {
        self.walk.world.participant(self.walk.place_of(name)).kind
    }

    /// What a participant does up to and with its next call.
    fn step(&mut self, name: Who, life: &mut Life) -> Turn {
        loop {
            match self.next(name, life) {
                Some(one @ Move::Call(..)) if self.call(one) => return Turn::Called,
                Some(Move::Call(..)) => {
                    life.calls -= 1;
                    return Turn::Blocked;
                }
                // Nobody else can tell when a thread begins, answers or starts to release.
                Some(one) => {
                    self.make(one);
                }
                None => return Turn::Exited,
            }
        }
    }

    fn next(&mut self, name: Who, life: &mut Life) -> Option<Move> {
        Some(match self.doing(name) {
            Doing::Absent => return None,
            Doing::Idle if !life.begun => {
                life.begun = true;
                Move::Begin(name)
            }
            Doing::Idle if life.script.end == End::Stays => return None,
            Doing::Idle => {
                // It exits: whatever still bears its name is a dead one's.
                self.make(Move::Begin(name));
                self.make(Move::Crash(name, Look::Gone));
                return None;
            }
            Doing::Acquiring(Acquire::Standing(_))
            | Doing::Clearing(Clear::At(Acquire::Standing(_))) => {
                Move::Answer(name, life.script.standing)
            }
            Doing::Releasing(Release::Stuck(_)) => Move::Answer(name, Answer::Abandon),
            doing if asks_the_driver(doing) => {
                life.attempts += 1;
                let again = life.attempts < life.script.attempts;
                Move::Answer(name, if again { Answer::Again } else { Answer::GiveUp })
            }
            Doing::Holding
            | Doing::Inherited { .. }
            | Doing::Percy(Percy::Holding)
            | Doing::Aside(Aside::Holding) => {
                if life.script.end == End::Dies {
                    self.make(Move::Crash(name, Look::Gone));
                    return None;
                }
                Move::Release(name)
            }
            Doing::Acquiring(_)
            | Doing::Releasing(_)
            | Doing::Asking(_)
            | Doing::Clearing(_)
            | Doing::Percy(_)
            | Doing::Aside(_) => {
                let failing = life.script.fault == Some(life.calls);
                life.calls += 1;
                // A pause outlasts the grace.
                let is_old = life.attempts > 0
                    && matches!(
                        self.doing(name),
                        Doing::Acquiring(Acquire::Dating(_))
                            | Doing::Clearing(Clear::At(Acquire::Dating(_)))
                    );
                let choice = if is_old { 1 } else { life.script.choice };
                Move::Call(name, if failing { u8::MAX } else { choice })
            }
        })
    }

    /// Makes a call, if it returns; with fewer replies than the script thinks, the last one.
    fn call(&mut self, one: Move) -> bool {
        let Move::Call(name, wanted) = one else { return self.make(one).is_some() };
        let place = self.walk.place_of(name);
        let replies = portlock_model::moves::apply(
            self.walk.config,
            self.walk.protocol,
            &self.walk.world,
            Move::Call(place, 0),
        )
        .map_or(1, |outcome| outcome.choices);
        let faults = self.walk.world.faults_left > 0;
        // The last replies of a call are its faults, while there are any left.
        let choice = match wanted {
            u8::MAX => replies - 1,
            wanted if faults => wanted.min(replies.saturating_sub(2)),
            wanted => wanted.min(replies - 1),
        };
        self.make(Move::Call(name, choice)).is_some()
    }
}

/// Where a thread is in its script.
struct Life {
    script: Script,
    begun: bool,
    attempts: u8,
    calls: u8,
}

impl Scenario {
    /// A world of the model, in which every thread may exit.
    fn new(world: &str, participants: usize, start: u8, scripts: &[Script]) -> Self {
        let config = Config::named(world, participants).expect("a world").with_crashes(8);
        Self { config, participants, start, scripts: scripts.to_vec() }
    }

    /// The same, where nothing else is checked: a wrong protocol may break several promises.
    fn owing(mut self, promise: Promise) -> Self {
        self.config.owed = promise.alone();
        self
    }

    /// Runs every interleaving with at most `bound` preemptions, or all.
    fn check(&self, protocol: Protocol, bound: Option<usize>, cap: Duration) -> Checked {
        let began = Instant::now();
        let executions = Arc::new(AtomicUsize::new(0));
        let sometimes = Arc::new(Sometimes::default());
        let found = Arc::new(Mutex::new(None));
        let incomplete = Arc::new(AtomicBool::new(false));

        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = bound;
        builder.max_branches = 10_000;
        // Neither these nor the variables that set them may cut a check short unseen.
        (builder.max_duration, builder.max_permutations) = (None, None);

        // Loom wants what it runs to live for ever: a few small values a check.
        let config: &'static Config = Box::leak(Box::new(self.config.clone()));
        let protocol: &'static Protocol = Box::leak(Box::new(protocol));
        let (start, scripts) = (self.start, self.scripts.clone());
        let execution = {
            let (executions, sometimes) = (Arc::clone(&executions), Arc::clone(&sometimes));
            let (found, incomplete) = (Arc::clone(&found), Arc::clone(&incomplete));
            move || {
                if began.elapsed() > cap {
                    incomplete.store(true, Ordering::Relaxed);
                    resume_unwind(Box::new("incomplete"));
                }
                executions.fetch_add(1, Ordering::Relaxed);
                // Not loom's `Arc`, which must not be dropped when a find has ended the execution.
                let world = Arc::new(Kernel {
                    shared: loom::sync::Mutex::new(Shared {
                        walk: Walk::begin(config, protocol, start),
                        sometimes: Arc::clone(&sometimes),
                        found: Arc::clone(&found),
                        blocked: 0,
                    }),
                    freed: loom::sync::Condvar::new(),
                });
                let spawned = |from| -> Vec<_> {
                    let of = |(name, &script): (usize, &Script)| {
                        let world = Arc::clone(&world);
                        loom::thread::spawn(move || live(&world, name as Who, script))
                    };
                    scripts.iter().enumerate().skip(from).map(of).collect()
                };
                // The main thread is the first participant, or whoever removes the path.
                let threads = if config.removals > 0 {
                    let threads = spawned(0);
                    lock(&world).make(Move::Remove);
                    threads
                } else {
                    let threads = spawned(1);
                    live(&world, 0, scripts[0]);
                    threads
                };
                for thread in threads {
                    thread.join().expect("loom passes panics on");
                }
                let shared = lock(&world);
                if let Err(promise) = shared.walk.alone() {
                    shared.fail(promise, true);
                }
            }
        };
        let passed = catch_unwind(AssertUnwindSafe(|| builder.check(execution)));
        let found = found.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let ended = match (passed, found, incomplete.load(Ordering::Relaxed)) {
            (Ok(()), None, false) => Ended::Complete,
            (Err(_), Some(found), _) => Ended::Broken(found),
            (Err(_), None, true) => Ended::Incomplete,
            (Err(panic), None, false) => resume_unwind(panic),
            (Ok(()), _, _) => unreachable!("what is found panics"),
        };
        let executions = executions.load(Ordering::Relaxed);
        Checked { ended, executions, took: began.elapsed(), sometimes }
    }
}

/// The world, and the threads that sleep until a kernel lock may be free.
///
/// If nobody wakes a sleeper loom says that the execution is a deadlock, and the check fails.
struct Kernel {
    shared: loom::sync::Mutex<Shared>,
    freed: loom::sync::Condvar,
}

fn lock(world: &Kernel) -> loom::sync::MutexGuard<'_, Shared> {
    world.shared.lock().expect("a panic ends the execution")
}

/// One participant, from its first call to its exit: one lock of the mutex, one move.
fn live(world: &Arc<Kernel>, name: Who, script: Script) {
    let mut life = Life { script, begun: false, attempts: 0, calls: 0 };
    let mut child = None;
    loop {
        let mut now = lock(world);
        let mut turn = now.step(name, &mut life);
        while turn == Turn::Blocked {
            now.blocked += 1;
            now = world.freed.wait(now).expect("a panic ends the execution");
            now.blocked -= 1;
            turn = now.step(name, &mut life);
        }
        let holds = now.doing(name) == Doing::Holding;
        let forks = holds && now.kind(name) == Kind::Parent && now.make(Move::Fork(name)).is_some();
        if now.blocked > 0 {
            world.freed.notify_all();
        }
        drop(now);
        if forks {
            let world = Arc::clone(world);
            // By convention of the model's worlds the child is the last participant.
            let last = lock(&world).walk.world.count - 1;
            child = Some(loom::thread::spawn(move || live(&world, last, RELEASES)));
        }
        if turn == Turn::Exited {
            break;
        }
    }
    if let Some(child) = child {
        child.join().expect("loom passes panics on");
    }
}

/// What was searched, for how long: figures that stand beside the bounds below.
fn print(what: &str, checked: &Checked) {
    let took = checked.took.as_secs_f64();
    println!("{what}: {} executions, {took:.2} s", checked.executions);
}

/// The shipped machines keep every promise, and each thing happens that can be checked at all.
fn holds(what: &str, scenario: &Scenario, bound: Option<usize>, sometimes: &[&str]) {
    let checked = scenario.check(SHIPPED, bound, CAP);
    print(what, &checked);
    match &checked.ended {
        Ended::Complete => {}
        Ended::Broken(found) => panic!("{}", scenario.report(SHIPPED, found, None)),
        Ended::Incomplete => panic!("incomplete: {what} reached the cap of {CAP:?}"),
    }
    let seen = &checked.sometimes;
    let happened: Vec<&str> = [
        (&seen.held, "held"),
        (&seen.reclaimed, "reclaimed"),
        (&seen.refused, "refused"),
        (&seen.died, "died"),
        (&seen.woken, "woken"),
    ]
    .into_iter()
    .filter_map(|(flag, word)| flag.load(Ordering::Relaxed).then_some(word))
    .collect();
    assert_eq!(happened, sometimes, "{what}");
}

impl Scenario {
    /// The report of a find, which `replay` accepts.
    fn report(&self, protocol: Protocol, found: &Found, variant: Option<&str>) -> String {
        let short = shorten(&self.config, &protocol, &found.schedule, found.alone);
        let participants = self.participants;
        let found = short.as_ref().unwrap_or(found);
        report(&self.config, &protocol, found, Origin { variant, participants })
    }
}

const ABSENT: u8 = 0;
const STALE: u8 = 1;

/// No bound: 49,333 executions, 4 to 8 s. One attempt each, since with two, and from a stale file
/// with one, it has not ended after 1,200,000 executions and 100 s.
#[test]
fn two_threads_that_find_nothing_keep_every_promise_in_every_interleaving() {
    let once = Script { end: End::Stays, attempts: 1, ..RELEASES };
    let scenario = Scenario::new("base", 2, ABSENT, &[once; 2]);
    holds("2 threads, absent, no bound", &scenario, None, &["held", "refused"]);
}

/// Bound 4: 21,950 executions, 2 to 6 s.
#[test]
fn two_threads_that_find_a_stale_file_keep_every_promise() {
    let scenario = Scenario::new("base", 2, STALE, &[RELEASES; 2]);
    holds("2 threads, stale, bound 4", &scenario, Some(4), EVERYTHING);
}

const EVERYTHING: &[&str] = &["held", "reclaimed", "refused", "died"];

/// Bound 2: 838, 978, 1,994 and 2,074 executions, 0.2 to 0.5 s each.
#[test]
fn three_threads_keep_every_promise_at_bound_2() {
    for (name, start) in [("absent", ABSENT), ("stale", STALE)] {
        for (how, first) in [("releases", RELEASES), ("dies holding", DIES)] {
            let scenario = Scenario::new("base", 3, start, &[first, RELEASES, RELEASES]);
            let what = format!("3 threads, {name}, the first {how}, bound 2");
            holds(&what, &scenario, Some(2), EVERYTHING);
        }
    }
}

/// Bound 3: absent 8,708 executions, 2 to 3 s; stale 30,776 executions, 5 to 10 s. This is the bound
/// that the order variant below takes. One attempt each.
#[test]
fn three_threads_keep_every_promise_at_bound_3() {
    let once = Script { attempts: 1, ..RELEASES };
    let scenario = Scenario::new("base", 3, ABSENT, &[once; 3]);
    holds("3 threads, absent, bound 3", &scenario, Some(3), EVERYTHING);
    let scenario = Scenario::new("base", 3, STALE, &[once; 3]);
    holds("3 threads, stale, bound 3", &scenario, Some(3), EVERYTHING);
}

/// Each gets the lock from one that releases and from one that dies, and none sleeps on.
#[test]
fn threads_that_listen_keep_every_promise_and_miss_no_event() {
    for (how, first) in [("listens", LISTENS), ("dies holding", DIES)] {
        for others in [1, 2] {
            let scripts = [vec![first], vec![LISTENS; others]].concat();
            let scenario = Scenario::new("listening", others + 1, ABSENT, &scripts);
            let what = format!("{others} threads that listen, the first {how}, bound 2");
            holds(&what, &scenario, Some(2), &[EVERYTHING, &["woken"]].concat());
        }
    }
}

/// What happens between the look and the arming is no event, and nobody tells it again.
#[test]
fn a_thread_that_misses_an_event_is_found() {
    let variant = variants::named("listen-without-a-look").expect("its name");
    let scripts = [RELEASES, LISTENS];
    let scenario = Scenario::new("listening", 2, ABSENT, &scripts).owing(Promise::P1);
    let check = AssertUnwindSafe(|| scenario.check(variant.protocol, Some(2), CAP));
    let panic = catch_unwind(check).expect_err("it sleeps for ever");
    let said = panic.downcast_ref::<String>().map_or("", String::as_str);
    assert!(said.starts_with("deadlock"), "{said}");
}

/// A waiter whose caller has left gets the lock, and the next one sleeps for ever.
#[test]
fn a_thread_that_nobody_wakes_is_found() {
    let variant = variants::named("timed-out-waiter-stays").expect("its name");
    let scenario =
        Scenario::new("listening", 3, ABSENT, &[DIES, LISTENS, LISTENS]).owing(Promise::P1);
    let check = AssertUnwindSafe(|| scenario.check(variant.protocol, Some(2), CAP));
    let panic = catch_unwind(check).expect_err("it sleeps for ever");
    let said = panic.downcast_ref::<String>().map_or("", String::as_str);
    assert!(said.starts_with("deadlock"), "{said}");
}

/// Bound 2: 632, 1,636 and 727 executions, less than 1 s each.
#[test]
fn threads_beside_one_that_clears_keep_every_promise() {
    for (name, start) in [("absent", ABSENT), ("stale", STALE)] {
        let scenario = Scenario::new("clears", 2, start, &[RELEASES; 3]);
        holds(&format!("2 threads, {name}, and a clear, bound 2"), &scenario, Some(2), EVERYTHING);
    }
    let scenario = Scenario::new("forced", 2, ABSENT, &[DIES, RELEASES, FORCES]);
    holds("2 threads, and a clear by force, bound 2", &scenario, Some(2), EVERYTHING);
}

#[test]
fn a_check_that_reaches_its_cap_is_incomplete() {
    let scenario = Scenario::new("base", 2, ABSENT, &[RELEASES; 2]);
    let checked = scenario.check(SHIPPED, None, Duration::from_millis(20));
    assert!(matches!(checked.ended, Ended::Incomplete), "{checked:?}");
}

/// The obvious repair of the old protocol: with two preemptions it looks right.
///
/// Bound 2: 862 executions, 0.2 s. Bound 3: found after 2,267 executions, 0.5 s.
#[test]
fn the_order_variant_is_missed_at_bound_2_and_found_at_bound_3() {
    let variant = variants::named("confirm-before-verdict-unlock-before-unlink").expect("its name");
    let scenario = Scenario::new("base", 3, ABSENT, &[RELEASES; 3]).owing(Promise::P1);
    let at_2 = scenario.check(variant.protocol, Some(2), CAP);
    print("the order variant, bound 2", &at_2);
    assert!(matches!(at_2.ended, Ended::Complete), "{at_2:?}");
    let at_3 = scenario.check(variant.protocol, Some(3), CAP);
    print("the order variant, bound 3", &at_3);
    assert!(matches!(at_3.ended, Ended::Broken(_)), "{at_3:?}");
}

/// The scenario and the bound in which loom finds a variant: the beginning and the scripts that are
/// not as usual.
fn finds(variant: &str, world: &str, participants: usize, promise: Promise) -> (Scenario, usize) {
    let fails = |call| Script { fault: Some(call), ..RELEASES };
    let stays = |script| Script { end: End::Stays, ..script };
    let second = Script { choice: 1, ..RELEASES };
    let (start, scripts, bound): (u8, &[Script], usize) = match variant {
        "naive" | "unlink-create-reread-stand-down" | "guard-for-reclaimers-only" => {
            (STALE, &[RELEASES, RELEASES], 2)
        }
        "absent-is-stale" => (STALE, &[RELEASES, DIES], 3),
        "no-confirm-before-unlink"
        | "confirm-before-lock"
        | "read-once-no-confirm"
        | "unlink-twice" => (STALE, &[RELEASES, DIES], 2),
        "confirm-before-verdict-unlock-before-unlink" => (ABSENT, &[RELEASES; 3], 3),
        "rename-aside-then-check" => (STALE, &[RELEASES; 3], 3),
        "refuse-on-an-orphans-record" => (ABSENT, &[RELEASES; 3], 3),
        // Of an old agent that lives, and that we may not ask after.
        "not-permitted-is-dead" => (15, &[second, second], 1),
        "foreign-data-is-stale" => (14, &[RELEASES, RELEASES], 1),
        "number-identifies-the-process" => (STALE, &[RELEASES, RELEASES], 1),
        // The seventh call of a reclaim is the probe.
        "failed-probe-is-alive" => (STALE, &[fails(6), RELEASES], 1),
        "old-age-is-dead" => (ABSENT, &[second, second], 1),
        // The looks of the dead: see the starts of the base world at two participants.
        "zombie-is-alive" => (2, &[RELEASES, RELEASES], 1),
        "start-time-ignored" => (3, &[RELEASES, RELEASES], 1),
        "newborn-left-when-lock-fails" | "go-on-without-lock-on-enolck" => {
            (ABSENT, &[fails(1), RELEASES], 1)
        }
        "unreadable-is-stale" => (ABSENT, &[RELEASES, fails(1)], 2),
        "newborn-left-when-write-fails" => (ABSENT, &[fails(2), RELEASES], 1),
        "newborn-left-when-confirm-fails" => (ABSENT, &[fails(3), RELEASES], 1),
        "release-by-name" => (ABSENT, &[RELEASES, RELEASES], 3),
        "drop-lock-then-unlink" | "compare-open-file-with-itself" => (ABSENT, &[RELEASES, DIES], 2),
        "hold-after-wait-without-confirm" => (ABSENT, &[RELEASES, LISTENS], 2),
        "an-event-is-the-lock" => (ABSENT, &[DIES, LISTENS], 2),
        "timed-out-waiter-stays" => (ABSENT, &[DIES, LISTENS], 2),
        "keep-after-void" => (ABSENT, &[fails(4), RELEASES], 1),
        "abandon-without-void" => (ABSENT, &[stays(fails(4)), stays(RELEASES)], 1),
        "clear-without-lock" | "clear-without-confirm" => (STALE, &[DIES, RELEASES], 2),
        "clear-leaves-the-dead" => (ABSENT, &[DIES, RELEASES], 1),
        "force-without-the-lock" => (ABSENT, &[RELEASES, RELEASES, FORCES], 1),
        "name-the-dead-while-reclaimer-works" => (STALE, &[RELEASES, RELEASES], 1),
        _ => (ABSENT, &[RELEASES, RELEASES], 1),
    };
    let mut scripts = scripts.to_vec();
    let count = Config::named(world, participants).map_or(0, |config| config.kinds.len());
    scripts.resize(count, RELEASES);
    (Scenario::new(world, participants, start, &scripts).owing(promise), bound)
}

#[test]
fn every_variant_that_claims_loom_is_found_and_the_shipped_machines_pass_where_it_fails() {
    let mut missed = Vec::new();
    for variant in variants::all() {
        let Caught::Breaks { promise, world, participants } = variant.caught else { continue };
        if !variant.engines.contains(&Engine::Loom) {
            continue;
        }
        let (scenario, bound) = finds(variant.name, world, participants, promise);
        let checked = scenario.check(variant.protocol, Some(bound), CAP);
        let what = format!("{}, {} threads, bound {bound}", variant.name, scenario.scripts.len());
        print(&what, &checked);
        let Ended::Broken(found) = &checked.ended else {
            missed.push(variant.name);
            continue;
        };
        let again = run(&scenario.config, &variant.protocol, &found.schedule, found.alone);
        assert_eq!(again.broken, Some(promise), "{} is replayed", variant.name);
        let shipped = scenario.check(SHIPPED, Some(bound.min(2)), CAP);
        let passed = matches!(shipped.ended, Ended::Complete);
        assert!(passed, "where {} fails: {:?}", variant.name, shipped.ended);
    }
    assert!(missed.is_empty(), "loom no longer finds {missed:?}");
}

/// What the crate shares between threads, over loom's atomics.
#[path = "."]
mod os {
    use loom::sync::atomic::AtomicPtr;

    #[path = "../src/os/per_process.rs"]
    pub(crate) mod per_process;
}

/// Values that are computed once a process: the file of the crate, and wrong ones.
mod computed {
    #![allow(unsafe_code)]

    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::atomic::AtomicPtr;
    use std::ptr;

    /// What an execution saw of its values, by their numbers.
    #[derive(Debug, Default)]
    pub(super) struct Seen {
        computed: AtomicUsize,
        dropped: Mutex<Vec<usize>>,
    }

    /// A value that tells loom when it is read, and us when it is freed.
    pub(super) struct Value {
        number: usize,
        cell: UnsafeCell<usize>,
        seen: Arc<Seen>,
    }

    // SAFETY: the cell is written before the value is shared, which is what loom checks.
    unsafe impl Sync for Value {}
    // SAFETY: as above.
    unsafe impl Send for Value {}

    impl Drop for Value {
        fn drop(&mut self) {
            self.seen.dropped.lock().expect("no panic").push(self.number);
        }
    }

    impl Value {
        fn compute(seen: &Arc<Seen>) -> Self {
            let number = seen.computed.fetch_add(1, Ordering::Relaxed);
            Self { number, cell: UnsafeCell::new(number), seen: Arc::clone(seen) }
        }

        /// Loom panics here if the value was not published before it was seen.
        fn read(&self) -> usize {
            // SAFETY: nobody writes it.
            self.cell.with(|cell| unsafe { *cell })
        }
    }

    /// A slot, right or wrong.
    pub(super) trait Slot: Send + Sync + 'static {
        fn get(&self, generation: usize, compute: impl FnOnce() -> Value) -> &'static Value;
    }

    pub(super) type Shipped = os::per_process::PerProcess<Value>;

    pub(super) fn shipped() -> Shipped {
        Shipped::new(AtomicPtr::new(ptr::null_mut()))
    }

    impl Slot for Shipped {
        fn get(&self, generation: usize, compute: impl FnOnce() -> Value) -> &'static Value {
            self.get(generation, compute)
        }
    }

    /// What is wrong.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) enum Wrong {
        /// The pointer is published without what it points to.
        Relaxed,
        /// Whoever comes last wins: threads get different values.
        Stores,
        /// The value of the generation before is freed, which somebody may be using.
        Frees,
        /// A child takes its parent's value for its own.
        IgnoresGeneration,
    }

    pub(super) struct WrongSlot {
        wrong: Wrong,
        slot: AtomicPtr<(usize, Value)>,
    }

    pub(super) fn wrong(wrong: Wrong) -> WrongSlot {
        WrongSlot { wrong, slot: AtomicPtr::new(ptr::null_mut()) }
    }

    impl Slot for WrongSlot {
        fn get(&self, generation: usize, compute: impl FnOnce() -> Value) -> &'static Value {
            let (load, publish) = match self.wrong {
                Wrong::Relaxed => (Ordering::Relaxed, Ordering::Relaxed),
                _ => (Ordering::Acquire, Ordering::AcqRel),
            };
            let of = |seen: *mut (usize, Value)| {
                // SAFETY: what is in the slot came from a box; `Frees` is wrong in just this.
                let (made_in, value) = unsafe { seen.as_ref() }?;
                let mine = *made_in == generation || self.wrong == Wrong::IgnoresGeneration;
                mine.then_some(value)
            };
            let seen = self.slot.load(load);
            if let Some(value) = of(seen) {
                return value;
            }
            let fresh = Box::into_raw(Box::new((generation, compute())));
            if self.wrong == Wrong::Stores {
                self.slot.store(fresh, Ordering::Release);
                return of(fresh).expect("just made");
            }
            match self.slot.compare_exchange(seen, fresh, publish, load) {
                Ok(_) => {
                    if self.wrong == Wrong::Frees && !seen.is_null() {
                        // It is only said to be freed, or the test would read freed memory.
                        // SAFETY: it came from a box.
                        let (_, value) = unsafe { &*seen };
                        value.seen.dropped.lock().expect("no panic").push(value.number);
                    }
                    of(fresh).expect("just made")
                }
                Err(first) => {
                    // SAFETY: it came from a box, and nobody else has seen it.
                    drop(unsafe { Box::from_raw(fresh) });
                    of(first).expect("of this generation, as all here are")
                }
            }
        }
    }

    /// One process with a value of its own, a fork, and three threads that ask at the same time.
    pub(super) fn check<S: Slot>(slot: fn(Option<Wrong>) -> S, wrong: Option<Wrong>) -> usize {
        let executions = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&executions);
        let mut builder = loom::model::Builder::new();
        (builder.max_duration, builder.max_permutations) = (None, None);
        builder.preemption_bound = None;
        builder.check(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            let seen = Arc::new(Seen::default());
            let slot = Arc::new(slot(wrong));
            let before = slot.get(0, || Value::compute(&seen));
            let ask = {
                let (slot, seen) = (Arc::clone(&slot), Arc::clone(&seen));
                move || {
                    let value = slot.get(1, || Value::compute(&seen));
                    (value.read(), value)
                }
            };
            let others = [loom::thread::spawn(ask.clone()), loom::thread::spawn(ask.clone())];
            let (mine, value) = ask();
            let mut all = vec![mine];
            all.extend(others.map(|other| other.join().expect("loom passes panics on").0));

            assert!(all.iter().all(|&one| one == mine), "threads got different values: {all:?}");
            assert_eq!(value.number, mine);
            assert_ne!(before.number, mine, "the child took its parent's value");
            let dropped = seen.dropped.lock().expect("no panic").clone();
            assert!(!dropped.contains(&mine), "a value in use was freed");
            assert!(!dropped.contains(&before.number), "a value that may be in use was freed");
            // Nothing is left but one value of each generation.
            assert_eq!(seen.computed.load(Ordering::Relaxed) - dropped.len(), 2);
        });
        executions.load(Ordering::Relaxed)
    }
}

/// No bound: 559 executions, 0.1 s.
#[test]
fn all_threads_get_one_value_of_their_generation_published_and_never_freed() {
    let began = Instant::now();
    let executions = computed::check(|_| computed::shipped(), None);
    println!("per_process, 3 threads, no bound: {executions} executions, {:.2?}", began.elapsed());
    assert!(executions > 50, "they were interleaved");
}

#[test]
fn every_wrong_way_to_share_a_value_is_found() {
    use computed::Wrong;
    for (wrong, words) in [
        (Wrong::Relaxed, "Causality violation"),
        (Wrong::Stores, "different values"),
        (Wrong::Frees, "was freed"),
        (Wrong::IgnoresGeneration, "parent's value"),
    ] {
        let slot = |wrong: Option<Wrong>| computed::wrong(wrong.expect("a wrong one"));
        let found = catch_unwind(AssertUnwindSafe(|| computed::check(slot, Some(wrong))));
        let panic = found.expect_err("it is wrong");
        let said = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()))
            .unwrap_or_default();
        assert!(said.contains(words), "{wrong:?}: {said}");
    }
}
