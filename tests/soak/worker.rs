//! One process of a soak: it acts at random until it is stopped or killed.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use portlock::{AcquireError, Guard, Refusal, ReleaseError, Status};

use crate::env::{Env, LOCKS, REMOVED};
use crate::participant::{DEAD_PID, must_return, old_record, set_modified};
use crate::witness::Witness;
use crate::{Role, environment, pause, this_binary_as};

/// The longest timeout of an attempt, in milliseconds.
const LONGEST_WAIT: u64 = 20;

pub(crate) struct Worker<'a> {
    env: &'a Env,
    rng: fastrand::Rng,
    /// The first files that it opens.
    witnesses: Vec<Witness>,
    /// Forked children that have not been reaped.
    children: Vec<libc::pid_t>,
}

/// Whether an attempt is made while holding another lock. Only the outermost may end the process.
#[derive(Clone, Copy, PartialEq)]
enum Depth {
    Outermost,
    /// A second lock is tried without waiting, or two processes could wait for each other.
    Inner,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(env: &'a Env, rng: fastrand::Rng) -> Self {
        let witnesses = (0..LOCKS).map(|n| Witness::open(&env.witness(n))).collect();
        Self { env, rng, witnesses, children: Vec::new() }
    }

    pub(crate) fn play(mut self) {
        if let Some(n) = environment::<usize>("PORTLOCK_SOAK_OWN") {
            self.take_back(n);
        }
        let before = descriptors();
        while !self.env.is_stopped() {
            self.turn();
        }
        let after = descriptors();
        if after != before {
            let leaked = format!("leaked descriptors: {before} at the start, {after} at the end");
            self.env.violation(&leaked);
        }
        self.env.event(b'.');
    }

    fn turn(&mut self) {
        let n = self.rng.usize(..=REMOVED);
        match self.rng.u32(..1000) {
            0..640 => self.acquire(n, Depth::Outermost),
            640..780 => self.query(n),
            780..795 => self.run_a_query(n),
            795..815 => self.run_a_command(),
            815..855 => self.plant(n),
            855..900 => self.remove_by_hand(),
            _ => pause(&mut self.rng, 500),
        }
    }

    fn acquire(&mut self, n: usize, depth: Depth) {
        let lock = self.env.lock(n);
        let limit = Duration::from_millis(self.rng.u64(..LONGEST_WAIT));
        let attempt = match self.rng.u32(..10) {
            0..6 => lock.try_acquire(),
            _ if depth == Depth::Inner => lock.try_acquire(),
            6..9 => lock.acquire_timeout(limit),
            _ => lock.acquire(),
        };
        match attempt {
            Ok(guard) => self.hold(n, guard, depth),
            Err(AcquireError::Held(held)) => {
                self.env.event(if held.reason == Refusal::Holder { b'r' } else { b'u' });
            }
            Err(AcquireError::Timeout { .. }) => self.env.event(b't'),
            Err(error) => self.env.violation(&format!("lock {n}: {error}")),
        }
    }

    fn hold(&mut self, n: usize, guard: Guard, depth: Depth) {
        self.env.event(if guard.recovered_from().is_some() { b'A' } else { b'a' });
        self.enter(n);
        pause(&mut self.rng, 300);
        if n != REMOVED {
            self.check_own(n, &guard);
        }
        let mut guard = Some(guard);
        match self.rng.u32(..100) {
            0..10 if n + 1 < LOCKS => {
                self.env.event(b'n');
                let other = self.rng.usize(n + 1..LOCKS);
                self.acquire(other, Depth::Inner);
            }
            10..13 if depth == Depth::Outermost => self.fork(n, &mut guard),
            13..14 => self.pass_to_command(guard.as_ref().expect("held")),
            14..18 => pause(&mut self.rng, 10_000),
            _ => {}
        }
        let guard = guard.expect("only a forked child takes it");
        if n != REMOVED && !guard.is_still_held().unwrap_or(false) {
            self.env.violation(&format!("lock {n} was lost while it was held"));
        }
        self.leave(n);
        self.end(n, guard, depth);
        for child in self.children.drain(..) {
            // SAFETY: null asks for no status.
            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        }
    }

    fn enter(&self, n: usize) {
        if let Some(Err(other)) = self.witnesses.get(n).map(Witness::enter) {
            self.env.violation(&format!("two hold lock {n}: this process, and pid {other}"));
        }
    }

    fn leave(&self, n: usize) {
        if let Some(witness) = self.witnesses.get(n) {
            witness.leave();
        }
    }

    /// A held lock has a record that names its holder, and this process cannot acquire it again.
    fn check_own(&mut self, n: usize, guard: &Guard) {
        let lock = self.env.lock(n);
        match self.rng.u32(..20) {
            0 => match lock.status() {
                Ok(Status::Held { holder, .. }) if holder.as_ref() == Some(guard.holder()) => {}
                other => {
                    self.env.violation(&format!("holds lock {n}, and its status is: {other:?}"))
                }
            },
            1 => match lock.try_acquire() {
                Err(AcquireError::Held(_)) => {}
                other => self
                    .env
                    .violation(&format!("holds lock {n}, and a second acquire is: {other:?}")),
            },
            _ => {}
        }
    }

    fn end(&mut self, n: usize, guard: Guard, depth: Depth) {
        match self.rng.u32(..1000) {
            0..8 if depth == Depth::Outermost => self.exit_with(guard, b'x'),
            8..16 => self.exit_with(guard, b'X'),
            16..36 if depth == Depth::Outermost => self.execute_itself(n, guard),
            36..200 => {
                drop(guard);
                self.env.event(b'D');
            }
            _ => match guard.release() {
                Ok(()) => self.env.event(b'R'),
                Err(ReleaseError::Lost { .. }) if n == REMOVED => self.env.event(b'L'),
                Err(error) => self.env.violation(&format!("lock {n}, release: {error}")),
            },
        }
    }

    /// Ends the process with its guard alive: `x` by exit, which releases; `X` by a signal.
    fn exit_with(&mut self, guard: Guard, how: u8) -> ! {
        let _guard = std::mem::ManuallyDrop::new(guard);
        self.env.event(how);
        if how == b'X' {
            // SAFETY: takes a signal's number.
            unsafe { libc::raise(libc::SIGKILL) };
        }
        std::process::exit(0)
    }

    /// Its lock file stays, with its own record.
    fn execute_itself(&mut self, n: usize, guard: Guard) {
        let _guard = std::mem::ManuallyDrop::new(guard);
        self.env.event(b'e');
        let mut again = this_binary_as(Role::Ours, self.env.root(), self.rng.u64(..));
        let error = again.env("PORTLOCK_SOAK_OWN", n.to_string()).exec();
        self.env.violation(&format!("exec: {error}"));
    }

    /// After an exec: no other process may have taken the lock of a live process. Once this process
    /// has unlinked its own leftover, another one may create first.
    fn take_back(&mut self, n: usize) {
        let record = fs::read_to_string(self.env.lock(n).path()).unwrap_or_default();
        let own = format!("{{\"pid\":{},", std::process::id());
        if n != REMOVED && !record.starts_with(&own) {
            let taken = format!("lock {n} was taken from a live process: {record}");
            self.env.violation(&taken);
        }
        match self.env.lock(n).acquire() {
            Ok(guard) => self.hold(n, guard, Depth::Inner),
            Err(error) => self.env.violation(&format!("lock {n}, after exec: {error}")),
        }
    }

    /// The child has the lock file open, and its guard is inert.
    fn fork(&mut self, n: usize, guard: &mut Option<Guard>) {
        self.env.event(b'f');
        let what = self.rng.u32(..5);
        // SAFETY: the only other thread is the harness's, which waits for this one and holds no
        // lock, so the child may do anything.
        let child = unsafe { libc::fork() };
        if child != 0 {
            assert!(child > 0, "{}", std::io::Error::last_os_error());
            return self.children.push(child);
        }
        self.children.clear();
        self.rng = self.rng.fork();
        match what {
            0 => pause(&mut self.rng, 5_000),
            1 => drop(guard.take()),
            2 => match guard.take().expect("held").release() {
                Err(ReleaseError::Forked { .. }) => {}
                other => self.env.violation(&format!("a forked child's release: {other:?}")),
            },
            3 => self.acquire(n, Depth::Inner),
            _ => self.acquire((n + 1) % LOCKS, Depth::Inner),
        }
        if self.rng.bool() {
            std::process::exit(0);
        }
        // SAFETY: takes a number and does not return.
        unsafe { libc::_exit(0) }
    }

    /// Passes the lock to a command, which may outlive this process.
    #[expect(clippy::zombie_processes, reason = "waited for by pid at the end of the hold")]
    fn pass_to_command(&mut self, guard: &Guard) {
        let mut command = Command::new("sleep");
        command.arg("0.01").stdin(Stdio::null());
        guard.pass_to_child(&mut command);
        let mut child = command.spawn().expect("sleep runs");
        self.env.event(b'h');
        if self.rng.bool() {
            child.wait().expect("it is ours");
        } else {
            self.children.push(libc::pid_t::try_from(child.id()).expect("a pid"));
        }
    }

    // ---- queries, clears, commands, planted files -------------------------------------------

    fn query(&mut self, n: usize) {
        let (lock, dir) = (self.env.lock(n), self.env.dir());
        let failed = match self.rng.u32(..4) {
            0 => {
                self.env.event(b's');
                lock.status().err().map(|error| format!("{error:#}"))
            }
            1 => {
                self.env.event(b'l');
                match dir.list() {
                    Ok(listed) => listed
                        .into_iter()
                        .find_map(|one| one.status.err().map(|error| format!("{error:#}"))),
                    Err(error) => Some(format!("{error:#}")),
                }
            }
            2 => {
                self.env.event(b'c');
                lock.clear()
                    .err()
                    .filter(|error| !error.is_held())
                    .map(|error| format!("{error:#}"))
            }
            _ => {
                self.env.event(b'w');
                match dir.sweep() {
                    Ok(swept) => swept
                        .into_iter()
                        .find_map(|one| one.removed.err().map(|error| format!("{error:#}"))),
                    Err(error) => Some(format!("{error:#}")),
                }
            }
        };
        if let Some(error) = failed {
            self.env.violation(&format!("lock {n}: {error}"));
        }
    }

    /// Exit statuses: 0 done, 3 stale, 4 unknown, 75 held.
    fn run_a_query(&mut self, n: usize) {
        let name = Env::name(n);
        let (arguments, expected) = match self.rng.u32(..4) {
            0 => (vec!["status", &name], &[0, 3, 4, 75][..]),
            1 => (vec!["list"], &[0][..]),
            2 => (vec!["clear", &name], &[0, 75][..]),
            _ => (vec!["sweep"], &[0][..]),
        };
        let done = must_return("portlock ends", || self.command(&arguments).output())
            .expect("portlock runs");
        self.env.event(b'q');
        if !done.status.code().is_some_and(|code| expected.contains(&code)) {
            self.env.violation(&format!("portlock {arguments:?}: {done:?}"));
        }
    }

    /// `portlock run`, whose command is a witness; sometimes portlock is killed, and the command
    /// continues with the lock.
    fn run_a_command(&mut self) {
        let n = self.rng.usize(..LOCKS);
        let name = Env::name(n);
        let how = self.rng.choice([&["run"][..], &["run", "-w", "0.05"], &["run", "-F"]]);
        let mut command = self.command(how.expect("not empty"));
        let inner = this_binary_as(Role::Witness, self.env.root(), self.rng.u64(..));
        command.arg(name).arg("--").arg(inner.get_program()).args(inner.get_args());
        for (key, value) in inner.get_envs() {
            command.env(key, value.expect("only set"));
        }
        command.env("PORTLOCK_SOAK_WITNESS", n.to_string());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("portlock runs");
        self.env.event(b'C');
        if self.rng.u32(..4) == 0 {
            pause(&mut self.rng, 10_000);
            child.kill().expect("it is ours");
            child.wait().expect("it is ours");
            return self.env.event(b'k');
        }
        match child.wait().expect("it is ours").code() {
            Some(0) => {}
            Some(75) => self.env.event(b'B'),
            other => self.env.violation(&format!("portlock run ended with {other:?}")),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portlock"));
        command.args(arguments).env("PORTLOCK_DIR", self.env.locks()).stdin(Stdio::null());
        command
    }

    /// Creates a file atomically, if there is none: the leftover of a dead process. Rarely a young
    /// one, whose grace period all must wait for.
    fn plant(&mut self, n: usize) {
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        let dead = old_record(DEAD_PID, hour_ago);
        // Garbage can only be reclaimed in a port's own file.
        let in_a_ports_own = ["garbage", "{}"].map(|text| if n == REMOVED { "" } else { text });
        let [garbage, object] = in_a_ports_own;
        let contents = ["", "{", "\0\0\0", garbage, object, &dead, &dead[..dead.len() / 2]];
        let planted = self.env.root().join(format!("planted-{}", std::process::id()));
        fs::write(&planted, self.rng.choice(contents).expect("not empty")).expect("written");
        if self.rng.u32(..2_000) > 0 {
            set_modified(&planted, hour_ago);
        }
        if fs::hard_link(&planted, self.env.lock(n).path()).is_ok() {
            self.env.event(b'p');
        }
        fs::remove_file(&planted).expect("removed");
    }

    fn remove_by_hand(&mut self) {
        if fs::remove_file(self.env.lock(REMOVED).path()).is_ok() {
            self.env.event(b'm');
        }
    }
}

/// The command of a `portlock run`: it has inherited the lock file, and holds while it lives.
pub(crate) fn witness(env: &Env, rng: &mut fastrand::Rng) {
    let n = environment("PORTLOCK_SOAK_WITNESS").expect("set");
    let witness = Witness::open(&env.witness(n));
    if let Err(other) = witness.enter() {
        env.violation(&format!("two hold lock {n}: a command, and pid {other}"));
    }
    env.event(b'H');
    pause(rng, 3_000);
    witness.leave();
}

/// The number of open files, without the one event queue that is kept for the next wait.
fn descriptors() -> usize {
    let open = fs::read_dir("/proc/self/fd").expect("/proc is there").flatten();
    let (queues, others): (Vec<_>, Vec<_>) = open
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .partition(|target| target.as_os_str() == "anon_inode:inotify");
    others.len() + queues.len().saturating_sub(1)
}
