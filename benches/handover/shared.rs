//! The participating processes: their roles, and their shared memory.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::contender::Contender;

const ENVIRONMENT: &str = "PORTLOCK_BENCH_PART";

/// The role of a process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Role {
    /// Acquires and releases until the end.
    Contend,
    /// Acquires, and waits to be killed.
    Hold,
    /// Acquires once.
    Wait,
}

/// One process, as its environment describes it.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) role: Role,
    pub(crate) contender: Contender,
    pub(crate) number: u64,
    /// The length of a hold in microseconds.
    pub(crate) hold: u64,
    /// Whether it counts its system calls, which slows each of them.
    pub(crate) counts: bool,
    pub(crate) dir: PathBuf,
}

impl Part {
    pub(crate) fn of_environment() -> Option<Self> {
        let text = std::env::var(ENVIRONMENT).ok()?;
        let words: Vec<&str> = text.splitn(6, ' ').collect();
        let number = |at: usize| words[at].parse().expect("a number");
        Some(Self {
            role: match words[0] {
                "Contend" => Role::Contend,
                "Hold" => Role::Hold,
                "Wait" => Role::Wait,
                other => panic!("{other} is no role"),
            },
            contender: Contender::of(words[1]),
            number: number(2),
            hold: number(3),
            counts: number(4) == 1,
            dir: words[5].into(),
        })
    }

    pub(crate) fn start(&self) -> Child {
        let Self { role, contender, number, hold, counts, dir } = self;
        let counts = u8::from(*counts);
        let contender = contender.name();
        let text = format!("{role:?} {contender} {number} {hold} {counts} {}", dir.display());
        Command::new(std::env::current_exe().expect("a path"))
            .env(ENVIRONMENT, text)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts")
    }

    pub(crate) fn lock_file(&self) -> PathBuf {
        self.dir.join("x.lock")
    }
}

/// The shared memory of one trial.
#[repr(C)]
pub(crate) struct Shared {
    pub(crate) ready: AtomicU64,
    /// 1 from the start, 2 at the end.
    pub(crate) phase: AtomicU64,
    /// The last process to begin a release, and the time.
    pub(crate) releaser: AtomicU64,
    pub(crate) released: AtomicU64,
    /// The time when the first waiter acquired after the kill; 0 before.
    pub(crate) recovered: AtomicU64,
}

impl Shared {
    /// Maps the first page of a file in `dir`, until the process ends.
    pub(crate) fn of(dir: &Path) -> &'static Self {
        let file = dir.join("shared");
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

    /// Blocks until this many processes are ready.
    pub(crate) fn until_ready(&self, processes: usize) {
        while self.ready.load(SeqCst) < processes as u64 {
            std::thread::yield_now();
        }
    }
}

/// Nanoseconds by the clock that all processes share.
pub(crate) fn now() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a time.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    (now.tv_sec as u64) * 1_000_000_000 + now.tv_nsec as u64
}

/// The median of the values that are numbers, or NaN.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.retain(|value| !value.is_nan());
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
