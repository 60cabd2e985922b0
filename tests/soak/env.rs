//! The environment of a soak: the lock directory, and the files by which its processes and the test
//! communicate, which outlive killed processes.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use portlock::{Lock, LockDir};

/// The number of locks with a witness of exclusion.
pub(crate) const LOCKS: usize = 3;

/// One more lock, without a witness: its file is removed by hand, which breaks exclusion by design.
pub(crate) const REMOVED: usize = LOCKS;

/// The counted events, by letter. One byte is appended at a time, so that killed processes count.
pub(crate) const EVENTS: [(u8, &str); 29] = [
    (b'a', "acquired"),
    (b'A', "acquired and reclaimed"),
    (b'r', "refused, holder named"),
    (b'u', "refused, holder unknown"),
    (b't', "timed out"),
    (b'R', "released"),
    (b'D', "dropped"),
    (b'L', "lost (removed by hand)"),
    (b'x', "exited with a guard"),
    (b'X', "killed itself with a guard"),
    (b'e', "executed itself with a guard"),
    (b'f', "forked with a guard"),
    (b'h', "passed to a command"),
    (b'n', "held a second lock"),
    (b's', "queried"),
    (b'l', "listed"),
    (b'c', "cleared, or tried to"),
    (b'w', "swept"),
    (b'q', "commands that queried, cleared, swept"),
    (b'C', "commands that ran"),
    (b'H', "commands that held"),
    (b'B', "commands that were refused"),
    (b'k', "commands that were killed"),
    (b'g', "legacy agents that held"),
    (b'G', "legacy agents that were refused"),
    (b'p', "files planted"),
    (b'm', "files removed by hand"),
    (b'z', "legacy agents that stalled"),
    (b'.', "ended by themselves"),
];

pub(crate) struct Env {
    root: PathBuf,
    events: File,
}

impl Env {
    pub(crate) fn new(root: &Path) -> Self {
        fs::create_dir_all(root.join("locks")).expect("made");
        let append = |path| File::options().create(true).append(true).open(path).expect("opens");
        Self { root: root.to_owned(), events: append(root.join("events")) }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    pub(crate) fn dir(&self) -> LockDir {
        LockDir::at(self.locks())
    }

    /// The command's name for the lock `n`.
    pub(crate) fn name(n: usize) -> String {
        if n == REMOVED { "removed".to_owned() } else { (5001 + n).to_string() }
    }

    pub(crate) fn lock(&self, n: usize) -> Lock {
        let name = Self::name(n);
        let port = name.parse().map(|port| self.dir().port(port));
        port.unwrap_or_else(|_| self.dir().name(&name)).expect("a port or a name")
    }

    pub(crate) fn witness(&self, n: usize) -> PathBuf {
        self.root.join(format!("witness-{n}"))
    }

    pub(crate) fn event(&self, letter: u8) {
        (&self.events).write_all(&[letter]).expect("written");
    }

    pub(crate) fn events(&self) -> Vec<u8> {
        fs::read(self.root.join("events")).expect("it exists")
    }

    /// Reports a broken promise. The whole soak ends soon after.
    pub(crate) fn violation(&self, what: &str) {
        let line = format!("pid {}: {what}\n", std::process::id());
        let path = self.root.join("violations");
        let file = File::options().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("written");
    }

    pub(crate) fn violations(&self) -> Option<String> {
        fs::read_to_string(self.root.join("violations")).ok()
    }

    /// Makes each process end as soon as it holds no lock.
    pub(crate) fn stop(&self) {
        fs::write(self.root.join("stop"), "").expect("written");
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.root.join("stop").exists()
    }

    /// Prepares the next round.
    pub(crate) fn reset(&self) {
        let _ = fs::remove_file(self.root.join("stop"));
        self.events.set_len(0).expect("truncated");
    }
}
