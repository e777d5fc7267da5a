//! `show`: the verdict of recordings and logs, and what it rests on.

use super::args::{By, ShowArgs, ShowForm};
use super::complain;
use super::error::{Failure, exit};
use super::{frames, moment};
use crate::analyse::Rules;
use crate::model::Verdict;
use crate::present::groups::GroupBy;
use crate::present::json::Told;
use crate::present::replay::{Replay, ReplayError};
use crate::present::text::Shown;
use crate::present::{json, live, text};
use crate::store::input::InputOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;

/// Files that each thread has read ahead of what is printed: enough that it seldom waits, few enough to hold.
const AHEAD: usize = 8;

/// `unclosed show`. A file that can't be read is reported and the others go on.
pub(crate) fn run(typed: &ShowArgs) -> Result<u8, Failure> {
    let rules = frames::rules(&typed.rules)?;
    let out = &mut io::BufWriter::new(io::stdout().lock());
    if let [file] = typed.files.as_slice() {
        // Straight to where it goes: of a long series nothing piles up.
        let verdict = show(typed, file, rules, out)?;
        out.flush()?;
        return Ok(code_of(typed, &[verdict]));
    }
    let mut verdicts = Vec::with_capacity(typed.files.len());
    let mut failed = false;
    each_in_order(
        &typed.files,
        |file| {
            let mut text = Vec::new();
            show(typed, file, rules.clone(), &mut text).map(|verdict| (verdict, text))
        },
        |number, shown| {
            match shown {
                Ok((verdict, text)) => {
                    head(typed, number, out)?;
                    out.write_all(&text)?;
                    verdicts.push(verdict);
                }
                Err(failure) => {
                    // What was said before it stands before it.
                    out.flush()?;
                    complain(&failure);
                    failed = true;
                }
            }
            Ok(())
        },
    )?;
    out.flush()?;
    Ok(if failed { exit::ERROR } else { code_of(typed, &verdicts) })
}

/// The gravest of the verdicts, where it was asked for.
fn code_of(typed: &ShowArgs, verdicts: &[Verdict]) -> u8 {
    let is_leak = |verdict: &Verdict| matches!(verdict, Verdict::Leak | Verdict::Plateau);
    match typed.fail_on_leak {
        true if verdicts.iter().any(is_leak) => exit::LEAK,
        true if verdicts.contains(&Verdict::Undecided) => exit::UNDECIDED,
        _ => exit::FINE,
    }
}

/// Works on all of `items`, on as many threads as there are cores, and hands the results on in the order of the items, until
/// taking one fails. Each thread has every n-th item and waits where it is [`AHEAD`] of what was taken.
fn each_in_order<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
    mut take: impl FnMut(usize, R) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(items.len()).max(1);
    thread::scope(|scope| {
        let results: Vec<_> = (0..threads)
            .map(|first| {
                let (send, results) = sync_channel(AHEAD);
                let work = &work;
                scope.spawn(move || {
                    // Where nobody takes any more the rest is left.
                    let _ = items.iter().skip(first).step_by(threads).try_for_each(|item| send.send(work(item)));
                });
                results
            })
            .collect();
        for number in 0..items.len() {
            // A thread that panicked has said so, and has nothing more to give.
            let Ok(result) = results[number % threads].recv() else { break };
            take(number, result)?;
        }
        Ok(())
    })
}

/// What stands before the text of one file among several.
fn head(typed: &ShowArgs, number: usize, out: &mut dyn Write) -> io::Result<()> {
    if typed.format != ShowForm::Text {
        return Ok(());
    }
    if number > 0 {
        writeln!(out)?;
    }
    writeln!(out, "== {}", typed.files[number].display())
}

fn show(typed: &ShowArgs, file: &Path, rules: Rules, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let mut replay = Replay::open_by_rules(file, InputOptions { lsof_header: typed.log.lsof_header }, rules)?;
    if typed.since.is_some() || typed.until.is_some() {
        let (from, to) = (replay.report.from, replay.report.to);
        let window = moment::window(typed.since.as_deref(), typed.until.as_deref(), from, to)?;
        replay = replay.within(window).map_err(|error| match error {
            ReplayError::NoTick { .. } => Failure::usage(error.to_string()).hint(moment::range(from, to)),
            other => other.into(),
        })?;
    }
    let report = &replay.report;
    let by = typed.by.map(|by| match by {
        By::Opener => GroupBy::Opener,
        By::LastUse => GroupBy::LastUse,
        By::Endpoint => GroupBy::Endpoint,
        By::Query => GroupBy::Query,
        By::State => GroupBy::State,
        By::Age => GroupBy::Age,
    });
    match typed.format {
        ShowForm::Json => json::write(out, report, Told { closed: typed.closed, by }, true)?,
        ShowForm::Jsonl => json::write(out, report, Told { closed: typed.closed, by }, false)?,
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
            let shown = Shown { leaked: typed.leaked, closed: typed.closed, explain: typed.explain, by };
            text::report(out, report, shown)?;
        }
    }
    Ok(report.verdict().map_or(Verdict::Undecided, |finding| finding.kind))
}
