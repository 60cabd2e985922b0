//! A bound for what might not return, for tests.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Longer than anything takes that returns, on a machine that runs these tests four times at once.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// What `part` returns, in a thread that is left behind if it does not return.
#[track_caller]
pub(crate) fn in_time<T: Send + 'static>(part: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, is_done) = channel();
    std::thread::spawn(move || done.send(part()));
    match is_done.recv_timeout(LIMIT) {
        Ok(returned) => returned,
        Err(RecvTimeoutError::Timeout) => panic!("it does not return"),
        Err(RecvTimeoutError::Disconnected) => panic!("it has failed, as said above"),
    }
}
