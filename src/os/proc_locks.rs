//! Who has the kernel lock of a file, without taking it: /proc/locks (proc_locks(5)).

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;

use crate::judge::Watch;

/// The inode number of the initial pid namespace (`PROC_PID_INIT_INO` in the kernel).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Whether any open file has a `flock` on the inode of `file`.
///
/// A lock is listed by the inode and device of the filesystem, which on btrfs and overlayfs are
/// not those of `stat`; fdinfo and mountinfo tell them. Outside the initial pid namespace the
/// locks of processes that are not in ours are not listed, so there the absence of a lock proves
/// nothing.
pub(super) fn watch(file: &File, pid_namespace: Option<u64>) -> Watch {
    match is_listed(file) {
        Some(true) => Watch::Held,
        Some(false) if pid_namespace == Some(INITIAL_PID_NAMESPACE) => Watch::Free,
        Some(false) | None => Watch::Unknown,
    }
}

fn is_listed(file: &File) -> Option<bool> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let field = |name| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let (inode, mount) = (field("ino:")?, field("mnt_id:")?);
    let device =
        std::fs::read_to_string("/proc/self/mountinfo").ok()?.lines().find_map(|line| {
            let mut fields = line.split(' ');
            (fields.next()? == mount).then(|| fields.nth(1).map(str::to_owned))?
        })?;
    let (major, minor) = device.split_once(':')?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    let identity = format!("{major:02x}:{minor:02x}:{inode}");
    for line in BufReader::new(File::open("/proc/locks").ok()?).lines() {
        if is_flock_on(&line.ok()?, &identity) {
            return Some(true);
        }
    }
    Some(false)
}

/// `3: FLOCK  ADVISORY  WRITE 20211 fe:00:5678 0 EOF`; one that waits has `->` before its kind.
fn is_flock_on(line: &str, identity: &str) -> bool {
    let mut fields = line.split_ascii_whitespace().skip(1);
    fields.next() == Some("FLOCK") && fields.nth(3) == Some(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_told_from_a_waiter_and_from_another_kind() {
        let id = "fe:00:5678";
        assert!(is_flock_on("3: FLOCK  ADVISORY  WRITE 20211 fe:00:5678 0 EOF", id));
        assert!(!is_flock_on("3: -> FLOCK  ADVISORY  WRITE 20211 fe:00:5678 0 EOF", id));
        assert!(!is_flock_on("3: POSIX  ADVISORY  WRITE 20211 fe:00:5678 0 EOF", id));
        assert!(!is_flock_on("3: FLOCK  ADVISORY  WRITE 20211 fe:00:56789 0 EOF", id));
    }

    #[test]
    fn a_held_lock_is_seen_without_taking_it() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let other = file.reopen().expect("opens again");
        fs4::FileExt::try_lock(file.as_file()).expect("nobody has it");
        assert_eq!(watch(&other, None), Watch::Held);
        fs4::FileExt::unlock(file.as_file()).expect("unlocks");
        assert_eq!(watch(&other, None), Watch::Unknown, "hidden locks are possible");
        assert_eq!(watch(&other, Some(INITIAL_PID_NAMESPACE)), Watch::Free);
    }
}
