//! The measured directories, each with its actual filesystem.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Directories to measure in, separated by colons.
pub const DIRS: &str = "PORTLOCK_BENCH_DIRS";

/// A temporary directory.
#[derive(Debug)]
pub struct Place {
    dir: TempDir,
    filesystem: String,
}

impl Place {
    /// Those of [`DIRS`], otherwise one below `target`, on a disk, and one in `/dev/shm`, in
    /// memory. Prints a warning if their filesystems are not the expected ones.
    ///
    /// # Panics
    ///
    /// If there is no such directory, or it cannot be written to.
    pub fn all(target: &str) -> Vec<Self> {
        let named = std::env::var_os(DIRS);
        let dirs: Vec<PathBuf> = match &named {
            Some(named) => std::env::split_paths(named).collect(),
            None => vec![target.into(), "/dev/shm".into()],
        };
        let places: Vec<Self> = dirs.iter().map(|dir| Self::below(dir)).collect();
        let found: Vec<&str> = places.iter().map(|place| &*place.filesystem).collect();
        if named.is_none() && found != ["ext4", "tmpfs"] {
            println!(
                "NOT ext4 AND tmpfs, BUT {}: {DIRS}=DIR:DIR names others",
                found.join(" AND ")
            );
        }
        places
    }

    fn below(dir: &Path) -> Self {
        let dir = TempDir::new_in(dir).unwrap_or_else(|why| panic!("{}: {why}", dir.display()));
        let filesystem = filesystem(dir.path());
        Self { dir, filesystem }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A lock file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(format!("{name}.lock"))
    }

    /// Its filesystem, by `statfs`.
    pub fn filesystem(&self) -> &str {
        &self.filesystem
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.filesystem)
    }
}

/// By the number from `statfs`; for ext2, ext3 and ext4, which share one, by the mount.
#[cfg(target_os = "linux")]
fn filesystem(dir: &Path) -> String {
    let kind = rustix::fs::statfs(dir).expect("the directory exists").f_type as u32;
    match kind {
        0xef53 => mounted_as(dir).unwrap_or("ext2, ext3 or ext4".into()),
        0x0102_1994 => "tmpfs".into(),
        0x5846_5342 => "xfs".into(),
        0x9123_683e => "btrfs".into(),
        0x794c_7630 => "overlayfs".into(),
        0x6969 => "nfs".into(),
        0x6573_5546 => "fuse".into(),
        other => format!("filesystem {other:#x}"),
    }
}

#[cfg(not(target_os = "linux"))]
fn filesystem(_: &Path) -> String {
    format!("a filesystem of {}", std::env::consts::OS)
}

/// The type of the mount that has the device of `dir`.
#[cfg(target_os = "linux")]
fn mounted_as(dir: &Path) -> Option<String> {
    let device = std::fs::metadata(dir).ok()?.dev();
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some(&*device))?;
    let (_, kind) = mount.split_once(" - ")?;
    let kind = kind.split(' ').next()?;
    let has_journal = kind != "ext4" || has_journal(&device);
    Some(if has_journal { kind.to_owned() } else { format!("{kind} {WITHOUT_A_JOURNAL}") })
}

/// A create on an ext4 without a journal checks each inode freed in the last minutes
/// (`recently_deleted` in fs/ext4/ialloc.c): 0.9 ms after tens of thousands of removals.
#[cfg(target_os = "linux")]
const WITHOUT_A_JOURNAL: &str = "without a journal";

/// Whether the ext4 on the block device of this number has an internal journal.
#[cfg(target_os = "linux")]
fn has_journal(device: &str) -> bool {
    let Ok(link) = std::fs::read_link(format!("/sys/dev/block/{device}")) else { return true };
    let name = link.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let journals = std::fs::read_dir("/proc/fs/jbd2").into_iter().flatten().flatten();
    let mut names = journals.map(|journal| journal.file_name().to_string_lossy().into_owned());
    names.any(|journal| journal.strip_prefix(&name).is_some_and(|rest| rest.starts_with('-')))
}
