//! Ratios from paired rounds.
//!
//! On a machine with other load, two consecutive measurements differ by more than the effect to
//! show. So two contenders take turns of half a millisecond, and each round gives one ratio: the
//! load affects both alike. The order alternates between rounds. Interrupted rounds do not move the
//! median, and a contender against itself shows the error.

use std::time::{Duration, Instant};

/// The length of a turn.
const TURN: Duration = Duration::from_micros(500);

/// An operation to compare.
pub struct Contender<'a> {
    run: Box<dyn FnMut(u64) -> Duration + 'a>,
    times: u64,
}

impl<'a> Contender<'a> {
    /// Measures every `operation`.
    pub fn new(mut operation: impl FnMut() + 'a) -> Self {
        Self::timed(move |times| {
            let began = Instant::now();
            for _ in 0..times {
                operation();
            }
            began.elapsed()
        })
    }

    /// Runs `prepare` before every `operation`, and measures only the latter.
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

    /// `run` repeats the operation this many times, and returns the total time.
    pub fn timed(mut run: impl FnMut(u64) -> Duration + 'a) -> Self {
        // The first run is not measured, because it includes queries that a process makes once.
        run(1);
        let one = (0..5).map(|_| run(1)).min().unwrap_or_default();
        let times = TURN.as_nanos() / one.as_nanos().max(1);
        Self { run: Box::new(run), times: times.clamp(1, 10_000) as u64 }
    }

    /// Repeats the operation this many times, and returns the total time, as criterion expects.
    pub fn run(&mut self, times: u64) -> Duration {
        (self.run)(times)
    }

    /// A turn: nanoseconds for one operation.
    fn turn(&mut self) -> f64 {
        (self.run)(self.times).as_nanos() as f64 / self.times as f64
    }
}

/// The result of the rounds of two contenders.
#[derive(Debug, Clone)]
pub struct Compared {
    /// Nanoseconds of the first.
    pub base: Spread,
    /// Nanoseconds of the second.
    pub other: Spread,
    /// The second's divided by the first's, in the same round.
    pub ratio: Spread,
    /// The second's minus the first's in nanoseconds, in the same round.
    pub more: Spread,
}

/// Compares two contenders in this many rounds.
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

/// The spread of the figures of the rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The lower quartile.
    pub low: f64,
    /// The median.
    pub median: f64,
    /// The upper quartile.
    pub high: f64,
    /// The 95 % confidence interval of the median (by ranks, for any distribution).
    pub surely: (f64, f64),
}

impl Spread {
    /// The spread of these figures.
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

    /// These contenders report fixed times, so the ratio is known.
    #[test]
    fn twice_the_time_is_ratio_two() {
        let taking =
            |micros| Contender::timed(move |times| Duration::from_micros(micros) * times as u32);
        let compared = compare(&mut taking(10), &mut taking(20), 10);
        assert_eq!((compared.ratio.median, compared.more.median), (2.0, 10_000.0));
        assert_eq!(compared.base.median, 10_000.0);
    }
}
