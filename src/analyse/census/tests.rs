//! Births, deaths and counts, from snapshots made by hand.

use super::*;
use crate::model::{Access, Address, Reading};

fn process(pid: u32) -> Process {
    Process {
        id: ProcessId { boot_id: "boot".into(), pid, start_ticks: 1 },
        name: "orders".into(),
        command: "orders".into(),
        uid: 0,
        user: "root".into(),
        started: Timestamp(0),
        ended: None,
    }
}

fn tcp(inode: u64, local: &str, remote: Option<&str>) -> Resource {
    let mut resource = Resource::new(Identity(8, inode), Kind::Tcp);
    resource.local = Some(Address::parse(local));
    resource.remote = remote.map(Address::parse);
    resource.state = Some(if remote.is_some() { State::Established } else { State::Listen });
    resource
}

/// A snapshot of pid 1 that holds each resource once, at `seconds`.
fn snapshot(seconds: i64, resources: Vec<Resource>) -> Snapshot {
    let sighting = |(place, resource)| {
        let descriptor = Descriptor { process: process(1).id, fd: place as i32 + 3, access: Some(Access::Both) };
        Sighting { resource, holders: vec![descriptor], object: None, opener: None }
    };
    Snapshot {
        at: Timestamp(seconds * 1_000_000),
        processes: vec![process(1)],
        sightings: resources.into_iter().enumerate().map(sighting).collect(),
        ..Snapshot::default()
    }
}

fn closings(tick: &Tick) -> Vec<(u64, bool)> {
    tick.closed.iter().map(|it| (it.lifetime.id.0, it.lifetime.ended_with_process)).collect()
}

struct Run {
    census: Census,
    population: Population,
    names: BTreeMap<SeriesKey, String>,
}

impl Run {
    fn new() -> Self {
        let census = Census::new(Duration::from_secs(1));
        Run { census, population: Population::default(), names: BTreeMap::new() }
    }

    /// Takes a snapshot that has all that is open: what it lacks is gone, unless a process could not be read.
    fn step(&mut self, snapshot: &Snapshot) -> Tick {
        let mut snapshot = snapshot.clone();
        let here: HashSet<Identity> = snapshot.sightings.iter().map(|it| it.resource.identity).collect();
        if snapshot.unreadable.is_empty() {
            let is_gone = |it: &Identity| !here.contains(it) && !snapshot.unheld.contains(it);
            snapshot.gone = self.census.open.keys().copied().filter(is_gone).collect();
        }
        let tick = self.census.advance(&snapshot, &self.population);
        let mut counted = Counts::default();
        self.names.extend(tick.added.iter().map(|series| (series.key, series.name.clone())));
        self.population.apply(&tick);
        for id in self.census.open.values().filter(|id| !self.census.unheld.contains_key(id)) {
            counted.add(&self.population.open[id]);
        }
        let kept_up = &mut self.census.counts;
        kept_up.kinds.retain(|_, count| *count > 0);
        assert_eq!(*kept_up, counted, "counts that are kept up are those that are counted anew");
        tick
    }

    fn value(&self, tick: &Tick, name: &str) -> Option<f64> {
        tick.values.iter().find(|(key, _)| self.names[key] == name).map(|(_, value)| *value)
    }
}

#[test]
fn a_lifetime_is_bounded_by_the_ticks_around_it() {
    let mut run = Run::new();
    run.step(&snapshot(0, vec![tcp(1, "10.0.0.1:50000", Some("10.0.0.5:5432"))]));
    let opened = run.step(&snapshot(
        1,
        vec![tcp(1, "10.0.0.1:50000", Some("10.0.0.5:5432")), tcp(2, "10.0.0.1:50001", Some("10.0.0.5:5432"))],
    ));
    assert_eq!(opened.opened.len(), 1);
    assert_eq!(opened.opened[0].opened_after, Some(Timestamp(0)));
    assert_eq!(run.value(&opened, "connections:10.0.0.5:5432"), Some(2.0));
    let closed = run.step(&snapshot(2, vec![]));
    let mut gone = closings(&closed);
    gone.sort_unstable();
    assert_eq!(gone, [(1, false), (2, false)]);
    assert_eq!(run.value(&closed, "connections:10.0.0.5:5432"), Some(0.0));
    assert_eq!(run.population.closed_total, 2);
}

#[test]
fn accepted_connections_are_counted_by_their_listener() {
    let mut run = Run::new();
    let tick = run.step(&snapshot(
        0,
        vec![
            tcp(1, "0.0.0.0:80", None),
            tcp(2, "10.0.0.1:80", Some("10.0.0.9:41000")),
            tcp(3, "10.0.0.1:41001", Some("10.0.0.5:80")),
        ],
    ));
    assert_eq!(run.value(&tick, "accepted:0.0.0.0:80"), Some(1.0));
    assert_eq!(run.value(&tick, "connections:10.0.0.5:80"), Some(1.0));
    assert_eq!(run.value(&tick, "connections"), Some(2.0));
    assert_eq!(run.value(&tick, "internet"), Some(3.0));
}

#[test]
fn what_a_process_held_when_it_ended_was_not_closed_by_it() {
    let mut run = Run::new();
    run.step(&snapshot(0, vec![tcp(1, "10.0.0.1:50000", Some("10.0.0.5:5432"))]));
    let end = Snapshot { at: Timestamp(1_000_000), ..Snapshot::default() };
    let tick = run.step(&end);
    assert_eq!(closings(&tick), [(1, true)]);
    assert_eq!((run.population.open.len(), run.population.closed_total), (1, 0));
    assert_eq!(tick.ended.len(), 1);
}

#[test]
fn what_a_child_held_when_it_ended_is_remembered_for_a_while() {
    let mut run = Run::new();
    let both = |seconds| Snapshot { processes: vec![process(1), process(2)], ..snapshot(seconds, vec![]) };
    let holders = vec![Descriptor { process: process(2).id, fd: 3, access: None }];
    let held =
        Sighting { resource: tcp(1, "10.0.0.1:50000", Some("10.0.0.5:5432")), holders, object: None, opener: None };
    for seconds in 0..60 {
        run.step(&Snapshot { sightings: vec![held.clone()], ..both(seconds) });
    }
    run.step(&snapshot(60, vec![]));
    run.step(&snapshot(61, vec![]));
    assert_eq!((run.population.open.len(), run.population.closed_total), (1, 0));
    run.step(&snapshot(70, vec![]));
    assert_eq!((run.population.open.len(), run.population.closed_total), (0, 0));
}

#[test]
fn a_socket_that_the_peer_reset_keeps_its_addresses() {
    let mut run = Run::new();
    run.step(&snapshot(0, vec![tcp(1, "10.0.0.1:50000", Some("10.0.0.5:5432"))]));
    let tick = run.step(&snapshot(1, vec![Resource::new(Identity(8, 1), Kind::Tcp)]));
    assert_eq!(tick.closed.len(), 0);
    let now = &run.population.open[&LifetimeId(1)].resource;
    assert_eq!((now.state, now.remote.is_some()), (Some(State::Close), true));
}

#[test]
fn an_inode_used_again_is_another_lifetime() {
    let mut run = Run::new();
    run.step(&snapshot(0, vec![tcp(1, "10.0.0.1:50000", Some("10.0.0.5:5432"))]));
    let tick = run.step(&snapshot(1, vec![tcp(1, "10.0.0.1:50077", Some("10.0.0.5:5432"))]));
    assert_eq!((tick.opened.len(), closings(&tick)), (1, vec![(1, false)]));
}

#[test]
fn an_incomplete_snapshot_closes_nothing_and_a_late_one_leaves_a_gap() {
    let mut run = Run::new();
    run.step(&snapshot(0, vec![tcp(1, "10.0.0.1:50000", Some("10.0.0.5:5432"))]));
    let unreadable = vec![process(1).id];
    let tick = run.step(&Snapshot { processes: vec![], unreadable, ..snapshot(9, vec![]) });
    // One in all, for it is late, and one in each of the counts that are always there.
    assert_eq!((tick.closed.len(), tick.ended.len(), tick.values.len(), tick.gaps.len()), (0, 0, 0, 4));
    let tick = run.step(&snapshot(10, vec![tcp(1, "10.0.0.1:50000", Some("10.0.0.5:5432"))]));
    assert_eq!((tick.opened.len(), tick.closed.len(), run.value(&tick, "connections")), (0, 0, Some(1.0)));
}

#[test]
fn a_reading_that_fails_is_a_gap_with_its_reason() {
    let mut run = Run::new();
    let reading = |value| Reading { series: "command:x".into(), unit: Unit::Count, value };
    run.step(&Snapshot { readings: vec![reading(Ok(1.0))], ..Snapshot::default() });
    let late = Snapshot { at: Timestamp(1_000_000), readings: vec![reading(Err("no".into()))], ..Snapshot::default() };
    let tick = run.step(&late);
    assert_eq!(
        tick.gaps,
        [Gap { from: Timestamp(0), to: Timestamp(1_000_000), series: Some("command:x".into()), reason: "no".into() }]
    );
    assert_eq!(tick.notes, ["command:x: no"]);
}

#[test]
fn endpoints_are_bounded_and_idle_ones_make_room() {
    let mut run = Run::new();
    for round in 0..4u64 {
        let crowd = (0..400).map(|n| {
            let remote = format!("10.1.{round}.{}:80", n / 2);
            tcp(round * 1000 + n + 1, &format!("10.0.0.1:{}", 10_000 + n), Some(&remote))
        });
        let tick = run.step(&snapshot(round as i64, crowd.collect()));
        let by_endpoint = tick.values.iter().filter(|(key, _)| run.names[key].starts_with("connections:")).count();
        assert!(by_endpoint <= ENDPOINTS_MAX, "{by_endpoint}");
        assert_eq!(run.value(&tick, &format!("connections:10.1.{round}.7:80")), Some(2.0));
    }
}

#[test]
fn a_crawlers_endpoints_do_not_become_series_without_end() {
    let mut run = Run::new();
    for round in 0..100u64 {
        let peer = |n: u64| tcp(round * 1000 + n + 1, "10.0.0.1:10000", Some(&format!("10.{round}.0.{}:80", n / 2)));
        run.step(&snapshot(round as i64, (0..100).map(peer).collect()));
    }
    assert!(run.names.len() < ENDPOINTS_EVER_MAX + 10, "{}", run.names.len());
}

#[test]
fn of_two_listeners_the_one_of_its_family_accepted_it() {
    let both = [tcp(1, "0.0.0.0:80", None), Resource { ipv6: true, ..tcp(2, "[::]:80", None) }];
    let four = tcp(3, "10.0.0.1:80", Some("10.0.0.9:4000"));
    let six = Resource { ipv6: true, ..four.clone() };
    let mut listeners = Listeners::default();
    listeners.update(&snapshot(0, both.to_vec()));
    assert_eq!(listeners.accepted(&four).as_deref(), Some("0.0.0.0:80"));
    assert_eq!(listeners.accepted(&six).as_deref(), Some("[::]:80"));
}

#[test]
fn a_longer_interval_is_no_gap() {
    let mut run = Run::new();
    let mut gaps = |seconds: i64, every: u64| {
        run.census.set_every(Duration::from_secs(every));
        run.step(&snapshot(seconds, Vec::new())).gaps.len()
    };
    assert_eq!([gaps(0, 1), gaps(1, 1), gaps(5, 4), gaps(9, 4)], [0, 0, 0, 0]);
    assert_eq!([gaps(13, 1), gaps(21, 4)], [1, 1]);
}

#[test]
fn what_is_on_its_way_is_not_closed_and_what_was_let_go_was_closed_when_nobody_held_it() {
    let mut run = Run::new();
    let both =
        || vec![tcp(1, "10.0.0.1:50000", Some("10.0.0.5:5432")), tcp(2, "10.0.0.1:50001", Some("10.0.0.5:5432"))];
    run.step(&snapshot(0, both()));
    let unheld = vec![Identity(8, 1), Identity(8, 2)];
    let tick = run.step(&Snapshot { unheld, ..snapshot(1, vec![]) });
    assert_eq!((tick.closed.len(), run.value(&tick, "connections")), (0, Some(0.0)));
    let tick = run.step(&snapshot(2, both()[..1].to_vec()));
    assert_eq!((tick.opened.len(), run.value(&tick, "connections")), (0, Some(1.0)));
    assert_eq!(closings(&tick), [(2, false)]);
    assert_eq!(tick.closed[0].lifetime.closed, Some(Timestamp(1_000_000)));
    assert_eq!(tick.closed[0].lifetime.last_seen, Timestamp(0));
}

#[test]
fn a_udp_socket_that_is_connected_elsewhere_is_the_same() {
    let mut run = Run::new();
    let udp = |remote: Option<&str>| Resource { kind: Kind::Udp, state: None, ..tcp(1, "10.0.0.1:50000", remote) };
    run.step(&snapshot(0, vec![udp(Some("10.0.0.5:53"))]));
    let tick = run.step(&snapshot(1, vec![udp(Some("10.0.0.6:53"))]));
    assert_eq!((tick.opened.len(), tick.closed.len(), tick.changed.len()), (0, 0, 1));
    run.step(&snapshot(2, vec![udp(None)]));
    assert_eq!(run.population.open[&LifetimeId(1)].resource.remote, None);
}
