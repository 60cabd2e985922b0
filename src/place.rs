//! Where lock files stand: the default place, other directories, and the name of a port's file.

use std::path::{Path, PathBuf};

use crate::error::PlaceError;
use crate::lock::Lock;
use crate::os;

/// A directory of lock files.
///
/// It is made when a lock is taken, with its ancestors and mode 0700, if it is absent; one that
/// exists is left as it is. Anybody who may write to it can remove a lock file under its holder,
/// so it should be the user's own.
///
/// Use a local disk where you can: see the README for network filesystems and FUSE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockDir {
    path: PathBuf,
}

impl LockDir {
    /// The directory `path`. A relative one counts from the working directory at this call.
    ///
    /// ```
    /// let lock = portlock::LockDir::at("/run/my-app").port(5338)?;
    /// assert_eq!(lock.path(), std::path::Path::new("/run/my-app/agent-5338.lock"));
    /// # Ok::<(), portlock::PlaceError>(())
    /// ```
    pub fn at(path: impl AsRef<Path>) -> Self {
        Self { path: os::absolute(path.as_ref()) }
    }

    /// The directory `.app` in the home directory: `$HOME`, or the system's if that is unset.
    ///
    /// `app` has 1 to 64 letters, digits, `-`, `_` and `.`, and does not start with `-` or `.`.
    ///
    /// # Errors
    ///
    /// [`PlaceError::App`] for another name, [`PlaceError::NoHome`] if there is no home directory.
    pub fn home(app: &str) -> Result<Self, PlaceError> {
        let permitted = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if app.is_empty()
            || app.len() > 64
            || app.starts_with(['-', '.'])
            || !app.chars().all(permitted)
        {
            return Err(PlaceError::App { app: app.to_owned() });
        }
        let home = os::home().ok_or(PlaceError::NoHome)?;
        Ok(Self { path: os::absolute(&home).join(format!(".{app}")) })
    }

    /// The directory of the default place, `~/.percy` (PERCY.md: the file, exactly).
    ///
    /// # Errors
    ///
    /// [`PlaceError::NoHome`].
    pub fn percy() -> Result<Self, PlaceError> {
        Self::home("percy")
    }

    /// The lock of `port` in this directory: `agent-<port>.lock`. Touches nothing.
    ///
    /// # Errors
    ///
    /// [`PlaceError::AnyPort`] for 0, which means "any free port" and takes no lock.
    pub fn port(&self, port: u16) -> Result<Lock, PlaceError> {
        match port {
            0 => Err(PlaceError::AnyPort),
            _ => Ok(Lock::new(self.path.join(format!("agent-{port}.lock")), Some(port))),
        }
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_apps_are_plain_file_names() {
        for app in ["percy", "my-app_2", "a.b", &"x".repeat(64)] {
            assert!(LockDir::home(app).expect(app).path().ends_with(format!(".{app}")));
        }
        for app in ["", ".", "..", ".x", "-x", "a/b", "a\\b", "a\0b", "é", &"x".repeat(65)] {
            assert!(matches!(LockDir::home(app), Err(PlaceError::App { .. })), "{app:?}");
        }
    }

    #[test]
    fn port_0_takes_no_lock_and_all_others_have_one() {
        let dir = LockDir::at("/d");
        assert!(matches!(dir.port(0), Err(PlaceError::AnyPort)));
        for port in [1, 5338, 65535] {
            let path = format!("/d/agent-{port}.lock");
            assert_eq!(dir.port(port).expect("a port").path(), Path::new(&path));
        }
    }
}
