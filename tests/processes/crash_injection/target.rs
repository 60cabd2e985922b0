//! The target of an injection: it drives the shipped machines over the shipped adapter, and before
//! and after each call it reports the site and waits for an order.

use std::fs::File;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::Command;

use portlock::protocol::{
    Acquire, Author, Clear, Cleared, Confirm, Create, Dated, Done, FileSystem, Listen, LockReply,
    OpenReply, Probe, Probed, Query, ReadReply, Release, ReleaseFailed, Released, Unlink, Watch,
};

use crate::participant::{answer, ending, outcome, set_byte_lock};

const ROLE: &str = "PORTLOCK_TEST_INJECTION_TARGET";

/// This test binary as a target.
pub(super) fn command() -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test binary has a path"));
    let entry = concat!("crash_injection::target::", "target_reports_each_site_and_waits");
    command.args([entry, "--exact", "--nocapture", "--test-threads=1"]).env(ROLE, "1");
    command
}

#[test]
fn target_reports_each_site_and_waits() {
    if std::env::var_os(ROLE).is_some() {
        Child::play();
        return;
    }
    let place = crate::participant::Place::new();
    let witness = place.sibling("witness");
    File::create_new(&witness).expect("the witness");
    let mut child = crate::participant::Participant::start_as(command());
    let setting = format!("set No {} {}", witness.display(), place.path().display());
    assert_eq!(child.request(&setting), "set");
    assert_eq!(child.request("acquire 0"), "before Creating create");
    assert!(!place.path().exists());
    assert_eq!(child.request("go"), "after Creating create");
    assert!(place.path().exists());
    assert_eq!(child.request("go"), "before LockingCreated lock");
}

struct Child {
    wrong: String,
    faults: Vec<String>,
    path: PathBuf,
    witness: Option<File>,
}

impl Child {
    /// Carries out orders until its input ends.
    fn play() {
        let mut child =
            Self { wrong: String::new(), faults: Vec::new(), path: PathBuf::new(), witness: None };
        let mut fs = None;
        while let Some(order) = next_order() {
            let (order, rest) = order.split_once(' ').unwrap_or((&order, ""));
            match order {
                "set" => {
                    child.set(rest);
                    answer("set");
                }
                "faults" => {
                    child.faults = rest.split_whitespace().map(str::to_owned).collect();
                    answer("set");
                }
                _ => {
                    let fs = fs.get_or_insert_with(|| Announced {
                        inner: portlock::adapter(child.path.clone(), None),
                        path: child.path.clone(),
                        state: String::new(),
                        silent: false,
                        faults: child.faults.clone(),
                        wrong: child.wrong.clone(),
                    });
                    let how = child.carry_out(order, rest, fs);
                    answer(&how);
                }
            }
        }
    }

    /// `WRONG WITNESS PATH`
    fn set(&mut self, rest: &str) {
        let mut words = rest.splitn(3, ' ');
        let mut word = || words.next().expect("three words");
        word().clone_into(&mut self.wrong);
        let witness = File::options().write(true).open(word());
        self.witness = Some(witness.expect("the witness opens"));
        self.path = word().into();
    }

    fn carry_out<F: FileSystem>(
        &mut self,
        order: &str,
        rest: &str,
        fs: &mut Announced<F>,
    ) -> String {
        match order {
            "hold" => {
                fs.silent = true;
                let held = self.acquire(0, fs);
                fs.silent = false;
                held
            }
            "acquire" => {
                let waits = rest.parse().expect("a number of waits");
                format!("ended {}", self.acquire(waits, fs))
            }
            "release" => format!("ended {}", self.release(fs)),
            "clear" => format!("ended {}", clear(fs)),
            "query" => format!("ended {}", query(fs)),
            other => unreachable!("no such order: {other}"),
        }
    }

    /// Listens up to `waits` times, and retries in between.
    fn acquire<F: FileSystem>(&self, mut waits: u32, fs: &mut Announced<F>) -> String {
        if self.wrong == "Naive" {
            return match naively(fs) {
                true => self.held(),
                false => "refused".to_owned(),
            };
        }
        let mut tries = 3;
        let mut state = Acquire::START;
        loop {
            fs.at(&state);
            state = match state {
                Acquire::Pausing(pause) if tries > 0 => {
                    tries -= 1;
                    pause.again()
                }
                Acquire::Pausing(pause) => pause.give_up(),
                Acquire::Blocked(blocked) if waits > 0 => {
                    waits -= 1;
                    blocked.listen()
                }
                Acquire::Blocked(blocked) => blocked.leave(),
                Acquire::Held(_) => return self.held(),
                Acquire::Refused(reason) => return format!("refused, {reason:?}"),
                Acquire::Failed(op) => return format!("failed, {op:?}"),
                unfinished => unfinished.step(fs),
            };
        }
    }

    fn held(&self) -> String {
        let witness = self.witness.as_ref().expect("it was set");
        let free = set_byte_lock(witness, libc::F_WRLCK);
        format!("held, and the witness was {}", if free { "free" } else { "taken" })
    }

    fn release<F: FileSystem>(&self, fs: &mut Announced<F>) -> String {
        // No call is made between an acquire and its release.
        fs.at(&"Held");
        fs.site("while", "hold");
        let witness = self.witness.as_ref().expect("it was set");
        let end = || assert!(set_byte_lock(witness, libc::F_UNLCK), "it can be unlocked");
        if self.wrong == "Naive" {
            end();
            fs.unlink();
            fs.close();
            return "released".to_owned();
        }
        let mut state = Release::START;
        loop {
            fs.at(&state);
            state = match state {
                Release::Ended(Released::Removed) => return "released".to_owned(),
                Release::Ended(other) => return format!("{other:?}"),
                Release::ReleaseFailed(stuck) => ReleaseFailed::abandon(stuck),
                Release::Unlinking(_) => {
                    end();
                    state.step(fs)
                }
                unfinished => unfinished.step(fs),
            };
        }
    }
}

fn clear<F: FileSystem>(fs: &mut Announced<F>) -> String {
    let mut tries = 3;
    let mut state = Clear::START;
    loop {
        if let Clear::At(at) = &state {
            fs.at(at);
        }
        state = match state {
            Clear::Ended(Cleared::Removed) => return "cleared".to_owned(),
            Clear::Ended(other) => return format!("{other:?}"),
            Clear::At(Acquire::Pausing(_)) if tries > 0 => {
                tries -= 1;
                state.again()
            }
            Clear::At(Acquire::Pausing(_)) => state.give_up(),
            Clear::At(Acquire::Blocked(_)) => state.leave(),
            unfinished => unfinished.step(fs),
        };
    }
}

fn query<F: FileSystem>(fs: &mut Announced<F>) -> String {
    let mut tries = 3;
    let mut state = Query::START;
    loop {
        fs.at(&state);
        state = match state {
            Query::Answered(answer) => return format!("{answer:?}"),
            Query::Failed(op) => return format!("failed, {op:?}"),
            Query::Pausing(pause) if tries > 0 => {
                tries -= 1;
                pause.again()
            }
            Query::Pausing(pause) => pause.give_up(),
            unfinished => unfinished.step(fs),
        };
    }
}

/// The control: create and write; or read, probe, unlink by name, and create again.
fn naively<F: FileSystem>(fs: &mut Announced<F>) -> bool {
    fs.at(&"Naive");
    for _ in 0..2 {
        if fs.create() == Create::Created {
            return fs.write() == Done::Done;
        }
        let stale = fs.open() != OpenReply::Opened
            || fs.read() != ReadReply::Record
            || matches!(fs.probe(), Probed::Known(Author::Here(_, Probe::Gone)));
        if !stale {
            return false;
        }
        fs.unlink();
        fs.close();
    }
    false
}

// ---- the calls ----------------------------------------------------------------------------------

/// A filesystem that stops before and after each call.
struct Announced<F> {
    inner: F,
    path: PathBuf,
    /// The machine's state.
    state: String,
    silent: bool,
    /// The calls that fail without being made, once each.
    faults: Vec<String>,
    wrong: String,
}

impl<F: FileSystem> Announced<F> {
    /// Sets the state of the next call, by the first word of its name.
    fn at(&mut self, state: &impl std::fmt::Debug) {
        let whole = format!("{state:?}");
        let word = whole.trim_matches('"').split(['(', ' ']).next();
        word.unwrap_or_default().clone_into(&mut self.state);
    }

    fn call<R>(&mut self, name: &str, call: impl FnOnce(&mut Self) -> R) -> R {
        self.site("before", name);
        let reply = call(self);
        self.site("after", name);
        reply
    }

    /// Replies `failed` if this call is one of the faults.
    fn or_fail<R>(&mut self, name: &str, failed: R, call: impl FnOnce(&mut F) -> R) -> R {
        self.call(name, |this| match this.faults.iter().position(|fault| fault == name) {
            Some(fault) => {
                this.faults.remove(fault);
                failed
            }
            None => call(&mut this.inner),
        })
    }

    fn site(&mut self, side: &str, call: &str) {
        if self.silent {
            return;
        }
        answer(&format!("{side} {} {call}", self.state));
        loop {
            let order = next_order().unwrap_or_else(|| std::process::exit(1));
            match order.as_str() {
                "go" => return,
                "thread" => answer(&self.in_another_thread()),
                "fork" => fork(),
                "exec" => {
                    use std::os::unix::process::CommandExt;
                    let error = super::stage::another_program().exec();
                    answer(&error.to_string());
                }
                "end exit" => std::process::exit(0),
                "end exit-in-a-thread" => {
                    let thread = std::thread::spawn(|| std::process::exit(0));
                    thread.join().expect("never returns");
                }
                // Unwinding closes the file.
                "end panic" => {
                    std::panic::set_hook(Box::new(|_| {}));
                    panic!("as ordered");
                }
                "end abort" => std::process::abort(),
                other => unreachable!("no such order: {other}"),
            }
        }
    }

    /// Another thread of this process tries to acquire, and releases.
    fn in_another_thread(&self) -> String {
        let lock = portlock::Lock::at(&self.path);
        let thread = std::thread::spawn(move || {
            let attempt = lock.try_acquire();
            let said = outcome(&attempt);
            match attempt.map(|guard| guard.release()) {
                Ok(released) => format!("{said}, {}", ending(&released)),
                Err(_) => said,
            }
        });
        thread.join().expect("no panic")
    }
}

impl<F: FileSystem> FileSystem for Announced<F> {
    fn create(&mut self) -> Create {
        self.or_fail("create", Create::Failed, F::create)
    }

    fn open(&mut self) -> OpenReply {
        self.or_fail("open", OpenReply::Failed, F::open)
    }

    fn age(&mut self) -> Dated {
        self.or_fail("age", Dated::Failed, F::age)
    }

    fn lock(&mut self) -> LockReply {
        match self.wrong.as_str() {
            "NoLock" => self.call("lock", |_| LockReply::Ours),
            _ => self.or_fail("lock", LockReply::Failed, F::lock),
        }
    }

    fn subscribe(&mut self) {
        self.call("arm", |this| this.inner.subscribe());
    }

    fn wait_event(&mut self) -> Listen {
        self.or_fail("listen", Listen::Failed, F::wait_event)
    }

    fn write(&mut self) -> Done {
        self.or_fail("write", Done::Failed, F::write)
    }

    fn read(&mut self) -> ReadReply {
        self.or_fail("read", ReadReply::Failed, F::read)
    }

    fn probe(&mut self) -> Probed {
        self.or_fail("probe", Probed::Failed, F::probe)
    }

    fn confirm(&mut self) -> Confirm {
        match self.wrong.as_str() {
            "NoConfirm" => self.call("confirm", |_| Confirm::Same),
            _ => self.or_fail("confirm", Confirm::Failed, F::confirm),
        }
    }

    fn unlink(&mut self) -> Unlink {
        self.or_fail("unlink", Unlink::Failed, F::unlink)
    }

    fn truncate(&mut self) -> Done {
        self.or_fail("void", Done::Failed, F::truncate)
    }

    fn query_lock(&mut self) -> Watch {
        self.call("watch", |this| this.inner.query_lock())
    }

    fn close(&mut self) {
        self.call("close", |this| this.inner.close());
    }

    fn close_without_unlock(&mut self) {
        self.call("leave", |this| this.inner.close_without_unlock());
    }
}

fn next_order() -> Option<String> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line).expect("orders are text");
    (read > 0).then(|| line.trim_end().to_owned())
}

/// As if another thread forked: the child has the files, and not this thread. It lives until the
/// input ends.
fn fork() {
    std::io::stdout().flush().expect("the test listens");
    // SAFETY: the child only makes calls that are safe after a fork.
    unsafe {
        if libc::fork() == 0 {
            let mut byte = 0_u8;
            while libc::read(0, (&raw mut byte).cast(), 1) > 0 {}
            libc::_exit(0);
        }
    }
    answer("forked");
}
