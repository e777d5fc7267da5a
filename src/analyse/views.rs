//! The views of a series: each looks past a disturbance that hides a leak from the others.
//!
//! | view | looks past |
//! |---|---|
//! | floor | load above the floor |
//! | opened floor | bursts that last, by a grey-scale opening (Serra, 1982) |
//! | second half | the ramp of a start |
//! | envelope | anything that is given back later: the level that was never left again |
//! | staircase | quiet times between rare leaks: a point process, tested for dying out (Laplace) |

use super::bins::{Block, quantile};
use super::season::Season;
use super::start;
use super::steps::{self, Fit, deviation, level_shifts, median};
use super::trend::Trend;
use crate::model::{Timestamp, duration_words};

// The thresholds of the views were found on one labelled set of 276 simulated series and held on two others; where a
// number has a reason of its own it's given beside it.

/// What a floor, a floor without its bursts and a second half must rise by: standard errors, and times the noise.
const FLOOR: (f64, f64) = (2.6, 2.2);
const OPENED: (f64, f64) = (3.3, 2.2);
const HALF: (f64, f64) = (2.6, 1.0);
/// By how much a trend must tell the floor better than three lasting steps, in units of the BIC.
const AGAINST_STEPS: f64 = 3.0;
/// How many times its usual height above the envelope the envelope itself must have risen.
const ENVELOPE: f64 = 1.4;
/// From so many times on the bursts above it say nothing against it.
const TALL: f64 = 6.0;
/// A rise of fewer of the smallest steps than this is a coincidence of a few counts.
const QUANTA_MIN: f64 = 2.5;

/// A series as it is looked at: one segment of it, in blocks.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) blocks: Vec<Block>,
    pub(super) season: Season,
    pub(super) start: Timestamp,
    pub(super) span_seconds: f64,
    /// The smallest step of the series.
    pub(super) quantum: f64,
    /// True where the blocks are the feet of a saw.
    pub(super) is_saw: bool,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Seen {
    /// A rise as a leak's.
    Rise(Rise),
    /// A rise, and why it may be something else.
    Doubt(String),
    /// The same, and it's no leak as long as this holds: it rises from nothing.
    Start(&'static str),
    /// Too little to see anything in; what is missing, in words.
    TooLittle(String),
    /// Nothing rises.
    Nothing,
}

/// A rise that a view takes for a leak. Per span; the onset is a share of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rise {
    pub(super) view: &'static str,
    pub(super) slope: f64,
    pub(super) error: f64,
    pub(super) onset: f64,
    /// True of a view that noise deceives more often than the others.
    pub(super) is_weak: bool,
    pub(super) reason: String,
}

impl Scene {
    /// The feet of a saw in the place of blocks, pooled to at most 96.
    pub(super) fn of_teeth(feet: &[(Timestamp, f64)], start: Timestamp, end: Timestamp, quantum: f64) -> Scene {
        let span_seconds = end.seconds_since(start).max(1e-6);
        let blocks = feet
            .chunks(feet.len().div_ceil(96).max(1))
            .map(|chunk| {
                let at = chunk.iter().map(|foot| foot.0.seconds_since(start)).sum::<f64>() / chunk.len() as f64;
                let level = quantile(&mut chunk.iter().map(|foot| foot.1).collect::<Vec<_>>(), 0.5);
                Block { u: at / span_seconds, floor: level, median: level }
            })
            .collect();
        Scene { blocks, season: Season::default(), start, span_seconds, quantum, is_saw: true }
    }

    fn growth_min(&self) -> f64 {
        QUANTA_MIN * self.quantum
    }
}

/// Two trends that begin no further from each other than this share of the time are one rise.
const SAME_KNEE: f64 = 0.15;

impl Rise {
    /// The mean of two estimates of the slope is nearer than either, where both are of the same rise: their noises differ.
    fn beside(self, other: &Trend) -> Rise {
        let is_same = (self.onset - other.knee).abs() < SAME_KNEE;
        Rise { slope: if is_same { self.slope.midpoint(other.slope) } else { self.slope }, ..self }
    }
}

/// What every view begins with: the fits of the floor and of the medians.
struct Base {
    floor: Fit,
    medians: Fit,
    /// By how much a trend tells floor and medians better than lasting steps: the less, and the more of the two.
    less: f64,
    more: f64,
}

/// Asks the views in turn.
pub(super) fn look(scene: &Scene, steps: &mut Vec<String>) -> Seen {
    let u: Vec<f64> = scene.blocks.iter().map(|block| block.u).collect();
    let floor: Vec<f64> = scene.blocks.iter().map(|block| block.floor).collect();
    let medians: Vec<f64> = scene.blocks.iter().map(|block| block.median).collect();
    if let Some(period) = scene.season.period_seconds {
        steps.push(format!("repeats every {}", duration_words(period)));
    }
    if scene.is_saw && u.len() < 14 {
        return few_teeth(scene, &u, &floor).map_or(Seen::Nothing, Seen::Rise);
    }
    let fit = |y: &[f64]| steps::fit(&u, y, &scene.season);
    let Some(floor_fit) = fit(&floor) else { return Seen::Nothing };
    // The feet of a saw are both.
    let medians_fit = if scene.is_saw { Some(floor_fit.clone()) } else { fit(&medians) };
    let Some(medians_fit) = medians_fit else { return Seen::Nothing };
    let (of_floor, of_medians) = (floor_fit.evidence(&scene.season), medians_fit.evidence(&scene.season));
    let (less, more) = (of_floor.min(of_medians), of_floor.max(of_medians));
    let base = Base { floor: floor_fit, medians: medians_fit, less, more };
    let trend = &base.floor.trend;
    steps.push(format!(
        "floor: rises by {} ({:.1} standard errors, autocorrelation {:.2}) from {:.0}% of the time on, noise {}",
        figure(trend.growth()),
        trend.t(),
        trend.rho,
        100.0 * trend.knee,
        figure(trend.noise)
    ));
    steps.push(format!(
        "a rise against up to three lasting steps: {of_floor:+.0} (floor), {of_medians:+.0} (median); it takes +3 in both"
    ));
    let after = |share: f64| duration_words(share * scene.span_seconds);
    for (at, jump) in &base.floor.taken_off {
        steps.push(format!("a lasting step by {} after {}", figure(*jump), after(u[*at])));
    }
    if let Some(filled) = trend.filled.filter(|rise| *rise > 0.0) {
        steps.push(format!("a start that rose by {} and ended", figure(filled)));
    }
    if !scene.is_saw
        && let Some(seen) = start::seen(scene, &u, &floor, &medians, &base.floor)
    {
        return seen;
    }
    by_floor(scene, &base)
        .or_else(|| by_opened_floor(scene, &u, &floor, &base))
        .or_else(|| by_second_half(scene, &u, &floor, &medians, &base))
        .or_else(|| by_envelope(scene, &u, &floor, &base))
        .or_else(|| by_staircase(scene, &u, &floor))
        .map(Seen::Rise)
        .or_else(|| doubt(scene, &base.floor, of_floor).map(Seen::Doubt))
        .unwrap_or(Seen::Nothing)
}

/// Why the trend is not a leak, that must rise by `z` standard errors and `g` times its noise; `None` where it's one.
fn objection(scene: &Scene, trend: &Trend, (z, g): (f64, f64)) -> Option<&'static str> {
    let growth = trend.growth();
    // A season costs freedom, and near a unit root the errors are underrated.
    let z = z + if scene.season.columns.is_empty() { 0.0 } else { 3.0 } + 3.5 * (trend.rho - 0.9).max(0.0);
    if trend.t() <= z {
        Some("no more than its noise may")
    } else if !exceeds(growth, (g * trend.noise).max(scene.growth_min())) {
        Some("by little against its noise")
    } else if trend.filled.is_some_and(|rise| growth <= 0.33 * (growth + rise)) {
        Some("it fills up as a cache does")
    } else if trend.late <= 0.12 * trend.slope || trend.latest.0 + trend.latest.1 <= 0.26 * trend.slope {
        Some("it slows down")
    } else if trend.knee >= 0.88 {
        Some("it began too short a time ago")
    } else {
        None
    }
}

/// What a rise that is sure by itself lacks for a leak.
fn doubt(scene: &Scene, floor: &Fit, evidence: f64) -> Option<String> {
    let trend = &floor.trend;
    if trend.t() <= FLOOR.0 || !exceeds(trend.growth(), (FLOOR.1 * trend.noise).max(scene.growth_min())) {
        return None;
    }
    Some(match objection(scene, trend, FLOOR) {
        Some(objection) => objection.into(),
        None if !floor.taken_off.is_empty() || evidence < AGAINST_STEPS => "in a few lasting steps".into(),
        None => "not in all that it stands on".into(),
    })
}

/// The floor itself, with the median beside it.
fn by_floor(scene: &Scene, base: &Base) -> Option<Rise> {
    let (trend, medians) = (&base.floor.trend, &base.medians.trend);
    let is_leak =
        objection(scene, trend, FLOOR).is_none() && medians.t() > 1.0 && base.more > -15.0 && base.less > AGAINST_STEPS;
    is_leak.then(|| rise_of("the floor", trend, "its floor rises").beside(medians))
}

/// The floor with bursts of up to 7 blocks erased.
fn by_opened_floor(scene: &Scene, u: &[f64], floor: &[f64], base: &Base) -> Option<Rise> {
    if scene.is_saw || base.medians.trend.t() <= 3.0 {
        return None;
    }
    let fit = steps::fit(u, &opened(floor), &scene.season)?;
    let is_leak =
        objection(scene, &fit.trend, OPENED).is_none() && (base.more > -25.0 || fit.evidence(&scene.season) > -25.0);
    is_leak.then(|| {
        rise_of("the floor without its bursts", &fit.trend, "its floor without bursts rises").beside(&base.floor.trend)
    })
}

/// What came after the first 45% of the time, whatever the start did.
fn by_second_half(scene: &Scene, u: &[f64], floor: &[f64], medians: &[f64], base: &Base) -> Option<Rise> {
    const FROM: f64 = 0.45;
    let begin = u.partition_point(|at| *at < FROM);
    if !base.floor.taken_off.is_empty() || base.floor.trend.slope <= 0.0 || base.more <= -25.0 || u.len() - begin < 16 {
        return None;
    }
    let part: Vec<f64> = u[begin..].iter().map(|at| (at - FROM) / (1.0 - FROM)).collect();
    let season = scene.season.since(begin);
    let trend = steps::fit(&part, &floor[begin..], &season)?.trend;
    if trend.knee >= 0.3 || objection(scene, &trend, HALF).is_some() {
        return None;
    }
    let upper = steps::fit(&part, &medians[begin..], &season)?.trend;
    (upper.t() > 3.0).then(|| {
        let mut rise = rise_of("its second half", &trend, "its floor still rises after the start");
        rise.slope /= 1.0 - FROM;
        rise.error /= 1.0 - FROM;
        rise.onset = base.floor.trend.knee;
        rise.is_weak = true;
        rise
    })
}

/// What lies more than this many times the usual height above the envelope is a burst, and is cut off.
const CUT: f64 = 3.0;

/// The level that was never left again. It rises for a leak in even shares, each third of the time some.
fn by_envelope(scene: &Scene, u: &[f64], floor: &[f64], base: &Base) -> Option<Rise> {
    if !scene.season.columns.is_empty() {
        return None;
    }
    let mut envelope = floor.to_vec();
    for i in (0..envelope.len().saturating_sub(1)).rev() {
        envelope[i] = envelope[i].min(envelope[i + 1]);
    }
    let at = |share: f64| envelope[u.partition_point(|u| *u < share).min(u.len() - 1)];
    let growth = at(0.9) - at(0.05);
    let above = median(&floor.iter().zip(&envelope).map(|(floor, low)| floor - low).collect::<Vec<_>>());
    if !exceeds(growth, (ENVELOPE * above).max(scene.growth_min()).max(0.0)) {
        return None;
    }
    let share = |from: f64, to: f64| (at(to) - at(from)) / growth;
    if !exceeds(share(0.05, 0.33), 0.033) || !exceeds(share(0.33, 0.62), 0.033) || !exceeds(share(0.62, 0.9), 0.08) {
        return None;
    }
    // With what lies far above cut off: bursts are neither trend nor steps.
    let cut: Vec<f64> = floor.iter().zip(&envelope).map(|(floor, low)| floor.min(low + CUT * above)).collect();
    let of_cut = steps::fit(u, &cut, &scene.season)?;
    let evidence = of_cut.evidence(&scene.season);
    if objection(scene, &of_cut.trend, OPENED).is_none() && evidence > AGAINST_STEPS {
        return Some(rise_of("its floor with bursts cut off", &of_cut.trend, "its floor rises beneath the bursts"));
    }
    let is_tall = above > 0.0 && exceeds(growth, TALL * above);
    if base.more <= -65.0 && evidence <= 0.0 && !is_tall {
        return None;
    }
    // Spread over many small rises (their effective number) whose middle is the middle of the time.
    let (mut sum, mut squares, mut moment) = (0.0, 0.0, 0.0);
    for i in 1..u.len() {
        if (0.02..=0.92).contains(&u[i]) {
            let up = envelope[i] - envelope[i - 1];
            (sum, squares, moment) = (sum + up, squares + up * up, moment + up * u[i]);
        }
    }
    if sum <= 0.0 || sum * sum / squares <= 4.4 || !(0.31..0.70).contains(&(moment / sum)) {
        return None;
    }
    let slope = growth / 0.85;
    Some(Rise {
        view: "what was never given back",
        slope,
        error: base.floor.trend.error.max(slope * (squares / (sum * sum)).sqrt() / 2.0),
        onset: if base.floor.trend.slope > 0.0 { base.floor.trend.knee } else { 0.0 },
        is_weak: true,
        reason: "what it never gives back rises".into(),
    })
}

/// Seven steps up and more, next to none down, that do not die out.
fn by_staircase(scene: &Scene, u: &[f64], floor: &[f64]) -> Option<Rise> {
    if scene.is_saw {
        return None;
    }
    let level = opened(floor);
    let differences: Vec<f64> = level.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let range = quantile(&mut level.clone(), 1.0) - quantile(&mut level.clone(), 0.0);
    let noise = match deviation(&differences) / 2f64.sqrt() {
        noise if noise > 1e-9 * range => noise,
        _ => 0.3 * scene.quantum,
    };
    let penalty = 3.5 * noise * noise * (u.len() as f64).ln();
    let shifts: Vec<(f64, f64)> = level_shifts(&level, penalty)
        .into_iter()
        .filter(|(_, jump)| jump.abs() > 1.5 * noise)
        .map(|(at, jump)| (u[at], jump))
        .collect();
    let ups: Vec<(f64, f64)> = shifts.iter().copied().filter(|shift| shift.1 > 0.0).collect();
    let count = ups.len() as f64;
    if ups.len() < 5 {
        return None;
    }
    let sum: f64 = ups.iter().map(|up| up.1).sum();
    let squares: f64 = ups.iter().map(|up| up.1 * up.1).sum();
    let down: f64 = shifts.iter().filter(|shift| shift.1 < 0.0).map(|shift| -shift.1).sum();
    let first = ups[0].0;
    let length = 1.0 - first;
    if down / sum >= 0.125 || sum * sum / squares <= 3.9 || length <= 0.25 || !exceeds(sum, scene.growth_min()) {
        return None;
    }
    // Laplace: steps that come ever more seldom are a pool that fills.
    let later = &ups[1..];
    let middle = first + length / 2.0;
    let deviations = length / (12.0 * later.len() as f64).sqrt();
    let plain = later.iter().map(|up| up.0).sum::<f64>() / later.len() as f64;
    let weight: f64 = later.iter().map(|up| up.1).sum();
    let weighted = later.iter().map(|up| up.0 * up.1).sum::<f64>() / weight;
    let quiet = (1.0 - ups[ups.len() - 1].0) / length;
    if (plain - middle) / deviations <= -1.2
        || (weighted - middle) / deviations <= -1.5
        || (1.0 - quiet).powf(count) <= 0.04
    {
        return None;
    }
    let slope = sum / length;
    let mean = sum / count;
    let variation = ((squares / count - mean * mean).max(0.0)).sqrt() / mean;
    Some(Rise {
        view: "its steps",
        slope,
        // INTERVAL standard errors are wide for a count of steps, whose spread is Poisson's own.
        error: slope * ((1.0 + variation * variation) / count).sqrt() / 2.0,
        onset: first,
        is_weak: false,
        reason: format!("{} steps up, and next to none down", ups.len()),
    })
}

/// A saw of few teeth: their feet must rise by all of four simple measures.
fn few_teeth(scene: &Scene, u: &[f64], feet: &[f64]) -> Option<Rise> {
    // t of a least-squares slope that 1 of 1,000 saws without a leak exceeds, for 5, 6, ... 13 feet.
    const CRITICAL: [f64; 9] = [7.5, 6.0, 5.2, 4.8, 4.5, 4.3, 4.1, 4.0, 3.9];
    let count = feet.len();
    let critical = CRITICAL.get(count.checked_sub(5)?)?;
    let n = count as f64;
    let (mut pairs, mut slopes) = (0.0, Vec::new());
    for i in 0..count {
        for j in i + 1..count {
            pairs += (feet[j] - feet[i]).partial_cmp(&0.0).map_or(0.0, |order| f64::from(order as i8));
            slopes.push((feet[j] - feet[i]) / (u[j] - u[i]).max(1e-9));
        }
    }
    // Mann (1945) and Kendall; Sen (1968).
    let mann_kendall = pairs / (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    let sen = median(&slopes);
    let (mean_u, mean_y) = (u.iter().sum::<f64>() / n, feet.iter().sum::<f64>() / n);
    let sxx: f64 = u.iter().map(|u| (u - mean_u).powi(2)).sum();
    let sxy: f64 = u.iter().zip(feet).map(|(u, y)| (u - mean_u) * (y - mean_y)).sum();
    let slope = sxy / sxx;
    let left: Vec<f64> = u.iter().zip(feet).map(|(u, y)| y - mean_y - slope * (u - mean_u)).collect();
    let error = (left.iter().map(|left| left * left).sum::<f64>() / (n - 2.0) / sxx).sqrt().max(1e-9 * slope.abs());
    let sure = mann_kendall > 2.2 || slope / error > 1.3 * critical;
    let half = median(&feet[..count / 2]);
    let last_third = &feet[count - (count / 3).max(1)..];
    let last = last_third.iter().sum::<f64>() / last_third.len() as f64;
    let is_leak = sure
        && sen > scene.growth_min().max(2.0 * deviation(&left))
        && median(&feet[count / 2..]) > half
        && last > half + 0.15 * sen;
    is_leak.then(|| Rise {
        view: "the feet of its falls",
        slope: sen,
        error: error.max(0.04 * sen),
        onset: 0.0,
        is_weak: false,
        reason: format!("it falls back {count} times, each time to a higher level"),
    })
}

fn rise_of(view: &'static str, trend: &Trend, reason: &str) -> Rise {
    Rise { view, slope: trend.slope, error: trend.error, onset: trend.knee, is_weak: false, reason: reason.into() }
}

/// Erases what rises for fewer than 7 blocks: a rolling minimum, then a rolling maximum.
fn opened(y: &[f64]) -> Vec<f64> {
    const HALF: usize = 3;
    let rolling = |y: &[f64], pick: fn(f64, f64) -> f64| -> Vec<f64> {
        (0..y.len())
            .map(|i| {
                y[i.saturating_sub(HALF)..(i + HALF + 1).min(y.len())].iter().copied().reduce(pick).unwrap_or(y[i])
            })
            .collect()
    };
    rolling(&rolling(y, f64::min), f64::max)
}

/// Above, and not by rounding alone: counts often stand at a bound exactly, whatever the unit.
fn exceeds(value: f64, bound: f64) -> bool {
    value > bound + 1e-9 * bound.abs()
}

/// A number of some three digits.
pub(super) fn figure(value: f64) -> String {
    let digits = if value == 0.0 { 0 } else { (2 - value.abs().log10().floor() as i32).clamp(0, 6) };
    format!("{value:.*}", digits as usize)
}

#[cfg(test)]
mod tests {
    use super::super::trend::tests::noise;
    use super::*;

    /// A scene of 96 blocks of counts.
    fn scene(level: impl Fn(usize) -> f64) -> Scene {
        let block = |i: usize| {
            let floor = (level(i) + 0.7 * noise(i as u64)).round();
            Block { u: (i as f64 + 0.5) / 96.0, floor, median: floor + 2.0 }
        };
        Scene {
            blocks: (0..96).map(block).collect(),
            season: Season::default(),
            start: Timestamp(0),
            span_seconds: 3_600.0,
            quantum: 1.0,
            is_saw: false,
        }
    }

    fn rise_in(scene: &Scene) -> Option<Rise> {
        match look(scene, &mut Vec::new()) {
            Seen::Rise(rise) => Some(rise),
            _ => None,
        }
    }

    fn seen(level: impl Fn(usize) -> f64) -> Option<Rise> {
        rise_in(&scene(level))
    }

    #[test]
    fn a_leak_is_seen_under_each_disturbance() {
        let leak = |i: usize| 10.0 + i as f64 / 2.0;
        assert_eq!(seen(leak).unwrap().view, "the floor");
        assert!(seen(|i| leak(i) + if i % 24 < 5 { 60.0 } else { 0.0 }).is_some(), "bursts");
        assert!(seen(|i| leak(i) + 40.0 * (1.0 - (-(i as f64) / 8.0).exp())).is_some(), "a start that fills up");
        let rare = seen(|i| 10.0 + 6.0 * (i / 9) as f64).unwrap();
        assert!((rare.slope - 60.0).abs() < 15.0, "rare leaks: {rare:?}");
    }

    #[test]
    fn what_is_no_leak_is_not_seen() {
        assert_eq!(seen(|_| 40.0), None);
        assert_eq!(seen(|i| if i < 30 { 20.0 } else { 60.0 }), None, "a deploy");
        assert_eq!(seen(|i| 60.0 * (1.0 - (-(i as f64) / 12.0).exp())), None, "a cache that fills");
        assert_eq!(seen(|i| 100.0 - i as f64), None, "a fall");
        assert_eq!(seen(|i| if (50..60).contains(&i) { 90.0 } else { 20.0 }), None, "a burst");
    }

    #[test]
    fn a_ramp_that_has_not_ended_is_told_as_a_doubt() {
        let mut steps = Vec::new();
        let step = look(&scene(|i| if i < 40 { 20.0 } else { 55.0 }), &mut steps);
        assert!(matches!(&step, Seen::Nothing | Seen::Doubt(_)) && !steps.is_empty(), "{step:?}");
        let fills = look(&scene(|i| 20.0 + 300.0 * (1.0 + i as f64 / 2.0).ln()), &mut steps);
        assert!(matches!(&fills, Seen::Doubt(doubt) if doubt.contains("slows down")), "{fills:?}");
        let starts = look(&scene(|i| 0.02 * (i * i) as f64), &mut steps);
        assert!(matches!(starts, Seen::Start(_)), "{starts:?}");
    }

    #[test]
    fn few_teeth_must_rise_one_and_all() {
        let teeth = |foot: fn(usize) -> f64| {
            let feet: Vec<(Timestamp, f64)> =
                (0..8).map(|i| (Timestamp(1_000_000 * (i as i64 + 1)), foot(i))).collect();
            rise_in(&Scene::of_teeth(&feet, Timestamp(0), Timestamp(9_000_000), 1.0))
        };
        assert!(teeth(|i| 10.0 + 5.0 * i as f64 + (i % 2) as f64).is_some());
        assert!(teeth(|i| 10.0 + 5.0 * (i % 3) as f64).is_none());
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!([0.0, 0.123_45, 12.345, 8_329_053.0].map(figure), ["0", "0.123", "12.3", "8329053"]);
    }
}
