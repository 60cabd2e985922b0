//! Waiting for a lock: woken by the release or the death of the holder, ended by a time-out that
//! leaves nothing behind.
//!
//! Nothing here sleeps: that somebody waits is seen where the kernel lists who is blocked.

#![cfg(target_os = "linux")]

mod participant;

use std::fs;
use std::time::{Duration, SystemTime};

use portlock::AcquireError;

use participant::{Participant, Place, outcome, until_blocked};

#[test]
fn a_waiter_is_woken_by_the_release_and_told_that_it_took_from_nobody() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let mut waiter = Participant::waiting(place.path());
    assert_eq!(holder.tell("release"), "released");
    assert_eq!(waiter.answer(), "held");
    assert_eq!(waiter.tell("current"), "true");
    assert_eq!(waiter.tell("release"), "released");
    assert!(place.is_empty());
}

#[test]
fn a_waiter_is_woken_by_the_death_of_the_holder_and_told_from_whom_it_took() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let mut waiter = Participant::waiting(place.path());
    holder.kill();
    assert_eq!(waiter.answer(), format!("held, reclaimed from pid {}", holder.pid()));
    assert_eq!(waiter.tell("release"), "released");
    assert!(place.is_empty());
}

#[test]
fn of_several_waiters_each_gets_the_lock_once_and_alone() {
    const WAITERS: usize = 5;
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let mut waiters: Vec<_> = (0..WAITERS).map(|_| Participant::waiting(place.path())).collect();
    assert_eq!(holder.tell("release"), "released");
    while !waiters.is_empty() {
        // Whoever of them holds is the one that others are refused by; it has answered, or will.
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
        assert_eq!(holder.tell("current"), "true");
        assert_eq!(holder.tell("release"), "released");
        holder.finish();
    }
    assert!(place.is_empty());
}

#[test]
fn a_waiter_waits_out_a_command_that_inherited_the_lock() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    assert_eq!(holder.tell("hand-over-to-cat"), "spawned");
    let mut waiter = Participant::waiting(place.path());
    holder.kill();
    // The command has the file open, so the waiter is still blocked, whatever it did meanwhile.
    until_blocked(waiter.pid());
    holder.dismiss();
    assert_eq!(waiter.answer(), format!("held, reclaimed from pid {}", holder.pid()));
}

#[test]
fn a_waiter_that_is_killed_leaves_nothing_and_keeps_nobody_waiting() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let mut waiter = Participant::waiting(place.path());
    let mut next = Participant::waiting(place.path());
    waiter.kill();
    assert_eq!(holder.tell("release"), "released");
    assert_eq!(next.answer(), "held");
    assert_eq!(next.tell("release"), "released");
    assert!(place.is_empty());
}

#[test]
fn a_time_out_names_the_holder_and_leaves_nothing_that_takes_the_lock_later() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let mut waiter = Participant::start();
    let order = format!("acquire-within 30 {}", place.path().display());
    assert_eq!(waiter.tell(&order), format!("timed out, held by pid {}", holder.pid()));
    assert_eq!(holder.tell("release"), "released");
    // It has had its answer and lives, and the lock is everybody's.
    assert!(place.is_empty());
    assert_eq!(outcome(&place.lock.try_acquire()), "held");
    assert_eq!(waiter.try_acquire(place.path()), "held");
}

#[test]
fn a_time_out_that_has_not_come_gets_the_lock() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let mut waiter = Participant::start();
    waiter.order(&format!("acquire-within 3600000 {}", place.path().display()));
    assert_eq!(holder.tell("release"), "released");
    assert_eq!(waiter.answer(), "held");
}

#[test]
fn no_time_at_all_is_a_try_and_all_time_is_none() {
    let place = Place::new();
    let guard = place.lock.acquire_timeout(Duration::MAX).expect("nobody holds it");
    let error = place.lock.acquire_timeout(Duration::ZERO).expect_err("it is held");
    let AcquireError::Timeout { held, limit, .. } = &error else { panic!("{error:?}") };
    assert_eq!(held.holder.as_ref(), Some(guard.holder()));
    assert_eq!(*limit, Duration::ZERO);
}

/// An agent of the old format takes no kernel lock: there is nothing to wait for in the kernel.
#[test]
fn a_live_agent_of_the_old_format_is_waited_for_by_looking_again() {
    let place = Place::new();
    let mut agent = Participant::start();
    let started = humantime::format_rfc3339_millis(SystemTime::now());
    let record = format!("{{\"pid\":{},\"port\":1,\"startedAt\":\"{started}\"}}", agent.pid());
    fs::write(place.path(), record).expect("the agent's file");
    let mut waiter = Participant::start();
    waiter.order(&format!("acquire {}", place.path().display()));
    agent.kill();
    assert_eq!(waiter.answer(), format!("held, reclaimed from pid {}", agent.pid()));
}
