//! The envelope of a series: minimum, median and maximum of neighbouring samples, in levels.
//!
//! A picture has a thousand columns, a series may have ten million samples. Drawing every n-th one loses the spike that
//! matters; drawing the smallest and the largest of each bucket cannot. Whoever zooms in is given finer levels, and
//! below the finest the samples themselves.

use crate::model::{Gap, Points, Timestamp};

/// Samples in a bucket of the finest level. Six columns of 64 samples cost some 5% of the samples themselves, even of
/// noise that doesn't compress, and a view of a thousand buckets is next replaced by 64,000 samples, which a browser
/// still draws at once.
const FINEST: usize = 64;

/// How many buckets of a level make one of the next. A view that is one item a pixel at some level shows at most this
/// many a pixel just before the coarser level takes over.
const STEP: usize = 16;

/// A level of at most so many buckets needs no coarser one, and a series of at most so many samples needs none at all:
/// it is decoded and drawn in a few milliseconds.
const COARSE_ENOUGH: usize = 16_384;

/// The extremes of neighbouring samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// When the first of them was taken.
    pub first: Timestamp,
    /// When the last was.
    pub last: Timestamp,
    /// The smallest.
    pub min: f64,
    /// The middle one; of an even number the lower of the two, so that it is a value that was measured.
    pub median: f64,
    /// The largest.
    pub max: f64,
    /// True where a hole lies between this bucket and the one before.
    pub hole_before: bool,
    /// True where a hole lies between two of its own samples.
    pub hole_inside: bool,
}

/// All of a series in buckets of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// The most samples that a bucket stands for, holes included.
    pub samples: usize,
    /// The buckets, in the order of their times. One that would hold nothing but a hole is left out.
    pub buckets: Vec<Bucket>,
}

/// The levels of a series, the coarsest first; none where the samples themselves are few enough to draw.
///
/// A hole is a `NaN`, or a step over one of `gaps`.
pub fn levels(points: &Points, gaps: &[Gap]) -> Vec<Level> {
    let mut levels = Vec::new();
    let (mut samples, mut items) = (FINEST, points.len());
    while items > COARSE_ENOUGH {
        let level = level(points, gaps, samples);
        items = level.buckets.len();
        levels.push(level);
        samples = samples.saturating_mul(STEP);
        if samples > points.len() {
            break;
        }
    }
    levels.reverse();
    levels
}

/// The series in buckets of `samples` samples.
///
/// A step in time that is longer than an average bucket ends the bucket before it: a bucket must not stretch over a
/// night in which nothing was recorded. There can't be more such steps than there are buckets otherwise.
fn level(points: &Points, gaps: &[Gap], samples: usize) -> Level {
    let mut gaps = gaps.iter().peekable();
    let longest_step = match (points.times.first(), points.times.last()) {
        (Some(first), Some(last)) => samples as f64 * last.seconds_since(*first) / points.len() as f64,
        _ => 0.0,
    };
    let mut buckets = Vec::with_capacity(points.len().div_ceil(samples));
    let mut open = OpenBucket::default();
    let mut previous: Option<Timestamp> = None;
    let mut hole = false;
    for (at, value) in points.times.iter().zip(&points.values) {
        if let Some(previous) = previous {
            while gaps.next_if(|gap| gap.to <= previous).is_some() {}
            hole |= gaps.peek().is_some_and(|gap| gap.from < *at);
            if open.taken == samples || at.seconds_since(previous) > longest_step {
                buckets.extend(open.close());
            }
        }
        previous = Some(*at);
        open.taken += 1;
        if value.is_nan() {
            hole = true;
        } else {
            open.push(*at, *value, std::mem::take(&mut hole));
        }
    }
    buckets.extend(open.close());
    Level { samples, buckets }
}

/// A bucket that samples are still put into.
#[derive(Default)]
struct OpenBucket {
    taken: usize,
    first: Timestamp,
    last: Timestamp,
    values: Vec<f64>,
    hole_before: bool,
    hole_inside: bool,
}

impl OpenBucket {
    fn push(&mut self, at: Timestamp, value: f64, after_hole: bool) {
        if self.values.is_empty() {
            self.first = at;
            self.hole_before = after_hole;
            self.hole_inside = false;
        } else {
            self.hole_inside |= after_hole;
        }
        self.last = at;
        self.values.push(value);
    }

    /// The bucket, if there is any value in it; what comes next begins another.
    fn close(&mut self) -> Option<Bucket> {
        self.taken = 0;
        let middle = self.values.len().checked_sub(1)? / 2;
        let (below, median, above) = self.values.select_nth_unstable_by(middle, f64::total_cmp);
        let median = *median;
        let bucket = Bucket {
            first: self.first,
            last: self.last,
            min: below.iter().copied().fold(median, f64::min),
            median,
            max: above.iter().copied().fold(median, f64::max),
            hole_before: self.hole_before,
            hole_inside: self.hole_inside,
        };
        self.values.clear();
        Some(bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Samples with steps of 1 to 50 s, and now and then of an hour; `None` is a hole.
    fn points(samples: &[(u32, Option<i32>)]) -> Points {
        let mut points = Points::default();
        let mut at = 1_795_457_048_000_000;
        for (step, value) in samples {
            at += i64::from(*step) * 1_000_000;
            points.push(Timestamp(at), value.map_or(f64::NAN, f64::from));
        }
        points
    }

    fn a_series() -> impl Strategy<Value = (Points, Vec<Gap>)> {
        let step = prop_oneof![8 => 1u32..50, 1 => Just(3600)];
        let value = prop_oneof![8 => (-1000i32..1000).prop_map(Some), 1 => Just(None)];
        (prop::collection::vec((step, value), 0..400), prop::collection::vec(0usize..400, 0..6)).prop_map(
            |(samples, mut cuts)| {
                let points = points(&samples);
                cuts.sort_unstable();
                cuts.dedup();
                let gap = |cut: &usize| {
                    let (from, to) = (*points.times.get(*cut)?, *points.times.get(cut + 1)?);
                    Some(Gap { from, to, series: None, reason: "late".to_owned() })
                };
                let gaps = cuts.iter().filter_map(gap).collect();
                (points, gaps)
            },
        )
    }

    proptest! {
        #[test]
        fn every_level_keeps_every_extreme((points, gaps) in a_series(), samples in 1usize..70) {
            let level = level(&points, &gaps, samples);
            let mut seen = 0;
            for bucket in &level.buckets {
                let mut inside: Vec<f64> = points.times.iter().zip(&points.values)
                    .filter(|(at, value)| (bucket.first..=bucket.last).contains(at) && !value.is_nan())
                    .map(|(_, value)| *value).collect();
                inside.sort_by(f64::total_cmp);
                seen += inside.len();
                prop_assert!(inside.len() <= samples);
                prop_assert_eq!(bucket.min, inside[0]);
                prop_assert_eq!(bucket.median, inside[(inside.len() - 1) / 2]);
                prop_assert_eq!(bucket.max, inside[inside.len() - 1]);
            }
            // Each sample is in one bucket, so an extreme of any stretch of time is in the buckets that touch it.
            prop_assert_eq!(seen, points.values.iter().filter(|value| !value.is_nan()).count());
            prop_assert!(level.buckets.windows(2).all(|pair| pair[0].last < pair[1].first));
            prop_assert!(level.buckets.len() <= 2 * points.len().div_ceil(samples));
        }

        #[test]
        fn holes_stay_holes_and_nothing_else_becomes_one((points, gaps) in a_series(), samples in 1usize..70) {
            let level = level(&points, &gaps, samples);
            let mut previous: Option<(usize, Timestamp)> = None;
            let mut holes_inside = vec![false; level.buckets.len()];
            let mut missing = false;
            for (at, value) in points.times.iter().zip(&points.values) {
                if value.is_nan() {
                    missing = true;
                    continue;
                }
                let index = level.buckets.partition_point(|bucket| bucket.last < *at);
                if let Some((before, then)) = previous {
                    let hole = missing || gaps.iter().any(|gap| gap.from < *at && gap.to > then);
                    if before == index {
                        holes_inside[index] |= hole;
                    } else {
                        prop_assert_eq!(level.buckets[index].hole_before, hole);
                    }
                }
                missing = false;
                previous = Some((index, *at));
            }
            let told: Vec<bool> = level.buckets.iter().map(|bucket| bucket.hole_inside).collect();
            prop_assert_eq!(told, holes_inside);
        }
    }

    #[test]
    fn a_level_is_coarse_enough_to_draw_at_once() {
        for count in [0usize, 1, 16_384, 16_385, 300_000, 3_000_000] {
            let samples: Vec<_> = (0..count).map(|index| (5, Some(index as i32 % 97))).collect();
            let points = points(&samples);
            let levels = levels(&points, &[]);
            assert_eq!(levels.is_empty(), count <= COARSE_ENOUGH, "{count}");
            let first = levels.first().map_or(count, |level| level.buckets.len());
            assert!(first <= COARSE_ENOUGH, "{count} samples begin with {first} buckets");
            assert!(levels.windows(2).all(|pair| pair[0].samples == pair[1].samples * STEP));
        }
    }

    #[test]
    fn an_hour_of_silence_is_not_stretched_over() {
        let mut samples = vec![(1, Some(3)); 100];
        samples[70].0 = 3600;
        let level = level(&points(&samples), &[], 64);
        let sizes: Vec<f64> = level.buckets.iter().map(|bucket| bucket.last.seconds_since(bucket.first)).collect();
        assert_eq!(sizes, [63.0, 5.0, 29.0]);
    }
}
