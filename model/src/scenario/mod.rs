//! What is modelled: the kernel's part of the world, the processes, and what can happen next.

pub mod machines;
pub mod moves;
pub mod other;
pub mod schedule;
pub mod view;
pub mod walk;
pub mod world;
pub mod worlds;
