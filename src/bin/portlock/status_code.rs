//! The exit statuses: the codes of sysexits.h, and the few that scripts branch on.

use std::io::ErrorKind;

use portlock::{AcquireError, ListError, LockDirError, Op};

/// Stale: of `status` alone.
pub(crate) const STALE: u8 = 3;
/// Neither can be proved: of `status` and `wait` alone.
pub(crate) const CANNOT_TELL: u8 = 4;
/// EX_USAGE: the arguments are wrong.
pub(crate) const USAGE: u8 = 64;
/// EX_UNAVAILABLE: the command cannot be run.
pub(crate) const CANNOT_RUN: u8 = 69;
/// EX_OSERR: the system refused what portlock itself needs.
pub(crate) const SYSTEM: u8 = 71;
/// EX_CANTCREAT: the lock file cannot be created.
pub(crate) const CANNOT_CREATE: u8 = 73;
/// EX_IOERR: reading, locking, writing or removing failed, or the answer was lost.
pub(crate) const IO: u8 = 74;
/// EX_TEMPFAIL: another process holds the lock, or may hold it.
pub(crate) const HELD: u8 = 75;
/// EX_NOPERM.
pub(crate) const NOT_PERMITTED: u8 = 77;
/// EX_CONFIG: the home directory is not known, or a variable of the environment names no directory.
pub(crate) const NO_HOME: u8 = 78;

/// The status that a shell shows for a process that `signal` has ended.
pub(crate) fn of_signal(signal: i32) -> u8 {
    128_u8.saturating_add(u8::try_from(signal).unwrap_or(u8::MAX))
}

/// The status that says why a lock was not acquired, or why its file was not read or removed.
pub(crate) fn of_refusal(error: &AcquireError) -> u8 {
    match error {
        AcquireError::Held(_) | AcquireError::Timeout { .. } => HELD,
        AcquireError::Io { source, .. } | AcquireError::Directory { source, .. }
            if source.kind() == ErrorKind::PermissionDenied =>
        {
            NOT_PERMITTED
        }
        AcquireError::Directory { .. }
        | AcquireError::Io { op: Op::Create, .. }
        | AcquireError::NotALockFile { .. } => CANNOT_CREATE,
        AcquireError::LockDir(error) => of_place(error),
        _ => IO,
    }
}

/// The status that says why there is no place for a lock.
pub(crate) fn of_place(error: &LockDirError) -> u8 {
    match error {
        LockDirError::NoHome | LockDirError::Environment { .. } => NO_HOME,
        LockDirError::NotWritable { source, .. }
            if source.kind() == ErrorKind::PermissionDenied =>
        {
            NOT_PERMITTED
        }
        LockDirError::NotWritable { .. } | LockDirError::Unsafe { .. } => CANNOT_CREATE,
        _ => USAGE,
    }
}

/// The status that says why a directory was not listed.
pub(crate) fn of_list(error: &ListError) -> u8 {
    match error.source.kind() {
        ErrorKind::PermissionDenied => NOT_PERMITTED,
        _ => IO,
    }
}
