//! The cost of an acquire, next to the floor and to other crates.
//!
//! `cargo bench -p portlock-bench --bench acquire`. Three tables of paired rounds (`src/rounds.rs`)
//! for each filesystem, then criterion's estimates, which `-- FILTER` selects.
//!
//! | environment | |
//! | --- | --- |
//! | `PORTLOCK_BENCH_DIRS` | the directories, separated by colons; otherwise the target's and `/dev/shm` |
//! | `PORTLOCK_BENCH_ROUNDS` | rounds for each ratio; otherwise 600 |

#[cfg(not(unix))]
fn main() {
    println!("not measured here: the peers need Unix");
}

#[cfg(unix)]
fn main() {
    measured::main();
}

#[cfg(unix)]
mod measured {
    use std::fs::{File, OpenOptions};
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use criterion::Criterion;
    use portlock::{Holder, Lock, LockDir, Status};
    use portlock_bench::naive::{Naive, Record, live_holder};
    use portlock_bench::place::Place;
    use portlock_bench::rounds::{Compared, Contender, compare};
    use portlock_bench::{load, measures, number};

    /// The target for the ratio to the floor.
    const GOAL: f64 = 1.05;

    pub(crate) fn main() {
        let places = Place::all(env!("CARGO_TARGET_TMPDIR"));
        let rounds = if measures() { number("PORTLOCK_BENCH_ROUNDS", 600) } else { 2 };
        println!("load {}; medians of {rounds} rounds, each of half a millisecond a side", load());
        for place in &places {
            uncontended(place, rounds);
            attribution(place, rounds);
            held_or_stale(place, rounds);
        }
        println!("\nload {}\n", load());
        let mut criterion = Criterion::default()
            .sample_size(20)
            .warm_up_time(Duration::from_millis(100))
            .measurement_time(Duration::from_millis(500))
            .configure_from_args();
        for place in &places {
            estimates(&mut criterion, place);
        }
        criterion.final_summary();
    }

    // ---- uncontended ------------------------------------------------------------------------------

    /// An acquire and a release of the lock at a path, with a callback while it is held.
    type Cycle = Box<dyn Fn(&Path, &mut dyn FnMut())>;

    struct Peer {
        name: &'static str,
        cycle: Cycle,
    }

    impl Peer {
        fn new(name: &'static str, cycle: impl Fn(&Path, &mut dyn FnMut()) + 'static) -> Self {
            Self { name, cycle: Box::new(cycle) }
        }

        /// Contenders that take turns use different files, because some leave theirs.
        fn contender(&self, place: &Place, file: &str) -> Contender<'_> {
            let path = place.file(file);
            Contender::new(move || (self.cycle)(&path, &mut || ()))
        }

        /// The length of its record, and whether the file stays.
        fn leaves(&self, place: &Place) -> (u64, bool) {
            let path = place.file("agent-5338");
            let mut record = 0;
            (self.cycle)(&path, &mut || {
                record = std::fs::metadata(&path).map_or(0, |found| found.len());
            });
            let stays = path.exists();
            if stays {
                std::fs::remove_file(&path).expect("it exists");
            }
            (record, stays)
        }
    }

    const FLOOR: &str = "naive: Percy's three keys, ready made (the floor)";
    const OURS: &str = "**portlock**";

    fn peers(place: &Place) -> Vec<Peer> {
        let lock = lock(place);
        let ours = lock.try_acquire().expect("free").holder().clone();
        let naive = |name, record: Record| {
            Peer::new(name, move |path, held| {
                let naive = Naive::new(path, record.clone());
                naive.acquire_and_release(held).expect("the lock is free");
            })
        };
        vec![
            naive(FLOOR, Record::ReadyMade(Record::three_keys())),
            naive("naive: an empty file", Record::ReadyMade(Vec::new())),
            naive("naive: the three keys, put together", Record::ThreeKeys),
            naive("naive: as long as our record, ready made", Record::ReadyMade(ours.to_bytes())),
            Peer::new(OURS, move |_, held| {
                let guard = lock.try_acquire().expect("free");
                held();
                guard.release().expect("held");
            }),
            Peer::new("pidlock 0.2", |path, held| {
                let mut lock = pidlock::Pidlock::new_validated(path).expect("a path");
                lock.acquire().expect("free");
                held();
                lock.release().expect("held");
            }),
            Peer::new("fslock 0.2, with pid", |path, held| {
                let mut lock = fslock::LockFile::open(path).expect("opens");
                assert!(lock.try_lock_with_pid().expect("locks"));
                held();
                lock.unlock().expect("unlocks");
            }),
            Peer::new("fd-lock 4", |path, held| {
                let mut lock = fd_lock::RwLock::new(open(path));
                let guard = lock.try_write().expect("free");
                held();
                drop(guard);
            }),
            Peer::new("fs4 1.1: flock alone", |path, held| {
                let file = open(path);
                fs4::FileExt::try_lock(&file).expect("the lock is free");
                held();
            }),
        ]
    }

    fn open(path: &Path) -> File {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).open(path).expect("opens")
    }

    fn lock(place: &Place) -> Lock {
        LockDir::at(place.path()).port(5338).expect("a port")
    }

    fn uncontended(place: &Place, rounds: usize) {
        println!(
            "\n| acquire and release, {place} | µs | of the floor | quartiles | the median surely \
             | record, bytes | left behind |\n| --- | --- | --- | --- | --- | --- | --- |"
        );
        let peers = peers(place);
        for peer in &peers {
            let mut floor = peers[0].contender(place, "floor");
            let compared = compare(&mut floor, &mut peer.contender(place, "agent-5338"), rounds);
            let (record, stays) = peer.leaves(place);
            let left = if stays { "the file" } else { "nothing" };
            println!("| {} {} {record} | {left} |", peer.name, columns(&compared));
            if peer.name == OURS {
                let reached = if compared.ratio.median <= GOAL { "reached" } else { "MISSED" };
                eprintln!("{place}: {:.3} of {GOAL}: {reached}", compared.ratio.median);
            }
        }
    }

    fn columns(compared: &Compared) -> String {
        let Compared { other, ratio, .. } = compared;
        format!(
            "| {:.2} | {:.3} | {:.3} to {:.3} | {:.3} to {:.3} |",
            other.median / 1e3,
            ratio.median,
            ratio.low,
            ratio.high,
            ratio.surely.0,
            ratio.surely.1
        )
    }

    // ---- what each call adds ----------------------------------------------------------------------

    /// Each against the previous one, so that each row shows the cost of one addition.
    fn attribution(place: &Place, rounds: usize) {
        println!(
            "\n| from the floor to portlock, {place} | ns more | the median surely | µs in all \
             |\n| --- | --- | --- | --- |"
        );
        let path = place.file("agent-5338");
        let lock = lock(place);
        let ours = lock.try_acquire().expect("free").holder().clone();
        let three = Naive::new(&path, Record::ReadyMade(Record::three_keys()));
        let long = Naive::new(&path, Record::ReadyMade(ours.to_bytes()));
        let made = Naive::new(&path, Record::EightKeys(ours.clone()));
        let all = Naive::MORE.len();
        let mut rungs = vec![("the floor again", three), ("our record's length", long.clone())];
        let calls = Naive::MORE.iter().enumerate();
        rungs.extend(calls.map(|(at, what)| (*what, long.clone().with(at + 1))));
        rungs.push(("the record, put together each time", made.with(all)));
        let contender = |naive: &Naive| {
            let naive = naive.clone();
            Contender::new(move || naive.acquire_and_release(&mut || ()).expect("the lock is free"))
        };
        let row = |name: &str, compared: &Compared| {
            let Compared { more, other, .. } = compared;
            println!(
                "| {name} | {:+.0} | {:+.0} to {:+.0} | {:.2} |",
                more.median,
                more.surely.0,
                more.surely.1,
                other.median / 1e3
            );
        };
        let mut before = contender(&rungs[0].1);
        for (name, naive) in &rungs {
            let mut rung = contender(naive);
            row(name, &compare(&mut before, &mut rung, rounds));
            before = rung;
        }
        let mut shipped = Contender::new(|| {
            lock.try_acquire().expect("free").release().expect("held");
        });
        row(
            "portlock: the rest of it, and statx, getrlimit, two getpid",
            &compare(&mut before, &mut shipped, rounds),
        );
    }

    // ---- the lock is held or stale -------------------------------------------------------------------

    /// A process that is killed and reaped when it is dropped.
    struct Live(Child);

    impl Live {
        fn new() -> Self {
            Self(Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat runs"))
        }
    }

    /// The start time for a record: a holder without it cannot be identified, and an acquire tries
    /// again before it is refused. See proc_pid_stat(5), field 22.
    fn start_of(pid: u32) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("Linux");
        let (_, behind_the_name) = stat.rsplit_once(')').expect("a name");
        let start = behind_the_name.split_whitespace().nth(19).expect("a start");
        start.parse().expect("a number")
    }

    impl Drop for Live {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// Records of a live and of a dead process.
    struct Records {
        live: Live,
        ours: Holder,
        dead: Holder,
    }

    impl Records {
        fn new(place: &Place) -> Self {
            let ours = lock(place).try_acquire().expect("free").holder().clone();
            let of = |live: &Live| {
                let mut holder = ours.clone();
                (holder.pid, holder.process_start) = (live.0.id(), Some(start_of(live.0.id())));
                holder
            };
            let dead = of(&Live::new());
            let live = Live::new();
            Self { dead, ours: of(&live), live }
        }

        /// The live process's file, with its kernel lock.
        fn held(&self, path: &Path) -> File {
            std::fs::write(path, self.ours.to_bytes()).expect("writes");
            let file = open(path);
            fs4::FileExt::try_lock(&file).expect("the lock is free");
            file
        }
    }

    fn held_or_stale(place: &Place, rounds: usize) {
        let records = Records::new(place);
        println!(
            "\n| {place} | µs | ratio | quartiles | the median surely \
             |\n| --- | --- | --- | --- | --- |"
        );
        let row = |name: &str, compared: &Compared| println!("| {name} {}", columns(compared));

        let path = place.file("agent-5338");
        let held = records.held(&path);
        let pid = records.live.0.id();
        let lock = lock(place);
        let naive = Naive::new(&path, Record::ReadyMade(Record::three_keys()));
        let mut naive_refusal =
            Contender::new(|| assert_eq!(naive.refusal().expect("it is held"), pid));
        let mut naive_status =
            Contender::new(|| assert_eq!(live_holder(&path).expect("it exists"), Some(pid)));
        let mut again = Contender::new(|| assert_eq!(naive.refusal().expect("it is held"), pid));
        row(
            "refusal, naive: create, open, read, kill(pid, 0)",
            &compare(&mut naive_refusal, &mut again, rounds),
        );
        let mut ours = Contender::new(|| {
            let error = lock.try_acquire().expect_err("it is held");
            let holder = error.held().and_then(|held| held.holder.as_ref());
            assert_eq!(holder.map(|holder| holder.pid), Some(pid));
        });
        row("refusal, **portlock**", &compare(&mut naive_refusal, &mut ours, rounds));
        // pidlock takes any record other than a bare pid for stale.
        let bare = place.file("bare");
        std::fs::write(&bare, pid.to_string()).expect("writes");
        let mut pidlock = Contender::new(|| {
            let mut lock = pidlock::Pidlock::new_validated(&bare).expect("a path");
            assert_eq!(lock.acquire(), Err(pidlock::PidlockError::LockExists));
        });
        row(
            "refusal, pidlock: names no holder",
            &compare(&mut naive_refusal, &mut pidlock, rounds),
        );
        let mut fs4 = Contender::new(|| {
            let refused = fs4::FileExt::try_lock(&open(&path));
            assert!(matches!(refused, Err(fs4::TryLockError::WouldBlock)));
        });
        row("refusal, fs4: names no holder", &compare(&mut naive_refusal, &mut fs4, rounds));
        let mut fslock = Contender::new(|| {
            let mut lock = fslock::LockFile::open(&path).expect("opens");
            assert!(!lock.try_lock_with_pid().expect("asks"));
        });
        row("refusal, fslock: names no holder", &compare(&mut naive_refusal, &mut fslock, rounds));

        let mut again =
            Contender::new(|| assert_eq!(live_holder(&path).expect("it exists"), Some(pid)));
        row(
            "status of a held lock, naive: open, read, kill(pid, 0)",
            &compare(&mut naive_status, &mut again, rounds),
        );
        let mut ours = Contender::new(|| {
            assert!(matches!(lock.status(), Ok(Status::Held { .. })));
        });
        row("status of a held lock, **portlock**", &compare(&mut naive_status, &mut ours, rounds));
        drop(held);
        std::fs::remove_file(&path).expect("it exists");

        let mut naive_free = Contender::new(|| assert!(File::open(&path).is_err()));
        let mut ours = Contender::new(|| {
            assert_eq!(lock.status().expect("the status is known"), Status::Free);
        });
        row(
            "status of a free lock, **portlock**, of an open that fails",
            &compare(&mut naive_free, &mut ours, rounds),
        );

        let leave = || std::fs::write(&path, records.dead.to_bytes()).expect("writes");
        let naive_reclaim = || {
            Contender::prepared(leave, || naive.reclaim_and_release().expect("its holder is dead"))
        };
        row(
            "reclaim and release, naive",
            &compare(&mut naive_reclaim(), &mut naive_reclaim(), rounds),
        );
        let mut ours = Contender::prepared(leave, || {
            let guard = lock.try_acquire().expect("its holder is dead");
            assert!(guard.recovered_from().is_some());
            guard.release().expect("held");
        });
        row("reclaim and release, **portlock**", &compare(&mut naive_reclaim(), &mut ours, rounds));
    }

    // ---- criterion --------------------------------------------------------------------------------

    /// The same cycles, estimated one after the other.
    fn estimates(criterion: &mut Criterion, place: &Place) {
        let mut group = criterion.benchmark_group(format!("acquire and release, {place}"));
        for peer in peers(place) {
            let mut contender = peer.contender(place, "agent-5338");
            group.bench_function(peer.name, |b| b.iter_custom(|times| contender.run(times)));
            drop(contender);
            peer.leaves(place);
        }
    }
}
