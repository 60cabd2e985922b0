//! A forked child, for tests.

#![allow(unsafe_code)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::tests::ANOTHER;

/// What `part` returns in a forked child, which then ends.
pub(crate) fn in_a_child(part: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    Child::running(part).said.clone()
}

/// Runs `body`, of the test of that name, in a process without other tests: a child that was forked
/// around the C library may find the allocator locked by a thread that it does not have.
pub(crate) fn alone(test: &str, body: impl FnOnce()) {
    const ALONE: &str = "PORTLOCK_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let mut itself = std::process::Command::new(std::env::current_exe().expect("it has a path"));
    itself.args([test, "--exact", "--test-threads=1"]).env(ALONE, "1");
    let output = itself.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// The ways to fork: with the handlers of the C library, and around it.
pub(crate) const FORKS: &[fn() -> libc::pid_t] = &[
    fork,
    #[cfg(target_os = "linux")]
    raw_fork,
];

fn fork() -> libc::pid_t {
    // SAFETY: the child uses what its C library keeps usable after a fork, and ends by a signal.
    unsafe { libc::fork() }
}

#[cfg(target_os = "linux")]
fn raw_fork() -> libc::pid_t {
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: as above, in a process without other tests.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, none, none, none, none) };
    libc::pid_t::try_from(pid).expect("a pid")
}

/// Has every call fail from here on that opens a file. For a child.
pub(crate) fn no_more_descriptors() {
    descriptors_below(0);
}

/// Has every call fail from here on that needs this number for a file, or a greater one. For a child.
pub(crate) fn descriptors_below(number: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: number, rlim_max: number };
    // SAFETY: sets a limit of this process.
    let returned = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    assert_eq!(returned, 0, "{}", std::io::Error::last_os_error());
}

/// Has this process be a user that is not root, if it is root. For a child.
pub(crate) fn not_as_root() {
    // SAFETY: sets a number of this process.
    let returned = unsafe { if libc::geteuid() == 0 { libc::seteuid(ANOTHER) } else { 0 } };
    assert_eq!(returned, 0, "{}", std::io::Error::last_os_error());
}

/// A forked child, which lives until this is dropped, and what it said.
pub(crate) struct Child {
    pid: libc::pid_t,
    answers: UnixStream,
    pub(crate) said: Vec<u8>,
}

impl Child {
    /// Returns when it has run `part`.
    pub(crate) fn running(part: impl FnOnce() -> Vec<u8>) -> Self {
        Self::starting(fork, part).answer()
    }

    /// Returns when it has been forked.
    pub(crate) fn starting(fork: fn() -> libc::pid_t, part: impl FnOnce() -> Vec<u8>) -> Self {
        let (answers, mut theirs) = UnixStream::pair().expect("a pair");
        let pid = fork();
        if pid == 0 {
            let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(part));
            let said = ran.unwrap_or_else(|_| b"panicked".to_vec());
            let length = u16::try_from(said.len()).unwrap_or(0).to_ne_bytes();
            let _ = theirs.write_all(&[&length[..], &said].concat());
            loop {
                // SAFETY: takes nothing, and returns when a signal has come.
                unsafe { libc::pause() };
            }
        }
        assert!(pid > 0, "{}", std::io::Error::last_os_error());
        Self { pid, answers, said: Vec::new() }
    }

    /// Returns when it has answered.
    pub(crate) fn answer(mut self) -> Self {
        self.answers.set_read_timeout(Some(crate::sys::in_time::LIMIT)).expect("a socket has one");
        let mut length = [0; 2];
        self.answers.read_exact(&mut length).expect("the child answers");
        self.said = vec![0; usize::from(u16::from_ne_bytes(length))];
        self.answers.read_exact(&mut self.said).expect("the child answers");
        self
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: a child of ours that has not been reaped; null asks for no status.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}
