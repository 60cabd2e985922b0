//! What a lock is for: a port, a name, or a file that its caller named.

use std::fmt;

/// What is locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    Port(u16),
    Name(String),
    /// A file that its caller named.
    Path,
}

impl Subject {
    pub(crate) fn port(&self) -> Option<u16> {
        match self {
            Self::Port(port) => Some(*port),
            Self::Name(_) | Self::Path => None,
        }
    }

    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Port(_) | Self::Path => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "port {port}"),
            Self::Name(name) => write!(f, "lock {name}"),
            Self::Path => f.write_str("the lock"),
        }
    }
}
