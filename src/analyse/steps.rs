//! Lasting steps: a deploy, a new pool, a second worker. They raise the level, and aren't a leak.

use super::bins::quantile;
use super::season::Season;
use super::trend::{self, Trend};

/// At most so many are taken off; more of them are no longer steps but a way to rise.
const STEPS_MAX: usize = 3;
/// A step has this share of its height between the medians of so many blocks before and after it.
const SHARP_BLOCKS: usize = 3;
const SHARP_SHARE: f64 = 0.6;
/// A piecewise constant rival has at most so many pieces ...
const PIECES_MAX: usize = 4;
/// ... of at least so many blocks.
const PIECE_MIN: usize = 3;

/// A lasting step: the block it comes before, and its height.
pub(super) type Step = (usize, f64);

/// Takes the largest lasting steps off, at most three.
pub(super) fn take_off(y: &mut [f64]) -> Vec<Step> {
    (0..STEPS_MAX).map_while(|_| take_largest_off(y)).collect()
}

fn take_largest_off(y: &mut [f64]) -> Option<Step> {
    let count = y.len();
    // Wide enough that a burst is no step.
    let width = (count / 10).max(4);
    if count < 2 * width + 4 {
        return None;
    }
    let medians: Vec<f64> = y.windows(width).map(median).collect();
    let mut shifts: Vec<f64> = medians.iter().zip(&medians[width..]).map(|(before, after)| after - before).collect();
    let usual = median(&shifts);
    let (index, jump) =
        shifts.iter().map(|shift| shift - usual).enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()))?;
    shifts.iter_mut().for_each(|shift| *shift = (*shift - usual).abs());
    let differences: Vec<f64> = y.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let range = quantile(&mut y.to_vec(), 1.0) - quantile(&mut y.to_vec(), 0.0);
    let least = (5.0 * 1.4826 * median(&shifts)).max(5.0 * deviation(&differences) / 2f64.sqrt()).max(0.2 * range);
    if jump.abs() <= least {
        return None;
    }
    let middle = index + width;
    let near = middle.saturating_sub(2).max(1)..(middle + 3).min(count);
    let at = near.max_by(|a, b| {
        let change = |at: usize| (y[at] - y[at - 1]) * jump.signum();
        change(*a).total_cmp(&change(*b))
    })?;
    // The beginning of a ramp shifts the medians too, but not at one place.
    let near = median(&y[at..(at + SHARP_BLOCKS).min(count)]) - median(&y[at.saturating_sub(SHARP_BLOCKS)..at]);
    if near * jump.signum() < SHARP_SHARE * jump.abs() {
        return None;
    }
    y[at..].iter_mut().for_each(|y| *y -= jump);
    Some((at, jump))
}

/// The least sums of squares of 1 to [`PIECES_MAX`] constant pieces (the segment neighbourhood search of Auger and
/// Lawrence, 1989).
fn piecewise_constant(y: &[f64]) -> Vec<f64> {
    let count = y.len();
    let mut sums = vec![(0.0, 0.0)];
    let mean = y.iter().sum::<f64>() / count as f64;
    for y in y {
        let (sum, squares) = sums[sums.len() - 1];
        sums.push((sum + (y - mean), squares + (y - mean).powi(2)));
    }
    let cost = |from: usize, to: usize| {
        let (sum, squares) = (sums[to].0 - sums[from].0, sums[to].1 - sums[from].1);
        (squares - sum * sum / (to - from) as f64).max(0.0)
    };
    // A row for each end of a piece, of what it costs from each beginning.
    let costs: Vec<Vec<f64>> =
        (0..=count).map(|to| (0..=to.saturating_sub(PIECE_MIN)).map(|from| cost(from, to.max(1))).collect()).collect();
    let mut best: Vec<f64> = (0..=count).map(|to| if to < PIECE_MIN { f64::INFINITY } else { cost(0, to) }).collect();
    let mut totals = vec![best[count]];
    for _ in 1..PIECES_MAX {
        best = costs
            .iter()
            .enumerate()
            .map(|(to, costs)| if to < 2 * PIECE_MIN { f64::INFINITY } else { least_sum(&best[..costs.len()], costs) })
            .collect();
        totals.push(best[count]);
    }
    totals
}

/// The least sum of two numbers that stand at the same place, four at once.
fn least_sum(a: &[f64], b: &[f64]) -> f64 {
    let least = |x: f64, y: f64| if x < y { x } else { y };
    let (a_fours, a_rest) = a.as_chunks::<4>();
    let (b_fours, b_rest) = b.as_chunks::<4>();
    let mut found = [f64::INFINITY; 4];
    for (a, b) in a_fours.iter().zip(b_fours) {
        for lane in 0..4 {
            found[lane] = least(a[lane] + b[lane], found[lane]);
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(a, b)| a + b).fold(f64::INFINITY, least);
    found.into_iter().fold(rest, least)
}

/// The median.
pub(super) fn median(values: &[f64]) -> f64 {
    quantile(&mut values.to_vec(), 0.5)
}

/// A standard deviation that outliers don't move: 1.4826 times the median distance from the median (Hampel, 1974).
pub(super) fn deviation(values: &[f64]) -> f64 {
    let middle = median(values);
    1.4826 * median(&values.iter().map(|value| (value - middle).abs()).collect::<Vec<_>>())
}

/// Where the level shifts and by how much: the penalised least squares of PELT (Killick, Fearnhead and Eckley, 2012).
pub(super) fn level_shifts(y: &[f64], penalty: f64) -> Vec<(usize, f64)> {
    let count = y.len();
    let mut sums = vec![(0.0, 0.0)];
    let origin = y.first().copied().unwrap_or(0.0);
    for y in y {
        let (sum, squares) = sums[sums.len() - 1];
        sums.push((sum + (y - origin), squares + (y - origin).powi(2)));
    }
    let cost = |from: usize, to: usize| {
        let (sum, squares) = (sums[to].0 - sums[from].0, sums[to].1 - sums[from].1);
        (squares - sum * sum / (to - from) as f64).max(0.0)
    };
    // At most some hundred blocks: the pruning of PELT would save nothing.
    let mut best = vec![(-penalty, 0)];
    for to in 1..=count {
        let choice = (0..to)
            .map(|from| (best[from].0 + cost(from, to) + penalty, from))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .unwrap_or((0.0, 0));
        best.push(choice);
    }
    let mut starts = Vec::new();
    let mut at = count;
    while at > 0 {
        starts.push(at);
        at = best[at].1;
    }
    starts.push(0);
    starts.reverse();
    starts
        .windows(3)
        .map(|piece| {
            let mean = |from: usize, to: usize| (sums[to].0 - sums[from].0) / (to - from) as f64;
            (piece[1], mean(piece[1], piece[2]) - mean(piece[0], piece[1]))
        })
        .collect()
}

/// A trend with lasting steps taken off.
#[derive(Clone, Debug)]
pub(super) struct Fit {
    pub(super) trend: Trend,
    /// The steps that were taken off ...
    pub(super) taken_off: Vec<Step>,
    /// ... and what they left.
    pub(super) level: Vec<f64>,
}

/// Fits.
pub(super) fn fit(u: &[f64], y: &[f64], season: &Season) -> Option<Fit> {
    let mut level = y.to_vec();
    let taken_off = take_off(&mut level);
    let trend = trend::fit(u, &level, &season.columns)?;
    Some(Fit { trend, taken_off, level })
}

impl Fit {
    /// By how much the trend's BIC beats that of the best few lasting steps. Positive: a trend tells it better.
    pub(super) fn evidence(&self, season: &Season) -> f64 {
        let count = self.level.len() as f64;
        let free = season.take_off(&self.level);
        let mean = free.iter().sum::<f64>() / count;
        let least = 1e-9 * free.iter().map(|y| (y - mean).powi(2)).sum::<f64>();
        let steps = piecewise_constant(&free)
            .into_iter()
            .enumerate()
            .map(|(more, squares)| count * (squares.max(least) / count).ln() + (2 * more + 1) as f64 * count.ln())
            .fold(f64::INFINITY, f64::min);
        steps + season.columns.len() as f64 * count.ln()
            - self.trend.bic
            - 2.0 * count.ln() * self.taken_off.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::super::trend::tests::noise;
    use super::*;

    #[test]
    fn two_deploys_are_taken_off_and_a_ramp_is_not() {
        let level = |i: usize| [10.0, 30.0, 50.0][i / 32] + 0.5 * noise(i as u64);
        let mut steps: Vec<f64> = (0..96).map(level).collect();
        assert_eq!(take_off(&mut steps).len(), 2);
        assert!(steps.iter().all(|y| (y - 10.0).abs() < 3.0), "{steps:?}");
        let mut ramp: Vec<f64> = (0..96).map(|i| i as f64 + noise(i)).collect();
        assert_eq!(take_off(&mut ramp), []);
    }

    #[test]
    fn pieces_are_found_by_least_squares() {
        let y: Vec<f64> = (0..30).map(|i| f64::from(i / 10)).collect();
        let squares = piecewise_constant(&y);
        assert!((squares[0] - 20.0).abs() < 1e-9 && squares[2] < 1e-9, "{squares:?}");
        let shifts = level_shifts(&y, 0.5);
        assert_eq!(shifts.iter().map(|shift| shift.0).collect::<Vec<_>>(), [10, 20]);
        assert!(shifts.iter().all(|shift| (shift.1 - 1.0).abs() < 1e-9));
    }
}
