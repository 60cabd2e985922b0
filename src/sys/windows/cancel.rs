//! What ends a wait before its time, on Windows: an event.

#![allow(unsafe_code)]

use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, OwnedHandle};
use std::sync::Arc;
use std::time::Duration;

use windows_sys::Win32::Foundation::WAIT_OBJECT_0;
use windows_sys::Win32::System::Threading::{SetEvent, WaitForSingleObject};

use super::request::new_event;
use super::values::milliseconds;

/// Cancelled once, it stays so. Clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Cancellation(Arc<OwnedHandle>);

impl Cancellation {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(new_event()?)))
    }

    /// [`SetEvent`](https://learn.microsoft.com/windows/win32/api/synchapi/nf-synchapi-setevent).
    pub(crate) fn cancel(&self) {
        // SAFETY: the handle is open, and was made with the right to do so.
        unsafe { SetEvent(self.0.as_raw_handle()) };
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.sleep(Duration::ZERO)
    }

    /// Sleeps for so long, or until it is cancelled. Whether it was
    /// ([`WaitForSingleObject`](https://learn.microsoft.com/windows/win32/api/synchapi/nf-synchapi-waitforsingleobject)).
    pub(crate) fn sleep(&self, pause: Duration) -> bool {
        // SAFETY: the handle is open.
        let ended = unsafe { WaitForSingleObject(self.0.as_raw_handle(), milliseconds(pause)) };
        ended == WAIT_OBJECT_0
    }

    /// Until it is cancelled, in a task: by looking at the event, which only a thread can wait for.
    #[cfg(feature = "tokio")]
    pub(crate) async fn in_task(&self) {
        while !self.is_cancelled() {
            tokio::time::sleep(crate::sys::Backoff::LONGEST_POLL).await;
        }
    }
}

impl AsHandle for Cancellation {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.0.as_handle()
    }
}
