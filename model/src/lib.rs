//! Explores the machines that portlock ships, in every interleaving, over a model filesystem.
//!
//! | folder | what |
//! | --- | --- |
//! | `scenario/` | the modelled kernel (`state`), a participant's view of it (`view`), the possible moves (`moves`), the scenarios to explore (`catalogue`), the shipped machines as graphs (`machines`), agents of the old format (`other`), runs as lists of numbers (`schedule`, `walk`) |
//! | `properties/` | the properties as sentences (`property`) and as checks; solo and fair runs (`runs`), a memo of solo runs (`solo`) |
//! | `search/` | breadth-first search (`explore`), its coverage (`coverage`), dead variables (`reduce`), fingerprints, committed counts |
//! | `variants/` | the wrong protocols that must be caught, by subject, and their table (`catalogue`) |
//! | `any_number/` | exclusion and removal for any number of participants |
//! | `conformance/` | every transition made on a real filesystem (`kernel`); recorded runs of real processes (`trace`) |
//! | `render/` | reports of a failure, transition tables, exports, diagrams |
//! | `command/` | the command |

pub mod any_number;
pub mod command;
#[cfg(any(target_os = "linux", windows))]
pub mod conformance;
pub mod properties;
pub mod render;
pub mod scenario;
pub mod search;
pub mod variants;
