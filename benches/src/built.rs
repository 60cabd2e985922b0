//! Builds the command as users do.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// Builds `portlock` with optimisation, and returns its path.
///
/// # Panics
///
/// If it does not build.
pub fn portlock() -> PathBuf {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let done = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--features", "cli", "--bin", "portlock"])
        .args(["--manifest-path", manifest, "--message-format", "json"])
        .output()
        .expect("cargo runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let output = String::from_utf8(done.stdout).expect("UTF-8");
    let built = output
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)));
    built.expect("cargo reports the command")
}
