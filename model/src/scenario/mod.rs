//! What is modelled: the path, the files and the kernel, the processes, and what can happen next.

pub mod catalogue;
pub mod machines;
pub mod moves;
pub mod other;
pub mod schedule;
pub mod state;
pub mod view;
pub mod walk;
