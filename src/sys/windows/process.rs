//! Processes on Windows: what this one says of itself in a record, and the probe of a recorded one.

#![allow(unsafe_code)]

use std::borrow::Cow;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::sync::atomic::AtomicPtr;
use std::time::SystemTime;

use windows_sys::Wdk::System::SystemInformation::{
    NtQuerySystemInformation, SystemTimeOfDayInformation,
};
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_INVALID_PARAMETER, ERROR_SUCCESS, FILETIME, HANDLE, WAIT_OBJECT_0,
};
use windows_sys::Win32::System::Registry::{
    HKEY_LOCAL_MACHINE, RRF_RT_REG_SZ, RRF_SUBKEY_WOW6464KEY, RegGetValueW,
};
use windows_sys::Win32::System::SystemInformation::{
    ComputerNamePhysicalDnsHostname, GetComputerNameExW,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetProcessId, GetProcessTimes, OpenProcess,
    PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SYNCHRONIZE, WaitForSingleObject,
};
use windows_sys::core::w;

use super::values::{hundreds_of_ns, time_of};
use crate::protocol::Probe;
use crate::record::Holder;
use crate::sys::author::{Identify, digest};
use crate::sys::is_clearly_after;
use crate::sys::per_process::PerProcess;

/// There is no `fork`.
pub(crate) fn generation() -> usize {
    0
}

/// The number of this process.
pub(crate) fn pid() -> u32 {
    std::process::id()
}

/// Nor is there anything to notice.
pub(crate) fn notice_fork() {}

/// This process, as its records describe it: all but port and time. The system is asked once
/// ([`GetCurrentProcess`](https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-getcurrentprocess)).
pub(crate) fn current_process() -> Cow<'static, Holder> {
    Cow::Borrowed(myself())
}

fn myself() -> &'static Holder {
    static ME: PerProcess<Holder> = PerProcess::new(AtomicPtr::new(std::ptr::null_mut()));
    ME.get(generation(), || {
        let mut me = Holder::new(std::process::id());
        me.command = std::env::args_os().next().and_then(|program| {
            let name = std::path::Path::new(&program).file_name()?;
            crate::record::printable(&name.to_string_lossy())
        });
        me.host = host();
        me.machine = machine();
        me.boot = boot();
        // SAFETY: the pseudo handle needs no closing.
        me.process_start = start_of(unsafe { GetCurrentProcess() });
        me
    })
}

/// How many files a process can have open: handles are not limited in practice.
pub(crate) fn descriptor_limit() -> usize {
    usize::MAX
}

/// There is no need to.
pub(crate) fn reserve_descriptors(_: usize) -> Vec<()> {
    Vec::new()
}

/// No process is asked which files it has locked.
pub(crate) fn pids_with_lock(_: &std::path::Path, _: u32) -> Vec<u32> {
    Vec::new()
}

/// The name of the machine
/// ([`GetComputerNameExW`](https://learn.microsoft.com/windows/win32/api/sysinfoapi/nf-sysinfoapi-getcomputernameexw)).
fn host() -> Option<String> {
    let mut name = [0_u16; 256];
    let mut length = name.len() as u32;
    // SAFETY: the pointer and the length are those of `name`.
    let returned = unsafe {
        GetComputerNameExW(ComputerNamePhysicalDnsHostname, name.as_mut_ptr(), &raw mut length)
    };
    let name = name.get(..length as usize).filter(|_| returned != 0)?;
    crate::record::printable(&String::from_utf16_lossy(name))
}

/// When the machine was booted, to a ten-millionth of a second, which no other boot shares
/// ([`NtQuerySystemInformation`](https://learn.microsoft.com/windows/win32/api/winternl/nf-winternl-ntquerysysteminformation)
/// with `SystemTimeOfDayInformation`).
///
/// When the clock is set the system moves this time too, and says in the bias by how much in all,
/// so that the difference stays. A boot that it tells otherwise later on costs nothing but words:
/// what an "earlier boot" has locked is never reclaimed.
fn boot() -> Option<String> {
    /// `SYSTEM_TIMEOFDAY_INFORMATION`.
    #[repr(C)]
    #[derive(Default)]
    struct TimeOfDay {
        boot: i64,
        now: i64,
        zone: [i64; 2],
        boot_bias: i64,
        sleep_bias: i64,
    }
    let mut returned = TimeOfDay::default();
    let (room, size) = ((&raw mut returned).cast(), size_of::<TimeOfDay>() as u32);
    // SAFETY: `returned` has the room that is said.
    let status = unsafe {
        let mut length = 0;
        NtQuerySystemInformation(SystemTimeOfDayInformation, room, size, &raw mut length)
    };
    // The name distinguishes it from a boot of another system on the same machine.
    (status >= 0 && returned.boot != 0)
        .then(|| format!("windows-{}", returned.boot.wrapping_sub(returned.boot_bias)))
}

/// The number that the system got when it was installed
/// ([`RegGetValueW`](https://learn.microsoft.com/windows/win32/api/winreg/nf-winreg-reggetvaluew)).
fn machine() -> Option<String> {
    let mut number = [0_u16; 64];
    let mut bytes = size_of_val(&number) as u32;
    // SAFETY: the names end with NUL, and `number` has as many bytes as are said.
    let returned = unsafe {
        RegGetValueW(
            HKEY_LOCAL_MACHINE,
            w!("SOFTWARE\\Microsoft\\Cryptography"),
            w!("MachineGuid"),
            RRF_RT_REG_SZ | RRF_SUBKEY_WOW6464KEY,
            std::ptr::null_mut(),
            number.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    let text = number.get(..bytes as usize / 2).filter(|_| returned == ERROR_SUCCESS)?;
    let text = String::from_utf16_lossy(text);
    let text = text.trim_end_matches('\0');
    (!text.is_empty()).then(|| digest(text))
}

/// Probes the process that wrote a record of this boot, or in the old format. `written` is when.
pub(crate) fn probe(holder: &Holder, identify: Identify, written: Option<SystemTime>) -> Probe {
    let start = match identify {
        Identify::ByStart => holder.process_start,
        Identify::ByNumber => None,
    };
    let me = myself();
    if holder.pid == me.pid && (start.is_none() || start == me.process_start) {
        return Probe::Ourselves;
    }
    let (probe, is_identified) = match open(holder.pid) {
        Ok(process) => look_at(&process, holder.pid, start, written),
        Err(error) => match error.raw_os_error().map(|code| code as u32) {
            Some(ERROR_INVALID_PARAMETER) => (Probe::Gone, false),
            Some(ERROR_ACCESS_DENIED) => (Probe::NotPermitted, false),
            _ => (Probe::Unknown, false),
        },
    };
    // By its number alone a process is found, and not identified.
    match (probe, identify) {
        (Probe::Alive | Probe::NotPermitted, Identify::ByStart) if !is_identified => Probe::Unknown,
        (probe, Identify::ByStart | Identify::ByNumber) => probe,
    }
}

/// [`OpenProcess`](https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-openprocess),
/// which refuses the number of no process with `ERROR_INVALID_PARAMETER`.
fn open(pid: u32) -> io::Result<OwnedHandle> {
    // SAFETY: takes and returns numbers.
    let process =
        unsafe { OpenProcess(PROCESS_SYNCHRONIZE | PROCESS_QUERY_LIMITED_INFORMATION, 0, pid) };
    if process.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle is open and has no other owner.
    Ok(unsafe { OwnedHandle::from_raw_handle(process) })
}

fn look_at(
    process: &OwnedHandle,
    pid: u32,
    start: Option<u64>,
    written: Option<SystemTime>,
) -> (Probe, bool) {
    let process = process.as_raw_handle();
    // A number that is no multiple of 4 opens the process whose number is the next one below
    // (https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-getprocessid).
    // SAFETY: the handle is open.
    if unsafe { GetProcessId(process) } != pid {
        return (Probe::Gone, false);
    }
    // The exit code proves nothing: a process may end with 259, which also says "still active"
    // (https://learn.microsoft.com/windows/win32/api/synchapi/nf-synchapi-waitforsingleobject).
    // SAFETY: the handle is open.
    if unsafe { WaitForSingleObject(process, 0) } == WAIT_OBJECT_0 {
        // As a zombie it is kept by the handles that others have of it.
        return (Probe::Zombie, false);
    }
    match (start, start_of(process), written) {
        (Some(recorded), Some(found), _) if recorded != found => (Probe::Other, true),
        (Some(_), Some(_), _) => (Probe::Alive, true),
        (None, Some(found), Some(written)) if started_after(found, written) => {
            (Probe::StartedLater, false)
        }
        _ => (Probe::Alive, false),
    }
}

/// When a process was started, in units of a `FILETIME`
/// ([`GetProcessTimes`](https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-getprocesstimes)).
fn start_of(process: HANDLE) -> Option<u64> {
    let mut times = [FILETIME::default(); 4];
    let [start, end, kernel, user] = &mut times;
    // SAFETY: the handle is open, and each time has room.
    let returned = unsafe { GetProcessTimes(process, start, end, kernel, user) };
    (returned != 0).then(|| hundreds_of_ns(times[0]))
}

fn started_after(start: u64, written: SystemTime) -> bool {
    let start = FILETIME { dwLowDateTime: start as u32, dwHighDateTime: (start >> 32) as u32 };
    time_of(start).is_some_and(|started| is_clearly_after(started, written))
}

/// Has `call` run when the process exits in an orderly way. Later calls change nothing.
///
/// A return from `main` ends in the C library's `exit`, which calls what was given to
/// [`atexit`](https://learn.microsoft.com/cpp/c-runtime-library/reference/atexit).
/// `std::process::exit` goes past that: it is
/// [`ExitProcess`](https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-exitprocess),
/// which ends the other threads, and then calls the program's
/// [TLS callbacks](https://learn.microsoft.com/windows/win32/debug/pe-format#tls-callback-functions)
/// with `DLL_PROCESS_DETACH`. This crate has one. (Wine 8 makes no such call at the end.)
pub(crate) use at_exit::{at_exit, other_threads_are_gone};

mod at_exit {
    use std::ffi::c_void;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    /// How often the system called back.
    #[cfg(test)]
    pub(super) static CALLS: std::sync::atomic::AtomicUsize =
        std::sync::atomic::AtomicUsize::new(0);

    static CALL: OnceLock<extern "C" fn()> = OnceLock::new();

    unsafe extern "C" {
        fn atexit(call: extern "C" fn()) -> i32;
    }

    pub(crate) fn at_exit(call: extern "C" fn()) {
        CALL.get_or_init(|| call);
        // The linker would drop it if it were not named.
        std::hint::black_box(&CALLBACK);
        // SAFETY: the function has the C ABI, takes nothing, and lives as long as the program.
        unsafe { atexit(call) };
    }

    /// Whether the system has ended all threads but the one that exits: `ExitProcess` does so before it
    /// calls back.
    pub(crate) fn other_threads_are_gone() -> bool {
        ENDS.load(Relaxed)
    }

    static ENDS: AtomicBool = AtomicBool::new(false);

    /// The reason that says that the process ends.
    const DLL_PROCESS_DETACH: u32 = 0;

    // The linker sorts the sections of this name by what follows the dollar sign: std's own is B.
    #[used]
    #[unsafe(link_section = ".CRT$XLC")]
    static CALLBACK: unsafe extern "system" fn(*mut c_void, u32, *mut c_void) = on_end;

    unsafe extern "system" fn on_end(_: *mut c_void, reason: u32, _: *mut c_void) {
        #[cfg(test)]
        CALLS.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if let (DLL_PROCESS_DETACH, Some(call)) = (reason, CALL.get()) {
            ENDS.store(true, Relaxed);
            call();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callback_runs_at_the_end_of_each_thread() {
        extern "C" fn nothing() {}
        at_exit(nothing);
        let calls = || at_exit::CALLS.load(std::sync::atomic::Ordering::SeqCst);
        let before = calls();
        std::thread::spawn(|| {}).join().expect("no panic");
        assert!(calls() > before);
    }

    fn recorded(pid: u32) -> Holder {
        let mut holder = current_process().into_owned();
        holder.pid = pid;
        holder
    }

    #[test]
    fn process_knows_its_machine_boot_and_start() {
        let mine = recorded(4);
        assert!(mine.boot.is_some() && mine.process_start.is_some(), "{mine:?}");
        assert!(mine.machine.is_some(), "{mine:?}");
        assert_eq!(boot(), mine.boot, "it stays");
    }

    fn by_start(holder: &Holder) -> Probe {
        probe(holder, Identify::ByStart, None)
    }

    fn by_number(holder: &Holder, written: Option<SystemTime>) -> Probe {
        probe(holder, Identify::ByNumber, written)
    }

    #[test]
    fn own_process_needs_more_than_its_pid() {
        let mine = recorded(std::process::id());
        assert_eq!(by_start(&mine), Probe::Ourselves);
        let mut reused = mine.clone();
        reused.process_start = Some(1);
        assert_eq!(by_start(&reused), Probe::Other);
        assert_eq!(by_number(&Holder::new(mine.pid), None), Probe::Ourselves);
    }

    /// The system's own, which reads commands and ends when there are no more.
    fn another_process() -> std::process::Child {
        std::process::Command::new("cmd")
            .arg("/d")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("it starts")
    }

    #[test]
    fn process_is_alive_then_ended_then_gone() {
        let mut child = another_process();
        let old = Holder::new(child.id());
        let now = Some(SystemTime::now());
        assert_eq!(by_number(&old, now), Probe::Alive);
        let long_ago = Some(SystemTime::UNIX_EPOCH);
        assert_eq!(by_number(&old, long_ago), Probe::StartedLater);
        let mut here = recorded(child.id());
        here.process_start = Some(1);
        assert_eq!(by_start(&here), Probe::Other);
        // The same process by the number that the system rounds down to it.
        assert_eq!(by_number(&Holder::new(child.id() + 1), now), Probe::Gone);

        drop(child.stdin.take());
        child.wait().expect("it ends");
        // Our handle keeps it; where another has taken its number since, it is that other's.
        let ended = by_number(&old, now);
        assert_eq!(ended, Probe::Zombie);
        drop(child);
        until_gone(&old);
    }

    /// Windows forgets a process with its last handle; Wine takes half a second.
    fn until_gone(holder: &Holder) {
        while by_number(holder, None) != Probe::Gone {
            std::thread::yield_now();
        }
    }
}
