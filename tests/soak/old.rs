//! Participants of Percy's protocol. It takes no kernel lock and is not mutual exclusion; what makes
//! the two here differ is whether they reclaim.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::arena::{Arena, LOCKS};
use crate::participant::old_record;
use crate::pause;
use crate::witness::Witness;

/// Half of the grace that this crate gives an agent between its create and its write.
const STALLED: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Manners {
    /// Refuses whatever stands in its way. Beside such agents this crate excludes.
    NeverReclaims,
    /// Reads, probes, unlinks by name and creates again, as Percy's does: the wrong protocol.
    Reclaims,
}

/// Comes and goes until it is told to stop.
pub(crate) fn play(arena: &Arena, rng: &mut fastrand::Rng, manners: Manners) {
    let witnesses: Vec<_> = (0..LOCKS).map(|n| Witness::open(&arena.witness(n))).collect();
    while !arena.is_stopped() {
        let n = rng.usize(..LOCKS);
        let path = arena.lock(n).path().to_owned();
        if !acquires(arena, &path, manners) {
            arena.event(b'G');
            pause(rng, 2_000);
            continue;
        }
        arena.event(b'g');
        if let Err(other) = witnesses[n].enter() {
            arena.violation(&format!("two hold lock {n}: an old agent, and pid {other}"));
        }
        pause(rng, 3_000);
        witnesses[n].leave();
        let _ = fs::remove_file(&path);
        pause(rng, 3_000);
    }
}

fn acquires(arena: &Arena, path: &Path, manners: Manners) -> bool {
    if creates(arena, path) {
        return true;
    }
    if manners == Manners::NeverReclaims {
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
    creates(arena, path)
}

/// The exclusive create, and then the write.
fn creates(arena: &Arena, path: &Path) -> bool {
    let began = Instant::now();
    let mut file = match File::options().write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return false,
        Err(error) => panic!("{}: {error}", path.display()),
    };
    let record = old_record(std::process::id(), SystemTime::now());
    file.write_all(record.as_bytes()).expect("written");
    if began.elapsed() > STALLED {
        // It may have been taken for dead, which is the stated risk of the old format. It has not
        // held, and dies.
        arena.event(b'z');
        std::process::exit(0);
    }
    true
}

fn is_alive(pid: i32) -> bool {
    // SAFETY: signal 0 sends nothing.
    unsafe { libc::kill(pid, 0) == 0 }
}
