use std::error::Error;
use std::time::Duration;

use super::held::Held;
use super::*;
use crate::ReleaseError;
use crate::protocol::{Op, Refusal};
use crate::subject::Subject;

fn held() -> Held {
    Held::of(Subject::Port(5338), "/h/agent-5338.lock".into(), None, Refusal::Holder)
}

#[test]
fn io_error_kinds_match_and_keep_the_holder() {
    let limit = Duration::from_millis(1500);
    let timeout = AcquireError::Timeout { held: held(), limit };
    assert!(timeout.to_string().starts_with("gave up after 1s 500ms: port 5338 is locked"));
    for (error, kind) in [
        (AcquireError::Held(held()), io::ErrorKind::WouldBlock),
        (timeout, io::ErrorKind::TimedOut),
    ] {
        let error = io::Error::from(error);
        assert_eq!(error.kind(), kind);
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<AcquireError>());
        assert!(inner.is_some_and(AcquireError::is_held));
    }
}

fn denied() -> io::Error {
    io::ErrorKind::PermissionDenied.into()
}

fn io(op: Op, source: io::Error) -> AcquireError {
    AcquireError::Io { op, path: "/h/x".into(), owner: None, source }
}

#[test]
fn failed_operation_keeps_its_kind() {
    let of_dir = AcquireError::Directory { path: "/h".into(), source: denied() };
    for error in [io(Op::Open, denied()), of_dir] {
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::PermissionDenied);
    }
}

/// One of each: a line without its cause, which the chain has once, and all of it in `{:#}`.
#[test]
fn chain_of_errors_has_each_text_once() {
    let full = || io::Error::from_raw_os_error(28);
    let not_writable = || LockDirError::NotWritable { path: "/h".into(), source: full() };
    let errors: Vec<Box<dyn Error>> = vec![
        Box::new(AcquireError::Held(held())),
        Box::new(AcquireError::Timeout { held: held(), limit: Duration::ZERO }),
        Box::new(AcquireError::Cancelled { held: held() }),
        Box::new(AcquireError::NotALockFile { path: "/h/x".into(), found: "a FIFO" }),
        Box::new(AcquireError::Directory { path: "/h".into(), source: full() }),
        Box::new(io(Op::Write, full())),
        Box::new(AcquireError::LockDir(not_writable())),
        Box::new(AcquireError::LockDir(LockDirError::NoHome)),
        Box::new(io::Error::from(io(Op::Write, full()))),
        Box::new(not_writable()),
        Box::new(LockDirError::AnyPort),
        Box::new(LockDirError::Port { port: "65536".into() }),
        Box::new(LockDirError::Name { name: "a/b".into(), reason: InvalidName::Character('/') }),
        Box::new(LockDirError::Environment { variable: "HOME", value: "~".into() }),
        Box::new(LockDirError::Unsafe { path: "/h".into(), reason: "it is a symbolic link" }),
        Box::new(ReleaseError::Lost { path: "/h/x".into() }),
        Box::new(ReleaseError::Forked { path: "/h/x".into() }),
    ];
    for error in errors {
        let mut chain = vec![error.to_string()];
        let mut next = error.source();
        while let Some(source) = next {
            chain.push(source.to_string());
            next = source.source();
        }
        let whole = format!("{error:#}");
        // Over lines, a refusal has the path in its own.
        chain[0] = chain[0].replace(" (lock file /h/agent-5338.lock)", "");
        for (at, text) in chain.iter().enumerate() {
            assert!(!text.contains('\n') && !text.contains("next step"), "{text}");
            let again = chain
                .iter()
                .enumerate()
                .any(|(other, one)| other != at && one.contains(text.as_str()));
            assert!(!again, "{chain:?}");
            // std's own error has no longer form.
            let has_all = whole.contains(text.as_str()) || error.is::<io::Error>();
            assert!(has_all, "{whole:?} lacks {text:?}");
        }
        let advised = whole.contains("\n  next step: ") || error.is::<io::Error>();
        assert!(advised, "{whole:?}");
        // What only the command has.
        assert!(!whole.contains("--") && !whole.contains("PORTLOCK_DIR"), "{whole:?}");
    }
}

#[test]
fn only_a_refusal_says_held() {
    assert!(AcquireError::Held(held()).is_held());
    assert!(!io(Op::Open, denied()).is_held());
}

#[test]
fn unwritable_directory_has_a_cause() {
    let error = LockDirError::NotWritable { path: "/h".into(), source: denied() };
    assert!(error.source().is_some_and(|cause| cause.to_string() == denied().to_string()));
    assert!(LockDirError::NoHome.source().is_none());
}

#[test]
fn path_of_environment_is_explained() {
    let text = |value: &str| {
        LockDirError::Environment { variable: "HOME", value: value.into() }.to_string()
    };
    assert!(text("~/locks").contains("only a shell expands '~'"));
    assert!(text("locks").contains("not a path from the root"));
}

#[test]
fn advice_fits_the_cause() {
    let of = |op, source| io(op, source).next_step();
    assert!(of(Op::Open, denied()).contains("permissions of the lock file"));
    assert!(of(Op::Unlink, denied()).contains("that you may write to"));
    assert!(of(Op::Lock, denied()).contains("forbids to lock files"));
    assert!(of(Op::Write, io::ErrorKind::FileTooLarge.into()).contains("ulimit -f"));
    assert!(of(Op::Write, io::ErrorKind::StorageFull.into()).contains("free some space"));
    assert!(of(Op::Lock, io::Error::other("EIO")).contains("failed to lock"));
    #[cfg(unix)]
    for (op, code, words) in [
        (Op::Lock, libc::ENOLCK, "no lock left"),
        (Op::Lock, libc::EPERM, "forbids to lock files"),
        (Op::Lock, libc::EACCES, "forbids to lock files"),
        (Op::Lock, libc::EIO, "failed to lock"),
        (Op::Create, libc::EMFILE, "ulimit -n"),
        (Op::Write, libc::EFBIG, "ulimit -f"),
        (Op::Write, libc::ENOSPC, "free some space"),
        (Op::Write, libc::EDQUOT, "free some space"),
        (Op::Create, libc::EROFS, "that can be written"),
        (Op::Create, libc::ENOTDIR, "move away what is there"),
        (Op::Read, libc::EIO, "fix the problem"),
    ] {
        let advice = of(op, io::Error::from_raw_os_error(code));
        assert!(advice.contains(words), "{op:?} {code}: {advice}");
    }
    let of_another =
        AcquireError::Io { op: Op::Open, path: "/h/x".into(), owner: Some(0), source: denied() };
    assert!(of_another.next_step().starts_with("the lock file belongs to user 0: ask"));
}
