//! Real threads and real processes: exclusion, witnessed by something that is not this crate, and
//! every way for a holder to end or for its file to be lost.
//!
//! Nothing here sleeps. Barriers start contenders together, and a participant's answer says that an
//! order was carried out.

#![cfg(unix)]
#![allow(unsafe_code)]

mod participant;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, SystemTime};

use portlock::{AcquireError, Guard, Lock, Refusal, ReleaseError, Status, Unsure};

use participant::{Participant, cleared, ending, not_checked, outcome};

/// No process ever has this number: Linux ends at 2^22, the others below that.
const NOBODY: u32 = 2_147_483_646;

struct Place {
    dir: tempfile::TempDir,
    lock: Lock,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = Lock::at(dir.path().join("x.lock"));
        Self { dir, lock }
    }

    fn path(&self) -> &Path {
        self.lock.path()
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).expect("the lock file stands")
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(self.dir.path()).expect("the directory stands").next().is_none()
    }

    fn try_acquire(&self) -> Result<Guard, AcquireError> {
        self.lock.try_acquire()
    }
}

fn old_record(pid: u32, started: SystemTime) -> String {
    let started = humantime::format_rfc3339_millis(started);
    format!("{{\"pid\":{pid},\"port\":5338,\"startedAt\":\"{started}\"}}")
}

fn as_root() -> bool {
    // SAFETY: geteuid only returns a number.
    unsafe { libc::geteuid() == 0 }
}

fn refused_by(pid: u32) -> String {
    format!("refused, held by pid {pid}")
}

fn reclaimed_from(pid: u32) -> String {
    format!("held, reclaimed from pid {pid}")
}

// ---- exclusion ----------------------------------------------------------------------------------

#[test]
fn of_two_threads_that_start_together_exactly_one_holds() {
    const ROUNDS: usize = 5_000;
    let place = Place::new();
    let barrier = Barrier::new(2);
    // The witness: how many are between an acquire and its release, by their own account.
    let (inside, together) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // A thread that panicked would leave the other one waiting at the barrier.
    let contend = || {
        let mut told = Vec::new();
        for _ in 0..ROUNDS {
            barrier.wait();
            let attempt = place.try_acquire();
            if attempt.is_ok() {
                together.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
            }
            told.push(outcome(&attempt));
            // Nobody releases before both have their answer.
            barrier.wait();
            if let Ok(guard) = attempt {
                inside.fetch_sub(1, SeqCst);
                told.push(ending(&guard.release()).to_owned());
            }
        }
        told
    };
    let told: Vec<String> = std::thread::scope(|threads| {
        let both = [threads.spawn(contend), threads.spawn(contend)];
        both.into_iter().flat_map(|one| one.join().expect("no panic")).collect()
    });
    assert_eq!(together.load(SeqCst), 1, "held at one time");
    let count = |word| told.iter().filter(|said| *said == word).count();
    assert_eq!((count("held"), count("released")), (ROUNDS, ROUNDS));
    let refused = told.iter().filter(|said| *said != "held" && *said != "released");
    let named = refused.filter(|said| is_refused(said, std::process::id())).count();
    println!("{named} of {ROUNDS} refusals name the holder");
    assert!(named > 0);
    assert!(place.is_empty());
}

/// Whether a refusal names the holder (P4). If not, it must say that the holder is not known: the
/// winner may have lost its processor between two calls for longer than the other tries.
fn is_refused(said: &str, holder: u32) -> bool {
    let unknown = ["BeingCreated", "Contended", "RecordedGone"];
    let named = said == refused_by(holder);
    let unnamed = unknown.iter().any(|why| said.starts_with(&format!("refused, {why}, ")));
    assert!(named || unnamed, "{said}");
    named
}

/// The same without the second barrier: releases, creates and refusals overlap.
#[test]
fn threads_that_come_and_go_never_hold_together() {
    const THREADS: usize = 4;
    const ROUNDS: usize = 1_000;
    let place = Place::new();
    let barrier = Barrier::new(THREADS);
    let (inside, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let come_and_go = || {
        barrier.wait();
        let mut held = 0;
        while held < ROUNDS {
            match place.try_acquire() {
                Ok(guard) => {
                    assert_eq!(inside.fetch_add(1, SeqCst), 0, "two threads hold");
                    held += 1;
                    inside.fetch_sub(1, SeqCst);
                    assert_eq!(ending(&guard.release()), "released");
                }
                Err(error) => {
                    assert!(error.is_held(), "{error}");
                    refused.fetch_add(1, SeqCst);
                }
            }
        }
    };
    std::thread::scope(|threads| {
        for _ in 0..THREADS {
            threads.spawn(come_and_go);
        }
    });
    println!("{} acquires, {} refusals", THREADS * ROUNDS, refused.load(SeqCst));
    assert!(place.is_empty());
}

/// The witness is a byte-range lock on another file, which the kernel gives to one process.
#[test]
fn processes_that_come_and_go_and_are_killed_never_hold_together() {
    const ROUNDS: usize = 1_000;
    let place = Place::new();
    let witness = place.beside("witness");
    File::create(&witness).expect("the witness");
    let order = |rounds: usize| {
        format!("contend {rounds} {} {}", witness.display(), place.path().display())
    };
    let mut others = [Participant::start(), Participant::start()];
    let mut killed = [Participant::start(), Participant::start()];
    // These would go on for ever.
    killed.iter_mut().for_each(|one| one.order(&order(usize::MAX)));
    others.iter_mut().for_each(|one| one.order(&order(ROUNDS)));
    let first = others[0].answer();
    assert!(first.starts_with(&format!("held {ROUNDS} times")), "{first}");
    // Wherever they are, in whatever call.
    killed.iter_mut().for_each(Participant::kill);
    let last = others[1].answer();
    assert!(last.starts_with(&format!("held {ROUNDS} times")), "{last}");
    println!("{first}; {last}");
    drop(others);
    let guard = until_held(&place);
    assert_eq!(ending(&guard.release()), "released");
    fs::remove_file(&witness).expect("the witness stands");
    assert!(place.is_empty());
}

/// Nobody else is about, but one may have died between its create and its write: then the lock is
/// free when the grace is over.
fn until_held(place: &Place) -> Guard {
    loop {
        match place.try_acquire() {
            Ok(guard) => return guard,
            attempt => assert_eq!(outcome(&attempt), "refused, BeingCreated, nobody"),
        }
    }
}

#[test]
fn of_several_processes_that_find_a_stale_file_exactly_one_takes_over() {
    const PROCESSES: usize = 4;
    const ROUNDS: usize = 200;
    let place = Place::new();
    let mut contenders: Vec<Participant> = (0..PROCESSES).map(|_| Participant::start()).collect();
    let order = format!("try {}", place.path().display());
    let (mut winners, mut named) = (BTreeMap::new(), 0);
    for round in 0..ROUNDS {
        fs::write(place.path(), old_record(NOBODY, SystemTime::now())).expect("a stale file");
        // All have their order before any has answered, and none releases before all have.
        contenders.iter_mut().for_each(|contender| contender.order(&order));
        let answers: Vec<String> = contenders.iter_mut().map(Participant::answer).collect();
        let held: Vec<usize> =
            (0..PROCESSES).filter(|&one| answers[one].starts_with("held")).collect();
        assert_eq!(held.len(), 1, "round {round}: {answers:?}");
        let winner = held[0];
        *winners.entry(winner).or_insert(0) += 1;
        let losers = (0..PROCESSES).filter(|&one| one != winner);
        let winners_pid = contenders[winner].pid();
        named += losers.filter(|&one| is_refused(&answers[one], winners_pid)).count();
        assert_eq!(contenders[winner].tell("release"), "released");
        assert!(place.is_empty(), "round {round}");
    }
    println!("rounds won, by contender: {winners:?}; {named} refusals name the holder");
    assert!(named > 0);
}

#[test]
fn different_locks_do_not_exclude_one_another() {
    let place = Place::new();
    let guards = ["a", "b", "c"].map(|name| Lock::at(place.beside(name)).try_acquire());
    assert!(guards.iter().all(|guard| guard.is_ok()));
}

#[test]
fn a_guard_can_be_sent_shared_and_kept() {
    fn sendable<T: Send + Sync + 'static>(value: T) -> T {
        value
    }
    let place = Place::new();
    let guard = sendable(place.try_acquire().expect("free"));
    let elsewhere = std::thread::spawn(move || ending(&guard.release()));
    assert_eq!(elsewhere.join().expect("no panic"), "released");
    assert!(place.is_empty());
}

// ---- how holders end ----------------------------------------------------------------------------

#[test]
fn after_kill_9_the_next_acquire_takes_over_at_once_and_names_the_dead() {
    let place = Place::new();
    for _ in 0..20 {
        let mut holder = Participant::holding(place.path());
        assert_eq!(outcome(&place.try_acquire()), refused_by(holder.pid()));
        holder.kill();
        let guard = place.try_acquire().expect("its holder is dead");
        let from = guard.reclaimed().expect("it was reclaimed");
        assert_eq!(from.holder.as_ref().expect("a record").pid, holder.pid());
        assert!(from.to_string().contains(&format!("pid {}", holder.pid())), "{from}");
        assert_eq!(ending(&guard.release()), "released");
        assert!(place.is_empty());
    }
}

#[test]
fn a_lock_that_was_free_was_taken_from_nobody() {
    let place = Place::new();
    assert!(place.try_acquire().expect("free").reclaimed().is_none());
}

#[test]
#[cfg(target_os = "linux")]
fn a_zombie_holder_blocks_nobody() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    holder.kill_and_leave_a_zombie();
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(holder.pid()));
}

#[test]
#[cfg(target_os = "linux")]
fn a_zombie_that_wrote_a_record_of_the_old_format_blocks_nobody() {
    let place = Place::new();
    let mut agent = Participant::start();
    fs::write(place.path(), old_record(agent.pid(), SystemTime::now())).expect("its file");
    assert_eq!(outcome(&place.try_acquire()), refused_by(agent.pid()));
    agent.kill_and_leave_a_zombie();
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(agent.pid()));
}

/// The file is closed on exec, and with it goes the kernel lock; the process lives on. Others are
/// refused, since it may still use what it had locked; itself it may take over from itself.
#[test]
fn a_holder_that_executes_another_program_is_alive_to_others_and_a_leftover_to_itself() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    assert_eq!(holder.tell("execute-itself"), "executed");
    assert_eq!(outcome(&place.try_acquire()), refused_by(holder.pid()));
    assert_eq!(holder.try_acquire(place.path()), reclaimed_from(holder.pid()));
    assert_eq!(outcome(&place.try_acquire()), refused_by(holder.pid()));
    assert_eq!(holder.tell("release"), "released");
    assert!(place.is_empty());
}

#[test]
fn a_holder_that_executed_another_program_and_died_blocks_nobody() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    assert_eq!(holder.tell("execute-itself"), "executed");
    holder.kill();
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(holder.pid()));
}

/// Neither the age of its file nor its silence is a reason (P7).
#[test]
fn a_suspended_holder_is_not_evicted_however_old_its_file() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let pid = i32::try_from(holder.pid()).expect("a pid");
    // SAFETY: a signal to a child of ours that has not been reaped.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGSTOP) }, 0);
    let file = File::options().write(true).open(place.path()).expect("it opens");
    file.set_modified(SystemTime::UNIX_EPOCH).expect("its time is set");
    assert_eq!(outcome(&place.try_acquire()), refused_by(holder.pid()));
    // SAFETY: as above.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGCONT) }, 0);
    assert_eq!(holder.tell("current"), "true");
    assert_eq!(holder.tell("release"), "released");
}

/// The record says who, by what no clock changes: pid, start since boot, boot.
#[test]
fn a_clock_that_jumps_evicts_nobody_and_keeps_nobody_out() {
    let day = Duration::from_secs(24 * 3600);
    for time in [SystemTime::now() + day, SystemTime::now() - day, SystemTime::UNIX_EPOCH] {
        let place = Place::new();
        let mut holder = Participant::holding(place.path());
        let file = File::options().write(true).open(place.path()).expect("it stands");
        file.set_modified(time).expect("as another clock would have it");
        assert_eq!(outcome(&place.try_acquire()), refused_by(holder.pid()));
        holder.kill();
        assert_eq!(outcome(&place.try_acquire()), reclaimed_from(holder.pid()));
    }
}

#[test]
fn a_command_that_the_holder_started_does_not_prolong_the_lock() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    assert_eq!(holder.tell("spawn-cat"), "spawned");
    holder.kill();
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(holder.pid()));
    holder.dismiss();
}

#[test]
fn a_lock_that_was_handed_over_lives_as_long_as_the_command() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    assert_eq!(holder.tell("hand-over-to-cat"), "spawned");
    assert_eq!(outcome(&place.try_acquire()), refused_by(holder.pid()));
    holder.kill();
    let gone = format!("refused, RecordedGone, pid {}", holder.pid());
    let refused = place.try_acquire();
    assert_eq!(outcome(&refused), gone);
    #[cfg(target_os = "linux")]
    names_the_command_that_has_it_open(&refused.expect_err("it is locked"), holder.pid());

    let file = File::open(place.path()).expect("the lock file stands");
    holder.dismiss();
    // The command is no child of ours: its end is seen by the kernel lock that it frees.
    // SAFETY: the file is open. This waits for the command, which has no more input.
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0);
    // SAFETY: likewise.
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) }, 0);
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(holder.pid()));
}

#[cfg(target_os = "linux")]
fn names_the_command_that_has_it_open(error: &AcquireError, recorded: u32) {
    let &[command] = error.held().expect("it is held").open_in.as_slice() else {
        panic!("one process has it open: {error:?}");
    };
    let name = fs::read_to_string(format!("/proc/{command}/comm")).expect("it lives");
    assert_eq!(name.trim(), "cat");
    let message = error.to_string();
    let words = format!("the recorded process, pid {recorded} (processes-",);
    assert!(message.contains(&words), "{message}");
    let words = format!(", is gone, but its lock file is still open in pid {command} ");
    assert!(message.contains(&words), "{message}");
    assert!(message.contains(&format!("wait for pid {command} to end, or stop it")), "{message}");
}

// ---- forks --------------------------------------------------------------------------------------

#[test]
fn a_guard_dropped_or_released_in_a_forked_child_leaves_the_parents_lock_alone() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let before = place.bytes();
    for (order, answer) in [("current", "false"), ("drop", "dropped"), ("release", "forked")] {
        assert_eq!(holder.tell(&format!("in-a-fork {order}")), answer);
        assert_eq!(place.bytes(), before, "after {order} in the child");
        assert_eq!(holder.tell("current"), "true");
        // The kernel lock is the parent's still: nobody takes a free lock for held.
        assert!(is_locked(place.path()), "after {order} in the child");
        assert_eq!(outcome(&place.try_acquire()), refused_by(holder.pid()));
    }
    assert_eq!(holder.tell("release"), "released");
    assert!(place.is_empty());
}

#[test]
fn a_forked_child_that_acquires_is_another_participant() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let order = format!("in-a-fork try {}", place.path().display());
    assert_eq!(holder.tell(&order), refused_by(holder.pid()));
    assert_eq!(holder.tell("current"), "true");
}

/// Whether somebody has the kernel lock, found out by trying it: no query of this crate.
fn is_locked(path: &Path) -> bool {
    let file = File::open(path).expect("the lock file opens");
    // SAFETY: flock on a number; the file is open.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) != 0 }
}

// ---- a file that is lost ------------------------------------------------------------------------

#[test]
fn a_holder_notices_that_its_file_was_removed_and_its_release_says_so() {
    let place = Place::new();
    let guard = place.try_acquire().expect("free");
    assert!(guard.is_current().expect("it can be looked at"));
    fs::remove_file(place.path()).expect("a person removes it");
    assert!(!guard.is_current().expect("it can be looked at"));
    match guard.release() {
        Err(ReleaseError::Lost { path, .. }) => assert_eq!(path, place.path()),
        other => panic!("{other:?}"),
    }
    assert!(place.is_empty());
}

#[test]
fn a_holder_whose_file_was_replaced_removes_nothing_of_its_successors() {
    let place = Place::new();
    let guard = place.try_acquire().expect("free");
    fs::remove_file(place.path()).expect("a person removes it");
    let mut successor = Participant::holding(place.path());
    let before = place.bytes();
    assert!(!guard.is_current().expect("it can be looked at"));
    drop(guard);
    assert_eq!(place.bytes(), before);
    assert_eq!(successor.tell("current"), "true");
    assert_eq!(successor.tell("release"), "released");
}

#[test]
fn a_lock_directory_that_was_removed_under_its_holder_is_noticed_and_made_again() {
    let place = Place::new();
    let lock = Lock::at(place.beside("d/x.lock"));
    let guard = lock.try_acquire().expect("free");
    fs::remove_dir_all(place.beside("d")).expect("a cleaner removes it");
    assert!(!guard.is_current().expect("it can be looked at"));
    let next = lock.try_acquire().expect("free");
    assert_eq!(ending(&guard.release()), "lost");
    assert!(next.is_current().expect("it can be looked at"));
}

// ---- what is no lock file -----------------------------------------------------------------------

/// Refused as `found`, and still what it was; nothing else appeared in the directory.
fn is_left_alone(place: &Place, found: &str) {
    let before = fs::symlink_metadata(place.path()).expect("it stands");
    let entries = fs::read_dir(place.dir.path()).expect("the directory stands").count();
    let attempt = place.try_acquire();
    assert_eq!(outcome(&attempt), format!("not a lock file, {found}"));
    let message = attempt.expect_err("refused").to_string();
    assert!(message.contains(&place.path().display().to_string()), "{message}");
    assert!(matches!(place.lock.status(), Err(AcquireError::NotALockFile { .. })));
    let after = fs::symlink_metadata(place.path()).expect("it stands");
    assert_eq!((before.ino(), before.mode()), (after.ino(), after.mode()));
    assert_eq!(fs::read_dir(place.dir.path()).expect("the directory stands").count(), entries);
}

#[test]
fn a_symbolic_link_is_neither_followed_nor_replaced() {
    let place = Place::new();
    let target = place.beside("target");
    // What a stale lock file looks like: it would be reclaimed if it stood at the path itself.
    fs::write(&target, old_record(NOBODY, SystemTime::now())).expect("the target");
    std::os::unix::fs::symlink(&target, place.path()).expect("the link");
    let opens = Opens::of(&target);
    is_left_alone(&place, "a symbolic link");
    opens.assert_none(|| drop(File::open(&target)));
    assert_eq!(fs::read_link(place.path()).expect("a link"), target);
}

#[test]
fn a_dangling_symbolic_link_creates_nothing_at_its_target() {
    let place = Place::new();
    let target = place.beside("target");
    std::os::unix::fs::symlink(&target, place.path()).expect("the link");
    is_left_alone(&place, "a symbolic link");
    assert!(!target.exists());
}

#[test]
fn a_directory_is_left_alone() {
    let place = Place::new();
    fs::create_dir(place.path()).expect("the directory");
    is_left_alone(&place, "a directory");
}

/// An open for reading would wake a writer that waits, and one for both would read its data.
#[test]
fn a_fifo_is_not_opened_and_blocks_nobody() {
    let place = Place::new();
    make_node(place.path(), libc::S_IFIFO, 0).expect("the FIFO");
    let opens = Opens::of(place.path());
    is_left_alone(&place, "a FIFO");
    opens.assert_none(|| drop(open_both_ways(place.path())));
}

#[test]
fn a_socket_is_left_alone() {
    let place = Place::new();
    let listener = std::os::unix::net::UnixListener::bind(place.path()).expect("the socket");
    is_left_alone(&place, "a socket");
    listener.set_nonblocking(true).expect("it can be asked");
    assert_eq!(
        listener.accept().expect_err("nobody connects").kind(),
        std::io::ErrorKind::WouldBlock
    );
}

#[test]
fn a_device_is_left_alone() {
    let place = Place::new();
    // The null device.
    if let Err(error) = make_node(place.path(), libc::S_IFCHR, libc::makedev(1, 3)) {
        return not_checked(&format!("no device can be made here ({error}); it takes root"));
    }
    let kind = fs::symlink_metadata(place.path()).expect("it stands").file_type();
    assert!(kind.is_char_device());
    let opens = Opens::of(place.path());
    is_left_alone(&place, "a device");
    opens.assert_none(|| drop(open_both_ways(place.path())));
}

fn make_node(path: &Path, kind: libc::mode_t, device: libc::dev_t) -> std::io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: the path is a C string.
    match unsafe { libc::mknod(path.as_ptr(), kind | 0o600, device) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn open_both_ways(path: &Path) -> std::io::Result<File> {
    File::options().read(true).write(true).open(path)
}

/// Sees every open of one file, by whomever (Linux: inotify). Elsewhere it sees nothing.
struct Opens {
    #[cfg(target_os = "linux")]
    events: File,
}

#[cfg(target_os = "linux")]
impl Opens {
    fn of(path: &Path) -> Self {
        use std::os::fd::FromRawFd;
        let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
        // SAFETY: the path is a C string, and the descriptor is new and nobody else's.
        let events = unsafe {
            let events = libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC);
            assert!(events >= 0, "{}", std::io::Error::last_os_error());
            assert!(libc::inotify_add_watch(events, path.as_ptr(), libc::IN_OPEN) >= 0);
            File::from_raw_fd(events)
        };
        Self { events }
    }

    /// Nobody has opened it; `control` does, and is seen.
    fn assert_none(mut self, control: impl FnOnce()) {
        assert!(!self.any(), "it was opened");
        control();
        assert!(self.any(), "an open is seen");
    }

    fn any(&mut self) -> bool {
        use std::io::Read;
        self.events.read(&mut [0; 4096]).is_ok()
    }
}

#[cfg(not(target_os = "linux"))]
impl Opens {
    fn of(_: &Path) -> Self {
        not_checked("whether it was opened cannot be seen on this system");
        Self {}
    }

    fn assert_none(self, _: impl FnOnce()) {}
}

/// S15: the original took `EACCES` for corruption and stole the live lock.
#[test]
fn s15_a_file_of_another_user_that_may_not_be_opened_is_an_error_and_is_not_stolen() {
    let place = Place::new();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o777)).expect("open to all");
    let mut other = Participant::start();
    let guard = place.try_acquire().expect("free");
    let before = place.bytes();
    if as_root() {
        assert_eq!(other.tell("become-user 65534"), "done");
    } else {
        // Not another user's, and as little to be opened.
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o000))
            .expect("closed to all");
    }
    assert_eq!(other.try_acquire(place.path()), "failed, Open, PermissionDenied");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o600)).expect("ours again");
    assert!(guard.is_current().expect("it can be looked at"));
    assert_eq!(place.bytes(), before);
}

#[test]
fn a_file_that_may_only_be_read_is_judged_all_the_same() {
    let place = Place::new();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o777)).expect("open to all");
    let mut other = Participant::start();
    let guard = place.try_acquire().expect("free");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o444)).expect("readable");
    if as_root() {
        assert_eq!(other.tell("become-user 65534"), "done");
    }
    assert_eq!(other.try_acquire(place.path()), refused_by(std::process::id()));
    assert!(guard.is_current().expect("it can be looked at"));
}

#[test]
fn s15_a_directory_that_may_not_be_written_is_an_error_that_names_it() {
    let place = Place::new();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o555)).expect("read only");
    let mut other = Participant::start();
    if as_root() {
        assert_eq!(other.tell("become-user 65534"), "done");
    }
    assert_eq!(other.try_acquire(place.path()), "failed, Create, PermissionDenied");
    assert!(place.is_empty());
}

/// A participant in a directory of its own, which it may not write to from here on.
fn holding_in_a_directory_that_became_read_only(place: &Place) -> Participant {
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o777)).expect("for all");
    let mut holder = Participant::start();
    if as_root() {
        assert_eq!(holder.tell("become-user 65534"), "done");
    }
    assert_eq!(holder.try_acquire(place.path()), "held");
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o555)).expect("read only");
    holder
}

#[test]
fn a_release_that_cannot_remove_its_file_gives_the_guard_back_and_the_lock_is_still_held() {
    let place = Place::new();
    let mut holder = holding_in_a_directory_that_became_read_only(&place);
    assert_eq!(holder.tell("release"), "failed");
    assert_eq!(holder.tell("current"), "true");
    assert_eq!(outcome(&place.try_acquire()), refused_by(holder.pid()));
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o777)).expect("mended");
    assert_eq!(holder.tell("release"), "released");
    assert!(place.is_empty());
}

#[test]
fn a_guard_that_is_dropped_and_cannot_remove_its_file_empties_it_and_lets_go() {
    let place = Place::new();
    let mut holder = holding_in_a_directory_that_became_read_only(&place);
    assert_eq!(holder.tell("release"), "failed");
    assert_eq!(holder.tell("drop"), "dropped");
    assert_eq!(place.bytes(), b"", "nobody is refused in its name");
    assert!(!is_locked(place.path()));
    // A file without a record is taken for a creator's for two seconds, by its time.
    let file = File::options().write(true).open(place.path()).expect("it stands");
    file.set_modified(SystemTime::now() - Duration::from_secs(60)).expect("it grows old");
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o777)).expect("mended");
    assert_eq!(outcome(&place.try_acquire()), "held, reclaimed from nobody");
}

// ---- removals -----------------------------------------------------------------------------------

#[test]
fn a_clear_removes_what_is_provably_stale_and_leaves_what_is_held() {
    let place = Place::new();
    assert_eq!(cleared(&place.lock.clear()), "nothing");
    let mut holder = Participant::holding(place.path());
    let before = visible(place.dir.path());
    let held = format!("refused, Holder, pid {}", holder.pid());
    assert_eq!(cleared(&place.lock.clear()), held);
    assert_eq!(visible(place.dir.path()), before);
    holder.kill();
    assert_eq!(cleared(&place.lock.clear()), format!("cleared of pid {}", holder.pid()));
    assert!(place.is_empty());
}

/// A record of another machine: who wrote it cannot be asked after from here.
#[test]
fn a_forced_clear_removes_the_file_of_the_named_holder_and_of_no_other() {
    let place = Place::new();
    left_by_a_changed_self(&place, &[("boot", "another".into()), ("host", "build-7".into())]);
    let Status::CannotTell { holder: Some(seen), .. } = place.lock.status().expect("it stands")
    else {
        panic!("a holder that cannot be asked after: {:?}", place.lock.status());
    };
    let refused = format!("refused, Unknown(OtherMachine), pid {}", seen.pid);
    assert_eq!(cleared(&place.lock.clear()), refused);
    let mut another = seen.clone();
    another.process_start = Some(1);
    assert_eq!(cleared(&place.lock.force_clear(&another)), refused);
    assert_eq!(cleared(&place.lock.force_clear(&seen)), format!("cleared of pid {}", seen.pid));
    assert!(place.is_empty());
}

#[test]
fn a_forced_clear_never_acts_on_a_file_whose_kernel_lock_is_taken() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let Status::Held { holder: Some(named), .. } = place.lock.status().expect("it stands") else {
        panic!("it is held");
    };
    let held = format!("refused, Holder, pid {}", holder.pid());
    assert_eq!(cleared(&place.lock.force_clear(&named)), held);
    assert_eq!(holder.tell("current"), "true");
}

// ---- records from elsewhere ---------------------------------------------------------------------

/// Our own record, with some of its keys changed, in a file that nobody has locked.
fn left_by_a_changed_self(place: &Place, changes: &[(&str, serde_json::Value)]) {
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

// ---- queries ------------------------------------------------------------------------------------

/// All that others can see of a directory, except when its files were last read.
fn visible(dir: &Path) -> Vec<(PathBuf, u64, u32, u64, SystemTime, Vec<u8>)> {
    let mut entries: Vec<_> = fs::read_dir(dir)
        .expect("the directory stands")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let found = fs::symlink_metadata(&path).expect("it stands");
            let modified = found.modified().expect("a time");
            let bytes = fs::read(&path).expect("it can be read");
            (path, found.ino(), found.mode(), found.nlink(), modified, bytes)
        })
        .collect();
    entries.sort();
    entries
}

#[test]
fn a_query_answers_and_changes_nothing() {
    let place = Place::new();
    let ask = || {
        let before = (visible(place.dir.path()), fs::metadata(place.dir.path()).unwrap().mtime());
        let status = place.lock.status().expect("it can be looked at");
        let after = (visible(place.dir.path()), fs::metadata(place.dir.path()).unwrap().mtime());
        assert_eq!(before, after);
        status
    };
    assert_eq!(ask(), Status::Free);

    let mut holder = Participant::holding(place.path());
    let Status::Held { holder: Some(named), why: Refusal::Holder, .. } = ask() else {
        panic!("it is held: {:?}", ask());
    };
    assert_eq!(named.pid, holder.pid());

    holder.kill();
    match ask() {
        Status::Stale { holder: Some(named), .. } => assert_eq!(named.pid, holder.pid()),
        Status::CannotTell { why: Unsure::CannotWatch, .. } => {
            println!(
                "whether the file is locked cannot be seen here: not the initial pid namespace"
            );
        }
        other => panic!("its holder is dead: {other:?}"),
    }
    // A query takes no lock away from an acquire, and reclaims nothing.
    assert_eq!(outcome(&place.try_acquire()), reclaimed_from(holder.pid()));

    fs::write(place.path(), "").expect("a newborn");
    assert!(matches!(ask(), Status::CannotTell { holder: None, why: Unsure::BeingCreated, .. }));
}

#[test]
fn a_query_in_an_absent_directory_makes_none() {
    let place = Place::new();
    let lock = Lock::at(place.beside("a/b/x.lock"));
    assert_eq!(lock.status().expect("nothing stands there"), Status::Free);
    assert!(place.is_empty());
}

#[test]
fn no_acquire_is_refused_because_somebody_asks() {
    const ACQUIRES: usize = 3_000;
    let place = Place::new();
    let over = AtomicBool::new(false);
    let asked = AtomicUsize::new(0);
    let started = Barrier::new(3);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                started.wait();
                while !over.load(SeqCst) {
                    place.lock.status().expect("it can be looked at");
                    asked.fetch_add(1, SeqCst);
                }
            });
        }
        started.wait();
        // Ends the storm even if an assertion below does not hold.
        let _storm = Ends(&over);
        for _ in 0..ACQUIRES / 2 {
            let attempt = place.try_acquire();
            assert_eq!(outcome(&attempt), "held");
            assert_eq!(ending(&attempt.expect("held").release()), "released");
            // A stale file stands longer, and whoever locks it stops its reclaim.
            fs::write(place.path(), old_record(NOBODY, SystemTime::now())).expect("a stale file");
            let attempt = place.try_acquire();
            assert_eq!(outcome(&attempt), reclaimed_from(NOBODY));
            assert_eq!(ending(&attempt.expect("held").release()), "released");
        }
    });
    println!("{ACQUIRES} acquires among {} queries", asked.load(SeqCst));
    assert!(asked.load(SeqCst) > 0);
    assert!(place.is_empty());
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
