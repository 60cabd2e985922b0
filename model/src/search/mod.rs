//! Breadth-first search of a scenario to its end, and what makes it small.

pub mod counts;
pub mod coverage;
pub mod explore;
pub mod fingerprint;
pub mod packed;
pub mod reduce;
