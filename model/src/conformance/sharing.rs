//! The sharing of an open file, as by a fork, within one process.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::witness::{self, Identity};

/// A descriptor of an open file that another descriptor is of too.
pub(super) type Shared = OwnedFd;

/// Another descriptor of the same open file.
pub(super) fn share(descriptor: i32) -> io::Result<Shared> {
    Ok(pidfd_getfd(itself()?, descriptor, PidfdGetfdFlags::empty())?)
}

/// A descriptor of this process that is of that file and not among those that are known.
pub(super) fn descriptor_of(identity: Identity, known: &[i32]) -> io::Result<Option<i32>> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        // Of other threads' files some are gone by the time that they are looked at.
        let Some((number, found)) = number.zip(std::fs::metadata(entry.path()).ok()) else {
            continue;
        };
        if witness::identity(&found) == identity && !known.contains(&number) {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

/// This process, as a descriptor.
fn itself() -> rustix::io::Result<&'static OwnedFd> {
    static ME: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(me) = ME.get() {
        return Ok(me);
    }
    let opened = pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    Ok(ME.get_or_init(|| opened))
}
