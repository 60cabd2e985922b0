//! What is right after a call that failed, and the sums of what was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::ERRORS;
use crate::participant::struck;
use crate::scenarios::Scenario;
use crate::syscalls::{Call, Trace};

/// What a process said after an order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Said {
    pub(super) order: String,
    pub(super) word: String,
    /// The system's error, of the source of the error.
    pub(super) code: Option<i32>,
    pub(super) message: String,
}

/// A call that is made to fail, and what is said where nothing fails.
pub(super) struct Strike<'a> {
    pub(super) call: &'a Call,
    pub(super) code: i32,
    pub(super) expected: &'a [Said],
}

/// What became of a scenario.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) said: Vec<Said>,
    pub(super) path: PathBuf,
    /// What the witness, the rival and the next one had to complain of.
    pub(super) problems: Vec<String>,
    pub(super) pid: u32,
    /// Whether a file was left, which the next acquire removed.
    pub(super) left: bool,
}

impl Ran {
    /// All that must not be. Nothing was struck without a strike.
    pub(super) fn wrong(&self, strike: Option<&Strike>) -> Vec<String> {
        let mut wrong = self.problems.clone();
        match strike {
            None => wrong.extend(
                self.said
                    .iter()
                    .filter(|said| said.word == "failed" || said.word == "panicked")
                    .map(|said| format!("{}: {}", said.order, said.message)),
            ),
            Some(strike) => {
                wrong.extend(self.said.iter().filter_map(|said| strike.wrong(said, &self.path)));
            }
        }
        wrong
    }
}

impl Strike<'_> {
    fn wrong(&self, said: &Said, path: &Path) -> Option<String> {
        let expected = self.expected.iter().find(|expected| expected.order == said.order);
        // What is ordered only after a failure must work: one call fails, and once.
        let expected = expected.map_or("released", |expected| &expected.word);
        if said.word == expected {
            return None;
        }
        if self.code == libc::EINTR {
            return Some(format!("EINTR is noticed: {said:?}"));
        }
        // A file server's way to say that a file was removed: somebody released or reclaimed it.
        // What the creator asks of it for the record is its own.
        let is_for_the_record = said.message.starts_with("cannot write the record to ");
        if self.code == libc::ESTALE && self.call.is_on_the_lock_file() && !is_for_the_record {
            return Some(format!("ESTALE is noticed: {said:?}"));
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
    // As a release that failed begins.
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

/// Whether `said` claims less than `expected`, and nothing that is not so: what the evidence cannot
/// prove is refused.
pub(super) fn is_weaker(said: &str, expected: &str) -> bool {
    let is_weaker = |(said, expected): (&str, &str)| {
        said == expected
            || matches!(
                (said, expected),
                ("refused", "held" | "cleared")
                    | ("stands: unknown" | "stands: held", "stands: stale")
                    | ("stands: unknown", "stands: held")
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
    struck: BTreeMap<u32, (String, u32)>,
    cases: usize,
    worked: usize,
    failed: usize,
    weaker: usize,
    /// Another call of the same look was struck, or none.
    elsewhere: usize,
    left: BTreeSet<String>,
}

impl Sum {
    pub(super) fn of(sums: Vec<Self>) -> Self {
        sums.into_iter().fold(Self::default(), |mut all, sum| {
            all.cases += sum.cases;
            all.worked += sum.worked;
            all.failed += sum.failed;
            all.weaker += sum.weaker;
            all.elsewhere += sum.elsewhere;
            all.left.extend(sum.left);
            all
        })
    }

    /// `unstruck` is the process that did the same without a strike.
    pub(super) fn add(&mut self, ran: &Ran, strike: &Strike, unstruck: u32) {
        self.cases += 1;
        self.struck.insert(ran.pid, (strike.call.what.clone(), unstruck));
        if ran.said.iter().any(|said| said.word == "failed") {
            self.failed += 1;
        } else if ran.said.iter().map(|said| &said.word).eq(strike.expected.iter().map(|e| &e.word))
        {
            self.worked += 1;
        } else {
            self.weaker += 1;
        }
        if ran.left {
            self.left.insert(strike.call.what.clone());
        }
    }

    /// Not our own word for it: strace says which calls it made fail.
    ///
    /// A query reads /proc/locks once more if locks came and went meanwhile, which others of this
    /// machine do when they like. Then all its later calls have other numbers, and another one was
    /// struck, or none: seen by how often it looked there, against the process without a strike.
    pub(super) fn check_that_each_was_struck(&mut self, error: &str, trace: &Trace) {
        let looks_at_locks =
            |what: &str| what.contains("/proc/locks") || what.contains("/proc/self/fdinfo");
        let looks = |pid: u32| {
            trace.calls[&pid].iter().filter(|(call, _)| looks_at_locks(&call.what)).count()
        };
        for (pid, (what, unstruck)) in std::mem::take(&mut self.struck) {
            let struck: Vec<&str> = trace.calls[&pid]
                .iter()
                .filter(|(_, is_struck)| *is_struck)
                .map(|(call, _)| &*call.what)
                .collect();
            let elsewhere = struck.iter().all(|other| *other != what);
            if struck.len() <= 1 && elsewhere && looks(pid) != looks(unstruck) {
                println!("{error}: {struck:?} was struck for {what}");
                self.elsewhere += 1;
                continue;
            }
            assert_eq!(struck, [what], "{error}, process {pid}");
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
        let &Self { cases, worked, failed, weaker, .. } = self;
        println!(
            "{cases} cases: {worked} worked all the same, {failed} told an error, {weaker} proved \
             less and said so; {took:.1?}"
        );
        println!("a file was left, and removed by the next acquire, after: {:?}", self.left);
        assert!(worked > 0 && failed > 0 && weaker > 0, "each kind is met");
        assert!(self.elsewhere * 50 <= cases, "{} were struck elsewhere", self.elsewhere);
        let meant =
            |error| calls.iter().map(|(_, calls)| struck(error, calls).count()).sum::<usize>();
        assert_eq!(cases, (0..ERRORS.len()).map(meant).sum::<usize>());
    }
}
