//! Any bytes in a lock file: the properties are in `portlock_fuzz::record`.
//!
//! With `PORTLOCK_FUZZ_CONTROL` set to the name of a broken parser, that one is fuzzed in place of
//! the crate's: the run must then fail, or the harness sees nothing.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portlock_fuzz::fuzzed;
use portlock_fuzz::record::{self, CONTROLS, Parser, SHIPPED};

static PARSER: LazyLock<Parser> = LazyLock::new(|| fuzzed(SHIPPED, CONTROLS));

fuzz_target!(|bytes: &[u8]| {
    if let Err(broken) = record::check(*PARSER, bytes) {
        panic!("{broken}");
    }
});
