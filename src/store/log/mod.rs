//! Logs of `unix_time,value`, the recipe's own format: what strangers' scripts wrote years ago.
//!
//! A line is `time,value`, forgivingly: the forms of the time are those of `input::moment`, separators and numbers those of
//! `line`. Blank lines, `#` comments and a header are passed over. A line that isn't understood is skipped, counted and
//! told with its number.
//!
//! [`Log::points`] holds only what was measured, in order of time, each time once: a hole is a [`Gap`] and never a `NaN`
//! among the points; who draws them breaks the line at each gap.

mod line;
mod restart;
mod timeline;

use super::input::moment::Form;
use super::input::{InputOptions, Skipped, count_words};
use crate::model::{Event, Gap, Points, Timestamp};
use line::Sample;
use timeline::StepBack;

/// What a log says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Log {
    /// The samples, in order of time, each time once.
    pub points: Points,
    /// The holes between them.
    pub gaps: Vec<Gap>,
    /// Restarts that the values show.
    pub events: Vec<Event>,
    /// What was skipped, assumed or put right: one sentence each.
    pub notes: Vec<String>,
    /// The usual time between two samples, in seconds; `None` where there is but one.
    pub interval_seconds: Option<f64>,
}

/// A sample this far in time from both its neighbours, which are within a day of each other, comes from a damaged line:
/// digits are missing, or those of two lines ran together. Kept, it would stretch the log over centuries.
const STRAY_SECONDS: f64 = 30.0 * 86_400.0;

/// The state of the fold over the lines.
#[derive(Default)]
pub(super) struct Reader {
    options: InputOptions,
    points: Points,
    steps_back: Vec<StepBack>,
    skipped: Skipped,
    /// What else is to be told.
    pub(super) notes: Vec<String>,
    /// The number of the line at hand, of the last one at the end.
    line: u64,
    /// That of the last sample.
    sample_line: u64,
    /// The header, so that it is known again where logs were joined.
    header: Option<String>,
    more_columns: bool,
    forms: Vec<Form>,
}

impl Reader {
    /// No line was seen yet.
    pub(super) fn new(options: InputOptions) -> Self {
        Reader { options, ..Reader::default() }
    }

    /// True where no line was a sample so far.
    pub(super) fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Takes the line `number`, `None` where it was too long to be held.
    pub(super) fn add_line(&mut self, number: u64, line: Option<&[u8]>) {
        self.line = number;
        let Some(line) = line else { return self.skipped.add_too_long(number) };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some((at, value)) = line::read_plain(line) {
            return self.add_sample(at, value);
        }
        let line = String::from_utf8_lossy(line);
        // A crash may leave zeros ahead of the next line.
        let line = line.trim_matches(|edge: char| edge.is_whitespace() || edge == '\0');
        if line.is_empty() || line.starts_with('#') || self.header.as_deref() == Some(line) {
            return;
        }
        match line::read(line) {
            Ok(sample) => self.add_forgiven(&sample),
            Err(_) if self.points.is_empty() && self.header.is_none() && is_header(line) => {
                self.header = Some(line.to_owned());
            }
            Err(reason) => self.skipped.add(number, line, reason),
        }
    }

    fn add_forgiven(&mut self, sample: &Sample) {
        self.more_columns |= sample.more;
        if !self.forms.contains(&sample.form) {
            self.forms.push(sample.form);
        }
        self.add_sample(sample.at, sample.value);
    }

    fn add_sample(&mut self, at: Timestamp, value: f64) {
        self.drop_stray(at);
        if self.points.times.last().is_some_and(|last| at < *last) {
            self.steps_back.push(StepBack { index: self.points.len(), line: self.line });
        }
        self.points.push(at, value);
        self.sample_line = self.line;
    }

    /// Drops the last sample where the one before it and the next, at `at`, show it to be a stray.
    fn drop_stray(&mut self, at: Timestamp) {
        let [.., before, last] = self.points.times[..] else { return };
        let apart = |one: Timestamp, other: Timestamp| one.seconds_since(other).abs();
        if apart(last, at) < STRAY_SECONDS || apart(last, before) < STRAY_SECONDS || apart(before, at) > 86_400.0 {
            return;
        }
        self.points.times.pop();
        self.points.values.pop();
        self.steps_back.pop_if(|step| step.index == self.points.len());
        self.skipped.add(self.sample_line, "", "its time is more than 30 days off from those around it");
    }

    /// The log, or why there is none.
    pub(super) fn finish(self) -> Result<Log, String> {
        let Reader { options, mut points, steps_back, skipped, notes: others, forms, .. } = self;
        if points.is_empty() {
            return Err(skipped.instead(self.line));
        }
        let mut notes: Vec<String> = skipped.into_notes().chain(others).collect();
        notes.extend(forms.into_iter().filter_map(Form::note).map(str::to_owned));
        if self.more_columns {
            notes.push("only the first two columns are read, time and value; there are more".to_owned());
        }
        if options.lsof_header {
            points.values.iter_mut().for_each(|value| *value = (*value - 1.0).max(0.0));
        }
        let events = restart::restarts(&points).unwrap_or_else(|note| {
            notes.push(note);
            Vec::new()
        });
        let interval_unsorted = timeline::usual_interval(&points.times);
        notes.extend(timeline::sort(&mut points, &steps_back, interval_unsorted));
        let dropped = timeline::drop_duplicates(&mut points);
        if dropped > 0 {
            let lines = count_words(dropped as u64, "line");
            notes.push(format!("{lines} with a time that a later line has too: the last of each time counts"));
        }
        let interval_seconds = timeline::usual_interval(&points.times);
        let gaps = timeline::gaps(&points.times, interval_seconds);
        Ok(Log { points, gaps, events, notes, interval_seconds })
    }
}

/// A line of words ahead of the numbers.
fn is_header(line: &str) -> bool {
    let word = line.trim_start_matches(['"', '\'']);
    word.starts_with(|first: char| first.is_alphabetic() || first == '_') && line.len() < 1024
}

#[cfg(test)]
mod tests;
