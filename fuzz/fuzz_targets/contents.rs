//! Whether any bytes are a lock file at all: the properties are in `portlock_fuzz::contents`.
//!
//! With `PORTLOCK_FUZZ_CONTROL` set to the name of a broken reading, that one is fuzzed in place of
//! the crate's: the run must then fail, or the harness sees nothing.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portlock_fuzz::contents::{self, CONTROLS, Reading, SHIPPED};
use portlock_fuzz::fuzzed;

static READING: LazyLock<Reading> = LazyLock::new(|| fuzzed(SHIPPED, CONTROLS));

fuzz_target!(|bytes: &[u8]| {
    if let Err(broken) = contents::check(*READING, bytes) {
        panic!("{broken}");
    }
});
