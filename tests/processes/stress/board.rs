//! The memory that all processes of a run share: the order for each, and its answer.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Shared by the test and its contenders. Initially zero.
#[repr(C)]
pub(super) struct Board {
    pub(super) order: AtomicU32,
    pub(super) protocol: AtomicU32,
    pub(super) go: AtomicU32,
    pub(super) over: AtomicU32,
    pub(super) holds_left: AtomicU32,
    pub(super) witnessed: AtomicU32,
    /// In this trial: contenders that found the file stale, and contenders that held.
    pub(super) found_stale: AtomicU32,
    pub(super) held: AtomicU32,
    pub(super) slots: [Slot; 16],
}

/// One contender's, on its own cache line.
#[repr(C, align(128))]
pub(super) struct Slot {
    /// The round it waits for.
    pub(super) ready: AtomicU32,
    /// The last round it answered.
    pub(super) answered: AtomicU32,
    answer: AtomicU32,
    named: AtomicU32,
    /// In a churn.
    pub(super) held: AtomicU32,
    pub(super) refused_named: AtomicU32,
    pub(super) refused_unnamed: AtomicU32,
}

impl Board {
    pub(super) fn new(path: &Path) -> &'static Self {
        let file = File::create_new(path).expect("the board");
        file.set_len(size_of::<Self>() as u64).expect("its size is set");
        Self::open(path)
    }

    /// The double reclaim: the first contender continues when a second has found the file stale,
    /// the others when one holds. The wait is bounded because the contender may be alone.
    pub(super) fn reclaim_one_after_the_other(&self) {
        let first = self.found_stale.fetch_add(1, SeqCst) == 0;
        let may_continue = || match first {
            true => self.found_stale.load(SeqCst) > 1,
            false => self.held.load(SeqCst) > 0,
        };
        for _ in 0..10_000 {
            if may_continue() {
                return;
            }
            std::thread::yield_now();
        }
    }

    /// Mapped until the process ends.
    pub(super) fn open(path: &Path) -> &'static Self {
        let file = File::options().read(true).write(true).open(path).expect("the board");
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping of an open file, of the size that it has.
        let memory = unsafe {
            let size = size_of::<Self>();
            libc::mmap(
                std::ptr::null_mut(),
                size,
                protection,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(memory, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        // SAFETY: page-aligned, of that size, never unmapped, and all fields are atomic numbers,
        // for which zero is valid.
        unsafe { &*memory.cast::<Self>() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(u32)]
pub(super) enum Order {
    Try,
    Churn,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Answer {
    Held,
    Refused(u32),
    Unknown,
}

impl Slot {
    pub(super) fn say(&self, answer: Answer) {
        let (kind, pid) = match answer {
            Answer::Held => (0, 0),
            Answer::Refused(pid) => (1, pid),
            Answer::Unknown => (2, 0),
        };
        self.answer.store(kind, SeqCst);
        self.named.store(pid, SeqCst);
    }

    pub(super) fn answer(&self) -> Answer {
        match self.answer.load(SeqCst) {
            0 => Answer::Held,
            1 => Answer::Refused(self.named.load(SeqCst)),
            _ => Answer::Unknown,
        }
    }
}
