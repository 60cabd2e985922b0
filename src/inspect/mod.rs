//! What is asked about lock files, and their removal where the holder is dead.

pub(crate) mod list;
pub(crate) mod status;
pub(crate) mod sweep;
