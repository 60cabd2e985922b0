//! Every way a holder can end.

use std::fs::File;
use std::time::{Duration, SystemTime};

use crate::participant::{
    Participant, Place, ending, outcome, reclaimed_from, refused_by, set_modified,
};

#[test]
fn acquire_after_kill_9_recovers_and_names_holder() {
    let place = Place::new();
    for _ in 0..20 {
        let mut holder = Participant::holding(place.path());
        assert_eq!(outcome(&place.try_acquire()), refused_by(holder.pid()));
        holder.kill();
        let guard = place.try_acquire().expect("its holder is dead");
        let from = guard.recovered_from().expect("it was reclaimed");
        assert_eq!(from.holder.as_ref().expect("a record").pid, holder.pid());
        assert!(from.to_string().contains(&format!("pid {}", holder.pid())), "{from}");
        assert_eq!(ending(&guard.release()), "released");
        assert!(place.is_empty());
    }
}

#[test]
fn free_lock_is_recovered_from_no_holder() {
    let place = Place::new();
    assert!(place.try_acquire().expect("free").recovered_from().is_none());
}

#[test]
#[cfg(target_os = "linux")]
fn zombie_holder_never_blocks() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    holder.kill_and_leave_a_zombie();
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(holder.pid()));
}

#[test]
#[cfg(target_os = "linux")]
fn zombie_with_legacy_record_never_blocks() {
    let place = Place::new();
    let mut agent = Participant::start();
    let record = crate::participant::old_record(agent.pid(), SystemTime::now());
    std::fs::write(place.path(), record).expect("its file");
    assert_eq!(outcome(&place.try_acquire()), refused_by(agent.pid()));
    agent.kill_and_leave_a_zombie();
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(agent.pid()));
}

/// The file is closed on exec, which frees the kernel lock; the process continues. Other processes
/// are refused, because it may still use what it had locked; it may acquire again itself.
#[test]
#[cfg(unix)]
fn holder_after_exec_is_alive_to_others_only() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    assert_eq!(holder.request("execute-itself"), "executed");
    assert_eq!(outcome(&place.try_acquire()), refused_by(holder.pid()));
    assert_eq!(holder.try_acquire(place.path()), reclaimed_from(holder.pid()));
    assert_eq!(outcome(&place.try_acquire()), refused_by(holder.pid()));
    assert_eq!(holder.request("release"), "released");
    assert!(place.is_empty());
}

#[test]
#[cfg(unix)]
fn holder_that_died_after_exec_never_blocks() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    assert_eq!(holder.request("execute-itself"), "executed");
    holder.kill();
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(holder.pid()));
}

/// Neither an old file nor an unresponsive process is a reason to evict (P7).
#[test]
#[cfg(unix)]
fn stopped_holder_is_never_evicted() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    holder.stop();
    set_modified(place.path(), SystemTime::UNIX_EPOCH);
    assert_eq!(outcome(&place.try_acquire()), refused_by(holder.pid()));
    holder.resume();
    assert_eq!(holder.request("current"), "true");
    assert_eq!(holder.request("release"), "released");
}

/// The record identifies the process independent of clocks: pid, start since boot, boot.
#[test]
fn clock_jump_neither_evicts_nor_blocks() {
    let day = Duration::from_secs(24 * 3600);
    for time in [SystemTime::now() + day, SystemTime::now() - day, SystemTime::UNIX_EPOCH] {
        let place = Place::new();
        let mut holder = Participant::holding(place.path());
        set_modified(place.path(), time);
        assert_eq!(outcome(&place.try_acquire()), refused_by(holder.pid()));
        holder.kill();
        assert_eq!(outcome(&place.try_acquire()), reclaimed_from(holder.pid()));
    }
}

#[test]
#[cfg(unix)]
fn started_command_never_prolongs_the_lock() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    assert_eq!(holder.request("spawn-cat"), "spawned");
    holder.kill();
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(holder.pid()));
    holder.dismiss();
}

#[test]
#[cfg(unix)]
fn passed_lock_lives_as_long_as_the_command() {
    use std::os::fd::AsRawFd;
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    assert_eq!(holder.request("pass-to-cat"), "spawned");
    assert_eq!(outcome(&place.try_acquire()), refused_by(holder.pid()));
    holder.kill();
    let gone = format!("refused, HolderExited, pid {}", holder.pid());
    let refused = place.try_acquire();
    assert_eq!(outcome(&refused), gone);
    #[cfg(target_os = "linux")]
    names_the_command_that_has_its_lock(&refused.expect_err("it is locked"), holder.pid());

    let file = File::open(place.path()).expect("the lock file exists");
    holder.dismiss();
    // The command is not a child of this process: the kernel lock that it frees shows its end.
    // SAFETY: the file is open. This waits for the command, whose input has ended.
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0);
    // SAFETY: likewise.
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) }, 0);
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(holder.pid()));
}

#[cfg(target_os = "linux")]
fn names_the_command_that_has_its_lock(error: &portlock::AcquireError, recorded: u32) {
    let &[command] = error.held().expect("it is held").locked_by.as_slice() else {
        panic!("one process has its lock: {error:?}");
    };
    let name = std::fs::read_to_string(format!("/proc/{command}/comm")).expect("it lives");
    assert_eq!(name.trim(), "cat");
    let message = error.to_string();
    let words = format!("the recorded process, pid {recorded} (processes-",);
    assert!(message.contains(&words), "{message}");
    let words = format!(", is gone, but its lock is still held by pid {command} ");
    assert!(message.contains(&words), "{message}");
    assert_eq!(error.next_step(), format!("wait for pid {command} to end, or stop it"));
}

/// A waiter and a reader also have the lock file open, but only the recorded process's child has
/// the lock.
#[test]
#[cfg(target_os = "linux")]
fn refusal_names_only_processes_that_share_the_lock() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    assert_eq!(holder.request("pass-to-cat"), "spawned");
    let _waiter = Participant::waiting(place.path());
    let _reader = File::open(place.path()).expect("the lock file exists");
    let mut reader = std::process::Command::new("cat");
    reader.stdin(std::process::Stdio::piped());
    let mut reader = {
        use std::os::unix::process::CommandExt;
        let file = File::open(place.path()).expect("the lock file exists");
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        // SAFETY: the closure makes one async-signal-safe call on a descriptor that is open.
        unsafe {
            reader.pre_exec(move || {
                (libc::fcntl(fd, libc::F_SETFD, 0) == 0)
                    .then_some(())
                    .ok_or(std::io::Error::last_os_error())
            })
        };
        reader.spawn().expect("cat starts")
    };
    holder.kill();
    let refused = place.try_acquire().expect_err("its child has the lock");
    names_the_command_that_has_its_lock(&refused, holder.pid());
    drop(reader.stdin.take());
    reader.wait().expect("it ends");
}
