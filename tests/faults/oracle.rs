//! The correct outcomes after a failed call, and the totals.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::ERRORS;
use crate::participant::sampled;
use crate::scenarios::Scenario;
use crate::syscalls::{Call, Trace};

/// The answer of a process to an order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Said {
    pub(super) order: String,
    pub(super) word: String,
    /// The system's error, from the source of the error.
    pub(super) code: Option<i32>,
    pub(super) message: String,
}

/// A call that is made to fail, and the answers without a failure.
pub(super) struct Fault<'a> {
    pub(super) call: &'a Call,
    pub(super) code: i32,
    pub(super) expected: &'a [Said],
}

/// The outcome of a scenario.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) said: Vec<Said>,
    pub(super) path: PathBuf,
    /// Violations found by the witness, the rival and the next acquire.
    pub(super) problems: Vec<String>,
    pub(super) pid: u32,
    /// Whether a file was left, which the next acquire removed.
    pub(super) left: bool,
}

impl Ran {
    /// All violations. Without a fault no call may fail.
    pub(super) fn wrong(&self, fault: Option<&Fault>) -> Vec<String> {
        let mut wrong = self.problems.clone();
        match fault {
            None => wrong.extend(
                self.said
                    .iter()
                    .filter(|said| said.word == "failed" || said.word == "panicked")
                    .map(|said| format!("{}: {}", said.order, said.message)),
            ),
            Some(fault) => {
                wrong.extend(self.said.iter().filter_map(|said| fault.wrong(said, &self.path)));
            }
        }
        wrong
    }
}

impl Fault<'_> {
    fn wrong(&self, said: &Said, path: &Path) -> Option<String> {
        let expected = self.expected.iter().find(|expected| expected.order == said.order);
        // Orders given only after a failure must succeed: only one call fails.
        let expected = expected.map_or("released", |expected| &expected.word);
        if said.word == expected {
            return None;
        }
        if self.code == libc::EINTR {
            return Some(format!("EINTR is reported: {said:?}"));
        }
        // A file server reports a removed file with it: another process released or reclaimed. The
        // calls for the creator's own record are exempt.
        let is_for_the_record = said.message.starts_with("cannot write the record to ");
        if self.code == libc::ESTALE && self.call.is_on_the_lock_file() && !is_for_the_record {
            return Some(format!("ESTALE is reported: {said:?}"));
        }
        if said.word == "failed" {
            return wrong_in_message(said, self.code, path);
        }
        if self.call.is_evidence() && is_weaker(&said.word, expected) {
            return None;
        }
        Some(format!("{said:?} instead of {expected}"))
    }
}

fn wrong_in_message(said: &Said, code: i32, path: &Path) -> Option<String> {
    const OPERATIONS: [&str; 12] = [
        "cannot create a lock file in the directory ",
        "cannot list the directory ",
        "cannot create ",
        "cannot open ",
        "cannot probe the holder of ",
        "cannot date ",
        "cannot lock ",
        "cannot wait for ",
        "cannot write the record to ",
        "cannot read ",
        "cannot confirm ",
        "cannot remove ",
    ];
    // The start of a failed release's message.
    let failed = said.message.strip_prefix("the lock is still held: ").unwrap_or(&said.message);
    let Some(rest) = OPERATIONS.iter().find_map(|words| failed.strip_prefix(words)) else {
        return Some(format!("names no operation: {said:?}"));
    };
    let named = |path: &Path| rest == path.display().to_string();
    if !named(path) && !path.parent().is_some_and(named) {
        return Some(format!("names no path: {said:?}"));
    }
    (said.code != Some(code)).then(|| format!("another error: {said:?}"))
}

/// Whether `said` claims less than `expected`, and nothing false: without proof an acquire is
/// refused.
pub(super) fn is_weaker(said: &str, expected: &str) -> bool {
    let is_weaker = |(said, expected): (&str, &str)| {
        said == expected
            || matches!(
                (said, expected),
                ("refused", "held" | "cleared")
                    | ("status: unknown" | "status: held", "status: stale")
                    | ("status: unknown", "status: held")
                    // Not provably stale, so left.
                    | ("", "swept")
            )
    };
    let (said, expected): (Vec<_>, Vec<_>) =
        (said.split(", ").collect(), expected.split(", ").collect());
    said.len() == expected.len() && said.into_iter().zip(expected).all(is_weaker)
}

#[derive(Default)]
pub(super) struct Sum {
    injected: BTreeMap<u32, (String, u32)>,
    cases: usize,
    succeeded: usize,
    failed: usize,
    weaker: usize,
    /// Cases in which another call failed, or none.
    elsewhere: usize,
    left: BTreeSet<String>,
}

impl Sum {
    pub(super) fn of(sums: Vec<Self>) -> Self {
        sums.into_iter().fold(Self::default(), |mut all, sum| {
            all.cases += sum.cases;
            all.succeeded += sum.succeeded;
            all.failed += sum.failed;
            all.weaker += sum.weaker;
            all.elsewhere += sum.elsewhere;
            all.left.extend(sum.left);
            all
        })
    }

    /// `undisturbed` is the process of the run without a fault.
    pub(super) fn add(&mut self, ran: &Ran, fault: &Fault, undisturbed: u32) {
        self.cases += 1;
        self.injected.insert(ran.pid, (fault.call.what.clone(), undisturbed));
        if ran.said.iter().any(|said| said.word == "failed") {
            self.failed += 1;
        } else if ran.said.iter().map(|said| &said.word).eq(fault.expected.iter().map(|e| &e.word))
        {
            self.succeeded += 1;
        } else {
            self.weaker += 1;
        }
        if ran.left {
            self.left.insert(fault.call.what.clone());
        }
    }

    /// Checks by strace's output which calls failed.
    ///
    /// A query reads /proc/locks again if any process on the machine locked or unlocked during the
    /// read. That shifts the numbers of its later calls, and another call fails, or none. The
    /// number of reads, compared with the undisturbed process, shows these cases.
    pub(super) fn check_that_each_was_injected(&mut self, error: &str, trace: &Trace) {
        let is_read_of_locks =
            |what: &str| what.contains("/proc/locks") || what.contains("/proc/self/fdinfo");
        let reads = |pid: u32| {
            trace.calls[&pid].iter().filter(|(call, _)| is_read_of_locks(&call.what)).count()
        };
        for (pid, (what, undisturbed)) in std::mem::take(&mut self.injected) {
            let injected: Vec<&str> = trace.calls[&pid]
                .iter()
                .filter(|(_, is_injected)| *is_injected)
                .map(|(call, _)| &*call.what)
                .collect();
            let elsewhere = injected.iter().all(|other| *other != what);
            if injected.len() <= 1 && elsewhere && reads(pid) != reads(undisturbed) {
                println!("{error}: {injected:?} failed instead of {what}");
                self.elsewhere += 1;
                continue;
            }
            assert_eq!(injected, [what], "{error}, process {pid}");
        }
    }

    pub(super) fn print(&self, calls: &[(Scenario, Vec<Call>)], took: Duration) {
        let mut said = String::new();
        for (scenario, calls) in calls {
            said += &format!("{scenario:?}: {} calls\n", calls.len());
            for same in calls.chunk_by(|one, next| one.what == next.what) {
                said += &format!("    {} {}\n", same.len(), same[0].what);
            }
        }
        println!("{said}");
        let &Self { cases, succeeded, failed, weaker, .. } = self;
        println!(
            "{cases} cases: {succeeded} succeeded, {failed} returned an error, {weaker} proved less; \
             {took:.1?}"
        );
        println!("a file was left, and removed by the next acquire, after: {:?}", self.left);
        assert!(succeeded > 0 && failed > 0 && weaker > 0, "each kind occurs");
        assert!(self.elsewhere * 50 <= cases, "another call failed in {} cases", self.elsewhere);
        let intended =
            |error| calls.iter().map(|(_, calls)| sampled(error, calls).count()).sum::<usize>();
        assert_eq!(cases, (0..ERRORS.len()).map(intended).sum::<usize>());
    }
}
