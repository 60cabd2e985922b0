//! What FreeBSD says of processes and of the boot: sysctl(3).

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::time::{Duration, SystemTime};

use crate::protocol::Probe;
use crate::record::Holder;
use crate::sys::is_clearly_after;

/// Fills in what the kernel knows of this process: start and boot.
pub(crate) fn describe(me: &mut Holder) {
    me.machine = machine();
    me.boot = boot();
    me.process_start = look(me.pid).and_then(|found| start_of(&found));
}

/// The UUID that the system got when it was installed (`kern.hostuuid`), with its NUL.
fn machine() -> Option<String> {
    let text: [u8; 37] = named(c"kern.hostuuid")?;
    let text = std::str::from_utf8(&text).ok()?.trim_end_matches('\0');
    // A system without one says so by zeros.
    let is_one = text.bytes().any(|byte| !matches!(byte, b'0' | b'-'));
    is_one.then(|| crate::sys::author::digest(text))
}

/// The random number of 16 bytes that this boot has and no other (`kern.boot_id`, since 13.0).
/// Without it a record counts as one of the old format when its process is probed.
fn boot() -> Option<String> {
    let id: [u8; 16] = named(c"kern.boot_id")?;
    Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// `None` where the kernel does not say: there is no such process, or it may not be inspected.
pub(crate) fn probe(pid: u32, start: Option<u64>, written: Option<SystemTime>) -> Option<Probe> {
    let found = look(pid)?;
    // The number is that of its process, and not of a thread.
    if u32::try_from(found.ki_pid).ok()? != pid {
        return None;
    }
    let began = start_of(&found);
    if start.is_some() && began.is_some() && start != began {
        return Some(Probe::Other);
    }
    if found.ki_stat == libc::SZOMB {
        return Some(Probe::Zombie);
    }
    let since_1970 = Duration::from_micros(microseconds(found.ki_start)?);
    let started = SystemTime::UNIX_EPOCH.checked_add(since_1970)?;
    if start.is_none() && is_clearly_after(started, written?) {
        return Some(Probe::StartedLater);
    }
    Some(Probe::Alive)
}

/// Microseconds since boot. The kernel reports the time by the wall clock, to which it adds that of
/// the boot (`fill_kinfo_proc` in sys/kern/kern_proc.c), and that is moved when the clock is set.
fn start_of(found: &libc::kinfo_proc) -> Option<u64> {
    let boot: libc::timeval = named(c"kern.boottime")?;
    microseconds(found.ki_start)?.checked_sub(microseconds(boot)?)
}

fn microseconds(time: libc::timeval) -> Option<u64> {
    let seconds = u64::try_from(time.tv_sec).ok()?;
    seconds.checked_mul(1_000_000)?.checked_add(u64::try_from(time.tv_usec).ok()?)
}

fn look(pid: u32) -> Option<libc::kinfo_proc> {
    let pid = libc::c_int::try_from(pid).ok()?;
    let name = [libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_PID, pid];
    let mut found = MaybeUninit::<libc::kinfo_proc>::uninit();
    let mut length = size_of::<libc::kinfo_proc>();
    let returned = {
        let (count, room) = (name.len() as libc::c_uint, found.as_mut_ptr().cast());
        // SAFETY: the name has so many numbers, and `found` the room that is said.
        unsafe {
            libc::sysctl(name.as_ptr(), count, room, &raw mut length, std::ptr::null_mut(), 0)
        }
    };
    let filled = returned == 0 && length == size_of::<libc::kinfo_proc>();
    // SAFETY: the call filled in as much as it says.
    filled.then(|| unsafe { found.assume_init() })
}

/// What has this name, if it is as long as a `T`, which any bytes make.
fn named<T: Copy>(name: &CStr) -> Option<T> {
    let mut found = MaybeUninit::<T>::uninit();
    let mut length = size_of::<T>();
    let room = found.as_mut_ptr().cast();
    let returned = {
        let (length, none) = (&raw mut length, std::ptr::null_mut());
        // SAFETY: the name is a C string, and `found` has the room that is said.
        unsafe { libc::sysctlbyname(name.as_ptr(), room, length, none, 0) }
    };
    // SAFETY: the call filled in as much as it says.
    (returned == 0 && length == size_of::<T>()).then(|| unsafe { found.assume_init() })
}
