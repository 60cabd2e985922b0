//! An open file of our own for each file of the model. It shows which file the path names, the
//! content of a file, and, by trying the kernel lock and dropping it at once, whether the lock is
//! held.

use std::fs::{File, FileTimes, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// Device and inode number.
pub(super) type Identity = (u64, u64);

/// Which file the path names.
pub(super) fn named(path: &Path) -> io::Result<Option<Identity>> {
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(identity(&found))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn identity(found: &std::fs::Metadata) -> Identity {
    (found.dev(), found.ino())
}

pub(super) struct Witness {
    file: File,
    pub(super) identity: Identity,
}

impl Witness {
    /// The witness of the file that the path has just named.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // For writing, because NFS grants an exclusive lock only then.
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let identity = identity(&file.metadata()?);
        Ok(Self { file, identity })
    }

    pub(super) fn date(&self, then: std::time::SystemTime) -> io::Result<()> {
        // Some FUSE filesystems ignore a call that sets only one of the two.
        self.file.set_times(FileTimes::new().set_accessed(then).set_modified(then))
    }

    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 512];
        let length = self.file.read_at(&mut bytes, 0)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Replaces the content.
    pub(super) fn fill(&self, bytes: &[u8]) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all_at(bytes, 0)
    }

    pub(super) fn is_locked(&self) -> io::Result<bool> {
        match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                flock(&self.file, FlockOperation::Unlock)?;
                Ok(false)
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}
