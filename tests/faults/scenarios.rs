//! The operations whose calls fail, each in the circumstances that it meets, and one run of each.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime};

use portlock::Lock;

use crate::oracle::{Ran, Said};
use crate::participant::{Participant, must_return, wait_until};
use crate::struck::{ANSWER, ROLE};
use crate::syscalls::{Call, Trace};

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

/// Every call of every scenario, when nothing fails: those of a record that the next one repeats.
/// Other locks of this machine that come and go make a query read /proc/locks once more.
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
pub(super) struct Stage {
    pub(super) dir: tempfile::TempDir,
    strace: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    holder: Participant,
    pub(super) dead: Vec<u8>,
    foreign: Vec<u8>,
    pub(super) claims: bool,
    /// The number of the call that fails, of its name and in its process: no scenario has so many.
    struck: usize,
}

impl Stage {
    /// `calls` are those that can be made to fail.
    pub(super) fn start(calls: &[(Scenario, Vec<Call>)], error: Option<&str>) -> Self {
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
    pub(super) fn untraced() -> Self {
        let binary = Command::new(std::env::current_exe().expect("the test binary has a path"));
        Self::played_by(binary, tempfile::tempdir().expect("a directory"), 0)
    }

    fn played_by(mut command: Command, dir: tempfile::TempDir, struck: usize) -> Self {
        let entry = "struck::process_is_struck_while_following_orders";
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

    pub(super) fn order(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("it still takes orders");
        writeln!(orders, "{order}").expect("it lives");
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
        // SAFETY: one structure, which is ours.
        !self.answers.buffer().is_empty() || unsafe { libc::poll(&mut asked, 1, 0) } > 0
    }

    /// Plays one scenario in a process of its own, with one of its calls struck.
    pub(super) fn run(&mut self, scenario: Scenario, strike: Option<&Call>) -> Ran {
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
    pub(super) fn finish(mut self) -> Trace {
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
