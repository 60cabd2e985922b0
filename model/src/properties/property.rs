//! The properties by number, each with the sentence that it checks.

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
    /// A query changes nothing.
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
                "P1 exclusion: at most one participant holds, and has the lock of the named file"
            }
            Self::P2 => {
                "P2 no foreign removal: nobody removes a file that it did not judge dead under its lock, or create"
            }
            Self::P3 => "P3 recovery: who died blocks nobody",
            Self::P4 => {
                "P4 truthful refusal: who is named had the named file locked, with its record in it, during \
                 the call"
            }
            Self::P5 => {
                "P5 bounded: run alone, a call ends, and gets a lock that nobody holds; who waits gets it at last"
            }
            Self::P6 => "P6 no litter: at rest nothing of the living is left",
            Self::Query => "query: it changes nothing that others can see",
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
