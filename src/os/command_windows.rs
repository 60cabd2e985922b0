//! What the command asks of Windows: the console's events, and a job that ends its command with it.

#![allow(unsafe_code)]

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::null;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, CTRL_C_EVENT, CTRL_CLOSE_EVENT, SetConsoleCtrlHandler,
};
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation,
    SetInformationJobObject,
};
use windows_sys::Win32::System::Threading::GetCurrentProcess;

use super::cancel::Cancellation;

/// Is told of every event.
static TOLD: OnceLock<Cancellation> = OnceLock::new();

/// The first event that came and was not asked for yet, and 1.
static CAME: AtomicU32 = AtomicU32::new(0);

/// From here on Ctrl-C and Ctrl-Break do not end this process, but tell what is returned. Those that
/// it starts get them from the console as well
/// ([`SetConsoleCtrlHandler`](https://learn.microsoft.com/windows/console/setconsolectrlhandler)).
pub(crate) fn keep_console_events() -> io::Result<Cancellation> {
    let fresh = Cancellation::new()?;
    let told = TOLD.get_or_init(|| fresh).clone();
    // SAFETY: the handler has the ABI that is asked for, and lives as long as the program.
    match unsafe { SetConsoleCtrlHandler(Some(on_event), 1) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(told),
    }
}

/// The signal of Unix that an event which came since the last call would be: 2 (INT) for Ctrl-C,
/// 21 (BREAK, as the C library of Windows has it), 1 (HUP) for a console that is closed, 15 (TERM)
/// for the end of the session or of the machine.
pub(crate) fn console_event() -> Option<i32> {
    match CAME.swap(0, Ordering::SeqCst).checked_sub(1)? {
        CTRL_C_EVENT => Some(2),
        CTRL_BREAK_EVENT => Some(21),
        CTRL_CLOSE_EVENT => Some(1),
        _ => Some(15),
    }
}

/// Runs in a thread of its own, which the system starts.
unsafe extern "system" fn on_event(event: u32) -> i32 {
    let _ = CAME.compare_exchange(0, event + 1, Ordering::SeqCst, Ordering::SeqCst);
    if let Some(told) = TOLD.get() {
        told.cancel();
    }
    if matches!(event, CTRL_C_EVENT | CTRL_BREAK_EVENT) {
        return 1;
    }
    // With the return of this one the process would end. The command has been told too: its end,
    // and the release, come within the seconds that the system gives, or it ends us all.
    loop {
        std::thread::park();
    }
}

/// This process and those that it starts: the end of this one ends all of them
/// ([job objects](https://learn.microsoft.com/windows/win32/procthread/job-objects)), since it has
/// the only handle of their job.
#[derive(Debug)]
pub(crate) struct Job(OwnedHandle);

impl Job {
    /// Puts this process into a job of its own, within the one that it may be in. What it starts is
    /// in it from its first instruction on
    /// ([`CreateJobObjectW`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-createjobobjectw),
    /// [`AssignProcessToJobObject`](https://learn.microsoft.com/windows/win32/api/jobapi2/nf-jobapi2-assignprocesstojobobject),
    /// [`GetCurrentProcess`](https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-getcurrentprocess)).
    pub(crate) fn of_this_process() -> io::Result<Self> {
        // SAFETY: null asks for the defaults, and for no name.
        let handle = unsafe { CreateJobObjectW(null(), null()) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle is open and nobody else's: the job is closed when this process ends.
        let job = Self(unsafe { OwnedHandle::from_raw_handle(handle) });
        job.limit(JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE)?;
        // SAFETY: the handle is open, and the pseudo handle needs no closing.
        check(unsafe { AssignProcessToJobObject(job.0.as_raw_handle(), GetCurrentProcess()) })?;
        Ok(job)
    }

    /// From here on nobody ends with this process: what the command left behind may go on.
    pub(crate) fn let_go(&self) -> io::Result<()> {
        self.limit(0)
    }

    /// [`SetInformationJobObject`](https://learn.microsoft.com/windows/win32/api/jobapi2/nf-jobapi2-setinformationjobobject).
    fn limit(&self, flags: u32) -> io::Result<()> {
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        limits.BasicLimitInformation.LimitFlags = flags;
        let (to, size) = ((&raw const limits).cast(), size_of_val(&limits) as u32);
        let job = self.0.as_raw_handle();
        // SAFETY: the handle is open, and `limits` is what this class takes.
        check(unsafe { SetInformationJobObject(job, JobObjectExtendedLimitInformation, to, size) })
    }
}

impl Drop for Job {
    /// Without this the end of a job that is dropped would be that of this process.
    fn drop(&mut self) {
        let _ = self.let_go();
    }
}

fn check(done: i32) -> io::Result<()> {
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
