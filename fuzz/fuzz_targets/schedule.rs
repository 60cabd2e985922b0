//! Any history of the model's scenarios, on the shipped machines: a broken property is a find.
//!
//! With `PORTLOCK_FUZZ_CONTROL` set to the name of a wrong protocol, that one is run in place of the
//! shipped one: the run must then fail, or the harness sees nothing.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portlock_model::render::report::{Origin, report};
use portlock_model::scenario::schedule::run;
use portlock_model::scenario::walk::{from_fuzz, shorten};
use portlock_model::variants::{self, Protocol, SHIPPED};

static CONTROL: LazyLock<Option<String>> =
    LazyLock::new(|| std::env::var("PORTLOCK_FUZZ_CONTROL").ok());

static PROTOCOL: LazyLock<Protocol> = LazyLock::new(|| match CONTROL.as_deref() {
    Some(name) => variants::named(name).expect("the name of a wrong protocol").protocol,
    None => SHIPPED,
});

fuzz_target!(|bytes: &[u8]| {
    let (scenario, participants, schedule) = from_fuzz(bytes);
    if run(scenario, &PROTOCOL, &schedule, true).broken.is_some() {
        let found = shorten(scenario, &PROTOCOL, &schedule, true).expect("it breaks again");
        let origin = Origin { variant: CONTROL.as_deref(), participants };
        panic!("{}", report(scenario, &PROTOCOL, &found, origin));
    }
});
