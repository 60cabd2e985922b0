//! A participant's Unix calls: forks, descriptors, namespaces, limits.

#![allow(unsafe_code)]

use std::io::{Error, Read, Write};
use std::os::unix::net::UnixStream;

pub(crate) fn become_user(id: u32) -> String {
    // SAFETY: the calls take numbers and a length of zero.
    let became = unsafe {
        libc::setgroups(0, std::ptr::null()) == 0 && libc::setgid(id) == 0 && libc::setuid(id) == 0
    };
    if became { "done".to_owned() } else { format!("failed, {}", Error::last_os_error()) }
}

/// Uses up its user's inotify queues until the process ends, and returns their number.
#[cfg(target_os = "linux")]
pub(super) fn take_all_watches() -> String {
    // SAFETY: takes flags and returns a number.
    let taken = (0..).take_while(|_| unsafe { libc::inotify_init1(libc::IN_CLOEXEC) } >= 0);
    taken.count().to_string()
}

pub(super) fn close_descriptor(number: i32) -> String {
    // SAFETY: closes a standard descriptor that this process does not use afterwards.
    assert_eq!(unsafe { libc::close(number) }, 0, "{}", Error::last_os_error());
    "closed".to_owned()
}

pub(super) fn write_to_descriptor_2(text: &str) -> String {
    // SAFETY: the text is ours, and of that length.
    match unsafe { libc::write(2, text.as_ptr().cast(), text.len()) } {
        -1 => format!("{:?}", Error::last_os_error().kind()),
        written => written.to_string(),
    }
}

pub(super) fn standard_descriptors() -> String {
    // SAFETY: fcntl on a number, which need not be open.
    let is_open = |number: &i32| unsafe { libc::fcntl(*number, libc::F_GETFD) } >= 0;
    let open: Vec<String> = (0..3).filter(is_open).map(|number| number.to_string()).collect();
    open.join(" ")
}

pub(super) fn limit_file_size(bytes: libc::rlim_t) -> String {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the pointer is to a limit.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) };
    assert_eq!(set, 0, "{}", Error::last_os_error());
    "limited".to_owned()
}

pub(super) fn set_umask(octal: &str) -> String {
    let mask = libc::mode_t::from_str_radix(octal, 8).expect("an octal number");
    // SAFETY: takes and returns numbers.
    unsafe { libc::umask(mask) };
    "masked".to_owned()
}

pub(super) fn signal_zero(pid: i32) -> String {
    // SAFETY: signal 0 sends nothing.
    if unsafe { libc::kill(pid, 0) } == 0 {
        return "permitted".to_owned();
    }
    match Error::last_os_error().raw_os_error() {
        Some(libc::ESRCH) => "ESRCH".to_owned(),
        Some(libc::EPERM) => "EPERM".to_owned(),
        other => format!("{other:?}"),
    }
}

pub(crate) fn set_byte_lock(file: &std::fs::File, kind: impl TryInto<libc::c_short>) -> bool {
    use std::os::fd::AsRawFd;
    // SAFETY: a structure of numbers, for which zero is valid.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind.try_into().ok().expect("a small number");
    // SEEK_SET.
    lock.l_whence = 0;
    lock.l_len = 1;
    // SAFETY: the file is open, and the pointer is to a lock.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock) == 0 }
}

/// Ends this process without running handlers.
pub(super) fn leave(status: i32) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(status) }
}

/// Fails if no byte can be read within the limit.
pub(super) fn until_readable(file: &impl std::os::fd::AsRawFd, limit: std::time::Duration) {
    let mut polled = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let limit = libc::c_int::try_from(limit.as_millis()).expect("a few minutes");
    loop {
        // SAFETY: one file is polled.
        match unsafe { libc::poll(&raw mut polled, 1, limit) } {
            0 => panic!("it does not answer"),
            1.. => return,
            _ => assert_eq!(Error::last_os_error().kind(), std::io::ErrorKind::Interrupted),
        }
    }
}

/// `fork(2)` of the C library.
pub(super) fn fork() -> libc::pid_t {
    // SAFETY: the only other thread is the harness's, which waits for this one and holds no
    // lock, so the child may do anything.
    unsafe { libc::fork() }
}

/// The same with no descriptor available during the fork.
pub(super) fn fork_without_descriptors() -> libc::pid_t {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: there is room for the limit, and it is set to valid ones; as above.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        let none = libc::rlimit { rlim_cur: 0, ..limit };
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const none), 0);
        let child = libc::fork();
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
        child
    }
}

/// A fork by the system call alone.
#[cfg(target_os = "linux")]
pub(super) fn raw_fork() -> libc::pid_t {
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: as above. Without a stack and shared memory it is a fork.
    let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, none, none, none, none) };
    libc::pid_t::try_from(child).expect("a pid")
}

/// Runs `part` in a forked child, which then ends by `leave`, and returns its answer.
pub(super) fn in_a_child(
    fork: fn() -> libc::pid_t,
    part: impl FnOnce() -> String,
    leave: fn(i32) -> !,
) -> String {
    let (child, said) = answer_of_a_child(fork, part, leave);
    // SAFETY: null asks for no status.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    said
}

/// The same; the child lives until its standard input ends.
pub(super) fn in_a_child_that_stays(
    fork: fn() -> libc::pid_t,
    part: impl FnOnce() -> String,
) -> String {
    answer_of_a_child(fork, part, |status| {
        let mut byte = 0_u8;
        // SAFETY: there is room for one byte.
        while unsafe { libc::read(0, (&raw mut byte).cast(), 1) } > 0 {}
        leave(status)
    })
    .1
}

fn answer_of_a_child(
    fork: fn() -> libc::pid_t,
    part: impl FnOnce() -> String,
    leave: fn(i32) -> !,
) -> (libc::pid_t, String) {
    let (mut from_child, mut to_parent) = UnixStream::pair().expect("a pair of sockets");
    match fork() {
        0 => {
            drop(from_child);
            let said = std::panic::catch_unwind(std::panic::AssertUnwindSafe(part))
                .unwrap_or_else(|_| "panicked".to_owned());
            let written = to_parent.write_all(said.as_bytes());
            drop(to_parent);
            leave(i32::from(written.is_err()))
        }
        child => {
            assert!(child > 0, "{}", Error::last_os_error());
            drop(to_parent);
            let mut said = String::new();
            from_child.read_to_string(&mut said).expect("the child writes text");
            (child, said)
        }
    }
}

/// Continues as the first process of a new pid namespace. The process that the test started stays
/// outside and waits; when it is killed, the others die with it.
#[cfg(target_os = "linux")]
pub(super) fn enter_a_pid_namespace() -> String {
    // One fork for a single-threaded process, which a user namespace requires, and one to enter.
    continue_in_a_child();
    // SAFETY: the calls take numbers.
    let entered = unsafe {
        libc::unshare(libc::CLONE_NEWPID) == 0
            || libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID) == 0
    };
    if !entered {
        return format!("failed, {}", Error::last_os_error());
    }
    continue_in_a_child();
    format!("done, as pid {}", std::process::id())
}

/// Returns in a forked child, which dies with this process; this process waits for it.
#[cfg(target_os = "linux")]
fn continue_in_a_child() {
    // SAFETY: as for the fork above, the child may do anything; the rest takes numbers, and
    // null asks for no status.
    unsafe {
        match libc::fork() {
            0 => assert_eq!(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), 0),
            child => {
                assert!(child > 0, "{}", Error::last_os_error());
                libc::waitpid(child, std::ptr::null_mut(), 0);
                libc::_exit(0)
            }
        }
    }
}
