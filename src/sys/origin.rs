//! Which process a value was made in.

use super::process;

/// The process in which a value was made. A forked child has copies of its parent's values, and
/// must not act through them: the files are its parent's.
///
/// One that is about to act through a value that may be such a copy calls
/// [`process::notice_fork`] first, which also notices forks around the C library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin(usize);

impl Origin {
    /// This process.
    pub(crate) fn here() -> Self {
        Self(process::generation())
    }

    /// Whether it is this process. Makes no system call.
    pub(crate) fn is_here(self) -> bool {
        self == Self::here()
    }
}
