//! What only macOS has.

pub(crate) mod process;
