//! Waits for a lock: woken by the release or the death of the holder, or ended by a timeout that
//! leaves no pending acquire.
//!
//! No test sleeps: /proc shows that a waiter watches the file.

#![cfg(target_os = "linux")]

#[path = "tasks/descriptors.rs"]
#[allow(dead_code)]
mod descriptors;
mod participant;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime};

use portlock::{AcquireError, CancelToken, Guard, Lock, Refusal, WaitOptions};

use participant::{
    Participant, Place, must_return, not_checked, outcome, reclaimed_from, runtime,
    until_listening, wait_until,
};

/// Longer than any wait here takes.
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn release_wakes_waiter_with_nothing_recovered() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let mut waiter = Participant::waiting(place.path());
    assert_eq!(holder.request("release"), "released");
    assert_eq!(waiter.answer(), "held");
    assert_eq!(waiter.request("current"), "true");
    assert_eq!(waiter.request("release"), "released");
    assert!(place.is_empty());
}

#[test]
fn death_of_holder_wakes_waiter_and_is_reported() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let mut waiter = Participant::waiting(place.path());
    holder.kill();
    assert_eq!(waiter.answer(), reclaimed_from(holder.pid()));
    assert_eq!(waiter.request("release"), "released");
    assert!(place.is_empty());
}

#[test]
fn waiters_each_acquire_once_exclusively() {
    const WAITERS: usize = 5;
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let waiters: Vec<_> = (0..WAITERS).map(|_| Participant::waiting(place.path())).collect();
    assert_eq!(holder.request("release"), "released");
    each_gets_it(&place, waiters);
}

fn each_gets_it(place: &Place, mut waiters: Vec<Participant>) {
    while !waiters.is_empty() {
        // The refusal names the holder among them, which has answered or will.
        let held = loop {
            if let Some(error) = place.lock.try_acquire().err() {
                let holder = error.held().and_then(|held| held.holder.as_ref());
                let pid = holder.map(|holder| holder.pid);
                if let Some(held) = waiters.iter().position(|one| Some(one.pid()) == pid) {
                    break held;
                }
            }
        };
        let mut holder = waiters.swap_remove(held);
        assert_eq!(holder.answer(), "held");
        assert_eq!(holder.request("current"), "true");
        assert_eq!(holder.request("release"), "released");
        holder.finish();
    }
    assert!(place.is_empty());
}

#[test]
fn waiter_outwaits_command_that_inherited_the_lock() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    assert_eq!(holder.request("pass-to-cat"), "spawned");
    let mut waiter = Participant::waiting(place.path());
    holder.kill();
    // The command has the kernel lock, so the waiter must wait again.
    until_listening(waiter.pid());
    holder.dismiss();
    assert_eq!(waiter.answer(), reclaimed_from(holder.pid()));
}

#[test]
fn killed_waiter_leaves_nothing_and_blocks_no_waiter() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let mut waiter = Participant::waiting(place.path());
    let mut next = Participant::waiting(place.path());
    waiter.kill();
    assert_eq!(holder.request("release"), "released");
    assert_eq!(next.answer(), "held");
    assert_eq!(next.request("release"), "released");
    assert!(place.is_empty());
}

#[test]
fn timeout_reports_holder_and_leaves_nothing_pending() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let mut waiter = Participant::start();
    let order = format!("acquire-within 30 {}", place.path().display());
    assert_eq!(waiter.request(&order), format!("timed out, held by pid {}", holder.pid()));
    assert_eq!(holder.request("release"), "released");
    // The waiter is alive after its timeout, and the lock is free for all.
    assert!(place.is_empty());
    assert_eq!(outcome(&place.lock.try_acquire()), "held");
    assert_eq!(waiter.try_acquire(place.path()), "held");
}

#[test]
fn acquire_within_the_timeout_succeeds() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let mut waiter = Participant::start();
    waiter.order(&format!("acquire-within 3600000 {}", place.path().display()));
    assert_eq!(holder.request("release"), "released");
    assert_eq!(waiter.answer(), "held");
}

/// A waiter with a limit of an hour, which has the file watched.
fn listening(place: &Place) -> Participant {
    listening_by("acquire-within 3600000", place)
}

fn listening_by(order: &str, place: &Place) -> Participant {
    let mut waiter = Participant::start();
    waiter.order(&format!("{order} {}", place.path().display()));
    until_listening(waiter.pid());
    waiter
}

#[test]
fn timed_waiter_acquires_after_release_or_death() {
    for _ in 0..20 {
        let place = Place::new();
        let mut holder = Participant::holding(place.path());
        let mut waiter = listening(&place);
        assert_eq!(holder.request("release"), "released");
        assert_eq!(waiter.answer(), "held");

        let mut next = listening(&place);
        waiter.kill();
        assert_eq!(next.answer(), reclaimed_from(waiter.pid()));
        assert_eq!(next.request("release"), "released");
        assert!(place.is_empty());
    }
}

#[test]
fn timed_waiters_each_acquire_once_exclusively() {
    const WAITERS: usize = 5;
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let waiters: Vec<_> = (0..WAITERS).map(|_| listening(&place)).collect();
    assert_eq!(holder.request("release"), "released");
    each_gets_it(&place, waiters);
}

#[test]
fn mixed_waiters_each_acquire_once_exclusively() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let mut waiters = Vec::new();
    for _ in 0..2 {
        waiters.push(Participant::waiting(place.path()));
        waiters.push(listening(&place));
        waiters.push(listening_by("acquire-in-a-task", &place));
    }
    // A killed waiter of any kind blocks no other one.
    Participant::waiting(place.path()).kill();
    listening_by("acquire-in-a-task", &place).kill();
    assert_eq!(holder.request("release"), "released");
    each_gets_it(&place, waiters);
}

/// The kernel limits the number of queues for each user (`max_user_instances`).
#[test]
fn waiter_without_a_watch_polls_and_acquires() {
    for order in ["acquire-within 3600000", "acquire-in-a-task"] {
        without_a_watch(order);
    }
}

fn without_a_watch(order: &str) {
    let place = Place::new();
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(place.dir.path(), open).expect("open to all");
    let mut waiter = Participant::start();
    // A user id for this test process only: a concurrent test would use up the same queues.
    let become_user = format!("become-user {}", 20_000 + std::process::id() % 40_000);
    let became = waiter.request(&become_user);
    if became != "done" {
        // Without another user the queues of the current one would be used up.
        return not_checked(&format!("a wait without watches: {became}"));
    }
    let taken: usize = waiter.request("take-all-watches").parse().expect("a number");
    assert!(taken > 0);
    let mut holder = Participant::start();
    assert_eq!(holder.request(&become_user), "done");
    assert_eq!(holder.try_acquire(place.path()), "held");
    waiter.order(&format!("{order} {}", place.path().display()));
    assert_eq!(holder.request("release"), "released");
    assert_eq!(waiter.answer(), "held");
    assert_eq!(waiter.request("take-all-watches"), "0", "no queue became free");
}

fn until(token: &CancelToken) -> WaitOptions<'static> {
    WaitOptions::new().cancel_token(token)
}

#[test]
fn cancelled_acquire_reports_holder_and_leaves_nothing_pending() {
    let place = Place::new();
    let holder = Participant::holding(place.path());
    let cancel = CancelToken::new().expect("two descriptors");
    let ended = std::thread::scope(|threads| {
        let waits = threads.spawn(|| place.lock.acquire_with(until(&cancel).timeout(MINUTE)));
        until_listening(std::process::id());
        cancel.cancel();
        waits.join().expect("no panic")
    });
    assert_eq!(outcome(&ended), format!("cancelled, held by pid {}", holder.pid()));
    let message = ended.expect_err("cancelled").to_string();
    assert!(message.starts_with("stopped waiting: "), "{message}");
    drop(holder);
    assert!(outcome(&place.lock.try_acquire()).starts_with("held, reclaimed from"));

    // Cancelled before: one try, and no wait.
    let guard = place.lock.acquire_with(until(&cancel)).expect("free");
    let error = place.lock.acquire_with(until(&cancel)).expect_err("it is held");
    assert!(matches!(&error, AcquireError::Cancelled { held, .. }
        if held.holder.as_ref() == Some(guard.holder())));
}

#[test]
fn unused_cancel_token_leaves_the_timeout() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let (readable, writable) = UnixStream::pair().expect("a pair");
    let cancel = CancelToken::from_fd(readable);
    let limit = Duration::from_millis(20);
    let timed_out = place.lock.acquire_with(until(&cancel).timeout(limit));
    assert_eq!(outcome(&timed_out), format!("timed out, held by pid {}", holder.pid()));
    assert!(!cancel.is_cancelled());
    assert_eq!(holder.request("release"), "released");
    assert_eq!(outcome(&place.lock.acquire_with(until(&cancel).timeout(limit))), "held");
    drop(writable);
    // A child that another test has just forked has its other end open, until its exec.
    wait_until("its other end is closed", || cancel.is_cancelled());
}

#[test]
fn guard_keeps_no_descriptor_of_its_token() {
    let place = Place::new();
    let (readable, mut writable) = UnixStream::pair().expect("a pair");
    let token = CancelToken::from_fd(readable);
    let _guard = place.lock.acquire_with(until(&token)).expect("free");
    drop(token);
    writable.set_nonblocking(true).expect("a socket");
    // A child that another test has just forked has the token open, until its exec.
    wait_until("no descriptor of the token is open", || {
        writable.write(&[0]).is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    });
}

/// The number of sleeping threads of this process with this name.
fn asleep(name: &str) -> usize {
    let sleeping = format!("({name}) S ");
    let tasks = fs::read_dir("/proc/self/task").expect("/proc is there").flatten();
    let stats = tasks.flat_map(|task| fs::read_to_string(task.path().join("stat")));
    stats.filter(|stat| stat.contains(&sleeping)).count()
}

#[test]
fn only_first_of_200_threads_contends_for_file() {
    const THREADS: usize = 200;
    const NAME: &str = "queued";
    let place = Place::new();
    let held = place.lock.try_acquire().expect("free");
    let take_part = |number: usize| {
        let acquired = match number % 2 {
            0 => place.lock.acquire(),
            _ => place.lock.acquire_timeout(Duration::from_secs(3600)),
        };
        let guard = acquired.expect("nothing failed");
        let alone = place.sibling("alone");
        File::create_new(&alone).expect("one at a time");
        fs::remove_file(&alone).expect("one at a time");
        guard.release().expect("held until then");
    };
    let take_part = &take_part;
    let open = std::thread::scope(|scope| {
        for number in 0..THREADS {
            let thread = std::thread::Builder::new().name(NAME.into()).stack_size(256 << 10);
            thread.spawn_scoped(scope, move || take_part(number)).expect("a thread");
        }
        // In the queue, or at the file. Checked twice, because a thread may be awake for a moment.
        wait_until("all threads sleep", || (0..2).all(|_| asleep(NAME) == THREADS));
        let (open, _) = descriptors::open_and_watched(place.path());
        held.release().expect("held until then");
        open
    });
    // The holder, the first waiter, and some that recheck, as each does once a second.
    assert!((2..10).contains(&open), "{open} have it open");
    assert!(place.is_empty());
}

#[test]
fn zero_timeout_is_a_try_and_max_unlimited() {
    let place = Place::new();
    let guard = place.lock.acquire_timeout(Duration::MAX).expect("free");
    let error = place.lock.acquire_timeout(Duration::ZERO).expect_err("it is held");
    let AcquireError::Timeout { held, limit, .. } = &error else { panic!("{error:?}") };
    assert_eq!(held.holder.as_ref(), Some(guard.holder()));
    assert_eq!(*limit, Duration::ZERO);
}

/// A legacy agent takes no kernel lock, so the waiter must poll.
#[test]
fn live_legacy_agent_is_polled() {
    let place = Place::new();
    let mut agent = Participant::start();
    let record = participant::old_record(agent.pid(), SystemTime::now());
    fs::write(place.path(), record).expect("the agent's file");
    let mut waiter = Participant::start();
    waiter.order(&format!("acquire {}", place.path().display()));
    agent.kill();
    assert_eq!(waiter.answer(), reclaimed_from(agent.pid()));
}

/// Calls `way` with every way to wait.
fn each_way(mut way: impl FnMut(&dyn Fn(&Lock, WaitOptions<'_>) -> Result<Guard, AcquireError>)) {
    let token = CancelToken::new().expect("two descriptors");
    way(&|lock, options| must_return("a wait", || lock.acquire_with(options)));
    way(&|lock, options| lock.acquire_with(options.timeout(MINUTE)));
    way(&|lock, options| must_return("a wait", || lock.acquire_with(options.cancel_token(&token))));
    way(&|lock, options| {
        must_return("a wait", || runtime().block_on(lock.acquire_async_with(options)))
    });
    way(&|lock, options| {
        let options = options.timeout(MINUTE);
        must_return("a wait", || runtime().block_on(lock.acquire_async_with(options)))
    });
}

#[test]
fn wait_reports_each_holder_in_turn() {
    each_way(|acquire| {
        let place = Place::new();
        let mut first = Participant::holding(place.path());
        let mut next = Participant::start();
        let pids = [first.pid(), next.pid()];
        let mut reported = Vec::new();
        let options = WaitOptions::new().on_wait(|held| {
            assert_eq!(held.reason, Refusal::Holder);
            reported.push(held.holder.as_ref().expect("a record").pid);
            match reported.len() {
                1 => {
                    assert_eq!(first.request("release"), "released");
                    assert_eq!(next.try_acquire(place.path()), "held");
                }
                _ => assert_eq!(next.request("release"), "released"),
            }
        });
        assert_eq!(outcome(&acquire(&place.lock, options)), "held");
        assert_eq!(reported, pids);
    });
}

#[test]
fn a_free_lock_reports_no_wait() {
    each_way(|acquire| {
        let place = Place::new();
        let options = WaitOptions::new().on_wait(|held| panic!("{held}"));
        assert_eq!(outcome(&acquire(&place.lock, options)), "held");
        // Neither does a dead holder's lock.
        let mut dead = Participant::holding(place.path());
        dead.kill();
        let options = WaitOptions::new().on_wait(|held| panic!("{held}"));
        let reclaimed = reclaimed_from(dead.pid());
        assert_eq!(outcome(&acquire(&place.lock, options)), reclaimed);
    });
}

#[test]
fn polled_holder_is_reported_once() {
    each_way(|acquire| {
        let place = Place::new();
        let mut agent = Participant::start();
        let record = participant::old_record(agent.pid(), SystemTime::now());
        fs::write(place.path(), record).expect("the agent's file");
        let mut reported = 0;
        let (end, ended) = std::sync::mpsc::channel();
        let mut poller = Participant::start();
        // When another waiter has polled this long, the one under test has polled too.
        poller.order(&format!("acquire-within 100 {}", place.path().display()));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                poller.answer();
                agent.kill();
                end.send(()).expect("the test listens");
            });
            let options = WaitOptions::new().on_wait(|_| reported += 1);
            let acquired = acquire(&place.lock, options);
            assert!(acquired.is_ok(), "{acquired:?}");
            ended.recv_timeout(MINUTE).expect("it was killed");
        });
        assert_eq!(reported, 1);
    });
}

#[test]
fn a_try_with_options_reports_nothing() {
    let place = Place::new();
    let holder = Participant::holding(place.path());
    let options = WaitOptions::new().timeout(Duration::ZERO).on_wait(|held| panic!("{held}"));
    let tried = place.lock.acquire_with(options);
    assert_eq!(outcome(&tried), format!("timed out, held by pid {}", holder.pid()));
}

/// A token stays cancelled for later waits after another reader has consumed the byte.
#[test]
fn cancelled_token_stays_cancelled() {
    let place = Place::new();
    let holder = Participant::holding(place.path());
    let cancelled = format!("cancelled, held by pid {}", holder.pid());
    let (mut readable, mut writable) = UnixStream::pair().expect("a pair");
    let token = CancelToken::from_fd(readable.try_clone().expect("a copy"));
    let ended = std::thread::scope(|threads| {
        let waits = threads.spawn(|| place.lock.acquire_with(until(&token).timeout(MINUTE)));
        until_listening(std::process::id());
        writable.write_all(&[0]).expect("writes");
        waits.join().expect("no panic")
    });
    assert_eq!(outcome(&ended), cancelled);
    readable.read_exact(&mut [0]).expect("the byte is read");
    assert!(token.is_cancelled());
    assert_eq!(outcome(&place.lock.acquire_with(until(&token).timeout(MINUTE))), cancelled);
    let waits = place.lock.acquire_async_with(until(&token).timeout(MINUTE));
    assert_eq!(outcome(&must_return("a wait", || runtime().block_on(waits))), cancelled);
}

#[test]
fn token_from_descriptor_can_be_cancelled() {
    let place = Place::new();
    let holder = Participant::holding(place.path());
    let (readable, _writable) = UnixStream::pair().expect("a pair");
    let token = CancelToken::from_fd(readable);
    let ended = std::thread::scope(|threads| {
        let waits = threads.spawn(|| place.lock.acquire_with(until(&token).timeout(MINUTE)));
        until_listening(std::process::id());
        token.cancel();
        waits.join().expect("no panic")
    });
    assert_eq!(outcome(&ended), format!("cancelled, held by pid {}", holder.pid()));
}
