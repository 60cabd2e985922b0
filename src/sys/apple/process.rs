//! What macOS and its relatives say of processes and of the boot: sysctl(3), `proc_pidinfo` of
//! libproc.h.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::time::{Duration, SystemTime};

use crate::protocol::Probe;
use crate::record::Holder;
use crate::sys::is_clearly_after;

/// Fills in what the kernel knows of this process: start and boot.
pub(crate) fn describe(me: &mut Holder) {
    me.machine = machine();
    me.boot = boot();
    me.process_start = look(me.pid).map(|found| start_of(&found));
}

/// The UUID of the machine: gethostuuid(2).
fn machine() -> Option<String> {
    let mut number = [0_u8; 16];
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `number` has the 16 bytes that are written.
    if unsafe { libc::gethostuuid(number.as_mut_ptr(), &raw const at_once) } != 0 {
        return None;
    }
    let number: String = number.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(crate::sys::author::digest(&number))
}

/// The UUID that this boot of the machine has and no other (`kern.bootsessionuuid`).
fn boot() -> Option<String> {
    let mut text = [0_u8; 64];
    let mut length = text.len();
    let name = c"kern.bootsessionuuid".as_ptr();
    let room = text.as_mut_ptr().cast();
    // SAFETY: the name is a C string, and `text` has the room that is said.
    if unsafe { libc::sysctlbyname(name, room, &raw mut length, std::ptr::null_mut(), 0) } != 0 {
        return None;
    }
    let text = std::str::from_utf8(text.get(..length)?).ok()?;
    crate::record::printable(text.trim_end_matches('\0'))
}

/// `None` where the kernel does not say: there is no such process, or it may not be inspected.
pub(crate) fn probe(pid: u32, start: Option<u64>, written: Option<SystemTime>) -> Option<Probe> {
    let found = look(pid)?;
    // The number is that of its process, and not of a thread.
    if found.pbi_pid != pid {
        return None;
    }
    if start.is_some_and(|start| start != start_of(&found)) {
        return Some(Probe::Other);
    }
    if found.pbi_status == libc::SZOMB {
        return Some(Probe::Zombie);
    }
    let started = SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(start_of(&found)))?;
    if start.is_none() && is_clearly_after(started, written?) {
        return Some(Probe::StartedLater);
    }
    Some(Probe::Alive)
}

/// Microseconds since 1970, by the clock at that time: no later step of the clock changes it.
fn start_of(found: &libc::proc_bsdinfo) -> u64 {
    found.pbi_start_tvsec.saturating_mul(1_000_000).saturating_add(found.pbi_start_tvusec)
}

fn look(pid: u32) -> Option<libc::proc_bsdinfo> {
    let pid = libc::c_int::try_from(pid).ok()?;
    let mut found = MaybeUninit::<libc::proc_bsdinfo>::uninit();
    let size = libc::c_int::try_from(size_of::<libc::proc_bsdinfo>()).ok()?;
    // With 1 zombies are looked at too (bsd/kern/proc_info.c, `proc_pidinfo`).
    let zombies_too = 1;
    // SAFETY: `found` has the room that is said.
    let returned = unsafe {
        libc::proc_pidinfo(
            pid,
            libc::PROC_PIDTBSDINFO,
            zombies_too,
            found.as_mut_ptr().cast(),
            size,
        )
    };
    // SAFETY: the call filled in as much as it says.
    (returned == size).then(|| unsafe { found.assume_init() })
}
