//! What happens to locks, as events of `tracing`, with that feature. Without it these do nothing.
//!
//! The target of all is `portlock`, and each has the field `path`.

#![cfg_attr(not(feature = "tracing"), allow(unused_variables))]

use std::fmt::Display;
use std::io;
use std::path::Path;

use crate::error::held::Held;
use crate::protocol::Op;

/// Whether a wait would be heard of.
pub(crate) fn hears_of_waits() -> bool {
    #[cfg(feature = "tracing")]
    return tracing::enabled!(target: "portlock", tracing::Level::INFO);
    #[cfg(not(feature = "tracing"))]
    false
}

/// The lock of a dead holder was acquired.
pub(crate) fn reclaimed(path: &Path, pid: Option<u32>, from: &impl Display) {
    #[cfg(feature = "tracing")]
    {
        let path = path.display();
        tracing::info!(target: "portlock", %path, pid, "reclaimed the lock of {from}, which is gone");
    }
}

/// An acquire waits.
pub(crate) fn waiting(held: &Held) {
    #[cfg(feature = "tracing")]
    {
        let pid = held.holder.as_ref().map(|holder| holder.pid);
        let path = held.path.display();
        tracing::info!(target: "portlock", %path, pid, "waiting: {held}");
    }
}

/// A release found that the lock was not held any more.
pub(crate) fn lost(path: &Path) {
    #[cfg(feature = "tracing")]
    {
        let path = path.display();
        tracing::warn!(target: "portlock", %path, "the lock file was removed or replaced while held");
    }
}

/// A dropped guard could not remove its file, and has emptied it.
pub(crate) fn release_failed(path: &Path, op: Op, error: &io::Error) {
    #[cfg(feature = "tracing")]
    {
        let path = path.display();
        tracing::error!(target: "portlock", %path, "cannot {op} the lock file at its release: {error}");
    }
}
