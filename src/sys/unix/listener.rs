//! Waits for a file for a limited time: events where the system has them, and a look after a pause.
//!
//! Events make it fast; that it ends does not rest on them. An event can be early (Linux reports a
//! close just before it frees the kernel lock: `__fput` in fs/file_table.c), so one is followed by
//! more checks, after pauses that grow. And a network filesystem reports only what this machine did,
//! so a file that is quiet for a second is checked anyway.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
#[cfg(feature = "tokio")]
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

#[cfg(feature = "tokio")]
use super::cancel::awaited;
use super::cancel::{Cancellation, readable};
use super::events::Events;
use crate::protocol::Listen;
use crate::sys::deadline::{Backoff, Deadline};

/// The longest pause where events are kept.
const QUIET: Duration = Duration::from_secs(1);

/// A wait for one lock path, over all files that it comes to name.
#[derive(Debug, Default)]
pub(super) struct Listener {
    deadline: Deadline,
    events: Option<Events>,
    /// Whether the events are of the file that is open.
    armed: bool,
    backoff: Backoff,
    /// There is one look after the end of the time.
    looked_last: bool,
}

impl Listener {
    pub(super) fn new(deadline: Deadline) -> Self {
        Self { deadline, ..Self::default() }
    }

    /// From here on the events of `file`, which `path` names, are kept. If that is not possible
    /// it polls: there is no error that a caller could do more about.
    pub(super) fn arm(&mut self, path: &Path, file: &File) {
        if self.events.is_none() {
            self.events = Events::new().ok();
        }
        let armed = self.events.as_mut().map(|events| events.watch(path, file).is_ok());
        if armed == Some(true) {
            (self.armed, self.backoff) = (true, Backoff::from(QUIET));
        } else {
            self.poll();
        }
    }

    /// From here on it looks again after short pauses.
    pub(super) fn poll(&mut self) {
        (self.armed, self.backoff) = (false, Backoff::from(Backoff::FIRST));
    }

    /// Blocks.
    pub(super) fn wait_event(&mut self) -> io::Result<Listen> {
        let Some(pause) = self.next_pause() else { return Ok(Listen::Over) };
        // One that was cancelled by hand does not have to become readable.
        if self.deadline.is_cancelled() {
            return Ok(Listen::Over);
        }
        loop {
            let events = self.events.as_ref().filter(|_| self.armed).map(Events::as_fd);
            let cancelled = self.deadline.cancelled.as_ref();
            let files = [events, cancelled.map(AsFd::as_fd)];
            let [happened, is_cancelled] = readable(files, Some(pause))?;
            if is_cancelled {
                // Another reader may drain it before it is asked for the next time.
                cancelled.into_iter().for_each(Cancellation::latch);
                return Ok(Listen::Over);
            }
            if !happened || self.is_of_this_file()? {
                return Ok(Listen::Event);
            }
        }
    }

    /// Same as [`listen`](Self::listen), in a task of tokio: blocks no thread.
    #[cfg(feature = "tokio")]
    pub(super) async fn listen_in_task(&mut self) -> io::Result<Listen> {
        let Some(pause) = self.next_pause() else { return Ok(Listen::Over) };
        let deadline = self.deadline.clone();
        match deadline.unless_cancelled(self.event_in_task(pause)).await {
            Some(Ok(())) => Ok(Listen::Event),
            Some(Err(error)) => Err(error),
            None => Ok(Listen::Over),
        }
    }

    #[cfg(feature = "tokio")]
    async fn event_in_task(&mut self, pause: Duration) -> io::Result<()> {
        loop {
            let Some(events) = self.events.as_ref().filter(|_| self.armed) else {
                tokio::time::sleep(pause).await;
                return Ok(());
            };
            if !readable_in_task(events.as_fd(), pause).await? || self.is_of_this_file()? {
                return Ok(());
            }
        }
    }

    /// Whether what happened was to the present file: the queue may have some of an earlier one.
    fn is_of_this_file(&mut self) -> io::Result<bool> {
        let is_of_it = self.events.as_mut().map_or(Ok(true), Events::take)?;
        if is_of_it {
            self.backoff = Backoff::from(Backoff::FIRST);
        }
        Ok(is_of_it)
    }

    /// How long to wait for an event; grows from call to call. `None` once the time is over and the
    /// last look was made.
    fn next_pause(&mut self) -> Option<Duration> {
        if self.deadline.is_late() {
            return (!std::mem::replace(&mut self.looked_last, true)).then_some(Duration::ZERO);
        }
        let longest = if self.armed { QUIET } else { Backoff::LONGEST_POLL };
        Some(self.backoff.next(longest, &self.deadline))
    }
}

/// Whether `queue` became readable within `limit`. The runtime knows of it for that long alone, so
/// that what it is lent is its owner's again, whatever becomes of the future.
#[cfg(feature = "tokio")]
async fn readable_in_task(queue: BorrowedFd<'_>, limit: Duration) -> io::Result<bool> {
    let queue = awaited(queue)?;
    match tokio::time::timeout(limit, queue.readable()).await {
        Ok(returned) => returned.map(|_| true),
        Err(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::sys::in_time::in_time;

    /// A pause that an event is to end: then the next one is the shortest, and not `QUIET`.
    const MINUTE: Duration = Duration::from_secs(60);

    fn armed(deadline: Deadline) -> (tempfile::TempDir, std::path::PathBuf, File, Listener) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x");
        let file = File::create(&path).expect("creates");
        let mut listener = Listener::new(deadline);
        listener.arm(&path, &file);
        (dir, path, file, listener)
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn event_ends_the_pause_and_resets_backoff() {
        in_time(|| {
            let (_dir, path, _file, mut listener) = armed(Deadline::default());
            assert!(listener.armed);
            listener.backoff.next = MINUTE;
            drop(File::open(&path).expect("it opens"));
            assert_eq!(listener.wait_event().expect("listens"), Listen::Event);
            assert_eq!(listener.backoff.next, Backoff::FIRST);
            assert_eq!(listener.wait_event().expect("listens"), Listen::Event);
            assert_eq!(listener.backoff.next, 2 * Backoff::FIRST);

            listener.backoff.next = MINUTE;
            std::fs::remove_file(&path).expect("the holder releases");
            assert_eq!(listener.wait_event().expect("listens"), Listen::Event);
            assert_eq!(listener.backoff.next, Backoff::FIRST);
        });
    }

    #[test]
    fn unwatched_file_is_polled_at_growing_intervals() {
        in_time(|| {
            let (_dir, path, file, mut listener) = armed(Deadline::default());
            std::fs::remove_file(&path).expect("removes");
            listener.arm(&path, &file);
            assert!(!listener.armed);
            let mut pauses = Vec::new();
            for _ in 0..12 {
                pauses.push(listener.backoff.next);
                assert_eq!(listener.wait_event().expect("listens"), Listen::Event);
            }
            assert!(pauses.is_sorted());
            assert_eq!((pauses[0], pauses[11]), (Backoff::FIRST, Backoff::LONGEST_POLL));
        });
    }

    #[test]
    fn deadline_allows_exactly_one_more_check() {
        in_time(|| {
            let end = Some(Instant::now());
            let (_dir, path, _file, mut listener) = armed(Deadline { end, cancelled: None });
            assert_eq!(listener.wait_event().expect("listens"), Listen::Event);
            drop(File::open(&path).expect("it opens"));
            assert_eq!(listener.wait_event().expect("listens"), Listen::Over);
        });
    }

    #[test]
    fn cancelled_wait_ends_at_once() {
        in_time(|| {
            let cancelled = Cancellation::new().expect("two descriptors");
            let deadline = Deadline { end: None, cancelled: Some(cancelled.clone()) };
            let (_dir, _path, _file, mut listener) = armed(deadline);
            listener.backoff.next = MINUTE;
            let canceller = std::thread::spawn(move || cancelled.cancel());
            assert_eq!(listener.wait_event().expect("listens"), Listen::Over);
            canceller.join().expect("no panic");
        });
    }

    #[cfg(feature = "tokio")]
    fn runtime() -> tokio::runtime::Runtime {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime")
    }

    #[test]
    #[cfg(all(target_os = "linux", feature = "tokio"))]
    fn events_and_timers_end_a_pause_in_task() {
        in_time(|| {
            let (_dir, path, _file, mut listener) = armed(Deadline::default());
            listener.backoff.next = MINUTE;
            drop(File::open(&path).expect("it opens"));
            runtime().block_on(async {
                assert_eq!(listener.listen_in_task().await.expect("listens"), Listen::Event);
                assert_eq!(listener.backoff.next, Backoff::FIRST);
                assert_eq!(listener.listen_in_task().await.expect("listens"), Listen::Event);
                assert_eq!(listener.backoff.next, 2 * Backoff::FIRST);

                listener.backoff.next = MINUTE;
                let released = async { std::fs::remove_file(&path).expect("the holder releases") };
                let (heard, ()) = tokio::join!(listener.listen_in_task(), released);
                assert_eq!(heard.expect("listens"), Listen::Event);
                assert_eq!(listener.backoff.next, Backoff::FIRST);
            });
        });
    }

    #[test]
    #[cfg(all(target_os = "linux", feature = "tokio"))]
    fn queue_left_by_a_task_serves_next_wait() {
        in_time(|| {
            let (_dir, path, _file, mut listener) = armed(Deadline::default());
            runtime().block_on(async {
                listener.backoff.next = MINUTE;
                let left = tokio::time::timeout(Duration::ZERO, listener.listen_in_task()).await;
                assert!(left.is_err());
                listener.backoff.next = MINUTE;
                drop(File::open(&path).expect("it opens"));
                assert_eq!(listener.listen_in_task().await.expect("listens"), Listen::Event);
                assert_eq!(listener.backoff.next, Backoff::FIRST);
            });
            listener.backoff.next = MINUTE;
            drop(File::open(&path).expect("it opens"));
            assert_eq!(listener.wait_event().expect("listens"), Listen::Event);
            assert_eq!(listener.backoff.next, Backoff::FIRST);
        });
    }

    #[test]
    #[cfg(feature = "tokio")]
    fn unwatched_task_polls_at_growing_intervals() {
        in_time(|| {
            let (_dir, path, file, mut listener) = armed(Deadline::default());
            std::fs::remove_file(&path).expect("removes");
            listener.arm(&path, &file);
            runtime().block_on(async {
                for _ in 0..12 {
                    assert_eq!(listener.listen_in_task().await.expect("listens"), Listen::Event);
                }
            });
            assert_eq!(listener.backoff.next, Backoff::LONGEST_POLL);
        });
    }
}
