//! Records from elsewhere: other boots, machines, pid namespaces, and pids that were reused.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, SystemTime};

use portlock::{Refusal, Status, Unsure};

use crate::participant::{NOBODY, Participant, Place, ending, not_checked, old_record, outcome};
use crate::{reclaimed_from, refused_by};

/// Our own record, with some of its keys changed, in a file that nobody has locked.
pub(crate) fn left_by_a_changed_self(place: &Place, changes: &[(&str, serde_json::Value)]) {
    let guard = place.try_acquire().expect("free");
    let mut record: serde_json::Value = serde_json::from_slice(&place.bytes()).expect("JSON");
    assert_eq!(ending(&guard.release()), "released");
    for (key, value) in changes {
        assert!(record.get(key).is_some(), "{key} is recorded: {record}");
        record[key] = value.clone();
    }
    fs::write(place.path(), record.to_string()).expect("the lock file");
}

const ANOTHER_BOOT: &str = "00000000-0000-4000-8000-000000000000";

/// The pid is a live process's: on this boot it would be refused.
#[test]
#[cfg(target_os = "linux")]
fn a_record_of_an_earlier_boot_blocks_nobody_even_if_its_pid_lives() {
    let place = Place::new();
    let other = Participant::start();
    left_by_a_changed_self(&place, &[("boot", ANOTHER_BOOT.into()), ("pid", other.pid().into())]);
    assert!(matches!(place.lock.status(), Ok(Status::Stale { .. })));
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(other.pid()));
    assert!(place.is_empty());
}

#[test]
#[cfg(target_os = "linux")]
fn a_record_of_another_machine_is_refused_and_left_alone() {
    let place = Place::new();
    left_by_a_changed_self(
        &place,
        &[("boot", ANOTHER_BOOT.into()), ("host", "build-7".into()), ("pid", NOBODY.into())],
    );
    let before = place.bytes();
    let error = place.try_acquire().expect_err("it may be held there");
    let held = error.held().unwrap_or_else(|| panic!("{error:?}"));
    let holder = held.holder.as_ref().expect("its record could be read");
    assert_eq!(held.why, Refusal::Unknown(Unsure::OtherMachine));
    assert_eq!((holder.pid, holder.host.as_deref()), (NOBODY, Some("build-7")));
    assert!(error.to_string().contains("build-7"), "{error}");
    assert_eq!(place.bytes(), before);
}

/// The kernel lock is the whole kernel's on these filesystems, and nobody has it.
#[test]
#[cfg(target_os = "linux")]
fn a_record_of_another_pid_namespace_blocks_nobody_on_a_local_filesystem() {
    let place = Place::new();
    let other = Participant::start();
    left_by_a_changed_self(&place, &[("pidNamespace", 1.into()), ("pid", other.pid().into())]);
    let expected = if is_on_a_local_filesystem(place.path()) {
        reclaimed_from(other.pid())
    } else {
        println!("the temporary directory is not on a filesystem that is known to be local");
        format!("refused, OtherNamespace, pid {}", other.pid())
    };
    assert_eq!(outcome(&place.try_acquire()), expected);
}

/// Two containers, one home, both pid 1: the original took one for dead and the other for itself.
#[test]
#[cfg(target_os = "linux")]
fn a_live_holder_in_another_pid_namespace_is_not_taken_for_dead() {
    let place = Place::new();
    let mut holder = Participant::start();
    let entered = holder.tell("enter-a-pid-namespace");
    if entered.starts_with("failed") {
        return not_checked(&format!(
            "no pid namespace can be made here ({entered}); it takes root"
        ));
    }
    assert_eq!(entered, "done, as pid 1");
    assert_eq!(holder.try_acquire(place.path()), "held");
    let before = place.bytes();
    assert_eq!(outcome(&place.try_acquire()), "refused, CannotProbe, pid 1");

    let mut third = Participant::start();
    assert_eq!(third.tell("enter-a-pid-namespace"), "done, as pid 1");
    assert_eq!(third.try_acquire(place.path()), "refused, CannotProbe, pid 1");
    assert_eq!(place.bytes(), before);
    assert_eq!(holder.tell("release"), "released");
    assert_eq!(third.try_acquire(place.path()), "held");
}

#[cfg(target_os = "linux")]
fn is_on_a_local_filesystem(path: &Path) -> bool {
    let file = File::open(path).expect("it opens");
    let mut found = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the file is open, and `found` has room; it is filled in when 0 is returned.
    let kind = unsafe {
        assert_eq!(libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()), 0);
        found.assume_init().f_type
    };
    // ext2 to ext4, tmpfs, overlayfs, xfs, btrfs, f2fs: statfs(2).
    [0xEF53, 0x0102_1994, 0x794C_7630, 0x5846_5342, 0x9123_683E, 0xF2F5_2010]
        .contains(&(kind as i64))
}

/// The number was given to a new process after the record had been written (pid reuse).
#[test]
#[cfg(target_os = "linux")]
fn a_record_of_the_old_format_from_before_its_process_started_blocks_nobody() {
    let place = Place::new();
    let reuser = Participant::start();
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    fs::write(place.path(), old_record(reuser.pid(), long_ago)).expect("the lock file");
    // One of the two is not enough: a copied file keeps an old record, a touched one an old text.
    assert_eq!(outcome(&place.try_acquire()), refused_by(reuser.pid()));
    let file = File::options().write(true).open(place.path()).expect("it opens");
    file.set_modified(long_ago).expect("its time is set");
    drop(file);
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(reuser.pid()));
}

#[test]
#[cfg(target_os = "linux")]
fn s15_a_pid_that_another_process_has_got_since_blocks_nobody() {
    let place = Place::new();
    let reuser = Participant::start();
    // Our own start time, so not that process's.
    left_by_a_changed_self(&place, &[("pid", reuser.pid().into()), ("processStart", 1.into())]);
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(reuser.pid()));
}
