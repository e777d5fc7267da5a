//! Births and deaths: what one snapshot says that the one before didn't. Turns a [`Snapshot`] into a [`Tick`].
//!
//! Polling bounds a lifetime, it doesn't witness it: a resource was opened between the tick before and the one that first
//! saw it, and what lives shorter than a tick may never be seen.

mod counts;
mod endings;
mod listeners;
mod witnessed;

use crate::model::{
    Descriptor, Event, EventKind, Gap, Holder, Identity, Kind, LastUse, Lifetime, LifetimeId, Limit, Population,
    Process, ProcessId, ProcessKey, Resource, Series, SeriesKey, Sighting, Snapshot, State, Tick, Timestamp, Traffic,
    Unit,
};
use counts::Counts;
use listeners::Listeners;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// How many series by endpoint a recording has at a time; a further endpoint takes the place of one that is at 0.
const ENDPOINTS_MAX: usize = 256;

/// How many it may have in all: a client that asks ever new servers would fill it with series.
const ENDPOINTS_EVER_MAX: usize = 1_024;

/// Beyond so many, an endpoint with a single connection gets no series: what leaks has more of them.
const ENDPOINTS_EAGER: usize = 64;

/// A tick this many intervals after the last one leaves a gap: the one between them was missed.
const LATE_INTERVALS: f64 = 1.75;

/// What ended with its process is remembered as open for this long while other processes of the target run on: a test
/// runner outlives the process that leaked by a moment.
const ENDED_KEPT: Duration = Duration::from_secs(5);

/// Of a command so many are kept to its end.
const LEFT_OPEN_MAX: usize = 10_000;

/// The series of counts that there are from the first tick on.
const ALWAYS_COUNTED: [&str; 3] = ["connections", "descriptors", "internet"];

/// Two readings of "silent for" of the same silence differ by the kernel's rounding and our own delay.
const ACTIVITY_NOISE_SECONDS: f64 = 0.1;

/// The state of the fold from snapshots to ticks.
#[derive(Debug)]
pub struct Census {
    every: Duration,
    last_at: Option<Timestamp>,
    /// The last tick at which a process of the target ran.
    last_ran: Option<Timestamp>,
    processes: HashMap<ProcessId, ProcessKey>,
    next_process: u32,
    running: HashMap<ProcessKey, Process>,
    open: HashMap<Identity, LifetimeId>,
    ended: Vec<LifetimeId>,
    /// Seen with nobody at the tick before: when, and when it was last seen with somebody.
    unheld: HashMap<LifetimeId, (Timestamp, Option<Timestamp>)>,
    /// What was there before the target was started and came to it by inheritance.
    inherited: HashSet<Identity>,
    /// What its opener held at its own end.
    left: HashSet<Identity>,
    /// What was held by a process that a signal killed.
    killed: HashSet<Identity>,
    /// Closings that were seen as they happened, of what the ticks still have.
    witnessed: HashMap<LifetimeId, (Timestamp, Option<LastUse>)>,
    /// Lifetimes that end with their process are kept to the end of the watch.
    keeps_ended: bool,
    /// The kernel tells of each process what it held at its end.
    sees_endings: bool,
    listeners: Listeners,
    counts: Counts,
    next_lifetime: u64,
    series: BTreeMap<String, SeriesKey>,
    next_series: u32,
    zero_since: HashMap<String, Timestamp>,
    endpoints_made: usize,
    endpoints_dropped: usize,
    measured: HashMap<String, Timestamp>,
    limits: Vec<Limit>,
}

impl Census {
    /// A census of ticks that come `every` so often.
    pub fn new(every: Duration) -> Self {
        Census {
            every,
            last_at: None,
            last_ran: None,
            processes: HashMap::new(),
            next_process: 1,
            running: HashMap::new(),
            open: HashMap::new(),
            ended: Vec::new(),
            unheld: HashMap::new(),
            inherited: HashSet::new(),
            left: HashSet::new(),
            killed: HashSet::new(),
            witnessed: HashMap::new(),
            keeps_ended: false,
            sees_endings: false,
            listeners: Listeners::default(),
            counts: Counts::default(),
            next_lifetime: 1,
            series: BTreeMap::new(),
            next_series: 1,
            zero_since: HashMap::new(),
            endpoints_made: 0,
            endpoints_dropped: 0,
            measured: HashMap::new(),
            limits: Vec::new(),
        }
    }

    /// From the next tick on they come `every` so often.
    pub fn set_every(&mut self, every: Duration) {
        self.every = every;
    }

    /// A census of a command that is about to start: `inherited` is what was open before. What its processes leave open is
    /// kept to the end.
    pub fn begin_command(&mut self, inherited: impl IntoIterator<Item = Identity>) {
        self.inherited.extend(inherited);
        self.keeps_ended = true;
    }

    /// What `snapshot` adds. `population` is what was open before it, with every earlier tick applied.
    pub fn advance(&mut self, snapshot: &Snapshot, population: &Population) -> Tick {
        let mut tick = Tick { at: snapshot.at, notes: snapshot.unseen.clone(), ..Tick::default() };
        self.follow_endings(snapshot, population, &mut tick);
        let keys = self.follow_processes(snapshot, &mut tick);
        self.follow_resources(snapshot, population, &mut tick);
        if !keys.is_empty() || !snapshot.unreadable.is_empty() {
            if self.is_complete(snapshot, population) {
                for (name, count) in self.counts(snapshot) {
                    self.value(&name, Unit::Count, count, &mut tick);
                }
            } else {
                self.leave_counts_out(&mut tick);
            }
        }
        for reading in &snapshot.readings {
            match &reading.value {
                Ok(value) => self.value(&reading.series, reading.unit, *value, &mut tick),
                Err(reason) => self.missing(&reading.series, reading.unit, reason, &mut tick),
            }
        }
        if let Some(last) = self.last_at
            && tick.at.seconds_since(last) > LATE_INTERVALS * self.every.as_secs_f64()
        {
            let reason = "no tick: the machine was suspended or too busy".to_owned();
            tick.gaps.push(Gap { from: last, to: tick.at, series: None, reason });
        }
        if snapshot.limits != self.limits && !snapshot.limits.is_empty() {
            tick.limits.clone_from(&snapshot.limits);
            self.limits.clone_from(&snapshot.limits);
        }
        if self.endpoints_dropped > 0 {
            let text =
                "more endpoints than have a series of their own: the connections of the others are listed all the same";
            tick.notes.push(text.to_owned());
        }
        self.last_at = Some(snapshot.at);
        tick
    }

    /// Numbers the processes of the snapshot; says who came and who went.
    fn follow_processes(&mut self, snapshot: &Snapshot, tick: &mut Tick) -> Vec<ProcessKey> {
        let event = |key, kind, process: &Process| {
            let text = format!("{} (pid {}) {}", process.name, process.id.pid, kind_words(kind));
            Event { at: snapshot.at, process: Some(key), kind, text }
        };
        let mut keys = Vec::with_capacity(snapshot.processes.len());
        let first_new = self.next_process;
        for process in &snapshot.processes {
            let next = ProcessKey(self.next_process);
            let key = *self.processes.entry(process.id.clone()).or_insert(next);
            if key == next {
                self.next_process += 1;
                tick.started.push((key, process.clone()));
                // Those of the first tick were there before.
                if self.last_at.is_some() {
                    tick.events.push(event(key, EventKind::Started, process));
                }
                self.running.insert(key, process.clone());
            } else if self.running.get(&key) != Some(process) {
                // It has become another program by exec.
                tick.started.push((key, process.clone()));
                self.running.insert(key, process.clone());
            }
            keys.push(key);
        }
        let unreadable = snapshot.unreadable.iter().filter_map(|id| self.processes.get(id));
        let here: HashSet<ProcessKey> = keys.iter().chain(unreadable).copied().collect();
        let gone: Vec<ProcessKey> = self.running.keys().copied().filter(|key| !here.contains(key)).collect();
        for key in gone {
            if let Some(process) = self.running.remove(&key) {
                self.processes.remove(&process.id);
                tick.ended.push(key);
                tick.events.push(event(key, EventKind::Ended, &process));
            }
        }
        if self.running.keys().all(|key| key.0 >= first_new) {
            self.begin_anew(snapshot, tick);
        }
        if !self.running.is_empty() {
            self.last_ran = Some(snapshot.at);
        }
        keys
    }

    /// All that run now are new. Where there were others before, numbers begin anew; and the time without any is a hole.
    fn begin_anew(&self, snapshot: &Snapshot, tick: &mut Tick) {
        let Some(last_ran) = self.last_ran.filter(|_| !self.running.is_empty()) else { return };
        let text = "the target began anew: none of its processes ran before".to_owned();
        tick.events.push(Event { at: snapshot.at, process: None, kind: EventKind::Restart, text });
        if self.last_at.is_some_and(|last_at| last_at > last_ran) {
            let reason = "no process of the target ran".to_owned();
            tick.gaps.push(Gap { from: last_ran, to: snapshot.at, series: None, reason });
        }
    }

    /// Takes in what is gone, was opened or has changed.
    fn follow_resources(&mut self, snapshot: &Snapshot, population: &Population, tick: &mut Tick) {
        self.listeners.update(snapshot);
        self.take_witnessed(snapshot);
        let mut closed = self.forget_ended(snapshot, population);
        // First what is gone: its identity may be another's by now.
        for identity in &snapshot.gone {
            let known = self.open.remove(identity).and_then(|id| population.open.get(&id));
            closed.extend(known.map(|lifetime| self.gone(lifetime, snapshot.at)));
        }
        for sighting in &snapshot.sightings {
            let known = self.open.get(&sighting.resource.identity).and_then(|id| population.open.get(id));
            if let Some(known) = known
                && self.unheld.remove(&known.id).is_some()
            {
                self.counts.add(known);
            }
            match known.filter(|known| !is_another(&known.resource, &sighting.resource)) {
                Some(known) => match self.change(known, sighting, snapshot.at) {
                    Change::None => {}
                    Change::Traffic(traffic) => tick.traffic.push(traffic),
                    Change::Other(now) => {
                        self.counts.replace(known, &now);
                        tick.changed.push(*now);
                    }
                },
                None => {
                    if let Some(known) = known {
                        self.counts.remove(known);
                        closed.push(ended(known, Some(snapshot.at), self.last_at));
                    }
                    let lifetime = self.opened(sighting, snapshot.at);
                    self.open.insert(sighting.resource.identity, lifetime.id);
                    self.counts.add(&lifetime);
                    tick.opened.push(lifetime);
                }
            }
        }
        for lifetime in snapshot.unheld.iter().filter_map(|it| population.open.get(self.open.get(it)?)) {
            self.counts.remove(lifetime);
            self.unheld.insert(lifetime.id, (snapshot.at, self.last_at));
        }
        let mut closed: Vec<Lifetime> = closed.into_iter().map(|it| self.as_witnessed(it)).collect();
        closed.extend(self.passed(snapshot, tick));
        tick.closed = population.close(closed);
        tick.used = self.usages(snapshot.used.iter().cloned());
        tick.stacks.clone_from(&snapshot.stacks);
    }

    /// The end of what nobody holds any more: when nobody was first seen to.
    fn gone(&mut self, lifetime: &Lifetime, at: Timestamp) -> Lifetime {
        if let Some((at, last_seen)) = self.unheld.remove(&lifetime.id) {
            return ended(lifetime, Some(at), last_seen);
        }
        self.counts.remove(lifetime);
        let runs = |holder: &Holder| self.running.contains_key(&holder.process);
        let orphaned = match lifetime.holders.as_slice() {
            [] => self.running.is_empty(),
            holders => !holders.iter().any(runs),
        };
        let is_witnessed = self.sees_endings && lifetime.resource.is_connection();
        if orphaned && is_witnessed && !self.left.contains(&lifetime.resource.identity) {
            let killed = self.killed.remove(&lifetime.resource.identity);
            return Lifetime { ended_with_process: killed, ..ended(lifetime, Some(at), self.last_at) };
        }
        if orphaned {
            self.ended.push(lifetime.id);
            return Lifetime { ended_with_process: true, ..ended(lifetime, None, self.last_at) };
        }
        ended(lifetime, Some(at), self.last_at)
    }

    /// What ended with its process a while ago, while others run on: forgotten now.
    fn forget_ended(&mut self, snapshot: &Snapshot, population: &Population) -> Vec<Lifetime> {
        if snapshot.processes.is_empty() {
            return Vec::new();
        }
        let keeps = self.keeps_ended && self.ended.len() < LEFT_OPEN_MAX;
        let forgotten = self.ended.extract_if(.., |id| {
            let is_old = |it: &Lifetime| it.last_seen + ENDED_KEPT + 2 * self.every < snapshot.at;
            population.open.get(id).is_none_or(|it| is_old(it) && !(keeps && it.resource.is_connection()))
        });
        let forgotten = forgotten.filter_map(|id| population.open.get(&id));
        forgotten.map(|it| ended(it, Some(snapshot.at), Some(it.last_seen))).collect()
    }

    /// The lifetime of something seen for the first time.
    fn opened(&mut self, sighting: &Sighting, at: Timestamp) -> Lifetime {
        let id = LifetimeId(self.next_lifetime);
        self.next_lifetime += 1;
        let last_active = last_active(&sighting.resource, at);
        let is_inherited = self.inherited.contains(&sighting.resource.identity);
        // It carried something before we saw it: so it was open by then.
        let opened = last_active.map_or(at, |active| active.min(at));
        let witnessed = sighting.opener.as_ref().map(|opener| opener.at.min(at));
        Lifetime {
            id,
            holders: self.holders(sighting),
            accepted_by: self.listeners.accepted(&sighting.resource),
            opened_after: witnessed.or(self.last_at.filter(|_| !is_inherited)),
            opened: witnessed.unwrap_or_else(|| self.last_at.map_or(opened, |last| opened.max(last))),
            opened_exact: witnessed.is_some(),
            last_seen: at,
            last_active,
            closed: None,
            ended_with_process: false,
            opener: sighting.opener.clone().map(Box::new),
            last_use: None,
            resource: sighting.resource.clone(),
        }
    }

    /// What has changed of a lifetime.
    fn change(&self, known: &Lifetime, sighting: &Sighting, at: Timestamp) -> Change {
        let now = merged(&known.resource, &sighting.resource);
        let holders = self.holders(sighting);
        let last_active = last_active(&sighting.resource, at).or(known.last_active);
        let accepted_by = known.accepted_by.clone().or_else(|| self.listeners.accepted(&sighting.resource));
        if accepted_by != known.accepted_by || has_changed(known, &now, &holders) {
            let resource = now.into_owned();
            let now = Lifetime { resource, holders, accepted_by, last_seen: at, last_active, ..known.clone() };
            return Change::Other(Box::new(now));
        }
        if has_carried(known, &now, last_active) {
            return Change::Traffic(Traffic { id: known.id, activity: now.activity, last_active });
        }
        Change::None
    }

    /// Who holds it, by the processes' numbers.
    fn holders(&self, sighting: &Sighting) -> Vec<Holder> {
        let holder = |it: &Descriptor| {
            let process = *self.processes.get(&it.process)?;
            Some(Holder { process, fd: it.fd, access: it.access })
        };
        let mut holders: Vec<Holder> = sighting.holders.iter().filter_map(holder).collect();
        holders.sort_unstable_by_key(|holder| (holder.process, holder.fd));
        holders
    }

    /// False where some of what is open is held by a process that could not be read this time: it stands as it was, and
    /// a count would be a guess.
    fn is_complete(&self, snapshot: &Snapshot, population: &Population) -> bool {
        let unreadable: HashSet<ProcessKey> =
            snapshot.unreadable.iter().filter_map(|id| self.processes.get(id)).copied().collect();
        let is_unread = |id: &LifetimeId| {
            let holders = population.open.get(id).map_or(&[][..], |it| &it.holders);
            holders.iter().any(|holder| unreadable.contains(&holder.process))
        };
        unreadable.is_empty() || !self.open.values().any(is_unread)
    }

    /// What is counted has a hole at this tick.
    fn leave_counts_out(&self, tick: &mut Tick) {
        let counted = self.series.keys().filter(|name| ALWAYS_COUNTED.contains(&name.as_str()));
        tick.gaps.extend(counted.filter_map(|name| {
            let (from, series) = (*self.measured.get(name)?, Some(name.clone()));
            let reason = "a process of the target could not be read".to_owned();
            Some(Gap { from, to: tick.at, series, reason })
        }));
    }

    /// The counts of what is open: how many there are of each series that lifetimes feed.
    fn counts(&mut self, snapshot: &Snapshot) -> Vec<(String, f64)> {
        // Series that once were are 0 now rather than missing.
        let names = self.series.keys().filter(|name| is_counted(name));
        let mut counts: BTreeMap<String, u64> = names.map(|name| (name.clone(), 0)).collect();
        counts.insert("connections".to_owned(), self.counts.connections);
        counts.insert("internet".to_owned(), self.counts.internet);
        counts.insert("descriptors".to_owned(), self.counts.descriptors + snapshot.descriptors_unseen);
        counts.extend(self.counts.kinds.iter().map(|(kind, count)| (format!("descriptors:{kind}"), *count)));
        for name in counts.keys().filter(|name| is_endpoint(name)) {
            if self.counts.endpoints.contains_key(name) {
                self.zero_since.remove(name);
            } else {
                self.zero_since.entry(name.clone()).or_insert(snapshot.at);
            }
        }
        self.endpoints_dropped = 0;
        let endpoints = std::mem::take(&mut self.counts.endpoints);
        for (name, count) in &endpoints {
            let is_worth_one = *count > 1 || self.endpoints_made < ENDPOINTS_EAGER;
            if let Some(known) = counts.get_mut(name) {
                *known = *count;
            } else if is_worth_one && self.endpoints_dropped == 0 && self.has_room_for_endpoint(&mut counts) {
                self.endpoints_made += 1;
                counts.insert(name.clone(), *count);
            } else if is_worth_one {
                self.endpoints_dropped += 1;
            }
        }
        self.counts.endpoints = endpoints;
        counts.into_iter().map(|(name, count)| (name, count as f64)).collect()
    }

    /// Makes room among the series by endpoint by ending the one that has been at 0 for longest.
    fn has_room_for_endpoint(&mut self, counts: &mut BTreeMap<String, u64>) -> bool {
        if self.endpoints_made >= ENDPOINTS_EVER_MAX {
            return false;
        }
        if counts.keys().filter(|name| is_endpoint(name)).count() < ENDPOINTS_MAX {
            return true;
        }
        let idle = self.zero_since.iter().filter(|(name, _)| counts.get(*name) == Some(&0));
        let Some(oldest) = idle.min_by_key(|(_, since)| **since).map(|(name, _)| name.clone()) else { return false };
        counts.remove(&oldest);
        self.zero_since.remove(&oldest);
        // Should it come back it is a series of its own.
        self.series.remove(&oldest);
        self.measured.remove(&oldest);
        true
    }

    fn value(&mut self, name: &str, unit: Unit, value: f64, tick: &mut Tick) {
        let key = self.series_key(name, unit, tick);
        tick.values.push((key, value));
        self.measured.insert(name.to_owned(), tick.at);
    }

    fn missing(&mut self, name: &str, unit: Unit, reason: &str, tick: &mut Tick) {
        self.series_key(name, unit, tick);
        let from = *self.measured.entry(name.to_owned()).or_insert(tick.at);
        tick.gaps.push(Gap { from, to: tick.at, series: Some(name.to_owned()), reason: reason.to_owned() });
        tick.notes.push(format!("{name}: {reason}"));
    }

    fn series_key(&mut self, name: &str, unit: Unit, tick: &mut Tick) -> SeriesKey {
        if let Some(key) = self.series.get(name) {
            return *key;
        }
        let key = SeriesKey(self.next_series);
        self.next_series += 1;
        self.series.insert(name.to_owned(), key);
        tick.added.push(Series { key, name: name.to_owned(), unit, process: None });
        key
    }
}

/// True for the names of series by endpoint.
fn is_endpoint(name: &str) -> bool {
    name.starts_with("connections:") || name.starts_with("accepted:")
}

/// True for the names of series that are counted from what is open, but for the three that always are.
fn is_counted(name: &str) -> bool {
    is_endpoint(name) || name.starts_with("descriptors:")
}

/// True where one identity stands for another thing by now: an inode that was used again.
fn is_another(before: &Resource, now: &Resource) -> bool {
    // A socket of another protocol may be connected elsewhere again and again.
    let is_tcp = before.kind == Kind::Tcp;
    let other_peer = is_tcp && before.remote.is_some() && now.remote.is_some() && before.remote != now.remote;
    let other_end = is_tcp && before.remote.is_some() && now.remote.is_some() && before.local != now.local;
    let other_kind = before.kind != now.kind && before.kind != Kind::Socket && now.kind != Kind::Socket;
    other_peer || other_end || other_kind
}

/// The resource as it is now, with the addresses it had where the kernel has forgotten them: a connection that the peer
/// reset stands in no table any more.
fn merged<'a>(before: &Resource, now: &'a Resource) -> Cow<'a, Resource> {
    if now.remote.is_some() || before.remote.is_none() || before.kind != Kind::Tcp {
        return Cow::Borrowed(now);
    }
    let state = if now.kind == Kind::Tcp && now.local.is_none() { Some(State::Close) } else { now.state };
    Cow::Owned(Resource { state, activity: before.activity, identity: now.identity, ..before.clone() })
}

fn last_active(resource: &Resource, at: Timestamp) -> Option<Timestamp> {
    resource.activity.silent_seconds.map(|silent| at - Duration::from_secs_f64(silent))
}

/// What has changed of a lifetime since the tick before.
enum Change {
    None,
    Traffic(Traffic),
    Other(Box<Lifetime>),
}

/// True where more has changed than what it carried.
fn has_changed(before: &Lifetime, now: &Resource, holders: &[Holder]) -> bool {
    let known = &before.resource;
    let has_news = match (&known.detail, &now.detail) {
        (Some(before), Some(now)) => now.is_news(before),
        (None, Some(_)) => true,
        (_, None) => false,
    };
    has_news
        || before.holders != holders
        || (known.state, &known.local, &known.remote, &known.name) != (now.state, &now.local, &now.remote, &now.name)
}

/// True where it carried anything.
fn has_carried(before: &Lifetime, now: &Resource, last_active: Option<Timestamp>) -> bool {
    let activity = |it: &Resource| (it.activity.bytes_sent, it.activity.bytes_received);
    let apart = match (before.last_active, last_active) {
        (Some(before), Some(now)) => now.seconds_since(before).abs() > ACTIVITY_NOISE_SECONDS,
        (before, now) => before != now,
    };
    apart || activity(&before.resource) != activity(now)
}

/// The lifetime at its end; it was last seen open at the tick before.
fn ended(lifetime: &Lifetime, closed: Option<Timestamp>, last_tick: Option<Timestamp>) -> Lifetime {
    Lifetime { closed, last_seen: last_tick.unwrap_or(lifetime.last_seen), ..lifetime.clone() }
}

fn kind_words(kind: EventKind) -> &'static str {
    if kind == EventKind::Ended { "ended" } else { "started" }
}

#[cfg(test)]
mod tests;
