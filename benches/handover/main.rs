//! The hand-over of a lock from one process to another, next to `flock` on a file that stays.
//!
//! `cargo bench --bench handover -- --seconds 1 --rounds 5 --processes 2,64 --trials 101 --csv DIR`.
//! All options may be left out; `TMPDIR` chooses the filesystem. The processes acquire, hold and
//! release as fast as they can, in rounds in which the contenders take turns; a figure is the median
//! of its rounds. The columns are those of [`contention::Row`], and `--csv` writes them into
//! `handover.csv` and `recovery.csv`.
//!
//! A hand-over is the time from just before one process's call of release to the return of
//! another's acquire, because the next holder also waits for the release's work before the wake. An
//! acquire by the same process is not a hand-over.
//!
//! An ext4 should have a journal: without one a create checks each inode freed in the last minutes
//! (`recently_deleted` in fs/ext4/ialloc.c), 0.9 ms after tens of thousands of removals.
//!
//! Measured on x86-64, a mostly idle virtual machine with 2 cores, ext4 with a journal, three
//! rounds of two seconds; the median of the hand-overs in microseconds, and Jain's index, with 200
//! µs held:
//!
//! | processes | flock | acquire | acquire_timeout |
//! | --- | --- | --- | --- |
//! | 2 | 37, 0.72 | 139, 0.60 | 86, 0.53 |
//! | 4 | 10, 0.49 | 45, 0.76 | 45, 0.79 |
//! | 8 | 8, 0.83 | 60, 0.95 | 56, 0.97 |
//! | 16 | 10, 0.97 | 76, 0.87 | 55, 0.95 |
//! | 32 | 10, 0.87 | 50, 0.96 | 49, 0.93 |
//! | 64 | 12, 0.92 | 54, 0.91 | 55, 0.92 |
//! | recovery, 1 waits | 131 | 263 | 256 |
//! | recovery, 8 wait | 249 | 480 | 438 |
//!
//! Each of portlock's acquires creates a file, which `flock` on a file that stays does not: an
//! acquire and a release alone take 29 µs. Waiters on a deleted file wake, find it gone, and open
//! its successor, so the calls of an acquisition grow with the number of waiters.

// Other systems are not measured.
#![cfg_attr(not(unix), allow(unused))]
#![allow(unsafe_code)]

#[cfg(unix)]
mod calls;
#[cfg(unix)]
mod contender;
#[cfg(unix)]
mod contention;
#[cfg(unix)]
mod recovery;
#[cfg(unix)]
mod shared;

#[cfg(not(unix))]
fn main() {
    println!("not measured here: it takes flock and SIGKILL");
}

#[cfg(unix)]
fn main() {
    if let Some(part) = shared::Part::of_environment() {
        return match part.role {
            shared::Role::Contend => contention::take_part(&part),
            shared::Role::Hold | shared::Role::Wait => recovery::take_part(&part),
        };
    }
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|one| one == name)?;
        Some(arguments.get(at + 1).expect("a value").as_str())
    };
    let number =
        |name, default| value(name).map_or(default, |text| text.parse().expect("a number"));
    let processes = value("--processes").unwrap_or("2,4,8,16,32,64");
    let processes: Vec<usize> =
        processes.split(',').map(|one| one.parse().expect("a number")).collect();
    let csv = value("--csv").map(std::path::Path::new);
    let rows = recovery::measure(number("--trials", 101.0));
    write(csv, "recovery.csv", &rows);
    println!();
    let rows = contention::measure(&processes, number("--seconds", 0.5), number("--rounds", 3.0));
    write(csv, "handover.csv", &rows);
}

#[cfg(unix)]
fn write(dir: Option<&std::path::Path>, name: &str, lines: &[String]) {
    if let Some(dir) = dir {
        std::fs::write(dir.join(name), lines.join("\n") + "\n").expect("writes the figures");
    }
}
