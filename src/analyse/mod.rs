//! Pure functions: no clock, no I/O. State takes ticks one by one; a replay is the same fold.
//!
//! [`Analysis`] holds each series in constant memory and judges whenever it is asked. Lifetimes decide where they are:
//! named things that outlived all that was closed need no trend, and a count that rises without them is load. Where
//! there are none (a log, memory, a folder's size) the floor of the series is asked.

mod bins;
mod distribution;
mod falls;
mod limits;
mod openings;
mod season;
mod sentence;
mod series;
mod steps;
mod survivors;
mod trend;
mod views;

use crate::model::{
    Exhaustion, Finding, Judged, Limit, Population, Rate, Series, SeriesKey, SeriesReport, Timestamp, Verdict,
    duration_words,
};
use bins::Bins;
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
/// Restarts that are remembered; the latest is the one that counts.
const RESTARTS_MAX: usize = 64;

/// All that is remembered of the series so far, and the judge of it.
#[derive(Clone, Debug, Default)]
pub struct Analysis {
    series: BTreeMap<SeriesKey, (Series, Bins)>,
    restarts: Vec<Timestamp>,
    first: Option<Timestamp>,
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
            if value.is_finite()
                && let Some((_, bins)) = self.series.get_mut(key)
            {
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
        let survivors = has_lifetimes.then(|| survivors::judge(population, self.first, at));
        let mut findings = Vec::new();
        let mut series = Vec::new();
        let of_groups: Vec<Finding> = survivors.iter().flat_map(|found| self.of_groups(found, limits, at)).collect();
        for (of, bins) in self.series.values() {
            let verdict = match &survivors {
                Some(survivors) if counts_lifetimes(&of.name) => following(of, bins, survivors, &of_groups),
                _ => of_series(of, bins, &self.restarts, limits, at),
            };
            let is_own = survivors.is_none() || !counts_lifetimes(&of.name);
            if is_own {
                findings.push(verdict.clone());
            }
            series.push(SeriesReport { series: of.clone(), last: bins.last.map(|last| last.1), verdict });
        }
        findings.extend(survivors.as_ref().and_then(|found| of_all_lifetimes(found, &of_groups)));
        findings.extend(of_groups);
        rank(&mut findings);
        if findings.is_empty() {
            findings.push(Finding::new(Verdict::Undecided, "target", "undecided: nothing was seen yet"));
        }
        Judged { findings, series, leak_probability: survivors.map(|found| found.leak_probability).unwrap_or_default() }
    }

    fn of_groups(&self, survivors: &Survivors, limits: &[Limit], at: Timestamp) -> Vec<Finding> {
        let descriptors = self.last_of("descriptors");
        survivors
            .groups
            .iter()
            .map(|found| {
                let exhausts = found
                    .rate
                    .as_ref()
                    .zip(descriptors)
                    .and_then(|(rate, value)| limits::first_reached(limits, "descriptors", value, rate, at));
                of_group(found, exhausts, at)
            })
            .collect()
    }

    fn last_of(&self, name: &str) -> Option<f64> {
        self.series.values().find(|(series, _)| series.name == name).and_then(|(_, bins)| bins.last).map(|last| last.1)
    }
}

/// Leaked lifetimes, then plateaus, then series, the surest first; then, if nothing leaks, what is undecided, for it
/// keeps the rest from being called clean.
fn rank(findings: &mut [Finding]) {
    let order = |finding: &Finding| match finding.kind {
        Verdict::Leak if finding.series.is_none() => 0,
        Verdict::Plateau => 1,
        Verdict::Leak => 2,
        Verdict::Undecided => 3,
        Verdict::Clean => 4,
    };
    let confidence = |finding: &Finding| finding.confidence.unwrap_or(0.0);
    findings.sort_by(|a, b| {
        let by_series = |finding: &Finding| finding.series.is_some();
        let surest = || confidence(b).total_cmp(&confidence(a));
        let most = || b.evidence.len().cmp(&a.evidence.len());
        order(a).cmp(&order(b)).then(by_series(a).cmp(&by_series(b))).then_with(most).then_with(surest)
    });
}

/// True for the series that count what has lifetimes, or what load needs to carry it.
fn counts_lifetimes(name: &str) -> bool {
    ["connections", "accepted", "internet", "descriptors", "threads"]
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

fn of_group(found: &GroupJudgement, exhausts: Option<Exhaustion>, at: Timestamp) -> Finding {
    let text = sentence::of_group(found, exhausts.as_ref(), at);
    with(
        Finding::new(found.kind, sentence::subject_of(&found.group), text),
        found.rate,
        Finding {
            since: found.since,
            confidence: (found.kind == Verdict::Leak).then_some(found.confidence),
            exhausts,
            evidence: found.leaked.iter().map(|id| id.0.to_string()).collect(),
            steps: found.steps.clone(),
            ..Finding::new(found.kind, "", "")
        },
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

/// What the lifetimes say as a whole where no group of them leaks.
fn of_all_lifetimes(survivors: &Survivors, of_groups: &[Finding]) -> Option<Finding> {
    if of_groups.iter().any(|finding| finding.kind == Verdict::Leak) {
        return None;
    }
    let more = CLEAN_AFTER_SECONDS - survivors.watch_seconds;
    let mut finding = if more > 0.0 {
        let text = format!("undecided: nothing stands out yet; about {} more will tell", duration_words(more));
        Finding::new(Verdict::Undecided, "connections", text)
    } else {
        Finding::new(Verdict::Clean, "connections", sentence::of_clean(survivors))
    };
    finding.steps.push(format!(
        "{} open, {} closed in {}",
        survivors.open,
        survivors.closed,
        duration_words(survivors.watch_seconds)
    ));
    Some(finding)
}

/// The verdict on a series that counts lifetimes: theirs.
fn following(series: &Series, bins: &Bins, survivors: &Survivors, of_groups: &[Finding]) -> Finding {
    let (family, member) = series.name.split_once(':').unwrap_or((&series.name, ""));
    let is_counted = |found: &GroupJudgement| {
        let group = &found.group;
        let is_connection = !group.endpoint.is_empty() && matches!(group.kind.name(), "tcp" | "udp" | "unix");
        match family {
            "connections" if member.is_empty() => is_connection,
            "connections" => group.endpoint == member,
            "accepted" => group.endpoint.strip_prefix("accepted ") == Some(member),
            "internet" => group.kind.is_internet(),
            "descriptors" => member.is_empty() || group.kind.name() == member,
            _ => false,
        }
    };
    let worst = survivors.groups.iter().zip(of_groups).find(|(found, _)| is_counted(found)).map(|(_, finding)| finding);
    let mut finding = match worst {
        Some(finding) => finding.clone(),
        None if survivors.watch_seconds < CLEAN_AFTER_SECONDS || bins.count < series::SAMPLES_MIN => {
            let text = format!("undecided on {}: seen for {}", series.name, duration_words(survivors.watch_seconds));
            Finding::new(Verdict::Undecided, &series.name, text)
        }
        None => {
            let text = format!("no leak in {}: nothing that it counts outlived what was closed", series.name);
            Finding::new(Verdict::Clean, &series.name, text)
        }
    };
    finding.series = Some(series.name.clone());
    finding
}
