//! What a test could not check on this machine is said where it is heard.

use std::io::Write;

/// Says loudly what a test could not check here, and why: past the harness, which keeps to itself
/// what a test prints that passes.
pub(crate) fn not_checked(what: &str) {
    let line = format!("!!! NOT CHECKED: {what}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("stderr is open");
}

/// Whether strace can be run. If not, that is said of `what`; in CI it must be there.
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "not every suite looks at system calls")]
pub(crate) fn strace_is_there(what: &str) -> bool {
    let version = std::process::Command::new("strace").arg("--version").output();
    if version.is_ok_and(|version| version.status.success()) {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "strace is missing: apt-get install strace");
    not_checked(&format!("{what}: strace is missing; apt-get install strace"));
    false
}

/// Of the calls that a test may strike, one in so many is struck. The gate strikes every one.
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "not every suite strikes calls")]
pub(crate) fn stride() -> usize {
    if std::env::var_os("PORTLOCK_EVERY_CALL").is_some() { 1 } else { 5 }
}

/// The calls that the round of this number strikes, each with its place. Where not all are struck,
/// rounds that follow each other strike different ones.
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "not every suite strikes calls")]
pub(crate) fn struck<T>(round: usize, calls: &[T]) -> impl Iterator<Item = (usize, &T)> {
    calls.iter().enumerate().skip(round % stride()).step_by(stride())
}
