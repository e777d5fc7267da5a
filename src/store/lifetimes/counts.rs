//! How many were open, sampled as a watch would have: at ticks of even distance, and without holding the lines.
//!
//! A line says when something was opened and closed, in any order of time. Changes are summed up between ticks; where the
//! span outgrows what is held, every two ticks become one. What was opened and closed between two ticks doesn't show, as
//! it wouldn't in a watch.

use crate::model::Timestamp;

/// Ticks at the most, and more than half of that of anything that is long enough: as fine as a screen shows, and with 257
/// series four megabytes.
const TICKS_MAX: usize = 4_096;

/// The finest distance of ticks, in microseconds: a 64th of a second, so that doubling it leads to whole seconds.
const WIDTH_MIN: i64 = 15_625;

/// The changes of several series, by tick.
#[derive(Debug)]
pub(super) struct Counts {
    /// The distance of ticks, in microseconds.
    width: i64,
    /// The first and the last tick, in widths since the epoch.
    range: Option<(i64, i64)>,
    /// Of each series what changed in the width that ends with a tick: the tick's number modulo [`TICKS_MAX`] is its place.
    changes: Vec<Vec<i32>>,
}

impl Counts {
    /// Of no series yet.
    pub(super) fn new() -> Self {
        Counts { width: WIDTH_MIN, range: None, changes: Vec::new() }
    }

    /// One series more; tells its number.
    pub(super) fn add_series(&mut self) -> usize {
        self.changes.push(vec![0; TICKS_MAX]);
        self.changes.len() - 1
    }

    /// Has the ticks reach to this moment.
    pub(super) fn reach(&mut self, at: Timestamp) {
        loop {
            let tick = self.tick(at);
            let (first, last) = self.range.map_or((tick, tick), |(first, last)| (first.min(tick), last.max(tick)));
            if last - first < TICKS_MAX as i64 {
                self.range = Some((first, last));
                return;
            }
            self.widen();
        }
    }

    /// So many more are open from this moment on; fewer where negative. It must have been reached.
    pub(super) fn change(&mut self, series: usize, at: Timestamp, change: i32) {
        let place = place(self.tick(at));
        self.changes[series][place] += change;
    }

    /// The distance of the ticks, in seconds.
    pub(super) fn every_seconds(&self) -> f64 {
        self.width as f64 / 1e6
    }

    /// The ticks, the last of them at `end`, which is the latest moment that was reached; and each series' count at each.
    pub(super) fn finish(self, end: Timestamp) -> (Vec<Timestamp>, Vec<Vec<f64>>) {
        let Some((first, last)) = self.range else { return (Vec::new(), vec![Vec::new(); self.changes.len()]) };
        let times = (first..=last).map(|tick| Timestamp(tick * self.width).min(end)).collect();
        let counts = |changes: &Vec<i32>| {
            let mut open = 0i64;
            let count = |tick| {
                open += i64::from(changes[place(tick)]);
                open as f64
            };
            (first..=last).map(count).collect()
        };
        (times, self.changes.iter().map(counts).collect())
    }

    /// The first tick that is not before `at`.
    fn tick(&self, at: Timestamp) -> i64 {
        at.0.div_euclid(self.width) + i64::from(at.0.rem_euclid(self.width) != 0)
    }

    fn widen(&mut self) {
        self.width *= 2;
        let Some((first, last)) = self.range else { return };
        let wider = |tick: i64| (tick + 1).div_euclid(2);
        for changes in &mut self.changes {
            let mut wide = vec![0; TICKS_MAX];
            (first..=last).for_each(|tick| wide[place(wider(tick))] += changes[place(tick)]);
            *changes = wide;
        }
        self.range = Some((wider(first), wider(last)));
    }
}

fn place(tick: i64) -> usize {
    tick.rem_euclid(TICKS_MAX as i64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the order and the span, a tick counts what is open then.
        #[test]
        fn a_tick_counts_what_is_open_then(
            lives in prop::collection::vec((0i64..1_000_000_000_000, 0i64..100_000_000_000), 1..60),
            shrink in 0u32..30,
        ) {
            let lives: Vec<(Timestamp, Timestamp)> = lives
                .into_iter()
                .map(|(opened, life)| (Timestamp(opened >> shrink), Timestamp((opened + life) >> shrink)))
                .collect();
            let mut counts = Counts::new();
            counts.add_series();
            for (opened, closed) in &lives {
                counts.reach(*opened);
                counts.reach(*closed);
                counts.change(0, *opened, 1);
                counts.change(0, *closed, -1);
            }
            let end = lives.iter().map(|(_, closed)| *closed).max().expect("one at least");
            let (times, columns) = counts.finish(end);
            prop_assert!(times.len() <= TICKS_MAX && times.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(times.last(), Some(&end));
            for (at, count) in times.iter().zip(&columns[0]) {
                let open = lives.iter().filter(|(opened, closed)| opened <= at && closed > at).count();
                prop_assert_eq!(*count, open as f64);
            }
        }
    }
}
