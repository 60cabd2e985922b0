//! The operations that the protocol is made of: one method, one operation.
//!
//! A [`FileSystem`] value is one participant's view of **one** lock path. It owns the one file
//! that an acquire has open, the record that was read last, and the record that would be written;
//! the machines in [`protocol`](crate::protocol) own none of these, so that they stay plain data.
//!
//! The first line of each method names the system calls of the Unix adapter. Where there is more
//! than one, the docs say why no other participant can tell the difference from a single step;
//! the model treats each method as one indivisible step on the strength of that.
//!
//! Replies carry no error value: the machine only needs to know *that* an operation failed. The
//! adapter keeps the first `io::Error` for the error message.

use crate::protocol::{Age, Author, Watch};

/// What a participant can do to one lock path.
///
/// Implemented by the operating-system adapters and by the model's filesystem. Wrappers that
/// trace, record or inject faults implement the same trait around another value.
///
/// None of the methods blocks, other than for the disk, except [`wait_event`](Self::wait_event). `EINTR` is
/// retried inside the adapter.
pub trait FileSystem {
    /// `openat(O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)`: exclusive create (S1).
    ///
    /// On [`Create::Created`] the new, empty file is the open file. When the directory is absent
    /// the adapter makes it, with its ancestors, mode 0700, and creates again: a directory is no
    /// part of the protocol, so this is still one step.
    fn create(&mut self) -> Create;

    /// `openat(O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)`: opens what is there.
    ///
    /// The Unix adapter asks `lstat` first and `fstat` afterwards, so that a link, directory,
    /// FIFO, socket or device is neither opened nor followed; the kind of an inode never changes,
    /// so this is still one step. Where writing is not permitted it opens for reading, which is
    /// enough.
    fn open(&mut self) -> OpenReply;

    /// `clock_gettime`, `fstat`: how long ago the open file was changed.
    ///
    /// The clock is read first, and no other participant sees that, hence one step. Must be called
    /// *before* the content is read: or a writer that finishes in between is judged by an age that
    /// its file no longer has.
    fn age(&mut self) -> Dated;

    /// `flock(LOCK_EX | LOCK_NB)`: tries the kernel lock on the open file, once.
    fn lock(&mut self) -> LockReply;

    /// `inotify_init1`, `inotify_add_watch`: from here on, events of the open file are kept for
    /// [`wait_event`](Self::wait_event).
    ///
    /// Events are its unlink, and each close of it by any process; the kernel closes the files of a
    /// process that dies. Must be called *before* the confirm that decides to wait: what happened
    /// earlier is no event. If the system has no room for another watch, no events are kept.
    fn subscribe(&mut self);

    /// `poll`: waits for an event of the file that was armed, or for the end of the time that the
    /// driver has set. Blocks.
    ///
    /// An event only says that it is worth checking again. It may be spurious, or early (Linux
    /// reports a close just before it frees the lock). So the adapter adds events of its own, after
    /// pauses that grow from 50 µs; where the system keeps none, these are the only ones. On Windows
    /// the event is that the kernel lock has become ours, and [`lock`](Self::lock) confirms it.
    fn wait_event(&mut self) -> Listen;

    /// `write`: puts the whole record into the open file with one call.
    ///
    /// A short write is a failure: a record is never completed later.
    fn write(&mut self) -> Done;

    /// `pread`: reads the open file and remembers the record, for [`probe`](Self::probe).
    ///
    /// At most 4 KiB and one byte; anything longer is not a record. A record is written by one
    /// call, so a reader sees nothing or all of it. What is neither a record, whole or cut short,
    /// nor empty is another program's data: [`ReadReply::Foreign`].
    fn read(&mut self) -> ReadReply;

    /// `openat(/proc/PID/stat)`, `kill(PID, 0)` and the like: probes the recorded process.
    ///
    /// Several calls, all about one process that is not ours; by P8 exclusion does not rest on
    /// the answer, so it does not matter that the process may end in the middle.
    fn probe(&mut self) -> Probed;

    /// `fstat`, `newfstatat(AT_SYMLINK_NOFOLLOW)`: does the path still name our open file?
    ///
    /// Compares device and inode number. The open file's own pair cannot change, and cannot be
    /// given to another file while it is open (inode numbers are reused at once after that), so
    /// only the second call reads something shared: one step.
    ///
    /// The first confirm of a file that [`create`](Self::create) made is `fstat` alone, on a local
    /// filesystem of Linux: the path names the file if its number of names (`st_nlink`) is still 1.
    /// The premise is that no process renames or links a lock file (S9): then an unlink is all that
    /// can take the name away, and it sets the number to 0.
    ///
    /// Where the second call may return cached attributes (NFS, and any filesystem that is not
    /// known to be local), the Unix adapter goes on: `openat(O_DIRECTORY)` of the directory, which
    /// only refreshes what this machine has cached of it, then `openat(O_RDONLY)` of the path and
    /// `fstat`. That last open is the step. A difference seen before it counts at once.
    fn confirm(&mut self) -> Confirm;

    /// `unlinkat`: removes the path.
    fn unlink(&mut self) -> Unlink;

    /// `ftruncate(1)`: cuts our own open file to one byte, so that no process is refused because of
    /// it.
    ///
    /// One byte of a record is a record cut short, and one byte of nothing is a NUL: neither names
    /// a holder, and the next process that gets the kernel lock reclaims it at once. An empty file
    /// would count as one that its creator is about to write.
    fn truncate(&mut self) -> Done;

    /// Whether any process has the kernel lock on the open file, without taking it.
    ///
    /// Linux lists the locks in `/proc/locks`; elsewhere the answer may be [`Watch::Unknown`]. For queries
    /// only: a query that took the lock, however briefly, could turn an acquire into a refusal.
    fn query_lock(&mut self) -> Watch;

    /// `flock(LOCK_UN)`, `close`: gives up the kernel lock and the open file, if there is one.
    ///
    /// The unlock is explicit because a child that another thread is just forking may share the
    /// open file for a moment. After it the close changes nothing that others can see (a name in
    /// delete-pending apart, which the model has), so the two are one step. Errors are ignored:
    /// the file descriptor is gone in either case.
    fn close(&mut self);

    /// `close` alone: gives up the open file, and leaves the kernel lock to a process that shares it.
    ///
    /// For a guard in a forked child, and for a query, which never had the lock.
    fn close_without_unlock(&mut self);
}

/// Reply of [`FileSystem::create`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Create {
    /// The file is new, empty, ours and open.
    Created,
    /// The path names something (`EEXIST`).
    Exists,
    /// An error that may pass: try again, and take one that lasts as the error that it is. On
    /// Windows access denied, because the name may be being deleted; on Unix `ESTALE`, because a file
    /// server may have replaced the directory.
    Denied,
    /// Any other error.
    Failed,
}

/// Reply of [`FileSystem::open`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpenReply {
    /// The file that the path names is open.
    Opened,
    /// The path names nothing (`ENOENT`).
    Absent,
    /// Same as [`Create::Denied`].
    Denied,
    /// Any other error, and anything that is not a regular file.
    Failed,
}

/// Reply of [`FileSystem::age`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dated {
    /// The age of the open file's content.
    Known(Age),
    /// Any error.
    Failed,
}

/// Reply of [`FileSystem::lock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockReply {
    /// The kernel lock is ours until the open file is closed.
    Ours,
    /// Another open file has it (`EWOULDBLOCK`).
    Busy,
    /// The filesystem has no kernel locks (`EOPNOTSUPP`, `ENOSYS`): an answer that holds for all.
    Unsupported,
    /// Any other error. `ENOLCK` is one: a passing lack of resources, not a property.
    Failed,
}

/// Reply of [`FileSystem::wait_event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Listen {
    /// Something may have happened to the file.
    Event,
    /// The time is over, or the wait was cancelled.
    Over,
    /// Any error.
    Failed,
}

/// Reply of [`FileSystem::read`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadReply {
    /// A record, which the adapter remembers.
    Record,
    /// Nothing at all.
    Empty,
    /// What a writer of a record can leave when it or the machine dies: a record cut short, or NULs.
    /// In a file that only ports have, anything else of a record's length.
    Unreadable,
    /// Another program's data: the file is no lock file, and is left alone.
    Foreign,
    /// The read itself failed.
    Failed,
}

/// Reply of [`FileSystem::probe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Probed {
    /// What was found out about the author, even that nothing can be found out from here.
    Known(Author),
    /// The probe could not run: no file descriptor was left.
    Failed,
}

/// Reply of [`FileSystem::confirm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confirm {
    /// The path names our open file.
    Same,
    /// The path names nothing, or another file.
    Changed,
    /// Any error other than absence.
    Failed,
}

/// Reply of [`FileSystem::unlink`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unlink {
    /// The path is gone, and we removed it.
    Unlinked,
    /// Another process had removed it (`ENOENT`).
    Absent,
    /// Any other error.
    Failed,
}

/// Reply of an operation that works or fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Done {
    /// It worked.
    Done,
    /// It failed.
    Failed,
}

/// Names an operation in an error or a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Op {
    /// [`FileSystem::create`].
    Create,
    /// [`FileSystem::open`].
    Open,
    /// [`FileSystem::age`].
    Age,
    /// [`FileSystem::lock`].
    Lock,
    /// [`FileSystem::wait_event`].
    Listen,
    /// [`FileSystem::write`].
    Write,
    /// [`FileSystem::read`].
    Read,
    /// [`FileSystem::probe`].
    Probe,
    /// [`FileSystem::confirm`].
    Confirm,
    /// [`FileSystem::unlink`].
    Unlink,
}

impl std::fmt::Display for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Op::Create => "create",
            Op::Open => "open",
            Op::Age => "date",
            Op::Lock => "lock",
            Op::Listen => "wait for",
            Op::Write => "write the record to",
            Op::Read => "read",
            Op::Probe => "probe the holder of",
            Op::Confirm => "confirm",
            Op::Unlink => "remove",
        })
    }
}
