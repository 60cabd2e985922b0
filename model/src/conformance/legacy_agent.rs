//! The real calls of an agent of the old format, which does not use the trait.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crate::scenario::other::Percy;

/// The reply of an exclusive create that made a file.
pub const CREATED: &str = "wx: created";

/// One agent, and the file that it has created and not closed yet.
#[derive(Debug, Default)]
pub struct LegacyAgent {
    new_file: Option<File>,
}

impl LegacyAgent {
    /// Makes the calls of one step on the lock file `path`, and returns them in the model's words.
    ///
    /// The model decides whether the recorded process lives, because the participants of the
    /// conformance are one process. `None` for a state that makes no call.
    ///
    /// # Errors
    ///
    /// The error of the system, except for a missing file.
    pub fn step(
        &mut self,
        state: Percy,
        path: &Path,
        record: &[u8],
    ) -> io::Result<Option<&'static str>> {
        let calls = match state {
            Percy::Creating { .. } => {
                match OpenOptions::new().write(true).create_new(true).open(path) {
                    Ok(new_file) => {
                        self.new_file = Some(new_file);
                        CREATED
                    }
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => "wx: exists",
                    Err(error) => return Err(error),
                }
            }
            Percy::Writing => {
                let new_file = self.new_file.take();
                new_file.ok_or(io::ErrorKind::NotFound)?.write_all(record)?;
                "write, close"
            }
            Percy::Reading => {
                or_absent(fs::read(path))?;
                "read, kill(pid, 0)"
            }
            Percy::Unlinking => {
                or_absent(fs::remove_file(path))?;
                "unlink"
            }
            Percy::Releasing => {
                or_absent(fs::remove_file(path))?;
                "unlink by name"
            }
            Percy::Rereading | Percy::Guarding | Percy::Holding => return Ok(None),
        };
        Ok(Some(calls))
    }
}

fn or_absent<T: Default>(result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        other => other,
    }
}
