//! The documented JSON, `"schema": "unclosed/1"`.

use super::code;
use super::groups::{self, GroupBy};
use super::processes::{self, Share};
use crate::model::{Finding, Kind, Lifetime, Process, ProcessKey, Report, Resource, Target, Timestamp, Verdict};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// The schema's name and version. A field may be added to it, none is renamed or taken away.
pub const SCHEMA: &str = "unclosed/1";

/// What is told of a report beyond what always is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    /// The sampled closed resources too.
    pub closed: bool,
    /// Groups of resources too.
    pub by: Option<GroupBy>,
}

/// Writes the object that `show -o json` prints, over several lines or on one.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write, report: &Report, told: Told, over_lines: bool) -> io::Result<()> {
    let mut facts = facts(report);
    if let Some(by) = told.by {
        facts.insert("groups".into(), json!(groups::groups(report, by)));
    }
    let object = ReportObject { facts, report, with_closed: told.closed };
    match over_lines {
        true => serde_json::to_writer_pretty(&mut *out, &object)?,
        false => serde_json::to_writer(&mut *out, &object)?,
    }
    writeln!(out)
}

/// A report as it is written: its resources may be many, so each is made when its turn comes.
struct ReportObject<'a> {
    facts: Map<String, Value>,
    report: &'a Report,
    with_closed: bool,
}

impl Serialize for ReportObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(self.facts.len()))?;
        for (name, fact) in &self.facts {
            match name.as_str() {
                "resources" => object.serialize_entry(name, &Resources(self))?,
                _ => object.serialize_entry(name, fact)?,
            }
        }
        object.end()
    }
}

struct Resources<'a>(&'a ReportObject<'a>);

impl Serialize for Resources<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ReportObject { report, with_closed, .. } = *self.0;
        let is_listed = |it: &&Lifetime| with_closed || report.judged.leak_probability.contains_key(&it.id);
        let closed = report.population.closed.values().filter(is_listed);
        serializer.collect_seq(report.population.open.values().chain(closed).map(|it| reported(report, it)))
    }
}

/// All of the report, the place of its resources included, but not these themselves.
fn facts(report: &Report) -> Map<String, Value> {
    let verdict = report.verdict().map_or(Value::Null, |finding| {
        let mut verdict = finding_object(finding);
        let history = report
            .history
            .iter()
            .map(|change| json!({"at": change.at, "kind": change.kind, "sentence": change.sentence}));
        verdict.insert("history".into(), history.collect());
        Value::Object(verdict)
    });
    let series = report.judged.series.iter().map(|it| {
        json!({
            "name": it.series.name,
            "unit": it.series.unit.code(),
            "last": it.last.map(number),
            "verdict": finding_object(&it.verdict),
        })
    });
    let own = report.judged.own.iter().map(|(series, last)| {
        json!({"name": series.name, "unit": series.unit.code(), "last": last.map(number), "verdict": null})
    });
    let facts = json!({
        "schema": SCHEMA,
        "file": report.file,
        "target": report.target.as_ref().map(|it| target(it, &processes::shares(report), true)),
        "from": report.from,
        "to": report.to,
        "ticks": report.ticks,
        "every_seconds": report.every_seconds,
        "gaps": report.gaps.iter().filter(|gap| gap.series.is_none()).map(|gap| json!([gap.from, gap.to])).collect::<Value>(),
        "series_gaps": report.gaps.iter().filter_map(|gap| {
            let series = gap.series.as_ref()?;
            Some(json!({"series": series, "from": gap.from, "to": gap.to, "reason": gap.reason}))
        }).collect::<Value>(),
        "limits": report.limits.iter().map(|it| json!({"name": it.name, "series": it.series, "value": number(it.value)})).collect::<Value>(),
        "verdict": verdict,
        "findings": report.judged.findings.iter().map(finding_object).collect::<Value>(),
        "series": series.chain(own).collect::<Value>(),
        "resources": null,
        "closed_total": report.population.closed_total,
        "events": report.events.iter().map(|it| json!({"at": it.at, "kind": it.kind.name(), "text": it.text})).collect::<Value>(),
        "suspects": [],
        "notes": report.notes,
        "cost": report.cost.map(|cost| json!({
            "cpu_seconds": cost.cpu_seconds, "memory_bytes": cost.memory_bytes, "descriptors": cost.descriptors
        })),
    });
    fields(facts)
}

/// The object that `--on-leak` hands on: the finding that is the verdict now, and of whom and what it is one.
pub fn verdict_change(report: &Report, previous: Option<Verdict>) -> Value {
    let mut change = report.verdict().map(finding_object).unwrap_or_default();
    let process = report.target.as_ref().and_then(|target| {
        let mut all = target.processes.values();
        all.clone().find(|process| process.ended.is_none()).or_else(|| all.next())
    });
    let target =
        report.target.as_ref().map(|target| json!({"name": target.name, "pid": process.map(|process| process.id.pid)}));
    change.insert("schema".into(), SCHEMA.into());
    change.insert("file".into(), if report.file.is_empty() { Value::Null } else { report.file.as_str().into() });
    change.insert("target".into(), target.unwrap_or_default());
    change.insert("at".into(), json!(report.to));
    change.insert("previous".into(), previous.map(Verdict::word).into());
    Value::Object(change)
}

/// A resource of a report.
pub(super) fn reported(report: &Report, lifetime: &Lifetime) -> Value {
    let empty = BTreeMap::new();
    let processes = report.target.as_ref().map_or(&empty, |target| &target.processes);
    resource(lifetime, processes, Some(report))
}

/// The object that `list -o json` prints.
pub fn list(target_now: &Target, at: Timestamp, open: &[Lifetime]) -> Value {
    json!({
        "schema": SCHEMA,
        "target": target(target_now, &processes::shares_of(open, |_| false), false),
        "at": at,
        "resources": open.iter().map(|it| listed(it, target_now)).collect::<Value>(),
    })
}

/// A resource of `list`: when it was opened is not known from one look.
pub fn listed(lifetime: &Lifetime, target_now: &Target) -> Value {
    resource(lifetime, &target_now.processes, None)
}

/// The target with what each of its processes holds; `leaked` is told only of what `is_judged`.
fn target(target: &Target, shares: &BTreeMap<ProcessKey, Share>, is_judged: bool) -> Value {
    let processes = target.processes.iter().map(|(key, process)| {
        let share = shares.get(key);
        json!({
            "pid": process.id.pid,
            "name": process.name,
            "started": process.started,
            "ended": process.ended,
            "user": process.user,
            "command": process.command,
            "descriptors": share.map(|it| it.descriptors),
            "connections": share.map(|it| it.connections),
            "leaked": share.filter(|_| is_judged).map(|it| it.leaked),
        })
    });
    let boot_id = target.processes.values().next().map(|process| process.id.boot_id.to_string());
    json!({"name": target.name, "boot_id": boot_id, "processes": processes.collect::<Value>()})
}

fn finding_object(finding: &Finding) -> Map<String, Value> {
    serde_json::to_value(finding).map(fields).unwrap_or_default()
}

/// The fields of an object.
fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// One resource, as a report has it; `None` where only one look was taken at it.
fn resource(lifetime: &Lifetime, processes: &BTreeMap<ProcessKey, Process>, report: Option<&Report>) -> Value {
    let now = report.map(|report| report.to);
    let it = &lifetime.resource;
    let pid = |key: ProcessKey| processes.get(&key).map(|process| process.id.pid);
    let first = lifetime.holders.first();
    let (name, class) = name_and_class(it);
    let silent = match now {
        Some(now) => lifetime.silent_seconds(now),
        None => it.activity.silent_seconds,
    };
    json!({
        "id": identifier(lifetime),
        "kind": it.kind.name(),
        "family": (it.kind.is_internet() || it.kind == Kind::Raw).then_some(if it.ipv6 { "IPv6" } else { "IPv4" }),
        "type": it.socket_type.map(crate::model::SocketType::name),
        "fd": first.map(|holder| holder.fd),
        "access": first.and_then(|holder| holder.access).map(crate::model::Access::letter),
        "name": name,
        "class": class,
        "holders": lifetime.holders.iter().map(|holder| json!({"pid": pid(holder.process), "fd": holder.fd})).collect::<Value>(),
        "inode": it.inode,
        "local": it.local.as_ref().map(ToString::to_string),
        "remote": it.remote.as_ref().map(ToString::to_string),
        "peer": it.peer.as_ref().map(|peer| json!({
            "inode": peer.inode, "pid": peer.owner.map(|owner| owner.0), "fd": peer.owner.map(|owner| owner.1)
        })),
        "accepted_by": lifetime.accepted_by,
        "state": it.state.map(crate::model::State::name),
        "opened": now.map(|_| lifetime.opened),
        "opened_after": lifetime.opened_after,
        "opened_exact": lifetime.opened_exact,
        "closed": lifetime.closed,
        "age_seconds": now.map(|now| seconds(lifetime.age_seconds(now))),
        "silent_seconds": silent.map(seconds),
        "bytes_sent": it.activity.bytes_sent,
        "bytes_received": it.activity.bytes_received,
        "detail": it.detail.as_deref(),
        "leaked": report.is_some_and(|report| report.judged.is_leaked(lifetime.id)),
        "leak_probability": report.and_then(|report| report.judged.leak_probability.get(&lifetime.id)),
        "opener": report.zip(lifetime.opener.as_ref()).map(|(report, by)| code::opener(report, by)),
        "last_use": report.zip(lifetime.last_use.as_ref()).map(|(report, last)| code::last_use(report, last)),
        "last_message": lifetime.last_use.as_ref().and_then(|last| Some(&last.last_useful()?.text)),
        "messages": lifetime.last_use.iter().flat_map(|last| &last.messages).map(|it| &it.text).collect::<Vec<_>>(),
        "session": null,
    })
}

/// A file's path or a Unix socket's name; of what has neither, what the kernel calls its like: `TCP` of a socket that was
/// never bound, `eventfd`. A resource holds both in one place, for lsof prints them in one column.
fn name_and_class(it: &Resource) -> (Option<&str>, Option<&str>) {
    let Some(name) = it.name.as_deref() else { return (None, None) };
    let is_name = match it.kind {
        Kind::File | Kind::Directory | Kind::CharDevice | Kind::BlockDevice | Kind::Pipe | Kind::Memfd => true,
        Kind::Unix => it.local.is_some() || it.remote.is_some(),
        _ => name.starts_with('/'),
    };
    if is_name { (Some(name), None) } else { (None, Some(name.strip_prefix("protocol: ").unwrap_or(name))) }
}

/// How a lifetime is called in JSON: as the file that told of it calls it, or by its number.
pub fn identifier(lifetime: &Lifetime) -> String {
    lifetime.resource.label.as_deref().map_or_else(|| lifetime.id.0.to_string(), str::to_owned)
}

/// Whole numbers without a fraction: a count of 61 is `61`.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 { json!(value as i64) } else { json!(value) }
}

/// Seconds to the millisecond, which is more than polling knows.
pub(super) fn seconds(value: f64) -> Value {
    number((value * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Address, Identity};

    #[test]
    fn a_class_is_no_name() {
        let of = |kind, name: &str, local: Option<&str>| {
            let mut it = Resource::new(Identity(0, 0), kind);
            it.name = Some(name.to_owned());
            it.local = local.map(|local| Address::Unix(local.to_owned()));
            let (name, class) = name_and_class(&it);
            (name.map(str::to_owned), class.map(str::to_owned))
        };
        let (name, class) = (|it: &str| (Some(it.to_owned()), None), |it: &str| (None, Some(it.to_owned())));
        assert_eq!(of(Kind::Tcp, "protocol: TCP", None), class("TCP"));
        assert_eq!(of(Kind::Eventfd, "eventfd", None), class("eventfd"));
        assert_eq!(of(Kind::Unix, "protocol: UNIX-STREAM", None), class("UNIX-STREAM"));
        assert_eq!(of(Kind::Unix, "protocol: x", Some("protocol: x")), name("protocol: x"));
        assert_eq!(of(Kind::File, "/var/log/a", None), name("/var/log/a"));
        assert_eq!(of(Kind::Memfd, "shared", None), name("shared"));
        assert_eq!(of(Kind::Pipe, "/run/fifo", None), name("/run/fifo"));
    }
}
