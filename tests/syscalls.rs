//! The system calls of each uncontended operation, in order, by strace, and the reason for each.
//!
//! Each operation is measured the second time: queries that a process makes once (fork detection,
//! host name, boot, pid namespace, its own start) must not be repeated.

#![cfg(target_os = "linux")]

mod participant;

use std::path::{Path, PathBuf};
use std::process::Command;

use participant::{
    Participant, reclaimed_from, refused_by, sleeps_in_poll, strace_is_there, wait_until,
};

const LIMIT_QUERY: &str = "prlimit64(RLIMIT_FSIZE)";

#[test]
fn uncontended_acquire_makes_six_calls_and_release_four() {
    let Some(mut traced) = Traced::start() else { return };
    let (acquire, release) = traced.acquire_and_release();
    let warm = traced.acquire_and_release();
    let calls = traced.calls();
    assert_eq!(
        calls.of(warm.0),
        [
            // The pid for the record: only this detects a fork that bypasses the C library.
            "getpid()",
            // Exclusive: of all concurrent creates, one succeeds (P1).
            "openat(path, O_RDWR|O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC, 0600)",
            // Before the record: a file with a record and without a lock would be reclaimed (P3).
            "flock(file, LOCK_EX|LOCK_NB)",
            // The record names the device, which shows whether another mount shares the lock.
            "statx(file)",
            // One call, so that a reader sees none or all of it (P4).
            // A write beyond the limit of the size of files would end the process (SIGXFSZ).
            LIMIT_QUERY,
            "write(file, record)",
            // Does the path still name it? A slow creator may have been reclaimed (P1). The link
            // count of a removed file is zero. (On filesystems without link counts the path is
            // checked.) The release needs the inode.
            "statx(file)",
        ]
    );
    assert_eq!(
        calls.of(warm.1),
        [
            // In a forked child the lock is the parent's, and must be left alone (P2).
            "getpid()",
            // Another process may have removed the file, and another may hold by now (P2).
            "statx(path)",
            // While the kernel lock is held: a process that has the file open finds it locked or
            // gone.
            "unlink(path)",
            // A child that another thread has just forked shares the open file until its exec, and
            // would keep the kernel lock until then.
            "flock(file, LOCK_UN)",
            "close(file)",
        ]
    );
    // The control: the first time takes more calls, and the trace shows them.
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
    let reclaim = traced.request_path("try", &reclaimed_from(pid));
    assert_eq!(
        traced.calls().of(reclaim),
        [
            "getpid()",
            "openat(path, O_RDWR|O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC, 0600) EEXIST",
            // A link, FIFO or device must not even be opened.
            "statx(path)",
            "openat(path, O_RDWR|O_NOCTTY|O_NONBLOCK|O_NOFOLLOW|O_CLOEXEC)",
            // The opened file is the checked one: a regular file with this inode.
            "statx(file)",
            // Its age, after the clock and before the content.
            "statx(file)",
            // Without the lock, which an active creator must not find busy. Up to end of file.
            "pread64(file)",
            "pread64(file)",
            "flock(file, LOCK_EX|LOCK_NB)",
            // Again under the lock, because the content may have changed.
            "pread64(file)",
            "pread64(file)",
            // The probe: both calls report no such process.
            &format!("openat(/proc/{pid}/stat) ENOENT"),
            &format!("kill({pid}, 0) ESRCH"),
            // After the lock and after the verdict, immediately before the act (P2).
            "statx(path)",
            "unlink(path)",
            "flock(file, LOCK_UN)",
            "close(file)",
            // From here as without a file.
            "openat(path, O_RDWR|O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC, 0600)",
            "flock(file, LOCK_EX|LOCK_NB)",
            "statx(file)",
            LIMIT_QUERY,
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
    let refusal = traced.request_path("try", &refused_by(pid));
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
            // The probe: not a zombie, with the recorded start; so a process, not a thread.
            &format!("openat(/proc/{pid}/stat)"),
            // The named holder had the file that the path names (P4).
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
    let pid = traced.participant.request("pid").parse().expect("a pid");
    traced.orders += 1;
    traced.participant.order(&format!("acquire {}", traced.path.display()));
    // A file that is watched is tried once more before the wait.
    wait_until("the waiter is in ppoll", || sleeps_in_poll(pid));
    assert_eq!(holder.request("release"), "released");
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
            // A confirm, as for a refusal. The holder is not probed, because any holder is waited
            // for.
            "statx(path)",
            // Whether the filesystem is local, so that the kernel reports every change.
            "fstatfs(file)",
            // A queue, kept for the next wait, and a watch on the file.
            "inotify_init1(IN_NONBLOCK|IN_CLOEXEC)",
            "inotify_add_watch(path, IN_ATTRIB|IN_CLOSE_WRITE|IN_CLOSE_NOWRITE|IN_MOVE_SELF|IN_DONT_FOLLOW)",
            // Changes before the watch are not reported, so it checks again.
            "statx(path)",
            "flock(file, LOCK_EX|LOCK_NB) EAGAIN",
            "getpid()",
            // Blocks.
            "ppoll()",
            // Released, so the path no longer names it. From here as without a file.
            "statx(path) ENOENT",
            "flock(file, LOCK_UN)",
            "close(file)",
            "openat(path, O_RDWR|O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC, 0600)",
            "flock(file, LOCK_EX|LOCK_NB)",
            "statx(file)",
            LIMIT_QUERY,
            "write(file, record)",
            "statx(file)",
            // The kernel has already dropped the watch.
            "inotify_rm_watch()",
        ]
    );
}

#[test]
fn query_never_locks_or_writes() {
    let Some(mut traced) = Traced::start() else { return };
    traced.request_path("status", "the lock is free");
    let free = traced.request_path("status", "the lock is free");
    let mut holder = Participant::holding(&traced.path);
    let pid = holder.pid();
    let held = traced.request_path("status", &format!("the lock is locked by pid {pid}"));
    assert_eq!(holder.request("pass-to-cat"), "spawned");
    holder.kill();
    // "is locked", or "may be" in a container, where locks whose taker has ended are not listed.
    let left = traced.request_path("status", "the lock ");
    let calls = traced.calls();
    assert_eq!(calls.of(free), ["statx(path) ENOENT"]);
    let opens = [
        "statx(path)",
        // Read-only: on overlayfs an open for writing copies the file.
        "openat(path, O_RDONLY|O_NOCTTY|O_NONBLOCK|O_NOFOLLOW|O_CLOEXEC)",
        "statx(file)",
        "statx(file)",
        "pread64(file)",
        "pread64(file)",
    ];
    let asks = format!("openat(/proc/{pid}/stat)");
    let ends = ["statx(path)", "close(file)"];
    // The recorded process lives, so it holds the lock, with or without the kernel lock.
    assert_eq!(calls.of(held), [&opens[..], &[&asks], &ends].concat());
    // Whether any process has the kernel lock, without trying it, because that could make an
    // acquire fail. A list of many kernel locks is opened twice.
    let mut left = calls.of(left).to_owned();
    left.dedup();
    let gone = [format!("openat(/proc/{pid}/stat) ENOENT"), format!("kill({pid}, 0) ESRCH")];
    let gone = gone.each_ref().map(String::as_str);
    let reads =
        ["openat(/proc/self/mountinfo)", "openat(/proc/locks)", "openat(/proc/self/fdinfo/FILE)"];
    let mut opens = opens.to_vec();
    opens.dedup();
    assert_eq!(left, [&opens[..], &gone[..], &reads[..], &ends[..]].concat());
}

/// `stat` of a file on a dead network mount never returns. The names of open files and their locks
/// come from the kernel.
#[test]
fn search_for_lock_sharers_opens_no_foreign_file() {
    let Some(mut traced) = Traced::start() else { return };
    let mut holder = Participant::holding(&traced.path);
    assert_eq!(holder.request("pass-to-cat"), "spawned");
    holder.kill();
    let refused = traced.request_path("try", "refused, HolderExited, pid ");
    let calls = traced.calls();
    let calls = calls.of(refused);
    let search = calls.iter().position(|call| call == "openat(/proc)");
    let search = &calls[search.expect("it searches for the processes that share the lock")..];
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
    traced.request_path("try", &reclaimed_from(dead.pid()));
    traced.request("release", "released");
    let text = traced.finish();
    assert!(text.contains("unlink"), "the control: the unlinks are traced");
    for renaming in ["rename", "link(", "linkat(", "exchangedata"] {
        let found = text.lines().find(|line| {
            line.contains(renaming) && !line.contains("unlink") && !line.contains("readlink")
        });
        assert_eq!(found, None);
    }
}

// ---- tracing ------------------------------------------------------------------------------------

/// A participant under strace, and a lock.
struct Traced {
    dir: tempfile::TempDir,
    path: PathBuf,
    participant: Participant,
    orders: usize,
}

impl Traced {
    /// `None` where strace is missing, which is reported, and fails in CI.
    fn start() -> Option<Self> {
        if !strace_is_there("the system calls") {
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let mut strace = Command::new("strace");
        // -f: the harness runs the test on a second thread. -s: enough to recognize an answer.
        strace.args(["-f", "-s", "16", "-o"]).arg(dir.path().join("trace"));
        let path = dir.path().join("x.lock");
        Some(Self { participant: Participant::start_within(strace), dir, path, orders: 0 })
    }

    /// Sends an order and checks the start of its answer. Returns the number of the order.
    fn request(&mut self, order: &str, answer: &str) -> usize {
        let said = self.participant.request(order);
        assert!(said.starts_with(answer), "{order}: {said}");
        self.orders += 1;
        self.orders - 1
    }

    fn request_path(&mut self, order: &str, answer: &str) -> usize {
        self.request(&format!("{order} {}", self.path.display()), answer)
    }

    fn acquire_and_release(&mut self) -> (usize, usize) {
        (self.request_path("try", "held"), self.request("release", "released"))
    }

    /// Ends the participant, which completes the trace.
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

/// The calls for each order.
struct Calls {
    by_order: Vec<Vec<String>>,
}

impl Calls {
    fn of(&self, order: usize) -> &[String] {
        &self.by_order[order]
    }

    /// The calls of an order are those between the read of its line and the write of its answer.
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

/// A short form of a call. `None` for calls that are not this crate's, and for std's calls on other
/// files after their open.
fn brief(call: &str, path: &str, lock_file: &mut Option<String>) -> Option<String> {
    let (call, result) = call.rsplit_once(" = ")?;
    let (name, arguments) = call.trim_end().strip_suffix(')')?.split_once('(')?;
    let error = result.strip_prefix("-1 ").and_then(|error| error.split(' ').next());
    let first = arguments.split(", ").next().unwrap_or("");
    let on_lock_file = lock_file.as_deref() == Some(first);
    let brief = match name {
        // Memory.
        "mmap" | "munmap" | "mremap" | "brk" | "madvise" => return None,
        // With debug assertions, std checks that a descriptor is open before it closes it.
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
        // The seed of the random pauses.
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
