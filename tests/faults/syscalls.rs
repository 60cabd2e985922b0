//! The calls of a process, read from strace's output.

use std::collections::BTreeMap;
use std::path::Path;

use crate::NOT_INJECTED;
use crate::target::{VOID, VOID_ADDRESS, VOID_FLAGS, VOID_KILL};

/// A system call: its name, its number among those of that name, and a description.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) nth: usize,
    pub(super) what: String,
}

impl Call {
    /// Left out: std panics if it fails, and it cannot fail on a real filesystem.
    pub(super) fn is_the_end_of_a_listing(&self) -> bool {
        self.what == "close(the open locks)"
    }

    /// Whether it opens or queries the lock file. Only the creator writes it.
    pub(super) fn is_on_the_lock_file(&self) -> bool {
        let is_query = ["openat", "statx", "flock", "pread64", "unlink"].contains(&&*self.name);
        is_query && self.what.contains("locks/x.lock")
    }

    /// Whether it gathers evidence about a process, or frees a resource: without an answer less is
    /// proved.
    pub(super) fn is_evidence(&self) -> bool {
        self.what.contains("/proc/")
            || ["kill", "fstatfs", "uname", "socket", "prlimit64", "close"].contains(&&*self.name)
    }
}

/// By process, each call except the void ones, and whether it was made to fail.
pub(super) struct Trace {
    pub(super) calls: BTreeMap<u32, Vec<(Call, bool)>>,
}

impl Trace {
    pub(super) fn read(text: &str, dir: &Path) -> Self {
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
        let is_injected = result.ends_with("(INJECTED)");
        if name == "openat" && !result.starts_with('-') {
            let fd = result.split(' ').next().unwrap_or_default().to_owned();
            self.open.insert((pid, fd), what.clone());
        }
        if name == "close" && !is_injected {
            self.open.remove(&(pid, first));
        }
        // Calls of std with debug assertions, and the void calls.
        let is_foreign = NOT_INJECTED.contains(&name)
            || (name == "fcntl" && arguments.ends_with("F_GETFD"))
            || arguments.starts_with(VOID)
            || [VOID_KILL, VOID_FLAGS, VOID_ADDRESS].iter().any(|void| arguments.contains(void));
        if !is_foreign {
            self.calls
                .entry(pid)
                .or_default()
                .push((Call { name: name.to_owned(), nth, what }, is_injected));
        }
    }

    /// A description that is the same in every run.
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
