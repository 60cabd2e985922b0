use portlock::{AcquireError, LockDir};
use std::net::TcpListener;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::var("PORT").map_or(Ok(5338), |port| port.parse())?;
    let lock = LockDir::home("my-app")?.port(port)?;
    let guard = match lock.try_acquire() {
        Ok(guard) => guard,
        Err(AcquireError::Held(held)) => {
            eprintln!("{held:#}");
            std::process::exit(75);
        }
        Err(error) => return Err(error.into()),
    };
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("pid {} serves port {port}", guard.holder().pid);
    for _connection in listener.incoming() { /* answer it */ }
    guard.release()?;
    Ok(())
}
