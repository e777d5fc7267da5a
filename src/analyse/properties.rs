//! What must hold of every series: whoever counts in other units, by another clock or beside other series, gets the same
//! verdict.

use super::Analysis;
use super::trend::tests::noise;
use crate::model::{Finding, Population, Series, SeriesKey, Timestamp, Unit, Verdict};
use proptest::prelude::*;

/// Seconds between samples: a power of two, so that scaled times have no rounding of their own.
const INTERVAL_SECONDS: f64 = 8.0;

/// Points as they come in.
type Points = Vec<(f64, f64)>;

fn series(key: u32) -> Series {
    Series { key: SeriesKey(key), name: format!("value{key}"), unit: Unit::Count, process: None }
}

fn verdict_on(points: &[(f64, f64)]) -> Finding {
    let mut analysis = Analysis::new();
    analysis.add_series(&series(0));
    for (at, value) in points {
        analysis.observe(Timestamp::from_seconds(*at), &[(SeriesKey(0), *value)]);
    }
    judged(&analysis, points).findings.remove(0)
}

fn judged(analysis: &Analysis, points: &[(f64, f64)]) -> crate::model::Judged {
    let end = points.last().map_or(0.0, |point| point.0);
    analysis.judge(Timestamp::from_seconds(end), &Population::default(), &[])
}

/// What a series does beside its noise, `u` from 0 to 1; `height` in units of the noise.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Level,
    Leak { onset: f64 },
    Deploys { count: u32 },
    FillsUp { tau: f64 },
    Waves { cycles: f64 },
    LeakUnderWaves { cycles: f64 },
    RareSteps { count: u32 },
    Saw { teeth: f64, keeps: f64 },
    Falls,
}

impl Shape {
    fn at(self, u: f64, seed: u64) -> f64 {
        let wave = |cycles: f64| 0.5 + 0.5 * (std::f64::consts::TAU * cycles * u).sin();
        match self {
            Shape::Level => 0.0,
            Shape::Leak { onset } => (u - onset).max(0.0) / (1.0 - onset),
            Shape::Deploys { count } => (u * f64::from(count + 1)).floor() / f64::from(count),
            Shape::FillsUp { tau } => 1.0 - (-u / tau).exp(),
            Shape::Waves { cycles } => wave(cycles),
            Shape::LeakUnderWaves { cycles } => u + wave(cycles),
            Shape::RareSteps { count } => {
                let gone =
                    (0..count).filter(|i| u > (f64::from(*i) + 0.2 * noise(seed + u64::from(*i))) / f64::from(count));
                gone.count() as f64 / f64::from(count)
            }
            Shape::Saw { teeth, keeps } => (u * teeth).fract() + keeps * u,
            Shape::Falls => 1.0 - u,
        }
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        Just(Shape::Level),
        (0.0..0.6).prop_map(|onset| Shape::Leak { onset }),
        (1u32..4).prop_map(|count| Shape::Deploys { count }),
        (0.02..0.5).prop_map(|tau| Shape::FillsUp { tau }),
        (1.0..12.0).prop_map(|cycles| Shape::Waves { cycles }),
        (1.0..12.0).prop_map(|cycles| Shape::LeakUnderWaves { cycles }),
        (8u32..30).prop_map(|count| Shape::RareSteps { count }),
        (2.0..20.0, 0.0..1.5).prop_map(|(teeth, keeps)| Shape::Saw { teeth, keeps }),
        Just(Shape::Falls),
    ]
}

/// A series of so many samples, of whole numbers or of measurements.
fn points(count: std::ops::Range<usize>) -> impl Strategy<Value = Points> {
    (shape(), count, 0u64..1_000, 2.0f64..80.0, any::<bool>()).prop_map(|(shape, count, seed, height, counts)| {
        let value = |i: usize| {
            let level = 60.0 + height * shape.at(i as f64 / count as f64, seed) + noise(seed * 100_000 + i as u64);
            if counts { level.round() } else { level }
        };
        (0..count).map(|i| (INTERVAL_SECONDS * i as f64, value(i))).collect()
    })
}

/// What is the same but for the unit of rate, `per`, and the clock, `clock`.
fn assert_same(a: &Finding, b: &Finding, per: f64, clock: impl Fn(f64) -> f64) -> Result<(), TestCaseError> {
    let told = format!("{}\n{}\n{:#?}\n{:#?}", a.sentence, b.sentence, a.steps, b.steps);
    prop_assert_eq!(a.kind, b.kind, "{}", told);
    let close = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => (a * per - b).abs() <= 1e-5 * b.abs().max((a * per).abs()),
        (a, b) => a == b,
    };
    prop_assert!(close(a.rate_per_hour, b.rate_per_hour), "{}", told);
    // An end of the interval may be next to 0, so both are held to the rate.
    let near = |x: Option<f64>, y: Option<f64>| match (x, y, b.rate_per_hour) {
        (Some(x), Some(y), Some(rate)) => (x * per - y).abs() <= 1e-5 * rate.abs(),
        (x, y, _) => x == y,
    };
    prop_assert!(near(a.rate_low, b.rate_low) && near(a.rate_high, b.rate_high), "{}", told);
    match (a.since, b.since) {
        (Some(a), Some(b)) => {
            prop_assert!(
                (clock(a.seconds()) - b.seconds()).abs() <= 1e-3 * (1.0 + clock(1.0) - clock(0.0)),
                "{}",
                told
            );
        }
        (a, b) => prop_assert_eq!(a, b, "{}", told),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn other_units_scale_the_rate_and_nothing_else(
        points in points(60..1_200), power in -10i32..36, shift in -1e4f64..1e4
    ) {
        // By powers of two, which are exact: counts often stand at a bound, and rounding must not push them over.
        let scale = 2f64.powi(power);
        let moved: Points = points.iter().map(|(at, value)| (*at, scale * (value + shift.round()))).collect();
        assert_same(&verdict_on(&points), &verdict_on(&moved), scale, |at| at)?;
    }

    #[test]
    fn another_clock_scales_rate_and_onset_and_nothing_else(
        points in points(60..9_000), power in -1i32..3, shift in 0u32..2_000_000_000
    ) {
        // A day is a day: a longer series may show one that a shorter has no room for.
        let power = if points.len() < 1_500 { power } else { 0 };
        let clock = |at: f64| 2f64.powi(power) * at + f64::from(shift);
        let moved: Points = points.iter().map(|(at, value)| (clock(*at), *value)).collect();
        assert_same(&verdict_on(&points), &verdict_on(&moved), 2f64.powi(-power), clock)?;
    }

    #[test]
    fn a_leak_played_backwards_is_none(points in points(60..1_200)) {
        let end = points.last().map_or(0.0, |point| point.0);
        let backwards: Points = points.iter().rev().map(|(at, value)| (end - at, *value)).collect();
        let (forwards, backwards) = (verdict_on(&points), verdict_on(&backwards));
        let both = forwards.kind == Verdict::Leak && backwards.kind == Verdict::Leak;
        prop_assert!(!both, "{}\n{}", forwards.sentence, backwards.sentence);
    }

    #[test]
    fn other_series_change_nothing(one in points(100..300), other in points(100..300), first in any::<bool>()) {
        let mut analysis = Analysis::new();
        let keys = if first { [0, 1] } else { [1, 0] };
        keys.iter().for_each(|key| analysis.add_series(&series(*key)));
        for ((at, value), (_, beside)) in one.iter().zip(&other) {
            analysis.observe(Timestamp::from_seconds(*at), &[(SeriesKey(keys[0]), *value), (SeriesKey(keys[1]), *beside)]);
        }
        let seen = one.len().min(other.len());
        let judged = judged(&analysis, &one[..seen]);
        for (key, points) in keys.iter().zip([&one, &other]) {
            let beside = judged.series.iter().find(|report| report.series.key == SeriesKey(*key));
            assert_same(&verdict_on(&points[..seen]), &beside.unwrap().verdict, 1.0, |at| at)?;
        }
    }

    #[test]
    fn to_judge_changes_nothing(points in points(60..700)) {
        let mut analysis = Analysis::new();
        analysis.add_series(&series(0));
        for (seen, (at, value)) in points.iter().enumerate() {
            analysis.observe(Timestamp::from_seconds(*at), &[(SeriesKey(0), *value)]);
            if seen % 50 == 0 {
                judged(&analysis, &points[..=seen]);
            }
        }
        assert_same(&verdict_on(&points), &judged(&analysis, &points).findings[0], 1.0, |at| at)?;
    }
}
