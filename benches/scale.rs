//! What a directory of ten thousand locks costs.
//!
//! Run with `cargo bench --bench scale`; `TMPDIR` chooses the filesystem. Measured on x86-64, a
//! virtual machine with 2 cores **under a load of 8**; milliseconds:
//!
//! | | ext4 | tmpfs |
//! | --- | --- | --- |
//! | list, all stale | 672 | 538 |
//! | list, all held | 816 | 758 |
//! | list, half held, half stale | 1195 | 835 |
//! | sweep, all stale | 1417 | 1025 |
//! | sweep, all held | 957 | 761 |
//! | sweep, half held, half stale | 1403 | 753 |
//! | status of one, held | 0.10 | 0.07 |
//!
//! Processor time of the command, which also prints, on ext4:
//!
//! - `portlock list`, all held: 0.50 s. The kernel's locks are not looked at: the process lives.
//! - `portlock list`, all stale, with 10,000 kernel locks of others: 0.47 s. One look at so many
//!   takes about 30 ms, which half of 20,000 descriptors make three. With `ulimit -n 1024` there
//!   are twenty, and it takes 0.95 s.
//! - `portlock sweep`, all stale: 0.66 s. Where ext4 is mounted with `discard`, the unlink of a file
//!   that has reached the disk waits for it, 3 ms for us and for `rm` alike.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group};
use portlock::{Holder, LockDir, Status};

const LOCKS: u16 = 10_000;

/// Names the directory for the process that holds its locks, and says which ports.
const HOLD: &str = "PORTLOCK_BENCH_HOLD";

/// Another process that holds the locks of `ports` until it is dropped.
struct Live(Child);

impl Live {
    fn holding(dir: &Path, ports: std::ops::RangeInclusive<u16>) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("the bench has a path"))
            .env(HOLD, dir)
            .args([ports.start().to_string(), ports.end().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut answers = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("it lives");
        assert_eq!(answer.trim_end(), "held");
        Self(child)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The other process: holds, says so, and waits to be killed.
fn hold(dir: &Path) {
    raise_descriptor_limit();
    let mut ports = std::env::args().skip(1).map(|port| port.parse().expect("a port"));
    let (first, last): (u16, u16) = (ports.next().expect("a port"), ports.next().expect("a port"));
    let dir = LockDir::at(dir);
    let guards: Vec<_> = (first..=last)
        .map(|port| dir.port(port).expect("a port").try_acquire().expect("free"))
        .collect();
    println!("held");
    let _ = std::io::stdin().lines().next();
    drop(guards);
}

/// Handles of Windows are not limited.
#[cfg(windows)]
fn raise_descriptor_limit() {}

#[cfg(unix)]
#[allow(unsafe_code)]
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid pointer; raising the soft limit to the hard one is permitted.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
    let enough = u64::from(LOCKS) + 64;
    assert!(limit.rlim_cur >= enough, "takes a hard limit of {enough} open files: see ulimit -Hn");
}

/// Leaves the lock files of dead holders.
fn leave(dir: &LockDir, ports: std::ops::RangeInclusive<u16>) {
    let mut gone = if cfg!(windows) { Command::new("whoami") } else { Command::new("true") };
    let mut gone = gone.stdout(Stdio::null()).spawn().expect("runs");
    gone.wait().expect("ends");
    let mut dead: Holder =
        dir.port(65_535).expect("a port").try_acquire().expect("free").holder().clone();
    (dead.pid, dead.process_start) = (gone.id(), Some(1));
    for port in ports {
        let lock = dir.port(port).expect("a port");
        std::fs::write(lock.path(), dead.to_bytes()).expect("writes");
    }
}

/// How many are held, and how many stale.
fn counted(dir: &LockDir) -> (usize, usize) {
    let listed = dir.list().expect("can be listed");
    let count = |is: fn(&Status) -> bool| {
        listed.iter().filter(|listed| listed.status.as_ref().is_ok_and(is)).count()
    };
    (
        count(|status| matches!(status, Status::Held { .. })),
        count(|status| matches!(status, Status::Stale { .. })),
    )
}

fn scale(c: &mut Criterion) {
    let mut c = c.benchmark_group("10,000 locks");
    c.sample_size(10).warm_up_time(Duration::from_millis(100));
    let all = usize::from(LOCKS);

    let dir = tempfile::tempdir().expect("a directory");
    let stale = LockDir::at(dir.path());
    leave(&stale, 1..=LOCKS);
    assert_eq!(counted(&stale), (0, all));
    c.bench_function("list, all stale", |b| b.iter(|| stale.list().expect("can be listed")));
    // The files of each sweep are new: ext4 flushes one that is written again when it is closed.
    assert_eq!(stale.sweep().expect("can be listed").len(), all);
    c.bench_function("sweep, all stale", |b| {
        b.iter_batched(
            || leave(&stale, 1..=LOCKS),
            |()| assert_eq!(stale.sweep().expect("can be listed").len(), all),
            BatchSize::PerIteration,
        );
    });

    let dir = tempfile::tempdir().expect("a directory");
    let held = LockDir::at(dir.path());
    let live = Live::holding(dir.path(), 1..=LOCKS);
    assert_eq!(counted(&held), (all, 0));
    c.bench_function("list, all held", |b| b.iter(|| held.list().expect("can be listed")));
    c.bench_function("sweep, all held", |b| {
        b.iter(|| assert_eq!(held.sweep().expect("can be listed").len(), 0));
    });
    let lock = held.port(LOCKS / 2).expect("a port");
    c.bench_function("status of one, held", |b| {
        b.iter(|| assert!(matches!(lock.status(), Ok(Status::Held { .. }))));
    });
    drop(live);

    let dir = tempfile::tempdir().expect("a directory");
    let mixed = LockDir::at(dir.path());
    let _live = Live::holding(dir.path(), 1..=LOCKS / 2);
    leave(&mixed, LOCKS / 2 + 1..=LOCKS);
    assert_eq!(counted(&mixed), (all / 2, all / 2));
    c.bench_function("list, half held, half stale", |b| {
        b.iter(|| mixed.list().expect("can be listed"));
    });
    assert_eq!(mixed.sweep().expect("can be listed").len(), all / 2);
    c.bench_function("sweep, half held, half stale", |b| {
        b.iter_batched(
            || leave(&mixed, LOCKS / 2 + 1..=LOCKS),
            |()| assert_eq!(mixed.sweep().expect("can be listed").len(), all / 2),
            BatchSize::PerIteration,
        );
    });
}

criterion_group!(benches, scale);

fn main() {
    match std::env::var_os(HOLD) {
        Some(dir) => hold(Path::new(&dir)),
        None => benches(),
    }
}
