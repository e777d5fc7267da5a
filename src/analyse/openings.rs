//! When the leaked ones were opened: at once, ever more seldom, or on and on.
//!
//! A leak goes on, as a Poisson process does. An incident or a pool that is filled opens at once, and a pool that grows
//! to its size has opened nearly all by half of the time. A test of significance (Laplace's) was tried and dropped: of
//! fifty openings it objects to any rate that is not constant, and leaks follow the load.

use super::distribution::poisson_interval;
use crate::model::Rate;

/// Openings must fall into at least so many of twenty equal parts of the time.
const PARTS_MIN: usize = 3;
/// From the first to the horizon, the second half must have this share of them: of five openings at an even rate none
/// falls there once in 32 times.
const LATER_SHARE_MIN: f64 = 0.2;
/// In the first minutes, when pools grow to their size, this share.
const LATER_SHARE_MIN_EARLY: f64 = 1.0 / 3.0;

/// What went on and stopped lasted so long (a pool fills in a few seconds, an incident takes less than one), and filled so
/// many of twenty equal parts of its own time.
const WENT_ON_SECONDS: f64 = 10.0;
const WENT_ON_PARTS: usize = 8;

/// Openings that were left, in seconds since the watch began.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Openings {
    /// In rising order.
    seconds: Vec<f64>,
    /// A leaked one opened after this moment could not be told yet.
    horizon: f64,
}

impl Openings {
    /// `recognised_after` is the age at which a leaked one stands out.
    pub(super) fn new(mut seconds: Vec<f64>, watch_seconds: f64, recognised_after: f64) -> Self {
        seconds.sort_unstable_by(f64::total_cmp);
        let last = seconds.last().copied().unwrap_or(0.0);
        Openings { seconds, horizon: (watch_seconds - recognised_after).max(last).max(1e-6) }
    }

    /// The first of them.
    pub(super) fn first(&self) -> f64 {
        self.seconds.first().copied().unwrap_or(0.0)
    }

    /// Why they look like no leak, if they don't.
    pub(super) fn objection(&self, is_early: bool) -> Option<&'static str> {
        let later_share_min = if is_early { LATER_SHARE_MIN_EARLY } else { LATER_SHARE_MIN };
        if self.parts() < PARTS_MIN {
            Some("they were opened at once, as by an incident or for a pool")
        } else if self.later_share() < later_share_min {
            Some("they were opened early and hardly any since, as by a pool that fills")
        } else {
            None
        }
    }

    /// True where the last of them came in the first half of the time: if it was something, it's over.
    pub(super) fn are_over(&self) -> bool {
        self.seconds.last().is_none_or(|last| *last < self.horizon / 2.0)
    }

    /// True where they went on as a leak's do from the first to the last of them, whatever came later.
    pub(super) fn went_on(&self) -> bool {
        let (first, last) = (self.first(), self.last());
        let own =
            Openings { seconds: self.seconds.iter().map(|at| at - first).collect(), horizon: (last - first).max(1e-6) };
        last - first >= WENT_ON_SECONDS && own.parts() >= WENT_ON_PARTS && own.later_share() >= LATER_SHARE_MIN_EARLY
    }

    fn last(&self) -> f64 {
        self.seconds.last().copied().unwrap_or(0.0)
    }

    /// How many there are an hour, from the first of them to the horizon.
    pub(super) fn rate(&self) -> Option<Rate> {
        let hours = (self.horizon - self.first()) / 3_600.0;
        // The first one set the clock, the others count.
        let count = self.seconds.len().saturating_sub(1) as f64;
        let (low, high) = poisson_interval(count);
        (hours > 0.0).then(|| Rate { per_hour: count / hours, low: low / hours, high: high / hours })
    }

    /// In how many of twenty equal parts of the time something was opened.
    pub(super) fn parts(&self) -> usize {
        let part = |opening: &f64| (20.0 * opening / self.horizon) as u64;
        self.seconds.chunk_by(|a, b| part(a) == part(b)).count()
    }

    /// The share that was opened in the second half of the time since the first.
    pub(super) fn later_share(&self) -> f64 {
        let middle = self.first().midpoint(self.horizon);
        let earlier = self.seconds.partition_point(|opening| *opening <= middle);
        1.0 - earlier as f64 / self.seconds.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_goes_on_and_its_rate_is_counted() {
        let openings = Openings::new((0..60).map(|i| f64::from(i) * 60.0).collect(), 3_610.0, 10.0);
        assert_eq!(openings.objection(false), None);
        let rate = openings.rate().unwrap();
        assert!((rate.per_hour - 59.0).abs() < 1e-9 && rate.low < 46.0 && rate.high > 75.0, "{rate:?}");
    }

    #[test]
    fn a_burst_and_a_pool_are_objected_to() {
        let burst = Openings::new((0..60).map(|i| 1_000.0 + f64::from(i)).collect(), 3_610.0, 10.0);
        assert!(burst.objection(false).is_some_and(|why| why.contains("at once")) && burst.are_over());
        let pool = Openings::new((0..30).map(|i| 1.3f64.powi(i)).filter(|at| *at < 1e3).collect(), 3_610.0, 10.0);
        assert!(pool.objection(false).is_some_and(|why| why.contains("early")), "{}", pool.later_share());
    }
}
