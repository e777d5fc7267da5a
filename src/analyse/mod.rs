//! Pure functions: no clock, no I/O. State takes ticks one by one; a replay is the same fold.
//!
//! [`Analysis`] holds each series in constant memory and judges whenever it is asked. Lifetimes decide where they are:
//! named things that outlived all that was closed need no trend, and a count that rises without them is load. Where
//! there are none (a log, memory, a folder's size) the floor of the series is asked.
//!
//! | file | what it holds |
//! |---|---|
//! | `lifetimes` | what is found among them: of each group, of all, and of the series that count them |
//! | `survivors`, `openings` | which open ones outlived what was closed; when those were opened |
//! | `bins`, `falls` | a series in constant memory; where it restarts |
//! | `series`, `looks` | the verdict on one series; what one look at it sees |
//! | `views`, `start` | the views of its floor; what rises because it begins |
//! | `trend`, `season`, `steps` | a rise, what repeats and what shifts, by least squares |
//! | `limits`, `sentence`, `distribution` | when it breaks; in words; intervals |
//! | `culprits`, `own` | which code leaked ones share and healthy ones don't; which frames are the user's own |
//! | `left_open` | what a command that was run left open |
//! | `ranking` | every process of the machine by what it may be leaking |

mod bins;
mod census;
pub mod culprits;
mod distribution;
mod falls;
mod fold;
mod left_open;
mod lifetimes;
mod limits;
mod looks;
mod openings;
mod own;
#[cfg(test)]
mod properties;
mod ranking;
#[cfg(test)]
mod reference;
mod season;
mod sentence;
mod series;
mod start;
mod steps;
mod survivors;
mod trend;
mod views;

pub use census::Census;
pub use fold::Fold;
pub use own::{RuleError, Rules};
pub use ranking::{Growth, Ranked, Ranking, Reason};

use crate::model::{Finding, Judged, Limit, Population, Rate, Series, SeriesKey, SeriesReport, Timestamp, Verdict};
use bins::Bins;
use lifetimes::{following, of_all_lifetimes, of_group};
use series::Judgement;
use std::collections::BTreeMap;
use survivors::{GroupJudgement, Survivors};

/// How long memory and threads must be watched before a rise is more than the warming up of a runtime: its compiler,
/// arenas and caches settle within some minutes.
const WARM_UP_SECONDS: f64 = 600.0;
/// The same for any other number.
const WATCH_MIN_SECONDS: f64 = 180.0;
/// How long lifetimes must be watched before nothing that stands out means that nothing leaks.
const CLEAN_AFTER_SECONDS: f64 = 60.0;
/// The descriptors of the one process that is nearest to its own limit, where the target has several.
const PROCESS_DESCRIPTORS: &str = "process_descriptors";
/// Restarts that are remembered; the latest is the one that counts.
const RESTARTS_MAX: usize = 64;

/// All that is remembered of the series so far, and the judge of it.
#[derive(Clone, Debug, Default)]
pub struct Analysis {
    series: BTreeMap<SeriesKey, (Series, Bins)>,
    restarts: Vec<Timestamp>,
    first: Option<Timestamp>,
    /// The last moment at which anything was measured.
    last: Option<Timestamp>,
}

impl Analysis {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a series, before its first value.
    pub fn add_series(&mut self, series: &Series) {
        self.series.entry(series.key).or_insert_with(|| (series.clone(), Bins::default()));
    }

    /// Takes a tick's values in. Times rise; a series that is missing was not measured; what is not a finite number or
    /// belongs to no declared series is passed over.
    pub fn observe(&mut self, at: Timestamp, values: &[(SeriesKey, f64)]) {
        self.first.get_or_insert(at);
        for (key, value) in values {
            let Some((series, bins)) = self.series.get_mut(key) else { continue };
            // What we cost is measured also when the target can't be.
            if !series.is_own() {
                self.last = Some(at);
            }
            if value.is_finite() {
                bins.add(at, *value);
            }
        }
    }

    /// The target restarted: what came before is another segment.
    pub fn restart(&mut self, at: Timestamp) {
        if self.restarts.len() == RESTARTS_MAX {
            self.restarts.remove(0);
        }
        self.restarts.push(at);
    }

    /// The verdict at a moment, from the series so far and from all lifetimes.
    pub fn judge(&self, at: Timestamp, population: &Population, limits: &[Limit]) -> Judged {
        let has_lifetimes = !population.open.is_empty() || !population.closed.is_empty();
        let survivors = has_lifetimes.then(|| survivors::judge(population, self.first, self.last, at));
        let mut findings = Vec::new();
        let mut series = Vec::new();
        let mut own = Vec::new();
        let of_groups = survivors.iter().flat_map(|found| self.of_groups(found, population, limits, at));
        let of_groups: Vec<Finding> = of_groups.collect();
        for (of, bins) in self.series.values() {
            let last = bins.last.map(|last| last.1);
            if of.is_own() {
                own.push((of.clone(), last));
                continue;
            }
            let verdict = match &survivors {
                Some(survivors) if counts_lifetimes(&of.name) => following(of, bins, survivors, &of_groups),
                _ => {
                    let verdict = of_series(of, bins, &self.restarts, limits, at);
                    findings.push(verdict.clone());
                    verdict
                }
            };
            series.push(SeriesReport { series: of.clone(), last, verdict });
        }
        findings.extend(survivors.as_ref().and_then(|found| of_all_lifetimes(found, &of_groups)));
        findings.extend(of_groups);
        rank(&mut findings);
        if findings.is_empty() {
            findings.push(Finding::new(Verdict::Undecided, "target", "nothing was seen yet"));
        }
        let leak_probability = survivors.map(|found| found.leak_probability).unwrap_or_default();
        Judged { findings, series, own, leak_probability }
    }

    fn of_groups(
        &self,
        survivors: &Survivors,
        population: &Population,
        limits: &[Limit],
        at: Timestamp,
    ) -> Vec<Finding> {
        // All that leaks fills the same limit.
        let rates = survivors.groups.iter().filter_map(|found| found.rate);
        let together =
            rates.reduce(|a, b| Rate { per_hour: a.per_hour + b.per_hour, low: a.low + b.low, high: a.high + b.high });
        // Of several processes the one nearest to its own limit, as fast as the one that leaks most.
        let exhausts = together.and_then(|rate| match self.now_of(PROCESS_DESCRIPTORS) {
            Some(value) => {
                let share = limits::largest_share(survivors, population);
                let rate = Rate { per_hour: rate.per_hour * share, low: rate.low * share, high: rate.high * share };
                limits::first_reached(limits, PROCESS_DESCRIPTORS, value, &rate, at)
            }
            None => limits::first_reached(limits, "descriptors", self.last_of("descriptors")?, &rate, at),
        });
        let of = |found: &GroupJudgement| {
            of_group(found, exhausts.clone().filter(|_| found.rate.is_some_and(|rate| rate.per_hour > 0.0)), at)
        };
        survivors.groups.iter().map(of).collect()
    }

    /// The value at the last tick, where it was measured then.
    fn now_of(&self, name: &str) -> Option<f64> {
        let (_, bins) = self.series.values().find(|(series, _)| series.name == name)?;
        bins.last.filter(|(at, _)| Some(*at) == self.last).map(|(_, value)| value)
    }

    fn last_of(&self, name: &str) -> Option<f64> {
        self.series.values().find(|(series, _)| series.name == name).and_then(|(_, bins)| bins.last).map(|last| last.1)
    }
}

/// Leaked lifetimes, those that still leak before those that stopped, then plateaus, then series, the surest first; then,
/// if nothing leaks, what is undecided, for it keeps the rest from being called clean.
fn rank(findings: &mut [Finding]) {
    let order = |finding: &Finding| match finding.kind {
        Verdict::Leak if finding.series.is_none() => 0,
        Verdict::Plateau => 1,
        Verdict::Leak => 2,
        // Where nothing leaks, what is said of lifetimes stands before what is said of numbers.
        Verdict::Undecided if finding.series.is_none() => 3,
        Verdict::Clean if finding.series.is_none() => 4,
        Verdict::Undecided => 5,
        Verdict::Clean => 6,
    };
    let confidence = |finding: &Finding| finding.confidence.unwrap_or(0.0);
    findings.sort_by(|a, b| {
        let by_series = |finding: &Finding| finding.series.is_some();
        let has_stopped = |finding: &Finding| finding.kind == Verdict::Leak && finding.rate_per_hour == Some(0.0);
        let surest = || confidence(b).total_cmp(&confidence(a));
        let most = || b.evidence.len().cmp(&a.evidence.len());
        let what = order(a).cmp(&order(b)).then(by_series(a).cmp(&by_series(b)));
        what.then(has_stopped(a).cmp(&has_stopped(b))).then_with(most).then_with(surest)
    });
}

/// True for the series that count what has lifetimes, or what load needs to carry it.
fn counts_lifetimes(name: &str) -> bool {
    ["connections", "accepted", "internet", "descriptors", PROCESS_DESCRIPTORS, "threads"]
        .iter()
        .any(|counted| name.strip_prefix(counted).is_some_and(|rest| rest.is_empty() || rest.starts_with(':')))
}

fn of_series(series: &Series, bins: &Bins, restarts: &[Timestamp], limits: &[Limit], at: Timestamp) -> Finding {
    let is_runtime = series.name.starts_with("memory") || series.name == "threads";
    let found = series::judge(bins, restarts, if is_runtime { WARM_UP_SECONDS } else { WATCH_MIN_SECONDS });
    let exhausts = found
        .rate
        .as_ref()
        .zip(bins.last)
        .and_then(|(rate, (_, value))| limits::first_reached(limits, &series.name, value, rate, at));
    let text = sentence::of_series(&series.name, series.unit, &found, exhausts.as_ref(), at);
    let Judgement { kind, rate, since, confidence, steps, .. } = found;
    with(
        Finding::new(kind, &series.name, text),
        rate,
        Finding { series: Some(series.name.clone()), since, confidence, exhausts, steps, ..Finding::new(kind, "", "") },
    )
}

/// `finding` with the rest of its fields.
fn with(finding: Finding, rate: Option<Rate>, rest: Finding) -> Finding {
    let finding = Finding { sentence: finding.sentence, subject: finding.subject, ..rest };
    match rate {
        Some(rate) => finding.with_rate(rate),
        None => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::survivors::tests::{population, tcp, traffic};
    use super::trend::tests::noise;
    use super::*;
    use crate::model::Unit;
    use proptest::prelude::*;

    const HOUR: f64 = 3_600.0;

    fn named(key: u32, name: &str) -> Series {
        Series { key: SeriesKey(key), name: name.into(), unit: Unit::Count, process: None }
    }

    /// The verdict on one series, a value every `every` seconds.
    fn verdict_on(name: &str, every: f64, values: &[f64]) -> Finding {
        let mut analysis = Analysis::new();
        analysis.add_series(&named(0, name));
        for (i, value) in values.iter().enumerate() {
            analysis.observe(Timestamp::from_seconds(every * i as f64), &[(SeriesKey(0), *value)]);
        }
        let end = Timestamp::from_seconds(every * (values.len() - 1) as f64);
        analysis.judge(end, &Population::default(), &[]).findings.remove(0)
    }

    /// Load that comes and goes, on a level that rises by so much in all.
    fn load(count: usize, rise: f64, seed: u64) -> Vec<f64> {
        (0..count)
            .map(|i| {
                let wave = 5.0 * (i as f64 / 9.0).sin();
                (60.0 + rise * i as f64 / count as f64 + wave + 2.0 * noise(seed * 10_000 + i as u64)).round()
            })
            .collect()
    }

    #[test]
    fn a_leak_under_load_has_its_rate_and_since() {
        let values: Vec<f64> =
            load(1_440, 0.0, 3).iter().enumerate().map(|(i, y)| y + (i.max(500) - 500) as f64 / 12.0).collect();
        let finding = verdict_on("value", 5.0, &values);
        assert_eq!(finding.kind, Verdict::Leak, "{}", finding.sentence);
        let rate = finding.rate_per_hour.unwrap();
        assert!(finding.rate_low.unwrap() < 60.0 && 60.0 < finding.rate_high.unwrap() && (50.0..70.0).contains(&rate));
        assert!((finding.since.unwrap().seconds() - 2_500.0).abs() < 400.0, "{:?}", finding.since);
        assert!(finding.sentence.contains("/h (") && finding.sentence.contains("its floor"), "{}", finding.sentence);
    }

    #[test]
    fn load_without_a_leak_is_clean() {
        for seed in 0..20 {
            let finding = verdict_on("value", 5.0, &load(1_000, 0.0, seed));
            assert_eq!(finding.kind, Verdict::Clean, "{seed}: {}", finding.sentence);
        }
    }

    #[test]
    fn too_little_is_undecided_and_says_for_how_long() {
        let finding = verdict_on("value", 5.0, &load(20, 200.0, 1));
        assert_eq!(finding.kind, Verdict::Undecided);
        assert!(finding.sentence.contains("20 samples of the 40 it takes, about 100 s more"), "{}", finding.sentence);
        let ramp: Vec<f64> = (0..120).map(|i| 1e6 * f64::from(i)).collect();
        let finding = verdict_on("memory", 1.0, &ramp);
        assert_eq!(finding.kind, Verdict::Undecided);
        assert!(finding.sentence.contains("about 8 min more"), "{}", finding.sentence);
        assert_eq!(verdict_on("memory", 1.0, &[1.0]).kind, Verdict::Undecided);
    }

    #[test]
    fn lifetimes_decide_where_they_are() {
        // Load rises from 1 to 200 connections and all are closed in time: no leak, whatever the count does.
        let mut analysis = Analysis::new();
        analysis.add_series(&named(0, "connections"));
        analysis.add_series(&named(1, "descriptors"));
        for i in 0..1_200 {
            let at = Timestamp::from_seconds(f64::from(i) / 2.0);
            analysis.observe(at, &[(SeriesKey(0), f64::from(i) / 6.0), (SeriesKey(1), 10.0 + f64::from(i) / 6.0)]);
        }
        let limits = [Limit { name: "RLIMIT_NOFILE".into(), series: "descriptors".into(), value: 1_024.0 }];
        let end = Timestamp::from_seconds(600.0);
        let judged = analysis.judge(end, &population(&traffic(600), 600.0), &limits);
        assert_eq!(judged.findings[0].kind, Verdict::Clean, "{}", judged.findings[0].sentence);
        assert!(judged.series.iter().all(|report| report.verdict.kind == Verdict::Clean));

        // One of them a second is never closed.
        let mut scene = traffic(600);
        scene.extend((0..600).map(|i| tcp(f64::from(i), None)));
        let judged = analysis.judge(end, &population(&scene, 600.0), &limits);
        let finding = &judged.findings[0];
        assert_eq!((finding.kind, finding.subject.as_str()), (Verdict::Leak, "tcp 127.0.0.1:5432"));
        assert!(finding.sentence.starts_with("+1.0/s") && finding.sentence.contains("outlived all"));
        assert!(finding.evidence.len() > 550 && finding.series.is_none() && !finding.steps.is_empty());
        let exhausts = finding.exhausts.as_ref().unwrap();
        assert!((exhausts.at.seconds_since(end) - (1_024.0 - 209.8)).abs() < 30.0, "{exhausts:?}");
        assert!(exhausts.earliest < exhausts.at && exhausts.latest.is_some_and(|latest| latest > exhausts.at));
        assert!(judged.series.iter().all(|report| report.verdict.kind == Verdict::Leak));
        let flagged = scene.iter().enumerate().filter(|(id, _)| judged.is_leaked(crate::model::LifetimeId(*id as u64)));
        assert!(flagged.clone().count() > 550 && flagged.clone().all(|(_, life)| life.closed.is_none()));
    }

    #[test]
    fn what_leaks_stands_before_a_greater_leak_that_stopped() {
        let leak = |subject: &str, count: usize, rate: f64| {
            let evidence = (0..count).map(|id| id.to_string()).collect();
            Finding { evidence, rate_per_hour: Some(rate), ..Finding::new(Verdict::Leak, subject, "") }
        };
        let mut findings = [leak("stopped", 500, 0.0), leak("slow", 20, 5.0), leak("fast", 40, 3_600.0)];
        rank(&mut findings);
        assert_eq!(findings.each_ref().map(|finding| finding.subject.as_str()), ["fast", "slow", "stopped"]);
    }

    #[test]
    fn a_minute_of_a_healthy_program_is_clean() {
        let mut analysis = Analysis::new();
        analysis.add_series(&named(0, "memory"));
        for i in 0..150 {
            analysis.observe(Timestamp::from_seconds(f64::from(i) / 2.0), &[(SeriesKey(0), 5e7)]);
        }
        let population = population(&traffic(75), 75.0);
        let early = analysis.judge(Timestamp::from_seconds(20.0), &population, &[]);
        assert_eq!(early.findings[0].kind, Verdict::Undecided);
        let judged = analysis.judge(Timestamp::from_seconds(75.0), &population, &[]);
        assert_eq!(judged.findings[0].kind, Verdict::Clean, "{}", judged.findings[0].sentence);
    }

    #[test]
    fn a_restart_begins_anew() {
        let mut analysis = Analysis::new();
        analysis.add_series(&named(0, "value"));
        for i in 0..1_000 {
            if i == 500 {
                analysis.restart(Timestamp::from_seconds(5.0 * 500.0));
            }
            let value = if i < 500 { f64::from(i) } else { 700.0 + noise(i as u64) };
            analysis.observe(Timestamp::from_seconds(5.0 * f64::from(i)), &[(SeriesKey(0), value)]);
        }
        let judged = analysis.judge(Timestamp::from_seconds(5_000.0), &Population::default(), &[]);
        assert_eq!(judged.findings[0].kind, Verdict::Clean, "{}", judged.findings[0].sentence);
    }

    #[test]
    fn nothing_seen_is_undecided() {
        let judged = Analysis::new().judge(Timestamp(0), &Population::default(), &[]);
        assert_eq!(judged.findings[0].kind, Verdict::Undecided);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn scaling_and_shifting_a_series_scales_its_rate_and_nothing_else(
            seed in 0u64..1_000, rise in 0.0f64..80.0, power in -8i32..20, shift in -1_000i32..1_000
        ) {
            let values = load(700, rise, seed);
            let scale = 2f64.powi(power);
            let moved: Vec<f64> = values.iter().map(|y| scale * (y + f64::from(shift))).collect();
            let (a, b) = (verdict_on("value", 5.0, &values), verdict_on("value", 5.0, &moved));
            prop_assert_eq!(a.kind, b.kind, "{} / {}", a.sentence, b.sentence);
            let close = |a: Option<f64>, b: Option<f64>| match (a, b) {
                (Some(a), Some(b)) => (a * scale - b).abs() <= 1e-6 * b.abs(),
                (a, b) => a == b,
            };
            prop_assert!(close(a.rate_per_hour, b.rate_per_hour) && close(a.rate_low, b.rate_low));
            prop_assert_eq!(a.since, b.since);
        }

        #[test]
        fn a_leak_played_backwards_is_none(seed in 0u64..1_000, rise in 20.0f64..500.0) {
            let mut values = load(700, rise, seed);
            values.reverse();
            prop_assert_ne!(verdict_on("value", 5.0, &values).kind, Verdict::Leak);
        }

        #[test]
        fn fewer_than_forty_samples_are_never_a_verdict(values in proptest::collection::vec(-1e9f64..1e9, 1..39)) {
            prop_assert_eq!(verdict_on("value", HOUR, &values).kind, Verdict::Undecided);
        }

        #[test]
        fn whatever_comes_there_is_a_verdict(values in proptest::collection::vec(any::<f64>(), 1..400)) {
            let finding = verdict_on("value", 5.0, &values);
            prop_assert!(!finding.sentence.is_empty());
            if finding.kind == Verdict::Leak {
                prop_assert!(finding.since.is_some() && finding.rate_low <= finding.rate_per_hour);
            }
        }
    }
}
