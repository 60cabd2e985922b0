//! A request to the system that is waited for, with a limit.

#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::io;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::ptr::null;
use std::time::Duration;

use windows_sys::Win32::Foundation::{STATUS_PENDING, WAIT_FAILED, WAIT_OBJECT_0};
use windows_sys::Win32::System::IO::OVERLAPPED;
use windows_sys::Win32::System::Threading::{CreateEventW, WaitForMultipleObjects};

use super::values::milliseconds;

/// How a wait for the kernel lock ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    Ours,
    TimeOver,
    Cancelled,
}

/// A request to the system that may end later, and the event that its end sets.
pub(super) struct Request {
    /// The system writes to it until the request has ended.
    pub(super) overlapped: Box<UnsafeCell<OVERLAPPED>>,
    pub(super) event: OwnedHandle,
}

impl Request {
    pub(super) fn new(offset: u64) -> io::Result<Self> {
        let event = new_event()?;
        let mut overlapped = OVERLAPPED {
            // Wine leaves it to the caller to say so before a lock that is waited for.
            Internal: STATUS_PENDING as usize,
            hEvent: event.as_raw_handle(),
            ..OVERLAPPED::default()
        };
        overlapped.Anonymous.Anonymous.Offset = offset as u32;
        overlapped.Anonymous.Anonymous.OffsetHigh = (offset >> 32) as u32;
        Ok(Self { overlapped: Box::new(UnsafeCell::new(overlapped)), event })
    }

    /// Waits until the request has ended, which is [`Waited::Ours`]
    /// ([`WaitForMultipleObjects`](https://learn.microsoft.com/windows/win32/api/synchapi/nf-synchapi-waitformultipleobjects)).
    pub(super) fn until_done(
        &self,
        limit: Duration,
        cancel: Option<BorrowedHandle<'_>>,
    ) -> io::Result<Waited> {
        let mut events = vec![self.event.as_raw_handle()];
        events.extend(cancel.map(|cancel| cancel.as_raw_handle()));
        let millis = milliseconds(limit);
        // SAFETY: the handles are open, and there are as many as is said.
        let ended =
            unsafe { WaitForMultipleObjects(events.len() as u32, events.as_ptr(), 0, millis) };
        match ended {
            WAIT_OBJECT_0 => Ok(Waited::Ours),
            WAIT_FAILED => Err(io::Error::last_os_error()),
            ended if ended == WAIT_OBJECT_0 + 1 => Ok(Waited::Cancelled),
            _ => Ok(Waited::TimeOver),
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        // SAFETY: aligned, and no reference to it exists; the system may be writing to it.
        let status = unsafe { (&raw const (*self.overlapped.get()).Internal).read_volatile() };
        status != STATUS_PENDING as usize
    }
}

/// A handle of an event that is not set and stays set once it is
/// ([`CreateEventW`](https://learn.microsoft.com/windows/win32/api/synchapi/nf-synchapi-createeventw)).
pub(super) fn new_event() -> io::Result<OwnedHandle> {
    // SAFETY: null asks for the defaults, and for no name.
    let event = unsafe { CreateEventW(null(), 1, 0, null()) };
    if event.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle is open and has no other owner.
    Ok(unsafe { OwnedHandle::from_raw_handle(event) })
}
