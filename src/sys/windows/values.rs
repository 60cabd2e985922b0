//! Paths, times and error numbers as Windows has them.

use std::io::{self, ErrorKind};
use std::os::windows::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::System::Threading::INFINITE;

/// A path as Windows takes it. One from the root of 248 characters or more needs the prefix that
/// lifts the limit of 260
/// ([Maximum path length](https://learn.microsoft.com/windows/win32/fileio/maximum-file-path-limitation)).
pub(super) fn wide(path: &Path) -> io::Result<Vec<u16>> {
    const LONG: usize = 248;
    let mut text: Vec<u16> = path.as_os_str().encode_wide().collect();
    if text.contains(&0) {
        return Err(io::Error::new(ErrorKind::InvalidInput, "the path contains a NUL"));
    }
    let ascii = |text: &str| text.encode_utf16().collect::<Vec<_>>();
    let is_verbatim = text.starts_with(&ascii(r"\\?\")) || text.starts_with(&ascii(r"\\.\"));
    if text.len() >= LONG && path.is_absolute() && !is_verbatim {
        text = match text.strip_prefix(ascii(r"\\").as_slice()) {
            Some(share) => [&ascii(r"\\?\UNC\"), share].concat(),
            None => [ascii(r"\\?\"), text].concat(),
        };
    }
    text.push(0);
    Ok(text)
}

/// As a time-out: of less than one millisecond one is made, and of weeks 49 days.
pub(super) fn milliseconds(limit: Duration) -> u32 {
    limit.as_micros().div_ceil(1000).try_into().unwrap_or(INFINITE - 1)
}

/// The system's number of an error.
pub(super) fn code(error: &io::Error) -> Option<u32> {
    error.raw_os_error().map(|code| code as u32)
}

/// From 1601 to 1970, in the units of a `FILETIME`.
const UNIX_EPOCH: u64 = 116_444_736_000_000_000;

pub(super) const fn filetime_of_unix(seconds: u64) -> FILETIME {
    let units = UNIX_EPOCH + seconds * 10_000_000;
    FILETIME { dwLowDateTime: units as u32, dwHighDateTime: (units >> 32) as u32 }
}

/// Hundreds of nanoseconds since 1601.
pub(super) const fn hundreds_of_ns(time: FILETIME) -> u64 {
    ((time.dwHighDateTime as u64) << 32) | time.dwLowDateTime as u64
}

/// A `FILETIME` as a time of std; `None` beyond what std can hold.
pub(super) fn time_of(time: FILETIME) -> Option<SystemTime> {
    let units = hundreds_of_ns(time);
    let apart = |units: u64| {
        Duration::new(units / 10_000_000, u32::try_from(units % 10_000_000 * 100).unwrap_or(0))
    };
    match units.checked_sub(UNIX_EPOCH) {
        Some(since) => SystemTime::UNIX_EPOCH.checked_add(apart(since)),
        None => SystemTime::UNIX_EPOCH.checked_sub(apart(UNIX_EPOCH - units)),
    }
}
