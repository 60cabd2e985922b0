//! The limit of every wait in a test. Past it the test fails, and reports what it waited for.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Longer than any successful wait takes, on a machine that runs these tests four times at once.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// Returns once `is_so`.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LIMIT, "timed out waiting: {what}");
        std::thread::yield_now();
    }
}

/// What `blocking` returns. Past the limit it aborts the test process, because a blocked thread
/// cannot be made to fail.
#[track_caller]
pub(crate) fn must_return<T>(what: &str, blocking: impl FnOnce() -> T) -> T {
    let (returned, has_returned) = channel::<()>();
    let message = format!("{}: blocked for too long: {what}", std::panic::Location::caller());
    let watch = std::thread::spawn(move || {
        if has_returned.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{message}");
            std::process::abort();
        }
    });
    let value = blocking();
    drop(returned);
    watch.join().expect("no panic");
    value
}
