//! What a test could not check on this machine is said where it is heard.

use std::io::Write;

/// Says loudly what a test could not check here, and why: past the harness, which keeps to itself
/// what a test prints that passes.
pub(crate) fn not_checked(what: &str) {
    let line = format!("!!! NOT CHECKED: {what}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("stderr is open");
}

/// Of the calls that a test may strike, one in so many is struck. The gate strikes every one.
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "not every suite strikes calls")]
pub(crate) fn stride() -> usize {
    if std::env::var_os("PORTLOCK_EVERY_CALL").is_some() { 1 } else { 5 }
}
