//! From a file to a report: a recording, or a text that stands in for one, a log of `unix_time,value` or a CSV of lifetimes.

use super::text::moment;
use super::window::Window;
use crate::analyse::{Fold, Rules};
use crate::model::{Finding, LifetimeId, Points, Report, Series, SeriesKey, Timestamp, Unit, Verdict};
use crate::store::input::{self, Input, InputError, InputOptions};
use crate::store::lifetimes::Lifetimes;
use crate::store::log::Log;
use crate::store::{Recording, StoreError};
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// What can't be shown, and why.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A recording that can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A text that can't be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// No tick lies in the window.
    #[error("{file} has no tick between {} and {}", moment(window.since), moment(window.until))]
    NoTick {
        /// The file.
        file: String,
        /// What was asked for.
        window: Window,
    },
    /// It has no series of that name.
    #[error("{file} has no series {wanted:?}; it has {}", known.join(", "))]
    NoSuchSeries {
        /// The file.
        file: String,
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: Vec<String>,
    },
}

/// A file's report, and the samples behind it.
#[derive(Debug)]
pub struct Replay {
    /// The report, judged as of its last tick.
    pub report: Report,
    /// Its series, in the order of their keys.
    pub series: Vec<Series>,
    samples: Samples,
    /// What tells the user's own frames.
    rules: Rules,
    /// The part of it that was judged; `None` for all of it.
    window: Option<Window>,
}

#[derive(Debug)]
enum Samples {
    Recording(Recording),
    /// Those of a text: a column for each series, as long as there are times.
    Text {
        times: Vec<Timestamp>,
        columns: Vec<Vec<f64>>,
    },
}

impl Samples {
    /// Hands every tick's values on, in the order of time.
    fn for_each_tick(
        &self,
        series: &[Series],
        mut take: impl FnMut(Timestamp, &[(SeriesKey, f64)]),
    ) -> Result<(), ReplayError> {
        match self {
            Samples::Recording(recording) => recording.for_each_tick(take)?,
            Samples::Text { times, columns } => {
                let mut values: Vec<(SeriesKey, f64)> = series.iter().map(|series| (series.key, 0.0)).collect();
                for (row, at) in times.iter().enumerate() {
                    values.iter_mut().zip(columns).for_each(|(value, column)| value.1 = column[row]);
                    take(*at, &values);
                }
            }
        }
        Ok(())
    }
}

impl Replay {
    /// Reads the file and judges it; `-` is what comes on standard input.
    pub fn open(file: &Path, options: InputOptions) -> Result<Self, ReplayError> {
        Self::open_by_rules(file, options, Rules::default())
    }

    /// The same, by other rules for the user's own frames.
    pub fn open_by_rules(file: &Path, options: InputOptions, rules: Rules) -> Result<Self, ReplayError> {
        let path = if file == Path::new("-") { Path::new("/dev/stdin") } else { file };
        let mut replay = if is_stream(path) {
            Self::of_input(input::read(path, options).map_err(not_a_recording)?)?
        } else {
            match input::read_if_text(path, options)? {
                Some(input) => Self::of_input(input)?,
                None => Self::of_recording(path, rules)?,
            }
        };
        // A file is an argument: what it calls itself is not what the reader called it.
        replay.report.file = file.display().to_string();
        Ok(replay)
    }

    fn of_recording(path: &Path, rules: Rules) -> Result<Self, ReplayError> {
        let recording = Recording::open(path)?;
        let series = recording.series()?;
        let mut facts = recording.facts()?;
        facts.population = recording.population()?;
        let replay = Self::judged(facts, series, Samples::Recording(recording), rules, None)?;
        // Whoever reads what follows may take an hour over it; the recorder goes on meanwhile.
        if let Samples::Recording(recording) = &replay.samples {
            recording.release()?;
        }
        Ok(replay)
    }

    fn of_input(input: Input) -> Result<Self, ReplayError> {
        match input {
            Input::Log(log) => Self::of_log(log),
            Input::Lifetimes(lifetimes) => Self::of_lifetimes(lifetimes),
        }
    }

    fn of_log(log: Log) -> Result<Self, ReplayError> {
        let Points { times, values } = log.points;
        let facts = Report {
            from: times.first().copied().unwrap_or_default(),
            to: times.last().copied().unwrap_or_default(),
            ticks: times.len() as u64,
            every_seconds: log.interval_seconds,
            gaps: log.gaps,
            events: log.events,
            notes: log.notes,
            ..Report::default()
        };
        let series = vec![Series { key: SeriesKey(1), name: "value".into(), unit: Unit::Count, process: None }];
        Self::judged(facts, series, Samples::Text { times, columns: vec![values] }, Rules::default(), None)
    }

    fn of_lifetimes(lifetimes: Lifetimes) -> Result<Self, ReplayError> {
        let Lifetimes { population, series, times, columns, every_seconds, notes } = lifetimes;
        let facts = Report {
            population,
            from: times.first().copied().unwrap_or_default(),
            to: times.last().copied().unwrap_or_default(),
            ticks: times.len() as u64,
            every_seconds: Some(every_seconds),
            notes,
            ..Report::default()
        };
        Self::judged(facts, series, Samples::Text { times, columns }, Rules::default(), None)
    }

    /// Judges what is known, by the samples of the window where there is one.
    fn judged(
        facts: Report,
        series: Vec<Series>,
        samples: Samples,
        rules: Rules,
        window: Option<Window>,
    ) -> Result<Self, ReplayError> {
        let mut fold = Fold::replay(facts, &series, rules.clone());
        samples.for_each_tick(&series, |at, values| {
            if window.is_none_or(|window| window.contains(at)) {
                fold.observe(at, values);
            }
        })?;
        fold.judge();
        let mut report = fold.into_report();
        name_evidence(&mut report);
        Ok(Replay { report, series, samples, rules, window })
    }

    /// The same, judged by what lies in a window alone. Fails where no tick does.
    pub fn within(self, window: Window) -> Result<Self, ReplayError> {
        let Replay { report, mut series, samples, rules, .. } = self;
        let mut measured = HashSet::new();
        let (mut first, mut last, mut ticks) = (None, None, 0);
        samples.for_each_tick(&series, |at, values| {
            if window.contains(at) {
                first.get_or_insert(at);
                last = Some(at);
                ticks += 1;
                measured.extend(values.iter().map(|(key, _)| *key));
            }
        })?;
        let (Some(from), Some(to)) = (first, last) else {
            return Err(ReplayError::NoTick { file: report.file, window });
        };
        // What the next tick found was not seen by then, though it tells that it was there.
        let window = Window { until: to, ..window };
        series.retain(|it| measured.contains(&it.key));
        let limits = match &samples {
            Samples::Recording(recording) => recording.limits(window.until)?,
            Samples::Text { .. } => report.limits.clone(),
        };
        let forgotten = window.forgotten(&report);
        let facts = Report { from, to, ticks, ..window.cut(report, limits) };
        let mut replay = Self::judged(facts, series, samples, rules, Some(window))?;
        let is_clean = replay.report.verdict().is_some_and(|finding| finding.kind == Verdict::Clean);
        if forgotten > 0 && is_clean {
            let text =
                format!("{forgotten} processes have ended since, and what they held is not in the recording any more");
            let finding = Finding::new(Verdict::Undecided, "connections", text);
            replay.report.judged.findings.insert(0, finding);
        }
        Ok(replay)
    }

    /// The samples of one series. Where an endpoint came back it is the latest of that name.
    pub fn points(&self, series: &Series) -> Result<Points, ReplayError> {
        let mut points = match &self.samples {
            Samples::Recording(recording) => recording.points(series.key)?,
            Samples::Text { times, columns } => {
                Points { times: times.clone(), values: self.column(columns, series.key) }
            }
        };
        if let Some(window) = self.window {
            let from = points.times.partition_point(|at| *at < window.since);
            let to = points.times.partition_point(|at| *at <= window.until);
            points = Points { times: points.times[from..to].into(), values: points.values[from..to].into() };
        }
        Ok(points)
    }

    /// The samples of these series over all of the file, in their order, by one pass. What a tick did not measure of a series between its first
    /// and its last sample is a hole.
    pub fn all_points(&self, wanted: &[SeriesKey]) -> Result<Vec<Points>, ReplayError> {
        let recording = match &self.samples {
            Samples::Recording(recording) => recording,
            Samples::Text { times, columns } => {
                let points = |key: &SeriesKey| Points { times: times.clone(), values: self.column(columns, *key) };
                return Ok(wanted.iter().map(points).collect());
            }
        };
        let places: HashMap<SeriesKey, usize> = wanted.iter().copied().zip(0..).collect();
        let mut all = vec![Points::default(); wanted.len()];
        let mut times: Vec<Timestamp> = Vec::new();
        // Of each series the tick after its last sample.
        let mut next = vec![0; wanted.len()];
        recording.for_each_tick(|at, values| {
            for (key, value) in values {
                let Some(place) = places.get(key).copied() else { continue };
                let points = &mut all[place];
                if !points.is_empty() {
                    times[next[place]..].iter().for_each(|missed| points.push(*missed, f64::NAN));
                }
                points.push(at, *value);
                next[place] = times.len() + 1;
            }
            times.push(at);
        })?;
        Ok(all)
    }

    /// A copy of that series' column.
    fn column(&self, columns: &[Vec<f64>], wanted: SeriesKey) -> Vec<f64> {
        let place = self.series.iter().position(|series| series.key == wanted);
        place.and_then(|place| columns.get(place)).cloned().unwrap_or_default()
    }

    /// The series of that name; without one the series that people ask for: `connections`, or that of a log.
    pub fn named(&self, name: Option<&str>) -> Result<&Series, ReplayError> {
        let find = |name: &str| self.series.iter().rev().find(|it| it.name == name);
        let found = match name {
            Some(name) => find(name),
            None => find("connections").or_else(|| find("value")),
        };
        found.ok_or_else(|| ReplayError::NoSuchSeries {
            file: self.report.file.clone(),
            wanted: name.unwrap_or("connections").to_owned(),
            known: self.series.iter().map(|it| it.name.clone()).collect(),
        })
    }
}

/// Has the evidence name resources as the file does that told of them, where it has names for them.
fn name_evidence(report: &mut Report) {
    let population = &report.population;
    let of_series = report.judged.series.iter_mut().map(|it| &mut it.verdict);
    for finding in report.judged.findings.iter_mut().chain(of_series) {
        for id in &mut finding.evidence {
            let lifetime = id.parse().ok().and_then(|number| population.get(LifetimeId(number)));
            if let Some(label) = lifetime.and_then(|lifetime| lifetime.resource.label.as_deref()) {
                label.clone_into(id);
            }
        }
    }
}

/// True of a pipe or a device, which is read but once: what a look at its head took would be lost. So it is taken for a
/// text, whose reader looks at the head for itself.
fn is_stream(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// A recording in a pipe; SQLite needs the file itself.
fn not_a_recording(error: InputError) -> InputError {
    match error {
        InputError::Binary { path, what } if what.contains("SQLite") => {
            InputError::Binary { path, what: "a recording, which can't be read from a pipe; name the file itself" }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pass_finds_what_a_pass_per_series_finds() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1.unclosed");
        let replay = Replay::open(&path, InputOptions::default()).expect("opens");
        let wanted: Vec<SeriesKey> = replay.series.iter().rev().map(|series| series.key).collect();
        let all = replay.all_points(&wanted).expect("reads");
        assert_eq!(all.len(), replay.series.len());
        let measured = |points: &Points| -> Vec<(Timestamp, f64)> {
            let all = points.times.iter().copied().zip(points.values.iter().copied());
            all.filter(|(_, value)| !value.is_nan()).collect()
        };
        for (series, points) in replay.series.iter().rev().zip(&all) {
            assert_eq!(measured(points), measured(&replay.points(series).expect("reads")), "{}", series.name);
        }
    }
}
