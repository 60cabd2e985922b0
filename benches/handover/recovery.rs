//! The time from the SIGKILL of a holder until the first waiter has the lock.

use std::process::Child;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::contender::Contender;
use crate::shared::{Part, Role, Shared, median, now};

/// Percy's protocol is left out: it would measure the polling interval.
const CONTENDERS: [Contender; 3] = [Contender::Flock, Contender::Acquire, Contender::Timeout];

/// Prints a table, and returns the same as lines of comma-separated values.
pub(crate) fn measure(trials: f64) -> Vec<String> {
    println!(
        "From just before the SIGKILL of the holder to the first acquire; medians of {trials}.\n\n\
         | contender | waiters | recovery, µs | of flock's |\n| --- | --- | --- | --- |"
    );
    let mut lines = vec!["contender,waiters,trials,recovery_us_median,of_flock".to_owned()];
    for waiters in [1, 8] {
        let mut taken = CONTENDERS.map(|_| Vec::new());
        for _ in 0..trials as usize {
            for (contender, taken) in CONTENDERS.iter().zip(&mut taken) {
                taken.push(trial(*contender, waiters));
            }
        }
        let medians = taken.map(median);
        for (contender, median) in CONTENDERS.iter().zip(medians) {
            let (name, ratio) = (contender.name(), median / medians[0]);
            println!("| {name} | {waiters} | {median:.0} | {ratio:.2} |");
            lines.push(format!("{name},{waiters},{trials},{median:.1},{ratio:.3}"));
        }
    }
    lines
}

/// In microseconds.
fn trial(contender: Contender, waiters: usize) -> f64 {
    let dir = tempfile::tempdir().expect("a directory");
    let all = Shared::of(dir.path());
    let start = |role, number| {
        let dir = dir.path().to_owned();
        Part { role, contender, number, hold: 0, counts: false, dir }.start()
    };
    let mut holder = start(Role::Hold, 0);
    all.until_ready(1);
    let waiting: Vec<Child> = (1..=waiters as u64).map(|one| start(Role::Wait, one)).collect();
    all.until_ready(1 + waiters);
    // They report ready just before they acquire. One that is late for the kill measures less than
    // a wait.
    std::thread::sleep(Duration::from_millis(5 + waiters as u64));
    let killed = now();
    holder.kill().expect("ours");
    holder.wait().expect("ours");
    for mut one in waiting {
        assert!(one.wait().expect("ours").success());
    }
    all.recovered.load(SeqCst).saturating_sub(killed) as f64 / 1e3
}

/// One process.
pub(crate) fn take_part(part: &Part) {
    let all = Shared::of(&part.dir);
    if part.role == Role::Wait {
        all.ready.fetch_add(1, SeqCst);
    }
    let held = part.contender.acquire(&part.lock_file());
    if part.role == Role::Wait {
        let _ = all.recovered.compare_exchange(0, now(), SeqCst, SeqCst);
        return held.release();
    }
    all.ready.fetch_add(1, SeqCst);
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
