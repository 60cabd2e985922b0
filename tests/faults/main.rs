//! Every system call of each operation fails once with each error, in the library that ships.
//!
//! The calls are those that strace records of a process, and strace then makes one of them fail in
//! another process that does the same: each call, with each error, in each scenario. After that
//! - the operation has worked, or its error names operation, path and what the system said;
//! - who says that it holds does, by a witness that is not this crate, and keeps a rival out;
//! - the ended process has left nothing that keeps anybody out.
//!
//! strace counts the calls of each process by name and makes the one of a given number fail. So
//! that one strace serves thousands of cases, each case is a forked process, which first makes as
//! many void calls of that name as are needed for the call that is meant to have the number.

#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

#[path = "../participant/mod.rs"]
mod participant;

mod conditions;
mod oracle;
mod scenarios;
mod struck;
mod syscalls;

use std::time::Instant;

use oracle::{Ran, Said, Strike, Sum, is_weaker};
use participant::{strace_is_there, struck};
use scenarios::{Scenario, Stage, recorded_calls};
use syscalls::Call;

/// The errors, by strace's names. `EINTR` must not be noticed.
const ERRORS: [(&str, i32); 10] = [
    ("ENOSPC", libc::ENOSPC),
    ("EIO", libc::EIO),
    ("EACCES", libc::EACCES),
    ("EPERM", libc::EPERM),
    ("EROFS", libc::EROFS),
    ("EMFILE", libc::EMFILE),
    ("EINTR", libc::EINTR),
    ("ESTALE", libc::ESTALE),
    ("ENOLCK", libc::ENOLCK),
    ("EDQUOT", libc::EDQUOT),
];

/// Calls that no filesystem answers: memory, threads, signals, sleep, and the orders themselves.
const NOT_STRUCK: [&str; 20] = [
    "mmap",
    "munmap",
    "mremap",
    "mprotect",
    "brk",
    "madvise",
    "futex",
    "rt_sigaction",
    "rt_sigprocmask",
    "sigaltstack",
    "set_robust_list",
    "rseq",
    "gettid",
    "getpid",
    "getrandom",
    "clock_nanosleep",
    "readv",
    "writev",
    "exit_group",
    "clock_gettime",
];

#[test]
fn any_failed_call_is_reported_and_keeps_exclusion() {
    if !strace_is_there("calls that fail") {
        return;
    }
    let started = Instant::now();
    let calls = recorded_calls();
    // Two at a time; each has a directory and an strace of its own.
    let numbered: Vec<_> = ERRORS.into_iter().enumerate().collect();
    let sums = std::thread::scope(|threads| {
        let halves = numbered.chunks(numbered.len() / 2);
        let struck: Vec<_> = halves
            .map(|errors| {
                threads.spawn(|| {
                    let struck =
                        errors.iter().map(|&(number, error)| strike_each(&calls, number, error));
                    struck.collect::<Vec<_>>()
                })
            })
            .collect();
        struck.into_iter().flat_map(|half| half.join().expect("no assertion failed")).collect()
    });
    Sum::of(sums).print(&calls, started.elapsed());
}

/// Calls of every scenario fail once each, with this error. Where not every error strikes every call,
/// each call is struck by some.
fn strike_each(calls: &[(Scenario, Vec<Call>)], error: usize, (name, code): (&str, i32)) -> Sum {
    let mut sum = Sum::default();
    let mut stage = Stage::start(calls, Some(name));
    for (scenario, calls) in calls {
        let unstruck = stage.run(*scenario, None);
        assert_eq!(unstruck.wrong(None), Vec::<String>::new(), "{scenario:?}: {unstruck:?}");
        for (_, call) in struck(error, calls) {
            let ran = stage.run(*scenario, Some(call));
            let strike = Strike { call, code, expected: &unstruck.said };
            let wrong = ran.wrong(Some(&strike));
            assert!(wrong.is_empty(), "{scenario:?}, {call:?}, {name}: {wrong:?}\n{ran:?}");
            sum.add(&ran, &strike, unstruck.pid);
        }
    }
    sum.check_that_each_was_struck(name, &stage.finish());
    sum
}

/// One that takes no notice of an error and says that it holds: the witness knows better.
#[test]
fn control_false_claim_of_the_lock_is_caught() {
    if !strace_is_there("calls that fail") {
        return;
    }
    let calls = recorded_calls();
    let mut stage = Stage::start(&calls, Some("ENOSPC"));
    let (_, calls) = &calls[0];
    stage.claims = true;
    let honest = stage.run(Scenario::Free, None);
    assert_eq!(honest.wrong(None), Vec::<String>::new(), "it does hold: {honest:?}");
    let create = calls.iter().find(|call| call.what.contains("O_EXCL")).expect("a create");
    let ran = stage.run(Scenario::Free, Some(create));
    let strike = Strike { call: create, code: libc::ENOSPC, expected: &honest.said };
    let wrong = ran.wrong(Some(&strike)).join("; ");
    assert!(wrong.contains("says that it holds"), "{wrong}");
}

#[test]
fn the_oracle_rejects_wrong_outcomes() {
    let call = |what: &str| Call { name: "write".into(), nth: 1, what: what.into() };
    let (write, probe) = (call("write(file)"), call("openat(/proc/PID/stat)"));
    let open = Call { name: "openat".into(), ..call("openat(locks/x.lock, O_RDWR)") };
    let said = |word: &str, code, message: &str| {
        let (word, message) = (word.to_owned(), message.to_owned());
        Said { order: "try".into(), word, code, message }
    };
    let held = [said("held", None, "")];
    let ran = |said: Said| Ran {
        said: vec![said],
        path: "/h/x.lock".into(),
        problems: Vec::new(),
        pid: 7,
        left: false,
    };
    let wrong = |said: Said, call: &Call, code| {
        ran(said).wrong(Some(&Strike { call, code, expected: &held })).join("; ")
    };
    let good = "cannot write the record to /h/x.lock";
    let read = "cannot read /h/x.lock";
    let spent = libc::ENOSPC;
    assert_eq!(wrong(said("held", None, ""), &write, spent), "");
    assert_eq!(wrong(said("failed", Some(spent), good), &write, spent), "");
    assert_eq!(wrong(said("refused", None, ""), &probe, spent), "");
    for (outcome, call, code, words) in [
        (said("failed", Some(spent), "no space"), &write, spent, "names no operation"),
        (said("failed", Some(spent), "cannot lock /h/y"), &write, spent, "names no path"),
        (said("failed", Some(libc::EIO), good), &write, spent, "another error"),
        (said("failed", None, good), &write, spent, "another error"),
        (said("refused", None, ""), &write, spent, "instead of held"),
        (said("panicked", None, ""), &write, spent, "instead of held"),
        (said("failed", Some(libc::EINTR), good), &write, libc::EINTR, "EINTR is noticed"),
        (said("failed", Some(libc::ESTALE), read), &open, libc::ESTALE, "ESTALE is noticed"),
        (said("refused", None, ""), &probe, libc::EINTR, "EINTR is noticed"),
    ] {
        let found = wrong(outcome.clone(), call, code);
        assert!(found.contains(words), "{outcome:?}: {found:?}");
    }
    assert!(!is_weaker("free", "held") && !is_weaker("stale", "held"), "nobody is evicted");
    assert!(!is_weaker("refused, released", "held"), "a longer answer is another one");
}
