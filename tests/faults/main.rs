//! Every system call of each operation fails once with each error, in the shipped library.
//!
//! strace records the calls of a process, and then makes one of them fail in another process that
//! does the same: each call, with each error, in each scenario. After that
//! - the operation has succeeded, or its error names operation, path and the system's error;
//! - a process that reports that it holds does, by a witness outside this crate, and excludes a
//!   rival;
//! - the ended process has left no file that blocks another one.
//!
//! strace counts the calls of each process by name and makes the call of a given number fail. One
//! strace serves thousands of cases: each case is a forked process, which first makes as many void
//! calls of that name as are needed to give the intended call that number.

#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

#[path = "../participant/mod.rs"]
mod participant;

mod conditions;
mod oracle;
mod scenarios;
mod syscalls;
mod target;

use std::time::Instant;

use oracle::{Fault, Ran, Said, Sum, is_weaker};
use participant::{sampled, strace_is_there};
use scenarios::{Harness, Scenario, recorded_calls};
use syscalls::Call;

/// The errors, by strace's names. `EINTR` must never be reported.
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

/// Calls without a filesystem: memory, threads, signals, sleep, and those for the orders.
const NOT_INJECTED: [&str; 20] = [
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
    // Two at a time, each with its own directory and strace.
    let numbered: Vec<_> = ERRORS.into_iter().enumerate().collect();
    let sums = std::thread::scope(|threads| {
        let halves = numbered.chunks(numbered.len() / 2);
        let injected: Vec<_> = halves
            .map(|errors| {
                threads.spawn(|| {
                    let injected =
                        errors.iter().map(|&(number, error)| inject_each(&calls, number, error));
                    injected.collect::<Vec<_>>()
                })
            })
            .collect();
        injected.into_iter().flat_map(|half| half.join().expect("no assertion failed")).collect()
    });
    Sum::of(sums).print(&calls, started.elapsed());
}

/// The sampled calls of every scenario fail once each, with this error. All errors together cover
/// every call.
fn inject_each(calls: &[(Scenario, Vec<Call>)], error: usize, (name, code): (&str, i32)) -> Sum {
    let mut sum = Sum::default();
    let mut harness = Harness::start(calls, Some(name));
    for (scenario, calls) in calls {
        let undisturbed = harness.run(*scenario, None);
        assert_eq!(undisturbed.wrong(None), Vec::<String>::new(), "{scenario:?}: {undisturbed:?}");
        for (_, call) in sampled(error, calls) {
            let ran = harness.run(*scenario, Some(call));
            let fault = Fault { call, code, expected: &undisturbed.said };
            let wrong = ran.wrong(Some(&fault));
            assert!(wrong.is_empty(), "{scenario:?}, {call:?}, {name}: {wrong:?}\n{ran:?}");
            sum.add(&ran, &fault, undisturbed.pid);
        }
    }
    sum.check_that_each_was_injected(name, &harness.finish());
    sum
}

/// The control: the witness contradicts a process that ignores an error and claims to hold.
#[test]
fn control_false_claim_of_the_lock_is_caught() {
    if !strace_is_there("calls that fail") {
        return;
    }
    let calls = recorded_calls();
    let mut harness = Harness::start(&calls, Some("ENOSPC"));
    let (_, calls) = &calls[0];
    harness.claims = true;
    let honest = harness.run(Scenario::Free, None);
    assert_eq!(honest.wrong(None), Vec::<String>::new(), "it does hold: {honest:?}");
    let create = calls.iter().find(|call| call.what.contains("O_EXCL")).expect("a create");
    let ran = harness.run(Scenario::Free, Some(create));
    let fault = Fault { call: create, code: libc::ENOSPC, expected: &honest.said };
    let wrong = ran.wrong(Some(&fault)).join("; ");
    assert!(wrong.contains("reports that it holds"), "{wrong}");
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
        ran(said).wrong(Some(&Fault { call, code, expected: &held })).join("; ")
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
        (said("failed", Some(libc::EINTR), good), &write, libc::EINTR, "EINTR is reported"),
        (said("failed", Some(libc::ESTALE), read), &open, libc::ESTALE, "ESTALE is reported"),
        (said("refused", None, ""), &probe, libc::EINTR, "EINTR is reported"),
    ] {
        let found = wrong(outcome.clone(), call, code);
        assert!(found.contains(words), "{outcome:?}: {found:?}");
    }
    assert!(!is_weaker("free", "held") && !is_weaker("stale", "held"), "no holder is evicted");
    assert!(!is_weaker("refused, released", "held"), "a longer answer differs");
}
