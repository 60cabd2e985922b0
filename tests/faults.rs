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

mod participant;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use portlock::{Guard, Holder, Lock, LockDir, ReleaseError, Status};

use participant::{Participant, must_return, not_checked, wait_until};

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
    if !strace_is_there() {
        return;
    }
    let started = Instant::now();
    let calls = recorded_calls();
    // Two at a time; each has a directory and an strace of its own.
    let sums = std::thread::scope(|threads| {
        let halves = ERRORS.chunks(ERRORS.len() / 2);
        let struck: Vec<_> = halves
            .map(|errors| {
                threads.spawn(|| {
                    errors.iter().map(|&error| strike_each(&calls, error)).collect::<Vec<_>>()
                })
            })
            .collect();
        struck.into_iter().flat_map(|half| half.join().expect("no assertion failed")).collect()
    });
    Sum::of(sums).print(&calls, started.elapsed());
}

/// Every call of every scenario fails once, with this error.
fn strike_each(calls: &[(Scenario, Vec<Call>)], (name, code): (&str, i32)) -> Sum {
    let mut sum = Sum::default();
    let mut stage = Stage::start(calls, Some(name));
    for (scenario, calls) in calls {
        let unstruck = stage.run(*scenario, None);
        assert_eq!(unstruck.wrong(None), Vec::<String>::new(), "{scenario:?}: {unstruck:?}");
        for call in calls {
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
    if !strace_is_there() {
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

fn strace_is_there() -> bool {
    let version = Command::new("strace").arg("--version").output();
    if version.is_ok_and(|version| version.status.success()) {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "strace is missing: apt-get install strace");
    not_checked("calls that fail: strace is missing; apt-get install strace");
    false
}

// ---- the oracle ---------------------------------------------------------------------------------

/// What a process said after an order.
#[derive(Debug, Clone, PartialEq)]
struct Said {
    order: String,
    word: String,
    /// The system's error, of the source of the error.
    code: Option<i32>,
    message: String,
}

/// A call that is made to fail, and what is said where nothing fails.
struct Strike<'a> {
    call: &'a Call,
    code: i32,
    expected: &'a [Said],
}

/// What became of a scenario.
#[derive(Debug)]
struct Ran {
    said: Vec<Said>,
    path: PathBuf,
    /// What the witness, the rival and the next one had to complain of.
    problems: Vec<String>,
    pid: u32,
    /// Whether a file was left, which the next acquire removed.
    left: bool,
}

impl Ran {
    /// All that must not be. Nothing was struck without a strike.
    fn wrong(&self, strike: Option<&Strike>) -> Vec<String> {
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
fn is_weaker(said: &str, expected: &str) -> bool {
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
struct Sum {
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
    fn of(sums: Vec<Self>) -> Self {
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
    fn add(&mut self, ran: &Ran, strike: &Strike, unstruck: u32) {
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
    fn check_that_each_was_struck(&mut self, error: &str, trace: &Trace) {
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

    fn print(&self, calls: &[(Scenario, Vec<Call>)], took: Duration) {
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
        assert_eq!(cases, ERRORS.len() * calls.iter().map(|(_, calls)| calls.len()).sum::<usize>());
    }
}

// ---- the scenarios ------------------------------------------------------------------------------

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scenario {
    Free,
    AbsentDirectory,
    Reclaim,
    Refused,
    Drop,
    Removed,
    Replaced,
    Wait,
    TimedOut,
    Clear,
    ForceClear,
    StatusOfHeld,
    StatusOfDead,
    List,
    Sweep,
}

const SCENARIOS: [Scenario; 15] = [
    Scenario::Free,
    Scenario::AbsentDirectory,
    Scenario::Reclaim,
    Scenario::Refused,
    Scenario::Drop,
    Scenario::Removed,
    Scenario::Replaced,
    Scenario::Wait,
    Scenario::TimedOut,
    Scenario::Clear,
    Scenario::ForceClear,
    Scenario::StatusOfHeld,
    Scenario::StatusOfDead,
    Scenario::List,
    Scenario::Sweep,
];

/// Every call of every scenario, when nothing fails: those of a record that the next one repeats.
/// Other locks of this machine that come and go make a query read /proc/locks once more.
fn recorded_calls() -> Vec<(Scenario, Vec<Call>)> {
    let mut recorded = recorded_once();
    for _ in 0..20 {
        let before = std::mem::replace(&mut recorded, recorded_once());
        if before == recorded {
            return recorded;
        }
    }
    panic!("no two records are alike: {recorded:?}");
}

fn recorded_once() -> Vec<(Scenario, Vec<Call>)> {
    let mut stage = Stage::start(&[], None);
    let ran: Vec<_> =
        SCENARIOS.into_iter().map(|scenario| (scenario, stage.run(scenario, None))).collect();
    let trace = stage.finish();
    ran.into_iter()
        .map(|(scenario, ran)| {
            assert_eq!(ran.wrong(None), Vec::<String>::new(), "{scenario:?}: {ran:?}");
            let calls: Vec<&Call> = trace.calls[&ran.pid].iter().map(|(call, _)| call).collect();
            (scenario, worth_striking(scenario, &calls))
        })
        .collect()
}

/// All of them, but what another strike tells already.
fn worth_striking(scenario: Scenario, calls: &[&Call]) -> Vec<Call> {
    // What a process asks once about itself is asked alike everywhere, and matters where the lock
    // is taken and where another's record is judged.
    let itself = ["/proc/self/timens_offsets", "boot_id", "/proc/self/stat", "/proc/self/ns/pid"];
    let alike = |call: &Call| {
        !matches!(scenario, Scenario::Free | Scenario::Reclaim | Scenario::Refused)
            && itself.iter().any(|file| call.what.contains(file))
    };
    let last = |same: &[&Call]| same.len() - 1;
    let calls: Vec<Call> = calls
        .chunk_by(|one, next| one.what == next.what)
        .flat_map(|same| {
            // Of one file of /proc, which std reads in many pieces: the first and the last.
            let is_inner = move |place| {
                same[0].name == "read" && same[0].is_evidence() && place > 0 && place < last(same)
            };
            same.iter().enumerate().filter(move |(place, _)| !is_inner(*place))
        })
        .map(|(_, &call)| call.clone())
        .filter(|call| !alike(call) && !call.is_the_end_of_a_listing())
        .collect();
    assert!(!calls.is_empty());
    calls
}

/// Where the scenarios are played: a directory, the process that forks, and strace around it.
struct Stage {
    dir: tempfile::TempDir,
    strace: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    holder: Participant,
    dead: Vec<u8>,
    foreign: Vec<u8>,
    claims: bool,
    /// The number of the call that fails, of its name and in its process: no scenario has so many.
    struck: usize,
}

impl Stage {
    /// `calls` are those that can be made to fail.
    fn start(calls: &[(Scenario, Vec<Call>)], error: Option<&str>) -> Self {
        let calls = || calls.iter().flat_map(|(_, calls)| calls);
        let struck = 16 + calls().map(|call| call.nth).max().unwrap_or(0);
        let names: BTreeSet<&str> = calls().map(|call| &*call.name).collect();
        let dir = tempfile::tempdir().expect("a directory");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-s", "16", "-o"]).arg(dir.path().join("trace"));
        if let Some(error) = error {
            let names = names.iter().copied().collect::<Vec<_>>().join(",");
            strace.arg("--seccomp-bpf").arg(format!("--trace={names}"));
            strace.arg(format!("--inject={names}:error={error}:when={struck}"));
        }
        strace.arg(std::env::current_exe().expect("the test binary has a path"));
        Self::played_by(strace, dir, struck)
    }

    /// Nobody looks on.
    fn untraced() -> Self {
        let binary = Command::new(std::env::current_exe().expect("the test binary has a path"));
        Self::played_by(binary, tempfile::tempdir().expect("a directory"), 0)
    }

    fn played_by(mut command: Command, dir: tempfile::TempDir, struck: usize) -> Self {
        let entry = "process_is_struck_while_following_orders";
        command.args([entry, "--exact", "--nocapture", "--test-threads=1"]).env(ROLE, "1");
        let mut strace =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let orders = strace.stdin.take();
        let answers = BufReader::new(strace.stdout.take().expect("a pipe"));
        let locks = dir.path().join("locks");
        fs::create_dir(&locks).expect("creates");
        let path = locks.join("x.lock");
        let mut dead = Participant::holding(&path);
        dead.kill();
        let left = fs::read(&path).expect("its file stands");
        let mut foreign: serde_json::Value = serde_json::from_slice(&left).expect("JSON");
        // Of another pid namespace, and under no kernel lock.
        foreign["pidNamespace"] = 7.into();
        foreign.as_object_mut().expect("an object").remove("kernelLock");
        fs::remove_file(&path).expect("removes");
        let holder = Participant::holding(&dir.path().join("held.lock"));
        Self {
            dir,
            strace,
            orders,
            answers,
            holder,
            dead: left,
            foreign: foreign.to_string().into_bytes(),
            claims: false,
            struck,
        }
    }

    fn order(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("it still takes orders");
        writeln!(orders, "{order}").expect("it lives");
    }

    fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            let answers = &mut self.answers;
            let read = must_return("an answer", || answers.read_line(&mut line));
            let read = read.expect("its output can be read");
            assert_ne!(read, 0, "it ended without an answer");
            if let Some((_, answer)) = line.trim_end_matches('\n').split_once(ANSWER) {
                return answer.to_owned();
            }
        }
    }

    fn has_answered(&self) -> bool {
        let mut asked = libc::pollfd {
            fd: self.answers.get_ref().as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one structure, which is ours.
        !self.answers.buffer().is_empty() || unsafe { libc::poll(&mut asked, 1, 0) } > 0
    }

    /// Plays one scenario in a process of its own, with one of its calls struck.
    fn run(&mut self, scenario: Scenario, strike: Option<&Call>) -> Ran {
        let locks = self.dir.path().join("locks");
        let path = match scenario {
            Scenario::AbsentDirectory => locks.join("a/b/x.lock"),
            Scenario::Refused | Scenario::TimedOut | Scenario::StatusOfHeld => {
                self.dir.path().join("held.lock")
            }
            _ => locks.join("x.lock"),
        };
        match scenario {
            Scenario::Reclaim
            | Scenario::Clear
            | Scenario::StatusOfDead
            | Scenario::List
            | Scenario::Sweep => fs::write(&path, &self.dead).expect("writes"),
            Scenario::ForceClear => fs::write(&path, &self.foreign).expect("writes"),
            _ => {}
        }
        self.order("fork");
        let pid = self.answer().parse().expect("a pid");
        let (name, times) =
            strike.map_or(("none", 0), |call| (&*call.name, self.struck - call.nth));
        self.order(&format!("burn {name} {times}"));
        assert_eq!(self.answer(), "burnt");
        let mut run = Run { stage: self, path: path.clone(), pid, said: vec![], problems: vec![] };
        run.play(scenario);
        let Run { said, mut problems, .. } = run;
        self.order("end");
        let ended = self.answer();
        if ended != "ended 0" {
            problems.push(format!("the process {ended}"));
        }
        let left = self.clear_up(scenario, &path, &mut problems);
        Ran { said, path, problems, pid, left }
    }

    /// What the next one finds. Returns whether anything was left.
    fn clear_up(&mut self, scenario: Scenario, path: &Path, problems: &mut Vec<String>) -> bool {
        if matches!(scenario, Scenario::Refused | Scenario::TimedOut | Scenario::StatusOfHeld) {
            if self.holder.tell("current") != "true" {
                problems.push("the holder lost its file".to_owned());
            }
            return false;
        }
        let plants = fs::exists(path).expect("looks") && scenario.plants();
        let mut left = false;
        if let Ok(found) = fs::read(path) {
            left = !plants;
            if found.is_empty() {
                // Taken for a creator's for two seconds, by its time.
                let file = File::options().write(true).open(path).expect("opens");
                file.set_modified(SystemTime::now() - Duration::from_secs(60)).expect("ages");
            }
        }
        if scenario == Scenario::ForceClear {
            // Nothing but force removes it.
            let _ = fs::remove_file(path);
        }
        match Lock::at(path).try_acquire() {
            Ok(guard) => guard.release().expect("removes"),
            Err(error) => problems.push(format!("the next one: {error}")),
        }
        let locks = self.dir.path().join("locks");
        let _ = fs::remove_dir(locks.join("a/b")).and_then(|()| fs::remove_dir(locks.join("a")));
        let litter: Vec<_> = fs::read_dir(&locks).expect("stands").flatten().collect();
        if !litter.is_empty() {
            problems.push(format!("litter: {litter:?}"));
        }
        for entry in litter {
            let _ = fs::remove_file(entry.path());
        }
        left
    }

    /// Ends it, and reads what strace saw.
    fn finish(mut self) -> Trace {
        drop(self.orders.take());
        assert!(self.strace.wait().expect("ours").success());
        let text = fs::read_to_string(self.dir.path().join("trace")).expect("strace wrote it");
        Trace::read(&text, self.dir.path())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The process ends with its orders, and strace with it.
        drop(self.orders.take());
        let _ = self.strace.wait();
    }
}

impl Scenario {
    /// Whether a file stands there that the operation may leave, as it found it.
    fn plants(self) -> bool {
        matches!(
            self,
            Self::Reclaim
                | Self::Clear
                | Self::ForceClear
                | Self::StatusOfDead
                | Self::List
                | Self::Sweep
        )
    }
}

/// One scenario under way.
struct Run<'a> {
    stage: &'a mut Stage,
    path: PathBuf,
    pid: u32,
    said: Vec<Said>,
    problems: Vec<String>,
}

impl Run<'_> {
    fn play(&mut self, scenario: Scenario) {
        match scenario {
            Scenario::Free | Scenario::AbsentDirectory | Scenario::Reclaim => {
                if self.acquire("try") {
                    self.release("released");
                }
            }
            Scenario::Refused => drop(self.tell("try")),
            Scenario::Drop => {
                if self.acquire("try") {
                    self.tell("drop");
                }
            }
            Scenario::Removed => {
                if self.acquire("try") {
                    fs::remove_file(&self.path).expect("removes");
                    self.release("lost");
                }
            }
            Scenario::Replaced => {
                if self.acquire("try") {
                    fs::remove_file(&self.path).expect("removes");
                    let successor = Lock::at(&self.path).try_acquire().expect("nothing stands");
                    self.release("lost");
                    if !successor.is_still_held().expect("looks") {
                        self.problems.push("a successor's file was removed".to_owned());
                    }
                }
            }
            Scenario::Wait => self.wait(),
            Scenario::TimedOut => drop(self.tell("acquire-within-no-time")),
            Scenario::Clear => drop(self.tell("clear")),
            Scenario::ForceClear => drop(self.tell("force-clear")),
            Scenario::StatusOfHeld | Scenario::StatusOfDead => drop(self.tell("status")),
            Scenario::List => drop(self.tell("list")),
            Scenario::Sweep => drop(self.tell("sweep")),
        }
    }

    fn tell(&mut self, order: &str) -> String {
        let claims = if self.stage.claims && order == "try" { "claim-" } else { "" };
        self.stage.order(&format!("{claims}{order} {}", self.path.display()));
        self.hear(order)
    }

    fn hear(&mut self, order: &str) -> String {
        let answer = self.stage.answer();
        let mut parts = answer.splitn(3, '\t');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let (word, code, message) = (part(), part().parse().ok(), part());
        self.said.push(Said { order: order.to_owned(), word: word.clone(), code, message });
        word
    }

    fn acquire(&mut self, order: &str) -> bool {
        self.tell(order) == "held" && self.check_that_it_holds()
    }

    /// The witness: the kernel's lock, the path and the record, seen from here. And a rival.
    fn check_that_it_holds(&mut self) -> bool {
        let witnessed = witness(&self.path, self.pid);
        if let Err(reason) = &witnessed {
            self.problems.push(format!("it says that it holds, and {reason}"));
        }
        let rival = Lock::at(&self.path).try_acquire();
        if !rival.as_ref().is_err_and(portlock::AcquireError::is_held) {
            self.problems.push(format!("beside a holder: {rival:?}"));
        }
        witnessed.is_ok()
    }

    /// A release that failed has kept the lock, and works the next time.
    fn release(&mut self, expected: &str) {
        if self.tell("release") == "failed" {
            // The file of the holder may have been removed by somebody else.
            if witness(&self.path, self.pid).is_err() && expected == "released" {
                self.problems.push("a lock that was kept is not held".to_owned());
            }
            self.stage.order("release");
            let again = self.stage.answer();
            if again != expected {
                self.problems.push(format!("the second release: {again}"));
            }
        }
    }

    /// It waits for the holder, who releases when it sleeps or has given up.
    fn wait(&mut self) {
        let holder = Lock::at(&self.path).try_acquire().expect("free");
        self.stage.order(&format!("acquire {}", self.path.display()));
        wait_until("it waits or has answered", || {
            self.stage.has_answered() || is_waiting(self.pid)
        });
        holder.release().expect("removes");
        if self.hear("acquire") == "held" && self.check_that_it_holds() {
            self.release("released");
        }
    }
}

/// Whether the process `pid` holds the lock `path`, as far as the kernel and the file tell.
fn witness(path: &Path, pid: u32) -> Result<(), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    // SAFETY: flock on a number; the file is open.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) } == 0 {
        return Err("nobody has the kernel lock".to_owned());
    }
    let record = fs::read(path).map_err(|error| error.to_string())?;
    let record: serde_json::Value =
        serde_json::from_slice(&record).map_err(|error| error.to_string())?;
    if record["pid"] == pid { Ok(()) } else { Err(format!("the record is {record}")) }
}

/// Whether the process `pid`, which has one thread, sleeps until something happens: it waits for
/// orders in a `read` and for a lock in a `poll` or a `nanosleep`.
fn is_waiting(pid: u32) -> bool {
    let waits = [libc::SYS_poll, libc::SYS_ppoll, libc::SYS_clock_nanosleep];
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = call.split(' ').next().and_then(|number| number.parse().ok());
    number.is_some_and(|number| waits.contains(&number))
}

// ---- what strace saw ----------------------------------------------------------------------------

/// A system call: the how manieth of its name, and what it does.
#[derive(Debug, Clone, PartialEq)]
struct Call {
    name: String,
    nth: usize,
    what: String,
}

impl Call {
    /// Not struck: std panics if it fails, and no filesystem has anything to do at the close of a
    /// directory that could.
    fn is_the_end_of_a_listing(&self) -> bool {
        self.what == "close(the open locks)"
    }

    /// Whether it asks for the lock file, or about it. A write comes from its creator alone.
    fn is_on_the_lock_file(&self) -> bool {
        let is_asked = ["openat", "statx", "flock", "pread64", "unlink"].contains(&&*self.name);
        is_asked && self.what.contains("locks/x.lock")
    }

    /// Whether it asks after other processes, or after ourselves, or frees what is no longer used:
    /// what is not answered proves less.
    fn is_evidence(&self) -> bool {
        self.what.contains("/proc/")
            || ["kill", "fstatfs", "uname", "socket", "prlimit64", "close"].contains(&&*self.name)
    }
}

/// By process, each call after the void ones, and whether it was made to fail.
struct Trace {
    calls: BTreeMap<u32, Vec<(Call, bool)>>,
}

impl Trace {
    fn read(text: &str, dir: &Path) -> Self {
        let mut reader = Reader { dir: dir.display().to_string(), ..Reader::default() };
        let mut unfinished = BTreeMap::new();
        for line in text.lines() {
            let (pid, call) = line.split_once(' ').expect("a pid and a call");
            let (pid, call) = (pid.parse().expect("a pid"), call.trim_start());
            if let Some(begun) = call.strip_suffix(" <unfinished ...>") {
                unfinished.insert(pid, begun.to_owned());
            } else if let Some((_, rest)) = call.split_once(" resumed>") {
                let begun: String = unfinished.remove(&pid).expect("it began");
                reader.read(pid, &format!("{begun}{rest}"));
            } else {
                reader.read(pid, call);
            }
        }
        Self { calls: reader.calls }
    }
}

#[derive(Default)]
struct Reader {
    dir: String,
    counts: BTreeMap<(u32, String), usize>,
    open: BTreeMap<(u32, String), String>,
    calls: BTreeMap<u32, Vec<(Call, bool)>>,
}

impl Reader {
    fn read(&mut self, pid: u32, call: &str) {
        let Some((call, result)) = call.rsplit_once(" = ") else { return };
        let Some((name, arguments)) =
            call.trim_end().strip_suffix(')').and_then(|call| call.split_once('('))
        else {
            return;
        };
        let nth = self.counts.entry((pid, name.to_owned())).or_default();
        *nth += 1;
        let nth = *nth;
        let first = arguments.split(", ").next().unwrap_or_default().to_owned();
        let what = self.what(pid, name, arguments, &first);
        let is_struck = result.ends_with("(INJECTED)");
        if name == "openat" && !result.starts_with('-') {
            let fd = result.split(' ').next().unwrap_or_default().to_owned();
            self.open.insert((pid, fd), what.clone());
        }
        if name == "close" && !is_struck {
            self.open.remove(&(pid, first));
        }
        // Of the calls of std in a build with assertions; of what the process was born with.
        let is_foreign = NOT_STRUCK.contains(&name)
            || (name == "fcntl" && arguments.ends_with("F_GETFD"))
            || arguments.starts_with(VOID)
            || [VOID_KILL, VOID_FLAGS, VOID_ADDRESS].iter().any(|void| arguments.contains(void));
        if !is_foreign {
            self.calls
                .entry(pid)
                .or_default()
                .push((Call { name: name.to_owned(), nth, what }, is_struck));
        }
    }

    /// In words that are the same in every run.
    fn what(&self, pid: u32, name: &str, arguments: &str, first: &str) -> String {
        let file = self.open.get(&(pid, first.to_owned()));
        let text = match file {
            Some(opened) => {
                let opened = opened.strip_prefix("openat(").unwrap_or(opened);
                let file = opened.split([',', ')']).next().unwrap_or_default();
                let operation = if name == "flock" { &arguments[first.len()..] } else { "" };
                return format!("{name}(the open {file}{operation})");
            }
            None if ["openat", "statx", "newfstatat", "readlink", "unlink", "mkdir", "kill"]
                .contains(&name) =>
            {
                arguments.replace("AT_FDCWD, ", "").replace(&format!("{}/", self.dir), "")
            }
            None => return name.to_owned(),
        };
        let text = text.replace('"', "");
        let shown: Vec<&str> = text
            .split(", ")
            .take(if name == "openat" { 2 } else { 1 })
            .filter(|part| !part.starts_with('{'))
            .collect();
        format!("{name}({})", without_pids(&shown.join(", ")))
    }
}

/// `/proc/20211/stat` as `/proc/PID/stat`, and the pid of a `kill` likewise.
fn without_pids(text: &str) -> String {
    let text: Vec<&str> = text
        .split('/')
        .map(|part| {
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if is_number { "PID" } else { part }
        })
        .collect();
    text.join("/")
}

// ---- the real ones ------------------------------------------------------------------------------

/// A directory on a filesystem of its own, which only one process sees, and we by way of that one.
struct Mounted {
    process: Child,
    dir: PathBuf,
    _outer: tempfile::TempDir,
}

impl Mounted {
    /// `script` mounts something on `$DIR`. `None` where nothing can be mounted, which is said.
    fn by(script: &str) -> Option<Self> {
        let outer = tempfile::tempdir().expect("a directory");
        let dir = outer.path().join("locks");
        fs::create_dir(&dir).expect("creates");
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--", "sh", "-c", &format!("{script} && echo there && exec cat")]);
        unshare.env("DIR", &dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = unshare.spawn().ok()?;
        let mut said = String::new();
        let out = process.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut said).expect("its output can be read");
        if said != "there\n" {
            process.wait().expect("ours");
            not_checked("a filesystem of our own: nothing can be mounted here; it takes root");
            return None;
        }
        let dir = PathBuf::from(format!("/proc/{}/root{}", process.id(), dir.display()));
        Some(Self { process, dir, _outer: outer })
    }

    /// By the path that everybody sees.
    fn outside(&self) -> PathBuf {
        self._outer.path().join("locks")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // It ends with its input, and the mount with it.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// The operation failed with this error of the system, and its message names operation and path.
fn is_told(error: &dyn Error, words: &str, path: &Path, code: i32) {
    let message = error.to_string();
    assert_eq!(message, format!("{words} {}", path.display()), "the cause is its source");
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    assert_eq!(source.and_then(io::Error::raw_os_error), Some(code), "{message}");
}

/// A participant of whom each such call on `path` is answered by strace, and not made.
fn answered_by_strace(path: &Path, inject: &str) -> Participant {
    let call = inject.split(':').next().expect("a name");
    let binary = participant::this_test_binary();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(path);
    strace.args(["-e", &format!("trace={call}"), "-e", &format!("inject={inject}")]);
    strace.arg(binary.get_program()).args(binary.get_args());
    for (key, value) in binary.get_envs() {
        strace.env(key, value.expect("set"));
    }
    Participant::start_as(strace)
}

#[test]
fn without_kernel_locks_the_exclusive_create_excludes() {
    if !strace_is_there() {
        return;
    }
    for error in ["EOPNOTSUPP", "ENOSYS"] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.lock");
        let start = || answered_by_strace(&path, &format!("flock:error={error}"));
        let (mut holder, mut rival) = (start(), start());
        assert_eq!(holder.try_acquire(&path), "held", "{error}");
        assert_eq!(holder.tell("guarantee"), "ExclusiveCreate");
        assert!(!fs::read_to_string(&path).expect("its record").contains("kernelLock"));
        assert!(rival.try_acquire(&path).starts_with("refused, "));
        holder.end("abort");
        // Nothing proves its death without a race.
        assert!(rival.try_acquire(&path).starts_with("refused, "));
        assert!(fs::exists(&path).expect("looks"));
    }
}

/// One that went on without a lock next to one that has it would break the exclusion.
#[test]
fn passing_lack_of_locks_is_an_error() {
    if !strace_is_there() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.lock");
    let said = answered_by_strace(&path, "flock:error=ENOLCK").try_acquire(&path);
    assert!(said.starts_with("failed, Lock, "), "{said}");
}

#[test]
fn short_write_is_a_failure_that_leaves_nothing() {
    if !strace_is_there() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.lock");
    let mut writer = answered_by_strace(&path, "write:retval=10");
    assert_eq!(writer.try_acquire(&path), "failed, Write, StorageFull");
    assert!(!fs::exists(&path).expect("looks"));
}

#[test]
fn full_filesystem_is_reported_and_cleaned_up() {
    let script = "mount -t tmpfs -o size=64k none \"$DIR\" && \
                  ! head -c 1000000 /dev/zero 2>/dev/null > \"$DIR/fill\"";
    let Some(mounted) = Mounted::by(script) else { return };
    let lock = LockDir::at(&mounted.dir).port(5338).expect("a port");
    for _ in 0..3 {
        let error = lock.try_acquire().expect_err("no room for a record");
        is_told(&error, "cannot write the record to", lock.path(), libc::ENOSPC);
        assert!(error.next_step().contains("free some space"), "{error:#}");
        assert!(!fs::exists(lock.path()).expect("looks"), "the new file is gone");
    }
    // Space that is freed makes it work at once.
    fs::remove_file(mounted.dir.join("fill")).expect("removes");
    let guard = lock.try_acquire().expect("free");
    // A release needs no space.
    let rest = fs::write(mounted.dir.join("fill"), vec![0; 1_000_000]).expect_err("full");
    assert_eq!(rest.raw_os_error(), Some(libc::ENOSPC), "the control");
    guard.release().expect("removes");
}

#[test]
fn missing_free_inode_is_reported() {
    let script = "mount -t tmpfs -o nr_inodes=2 none \"$DIR\" && : > \"$DIR/last\"";
    let Some(mounted) = Mounted::by(script) else { return };
    let lock = LockDir::at(&mounted.dir).port(5338).expect("a port");
    let error = lock.try_acquire().expect_err("no inode");
    let words = "cannot create a lock file in the directory";
    is_told(&error, words, &mounted.dir, libc::ENOSPC);
    fs::remove_file(mounted.dir.join("last")).expect("removes");
    lock.try_acquire().expect("free").release().expect("removes");
}

#[test]
fn read_only_mount_allows_queries_only() {
    let script = "mount --bind \"$DIR\" \"$DIR\" && mount -o remount,ro,bind \"$DIR\"";
    let Some(mounted) = Mounted::by(script) else { return };
    let within = LockDir::at(&mounted.dir).port(5338).expect("a port");
    let outside = LockDir::at(mounted.outside()).port(5338).expect("a port");
    let error = within.try_acquire().expect_err("read only");
    let words = "cannot create a lock file in the directory";
    is_told(&error, words, &mounted.dir, libc::EROFS);

    let mut holder = Participant::holding(outside.path());
    let error = within.try_acquire().expect_err("held");
    let held = error.held().unwrap_or_else(|| panic!("{error}"));
    assert_eq!(held.holder.as_ref().map(|holder| holder.pid), Some(holder.pid()));

    // A dead one's cannot be removed there, and nobody is kept out where it can.
    holder.kill();
    let error = within.try_acquire().expect_err("read only");
    is_told(&error, "cannot remove", within.path(), libc::EROFS);
    let error = within.clear().expect_err("read only");
    is_told(&error, "cannot remove", within.path(), libc::EROFS);
    let guard = outside.try_acquire().expect("its holder is dead");
    assert!(guard.recovered_from().is_some());
}

/// A sticky directory, as /tmp: what another user left may be opened by all and removed by nobody.
#[test]
fn unremovable_stale_file_is_reported_and_stays() {
    use std::os::unix::fs::PermissionsExt;
    // SAFETY: geteuid only returns a number.
    if unsafe { libc::geteuid() } != 0 {
        return not_checked("another user's directory: it takes root to become another user");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let permit = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permits");
    };
    permit(dir.path(), 0o1777);
    let path = dir.path().join("x.lock");
    let mut dead = Participant::holding(&path);
    dead.kill();
    permit(&path, 0o666);
    let before = fs::read(&path).expect("stands");
    let mut other = Participant::start();
    assert_eq!(other.tell("become-user 65534"), "done");
    assert_eq!(other.try_acquire(&path), "failed, Unlink, PermissionDenied");
    let said = other.tell(&format!("clear {}", path.display()));
    assert_eq!(said, format!("failed, cannot remove {}", path.display()));
    assert_eq!(fs::read(&path).expect("stands"), before);
    permit(dir.path(), 0o700);
    assert_eq!(other.try_acquire(&path), "failed, Create, PermissionDenied");
    let guard = Lock::at(&path).try_acquire().expect("its owner may remove it");
    assert!(guard.recovered_from().is_some());
}

/// Asked for the first time without a free descriptor, a process does not know its boot, nor when
/// it started. That must not stay so.
#[test]
fn descriptor_exhaustion_is_reported_and_recoverable() {
    let mut stage = Stage::untraced();
    let path = stage.dir.path().join("locks/x.lock");
    let whole: serde_json::Value = serde_json::from_slice(&stage.dead).expect("JSON");
    let mut tell = |order: &str| {
        stage.order(order);
        stage.answer()
    };
    let acquire = format!("try {}", path.display());
    tell("fork");
    for _ in 0..3 {
        assert_eq!(tell("limit 0"), "limited");
        let said = tell(&acquire);
        let words = format!(
            "failed\t{}\tcannot create a lock file in the directory {}",
            libc::EMFILE,
            path.parent().expect("a directory").display()
        );
        assert_eq!(said, words);
        assert!(!fs::exists(&path).expect("looks"));
        assert_eq!(tell("limit 1024"), "limited");
        assert_eq!(tell(&acquire), "held");
        let record = fs::read(&path).expect("stands");
        let record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
        for key in ["boot", "host", "pidNamespace"] {
            assert_eq!(record[key], whole[key], "{record}");
        }
        assert!(record["processStart"].is_u64(), "{record}");
        // The release needs none.
        assert_eq!(tell("limit 0"), "limited");
        assert_eq!(tell("release"), "released");
    }
    assert_eq!(tell("end"), "ended 0");
}

// ---- the process that is struck -----------------------------------------------------------------

const ROLE: &str = "PORTLOCK_TEST_STRUCK";
const ANSWER: &str = "answer: ";

/// Of a void call, as strace shows it: no descriptor, no process, no flags, no address.
const VOID: &str = "-1";
const VOID_KILL: &str = "2147483647, 0";
const VOID_FLAGS: &str = "|0xfff7f7ff";
const VOID_ADDRESS: &str = "0xffffffffffffffff";

#[test]
fn process_is_struck_while_following_orders() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    while let Some(order) = next_order() {
        assert_eq!(order, "fork");
        // SAFETY: the other thread is the harness's, which waits; the child may do anything.
        match unsafe { libc::fork() } {
            0 => {
                let played = std::panic::catch_unwind(play);
                // SAFETY: takes a number and does not return.
                unsafe { libc::_exit(i32::from(played.is_err())) }
            }
            child => {
                let mut status = 0;
                // SAFETY: `status` has room for the answer.
                unsafe { libc::waitpid(child, &mut status, 0) };
                answer(&format!("ended {status}"));
            }
        }
    }
    std::process::exit(0);
}

fn play() {
    answer(&std::process::id().to_string());
    let mut guard = None;
    while let Some(order) = next_order().filter(|order| order != "end") {
        let (order, rest) = order.split_once(' ').unwrap_or((&order, ""));
        let said = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            carry_out(order, rest, &mut guard)
        }));
        answer(&said.unwrap_or_else(|_| "panicked".to_owned()));
    }
    drop(guard);
}

fn carry_out(order: &str, rest: &str, guard: &mut Option<Guard>) -> String {
    let lock = Lock::at(if rest.starts_with('/') { rest } else { "/" });
    let mut keep = |attempt: Result<Guard, portlock::AcquireError>| match attempt {
        Ok(got) => {
            *guard = Some(got);
            "held".to_owned()
        }
        Err(error) if error.is_held() => format!("refused\t\t{error}"),
        Err(error) => failed(&error),
    };
    match order {
        "burn" => {
            let (name, times) = rest.split_once(' ').expect("two words");
            burn(name, times.parse().expect("a number"));
            "burnt".to_owned()
        }
        "limit" => {
            limit_descriptors(rest.parse().expect("a number"));
            "limited".to_owned()
        }
        "try" => keep(lock.try_acquire()),
        "claim-try" => {
            keep(lock.try_acquire());
            "held".to_owned()
        }
        "acquire" => keep(lock.acquire()),
        "acquire-within-no-time" => keep(lock.acquire_timeout(Duration::ZERO)),
        "release" => match guard.take().expect("holds").release() {
            Ok(()) => "released".to_owned(),
            Err(ReleaseError::Lost { .. }) => "lost".to_owned(),
            Err(error) => {
                let said = failed(&error);
                *guard = error.into_guard();
                said
            }
        },
        "drop" => {
            drop(guard.take());
            "dropped".to_owned()
        }
        "clear" => cleared(lock.clear()),
        "force-clear" => match lock.status() {
            Ok(Status::Unknown { holder: Some(holder), .. }) => forced(&lock, &holder),
            Ok(other) => state(&other),
            Err(error) => failed(&error),
        },
        "status" => match lock.status() {
            Ok(status) => state(&status),
            Err(error) => failed(&error),
        },
        "list" => match directory_of(&lock).list() {
            Ok(listed) => each(listed.into_iter().map(|listed| match listed.status {
                Ok(status) => state(&status),
                Err(error) => failed(&error),
            })),
            Err(error) => failed(&error),
        },
        "sweep" => match directory_of(&lock).sweep() {
            Ok(swept) => each(swept.into_iter().map(|swept| match swept.removed {
                Ok(_) => "swept".to_owned(),
                Err(error) => failed(&error),
            })),
            Err(error) => failed(&error),
        },
        _ => "no such order".to_owned(),
    }
}

fn forced(lock: &Lock, holder: &Holder) -> String {
    cleared(lock.force_clear(holder))
}

fn cleared(attempt: Result<Option<portlock::Reclaimed>, portlock::AcquireError>) -> String {
    match attempt {
        Ok(Some(_)) => "cleared".to_owned(),
        Ok(None) => "nothing".to_owned(),
        Err(error) if error.is_held() => format!("refused\t\t{error}"),
        Err(error) => failed(&error),
    }
}

fn state(status: &Status) -> String {
    match status {
        Status::Free => "stands: free",
        Status::Held { .. } => "stands: held",
        Status::Stale { .. } => "stands: stale",
        _ => "stands: unknown",
    }
    .to_owned()
}

fn directory_of(lock: &Lock) -> LockDir {
    LockDir::at(lock.path().parent().expect("a directory"))
}

fn each(answers: impl Iterator<Item = String>) -> String {
    answers.collect::<Vec<_>>().join(", ")
}

fn failed(error: &dyn Error) -> String {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let code = source.and_then(io::Error::raw_os_error).map(|code| code.to_string());
    format!("failed\t{}\t{error}", code.unwrap_or_default())
}

/// Makes so many calls of this name that do nothing.
fn burn(name: &str, times: usize) {
    let number = match name {
        "none" => return,
        "openat" => libc::SYS_openat,
        "statx" => libc::SYS_statx,
        "newfstatat" => libc::SYS_newfstatat,
        "fstat" => libc::SYS_fstat,
        "flock" => libc::SYS_flock,
        "write" => libc::SYS_write,
        "pread64" => libc::SYS_pread64,
        "read" => libc::SYS_read,
        "lseek" => libc::SYS_lseek,
        "unlink" => libc::SYS_unlink,
        "mkdir" => libc::SYS_mkdir,
        "close" => libc::SYS_close,
        "kill" => libc::SYS_kill,
        "readlink" => libc::SYS_readlink,
        "fstatfs" => libc::SYS_fstatfs,
        "uname" => libc::SYS_uname,
        "socket" => libc::SYS_socket,
        "prlimit64" => libc::SYS_prlimit64,
        "getdents64" => libc::SYS_getdents64,
        "ftruncate" => libc::SYS_ftruncate,
        "fcntl" => libc::SYS_fcntl,
        "poll" => libc::SYS_poll,
        "ppoll" => libc::SYS_ppoll,
        "inotify_init1" => libc::SYS_inotify_init1,
        "inotify_add_watch" => libc::SYS_inotify_add_watch,
        "inotify_rm_watch" => libc::SYS_inotify_rm_watch,
        other => panic!("no void call is known: {other}"),
    };
    for _ in 0..times {
        // SAFETY: no descriptor, address or process has this number, and signal 0 sends nothing,
        // so the call does nothing.
        unsafe {
            if number == libc::SYS_kill {
                libc::syscall(number, i64::from(i32::MAX), 0);
            } else {
                libc::syscall(number, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64);
            }
        }
    }
}

/// No descriptor from this number on is given out.
fn limit_descriptors(number: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid pointer.
    let limited = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = number;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit)
    };
    assert_eq!(limited, 0, "{}", io::Error::last_os_error());
}

/// The orders come, and the answers go, by calls that the library does not make.
fn next_order() -> Option<String> {
    let mut line = Vec::new();
    loop {
        let mut byte = 0_u8;
        let room = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        // SAFETY: there is room for one byte.
        if unsafe { libc::readv(0, &room, 1) } != 1 {
            return None;
        }
        if byte == b'\n' {
            return Some(String::from_utf8(line).expect("orders are text"));
        }
        line.push(byte);
    }
}

fn answer(said: &str) {
    let mut line = format!("{ANSWER}{said}\n").into_bytes();
    let text = libc::iovec { iov_base: line.as_mut_ptr().cast(), iov_len: line.len() };
    // SAFETY: the text is ours, and of that length.
    let written = unsafe { libc::writev(1, &text, 1) };
    assert_eq!(usize::try_from(written).ok(), Some(line.len()), "the test listens");
}
