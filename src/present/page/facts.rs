//! What the page says, as JSON; names and meanings are those of `show -o json`.

use super::PageSeries;
use super::blocks::{Layer, Layers};
use crate::model::{Finding, Lifetime, Limit, Part, ProcessKey, Report, Timestamp, VerdictChange};
use crate::present::json;
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::borrow::Cow;
use std::path::Path;

/// All but the resources, which are many and come later.
#[derive(Serialize)]
pub(super) struct Facts<'a> {
    schema: &'static str,
    file: String,
    target: Option<TargetFacts<'a>>,
    from: Timestamp,
    to: Timestamp,
    ticks: u64,
    /// From, to, the series it is in (`null` for all), the reason.
    gaps: Vec<(Timestamp, Timestamp, Option<&'a str>, &'a str)>,
    verdict: Option<VerdictFacts<'a>>,
    findings: &'a [Finding],
    series: Vec<SeriesFacts<'a>>,
    events: Vec<EventFacts<'a>>,
    /// How many resources were open at the end.
    open: usize,
    /// How many of those that are listed leaked.
    leaked: usize,
    closed_total: u64,
    notes: Vec<Cow<'a, str>>,
    cost: Option<CostFacts>,
}

#[derive(Serialize)]
struct TargetFacts<'a> {
    name: &'a str,
    processes: Vec<ProcessFacts<'a>>,
}

#[derive(Serialize)]
struct ProcessFacts<'a> {
    pid: u32,
    started: Timestamp,
    ended: Option<Timestamp>,
    user: &'a str,
    command: &'a str,
}

#[derive(Serialize)]
struct VerdictFacts<'a> {
    #[serde(flatten)]
    finding: &'a Finding,
    history: Vec<ChangeFacts<'a>>,
}

#[derive(Serialize)]
struct ChangeFacts<'a> {
    at: Timestamp,
    kind: &'static str,
    sentence: &'a str,
}

#[derive(Serialize)]
struct SeriesFacts<'a> {
    name: &'a str,
    unit: &'static str,
    pid: Option<u32>,
    last: Option<f64>,
    lowest: Option<f64>,
    highest: Option<f64>,
    verdict: &'a Finding,
    limits: Vec<LimitFacts<'a>>,
    /// True where it is drawn without being asked for.
    shown: bool,
    layers: Vec<Layer>,
}

#[derive(Serialize)]
struct LimitFacts<'a> {
    name: &'a str,
    value: f64,
}

#[derive(Serialize)]
struct EventFacts<'a> {
    at: Timestamp,
    kind: &'static str,
    pid: Option<u32>,
    text: &'a str,
}

#[derive(Serialize)]
struct CostFacts {
    cpu_seconds: f64,
    memory_bytes: Option<u64>,
}

/// The facts of a report; `series` and `layers` go in step, the first `shown` of them are drawn at once.
pub(super) fn facts<'a>(report: &'a Report, series: &[&PageSeries<'a>], layers: &[Layers], shown: usize) -> Facts<'a> {
    let file_name = Path::new(&report.file).file_name();
    Facts {
        schema: json::SCHEMA,
        // A page is sent to others; the folder it was made in is none of their business.
        file: file_name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        target: target(report),
        from: report.from,
        to: report.to,
        ticks: report.ticks,
        gaps: report.gaps.iter().map(|gap| (gap.from, gap.to, gap.series.as_deref(), gap.reason.as_str())).collect(),
        verdict: report
            .verdict()
            .map(|finding| VerdictFacts { finding, history: report.history.iter().map(change).collect() }),
        findings: &report.judged.findings,
        series: (series.iter().zip(layers).enumerate())
            .map(|(index, (series, layers))| of_series(report, series, layers, index < shown))
            .collect(),
        events: report
            .events
            .iter()
            .map(|event| EventFacts {
                at: event.at,
                kind: event.kind.name(),
                pid: event.process.and_then(|process| pid(report, process)),
                text: &event.text,
            })
            .collect(),
        open: report.population.open.len(),
        leaked: listed(report).filter(|lifetime| report.judged.is_leaked(lifetime.id)).count(),
        closed_total: report.population.closed_total,
        notes: report.notes.iter().map(|note| note.as_str().into()).chain(left_out(report, series.len())).collect(),
        cost: report.cost.map(|cost| CostFacts { cpu_seconds: cost.cpu_seconds, memory_bytes: cost.memory_bytes }),
    }
}

/// The note on series that were judged and are not among the page's.
fn left_out(report: &Report, on_page: usize) -> Option<Cow<'static, str>> {
    let count = report.judged.series.len().checked_sub(on_page).filter(|count| *count > 0)?;
    Some(
        format!("{count} more series are not on this page: `unclosed show FILE -o csv --series NAME` prints one.")
            .into(),
    )
}

fn target(report: &Report) -> Option<TargetFacts<'_>> {
    let target = report.target.as_ref()?;
    let processes = target.processes.values().map(|process| ProcessFacts {
        pid: process.id.pid,
        started: process.started,
        ended: process.ended,
        user: &process.user,
        command: &process.command,
    });
    Some(TargetFacts { name: &target.name, processes: processes.collect() })
}

fn pid(report: &Report, process: ProcessKey) -> Option<u32> {
    Some(report.target.as_ref()?.processes.get(&process)?.id.pid)
}

fn change(change: &VerdictChange) -> ChangeFacts<'_> {
    ChangeFacts { at: change.at, kind: change.kind.word(), sentence: &change.sentence }
}

fn of_series<'a>(report: &Report, series: &PageSeries<'a>, layers: &Layers, shown: bool) -> SeriesFacts<'a> {
    let limit = |limit: &&'a Limit| LimitFacts { name: &limit.name, value: limit.value };
    let measured = || series.points.values.iter().copied().filter(|value| !value.is_nan());
    SeriesFacts {
        name: &series.series.name,
        unit: series.series.unit.code(),
        pid: series.series.process.and_then(|process| pid(report, process)),
        last: measured().next_back(),
        lowest: measured().reduce(f64::min),
        highest: measured().reduce(f64::max),
        verdict: series.verdict,
        limits: series.limits.iter().map(limit).collect(),
        shown,
        layers: layers.describe(),
    }
}

/// What was open at the end, and what leaked and was closed after all.
fn listed(report: &Report) -> impl Iterator<Item = &Lifetime> {
    let leaked = report.population.closed.values().filter(|lifetime| report.judged.is_leaked(lifetime.id));
    report.population.open.values().chain(leaked)
}

/// The rows of the table; one is made at a time.
pub(super) struct Resources<'a>(pub(super) &'a Report);

impl Serialize for Resources<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(listed(self.0).map(|lifetime| row(self.0, lifetime)))
    }
}

/// A row without what is unknown: a page reads what is not there as it reads `null`, and rows are many. So are frames: of a
/// stack it has what it is called.
fn row(report: &Report, lifetime: &Lifetime) -> Value {
    let mut row = json::reported(report, lifetime);
    if let Value::Object(fields) = &mut row {
        for part in Part::ALL {
            if let Some(by) = fields.get_mut(part.name()).and_then(Value::as_object_mut) {
                by.retain(|name, value| !value.is_null() && !matches!(name.as_str(), "frames" | "truncated" | "now"));
            }
        }
        fields.retain(|_, value| !value.is_null());
    }
    row
}
