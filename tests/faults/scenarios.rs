//! The operations whose calls fail, each in its situations, and a run of each.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::SystemTime;

use portlock::Lock;

use crate::oracle::{Ran, Said};
use crate::participant::{Participant, must_return, set_modified, wait_until};
use crate::syscalls::{Call, Trace};
use crate::target::{ANSWER, ROLE};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scenario {
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

/// Every call of every undisturbed scenario, recorded until two records agree: other locks on this
/// machine can make a query read /proc/locks again.
pub(super) fn recorded_calls() -> Vec<(Scenario, Vec<Call>)> {
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
    let mut harness = Harness::start(&[], None);
    let ran: Vec<_> =
        SCENARIOS.into_iter().map(|scenario| (scenario, harness.run(scenario, None))).collect();
    let trace = harness.finish();
    ran.into_iter()
        .map(|(scenario, ran)| {
            assert_eq!(ran.wrong(None), Vec::<String>::new(), "{scenario:?}: {ran:?}");
            let calls: Vec<&Call> = trace.calls[&ran.pid].iter().map(|(call, _)| call).collect();
            (scenario, worth_injecting(scenario, &calls))
        })
        .collect()
}

/// All calls except redundant ones.
fn worth_injecting(scenario: Scenario, calls: &[&Call]) -> Vec<Call> {
    // A process queries itself once, in the same way in every scenario. It matters where the lock
    // is taken and where another process's record is judged.
    let itself = ["/proc/self/timens_offsets", "boot_id", "/proc/self/stat", "/proc/self/ns/pid"];
    let alike = |call: &Call| {
        !matches!(scenario, Scenario::Free | Scenario::Reclaim | Scenario::Refused)
            && itself.iter().any(|file| call.what.contains(file))
    };
    let last = |same: &[&Call]| same.len() - 1;
    let calls: Vec<Call> = calls
        .chunk_by(|one, next| one.what == next.what)
        .flat_map(|same| {
            // std reads a file of /proc in many pieces: only the first and the last matter.
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

/// Runs the scenarios: a directory, the process that forks, and strace around it.
pub(super) struct Harness {
    pub(super) dir: tempfile::TempDir,
    strace: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    holder: Participant,
    pub(super) dead: Vec<u8>,
    foreign: Vec<u8>,
    pub(super) claims: bool,
    /// The number of the failing call among those of its name: larger than in any scenario.
    injected_nth: usize,
}

impl Harness {
    /// `calls` are those that can be made to fail.
    pub(super) fn start(calls: &[(Scenario, Vec<Call>)], error: Option<&str>) -> Self {
        let calls = || calls.iter().flat_map(|(_, calls)| calls);
        let injected_nth = 16 + calls().map(|call| call.nth).max().unwrap_or(0);
        let names: BTreeSet<&str> = calls().map(|call| &*call.name).collect();
        let dir = tempfile::tempdir().expect("a directory");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-s", "16", "-o"]).arg(dir.path().join("trace"));
        if let Some(error) = error {
            let names = names.iter().copied().collect::<Vec<_>>().join(",");
            strace.arg("--seccomp-bpf").arg(format!("--trace={names}"));
            strace.arg(format!("--inject={names}:error={error}:when={injected_nth}"));
        }
        strace.arg(std::env::current_exe().expect("the test binary has a path"));
        Self::start_as(strace, dir, injected_nth)
    }

    /// Without strace.
    pub(super) fn untraced() -> Self {
        let binary = Command::new(std::env::current_exe().expect("the test binary has a path"));
        Self::start_as(binary, tempfile::tempdir().expect("a directory"), 0)
    }

    fn start_as(mut command: Command, dir: tempfile::TempDir, injected_nth: usize) -> Self {
        let entry = "target::target_follows_orders_while_calls_fail";
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
        let left = fs::read(&path).expect("its file exists");
        let mut foreign: serde_json::Value = serde_json::from_slice(&left).expect("JSON");
        // From another pid namespace, without a kernel lock.
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
            injected_nth,
        }
    }

    pub(super) fn order(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("it still takes orders");
        writeln!(orders, "{order}").expect("it is alive");
    }

    pub(super) fn answer(&mut self) -> String {
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
        // SAFETY: one valid structure.
        !self.answers.buffer().is_empty() || unsafe { libc::poll(&mut asked, 1, 0) } > 0
    }

    /// Runs a scenario in a new process, with one failing call.
    pub(super) fn run(&mut self, scenario: Scenario, fault: Option<&Call>) -> Ran {
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
            fault.map_or(("none", 0), |call| (&*call.name, self.injected_nth - call.nth));
        self.order(&format!("burn {name} {times}"));
        assert_eq!(self.answer(), "burnt");
        let mut run =
            Run { harness: self, path: path.clone(), pid, said: vec![], problems: vec![] };
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

    /// Checks that the next acquire succeeds. Returns whether a file was left.
    fn clear_up(&mut self, scenario: Scenario, path: &Path, problems: &mut Vec<String>) -> bool {
        if matches!(scenario, Scenario::Refused | Scenario::TimedOut | Scenario::StatusOfHeld) {
            if self.holder.request("current") != "true" {
                problems.push("the holder lost its file".to_owned());
            }
            return false;
        }
        let plants = fs::exists(path).expect("it can be checked") && scenario.plants();
        let mut left = false;
        if let Ok(found) = fs::read(path) {
            left = !plants;
            if found.is_empty() {
                // By its time it is a creator's for two seconds.
                set_modified(path, SystemTime::UNIX_EPOCH);
            }
        }
        if scenario == Scenario::ForceClear {
            // Only a forced clear removes it.
            let _ = fs::remove_file(path);
        }
        match Lock::at(path).try_acquire() {
            Ok(guard) => guard.release().expect("removes"),
            Err(error) => problems.push(format!("the next acquire: {error}")),
        }
        let locks = self.dir.path().join("locks");
        let _ = fs::remove_dir(locks.join("a/b")).and_then(|()| fs::remove_dir(locks.join("a")));
        let leftovers: Vec<_> = fs::read_dir(&locks).expect("exists").flatten().collect();
        if !leftovers.is_empty() {
            problems.push(format!("leftovers: {leftovers:?}"));
        }
        for entry in leftovers {
            let _ = fs::remove_file(entry.path());
        }
        left
    }

    /// Ends it, and reads strace's output.
    pub(super) fn finish(mut self) -> Trace {
        drop(self.orders.take());
        assert!(must_return("it ends", || self.strace.wait()).expect("ours").success());
        let text = fs::read_to_string(self.dir.path().join("trace")).expect("strace wrote it");
        Trace::read(&text, self.dir.path())
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        // The process ends with its input, and strace with it.
        drop(self.orders.take());
        let _ = self.strace.wait();
    }
}

impl Scenario {
    /// Whether the scenario begins with a file, which the operation may leave unchanged.
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

/// A running scenario.
struct Run<'a> {
    harness: &'a mut Harness,
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
            Scenario::Refused => drop(self.request("try")),
            Scenario::Drop => {
                if self.acquire("try") {
                    self.request("drop");
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
                    let successor = Lock::at(&self.path).try_acquire().expect("free");
                    self.release("lost");
                    if !successor.is_still_held().expect("it can be checked") {
                        self.problems.push("a successor's file was removed".to_owned());
                    }
                }
            }
            Scenario::Wait => self.wait(),
            Scenario::TimedOut => drop(self.request("acquire-within-no-time")),
            Scenario::Clear => drop(self.request("clear")),
            Scenario::ForceClear => drop(self.request("force-clear")),
            Scenario::StatusOfHeld | Scenario::StatusOfDead => drop(self.request("status")),
            Scenario::List => drop(self.request("list")),
            Scenario::Sweep => drop(self.request("sweep")),
        }
    }

    fn request(&mut self, order: &str) -> String {
        let claims = if self.harness.claims && order == "try" { "claim-" } else { "" };
        self.harness.order(&format!("{claims}{order} {}", self.path.display()));
        self.read_answer(order)
    }

    fn read_answer(&mut self, order: &str) -> String {
        let answer = self.harness.answer();
        let mut parts = answer.splitn(3, '\t');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let (word, code, message) = (part(), part().parse().ok(), part());
        self.said.push(Said { order: order.to_owned(), word: word.clone(), code, message });
        word
    }

    fn acquire(&mut self, order: &str) -> bool {
        self.request(order) == "held" && self.check_that_it_holds()
    }

    /// The witness: the kernel lock, the path and the record, seen from this process; and a rival.
    fn check_that_it_holds(&mut self) -> bool {
        let witnessed = witness(&self.path, self.pid);
        if let Err(reason) = &witnessed {
            self.problems.push(format!("it reports that it holds, and {reason}"));
        }
        let rival = Lock::at(&self.path).try_acquire();
        if !rival.as_ref().is_err_and(portlock::AcquireError::is_held) {
            self.problems.push(format!("next to a holder: {rival:?}"));
        }
        witnessed.is_ok()
    }

    /// A failed release keeps the lock, and the next one succeeds.
    fn release(&mut self, expected: &str) {
        if self.request("release") == "failed" {
            // Another process may have removed the holder's file.
            if witness(&self.path, self.pid).is_err() && expected == "released" {
                self.problems.push("the kept lock is not held".to_owned());
            }
            self.harness.order("release");
            let again = self.harness.answer();
            if again != expected {
                self.problems.push(format!("the second release: {again}"));
            }
        }
    }

    /// It waits for the holder, which releases when the waiter sleeps or has answered.
    fn wait(&mut self) {
        let holder = Lock::at(&self.path).try_acquire().expect("free");
        self.harness.order(&format!("acquire {}", self.path.display()));
        wait_until("it waits or has answered", || {
            self.harness.has_answered() || is_waiting(self.pid)
        });
        holder.release().expect("removes");
        if self.read_answer("acquire") == "held" && self.check_that_it_holds() {
            self.release("released");
        }
    }
}

/// Whether the process `pid` holds the lock `path`, by the kernel lock and the record.
fn witness(path: &Path, pid: u32) -> Result<(), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    // SAFETY: flock on a number; the file is open.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) } == 0 {
        return Err("no process has the kernel lock".to_owned());
    }
    let record = fs::read(path).map_err(|error| error.to_string())?;
    let record: serde_json::Value =
        serde_json::from_slice(&record).map_err(|error| error.to_string())?;
    if record["pid"] == pid { Ok(()) } else { Err(format!("the record is {record}")) }
}

/// Whether the process `pid`, which has one thread, waits for a lock, in a `poll` or a `nanosleep`.
/// It waits for orders in a `readv`.
fn is_waiting(pid: u32) -> bool {
    let waits = [libc::SYS_poll, libc::SYS_ppoll, libc::SYS_clock_nanosleep];
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = call.split(' ').next().and_then(|number| number.parse().ok());
    number.is_some_and(|number| waits.contains(&number))
}
