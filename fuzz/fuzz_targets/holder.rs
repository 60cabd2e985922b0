//! Any texts in a record that is written: the properties are in `portlock_fuzz::holder`.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portlock_fuzz::fuzzed;
use portlock_fuzz::holder::{self, CONTROLS, Forms, SHIPPED};

static FORMS: LazyLock<Forms> = LazyLock::new(|| fuzzed(SHIPPED, CONTROLS));

fuzz_target!(|bytes: &[u8]| {
    if let Err(broken) = holder::check(*FORMS, bytes) {
        panic!("{broken}");
    }
});
