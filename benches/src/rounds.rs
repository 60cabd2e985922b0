//! Ratios from paired rounds.
//!
//! On a machine that does other work, the times of two measurements that follow each other differ
//! by more than what is to be shown. So two contenders take turns, half a millisecond each, and each
//! such round gives one ratio: what the machine does to one of them it mostly does to the other.
//! Who is first changes from round to round. The median of the rounds is not moved by those that
//! were interrupted, and a contender against itself shows how far off it may be.

use std::time::{Duration, Instant};

/// How long each of the two has its turn.
const TURN: Duration = Duration::from_micros(500);

/// One way to do a thing.
pub struct Contender<'a> {
    run: Box<dyn FnMut(u64) -> Duration + 'a>,
    times: u64,
}

impl<'a> Contender<'a> {
    /// One whose every `operation` is measured.
    pub fn new(mut operation: impl FnMut() + 'a) -> Self {
        Self::timed(move |times| {
            let began = Instant::now();
            for _ in 0..times {
                operation();
            }
            began.elapsed()
        })
    }

    /// One that does something before every `operation` that is not measured.
    pub fn prepared(mut prepare: impl FnMut() + 'a, mut operation: impl FnMut() + 'a) -> Self {
        Self::timed(move |times| {
            let mut taken = Duration::ZERO;
            for _ in 0..times {
                prepare();
                let began = Instant::now();
                operation();
                taken += began.elapsed();
            }
            taken
        })
    }

    /// One that does it so many times and tells how long that took.
    pub fn timed(mut run: impl FnMut(u64) -> Duration + 'a) -> Self {
        // The first is not measured: what a process asks once, it has asked then.
        run(1);
        let one = (0..5).map(|_| run(1)).min().unwrap_or_default();
        let times = TURN.as_nanos() / one.as_nanos().max(1);
        Self { run: Box::new(run), times: times.clamp(1, 10_000) as u64 }
    }

    /// Does it so many times, and tells how long that took, as criterion wants it.
    pub fn run(&mut self, times: u64) -> Duration {
        (self.run)(times)
    }

    /// A turn: nanoseconds for one.
    fn turn(&mut self) -> f64 {
        (self.run)(self.times).as_nanos() as f64 / self.times as f64
    }
}

/// What the rounds of two contenders gave.
#[derive(Debug, Clone)]
pub struct Compared {
    /// Nanoseconds of the first.
    pub base: Spread,
    /// Nanoseconds of the second.
    pub other: Spread,
    /// The second's by the first's, of the same round.
    pub ratio: Spread,
    /// Nanoseconds that the second takes more than the first, in the same round.
    pub more: Spread,
}

/// So many rounds of both.
pub fn compare(base: &mut Contender<'_>, other: &mut Contender<'_>, rounds: usize) -> Compared {
    let turns: Vec<(f64, f64)> = (0..rounds.max(1))
        .map(|round| {
            if round % 2 == 0 {
                let first = base.turn();
                (first, other.turn())
            } else {
                let first = other.turn();
                (base.turn(), first)
            }
        })
        .collect();
    let of = |figure: fn(&(f64, f64)) -> f64| Spread::of(turns.iter().map(figure).collect());
    Compared {
        base: of(|turn| turn.0),
        other: of(|turn| turn.1),
        ratio: of(|turn| turn.1 / turn.0),
        more: of(|turn| turn.1 - turn.0),
    }
}

/// Where the figures of the rounds lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// A quarter is lower.
    pub low: f64,
    /// As many are lower as higher.
    pub median: f64,
    /// A quarter is higher.
    pub high: f64,
    /// Where the true median lies, at 95 of 100 times (by ranks, whatever the distribution).
    pub surely: (f64, f64),
}

impl Spread {
    /// Of these figures.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let count = figures.len() as f64;
        let at = |rank: f64| figures[(rank.max(0.0) as usize).min(figures.len() - 1)];
        let apart = 0.98 * count.sqrt();
        Self {
            low: at(count * 0.25),
            median: at(count * 0.5),
            high: at(count * 0.75),
            surely: (at((count * 0.5 - apart).floor()), at((count * 0.5 + apart).ceil())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_quartiles_are_known_values() {
        let spread = Spread::of((0..101).rev().map(f64::from).collect());
        assert_eq!((spread.low, spread.median, spread.high), (25.0, 50.0, 75.0));
        assert!(spread.surely.0 < 50.0 && spread.surely.1 > 50.0, "{spread:?}");
        let one = Spread::of(vec![7.0]);
        assert_eq!((one.low, one.surely), (7.0, (7.0, 7.0)));
    }

    /// The clock of these two is their own, so the ratio is known.
    #[test]
    fn twice_the_time_is_ratio_two() {
        let taking =
            |micros| Contender::timed(move |times| Duration::from_micros(micros) * times as u32);
        let compared = compare(&mut taking(10), &mut taking(20), 10);
        assert_eq!((compared.ratio.median, compared.more.median), (2.0, 10_000.0));
        assert_eq!(compared.base.median, 10_000.0);
    }
}
