//! Writes a recording: one transaction a tick.

use super::error::StoreError;
use super::{block, code, lifetime, schema};
use crate::model::{
    EventKind, FURTHER_STACKS, KnownGroups, STACKS_MAX, Series, SeriesKey, Stack, StackKey, Tallies, Tick, Timestamp,
    Usage, VerdictChange,
};
use rusqlite::{Connection, OpenFlags, Transaction, params};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Ticks that make a segment: an hour at 5 s.
const SEAL_TICKS: usize = 720;

/// Values, holes included, that make a segment sooner, where there are many series: 8 MB in memory. A reader refuses 16
/// times as many.
const SEAL_VALUES: usize = 1 << 20;

/// Notes that are kept, each a row: one that names what changes must not fill the disk.
pub(super) const NOTES_MAX: usize = 1_000;

/// The one row in which further notes are counted.
const FURTHER_NOTES: &str = "further notes were not kept";

/// Changes of the verdict that are kept, the latest.
const VERDICTS_MAX: i64 = 1_000;

/// How long a reader may hold us up before a tick counts as not written.
const BUSY: Duration = Duration::from_secs(2);

/// What is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Samples and closed lifetimes older than this are dropped.
    pub age: Duration,
    /// The oldest are dropped when the file has grown beyond this.
    pub bytes: u64,
}

impl Default for Retention {
    /// A month and a gigabyte.
    fn default() -> Self {
        Retention { age: Duration::from_secs(31 * 86_400), bytes: 1 << 30 }
    }
}

/// An open recording that grows.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    connection: Connection,
    retention: Retention,
    /// The ticks that are rows, not sealed yet.
    unsealed: Vec<(Timestamp, Vec<(SeriesKey, f64)>)>,
    /// The series that these have: each is a column of the segment, however often it was measured.
    unsealed_series: BTreeSet<SeriesKey>,
    /// The groups that tallies tell apart; none at first, for a recording always begins empty.
    groups: KnownGroups,
    /// How many stacks were written.
    stacks: usize,
}

impl Writer {
    /// Makes a new recording. Fails where the file exists: a recording never overwrites.
    pub fn create(path: &Path, every: Duration, target: &str, retention: Retention) -> Result<Self, StoreError> {
        // Made by us, so that nothing that appears meanwhile is written over, and closed to other users.
        let mut options = std::fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.write(true).create_new(true).open(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => StoreError::Exists(path.to_owned()),
            std::io::ErrorKind::NotFound => StoreError::NoFolder(path.to_owned()),
            _ => StoreError::io(path, "to create it", source),
        })?;
        let made = Self::fill(path, every, target, retention);
        if made.is_err() {
            // Nothing is in it: leaving it would only be in the way.
            let _ = std::fs::remove_file(path);
        }
        made
    }

    fn fill(path: &Path, every: Duration, target: &str, retention: Retention) -> Result<Self, StoreError> {
        let failed = |source| StoreError::sqlite(path, source);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        connection.execute_batch(schema::CREATE).map_err(failed)?;
        connection.execute_batch(schema::WRITER).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(32);
        let program = concat!("unclosed ", env!("CARGO_PKG_VERSION"));
        connection
            .execute(
                "INSERT INTO recording VALUES ('program', ?1), ('every_seconds', ?2), ('target', ?3)",
                params![program, every.as_secs_f64(), target],
            )
            .map_err(failed)?;
        Ok(Writer {
            path: path.to_owned(),
            connection,
            retention,
            unsealed: Vec::new(),
            unsealed_series: BTreeSet::new(),
            groups: KnownGroups::default(),
            stacks: 0,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a tick, all of it or nothing, and the verdict where it has changed.
    pub fn append(&mut self, tick: &Tick, verdict: Option<&VerdictChange>) -> Result<(), StoreError> {
        let tallies = self.tallies(tick);
        self.write(tick, verdict.map_or(&[], std::slice::from_ref), &tallies)
    }

    /// What a tick adds to the tallies. Ticks are to be counted in their order, whenever they are written.
    pub(super) fn tallies(&mut self, tick: &Tick) -> Tallies {
        Tallies::of(tick, &mut self.groups)
    }

    /// Writes a tick with what it adds to the tallies, all of it or nothing.
    pub(super) fn write(
        &mut self,
        tick: &Tick,
        verdicts: &[VerdictChange],
        tallies: &Tallies,
    ) -> Result<(), StoreError> {
        let path = self.path.clone();
        self.unsealed_series.extend(tick.values.iter().map(|(key, _)| *key));
        let rows = self.unsealed.len() + 1;
        let seals = rows >= SEAL_TICKS || rows * self.unsealed_series.len() >= SEAL_VALUES;
        let stacks = tick.stacks.len().min(STACKS_MAX - self.stacks);
        let transaction = self.connection.transaction().map_err(|source| StoreError::sqlite(&path, source))?;
        write_tick(&transaction, tick)
            .and_then(|()| code::write_stacks(&transaction, &tick.stacks[..stacks]))
            .and_then(|()| match stacks < tick.stacks.len() {
                true => write_note(&transaction, FURTHER_STACKS, tick.at.0),
                false => Ok(()),
            })
            .and_then(|()| write_tallies(&transaction, tallies))
            .and_then(|()| verdicts.iter().try_for_each(|verdict| write_verdict(&transaction, verdict)))
            .and_then(|()| {
                if seals {
                    let mut ticks: Vec<(Timestamp, &[(SeriesKey, f64)])> =
                        self.unsealed.iter().map(|(at, values)| (*at, values.as_slice())).collect();
                    ticks.push((tick.at, &tick.values));
                    seal(&transaction, &ticks)?;
                    retain(&transaction, self.retention, tick.at)?;
                }
                Ok(())
            })
            .and_then(|()| transaction.commit())
            .map_err(|source| StoreError::sqlite(&path, source))?;
        self.stacks += stacks;
        if seals {
            self.unsealed.clear();
            self.unsealed_series.clear();
            // What was freed goes back to the file system; not doing so now only keeps it for later.
            let _ = give_back(&self.connection);
        } else {
            self.unsealed.push((tick.at, tick.values.clone()));
        }
        Ok(())
    }

    /// Writes what was learned and said after the last tick.
    pub(super) fn append_late(
        &mut self,
        verdicts: &[VerdictChange],
        used: &[Usage],
        stacks: &[(StackKey, Stack)],
    ) -> Result<(), StoreError> {
        let stacks = &stacks[..stacks.len().min(STACKS_MAX - self.stacks)];
        self.transact(|transaction| {
            code::write_stacks(transaction, stacks)?;
            let mut code = code::Statements::prepare(transaction)?;
            used.iter().try_for_each(|usage| code.write_last_use(usage.id, &usage.last))?;
            verdicts.iter().try_for_each(|verdict| write_verdict(transaction, verdict))
        })?;
        self.stacks += stacks.len();
        Ok(())
    }

    /// Writes by `write`, all of it or nothing.
    pub(super) fn transact(
        &mut self,
        write: impl FnOnce(&Transaction) -> rusqlite::Result<()>,
    ) -> Result<(), StoreError> {
        let transaction = self.connection.transaction().map_err(|source| StoreError::sqlite(&self.path, source))?;
        let written = write(&transaction).and_then(|()| transaction.commit());
        written.map_err(|source| StoreError::sqlite(&self.path, source))
    }

    /// Makes it refuse all that is to be written, as a full disk does, or take it again.
    #[cfg(test)]
    pub(super) fn refuse(&self, refuses: bool) {
        self.connection.pragma_update(None, "query_only", refuses).expect("SQLite knows it");
    }

    /// The bytes that it takes on disk by now, the log beside it included.
    pub fn bytes(&self) -> u64 {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        size(&self.path) + size(Path::new(&log))
    }
}

impl Drop for Writer {
    /// Folds the log into the file, so that a recording that was ended is one file and needs nothing beside it.
    fn drop(&mut self) {
        // Where that fails (a full disk, a reader) the log stays beside it and is part of the recording.
        let _ = self.connection.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()));
    }
}

fn write_tick(transaction: &Transaction, tick: &Tick) -> rusqlite::Result<()> {
    // Also where nothing was measured, as at the end of a target: the tick was taken, and a replay is to know it.
    let keys: Vec<f64> = tick.values.iter().map(|(key, _)| f64::from(key.0)).collect();
    let values: Vec<f64> = tick.values.iter().map(|(_, value)| *value).collect();
    let columns = block::encode(&[&keys, &values]);
    transaction.prepare_cached("INSERT OR REPLACE INTO tick VALUES (?, ?)")?.execute(params![tick.at.0, columns])?;
    lifetime::write(transaction, tick)?;
    write_facts(transaction, tick)
}

/// All of a tick but its values and lifetimes.
pub(super) fn write_facts(transaction: &Transaction, tick: &Tick) -> rusqlite::Result<()> {
    let at = tick.at.0;
    for (key, process) in &tick.started {
        transaction.prepare_cached("INSERT OR REPLACE INTO process VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?.execute(
            params![
                key.0,
                &*process.id.boot_id,
                process.id.pid,
                process.id.start_ticks as i64,
                process.name,
                process.command,
                process.uid,
                process.user,
                process.started.0,
                process.ended.map(|ended| ended.0)
            ],
        )?;
    }
    // A tick that several were made of has the moments in its events.
    let endings = tick.events.iter().filter(|event| event.kind == EventKind::Ended);
    let moments: BTreeMap<_, _> = endings.filter_map(|event| Some((event.process?, event.at.0))).collect();
    for key in &tick.ended {
        transaction
            .prepare_cached("UPDATE process SET ended = ? WHERE id = ?")?
            .execute(params![moments.get(key).unwrap_or(&at), key.0])?;
    }
    for series in &tick.added {
        write_series(transaction, series)?;
    }
    for limit in &tick.limits {
        transaction
            .prepare_cached("INSERT INTO bound(at, name, series, value) VALUES (?, ?, ?, ?)")?
            .execute(params![at, limit.name, limit.series, limit.value])?;
    }
    for gap in &tick.gaps {
        // A gap that lasts is one gap, however many ticks it takes.
        transaction.prepare_cached("INSERT OR REPLACE INTO gap VALUES (?, ?, ?, ?)")?.execute(params![
            gap.series.as_deref().unwrap_or(""),
            gap.from.0,
            gap.to.0,
            gap.reason
        ])?;
    }
    for event in &tick.events {
        transaction
            .prepare_cached("INSERT INTO event(at, process, kind, text) VALUES (?, ?, ?, ?)")?
            .execute(params![event.at.0, event.process.map(|key| key.0), event.kind.name(), event.text])?;
    }
    for note in &tick.notes {
        write_note(transaction, note, at)?;
    }
    if let Some(cost) = &tick.cost {
        transaction.prepare_cached("INSERT OR REPLACE INTO cost VALUES (1, ?, ?, ?)")?.execute(params![
            cost.cpu_seconds,
            cost.memory_bytes.map(|bytes| bytes as i64),
            cost.descriptors.map(|count| count as i64)
        ])?;
    }
    // Plain names and numbers: it always has a JSON.
    if let Some(command) = tick.command.as_ref().and_then(|command| serde_json::to_string(command).ok()) {
        transaction.prepare_cached("INSERT OR REPLACE INTO recording VALUES ('command', ?)")?.execute([command])?;
    }
    if let Some(every) = tick.every {
        transaction
            .prepare_cached("UPDATE recording SET value = ? WHERE name = 'every_seconds'")?
            .execute([every.as_secs_f64()])?;
    }
    Ok(())
}

fn write_series(transaction: &Transaction, series: &Series) -> rusqlite::Result<()> {
    let process = series.process.map(|key| key.0);
    transaction.prepare_cached("INSERT OR REPLACE INTO series VALUES (?, ?, ?, ?)")?.execute(params![
        series.key.0,
        series.name,
        series.unit.code(),
        process
    ])?;
    Ok(())
}

fn write_note(transaction: &Transaction, note: &str, at: i64) -> rusqlite::Result<()> {
    let mut again = transaction.prepare_cached("UPDATE note SET last = ?2, ticks = ticks + 1 WHERE text = ?1")?;
    if again.execute(params![note, at])? > 0 {
        return Ok(());
    }
    let mut known = transaction.prepare_cached("SELECT count(*) FROM note")?;
    let has_room = known.query_row([], |row| row.get::<_, i64>(0))? < NOTES_MAX as i64;
    let note = if has_room { note } else { FURTHER_NOTES };
    let upsert = "INSERT INTO note VALUES (?1, ?2, ?2, 1) ON CONFLICT DO UPDATE SET last = ?2, ticks = ticks + 1";
    transaction.prepare_cached(upsert)?.execute(params![note, at])?;
    Ok(())
}

pub(super) fn write_verdict(transaction: &Transaction, verdict: &VerdictChange) -> rusqlite::Result<()> {
    transaction.prepare_cached("INSERT INTO verdict(at, kind, sentence) VALUES (?, ?, ?)")?.execute(params![
        verdict.at.0,
        verdict.kind.word(),
        verdict.sentence
    ])?;
    transaction
        .prepare_cached("DELETE FROM verdict WHERE id <= (SELECT max(id) FROM verdict) - ?")?
        .execute([VERDICTS_MAX])?;
    Ok(())
}

pub(super) fn write_tallies(transaction: &Transaction, tallies: &Tallies) -> rusqlite::Result<()> {
    let mut write = transaction.prepare_cached(
        "INSERT INTO tally VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET opened = opened + ?3, closed = closed + ?4",
    )?;
    for (group, tally) in &tallies.groups {
        write.execute(params![group.kind.name(), group.endpoint, tally.opened as i64, tally.closed as i64])?;
    }
    code::write_tallies(transaction, &tallies.code)
}

/// Turns the unsealed ticks into one segment.
fn seal(transaction: &Transaction, ticks: &[(Timestamp, &[(SeriesKey, f64)])]) -> rusqlite::Result<()> {
    let times: Vec<f64> = ticks.iter().map(|(at, _)| at.0 as f64).collect();
    let mut columns: BTreeMap<SeriesKey, Vec<f64>> = BTreeMap::new();
    for (row, (_, values)) in ticks.iter().enumerate() {
        for (key, value) in *values {
            columns.entry(*key).or_insert_with(|| vec![f64::NAN; ticks.len()])[row] = *value;
        }
    }
    let keys: Vec<f64> = columns.keys().map(|key| f64::from(key.0)).collect();
    let values: Vec<&[f64]> = columns.values().map(Vec::as_slice).collect();
    write_segment(transaction, &times, &keys, &values)?;
    transaction.execute("DELETE FROM tick", [])?;
    Ok(())
}

pub(super) fn write_segment(
    transaction: &Transaction,
    times: &[f64],
    keys: &[f64],
    values: &[&[f64]],
) -> rusqlite::Result<()> {
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return Ok(()) };
    let mut columns = vec![times, keys];
    columns.extend(values);
    transaction.prepare_cached("INSERT OR REPLACE INTO segment VALUES (?, ?, ?, ?)")?.execute(params![
        *first as i64,
        *last as i64,
        times.len() as i64,
        block::encode(&columns)
    ])?;
    Ok(())
}

/// Drops what is too old, and the oldest of what is too much. What is still open stays.
fn retain(transaction: &Transaction, retention: Retention, now: Timestamp) -> rusqlite::Result<()> {
    drop_before(transaction, (now - retention.age).0)?;
    let pragma = |name: &str| transaction.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let page_bytes = pragma("page_size")?;
    while (pragma("page_count")? - pragma("freelist_count")?) * page_bytes > retention.bytes as i64 {
        // Where samples and events are the smaller part, dropping them would lose them and hardly mend anything: what
        // fills the file is what is open. They keep a quarter.
        let droppable =
            "SELECT (SELECT total(length(columns)) FROM segment) + (SELECT total(length(text) + 32) FROM event)";
        if transaction.query_row(droppable, [], |row| row.get::<_, f64>(0))? <= retention.bytes as f64 / 4.0 {
            break;
        }
        let oldest = "SELECT last FROM segment WHERE last < (SELECT max(last) FROM segment) ORDER BY first LIMIT 1";
        let Ok(last) = transaction.query_row(oldest, [], |row| row.get::<_, i64>(0)) else { break };
        drop_before(transaction, last + 1)?;
    }
    Ok(())
}

/// Gives the pages that nothing is on back to the file system.
fn give_back(connection: &Connection) -> rusqlite::Result<()> {
    let mut vacuum = connection.prepare("PRAGMA incremental_vacuum")?;
    let mut steps = vacuum.query([])?;
    // Each step frees one page.
    while steps.next()?.is_some() {}
    Ok(())
}

fn drop_before(transaction: &Transaction, moment: i64) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM segment WHERE last < ?", [moment])?;
    transaction.execute("DELETE FROM gap WHERE until < ?", [moment])?;
    transaction.execute("DELETE FROM event WHERE at < ?", [moment])?;
    let latest = "SELECT max(id) FROM bound GROUP BY name, series";
    transaction.execute(&format!("DELETE FROM bound WHERE at < ? AND id NOT IN ({latest})"), [moment])?;
    // Stacks stay, for what is opened later may name them: each is told once.
    for table in ["activity", "holder", "opener", "last_use"] {
        let sql = format!("DELETE FROM {table} WHERE lifetime IN (SELECT id FROM lifetime WHERE closed < ?)");
        transaction.execute(&sql, [moment])?;
    }
    transaction.execute("DELETE FROM lifetime WHERE closed < ?", [moment])?;
    transaction.execute("DELETE FROM process WHERE ended < ? AND id NOT IN (SELECT process FROM holder)", [moment])?;
    Ok(())
}
