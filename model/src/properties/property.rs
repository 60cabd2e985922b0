//! The properties by number, each as a sentence.

use std::fmt;

/// A property that the checks can find broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Property {
    P1,
    P2,
    P3,
    P4,
    P5,
    P6,
    /// A query is read-only.
    Query,
}

impl Property {
    /// A list of this property alone.
    pub fn only(self) -> &'static [Self] {
        match self {
            Self::P1 => &[Self::P1],
            Self::P2 => &[Self::P2],
            Self::P3 => &[Self::P3],
            Self::P4 => &[Self::P4],
            Self::P5 => &[Self::P5],
            Self::P6 => &[Self::P6],
            Self::Query => &[Self::Query],
        }
    }

    /// The property as a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::P1 => {
                "P1 mutual exclusion: at most one participant holds, and the path names the file that it has locked"
            }
            Self::P2 => {
                "P2 no foreign removal: a participant removes only a file that it created, or whose holder it judged dead under the kernel lock"
            }
            Self::P3 => "P3 recovery: a dead holder blocks no acquire",
            Self::P4 => {
                "P4 truthful refusal: the reported holder had the named file locked during the call, with \
                 its record in it"
            }
            Self::P5 => {
                "P5 bounded: a call that runs alone ends, and gets a free lock; a waiter gets the lock once it is free"
            }
            Self::P6 => "P6 no litter: at rest, no file of a living participant is left",
            Self::Query => "query: a query changes no path, file or kernel lock",
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query => f.write_str("query"),
            Self::P1 | Self::P2 | Self::P3 | Self::P4 | Self::P5 | Self::P6 => {
                write!(f, "{self:?}")
            }
        }
    }
}
