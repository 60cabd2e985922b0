//! Processes: what this one says of itself in a record, and the probe of a recorded one.

#![allow(unsafe_code)]

use std::borrow::Cow;
use std::sync::atomic::AtomicPtr;
use std::time::SystemTime;

pub(crate) use super::fork::{generation, notice_fork, pid};
use crate::protocol::Probe;
use crate::record::Holder;
#[cfg(target_vendor = "apple")]
use crate::sys::apple::process as system;
use crate::sys::author::Identify;
#[cfg(target_os = "freebsd")]
use crate::sys::bsd::process as system;
#[cfg(target_os = "linux")]
use crate::sys::linux::process as system;
use crate::sys::per_process::PerProcess;

/// This process, as its records describe it: all but port and time.
pub(crate) fn current_process() -> Cow<'static, Holder> {
    match myself() {
        Cow::Borrowed(known) => Cow::Borrowed(&known.record),
        Cow::Owned(incomplete) => Cow::Owned(incomplete.record),
    }
}

/// The pid namespace of this process.
#[cfg(target_os = "linux")]
pub(crate) fn pid_namespace() -> Option<u64> {
    myself().record.pid_namespace
}

/// What this process knows of itself.
#[derive(Clone)]
struct Myself {
    record: Holder,
    #[cfg(target_os = "linux")]
    view: system::View,
}

/// Kept once there is an answer to everything. What failed, as it does where no descriptor is free,
/// is asked for again the next time.
fn myself() -> Cow<'static, Myself> {
    static COMPLETE: PerProcess<Myself> = PerProcess::new(AtomicPtr::new(std::ptr::null_mut()));
    let generation = generation();
    if let Some(complete) = COMPLETE.known(generation) {
        return Cow::Borrowed(complete);
    }
    let found = Myself::ask();
    if found.is_complete() {
        Cow::Borrowed(COMPLETE.get(generation, || found))
    } else {
        Cow::Owned(found)
    }
}

impl Myself {
    fn ask() -> Self {
        let mut record = Holder::new(std::process::id());
        record.command = std::env::args_os().next().and_then(|program| {
            let name = std::path::Path::new(&program).file_name()?;
            crate::record::printable(&name.to_string_lossy())
        });
        record.host = host();
        #[cfg(target_os = "linux")]
        let view = system::describe(&mut record);
        #[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
        system::describe(&mut record);
        Self {
            record,
            #[cfg(target_os = "linux")]
            view,
        }
    }

    /// Whether the system answered everything that it was asked.
    #[cfg(target_os = "linux")]
    fn is_complete(&self) -> bool {
        let Holder { boot, pid_namespace, process_start, .. } = &self.record;
        boot.is_some() && pid_namespace.is_some() && process_start.is_some() && self.view.is_known()
    }

    /// What other systems do not answer, they never do.
    #[cfg(not(target_os = "linux"))]
    fn is_complete(&self) -> bool {
        true
    }
}

/// Has `call` run when the process exits in an orderly way: `exit`, or the return from `main`
/// (`atexit(3)`). A failure to register is as if the process were killed: nothing is called.
pub(crate) fn at_exit(call: extern "C" fn()) {
    // SAFETY: the function has the C ABI, takes nothing, and lives as long as the program.
    unsafe { libc::atexit(call) };
}

/// Other threads go on while the process exits.
pub(crate) fn other_threads_are_gone() -> bool {
    false
}

/// How many files this process may have open at a time (`RLIMIT_NOFILE`).
pub(crate) fn descriptor_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` has room for the answer.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } {
        0 => usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX),
        _ => 0,
    }
}

/// Takes up to `count` file descriptors, which are free again when this is dropped.
pub(crate) fn reserve_descriptors(count: usize) -> Vec<std::os::unix::net::UnixDatagram> {
    // A socket needs neither a file nor a permission.
    let next = || std::os::unix::net::UnixDatagram::unbound().ok();
    std::iter::from_fn(next).take(count).collect()
}

/// The processes that share the kernel lock of the file at `path`, as far as we may look.
/// `recorded` is the process that its record names. Touches no file of other processes.
#[cfg(target_os = "linux")]
pub(crate) fn pids_with_lock(path: &std::path::Path, recorded: u32) -> Vec<u32> {
    crate::sys::linux::proc_locks::pids_with_lock(path, recorded).unwrap_or_default()
}

/// Only Linux is asked.
#[cfg(not(target_os = "linux"))]
pub(crate) fn pids_with_lock(_: &std::path::Path, _: u32) -> Vec<u32> {
    Vec::new()
}

fn host() -> Option<String> {
    let mut name = [0_u8; 256];
    // SAFETY: the pointer and the length are those of `name`.
    if unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len()) } != 0 {
        return None;
    }
    let end = name.iter().position(|&byte| byte == 0)?;
    crate::record::printable(&String::from_utf8_lossy(&name[..end]))
}

/// Probes the process that wrote a record of this boot and namespace, or in the old format.
/// `written` is when. `has_its_lock`: we have the kernel lock of the file. A process that is
/// ending has ended then, if it is one of those that take kernel locks, because its own is free.
///
/// # Errors
///
/// That no file descriptor was left for it.
pub(crate) fn probe(
    holder: &Holder,
    identify: Identify,
    written: Option<SystemTime>,
    has_its_lock: bool,
) -> std::io::Result<Probe> {
    let start = match identify {
        Identify::ByStart => holder.process_start,
        Identify::ByNumber => None,
    };
    let myself = myself();
    let me = &myself.record;
    if holder.pid == me.pid && (start.is_none() || start == me.process_start) {
        return Ok(Probe::Ourselves);
    }
    let its_lock_is_free = is_its_lock_free(holder, has_its_lock);
    #[cfg(target_os = "linux")]
    let returned = system::probe(&myself.view, holder.pid, start, written, its_lock_is_free)?;
    #[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
    let returned = system::probe(holder.pid, start, written);
    #[cfg(not(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd")))]
    let returned = {
        let _ = written;
        None
    };
    #[cfg(not(target_os = "linux"))]
    let _ = its_lock_is_free;
    let probe = returned.unwrap_or_else(|| signal_zero(holder.pid));
    // By its number alone a process is found, and not identified.
    let is_identified = start.is_some() && returned.is_some();
    Ok(match (probe, identify) {
        (Probe::Alive | Probe::NotPermitted, Identify::ByStart) if !is_identified => Probe::Unknown,
        (probe, Identify::ByStart | Identify::ByNumber) => probe,
    })
}

/// An agent of the old format takes no kernel lock, so to have that of its file says nothing of it.
fn is_its_lock_free(holder: &Holder, has_its_lock: bool) -> bool {
    has_its_lock && holder.kernel_lock
}

/// `kill(pid, 0)`: POSIX says `ESRCH` for no such process and `EPERM` for one that lives (S3, S6).
fn signal_zero(pid: u32) -> Probe {
    // 0 and negative numbers mean process groups; a record with one is unreadable.
    let Ok(pid @ 1..) = libc::pid_t::try_from(pid) else { return Probe::Unknown };
    let asked = super::retried(|| {
        // SAFETY: signal 0 sends nothing.
        match unsafe { libc::kill(pid, 0) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    });
    match asked.map_err(|error| error.raw_os_error()) {
        Ok(()) => Probe::Alive,
        Err(Some(libc::ESRCH)) => Probe::Gone,
        Err(Some(libc::EPERM)) => Probe::NotPermitted,
        Err(_) => Probe::Unknown,
    }
}

#[cfg(test)]
mod tests;
