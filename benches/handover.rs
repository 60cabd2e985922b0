//! Waiting: how a lock passes from one process to another, beside `flock` on a file that stays.
//!
//! `cargo bench --bench handover`, or with `-- --seconds 5`; `TMPDIR` chooses the filesystem. So many
//! processes acquire, hold and release as fast as they can. A hand-over is from just before the
//! release of one process to the return of another's acquire. Jain's index is 1 if all acquired
//! equally often, and 1/n if one did alone. Recovery is from the SIGKILL of the holder.
//!
//! Measured on x86-64, an idle virtual machine with 2 cores, ext4, a second each; the median of the
//! hand-overs in microseconds, and Jain's index, with 200 µs held:
//!
//! | processes | flock | acquire | acquire_timeout |
//! | --- | --- | --- | --- |
//! | 4 | 14, 0.60 | 52, 0.96 | 82, 0.98 |
//! | 16 | 13, 0.83 | 61, 0.97 | 54, 0.96 |
//! | 64 | 16, 0.76 | 75, 0.77 | 99, 0.75 |
//! | recovery | 256 | 515 | 707 |
//!
//! Each of ours makes a new file, which `flock` on a file that stays does not: an acquire and a release
//! alone take 29 µs. And everybody who waits for a file is woken when it goes, finds it gone, and opens
//! the next one: the processor time of a hand-over grows with them, from 330 to 770 µs.

#![cfg_attr(not(unix), allow(unused))]
#![allow(unsafe_code)]

#[cfg(not(unix))]
fn main() {
    println!("not measured here: it takes fork and flock");
}

#[cfg(unix)]
fn main() {
    measured::main();
}

#[cfg(unix)]
mod measured {
    use std::fs::File;
    use std::io::{BufRead, BufReader, Write};
    use std::os::fd::AsRawFd;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    use std::time::{Duration, Instant};

    use portlock::{Guard, Lock};

    /// Set for a process that takes part: its way, its number, the hold in microseconds, and where.
    const PART: &str = "PORTLOCK_BENCH_PART";

    /// A way to acquire and release.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Way {
        /// `flock` on a file that stays: no record, and nothing to recover.
        Flock,
        /// `Lock::acquire`.
        Acquire,
        /// `Lock::acquire_timeout`.
        Timeout,
    }

    const WAYS: [Way; 3] = [Way::Flock, Way::Acquire, Way::Timeout];

    impl Way {
        fn of(name: &str) -> Self {
            *WAYS.iter().find(|way| format!("{way:?}") == name).expect("a way")
        }

        fn acquire(self, file: &Path) -> Held {
            let lock = || Lock::at(file);
            match self {
                Self::Flock => {
                    let file = File::options().create(true).truncate(false).write(true).open(file);
                    let file = file.expect("opens");
                    // SAFETY: the file is open.
                    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0);
                    Held::Flock(file)
                }
                Self::Acquire => Held::Guard(Box::new(lock().acquire().expect("acquires"))),
                Self::Timeout => {
                    let hour = Duration::from_secs(3600);
                    Held::Guard(Box::new(lock().acquire_timeout(hour).expect("acquires")))
                }
            }
        }
    }

    enum Held {
        Flock(File),
        Guard(Box<Guard>),
    }

    impl Held {
        fn release(self) {
            match self {
                Self::Flock(file) => drop(file),
                Self::Guard(guard) => guard.release().expect("releases"),
            }
        }
    }

    /// What all processes see.
    #[repr(C)]
    struct Shared {
        /// 1 from the start on, 2 at the end.
        phase: AtomicU64,
        /// Who released last, and when.
        releaser: AtomicU64,
        released: AtomicU64,
        ready: AtomicU64,
    }

    /// The first page of a file, in every process that maps it.
    fn shared(file: &Path) -> &'static Shared {
        let open = File::options().read(true).write(true).create(true).truncate(false).open(file);
        let open = open.expect("opens");
        open.set_len(4096).expect("grows");
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: maps a file that is as long as the page, for the rest of the process. It holds
        // atomic numbers, of which every bit pattern is valid.
        unsafe {
            let flags = libc::MAP_SHARED;
            let page = libc::mmap(std::ptr::null_mut(), 4096, access, flags, open.as_raw_fd(), 0);
            assert_ne!(page, libc::MAP_FAILED);
            &*page.cast()
        }
    }

    /// Nanoseconds by the clock that all processes share.
    fn now() -> u64 {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a time.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
        (now.tv_sec as u64) * 1_000_000_000 + now.tv_nsec as u64
    }

    /// One process: prints how often it acquired, its longest wait and its hand-overs.
    fn take_part(part: &str) {
        let words: Vec<&str> = part.splitn(4, ' ').collect();
        let (way, dir) = (Way::of(words[0]), Path::new(words[3]));
        let me: u64 = words[1].parse().expect("a number");
        let hold = Duration::from_micros(words[2].parse().expect("a number"));
        let (all, file) = (shared(&dir.join("shared")), dir.join("x.lock"));
        all.ready.fetch_add(1, SeqCst);
        while all.phase.load(SeqCst) == 0 {
            std::thread::yield_now();
        }
        let (mut held, mut longest, mut handovers) = (0_u64, 0, Vec::new());
        while all.phase.load(SeqCst) < 2 {
            let began = now();
            let holds = way.acquire(&file);
            let got = now();
            let (by, at) = (all.releaser.load(SeqCst), all.released.load(SeqCst));
            if by != me && at > 0 {
                handovers.push(got.saturating_sub(at));
            }
            (held, longest) = (held + 1, longest.max(got - began));
            let until = Instant::now() + hold;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            all.releaser.store(me, SeqCst);
            all.released.store(now(), SeqCst);
            holds.release();
        }
        handovers.sort_unstable();
        let mut out = std::io::stdout().lock();
        write!(out, "{held} {longest}").expect("the bench listens");
        // A thousand of them say the same.
        for one in handovers.iter().step_by(handovers.len().div_ceil(1000).max(1)) {
            write!(out, " {one}").expect("the bench listens");
        }
        writeln!(out).expect("the bench listens");
    }

    fn start(way: Way, number: usize, hold: u64, dir: &Path) -> Child {
        Command::new(std::env::current_exe().expect("a path"))
            .env(PART, format!("{way:?} {number} {hold} {}", dir.display()))
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts")
    }

    struct Row {
        throughput: f64,
        median: f64,
        jain: f64,
        longest: f64,
        processor: f64,
    }

    /// Processor time of the children that have ended, in seconds.
    fn processor() -> f64 {
        // SAFETY: a structure of numbers, which the call fills in.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
            usage
        };
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        seconds(usage.ru_utime) + seconds(usage.ru_stime)
    }

    fn contend(way: Way, processes: usize, hold: u64, seconds: f64) -> Row {
        let dir = tempfile::tempdir().expect("a directory");
        let before = processor();
        let all = shared(&dir.path().join("shared"));
        let mut parts: Vec<Child> =
            (0..processes).map(|number| start(way, number, hold, dir.path())).collect();
        while all.ready.load(SeqCst) < processes as u64 {
            std::thread::yield_now();
        }
        all.phase.store(1, SeqCst);
        std::thread::sleep(Duration::from_secs_f64(seconds));
        all.phase.store(2, SeqCst);
        let (mut held, mut longest, mut handovers) = (Vec::new(), 0, Vec::new());
        for part in &mut parts {
            let mut line = String::new();
            BufReader::new(part.stdout.take().expect("a pipe")).read_line(&mut line).expect("text");
            let numbers: Vec<u64> =
                line.split_whitespace().map(|word| word.parse().expect("a number")).collect();
            held.push(numbers[0] as f64);
            longest = longest.max(numbers[1]);
            handovers.extend_from_slice(&numbers[2..]);
            part.wait().expect("ends");
        }
        handovers.sort_unstable();
        let all_held: f64 = held.iter().sum();
        let squares: f64 = held.iter().map(|one| one * one).sum();
        Row {
            throughput: all_held / seconds,
            median: handovers.get(handovers.len() / 2).map_or(f64::NAN, |&one| one as f64 / 1e3),
            jain: all_held * all_held / (held.len() as f64 * squares),
            longest: longest as f64 / 1e6,
            processor: (processor() - before) / all_held * 1e6,
        }
    }

    /// The median of so many rounds, in microseconds: from the kill of the holder to the return of
    /// the acquire that waits.
    fn recovery(way: Way) -> f64 {
        const ROUNDS: usize = 51;
        let mut taken: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let dir = tempfile::tempdir().expect("a directory");
                let all = shared(&dir.path().join("shared"));
                all.phase.store(1, SeqCst);
                // It holds for an hour.
                let mut holder = start(way, 1, 3_600_000_000, dir.path());
                let file: PathBuf = dir.path().join("x.lock");
                let is_held = || {
                    let open = File::open(&file).ok()?;
                    // SAFETY: the file is open.
                    let free =
                        unsafe { libc::flock(open.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) };
                    (free != 0).then_some(())
                };
                while is_held().is_none() {
                    std::thread::yield_now();
                }
                let waiter = std::thread::spawn(move || {
                    let held = way.acquire(&file);
                    let got = now();
                    held.release();
                    got
                });
                // It waits by then: an acquire that comes later measures less, and not the wait.
                std::thread::sleep(Duration::from_millis(5));
                let killed = now();
                holder.kill().expect("ours");
                let got = waiter.join().expect("acquires");
                holder.wait().expect("ours");
                got.saturating_sub(killed) as f64 / 1e3
            })
            .collect();
        taken.sort_by(f64::total_cmp);
        taken[ROUNDS / 2]
    }

    pub(crate) fn main() {
        if let Ok(part) = std::env::var(PART) {
            return take_part(&part);
        }
        let arguments: Vec<String> = std::env::args().collect();
        let seconds = arguments.iter().position(|one| one == "--seconds");
        let seconds = seconds.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(2.0);
        println!(
            "| way | processes | hold, µs | hand-overs/s | median, µs | of flock's | Jain | \
             longest wait, ms | processor, µs each |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
        );
        for processes in [2, 4, 8, 16, 32, 64] {
            for hold in [0, 200] {
                let mut raw = f64::NAN;
                for way in WAYS {
                    let row = contend(way, processes, hold, seconds);
                    if way == Way::Flock {
                        raw = row.median;
                    }
                    println!(
                        "| {way:?} | {processes} | {hold} | {:.0} | {:.1} | {:.2} | {:.3} | {:.1} | {:.1} |",
                        row.throughput,
                        row.median,
                        row.median / raw,
                        row.jain,
                        row.longest,
                        row.processor
                    );
                }
            }
        }
        println!("\n| recovery after SIGKILL | median, µs |\n| --- | --- |");
        for way in WAYS {
            println!("| {way:?} | {:.0} |", recovery(way));
        }
    }
}
