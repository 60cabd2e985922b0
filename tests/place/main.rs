//! Lock directories on the real filesystem: their choice, list and sweep.
//!
//! The environment, the user and the limits belong to a whole process, so tests that depend on them
//! run a child: this test binary again, which carries out one order and answers.

#![cfg(unix)]
#![allow(unsafe_code)]
// Some tests run on Linux only, so their helpers and imports are unused elsewhere.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]

#[path = "../participant/mod.rs"]
mod participant;

mod child;
mod directories;
mod listing;

/// An unused user id, without an entry in the password file.
const STRANGER: u32 = 54_321;

fn is_root() -> bool {
    our_id() == 0
}

fn our_id() -> u32 {
    rustix::process::geteuid().as_raw()
}
