//! Numbers at the ends of their ranges, in records and file times: every operation must return. A
//! panic, or an overflow where that is checked, fails the test.

#![cfg(unix)]
#![allow(unsafe_code)]

mod participant;

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use portlock::{Holder, LockDir};
use serde_json::{Value, json};

use participant::{DEAD_PID, Participant, not_checked, outcome, refused_by};

/// Seconds at the ends of `time_t`, around 1970, and beyond the year 9999.
const SECONDS: [libc::time_t; 8] = [
    libc::time_t::MIN,
    libc::time_t::MIN + 1,
    -1,
    0,
    1,
    253_402_300_800,
    libc::time_t::MAX - 1,
    libc::time_t::MAX,
];

const NUMBERS: [u64; 7] =
    [0, 1, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX - 1, u64::MAX, 1 << 53];

#[test]
fn every_operation_returns_for_extreme_numbers() {
    let live = Participant::start();
    for dir in directories() {
        let dir = LockDir::at(dir.path());
        for record in records(live.pid()) {
            let seconds = if is_dated(&record) { &SECONDS[..] } else { &SECONDS[7..] };
            for &seconds in seconds {
                each_operation(&dir, record.to_string().as_bytes(), seconds);
            }
        }
        for content in [&b""[..], b"\0\0", b"{\"pid\":1"] {
            for seconds in SECONDS {
                each_operation(&dir, content, seconds);
            }
        }
    }
}

/// If the file is newer than the process, so is the record.
#[test]
fn extreme_file_time_evicts_no_live_agent() {
    let live = Participant::start();
    for dir in directories() {
        let lock = LockDir::at(dir.path()).port(5338).expect("a port");
        fs::write(lock.path(), format!("{{\"pid\":{}}}", live.pid())).expect("writes");
        set_modified(lock.path(), libc::time_t::MAX);
        let refused = refused_by(live.pid());
        assert_eq!(outcome(&lock.try_acquire()), refused);
    }
}

/// The usual temporary directory, and one whose files can have any time.
fn directories() -> Vec<tempfile::TempDir> {
    let mut dirs = vec![tempfile::tempdir().expect("a directory")];
    // A disk's filesystem limits times to some centuries.
    dirs.extend(tempfile::tempdir_in("/dev/shm"));
    let file = dirs[dirs.len() - 1].path().join("probe");
    fs::write(&file, b"").expect("writes");
    set_modified(&file, libc::time_t::MAX);
    if fs::metadata(&file).expect("exists").mtime() != libc::time_t::MAX {
        not_checked("times at the ends of time_t: no filesystem here keeps them");
    }
    fs::remove_file(&file).expect("removes");
    dirs
}

fn records(live: u32) -> Vec<Value> {
    let guard_dir = tempfile::tempdir().expect("a directory");
    let guard = LockDir::at(guard_dir.path()).port(5338).expect("a port").try_acquire();
    let ours = guard.expect("free").holder().to_bytes();
    let ours: Value = serde_json::from_slice(&ours).expect("JSON");
    let mut records = Vec::new();
    for pid in [live, std::process::id(), 1, DEAD_PID, i32::MAX as u32] {
        let old = json!({ "pid": pid, "port": 5338 });
        let mut of_live = ours.clone();
        of_live["pid"] = pid.into();
        for time in [
            "1970-01-01T00:00:00.000Z",
            "1970-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999Z",
            "9999-12-31T23:59:59.999999999Z",
            "0000-01-01T00:00:00Z",
            "99999-01-01T00:00:00Z",
        ] {
            for record in [&old, &of_live] {
                let mut record = record.clone();
                record["startedAt"] = time.into();
                records.push(record);
            }
        }
        for key in ["processStart", "pidNamespace"] {
            for number in NUMBERS {
                let mut record = of_live.clone();
                record[key] = number.into();
                records.push(record);
            }
        }
        records.extend([old, of_live]);
    }
    for number in NUMBERS {
        let mut record = ours.clone();
        record["port"] = number.into();
        records.push(record.clone());
        record["pid"] = number.into();
        records.push(record);
    }
    records
}

/// Whether the file's time matters: only for a record in the old format.
fn is_dated(record: &Value) -> bool {
    record.get("boot").is_none()
}

fn each_operation(dir: &LockDir, content: &[u8], seconds: libc::time_t) {
    let lock = dir.port(5338).expect("a port");
    let plant = || {
        fs::write(lock.path(), content).expect("writes");
        set_modified(lock.path(), seconds);
    };
    plant();
    if let Ok(status) = lock.status() {
        let said = status.describe(&lock);
        assert!(!said.is_empty());
    }
    assert!(dir.list().expect("lists").len() <= 1);
    let shown = |error: portlock::AcquireError| assert!(!format!("{error:#}").is_empty());
    drop(lock.try_acquire().map_err(shown));
    plant();
    drop(lock.acquire_timeout(Duration::from_nanos(1)).map_err(shown));
    plant();
    drop(lock.clear().map_err(shown));
    plant();
    if let Some(holder) = Holder::parse(content) {
        drop(lock.force_clear(&holder).map_err(shown));
    }
    plant();
    assert!(dir.sweep().expect("lists").len() <= 1);
    let _ = fs::remove_file(lock.path());
}

fn set_modified(path: &Path, seconds: libc::time_t) {
    let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
    let time = libc::timespec { tv_sec: seconds, tv_nsec: 999_999_999 };
    let times = [time, time];
    // SAFETY: the path is a C string, and the times are two.
    let set = unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), 0) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}
