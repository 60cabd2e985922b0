//! What ends a wait before its time: a descriptor that becomes readable.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::unix::above_standard;

/// Told once, it stays told.
#[derive(Debug, Clone)]
pub(crate) struct Cancellation {
    told: Arc<OwnedFd>,
    /// The other end, if it is ours.
    tell: Option<Arc<UnixStream>>,
}

impl Cancellation {
    pub(crate) fn new() -> io::Result<Self> {
        let (told, tell) = UnixStream::pair()?;
        let (told, tell) = (above_standard(told), above_standard(tell));
        // Telling it often must not block once the buffer is full.
        tell.set_nonblocking(true)?;
        Ok(Self { told: Arc::new(told.into()), tell: Some(Arc::new(tell)) })
    }

    pub(crate) fn when_readable(told: OwnedFd) -> Self {
        Self { told: Arc::new(told), tell: None }
    }

    /// Does nothing where the descriptor is not ours to write to.
    pub(crate) fn tell(&self) {
        if let Some(tell) = &self.tell {
            // An error means that the buffer is full, so that it has been told.
            let _ = io::Write::write(&mut &**tell, &[0]);
        }
    }

    pub(crate) fn is_told(&self) -> bool {
        self.sleep(Duration::ZERO)
    }

    /// Sleeps for so long, or until it is told. Whether it was.
    pub(crate) fn sleep(&self, pause: Duration) -> bool {
        let [told] = readable([Some(self.told.as_fd())], Some(pause)).unwrap_or([false]);
        told
    }
}

impl AsFd for Cancellation {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.told.as_fd()
    }
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
    let told = {
        let limit = limit.map(|limit| libc::timespec {
            tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: limit.subsec_nanos() as libc::c_long,
        });
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the slice is valid for its length, the time is null or valid, and no mask is set.
        unsafe { libc::ppoll(files.as_mut_ptr(), count, limit, std::ptr::null()) }
    };
    #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
    let told = {
        let up = |limit: Duration| limit.as_nanos().div_ceil(1_000_000);
        let limit = limit.map_or(-1, |limit| i32::try_from(up(limit)).unwrap_or(i32::MAX));
        // SAFETY: the slice is valid for its length.
        unsafe { libc::poll(files.as_mut_ptr(), count, limit) }
    };
    if told < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
