//! What macOS and FreeBSD share, and the process probe of FreeBSD.

pub(crate) mod events;
#[cfg(target_os = "freebsd")]
pub(crate) mod process;
