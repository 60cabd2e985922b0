//! Waits in a task until Enter: `cargo run --features tokio --example wait_async -- 5338`.
//!
//! The waiting task blocks no thread. To use another directory: `PORTLOCK_DIR=/tmp/locks`.

use std::error::Error;

use portlock::{AcquireError, CancelToken, LockDir, WaitOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::args().nth(1).ok_or("usage: wait_async PORT")?;
    let lock = LockDir::user()?.port(port.parse()?)?;
    let token = CancelToken::new()?;
    std::thread::spawn({
        let token = token.clone();
        move || {
            let _ = std::io::stdin().read_line(&mut String::new());
            token.cancel();
        }
    });
    let options = WaitOptions::new()
        .cancel_token(&token)
        .on_wait(|held| eprintln!("waiting, Enter ends it: {held}"));
    match lock.acquire_async_with(options).await {
        Ok(guard) => {
            println!("acquired by pid {}", guard.holder().pid);
            guard.release()?;
            Ok(())
        }
        Err(AcquireError::Cancelled { held, .. }) => {
            eprintln!("ended: {held}");
            std::process::exit(75);
        }
        Err(error) => Err(error.into()),
    }
}
