//! All that a text tells, written into a recording at once.

use super::error::StoreError;
use super::input::Input;
use super::lifetime;
use super::lifetimes::Lifetimes;
use super::log::Log;
use super::writer::{self, Writer};
use crate::model::{Points, Population, Series, SeriesKey, Tick, Timestamp, Unit, VerdictChange};
use rusqlite::Transaction;

/// Ticks of a segment: long enough to compress well, short enough to read one for a zoom.
const SEGMENT_TICKS: usize = 8_192;

/// Values of a segment, where there are many series.
const SEGMENT_VALUES: usize = 1 << 20;

impl Writer {
    /// Writes what a text says into a recording that is still empty.
    pub fn append_input(&mut self, input: Input) -> Result<(), StoreError> {
        match input {
            Input::Log(Log { points, gaps, events, notes, .. }) => {
                let Points { times, values } = points;
                let series = Series { key: SeriesKey(1), name: "value".into(), unit: Unit::Count, process: None };
                let at = times.last().copied().unwrap_or_default();
                let facts = Tick { at, added: vec![series], gaps, events, notes, ..Tick::default() };
                self.transact(|transaction| {
                    writer::write_facts(transaction, &facts)?;
                    write_segments(transaction, &facts.added, &times, &[values])
                })
            }
            Input::Lifetimes(Lifetimes { population, series, times, columns, notes, .. }) => {
                let at = times.last().copied().unwrap_or_default();
                let facts = Tick { at, added: series, notes, ..Tick::default() };
                self.transact(|transaction| {
                    writer::write_facts(transaction, &facts)?;
                    write_segments(transaction, &facts.added, &times, &columns)?;
                    write_population(transaction, &population)
                })
            }
        }
    }

    /// Writes what was said when, where that is known only after all else was written.
    pub fn append_verdicts(&mut self, verdicts: &[VerdictChange]) -> Result<(), StoreError> {
        self.transact(|transaction| verdicts.iter().try_for_each(|verdict| writer::write_verdict(transaction, verdict)))
    }
}

/// Each of the columns is as long as `times` and belongs to the series at its place.
fn write_segments(
    transaction: &Transaction,
    series: &[Series],
    times: &[Timestamp],
    columns: &[Vec<f64>],
) -> rusqlite::Result<()> {
    let keys: Vec<f64> = series.iter().map(|series| f64::from(series.key.0)).collect();
    let ticks = SEGMENT_TICKS.min(SEGMENT_VALUES / columns.len().max(1)).max(1);
    for (number, part) in times.chunks(ticks).enumerate() {
        let times: Vec<f64> = part.iter().map(|at| at.0 as f64).collect();
        let rows = number * ticks..number * ticks + part.len();
        let values: Vec<&[f64]> = columns.iter().filter_map(|column| column.get(rows.clone())).collect();
        writer::write_segment(transaction, &times, &keys, &values)?;
    }
    Ok(())
}

fn write_population(transaction: &Transaction, population: &Population) -> rusqlite::Result<()> {
    let opened = population.open.values().chain(population.closed.values()).cloned().collect();
    lifetime::write(transaction, &Tick { opened, ..Tick::default() })?;
    writer::write_tallies(transaction, &population.tallies)
}
