//! Where a series falls back to its beginning: restarts, collections, recycled pools.
//!
//! A zigzag of peaks and troughs (reversals of at least 45% of the range) over the extremes of the bins. A fall counts
//! where it is sharp against the time the series stayed high before it: daily load sinks as slowly as it rises, a
//! restart does not. Five and more such falls are the teeth of a saw, and what matters is the height of their feet;
//! after fewer, what matters is what came after the last.

use super::bins::{Bin, quantile};
use crate::model::Timestamp;

/// A reversal smaller than this share of the range is noise.
const REVERSAL: f64 = 0.45;
/// A fall is sharp where it takes less than this share of the time spent high before it, give or take [`BLUR`] ...
const SHARP: f64 = 0.25;
/// ... which is what the bins do not resolve, as a share of the span ...
const BLUR: f64 = 0.004;
/// ... or less than this share of the span.
const SUDDEN: f64 = 0.012;
/// Time spent high, as a share of the span, from which a fall is more than the end of a spike ...
const DWELL_MIN: f64 = 0.012;
/// ... and from which a single one is the end of a segment.
const DWELL_CUT: f64 = 0.05;
/// A restart leaves no more than this share of the range above the lowest level before it.
const LEFT_MAX: f64 = 0.1;
/// As many falls make a saw.
const TEETH_MIN: usize = 5;

/// How a series is to be read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    /// From a moment on: after the last restart, or from its beginning.
    Since(Timestamp),
    /// As a saw; the feet of its falls.
    Teeth(Vec<(Timestamp, f64)>),
}

/// Reads the falls; `restarts` are known from elsewhere and cut whatever the series did.
pub(super) fn shape(bins: &[Bin], restarts: &[Timestamp]) -> Shape {
    let Some(start) = bins.first().map(|bin| bin.first) else { return Shape::Since(Timestamp(0)) };
    let restart = restarts.last().copied().filter(|at| *at > start);
    let (falls, all) = regime_falls(bins);
    if falls.len() >= TEETH_MIN && falls.len() as f64 >= 0.6 * all as f64 {
        return Shape::Teeth(falls.iter().map(|fall| fall.foot).collect());
    }
    let is_reset = |fall: &&Fall| fall.dwell > DWELL_CUT && fall.loses_all;
    let reset = (falls.len() < TEETH_MIN).then(|| falls.iter().rfind(is_reset)).flatten();
    Shape::Since(reset.map(|fall| fall.foot.0).into_iter().chain(restart).max().unwrap_or(start))
}

struct Fall {
    /// When and where it ended.
    foot: (Timestamp, f64),
    /// Time spent high before it, as a share of the span.
    dwell: f64,
    /// True where it fell as low as anything before it: load that ends at night leaves what has leaked.
    loses_all: bool,
}

/// The sharp falls after some time spent high, and the number of all falls.
fn regime_falls(bins: &[Bin]) -> (Vec<Fall>, usize) {
    let mut points: Vec<(Timestamp, f64)> = Vec::with_capacity(2 * bins.len());
    for bin in bins {
        let (a, b) = (bin.lowest, bin.highest);
        points.extend(if a.0 <= b.0 { [a, b] } else { [b, a] });
    }
    let mut values: Vec<f64> = bins.iter().flat_map(Bin::values).copied().collect();
    let range = quantile(&mut values, 0.98) - quantile(&mut values, 0.02);
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return (Vec::new(), 0) };
    let span = last.0.seconds_since(first.0);
    if range <= 0.0 || span <= 0.0 {
        return (Vec::new(), 0);
    }
    let turns = zigzag(&points, REVERSAL * range);
    let mut falls = Vec::new();
    let mut all = 0;
    for pair in turns.windows(2) {
        let (peak, trough) = (pair[0], pair[1]);
        let drop = points[peak].1 - points[trough].1;
        if drop <= 0.0 {
            continue;
        }
        all += 1;
        let base = points[trough].1;
        let leg = &points[peak..=trough];
        let begins = leg.iter().rposition(|point| point.1 >= base + 0.8 * drop).unwrap_or(0) + peak;
        let ends = points[begins..=trough].iter().position(|point| point.1 <= base + 0.2 * drop).unwrap_or(0) + begins;
        let crossing = points[begins..=ends].iter().position(|point| point.1 < base + 0.5 * drop).unwrap_or(0) + begins;
        let rose = points[..crossing].iter().rposition(|point| point.1 < base + 0.5 * drop).map_or(0, |i| i + 1);
        let dwell = points[crossing].0.seconds_since(points[rose].0) / span;
        let length = points[ends].0.seconds_since(points[begins].0) / span;
        if (length < SHARP * dwell + BLUR || length < SUDDEN) && dwell > DWELL_MIN {
            let near = ends.saturating_sub(2)..(ends + 3).min(points.len());
            let foot = points[near].iter().fold(points[ends], |low, point| if point.1 < low.1 { *point } else { low });
            let lowest = points[..=peak].iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
            falls.push(Fall { foot, dwell, loses_all: foot.1 <= lowest + LEFT_MAX * range });
        }
    }
    (falls, all)
}

/// Indices of alternating peaks and troughs, each at least `reversal` from the next.
fn zigzag(points: &[(Timestamp, f64)], reversal: f64) -> Vec<usize> {
    let (mut low, mut high) = (0, 0);
    let mut rising: Option<bool> = None;
    let mut turns = Vec::new();
    for (i, point) in points.iter().enumerate() {
        if point.1 > points[high].1 {
            high = i;
        }
        if point.1 < points[low].1 {
            low = i;
        }
        if rising != Some(false) && points[high].1 - point.1 >= reversal {
            turns.push(high);
            (rising, low) = (Some(false), i);
        } else if rising != Some(true) && point.1 - points[low].1 >= reversal {
            turns.push(low);
            (rising, high) = (Some(true), i);
        }
    }
    turns.extend(match rising {
        Some(true) => Some(high),
        Some(false) => Some(low),
        None => None,
    });
    turns
}

#[cfg(test)]
mod tests {
    use super::super::bins::Bins;
    use super::*;

    fn shape_of(count: i64, value: impl Fn(i64) -> f64) -> Shape {
        let mut bins = Bins::default();
        for i in 0..count {
            bins.add(Timestamp(i * 1_000_000), value(i));
        }
        shape(bins.all(), &[])
    }

    #[test]
    fn a_restart_cuts_what_came_before_it() {
        let Shape::Since(from) = shape_of(1_000, |i| if i < 600 { i as f64 } else { (i - 600) as f64 }) else {
            panic!("no saw")
        };
        assert!((from.seconds() - 600.0).abs() < 6.0, "{from:?}");
    }

    #[test]
    fn a_collector_makes_a_saw_whose_feet_are_found() {
        let Shape::Teeth(feet) = shape_of(5_000, |i| (i % 500) as f64 + i as f64 / 100.0) else { panic!("a saw") };
        assert_eq!(feet.len(), 9);
        assert!(feet.iter().all(|(at, foot)| (foot - at.seconds() / 100.0).abs() < 15.0), "{feet:?}");
    }

    #[test]
    fn daily_load_and_a_ramp_are_read_whole() {
        for value in [|i: i64| (i as f64 / 80.0).sin(), |i: i64| i as f64, |_: i64| 1.0] {
            assert_eq!(shape_of(2_000, value), Shape::Since(Timestamp(0)));
        }
    }

    #[test]
    fn a_known_restart_cuts_even_where_nothing_fell() {
        let mut bins = Bins::default();
        (0..100).for_each(|i| bins.add(Timestamp(i * 1_000_000), i as f64));
        let at = Timestamp(40_000_000);
        assert_eq!(shape(bins.all(), &[at]), Shape::Since(at));
    }
}
