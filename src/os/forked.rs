//! A forked child, for tests.

#![allow(unsafe_code)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// What `part` returns in a forked child, which then ends.
pub(crate) fn in_a_child(part: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    Child::running(part).said.clone()
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
        Self::starting(part).answer()
    }

    /// Returns when it has been forked.
    pub(crate) fn starting(part: impl FnOnce() -> Vec<u8>) -> Self {
        let (answers, mut theirs) = UnixStream::pair().expect("a pair");
        // SAFETY: the child uses what its C library keeps usable after a fork, and ends by `_exit`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(part));
            let said = ran.unwrap_or_else(|_| b"panicked".to_vec());
            let length = u8::try_from(said.len()).unwrap_or(0);
            let _ = theirs.write_all(&[&[length], &said[..]].concat());
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
        let minute = Some(std::time::Duration::from_secs(60));
        self.answers.set_read_timeout(minute).expect("a socket has one");
        let mut length = [0];
        self.answers.read_exact(&mut length).expect("the child answers");
        self.said = vec![0; usize::from(length[0])];
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
