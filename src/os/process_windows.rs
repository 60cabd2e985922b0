//! Processes on Windows: a stub that type-checks, so that the trait is known to fit.

use std::time::SystemTime;

use crate::judge::{Author, Probe};
use crate::record::Holder;

/// There is no `fork`.
pub(crate) fn generation() -> usize {
    0
}

/// This process, as its records describe it.
pub(crate) fn me() -> &'static Holder {
    use super::AtomicPtr;
    use super::per_process::PerProcess;
    static ME: PerProcess<Holder> = PerProcess::new(AtomicPtr::new(std::ptr::null_mut()));
    ME.get(generation(), || Holder::new(std::process::id()))
}

/// Nothing is ever held, so nothing is to be released at exit.
pub(crate) fn at_exit(_: extern "C" fn()) {}

/// How many files a process can have open: handles are not limited in practice.
pub(crate) fn descriptor_limit() -> usize {
    usize::MAX
}

/// There is no need to.
pub(crate) fn reserve_descriptors(_: usize) -> Vec<()> {
    Vec::new()
}

/// No process can be asked yet.
pub(crate) fn that_have_open(_: &std::path::Path) -> Vec<u32> {
    Vec::new()
}

/// Where the author of a record runs: every record is taken to be here.
pub(crate) fn author(_: &Holder, _: impl FnOnce() -> bool) -> Author {
    Author::OldFormat
}

/// Nothing but ourselves can be asked after yet, so nobody is taken for dead.
pub(crate) fn probe(holder: &Holder, _: Author, _: Option<SystemTime>) -> Probe {
    if holder.pid == me().pid { Probe::Ourselves } else { Probe::Unknown }
}
