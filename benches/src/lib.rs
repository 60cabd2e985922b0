//! Shared code of the benches: the directories, and the comparison of two operations on a machine
//! with other load.
//!
//! | file | what |
//! | --- | --- |
//! | `built.rs` | builds the command |
//! | `csv.rs` | saves the figures of a run |
//! | `naive.rs` | the protocol that sets the floor, and portlock's additions |
//! | `place.rs` | the directories and their filesystems |
//! | `plots.rs` | the plots of those figures |
//! | `rounds.rs` | ratios from paired rounds |

#![cfg(unix)]

pub mod built;
pub mod csv;
pub mod naive;
pub mod place;
pub mod plots;
pub mod rounds;

/// A number such as that of rounds: the environment variable `name`, otherwise `default`.
///
/// # Panics
///
/// If the variable is not a number.
pub fn number(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

/// Whether this is a measurement, `cargo bench`, and not a trial of the bench by `cargo test`.
pub fn measures() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// The average load of the last minute, which is part of every report.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown").to_owned()
}
