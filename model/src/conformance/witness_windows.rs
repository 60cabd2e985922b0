//! `witness.rs` for Windows. It opens the path each time, because an open handle would keep the
//! name of a removed file taken. There a file has its name for as long as it exists.

use std::fs::{File, FileTimes, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Volume and file number.
pub(super) type Identity = (u64, u64);

/// Which file the path names.
pub(super) fn named(path: &Path) -> io::Result<Option<Identity>> {
    match winapi_util::Handle::from_path_any(path).and_then(winapi_util::file::information) {
        Ok(found) => Ok(Some((found.volume_serial_number(), found.file_index()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the name of a removed file stays taken until its last handle is closed, measured once.
pub(super) fn names_stay() -> bool {
    static STAY: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    let path = std::env::temp_dir().join(format!("portlock-names-{}", std::process::id()));
    *STAY.get_or_init(|| {
        let made = OpenOptions::new().write(true).create_new(true).open(&path);
        let open = made.expect("the temporary directory can be written to");
        std::fs::remove_file(&path).expect("it can be removed");
        let stays = named(&path).is_ok_and(|named| named.is_some());
        drop(open);
        stays
    })
}

pub(super) struct Witness {
    path: PathBuf,
    pub(super) identity: Identity,
}

impl Witness {
    /// The witness of the file that the path names.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        Ok(Self { path: path.to_owned(), identity: named(path)?.ok_or_else(gone)? })
    }

    /// Keeps the time of the last access, in which Wine remembers a removal.
    pub(super) fn date(&self, then: SystemTime) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path)?;
        file.set_times(FileTimes::new().set_modified(then))
    }

    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        std::fs::read(&self.path)
    }

    /// Replaces the content.
    pub(super) fn fill(&self, bytes: &[u8]) -> io::Result<()> {
        use std::os::windows::fs::FileExt;
        let file = OpenOptions::new().write(true).open(&self.path)?;
        file.set_len(0)?;
        file.seek_write(bytes, 0).map(drop)
    }

    /// Tries to lock the whole file, which the locked byte of a participant prevents.
    pub(super) fn is_locked(&self) -> io::Result<bool> {
        match fs4::FileExt::try_lock(&File::open(&self.path)?) {
            Ok(()) => Ok(false),
            Err(fs4::TryLockError::WouldBlock) => Ok(true),
            Err(fs4::TryLockError::Error(error)) => Err(error),
        }
    }
}
