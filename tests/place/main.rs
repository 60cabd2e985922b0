//! Directories of locks on the real filesystem: which directory, what is listed, what is swept.
//!
//! The environment, the user and the limits belong to a whole process, so whatever depends on them
//! runs in a child: this test binary once more, which carries out one order and answers.

#![cfg(unix)]
#![allow(unsafe_code)]
// Some tests are of Linux alone; what only they need is needed nowhere else.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]

#[path = "../participant/mod.rs"]
mod participant;

mod child;
mod directories;
mod listing;

/// A user that nobody is, with no entry in the password file.
const STRANGER: u32 = 54_321;

fn is_root() -> bool {
    our_id() == 0
}

fn our_id() -> u32 {
    // SAFETY: geteuid only returns a number.
    unsafe { libc::geteuid() }
}
