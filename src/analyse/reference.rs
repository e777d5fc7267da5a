//! Our statistics held to those of scipy, numpy, pymannkendall and ruptures; `tests/fixtures/reference/make.py` wrote them.

use super::bins::quantile;
use super::distribution::{normal_cdf, poisson_interval};
use super::steps::{deviation, level_shifts, median};
use super::trend;
use super::views::{self, Scene, Seen};
use crate::model::Timestamp;
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    normal: Vec<(f64, f64)>,
    poisson: Vec<(f64, f64, f64)>,
    quantiles: Vec<Quantiles>,
    lines: Vec<Line>,
    shifts: Vec<Shifts>,
    feet: Vec<Feet>,
}

#[derive(Deserialize)]
struct Quantiles {
    values: Vec<f64>,
    shares: Vec<f64>,
    quantiles: Vec<f64>,
    median: f64,
    deviation: f64,
}

#[derive(Deserialize)]
struct Line {
    u: Vec<f64>,
    y: Vec<f64>,
    slope: f64,
    error: f64,
    rho: f64,
    least_squares: Slope,
}

#[derive(Deserialize)]
struct Slope {
    slope: f64,
    error: f64,
}

#[derive(Deserialize)]
struct Shifts {
    y: Vec<f64>,
    penalty: f64,
    breaks: Vec<usize>,
}

#[derive(Deserialize)]
struct Feet {
    u: Vec<f64>,
    y: Vec<f64>,
    sen: f64,
    s: f64,
    variance: f64,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("../../tests/fixtures/reference/reference.json")).unwrap()
}

fn close(a: f64, b: f64, share: f64) -> bool {
    (a - b).abs() <= share * a.abs().max(b.abs())
}

#[test]
fn the_normal_distribution_is_that_of_scipy() {
    for (z, p) in reference().normal {
        assert!((normal_cdf(z) - p).abs() < 1.5e-7, "{z}: {} is not {p}", normal_cdf(z));
    }
}

#[test]
fn poisson_limits_are_those_of_chi_squared() {
    for (count, low, high) in reference().poisson {
        let (got_low, got_high) = poisson_interval(count);
        // The cube root is at its worst for the lower limit of a small count.
        let least = if count < 2.0 { 0.1 } else { 0.01 * count };
        let told = format!("{count}: {got_low} for {low}, {got_high} for {high}");
        assert!((got_low - low).abs() < least && close(got_high, high, 0.01), "{told}");
    }
}

#[test]
fn quantiles_are_those_of_numpy() {
    for mut case in reference().quantiles {
        for (share, expected) in case.shares.iter().zip(&case.quantiles) {
            assert!(close(quantile(&mut case.values, *share), *expected, 1e-12), "{share} of {:?}", case.values);
        }
        assert!(
            close(median(&case.values), case.median, 1e-12) && close(deviation(&case.values), case.deviation, 1e-9)
        );
    }
}

#[test]
fn a_line_is_that_of_generalised_least_squares() {
    let mut straight = 0;
    for case in reference().lines {
        let found = trend::fit(&case.u, &case.y, &[]).unwrap();
        // Where the noise asks for a knee, it's another model.
        if found.knee > 0.0 || found.filled.is_some() {
            continue;
        }
        straight += 1;
        assert!(
            close(found.slope, case.slope, 1e-6) && close(found.error, case.error, 1e-6),
            "{found:?}, {}",
            case.slope
        );
        assert!((found.rho - case.rho).abs() < 1e-6, "{} is not {}", found.rho, case.rho);
        if case.rho == 0.0 {
            let plain = &case.least_squares;
            assert!(close(found.slope, plain.slope, 1e-9) && close(found.error, plain.error, 1e-9), "{found:?}");
        }
    }
    assert!(straight >= 4, "{straight}");
}

#[test]
fn level_shifts_are_those_of_pelt() {
    for case in reference().shifts {
        let found: Vec<usize> = level_shifts(&case.y, case.penalty).into_iter().map(|shift| shift.0).collect();
        assert_eq!(found, case.breaks, "{:?}", case.y);
    }
}

#[test]
fn feet_rise_by_sens_slope() {
    const SPAN: f64 = 1e6;
    for case in reference().feet {
        let at = |u: f64| Timestamp::from_seconds(SPAN * u);
        let feet: Vec<(Timestamp, f64)> = case.u.iter().zip(&case.y).map(|(u, y)| (at(*u), *y)).collect();
        let scene = Scene::of_teeth(&feet, at(0.0), at(1.0), 0.001);
        // Mann-Kendall calls each of them a trend.
        assert!(case.s / case.variance.sqrt() > 2.2);
        let Seen::Rise(rise) = views::look(&scene, &mut Vec::new()) else { panic!("{:?}", case.y) };
        assert!(close(rise.slope, case.sen, 1e-6), "{rise:?} is not {}", case.sen);
    }
}
