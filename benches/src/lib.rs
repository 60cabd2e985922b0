//! What the benches share: where they measure, and how two ways to do a thing are compared on a
//! machine that does other work as well.
//!
//! | file | what |
//! | --- | --- |
//! | `built.rs` | the command, built |
//! | `csv.rs` | the figures of a run, kept |
//! | `naive.rs` | the protocol that sets the floor, and what portlock adds to it |
//! | `place.rs` | the directories, and which filesystem each of them is on |
//! | `plots.rs` | the plots, from those figures |
//! | `rounds.rs` | ratios from paired rounds |

#![cfg(unix)]

pub mod built;
pub mod csv;
pub mod naive;
pub mod place;
pub mod plots;
pub mod rounds;

/// The number of rounds and the like: `default`, unless the environment variable `name` has another.
///
/// # Panics
///
/// If it has something else than a number.
pub fn number(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}

/// Whether this is a measurement, `cargo bench`, and not a trial of the bench by `cargo test`.
pub fn measures() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// The average load of the last minute, which belongs beside every figure.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown").to_owned()
}
