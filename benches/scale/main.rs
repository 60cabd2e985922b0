//! The cost of many locks, and of many waiters for one lock: curves.
//!
//! `cargo bench -p portlock-bench --bench scale`. `PORTLOCK_BENCH_DIRS` names the directories,
//! `PORTLOCK_BENCH_CSV` a file for the figures, from which `benches/pictures` are drawn.
//! `PORTLOCK_BENCH_LOCKS` and `PORTLOCK_BENCH_WAITERS` set the ends of the curves, otherwise 65,535
//! and 1,000.
//!
//! Each measurement runs in a separate process. Memory and descriptors are the growth from its
//! start to its peak. For descriptors the kernel reports the size of the table, a power of two.

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("not measured here: memory and descriptors are read from /proc");
}

#[cfg(target_os = "linux")]
fn main() {
    measured::main();
}

#[cfg(target_os = "linux")]
mod measured;
