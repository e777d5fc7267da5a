//! Reads a recording, also one that is being written: everything is read as of the moment it was opened, until it is
//! [released](Recording::release).

use super::error::StoreError;
use super::{block, lifetime, schema};
use crate::model::{
    Access, Cost, Event, EventKind, Gap, Group, Holder, Kind, Lifetime, Limit, Points, Population, Process, ProcessId,
    ProcessKey, Report, Series, SeriesKey, Tallies, Tally, Target, Timestamp, Unit, Verdict, VerdictChange,
};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a writer's checkpoint may hold us up.
const BUSY: Duration = Duration::from_secs(5);

/// What every connection begins with: a recording is a file that somebody may have made to harm, so nothing in its schema
/// is trusted; and one snapshot for all that is read.
const BEGIN: &str = "PRAGMA trusted_schema = OFF; BEGIN; SELECT count(*) FROM sqlite_schema;";

/// An open recording.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    connection: Connection,
}

impl Recording {
    /// Opens it and says what is wrong with it where anything is.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut head = [0u8; 100];
        let mut file = std::fs::File::open(path).map_err(|source| StoreError::io(path, "to read it", source))?;
        let bytes = file.metadata().map_err(|source| StoreError::io(path, "to read it", source))?;
        if bytes.is_dir() {
            return Err(StoreError::Folder(path.to_owned()));
        }
        if bytes.len() == 0 {
            return Err(StoreError::Empty(path.to_owned()));
        }
        let begun = file.read(&mut head).map_err(|source| StoreError::io(path, "to read it", source))?;
        if !head.starts_with(b"SQLite format 3\0") {
            return Err(StoreError::NotARecording(path.to_owned()));
        }
        let log_path = sidecar(path, "-wal");
        let log_bytes = std::fs::metadata(&log_path).map_or(0, |found| found.len());
        // SQLite's header: bytes 16 to 17 a page's size, 28 to 31 how many pages there are.
        let page = u64::from(u16::from_be_bytes([head[16], head[17]]));
        let page = if page == 1 { 65_536 } else { page };
        let expected = page * u64::from(u32::from_be_bytes([head[28], head[29], head[30], head[31]]));
        if begun < 100 || (bytes.len() < expected && log_bytes == 0) {
            let reason = format!("it was cut short: {} of {} bytes are there", bytes.len(), expected.max(100));
            return Err(StoreError::Damaged { path: path.to_owned(), reason });
        }
        let connection = Self::connect(path, log_bytes)?;
        let recording = Recording { path: path.to_owned(), connection };
        recording.check()?;
        Ok(recording)
    }

    fn connect(path: &Path, log_bytes: u64) -> Result<Connection, StoreError> {
        let failed = |source| StoreError::sqlite(path, source);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        match connection.execute_batch(BEGIN) {
            Ok(()) => Ok(connection),
            // A folder that we may not write has no room for the log's index. Without a log none is needed.
            Err(_) if log_bytes == 0 => {
                let address = format!("file:{}?immutable=1", escaped(path));
                let connection =
                    Connection::open_with_flags(address, flags | OpenFlags::SQLITE_OPEN_URI).map_err(failed)?;
                connection.execute_batch(BEGIN).map_err(failed)?;
                Ok(connection)
            }
            Err(source) => Err(failed(source)),
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        let pragma = |name: &str| -> Result<i64, StoreError> {
            self.connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).map_err(|it| self.failed(it))
        };
        if pragma("application_id")? != schema::APPLICATION_ID {
            return Err(StoreError::NotARecording(self.path.clone()));
        }
        let found = pragma("user_version")?;
        if found > schema::VERSION {
            return Err(StoreError::Newer { path: self.path.clone(), found, known: schema::VERSION });
        }
        // A view or a virtual table (one without a root page) of that name would run what its maker wants.
        let all = "SELECT count(*), total(type = 'table' AND rootpage > 0) FROM sqlite_schema
                   WHERE lower(name) = ? AND type IN ('table', 'view')";
        for (table, may_lack) in schema::TABLES
            .map(|table| (table, false))
            .into_iter()
            .chain(schema::LATER_TABLES.map(|table| (table, true)))
        {
            let counts = |row: &Row| Ok((row.get::<_, i64>(0)?, row.get::<_, f64>(1)? as i64));
            let found = self.connection.query_row(all, [table], counts).map_err(|source| self.failed(source))?;
            if found != (1, 1) && !(may_lack && found == (0, 0)) {
                let reason = format!("it has no table {table:?} as a recording has");
                return Err(StoreError::Damaged { path: self.path.clone(), reason });
            }
        }
        Ok(())
    }

    /// Ends the snapshot, once all that belongs together has been read. While it lasts, a writer's log grows and can't be
    /// folded in, so whoever waits for a person, as a pager does, must not hold it. What is read afterwards is as of then.
    pub fn release(&self) -> Result<(), StoreError> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        self.connection.execute_batch("COMMIT").map_err(|source| self.failed(source))
    }

    /// Everything but the samples, the population and what is judged.
    pub fn facts(&self) -> Result<Report, StoreError> {
        let processes: BTreeMap<ProcessKey, Process> = self
            .rows(
                "SELECT id, boot_id, pid, start_ticks, name, command, uid, user, started, ended FROM process",
                |row| {
                    let boot_id: String = row.get(1)?;
                    let process = Process {
                        id: ProcessId {
                            boot_id: boot_id.into(),
                            pid: row.get(2)?,
                            start_ticks: row.get::<_, i64>(3)? as u64,
                        },
                        name: row.get(4)?,
                        command: row.get(5)?,
                        uid: row.get(6)?,
                        user: row.get(7)?,
                        started: Timestamp(row.get(8)?),
                        ended: row.get::<_, Option<i64>>(9)?.map(Timestamp),
                    };
                    Ok((ProcessKey(row.get(0)?), process))
                },
            )?
            .into_iter()
            .collect();
        let span = "SELECT min(first), max(last), sum(ticks) FROM (SELECT first, last, ticks FROM segment
                    UNION ALL SELECT min(at), max(at), count(*) FROM tick)";
        let (from, to, ticks): (Option<i64>, Option<i64>, Option<i64>) =
            self.one(span, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let name: Option<String> = self.fact("target")?;
        Ok(Report {
            file: self.path.display().to_string(),
            target: (!processes.is_empty()).then(|| Target { name: name.unwrap_or_default(), processes }),
            from: Timestamp(from.unwrap_or(0)),
            to: Timestamp(to.unwrap_or(0)),
            ticks: ticks.unwrap_or(0) as u64,
            every_seconds: self.fact("every_seconds")?,
            command: self.fact::<String>("command")?.and_then(|command| serde_json::from_str(&command).ok()),
            gaps: self.rows("SELECT series, since, until, reason FROM gap ORDER BY since", |row| {
                let series: String = row.get(0)?;
                let series = (!series.is_empty()).then_some(series);
                Ok(Gap { from: Timestamp(row.get(1)?), to: Timestamp(row.get(2)?), series, reason: row.get(3)? })
            })?,
            limits: self.limits(Timestamp(i64::MAX))?,
            events: self.rows("SELECT at, process, kind, text FROM event ORDER BY at, id", |row| {
                let kind: String = row.get(2)?;
                let process: Option<u32> = row.get(1)?;
                let at = Timestamp(row.get(0)?);
                Ok(Event { at, process: process.map(ProcessKey), kind: EventKind::parse(&kind), text: row.get(3)? })
            })?,
            history: self.rows("SELECT at, kind, sentence FROM verdict ORDER BY at, id", |row| {
                let kind: String = row.get(1)?;
                Ok(VerdictChange { at: Timestamp(row.get(0)?), kind: Verdict::parse(&kind), sentence: row.get(2)? })
            })?,
            notes: self.rows("SELECT text FROM note ORDER BY first, text", |row| row.get(0))?,
            cost: self
                .connection
                .query_row("SELECT cpu_seconds, memory_bytes, descriptors FROM cost", [], |row| {
                    let count = |column| row.get::<_, Option<i64>>(column).map(|count| count.map(|count| count as u64));
                    Ok(Cost { cpu_seconds: row.get(0)?, memory_bytes: count(1)?, descriptors: count(2)?, share: None })
                })
                .optional()
                .map_err(|source| self.failed(source))?,
            stacks: self.stacks()?,
            ..Report::default()
        })
    }

    /// The limits in force at a moment.
    pub fn limits(&self, at: Timestamp) -> Result<Vec<Limit>, StoreError> {
        let sql = "SELECT name, series, value FROM bound
                   WHERE id IN (SELECT max(id) FROM bound WHERE at <= ?1 GROUP BY name, series)";
        let limit = |row: &Row| Ok(Limit { name: row.get(0)?, series: row.get(1)?, value: row.get(2)? });
        let mut statement = self.connection.prepare(sql).map_err(|source| self.failed(source))?;
        let rows = statement.query_map([at.0], limit).and_then(Iterator::collect);
        rows.map_err(|source| self.failed(source))
    }

    /// The series that were recorded, in the order of their keys.
    pub fn series(&self) -> Result<Vec<Series>, StoreError> {
        self.rows("SELECT id, name, unit, process FROM series ORDER BY id", |row| {
            let unit: String = row.get(2)?;
            let process: Option<u32> = row.get(3)?;
            let key = SeriesKey(row.get(0)?);
            Ok(Series { key, name: row.get(1)?, unit: Unit::parse(&unit), process: process.map(ProcessKey) })
        })
    }

    /// What was open, what was closed.
    pub fn population(&self) -> Result<Population, StoreError> {
        let mut holders: BTreeMap<i64, Vec<Holder>> = BTreeMap::new();
        for (lifetime, holder) in self.rows("SELECT lifetime, process, fd, access FROM holder", |row| {
            let access: Option<String> = row.get(3)?;
            let access = access.as_deref().and_then(Access::parse);
            Ok((row.get::<_, i64>(0)?, Holder { process: ProcessKey(row.get(1)?), fd: row.get(2)?, access }))
        })? {
            holders.entry(lifetime).or_default().push(holder);
        }
        let (mut openers, mut last_uses) = (self.openers()?, self.last_uses()?);
        let (detail, label) = (self.column("detail")?, self.column("label")?);
        let lifetimes = format!(
            "SELECT id, kind, ipv6, socket_type, inode, name, local, remote, peer_inode, state, accepted_by, opened_after,
                    opened, opened_exact, last_seen, closed, ended_with_process, identity_a, identity_b,
                    bytes_sent, bytes_received, last_active, {detail}, {label}
             FROM lifetime LEFT JOIN activity ON activity.lifetime = lifetime.id"
        );
        let all = self.rows(&lifetimes, |row| {
            let id: i64 = row.get(0)?;
            let holders = holders.remove(&id).unwrap_or_default();
            let (opener, last_use) = (openers.remove(&id), last_uses.remove(&id));
            Ok(Lifetime { opener, last_use, ..lifetime::read(row, holders)? })
        })?;
        let (open, closed) = all.into_iter().partition(|lifetime| lifetime.closed.is_none());
        let groups = self.rows("SELECT kind, endpoint, opened, closed FROM tally", |row| {
            let kind: String = row.get(0)?;
            let group = Group { kind: Kind::parse(&kind), endpoint: row.get(1)? };
            Ok((group, Tally { opened: row.get::<_, i64>(2)? as u64, closed: row.get::<_, i64>(3)? as u64 }))
        })?;
        let tallies = Tallies { groups: groups.into_iter().collect(), code: self.code_tallies()? };
        Ok(Population::restore(open, closed, tallies))
    }

    /// True where the recording has that table.
    pub(super) fn has_table(&self, name: &str) -> Result<bool, StoreError> {
        let found = "SELECT count(*) FROM sqlite_schema WHERE lower(name) = ?";
        let found = self.connection.query_row(found, [name], |row| row.get::<_, bool>(0));
        found.map_err(|source| self.failed(source))
    }

    /// The name of a column of lifetimes; in a recording without it, what stands for it in a query.
    fn column(&self, name: &'static str) -> Result<&'static str, StoreError> {
        let found = self.connection.query_row(schema::HAS_COLUMN, [name], |row| row.get::<_, bool>(0));
        found.map(|found| if found { name } else { "NULL" }).map_err(|source| self.failed(source))
    }

    /// Hands every tick's values on, in the order of time. Holes are left out.
    pub fn for_each_tick(&self, mut take: impl FnMut(Timestamp, &[(SeriesKey, f64)])) -> Result<(), StoreError> {
        let mut values = Vec::new();
        self.for_each_segment(|times, keys, columns| {
            for (row, at) in times.iter().enumerate() {
                values.clear();
                let present = keys.iter().zip(columns).filter_map(|(key, column)| Some((*key, *column.get(row)?)));
                values.extend(present.filter(|(_, value)| !value.is_nan()));
                take(Timestamp(*at as i64), &values);
            }
        })
    }

    /// One series' samples; a tick that did not measure it is a hole.
    pub fn points(&self, wanted: SeriesKey) -> Result<Points, StoreError> {
        let mut points = Points::default();
        self.for_each_segment(|times, keys, columns| {
            let Some(place) = keys.iter().position(|key| *key == wanted) else { return };
            for (at, value) in times.iter().zip(&columns[place]) {
                points.push(Timestamp(*at as i64), *value);
            }
        })?;
        Ok(points)
    }

    /// Hands on the times, keys and columns of each segment, then of each tick that is not sealed.
    fn for_each_segment(&self, mut take: impl FnMut(&[f64], &[SeriesKey], &[Vec<f64>])) -> Result<(), StoreError> {
        let damaged =
            |error: block::BlockError| StoreError::Damaged { path: self.path.clone(), reason: error.to_string() };
        let keys_of = |column: &[f64]| -> Vec<SeriesKey> { column.iter().map(|key| SeriesKey(*key as u32)).collect() };
        let failed = |source| self.failed(source);
        let mut statement = self.connection.prepare("SELECT columns FROM segment ORDER BY first").map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let blob: Vec<u8> = row.get(0).map_err(failed)?;
            let columns = block::decode(&blob).map_err(damaged)?;
            let [times, keys, values @ ..] = columns.as_slice() else {
                return Err(damaged(block::BlockError::Damaged("a segment has no times")));
            };
            if values.len() != keys.len() || values.iter().any(|column| column.len() != times.len()) {
                return Err(damaged(block::BlockError::Damaged("a segment's columns differ in length")));
            }
            take(times, &keys_of(keys), values);
        }
        let mut statement = self.connection.prepare("SELECT at, columns FROM tick ORDER BY at").map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let at: i64 = row.get(0).map_err(failed)?;
            let blob: Vec<u8> = row.get(1).map_err(failed)?;
            let columns = block::decode(&blob).map_err(damaged)?;
            let [keys, values] = columns.as_slice() else {
                return Err(damaged(block::BlockError::Damaged("a tick has no values")));
            };
            let single: Vec<Vec<f64>> = values.iter().map(|value| vec![*value]).collect();
            take(&[at as f64], &keys_of(keys), &single);
        }
        Ok(())
    }

    fn fact<T: rusqlite::types::FromSql>(&self, name: &str) -> Result<Option<T>, StoreError> {
        self.connection
            .query_row("SELECT value FROM recording WHERE name = ?", [name], |row| row.get(0))
            .optional()
            .map_err(|source| self.failed(source))
    }

    fn one<T>(&self, sql: &str, read: impl FnOnce(&Row) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        self.connection.query_row(sql, [], read).map_err(|source| self.failed(source))
    }

    pub(super) fn rows<T>(
        &self,
        sql: &str,
        read: impl FnMut(&Row) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.connection.prepare(sql).map_err(|source| self.failed(source))?;
        let rows = statement.query_map([], read).and_then(Iterator::collect);
        rows.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: rusqlite::Error) -> StoreError {
        StoreError::sqlite(&self.path, source)
    }
}

fn sidecar(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// A path as the path of a `file:` address.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::tick;
    use crate::store::{Retention, Writer};

    fn written(folder: &Path) -> (PathBuf, Writer) {
        let path = folder.join("r.unclosed");
        let writer = Writer::create(&path, Duration::from_secs(1), "test", Retention::default()).expect("created");
        (path, writer)
    }

    #[test]
    fn what_is_no_plain_table_is_refused() {
        for instead in
            ["VIEW tally AS SELECT 'tcp' AS kind, '' AS endpoint, 1 AS opened, 1 AS closed", "TABLE other(a)"]
        {
            let folder = tempfile::tempdir().expect("a scratch folder");
            let (path, writer) = written(folder.path());
            drop(writer);
            assert!(Recording::open(&path).is_ok());
            let connection = Connection::open(&path).expect("opens");
            connection.execute_batch(&format!("DROP TABLE tally; CREATE {instead}")).expect("made");
            assert!(matches!(Recording::open(&path), Err(StoreError::Damaged { .. })));
        }
    }

    #[test]
    fn a_released_recording_does_not_hold_the_writers_log() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let (path, mut writer) = written(folder.path());
        let mut grow = |from: i64, to: i64| {
            for second in from..to {
                writer.append(&tick(second, 1.0), None).expect("written");
            }
            writer.bytes()
        };
        grow(0, 100);
        let recording = Recording::open(&path).expect("opens");
        let held = grow(100, 700);
        assert_eq!(recording.facts().expect("reads").ticks, 100);
        recording.release().and_then(|()| recording.release()).expect("releases");
        assert_eq!(recording.facts().expect("reads").ticks, 700);
        assert!(held > 2 << 20, "{held}");
        // The log is begun anew: it grows no longer.
        let (later, latest) = (grow(700, 1_300), grow(1_300, 2_500));
        assert!(latest < held * 3 / 2, "{held}, then {later} and {latest}");
    }

    /// What was written once is read for ever: a recording that the first version made.
    #[test]
    fn a_recording_of_format_1_is_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1.unclosed");
        let recording = Recording::open(&path).expect("opens");
        let facts = recording.facts().expect("has facts");
        assert_eq!((facts.ticks, facts.every_seconds), (31, Some(0.2)));
        assert_eq!(facts.target.map(|target| (target.name, target.processes.len())), Some(("python3".to_owned(), 1)));
        let mut ticks = 0;
        recording.for_each_tick(|_, values| ticks += u64::from(!values.is_empty())).expect("has ticks");
        assert_eq!(ticks, 31);
        let population = recording.population().expect("has a population");
        assert_eq!((population.open.len(), population.closed_total), (14, 29));
        assert!(population.tallies.code.is_empty());
        let command = recording.series().expect("has series").into_iter().find(|it| it.name == "command:echo 3");
        let points = recording.points(command.expect("has the metric").key).expect("has points");
        assert!(points.values.iter().all(|value| *value == 3.0));
    }
}
