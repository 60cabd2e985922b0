//! Which signals were ignored when portlock started.
//!
//! Asked before `main`: Rust's runtime ignores SIGPIPE there, and gives the default action to what
//! it starts, whatever it was before. systemd starts services with SIGPIPE ignored.

use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::Signal;

/// A bit for each, the lowest for signal 1.
static IGNORED: AtomicU64 = AtomicU64::new(0);

/// None, where /proc does not say.
#[ctor::ctor(unsafe)]
fn look() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    IGNORED.store(mask.unwrap_or(0), Ordering::Relaxed);
}

/// Whether `signal` was ignored.
pub(crate) fn is_ignored(signal: Signal) -> bool {
    IGNORED.load(Ordering::Relaxed) >> (signal as i32 - 1) & 1 == 1
}
