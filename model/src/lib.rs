//! Explores the machines that portlock ships, in every interleaving, over a model filesystem.
//!
//! | file | what |
//! | --- | --- |
//! | `world.rs` | the world: a path, files, open files, kernel locks, processes, as one value |
//! | `view.rs` | one participant's view of it: the filesystem that the machines run on |
//! | `moves.rs` | what can happen next |
//! | `worlds.rs` | the worlds to explore, each one value of a configuration |
//! | `properties.rs` | the promises, as checks |
//! | `variants.rs`, `other.rs` | the wrong protocols that must be caught |
//! | `schedule.rs` | a run as a list of numbers, the same for every engine |
//! | `walk.rs` | the same with moves chosen one by one, and its shortest form |
//! | `explore.rs` | breadth-first search to the end |
//! | `reduce.rs` | dead variables: what no participant will read again is cleared |
//! | `counts.rs` | the committed counts of every search |
//! | `fingerprint.rs` | 128 bits that stand for a canonical world |
//! | `packed.rs` | the worlds of a level, packed |
//! | `solo.rs` | a memo of the runs of one participant alone |
//! | `any_number.rs` | P1 and P2 for any number of participants |
//! | `command.rs` | the command |
//! | `catalogue.rs` | the table of wrong protocols, each caught |
//! | `machines.rs`, `table.rs` | the shipped machines as graphs, and their transition tables |
//! | `export.rs` | tables and steps for other programs |
//! | `report.rs` | a failure that can be read |
//! | `conformance.rs`, `conformance/` | every transition made on a real filesystem, in lock-step |
//! | `trace.rs` | recorded runs of real processes: is there an order that the model could have made? |
//! | `sequence.rs` | a run as a sequence diagram |
//! | `diagram.rs` | the shipped machines as a state diagram |
//! | `svg.rs`, `pictures.rs` | what they are drawn with; those that are committed |

pub mod any_number;
pub mod catalogue;
pub mod command;
#[cfg(any(target_os = "linux", windows))]
pub mod conformance;
pub mod counts;
pub mod diagram;
pub mod explore;
pub mod export;
pub mod fingerprint;
pub mod machines;
pub mod moves;
pub mod other;
pub mod packed;
pub mod pictures;
pub mod properties;
pub mod reduce;
pub mod report;
pub mod schedule;
pub mod sequence;
pub mod solo;
pub mod svg;
pub mod table;
#[cfg(target_os = "linux")]
pub mod trace;
pub mod variants;
pub mod view;
pub mod walk;
pub mod world;
pub mod worlds;
