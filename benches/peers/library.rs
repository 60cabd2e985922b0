//! This crate's library as a participant of `benches/peers/run`; see its `README.md`.

#[cfg(not(unix))]
fn main() {
    println!("not measured here");
}

#[cfg(unix)]
fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1..5) {
        Some([role, kind, file, hold]) if role != "--bench" => {
            participant::main(role, kind, file.as_ref(), hold.parse().expect("microseconds"));
        }
        _ => println!("a part of benches/peers/run, which measures it"),
    }
}

#[cfg(unix)]
#[allow(unsafe_code)]
mod participant {
    use std::fmt::Write;
    use std::path::Path;
    use std::time::Duration;

    use portlock::{Guard, Lock};

    pub(crate) fn main(role: &str, kind: &str, file: &Path, hold: u64) {
        println!("ready");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).expect("a line");
        let acquire = || acquire(kind, file);
        match role {
            "contend" => contend(acquire, line.trim().parse().expect("a time"), hold * 1000),
            "hold" => {
                let _guard = acquire();
                println!("held");
                std::thread::sleep(Duration::from_secs(3600));
            }
            "wait" => {
                let guard = acquire();
                println!("{}", now());
                guard.release().expect("releases");
            }
            other => panic!("{other} is not a role"),
        }
    }

    fn acquire(kind: &str, file: &Path) -> Guard {
        match kind {
            "acquire" => Lock::at(file).acquire(),
            "acquire_timeout" => Lock::at(file).acquire_timeout(Duration::from_secs(3600)),
            other => panic!("{other} is not a way to acquire"),
        }
        .expect("acquires")
    }

    fn contend(acquire: impl Fn() -> Guard, end: u64, hold: u64) {
        let mut lines = String::new();
        while now() < end {
            let guard = acquire();
            let got = now();
            while now() < got + hold {}
            writeln!(lines, "{got} {}", now()).expect("memory");
            guard.release().expect("releases");
        }
        print!("{lines}");
    }

    /// Nanoseconds by the clock that all processes share.
    fn now() -> u64 {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a time.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
        (now.tv_sec as u64) * 1_000_000_000 + now.tv_nsec as u64
    }
}
