//! All that a person is shown of a recording, at its end or at any moment before it.

use super::{
    CommandRun, Cost, Event, Finding, Gap, LifetimeId, Limit, Population, Process, ProcessKey, Series, Stack, StackKey,
    Timestamp, Verdict,
};
use std::collections::BTreeMap;

/// Who is watched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// Its name: that of its first process.
    pub name: String,
    /// Its processes, those that ended too.
    pub processes: BTreeMap<ProcessKey, Process>,
}

/// One entry of what was said when.
#[derive(Clone, Debug, PartialEq)]
pub struct VerdictChange {
    /// From this moment on it said.
    pub at: Timestamp,
    /// This.
    pub kind: Verdict,
    /// In these words.
    pub sentence: String,
}

/// A series with what was judged of it.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesReport {
    /// The series.
    pub series: Series,
    /// Its latest value.
    pub last: Option<f64>,
    /// The verdict on it alone.
    pub verdict: Finding,
}

/// What was judged at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// The surest and gravest first; never empty once judged.
    pub findings: Vec<Finding>,
    /// The verdict on each series alone, in the order of their keys.
    pub series: Vec<SeriesReport>,
    /// The latest values of what watching itself costs, which nobody judges.
    pub own: Vec<(Series, Option<f64>)>,
    /// The probability that it is leaked, of each resource where one could be told.
    pub leak_probability: BTreeMap<LifetimeId, f64>,
}

impl Judged {
    /// From this probability on a resource is called leaked.
    pub const LEAKED_FROM: f64 = 0.5;

    /// True where the resource is called leaked.
    pub fn is_leaked(&self, id: LifetimeId) -> bool {
        self.leak_probability.get(&id).is_some_and(|probability| *probability > Self::LEAKED_FROM)
    }
}

/// A recording as a person sees it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Where it came from: the recording's or the log's path.
    pub file: String,
    /// Who was watched; `None` for a log.
    pub target: Option<Target>,
    /// The first tick.
    pub from: Timestamp,
    /// The last one.
    pub to: Timestamp,
    /// How many ticks.
    pub ticks: u64,
    /// The interval, in seconds, as it is at the end; of a log the usual one.
    pub every_seconds: Option<f64>,
    /// The holes between them.
    pub gaps: Vec<Gap>,
    /// What was judged, at the end.
    pub judged: Judged,
    /// What was said when.
    pub history: Vec<VerdictChange>,
    /// What was open, what was closed.
    pub population: Population,
    /// The code that openers and last uses name.
    pub stacks: BTreeMap<StackKey, Stack>,
    /// What each of them is called: by the frame that matters, as `report_export (app.py:88)`.
    pub labels: BTreeMap<StackKey, Box<str>>,
    /// The limits in force at the end.
    pub limits: Vec<Limit>,
    /// What happened meanwhile.
    pub events: Vec<Event>,
    /// The command that was run, where one is judged at its end.
    pub command: Option<CommandRun>,
    /// What could not be seen or was skipped, and why.
    pub notes: Vec<String>,
    /// What watching cost.
    pub cost: Option<Cost>,
}

impl Report {
    /// The first of the findings.
    pub fn verdict(&self) -> Option<&Finding> {
        self.judged.findings.first()
    }

    /// The verdict on the series of that name, with its latest value.
    pub fn series(&self, name: &str) -> Option<&SeriesReport> {
        self.judged.series.iter().rev().find(|it| it.series.name == name)
    }
}
