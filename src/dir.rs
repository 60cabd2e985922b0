//! Where lock files are: the user's directory, other directories, and the names of the files.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{InvalidName, LockDirError};
use crate::lock::Lock;
use crate::subject::Subject;
use crate::{percy, sys};

/// A directory of lock files.
///
/// It is made when a lock is taken, with its ancestors and mode 0700, if it is absent; one that
/// exists is left as it is. Any user who may write to it can remove a lock file under its holder,
/// so it should be the user's own.
///
/// **Two processes exclude each other only if they use the same directory.**
///
/// Use a local disk where you can: docs/platforms.md says what network filesystems and FUSE do.
///
/// Two values are equal if they have the same path.
#[derive(Debug, Clone)]
pub struct LockDir {
    path: PathBuf,
    instead_of: Option<Arc<LockDirError>>,
}

impl PartialEq for LockDir {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for LockDir {}

impl LockDir {
    /// The directory `path`. A relative one counts from the working directory at this call, and an
    /// empty one is that directory. A `~` is not expanded.
    ///
    /// ```
    /// let lock = portlock::LockDir::at("/run/my-app").port(5338)?;
    /// assert_eq!(lock.path(), std::path::absolute("/run/my-app/agent-5338.lock")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn at(path: impl AsRef<Path>) -> Self {
        Self::from_root(sys::absolute(path.as_ref()))
    }

    /// The user's directory: `$PORTLOCK_DIR` if that is set and not empty, or else `~/.percy`, as
    /// of [`percy`](Self::percy). A relative one counts from the working directory at this call.
    ///
    /// # Errors
    ///
    /// [`LockDirError::NoHome`]; [`LockDirError::Environment`] if `$PORTLOCK_DIR` begins with a `~`, or
    /// `$HOME` is no path from the root.
    pub fn user() -> Result<Self, LockDirError> {
        match Self::of_environment()? {
            Some(named) => Ok(named),
            None => Self::percy(),
        }
    }

    /// What `$PORTLOCK_DIR` names.
    fn of_environment() -> Result<Option<Self>, LockDirError> {
        let Some(value) = sys::directory_of_environment() else { return Ok(None) };
        if sys::has_tilde(&value) {
            // Below the working directory it would be another one for each process.
            return Err(LockDirError::Environment { variable: sys::DIRECTORY_VARIABLE, value });
        }
        Ok(Some(Self::at(value)))
    }

    /// Same as [`user`](Self::user), except where there is no home directory or `~/.percy` cannot be
    /// written to. Then a fall-back directory: `portlock` in the user's runtime directory
    /// (`$XDG_RUNTIME_DIR`), or else `portlock-<uid>` in the one for temporary files (`$TMPDIR`,
    /// `/tmp`). It is made by this call, mode 0700. `$PORTLOCK_DIR` is never fallen back from.
    ///
    /// **Danger: which directory it is depends on the environment, so two processes of one user
    /// can come to different ones, and then do not exclude each other**: one in a sandbox that
    /// hides the home directory and one outside, one with `TMPDIR` set and one without. Therefore
    /// [`instead_of`](Self::instead_of) reports it, for a warning. It is better to name one directory
    /// for all of them.
    ///
    /// On Windows it is [`user`](Self::user) alone.
    ///
    /// # Errors
    ///
    /// [`LockDirError::Unsafe`] if the fall-back directory is a link, another user's, or
    /// writable by others; [`LockDirError::NotWritable`] if it cannot be made;
    /// [`LockDirError::Environment`] as of [`user`](Self::user).
    pub fn user_or_fallback() -> Result<Self, LockDirError> {
        if let Some(named) = Self::of_environment()? {
            return Ok(named);
        }
        let instead_of = match Self::percy() {
            Ok(home) => match sys::fallback::why_not_writable(home.path()) {
                Some(source) => LockDirError::NotWritable { path: home.path, source },
                None => return Ok(home),
            },
            Err(error @ LockDirError::Environment { .. }) => return Err(error),
            Err(error) => error,
        };
        Ok(Self { path: sys::fallback::directory()?, instead_of: Some(Arc::new(instead_of)) })
    }

    /// The directory `.app` in the home directory: `$HOME` (on Windows `%USERPROFILE%`), or the
    /// system's if that is unset.
    ///
    /// `app` has 1 to 64 letters, digits, `-`, `_` and `.`, and does not start with `-` or `.`.
    ///
    /// # Errors
    ///
    /// [`LockDirError::App`] for another name, [`LockDirError::NoHome`] if there is no home directory,
    /// [`LockDirError::Environment`] if `$HOME` is no path from the root.
    pub fn home(app: &str) -> Result<Self, LockDirError> {
        if let Some(reason) = wrong_in_file_name(app) {
            return Err(LockDirError::App { app: app.to_owned(), reason });
        }
        let home = sys::home().ok_or(LockDirError::NoHome)?;
        if !home.is_absolute() {
            return Err(LockDirError::Environment { variable: sys::HOME_VARIABLE, value: home });
        }
        Ok(Self::from_root(home.join(format!(".{app}"))))
    }

    /// The directory of Percy's agents, `~/.percy` (PERCY.md: the file, exactly).
    ///
    /// # Errors
    ///
    /// [`LockDirError::NoHome`], [`LockDirError::Environment`].
    pub fn percy() -> Result<Self, LockDirError> {
        Self::home(percy::APP)
    }

    /// The lock of `port` in this directory: `agent-<port>.lock`. Touches nothing.
    ///
    /// # Errors
    ///
    /// [`LockDirError::AnyPort`] for 0, which means "any free port" and takes no lock.
    pub fn port(&self, port: u16) -> Result<Lock, LockDirError> {
        match port {
            0 => Err(LockDirError::AnyPort),
            _ => self.lock_in(&percy::stem(port), Subject::Port(port)),
        }
    }

    /// The lock called `name` in this directory: `<name>.lock`. Touches nothing.
    ///
    /// A name has 1 to 64 ASCII letters, digits, `-`, `_` and `.`, the first neither `-` nor `.`.
    /// It is not digits alone, which is a [port](Self::port), nor `agent-` and digits, whose file
    /// would be a port's, nor a device of Windows (`con`, `nul.x`, `COM1`).
    ///
    /// Where the filesystem ignores the case of letters (macOS, Windows),
    /// `Build` and `build` are one lock.
    ///
    /// ```
    /// let lock = portlock::LockDir::at("/run/my-app").name("build")?;
    /// assert_eq!(lock.path(), std::path::absolute("/run/my-app/build.lock")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`LockDirError::Name`] for another name.
    pub fn name(&self, name: &str) -> Result<Lock, LockDirError> {
        match wrong_in_name(name) {
            Some(reason) => Err(LockDirError::Name { name: name.to_owned(), reason }),
            None => self.lock_in(name, Subject::Name(name.to_owned())),
        }
    }

    /// The lock of a port or name in this directory. Touches nothing.
    ///
    /// ```
    /// use portlock::{LockDir, LockKey};
    ///
    /// let key: LockKey = "5338".parse()?;
    /// let dir = LockDir::at("/run/my-app");
    /// assert_eq!(dir.lock(&key)?, dir.port(5338)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As of [`port`](Self::port) and [`name`](Self::name).
    pub fn lock(&self, key: &LockKey) -> Result<Lock, LockDirError> {
        match key {
            LockKey::Port(port) => self.port(*port),
            LockKey::Name(name) => self.name(name),
        }
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why this directory is used instead of the user's own; `None` if it is not. Only ever of
    /// [`user_or_fallback`](Self::user_or_fallback).
    pub fn instead_of(&self) -> Option<&LockDirError> {
        self.instead_of.as_deref()
    }

    /// The lock whose file has the name `file` in this directory; `None` if no lock's file has.
    pub(crate) fn lock_of_file(&self, file: &str) -> Option<Lock> {
        match percy::port_of_file(file) {
            Some(port) => self.port(port).ok(),
            None => self.name(file.strip_suffix(".lock")?).ok(),
        }
    }

    fn from_root(path: PathBuf) -> Self {
        Self { path, instead_of: None }
    }

    fn lock_in(&self, stem: &str, subject: Subject) -> Result<Lock, LockDirError> {
        if !self.path.is_absolute() {
            // Made so where that was possible. Later on it could name another directory.
            return Err(LockDirError::NoWorkingDirectory { path: self.path.clone() });
        }
        Ok(Lock::new(self.path.join(format!("{stem}.lock")), subject))
    }
}

/// What a lock of a directory is for: a port or a name, as in `PORT|NAME`.
///
/// All digits are a port, anything else is a name. Whether a lock can have the name, or port 0, is
/// checked by [`LockDir::lock`]. It is displayed as it is parsed.
///
/// ```
/// use portlock::LockKey;
///
/// assert_eq!("5338".parse::<LockKey>()?, LockKey::Port(5338));
/// assert_eq!("build".parse::<LockKey>()?, LockKey::Name("build".into()));
/// assert!("65536".parse::<LockKey>().is_err());
/// # Ok::<(), portlock::LockDirError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockKey {
    /// A port; 0 means "any free port" and has no lock.
    Port(u16),
    /// A name.
    Name(String),
}

impl FromStr for LockKey {
    type Err = LockDirError;

    /// [`LockDirError::Port`] for a number above 65535.
    fn from_str(text: &str) -> Result<Self, LockDirError> {
        if !is_number(text) {
            return Ok(Self::Name(text.to_owned()));
        }
        text.parse().map(Self::Port).map_err(|_| LockDirError::Port { port: text.to_owned() })
    }
}

impl fmt::Display for LockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => port.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What keeps `name` from being part of a file's name that is the same file everywhere.
fn wrong_in_file_name(name: &str) -> Option<InvalidName> {
    let permitted = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() {
        Some(InvalidName::Empty)
    } else if let Some(other) = name.chars().find(|c| !permitted(c)) {
        Some(InvalidName::Character(other))
    } else if name.starts_with(['-', '.']) {
        Some(InvalidName::LeadingChar)
    } else if name.len() > 64 {
        Some(InvalidName::TooLong)
    } else {
        None
    }
}

/// What keeps `name` from being the name of a lock.
fn wrong_in_name(name: &str) -> Option<InvalidName> {
    let wrong = wrong_in_file_name(name);
    if wrong.is_some() {
        wrong
    } else if is_number(name) {
        Some(InvalidName::Port)
    } else if name.to_ascii_lowercase().strip_prefix("agent-").is_some_and(is_number) {
        Some(InvalidName::ReservedPrefix)
    } else if is_device(name) {
        Some(InvalidName::ReservedOnWindows)
    } else {
        None
    }
}

/// Whether Windows takes a file of this name, in any directory and with any ending, for a device.
fn is_device(name: &str) -> bool {
    let base = name.split('.').next().unwrap_or(name).to_ascii_lowercase();
    match base.as_str() {
        "con" | "prn" | "aux" | "nul" => true,
        base => base
            .strip_prefix("com")
            .or_else(|| base.strip_prefix("lpt"))
            .is_some_and(|number| number.len() == 1 && number.as_bytes()[0].is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_equal_by_their_path() {
        let dir = LockDir { path: "/a".into(), instead_of: Some(Arc::new(LockDirError::AnyPort)) };
        assert_eq!(dir, LockDir { path: "/a".into(), instead_of: None });
        assert_ne!(dir, LockDir { path: "/b".into(), ..dir.clone() });
    }

    #[test]
    fn the_names_of_apps_are_plain_file_names() {
        for app in ["percy", "my-app_2", "a.b", "5338", "con", &"x".repeat(64)] {
            assert!(LockDir::home(app).expect(app).path().ends_with(format!(".{app}")));
        }
        for app in ["", ".", "..", ".x", "-x", "a/b", "a\\b", "a\0b", "é", &"x".repeat(65)] {
            assert!(matches!(LockDir::home(app), Err(LockDirError::App { .. })), "{app:?}");
        }
    }

    #[test]
    fn only_port_0_has_no_lock() {
        let dir = LockDir::at("/d");
        assert!(matches!(dir.port(0), Err(LockDirError::AnyPort)));
        for port in [1, 5338, 65535] {
            let path = sys::absolute(Path::new(&format!("/d/agent-{port}.lock")));
            assert_eq!(dir.port(port).expect("a port").path(), path);
        }
    }

    #[test]
    fn each_naming_rule_has_its_own_reason() {
        let reason = |name: &str| match LockDir::at("/d").name(name) {
            Ok(lock) => {
                let path = sys::absolute(Path::new(&format!("/d/{name}.lock")));
                assert_eq!(lock.path(), path);
                assert_eq!((lock.name(), lock.port()), (Some(name), None));
                None
            }
            Err(LockDirError::Name { reason, .. }) => Some(reason),
            Err(other) => panic!("{other}"),
        };
        let most = "x".repeat(64);
        let long = "x".repeat(65);
        for name in
            ["build", "B", "_", "a.b-c_d", "5338x", "agent-", "agent-x1", "agent", "x5338", &*most]
        {
            assert_eq!(reason(name), None, "{name}");
        }
        for name in ["con5", "com", "com10", "comx", "lpt", "nulls", "x.con", "a-nul"] {
            assert_eq!(reason(name), None, "{name}");
        }
        for (name, expected) in [
            ("", InvalidName::Empty),
            (&*long, InvalidName::TooLong),
            ("-x", InvalidName::LeadingChar),
            (".x", InvalidName::LeadingChar),
            ("..", InvalidName::LeadingChar),
            ("a/b", InvalidName::Character('/')),
            ("a\\b", InvalidName::Character('\\')),
            ("a\0", InvalidName::Character('\0')),
            ("a b", InvalidName::Character(' ')),
            ("é", InvalidName::Character('é')),
            ("0", InvalidName::Port),
            ("5338", InvalidName::Port),
            ("99999999", InvalidName::Port),
            ("agent-5338", InvalidName::ReservedPrefix),
            ("agent-007", InvalidName::ReservedPrefix),
            ("Agent-1", InvalidName::ReservedPrefix),
            ("con", InvalidName::ReservedOnWindows),
            ("Nul.tar.gz", InvalidName::ReservedOnWindows),
            ("prn", InvalidName::ReservedOnWindows),
            ("aux", InvalidName::ReservedOnWindows),
            ("COM1", InvalidName::ReservedOnWindows),
            ("lpt0.x", InvalidName::ReservedOnWindows),
        ] {
            assert_eq!(reason(name), Some(expected), "{name}");
        }
    }

    #[test]
    fn invalid_name_error_has_reason_and_next_step() {
        let said = |name: &str| format!("{:#}", LockDir::at("/d").name(name).expect_err("refused"));
        assert_eq!(
            said("5338"),
            "\"5338\" cannot be a lock's name: it is a number, as a port is\n  \
             next step: ask for port 5338 itself"
        );
        let words = "it contains '/'\n  next step: use 1 to 64 letters";
        assert!(said("a/b").contains(words), "{}", said("a/b"));
    }

    #[test]
    fn key_is_parsed_and_displayed_alike() {
        for (text, key) in [
            ("0", LockKey::Port(0)),
            ("5338", LockKey::Port(5338)),
            ("65535", LockKey::Port(65535)),
            ("build", LockKey::Name("build".to_owned())),
            ("5338x", LockKey::Name("5338x".to_owned())),
            ("", LockKey::Name(String::new())),
        ] {
            assert_eq!(text.parse::<LockKey>().expect(text), key);
            assert_eq!(key.to_string(), text);
        }
        for text in ["65536", "99999999999999999999999999"] {
            let error = text.parse::<LockKey>().expect_err(text);
            assert_eq!(error.to_string(), format!("{text} is not a port"));
        }
        let dir = LockDir::at("/d");
        let lock = |text: &str| dir.lock(&text.parse().expect("a key"));
        assert_eq!(lock("5338").expect("a port"), dir.port(5338).expect("a port"));
        assert_eq!(lock("build").expect("a name"), dir.name("build").expect("a name"));
        assert!(matches!(lock("0"), Err(LockDirError::AnyPort)));
        assert!(matches!(lock(""), Err(LockDirError::Name { .. })));
    }

    #[test]
    fn empty_path_is_the_working_directory() {
        let here = std::env::current_dir().expect("there is one");
        assert_eq!(LockDir::at("").path(), here);
        assert_eq!(Lock::at("").path(), here);
        assert_eq!(LockDir::at("").port(1).expect("a port").path(), here.join("agent-1.lock"));
    }

    #[test]
    fn file_belongs_only_to_lock_that_names_it() {
        let dir = LockDir::at("/d");
        for lock in [dir.port(1), dir.port(65535), dir.name("build"), dir.name("a.lock")] {
            let lock = lock.expect("a lock");
            let file = lock.path().file_name().and_then(|name| name.to_str()).expect("a name");
            assert_eq!(dir.lock_of_file(file), Some(lock));
        }
        for file in [
            "build",
            ".lock",
            "build.Lock",
            "build.lock~",
            ".build.lock",
            "agent-0.lock",
            "agent-007.lock",
            "agent-+1.lock",
            "agent-65536.lock",
            "5338.lock",
            "con.lock",
        ] {
            assert_eq!(dir.lock_of_file(file), None, "{file}");
        }
    }
}
