//! A straight rise that begins at some moment, beside what repeats and what fills up.
//!
//! The model is a level, a season, a hinge `max(0, u - knee)` and, where the data ask for it, a saturation
//! `1 - exp(-u / tau)`; knee and tau are chosen by the BIC (Schwarz, 1978). The errors of such series hang together
//! from block to block, so the slope's error comes from a second fit under AR(1) errors (Prais and Winsten, 1954).
//! Each coefficient is found by regressing out the other columns first (Frisch, Waugh and Lovell).

/// Knees that are tried: 0 and 24 more up to three quarters of the span; a later one has too little after it.
const KNEES: usize = 24;
const KNEE_FIRST: f64 = 0.06;
const KNEE_LAST: f64 = 0.75;
/// Times in which a ramp fills up, as shares of the span.
const TAUS: [f64; 6] = [0.02, 0.04, 0.07, 0.11, 0.16, 0.22];
const TAU_KNEES: [f64; 3] = [0.0, 0.3, 0.5];
/// What a candidate must win beyond its parameters, for there are so many of them.
const SEARCH_COST: f64 = 4.0;
/// The latest slopes are read from no fewer points than this.
const LATE_POINTS_MIN: usize = 8;
/// Above this the errors of neighbours can't be told from a trend.
const RHO_MAX: f64 = 0.97;

/// A fitted rise. Slopes are per span, not per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Trend {
    pub(super) slope: f64,
    /// The slope's standard error under AR(1) errors.
    pub(super) error: f64,
    /// Where the rise begins, as a share of the span.
    pub(super) knee: f64,
    /// Height of the ramp that filled up before or beside it, where there is one.
    pub(super) filled: Option<f64>,
    /// Standard deviation of what is left over.
    pub(super) noise: f64,
    /// Autocorrelation of what is left over.
    pub(super) rho: f64,
    /// The slope over the last 40% of the time since the knee ...
    pub(super) late: f64,
    /// ... and over the last 25%, with its error.
    pub(super) latest: (f64, f64),
    /// The BIC of the model, to be held against one of steps alone.
    pub(super) bic: f64,
}

impl Trend {
    /// Slope over its error.
    pub(super) fn t(&self) -> f64 {
        if self.error > 0.0 { self.slope / self.error } else { 0.0 }
    }

    /// How much it rose since its beginning.
    pub(super) fn growth(&self) -> f64 {
        self.slope * (1.0 - self.knee)
    }
}

/// Fits; `u` from 0 to 1, `season` the columns of what repeats. `None` with fewer than 12 points or no variation.
pub(super) fn fit(u: &[f64], y: &[f64], season: &[Vec<f64>]) -> Option<Trend> {
    let count = u.len() as f64;
    if u.len() < 12 || u.len() <= season.len() + 6 {
        return None;
    }
    let mut basis = Basis::constant(u.len());
    season.iter().for_each(|column| basis.add(column));
    let rest = basis.residual(y);
    let total = dot(&rest, &rest);
    let scale = y.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    if total <= count * (1e-12 * scale).powi(2) {
        return None;
    }
    // A perfect fit has a sum of squares of nothing but rounding, whose logarithm would mean something else each time.
    let least = 1e-9 * total;
    let params = 2.0 + season.len() as f64;
    let bic = |squares: f64, extra: f64, search: f64| {
        count * (squares.max(least) / count).ln() + (params + extra) * count.ln() + search
    };
    let mut best = (f64::INFINITY, 0.0, None);
    let mut offer = |bic: f64, knee: f64, tau: Option<f64>| {
        if bic < best.0 {
            best = (bic, knee, tau);
        }
    };
    let explained = |rest: &[f64], column: &[f64]| {
        let (with, own) = (dot(rest, column), dot(column, column));
        if own > 1e-12 { (with / own, with * with / own) } else { (0.0, 0.0) }
    };
    offer(bic(total - explained(&rest, &basis.residual(u)).1, 0.0, 0.0), 0.0, None);
    for step in 0..KNEES {
        let knee = KNEE_FIRST + (KNEE_LAST - KNEE_FIRST) * step as f64 / (KNEES - 1) as f64;
        let (slope, gain) = explained(&rest, &basis.residual(&hinge(u, knee)));
        if slope > 0.0 {
            offer(bic(total - gain, 1.0, SEARCH_COST), knee, None);
        }
    }
    for tau in TAUS {
        let fills = basis.residual(&saturation(u, tau));
        for knee in TAU_KNEES {
            let column = basis.residual(&hinge(u, knee));
            // The 2 x 2 normal equations of the two columns, what is common to all being regressed out.
            let (aa, ab, bb) = (dot(&fills, &fills), dot(&fills, &column), dot(&column, &column));
            let (ya, yb) = (dot(&rest, &fills), dot(&rest, &column));
            let det = aa * bb - ab * ab;
            if det <= 1e-9 * aa * bb {
                continue;
            }
            let (rise, slope) = ((ya * bb - yb * ab) / det, (yb * aa - ya * ab) / det);
            if rise > 0.0 && (knee == 0.0 || slope > 0.0) {
                let extra = if knee > 0.0 { 3.0 } else { 2.0 };
                offer(bic(total - rise * ya - slope * yb, extra, SEARCH_COST), knee, Some(tau));
            }
        }
    }
    let (bic, knee, tau) = best;

    let mut nuisance: Vec<Vec<f64>> = season.to_vec();
    nuisance.extend(tau.map(|tau| saturation(u, tau)));
    let column = hinge(u, knee);
    let line = autoregressive(&nuisance, &column, y)?;
    let filled = tau.and_then(|tau| {
        let mut others = season.to_vec();
        others.push(column.clone());
        autoregressive(&others, &saturation(u, tau), y).map(|fit| fit.slope)
    });
    let late = |share: f64| {
        let from = u.partition_point(|at| *at < knee + (1.0 - knee) * (1.0 - share)).min(u.len() - LATE_POINTS_MIN);
        let season: Vec<Vec<f64>> = season.iter().map(|column| column[from..].to_vec()).collect();
        let season = if u.len() - from > 3 * season.len() + 6 { season } else { Vec::new() };
        autoregressive(&season, &u[from..], &y[from..]).map_or((0.0, 0.0), |fit| (fit.slope, fit.error))
    };
    Some(Trend {
        slope: line.slope,
        error: line.error,
        knee,
        filled,
        noise: line.noise,
        rho: line.rho,
        late: late(0.4).0,
        latest: late(0.25),
        bic,
    })
}

/// How a rise bends, by a parabola in place of the line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bend {
    /// The slope at the end over the mean slope: 1 for a line, less where it slows down.
    pub(super) late: f64,
    /// The height of the arch over its standard error; positive where it slows down.
    pub(super) t: f64,
}

/// Fits the parabola.
pub(super) fn bend(u: &[f64], y: &[f64], season: &[Vec<f64>]) -> Bend {
    // An arch that is nothing at both ends: beside it the line keeps the mean slope.
    let arch: Vec<f64> = u.iter().map(|u| u * (1.0 - u)).collect();
    let beside = |column: &[f64]| season.iter().cloned().chain([column.to_vec()]).collect::<Vec<_>>();
    match (autoregressive(&beside(u), &arch, y), autoregressive(&beside(&arch), u, y)) {
        (Some(arch), Some(line)) if arch.error > 0.0 && line.slope != 0.0 => {
            Bend { late: (line.slope - arch.slope) / line.slope, t: arch.slope / arch.error }
        }
        _ => Bend { late: 1.0, t: 0.0 },
    }
}

struct Line {
    slope: f64,
    error: f64,
    noise: f64,
    rho: f64,
}

/// The coefficient of `column` beside a level and `others`, under AR(1) errors.
fn autoregressive(others: &[Vec<f64>], column: &[f64], y: &[f64]) -> Option<Line> {
    let count = y.len() as f64;
    let params = others.len() as f64 + 2.0;
    if count < params + 3.0 {
        return None;
    }
    let mut rho = 0.0;
    let mut line = None;
    for pass in 0..3 {
        let whiten = |x: &[f64]| prais_winsten(x, rho);
        let mut basis = Basis::default();
        basis.add(&whiten(&vec![1.0; y.len()]));
        others.iter().for_each(|other| basis.add(&whiten(other)));
        let direction = basis.residual(&whiten(column));
        let rest = basis.residual(&whiten(y));
        let own = dot(&direction, &direction);
        if own <= 1e-12 {
            return None;
        }
        let slope = dot(&rest, &direction) / own;
        let left: Vec<f64> = rest.iter().zip(&direction).map(|(y, x)| y - slope * x).collect();
        let variance = dot(&left, &left) / (count - params);
        // What is left over in the scale of the data, from the first pass.
        let noise = line.as_ref().map_or(variance.sqrt(), |line: &Line| line.noise);
        line = Some(Line { slope, error: (variance / own).sqrt(), noise, rho });
        if pass < 2 {
            // Residuals of y itself under the current coefficients, for the autocorrelation.
            let plain = if pass == 0 { left } else { residuals(others, column, y, slope) };
            let products: f64 = plain.windows(2).map(|pair| pair[0] * pair[1]).sum();
            let squares = dot(&plain, &plain);
            let raw = if squares > 0.0 { products / squares } else { 0.0 };
            // Residuals of a fit look less alike than the errors are (Kendall, 1954; and one share for each parameter).
            rho = (raw + (1.0 + 4.0 * raw) / count + params / count).clamp(0.0, RHO_MAX);
        }
    }
    line
}

fn residuals(others: &[Vec<f64>], column: &[f64], y: &[f64], slope: f64) -> Vec<f64> {
    let mut basis = Basis::constant(y.len());
    others.iter().for_each(|other| basis.add(other));
    let without: Vec<f64> = y.iter().zip(column).map(|(y, x)| y - slope * x).collect();
    basis.residual(&without)
}

/// Takes the share `rho` of its predecessor off each value, and scales the first.
fn prais_winsten(x: &[f64], rho: f64) -> Vec<f64> {
    let first = x.first().map(|first| first * (1.0 - rho * rho).sqrt());
    first.into_iter().chain(x.windows(2).map(|pair| pair[1] - rho * pair[0])).collect()
}

fn hinge(u: &[f64], knee: f64) -> Vec<f64> {
    u.iter().map(|u| (u - knee).max(0.0)).collect()
}

fn saturation(u: &[f64], tau: f64) -> Vec<f64> {
    u.iter().map(|u| 1.0 - (-u / tau).exp()).collect()
}

/// Columns made orthonormal (modified Gram-Schmidt), to be regressed out.
#[derive(Clone, Debug, Default)]
pub(super) struct Basis {
    columns: Vec<Vec<f64>>,
}

impl Basis {
    /// The constant column alone.
    pub(super) fn constant(count: usize) -> Self {
        Basis { columns: vec![vec![1.0 / (count as f64).sqrt(); count]] }
    }

    /// Adds a column; one that the others span is left out.
    pub(super) fn add(&mut self, column: &[f64]) {
        let mut rest = self.residual(column);
        let (before, length) = (dot(column, column).sqrt(), dot(&rest, &rest).sqrt());
        if length > 1e-8 * before {
            rest.iter_mut().for_each(|x| *x /= length);
            self.columns.push(rest);
        }
    }

    /// What the columns leave of `x`.
    pub(super) fn residual(&self, x: &[f64]) -> Vec<f64> {
        let mut rest = x.to_vec();
        for column in &self.columns {
            let share = dot(&rest, column);
            rest.iter_mut().zip(column).for_each(|(rest, column)| *rest -= share * column);
        }
        rest
    }
}

/// The inner product, in four sums that the processor adds up at once.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a_fours, a_rest) = a.as_chunks::<4>();
    let (b_fours, b_rest) = b.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for (a, b) in a_fours.iter().zip(b_fours) {
        for lane in 0..4 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A deterministic noise of mean 0 and variance 1: the sum of twelve uniform numbers.
    pub(in super::super) fn noise(seed: u64) -> f64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
        let mut sum = -6.0;
        for _ in 0..12 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            sum += (state >> 11) as f64 / (1u64 << 53) as f64;
        }
        sum
    }

    fn grid() -> Vec<f64> {
        (0..96).map(|i| (f64::from(i) + 0.5) / 96.0).collect()
    }

    fn fitted(y: impl Fn(usize, f64) -> f64) -> Trend {
        let u = grid();
        let y: Vec<f64> = u.iter().enumerate().map(|(i, u)| y(i, *u)).collect();
        fit(&u, &y, &[]).unwrap()
    }

    #[test]
    fn a_line_in_noise_is_found_within_its_error() {
        let trend = fitted(|i, u| 5.0 + 10.0 * u + noise(i as u64));
        assert!((trend.slope - 10.0).abs() < 3.0 * trend.error, "{trend:?}");
        assert!(trend.t() > 10.0 && (0.7..1.3).contains(&trend.noise), "{trend:?}");
    }

    #[test]
    fn a_knee_is_found() {
        let trend = fitted(|i, u| 20.0 * (u - 0.5).max(0.0) + 0.3 * noise(i as u64));
        assert!((trend.knee - 0.5).abs() < 0.06 && (trend.growth() - 10.0).abs() < 1.0, "{trend:?}");
    }

    #[test]
    fn what_fills_up_is_no_slope() {
        let trend = fitted(|i, u| 50.0 * (1.0 - (-u / 0.1).exp()) + 0.5 * noise(i as u64));
        assert!(trend.filled.is_some_and(|rise| rise > 40.0) && trend.growth() < 2.0, "{trend:?}");
    }

    #[test]
    fn walks_have_wide_errors() {
        // A random walk wanders far, and says so: its slope is seldom sure.
        let sure = (0..40)
            .filter(|seed| {
                let mut at = 0.0;
                let u = grid();
                let y: Vec<f64> = (0..96)
                    .map(|i| {
                        at += noise(seed * 1_000 + i);
                        at
                    })
                    .collect();
                fit(&u, &y, &[]).is_some_and(|trend| trend.t() > 4.0)
            })
            .count();
        assert!(sure <= 8, "{sure} of 40");
    }

    #[test]
    fn nothing_comes_of_too_little() {
        assert_eq!(fit(&[0.0, 1.0], &[0.0, 1.0], &[]), None);
        let flat = grid();
        assert_eq!(fit(&flat, &vec![7.0; flat.len()], &[]), None);
    }
}
