//! From a file to a report: a recording, or a log of `unix_time,value` that stands in for one.

use super::text::moment;
use super::window::Window;
use crate::analyse::Fold;
use crate::model::{Finding, Points, Report, Series, SeriesKey, Timestamp, Unit, Verdict};
use crate::store::log::{self, Log, LogError, LogOptions};
use crate::store::{Recording, StoreError};
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;

/// What can't be shown, and why.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A recording that can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A log that can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
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
    /// The part of it that was judged; `None` for all of it.
    window: Option<Window>,
}

#[derive(Debug)]
enum Samples {
    Recording(Recording),
    Log(Points),
}

impl Samples {
    /// Hands every tick's values on, in the order of time. A log has the one series.
    fn for_each_tick(
        &self,
        series: &[Series],
        mut take: impl FnMut(Timestamp, &[(SeriesKey, f64)]),
    ) -> Result<(), ReplayError> {
        match (self, series) {
            (Samples::Recording(recording), _) => recording.for_each_tick(take)?,
            (Samples::Log(points), [only, ..]) => {
                points.times.iter().zip(&points.values).for_each(|(at, value)| take(*at, &[(only.key, *value)]));
            }
            (Samples::Log(_), []) => {}
        }
        Ok(())
    }
}

impl Replay {
    /// Reads the file and judges it.
    pub fn open(path: &Path, options: LogOptions) -> Result<Self, ReplayError> {
        let mut replay = match is_stream(path) {
            true => Self::of_log(path, log::read(path, options).map_err(not_a_recording)?),
            false if is_log(path)? => Self::of_log(path, log::read(path, options)?),
            false => Self::of_recording(path)?,
        };
        // A file is an argument: what it calls itself is not what the reader called it.
        replay.report.file = path.display().to_string();
        Ok(replay)
    }

    fn of_recording(path: &Path) -> Result<Self, ReplayError> {
        let recording = Recording::open(path)?;
        let series = recording.series()?;
        let mut facts = recording.facts()?;
        facts.population = recording.population()?;
        let mut fold = Fold::replay(facts, &series);
        recording.for_each_tick(|at, values| fold.observe(at, values))?;
        // Whoever reads what follows may take an hour over it; the recorder goes on meanwhile.
        recording.release()?;
        fold.judge();
        Ok(Replay { report: fold.into_report(), series, samples: Samples::Recording(recording), window: None })
    }

    fn of_log(path: &Path, log: Log) -> Self {
        let series = vec![Series { key: SeriesKey(1), name: "value".into(), unit: Unit::Count, process: None }];
        let facts = Report {
            file: path.display().to_string(),
            from: log.points.times.first().copied().unwrap_or_default(),
            to: log.points.times.last().copied().unwrap_or_default(),
            ticks: log.points.len() as u64,
            every_seconds: log.interval_seconds,
            gaps: log.gaps,
            events: log.events,
            notes: log.notes,
            ..Report::default()
        };
        let mut fold = Fold::replay(facts, &series);
        for (at, value) in log.points.times.iter().zip(&log.points.values) {
            fold.observe(*at, &[(SeriesKey(1), *value)]);
        }
        fold.judge();
        Replay { report: fold.into_report(), series, samples: Samples::Log(log.points), window: None }
    }

    /// The same, judged by what lies in a window alone. Fails where no tick does.
    pub fn within(self, window: Window) -> Result<Self, ReplayError> {
        let Replay { report, mut series, samples, .. } = self;
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
            Samples::Log(_) => report.limits.clone(),
        };
        let forgotten = window.forgotten(&report);
        let facts = Report { from, to, ticks, ..window.cut(report, limits) };
        let mut fold = Fold::replay(facts, &series);
        samples.for_each_tick(&series, |at, values| {
            if window.contains(at) {
                fold.observe(at, values);
            }
        })?;
        fold.judge();
        let mut report = fold.into_report();
        if forgotten > 0 && report.verdict().is_some_and(|finding| finding.kind == Verdict::Clean) {
            let text =
                format!("{forgotten} processes have ended since, and what they held is not in the recording any more");
            report.judged.findings.insert(0, Finding::new(Verdict::Undecided, "connections", text));
        }
        Ok(Replay { report, series, samples, window: Some(window) })
    }

    /// The samples of one series. Where an endpoint came back it is the latest of that name.
    pub fn points(&self, series: &Series) -> Result<Points, ReplayError> {
        let mut points = match &self.samples {
            Samples::Recording(recording) => recording.points(series.key)?,
            Samples::Log(points) => points.clone(),
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
            Samples::Log(points) => return Ok(vec![points.clone(); wanted.len()]),
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

    /// The series of that name; without one the series that people ask for: that of a log, or `connections`.
    pub fn named(&self, name: Option<&str>) -> Result<&Series, ReplayError> {
        let wanted = name.unwrap_or(match &self.samples {
            Samples::Recording(_) => "connections",
            Samples::Log(_) => "value",
        });
        self.series.iter().rev().find(|it| it.name == wanted).ok_or_else(|| ReplayError::NoSuchSeries {
            file: self.report.file.clone(),
            wanted: wanted.to_owned(),
            known: self.series.iter().map(|it| it.name.clone()).collect(),
        })
    }
}

/// True of a pipe or a device, which is read but once: what a look at its head took would be lost. So it is taken for a
/// log, whose reader looks at the head for itself.
fn is_stream(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// A recording in a pipe; SQLite needs the file itself.
fn not_a_recording(error: LogError) -> LogError {
    match error {
        LogError::Binary { path, what } if what.contains("SQLite") => {
            LogError::Binary { path, what: "a recording, which can't be read from a pipe; name the file itself" }
        }
        other => other,
    }
}

/// True where the file is to be read as a log.
fn is_log(path: &Path) -> Result<bool, StoreError> {
    let mut head = Vec::new();
    // What can't be opened is explained by whoever reads it as a recording.
    let Ok(file) = std::fs::File::open(path) else { return Ok(false) };
    Ok(file.take(4096).read_to_end(&mut head).is_ok() && !head.is_empty() && log::looks_like_log(&head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pass_finds_what_a_pass_per_series_finds() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1.unclosed");
        let replay = Replay::open(&path, LogOptions::default()).expect("opens");
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
