//! `import`: a recording out of a log of `unix_time,value`.

use super::args::ImportArgs;
use super::error::{Failure, exit};
use super::{called_as, talk};
use crate::model::{Series, SeriesKey, Tick, Unit};
use crate::present::replay::Replay;
use crate::present::text;
use crate::store::log::{self, LogOptions};
use crate::store::{Retention, Writer};
use std::io;
use std::time::Duration;

/// `unclosed import`.
pub(crate) fn run(typed: &ImportArgs) -> Result<u8, Failure> {
    let options = LogOptions { lsof_header: typed.log.lsof_header };
    let log = log::read(&typed.file, options)?;
    let every = Duration::try_from_secs_f64(log.interval_seconds.unwrap_or(0.0)).unwrap_or_default();
    let mut writer = Writer::create(&typed.output, every, "", Retention::default())?;
    let series = Series { key: SeriesKey(1), name: "value".into(), unit: Unit::Count, process: None };
    let at = log.points.times.last().copied().unwrap_or_default();
    let facts = Tick { at, gaps: log.gaps, events: log.events, notes: log.notes, ..Tick::default() };
    writer.append_log(&series, &log.points, &facts)?;
    drop(writer);
    let replay = Replay::open(&typed.output, LogOptions { lsof_header: false })?;
    text::summary(&mut io::stdout().lock(), &replay.report)?;
    for note in &replay.report.notes {
        talk(&format!("  - {note}"));
    }
    let file = typed.output.display();
    talk(&format!("Recording: {file}\nNext:      {} view {file}", called_as()));
    Ok(exit::FINE)
}
