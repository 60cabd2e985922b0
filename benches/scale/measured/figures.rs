//! Measurements of a process: memory, processor time, descriptors.

use std::fs;

/// Milliseconds.
pub(super) fn processor_of_this_process() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

/// Milliseconds of a process with one thread.
pub(super) fn processor_of(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    text.split(' ').next().and_then(|time| time.parse().ok()).unwrap_or(0.0) / 1e6
}

/// KiB and descriptors.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Memory {
    pub(super) resident: u64,
    pub(super) most: u64,
    pub(super) open: u64,
    pub(super) table: u64,
}

impl Memory {
    pub(super) fn of_this_process() -> Self {
        let status = fs::read_to_string("/proc/self/status").expect("Linux");
        let open = fs::read_dir("/proc/self/fd").expect("Linux").count() as u64;
        Self {
            resident: field(&status, "VmRSS:"),
            most: field(&status, "VmHWM:"),
            open,
            table: field(&status, "FDSize:"),
        }
    }

    /// Only its unshared memory.
    pub(super) fn anonymous_of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let open = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count) as u64;
        let resident = field(&status, "RssAnon:");
        Self { resident, most: resident, open, table: 0 }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.resident += other.resident;
        self.most += other.most;
        self.open += other.open;
    }

    pub(super) fn since(
        &self,
        before: &Self,
        milliseconds: f64,
        processor: Option<f64>,
    ) -> Figures {
        let open = self.open.saturating_sub(before.open);
        // The table never shrinks.
        let table = if self.table > before.table { self.table } else { 0 };
        Figures {
            milliseconds,
            kib: self.most.saturating_sub(before.resident),
            descriptors: open.max(table),
            processor,
        }
    }
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The report of a child process, in one line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figures {
    pub(super) milliseconds: f64,
    pub(super) kib: u64,
    pub(super) descriptors: u64,
    pub(super) processor: Option<f64>,
}

impl Figures {
    pub(super) fn parse(line: &str) -> Self {
        let words: Vec<f64> =
            line.split(' ').map(|word| word.parse().unwrap_or(f64::NAN)).collect();
        let [milliseconds, kib, descriptors, processor] = words[..] else {
            panic!("no figures: {line:?}")
        };
        let processor = Some(processor).filter(|time| !time.is_nan());
        Self { milliseconds, kib: kib as u64, descriptors: descriptors as u64, processor }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { milliseconds, kib, descriptors, processor } = self;
        let processor = processor.map_or("-".to_owned(), |time| time.to_string());
        write!(f, "{milliseconds} {kib} {descriptors} {processor}")
    }
}
