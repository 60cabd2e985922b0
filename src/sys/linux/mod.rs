//! What only Linux has: inotify and what /proc says.

pub(crate) mod events;
pub(crate) mod proc_locks;
pub(crate) mod process;

pub(crate) use proc_locks::KernelLocks;
