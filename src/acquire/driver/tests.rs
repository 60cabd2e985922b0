#[cfg(feature = "tokio")]
use std::cell::Cell;
#[cfg(feature = "tokio")]
use std::io::{Read, Write};
#[cfg(feature = "tokio")]
use std::os::unix::net::UnixStream;
use std::time::SystemTime;

use super::*;
use crate::protocol::LockingCreated;
use crate::protocol::{Create, FileSystem, LockReply, OpenReply};
use crate::sys::forked::{Child, in_a_child};
#[cfg(feature = "tokio")]
use crate::sys::forked::{FORKS, alone};

fn in_a_new_directory() -> (tempfile::TempDir, Lock) {
    let home = tempfile::tempdir().expect("a directory");
    let lock = Lock::at(home.path().join("x.lock"));
    (home, lock)
}

fn in_an_hour() -> WaitOptions<'static> {
    WaitOptions::new().timeout(Duration::from_secs(3600))
}

fn in_a_thread<'a>(lock: &'a Lock, options: WaitOptions<'a>) -> Step<'a> {
    Driver::waiting(lock, options, Waiter::Thread).go_on()
}

/// Whether it waits for an event at the file, and not for its turn.
fn is_at_the_file(step: &Step<'_>) -> bool {
    match step {
        Step::Listen(_) => true,
        Step::Queue(_) => false,
        other => panic!("{other:?}"),
    }
}

fn goes_on(step: Step<'_>) -> Step<'_> {
    match step {
        Step::Sleep(driver, _) | Step::Queue(driver) => driver.tried_again(),
        other => panic!("{other:?}"),
    }
}

fn acquired(step: Step<'_>) -> Guard {
    let Step::Ended(Ok(guard)) = step else { panic!("{step:?}") };
    guard
}

#[test]
fn timed_threads_contend_in_turn() {
    let (_home, lock) = in_a_new_directory();
    let held = lock.try_acquire().expect("free");
    let first = in_a_thread(&lock, in_an_hour());
    assert!(is_at_the_file(&first));
    let mut second = in_a_thread(&lock, in_an_hour());
    assert!(!is_at_the_file(&second));
    second = goes_on(second);
    assert!(!is_at_the_file(&second));
    drop(first);
    second = goes_on(second);
    assert!(is_at_the_file(&second));
    // A thread that may be cancelled is woken at the file alone.
    let token = crate::CancelToken::new().expect("two descriptors");
    assert!(is_at_the_file(&in_a_thread(&lock, in_an_hour().cancel_token(&token))));
    drop(held);
}

#[test]
fn an_endless_wait_queues_as_well() {
    let (_home, lock) = in_a_new_directory();
    let held = lock.try_acquire().expect("free");
    let first = Ticket::join(lock.shared_path(), Waiter::Thread);
    let second = in_a_thread(&lock, WaitOptions::new());
    assert!(!is_at_the_file(&second));
    // With the lock held it would block now.
    drop((first, held));
    drop(acquired(goes_on(second)));
}

/// A lock that is held by something without a kernel lock: an agent of the old format.
fn held_by_an_agent() -> (tempfile::TempDir, Lock, Child) {
    let (home, lock) = in_a_new_directory();
    let agent = Child::running(|| process::pid().to_ne_bytes().to_vec());
    let pid = u32::from_ne_bytes(agent.said.clone().try_into().expect("a pid"));
    #[expect(clippy::disallowed_methods, reason = "an agent's own file, of now")]
    let started = humantime::format_rfc3339_millis(SystemTime::now());
    let record = format!("{{\"pid\":{pid},\"port\":5338,\"startedAt\":\"{started}\"}}");
    #[expect(clippy::disallowed_methods, reason = "as above")]
    std::fs::write(lock.path(), record).expect("the agent's file");
    (home, lock, agent)
}

/// How many looks it takes a waiter, at the least, to let a second pass.
fn looks_in_a_second(mut step: Step<'_>) -> usize {
    let (mut looks, mut passed) = (0, Duration::ZERO);
    while passed < Duration::from_secs(1) {
        let Step::Sleep(driver, pause) = step else { panic!("{step:?}") };
        (looks, passed) = (looks + 1, passed + pause);
        step = driver.tried_again();
    }
    looks
}

#[test]
fn holder_without_kernel_lock_is_polled_with_backoff() {
    let (_home, lock, _agent) = held_by_an_agent();
    for options in [WaitOptions::new(), in_an_hour()] {
        let looks = looks_in_a_second(in_a_thread(&lock, options));
        // A hundred a second, or two hundred by the jitter, and some short ones at first.
        assert!(looks <= 220, "{looks} looks");
    }
}

/// It passes by itself, but is not tried more often for that than a holder is.
#[test]
fn file_being_created_is_polled_with_backoff() {
    let (_home, lock) = in_a_new_directory();
    #[expect(clippy::disallowed_methods, reason = "a creator's file, of now")]
    let _file = std::fs::File::create(lock.path()).expect("creates");
    let looks = looks_in_a_second(in_a_thread(&lock, in_an_hour()));
    assert!(looks <= 220 + crate::acquire::backoff::TRIES as usize, "{looks} looks");
}

#[test]
fn waiters_behind_one_that_polls_are_parked() {
    let (_home, lock, _agent) = held_by_an_agent();
    let first = in_a_thread(&lock, in_an_hour());
    assert!(matches!(first, Step::Sleep(..)), "{first:?}");
    let second = in_a_thread(&lock, in_an_hour());
    assert!(!is_at_the_file(&second));
}

/// A child that outlived its parent, and has inherited the lock.
#[test]
fn waiters_behind_an_orphaned_lock_are_parked() {
    let (_home, lock) = in_a_new_directory();
    let mut dead = LockFile::new(lock.shared_path(), {
        let gone = in_a_child(|| process::pid().to_ne_bytes().to_vec());
        let mut record = lock.record();
        record.pid = u32::from_ne_bytes(gone.try_into().expect("a pid"));
        record
    });
    assert_eq!((dead.create(), dead.lock()), (Create::Created, LockReply::Ours));
    assert_eq!(dead.write(), crate::protocol::Done::Done);
    let first = in_a_thread(&lock, in_an_hour());
    assert!(is_at_the_file(&first));
    let second = in_a_thread(&lock, in_an_hour());
    assert!(!is_at_the_file(&second));
}

/// A driver that is about to unlink the file of a dead creator.
fn before_the_unlink(lock: &Lock) -> Driver<'_> {
    crate::sys::left_by_a_dead_creator(lock.path());
    let mut driver = Driver::waiting(lock, in_an_hour(), Waiter::Thread);
    while !matches!(driver.state, Acquire::Unlinking(_)) {
        driver.state = driver.after(driver.state);
    }
    driver
}

#[test]
fn lock_released_since_is_not_reclaimed() {
    let (_home, lock) = in_a_new_directory();
    let mut driver = before_the_unlink(&lock);
    while driver.state != Acquire::START {
        driver.state = driver.after(driver.state);
    }
    assert!(driver.reclaimed.is_some());
    let other = lock.try_acquire().expect("the dead one's file is gone");
    let step = driver.go_on();
    assert!(is_at_the_file(&step));
    other.release().expect("in order");
    let Step::Listen(driver) = step else { unreachable!("as above") };
    let guard = acquired(driver.listened());
    assert_eq!(guard.recovered_from(), None);
}

/// Another participant removed the file of the dead holder first.
#[test]
fn unlink_that_found_nothing_recovers_from_no_holder() {
    let (_home, lock) = in_a_new_directory();
    let mut driver = before_the_unlink(&lock);
    #[expect(clippy::disallowed_methods, reason = "as another participant does")]
    std::fs::remove_file(lock.path()).expect("removes");
    driver.state = driver.after(driver.state);
    assert_eq!(driver.reclaimed, None);
    assert_eq!(acquired(goes_on(driver.go_on())).recovered_from(), None);
}

#[test]
fn refusal_for_a_changed_file_names_no_holder() {
    let (_home, lock) = in_a_new_directory();
    let _guard = lock.try_acquire().expect("free");
    let mut file = LockFile::new(lock.shared_path(), lock.record());
    assert_eq!((file.open(), file.read()), (OpenReply::Opened, crate::protocol::ReadReply::Record));
    let named = |reason| Lock::known_holder(&file, reason).is_some();
    assert!(named(Refusal::Holder) && named(Refusal::Unknown(UnknownReason::CannotProbe)));
    for reason in [UnknownReason::Contended, UnknownReason::BeingCreated, UnknownReason::Unreadable]
    {
        assert!(!named(Refusal::Unknown(reason)), "{reason:?}");
    }
}

/// The exit of the process would wait for it.
#[test]
fn waiter_at_a_file_holds_no_exit_off() {
    let (_home, lock) = in_a_new_directory();
    let _held = lock.try_acquire().expect("free");
    let Step::Listen(waits) = in_a_thread(&lock, in_an_hour()) else { panic!("it waits") };
    assert!(waits.within.is_none());
}

/// A driver whose newly created file another participant took for an old one and locked, for that
/// instant.
fn with_a_created_file(lock: &Lock) -> Driver<'_> {
    let mut driver = Driver::waiting(lock, WaitOptions::new(), Waiter::Task);
    assert_eq!(driver.file.create(), Create::Created);
    let mut other = LockFile::new(lock.path().to_owned(), lock.record());
    assert_eq!((other.open(), other.lock()), (OpenReply::Opened, LockReply::Ours));
    driver.state = driver.after(Acquire::LockingCreated(LockingCreated));
    other.close();
    assert_eq!(driver.state, Acquire::Pausing(Pausing::Created));
    driver
}

#[test]
fn exit_withdraws_the_file_of_a_paused_acquire() {
    let (home, lock) = in_a_new_directory();
    let said = in_a_child(|| {
        let Step::Sleep(driver, _) = with_a_created_file(&lock).go_on() else {
            return b"no pause".to_vec();
        };
        exit::at_exit();
        let Step::Ended(Err(error)) = driver.tried_again() else { return b"goes on".to_vec() };
        format!("{error:#}").into_bytes()
    });
    let said = String::from_utf8(said).expect("text");
    assert!(said.contains("this process is exiting"), "{said}");
    assert_eq!(std::fs::read_dir(home.path()).expect("it is there").count(), 0);
}

/// A driver that pauses with a file that it has created, and what its copy in a child that was
/// forked then returns once the parent holds the lock.
#[cfg(feature = "tokio")]
fn in_a_childs_copy(
    lock: &Lock,
    fork: fn() -> libc::pid_t,
    part: fn(Driver<'_>) -> String,
) -> (Guard, String) {
    let pending = Cell::new(Some(with_a_created_file(lock).go_on()));
    let paused = || match pending.take() {
        Some(Step::Sleep(driver, _)) => driver,
        other => panic!("{other:?}"),
    };
    let (begin, begun) = UnixStream::pair().expect("a pair");
    let child = Child::starting(fork, || {
        (&begun).read_exact(&mut [0]).expect("its parent says so");
        part(paused()).into_bytes()
    });
    let guard = acquired(paused().tried_again());
    (&begin).write_all(&[0]).expect("the child reads");
    (guard, String::from_utf8(child.answer().said.clone()).expect("text"))
}

#[cfg(feature = "tokio")]
#[test]
fn copy_in_a_forked_child_is_inert() {
    alone("acquire::driver::tests::copy_in_a_forked_child_is_inert", || {
        for &fork in FORKS {
            let (_home, lock) = in_a_new_directory();
            let (guard, said) = in_a_childs_copy(&lock, fork, |copy| {
                copy.give_up();
                "given up".to_owned()
            });
            assert_eq!(said, "given up");
            assert!(guard.is_still_held().expect("looks"), "the child removed its parent's file");
            assert!(lock.try_acquire().is_err());
        }
    });
}

/// As another participant: its parent holds the lock.
#[cfg(feature = "tokio")]
#[test]
fn continued_copy_in_a_forked_child_waits() {
    alone("acquire::driver::tests::continued_copy_in_a_forked_child_waits", || {
        for &fork in FORKS {
            let (_home, lock) = in_a_new_directory();
            let (guard, said) = in_a_childs_copy(&lock, fork, |copy| match copy.tried_again() {
                Step::Listen(copy) => format!("waits as {}", copy.file.record().pid),
                other => format!("{other:?}"),
            });
            assert!(said.starts_with("waits as "), "{said}");
            assert_ne!(said, format!("waits as {}", process::pid()));
            assert!(guard.is_still_held().expect("looks"));
        }
    });
}

#[cfg(feature = "tokio")]
mod tasks {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;
    use crate::acquire::async_acquire::driven;

    #[test]
    fn queued_task_is_pending_until_its_turn() {
        let (_home, lock) = in_a_new_directory();
        let _held = lock.try_acquire().expect("free");
        let front = Ticket::join(lock.shared_path(), Waiter::Task);
        let step = Driver::waiting(&lock, WaitOptions::new(), Waiter::Task).go_on();
        let Step::Queue(mut queued) = step else { panic!("{step:?}") };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let mut turn = pin!(queued.queue_in_task());
            assert!(poll_fn(|cx| Poll::Ready(turn.as_mut().poll(cx))).await.is_pending());
            drop(front);
            assert!(poll_fn(|cx| Poll::Ready(turn.as_mut().poll(cx))).await.is_ready());
        });
    }

    #[test]
    fn a_dropped_task_withdraws_the_file_it_created() {
        let (home, lock) = in_a_new_directory();
        let left = || std::fs::read_dir(home.path()).expect("it is there").count();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let step = with_a_created_file(&lock).go_on();
            let mut acquire = Box::pin(driven(step));
            assert!(poll_fn(|cx| Poll::Ready(acquire.as_mut().poll(cx))).await.is_pending());
            assert_eq!(left(), 1);
        });
        assert_eq!(left(), 0);
        // The control: this is what a driver would leave that gave up nothing.
        drop(with_a_created_file(&lock));
        assert_eq!(left(), 1);
    }
}
