//! A soak: many real processes use every operation concurrently.
//!
//! They acquire in every way, hold, nest, release, drop, exit, fork and execute themselves with a
//! guard alive; they pass locks to commands, query, clear and sweep, by the library and by the
//! command; they are killed, stopped and resumed at random, while dead, empty and unreadable files
//! are planted and legacy agents acquire, release and die. One more lock has its file removed by
//! hand, which breaks exclusion by design; only its recovery is asserted.
//!
//! What must hold: no two processes hold, by a [`witness`] outside this crate; a held lock is never
//! lost; no operation fails; each process ends when it is stopped, without a leaked descriptor; and
//! when all have ended, or all were killed at once, each lock can be acquired, and the directory
//! ends empty.
//!
//! As a test it takes five seconds. For an hour:
//!
//! ```text
//! PORTLOCK_SOAK_MINUTES=60 cargo test --release --test soak -- --nocapture
//! ```
//!
//! It prints its progress every ten seconds, and at the end the number of each event. Its choices
//! are random; `PORTLOCK_SOAK_SEED` repeats them, but not the system's scheduling. Sleeps are part
//! of the load, and no assertion depends on their length.

#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod env;
mod legacy;
#[path = "../participant/mod.rs"]
mod participant;
mod processes;
mod witness;
mod worker;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;
use std::time::{Duration, Instant};

use env::{EVENTS, Env, LOCKS, REMOVED};
use legacy::Reclaim;
use processes::Processes;

/// After each round all processes end, and the directory is checked.
const ROUND: Duration = Duration::from_millis(2_500);

/// The control must be detected within this time.
const CONTROL: Duration = Duration::from_secs(60);

/// The events that a run of a few seconds may miss.
const SELDOM: &[u8] = b"zuLXhmqCHBk.";

/// An agent stalls only on an overloaded machine.
const ALMOST_NEVER: &[u8] = b"z";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Role {
    Ours,
    /// Uses the old format, and never reclaims.
    LegacyAgent,
    /// The wrong protocol.
    Naive,
    /// The command of a `portlock run`.
    Witness,
}

#[test]
fn soak_keeps_exclusion_and_recovers() {
    let minutes = environment("PORTLOCK_SOAK_MINUTES");
    let length = minutes
        .map_or(Duration::from_secs(5), |minutes: f64| Duration::from_secs_f64(minutes * 60.0));
    let roles = [Role::Ours, Role::Ours, Role::Ours, Role::Ours, Role::LegacyAgent];
    let mut soak = Soak::new();
    let result = soak.run(length, &roles);
    soak.print("the soak");
    if let Err(reason) = result {
        panic!("PORTLOCK_SOAK_SEED={}: {reason}", soak.seed);
    }
    let never: Vec<_> = soak.never(length).collect();
    assert!(never.is_empty(), "PORTLOCK_SOAK_SEED={}: never happened: {never:?}", soak.seed);
}

/// The control: next to participants of Percy's protocol the witness detects two holders.
#[test]
fn participant_of_the_wrong_protocol_is_detected() {
    let mut soak = Soak::new();
    let began = Instant::now();
    loop {
        // Another violation, such as a lost lock, may be detected first.
        let roles = [Role::Ours, Role::Ours, Role::Naive, Role::Naive];
        let detected = soak.run(CONTROL, &roles).expect_err("no violation was detected");
        println!("detected: {}", detected.lines().next().unwrap_or_default());
        if detected.contains("two hold lock") {
            break;
        }
        assert!(began.elapsed() < CONTROL, "two holders were not detected: {detected}");
    }
}

/// The entry point of the soak's processes.
#[test]
fn soak_process_ends_when_asked() {
    if let Some(role) = environment::<Role>("PORTLOCK_SOAK_ROLE") {
        return play(role);
    }
    let root = tempfile::tempdir().expect("a directory");
    let env = Env::new(root.path());
    env.stop();
    let status = this_binary_as(Role::Ours, root.path(), 1).status().expect("it starts");
    assert!(status.success(), "{status}");
    assert_eq!((env.events(), env.violations()), (b".".to_vec(), None));
}

fn play(role: Role) {
    let root: String = environment("PORTLOCK_SOAK_ROOT").expect("set");
    let seed = environment("PORTLOCK_SOAK_WORKER_SEED").expect("set");
    let env = Env::new(Path::new(&root));
    let mut rng = fastrand::Rng::with_seed(seed);
    match role {
        Role::Ours => worker::Worker::new(&env, rng).play(),
        Role::LegacyAgent => legacy::play(&env, &mut rng, Reclaim::Never),
        Role::Naive => legacy::play(&env, &mut rng, Reclaim::ByName),
        Role::Witness => worker::witness(&env, &mut rng),
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
    /// Locks recovered at the end of a round.
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

    /// Runs rounds for `length`, or until a violation, which is the error.
    fn run(&mut self, length: Duration, roles: &[Role]) -> Result<(), String> {
        let root = tempfile::tempdir().expect("a directory");
        let env = Env::new(root.path());
        let mut reported = Instant::now();
        self.began = reported;
        while self.began.elapsed() < length {
            self.round(&env, roles)?;
            if reported.elapsed() > Duration::from_secs(10) {
                reported = Instant::now();
                println!("{}", self.progress(length));
            }
        }
        Ok(())
    }

    fn round(&mut self, env: &Env, roles: &[Role]) -> Result<(), String> {
        env.reset();
        let mut processes = Processes::new(env);
        for role in roles {
            processes.start(*role, self.rng.u64(..));
        }
        for _ in 0..self.rng.usize(..4) {
            processes.start(Role::Ours, self.rng.u64(..));
        }
        let end = Instant::now() + ROUND;
        while Instant::now() < end && env.violations().is_none() {
            std::thread::sleep(Duration::from_micros(self.rng.u64(..20_000)));
            self.disturb(&mut processes);
        }
        // After a violation the processes are neither stopped nor waited for.
        let ended = match env.violations() {
            None if self.rng.u32(..3) == 0 => processes.kill_all(),
            None => {
                env.stop();
                processes.wait_for_all()
            }
            Some(_) => Ok(()),
        };
        self.count(env, &processes);
        if let Some(violations) = env.violations() {
            return Err(format!("{violations}{}", processes.describe()));
        }
        ended?;
        drop(processes);
        self.recover(env)
    }

    fn disturb(&mut self, processes: &mut Processes<'_>) {
        let now = Instant::now();
        processes.resume(Some(now));
        if let Some(pid) = processes.pick(&mut self.rng) {
            match self.rng.u32(..10) {
                // Reaped in a later turn: until then it is a zombie.
                0..3 => processes.kill(pid),
                3..7 => processes.stop(pid, now + Duration::from_millis(self.rng.u64(1..200))),
                _ => {}
            }
        }
        if self.rng.bool() {
            for role in processes.reap() {
                processes.start(role, self.rng.u64(..));
            }
        }
    }

    fn count(&mut self, env: &Env, processes: &Processes<'_>) {
        self.rounds += 1;
        self.kills += processes.kills;
        self.stops += processes.stops;
        for letter in env.events() {
            *self.events.entry(letter).or_default() += 1;
        }
    }

    /// No process is left: each lock can be acquired, at the latest after the grace period, and the
    /// directory ends empty.
    fn recover(&mut self, env: &Env) -> Result<(), String> {
        let before = processes::directory(&env.locks());
        for n in 0..=REMOVED {
            let attempt = env.lock(n).acquire_timeout(Duration::from_secs(60));
            let guard = attempt.map_err(|error| format!("not recovered: {error}\n{before}"))?;
            self.recovered += u64::from(guard.recovered_from().is_some());
            guard.release().map_err(|error| format!("after the recovery: {error}"))?;
        }
        match std::fs::read_dir(env.locks()).expect("it exists").next() {
            None => Ok(()),
            Some(_) => Err(format!("left files: {}", processes::directory(&env.locks()))),
        }
    }

    fn counted(&self, letter: u8) -> u64 {
        self.events.get(&letter).copied().unwrap_or(0)
    }

    /// The events expected within this time that did not occur.
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
            (self.stops, "processes stopped and resumed"),
            (self.recovered, "locks recovered at the end of a round"),
        ];
        let events = EVENTS.iter().map(|(letter, what)| (self.counted(*letter), *what));
        for (count, what) in own.into_iter().chain(events) {
            println!("{count:>12}  {what}");
        }
    }
}

// ---- its processes ------------------------------------------------------------------------------

fn this_binary_as(role: Role, env: &Path, seed: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test binary has a path"));
    let entry = "soak_process_ends_when_asked";
    command.args([entry, "--exact", "--nocapture", "--test-threads=1"]);
    command.env("PORTLOCK_SOAK_ROLE", format!("{role:?}")).env("PORTLOCK_SOAK_ROOT", env);
    command.env("PORTLOCK_SOAK_WORKER_SEED", seed.to_string());
    command
}

impl FromStr for Role {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let all = [Self::Ours, Self::LegacyAgent, Self::Naive, Self::Witness];
        let found = all.into_iter().find(|role| format!("{role:?}") == name);
        found.ok_or_else(|| format!("no such role: {name}"))
    }
}

/// The value of an environment variable, if it is set.
fn environment<T: FromStr>(variable: &str) -> Option<T> {
    let value = std::env::var(variable).ok()?;
    let parsed = value.parse().ok();
    assert!(parsed.is_some(), "{variable}={value:?} cannot be parsed");
    parsed
}

/// Waits for a random time up to `longest` microseconds, most often for none.
fn pause(rng: &mut fastrand::Rng, longest: u64) {
    if rng.bool() {
        return;
    }
    let length = Duration::from_micros(rng.u64(..=longest));
    let began = Instant::now();
    // A sleep this short would be too long.
    while length < Duration::from_micros(60) && began.elapsed() < length {
        std::hint::spin_loop();
    }
    std::thread::sleep(length.saturating_sub(began.elapsed()));
}
