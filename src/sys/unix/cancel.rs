//! What ends a wait before its time: a descriptor that becomes readable.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::above_standard;

/// Cancelled once, it stays so. Clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Cancellation(Arc<Ends>);

#[derive(Debug)]
struct Ends {
    /// Readable once it is cancelled.
    readable: OwnedFd,
    /// The other end, if it is ours.
    writable: Option<UnixStream>,
    /// It has been seen readable. Another reader of a descriptor that is not ours may drain it.
    is_cancelled: AtomicBool,
}

impl Cancellation {
    pub(crate) fn new() -> io::Result<Self> {
        let (readable, writable) = UnixStream::pair()?;
        let (readable, writable) = (above_standard(readable), above_standard(writable));
        // To cancel often must not block once the buffer is full.
        writable.set_nonblocking(true)?;
        Ok(Self::of(readable.into(), Some(writable)))
    }

    pub(crate) fn from_fd(readable: OwnedFd) -> Self {
        Self::of(readable, None)
    }

    fn of(readable: OwnedFd, writable: Option<UnixStream>) -> Self {
        Self(Arc::new(Ends { readable, writable, is_cancelled: AtomicBool::new(false) }))
    }

    pub(crate) fn cancel(&self) {
        self.latch();
        if let Some(writable) = &self.0.writable {
            // An error means that the buffer is full, so that it is readable.
            let _ = io::Write::write(&mut &*writable, &[0]);
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.sleep(Duration::ZERO)
    }

    /// Sleeps for so long, or until it is cancelled. Whether it was.
    pub(crate) fn sleep(&self, pause: Duration) -> bool {
        if !self.0.is_cancelled.load(Ordering::Relaxed) {
            match readable([Some(self.as_fd())], Some(pause)) {
                Ok([true]) => self.latch(),
                Ok([false]) | Err(_) => return false,
            }
        }
        true
    }

    /// Stays cancelled, whatever becomes of the descriptor.
    pub(super) fn latch(&self) {
        self.0.is_cancelled.store(true, Ordering::Relaxed);
    }

    /// Until it is cancelled, in a task. Forever, if there is no descriptor left to wait with: then
    /// the waiter finds out when it looks next.
    #[cfg(feature = "tokio")]
    pub(crate) async fn in_task(&self) {
        // One of its own: a runtime takes a descriptor once, and many tasks may wait with this one.
        let own = self.0.readable.try_clone();
        let Ok(own) = own.and_then(awaited) else {
            return std::future::pending().await;
        };
        while !self.is_cancelled() {
            match own.readable().await {
                Ok(mut readable) => readable.clear_ready(),
                Err(_) => return std::future::pending().await,
            }
        }
    }
}

impl AsFd for Cancellation {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.readable.as_fd()
    }
}

/// Has the runtime of this task wait until `file` is readable.
#[cfg(feature = "tokio")]
#[allow(deprecated, reason = "its successor (1.53.3) is unsafe; these own or borrow what they are")]
pub(super) fn awaited<T: AsRawFd>(file: T) -> io::Result<tokio::io::unix::AsyncFd<T>> {
    tokio::io::unix::AsyncFd::with_interest(file, tokio::io::Interest::READABLE)
}

/// `poll(2)`: which of these are readable, or at their end; waits for at most `limit` for one.
pub(super) fn readable<const N: usize>(
    files: [Option<BorrowedFd<'_>>; N],
    limit: Option<Duration>,
) -> io::Result<[bool; N]> {
    let end = limit.and_then(|limit| Instant::now().checked_add(limit));
    // A negative number is left out by poll.
    let mut polled = files.map(|file| libc::pollfd {
        fd: file.map_or(-1, |file| file.as_raw_fd()),
        events: libc::POLLIN,
        revents: 0,
    });
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        match poll(&mut polled, left) {
            Ok(()) => return Ok(polled.map(|one| one.revents != 0)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// With the precision that pauses of 50 µs need; in whole milliseconds where there is no `ppoll`.
fn poll(files: &mut [libc::pollfd], limit: Option<Duration>) -> io::Result<()> {
    let count = libc::nfds_t::try_from(files.len()).unwrap_or(0);
    #[cfg(any(target_os = "linux", target_os = "freebsd"))]
    let returned = {
        let limit = limit.map(|limit| libc::timespec {
            tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: limit.subsec_nanos() as libc::c_long,
        });
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the slice is valid for its length, the time is null or valid, and no mask is set.
        unsafe { libc::ppoll(files.as_mut_ptr(), count, limit, std::ptr::null()) }
    };
    #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
    let returned = {
        let up = |limit: Duration| limit.as_nanos().div_ceil(1_000_000);
        let limit = limit.map_or(-1, |limit| i32::try_from(up(limit)).unwrap_or(i32::MAX));
        // SAFETY: the slice is valid for its length.
        unsafe { libc::poll(files.as_mut_ptr(), count, limit) }
    };
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::sys::forked::in_a_child;

    /// SIGALRM, which interrupts once, `after` so much time.
    fn interrupted(after: Duration) {
        extern "C" fn nothing(_: libc::c_int) {}
        let timer = libc::itimerval {
            it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
            it_value: libc::timeval {
                tv_sec: 0,
                tv_usec: libc::suseconds_t::try_from(after.as_micros()).expect("short"),
            },
        };
        let handler: extern "C" fn(libc::c_int) = nothing;
        // SAFETY: the handler does nothing, and the time is valid.
        unsafe {
            libc::signal(libc::SIGALRM, handler as libc::sighandler_t);
            libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
        }
    }

    /// A token of a descriptor, and the other end.
    fn of_a_descriptor() -> (Cancellation, UnixStream, UnixStream) {
        let (readable, writable) = UnixStream::pair().expect("a pair");
        let reader = readable.try_clone().expect("a second descriptor");
        (Cancellation::from_fd(readable.into()), reader, writable)
    }

    fn written_to(mut writable: &UnixStream) {
        writable.write_all(&[0]).expect("there is room");
    }

    /// Another reader takes it away.
    fn drained(mut reader: &UnixStream) {
        reader.read_exact(&mut [0]).expect("it is there");
    }

    #[test]
    fn seen_cancellation_outlives_its_cause() {
        let token = Cancellation::new().expect("a pair");
        assert!(!token.is_cancelled());
        token.clone().cancel();
        assert!(token.is_cancelled());

        let (token, reader, writable) = of_a_descriptor();
        assert!(!token.is_cancelled());
        written_to(&writable);
        assert!(token.is_cancelled());
        drained(&reader);
        assert!(token.is_cancelled());
    }

    #[test]
    fn interrupted_wait_lasts_until_its_end() {
        let (after, limit) = (Duration::from_millis(1), Duration::from_millis(50));
        let said = in_a_child(|| {
            interrupted(after);
            let begun = Instant::now();
            let found = readable([None], Some(limit)).expect("poll(2) starts again");
            vec![u8::from(!found[0] && begun.elapsed() >= limit)]
        });
        assert_eq!(said, [1]);
    }

    /// Not more files than may be open at a time (poll(2)); other systems have a limit of their own.
    #[test]
    #[cfg(target_os = "linux")]
    fn refused_wait_is_an_error() {
        let said = in_a_child(|| {
            crate::sys::forked::no_more_descriptors();
            let refused = readable([None], Some(Duration::from_secs(60)));
            vec![u8::from(refused.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL)))]
        });
        assert_eq!(said, [1]);
    }

    #[cfg(feature = "tokio")]
    mod tasks {
        use std::pin::pin;
        use std::task::{Context, Waker};

        use super::*;
        use crate::sys::wakes::Wakes;

        fn within_a_minute(part: impl Future<Output = ()>) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let part = async { tokio::time::timeout(Duration::from_secs(60), part).await };
            runtime.expect("a runtime").block_on(part).expect("it is woken");
        }

        /// What another reader takes away before it is seen cancels nothing: the task waits again,
        /// and not by asking all the time.
        #[test]
        fn drained_descriptor_is_awaited_again() {
            let (token, reader, writable) = of_a_descriptor();
            within_a_minute(async {
                let wakes = Arc::new(Wakes::default());
                let waker = Waker::from(Arc::clone(&wakes));
                let mut cx = Context::from_waker(&waker);
                let mut cancelled = pin!(token.in_task());
                assert!(cancelled.as_mut().poll(&mut cx).is_pending());
                // The runtime hears of both at once, and this of the other.
                let seen = awaited(reader.try_clone().expect("a third descriptor"));
                let seen = seen.expect("the runtime takes it");
                written_to(&writable);
                seen.readable().await.expect("it is readable").clear_ready();
                drained(&reader);
                let before = wakes.so_far();
                assert!(before > 0, "the runtime has told it");
                assert!(cancelled.as_mut().poll(&mut cx).is_pending());
                assert_eq!(wakes.so_far(), before, "it asks again and again");

                written_to(&writable);
                cancelled.await;
            });
            assert!(token.is_cancelled());
        }

        #[test]
        fn token_cancelled_before_is_ready_at_once() {
            let token = Cancellation::new().expect("a pair");
            token.cancel();
            within_a_minute(token.in_task());
        }
    }
}
