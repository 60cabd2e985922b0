//! What is kept for the agents of Percy, whose locks these are too: their directory, the names of
//! their files, their words. Their record is the first three keys of ours (`record.rs`).

use std::path::Path;

use crate::record::FileName;

/// The directory of the agents is `.percy` in the home directory.
pub(crate) const APP: &str = "percy";

/// The lock file of a port has this name, before `.lock`.
pub(crate) fn stem(port: u16) -> String {
    format!("agent-{port}")
}

/// The port whose lock file has the name `file`: `agent-<port>.lock`.
pub(crate) fn port_of_file(file: &str) -> Option<u16> {
    let digits = file.strip_suffix(".lock")?.strip_prefix("agent-")?;
    let port = digits.parse().ok().filter(|&port| port != 0)?;
    // As `stem` writes it: no sign, no zero before it.
    (u16::to_string(&port) == digits).then_some(port)
}

/// Whether the file at `path` has a name that only a port's lock file has.
pub(crate) fn file_name(path: &Path) -> FileName {
    match path.file_name().and_then(|name| name.to_str()).and_then(port_of_file) {
        Some(_) => FileName::OfPort,
        None => FileName::Any,
    }
}

/// What an agent says of a port in use (S13).
pub(crate) fn message(port: u16) -> String {
    format!("Percy is already running or the port {port} is in use")
}
