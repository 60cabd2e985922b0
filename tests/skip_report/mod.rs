//! Reports what a test could not check on this machine.

use std::io::Write;

/// Reports what a test could not check, and why. Writes past the harness, which hides the output of
/// tests that pass.
pub(crate) fn not_checked(what: &str) {
    let line = format!("!!! NOT CHECKED: {what}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("stderr is open");
}

/// Whether strace can be run. If not, reports `what` as not checked; in CI it must be installed.
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "not every suite traces system calls")]
pub(crate) fn strace_is_there(what: &str) -> bool {
    let version = std::process::Command::new("strace").arg("--version").output();
    if version.is_ok_and(|version| version.status.success()) {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "strace is missing: apt-get install strace");
    not_checked(&format!("{what}: strace is missing; apt-get install strace"));
    false
}

/// One in `stride` of the possible injections is made. The gate makes all of them.
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "not every suite injects at calls")]
pub(crate) fn stride() -> usize {
    if std::env::var_os("PORTLOCK_EVERY_CALL").is_some() { 1 } else { 5 }
}

/// The calls for the injections of this round, each with its index. With a stride, consecutive
/// rounds sample different calls.
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "not every suite injects at calls")]
pub(crate) fn sampled<T>(round: usize, calls: &[T]) -> impl Iterator<Item = (usize, &T)> {
    calls.iter().enumerate().skip(round % stride()).step_by(stride())
}
