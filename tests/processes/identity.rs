//! Records of other boots, machines and pid namespaces, and reused pids.

use std::fs::{self, File};
#[cfg(target_os = "linux")]
use std::process::Command;
use std::time::{Duration, SystemTime};

use portlock::{Refusal, Status, UnknownReason};

use crate::participant::{
    DEAD_PID, Participant, Place, ending, old_record, outcome, reclaimed_from, refused_by,
    set_modified,
};
#[cfg(target_os = "linux")]
use crate::participant::{must_return, not_checked};

/// This process's record, with some keys changed, in an unlocked file.
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

/// The pid belongs to a live process: on this boot the acquire would be refused.
#[test]
#[cfg(any(target_os = "linux", windows))]
fn record_of_earlier_boot_never_blocks() {
    let place = Place::new();
    let other = Participant::start();
    left_by_a_changed_self(&place, &[("boot", ANOTHER_BOOT.into()), ("pid", other.pid().into())]);
    let status = place.lock.status();
    // A query cannot see kernel locks on Windows.
    let is_expected = match &status {
        Ok(Status::Stale { .. }) => cfg!(target_os = "linux"),
        Ok(Status::Unknown { .. }) => cfg!(windows),
        _ => false,
    };
    assert!(is_expected, "{status:?}");
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(other.pid()));
    assert!(place.is_empty());
}

/// A container may have another hostname at each start, and no other machine writes to a local
/// disk.
#[test]
#[cfg(target_os = "linux")]
fn local_record_of_another_boot_never_blocks() {
    let place = Place::new();
    left_by_a_changed_self(
        &place,
        &[("boot", ANOTHER_BOOT.into()), ("host", "build-7".into()), ("pid", DEAD_PID.into())],
    );
    if is_on_a_local_filesystem(place.path()) {
        assert_eq!(outcome(&place.try_acquire()), reclaimed_from(DEAD_PID));
    } else {
        let refused = format!("refused, OtherMachine, pid {DEAD_PID}");
        assert_eq!(outcome(&place.try_acquire()), refused);
    }
}

/// In another container, and without a kernel lock: a free kernel lock proves nothing.
#[test]
#[cfg(target_os = "linux")]
fn holder_without_shared_kernel_lock_is_respected() {
    let place = Place::new();
    left_by_a_changed_self(
        &place,
        &[
            ("pidNamespace", 7.into()),
            ("host", "build-7".into()),
            ("pid", DEAD_PID.into()),
            ("kernelLock", false.into()),
        ],
    );
    let before = place.bytes();
    let error = place.try_acquire().expect_err("it may be held there");
    let held = error.held().unwrap_or_else(|| panic!("{error:?}"));
    let holder = held.holder.as_ref().expect("its record could be read");
    assert_eq!(held.reason, Refusal::Unknown(UnknownReason::NoSharedLock));
    assert_eq!((holder.pid, holder.host.as_deref()), (DEAD_PID, Some("build-7")));
    assert!(error.to_string().contains("build-7"), "{error}");
    assert_eq!(place.bytes(), before);
}

/// The kernel lock works across namespaces on these filesystems, and is free.
#[test]
#[cfg(target_os = "linux")]
fn local_record_of_another_pid_namespace_never_blocks() {
    let place = Place::new();
    let other = Participant::start();
    left_by_a_changed_self(&place, &[("pidNamespace", 1.into()), ("pid", other.pid().into())]);
    let expected = if is_on_a_local_filesystem(place.path()) {
        reclaimed_from(other.pid())
    } else {
        println!("the temporary directory is not on a filesystem that is known to be local");
        format!("refused, NoSharedLock, pid {}", other.pid())
    };
    assert_eq!(outcome(&place.try_acquire()), expected);
}

/// Two containers with one home, both pid 1. The original took one for dead, the other for itself.
#[test]
#[cfg(target_os = "linux")]
fn live_holder_in_another_pid_namespace_is_respected() {
    let place = Place::new();
    let mut holder = Participant::start();
    let entered = holder.request("enter-a-pid-namespace");
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
    assert_eq!(third.request("enter-a-pid-namespace"), "done, as pid 1");
    assert_eq!(third.try_acquire(place.path()), "refused, CannotProbe, pid 1");
    assert_eq!(place.bytes(), before);
    assert_eq!(holder.request("release"), "released");
    assert_eq!(third.try_acquire(place.path()), "held");
}

#[cfg(target_os = "linux")]
fn is_on_a_local_filesystem(path: &std::path::Path) -> bool {
    use std::os::fd::AsRawFd;
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

/// The pid was reused after the record was written.
#[test]
#[cfg(any(target_os = "linux", windows))]
fn legacy_record_older_than_its_process_never_blocks() {
    let place = Place::new();
    let reuser = Participant::start();
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    fs::write(place.path(), old_record(reuser.pid(), long_ago)).expect("the lock file");
    // Both times must be old: a copied file keeps an old record, a touched file an old text.
    assert_eq!(outcome(&place.try_acquire()), refused_by(reuser.pid()));
    set_modified(place.path(), long_ago);
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(reuser.pid()));
}

#[test]
#[cfg(any(target_os = "linux", windows))]
fn s15_reused_pid_never_blocks() {
    let place = Place::new();
    let reuser = Participant::start();
    // Not that process's start time.
    left_by_a_changed_self(&place, &[("pid", reuser.pid().into()), ("processStart", 1.into())]);
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(reuser.pid()));
}

/// A thread has a number of the same kind, and a file in /proc, but is not a process.
#[test]
#[cfg(target_os = "linux")]
fn thread_id_never_passes_for_a_live_pid() {
    let place = Place::new();
    let (send, receive) = std::sync::mpsc::channel();
    let (finish, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        // SAFETY: gettid only returns a number.
        send.send(unsafe { libc::gettid() }).expect("the test listens");
        wait.recv().ok();
    });
    let number: libc::pid_t = receive.recv().expect("the thread runs");
    let tid = u32::try_from(number).expect("positive");
    assert_ne!(tid, std::process::id());
    // SAFETY: signal 0 sends nothing.
    assert_eq!(unsafe { libc::kill(number, 0) }, 0, "the number is in use");
    fs::write(place.path(), old_record(tid, SystemTime::now())).expect("the lock file");
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(tid));
    left_by_a_changed_self(&place, &[("pid", tid.into())]);
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(tid));
    drop(finish);
    thread.join().expect("the thread ends");
}

// ---- namespaces ---------------------------------------------------------------------------------

/// This test binary as a participant, run by `unshare` with these arguments. `None`, reported as
/// not checked, where that is not permitted.
#[cfg(target_os = "linux")]
fn elsewhere(arguments: &[&str]) -> Option<Participant> {
    let unshare = |arguments: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(arguments);
        unshare
    };
    if !unshare(arguments).arg("true").status().is_ok_and(|status| status.success()) {
        not_checked(&format!("unshare {arguments:?} does not work here; it takes root"));
        return None;
    }
    Some(Participant::start_within(unshare(arguments)))
}

/// The other holds and this process is refused, then the reverse; and a dead holder never blocks.
#[cfg(target_os = "linux")]
fn exclude_each_other_by_name(mut other: Participant) {
    let pid = other.request("pid").parse().expect("a pid");
    let place = Place::new();
    assert_eq!(other.try_acquire(place.path()), "held");
    assert_eq!(outcome(&place.try_acquire()), refused_by(pid));
    assert!(matches!(place.lock.status(), Ok(Status::Held { reason: Refusal::Holder, .. })));
    assert_eq!(other.request("release"), "released");

    let guard = place.try_acquire().expect("free");
    assert_eq!(other.try_acquire(place.path()), refused_by(std::process::id()));
    drop(guard);
    // A live holder that lost its kernel lock is detected by the probe alone.
    let mut here = Participant::holding(place.path());
    assert_eq!(here.request("execute-itself"), "executed");
    assert_eq!(other.try_acquire(place.path()), refused_by(here.pid()));
    here.kill();
    assert_eq!(other.try_acquire(place.path()), reclaimed_from(here.pid()));
    // A legacy agent takes no kernel lock at all.
    assert_eq!(other.request("release"), "released");
    let agent = Participant::start();
    fs::write(place.path(), old_record(agent.pid(), SystemTime::now())).expect("its file");
    assert_eq!(other.try_acquire(place.path()), refused_by(agent.pid()));
    fs::remove_file(place.path()).expect("the agent releases");

    assert_eq!(other.try_acquire(place.path()), "held");
    assert_eq!(other.request("execute-itself"), "executed");
    assert_eq!(outcome(&place.try_acquire()), refused_by(pid));
    // It may have a parent that waits for it. After its exec it has no guard to release.
    other.end("exit");
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(pid));
}

#[test]
#[cfg(target_os = "linux")]
fn holder_in_another_user_namespace_is_identified() {
    let Some(other) = elsewhere(&["--user", "--map-root-user", "--"]) else { return };
    exclude_each_other_by_name(other);
}

/// Where the boot is known, the hostname is not compared: containers have their own.
#[test]
#[cfg(target_os = "linux")]
fn holder_with_another_hostname_is_identified() {
    let renamed = ["--uts", "--", "sh", "-c", "hostname elsewhere && exec \"$0\" \"$@\""];
    let Some(mut other) = elsewhere(&renamed) else { return };
    let place = Place::new();
    assert_eq!(other.try_acquire(place.path()), "held");
    let record: serde_json::Value = serde_json::from_slice(&place.bytes()).expect("JSON");
    assert_eq!(record["host"], "elsewhere", "the control");
    assert_eq!(other.request("release"), "released");
    exclude_each_other_by_name(other);
}

/// In a time namespace the start times in `/proc/PID/stat` are shifted.
#[test]
#[cfg(target_os = "linux")]
fn holder_in_another_time_namespace_is_identified() {
    for offset in ["86400", "-1"] {
        let shifted = ["--time", "--boottime", offset, "--fork", "--kill-child", "--"];
        let Some(mut other) = elsewhere(&shifted) else { return };
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/time")).expect("a link");
        assert_ne!(namespace(&other.request("pid")), namespace("self"), "the control");
        exclude_each_other_by_name(other);
    }
}

/// A child in a new pid namespace carries out the order, and returns the outcome.
#[cfg(target_os = "linux")]
fn in_a_pid_namespace(arguments: &[&str], order: &str, pid: u32, place: &Place) -> Option<String> {
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child"]).args(arguments).arg("--");
    unshare.arg(std::env::current_exe().expect("the test binary has a path"));
    let entry = "identity::a_child_in_a_pid_namespace";
    unshare.args([entry, "--exact", "--nocapture", "--test-threads=1"]);
    unshare.env(ORDER, order).env(PID, pid.to_string()).env(PATH, place.path());
    let output = must_return("the child ends", || unshare.output()).expect("unshare runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = text.lines().find_map(|line| Some(line.split_once("said: ")?.1.to_owned()));
    if said.is_none() {
        let reason = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!reason.contains("panicked"), "{reason}");
        not_checked(&format!("pids in a namespace of our own ({}); it takes root", reason.trim()));
    }
    said
}

#[cfg(target_os = "linux")]
const ORDER: &str = "PORTLOCK_TEST_IN_A_PID_NAMESPACE";
#[cfg(target_os = "linux")]
const PID: &str = "PORTLOCK_TEST_PID";
#[cfg(target_os = "linux")]
const PATH: &str = "PORTLOCK_TEST_PATH";

#[test]
#[cfg(target_os = "linux")]
fn a_child_in_a_pid_namespace() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let pid = std::env::var(PID).expect("set").parse().expect("a number");
    let lock = portlock::Lock::at(std::env::var(PATH).expect("set"));
    let tried = || outcome(&lock.try_acquire());
    let said = match &*order {
        "reuse" => {
            let holder = Forked::with_pid(pid, || std::mem::forget(lock.try_acquire()));
            assert_eq!(tried(), refused_by(pid), "the first holder is alive");
            holder.kill();
            until_the_next_tick();
            let _another = Forked::with_pid(pid, || ());
            let number = libc::pid_t::try_from(pid).expect("a pid");
            // SAFETY: signal 0 sends nothing.
            assert_eq!(unsafe { libc::kill(number, 0) }, 0, "the number is in use");
            tried()
        }
        "live-agent" => {
            let _agent = Forked::with_pid(pid, || ());
            fs::write(lock.path(), old_record(pid, SystemTime::now())).expect("its file");
            tried()
        }
        other => unreachable!("{other}"),
    };
    println!("said: {said}");
}

/// The kernel reuses the pid of a killed holder for a live process.
#[test]
#[cfg(target_os = "linux")]
fn pid_reused_by_the_kernel_never_blocks() {
    let place = Place::new();
    let Some(said) = in_a_pid_namespace(&["--mount-proc"], "reuse", 4242, &place) else { return };
    assert_eq!(said, reclaimed_from(4242));
    assert!(place.is_empty());
}

/// A process in a pid namespace that still sees the outer /proc: the same number there is another
/// process, here a zombie.
#[test]
#[cfg(target_os = "linux")]
fn foreign_proc_never_declares_a_live_agent_dead() {
    let place = Place::new();
    let mut outside = Participant::start();
    outside.kill_and_leave_a_zombie();
    let Some(said) = in_a_pid_namespace(&[], "live-agent", outside.pid(), &place) else { return };
    assert_eq!(said, refused_by(outside.pid()));
}

/// A forked process that runs `first` and then waits to be killed.
#[cfg(target_os = "linux")]
struct Forked(libc::pid_t);

#[cfg(target_os = "linux")]
impl Forked {
    /// A pid namespace allows setting the next pid (`ns_last_pid`, proc_sys(5)).
    fn with_pid(pid: u32, first: impl FnOnce()) -> Self {
        use std::io::Read;
        let (mut done, will_be_done) = std::os::unix::net::UnixStream::pair().expect("a pair");
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).expect("root may");
        // SAFETY: the only other thread is the harness's, which waits for this one and holds no
        // lock, so the child may do anything.
        match unsafe { libc::fork() } {
            0 => {
                drop(done);
                first();
                drop(will_be_done);
                loop {
                    // SAFETY: waits for a signal.
                    unsafe { libc::pause() };
                }
            }
            child => {
                assert_eq!(u32::try_from(child), Ok(pid), "nothing else is forked here");
                drop(will_be_done);
                done.read_to_end(&mut Vec::new()).expect("it closes the pair when done");
                Self(child)
            }
        }
    }

    fn kill(self) {}
}

#[cfg(target_os = "linux")]
impl Drop for Forked {
    fn drop(&mut self) {
        // SAFETY: a child of this process that has not been reaped; null asks for no status.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

/// Processes that start in the same kernel tick cannot be distinguished by their start times.
#[cfg(target_os = "linux")]
fn until_the_next_tick() {
    let start = std::time::Instant::now();
    // A hundred ticks a second (USER_HZ).
    while start.elapsed() < Duration::from_millis(20) {
        std::thread::yield_now();
    }
}
