//! A program with its lock directory as a parameter, and its tests: a free lock, a held one, and a
//! stale one. `cargo test --example testing`.
//!
//! To use another directory: `cargo run --example testing -- /tmp/locks`.

use portlock::{AcquireError, Guard, LockDir};

/// Starts the service, or returns the reason why not.
fn start(locks: &LockDir) -> Result<Guard, String> {
    let lock = locks.name("service").map_err(|error| error.to_string())?;
    match lock.try_acquire() {
        Ok(guard) => Ok(guard),
        Err(AcquireError::Held(held)) => Err(format!("already running: {held}")),
        Err(error) => Err(format!("{error:#}")),
    }
}

fn main() -> Result<(), String> {
    let locks = match std::env::args_os().nth(1) {
        Some(directory) => LockDir::at(directory),
        None => LockDir::home("my-service").map_err(|error| error.to_string())?,
    };
    let guard = start(&locks)?;
    println!("pid {} runs with {}", guard.holder().pid, guard.path().display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use portlock::Holder;

    use super::*;

    /// A temporary directory for each test.
    fn empty_dir() -> (tempfile::TempDir, LockDir) {
        let directory = tempfile::tempdir().expect("a directory");
        let locks = LockDir::at(directory.path());
        (directory, locks)
    }

    #[test]
    fn free_lock_is_acquired_and_released() {
        let (_directory, locks) = empty_dir();
        let guard = start(&locks).expect("the lock is free");
        drop(guard);
        let _guard = start(&locks).expect("the lock is free again");
    }

    #[test]
    fn second_start_names_the_running_process() {
        let (_directory, locks) = empty_dir();
        let _running = start(&locks).expect("the lock is free");
        let refusal = start(&locks).expect_err("it is running");
        let pid = std::process::id();
        assert!(
            refusal.starts_with(&format!("already running: lock service is locked by pid {pid} ("))
        );
    }

    #[test]
    fn stale_lock_is_recovered() {
        let (_directory, locks) = empty_dir();
        let lock = locks.name("service").expect("a name");
        // A process that has ended: this test binary, which only lists its tests.
        let program = std::env::current_exe().expect("the path of this program");
        let mut dead = Command::new(program).arg("--list").stdout(Stdio::null()).spawn();
        let dead = dead.as_mut().expect("started");
        dead.wait().expect("it ends");
        std::fs::write(lock.path(), Holder::new(dead.id()).to_bytes()).expect("written");
        let guard = start(&locks).expect("a stale lock is recovered");
        assert!(guard.recovered_from().is_some());
    }
}
