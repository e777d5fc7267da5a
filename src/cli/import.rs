//! `import`: a recording out of a log of `unix_time,value` or a CSV of lifetimes.

use super::args::ImportArgs;
use super::error::{Failure, exit};
use super::{called_as, talk};
use crate::present::replay::Replay;
use crate::present::text;
use crate::store::input::{self, Input, InputOptions};
use crate::store::{Retention, Writer};
use std::io;
use std::time::Duration;

/// `unclosed import`.
pub(crate) fn run(typed: &ImportArgs) -> Result<u8, Failure> {
    let input = input::read(&typed.file, InputOptions { lsof_header: typed.log.lsof_header })?;
    let every_seconds = match &input {
        Input::Log(log) => log.interval_seconds.unwrap_or(0.0),
        Input::Lifetimes(lifetimes) => lifetimes.every_seconds,
    };
    let every = Duration::try_from_secs_f64(every_seconds).unwrap_or_default();
    let mut writer = Writer::create(&typed.output, every, "", Retention::default())?;
    writer.append_input(input)?;
    // Its reader is gone before the writer ends, which leaves one file behind where nobody reads.
    let report = Replay::open(&typed.output, InputOptions::default())?.report;
    writer.append_verdicts(&report.history)?;
    drop(writer);
    text::summary(&mut io::stdout().lock(), &report)?;
    for note in &report.notes {
        talk(&format!("  - {note}"));
    }
    let file = typed.output.display();
    talk(&format!("Recording: {file}\nNext:      {} view {file}", called_as()));
    Ok(exit::FINE)
}
