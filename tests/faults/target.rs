//! The process whose calls fail: it carries out orders, in a forked child for each case.

use std::error::Error;
use std::io;
use std::time::Duration;

use portlock::{Guard, Holder, Lock, LockDir, ReleaseError, Status};

pub(super) const ROLE: &str = "PORTLOCK_TEST_INJECTION_TARGET";
pub(super) const ANSWER: &str = "answer: ";

/// Arguments of void calls in strace's output: no descriptor, process, flags, address.
pub(super) const VOID: &str = "-1";
pub(super) const VOID_KILL: &str = "2147483647, 0";
pub(super) const VOID_FLAGS: &str = "|0xfff7f7ff";
pub(super) const VOID_ADDRESS: &str = "0xffffffffffffffff";

#[test]
pub(super) fn target_follows_orders_while_calls_fail() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    while let Some(order) = next_order() {
        assert_eq!(order, "fork");
        // SAFETY: the other thread is the harness's, which waits; the child may do anything.
        match unsafe { libc::fork() } {
            0 => {
                let played = std::panic::catch_unwind(play);
                // SAFETY: takes a number and does not return.
                unsafe { libc::_exit(i32::from(played.is_err())) }
            }
            child => {
                let mut status = 0;
                // SAFETY: `status` has room for the answer.
                unsafe { libc::waitpid(child, &mut status, 0) };
                answer(&format!("ended {status}"));
            }
        }
    }
    std::process::exit(0);
}

fn play() {
    answer(&std::process::id().to_string());
    let mut guard = None;
    while let Some(order) = next_order().filter(|order| order != "end") {
        let (order, rest) = order.split_once(' ').unwrap_or((&order, ""));
        let said = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            carry_out(order, rest, &mut guard)
        }));
        answer(&said.unwrap_or_else(|_| "panicked".to_owned()));
    }
    drop(guard);
}

fn carry_out(order: &str, rest: &str, guard: &mut Option<Guard>) -> String {
    let lock = Lock::at(if rest.starts_with('/') { rest } else { "/" });
    let mut keep = |attempt: Result<Guard, portlock::AcquireError>| match attempt {
        Ok(got) => {
            *guard = Some(got);
            "held".to_owned()
        }
        Err(error) if error.is_held() => format!("refused\t\t{error}"),
        Err(error) => failed(&error),
    };
    match order {
        "burn" => {
            let (name, times) = rest.split_once(' ').expect("two words");
            burn(name, times.parse().expect("a number"));
            "burnt".to_owned()
        }
        "limit" => {
            limit_descriptors(rest.parse().expect("a number"));
            "limited".to_owned()
        }
        "try" => keep(lock.try_acquire()),
        "claim-try" => {
            keep(lock.try_acquire());
            "held".to_owned()
        }
        "acquire" => keep(lock.acquire()),
        "acquire-within-no-time" => keep(lock.acquire_timeout(Duration::ZERO)),
        "release" => match guard.take().expect("holds").release() {
            Ok(()) => "released".to_owned(),
            Err(ReleaseError::Lost { .. }) => "lost".to_owned(),
            Err(error) => {
                let said = failed(&error);
                *guard = error.into_guard();
                said
            }
        },
        "drop" => {
            drop(guard.take());
            "dropped".to_owned()
        }
        "clear" => cleared(lock.clear()),
        "force-clear" => match lock.status() {
            Ok(Status::Unknown { holder: Some(holder), .. }) => forced(&lock, &holder),
            Ok(other) => state(&other),
            Err(error) => failed(&error),
        },
        "status" => match lock.status() {
            Ok(status) => state(&status),
            Err(error) => failed(&error),
        },
        "list" => match directory_of(&lock).list() {
            Ok(listed) => each(listed.into_iter().map(|listed| match listed.status {
                Ok(status) => state(&status),
                Err(error) => failed(&error),
            })),
            Err(error) => failed(&error),
        },
        "sweep" => match directory_of(&lock).sweep() {
            Ok(swept) => each(swept.into_iter().map(|swept| match swept.removed {
                Ok(_) => "swept".to_owned(),
                Err(error) => failed(&error),
            })),
            Err(error) => failed(&error),
        },
        _ => "no such order".to_owned(),
    }
}

fn forced(lock: &Lock, holder: &Holder) -> String {
    cleared(lock.force_clear(holder))
}

fn cleared(attempt: Result<Option<portlock::Reclaimed>, portlock::AcquireError>) -> String {
    match attempt {
        Ok(Some(_)) => "cleared".to_owned(),
        Ok(None) => "nothing".to_owned(),
        Err(error) if error.is_held() => format!("refused\t\t{error}"),
        Err(error) => failed(&error),
    }
}

fn state(status: &Status) -> String {
    match status {
        Status::Free => "status: free",
        Status::Held { .. } => "status: held",
        Status::Stale { .. } => "status: stale",
        _ => "status: unknown",
    }
    .to_owned()
}

fn directory_of(lock: &Lock) -> LockDir {
    LockDir::at(lock.path().parent().expect("a directory"))
}

fn each(answers: impl Iterator<Item = String>) -> String {
    answers.collect::<Vec<_>>().join(", ")
}

fn failed(error: &dyn Error) -> String {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let code = source.and_then(io::Error::raw_os_error).map(|code| code.to_string());
    format!("failed\t{}\t{error}", code.unwrap_or_default())
}

/// Makes `times` void calls of this name.
fn burn(name: &str, times: usize) {
    let number = match name {
        "none" => return,
        "openat" => libc::SYS_openat,
        "statx" => libc::SYS_statx,
        "newfstatat" => libc::SYS_newfstatat,
        "fstat" => libc::SYS_fstat,
        "flock" => libc::SYS_flock,
        "write" => libc::SYS_write,
        "pread64" => libc::SYS_pread64,
        "read" => libc::SYS_read,
        "lseek" => libc::SYS_lseek,
        "unlink" => libc::SYS_unlink,
        "mkdir" => libc::SYS_mkdir,
        "close" => libc::SYS_close,
        "kill" => libc::SYS_kill,
        "readlink" => libc::SYS_readlink,
        "fstatfs" => libc::SYS_fstatfs,
        "uname" => libc::SYS_uname,
        "socket" => libc::SYS_socket,
        "prlimit64" => libc::SYS_prlimit64,
        "getdents64" => libc::SYS_getdents64,
        "ftruncate" => libc::SYS_ftruncate,
        "fcntl" => libc::SYS_fcntl,
        "poll" => libc::SYS_poll,
        "ppoll" => libc::SYS_ppoll,
        "inotify_init1" => libc::SYS_inotify_init1,
        "inotify_add_watch" => libc::SYS_inotify_add_watch,
        "inotify_rm_watch" => libc::SYS_inotify_rm_watch,
        other => panic!("no void call is known: {other}"),
    };
    for _ in 0..times {
        // SAFETY: no descriptor, address or process has this number; signal 0 sends no signal.
        unsafe {
            if number == libc::SYS_kill {
                libc::syscall(number, i64::from(i32::MAX), 0);
            } else {
                libc::syscall(number, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64);
            }
        }
    }
}

/// Allows only descriptors below this number.
fn limit_descriptors(number: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid pointer.
    let limited = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = number;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit)
    };
    assert_eq!(limited, 0, "{}", io::Error::last_os_error());
}

/// Orders and answers use calls that the library does not make.
fn next_order() -> Option<String> {
    let mut line = Vec::new();
    loop {
        let mut byte = 0_u8;
        let room = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        // SAFETY: there is room for one byte.
        if unsafe { libc::readv(0, &room, 1) } != 1 {
            return None;
        }
        if byte == b'\n' {
            return Some(String::from_utf8(line).expect("orders are text"));
        }
        line.push(byte);
    }
}

fn answer(said: &str) {
    let mut line = format!("{ANSWER}{said}\n").into_bytes();
    let text = libc::iovec { iov_base: line.as_mut_ptr().cast(), iov_len: line.len() };
    // SAFETY: the text is ours, and of that length.
    let written = unsafe { libc::writev(1, &text, 1) };
    assert_eq!(usize::try_from(written).ok(), Some(line.len()), "the test listens");
}
