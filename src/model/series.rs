//! Numbers over time, the limits beside them and the holes in them.

use super::{ProcessKey, Timestamp};

/// A series' number within one recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey(pub u32);

/// What a series counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Things, `1` in the notation of UCUM that JSON uses.
    Count,
    /// Bytes, `By` there.
    Bytes,
    /// Seconds, `s` there.
    Seconds,
}

impl Unit {
    /// The unit's code in UCUM.
    pub fn code(self) -> &'static str {
        match self {
            Unit::Count => "1",
            Unit::Bytes => "By",
            Unit::Seconds => "s",
        }
    }

    /// Reads the code; anything unknown is a count.
    pub fn parse(code: &str) -> Unit {
        match code {
            "By" => Unit::Bytes,
            "s" => Unit::Seconds,
            _ => Unit::Count,
        }
    }
}

/// One number over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its number in the recording.
    pub key: SeriesKey,
    /// Its name: `connections`, `descriptors:pipe`, `disk:/var/tmp`, `value` of a log.
    pub name: String,
    /// What it counts.
    pub unit: Unit,
    /// The one process it is of; `None` for the whole target.
    pub process: Option<ProcessKey>,
}

impl Series {
    /// True of what watching itself costs (`own:memory`): it is told and never judged, for it is not the target's.
    pub fn is_own(&self) -> bool {
        self.name.starts_with("own:")
    }
}

/// Where a series breaks.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// The limit's usual name: `RLIMIT_NOFILE`, `memory.max`.
    pub name: String,
    /// The series that it bounds.
    pub series: String,
    /// Its value, in the series' unit.
    pub value: f64,
}

/// A time without samples, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Gap {
    /// The last moment before it that was sampled.
    pub from: Timestamp,
    /// The first moment after it that was.
    pub to: Timestamp,
    /// The series it is in; `None` for all.
    pub series: Option<String>,
    /// Why.
    pub reason: String,
}

/// A series' samples, in the order of their times; a hole is a `NaN`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Points {
    /// When each was taken.
    pub times: Vec<Timestamp>,
    /// Its value, of the same length as `times`.
    pub values: Vec<f64>,
}

impl Points {
    /// Adds a sample at the end.
    pub fn push(&mut self, at: Timestamp, value: f64) {
        self.times.push(at);
        self.values.push(value);
    }

    /// How many samples, holes included.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// True where there is none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }
}
