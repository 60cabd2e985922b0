//! What the filesystem of a lock file is worth: whose its locks are, and how fresh its attributes.

use std::fs::{File, Metadata};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
#[cfg(target_os = "linux")]
use std::os::unix::fs::MetadataExt;
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicU64, Ordering};

use super::Opened;
use crate::record::Holder;
use crate::sys::author::Filesystem;

/// Whether `stat` of the path is always current: true where the filesystem is this kernel's own.
///
/// A device with a number of its own is a disk here. For the others the filesystem is asked.
#[cfg(target_os = "linux")]
pub(super) fn has_coherent_attributes(file: &File, found: &Metadata) -> bool {
    libc::major(found.dev()) != 0 || counts_names(file, found)
}

/// Whether an open file's number of names (`st_nlink`) is 0 as soon as its one name is removed. It
/// is not where a removed file that is open is renamed instead: NFS, FUSE, also on a disk.
///
/// The filesystem is asked, and the last answer kept: it costs one call a process, not one a
/// confirm. The number of a device is given out again when it is unmounted; the block size
/// next to it distinguishes NFS (a whole request) from a local filesystem (a page).
#[cfg(target_os = "linux")]
pub(super) fn counts_names(file: &File, found: &Metadata) -> bool {
    static LOCAL: AtomicU64 = AtomicU64::new(0);
    let filesystem = found.dev() << 32 | found.blksize();
    if LOCAL.load(Ordering::Relaxed) == filesystem {
        return true;
    }
    let local = kind(file, found.dev()) != Kind::Other;
    if local {
        LOCAL.store(filesystem, Ordering::Relaxed);
    }
    local
}

/// Elsewhere filesystems are not distinguished.
#[cfg(not(target_os = "linux"))]
pub(super) fn counts_names(_: &File, _: &Metadata) -> bool {
    false
}

/// Elsewhere nothing is asked, and the name is always looked up again.
#[cfg(not(target_os = "linux"))]
pub(super) fn has_coherent_attributes(_: &File, _: &Metadata) -> bool {
    false
}

/// Whose the filesystem of an open lock file is, which has the record of `holder` in it.
pub(super) fn filesystem(opened: &Opened, holder: &Holder) -> Filesystem {
    let is_ours = match kind(&opened.file, opened.identity.map_or(0, |(device, _)| device)) {
        Kind::Local => true,
        // An overlay is one kernel's, and shows files of a directory below that others may have
        // open by another way, whose locks are not seen here. An open for writing has made a copy
        // of such a file, which is younger than the record in it. (The kernel dates a new file by
        // a clock that is some milliseconds late, so a copy within those is not noticed.)
        Kind::Overlay => opened.is_writable && !is_copy(&opened.file, holder),
        Kind::Other => false,
    };
    if is_ours { Filesystem::OfThisKernel } else { Filesystem::MayBeShared }
}

/// Whether a file came to be after the record in it was written. Not known counts as a copy.
fn is_copy(file: &File, holder: &Holder) -> bool {
    let born = file.metadata().and_then(|found| found.created());
    match (born, holder.started_at) {
        // The record's time has whole milliseconds.
        (Ok(born), Some(since)) => {
            born.duration_since(since).is_ok_and(|after| after.as_millis() > 0)
        }
        (Ok(_) | Err(_), None) | (Err(_), Some(_)) => true,
    }
}

/// Kinds of filesystems, by what their locks and attributes are worth.
// Elsewhere the kernel is not asked, and every filesystem is `Other`.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// On a disk or in the memory of this machine, with no server or daemon behind it.
    Local,
    /// overlayfs.
    Overlay,
    /// A network's, FUSE's, or not known.
    Other,
}

/// Asks the kernel: by the type of the filesystem where that decides, and else by its device, which
/// has a major number if it is a disk of this machine.
///
/// A disk under FUSE is a daemon's, and GFS2 and OCFS2 share theirs with other machines.
#[cfg(target_os = "linux")]
fn kind(file: &File, device: u64) -> Kind {
    const BCACHEFS: i64 = 0xca45_1a4e;
    const GFS2: i64 = 0x0116_1970;
    const OCFS2: i64 = 0x7461_636f;
    const RAMFS: i64 = 0x8584_58f6;
    const ZFS: i64 = 0x2fc1_2fc1;

    let mut found = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the descriptor is open for as long as `file` is, and `found` has room.
    if unsafe { libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) } != 0 {
        return Kind::Other;
    }
    // SAFETY: the call filled it in when it returned 0.
    let found = unsafe { found.assume_init() }.f_type;
    // Its type and that of the numbers of statfs(2) differ by platform.
    #[allow(clippy::unnecessary_cast)]
    let (found, overlay, fuse, of_memory_or_many_devices) = (
        found as i64,
        libc::OVERLAYFS_SUPER_MAGIC as i64,
        libc::FUSE_SUPER_MAGIC as i64,
        [libc::TMPFS_MAGIC as i64, RAMFS, libc::BTRFS_SUPER_MAGIC as i64, BCACHEFS, ZFS],
    );
    if found == overlay {
        Kind::Overlay
    } else if [fuse, GFS2, OCFS2].contains(&found) {
        Kind::Other
    } else if of_memory_or_many_devices.contains(&found) || libc::major(device) != 0 {
        Kind::Local
    } else {
        Kind::Other
    }
}

/// Elsewhere filesystems are not distinguished.
#[cfg(not(target_os = "linux"))]
fn kind(_: &File, _: u64) -> Kind {
    Kind::Other
}

/// Whether every process that closes or removes the file causes an event. A process on another
/// machine or at another mount does not, and NFS reports no removal of a file that is open.
#[cfg(target_os = "linux")]
pub(super) fn events_are_of_all(file: &File, device: u64) -> bool {
    kind(file, device) != Kind::Other
}

/// Elsewhere filesystems are not distinguished.
#[cfg(not(target_os = "linux"))]
pub(super) fn events_are_of_all(_: &File, _: u64) -> bool {
    true
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn opened(path: &str) -> (File, Metadata) {
        let file = File::open(path).expect("it is there");
        let found = file.metadata().expect("it can be examined");
        (file, found)
    }

    #[test]
    fn memory_is_local_and_proc_is_not() {
        let (memory, found) = opened("/dev/shm");
        assert_eq!(kind(&memory, found.dev()), Kind::Local);
        // The second answer is the kept one.
        for _ in 0..2 {
            assert!(counts_names(&memory, &found) && has_coherent_attributes(&memory, &found));
        }
        assert!(events_are_of_all(&memory, found.dev()));
        let (proc, found) = opened("/proc/self/stat");
        assert_eq!(kind(&proc, found.dev()), Kind::Other);
        assert!(!counts_names(&proc, &found) && !has_coherent_attributes(&proc, &found));
        assert!(!events_are_of_all(&proc, found.dev()));
    }

    #[test]
    fn file_younger_than_its_record_is_a_copy() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = File::create(dir.path().join("x")).expect("creates");
        let born = file.metadata().and_then(|found| found.created()).expect("a local filesystem");
        let mut holder = Holder::new(7);
        assert!(is_copy(&file, &holder), "not known");
        for (since, expected) in [
            (born - Duration::from_millis(1), true),
            (born - Duration::from_micros(999), false),
            (born, false),
            (born + Duration::from_secs(1), false),
            (SystemTime::UNIX_EPOCH, true),
        ] {
            holder.started_at = Some(since);
            assert_eq!(is_copy(&file, &holder), expected, "{since:?}");
        }
    }
}
