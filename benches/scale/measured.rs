//! The curves, and their processes.

mod figures;

use std::fs;
use std::io::{BufRead, BufReader, PipeReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use self::figures::{Figures, Memory, processor_of, processor_of_this_process};
use portlock::{Holder, Lock, LockDir, Status};
use portlock_bench::csv::Csv;
use portlock_bench::place::Place;
use portlock_bench::{load, measures, number};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Set for a child process: its operation, and where.
const PART: &str = "PORTLOCK_BENCH_PART";

/// The limit for all waiters to have held the lock. The rest is not waited for.
const LONGEST: Duration = Duration::from_secs(10);

pub(crate) fn main() {
    raise_descriptor_limit();
    if let Ok(part) = std::env::var(PART) {
        return take_part(&part);
    }
    let (locks, waiters) = if measures() {
        (number("PORTLOCK_BENCH_LOCKS", 65_535), number("PORTLOCK_BENCH_WAITERS", 1_000))
    } else {
        (10, 10)
    };
    let mut curves = Curves::new();
    println!("load {}", load());
    for place in &Place::all(env!("CARGO_TARGET_TMPDIR")) {
        curves.one_process(place, locks.min(1_000));
        curves.directory(place, locks);
    }
    // A waiter does not use the disk.
    let place = &Place::all(env!("CARGO_TARGET_TMPDIR"))[0];
    for way in WAYS {
        curves.waiters(place, way, waiters, ("threads", threads_that_wait));
    }
    for way in WAYS {
        curves.waiters(place, way, waiters, ("processes", processes_that_wait));
    }
    println!("\nload {}", load());
    curves.csv.keep(&format!("benches/scale.rs, load {}", load()));
}

/// 1, 10, 100, … below `most`, and `most`.
fn counts(most: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(1_usize), |count| count.checked_mul(10));
    powers.take_while(|&count| count < most).chain([most]).collect()
}

struct Curves {
    csv: Csv,
}

impl Curves {
    fn new() -> Self {
        let columns =
            ["curve", "filesystem", "count", "milliseconds", "kib", "descriptors", "processor"];
        Self { csv: Csv::new(&columns) }
    }

    fn point(&mut self, curve: &str, place: &Place, count: usize, figures: &Figures) {
        let Figures { milliseconds, kib, descriptors, processor } = figures;
        let optional = |figure: Option<f64>| match figure {
            Some(figure) => format!("{figure:.3}"),
            None => "-".to_owned(),
        };
        let fields = [
            curve.to_owned(),
            place.filesystem().to_owned(),
            count.to_string(),
            format!("{milliseconds:.4}"),
            kib.to_string(),
            descriptors.to_string(),
            optional(*processor),
        ];
        self.csv.row(&fields);
        println!("| {} |", fields.join(" | "));
    }

    fn heading(what: &str, processor: &str) {
        println!(
            "\n| {what} | | count | ms | KiB more | descriptors | {processor} \
             |\n| --- | --- | --- | --- | --- | --- | --- |"
        );
    }

    // ---- locks in one directory ---------------------------------------------------------------

    fn directory(&mut self, place: &Place, most: usize) {
        Self::heading("a directory", "");
        for count in counts(most) {
            let dir = tempfile::tempdir_in(place.path()).expect("a directory");
            leave(dir.path(), count);
            let mut part = |curve: &str, what: &str| {
                let figures = figures_of(&format!("{what} {count} {}", dir.path().display()));
                self.point(curve, place, count, &figures);
            };
            part("list stale", "list");
            part("status stale", "status");
            part("sweep stale", "sweep");
            let live = holding(dir.path(), count);
            part("list held", "list");
            part("status held", "status");
            part("sweep held", "sweep");
            drop(live);
        }
    }

    // ---- locks of one process -----------------------------------------------------------------

    fn one_process(&mut self, place: &Place, most: usize) {
        Self::heading("held by one process", "");
        for count in counts(most) {
            let dir = tempfile::tempdir_in(place.path()).expect("a directory");
            let part = format!("many {count} {}", dir.path().display());
            let mut live = Live::start(&part);
            for curve in ["acquire all", "acquire and release one more", "release all"] {
                self.point(curve, place, count, &Figures::parse(&live.line()));
            }
        }
    }

    // ---- the waiters ----------------------------------------------------------------------------

    fn waiters(&mut self, place: &Place, way: Way, most: usize, (of, who): (&str, Who)) {
        Self::heading(&format!("{of} in {way:?}"), "ms of processor");
        for count in counts(most) {
            let dir = tempfile::tempdir_in(place.path()).expect("a directory");
            let waited = who(dir.path(), way, count);
            self.point(&format!("{of} {way:?} wait"), place, count, &waited.idle);
            let each = if waited.had_it < count {
                println!("({} of {count} had it after {LONGEST:?})", waited.had_it);
                format!("{of} {way:?} all had it (cut short)")
            } else {
                format!("{of} {way:?} all had it")
            };
            self.point(&each, place, waited.had_it, &waited.all);
        }
    }
}

/// A way to wait.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// In the kernel.
    Acquire,
    /// For events.
    Timeout,
}

const WAYS: [Way; 2] = [Way::Acquire, Way::Timeout];

impl Way {
    fn of(name: &str) -> Self {
        *WAYS.iter().find(|way| format!("{way:?}") == name).expect("a way")
    }

    fn acquire_and_release(self, lock: &Lock) {
        let guard = match self {
            Self::Acquire => lock.acquire(),
            Self::Timeout => lock.acquire_timeout(Duration::from_secs(3600)),
        };
        guard.expect("acquires").release().expect("releases");
    }
}

type Who = fn(&Path, Way, usize) -> Waited;

struct Waited {
    /// A second of waiting.
    idle: Figures,
    /// From the release until all had it, one after the other.
    all: Figures,
    had_it: usize,
}

fn threads_that_wait(dir: &Path, way: Way, count: usize) -> Waited {
    let guard = port(dir, 1).try_acquire().expect("free");
    let mut live = Live::start(&format!("threads {way:?} {count} {}", dir.display()));
    let idle = Figures::parse(&live.line());
    guard.release().expect("held");
    let all = Figures::parse(&live.line());
    Waited { idle, all, had_it: live.line().parse().expect("a number") }
}

/// The child: waits in `count` threads.
fn wait_in_threads(way: Way, count: usize, dir: &Path) {
    let before = Memory::of_this_process();
    let (waiting, had_it) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let lock = Arc::new(port(dir, 1));
    for _ in 0..count {
        let (waiting, had_it, lock) = (waiting.clone(), had_it.clone(), lock.clone());
        let thread = std::thread::Builder::new().stack_size(64 << 10);
        let started = thread.spawn(move || {
            waiting.fetch_add(1, SeqCst);
            way.acquire_and_release(&lock);
            had_it.fetch_add(1, SeqCst);
        });
        started.expect("a thread");
    }
    while waiting.load(SeqCst) < count {
        std::thread::yield_now();
    }
    until(|| all_sleep("/proc/self/task", count));
    let (start, began) = (Instant::now(), processor_of_this_process());
    std::thread::sleep(Duration::from_secs(1));
    let idle = processor_of_this_process() - began;
    let waited = start.elapsed().as_secs_f64() * 1e3;
    println!("{}", Memory::of_this_process().since(&before, waited, Some(idle)));
    let (start, began) = (Instant::now(), processor_of_this_process());
    while had_it.load(SeqCst) < count && start.elapsed() < LONGEST {
        std::thread::sleep(Duration::from_micros(200));
    }
    let taken = start.elapsed().as_secs_f64() * 1e3;
    let more = Memory::of_this_process();
    println!("{}", more.since(&before, taken, Some(processor_of_this_process() - began)));
    println!("{}", had_it.load(SeqCst));
    // The others would wait forever.
    std::process::exit(0);
}

fn processes_that_wait(dir: &Path, way: Way, count: usize) -> Waited {
    let guard = port(dir, 1).try_acquire().expect("free");
    let (answers, answer) = std::io::pipe().expect("a pipe");
    let part = format!("one {way:?} {}", dir.display());
    let all: Vec<Live> = (0..count)
        .map(|_| {
            let mut command = Live::command(&part);
            command.stdout(answer.try_clone().expect("a descriptor"));
            Live(command.stdin(Stdio::null()).spawn().expect("starts"), None)
        })
        .collect();
    drop(answer);
    let mut answers = Answers::of(answers);
    answers.wait_for(count, None);
    let pids: Vec<u32> = all.iter().map(|live| live.0.id()).collect();
    until(|| pids.iter().all(|pid| sleeps(&format!("/proc/{pid}/stat"))));
    let processor = || pids.iter().map(|pid| processor_of(*pid)).sum::<f64>();
    let memory = || {
        let mut sum = Memory::default();
        pids.iter().for_each(|pid| sum.add(&Memory::anonymous_of(*pid)));
        sum
    };
    let (start, began) = (Instant::now(), processor());
    std::thread::sleep(Duration::from_secs(1));
    // On a busy machine the sleep takes longer.
    let (idle, waited) = (processor() - began, start.elapsed().as_secs_f64() * 1e3);
    let idle = memory().since(&Memory::default(), waited, Some(idle));
    let began = Instant::now();
    guard.release().expect("held");
    let had_it = answers.wait_for(count, Some(began + LONGEST));
    let taken = began.elapsed().as_secs_f64() * 1e3;
    let all = Figures { milliseconds: taken, processor: None, ..idle };
    Waited { idle, all, had_it }
}

/// Lines from many processes, read in a thread, so that the wait for them can time out.
struct Answers(std::sync::mpsc::Receiver<()>);

impl Answers {
    fn of(pipe: PipeReader) -> Self {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for _ in BufReader::new(pipe).lines().map_while(Result::ok) {
                if sender.send(()).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    fn wait_for(&mut self, count: usize, end: Option<Instant>) -> usize {
        let hour = Instant::now() + Duration::from_secs(3600);
        let left = || end.unwrap_or(hour).saturating_duration_since(Instant::now());
        (0..count).take_while(|_| self.0.recv_timeout(left()).is_ok()).count()
    }
}

// ---- the processes ----------------------------------------------------------------------------

/// A child process, which is killed when it is dropped.
struct Live(Child, Option<BufReader<std::process::ChildStdout>>);

impl Live {
    fn command(part: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("the bench has a path"));
        command.env(PART, part);
        command
    }

    fn start(part: &str) -> Self {
        let mut command = Self::command(part);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
        let answers = child.stdout.take().map(BufReader::new);
        Self(child, answers)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.as_mut().expect("a pipe").read_line(&mut line).expect("it is alive");
        line.trim_end().to_owned()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn figures_of(part: &str) -> Figures {
    Figures::parse(&Live::start(part).line())
}

/// Processes that hold the first `count` ports, each as many as it has descriptors for.
fn holding(dir: &Path, count: usize) -> Vec<Live> {
    let each = getrlimit(Resource::Nofile).current.map_or(count, |limit| limit as usize - 64);
    let firsts: Vec<usize> = (1..=count).step_by(each).collect();
    let start = |&first: &usize| {
        let last = (first + each - 1).min(count);
        Live::start(&format!("hold {first} {last} {}", dir.display()))
    };
    let mut all: Vec<Live> = firsts.iter().map(start).collect();
    all.iter_mut().for_each(|live| assert_eq!(live.line(), "held"));
    all
}

fn take_part(part: &str) {
    let words: Vec<&str> = part.splitn(4, ' ').collect();
    match words[..] {
        ["hold", first, last, dir] => hold(number_of(first)..=number_of(last), Path::new(dir)),
        ["threads", way, count, dir] => {
            wait_in_threads(Way::of(way), number_of(count), Path::new(dir));
        }
        ["one", way, dir] => {
            let lock = port(Path::new(dir), 1);
            println!("waits");
            Way::of(way).acquire_and_release(&lock);
            println!("had it");
        }
        ["many", count, dir] => hold_many(number_of(count), Path::new(dir)),
        [what, count, dir] => println!("{}", measured(what, number_of(count), Path::new(dir))),
        _ => panic!("no part: {part}"),
    }
}

fn number_of(word: &str) -> usize {
    word.parse().expect("a number")
}

/// One operation on a directory that has `count` locks.
fn measured(what: &str, count: usize, path: &Path) -> Figures {
    let dir = LockDir::at(path);
    let middle = port(path, count.div_ceil(2));
    // Makes the queries that a process makes once.
    let _ = port(path, 65_535).status();
    let before = Memory::of_this_process();
    let mut times = Vec::new();
    let start = Instant::now();
    while times.is_empty() || times.len() < 100 && start.elapsed().as_millis() < 300 {
        let began = Instant::now();
        match what {
            "list" => assert_eq!(dir.list().expect("can be listed").len(), count),
            "sweep" => drop(dir.sweep().expect("can be listed")),
            "status" => assert_ne!(middle.status().expect("the status is known"), Status::Free),
            _ => panic!("no operation: {what}"),
        }
        times.push(began.elapsed().as_secs_f64() * 1e3);
        if what == "sweep" {
            // What is stale is gone after the first.
            break;
        }
    }
    times.sort_by(f64::total_cmp);
    Memory::of_this_process().since(&before, times[times.len() / 2], None)
}

fn hold(ports: std::ops::RangeInclusive<usize>, dir: &Path) {
    let all: Vec<_> = ports.map(|at| port(dir, at).try_acquire().expect("free")).collect();
    println!("held");
    let _ = std::io::stdin().read(&mut [0]);
    drop(all);
}

fn hold_many(count: usize, dir: &Path) {
    drop(port(dir, count).try_acquire());
    let before = Memory::of_this_process();
    let began = Instant::now();
    let all: Vec<_> = (1..=count).map(|at| port(dir, at).try_acquire().expect("free")).collect();
    let taken = began.elapsed().as_secs_f64() * 1e3;
    println!("{}", Memory::of_this_process().since(&before, taken, None));
    let one = port(dir, 65_535);
    let mut times: Vec<f64> = (0..500)
        .map(|_| {
            let began = Instant::now();
            one.try_acquire().expect("free").release().expect("held");
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{}", Memory::of_this_process().since(&before, times[times.len() / 2], None));
    let began = Instant::now();
    drop(all);
    let taken = began.elapsed().as_secs_f64() * 1e3;
    println!("{}", Memory::of_this_process().since(&before, taken, None));
}

fn port(dir: &Path, number: usize) -> Lock {
    let number = u16::try_from(number).expect("a port");
    LockDir::at(dir).port(number).expect("a port")
}

/// Leaves the lock files of dead holders.
fn leave(dir: &Path, count: usize) {
    let mut gone = Command::new("true").spawn().expect("runs");
    gone.wait().expect("ends");
    let mut dead: Holder = port(dir, 1).try_acquire().expect("free").holder().clone();
    (dead.pid, dead.process_start) = (gone.id(), Some(1));
    let record = dead.to_bytes();
    for at in 1..=count {
        fs::write(port(dir, at).path(), &record).expect("writes");
    }
}

fn raise_descriptor_limit() {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).expect("permitted");
}

// ---- the state of a process -------------------------------------------------------------------

/// Waits for at most two seconds: if many processes poll, they never all sleep.
fn until(mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() && began.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether `count` threads sleep, all but the caller.
fn all_sleep(tasks: &str, count: usize) -> bool {
    let tasks = fs::read_dir(tasks).expect("its threads");
    let stats = tasks.flatten().map(|task| task.path().join("stat"));
    stats.filter(|stat| sleeps(stat.to_str().expect("UTF-8"))).count() >= count
}

fn sleeps(stat: &str) -> bool {
    let text = fs::read_to_string(stat).unwrap_or_default();
    text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
}
