//! Births and deaths: what one snapshot says that the one before didn't. Turns a [`Snapshot`] into a [`Tick`].
//!
//! Polling bounds a lifetime, it doesn't witness it: a resource was opened between the tick before and the one that first
//! saw it, and what lives shorter than a tick may never be seen.

use crate::model::{
    Address, Event, EventKind, Gap, Holder, Identity, Kind, Lifetime, LifetimeId, Limit, Population, Process,
    ProcessId, ProcessKey, Resource, Series, SeriesKey, Snapshot, State, Tick, Timestamp, Unit,
};
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

/// Two readings of "silent for" of the same silence differ by the kernel's rounding and our own delay.
const ACTIVITY_NOISE_SECONDS: f64 = 0.1;

/// The state of the fold from snapshots to ticks.
#[derive(Debug)]
pub struct Census {
    every: Duration,
    last_at: Option<Timestamp>,
    processes: HashMap<ProcessId, ProcessKey>,
    next_process: u32,
    running: HashMap<ProcessKey, Process>,
    open: HashMap<Identity, LifetimeId>,
    ended: Vec<LifetimeId>,
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
            processes: HashMap::new(),
            next_process: 1,
            running: HashMap::new(),
            open: HashMap::new(),
            ended: Vec::new(),
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

    /// What `snapshot` adds. `population` is what was open before it, with every earlier tick applied.
    pub fn advance(&mut self, snapshot: &Snapshot, population: &Population) -> Tick {
        let mut tick = Tick { at: snapshot.at, notes: snapshot.unseen.clone(), ..Tick::default() };
        let keys = self.follow_processes(snapshot, &mut tick);
        let all_seen = self.follow_resources(snapshot, &keys, population, &mut tick);
        if all_seen && !keys.is_empty() {
            for (name, count) in self.counts(&tick, snapshot, population) {
                self.value(&name, Unit::Count, count, &mut tick);
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
        keys
    }

    /// Compares what is open with what was. False where some of it is held by a process that could not be read this time:
    /// that stays open as it was, and there are no counts.
    fn follow_resources(
        &mut self,
        snapshot: &Snapshot,
        keys: &[ProcessKey],
        population: &Population,
        tick: &mut Tick,
    ) -> bool {
        let mut holders: Vec<Vec<Holder>> = vec![Vec::new(); snapshot.resources.len()];
        for descriptor in &snapshot.descriptors {
            let process = keys[descriptor.process];
            holders[descriptor.resource].push(Holder { process, fd: descriptor.fd, access: descriptor.access });
        }
        let listeners = Listeners::of(&snapshot.resources);
        let mut before = std::mem::replace(&mut self.open, HashMap::with_capacity(snapshot.resources.len()));
        let mut closed = Vec::new();
        for (resource, mut holders) in snapshot.resources.iter().zip(holders) {
            holders.sort_unstable_by_key(|holder| (holder.process, holder.fd));
            let known = before.remove(&resource.identity).and_then(|id| population.open.get(&id));
            match known.filter(|known| !is_another(&known.resource, resource)) {
                Some(known) => {
                    self.open.insert(resource.identity, known.id);
                    let now = merged(&known.resource, resource);
                    let last_active = last_active(resource, snapshot.at).or(known.last_active);
                    let accepted_by = if known.accepted_by.is_none() { listeners.accepted(resource) } else { None };
                    if accepted_by.is_some() || has_changed(known, &now, &holders, last_active) {
                        tick.changed.push(Lifetime {
                            resource: now.into_owned(),
                            holders,
                            accepted_by: accepted_by.or_else(|| known.accepted_by.clone()),
                            last_seen: snapshot.at,
                            last_active,
                            ..known.clone()
                        });
                    }
                }
                None => {
                    closed.extend(known.map(|known| ended(known, Some(snapshot.at), self.last_at)));
                    let id = LifetimeId(self.next_lifetime);
                    self.next_lifetime += 1;
                    self.open.insert(resource.identity, id);
                    let last_active = last_active(resource, snapshot.at);
                    // It carried something before we saw it: so it was open by then.
                    let opened = last_active.map_or(snapshot.at, |active| active.min(snapshot.at));
                    tick.opened.push(Lifetime {
                        id,
                        holders,
                        accepted_by: listeners.accepted(resource),
                        opened_after: self.last_at,
                        opened: self.last_at.map_or(opened, |last| opened.max(last)),
                        opened_exact: false,
                        last_seen: snapshot.at,
                        last_active,
                        closed: None,
                        ended_with_process: false,
                        resource: resource.clone(),
                    });
                }
            }
        }
        if !snapshot.processes.is_empty() {
            let forgotten = self.ended.extract_if(.., |id| {
                population.open.get(id).is_none_or(|it| it.last_seen + ENDED_KEPT + 2 * self.every < snapshot.at)
            });
            let forgotten = forgotten.filter_map(|id| population.open.get(&id));
            closed.extend(forgotten.map(|it| ended(it, Some(snapshot.at), Some(it.last_seen))));
        }
        let unreadable: HashSet<ProcessKey> =
            snapshot.unreadable.iter().filter_map(|id| self.processes.get(id)).copied().collect();
        let mut all_seen = true;
        for (identity, lifetime) in
            before.iter().filter_map(|(identity, id)| Some((identity, population.open.get(id)?)))
        {
            if lifetime.holders.iter().any(|holder| unreadable.contains(&holder.process)) {
                self.open.insert(*identity, lifetime.id);
                all_seen = false;
                continue;
            }
            let orphaned = lifetime.holders.iter().all(|holder| !self.running.contains_key(&holder.process));
            if orphaned {
                self.ended.push(lifetime.id);
                closed.push(Lifetime { ended_with_process: true, ..ended(lifetime, None, self.last_at) });
            } else {
                closed.push(ended(lifetime, Some(snapshot.at), self.last_at));
            }
        }
        tick.closed = population.close(closed);
        all_seen
    }

    /// The counts of what is open: how many there are of each series that lifetimes feed.
    fn counts(&mut self, tick: &Tick, snapshot: &Snapshot, population: &Population) -> Vec<(String, f64)> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        // Series that once were are 0 now rather than missing.
        for name in self.series.keys().filter(|name| is_counted(name)) {
            counts.insert(name.clone(), 0);
        }
        // Counted by what they are first: a name is made once a series, not once a connection.
        let mut internet = 0;
        let mut kinds: HashMap<Kind, u64> = HashMap::new();
        for descriptor in &snapshot.descriptors {
            let resource = &snapshot.resources[descriptor.resource];
            *kinds.entry(resource.kind).or_default() += 1;
            // lsof lists a row per descriptor.
            internet += u64::from(resource.is_internet());
        }
        let born: HashMap<LifetimeId, &Lifetime> = tick.opened.iter().map(|it| (it.id, it)).collect();
        let mut peers: HashMap<Peer, u64> = HashMap::new();
        for resource in snapshot.resources.iter().filter(|it| it.is_connection()) {
            let id = self.open.get(&resource.identity);
            let lifetime = id.and_then(|id| born.get(id).copied().or_else(|| population.open.get(id)));
            let accepted = lifetime.and_then(|lifetime| lifetime.accepted_by.as_deref());
            let peer = match (accepted, &resource.remote) {
                (Some(listener), _) => Peer::AcceptedBy(listener),
                (None, Some(remote)) => Peer::Remote(remote),
                (None, None) => Peer::Unnamed(resource.kind),
            };
            *peers.entry(peer).or_default() += 1;
        }
        counts.insert("connections".to_owned(), peers.values().sum());
        counts.insert("internet".to_owned(), internet);
        counts.insert("descriptors".to_owned(), snapshot.descriptors.len() as u64);
        counts.extend(kinds.into_iter().map(|(kind, count)| (format!("descriptors:{kind}"), count)));
        let mut endpoints: BTreeMap<String, u64> = BTreeMap::new();
        for (peer, count) in peers {
            *endpoints.entry(peer.series()).or_default() += count;
        }
        for name in counts.keys().filter(|name| is_endpoint(name)) {
            if endpoints.contains_key(name) {
                self.zero_since.remove(name);
            } else {
                self.zero_since.entry(name.clone()).or_insert(snapshot.at);
            }
        }
        self.endpoints_dropped = 0;
        for (name, count) in endpoints {
            let is_worth_one = count > 1 || self.endpoints_made < ENDPOINTS_EAGER;
            if counts.contains_key(&name) {
                counts.insert(name, count);
            } else if is_worth_one && self.endpoints_dropped == 0 && self.has_room_for_endpoint(&mut counts) {
                self.endpoints_made += 1;
                counts.insert(name, count);
            } else if is_worth_one {
                self.endpoints_dropped += 1;
            }
        }
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

/// What the connections of one series by endpoint share.
#[derive(PartialEq, Eq, Hash)]
enum Peer<'a> {
    AcceptedBy(&'a str),
    Remote(&'a Address),
    /// A Unix socket whose peer has no name.
    Unnamed(Kind),
}

impl Peer<'_> {
    fn series(&self) -> String {
        match self {
            Peer::AcceptedBy(listener) => format!("accepted:{listener}"),
            Peer::Remote(remote) => format!("connections:{remote}"),
            Peer::Unnamed(kind) => format!("connections:{kind}"),
        }
    }
}

/// The addresses that the target listens on.
struct Listeners<'a>(HashSet<&'a Address>);

impl<'a> Listeners<'a> {
    fn of(resources: &'a [Resource]) -> Self {
        let listening = resources.iter().filter(|it| it.state == Some(State::Listen));
        Listeners(listening.filter_map(|it| it.local.as_ref()).collect())
    }

    /// The listener that accepted this connection: its own end has the listener's address, or its port where the listener
    /// takes any address.
    fn accepted(&self, resource: &Resource) -> Option<String> {
        if !resource.is_connection() || !matches!(resource.kind, Kind::Tcp | Kind::Unix) {
            return None;
        }
        let local = resource.local.as_ref()?;
        // The same address before any address of the same family before any address at all.
        let rank = |listener: &Address| match (listener, local) {
            _ if listener == local => Some(0),
            (Address::Inet(listener), Address::Inet(local)) => {
                let takes = listener.port() == local.port() && listener.ip().is_unspecified();
                takes.then_some(if listener.is_ipv6() == resource.ipv6 { 1 } else { 2 })
            }
            _ => None,
        };
        let ranked = self.0.iter().filter_map(|listener| Some((rank(listener)?, *listener)));
        ranked.min().map(|(_, listener)| listener.to_string())
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
    let other_peer = before.remote.is_some() && now.remote.is_some() && before.remote != now.remote;
    let other_end = before.remote.is_some() && now.remote.is_some() && before.local != now.local;
    let other_kind = before.kind != now.kind && before.kind != Kind::Socket && now.kind != Kind::Socket;
    other_peer || other_end || other_kind
}

/// The resource as it is now, with the addresses it had where the kernel has forgotten them: a connection that the peer
/// reset stands in no table any more.
fn merged<'a>(before: &Resource, now: &'a Resource) -> Cow<'a, Resource> {
    if now.remote.is_some() || before.remote.is_none() {
        return Cow::Borrowed(now);
    }
    let state = if now.kind == Kind::Tcp && now.local.is_none() { Some(State::Close) } else { now.state };
    Cow::Owned(Resource { state, activity: before.activity, identity: now.identity, ..before.clone() })
}

fn last_active(resource: &Resource, at: Timestamp) -> Option<Timestamp> {
    resource.activity.silent_seconds.map(|silent| at - Duration::from_secs_f64(silent))
}

fn has_changed(before: &Lifetime, now: &Resource, holders: &[Holder], last_active: Option<Timestamp>) -> bool {
    let known = &before.resource;
    let activity = |it: &Resource| (it.activity.bytes_sent, it.activity.bytes_received);
    let apart = match (before.last_active, last_active) {
        (Some(before), Some(now)) => now.seconds_since(before).abs() > ACTIVITY_NOISE_SECONDS,
        (before, now) => before != now,
    };
    apart
        || activity(known) != activity(now)
        || before.holders != holders
        || (known.state, &known.local, &known.remote, &known.name) != (now.state, &now.local, &now.remote, &now.name)
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
