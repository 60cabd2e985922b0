//! Participants of Percy's protocol, which takes no kernel lock and is not mutual exclusion. One
//! kind reclaims, the other never does.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::env::{Env, LOCKS};
use crate::participant::old_record;
use crate::pause;
use crate::witness::Witness;

/// Half of this crate's grace period between an agent's create and its write.
const STALLED: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Reclaim {
    /// Refuses at any existing file. Next to such agents this crate excludes.
    Never,
    /// Reads, probes, unlinks by name and creates again, as Percy does: the wrong protocol.
    ByName,
}

/// Acquires and releases until it is stopped.
pub(crate) fn play(env: &Env, rng: &mut fastrand::Rng, reclaim: Reclaim) {
    let witnesses: Vec<_> = (0..LOCKS).map(|n| Witness::open(&env.witness(n))).collect();
    while !env.is_stopped() {
        let n = rng.usize(..LOCKS);
        let path = env.lock(n).path().to_owned();
        if !acquires(env, &path, reclaim) {
            env.event(b'G');
            pause(rng, 2_000);
            continue;
        }
        env.event(b'g');
        if let Err(other) = witnesses[n].enter() {
            env.violation(&format!("two hold lock {n}: a legacy agent, and pid {other}"));
        }
        pause(rng, 3_000);
        witnesses[n].leave();
        let _ = fs::remove_file(&path);
        pause(rng, 3_000);
    }
}

fn acquires(env: &Env, path: &Path, reclaim: Reclaim) -> bool {
    if creates(env, path) {
        return true;
    }
    if reclaim == Reclaim::Never {
        return false;
    }
    let record: Option<serde_json::Value> =
        fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let pid = record.and_then(|record| record["pid"].as_i64());
    let is_held = pid.and_then(|pid| i32::try_from(pid).ok()).is_some_and(is_alive);
    if is_held {
        return false;
    }
    let _ = fs::remove_file(path);
    creates(env, path)
}

/// The exclusive create, and then the write.
fn creates(env: &Env, path: &Path) -> bool {
    let began = Instant::now();
    let mut file = match File::options().write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return false,
        Err(error) => panic!("{}: {error}", path.display()),
    };
    let record = old_record(std::process::id(), SystemTime::now());
    file.write_all(record.as_bytes()).expect("written");
    if began.elapsed() > STALLED {
        // It may have been taken for dead, the documented risk of the old format. It has not held,
        // and ends.
        env.event(b'z');
        std::process::exit(0);
    }
    true
}

fn is_alive(pid: i32) -> bool {
    // SAFETY: signal 0 sends nothing.
    unsafe { libc::kill(pid, 0) == 0 }
}
