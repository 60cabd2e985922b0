//! A server that holds its port's lock: `cargo run --example server -- 5338`.
//!
//! - It takes the lock first, before anything that costs (S10), and says who is in its way, with the
//!   words that tools may search for beside it (S13).
//! - The first INT or TERM (on Windows Ctrl-C) drains: it takes no more connections and ends when those that it has are
//!   done. The second forces: it ends at once (S16), and the lock is released even so (S11).
//!
//! It answers each line with the same line. In a directory of its own: `PORTLOCK_DIR=/tmp/locks`.

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

/// The whole life of the server.
pub(crate) fn run(port: u16) -> Result<(), Box<dyn Error>> {
    let guard = lock(port)?;
    // Before the port is bound: from then on somebody may see the server and send it a signal.
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

/// Serves until a signal comes and the connections are done.
fn serve(listener: &TcpListener, address: SocketAddr, mut signals: Signals) -> std::io::Result<()> {
    let draining = AtomicBool::new(false);
    let handle = signals.handle();
    std::thread::scope(|threads| {
        let drains = &draining;
        threads.spawn(move || {
            for signal in &mut signals {
                if drains.swap(true, Ordering::Relaxed) {
                    // No destructor runs, and the lock is released all the same.
                    std::process::exit(128 + signal);
                }
                println!("draining");
                // A connection of our own lets the loop below look up.
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

/// Until the other side has no more to say.
fn echo(connection: TcpStream) {
    let mut answers = &connection;
    for line in BufReader::new(&connection).lines() {
        let Ok(line) = line else { return };
        if writeln!(answers, "{line}").is_err() {
            return;
        }
    }
}

/// Ctrl-C and Ctrl-Break, in the manner of signals: an iterator, and a handle that ends it.
#[cfg(windows)]
mod console {
    use std::io;
    use std::sync::mpsc::{Receiver, Sender, channel};

    pub(crate) struct Signals(Sender<Option<i32>>, Receiver<Option<i32>>);

    pub(crate) struct Handle(Sender<Option<i32>>);

    impl Signals {
        pub(crate) fn new(_: ()) -> io::Result<Self> {
            let (tell, told) = channel();
            let teller = tell.clone();
            // As INT has it. An error means that nobody listens any more.
            let on_event = move || {
                let _ = teller.send(Some(2));
            };
            ctrlc::set_handler(on_event).map_err(io::Error::other)?;
            Ok(Self(tell, told))
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
