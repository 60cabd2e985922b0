//! One process of a soak: what it does, at random, until it is told to stop or is killed.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use portlock::{AcquireError, Guard, Refusal, ReleaseError, Status};

use crate::arena::{Arena, LOCKS, REMOVED};
use crate::participant::{NOBODY, must_return, old_record};
use crate::witness::Witness;
use crate::{Role, environment, pause, this_binary_as};

/// Milliseconds for which an attempt with a limit waits, at most.
const LONGEST_WAIT: u64 = 20;

pub(crate) struct Part<'a> {
    arena: &'a Arena,
    rng: fastrand::Rng,
    /// First of all that it opens.
    witnesses: Vec<Witness>,
    /// Forked children that have not been waited for.
    children: Vec<libc::pid_t>,
}

/// How deep in holds an attempt is made: what ends the process is left to the outermost.
#[derive(Clone, Copy, PartialEq)]
enum Depth {
    Outermost,
    /// A second lock is tried for and never waited for, or two could wait for each other.
    Inner,
}

impl<'a> Part<'a> {
    pub(crate) fn new(arena: &'a Arena, rng: fastrand::Rng) -> Self {
        let witnesses = (0..LOCKS).map(|n| Witness::open(&arena.witness(n))).collect();
        Self { arena, rng, witnesses, children: Vec::new() }
    }

    pub(crate) fn play(mut self) {
        if let Some(n) = environment::<usize>("PORTLOCK_SOAK_OWN") {
            self.take_back(n);
        }
        let before = descriptors();
        while !self.arena.is_stopped() {
            self.turn();
        }
        let after = descriptors();
        if after != before {
            let leaked = format!("leaked descriptors: {before} at the start, {after} at the end");
            self.arena.violation(&leaked);
        }
        self.arena.event(b'.');
    }

    fn turn(&mut self) {
        let n = self.rng.usize(..=REMOVED);
        match self.rng.u32(..1000) {
            0..640 => self.acquire(n, Depth::Outermost),
            640..780 => self.ask(n),
            780..795 => self.run_a_query(n),
            795..815 => self.run_a_command(),
            815..855 => self.plant(n),
            855..900 => self.remove_by_hand(),
            _ => pause(&mut self.rng, 500),
        }
    }

    fn acquire(&mut self, n: usize, depth: Depth) {
        let lock = self.arena.lock(n);
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
                self.arena.event(if held.reason == Refusal::Holder { b'r' } else { b'u' });
            }
            Err(AcquireError::Timeout { .. }) => self.arena.event(b't'),
            Err(error) => self.arena.violation(&format!("lock {n}: {error}")),
        }
    }

    fn hold(&mut self, n: usize, guard: Guard, depth: Depth) {
        self.arena.event(if guard.recovered_from().is_some() { b'A' } else { b'a' });
        self.enter(n);
        pause(&mut self.rng, 300);
        if n != REMOVED {
            self.look_at_own(n, &guard);
        }
        let mut guard = Some(guard);
        match self.rng.u32(..100) {
            0..10 if n + 1 < LOCKS => {
                self.arena.event(b'n');
                let other = self.rng.usize(n + 1..LOCKS);
                self.acquire(other, Depth::Inner);
            }
            10..13 if depth == Depth::Outermost => self.fork(n, &mut guard),
            13..14 => self.hand_over(guard.as_ref().expect("held")),
            14..18 => pause(&mut self.rng, 10_000),
            _ => {}
        }
        let guard = guard.expect("only a forked child takes it");
        if n != REMOVED && !guard.is_still_held().unwrap_or(false) {
            self.arena.violation(&format!("lock {n} was lost while it was held"));
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
            self.arena.violation(&format!("two hold lock {n}: this process, and pid {other}"));
        }
    }

    fn leave(&self, n: usize) {
        if let Some(witness) = self.witnesses.get(n) {
            witness.leave();
        }
    }

    /// A lock that is held has a record that says so, and is nobody else's, not this process's
    /// either.
    fn look_at_own(&mut self, n: usize, guard: &Guard) {
        let lock = self.arena.lock(n);
        match self.rng.u32(..20) {
            0 => match lock.status() {
                Ok(Status::Held { holder, .. }) if holder.as_ref() == Some(guard.holder()) => {}
                other => self.arena.violation(&format!("holds lock {n}, and hears: {other:?}")),
            },
            1 => match lock.try_acquire() {
                Err(AcquireError::Held(_)) => {}
                other => self.arena.violation(&format!("holds lock {n}, and again: {other:?}")),
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
                self.arena.event(b'D');
            }
            _ => match guard.release() {
                Ok(()) => self.arena.event(b'R'),
                Err(ReleaseError::Lost { .. }) if n == REMOVED => self.arena.event(b'L'),
                Err(error) => self.arena.violation(&format!("lock {n}, release: {error}")),
            },
        }
    }

    /// Ends the process with its guard alive: `x` by exit, which releases; `X` by a signal.
    fn exit_with(&mut self, guard: Guard, how: u8) -> ! {
        let _guard = std::mem::ManuallyDrop::new(guard);
        self.arena.event(how);
        if how == b'X' {
            // SAFETY: takes a signal's number.
            unsafe { libc::raise(libc::SIGKILL) };
        }
        std::process::exit(0)
    }

    /// Its lock file stays, in its own name.
    fn execute_itself(&mut self, n: usize, guard: Guard) {
        let _guard = std::mem::ManuallyDrop::new(guard);
        self.arena.event(b'e');
        let mut again = this_binary_as(Role::Ours, self.arena.root(), self.rng.u64(..));
        let error = again.env("PORTLOCK_SOAK_OWN", n.to_string()).exec();
        self.arena.violation(&format!("exec: {error}"));
    }

    /// After an exec: nobody else may have taken the lock of a process that lives. Once it has
    /// unlinked its own leftover, somebody else may be the first to create.
    fn take_back(&mut self, n: usize) {
        let record = fs::read_to_string(self.arena.lock(n).path()).unwrap_or_default();
        let own = format!("{{\"pid\":{},", std::process::id());
        if n != REMOVED && !record.starts_with(&own) {
            let taken = format!("lock {n} was taken from a process that lives: {record}");
            self.arena.violation(&taken);
        }
        match self.arena.lock(n).acquire() {
            Ok(guard) => self.hold(n, guard, Depth::Inner),
            Err(error) => self.arena.violation(&format!("lock {n}, after exec: {error}")),
        }
    }

    /// The child has the lock file open, and its guard is a stranger's.
    fn fork(&mut self, n: usize, guard: &mut Option<Guard>) {
        self.arena.event(b'f');
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
                other => self.arena.violation(&format!("a forked child's release: {other:?}")),
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

    /// A command that keeps the lock file open, for longer than this process perhaps.
    #[expect(clippy::zombie_processes, reason = "waited for by pid at the end of the hold")]
    fn hand_over(&mut self, guard: &Guard) {
        let mut command = Command::new("sleep");
        command.arg("0.01").stdin(Stdio::null());
        guard.pass_to_child(&mut command);
        let mut child = command.spawn().expect("sleep runs");
        self.arena.event(b'h');
        if self.rng.bool() {
            child.wait().expect("it is ours");
        } else {
            self.children.push(libc::pid_t::try_from(child.id()).expect("a pid"));
        }
    }

    // ---- what is no acquire -----------------------------------------------------------------

    fn ask(&mut self, n: usize) {
        let (lock, dir) = (self.arena.lock(n), self.arena.dir());
        let failed = match self.rng.u32(..4) {
            0 => {
                self.arena.event(b's');
                lock.status().err().map(|error| format!("{error:#}"))
            }
            1 => {
                self.arena.event(b'l');
                match dir.list() {
                    Ok(listed) => listed
                        .into_iter()
                        .find_map(|one| one.status.err().map(|error| format!("{error:#}"))),
                    Err(error) => Some(format!("{error:#}")),
                }
            }
            2 => {
                self.arena.event(b'c');
                lock.clear()
                    .err()
                    .filter(|error| !error.is_held())
                    .map(|error| format!("{error:#}"))
            }
            _ => {
                self.arena.event(b'w');
                match dir.sweep() {
                    Ok(swept) => swept
                        .into_iter()
                        .find_map(|one| one.removed.err().map(|error| format!("{error:#}"))),
                    Err(error) => Some(format!("{error:#}")),
                }
            }
        };
        if let Some(error) = failed {
            self.arena.violation(&format!("lock {n}: {error}"));
        }
    }

    /// Statuses: 0 it was done, 3 stale, 4 cannot tell, 75 held.
    fn run_a_query(&mut self, n: usize) {
        let name = Arena::name(n);
        let (arguments, expected) = match self.rng.u32(..4) {
            0 => (vec!["status", &name], &[0, 3, 4, 75][..]),
            1 => (vec!["list"], &[0][..]),
            2 => (vec!["clear", &name], &[0, 75][..]),
            _ => (vec!["sweep"], &[0][..]),
        };
        let done = must_return("portlock ends", || self.command(&arguments).output())
            .expect("portlock runs");
        self.arena.event(b'q');
        if !done.status.code().is_some_and(|code| expected.contains(&code)) {
            self.arena.violation(&format!("portlock {arguments:?}: {done:?}"));
        }
    }

    /// `portlock run`, whose command is a witness; sometimes portlock is killed, and the command
    /// goes on with the lock.
    fn run_a_command(&mut self) {
        let n = self.rng.usize(..LOCKS);
        let name = Arena::name(n);
        let how = self.rng.choice([&["run"][..], &["run", "-w", "0.05"], &["run", "-F"]]);
        let mut command = self.command(how.expect("not empty"));
        let inner = this_binary_as(Role::Witness, self.arena.root(), self.rng.u64(..));
        command.arg(name).arg("--").arg(inner.get_program()).args(inner.get_args());
        for (key, value) in inner.get_envs() {
            command.env(key, value.expect("only set"));
        }
        command.env("PORTLOCK_SOAK_WITNESS", n.to_string());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("portlock runs");
        self.arena.event(b'C');
        if self.rng.u32(..4) == 0 {
            pause(&mut self.rng, 10_000);
            child.kill().expect("it is ours");
            child.wait().expect("it is ours");
            return self.arena.event(b'k');
        }
        match child.wait().expect("it is ours").code() {
            Some(0) => {}
            Some(75) => self.arena.event(b'B'),
            other => self.arena.violation(&format!("portlock run ended with {other:?}")),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portlock"));
        command.args(arguments).env("PORTLOCK_DIR", self.arena.locks()).stdin(Stdio::null());
        command
    }

    /// Puts a file there as a whole, if none stands there: what a dead one of any kind might have
    /// left. Rarely a young one, for which all must wait until its grace is over.
    fn plant(&mut self, n: usize) {
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        let dead = old_record(NOBODY, hour_ago);
        // Garbage is nobody's in a port's own file alone.
        let in_a_ports_own = ["garbage", "{}"].map(|text| if n == REMOVED { "" } else { text });
        let [garbage, object] = in_a_ports_own;
        let contents = ["", "{", "\0\0\0", garbage, object, &dead, &dead[..dead.len() / 2]];
        let planted = self.arena.root().join(format!("planted-{}", std::process::id()));
        let file = File::create(&planted).expect("made");
        fs::write(&planted, self.rng.choice(contents).expect("not empty")).expect("written");
        if self.rng.u32(..2_000) > 0 {
            file.set_modified(hour_ago).expect("its time is set");
        }
        if fs::hard_link(&planted, self.arena.lock(n).path()).is_ok() {
            self.arena.event(b'p');
        }
        fs::remove_file(&planted).expect("removed");
    }

    fn remove_by_hand(&mut self) {
        if fs::remove_file(self.arena.lock(REMOVED).path()).is_ok() {
            self.arena.event(b'm');
        }
    }
}

/// The command of a `portlock run`: it has inherited the lock file, and holds while it lives.
pub(crate) fn witness(arena: &Arena, rng: &mut fastrand::Rng) {
    let n = environment("PORTLOCK_SOAK_WITNESS").expect("set");
    let witness = Witness::open(&arena.witness(n));
    if let Err(other) = witness.enter() {
        arena.violation(&format!("two hold lock {n}: a command, and pid {other}"));
    }
    arena.event(b'H');
    pause(rng, 3_000);
    witness.leave();
}

/// How many files this process has open,
/// without the one queue of events that it keeps for its next wait.
fn descriptors() -> usize {
    let open = fs::read_dir("/proc/self/fd").expect("/proc is there").flatten();
    let (queues, others): (Vec<_>, Vec<_>) = open
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .partition(|target| target.as_os_str() == "anon_inode:inotify");
    others.len() + queues.len().saturating_sub(1)
}
