//! `top`: every process of the machine, ranked by what it may be leaking.

use super::args::{ListForm, TopArgs};
use super::error::{Failure, exit};
use super::keys::Keys;
use super::options::{self, EVERY_DEFAULT};
use super::session::wall;
use super::wake::{Schedule, Wake};
use super::{called_as, is_watched_by_a_person, talk, terminal_size};
use crate::analyse::Ranking;
use crate::model::Timestamp;
use crate::present::canvas::Canvas;
use crate::present::top::Top;
use crate::sample::{MachineReader, ProcFs, own_cost};
use std::io::{self, BufWriter, Stdout, Write};
use std::time::Duration;

/// Rows of a printed table unless told otherwise: what a person reads.
const ROWS_DEFAULT: usize = 20;

/// Lines of a screen that are no processes: the heading, and what stands below the table.
const ROWS_BESIDES: usize = 6;

/// `unclosed top`.
pub(crate) fn run(typed: &TopArgs) -> Result<u8, Failure> {
    let silent = options::duration("--silent", &typed.silent)?;
    let every = options::interval(typed.every.as_deref(), EVERY_DEFAULT)?;
    let length = typed.duration.as_deref().map(|text| options::duration("--for", text)).transpose()?;
    let mut look = Look::new(silent);
    if typed.format == ListForm::Table && is_watched_by_a_person() {
        draw(typed, &mut look, every, length)?;
    } else {
        print(typed, &mut look, every, length)?;
    }
    Ok(exit::FINE)
}

/// One pass after the other.
struct Look {
    reader: MachineReader,
    ranking: Ranking,
    silent: Duration,
    since: Option<Timestamp>,
}

impl Look {
    fn new(silent: Duration) -> Self {
        let reader = MachineReader::new(&ProcFs::system(), silent);
        Look { reader, ranking: Ranking::default(), silent, since: None }
    }

    fn again(&mut self) -> Top {
        let snapshot = self.reader.read(wall());
        Top {
            at: snapshot.at,
            since: *self.since.get_or_insert(snapshot.at),
            silent_longer_than_seconds: self.silent.as_secs_f64(),
            ranked: self.ranking.advance(&snapshot),
            source: self.reader.source(),
            notes: snapshot.unseen,
            cost: Some(own_cost()),
        }
    }
}

/// On a terminal: a table that is drawn anew.
fn draw(typed: &TopArgs, look: &mut Look, every: Duration, length: Option<Duration>) -> Result<(), Failure> {
    let mut schedule = Schedule::start(every, false)?;
    schedule.end_after(length);
    let _keys = Keys::end_at_q(schedule.waker());
    let mut canvas = Canvas::new(io::stdout());
    while schedule.wait() == Wake::Tick {
        let top = look.again();
        let (width, height) = terminal_size();
        let fits = height.saturating_sub(ROWS_BESIDES + top.notes.len()).max(1);
        let mut lines = Vec::new();
        top.text(&mut lines, typed.rows.unwrap_or(fits).min(fits), &called_as())?;
        let mut lines: Vec<String> = String::from_utf8_lossy(&lines).lines().map(str::to_owned).collect();
        lines.extend(top.notes.iter().map(|note| format!("Unseen: {note}")));
        lines.push(format!("Read from {}. q or Ctrl-C ends it.", top.source));
        canvas.draw(&lines, width, height)?;
    }
    canvas.end()?;
    Ok(())
}

/// Elsewhere: one look and the end, or one after the other where an interval or a length of time was given.
fn print(typed: &TopArgs, look: &mut Look, every: Duration, length: Option<Duration>) -> Result<(), Failure> {
    // Standard output by itself makes a system call of every line.
    let mut out = BufWriter::new(io::stdout());
    if typed.every.is_none() && length.is_none() {
        return print_one(typed, &look.again(), true, &mut out);
    }
    let mut schedule = Schedule::start(every, false)?;
    schedule.end_after(length);
    let mut is_first = true;
    while schedule.wait() == Wake::Tick {
        print_one(typed, &look.again(), std::mem::replace(&mut is_first, false), &mut out)?;
    }
    Ok(())
}

/// What could not be seen is told once on stderr, where the object has no place for it.
fn print_one(typed: &TopArgs, top: &Top, is_first: bool, out: &mut BufWriter<Stdout>) -> Result<(), Failure> {
    let rows = typed.rows.unwrap_or(if typed.format == ListForm::Table { ROWS_DEFAULT } else { usize::MAX });
    match typed.format {
        ListForm::Table => {
            if !is_first {
                writeln!(out)?;
            }
            top.text(out, rows, &called_as())?;
        }
        ListForm::Csv => top.csv(out, rows, is_first)?,
        ListForm::Json => writeln!(out, "{:#}", top.json(rows))?,
        ListForm::Jsonl => writeln!(out, "{}", top.json(rows))?,
    }
    out.flush()?;
    if is_first && matches!(typed.format, ListForm::Table | ListForm::Csv) {
        top.notes.iter().for_each(|note| talk(&format!("unclosed: {note}")));
    }
    Ok(())
}
