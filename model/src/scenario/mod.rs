//! The modelled path, files, kernel and processes, and their possible moves.

pub mod catalogue;
pub mod machines;
pub mod moves;
pub mod other;
pub mod schedule;
pub mod state;
pub mod view;
pub mod walk;
