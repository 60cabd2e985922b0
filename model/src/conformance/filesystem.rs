//! The measurements of one filesystem, as a row of the table in docs/platforms.md.

use std::fmt;
use std::fs::{File, FileTimes, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use portlock::protocol::{self, Confirm, Create, Done, FileSystem};
use portlock::{AcquireError, Guarantee, Holder, Lock};
use rustix::fs::{FlockOperation, flock};

/// The measurements of one filesystem.
pub struct Row {
    name: String,
    kernel_lock: &'static str,
    exclusion: &'static str,
    reclaim: String,
    remarks: Vec<String>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kernel_lock, exclusion, reclaim, remarks } = self;
        let remarks = remarks.join("; ");
        write!(f, "| {name} | {kernel_lock} | {exclusion} | {reclaim} | {remarks} |")
    }
}

impl Row {
    /// Measures in a new directory in `parent`, which it removes at the end. `twin` is the same
    /// `parent` through another mount.
    pub fn measure(name: &str, parent: &Path, twin: Option<&Path>) -> io::Result<Self> {
        let own = format!("portlock-row-{}", std::process::id());
        let directory = parent.join(&own);
        std::fs::create_dir(&directory)?;
        let measured =
            Self::measure_in(name, &directory, twin.map(|twin| twin.join(&own)).as_deref());
        std::fs::remove_dir_all(&directory)?;
        measured
    }

    fn measure_in(name: &str, directory: &Path, twin: Option<&Path>) -> io::Result<Self> {
        let mut remarks: Vec<_> = inode_numbers(directory)?.into_iter().collect();
        remarks.extend(link_count(directory)?);
        remarks.extend(quirks_of_time(directory)?);
        if let Some(twin) = twin {
            remarks.extend(across(directory, twin)?);
        }
        Ok(Self {
            name: name.to_owned(),
            kernel_lock: kernel_lock(directory)?,
            exclusion: exclusion(directory)?,
            reclaim: reclaim(directory)?,
            remarks,
        })
    }
}

fn make(directory: &Path, name: &str) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(directory.join(name))
}

fn try_lock(file: impl AsFd) -> rustix::io::Result<()> {
    flock(file, FlockOperation::NonBlockingLockExclusive)
}

/// Whether the kernel lock of one open file excludes another, and a close frees it.
fn kernel_lock(directory: &Path) -> io::Result<&'static str> {
    let file = make(directory, "lock")?;
    let other = OpenOptions::new().read(true).write(true).open(directory.join("lock"))?;
    let result = match (try_lock(&file), try_lock(&other)) {
        (Ok(()), Err(rustix::io::Errno::WOULDBLOCK)) => "yes",
        (Ok(()), Ok(())) => "**does not exclude**",
        _ => "no",
    };
    drop(file);
    let freed = result != "yes" || try_lock(&other).is_ok();
    std::fs::remove_file(directory.join("lock"))?;
    Ok(if freed { result } else { "**not freed by close**" })
}

/// Whether a second acquire is refused while the first holds, and the guarantee of the first.
fn exclusion(directory: &Path) -> io::Result<&'static str> {
    let lock = Lock::at(directory.join("held.lock"));
    let guard = lock.try_acquire().map_err(io::Error::other)?;
    let excluded_by = match (lock.try_acquire(), guard.guarantee()) {
        (Err(AcquireError::Held(_)), Guarantee::KernelLock) => "kernel lock",
        (Err(AcquireError::Held(_)), Guarantee::ExclusiveCreate) => "exclusive create",
        (Ok(_), _) => "**none**",
        (Err(error), _) => return Err(io::Error::other(error)),
    };
    guard.release().map_err(io::Error::other)?;
    let left = std::fs::read_dir(directory)?.count();
    if left > 0 {
        return Err(io::Error::other(format!("{left} files were left after a release")));
    }
    Ok(excluded_by)
}

/// From which dead holders an acquire reclaims.
fn reclaim(directory: &Path) -> io::Result<String> {
    let path = directory.join("stale.lock");
    let lock = Lock::at(&path);
    let guard = lock.try_acquire().map_err(io::Error::other)?;
    let ours = Holder::parse(&std::fs::read(&path)?);
    let ours = ours.ok_or_else(|| io::Error::other("our own record is unreadable"))?;
    guard.release().map_err(io::Error::other)?;
    let mut elsewhere = ours.clone();
    elsewhere.pid_namespace = ours.pid_namespace.map(|namespace| namespace + 1);
    let mut gone = ours;
    // Linux gives out no pid above 2^22.
    gone.pid = 5_000_000;
    let mut reclaimed = Vec::new();
    for (place, record) in [("here", gone), ("in another pid namespace", elsewhere)] {
        std::fs::write(&path, record.to_bytes())?;
        match lock.try_acquire() {
            Ok(guard) => {
                reclaimed.push(place);
                guard.release().map_err(io::Error::other)?;
            }
            Err(AcquireError::Held(_)) => std::fs::remove_file(&path)?,
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    Ok(match reclaimed.as_slice() {
        [] => "none".to_owned(),
        _ => format!("from dead holders {}", reclaimed.join(" and ")),
    })
}

/// Whether the inode number of a removed file is reused at once.
fn inode_numbers(directory: &Path) -> io::Result<Option<String>> {
    let number_of_next = || -> io::Result<u64> {
        let number = make(directory, "number")?.metadata()?.ino();
        std::fs::remove_file(directory.join("number"))?;
        Ok(number)
    };
    let reused = number_of_next()? == number_of_next()?;
    Ok(reused.then(|| "inode numbers are reused at once".to_owned()))
}

/// The link count of a removed open file, where it is not 0, and the name that is left.
fn link_count(directory: &Path) -> io::Result<Vec<String>> {
    let file = make(directory, "removed")?;
    std::fs::remove_file(directory.join("removed"))?;
    let links = file.metadata()?.nlink();
    let left: Vec<_> = std::fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    let mut remarks = Vec::new();
    if links != 0 {
        remarks.push(format!("a removed open file has link count {links}"));
    }
    if let [left] = left.as_slice() {
        let name = left.file_name();
        let name: String =
            name.to_string_lossy().chars().take_while(|c| !c.is_ascii_digit()).collect();
        remarks.push(format!("a removed open file is listed as `{name}…`"));
    }
    Ok(remarks)
}

/// Unusual behaviour of modification times that affects the age of a file. Most filesystems have
/// none.
pub(super) fn quirks_of_time(directory: &Path) -> io::Result<Vec<String>> {
    let path = directory.join("dated");
    let make_dated = |time| -> io::Result<File> {
        let file = make(directory, "dated")?;
        file.set_times(FileTimes::new().set_accessed(time).set_modified(time))?;
        Ok(file)
    };
    let dated = |file: &File| file.metadata()?.modified();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    let mut quirks = Vec::new();

    // A precision of two seconds rounds this time down by the most.
    let odd = long_ago + Duration::from_nanos(1_999_999_999);
    let file = make_dated(odd)?;
    let early = odd.duration_since(dated(&file)?).unwrap_or_default();
    std::fs::remove_file(&path)?;
    if early >= Duration::from_millis(100) {
        quirks.push(format!("file times are up to {:.0} s early", early.as_secs_f64()));
    }

    let file = make_dated(long_ago)?;
    std::fs::remove_file(&path)?;
    if dated(&file)? > odd {
        quirks.push("a removal changes the file's time".to_owned());
    }

    let file = make_dated(long_ago)?;
    file.set_len(0)?;
    if dated(&file)? <= odd {
        quirks.push("truncating an empty file does not change its time".to_owned());
    }
    drop(file);
    std::fs::remove_file(&path)?;
    Ok(quirks)
}

/// Whether two mounts see each other's locks and removals.
fn across(directory: &Path, twin: &Path) -> io::Result<Vec<String>> {
    let file = make(directory, "twin")?;
    try_lock(&file)?;
    let other = OpenOptions::new().read(true).write(true).open(twin.join("twin"))?;
    let excludes = match try_lock(&other) {
        Err(rustix::io::Errno::WOULDBLOCK) => true,
        Ok(()) => false,
        Err(error) => return Err(error.into()),
    };
    drop(other);
    std::fs::remove_file(directory.join("twin"))?;
    let mut remarks = Vec::new();
    if excludes {
        remarks.push("two mounts see each other's kernel locks".to_owned());
        remarks.push(refusal_across(directory, twin)?);
    } else {
        remarks.push("**two mounts do not see each other's kernel locks**".to_owned());
    }
    remarks.extend(removal_across(directory, twin)?);
    Ok(remarks)
}

/// Whether an acquire through the second mount reports the holder while the lock is held through
/// the first, and gets the lock once it is released.
fn refusal_across(directory: &Path, twin: &Path) -> io::Result<String> {
    let other = Lock::at(twin.join("held.lock"));
    // So that the second mount caches that the path is free.
    let guard = other.try_acquire().map_err(io::Error::other)?;
    guard.release().map_err(io::Error::other)?;
    let guard = Lock::at(directory.join("held.lock")).try_acquire().map_err(io::Error::other)?;
    let refusal = match other.try_acquire() {
        Ok(_) => return Err(io::Error::other("two hold, through two mounts")),
        Err(AcquireError::Held(held)) if held.holder.is_some() => {
            "a refusal through the other mount names the holder"
        }
        Err(AcquireError::Held(_)) => "a refusal through the other mount cannot name the holder",
        Err(error) => return Err(io::Error::other(error)),
    };
    guard.release().map_err(io::Error::other)?;
    let next = other.try_acquire().map_err(io::Error::other)?;
    next.release().map_err(io::Error::other)?;
    Ok(refusal.to_owned())
}

/// Waits until the filesystem's clock, which has ticks of some milliseconds, has passed this time.
/// Does not change `directory` itself.
fn until_later_than(time: SystemTime, directory: &Path) -> io::Result<()> {
    let path = directory.with_extension("tick");
    loop {
        let written = File::create_new(&path)?.metadata()?.modified()?;
        std::fs::remove_file(&path)?;
        if written > time {
            return Ok(());
        }
    }
}

/// Whether a confirm sees at once that the file was removed or replaced through the other mount,
/// and whether the attributes of the path alone would show it.
fn removal_across(directory: &Path, twin: &Path) -> io::Result<Vec<String>> {
    let (mut stale, mut missed) = (false, Vec::new());
    // On NFS the second mount renames a file that it has open instead of removing it.
    for (replaced, has_it_open) in [(false, false), (false, true), (true, false), (true, true)] {
        // A new name each time, because a mount also caches what it has removed.
        let name = format!("removed-{replaced}-{has_it_open}.lock");
        let path = directory.join(&name);
        let mut ours = portlock::adapter(&path, None);
        let calls = (ours.create(), ours.lock(), ours.write(), ours.confirm());
        if calls != (Create::Created, protocol::LockReply::Ours, Done::Done, Confirm::Same) {
            return Err(io::Error::other(format!("a new file: {calls:?}")));
        }
        let before = std::fs::symlink_metadata(&path)?.ino();
        // NFS 3 detects changed names only by the directory's modification time.
        until_later_than(std::fs::metadata(directory)?.modified()?, directory)?;
        let there = twin.join(&name);
        let open = has_it_open.then(|| File::open(&there)).transpose()?;
        std::fs::remove_file(&there)?;
        let new = replaced.then(|| make(twin, &name)).transpose()?;
        stale |= std::fs::symlink_metadata(&path).is_ok_and(|found| found.ino() == before);
        if ours.confirm() != Confirm::Changed {
            missed.push(match (replaced, has_it_open) {
                (false, false) => "removed",
                (false, true) => "removed while open",
                (true, false) => "replaced",
                (true, true) => "replaced while open",
            });
        }
        ours.close();
        drop((open, new));
        if replaced {
            std::fs::remove_file(&there)?;
        }
    }
    let stale = stale.then(|| "`stat` answers from a cache".to_owned());
    let missed = match missed.as_slice() {
        [] => "a removal through the other mount is confirmed at once".to_owned(),
        missed => format!(
            "**not seen at once that a file was {} through the other mount**",
            missed.join(", ")
        ),
    };
    Ok(stale.into_iter().chain([missed]).collect())
}
