//! Waits for a lock with a limit, and names the holder: `cargo run --example wait -- 5338 10`.
//!
//! To use another directory: `PORTLOCK_DIR=/tmp/locks`.

use std::error::Error;
use std::time::Duration;

use portlock::{AcquireError, LockDir, WaitOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, seconds] = &arguments[..] else { return Err("usage: wait PORT SECONDS".into()) };
    let lock = LockDir::user()?.port(port.parse()?)?;
    let options = WaitOptions::new()
        .timeout(Duration::from_secs(seconds.parse()?))
        .on_wait(|held| eprintln!("waiting: {held}"));
    match lock.acquire_with(options) {
        Ok(guard) => {
            println!("acquired by pid {}", guard.holder().pid);
            guard.release()?;
            Ok(())
        }
        Err(AcquireError::Timeout { held, .. }) => {
            eprintln!("gave up: {held}");
            std::process::exit(75);
        }
        Err(error) => Err(error.into()),
    }
}
