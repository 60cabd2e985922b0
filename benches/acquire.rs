//! What an acquire costs, beside the system calls that it cannot do without.
//!
//! Run with `cargo bench`; `TMPDIR` chooses the filesystem. Measured on x86-64, an idle virtual machine
//! with 2 cores; microseconds:
//!
//! | | ext4 | tmpfs |
//! | --- | --- | --- |
//! | acquire and release, uncontended | 29 | 19 |
//! | acquire, reclaiming a dead holder's file | 47 | 37 |
//! | refusal by a live holder | 36 | 37 |
//! | status, free | 1 | 2 |
//! | status, held: reads /proc/locks and mountinfo | 84 | 84 |
//! | peer: open, flock, close, by fs4 | 3 | 3 |
//! | peer: exclusive create, write, close, unlink | 21 | 13 |

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use portlock::{Holder, LockDir, Reclaimed, Status};

/// A process that lives until it is dropped, and is reaped then.
struct Live(Child);

impl Live {
    fn new() -> Self {
        Self(Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat runs"))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The number of a process that is gone.
fn gone() -> u32 {
    let live = Live::new();
    live.0.id()
}

fn leave_record(path: &Path, of: &Holder) -> File {
    let mut file = File::create(path).expect("creates");
    file.write_all(&of.to_bytes()).expect("writes");
    file
}

fn acquire(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let lock = LockDir::at(dir.path()).port(5338).expect("a port");
    let ours = lock.try_acquire().expect("free").holder().clone();
    let of = |pid| {
        let mut holder = ours.clone();
        (holder.pid, holder.process_start) = (pid, None);
        holder
    };

    c.bench_function("acquire and release, uncontended", |b| {
        b.iter(|| {
            let guard = lock.try_acquire().expect("free");
            guard.release().expect("is ours");
        });
    });

    let dead = of(gone());
    c.bench_function("acquire, reclaiming a dead holder's file", |b| {
        b.iter_batched(
            || drop(leave_record(lock.path(), &dead)),
            |()| {
                let guard = lock.try_acquire().expect("its holder is dead");
                let from = guard.reclaimed().and_then(|Reclaimed { holder, .. }| holder.as_ref());
                assert_eq!(from.map(|holder| holder.pid), Some(dead.pid));
                guard
            },
            BatchSize::PerIteration,
        );
    });

    c.bench_function("status, free", |b| {
        b.iter(|| assert_eq!(lock.status().expect("is told"), Status::Free));
    });

    let live = Live::new();
    let held = leave_record(lock.path(), &of(live.0.id()));
    fs4::FileExt::try_lock(&held).expect("nobody has it");
    c.bench_function("refusal by a live holder", |b| {
        b.iter(|| assert!(lock.try_acquire().expect_err("it is held").is_held()));
    });
    c.bench_function("status, held", |b| {
        b.iter(|| assert!(matches!(lock.status(), Ok(Status::Held { .. }))));
    });
}

/// What others do: less, and less safely.
fn peers(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("peer.lock");

    // fs4, fslock, flock(1): no record, and the file stays.
    c.bench_function("peer: open, flock, close, by fs4", |b| {
        b.iter(|| {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .expect("opens");
            fs4::FileExt::try_lock(black_box(&file)).expect("nobody has it");
        });
    });
    std::fs::remove_file(&path).expect("is there");

    // Percy and others: the file is the lock, so a death leaves it.
    let record = br#"{"pid":20211,"port":5338,"startedAt":"2026-11-23T02:09:04.848Z"}"#;
    c.bench_function("peer: exclusive create, write, close, unlink", |b| {
        b.iter(|| {
            let mut file =
                OpenOptions::new().write(true).create_new(true).open(&path).expect("is new");
            file.write_all(record).expect("writes");
            drop(file);
            std::fs::remove_file(&path).expect("is there");
        });
    });
}

criterion_group!(benches, acquire, peers);
criterion_main!(benches);
