//! The requirements for the lock that this crate rebuilds: rows S1 to S9, S12 and S14, each test
//! named after its row, on the real filesystem and through the public interface.
//!
//! S9 (a reclaim is unlink and exclusive create, no rename) is in `tests/syscalls.rs`, which traces
//! the calls: `s9_nothing_renames`. `legacy_agents` tests the published JavaScript itself.

#[cfg(target_os = "linux")]
mod calls;
#[cfg(unix)]
mod legacy_agents;
#[path = "../participant/mod.rs"]
mod participant;
#[cfg(unix)]
mod published;

use std::fs;
#[cfg(unix)]
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use portlock::{AcquireError, Guard, Lock, LockDir, Refusal};

use participant::{
    DEAD_PID, Participant, Place, ending, not_checked, outcome, reclaimed_from, refused_by,
    set_modified,
};

const PORT: u16 = 5338;

/// An unlocked lock file with these bytes, as a legacy agent leaves it.
fn planted(bytes: impl AsRef<[u8]>) -> Place {
    let place = Place::of_port(PORT);
    fs::write(place.path(), bytes).expect("the file is written");
    place
}

/// Identifies the lock file.
#[cfg(unix)]
fn inode(place: &Place) -> u64 {
    fs::metadata(place.path()).expect("the lock file exists").ino()
}

/// The creation time, which identifies the lock file.
#[cfg(windows)]
fn inode(place: &Place) -> SystemTime {
    fs::metadata(place.path()).and_then(|found| found.created()).expect("the lock file exists")
}

/// Sets the lock file's time to an hour ago.
fn grow_old(place: &Place) {
    set_modified(place.path(), SystemTime::now() - Duration::from_secs(3600));
}

/// The record of a legacy agent, written now.
fn old_record(pid: u32) -> String {
    participant::old_record(pid, SystemTime::now())
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it exists").permissions().mode() & 0o7777
}

#[cfg(unix)]
fn as_root() -> bool {
    rustix::process::geteuid().is_root()
}

// ---- S1 -----------------------------------------------------------------------------------------

#[test]
#[cfg(unix)]
fn s1_file_and_created_directories_are_private() {
    let home = tempfile::tempdir().expect("a directory");
    let before = mode(home.path());
    let lock = LockDir::at(home.path().join("a/.percy")).port(PORT).expect("a port");
    let guard = lock.try_acquire().expect("free");
    assert_eq!(guard.path(), home.path().join("a/.percy/agent-5338.lock"));
    assert_eq!(mode(guard.path()), 0o600);
    assert_eq!(mode(&home.path().join("a/.percy")), 0o700);
    assert_eq!(mode(&home.path().join("a")), 0o700);
    assert_eq!(mode(home.path()), before, "a directory that exists is left as it is");
    assert_eq!(guard.guarantee(), portlock::Guarantee::KernelLock);
}

#[test]
fn s1_exclusive_create_never_writes_an_existing_file() {
    let mut agent = Participant::start();
    let place = planted(old_record(agent.pid()));
    let before = (place.bytes(), inode(&place));
    assert_eq!(outcome(&place.try_acquire()), refused_by(agent.pid()));
    assert_eq!((place.bytes(), inode(&place)), before);
    assert_eq!(agent.request("pid"), agent.pid().to_string(), "it is alive");
}

#[test]
#[cfg(unix)]
fn s1_default_directory_is_dot_percy_in_home() {
    let home = tempfile::tempdir().expect("a directory");
    let mut command = participant::this_test_binary();
    command.env("HOME", home.path());
    let mut agent = Participant::start_as(command);
    assert_eq!(agent.request("port 5338"), "held");
    let path = home.path().join(".percy/agent-5338.lock");
    assert_eq!((mode(&path), mode(&home.path().join(".percy"))), (0o600, 0o700));
    assert_eq!(agent.request("release"), "released");
    assert!(!path.exists());
}

// ---- S2 -----------------------------------------------------------------------------------------

#[test]
fn s2_record_is_compact_json_percys_keys_first() {
    let place = Place::of_port(PORT);
    let before = SystemTime::now();
    let guard = place.try_acquire().expect("free");
    let after = SystemTime::now();
    let text = String::from_utf8(place.bytes()).expect("UTF-8");
    assert!(!text.contains(['\n', ' ']), "compact, and no newline: {text}");

    let start = format!("{{\"pid\":{},\"port\":5338,\"startedAt\":\"", std::process::id());
    let rest = text.strip_prefix(&start).expect("Percy's keys, in its order");
    let (time, ours) = rest.split_at("2026-11-23T02:09:04.848Z".len());
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z");
    assert!(ours.starts_with("\",\"") && ours.ends_with('}'), "ours follow: {ours}");

    let written = humantime::parse_rfc3339(time).expect("a time");
    let millisecond = Duration::from_millis(1);
    assert!(before - millisecond <= written && written <= after, "{time} is the present");
    assert_eq!(guard.holder().started_at, Some(written));
    assert_eq!((guard.holder().pid, guard.holder().port), (std::process::id(), Some(PORT)));
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&json["pid"], &json["port"]), (&std::process::id().into(), &PORT.into()));
}

#[test]
fn s2_record_without_a_port_keeps_three_keys() {
    let place = Place::of_port(PORT);
    let _guard = Lock::at(place.path()).try_acquire().expect("free");
    let text = String::from_utf8(place.bytes()).expect("UTF-8");
    let start = format!("{{\"pid\":{},\"port\":null,\"startedAt\":\"", std::process::id());
    assert!(text.starts_with(&start), "{text}");
}

/// Where Node.js is installed, it reads the record as its agents do.
#[test]
fn s2_javascript_reads_pid_port_and_time() {
    let place = Place::of_port(PORT);
    let guard = place.try_acquire().expect("free");
    let read = "const r = JSON.parse(require('fs').readFileSync(process.argv[1], 'utf8'));
        console.log(r.pid, r.port, new Date(r.startedAt).getTime())";
    let output = match Command::new("node").args(["-e", read]).arg(place.path()).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => return not_checked(&format!("node does not run here ({error})")),
    };
    let since = guard.holder().started_at.expect("recorded").duration_since(SystemTime::UNIX_EPOCH);
    let since = since.expect("after 1970").as_millis();
    assert_eq!(output, format!("{} {PORT} {since}", std::process::id()));
}

// ---- S3 -----------------------------------------------------------------------------------------

#[test]
fn s3_lock_of_a_dead_pid_is_reclaimed() {
    let place = planted(old_record(DEAD_PID));
    let guard = place.try_acquire().expect("stale");
    let from = guard.recovered_from().expect("it was reclaimed").holder.as_ref().expect("a record");
    assert_eq!((from.pid, from.port), (DEAD_PID, Some(PORT)));
    assert_ne!(place.bytes(), old_record(DEAD_PID).as_bytes());
    assert_eq!(ending(&guard.release()), "released");
    assert!(place.is_empty());
}

#[test]
fn s3_port_stored_as_text_is_read() {
    let place = planted(format!("{{\"pid\":{DEAD_PID},\"port\":\"5338\"}}"));
    let guard = place.try_acquire().expect("stale");
    let from = guard.recovered_from().expect("it was reclaimed").holder.as_ref().expect("a record");
    assert_eq!(from.port, Some(PORT));
}

// ---- S4 -----------------------------------------------------------------------------------------

#[test]
fn s4_refusal_has_record_pid_and_path() {
    let place = Place::of_port(PORT);
    let mut holder = Participant::start();
    assert_eq!(holder.try_acquire(place.path()), "held");
    let before = (place.bytes(), inode(&place));
    let error = place.try_acquire().expect_err("it is held");
    let AcquireError::Held(held) = &error else { panic!("{error:?}") };
    let recorded = held.holder.as_ref().expect("its record could be read");
    let reported = (recorded.pid, held.reason, held.port(), held.path.as_path());
    assert_eq!(reported, (holder.pid(), Refusal::Holder, Some(PORT), place.path()));
    assert!(recorded.started_at.is_some_and(|since| since <= SystemTime::now()));
    let message = error.to_string();
    assert!(message.contains(&format!("pid {}", holder.pid())), "{message}");
    assert!(message.contains(&place.path().display().to_string()), "{message}");
    assert_eq!((place.bytes(), inode(&place)), before, "the file is unchanged");
}

#[test]
fn s4_refusal_names_pid_of_live_legacy_agent() {
    let agent = Participant::start();
    let place = planted(old_record(agent.pid()));
    assert_eq!(outcome(&place.try_acquire()), refused_by(agent.pid()));
    grow_old(&place);
    // The record's time is recent, and the later of the two times counts.
    assert_eq!(outcome(&place.try_acquire()), refused_by(agent.pid()));
}

// ---- S5 -----------------------------------------------------------------------------------------

#[test]
fn s5_different_ports_lock_at_the_same_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let port = |port| LockDir::at(dir.path()).port(port).expect("a port");
    let guards: Vec<Guard> =
        [1, PORT, 65535].map(|number| port(number).try_acquire().expect("free")).into();
    for guard in &guards {
        assert!(guard.is_still_held().expect("it can be checked"));
    }
    let mut other = Participant::start();
    let own = port(1).path().to_owned();
    assert_eq!(other.try_acquire(&own), refused_by(std::process::id()));
    assert_eq!(other.try_acquire(port(2).path()), "held");
}

// ---- S6 -----------------------------------------------------------------------------------------

#[test]
#[cfg(unix)]
fn s6_process_that_denies_signals_is_alive() {
    let place = planted(old_record(1));
    let open = fs::Permissions::from_mode(0o666);
    fs::set_permissions(place.path(), open).expect("the file is opened to all");
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o777)).expect("likewise");
    let mut other = Participant::start();
    if as_root() {
        assert_eq!(other.request("become-user 65534"), "done");
    }
    if other.request("signal-zero 1") != "EPERM" {
        return not_checked("process 1 belongs to this user and may be signalled");
    }
    assert_eq!(other.try_acquire(place.path()), "refused, held by pid 1");
    assert!(place.path().exists(), "it was left alone");
}

// ---- S7 -----------------------------------------------------------------------------------------

#[test]
fn s7_record_with_our_own_pid_is_reclaimed() {
    let me = std::process::id();
    let place = planted(old_record(me));
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(me));
    assert!(place.is_empty());
}

/// The kernel lock distinguishes a leftover from a lock that another thread holds.
#[test]
fn s7_lock_held_by_this_process_is_respected() {
    let place = Place::of_port(PORT);
    let guard = place.try_acquire().expect("free");
    let me = std::process::id();
    assert_eq!(outcome(&place.try_acquire()), refused_by(me));
    assert!(guard.is_still_held().expect("it can be checked"));
}

// ---- the table of docs/percy.md -----------------------------------------------------------------

/// The number of tests in the sources whose names begin with `prefix`.
fn tests_named(prefix: &str, dir: &Path) -> usize {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("it").path());
    let counts = entries.map(|path| match path.extension() {
        _ if path.is_dir() => tests_named(prefix, &path),
        Some(extension) if extension == "rs" => {
            let source = fs::read_to_string(path).expect("a source");
            source.lines().filter(|line| line.trim_start().starts_with(prefix)).count()
        }
        _ => 0,
    });
    counts.sum()
}

#[test]
fn requirement_table_matches_the_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/percy.md")).expect("the page");
    for number in 1..=16 {
        let found = tests_named(&format!("fn s{number}_"), &root.join("tests"));
        let named = format!("`s{number}_*` ({found})");
        let row = page.lines().find(|line| line.starts_with(&format!("| S{number} |")));
        let row = row.unwrap_or_else(|| panic!("no row S{number} in docs/percy.md"));
        assert!(found > 0 && row.contains(&named), "no {named:?} in {row}");
    }
}

// ---- S8 -----------------------------------------------------------------------------------------

#[test]
fn s8_truncated_record_is_reclaimed_at_once() {
    let whole = old_record(std::process::id());
    for length in 1..whole.len() {
        let place = planted(&whole[..length]);
        assert_eq!(outcome(&place.try_acquire()), "held, reclaimed from unknown", "{length} bytes");
    }
}

/// Percy's agents take some of these for held until the file is removed by hand, others for stale.
#[test]
fn s8_unreadable_payload_is_reclaimed_at_once() {
    let pids = ["null", "0", "-1", "1.5", "\"abc\"", "2147483648"];
    let records = pids.map(|pid| format!("{{\"pid\":{pid},\"port\":{PORT}}}"));
    let others = ["{}", "[]", "123", "null", "{\"pid\":20211,\"po", "\u{0}\u{0}\u{0}"];
    for payload in records.iter().map(String::as_str).chain(others) {
        let place = planted(payload);
        assert_eq!(outcome(&place.try_acquire()), "held, reclaimed from unknown", "{payload:?}");
        assert!(place.is_empty(), "{payload:?}");
    }
}

/// Its creator may be about to write.
#[test]
fn s8_empty_file_is_reclaimed_only_when_old() {
    let place = planted("");
    let before = inode(&place);
    assert_eq!(outcome(&place.try_acquire()), "refused, BeingCreated, unknown");
    assert_eq!((place.bytes(), inode(&place)), (Vec::new(), before));
    grow_old(&place);
    assert_eq!(outcome(&place.try_acquire()), "held, reclaimed from unknown");
    assert!(place.is_empty());
}

/// Longer than any record, so another program's data, even under a port's name.
#[test]
fn s8_overlong_file_is_left_alone() {
    let long = format!("{{\"pid\":{DEAD_PID},\"fill\":\"{}\"}}", "x".repeat(portlock::MAX_RECORD));
    let place = planted(&long);
    grow_old(&place);
    let error = place.try_acquire().expect_err("it is not a lock file");
    assert!(matches!(error, portlock::AcquireError::NotALockFile { .. }), "{error:?}");
    assert_eq!(place.bytes(), long.as_bytes());
}

// ---- S12 ----------------------------------------------------------------------------------------

#[test]
fn s12_released_lock_can_be_acquired_again() {
    let place = Place::of_port(PORT);
    for _ in 0..3 {
        let guard = place.try_acquire().expect("free");
        assert_eq!(ending(&guard.release()), "released");
        assert!(place.is_empty());
    }
}

#[test]
fn s12_guard_releases_at_scope_end_and_panic() {
    let place = Place::of_port(PORT);
    {
        let _guard = place.try_acquire().expect("free");
    }
    assert!(place.is_empty());
    let panicked = std::panic::catch_unwind(|| {
        let _guard = place.try_acquire().expect("free");
        std::panic::resume_unwind(Box::new("a panic that prints nothing"));
    });
    assert!(panicked.is_err());
    assert!(place.is_empty());
    assert_eq!(outcome(&place.try_acquire()), "held");
}

/// A release consumes the guard, so the second release is that of a guard that lost its file.
#[test]
fn s12_release_never_removes_a_successors_file() {
    let place = Place::of_port(PORT);
    if !participant::frees_names_at_once() {
        return;
    }
    let first = place.try_acquire().expect("free");
    fs::remove_file(place.path()).expect("it is removed by hand");
    let second = place.try_acquire().expect("free");
    assert_eq!(ending(&first.release()), "lost");
    assert!(second.is_still_held().expect("it can be checked"));
    assert_eq!(ending(&second.release()), "released");
    assert!(place.is_empty());
}

// ---- S14 ----------------------------------------------------------------------------------------

#[test]
fn s14_start_after_kill_9_names_dead_holder() {
    let place = Place::of_port(PORT);
    let mut first = Participant::holding(place.path());
    first.kill();
    assert!(place.path().exists(), "it died with the lock held");
    let mut second = Participant::start();
    let reclaimed = reclaimed_from(first.pid());
    assert_eq!(second.try_acquire(place.path()), reclaimed);
    assert_eq!(second.request("release"), "released");
    assert!(place.is_empty());
}

#[test]
fn s14_second_start_on_a_port_refuses() {
    let place = Place::of_port(PORT);
    let mut first = Participant::holding(place.path());
    let mut second = Participant::start();
    let refused = refused_by(first.pid());
    assert_eq!(second.try_acquire(place.path()), refused);
    assert_eq!(first.request("current"), "true");
}

#[test]
fn s14_clean_stop_leaves_the_directory_empty() {
    let place = Place::of_port(PORT);
    let mut agent = Participant::holding(place.path());
    assert_eq!(agent.request("release"), "released");
    assert!(place.is_empty());
}
