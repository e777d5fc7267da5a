//! `show`: the verdict of recordings and logs, and what it rests on.

use super::args::{By, ShowArgs, ShowForm};
use super::complain;
use super::error::{Failure, exit};
use super::moment;
use crate::model::Verdict;
use crate::present::replay::{Replay, ReplayError};
use crate::present::text::{GroupBy, Shown};
use crate::present::{json, live, text};
use crate::store::log::LogOptions;
use std::io::{self, Write};
use std::path::Path;

/// `unclosed show`. A file that can't be read is reported and the others go on.
pub(crate) fn run(typed: &ShowArgs) -> Result<u8, Failure> {
    let out = &mut io::BufWriter::new(io::stdout().lock());
    let mut code = exit::FINE;
    for (number, file) in typed.files.iter().enumerate() {
        match show(typed, file, number, out) {
            Ok(Verdict::Leak | Verdict::Plateau) if typed.fail_on_leak && code != exit::ERROR => code = exit::LEAK,
            Ok(Verdict::Undecided) if typed.fail_on_leak && code == exit::FINE => code = exit::UNDECIDED,
            Ok(_) => {}
            // Nobody reads us any more, or a single file: no others to go on with.
            Err(failure) if failure.code == exit::FINE || typed.files.len() == 1 => return Err(failure),
            Err(failure) => {
                complain(&failure);
                code = exit::ERROR;
            }
        }
    }
    out.flush()?;
    Ok(code)
}

fn show(typed: &ShowArgs, file: &Path, number: usize, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let mut replay = Replay::open(file, LogOptions { lsof_header: typed.log.lsof_header })?;
    if typed.since.is_some() || typed.until.is_some() {
        let (from, to) = (replay.report.from, replay.report.to);
        let window = moment::window(typed.since.as_deref(), typed.until.as_deref(), from, to)?;
        replay = replay.within(window).map_err(|error| match error {
            ReplayError::NoTick { .. } => Failure::usage(error.to_string()).hint(moment::range(from, to)),
            other => other.into(),
        })?;
    }
    let report = &replay.report;
    match typed.format {
        ShowForm::Json => writeln!(out, "{:#}", json::report(report, typed.closed))?,
        ShowForm::Jsonl => writeln!(out, "{}", json::report(report, typed.closed))?,
        ShowForm::Csv => {
            let points = replay.points(replay.named(typed.series.as_deref())?)?;
            // Samples closer together than a second need their fractions to stay apart.
            let fractions = report.every_seconds.is_some_and(|every| every < 1.0)
                || points.times.windows(2).any(|pair| pair[1].0 - pair[0].0 < 1_000_000);
            for (at, value) in points.times.iter().zip(&points.values).filter(|(_, value)| !value.is_nan()) {
                writeln!(out, "{}", live::csv_line(*at, *value, fractions))?;
            }
        }
        ShowForm::Text => {
            if number > 0 {
                writeln!(out)?;
            }
            if typed.files.len() > 1 {
                writeln!(out, "== {}", file.display())?;
            }
            let by = typed.by.map(|by| match by {
                By::Endpoint => GroupBy::Endpoint,
                By::State => GroupBy::State,
                By::Age => GroupBy::Age,
            });
            text::report(
                out,
                report,
                Shown { leaked: typed.leaked, closed: typed.closed, explain: typed.explain, by },
            )?;
        }
    }
    Ok(report.verdict().map_or(Verdict::Undecided, |finding| finding.kind))
}
