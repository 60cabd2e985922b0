//! A daemon that holds its port's lock: `cargo run --example daemon -- 5338`.
//!
//! A lock belongs to the process that acquired it; a forked child does not inherit it. So the
//! daemon acquires, not its starter:
//!
//! 1. The starter runs this program again, in the background, with a pipe as its standard error,
//!    and reads from it.
//! 2. The daemon leaves the terminal's session, acquires, reports that it is ready, and closes the
//!    pipe. It reports earlier failures there.
//! 3. The starter prints the report, and exits with the outcome. The record in the lock file names
//!    the daemon.
//!
//! INT or TERM ends the daemon. To use another directory: `PORTLOCK_DIR=/tmp/locks`.

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    use std::process::{Command, ExitCode};

    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        [port] => std::env::current_exe()
            .and_then(|program| daemon::start(Command::new(program).args(["--daemon", port])))
            .map(|pid| println!("started as pid {pid}")),
        ["--daemon", port] => match port.parse() {
            Ok(port) => daemon::run(port),
            Err(error) => Err(std::io::Error::other(format!("{port}: {error}"))),
        },
        _ => Err(std::io::Error::other("usage: daemon PORT")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(unix)]
pub(crate) mod daemon {
    use std::fs::File;
    use std::io::{self, Read};
    use std::process::{Command, Stdio};

    use portlock::LockDir;
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    /// The daemon's last report.
    const READY: &str = "ready\n";

    /// Starts `daemon`, and returns its pid once it holds the lock.
    pub(crate) fn start(daemon: &mut Command) -> io::Result<u32> {
        daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut daemon = daemon.spawn()?;
        let mut said = String::new();
        if let Some(mut pipe) = daemon.stderr.take() {
            // Reads until the daemon has closed it, or has ended.
            pipe.read_to_string(&mut said)?;
        }
        match said.strip_suffix(READY) {
            Some(warnings) => {
                eprint!("{warnings}");
                Ok(daemon.id())
            }
            None => Err(io::Error::other(format!("it did not start: {}", said.trim_end()))),
        }
    }

    /// Runs the daemon until a signal.
    pub(crate) fn run(port: u16) -> io::Result<()> {
        rustix::process::setsid()?;
        // Before the acquire: a signal may arrive as soon as the record names this process.
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let lock = LockDir::user().and_then(|dir| dir.port(port)).map_err(io::Error::other)?;
        let guard = lock.try_acquire()?;
        eprint!("{READY}");
        rustix::stdio::dup2_stderr(File::options().write(true).open("/dev/null")?)?;
        // The daemon's work goes here.
        signals.forever().next();
        guard.release().map_err(io::Error::other)
    }
}

#[cfg(not(unix))]
fn main() {
    eprintln!("on Windows the system starts services; they acquire like any other program");
}
