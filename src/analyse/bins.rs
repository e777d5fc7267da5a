//! A series in constant memory: at most [`BINS_MAX`] bins of equal time, merged in pairs when they are full.
//!
//! The first [`BINS_MAX`] samples are a bin each, so that a short series is judged by all of its values. After that a
//! bin keeps its extremes with their times, which is what a fall shows itself by, and a uniform sample of its values
//! (algorithm R of Vitter, "Random sampling with a reservoir", 1985), from which quantiles of a block are read.

use crate::model::{Timestamp, splitmix64};

/// Between 256 and 512 bins are in use: a moment is known to within 0.4% of the span.
const BINS_MAX: usize = 512;

/// Values kept of each bin. A block of 96 is at least two bins: 16 values or more, whose 10% order statistic is neither
/// the minimum nor far from it.
const KEPT: usize = 8;

/// The fold of one series.
#[derive(Clone, Debug, Default)]
pub(super) struct Bins {
    bins: Vec<Bin>,
    /// Width of a bin in microseconds; `None` while each sample has its own.
    width: Option<i64>,
    /// Samples so far.
    pub(super) count: u64,
    /// The latest sample.
    pub(super) last: Option<(Timestamp, f64)>,
    /// The smallest change seen from one sample to the next: 1 for a count, about nothing for a measurement.
    quantum: Option<f64>,
}

/// The samples of a stretch of time.
#[derive(Clone, Debug)]
pub(super) struct Bin {
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) lowest: (Timestamp, f64),
    pub(super) highest: (Timestamp, f64),
    pub(super) count: u64,
    /// The number of its first sample in the series: what draws hash, so that another clock draws the same.
    ordinal: u64,
    kept: [f64; KEPT],
}

/// A stretch of time, as the trend sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Block {
    /// Its middle, 0 at the beginning of the segment and 1 at its end.
    pub(super) u: f64,
    /// The 10% order statistic: what load and bursts stand on.
    pub(super) floor: f64,
    /// The median.
    pub(super) median: f64,
}

impl Bin {
    fn new(at: Timestamp, value: f64, ordinal: u64) -> Self {
        Bin { first: at, last: at, lowest: (at, value), highest: (at, value), count: 1, ordinal, kept: [value; KEPT] }
    }

    fn add(&mut self, at: Timestamp, value: f64) {
        self.last = at;
        if value < self.lowest.1 {
            self.lowest = (at, value);
        }
        if value >= self.highest.1 {
            self.highest = (at, value);
        }
        self.count += 1;
        let slot = splitmix64(self.ordinal + self.count) % self.count;
        let slot = if self.count <= KEPT as u64 { self.count - 1 } else { slot };
        if let Some(kept) = self.kept.get_mut(slot as usize) {
            *kept = value;
        }
    }

    /// The two as one. Each kept value comes from either with the probability of its share.
    fn merge(mut self, later: &Bin) -> Bin {
        let (mine, theirs) = (self.values(), later.values());
        let total = self.count + later.count;
        let mut kept = [0.0; KEPT];
        if mine.len() + theirs.len() <= KEPT {
            let both = mine.iter().chain(theirs);
            kept.iter_mut().zip(both).for_each(|(slot, value)| *slot = *value);
        } else {
            let (mut taken_mine, mut taken_theirs) = (0, 0);
            for (index, slot) in kept.iter_mut().enumerate() {
                let draw = splitmix64(index as u64 ^ later.ordinal.rotate_left(32)) % total;
                let prefers_mine = (draw < self.count && taken_mine < mine.len()) || taken_theirs >= theirs.len();
                let (from, taken) = if prefers_mine { (mine, &mut taken_mine) } else { (theirs, &mut taken_theirs) };
                *slot = from[*taken];
                *taken += 1;
            }
        }
        self.kept = kept;
        self.last = later.last;
        self.count = total;
        if later.lowest.1 < self.lowest.1 {
            self.lowest = later.lowest;
        }
        if later.highest.1 >= self.highest.1 {
            self.highest = later.highest;
        }
        self
    }

    /// The kept values.
    pub(super) fn values(&self) -> &[f64] {
        &self.kept[..KEPT.min(self.count as usize)]
    }

    fn middle(&self) -> f64 {
        self.first.seconds_since(Timestamp(0)).midpoint(self.last.seconds_since(Timestamp(0)))
    }
}

impl Bins {
    /// Takes a sample in; times rise.
    pub(super) fn add(&mut self, at: Timestamp, value: f64) {
        if let Some((_, before)) = self.last {
            let change = (value - before).abs();
            // A difference of rounding is none.
            if change > 1e-9 * value.abs().max(before.abs()) {
                self.quantum = Some(self.quantum.map_or(change, |smallest| smallest.min(change)));
            }
        }
        self.count += 1;
        self.last = Some((at, value));
        let Some(start) = self.bins.first().map(|bin| bin.first) else {
            self.bins.push(Bin::new(at, value, self.count));
            return;
        };
        if let Some(width) = self.width
            && let Some(bin) = self.bins.last_mut()
            && (at.0 - start.0) / width == (bin.first.0 - start.0) / width
        {
            bin.add(at, value);
            return;
        }
        let is_full = match self.width {
            None => self.bins.len() >= BINS_MAX,
            Some(width) => (at.0 - start.0) / width >= BINS_MAX as i64,
        };
        if is_full {
            self.widen(start, at);
            self.add_to_last_or_new(start, at, value);
        } else {
            self.bins.push(Bin::new(at, value, self.count));
        }
    }

    fn add_to_last_or_new(&mut self, start: Timestamp, at: Timestamp, value: f64) {
        let width = self.width.unwrap_or(1);
        match self.bins.last_mut() {
            Some(bin) if (at.0 - start.0) / width == (bin.first.0 - start.0) / width => bin.add(at, value),
            _ => self.bins.push(Bin::new(at, value, self.count)),
        }
    }

    /// Widens the bins until `end` fits into half of them, or doubles them.
    fn widen(&mut self, start: Timestamp, end: Timestamp) {
        let span = (end.0 - start.0).max(1);
        let mut width = self.width.map_or(2 * span / BINS_MAX as i64 + 1, |width| 2 * width);
        while span / width >= BINS_MAX as i64 {
            width *= 2;
        }
        let mut merged: Vec<Bin> = Vec::with_capacity(BINS_MAX);
        for bin in self.bins.drain(..) {
            match merged.pop() {
                Some(before) if (before.first.0 - start.0) / width == (bin.first.0 - start.0) / width => {
                    merged.push(before.merge(&bin));
                }
                Some(before) => merged.extend([before, bin]),
                None => merged.push(bin),
            }
        }
        self.bins = merged;
        self.width = Some(width);
    }

    /// All bins.
    pub(super) fn all(&self) -> &[Bin] {
        &self.bins
    }

    /// The smallest step the series makes; nothing where it never moved.
    pub(super) fn quantum(&self) -> f64 {
        self.quantum.unwrap_or(0.0)
    }
}

/// The bins from a moment on.
pub(super) fn since(bins: &[Bin], from: Timestamp) -> &[Bin] {
    &bins[bins.partition_point(|bin| bin.first < from)..]
}

/// The bins up to a moment.
pub(super) fn until(bins: &[Bin], to: Timestamp) -> &[Bin] {
    &bins[..bins.partition_point(|bin| bin.last <= to)]
}

/// How many samples they hold.
pub(super) fn samples(bins: &[Bin]) -> u64 {
    bins.iter().map(|bin| bin.count).sum()
}

/// The bins as at most `blocks_max` blocks of equal time; a stretch without samples has none.
pub(super) fn blocks(bins: &[Bin], blocks_max: usize) -> Vec<Block> {
    let (Some(first), Some(last)) = (bins.first(), bins.last()) else { return Vec::new() };
    let start = first.first.seconds_since(Timestamp(0));
    let span = last.last.seconds_since(first.first).max(1e-6);
    let block_of = |bin: &Bin| {
        let share = (bin.middle() - start) / span;
        ((share * blocks_max as f64) as usize).min(blocks_max - 1)
    };
    let mut values = Vec::new();
    bins.chunk_by(|a, b| block_of(a) == block_of(b))
        .map(|chunk| {
            values.clear();
            values.extend(chunk.iter().flat_map(Bin::values));
            let middle = chunk.iter().map(Bin::middle).sum::<f64>() / chunk.len() as f64;
            Block { u: (middle - start) / span, floor: quantile(&mut values, 0.1), median: quantile(&mut values, 0.5) }
        })
        .collect()
}

/// The order statistic at a share, interpolated between its neighbours (type 7 of Hyndman and Fan, 1996). Reorders.
pub(super) fn quantile(values: &mut [f64], share: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let place = share * (values.len() - 1) as f64;
    let (_, low, above) = values.select_nth_unstable_by(place.floor() as usize, f64::total_cmp);
    let high = above.iter().copied().fold(f64::INFINITY, f64::min);
    if high.is_finite() { *low + place.fract() * (high - *low) } else { *low }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: i64, value: impl Fn(i64) -> f64) -> Bins {
        let mut bins = Bins::default();
        for i in 0..count {
            bins.add(Timestamp(i * 1_000_000), value(i));
        }
        bins
    }

    #[test]
    fn memory_is_bounded_and_no_sample_or_extreme_is_lost() {
        for count in [1, 511, 512, 513, 10_000, 100_003] {
            let bins = filled(count, |i| if i == count / 3 { 1e6 } else { (i % 7) as f64 });
            let all = bins.all();
            assert!(all.len() <= BINS_MAX, "{count}: {}", all.len());
            assert!(count < 600 || all.len() >= BINS_MAX / 2 - 1, "{count}: {}", all.len());
            assert_eq!(all.iter().map(|bin| bin.count).sum::<u64>(), count as u64);
            let peak = all.iter().map(|bin| bin.highest).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
            assert_eq!(peak, (Timestamp(count / 3 * 1_000_000), 1e6));
        }
    }

    #[test]
    fn a_long_gap_widens_the_bins_at_once() {
        let mut bins = filled(2_000, |i| i as f64);
        bins.add(Timestamp(9_000_000_000_000), 5.0);
        assert!(bins.all().len() <= BINS_MAX);
        assert_eq!(bins.count, 2_001);
    }

    #[test]
    fn blocks_hold_floor_and_median() {
        // A ramp from 0 to 1 with a burst in every tenth sample.
        let bins = filled(50_000, |i| i as f64 / 50_000.0 + if i % 10 == 0 { 5.0 } else { 0.0 });
        let blocks = blocks(bins.all(), 96);
        assert_eq!(blocks.len(), 96);
        for block in blocks {
            assert!((block.floor - block.u).abs() < 0.02 && (block.median - block.u).abs() < 0.02, "{block:?}");
        }
    }

    #[test]
    fn a_count_moves_by_one_and_a_quantile_is_interpolated() {
        assert_eq!(filled(100, |i| (i / 10) as f64).quantum(), 1.0);
        assert_eq!(filled(100, |_| 3.0).quantum(), 0.0);
        assert_eq!(quantile(&mut [4.0, 1.0, 3.0, 2.0], 0.5), 2.5);
        assert_eq!(quantile(&mut [], 0.5), 0.0);
    }
}
