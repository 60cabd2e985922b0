//! The published JavaScript, `@percy/core` at one version, for the tests and the benches.
//!
//! The package comes from the npm registry and is never committed: one tarball, kept below the
//! target directory, whose SHA-512 must be the pinned one before anything of it is run. Of it only
//! the lock's module is taken, which imports nothing but Node's own. No script of it is run by npm.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

const VERSION: &str = "1.32.12";

/// As the registry tells it, `dist.integrity`: the SHA-512 of the tarball, in base 64.
const INTEGRITY: &str =
    "/la9BIUYMtCD5hk/EHxAGFrvNLAo4l6XreE/dkIuTzg41z1oQqYInoeehQzDjLtIlkdEYp4h935TAuWJkXa36g==";

/// The lock's module out of the published package, or why it is not to be had here.
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
        "{} is not the package that was pinned: remove it, and look where it came from",
        kept.display()
    );
    output(Command::new("tar").arg("-xzOf").arg(&kept).arg("package/dist/lock.js"))
}

/// Downloads the one tarball, nothing that it depends on, in two tries of bounded length.
fn fetch(kept: &Path) -> Result<(), String> {
    let started = SystemTime::now();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let mut npm = Command::new("npm");
    npm.args(["pack", &format!("@percy/core@{VERSION}"), "--loglevel=error", "--ignore-scripts"])
        .args(["--fetch-timeout=30000", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"])
        .current_dir(folder.path());
    output(&mut npm)?;
    // Whoever else fetches at this time puts the same bytes there.
    let fetched = folder.path().join(format!("percy-core-{VERSION}.tgz"));
    fs::rename(fetched, kept).expect("moved within one directory");
    println!("fetched @percy/core {VERSION} in {:?}", started.elapsed().unwrap_or_default());
    Ok(())
}

/// What it prints, or in one line why it did not.
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
