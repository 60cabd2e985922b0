//! A server that holds its port's lock: `cargo run --example server -- 5338`.
//!
//! - It takes the lock first, before any expensive work (S10). A refusal names the holder, next to
//!   the old message that tools may search for (S13).
//! - The first INT or TERM (on Windows Ctrl-C) drains: it accepts no more connections and ends when
//!   the open ones are done. The second ends it at once (S16), and still releases the lock (S11).
//!
//! It echoes each line. To use another directory: `PORTLOCK_DIR=/tmp/locks`.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use portlock::{AcquireError, Guard, LockDir};

#[cfg(windows)]
use console::Signals;
#[cfg(unix)]
use signal_hook::iterator::Signals;

#[cfg(unix)]
const ENDS: [i32; 2] = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];
#[cfg(windows)]
const ENDS: () = ();

fn main() -> ExitCode {
    let Some(port) = std::env::args().nth(1).and_then(|port| port.parse().ok()) else {
        eprintln!("usage: server PORT");
        return ExitCode::from(64);
    };
    match run(port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the server until it is drained.
pub(crate) fn run(port: u16) -> Result<(), Box<dyn Error>> {
    let guard = lock(port)?;
    // Before the bind: a signal may arrive as soon as the server is reachable.
    let signals = Signals::new(ENDS)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let address = listener.local_addr()?;
    println!("serving {address}");
    serve(&listener, address, signals)?;
    drop(listener);
    guard.release()?;
    println!("drained");
    Ok(())
}

fn lock(port: u16) -> Result<Guard, Box<dyn Error>> {
    LockDir::user()?.port(port)?.try_acquire().map_err(|error| match &error {
        AcquireError::Held(held) => match held.percy_message() {
            Some(old_words) => format!("{old_words}\n{held:#}").into(),
            None => error.into(),
        },
        _ => error.into(),
    })
}

/// Serves until a signal arrives and the connections are done.
fn serve(listener: &TcpListener, address: SocketAddr, mut signals: Signals) -> std::io::Result<()> {
    let draining = AtomicBool::new(false);
    let handle = signals.handle();
    std::thread::scope(|threads| {
        let drains = &draining;
        threads.spawn(move || {
            for signal in &mut signals {
                if drains.swap(true, Ordering::Relaxed) {
                    // No destructor runs, but the exit releases the lock.
                    std::process::exit(128 + signal);
                }
                println!("draining");
                // This connection wakes the accept loop below.
                drop(TcpStream::connect(address));
            }
        });
        std::thread::scope(|connections| {
            for connection in listener.incoming() {
                if draining.load(Ordering::Relaxed) {
                    break;
                }
                match connection {
                    Ok(connection) => drop(connections.spawn(move || echo(connection))),
                    Err(error) => eprintln!("a connection failed: {error}"),
                }
            }
        });
        handle.close();
    });
    Ok(())
}

/// Echoes lines until the connection ends.
fn echo(connection: TcpStream) {
    let mut answers = &connection;
    for line in BufReader::new(&connection).lines() {
        let Ok(line) = line else { return };
        if writeln!(answers, "{line}").is_err() {
            return;
        }
    }
}

/// Ctrl-C and Ctrl-Break with the interface of signals: an iterator, and a handle that ends it.
#[cfg(windows)]
mod console {
    use std::io;
    use std::sync::mpsc::{Receiver, Sender, channel};

    pub(crate) struct Signals(Sender<Option<i32>>, Receiver<Option<i32>>);

    pub(crate) struct Handle(Sender<Option<i32>>);

    impl Signals {
        pub(crate) fn new(_: ()) -> io::Result<Self> {
            let (sender, receiver) = channel();
            let signals = Self(sender.clone(), receiver);
            // The number of SIGINT. The send fails after the receiver is gone.
            let on_event = move || _ = sender.send(Some(2));
            ctrlc::set_handler(on_event).map_err(io::Error::other)?;
            Ok(signals)
        }

        pub(crate) fn handle(&self) -> Handle {
            Handle(self.0.clone())
        }
    }

    impl Iterator for Signals {
        type Item = i32;

        fn next(&mut self) -> Option<i32> {
            self.1.recv().ok().flatten()
        }
    }

    impl Handle {
        pub(crate) fn close(&self) {
            let _ = self.0.send(None);
        }
    }
}
