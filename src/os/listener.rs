//! Waits for a file for a limited time: events where the system has them, and a look after a pause.
//!
//! Events make it fast; that it ends does not rest on them. An event can be early (Linux tells of
//! a close just before it frees the kernel lock: `__fput` in fs/file_table.c), so one is followed
//! by more looks, after pauses that grow. And a network filesystem tells only of what this machine
//! did, so a file that is quiet for a second is looked at all the same.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
#[cfg(feature = "tokio")]
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use super::cancel::readable;
use super::events::Events;
use super::until::{Pauses, Until};
use crate::fs::Listen;

/// The longest pause where events are kept.
const QUIET: Duration = Duration::from_secs(1);

/// A wait for one lock path, over all files that come to stand there.
#[derive(Debug, Default)]
pub(super) struct Listener {
    until: Until,
    events: Option<Events>,
    /// Whether the events are of the file that is open.
    armed: bool,
    pauses: Pauses,
    /// There is one look after the end of the time.
    looked_last: bool,
}

impl Listener {
    pub(super) fn new(until: Until) -> Self {
        Self { until, ..Self::default() }
    }

    /// From here on the events of `file`, which `path` names, are kept. If that is not possible
    /// it polls: there is no error that a caller could do more about.
    pub(super) fn arm(&mut self, path: &Path, file: &File) {
        if self.events.is_none() {
            self.events = Events::new().ok();
        }
        let armed = self.events.as_mut().map(|events| events.watch(path, file).is_ok());
        if armed == Some(true) {
            (self.armed, self.pauses) = (true, Pauses::from(QUIET));
        } else {
            self.poll();
        }
    }

    /// From here on it looks again after short pauses.
    pub(super) fn poll(&mut self) {
        (self.armed, self.pauses) = (false, Pauses::from(Pauses::FIRST));
    }

    /// Blocks.
    pub(super) fn listen(&mut self) -> io::Result<Listen> {
        let over = self.until.end.is_some_and(|end| end <= Instant::now());
        if over && std::mem::replace(&mut self.looked_last, true) {
            return Ok(Listen::Over);
        }
        let pause = if over { Duration::ZERO } else { self.next_pause() };
        loop {
            let events = self.events.as_ref().filter(|_| self.armed).map(Events::as_fd);
            let cancelled = self.until.cancelled.as_ref().map(AsFd::as_fd);
            let [happened, cancelled] = readable([events, cancelled], Some(pause))?;
            if cancelled {
                return Ok(Listen::Over);
            }
            if !happened {
                return Ok(Listen::Event);
            }
            // The queue may have some of an earlier file.
            if self.events.as_mut().map_or(Ok(true), Events::take)? {
                self.pauses = Pauses::from(Pauses::FIRST);
                return Ok(Listen::Event);
            }
        }
    }

    /// As [`listen`](Self::listen), in a task of tokio: blocks no thread. It has no end but that it
    /// is dropped.
    #[cfg(feature = "tokio")]
    pub(super) async fn listen_in_task(&mut self) -> io::Result<Listen> {
        let pause = self.next_pause();
        loop {
            let Some(events) = self.events.as_mut().filter(|_| self.armed) else {
                tokio::time::sleep(pause).await;
                return Ok(Listen::Event);
            };
            if !readable_in_task(events.as_fd(), pause).await? {
                return Ok(Listen::Event);
            }
            // The queue may have some of an earlier file.
            if events.take()? {
                self.pauses = Pauses::from(Pauses::FIRST);
                return Ok(Listen::Event);
            }
        }
    }

    /// How long to wait for an event; grows from call to call.
    fn next_pause(&mut self) -> Duration {
        let longest = if self.armed { QUIET } else { Pauses::LONGEST_POLL };
        self.pauses.next(longest, &self.until)
    }
}

/// Whether `queue` became readable within `limit`. The runtime knows of it for that long alone, so
/// that what it is lent is its owner's again, whatever becomes of the future.
#[cfg(feature = "tokio")]
#[allow(deprecated, reason = "its successor (1.53.3) is unsafe, for what is owned; this is a loan")]
async fn readable_in_task(queue: BorrowedFd<'_>, limit: Duration) -> io::Result<bool> {
    use tokio::io::{Interest, unix::AsyncFd};
    let queue = AsyncFd::with_interest(queue, Interest::READABLE)?;
    match tokio::time::timeout(limit, queue.readable()).await {
        Ok(told) => told.map(|_| true),
        Err(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::cancel::Cancellation;

    const HOUR: Duration = Duration::from_secs(3600);

    fn armed(until: Until) -> (tempfile::TempDir, std::path::PathBuf, File, Listener) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x");
        let file = File::create(&path).expect("creates");
        let mut listener = Listener::new(until);
        listener.arm(&path, &file);
        (dir, path, file, listener)
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_event_ends_the_pause_and_more_looks_follow_it() {
        let (_dir, path, _file, mut listener) = armed(Until::default());
        assert!(listener.armed);
        // Without an event this test does not end.
        listener.pauses.next = HOUR;
        drop(File::open(&path).expect("somebody looks"));
        assert_eq!(listener.listen().expect("listens"), Listen::Event);
        assert_eq!(listener.pauses.next, Pauses::FIRST);
        assert_eq!(listener.listen().expect("listens"), Listen::Event);
        assert_eq!(listener.pauses.next, 2 * Pauses::FIRST);

        listener.pauses.next = HOUR;
        std::fs::remove_file(&path).expect("the holder releases");
        assert_eq!(listener.listen().expect("listens"), Listen::Event);
    }

    #[test]
    fn where_nothing_is_kept_it_looks_after_pauses_that_grow() {
        let (_dir, path, file, mut listener) = armed(Until::default());
        std::fs::remove_file(&path).expect("removes");
        listener.arm(&path, &file);
        assert!(!listener.armed);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            pauses.push(listener.pauses.next);
            assert_eq!(listener.listen().expect("listens"), Listen::Event);
        }
        assert!(pauses.is_sorted());
        assert_eq!((pauses[0], pauses[11]), (Pauses::FIRST, Pauses::LONGEST_POLL));
    }

    #[test]
    fn at_the_end_of_the_time_there_is_one_more_look_and_no_other() {
        let end = Some(Instant::now());
        let (_dir, path, _file, mut listener) = armed(Until { end, cancelled: None });
        assert_eq!(listener.listen().expect("listens"), Listen::Event);
        drop(File::open(&path).expect("somebody looks"));
        assert_eq!(listener.listen().expect("listens"), Listen::Over);
    }

    #[test]
    fn a_wait_that_is_cancelled_is_over_at_once() {
        let cancelled = Cancellation::new().expect("two descriptors");
        let until = Until { end: None, cancelled: Some(cancelled.clone()) };
        let (_dir, _path, _file, mut listener) = armed(until);
        listener.pauses.next = HOUR;
        let teller = std::thread::spawn(move || cancelled.tell());
        assert_eq!(listener.listen().expect("listens"), Listen::Over);
        teller.join().expect("no panic");
    }

    #[cfg(feature = "tokio")]
    fn runtime() -> tokio::runtime::Runtime {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime")
    }

    #[test]
    #[cfg(all(target_os = "linux", feature = "tokio"))]
    fn in_a_task_an_event_ends_the_pause_and_so_does_one_from_before_and_its_end() {
        let (_dir, path, _file, mut listener) = armed(Until::default());
        // Without an event this test does not end.
        listener.pauses.next = HOUR;
        drop(File::open(&path).expect("somebody looks"));
        runtime().block_on(async {
            assert_eq!(listener.listen_in_task().await.expect("listens"), Listen::Event);
            assert_eq!(listener.pauses.next, Pauses::FIRST);
            assert_eq!(listener.listen_in_task().await.expect("listens"), Listen::Event);
            assert_eq!(listener.pauses.next, 2 * Pauses::FIRST);

            listener.pauses.next = HOUR;
            let released = async { std::fs::remove_file(&path).expect("the holder releases") };
            let (heard, ()) = tokio::join!(listener.listen_in_task(), released);
            assert_eq!(heard.expect("listens"), Listen::Event);
        });
    }

    #[test]
    #[cfg(all(target_os = "linux", feature = "tokio"))]
    fn a_queue_that_a_task_left_serves_the_next_wait_in_a_task_or_a_thread() {
        let (_dir, path, _file, mut listener) = armed(Until::default());
        runtime().block_on(async {
            listener.pauses.next = HOUR;
            let left = tokio::time::timeout(Duration::ZERO, listener.listen_in_task()).await;
            assert!(left.is_err());
            listener.pauses.next = HOUR;
            drop(File::open(&path).expect("somebody looks"));
            assert_eq!(listener.listen_in_task().await.expect("listens"), Listen::Event);
        });
        listener.pauses.next = HOUR;
        drop(File::open(&path).expect("somebody looks"));
        assert_eq!(listener.listen().expect("listens"), Listen::Event);
    }

    #[test]
    #[cfg(feature = "tokio")]
    fn in_a_task_it_looks_after_pauses_that_grow_where_nothing_is_kept() {
        let (_dir, path, file, mut listener) = armed(Until::default());
        std::fs::remove_file(&path).expect("removes");
        listener.arm(&path, &file);
        runtime().block_on(async {
            for _ in 0..12 {
                assert_eq!(listener.listen_in_task().await.expect("listens"), Listen::Event);
            }
        });
        assert_eq!(listener.pauses.next, Pauses::LONGEST_POLL);
    }
}
