//! What the fuzz targets assert, apart from the fuzzer, so that `cargo test` runs it too: over the
//! committed corpus, and over parsers that are known to be broken and must be caught.

pub mod record;
pub mod schedule;
