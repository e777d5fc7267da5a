//! The recording's promises as properties: what is written is read back, in order, and retention keeps what is open.

use super::{Recording, Retention, Writer};
use crate::model::{
    Address, Closing, CodeGroup, Detail, Frame, Identity, Kind, LastUse, Lifetime, LifetimeId, Message, Part,
    Population, Resource, Series, SeriesKey, Stack, StackKey, Tick, Timestamp, Unit, Usage, Use, Verdict,
    VerdictChange, Via, Whereabouts,
};
use proptest::prelude::*;
use std::time::Duration;

const KEY: SeriesKey = SeriesKey(7);

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp(1_487_279_164_000_000 + second * 1_000_000)
}

/// A tick of one series.
pub(super) fn tick(second: i64, value: f64) -> Tick {
    Tick { at: at(second), values: vec![(KEY, value)], ..Tick::default() }
}

pub(super) fn named(tick: Tick) -> Tick {
    let series = Series { key: KEY, name: "connections".into(), unit: Unit::Count, process: None };
    Tick { added: vec![series], ..tick }
}

pub(super) fn open(id: u64, second: i64) -> Lifetime {
    Lifetime {
        id: LifetimeId(id),
        resource: Resource::new(Identity(8, id), Kind::Tcp),
        holders: Vec::new(),
        accepted_by: None,
        opened_after: None,
        opened: at(second),
        opened_exact: false,
        last_seen: at(second),
        last_active: None,
        closed: None,
        ended_with_process: false,
        opener: None,
        last_use: None,
    }
}

/// Writes the ticks and reads the series back, with the writer still there or gone.
fn kept(ticks: &[Tick], retention: Retention, while_writing: bool) -> (Vec<(Timestamp, u64)>, Recording) {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("r.unclosed");
    let mut writer = Writer::create(&path, Duration::from_secs(1), "test", retention).expect("created");
    for tick in ticks {
        writer.append(tick, None).expect("written");
    }
    if !while_writing {
        drop(writer);
    }
    let recording = Recording::open(&path).expect("opens");
    let points = recording.points(KEY).expect("reads");
    // To the bit, so that what is no number compares too.
    let kept = points.times.into_iter().zip(points.values.into_iter().map(f64::to_bits)).collect();
    (kept, recording)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_written_is_read_back_in_order(
        values in prop::collection::vec(prop_oneof![0.0..1e6, Just(0.1), Just(-0.0), Just(1e300)], 1..2_000),
        while_writing: bool,
    ) {
        // Up to two segments are sealed, and the rest is rows.
        let mut ticks: Vec<Tick> = values.iter().zip(0..).map(|(value, second)| tick(second, *value)).collect();
        ticks[0] = named(ticks[0].clone());
        let expected: Vec<_> = ticks.iter().map(|tick| (tick.at, tick.values[0].1.to_bits())).collect();
        let (kept, recording) = kept(&ticks, Retention::default(), while_writing);
        prop_assert_eq!(kept, expected);
        prop_assert_eq!(recording.facts().expect("reads").ticks, values.len() as u64);
    }

    #[test]
    fn retention_keeps_what_is_open_and_what_is_young(keep_seconds in 60u64..600, length in 750i64..3_000) {
        let retention = Retention { age: Duration::from_secs(keep_seconds), ..Retention::default() };
        let mut ticks: Vec<Tick> = (0..length).map(|second| tick(second, second as f64)).collect();
        ticks[0] = named(ticks[0].clone());
        // One that stays open from the first tick on, one that is closed early, one that is closed at the end.
        ticks[0].opened = vec![open(1, 0), open(2, 0), open(3, 0)];
        for (id, second) in [(2, 1), (3, length - 1)] {
            let lifetime = Lifetime { closed: Some(at(second)), ..open(id, 0) };
            ticks[second as usize].closed = vec![Closing { lifetime, kept: true, evicted: None }];
        }
        let (kept, recording) = kept(&ticks, retention, false);
        let population = recording.population().expect("reads");
        prop_assert!(population.open.contains_key(&LifetimeId(1)));
        prop_assert!(population.closed.contains_key(&LifetimeId(3)));
        prop_assert_eq!(population.closed_total, 2);
        // Retention works at each sealing, every 720 ticks.
        let sealed = length / 720 * 720 - 1;
        prop_assert_eq!(population.closed.contains_key(&LifetimeId(2)), sealed - 1 <= keep_seconds as i64);
        // No sample that is young enough is missing, and there is no hole.
        let youngest = at(length - 1 - keep_seconds as i64);
        prop_assert!(kept[0].0 <= youngest.max(at(0)));
        prop_assert!(kept.windows(2).all(|pair| pair[1].0.0 - pair[0].0.0 == 1_000_000));
        prop_assert_eq!(kept.last().map(|it| it.0), Some(at(length - 1)));
    }
}

#[test]
fn the_oldest_go_when_it_outgrows_its_size_and_what_is_open_stays() {
    let retention = Retention { bytes: 200_000, ..Retention::default() };
    // Noise, which doesn't compress: some 6 kB a segment.
    let noise =
        |second: i64| f64::from_bits(0x3ff0_0000_0000_0000 | (second as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12);
    let mut ticks: Vec<Tick> = (0..40_000).map(|second| tick(second, noise(second))).collect();
    ticks[0] = named(ticks[0].clone());
    ticks[0].opened = vec![open(1, 0)];
    let (kept, recording) = kept(&ticks, retention, false);
    assert!(kept.len() > 5_000 && kept.len() < 35_000, "{}", kept.len());
    assert_eq!(kept.last().map(|it| it.0), Some(at(39_999)));
    assert!(recording.population().expect("reads").open.contains_key(&LifetimeId(1)));
}

#[test]
fn memory_and_the_recording_count_by_the_same_groups_and_there_is_a_bound() {
    let mut opened: Vec<Lifetime> = (0..6_000).map(|id| open(id, 0)).collect();
    for lifetime in &mut opened {
        let id = lifetime.id.0;
        lifetime.resource.remote = Some(Address::parse(&format!("10.0.{}.{}:5432", id / 250, id % 250)));
    }
    let mut population = Population::default();
    let first = Tick { at: at(0), opened: opened.clone(), ..Tick::default() };
    population.apply(&first);
    for lifetime in &mut opened {
        lifetime.closed = Some(at(1));
    }
    let second = Tick { at: at(1), closed: population.close(opened), ..Tick::default() };
    population.apply(&second);
    let (_, recording) = kept(&[first, second], Retention::default(), false);
    let recorded = recording.population().expect("reads");
    assert_eq!(recorded.tallies, population.tallies);
    assert!(recorded.tallies.groups.len() < 5_000 && recorded.closed_total == 6_000);
}

fn stack(function: &str) -> Stack {
    let frame = |function: &str, line: Option<u32>| Frame {
        function: Some(function.into()),
        file: line.map(|_| "app.py".into()),
        line,
        module: Some("/usr/bin/python3.11".into()),
        via: if line.is_some() { Via::Awaited } else { Via::Call },
        own: false,
    };
    Stack { frames: vec![frame("connect", None), frame(function, Some(88))], truncated: Some("it was cut".into()) }
}

fn by(stack: u32, second: i64) -> Use {
    Use { stack: Some(StackKey(stack)), thread: "worker".into(), tid: 7, at: at(second) }
}

fn said(stack: u32, second: i64, text: &str) -> LastUse {
    let message = Message { at: at(second), text: text.into(), useful: true };
    LastUse { by: by(stack, second), messages: vec![message], whereabouts: None }
}

/// A run in which one is opened by one stack and used by another, others are closed, and one comes and goes in a tick.
fn run_with_code() -> (Vec<Tick>, Population) {
    let mut population = Population::default();
    let opened = |id, key| Lifetime { opener: Some(Box::new(by(key, 0))), ..open(id, 0) };
    let mut first = named(tick(0, 1.0));
    first.stacks = vec![(StackKey(1), stack("get")), (StackKey(2), stack("report"))];
    first.opened = vec![opened(1, 1), opened(2, 1), opened(3, 2), open(4, 0)];
    first.used = vec![Usage { id: LifetimeId(1), last: said(2, 0, "SELECT 1") }];
    population.apply(&first);
    let mut second = tick(1, 1.0);
    let closed = |lifetime: Lifetime| Lifetime { closed: Some(at(1)), ..lifetime };
    let passed = Lifetime { last_use: Some(Box::new(said(2, 1, "UPDATE a"))), ..opened(5, 2) };
    second.opened = vec![passed.clone()];
    // Where the thread is now is told of the use that is known.
    let whereabouts = Some(Whereabouts { at: at(1), stack: Some(StackKey(1)), words: "waits".into() });
    let same = LastUse { messages: Vec::new(), whereabouts, ..said(2, 0, "") };
    second.used = vec![Usage { id: LifetimeId(1), last: same }];
    second.closed = population.close(vec![closed(population.open[&LifetimeId(2)].clone()), closed(passed)]);
    population.apply(&second);
    (vec![first, second], population)
}

#[test]
fn who_opened_and_who_used_last_are_read_back() {
    let (ticks, population) = run_with_code();
    let (_, recording) = kept(&ticks, Retention::default(), true);
    let recorded = recording.population().expect("reads");
    assert_eq!(recorded.open, population.open);
    assert_eq!(recorded.closed, population.closed);
    assert_eq!(recorded.tallies, population.tallies);
    let stacks = recording.facts().expect("reads").stacks;
    assert_eq!(stacks, ticks[0].stacks.iter().cloned().collect());
    let last = recorded.open[&LifetimeId(1)].last_use.as_deref().expect("it was seen");
    assert_eq!((&*last.messages[0].text, &*last.whereabouts.as_ref().expect("told").words), ("SELECT 1", "waits"));
    let group = |part, stack: Option<u32>| CodeGroup { kind: Kind::Tcp, part, stack: stack.map(StackKey) };
    let tally = |part, stack| recorded.tallies.code.get(&group(part, stack)).map(|it| (it.opened, it.closed));
    assert_eq!(tally(Part::Opener, Some(1)), Some((2, 1)));
    assert_eq!(tally(Part::Opener, Some(2)), Some((2, 1)));
    assert_eq!(tally(Part::Opener, None), Some((1, 0)));
    assert_eq!((tally(Part::LastUse, Some(2)), tally(Part::LastUse, None)), (Some((0, 1)), Some((0, 1))));
}

#[test]
fn a_recording_without_stacks_is_read_and_a_spoilt_stack_is_unknown() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("r.unclosed");
    let mut writer = Writer::create(&path, Duration::from_secs(1), "test", Retention::default()).expect("created");
    run_with_code().0.iter().for_each(|tick| writer.append(tick, None).expect("written"));
    drop(writer);
    let connection = rusqlite::Connection::open(&path).expect("opens");
    connection.execute("UPDATE stack SET frames = '[[' WHERE key = 1", []).expect("written");
    connection.execute("UPDATE last_use SET messages = 'x', now = '[]'", []).expect("written");
    let read = || Recording::open(&path).and_then(|it| Ok((it.facts()?, it.population()?))).expect("reads");
    let (facts, population) = read();
    assert!(facts.stacks.keys().eq([&StackKey(2)]));
    let last = population.open[&LifetimeId(1)].last_use.as_deref().expect("it was seen");
    assert!(last.messages.is_empty() && last.whereabouts.is_none());
    for table in super::schema::LATER_TABLES {
        connection.execute_batch(&format!("DROP TABLE {table}")).expect("dropped");
    }
    let (facts, population) = read();
    assert!(facts.stacks.is_empty() && population.tallies.code.is_empty());
    assert!(population.open.values().all(|it| it.opener.is_none() && it.last_use.is_none()));
    connection.execute_batch("CREATE VIEW stack AS SELECT 1 AS key, '[]' AS frames, '' AS truncated").expect("made");
    assert!(Recording::open(&path).is_err());
}

#[test]
fn stacks_are_bounded_and_that_is_said() {
    let mut first = named(tick(0, 1.0));
    first.stacks = (0..10_001).map(|key| (StackKey(key), stack("get"))).collect();
    let (_, recording) = kept(&[first, tick(1, 1.0)], Retention::default(), false);
    let facts = recording.facts().expect("reads");
    assert_eq!((facts.stacks.len(), facts.notes.len()), (10_000, 1));
}

#[test]
fn retention_keeps_what_open_ones_name() {
    let (mut ticks, _) = run_with_code();
    ticks.extend((2..1_441).map(|second| tick(second, 1.0)));
    let retention = Retention { age: Duration::from_secs(60), ..Retention::default() };
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("r.unclosed");
    let mut writer = Writer::create(&path, Duration::from_secs(1), "test", retention).expect("created");
    ticks.iter().for_each(|tick| writer.append(tick, None).expect("written"));
    let recording = Recording::open(&path).expect("opens");
    let population = recording.population().expect("reads");
    assert!(population.closed.is_empty() && population.open[&LifetimeId(1)].last_use.is_some());
    assert_eq!(recording.facts().expect("reads").stacks.len(), 2);
    let connection = rusqlite::Connection::open(&path).expect("opens");
    let rows = |table| connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0));
    assert_eq!((rows("opener"), rows("last_use")), (Ok(2), Ok(1)));
}

#[test]
fn details_are_read_back_and_what_is_no_detail_is_unknown() {
    let detail = Detail {
        offset: Some(1 << 40),
        signals: Some(vec!["SIGUSR2".to_owned()]),
        interval_seconds: Some(1.5),
        other_end: Some(Vec::new()),
        ..Detail::default()
    };
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("r.unclosed");
    let mut writer = Writer::create(&path, Duration::from_secs(1), "test", Retention::default()).expect("created");
    let mut with_detail = open(1, 0);
    with_detail.resource.detail = Some(Box::new(detail.clone()));
    writer.append(&Tick { opened: vec![with_detail, open(2, 0)], ..tick(0, 1.0) }, None).expect("written");
    drop(writer);
    let details = || {
        let population = Recording::open(&path).and_then(|recording| recording.population()).expect("reads");
        population.open.into_values().map(|it| it.resource.detail.map(|it| *it)).collect::<Vec<_>>()
    };
    assert_eq!(details(), [Some(detail), None]);
    let connection = rusqlite::Connection::open(&path).expect("opens");
    connection.execute("UPDATE lifetime SET detail = '{\"offset\":'", []).expect("written");
    assert_eq!(details(), [None, None]);
}

#[test]
fn a_tick_without_values_is_a_tick() {
    let empty = |second| Tick { at: at(second), ..Tick::default() };
    // Unsealed, sealed with others, and a segment of nothing else.
    for length in [3, 720, 1_500] {
        for first in [empty(0), named(tick(0, 1.0))] {
            let mut ticks: Vec<Tick> = (0..length).map(empty).collect();
            ticks[0] = first;
            let (kept, recording) = kept(&ticks, Retention::default(), false);
            let measured = u64::from(!ticks[0].values.is_empty());
            assert_eq!(kept.iter().filter(|(_, value)| !f64::from_bits(*value).is_nan()).count() as u64, measured);
            let facts = recording.facts().expect("reads");
            assert_eq!((facts.from, facts.to, facts.ticks), (at(0), at(length - 1), length as u64));
            let mut times = Vec::new();
            recording.for_each_tick(|at, _| times.push(at)).expect("reads");
            assert_eq!(times, ticks.iter().map(|tick| tick.at).collect::<Vec<_>>());
        }
    }
}

/// How many pages of a recording nothing is on, and how many there are.
fn pages(path: &std::path::Path) -> (i64, i64) {
    let connection = rusqlite::Connection::open(path).expect("opens");
    let pragma = |name| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).expect("reads");
    (pragma("freelist_count"), pragma("page_count"))
}

#[test]
fn what_retention_frees_is_given_back() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("r.unclosed");
    let retention = Retention { age: Duration::from_secs(60), ..Retention::default() };
    let mut writer = Writer::create(&path, Duration::from_secs(1), "test", retention).expect("created");
    for second in 0..1_440 {
        let mut tick = tick(second, 1.0);
        if second == 0 {
            tick.opened = (0..5_000).map(|id| open(id, 0)).collect();
        }
        if second == 1 {
            let closed = (0..5_000).map(|id| Lifetime { closed: Some(at(1)), ..open(id, 0) });
            tick.closed = closed.map(|lifetime| Closing { lifetime, kept: true, evicted: None }).collect();
        }
        writer.append(&tick, None).expect("written");
        if second == 700 {
            assert!(pages(&path).1 > 60);
        }
    }
    let (free, all) = pages(&path);
    assert!(free <= 2 && all < 60, "{free} of {all} pages are free");
}

#[test]
fn samples_are_not_dropped_for_what_dropping_does_not_free() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("r.unclosed");
    let retention = Retention { bytes: 200_000, ..Retention::default() };
    let mut writer = Writer::create(&path, Duration::from_secs(1), "test", retention).expect("created");
    // More is open than the file may hold.
    writer.append(&Tick { opened: (0..5_000).map(|id| open(id, 0)).collect(), ..tick(0, 1.0) }, None).expect("written");
    for second in 1..7_200 {
        writer.append(&tick(second, 1.0), None).expect("written");
    }
    let connection = rusqlite::Connection::open(&path).expect("opens");
    let segments: i64 = connection.query_row("SELECT count(*) FROM segment", [], |row| row.get(0)).expect("reads");
    assert_eq!(segments, 10);
}

#[test]
fn notes_and_verdicts_are_bounded() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("r.unclosed");
    let mut writer = Writer::create(&path, Duration::from_secs(1), "test", Retention::default()).expect("created");
    for second in 0..1_500 {
        let tick = Tick { notes: vec!["the same".into(), format!("tick {second}")], ..tick(second, 1.0) };
        let verdict = VerdictChange { at: at(second), kind: Verdict::Undecided, sentence: format!("{second}") };
        writer.append(&tick, Some(&verdict)).expect("written");
    }
    let facts = Recording::open(&path).and_then(|it| it.facts()).expect("reads");
    assert_eq!(facts.notes.len(), 1_001);
    assert!(facts.notes.iter().any(|note| note == "further notes were not kept"));
    assert_eq!((facts.history.len(), facts.history[0].at, facts.history[999].at), (1_000, at(500), at(1_499)));
}
