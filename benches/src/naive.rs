//! The protocol that portlock replaces: exclusive create, write, close, unlink; a holder is probed
//! by its pid. It is the floor: a record in a file that is removed afterwards takes at least these
//! calls. It lets two processes hold at once; see docs/comparison.md.
//!
//! portlock's further calls can be added one by one, to measure the cost of each.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use portlock::Holder;
use rustix::process::{Pid, test_kill_process};

/// The written record.
#[derive(Debug, Clone)]
pub enum Record {
    /// Bytes that were formatted in advance.
    ReadyMade(Vec<u8>),
    /// Percy's three keys, formatted each time.
    ThreeKeys,
    /// portlock's eight keys, formatted each time by the library.
    EightKeys(Holder),
}

impl Record {
    /// Percy's three keys, as its agents write them.
    pub fn three_keys() -> Vec<u8> {
        let now = humantime::format_rfc3339_millis(SystemTime::now());
        let pid = std::process::id();
        format!(r#"{{"pid":{pid},"port":5338,"startedAt":"{now}"}}"#).into_bytes()
    }

    fn write(&self, mut file: impl Write) -> io::Result<()> {
        match self {
            Self::ReadyMade(bytes) => file.write_all(bytes),
            Self::ThreeKeys => file.write_all(&Self::three_keys()),
            Self::EightKeys(holder) => {
                let mut holder = holder.clone();
                holder.started_at = Some(SystemTime::now());
                file.write_all(&holder.to_bytes())
            }
        }
    }
}

/// The naive protocol with the first `more` calls of [`Naive::MORE`].
#[derive(Debug, Clone)]
pub struct Naive {
    path: PathBuf,
    record: Record,
    more: usize,
}

impl Naive {
    /// portlock's further calls, in order.
    pub const MORE: [&'static str; 6] = [
        "open for reading too, and no link",
        "closed after the unlink, not before",
        "flock",
        "fstat after it: the confirm of an acquire",
        "stat of the path: the confirm of a release",
        "unlock before the close",
    ];

    /// The plain protocol.
    pub fn new(path: impl Into<PathBuf>, record: Record) -> Self {
        Self { path: path.into(), record, more: 0 }
    }

    /// With the first `more` of [`MORE`](Self::MORE).
    pub fn with(self, more: usize) -> Self {
        Self { more, ..self }
    }

    /// Acquires, calls `while_held`, and releases.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub fn acquire_and_release(&self, while_held: &mut dyn FnMut()) -> io::Result<()> {
        let does = |what| self.more > what;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        if does(0) {
            options.read(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
        }
        let file = options.open(&self.path)?;
        if does(2) {
            fs4::FileExt::try_lock(&file)?;
        }
        self.record.write(&file)?;
        let mut ours = 0;
        if does(3) {
            let found = file.metadata()?;
            if found.nlink() == 0 {
                return Err(io::Error::other("it was removed"));
            }
            ours = found.ino();
        }
        let kept = does(1).then_some(file);
        while_held();
        if does(4) {
            is_named(&self.path, ours)?;
        }
        std::fs::remove_file(&self.path)?;
        if let Some(file) = kept.filter(|_| does(5)) {
            fs4::FileExt::unlock(&file)?;
        }
        Ok(())
    }

    /// Same as [`acquire_and_release`](Self::acquire_and_release), for a dead holder's file.
    ///
    /// # Errors
    ///
    /// The system's error, or a live holder.
    pub fn reclaim_and_release(&self) -> io::Result<()> {
        match self.acquire_and_release(&mut || ()) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => return other,
        }
        if let Some(holder) = live_holder(&self.path)? {
            return Err(io::Error::other(format!("pid {holder} is alive")));
        }
        std::fs::remove_file(&self.path)?;
        self.acquire_and_release(&mut || ())
    }

    /// The pid of the live holder that refuses an acquire.
    ///
    /// # Errors
    ///
    /// The system's error, or a free lock.
    pub fn refusal(&self) -> io::Result<u32> {
        match self.acquire_and_release(&mut || ()) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => return Err(io::Error::other("it is free")),
        }
        live_holder(&self.path)?.ok_or_else(|| io::Error::other("its holder is dead"))
    }
}

fn is_named(path: &Path, ours: u64) -> io::Result<()> {
    match std::fs::symlink_metadata(path)?.ino() == ours {
        true => Ok(()),
        false => Err(io::Error::other("another file exists")),
    }
}

/// Open, read, `kill(pid, 0)`.
///
/// # Errors
///
/// The system's error, or an invalid record.
pub fn live_holder(path: &Path) -> io::Result<Option<u32>> {
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let pid = record["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    let pid = pid.ok_or_else(|| io::Error::other("no pid"))?;
    let probed = Pid::from_raw(pid as i32).map(test_kill_process);
    Ok(matches!(probed, Some(Ok(()) | Err(rustix::io::Errno::PERM))).then_some(pid))
}
