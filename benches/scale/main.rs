//! What many locks cost, and many waiters for one: curves.
//!
//! `cargo bench -p portlock-bench --bench scale`. `PORTLOCK_BENCH_DIRS` names the directories,
//! `PORTLOCK_BENCH_CSV` a file for the figures, from which `benches/pictures` are drawn.
//! `PORTLOCK_BENCH_LOCKS` and `PORTLOCK_BENCH_WAITERS` end the curves elsewhere than at 65,535 and 1,000.
//!
//! Whatever is measured runs in a process of its own, so that its memory and descriptors are its own:
//! what it has more at the most than when it began. Of descriptors the kernel reports the size of the
//! table, a power of two.

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
