//! What a filesystem does that the table in docs/platforms.md has: a row of measurements.

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

/// One filesystem.
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
    /// Measures in a directory of its own in `parent`, which is removed afterwards. `twin` is the
    /// same `parent` through another mount.
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

/// What the kernel lock of one open file is to another.
fn kernel_lock(directory: &Path) -> io::Result<&'static str> {
    let file = make(directory, "lock")?;
    let other = OpenOptions::new().read(true).write(true).open(directory.join("lock"))?;
    let told = match (try_lock(&file), try_lock(&other)) {
        (Ok(()), Err(rustix::io::Errno::WOULDBLOCK)) => "yes",
        (Ok(()), Ok(())) => "**does not exclude**",
        _ => "no",
    };
    drop(file);
    let freed = told != "yes" || try_lock(&other).is_ok();
    std::fs::remove_file(directory.join("lock"))?;
    Ok(if freed { told } else { "**not freed by close**" })
}

/// What a second acquire is told while the first holds, and which guarantee that one has.
fn exclusion(directory: &Path) -> io::Result<&'static str> {
    let lock = Lock::at(directory.join("held.lock"));
    let guard = lock.try_acquire().map_err(io::Error::other)?;
    let told = match (lock.try_acquire(), guard.guarantee()) {
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
    Ok(told)
}

/// Which dead holders an acquire reclaims from.
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
    // Higher than any.
    gone.pid = 5_000_000;
    let mut told = Vec::new();
    for (who, record) in [("here", gone), ("in another pid namespace", elsewhere)] {
        std::fs::write(&path, record.to_bytes())?;
        match lock.try_acquire() {
            Ok(guard) => {
                told.push(who);
                guard.release().map_err(io::Error::other)?;
            }
            Err(AcquireError::Held(_)) => std::fs::remove_file(&path)?,
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    Ok(match told.as_slice() {
        [] => "none".to_owned(),
        _ => format!("of the dead {}", told.join(" and ")),
    })
}

/// Whether the number of a file that is gone is given out again at once.
fn inode_numbers(directory: &Path) -> io::Result<Option<String>> {
    let number_of_next = || -> io::Result<u64> {
        let number = make(directory, "number")?.metadata()?.ino();
        std::fs::remove_file(directory.join("number"))?;
        Ok(number)
    };
    let reused = number_of_next()? == number_of_next()?;
    Ok(reused.then(|| "inode numbers are reused at once".to_owned()))
}

/// The link count of an open file that was removed, where it is not 0, and what is left of it.
fn link_count(directory: &Path) -> io::Result<Vec<String>> {
    let file = make(directory, "removed")?;
    std::fs::remove_file(directory.join("removed"))?;
    let links = file.metadata()?.nlink();
    let left: Vec<_> = std::fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    let mut told = Vec::new();
    if links != 0 {
        told.push(format!("a removed open file has link count {links}"));
    }
    if let [left] = left.as_slice() {
        let name = left.file_name();
        let name: String =
            name.to_string_lossy().chars().take_while(|c| !c.is_ascii_digit()).collect();
        told.push(format!("a removed open file is listed as `{name}…`"));
    }
    Ok(told)
}

/// What a filesystem does with the time of a file's last change that others do not, as it bears on
/// the age of a file: nothing on most.
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

    // A time of two seconds' precision is cut by just this.
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
        quirks.push("a removed file looks as if changed by that".to_owned());
    }

    let file = make_dated(long_ago)?;
    file.set_len(0)?;
    if dated(&file)? <= odd {
        quirks.push("to empty an empty file does not change its time".to_owned());
    }
    drop(file);
    std::fs::remove_file(&path)?;
    Ok(quirks)
}

/// What a second mount sees of the first, and the first of what the second does.
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
    let mut told = Vec::new();
    if excludes {
        told.push("two mounts see each other's kernel locks".to_owned());
        told.push(refusal_across(directory, twin)?);
    } else {
        told.push("**two mounts do not see each other's kernel locks**".to_owned());
    }
    told.extend(removal_across(directory, twin)?);
    Ok(told)
}

/// What one is told who comes by the second mount while the lock is held through the first, and
/// whether it gets the lock as soon as that is released.
fn refusal_across(directory: &Path, twin: &Path) -> io::Result<String> {
    let other = Lock::at(twin.join("held.lock"));
    // So that the second mount remembers that nothing is there.
    let guard = other.try_acquire().map_err(io::Error::other)?;
    guard.release().map_err(io::Error::other)?;
    let guard = Lock::at(directory.join("held.lock")).try_acquire().map_err(io::Error::other)?;
    let told = match other.try_acquire() {
        Ok(_) => return Err(io::Error::other("two hold, through two mounts")),
        Err(AcquireError::Held(held)) if held.holder.is_some() => {
            "who comes by the other is told by whom it is held"
        }
        Err(AcquireError::Held(_)) => "who comes by the other is refused, but may not read by whom",
        Err(error) => return Err(io::Error::other(error)),
    };
    guard.release().map_err(io::Error::other)?;
    let next = other.try_acquire().map_err(io::Error::other)?;
    next.release().map_err(io::Error::other)?;
    Ok(told.to_owned())
}

/// Goes on until the clock by which the filesystem dates changes has passed this time, which it
/// does in ticks of some milliseconds. `directory` itself is not changed.
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

/// Whether a confirm sees at once that the file was removed, or replaced, through the other mount;
/// and whether the attributes of the path alone would have shown it.
fn removal_across(directory: &Path, twin: &Path) -> io::Result<Vec<String>> {
    let (mut stale, mut missed) = (false, Vec::new());
    // The second mount renames a file that it has open instead of removing it, on NFS.
    for (replaced, has_it_open) in [(false, false), (false, true), (true, false), (true, true)] {
        // A name of its own, since a mount remembers what it has removed, too.
        let name = format!("removed-{replaced}-{has_it_open}.lock");
        let path = directory.join(&name);
        let mut ours = portlock::adapter(&path, None);
        let calls = (ours.create(), ours.lock(), ours.write(), ours.confirm());
        if calls != (Create::Created, protocol::LockReply::Ours, Done::Done, Confirm::Same) {
            return Err(io::Error::other(format!("a new file: {calls:?}")));
        }
        let before = std::fs::symlink_metadata(&path)?.ino();
        // NFS 3 knows that names have changed by the time of the directory's last change alone.
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
    let stale = stale.then(|| "`stat` tells of the past".to_owned());
    let missed = match missed.as_slice() {
        [] => "a removal through the other mount is confirmed at once".to_owned(),
        missed => format!(
            "**not seen at once that a file was {} through the other mount**",
            missed.join(", ")
        ),
    };
    Ok(stale.into_iter().chain([missed]).collect())
}
