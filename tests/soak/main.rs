//! A soak: many real processes that do everything at once, for as long as one lets them.
//!
//! They acquire in every way, hold, nest, release, drop, exit, fork and execute themselves with a
//! guard alive; they hand locks over to commands, query, clear and sweep, by the library and by the
//! command; they are killed, stopped and continued at random, while dead, empty and unreadable files
//! are put there and agents of the old format come, go and die. One lock more has its file removed by
//! hand, which breaks exclusion by design; nothing is asserted of that one but recovery.
//!
//! What must hold: nobody else holds, by the account of a [`witness`] that is not this crate's; a
//! lock that is held stays; nothing fails; whoever is told to stop ends, with not a descriptor more
//! than at its start; and when all have ended, or all were killed at once, each lock can be had, and
//! then the directory is empty.
//!
//! For five seconds as a test. For an hour:
//!
//! ```text
//! PORTLOCK_SOAK_MINUTES=60 cargo test --release --test soak -- --nocapture
//! ```
//!
//! It prints its progress every ten seconds, and at the end what happened how often. Its choices are
//! random; `PORTLOCK_SOAK_SEED` repeats them, though not the order in which the system runs the
//! processes. Sleeps are part of the load, and nothing that is asserted depends on their length.

#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod arena;
mod crew;
mod old;
mod part;
#[path = "../participant/mod.rs"]
mod participant;
mod witness;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;
use std::time::{Duration, Instant};

use arena::{Arena, EVENTS, LOCKS, REMOVED};
use crew::Crew;
use old::Manners;

/// After each all processes end, and all is looked at.
const ROUND: Duration = Duration::from_millis(2_500);

/// In which the control must have been noticed.
const CONTROL: Duration = Duration::from_secs(60);

/// The events that a run of a few seconds may miss.
const SELDOM: &[u8] = b"zuLXhmqCHBk.";

/// Only a machine that is much too busy makes an agent stall.
const ALMOST_NEVER: &[u8] = b"z";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Role {
    Ours,
    /// Of the old format, and reclaims nothing.
    OldAgent,
    /// The wrong protocol.
    Naive,
    /// Of a `portlock run`.
    Witness,
}

#[test]
fn soak_keeps_exclusion_and_recovers() {
    let minutes = environment("PORTLOCK_SOAK_MINUTES");
    let length = minutes
        .map_or(Duration::from_secs(5), |minutes: f64| Duration::from_secs_f64(minutes * 60.0));
    let crew = [Role::Ours, Role::Ours, Role::Ours, Role::Ours, Role::OldAgent];
    let mut soak = Soak::new();
    let result = soak.run(length, &crew);
    soak.print("the soak");
    if let Err(reason) = result {
        panic!("PORTLOCK_SOAK_SEED={}: {reason}", soak.seed);
    }
    let never: Vec<_> = soak.never(length).collect();
    assert!(never.is_empty(), "PORTLOCK_SOAK_SEED={}: never happened: {never:?}", soak.seed);
}

/// The control: beside a participant of Percy's protocol the witness notices two holders.
#[test]
fn participant_of_the_wrong_protocol_is_detected() {
    let mut soak = Soak::new();
    let began = Instant::now();
    loop {
        // What else it breaks, such as a lock that is lost while it is held, may be noticed first.
        let roles = [Role::Ours, Role::Ours, Role::Naive, Role::Naive];
        let noticed = soak.run(CONTROL, &roles).expect_err("nobody noticed anything");
        println!("noticed: {}", noticed.lines().next().unwrap_or_default());
        if noticed.contains("two hold lock") {
            break;
        }
        assert!(began.elapsed() < CONTROL, "two held, and nobody noticed: {noticed}");
    }
}

/// Entered by the processes of the soak.
#[test]
fn soak_process_ends_when_asked() {
    if let Some(role) = environment::<Role>("PORTLOCK_SOAK_ROLE") {
        return play(role);
    }
    let root = tempfile::tempdir().expect("a directory");
    let arena = Arena::new(root.path());
    arena.stop();
    let status = this_binary_as(Role::Ours, root.path(), 1).status().expect("it starts");
    assert!(status.success(), "{status}");
    assert_eq!((arena.events(), arena.violations()), (b".".to_vec(), None));
}

fn play(role: Role) {
    let root: String = environment("PORTLOCK_SOAK_ARENA").expect("set");
    let seed = environment("PORTLOCK_SOAK_PART").expect("set");
    let arena = Arena::new(Path::new(&root));
    let mut rng = fastrand::Rng::with_seed(seed);
    match role {
        Role::Ours => part::Part::new(&arena, rng).play(),
        Role::OldAgent => old::play(&arena, &mut rng, Manners::NeverReclaims),
        Role::Naive => old::play(&arena, &mut rng, Manners::Reclaims),
        Role::Witness => part::witness(&arena, &mut rng),
    }
}

// ---- the run ------------------------------------------------------------------------------------

struct Soak {
    seed: u64,
    rng: fastrand::Rng,
    began: Instant,
    rounds: u64,
    kills: u64,
    stops: u64,
    /// What stood there at the end of a round and was recovered.
    recovered: u64,
    events: BTreeMap<u8, u64>,
}

impl Soak {
    fn new() -> Self {
        let seed = environment("PORTLOCK_SOAK_SEED").unwrap_or_else(|| fastrand::u64(..));
        println!("PORTLOCK_SOAK_SEED={seed}");
        Self {
            seed,
            rng: fastrand::Rng::with_seed(seed),
            began: Instant::now(),
            rounds: 0,
            kills: 0,
            stops: 0,
            recovered: 0,
            events: BTreeMap::new(),
        }
    }

    /// Rounds until the time is over, or until something is wrong, which it returns.
    fn run(&mut self, length: Duration, roles: &[Role]) -> Result<(), String> {
        let root = tempfile::tempdir().expect("a directory");
        let arena = Arena::new(root.path());
        let mut told = Instant::now();
        self.began = told;
        while self.began.elapsed() < length {
            self.round(&arena, roles)?;
            if told.elapsed() > Duration::from_secs(10) {
                told = Instant::now();
                println!("{}", self.progress(length));
            }
        }
        Ok(())
    }

    fn round(&mut self, arena: &Arena, roles: &[Role]) -> Result<(), String> {
        arena.reset();
        let mut crew = Crew::new(arena);
        for role in roles {
            crew.start(*role, self.rng.u64(..));
        }
        for _ in 0..self.rng.usize(..4) {
            crew.start(Role::Ours, self.rng.u64(..));
        }
        let end = Instant::now() + ROUND;
        while Instant::now() < end && arena.violations().is_none() {
            std::thread::sleep(Duration::from_micros(self.rng.u64(..20_000)));
            self.disturb(&mut crew);
        }
        // Nobody is told to stop, or waited for, where the promises are broken already.
        let ended = match arena.violations() {
            None if self.rng.u32(..3) == 0 => crew.kill_all(),
            None => {
                arena.stop();
                crew.wait_for_all()
            }
            Some(_) => Ok(()),
        };
        self.count(arena, &crew);
        if let Some(violations) = arena.violations() {
            return Err(format!("{violations}{}", crew.describe()));
        }
        ended?;
        drop(crew);
        self.recover(arena)
    }

    fn disturb(&mut self, crew: &mut Crew<'_>) {
        let now = Instant::now();
        crew.go_on(Some(now));
        if let Some(pid) = crew.pick(&mut self.rng) {
            match self.rng.u32(..10) {
                // Reaped at another turn: until then it is a zombie.
                0..3 => crew.kill(pid),
                3..7 => crew.stop(pid, now + Duration::from_millis(self.rng.u64(1..200))),
                _ => {}
            }
        }
        if self.rng.bool() {
            for role in crew.reap() {
                crew.start(role, self.rng.u64(..));
            }
        }
    }

    fn count(&mut self, arena: &Arena, crew: &Crew<'_>) {
        self.rounds += 1;
        self.kills += crew.kills;
        self.stops += crew.stops;
        for letter in arena.events() {
            *self.events.entry(letter).or_default() += 1;
        }
    }

    /// Nobody is left: each lock can be had, at the latest when the grace is over, and after that
    /// there is nothing.
    fn recover(&mut self, arena: &Arena) -> Result<(), String> {
        let before = crew::directory(&arena.locks());
        for n in 0..=REMOVED {
            let attempt = arena.lock(n).acquire_timeout(Duration::from_secs(60));
            let guard = attempt.map_err(|error| format!("not recovered: {error}\n{before}"))?;
            self.recovered += u64::from(guard.recovered_from().is_some());
            guard.release().map_err(|error| format!("after the recovery: {error}"))?;
        }
        match std::fs::read_dir(arena.locks()).expect("it stands").next() {
            None => Ok(()),
            Some(_) => Err(format!("litter: {}", crew::directory(&arena.locks()))),
        }
    }

    fn counted(&self, letter: u8) -> u64 {
        self.events.get(&letter).copied().unwrap_or(0)
    }

    /// What should have happened in this time, and did not.
    fn never(&self, length: Duration) -> impl Iterator<Item = &'static str> {
        let seldom = if length < Duration::from_secs(120) { SELDOM } else { ALMOST_NEVER };
        let missed = |letter: &u8| !seldom.contains(letter) && self.counted(*letter) == 0;
        EVENTS.iter().filter(move |(letter, _)| missed(letter)).map(|(_, what)| *what)
    }

    fn progress(&self, length: Duration) -> String {
        format!(
            "{:>5} of {} s: {} rounds, {} acquired, {} of them reclaimed, {} kills, {} stops",
            self.began.elapsed().as_secs(),
            length.as_secs(),
            self.rounds,
            self.counted(b'a') + self.counted(b'A'),
            self.counted(b'A'),
            self.kills,
            self.stops,
        )
    }

    fn print(&self, what: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        println!("{what}, {seconds:.1} s, {LOCKS} locks and one, seed {}:", self.seed);
        let own = [
            (self.rounds, "rounds"),
            (self.kills, "processes killed"),
            (self.stops, "processes stopped and continued"),
            (self.recovered, "locks recovered at the end of a round"),
        ];
        let told = EVENTS.iter().map(|(letter, what)| (self.counted(*letter), *what));
        for (count, what) in own.into_iter().chain(told) {
            println!("{count:>12}  {what}");
        }
    }
}

// ---- its processes ------------------------------------------------------------------------------

fn this_binary_as(role: Role, arena: &Path, seed: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test binary has a path"));
    let entry = "soak_process_ends_when_asked";
    command.args([entry, "--exact", "--nocapture", "--test-threads=1"]);
    command.env("PORTLOCK_SOAK_ROLE", format!("{role:?}")).env("PORTLOCK_SOAK_ARENA", arena);
    command.env("PORTLOCK_SOAK_PART", seed.to_string());
    command
}

impl FromStr for Role {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let all = [Self::Ours, Self::OldAgent, Self::Naive, Self::Witness];
        let found = all.into_iter().find(|role| format!("{role:?}") == name);
        found.ok_or_else(|| format!("no such role: {name}"))
    }
}

/// What a variable of the environment is set to, if it is.
fn environment<T: FromStr>(variable: &str) -> Option<T> {
    let value = std::env::var(variable).ok()?;
    let parsed = value.parse().ok();
    assert!(parsed.is_some(), "{variable}={value:?} cannot be read");
    parsed
}

/// Does nothing for up to so many microseconds, most often for none.
fn pause(rng: &mut fastrand::Rng, longest: u64) {
    if rng.bool() {
        return;
    }
    let length = Duration::from_micros(rng.u64(..=longest));
    let began = Instant::now();
    // The system wakes nobody so soon.
    while length < Duration::from_micros(60) && began.elapsed() < length {
        std::hint::spin_loop();
    }
    std::thread::sleep(length.saturating_sub(began.elapsed()));
}
