//! What /proc says (proc_pid_stat(5), proc_pid_status(5)).

#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use crate::protocol::Probe;
use crate::record::Holder;
use crate::sys::author::digest;
use crate::sys::is_clearly_after;
use crate::sys::unix::{lacks_descriptors, retried};

/// How what /proc says is to be read by this process.
#[derive(Clone)]
pub(crate) struct View {
    /// Whether /proc numbers processes as this one does. It does not where a process entered a pid
    /// namespace whose own /proc is not mounted.
    is_of_our_namespace: Option<bool>,
    /// By how many ticks every start is shifted for this process: it may be in a time namespace
    /// (time_namespaces(7)), and the processes that compare the starts in another.
    shift: Option<i64>,
}

impl View {
    /// Asks once: the mount, and the namespace of this process.
    fn ask() -> Self {
        let itself = retried(|| std::fs::read_link("/proc/self")).ok();
        let is_of_our_namespace =
            itself.and_then(|pid| Some(pid.to_str()? == std::process::id().to_string()));
        Self { is_of_our_namespace, shift: shift() }
    }

    pub(crate) fn is_known(&self) -> bool {
        self.is_of_our_namespace.is_some() && self.shift.is_some()
    }

    /// The same for all processes of this boot, whatever their time namespace.
    fn unshifted(&self, start: u64) -> Option<u64> {
        start.checked_add_signed(self.shift?.checked_neg()?)
    }
}

/// By how many ticks starts are shifted here. `None` where the kernel does not say, or where it is
/// no number of whole ticks and cannot be undone.
fn shift() -> Option<i64> {
    let offsets = std::fs::read_to_string("/proc/self/timens_offsets");
    // The file is about the namespace for children, which is another one after an unshare.
    let are_ours = || Some(namespace("time")? == namespace("time_for_children")?);
    shift_by(offsets, hertz()?, are_ours)
}

fn shift_by(
    offsets: io::Result<String>,
    hertz: u64,
    are_ours: impl FnOnce() -> Option<bool>,
) -> Option<i64> {
    let shift = match offsets {
        Ok(offsets) => parse_shift(&offsets, hertz)?,
        // A kernel without time namespaces.
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(_) => return None,
    };
    (shift == 0 || are_ours()?).then_some(shift)
}

/// The number of a namespace of this process (namespaces(7)).
fn namespace(kind: &str) -> Option<u64> {
    let found = retried(|| std::fs::metadata(format!("/proc/self/ns/{kind}")));
    found.ok().map(|found| found.ino())
}

/// `boottime     -7          500000000`: seconds and nanoseconds.
fn parse_shift(offsets: &str, hertz: u64) -> Option<i64> {
    let boottime = offsets.lines().find_map(|line| line.strip_prefix("boottime"))?;
    let mut fields = boottime.split_ascii_whitespace();
    let mut field = || fields.next()?.parse::<i64>().ok();
    let (seconds, nanoseconds, hertz) = (field()?, field()?, i64::try_from(hertz).ok()?);
    let tick = 1_000_000_000_i64.checked_div(hertz)?;
    if nanoseconds.checked_rem(tick)? != 0 {
        return None;
    }
    seconds.checked_mul(hertz)?.checked_add(nanoseconds / tick)
}

/// Fills in what the kernel knows of this process: start, boot, pid namespace.
pub(crate) fn describe(me: &mut Holder) -> View {
    let view = View::ask();
    me.boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .ok()
        .and_then(|id| crate::record::printable(id.trim()));
    me.machine = machine();
    me.pid_namespace = namespace("pid");
    me.process_start = std::fs::read("/proc/self/stat")
        .ok()
        .and_then(|stat| Stat::parse(&stat))
        .and_then(|stat| view.unshifted(stat.start));
    view
}

/// What machine-id(5) says, where it says anything: a container may have none.
fn machine() -> Option<String> {
    machine_of(&std::fs::read_to_string("/etc/machine-id").ok()?)
}

fn machine_of(number: &str) -> Option<String> {
    let number = number.trim();
    let is_one = number.len() == 32 && number.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_one.then(|| digest(number))
}

/// `None` where /proc does not say: it is not mounted, or is another pid namespace's, or hides
/// other users' processes; or where the start of the process cannot be compared.
///
/// # Errors
///
/// That no file descriptor was left.
pub(crate) fn probe(
    view: &View,
    pid: u32,
    start: Option<u64>,
    written: Option<SystemTime>,
    its_lock_is_free: bool,
) -> io::Result<Option<Probe>> {
    if view.is_of_our_namespace != Some(true) {
        return Ok(None);
    }
    let mut room = [0; 4096];
    let stat = proc_file(&format!("/proc/{pid}/stat"), &mut room)?.and_then(Stat::parse);
    let Some(stat) = stat else { return Ok(None) };
    let as_recorded = match (start, view.unshifted(stat.start)) {
        (Some(recorded), Some(found)) => Some(recorded == found),
        (Some(_), None) => return Ok(None),
        (None, _) => None,
    };
    // What began in the same tick as the recorded process, with its number, is that process: a
    // number is not given out again so soon. So no more is asked of it.
    if as_recorded != Some(true) {
        match proc_file(&format!("/proc/{pid}/status"), &mut room)?.and_then(tgid) {
            // 0 is said of a process that has been reaped since its files were opened.
            None | Some(0) => return Ok(None),
            Some(leader) if leader != pid => return Ok(Some(Probe::Thread)),
            Some(_) => {}
        }
    }
    if as_recorded == Some(false) {
        return Ok(Some(Probe::Other));
    }
    // A leader that left before its other threads looks like a zombie and is a live process.
    if stat.has_ended(its_lock_is_free) && stat.threads <= 1 {
        return Ok(Some(Probe::Zombie));
    }
    let is_later =
        start.is_none() && written.is_some_and(|written| started_after(stat.start, written));
    Ok(Some(if is_later { Probe::StartedLater } else { Probe::Alive }))
}

/// What one read of a file of /proc returns. It is not read to its end, which takes as long again:
/// what matters is at its beginning, and the first read makes up the whole of it.
fn proc_file<'a>(path: &str, room: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
    let length = match retried(|| File::open(path)) {
        Ok(mut file) => retried(|| file.read(room)).ok(),
        // No answer about the process, but about us.
        Err(error) if lacks_descriptors(&error) => return Err(error),
        Err(_) => None,
    };
    Ok(length.and_then(|length| room.get(..length)))
}

/// Which process a thread is of (proc_pid_status(5)). The name above it has no line break that
/// is not escaped.
fn tgid(status: &[u8]) -> Option<u32> {
    let mut lines = status.split(|&byte| byte == b'\n');
    let leader = lines.find_map(|line| line.strip_prefix(b"Tgid:"))?;
    std::str::from_utf8(leader).ok()?.trim().parse().ok()
}

/// Whether a process that started `start` ticks after boot started after `written`.
fn started_after(start: u64, written: SystemTime) -> bool {
    let Some(hertz) = hertz() else { return false };
    let mut since_boot = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `since_boot` has room for the answer. CLOCK_BOOTTIME counts what the start of a
    // process counts: time since boot, suspended time included.
    if unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut since_boot) } != 0 {
        return false;
    }
    let Ok(uptime) = u64::try_from(since_boot.tv_sec).map(Duration::from_secs) else {
        return false;
    };
    let clocks = Clocks { now: SystemTime::now(), uptime };
    clocks.place_after(Duration::from_secs(start / hertz), written)
}

/// How many ticks a second has, of those in which /proc counts.
fn hertz() -> Option<u64> {
    // SAFETY: sysconf only looks up a number.
    let hertz = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(hertz).ok().filter(|&hertz| hertz > 0)
}

/// The two clocks that are compared, read at one time.
struct Clocks {
    /// The wall clock, which people and NTP set.
    now: SystemTime,
    /// Time since boot, which cannot be set.
    uptime: Duration,
}

impl Clocks {
    /// Whether what happened `start` after boot came more than the slack after `written`. The
    /// start is counted from boot and `written` by the wall clock, so a step of that clock in
    /// between shifts one against the other.
    fn place_after(&self, start: Duration, written: SystemTime) -> bool {
        let started = self.uptime.checked_sub(start).and_then(|ago| self.now.checked_sub(ago));
        started.is_some_and(|started| is_clearly_after(started, written))
    }
}

/// Set in the flags of a thread from the start of its exit (`include/linux/sched.h`). A process
/// that ends frees its kernel locks before it is a zombie, so a waiter may probe it in between.
const PF_EXITING: u64 = 4;

/// The fields of /proc/PID/stat that matter.
struct Stat {
    /// Of the first thread, as the next.
    is_zombie: bool,
    is_exiting: bool,
    threads: u64,
    start: u64,
}

impl Stat {
    /// Whether nothing of the program runs any more in the first thread, and what it had is
    /// free: all of it, or its kernel lock at least. Before that it still holds. An agent of the
    /// old format takes no kernel lock, and has its port until it is a zombie.
    fn has_ended(&self, its_lock_is_free: bool) -> bool {
        self.is_zombie || self.is_exiting && its_lock_is_free
    }

    /// The second field, the program's name, may contain anything, parentheses included.
    fn parse(stat: &[u8]) -> Option<Self> {
        let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
        let text = std::str::from_utf8(&stat[after_name..]).ok()?;
        let mut fields = text.split_ascii_whitespace();
        let is_zombie = matches!(fields.next()?, "Z" | "X" | "x");
        let mut field = |number: usize| fields.nth(number)?.parse::<u64>().ok();
        // Fields 3 (state), 9 (flags), 20 (num_threads), 22 (starttime), counted from 1.
        let is_exiting = field(5)? & PF_EXITING != 0;
        Some(Self { is_zombie, is_exiting, threads: field(10)?, start: field(1)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::forked::{in_a_child, no_more_descriptors};

    #[test]
    fn machine_has_a_whole_number() {
        let number = "b08dfa6083e7567a1921a715000001fb";
        assert_eq!(machine_of(&format!("{number}\n")), Some(digest(number)));
        for not_a_number in ["", "uninitialized", &number[1..], &number.replace('b', "g")] {
            assert_eq!(machine_of(not_a_number), None, "{not_a_number}");
        }
        let named = std::fs::read_to_string("/etc/machine-id");
        assert_eq!(machine(), named.ok().and_then(|number| machine_of(&number)));
    }

    #[test]
    fn namespace_has_the_number_of_its_link() {
        let link = std::fs::read_link("/proc/self/ns/pid").expect("/proc is there");
        let number = namespace("pid").expect("/proc is there");
        assert_eq!(link.to_str(), Some(format!("pid:[{number}]").as_str()));
    }

    #[test]
    fn lack_of_descriptors_is_no_answer_about_a_process() {
        let said = in_a_child(|| {
            let mut room = [0; 64];
            let is_read = proc_file("/proc/self/stat", &mut room).is_ok_and(|file| file.is_some());
            let is_absent = proc_file("/proc/absent", &mut room).is_ok_and(|file| file.is_none());
            no_more_descriptors();
            let is_refused = proc_file("/proc/self/stat", &mut room).is_err();
            [is_read, is_absent, is_refused].map(u8::from).to_vec()
        });
        assert_eq!(said, [1, 1, 1]);
    }

    #[test]
    fn shift_is_what_the_kernel_says() {
        let hertz = hertz().expect("a second has ticks");
        assert!(hertz > 0);
        let offsets = std::fs::read_to_string("/proc/self/timens_offsets");
        let said = offsets.map_or(Some(0), |offsets| parse_shift(&offsets, hertz));
        // Nothing in these tests makes a time namespace for children.
        assert_eq!(shift(), said);
        assert!(namespace("time").is_some_and(|number| Some(number) != namespace("pid")));
    }

    #[test]
    fn view_is_known_by_both_answers() {
        let is_known = |is_of_our_namespace, shift| View { is_of_our_namespace, shift }.is_known();
        assert!(is_known(Some(true), Some(0)) && is_known(Some(false), Some(-1)));
        assert!(!is_known(None, Some(0)) && !is_known(Some(true), None) && !is_known(None, None));
    }

    #[test]
    fn start_is_counted_in_ticks() {
        let stat = std::fs::read("/proc/self/stat").expect("/proc is there");
        let start = Stat::parse(&stat).expect("a process").start;
        let now = SystemTime::now();
        let day = Duration::from_secs(86_400);
        assert!(started_after(start, now - day));
        assert!(!started_after(start, now));
        // As if it had started just now, with a record of more than the slack ago.
        let uptime = std::fs::read_to_string("/proc/uptime").expect("/proc is there");
        let uptime = uptime.split('.').next().and_then(|seconds| seconds.parse::<u64>().ok());
        let start = uptime.expect("whole seconds") * hertz().expect("a second has ticks");
        assert!(started_after(start, now - Duration::from_secs(70)));
    }

    /// An old agent started an hour after boot, and wrote its record then. It is probed seven
    /// hours later, by clocks to which this happened.
    fn after_seven_hours(set_forward: Duration, set_back: Duration) -> bool {
        const HOUR: Duration = Duration::from_secs(3600);
        let boot = SystemTime::UNIX_EPOCH + 1_000_000 * HOUR;
        let written = boot + HOUR;
        let now = boot + 8 * HOUR + set_forward - set_back;
        Clocks { now, uptime: 8 * HOUR }.place_after(HOUR, written)
    }

    #[test]
    fn only_clock_offset_of_whole_ticks_is_undone() {
        let offset = |boottime: &str| {
            parse_shift(&format!("monotonic           0         0\n{boottime}\n"), 100)
        };
        assert_eq!(offset("boottime            0         0"), Some(0));
        assert_eq!(offset("boottime        86400         0"), Some(8_640_000));
        assert_eq!(offset("boottime           -7 500000000"), Some(-650));
        assert_eq!(offset("boottime            1   1000000"), None, "a tenth of a tick");
        assert_eq!(offset("boottime"), None);
        assert_eq!(offset(""), None);
        for shift in [0, 8_640_000, -650] {
            let view = View { is_of_our_namespace: Some(true), shift: Some(shift) };
            let shown = 1_000_u64.checked_add_signed(shift).expect("positive");
            assert_eq!(view.unshifted(shown), Some(1_000));
        }
        let unknown = View { is_of_our_namespace: Some(true), shift: None };
        assert_eq!(unknown.unshifted(1_000), None);
    }

    #[test]
    fn offset_of_another_namespace_is_not_known() {
        let shift = |offsets: io::Result<&str>, are_ours| {
            shift_by(offsets.map(str::to_owned), 100, || are_ours)
        };
        let day = "boottime 86400 0\n";
        assert_eq!(shift(Ok(day), Some(true)), Some(8_640_000));
        assert_eq!(shift(Ok(day), Some(false)), None);
        assert_eq!(shift(Ok(day), None), None);
        assert_eq!(shift(Ok(""), Some(true)), None);
        // Without an offset it does not matter whose it is.
        assert_eq!(shift(Ok("boottime 0 0\n"), None), Some(0));
        assert_eq!(shift(Err(io::ErrorKind::NotFound.into()), None), Some(0));
        assert_eq!(shift(Err(io::ErrorKind::PermissionDenied.into()), Some(true)), None);
    }

    #[test]
    fn ntp_step_makes_no_old_agent_look_later() {
        let (none, step) = (Duration::ZERO, Duration::from_secs(59));
        assert!(!after_seven_hours(none, none));
        assert!(!after_seven_hours(step, none));
        assert!(!after_seven_hours(none, step));
    }

    /// The uptime counts the hours of sleep, as the start of a process does. A clock that
    /// stops during sleep (CLOCK_MONOTONIC) would make the agent look younger by them.
    #[test]
    fn suspend_makes_no_old_agent_look_later() {
        const HOUR: Duration = Duration::from_secs(3600);
        let boot = SystemTime::UNIX_EPOCH + 1_000_000 * HOUR;
        let (now, written) = (boot + 8 * HOUR, boot + HOUR);
        assert!(!Clocks { now, uptime: 8 * HOUR }.place_after(HOUR, written));
        let standing_still = Clocks { now, uptime: 2 * HOUR };
        assert!(standing_still.place_after(HOUR, written), "the control");
    }

    /// The risk that is stated (P7): time is all the evidence that the old format leaves.
    #[test]
    fn only_large_forward_clock_step_makes_agent_later() {
        let (none, hours) = (Duration::ZERO, Duration::from_secs(2 * 3600));
        assert!(after_seven_hours(hours, none));
        assert!(!after_seven_hours(none, hours));
    }

    #[test]
    fn stat_parses_names_with_parentheses_and_spaces() {
        let line = b"42 (a) (b c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 81234 10 11";
        let stat = Stat::parse(line).expect("a stat line");
        assert!(!stat.has_ended(true));
        assert_eq!((stat.threads, stat.start), (9, 81_234));
        assert!(Stat::parse(b"42 (a) S 1").is_none());
        assert!(Stat::parse(b"").is_none());
    }

    #[test]
    fn exiting_process_counts_as_ended_with_free_lock() {
        let has_ended = |state: &str, flags: &str| {
            let line = format!("42 (a) {state} 1 42 42 0 -1 {flags} 1 2 3 4 5 6 7 8 20 0 1 0 7");
            let stat = Stat::parse(line.as_bytes()).expect("a stat line");
            [true, false].map(|its_lock_is_free| stat.has_ended(its_lock_is_free))
        };
        assert_eq!(has_ended("Z", "4228108"), [true, true]);
        assert_eq!(has_ended("R", "4194564"), [true, false], "before it is a zombie");
        assert_eq!(has_ended("R", "4194560"), [false, false]);
        assert_eq!(has_ended("S", "1077936128"), [false, false]);
    }
}
