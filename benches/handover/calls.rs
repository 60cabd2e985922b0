//! The kernel's count of this process's system calls, on Linux, with permission.

#[cfg(target_os = "linux")]
use std::{fs::File, io::Read, os::fd::FromRawFd};

/// A running count.
#[derive(Debug)]
pub(crate) struct Calls {
    #[cfg(target_os = "linux")]
    counter: File,
}

#[cfg(target_os = "linux")]
impl Calls {
    /// `None` without permission: it takes root, or CAP_PERFMON and a readable tracefs.
    pub(crate) fn start() -> Option<Self> {
        // The first version of `struct perf_event_attr`, as in perf_event_open(2).
        #[repr(C)]
        struct Attributes {
            kind: u32,
            size: u32,
            config: u64,
            rest: [u64; 6],
        }
        const TRACEPOINT: u32 = 2;
        const SELF: libc::c_int = 0;
        const ANY: libc::c_int = -1;
        let id = "/sys/kernel/tracing/events/raw_syscalls/sys_enter/id";
        let config = std::fs::read_to_string(id).ok()?.trim().parse().ok()?;
        let size = u32::try_from(size_of::<Attributes>()).ok()?;
        let attributes = Attributes { kind: TRACEPOINT, size, config, rest: [0; 6] };
        let at = &raw const attributes;
        let open = libc::SYS_perf_event_open;
        // SAFETY: the pointer is to attributes of the stated size, the rest are numbers.
        let descriptor = unsafe { libc::syscall(open, at, SELF, ANY, ANY, 0_usize) };
        let descriptor = i32::try_from(descriptor).ok().filter(|&one| one >= 0)?;
        // SAFETY: the descriptor is new, and owned here.
        Some(Self { counter: unsafe { File::from_raw_fd(descriptor) } })
    }

    /// The calls since the start, except this one.
    pub(crate) fn so_far(&mut self) -> u64 {
        let mut count = [0; 8];
        self.counter.read_exact(&mut count).expect("a counter is read");
        u64::from_ne_bytes(count) - 1
    }
}

#[cfg(not(target_os = "linux"))]
impl Calls {
    pub(crate) fn start() -> Option<Self> {
        None
    }

    pub(crate) fn so_far(&mut self) -> u64 {
        unreachable!("none is started")
    }
}
