//! A report as text, for a terminal of any width and for a file.

use super::groups::{self, GroupBy};
use super::table::{self, Align, printable};
use super::{explain, processes, who};
use crate::analyse::culprits::{self, Culprits};
use crate::model::{Finding, Lifetime, Part, Report, SeriesReport, Timestamp, Unit, Verdict, duration_words};
use jiff::tz::TimeZone;
use std::io::{self, Write};

/// Rows of the table of leaked resources in a summary; `show --leaked` prints all.
const SUMMARY_ROWS: usize = 12;

/// Findings that a summary tells beside the verdict; `--explain` tells all.
const SUMMARY_FINDINGS: usize = 5;

/// Series of the table, those that say something first; `--explain` lists all.
const SERIES_SHOWN: usize = 24;

/// What is shown of a report, beyond its verdict.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    /// Only what leaked, all of it.
    pub leaked: bool,
    /// The sampled closed resources too.
    pub closed: bool,
    /// The steps that led to the verdict.
    pub explain: bool,
    /// Groups in place of single resources.
    pub by: Option<GroupBy>,
}

/// The whole report.
pub fn report(out: &mut dyn Write, report: &Report, shown: Shown) -> io::Result<()> {
    summary(out, report)?;
    if shown.explain {
        explain::write(out, report)?;
    }
    match shown.by {
        Some(by) => groups::write(out, report, by)?,
        None => {
            let leaked = culprits::leaked(report);
            let culprits = Culprits::of(report, &leaked);
            resources(out, report, shown, &culprits)?;
            who::write(out, report, &culprits, &leaked, shown.explain)?;
        }
    }
    if !shown.leaked {
        series(out, report, if shown.explain { usize::MAX } else { SERIES_SHOWN })?;
    }
    notes(out, report)
}

/// The verdict, who was watched and for how long: what Ctrl-C prints, too.
pub fn summary(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    if let Some(finding) = report.verdict() {
        verdict(out, finding)?;
    }
    let others: Vec<&Finding> = report.judged.findings.iter().skip(1).filter(|it| it.kind < Verdict::Clean).collect();
    for finding in others.iter().take(SUMMARY_FINDINGS) {
        writeln!(out, "also: {} {}", finding.kind.word(), printable(&finding.sentence))?;
    }
    if others.len() > SUMMARY_FINDINGS {
        let (more, file) = (others.len() - SUMMARY_FINDINGS, printable(&report.file));
        writeln!(out, "also: {more} more: unclosed show {file} --explain")?;
    }
    writeln!(out)?;
    if let Some(target) = &report.target {
        let running = target.processes.values().filter(|process| process.ended.is_none()).count();
        match target.processes.values().next() {
            Some(first) if target.processes.len() == 1 => {
                let ended = first.ended.map(|at| format!(", ended {}", moment(at))).unwrap_or_default();
                writeln!(
                    out,
                    "{} (pid {}, user {}{ended}): {}",
                    printable(&target.name),
                    first.id.pid,
                    printable(&first.user),
                    printable(&first.command)
                )?;
            }
            Some(first) => {
                let all = target.processes.len();
                writeln!(
                    out,
                    "{} (pid {} and {} more, {running} running at the end): {}",
                    printable(&target.name),
                    first.id.pid,
                    all - 1,
                    printable(&first.command)
                )?;
            }
            None => {}
        }
    }
    processes::write(out, report)?;
    if report.ticks > 0 {
        let every = report.every_seconds.map(|every| format!(", every {}", duration_words(every))).unwrap_or_default();
        let span = duration_words(report.to.seconds_since(report.from));
        let gaps = report.gaps.iter().filter(|gap| gap.series.is_none()).count();
        let gaps = if gaps > 0 { format!(", {}", counted(gaps as u64, "gap")) } else { String::new() };
        writeln!(
            out,
            "{} to {} ({span}): {}{every}{gaps}",
            moment(report.from),
            moment(report.to),
            counted(report.ticks, "tick")
        )?;
    }
    Ok(())
}

/// The verdict with its numbers.
pub fn verdict(out: &mut dyn Write, finding: &Finding) -> io::Result<()> {
    writeln!(out, "{}", headline(finding))?;
    figures(out, finding)
}

/// Since when, how fast, how sure, and when it breaks, as far as that is known.
pub(super) fn figures(out: &mut dyn Write, finding: &Finding) -> io::Result<()> {
    if let Some(since) = finding.since {
        write!(out, "       since {}", moment(since))?;
        if let (Some(rate), Some(low), Some(high)) = (finding.rate_per_hour, finding.rate_low, finding.rate_high) {
            write!(out, ", {} an hour ({} to {})", figure(rate), figure(low), figure(high))?;
        }
        if let Some(confidence) = finding.confidence {
            write!(out, ", {:.1}% sure", (confidence * 100.0).min(99.9))?;
        }
        writeln!(out)?;
    }
    if let Some(end) = &finding.exhausts {
        let latest = end.latest.map_or_else(|| " and never".to_owned(), |at| format!(" and {}", moment(at)));
        writeln!(
            out,
            "       {} ({}) is reached {}, between {}{latest}",
            printable(&end.name),
            figure(end.limit),
            moment(end.at),
            moment(end.earliest)
        )?;
    }
    Ok(())
}

/// The verdict on one line: its word and its sentence.
pub fn headline(finding: &Finding) -> String {
    format!("{}: {}", badge(finding.kind), printable(&finding.sentence))
}

/// The line under a verdict: who opened most of the leaked ones and who used them last; `None` where nobody saw it.
pub(super) fn code_of(finding: &Finding) -> Option<String> {
    let opener = finding.opener.as_ref().map(|code| format!("{} {code}", culprits::verb(Part::Opener)));
    let last_use = finding.last_use.as_ref().map(|code| format!("{} {code}", culprits::verb(Part::LastUse)));
    let words: Vec<String> = opener.into_iter().chain(last_use).collect();
    (!words.is_empty()).then(|| format!("       {}", table::cut(&words.join(", "), 93)))
}

/// The verdict's word with a shape, so that no colour is needed.
fn badge(kind: Verdict) -> &'static str {
    match kind {
        Verdict::Leak => "● LEAK",
        Verdict::Plateau => "▬ PLATEAU",
        Verdict::Clean => "○ clean",
        Verdict::Undecided => "◐ undecided",
    }
}

/// A moment in local time with its offset from UTC; the same on every line, so that lines compare.
pub fn moment(at: Timestamp) -> String {
    match jiff::Timestamp::from_microsecond(at.0) {
        Ok(instant) => instant.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%:z").to_string(),
        Err(_) => format!("{:.0}", at.seconds()),
    }
}

/// `1 tick`, `2 ticks`.
fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// A number with the digits that matter.
pub fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.2e}"),
    }
}

/// A value in its unit.
pub fn measure(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Count => figure(value),
        Unit::Bytes => bytes(value),
        Unit::Seconds => format!("{value:.2} s"),
    }
}

/// What watching costs now: the share of one core and the memory, as far as they are known.
pub fn own_cost(report: &Report) -> Option<String> {
    let cost = report.cost?;
    let share = cost.share.map(|share| format!("{:.2}% of a core", 100.0 * share));
    let memory = cost.memory_bytes.map(|memory| bytes(memory as f64));
    Some(share.into_iter().chain(memory).collect::<Vec<_>>().join(", "))
}

/// Bytes in the largest unit that leaves a figure before the point, as the page has them.
pub fn bytes(value: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let place = UNITS.len().min(1 + (value.abs().max(1.0).log2() / 10.0) as usize) - 1;
    let scaled = value / 1024f64.powi(place as i32);
    if place == 0 { format!("{scaled:.0} B") } else { format!("{scaled:.1} {}", UNITS[place]) }
}

/// The resources, leaked ones first, then the oldest.
fn resources(out: &mut dyn Write, report: &Report, shown: Shown, culprits: &Culprits) -> io::Result<()> {
    let leaked = |it: &Lifetime| report.judged.is_leaked(it.id);
    let open = &report.population.open;
    let closed = report.population.closed.values().filter(|it| shown.closed || leaked(it));
    let mut rows: Vec<&Lifetime> = open.values().chain(closed).filter(|it| !shown.leaked || leaked(it)).collect();
    rows.sort_by_key(|it| (!leaked(it), it.closed.is_some(), it.opened, it.id));
    if rows.is_empty() {
        if report.target.is_some() {
            writeln!(out, "\nNothing {} at the end.", if shown.leaked { "leaked was open" } else { "was open" })?;
        }
        return Ok(());
    }
    let count = rows.iter().filter(|it| leaked(it)).count();
    let connections = open.values().filter(|it| it.resource.is_connection()).count();
    writeln!(
        out,
        "\n{count} leaked; open at the end: {} resources, {connections} of them connections; closed since: {}",
        open.len(),
        report.population.closed_total
    )?;
    let most = if shown.leaked || shown.closed { usize::MAX } else { SUMMARY_ROWS };
    let cells: Vec<Vec<String>> = rows.iter().take(most).map(|it| row(report, it)).collect();
    let columns = [
        ("", Align::Left),
        (if rows.iter().any(|it| it.resource.label.is_some()) { "ID" } else { "FD" }, Align::Right),
        ("KIND", Align::Left),
        ("LOCAL", Align::Left),
        ("REMOTE", Align::Left),
        ("STATE", Align::Left),
        ("AGE", Align::Right),
        ("SILENT", Align::Right),
        ("SENT", Align::Right),
        ("RECEIVED", Align::Right),
    ];
    let mut lines = table::lines(&columns, &cells, 2).into_iter();
    lines.next().map_or(Ok(()), |headings| writeln!(out, "{headings}"))?;
    for (line, it) in lines.zip(&rows) {
        writeln!(out, "{line}")?;
        let code = who::line(report, culprits, it).filter(|_| leaked(it) || shown.closed);
        code.map_or(Ok(()), |code| writeln!(out, "{code}"))?;
    }
    if rows.len() > most {
        let file = printable(&report.file);
        if count > most {
            writeln!(out, "  ... {} more that leaked: unclosed show {file} --leaked", count - most)?;
        } else {
            writeln!(out, "  ... {} more: unclosed show {file} -o json", rows.len() - most)?;
        }
    }
    Ok(())
}

fn row(report: &Report, it: &Lifetime) -> Vec<String> {
    let resource = &it.resource;
    let count = |value: Option<u64>| value.map(|it| bytes(it as f64)).unwrap_or_default();
    let mark = match (report.judged.leak_probability.get(&it.id), it.closed) {
        (_, Some(_)) if !report.judged.is_leaked(it.id) => "closed".to_owned(),
        (Some(probability), _) if report.judged.is_leaked(it.id) => {
            format!("leaked {:.0}%", (probability * 100.0).min(99.0))
        }
        _ => String::new(),
    };
    let bound = if it.is_older_than_recording() { ">" } else { "" };
    let fd = it.holders.first().map(|holder| holder.fd.to_string());
    let number = resource.label.as_deref().map(str::to_owned).or(fd).unwrap_or_default();
    vec![
        mark,
        number,
        resource.kind.name().to_owned(),
        resource.local.as_ref().map(ToString::to_string).or_else(|| resource.name.clone()).unwrap_or_default(),
        resource.remote.as_ref().map(ToString::to_string).unwrap_or_default(),
        resource.state.map(|state| state.name().to_owned()).unwrap_or_default(),
        format!("{bound}{}", duration_words(it.age_seconds(report.to))),
        it.silent_seconds(report.to).map(duration_words).unwrap_or_default(),
        count(resource.activity.bytes_sent),
        count(resource.activity.bytes_received),
    ]
}

/// The series, those that say something first, `most` of them.
fn series(out: &mut dyn Write, report: &Report, most: usize) -> io::Result<()> {
    let mut rows: Vec<&SeriesReport> = report.judged.series.iter().collect();
    rows.sort_by_key(|it| it.verdict.kind);
    writeln!(out, "\nSeries")?;
    let above = report.verdict().map(|verdict| verdict.sentence.as_str());
    let cells: Vec<Vec<String>> = rows
        .iter()
        .take(most)
        .map(|it| {
            let why = if above == Some(&it.verdict.sentence) { "as above" } else { &it.verdict.sentence };
            let last = it.last.map(|last| measure(last, it.series.unit));
            vec![it.series.name.clone(), last.unwrap_or_default(), it.verdict.kind.word().to_owned(), why.to_owned()]
        })
        .collect();
    let own = report.judged.own.iter().map(|(series, last)| {
        let last = last.map(|last| measure(last, series.unit)).unwrap_or_default();
        vec![series.name.clone(), last, String::new(), "of unclosed itself: not judged".to_owned()]
    });
    let cells: Vec<Vec<String>> = cells.into_iter().chain(own).collect();
    let columns = [("NAME", Align::Left), ("LAST", Align::Right), ("VERDICT", Align::Left), ("WHY", Align::Left)];
    table::write(out, &columns, &cells, 2)?;
    if rows.len() > most {
        let file = printable(&report.file);
        writeln!(out, "  ... {} more: unclosed show {file} --explain", rows.len() - most)?;
    }
    Ok(())
}

fn notes(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    if !report.notes.is_empty() {
        writeln!(out, "\nNot seen, or skipped")?;
        for note in &report.notes {
            writeln!(out, "  - {}", printable(note))?;
        }
    }
    if let Some(cost) = report.cost {
        let span = report.to.seconds_since(report.from).max(1e-3);
        let share = 100.0 * cost.cpu_seconds / span;
        writeln!(
            out,
            "\nWatching cost {:.2} s of CPU ({share:.2}% of one core), {} of memory, {} descriptors.",
            cost.cpu_seconds,
            cost.memory_bytes.map_or_else(|| "an unknown amount".to_owned(), |memory| bytes(memory as f64)),
            cost.descriptors.map_or_else(|| "an unknown number of".to_owned(), |count| count.to_string())
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Exhaustion, Frame, Identity, Judged, Kind, LastUse, LifetimeId, Limit, Message, Process, ProcessId, ProcessKey,
        Resource, Series, SeriesKey, Stack, StackKey, Target, Use, Whereabouts,
    };

    fn leaked() -> Lifetime {
        Lifetime {
            id: LifetimeId(1),
            resource: Resource::new(Identity(1, 1), Kind::Tcp),
            holders: Vec::new(),
            accepted_by: None,
            opened_after: None,
            opened: Timestamp(0),
            opened_exact: true,
            last_seen: Timestamp(0),
            last_active: None,
            closed: None,
            ended_with_process: false,
            opener: None,
            last_use: None,
        }
    }

    #[test]
    fn nothing_in_a_recording_drives_the_terminal() {
        let nasty = "x\u{1b}]0;owned\u{7}\u{9b}2J\ry";
        let text = || nasty.to_owned();
        let process = Process {
            id: ProcessId { boot_id: "boot".into(), pid: 1, start_ticks: 1 },
            name: text(),
            command: text(),
            uid: 0,
            user: text(),
            started: Timestamp(0),
            ended: None,
        };
        let at = Timestamp(1);
        let exhausts = Exhaustion { limit: 1.0, name: text(), at, earliest: at, latest: None };
        let leak = Finding {
            since: Some(at),
            exhausts: Some(exhausts),
            steps: vec![text()],
            ..Finding::new(Verdict::Leak, nasty, nasty)
        };
        let series = Series { key: SeriesKey(1), name: text(), unit: Unit::Count, process: None };
        let mut all = Report {
            file: text(),
            target: Some(Target { name: text(), processes: [(ProcessKey(1), process.clone())].into() }),
            ticks: 2,
            judged: Judged {
                series: vec![SeriesReport { series, last: None, verdict: leak.clone() }],
                findings: vec![leak.clone(), leak],
                ..Judged::default()
            },
            limits: vec![Limit { name: text(), series: text(), value: 1.0 }],
            notes: vec![text()],
            ..Report::default()
        };
        let frame = Frame { function: Some(nasty.into()), file: Some(nasty.into()), line: Some(1), ..Frame::default() };
        all.stacks.insert(StackKey(1), Stack { frames: vec![frame], truncated: Some(nasty.into()) });
        all.labels.insert(StackKey(1), nasty.into());
        let by = || Use { stack: Some(StackKey(1)), thread: nasty.into(), tid: 1, at };
        let last = LastUse {
            by: by(),
            messages: vec![Message { at, text: nasty.into(), useful: true }],
            whereabouts: Some(Whereabouts { at, stack: Some(StackKey(1)), words: nasty.into() }),
        };
        let used = Lifetime { opener: Some(Box::new(by())), last_use: Some(Box::new(last)), ..leaked() };
        all.population.open.insert(used.id, used.clone());
        all.judged.leak_probability.insert(used.id, 1.0);
        for processes in 1..=2 {
            let mut out = Vec::new();
            report(&mut out, &all, Shown { explain: true, ..Shown::default() }).expect("memory takes it");
            let out = String::from_utf8(out).expect("text");
            assert!(out.contains("Who left them open") && out.contains("Where the threads are"), "{out}");
            assert!(!out.contains(|c: char| c.is_control() && c != '\n'), "{processes} processes: {out:?}");
            if let Some(target) = &mut all.target {
                target.processes.insert(ProcessKey(2), process.clone());
            }
        }
    }
}
