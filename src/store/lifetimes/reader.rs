//! The lines of a CSV of lifetimes, one by one.

use super::Lifetimes;
use super::counts::Counts;
use super::header::{Column, Fields, Header};
use crate::model::{
    Address, Group, Identity, Kind, Lifetime, LifetimeId, Population, Resource, Series, SeriesKey, Tallies, Tally,
    Timestamp, Unit,
};
use crate::store::input::moment::{self, Form};
use crate::store::input::{Skipped, count_words};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// How many may be open at the end: no process may have more descriptors, unless `fs.nr_open` was raised.
const OPEN_MAX: usize = 1 << 20;

/// Lines of which it is remembered which connection they tell of, 9 to 18 bytes each. One that is told again after that
/// many others counts twice.
const REMEMBERED_MAX: usize = 1 << 20;

/// Remotes that have a series of their own, as in a watch.
const REMOTES_MAX: usize = 256;

/// The day on which databases close what they have no end for.
const NEVER: &str = "9999-12-31";

/// What exports write where there is nothing.
const NOTHING: [&str; 9] = ["", "-", "null", "none", "nil", "nan", "nat", "\\n", "infinity"];

/// The state of the fold over the lines.
#[derive(Debug)]
pub(in crate::store) struct Reader {
    header: Header,
    skipped: Skipped,
    pub(in crate::store) notes: Vec<String>,
    /// The last line's number.
    lines: u64,
    /// Connections so far: the next one's number.
    known: u64,
    /// The latest time so far.
    latest: Option<Timestamp>,
    groups: Groups,
    counts: Counts,
    open: BTreeMap<LifetimeId, Lifetime>,
    /// Those that are open, by the connection that a line tells of.
    open_told: HashMap<u64, LifetimeId>,
    told: HashSet<u64>,
    closed: Vec<Lifetime>,
    closed_total: u64,
    forms: Vec<Form>,
    repeated: u64,
    /// Of fields that are not understood, and of times of last activity before the opening.
    unclear: u64,
    inactive: u64,
}

/// What a line says.
struct Line<'a> {
    fields: &'a Fields<'a>,
    opened: Timestamp,
    closed: Option<Timestamp>,
    last_active: Option<Timestamp>,
}

impl Reader {
    /// No line was seen yet but the header.
    pub(in crate::store) fn new(header: Header) -> Self {
        let mut counts = Counts::new();
        // All connections; that of a group comes with the group.
        counts.add_series();
        Reader {
            header,
            skipped: Skipped::default(),
            notes: Vec::new(),
            lines: 0,
            known: 0,
            latest: None,
            groups: Groups::default(),
            counts,
            open: BTreeMap::new(),
            open_told: HashMap::new(),
            told: HashSet::new(),
            closed: Vec::new(),
            closed_total: 0,
            forms: Vec::new(),
            repeated: 0,
            unclear: 0,
            inactive: 0,
        }
    }

    /// True where no line told of a connection so far.
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.known == 0
    }

    /// Takes the line `number`, `None` where it was too long to be held.
    pub(in crate::store) fn add_line(&mut self, number: u64, line: Option<&[u8]>) {
        self.lines = number;
        let Some(line) = line else { return self.skipped.add_too_long(number) };
        let line = String::from_utf8_lossy(line);
        // A crash may leave zeros ahead of the next line.
        let line = line.trim_matches(['\r', '\n', '\0', ' ']);
        if line.is_empty() || line.starts_with('#') || self.header.is(line) {
            return;
        }
        if let Err(reason) = self.read(line) {
            self.skipped.add(number, line, reason);
        }
    }

    fn read(&mut self, line: &str) -> Result<(), &'static str> {
        let fields = self.header.fields(line)?;
        let id = fields.get(Column::Id);
        if id.is_empty() {
            return Err("it has no conn_id");
        }
        let opened = self.time(fields.get(Column::Opened)).map_err(|()| "its opened_ts is not a time")?;
        let opened = opened.ok_or("it has no opened_ts")?;
        // In times since the epoch, 0 is what some write where there is none.
        let is_time = |at: &Timestamp| at.0 != 0 || opened.0 == 0;
        let closed = self.time(fields.get(Column::Closed)).map_err(|()| "its closed_ts is not a time")?.filter(is_time);
        if closed.is_some_and(|closed| closed < opened) {
            return Err("it was closed before it was opened");
        }
        let last_active = self.time(fields.get(Column::LastActivity)).unwrap_or_else(|()| {
            self.unclear += 1;
            None
        });
        let last_active = last_active.filter(is_time);
        if last_active.is_some_and(|at| at < opened) {
            self.inactive += 1;
        }
        // Before it was opened it carried nothing: then it has been silent from its opening on.
        let last_active = last_active.map(|at| at.max(opened));
        self.add(&Line { fields: &fields, opened, closed, last_active })
    }

    /// The time in a field, if there is one.
    fn time(&mut self, field: &str) -> Result<Option<Timestamp>, ()> {
        if field.starts_with(NEVER) || NOTHING.iter().any(|none| field.eq_ignore_ascii_case(none)) {
            return Ok(None);
        }
        let (at, form, rest) = moment::read(field).map_err(|_| ())?;
        if !rest.is_empty() {
            return Err(());
        }
        if !self.forms.contains(&form) {
            self.forms.push(form);
        }
        Ok(Some(at))
    }

    fn add(&mut self, line: &Line) -> Result<(), &'static str> {
        let told = hash_of(&(line.fields.get(Column::Id), line.opened));
        if !self.told.contains(&told) {
            if self.told.len() < REMEMBERED_MAX {
                self.told.insert(told);
            }
        } else {
            self.repeated += 1;
            let Some(id) = self.open_told.remove(&told) else { return Ok(()) };
            self.forget(id);
        }
        if line.closed.is_none() && self.open.len() >= OPEN_MAX {
            return Err("more are open than a process may hold");
        }
        let id = LifetimeId(self.known);
        self.known += 1;
        let last = line.closed.max(line.last_active).unwrap_or(line.opened);
        self.latest = self.latest.max(Some(last));
        [line.opened, last].into_iter().for_each(|at| self.counts.reach(at));

        let (kind, remote) = kind_and_remote(line.fields);
        let group = self.groups.find(kind, remote, &mut self.counts);
        let serieses = [Some(0), self.groups.all[group].series];
        for series in serieses.into_iter().flatten() {
            self.counts.change(series, line.opened, 1);
            line.closed.into_iter().for_each(|at| self.counts.change(series, at, -1));
        }
        let tally = &mut self.groups.all[group].tally;
        tally.opened += 1;
        tally.closed += u64::from(line.closed.is_some());
        if line.closed.is_none() {
            let lifetime = self.lifetime(id, kind, remote, line);
            self.open.insert(id, lifetime);
            self.open_told.insert(told, id);
            return Ok(());
        }
        self.closed_total += 1;
        if let Some(slot) = Population::slot_in_sample(id, self.closed_total) {
            let lifetime = self.lifetime(id, kind, remote, line);
            match self.closed.get_mut(slot) {
                Some(replaced) => *replaced = lifetime,
                None => self.closed.push(lifetime),
            }
        }
        Ok(())
    }

    fn lifetime(&mut self, id: LifetimeId, kind: Kind, remote: &str, line: &Line) -> Lifetime {
        let mut resource = Resource::new(Identity(id.0, 0), kind);
        resource.label = Some(line.fields.get(Column::Id).into());
        resource.remote = address(kind, remote);
        resource.ipv6 = matches!(&resource.remote, Some(Address::Inet(address)) if address.is_ipv6());
        resource.activity.bytes_sent = self.bytes(line.fields.get(Column::BytesSent));
        resource.activity.bytes_received = self.bytes(line.fields.get(Column::BytesReceived));
        Lifetime {
            id,
            resource,
            holders: Vec::new(),
            accepted_by: None,
            opened_after: Some(line.opened),
            opened: line.opened,
            opened_exact: true,
            last_seen: line.closed.max(line.last_active).unwrap_or(line.opened),
            last_active: line.last_active,
            closed: line.closed,
            ended_with_process: false,
            opener: None,
            last_use: None,
        }
    }

    fn bytes(&mut self, field: &str) -> Option<u64> {
        let bytes = field.parse::<u64>().ok();
        self.unclear += u64::from(bytes.is_none() && !NOTHING.iter().any(|none| field.eq_ignore_ascii_case(none)));
        bytes
    }

    /// Takes back what an earlier line said of one that was open.
    fn forget(&mut self, id: LifetimeId) {
        let Some(lifetime) = self.open.remove(&id) else { return };
        let remote = lifetime.resource.remote.as_ref().map(ToString::to_string).unwrap_or_default();
        let group = self.groups.find(lifetime.resource.kind, &remote, &mut self.counts);
        self.groups.all[group].tally.opened -= 1;
        for series in [Some(0), self.groups.all[group].series].into_iter().flatten() {
            self.counts.change(series, lifetime.opened, -1);
        }
    }

    /// The lifetimes, or why there are none.
    pub(in crate::store) fn finish(self) -> Result<Lifetimes, String> {
        let Some(to) = self.latest else { return Err(self.skipped.instead(self.lines)) };
        let mut notes: Vec<String> = self.skipped.into_notes().chain(self.notes).collect();
        notes.extend(self.forms.into_iter().filter_map(Form::note).map(str::to_owned));
        if !self.header.others.is_empty() {
            notes.push(format!("columns that are not read: {}", self.header.others.join(", ")));
        }
        let mut tell = |count: u64, what: &str| {
            if count > 0 {
                notes.push(format!("{} {what}", count_words(count, "line")));
            }
        };
        tell(
            self.repeated,
            "with the conn_id and the opened_ts of another: the one that closes it counts, else the last",
        );
        tell(self.inactive, "with a last activity before the opening: silent from the opening on");
        tell(self.unclear, "with a number or a time of last activity that is not understood: unknown");
        if self.groups.without_series > 0 {
            notes.push(format!(
                "{} remotes beyond the first {REMOTES_MAX} have no series of their own",
                self.groups.without_series
            ));
        }
        let every_seconds = self.counts.every_seconds();
        let (times, columns) = self.counts.finish(to);
        let mut series = vec![("connections".to_owned(), 0)];
        let mut tallies = BTreeMap::new();
        for Known { group, tally, series: own } in self.groups.all {
            series.extend(own.map(|own| (format!("connections:{}", group.endpoint), own)));
            tallies.insert(group, tally);
        }
        series.sort_by_key(|(_, place)| *place);
        let series = series.into_iter().map(|(name, place)| Series {
            key: SeriesKey(place as u32 + 1),
            name,
            unit: Unit::Count,
            process: None,
        });
        let population = Population::restore(self.open.into_values().collect(), self.closed, tallies);
        Ok(Lifetimes { population, series: series.collect(), times, columns, every_seconds, notes })
    }
}

/// The groups that are told apart, each with its count, and the series where it has one.
#[derive(Debug, Default)]
struct Groups {
    all: Vec<Known>,
    by_remote: BTreeMap<Kind, HashMap<Box<str>, usize>>,
    series: usize,
    without_series: u64,
}

#[derive(Debug)]
struct Known {
    group: Group,
    tally: Tally,
    series: Option<usize>,
}

impl Groups {
    /// The place of the group that this remote belongs to.
    fn find(&mut self, kind: Kind, remote: &str, counts: &mut Counts) -> usize {
        if let Some(found) = self.by_remote.get(&kind).and_then(|known| known.get(remote)) {
            return *found;
        }
        // What would be one too many is counted under its kind.
        if self.all.len() >= Tallies::GROUPS_MAX && !remote.is_empty() {
            return self.find(kind, "", counts);
        }
        let endpoint = address(kind, remote).map(|address| address.to_string()).unwrap_or_default();
        if endpoint != remote {
            // The same remote, written as everywhere else.
            return self.find(kind, &endpoint, counts);
        }
        let has_room = self.series < REMOTES_MAX;
        let series = (has_room && !endpoint.is_empty()).then(|| counts.add_series());
        self.series += usize::from(series.is_some());
        self.without_series += u64::from(!has_room && !endpoint.is_empty());
        self.all.push(Known { group: Group { kind, endpoint }, tally: Tally::default(), series });
        self.by_remote.entry(kind).or_default().insert(remote.into(), self.all.len() - 1);
        self.all.len() - 1
    }
}

fn kind_and_remote<'a>(fields: &'a Fields) -> (Kind, &'a str) {
    let remote = fields.get(Column::Remote);
    let kind = match fields.get(Column::Kind) {
        "" if remote.starts_with(['/', '@']) => Kind::Unix,
        "" => Kind::Tcp,
        told => Kind::parse(&told.to_ascii_lowercase()),
    };
    (kind, remote)
}

/// The address that a remote is; a name with its port is left as it is written.
fn address(kind: Kind, remote: &str) -> Option<Address> {
    match (remote, kind) {
        ("" | "-", _) => None,
        (path, Kind::Unix) => Some(Address::Unix(path.to_owned())),
        (remote, _) => Some(match Address::parse(remote) {
            // One that is mapped to IPv6 is shown as what it is.
            Address::Inet(address) => Address::inet(address.ip(), address.port()),
            name @ Address::Unix(_) => name,
        }),
    }
}

fn hash_of(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
