//! Which files have a kernel lock, without taking one: /proc/locks (proc_locks(5)).
//!
//! The kernel gives out its list in pieces of a page, and goes on by the *number* of the entry at
//! which the last piece ended. Each piece is a true view of a part of the list at one instant, but
//! the list moves between two of them:
//!
//! 1. The first piece ends with entry 74. X is entry 75, held all the time.
//! 2. A process releases a lock that is listed before. X becomes entry 74.
//! 3. The next piece begins with entry 75. X was in neither.
//!
//! (Measured with 200 locks held and 4 others taken and released: a held lock was missing from 31 of
//! 50 readings.) So the list is read through two open files by turns, each of which goes on to half
//! a piece beyond the other, and each piece must share entries with the one before it:
//!
//! ```text
//!  first   ├──1──┼─────3─────┼─────5─────┤
//!  second  ├─────2─────┼─────4─────┼──6──┤
//! ```
//!
//! The order of two entries never changes while both are in the list. So an entry that is in the list
//! all the time is in a piece: if X is not behind the end of piece *n*, it is either in that piece, or
//! before an entry which is also in piece *n* - 1, hence not behind the end of that one, and so
//! on down to the first, which begins the list.
//!
//! Where the pieces do not overlap even at the fourth reading, or where it is not known that the list
//! ended with the last of them, what was seen is seen, and absence proves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::protocol::Watch;
use crate::sys::unix::retried;

/// The inode number of the initial pid namespace (`PROC_PID_INIT_INO` in the kernel).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// How many entries two pieces must share, or all of the later one if it has fewer.
///
/// One would do, if a lock that was released and taken again did not look as it did before. So many
/// would have to do that in the time between two reads, with all others of the overlap gone.
const SHARED: usize = 8;

/// By how many bytes one reader goes beyond the other. A piece has twice that and the rest of an
/// entry, which fits into a page, so that it is we who cut and not the kernel.
///
/// One after the other, until the pieces overlap: a last piece of few entries, one of which is
/// taken and released, differs where the cuts differ.
const STEPS: [usize; 4] = [1792, 1600, 1408, 1216];

/// A piece that is no longer ends where the list ended at that instant: the kernel gives out less
/// than asked for only at the end, or before an entry (with all its waiters, on a line each)
/// for which the rest of the page is too small. One that overflows half a page is not expected to
/// be followed by its own disappearance between two reads.
const SURELY_LAST: usize = 2048;

/// The kernel's locks, as they were at some instants of one look. The default one says nothing.
#[derive(Debug, Default)]
pub(crate) struct KernelLocks {
    listed: Listed,
    /// By the number of the mount, the device as the list names it.
    devices: BTreeMap<u32, Device>,
}

type Device = (u32, u32);

impl KernelLocks {
    /// Reads all of them. What cannot be read is not known.
    pub(crate) fn snapshot() -> Self {
        let devices = devices();
        let open = || File::open("/proc/locks");
        let mut listed = Listed::default();
        for step in STEPS {
            listed = listed.and(Listed::read(step, open).unwrap_or_default());
            if listed.is_complete {
                break;
            }
        }
        Self { listed, devices }
    }

    /// Whether any open file has a `flock` on the inode of `file`.
    ///
    /// A lock is listed by the inode and device of the filesystem, which on btrfs and overlayfs are
    /// not those of `stat`; fdinfo and mountinfo have them. Outside the initial pid namespace the
    /// locks of processes that are not in ours are not listed, so there the absence of a lock
    /// proves nothing.
    pub(crate) fn watch(&self, file: &File, pid_namespace: Option<u64>) -> Watch {
        let all_are_listed =
            self.listed.is_complete && pid_namespace == Some(INITIAL_PID_NAMESPACE);
        match identity(file, &self.devices) {
            Some(identity) if self.listed.flocks.contains(&identity) => Watch::Held,
            Some(_) if all_are_listed => Watch::Free,
            Some(_) | None => Watch::Unknown,
        }
    }
}

/// What the kernel's list calls the inode of `file`.
fn identity(file: &File, devices: &BTreeMap<u32, Device>) -> Option<Identity> {
    if devices.is_empty() {
        return None;
    }
    let path = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
    let info = std::fs::read_to_string(path).ok()?;
    let field = |name| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let inode = field("ino:")?.parse().ok()?;
    let device = devices.get(&field("mnt_id:")?.parse().ok()?)?;
    Some((*device, inode))
}

/// The devices of the mounts of this process; none if they cannot be read.
fn devices() -> BTreeMap<u32, Device> {
    match std::fs::read_to_string("/proc/self/mountinfo") {
        Ok(mounts) => mounts.lines().filter_map(mount).collect(),
        Err(_) => BTreeMap::new(),
    }
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime …`: its number and device (proc_pid_mountinfo(5)).
fn mount(line: &str) -> Option<(u32, Device)> {
    let mut fields = line.split(' ');
    let number = fields.next()?.parse().ok()?;
    let (major, minor) = fields.nth(1)?.split_once(':')?;
    Some((number, (major.parse().ok()?, minor.parse().ok()?)))
}

/// Device and inode number.
type Identity = (Device, u64);

/// What was read of the list.
#[derive(Debug, Default)]
struct Listed {
    flocks: BTreeSet<Identity>,
    /// Whether every lock that was held throughout is among them.
    is_complete: bool,
}

impl Listed {
    fn and(mut self, later: Self) -> Self {
        self.flocks.extend(later.flocks);
        self.is_complete |= later.is_complete;
        self
    }

    /// Reads the list to its end, by such steps. `open` opens it.
    fn read<R: Read>(step: usize, open: impl Fn() -> io::Result<R>) -> io::Result<Self> {
        let mut behind = Reader::of(open()?);
        let mut pieces = vec![behind.next(step)?];
        if pieces[0].length < step {
            // The usual case: there is no more, and one reader is enough.
            pieces.extend(Some(behind.next(step)?).filter(|rest| rest.length > 0));
        } else {
            let mut ahead = behind;
            behind = Reader::of(open()?);
            let mut at_the_end = 0;
            while at_the_end < 2 {
                let reach = (ahead.offset + step).saturating_sub(behind.offset).max(step);
                let piece = behind.next(reach)?;
                if piece.length > 0 {
                    at_the_end = 0;
                    pieces.push(piece);
                } else {
                    at_the_end += 1;
                }
                std::mem::swap(&mut ahead, &mut behind);
            }
        }
        let is_complete = pieces.windows(2).all(|pair| pair[1].overlaps(&pair[0]))
            && pieces.last().is_some_and(Piece::ends_the_list);
        let flocks =
            pieces.iter().flat_map(|piece| &piece.entries).filter_map(|entry| flock(entry));
        Ok(Self { flocks: flocks.collect(), is_complete })
    }
}

/// One open file of the list.
struct Reader<R> {
    list: R,
    /// How much was read.
    offset: usize,
    /// Whether the last piece was cut within a line.
    is_cut: bool,
}

/// What one read gave out: a part of the list as it was at one instant.
struct Piece {
    length: usize,
    /// As much as was asked for. There may be more, although the next read gives out nothing: by
    /// then enough entries before it may be gone.
    is_full: bool,
    /// Its whole lines, without number, and without waiters.
    entries: Vec<String>,
}

impl<R: Read> Reader<R> {
    fn of(list: R) -> Self {
        Self { list, offset: 0, is_cut: false }
    }

    /// One read of at most `asked` bytes; of none at the end of the list.
    fn next(&mut self, asked: usize) -> io::Result<Piece> {
        let mut bytes = vec![0; asked];
        let length = retried(|| self.list.read(&mut bytes))?;
        let text = String::from_utf8_lossy(&bytes[..length]);
        self.offset += length;
        // A line that was cut is the other reader's: its rest is of an earlier instant.
        let whole = match text.split_once('\n') {
            Some((_, after)) if self.is_cut => after,
            _ => &text,
        };
        self.is_cut = length > 0 && !text.ends_with('\n');
        let whole = whole.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let entries = whole.lines().filter_map(entry).map(str::to_owned).collect();
        Ok(Piece { length, is_full: length == asked, entries })
    }
}

impl Piece {
    /// Whether the list ended with it, at that instant.
    fn ends_the_list(&self) -> bool {
        !self.is_full && self.length <= SURELY_LAST
    }

    fn overlaps(&self, before: &Self) -> bool {
        let before: BTreeSet<&String> = before.entries.iter().collect();
        let shared = self.entries.iter().filter(|entry| before.contains(entry)).count();
        shared >= SHARED.min(self.entries.len())
    }
}

/// `3: FLOCK  ADVISORY  WRITE 20211 fe:00:5678 0 EOF`, from its kind on; `None` for a waiter's line,
/// which has `->` before that.
fn entry(line: &str) -> Option<&str> {
    let (_, entry) = line.split_once(": ")?;
    (!entry.trim_start().starts_with("->")).then_some(entry)
}

/// The file that an entry has locked by `flock`.
fn flock(entry: &str) -> Option<Identity> {
    let mut fields = entry.split_ascii_whitespace();
    if fields.next()? != "FLOCK" {
        return None;
    }
    let mut file = fields.nth(3)?.splitn(3, ':');
    let major = u32::from_str_radix(file.next()?, 16).ok()?;
    let minor = u32::from_str_radix(file.next()?, 16).ok()?;
    Some(((major, minor), file.next()?.parse().ok()?))
}

/// How many processes and open files are examined, at most, to find out which processes share the
/// lock of one file. One takes about 5 µs, so the search takes about 0.1 s at the most.
const MOST_EXAMINED: usize = 20_000;

/// The processes that share the kernel lock (`flock`) on the file at `path`, in ascending order, as
/// far as this process may look. `recorded` is the one that the record names.
///
/// No open file is touched: `stat` of one on a dead network mount would never return. The kernel
/// itself has the name of an open file (`readlink`) and its locks (`fdinfo`). A file that another
/// process knows by another name is not found.
///
/// The processes that were started after the recorded one come first, because a child that
/// inherited the lock is one of them. The search ends after [`MOST_EXAMINED`].
pub(crate) fn pids_with_lock(path: &Path, recorded: u32) -> io::Result<Vec<u32>> {
    let mut options = OpenOptions::new();
    // Names the file and opens nothing, so that no process gets an event.
    options.read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW);
    let file = retried(|| options.open(path))?;
    let (Some(name), Some(wanted)) = (path.file_name(), identity(&file, &devices())) else {
        return Ok(Vec::new());
    };
    drop(file);
    let pids = names_in("/proc")?.filter_map(|name| number(&name)).collect();
    let mut pids = in_order_after(recorded, pids);
    let mut left = MOST_EXAMINED;
    pids.retain(|&pid| shares_lock(pid, name, wanted, &mut left));
    pids.sort_unstable();
    Ok(pids)
}

/// In ascending order from the first that is greater than `recorded` on, and then the others.
fn in_order_after(recorded: u32, mut pids: Vec<u32>) -> Vec<u32> {
    pids.sort_unstable();
    let later = pids.partition_point(|&pid| pid <= recorded);
    pids.rotate_left(later);
    pids
}

/// Whether an open file of the process `pid` that is called `name` has the lock. `left` counts down.
fn shares_lock(pid: u32, name: &OsStr, wanted: Identity, left: &mut usize) -> bool {
    if *left == 0 {
        return false;
    }
    *left -= 1;
    let Ok(open) = names_in(&format!("/proc/{pid}/fd")) else { return false };
    let mut has_lock = false;
    for number in open {
        if *left == 0 || has_lock {
            break;
        }
        *left -= 1;
        let number = number.to_string_lossy();
        let called = std::fs::read_link(format!("/proc/{pid}/fd/{number}"));
        if called.is_ok_and(|called| called.file_name() == Some(name)) {
            let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}"));
            has_lock = info.is_ok_and(|info| own_locks(&info).any(|locked| locked == wanted));
        }
    }
    has_lock
}

/// The files that an open file has locked by `flock`, as its `fdinfo` has them
/// (proc_pid_fdinfo(5)): `lock:\t1: FLOCK  ADVISORY  WRITE 20211 fe:00:5678 0 EOF`.
fn own_locks(info: &str) -> impl Iterator<Item = Identity> {
    info.lines().filter_map(|line| flock(entry(line.strip_prefix("lock:")?)?))
}

fn names_in(dir: &str) -> io::Result<impl Iterator<Item = OsString> + use<>> {
    Ok(std::fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.file_name())))
}

fn number(name: &OsStr) -> Option<u32> {
    name.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests;
