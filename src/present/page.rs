//! The page: one HTML file that opens offline, loads nothing and sends nothing.
//!
//! The file is in the order in which a reader needs it, for a browser runs it while it still reads: the facts (JSON),
//! the coarsest level of the series that are drawn at once, the program, and only then the table's rows, the finer
//! levels and the samples. Those lie in blocks (`store::block`, base64, each in a `<script>` of a type that no browser
//! runs) and are decoded when a reader zooms to them.
//!
//! Names in a recording were chosen by the processes that were watched, so none of them is ever written as HTML: the
//! file holds them as JSON without a `<`, and the program makes text nodes of them. A policy in the head lets nothing
//! run but what this module wrote, and nothing be fetched.

mod blocks;
mod facts;

use crate::model::{Finding, Limit, Points, Report, Series, SeriesReport, Verdict};
use blocks::Layers;
use serde::Serialize;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Write};

/// The page's frame; `{{slot}}` marks what is filled in.
const TEMPLATE: &str = include_str!("../../web/page.html");

/// Style sheets, in the order of their precedence.
const STYLES: [&str; 2] = [include_str!("../../web/vendor/uPlot.min.css"), include_str!("../../web/page.css")];

/// The chart library, with the licence that has to go where it goes.
const LIBRARY: [&str; 2] =
    [include_str!("../../web/vendor/uPlot.LICENSE"), include_str!("../../web/vendor/uPlot.iife.min.js")];

/// The program's modules, each after those that it imports.
const MODULES: [&str; 9] = [
    include_str!("../../web/block.mjs"),
    include_str!("../../web/format.mjs"),
    include_str!("../../web/element.mjs"),
    include_str!("../../web/layers.mjs"),
    include_str!("../../web/span.mjs"),
    include_str!("../../web/chart.mjs"),
    include_str!("../../web/verdict.mjs"),
    include_str!("../../web/resources.mjs"),
    include_str!("../../web/page.mjs"),
];

/// How many series are drawn without being asked for: what fits on two screens.
const SHOWN_MAX: usize = 6;

/// How many series a page has: those of a month at 5 s take half a gigabyte of memory while it is made. Its notes say how
/// many were left out.
pub const SERIES_MAX: usize = 64;

/// A series on the page.
#[derive(Clone, Debug)]
pub struct PageSeries<'a> {
    /// The series.
    pub series: &'a Series,
    /// All of its samples.
    pub points: &'a Points,
    /// The limits that bound it.
    pub limits: Vec<&'a Limit>,
    /// The verdict on it alone.
    pub verdict: &'a Finding,
}

/// Writes the page of `report` with the samples of `series`, the important ones first whatever their order is.
///
/// Holds one block of samples at a time, beside the envelopes (a bucket for every 64 samples).
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write, report: &Report, series: &[PageSeries]) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, out);
    let series = by_importance(series);
    let shown = series.iter().filter(|it| importance(it.series, it.verdict) <= IMPORTANT).count().clamp(1, SHOWN_MAX);
    let layers: Vec<Layers> =
        series.iter().enumerate().map(|(index, series)| Layers::new(index, series, &report.gaps)).collect();
    let nonce = nonce();
    for piece in TEMPLATE.split("{{") {
        let (slot, text) = piece.split_once("}}").unwrap_or(("", piece));
        match slot {
            "nonce" => out.write_all(nonce.as_bytes())?,
            "style" => STYLES.iter().try_for_each(|style| out.write_all(style.as_bytes()))?,
            "facts" => write_json(&mut out, &facts::facts(report, &series, &layers, shown))?,
            "first" => layers.iter().take(shown).try_for_each(|layers| layers.write_coarsest(&mut out))?,
            "program" => write_program(&mut out)?,
            "resources" => write_json(&mut out, &facts::Resources(report))?,
            "rest" => {
                layers.iter().skip(shown).try_for_each(|layers| layers.write_coarsest(&mut out))?;
                layers.iter().try_for_each(|layers| layers.write_finer(&mut out))?;
            }
            _ => {}
        }
        out.write_all(text.as_bytes())?;
    }
    out.flush()
}

/// The last rank of [`importance`] that is drawn without being asked for.
const IMPORTANT: u8 = 2;

/// Of a file, what [`is_page`] is to be asked about.
pub const HEAD_LENGTH: u64 = 1024;

/// True where a file that begins with `head` is a page of ours.
pub fn is_page(head: &[u8]) -> bool {
    let begins = TEMPLATE.split("{{").next().is_some_and(|begin| head.starts_with(begin.as_bytes()));
    begins && String::from_utf8_lossy(head).contains("<title>unclosed</title>")
}

/// The series of a report that a page has room for, the important ones first.
pub fn most_important(report: &Report) -> Vec<&SeriesReport> {
    let mut series: Vec<&SeriesReport> = report.judged.series.iter().collect();
    series.sort_by_key(|it| importance(&it.series, &it.verdict));
    series.truncate(SERIES_MAX);
    series
}

/// What is looked at first: the connections (a log's only series), what is judged to leak, what somebody asked to
/// measure and the two other totals; then the parts.
fn importance(series: &Series, verdict: &Finding) -> u8 {
    match series.name.as_str() {
        "connections" | "value" => 0,
        // The same line once more, but for what listens.
        "internet" | "descriptors:tcp" | "descriptors:unix" => 4,
        _ if matches!(verdict.kind, Verdict::Leak | Verdict::Plateau) => 1,
        "memory" | "descriptors" => 2,
        name if name.starts_with("disk:") || name.starts_with("command:") => 2,
        name if !name.contains(':') => 3,
        _ => 4,
    }
}

fn by_importance<'a, 'b>(series: &'b [PageSeries<'a>]) -> Vec<&'b PageSeries<'a>> {
    let mut series: Vec<&PageSeries> = series.iter().collect();
    // Stable: equals stay in the order of the recording.
    series.sort_by_key(|it| importance(it.series, it.verdict));
    series
}

/// Names the scripts and styles of this very file in its policy. Whoever chose the names in a recording chose them
/// before this number was drawn.
fn nonce() -> String {
    // The one source of randomness in the standard library: keys that the system draws.
    format!("{:016x}{:016x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1))
}

/// Writes the library and the modules as one script: a module's `import` lines are left out and the word `export` too,
/// since all of them share one scope. So each import stands on one line and renames nothing.
fn write_program(out: &mut dyn Write) -> io::Result<()> {
    let [licence, library] = LIBRARY;
    write!(out, "/*\n{licence}*/\n{library}\n(() => {{\n'use strict';\n")?;
    for line in MODULES.iter().flat_map(|module| module.lines()) {
        if !line.starts_with("import ") {
            writeln!(out, "{}", line.strip_prefix("export ").unwrap_or(line))?;
        }
    }
    out.write_all(b"})();\n")
}

fn write_json(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(WithoutLessThan(out), value).map_err(io::Error::from)
}

/// Passes JSON on with every `<` written as `\u003c`, so that no text in it can end the `<script>` around it. In JSON
/// the sign occurs in texts only.
struct WithoutLessThan<'a>(&'a mut dyn Write);

impl Write for WithoutLessThan<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for (index, piece) in bytes.split(|byte| *byte == b'<').enumerate() {
            if index > 0 {
                self.0.write_all(b"\\u003c")?;
            }
            self.0.write_all(piece)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Gap, SeriesKey, Target, Timestamp, Unit};

    fn page(report: &Report, series: &[PageSeries]) -> String {
        let mut page = Vec::new();
        write(&mut page, report, series).expect("memory takes it");
        String::from_utf8(page).expect("text")
    }

    fn series(name: &str) -> Series {
        Series { key: SeriesKey(0), name: name.to_owned(), unit: Unit::Count, process: None }
    }

    #[test]
    fn an_empty_page_is_small_and_names_no_address() {
        let page = page(&Report::default(), &[]);
        assert!(page.len() < 150_000, "{} bytes", page.len());
        assert!(
            is_page(&page.as_bytes()[..HEAD_LENGTH as usize]) && !is_page(b"<!doctype html>\n<title>unclosed</title>")
        );
        let attributes = ["src=", "href=\"http", "@import", "url("];
        assert!(attributes.iter().all(|attribute| !page.contains(attribute)));
    }

    #[test]
    fn no_text_of_a_recording_ends_a_script() {
        let nasty = "</script><img src=x onerror=alert(1)><!-- <script>";
        let target = Target { name: nasty.to_owned(), ..Target::default() };
        let gap = Gap { from: Timestamp(1), to: Timestamp(2), series: None, reason: nasty.to_owned() };
        let report = Report {
            target: Some(target),
            file: format!("/tmp/{nasty}"),
            gaps: vec![gap],
            notes: vec![nasty.to_owned()],
            ..Report::default()
        };
        let series = series(nasty);
        let verdict = Finding::new(Verdict::Undecided, nasty, nasty);
        let points = Points { times: vec![Timestamp(1)], values: vec![1.0] };
        let with = page(&report, &[PageSeries { series: &series, points: &points, limits: vec![], verdict: &verdict }]);
        assert!(!with.contains("<img"));
        let tags = |page: &str| page.matches('<').count();
        // One series of one block adds one script, opened and closed.
        assert_eq!(tags(&with), tags(&page(&Report::default(), &[])) + 2);
    }

    #[test]
    fn series_beyond_what_a_page_has_room_for_are_told_of() {
        let of = |index: usize| SeriesReport {
            series: series(&format!("connections:10.0.0.{index}:5432")),
            last: None,
            verdict: Finding::new(if index == 99 { Verdict::Leak } else { Verdict::Clean }, "", ""),
        };
        let mut report = Report::default();
        report.judged.series = (0..100).map(of).collect();
        let kept = most_important(&report);
        assert_eq!((kept.len(), kept[0].series.name.as_str()), (SERIES_MAX, "connections:10.0.0.99:5432"));
        let points = Points::default();
        let kept: Vec<PageSeries> = (kept.into_iter())
            .map(|SeriesReport { series, verdict, .. }| PageSeries { series, points: &points, limits: vec![], verdict })
            .collect();
        assert!(page(&report, &kept).contains("36 more series are not on this page"));
        assert!(!page(&Report::default(), &kept).contains("not on this page"));
    }

    #[test]
    fn the_important_series_come_first() {
        let names = ["threads", "memory", "connections:10.0.0.5:5432", "connections", "descriptors:pipe"];
        let all: Vec<Series> = names.map(series).into();
        let points = Points::default();
        let (clean, leak) = (Finding::new(Verdict::Clean, "", ""), Finding::new(Verdict::Leak, "", ""));
        let of = |series| PageSeries { series, points: &points, limits: vec![], verdict: &clean };
        let mut pages: Vec<PageSeries> = all.iter().map(of).collect();
        pages[2].verdict = &leak;
        let order: Vec<&str> = by_importance(&pages).iter().map(|page| page.series.name.as_str()).collect();
        assert_eq!(order, ["connections", "connections:10.0.0.5:5432", "memory", "threads", "descriptors:pipe"]);
    }
}
