//! Which lock: the directory, and the port or name.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, ValueHint};
use portlock::{Lock, LockDir, LockDirError, LockKey};

use crate::advice;
use crate::output::{naming, one_line, say};
use crate::status_code::of_place;

/// The directory of the lock files.
#[derive(Debug, Args)]
pub(crate) struct Directory {
    /// Directory of the lock files [default: $PORTLOCK_DIR, or else ~/.percy]
    #[arg(
        long,
        value_name = "DIR",
        value_hint = ValueHint::DirPath,
        value_parser = PathBufValueParser::new().try_map(expanded),
        conflicts_with_all = ["app", "fall_back"]
    )]
    dir: Option<PathBuf>,

    /// Use the directory .NAME in the home directory
    #[arg(long, value_name = "NAME", conflicts_with = "fall_back")]
    app: Option<String>,

    /// Where ~/.percy cannot be written to, use a directory for this user's temporary files
    ///
    /// That is portlock in $XDG_RUNTIME_DIR, or else portlock-UID in $TMPDIR or /tmp; it is made,
    /// by a query too. Processes that come to different directories do not exclude each other, so a
    /// warning says so.
    #[arg(long)]
    fall_back: bool,
}

/// A directory, unless it begins with a `~` that the shell has not expanded, as in `--dir=~/locks`.
fn expanded(dir: PathBuf) -> Result<PathBuf, String> {
    if dir.as_os_str().as_encoded_bytes().starts_with(b"~") {
        return Err("no shell has expanded '~'; write the path from the root, or ./~".to_owned());
    }
    Ok(dir)
}

impl Directory {
    /// The directory; warns if it is the fall-back.
    pub(crate) fn open(&self) -> Result<LockDir, LockDirError> {
        let dir = self.find()?;
        if let Some(reason) = dir.instead_of() {
            let (used, reason) = (one_line(&dir.path().display().to_string()), in_words(reason));
            say(&format!("warning: the lock files are in {used} instead: {reason}"));
        }
        Ok(dir)
    }

    fn find(&self) -> Result<LockDir, LockDirError> {
        match (&self.dir, &self.app) {
            (Some(dir), _) => Ok(LockDir::at(dir)),
            (None, Some(app)) => LockDir::home(app),
            (None, None) if self.fall_back => LockDir::user_or_fallback(),
            (None, None) => LockDir::user(),
        }
    }
}

/// Says why there is no place for a lock. Returns the exit status for that.
pub(crate) fn refused(error: &LockDirError) -> u8 {
    say(&in_words(error));
    of_place(error)
}

fn in_words(error: &LockDirError) -> String {
    let said = advice::of_place(error);
    match error {
        LockDirError::NotWritable { path, .. } | LockDirError::Unsafe { path, .. } => {
            naming(path, &said)
        }
        _ => said,
    }
}

/// Which lock.
#[derive(Debug, Args)]
pub(crate) struct Place {
    #[command(flatten)]
    directory: Directory,

    /// The lock: a port (all digits; 0 means any free port and has no lock), or a name
    #[arg(value_name = "PORT|NAME")]
    pub(crate) target: Target,
}

impl Place {
    /// The lock, or `None` for port 0.
    pub(crate) fn lock(&self) -> Result<Option<Lock>, LockDirError> {
        self.lock_in(Directory::open)
    }

    /// The same lock for a process that follows another one, which has given the warnings.
    #[cfg(unix)]
    pub(crate) fn lock_again(&self) -> Result<Option<Lock>, LockDirError> {
        self.lock_in(Directory::find)
    }

    fn lock_in(
        &self,
        directory: impl FnOnce(&Directory) -> Result<LockDir, LockDirError>,
    ) -> Result<Option<Lock>, LockDirError> {
        match &self.target {
            Target::Port(0) => Ok(None),
            Target::Port(port) => directory(&self.directory)?.port(*port).map(Some),
            Target::Name(name) => directory(&self.directory)?.name(name).map(Some),
        }
    }
}

/// What is locked: what the argument says before anybody has looked whether it can be.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Port(u16),
    Name(String),
}

impl Target {
    /// What `lock` locks. A lock by path alone is in no directory that the command lists.
    pub(crate) fn of(lock: &Lock) -> Self {
        match (lock.port(), lock.name()) {
            (Some(port), _) => Self::Port(port),
            (None, name) => Self::Name(name.unwrap_or_default().to_owned()),
        }
    }

    pub(crate) fn port(&self) -> Option<u16> {
        match self {
            Self::Port(port) => Some(*port),
            Self::Name(_) => None,
        }
    }

    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Port(_) => None,
            Self::Name(name) => Some(name),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(LockKey::Port(port)) => Ok(Self::Port(port)),
            Ok(LockKey::Name(name)) => Ok(Self::Name(name)),
            Err(_) => Err(format!("{text} is not in 0..=65535")),
        }
    }
}

impl fmt::Display for Target {
    /// "port 5338", "lock build".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "port {port}"),
            Self::Name(name) => write!(f, "lock {name}"),
        }
    }
}
