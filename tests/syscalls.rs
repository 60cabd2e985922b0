//! The system calls of each operation on an idle machine, in order, as strace sees them, and why
//! none of them can be left out.
//!
//! Each is measured when it is done for the second time: what a process asks once (fork detection,
//! host name, boot, pid namespace, its own start) must cost nothing then.

#![cfg(target_os = "linux")]

mod participant;

use std::path::{Path, PathBuf};
use std::process::Command;

use participant::{
    Participant, reclaimed_from, refused_by, sleeps_in_poll, strace_is_there, this_test_binary,
    wait_until,
};

const ASKS_FOR_LIMIT: &str = "prlimit64(RLIMIT_FSIZE)";

#[test]
fn uncontended_acquire_makes_six_calls_and_release_four() {
    let Some(mut traced) = Traced::start() else { return };
    let (acquire, release) = traced.acquire_and_release();
    let warm = traced.acquire_and_release();
    let calls = traced.calls();
    assert_eq!(
        calls.of(warm.0),
        [
            // Whose record it writes: a fork around the C library is noticed by this alone.
            "getpid()",
            // Exclusive: of all who try at once, one gets the file (P1).
            "openat(path, O_RDWR|O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC, 0600)",
            // Before the record: a file with a record and without a lock would be reclaimed (P3).
            "flock(file, LOCK_EX|LOCK_NB)",
            // The record names the device: whether another mount shares the lock is judged by it.
            "statx(file)",
            // One call, so that a reader sees nothing or all of it (P4).
            // A write beyond the limit of the size of files would end the process (SIGXFSZ).
            ASKS_FOR_LIMIT,
            "write(file, record)",
            // Does the path still name it? A slow creator may have been reclaimed (P1). It has had
            // one name since it was created, and has none if that was removed. (Where a filesystem
            // does not count so, the path is looked at.) And the release needs its number.
            "statx(file)",
        ]
    );
    assert_eq!(
        calls.of(warm.1),
        [
            // In such a child the lock is its parent's, and must be left alone (P2).
            "getpid()",
            // Is it still ours? Somebody may have removed it, and another may hold by now (P2).
            "statx(path)",
            // While the kernel lock is held: a process that has the file open finds it locked or gone.
            "unlink(path)",
            // A child that another thread is just forking shares the open file until it executes
            // its program, and would keep the kernel lock until then.
            "flock(file, LOCK_UN)",
            "close(file)",
        ]
    );
    // The control: the first time does cost more, and the trace shows it.
    assert!(calls.of(acquire).len() > calls.of(warm.0).len(), "{:?}", calls.of(acquire));
    assert_eq!(calls.of(release), calls.of(warm.1));
}

#[test]
fn a_reclaim_of_a_dead_holders_file() {
    let Some(mut traced) = Traced::start() else { return };
    traced.acquire_and_release();
    let mut dead = Participant::holding(&traced.path);
    dead.kill();
    let pid = dead.pid();
    let reclaim = traced.tell_path("try", &reclaimed_from(pid));
    assert_eq!(
        traced.calls().of(reclaim),
        [
            "getpid()",
            "openat(path, O_RDWR|O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC, 0600) EEXIST",
            // A link, FIFO or device must not even be opened.
            "statx(path)",
            "openat(path, O_RDWR|O_NOCTTY|O_NONBLOCK|O_NOFOLLOW|O_CLOEXEC)",
            // What was opened is what was looked at: a regular file, of this number.
            "statx(file)",
            // Its age, after the clock and before the content.
            "statx(file)",
            // Without the lock: a creator at work must not find its lock busy. To the end of it.
            "pread64(file)",
            "pread64(file)",
            "flock(file, LOCK_EX|LOCK_NB)",
            // Under the lock, since what was read before it may be another's by now.
            "pread64(file)",
            "pread64(file)",
            // The probe: no such process, by both accounts.
            &format!("openat(/proc/{pid}/stat) ENOENT"),
            &format!("kill({pid}, 0) ESRCH"),
            // After the lock and after the verdict, immediately before the act (P2).
            "statx(path)",
            "unlink(path)",
            "flock(file, LOCK_UN)",
            "close(file)",
            // And then as if nothing had stood there.
            "openat(path, O_RDWR|O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC, 0600)",
            "flock(file, LOCK_EX|LOCK_NB)",
            "statx(file)",
            ASKS_FOR_LIMIT,
            "write(file, record)",
            "statx(file)",
        ]
    );
}

#[test]
fn a_refusal_by_a_live_holder() {
    let Some(mut traced) = Traced::start() else { return };
    traced.acquire_and_release();
    let holder = Participant::holding(&traced.path);
    let pid = holder.pid();
    let refusal = traced.tell_path("try", &refused_by(pid));
    assert_eq!(
        traced.calls().of(refusal),
        [
            "getpid()",
            "openat(path, O_RDWR|O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC, 0600) EEXIST",
            "statx(path)",
            "openat(path, O_RDWR|O_NOCTTY|O_NONBLOCK|O_NOFOLLOW|O_CLOEXEC)",
            "statx(file)",
            "statx(file)",
            "pread64(file)",
            "pread64(file)",
            "flock(file, LOCK_EX|LOCK_NB) EAGAIN",
            // The probe: no zombie, and of the recorded start; so a process, and no thread of one.
            &format!("openat(/proc/{pid}/stat)"),
            // Whoever is named had the file that the path names (P4).
            "statx(path)",
            "flock(file, LOCK_UN)",
            "close(file)",
        ]
    );
}

#[test]
fn wait_takes_one_call_and_handover_nine() {
    let Some(mut traced) = Traced::start() else { return };
    traced.acquire_and_release();
    let mut holder = Participant::holding(&traced.path);
    let pid = traced.participant.tell("pid").parse().expect("a pid");
    traced.orders += 1;
    traced.participant.order(&format!("acquire {}", traced.path.display()));
    // A file that is watched is tried once more before the wait.
    wait_until("the waiter is in ppoll", || sleeps_in_poll(pid));
    assert_eq!(holder.tell("release"), "released");
    assert_eq!(traced.participant.answer(), "held");
    traced.orders += 1;
    let wait = traced.orders - 1;
    let calls = traced.calls();
    let tried =
        calls.of(wait).iter().position(|call| call == "flock(file, LOCK_EX|LOCK_NB) EAGAIN");
    let blocked = 1 + tried.expect("it was busy");
    assert_eq!(
        calls.of(wait)[blocked..],
        [
            // A confirm, as for a refusal. No holder is probed: whichever it is, it is waited for.
            "statx(path)",
            // Whether the kernel sees all changes of a file here, or there are other machines'.
            "fstatfs(file)",
            // A queue of this process's waits, kept for the next one, and the file in it.
            "inotify_init1(IN_NONBLOCK|IN_CLOEXEC)",
            "inotify_add_watch(path, IN_ATTRIB|IN_CLOSE_WRITE|IN_CLOSE_NOWRITE|IN_MOVE_SELF|IN_DONT_FOLLOW)",
            // What happened before the file was in the queue is no event: so another look.
            "statx(path)",
            "flock(file, LOCK_EX|LOCK_NB) EAGAIN",
            "getpid()",
            // Blocks.
            "ppoll()",
            // Released, so the path names it no longer: as after an unlink of our own.
            "statx(path) ENOENT",
            "flock(file, LOCK_UN)",
            "close(file)",
            "openat(path, O_RDWR|O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC, 0600)",
            "flock(file, LOCK_EX|LOCK_NB)",
            "statx(file)",
            ASKS_FOR_LIMIT,
            "write(file, record)",
            "statx(file)",
            // The kernel has done so already.
            "inotify_rm_watch()",
        ]
    );
}

#[test]
fn query_never_locks_or_writes() {
    let Some(mut traced) = Traced::start() else { return };
    traced.tell_path("status", "the lock is free");
    let free = traced.tell_path("status", "the lock is free");
    let mut holder = Participant::holding(&traced.path);
    let pid = holder.pid();
    let held = traced.tell_path("status", &format!("the lock is locked by pid {pid}"));
    assert_eq!(holder.tell("hand-over-to-cat"), "spawned");
    holder.kill();
    // "is locked", or "may be" in a container, where the locks whose taker is gone are not listed.
    let left = traced.tell_path("status", "the lock ");
    let calls = traced.calls();
    assert_eq!(calls.of(free), ["statx(path) ENOENT"]);
    let opens = [
        "statx(path)",
        // For reading alone: on overlayfs an open for writing makes another file.
        "openat(path, O_RDONLY|O_NOCTTY|O_NONBLOCK|O_NOFOLLOW|O_CLOEXEC)",
        "statx(file)",
        "statx(file)",
        "pread64(file)",
        "pread64(file)",
    ];
    let asks = format!("openat(/proc/{pid}/stat)");
    let ends = ["statx(path)", "close(file)"];
    // That very process lives, so it holds the lock, whether it took the kernel lock or not.
    assert_eq!(calls.of(held), [&opens[..], &[&asks], &ends].concat());
    // Does anybody have the kernel lock? Found out without trying it, for that could make an
    // acquire fail. A list of many kernel locks is opened twice.
    let mut left = calls.of(left).to_owned();
    left.dedup();
    let gone = [format!("openat(/proc/{pid}/stat) ENOENT"), format!("kill({pid}, 0) ESRCH")];
    let gone = gone.each_ref().map(String::as_str);
    let looks =
        ["openat(/proc/self/mountinfo)", "openat(/proc/locks)", "openat(/proc/self/fdinfo/FILE)"];
    let mut opens = opens.to_vec();
    opens.dedup();
    assert_eq!(left, [&opens[..], &gone[..], &looks[..], &ends[..]].concat());
}

/// `stat` of a file on a dead network mount never returns; the names of open files and their locks
/// are the kernel's own.
#[test]
fn search_for_lock_sharers_opens_no_foreign_file() {
    let Some(mut traced) = Traced::start() else { return };
    let mut holder = Participant::holding(&traced.path);
    assert_eq!(holder.tell("hand-over-to-cat"), "spawned");
    holder.kill();
    let refused = traced.tell_path("try", "refused, HolderExited, pid ");
    let calls = traced.calls();
    let calls = calls.of(refused);
    let search = calls.iter().position(|call| call == "openat(/proc)");
    let search = &calls[search.expect("it looks for the processes that share the lock")..];
    assert!(search.iter().any(|call| call.starts_with("readlink(\"/proc/")), "{search:?}");
    assert!(search.iter().any(|call| call.contains("/fdinfo/")), "{search:?}");
    for call in search {
        // The last is the open directory of /proc itself.
        let allowed = ["openat(/proc", "readlink(\"/proc/", "getdents64(", "newfstatat("];
        assert!(allowed.iter().any(|start| call.starts_with(start)), "{call}");
        assert!(!(call.starts_with("openat(") && call.contains("/fd/")), "{call}");
        assert!(!call.starts_with("newfstatat(") || call.contains("AT_EMPTY_PATH"), "{call}");
    }
}

#[test]
fn s9_nothing_renames() {
    let Some(mut traced) = Traced::start() else { return };
    traced.acquire_and_release();
    let mut dead = Participant::holding(&traced.path);
    dead.kill();
    traced.tell_path("try", &reclaimed_from(dead.pid()));
    traced.tell("release", "released");
    let text = traced.finish();
    assert!(text.contains("unlink"), "the control: the unlinks are seen");
    for renaming in ["rename", "link(", "linkat(", "exchangedata"] {
        let found = text.lines().find(|line| {
            line.contains(renaming) && !line.contains("unlink") && !line.contains("readlink")
        });
        assert_eq!(found, None);
    }
}

// ---- tracing ------------------------------------------------------------------------------------

/// A participant under strace, and a lock of its own.
struct Traced {
    dir: tempfile::TempDir,
    path: PathBuf,
    participant: Participant,
    orders: usize,
}

impl Traced {
    /// `None` where strace is missing, which must not be in CI: a machine with Rust alone can run
    /// the tests, and is told what it did not check.
    fn start() -> Option<Self> {
        if !strace_is_there("the system calls") {
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let binary = this_test_binary();
        let mut strace = Command::new("strace");
        // -f: the harness runs the test on a second thread. -s: enough to tell an answer.
        strace.args(["-f", "-s", "16", "-o"]).arg(dir.path().join("trace"));
        strace.arg(binary.get_program()).args(binary.get_args());
        for (key, value) in binary.get_envs() {
            strace.env(key, value.expect("set"));
        }
        let path = dir.path().join("x.lock");
        Some(Self { participant: Participant::start_as(strace), dir, path, orders: 0 })
    }

    /// Gives an order and checks that its answer begins so. Returns the number of the order.
    fn tell(&mut self, order: &str, answer: &str) -> usize {
        let said = self.participant.tell(order);
        assert!(said.starts_with(answer), "{order}: {said}");
        self.orders += 1;
        self.orders - 1
    }

    fn tell_path(&mut self, order: &str, answer: &str) -> usize {
        self.tell(&format!("{order} {}", self.path.display()), answer)
    }

    fn acquire_and_release(&mut self) -> (usize, usize) {
        (self.tell_path("try", "held"), self.tell("release", "released"))
    }

    /// Lets the participant end, so that the trace is whole.
    fn finish(self) -> String {
        self.participant.finish();
        std::fs::read_to_string(self.dir.path().join("trace")).expect("strace wrote the trace")
    }

    fn calls(self) -> Calls {
        let (orders, path) = (self.orders, self.path.clone());
        let calls = Calls::read(&self.finish(), &path);
        assert_eq!(calls.by_order.len(), orders);
        calls
    }
}

/// The calls that were made for each order.
struct Calls {
    by_order: Vec<Vec<String>>,
}

impl Calls {
    fn of(&self, order: usize) -> &[String] {
        &self.by_order[order]
    }

    /// An order begins where a line is read from standard input and ends where the answer is
    /// written: these two belong to the participant, and what is between to the order.
    fn read(trace: &str, path: &Path) -> Self {
        let path = format!("\"{}\"", path.display());
        let (mut by_order, mut current, mut lock_file) = (Vec::new(), None, None);
        for line in trace.lines() {
            // "20211 flock(3, LOCK_UN) = 0"
            let call = line.split_once(' ').map_or(line, |(_, call)| call.trim_start());
            if call.starts_with("read(0, ") {
                current = Some(Vec::new());
            } else if call.starts_with("write(1, \"answer: ") {
                by_order.extend(current.take());
            } else if let Some(calls) = &mut current {
                calls.extend(brief(call, &path, &mut lock_file));
            }
        }
        Self { by_order }
    }
}

/// A call in few words. `None` for what is not the crate's doing, and for all but the open of a
/// file other than the lock file: how std reads one is its own affair.
fn brief(call: &str, path: &str, lock_file: &mut Option<String>) -> Option<String> {
    let (call, result) = call.rsplit_once(" = ")?;
    let (name, arguments) = call.trim_end().strip_suffix(')')?.split_once('(')?;
    let error = result.strip_prefix("-1 ").and_then(|error| error.split(' ').next());
    let first = arguments.split(", ").next().unwrap_or("");
    let on_lock_file = lock_file.as_deref() == Some(first);
    let brief = match name {
        // Memory.
        "mmap" | "munmap" | "mremap" | "brk" | "madvise" => return None,
        // Where assertions are on, std checks before it closes a descriptor that it is open.
        "fcntl" if arguments.ends_with("F_GETFD") => return None,
        "openat" => {
            let opened = arguments.strip_prefix("AT_FDCWD, ").unwrap_or(arguments);
            match opened.strip_prefix(path) {
                Some(flags) => {
                    *lock_file = error.is_none().then(|| result.to_owned()).or(lock_file.take());
                    format!("openat(path{flags})")
                }
                None => {
                    let name = opened.split(", ").next().unwrap_or(opened).trim_matches('"');
                    let own = lock_file.as_deref().map(|fd| format!("/proc/self/fdinfo/{fd}"));
                    if own.as_deref() == Some(name) {
                        "openat(/proc/self/fdinfo/FILE)".to_owned()
                    } else {
                        format!("openat({name})")
                    }
                }
            }
        }
        "prlimit64" => format!("prlimit64({})", arguments.split(", ").nth(1).unwrap_or_default()),
        "statx" if arguments.contains(path) => {
            assert!(arguments.contains("AT_SYMLINK_NOFOLLOW"), "{call}");
            "statx(path)".to_owned()
        }
        "inotify_add_watch" if arguments.contains(path) => {
            let flags = arguments.rsplit(", ").next().unwrap_or_default();
            format!("inotify_add_watch(path, {flags})")
        }
        // The kernel drops the watch with the file, whose last close is another process's.
        "inotify_rm_watch" => return Some("inotify_rm_watch()".to_owned()),
        "ppoll" => format!("{name}()"),
        "fstatfs" if on_lock_file => "fstatfs(file)".to_owned(),
        // The first pause has a random length, for which a seed is drawn once.
        "getrandom" => return None,
        "unlink" | "unlinkat" if arguments.contains(path) => "unlink(path)".to_owned(),
        "write" if on_lock_file => "write(file, record)".to_owned(),
        "statx" | "pread64" if on_lock_file => format!("{name}(file)"),
        _ if on_lock_file => {
            if name == "close" {
                *lock_file = None;
            }
            format!("{name}(file{})", &arguments[first.len()..])
        }
        "read" | "statx" | "lseek" | "close" if first.parse::<u32>().is_ok() => return None,
        _ => format!("{name}({arguments})"),
    };
    Some(match error {
        Some(error) => format!("{brief} {error}"),
        None => brief,
    })
}
