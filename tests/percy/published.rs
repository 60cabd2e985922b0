//! Fetches the published JavaScript, `@percy/core` at one version, for the tests and the benches.
//!
//! The package comes from the npm registry and is never committed: one tarball, kept in the target
//! directory, whose SHA-512 must match the pinned one before any of it is run. Only the lock's
//! module is used, which imports only Node's own modules. npm runs no script of the package.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

const VERSION: &str = "1.32.12";

/// The registry's `dist.integrity`: the SHA-512 of the tarball, in base 64.
const INTEGRITY: &str =
    "/la9BIUYMtCD5hk/EHxAGFrvNLAo4l6XreE/dkIuTzg41z1oQqYInoeehQzDjLtIlkdEYp4h935TAuWJkXa36g==";

/// The lock's module from the published package, or the reason why it is not available.
pub(crate) fn published_lock() -> Result<Vec<u8>, String> {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("percy-core-{VERSION}.tgz"));
    output(Command::new("node").arg("--version"))?;
    if !kept.exists() {
        fetch(&kept)?;
    }
    let hash = "process.stdout.write(require('crypto').createHash('sha512')
        .update(require('fs').readFileSync(process.argv[1])).digest('base64'))";
    let found = output(Command::new("node").args(["-e", hash]).arg(&kept))?;
    assert_eq!(
        String::from_utf8_lossy(&found),
        INTEGRITY,
        "{} is not the pinned package: remove it, and check its origin",
        kept.display()
    );
    output(Command::new("tar").arg("-xzOf").arg(&kept).arg("package/dist/lock.js"))
}

/// Downloads the tarball without its dependencies, with two tries and a timeout.
fn fetch(kept: &Path) -> Result<(), String> {
    let started = SystemTime::now();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let mut npm = Command::new("npm");
    npm.args(["pack", &format!("@percy/core@{VERSION}"), "--loglevel=error", "--ignore-scripts"])
        .args(["--fetch-timeout=30000", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"])
        .current_dir(folder.path());
    output(&mut npm)?;
    // A concurrent fetch writes the same bytes.
    let fetched = folder.path().join(format!("percy-core-{VERSION}.tgz"));
    fs::rename(fetched, kept).expect("moved within one directory");
    println!("fetched @percy/core {VERSION} in {:?}", started.elapsed().unwrap_or_default());
    Ok(())
}

/// The program's output, or the reason for its failure in one line.
fn output(command: &mut Command) -> Result<Vec<u8>, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.stdin(Stdio::null()).output() {
        Ok(done) if done.status.success() => Ok(done.stdout),
        Ok(done) => {
            let said = String::from_utf8_lossy(&done.stderr).trim().replace('\n', "; ");
            Err(format!("{program} ended with {}: {said}", done.status))
        }
        Err(error) => Err(format!("{program} does not run here ({error})")),
    }
}
