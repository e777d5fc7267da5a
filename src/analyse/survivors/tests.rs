//! Scenes of programs that leak and of healthy ones.

use super::*;
use crate::model::{Address, Identity, Judged, Kind, Resource, Tally};

/// A resource of a scene: opened and closed at these seconds, used every so many seconds until some moment.
#[derive(Clone)]
pub(in super::super) struct Life {
    pub(in super::super) opened: f64,
    pub(in super::super) closed: Option<f64>,
    /// Used up to this moment; `None` where the kind has no silence.
    pub(in super::super) used_until: Option<f64>,
    pub(in super::super) kind: Kind,
    pub(in super::super) accepted: bool,
    pub(in super::super) older: bool,
}

/// An outgoing connection to the one server of the scene.
pub(in super::super) fn tcp(opened: f64, closed: Option<f64>) -> Life {
    let used_until = Some(closed.unwrap_or(opened + 0.5));
    Life { opened, closed, used_until, kind: Kind::Tcp, accepted: false, older: false }
}

fn file(opened: f64, closed: Option<f64>) -> Life {
    Life { kind: Kind::File, used_until: None, ..tcp(opened, closed) }
}

/// What is known of the scene at a moment.
pub(in super::super) fn population(scene: &[Life], at: f64) -> Population {
    let (mut open, mut closed) = (Vec::new(), Vec::new());
    let mut tallies: BTreeMap<Group, Tally> = BTreeMap::new();
    for (id, life) in scene.iter().enumerate().filter(|(_, life)| life.opened <= at) {
        let mut resource = Resource::new(Identity(id as u64, 0), life.kind);
        if life.kind == Kind::Tcp {
            resource.remote = Some(Address::parse("127.0.0.1:5432"));
        }
        let closed_at = life.closed.filter(|closed| *closed <= at);
        let lifetime = Lifetime {
            id: LifetimeId(id as u64),
            resource,
            holders: Vec::new(),
            accepted_by: life.accepted.then(|| "0.0.0.0:80".into()),
            opened_after: (!life.older).then(|| Timestamp::from_seconds(life.opened - 0.5)),
            opened: Timestamp::from_seconds(life.opened),
            opened_exact: false,
            last_seen: Timestamp::from_seconds(closed_at.unwrap_or(at)),
            last_active: life.used_until.map(|used| Timestamp::from_seconds(used.min(at))),
            closed: closed_at.map(Timestamp::from_seconds),
            ended_with_process: false,
            opener: None,
            last_use: None,
        };
        let tally = tallies.entry(lifetime.group()).or_default();
        tally.opened += 1;
        tally.closed += u64::from(closed_at.is_some());
        if closed_at.is_some() { closed.push(lifetime) } else { open.push(lifetime) }
    }
    Population::restore(open, closed, tallies)
}

fn judged(scene: &[Life], at: f64) -> Survivors {
    judge(&population(scene, at), Some(Timestamp(0)), None, Timestamp::from_seconds(at))
}

fn leaks(scene: &[Life], at: f64) -> bool {
    judged(scene, at).groups.iter().any(|found| found.kind == Verdict::Leak)
}

fn flagged(scene: &[Life], at: f64) -> usize {
    judged(scene, at).leak_probability.values().filter(|probability| **probability > Judged::LEAKED_FROM).count()
}

/// Five connections a second that live for up to 2 s.
pub(in super::super) fn traffic(seconds: u32) -> Vec<Life> {
    (0..5 * seconds)
        .map(|i| (f64::from(i) / 5.0, 0.1 + 1.9 * f64::from(i * 7 % 20) / 20.0))
        .map(|(opened, life)| tcp(opened, Some(opened + life)))
        .collect()
}

fn with(mut scene: Vec<Life>, more: impl IntoIterator<Item = Life>) -> Vec<Life> {
    scene.extend(more);
    scene
}

#[test]
fn one_leak_a_second_is_found_in_half_a_minute() {
    let scene = with(traffic(120), (0..120).map(|i| tcp(f64::from(i) + 0.3, None)));
    let found_at = (1..120).map(f64::from).find(|at| leaks(&scene, *at)).unwrap();
    assert!((25.0..35.0).contains(&found_at), "{found_at}");
    let found = &judged(&scene, 60.0).groups[0];
    let rate = found.rate.unwrap();
    assert!(rate.low < 3_600.0 && 3_600.0 < rate.high && (rate.per_hour - 3_600.0).abs() < 200.0, "{rate:?}");
    assert!(found.since.unwrap().seconds() < 1.0 && found.leaked.len() >= 45, "{found:?}");
    assert!(found.leaked.iter().all(|id| scene[id.0 as usize].closed.is_none()));
}

#[test]
fn what_is_healthy_is_no_leak_in_its_first_minutes() {
    let accepted = |life: Life| Life { accepted: true, ..life };
    let scenes = [
        ("traffic", traffic(120)),
        ("a pool of ten, filled at the start", with(traffic(120), (0..10).map(|i| tcp(0.1 * f64::from(i), None)))),
        ("a pool that grows", with(traffic(120), (0..8).map(|i| tcp(1.6f64.powi(i), None)))),
        ("one lucky old one", with(traffic(120), [tcp(7.0, None)])),
        ("an incident", with(traffic(120), (0..30).map(|i| tcp(20.0 + 0.01 * f64::from(i), None)))),
        (
            "keep-alive of 75 s",
            with(
                traffic(120).into_iter().map(accepted).collect(),
                (0..120).map(f64::from).map(|at| accepted(Life { used_until: Some(at), ..tcp(at, Some(at + 75.0)) })),
            ),
        ),
        ("ten files, kept", (0..10).map(|i| file(0.1 * f64::from(i), None)).collect()),
        ("a file every 5 s, kept", (0..24).map(|i| file(5.0 * f64::from(i), None)).collect()),
        (
            "clients that stay",
            (0..60).map(|i| accepted(Life { used_until: Some(1e9), ..tcp(2.0 * f64::from(i), None) })).collect(),
        ),
        ("downloads of 45 s", with(traffic(120), (0..120).map(f64::from).map(|at| tcp(at, Some(at + 45.0))))),
    ];
    for (name, scene) in scenes {
        for at in (1..240).map(|half| f64::from(half) / 2.0) {
            assert!(!leaks(&scene, at), "{name} at {at} s: {:?}", judged(&scene, at).groups);
        }
    }
}

#[test]
fn permanent_links_and_old_connections_are_not_flagged() {
    let day = 86_400.0;
    let sparse: Vec<Life> = (0..2_000).map(|i| tcp(43.2 * f64::from(i), Some(43.2 * f64::from(i) + 1.0))).collect();
    let pool = with(sparse.clone(), (0..5).map(|i| tcp(f64::from(i), None)));
    assert_eq!((leaks(&pool, day), flagged(&pool, day)), (false, 0), "a pool's minimum");
    let links: Vec<Life> = (0..20).map(|i| tcp(f64::from(i), None)).collect();
    assert_eq!((leaks(&links, day), flagged(&links, day)), (false, 0), "nothing is ever closed");
    let told = judged(&links, day).leak_probability;
    assert!(told.len() == 20 && told.values().all(|probability| *probability < 0.1), "each has a probability");
    let old = with(sparse, (0..40).map(|_| Life { older: true, ..tcp(0.0, None) }));
    assert_eq!((leaks(&old, day), flagged(&old, day)), (false, 0), "older than the recording");
}

#[test]
fn beside_a_leak_that_was_seen_the_old_ones_are_leaked_too() {
    let scene = with(traffic(300), (0..30).map(|i| tcp(10.0 * f64::from(i), None)));
    let scene = with(scene, (0..40).map(|_| Life { older: true, used_until: Some(-600.0), ..tcp(0.0, None) }));
    let found = &judged(&scene, 300.0).groups[0];
    assert_eq!(found.kind, Verdict::Leak);
    assert!(found.leaked.len() >= 40 + 25, "{}", found.leaked.len());
    assert!(found.rate.unwrap().high < 700.0, "the old ones are no openings");
}

#[test]
fn a_leak_that_began_long_before_the_watch_is_told_as_soon_as_one_that_begins_with_it() {
    let before =
        (1..300).map(|i| Life { older: true, used_until: Some(-3.0 * f64::from(i)), ..tcp(-3.0 * f64::from(i), None) });
    let scene = with(with(traffic(60), (0..20).map(|i| tcp(3.0 * f64::from(i), None))), before);
    let found = &judged(&scene, 60.0).groups[0];
    assert_eq!(found.kind, Verdict::Leak, "{found:?}");
    assert!(found.leaked.len() > 300 && found.longest_silence_seconds.is_some_and(|silence| silence > 900.0));
    assert!(found.since.is_some_and(|since| since < Timestamp(0)));
    assert!((900.0..1600.0).contains(&found.rate.unwrap().per_hour), "{:?}", found.rate);
}

#[test]
fn beside_a_leak_a_pool_that_is_used_is_not_flagged() {
    for older in [true, false] {
        let pool = (0..3).map(|i| Life { older, used_until: Some(1e9), ..tcp(0.3 * f64::from(i), None) });
        let scene = with(with(traffic(60), (5..60).map(|i| tcp(f64::from(i) + 0.3, None))), pool);
        let found = &judged(&scene, 60.0).groups[0];
        assert_eq!(found.kind, Verdict::Leak);
        assert!(found.leaked.iter().all(|id| scene[id.0 as usize].used_until != Some(1e9)), "{found:?}");
    }
}

#[test]
fn where_nothing_is_closed_openings_that_go_on_are_a_leak() {
    let scene: Vec<Life> = (0..300).map(|i| tcp(f64::from(i), None)).collect();
    // Alone, each may be left to a keep-alive of 75 s by habit; beside one that is used again, it's forgotten.
    assert!(!leaks(&scene, 76.0) && leaks(&scene, 100.0));
    let beside = with(scene.clone(), [Life { used_until: Some(1e9), ..tcp(0.0, None) }]);
    assert!(!leaks(&beside, 29.0) && leaks(&beside, 45.0));
    // Subscribers that are added now and then and do talk are none.
    let talking: Vec<Life> = scene.into_iter().map(|life| Life { used_until: Some(1e9), ..life }).collect();
    assert!(!leaks(&talking, 300.0));
}

#[test]
fn files_are_judged_by_age_and_later() {
    let closed = (0..600).map(f64::from).map(|at| file(at, Some(at + 0.6)));
    let scene = with(closed.collect(), (0..60).map(|i| file(10.0 * f64::from(i), None)));
    assert!(!leaks(&scene, 80.0) && leaks(&scene, 200.0));
    assert_eq!(judged(&scene, 600.0).groups[0].longest_silence_seconds, None);
}

#[test]
fn a_leak_that_talks_is_found_by_age() {
    let chatty = (0..60).map(|i| Life { used_until: Some(1e9), ..tcp(10.0 * f64::from(i), None) });
    assert!(leaks(&with(traffic(600), chatty), 600.0));
}

#[test]
fn what_children_held_when_they_ended_is_not_counted() {
    let mut population = population(&(0..200).map(|i| tcp(f64::from(i), None)).collect::<Vec<_>>(), 600.0);
    for lifetime in population.open.values_mut() {
        lifetime.ended_with_process = true;
        lifetime.last_seen = Timestamp(lifetime.opened.0 + 1_000_000);
    }
    let found = judge(&population, Some(Timestamp(0)), None, Timestamp::from_seconds(600.0));
    assert!(found.groups.is_empty() && found.open == 0, "{found:?}");
}

#[test]
fn a_pool_that_rests_is_no_leak_before_its_idle_timeout() {
    // Each burst needs more than ever before, so the pool opens some more, and none while one lies idle.
    let bursts = (0..20).flat_map(|burst| (0..3).map(move |_| f64::from(burst) * 20.0));
    let pool = bursts.map(|at| Life { used_until: Some(400.5), ..tcp(at, None) });
    let alone: Vec<Life> = pool.collect();
    for scene in [alone.clone(), with(traffic(5), alone)] {
        for at in (420..1_000).step_by(20).map(f64::from) {
            assert!(!leaks(&scene, at), "at {at} s: {:?}", judged(&scene, at).groups);
        }
    }
}

#[test]
fn a_leak_that_stopped_stays_leaked() {
    let short = with(traffic(600), (0..18).map(|i| tcp(f64::from(i) + 0.3, None)));
    for at in (40..600).step_by(5).map(f64::from) {
        assert!(leaks(&short, at), "at {at} s: {:?}", judged(&short, at).groups);
    }
    let scene = with(traffic(1_200), (0..60).map(|i| tcp(f64::from(i) + 0.3, None)));
    for at in (40..1_200).step_by(20).map(f64::from) {
        let found = judged(&scene, at);
        let found = found.groups.first().unwrap_or_else(|| panic!("clean at {at} s"));
        assert_eq!(found.kind, Verdict::Leak, "at {at} s: {found:?}");
    }
    let few = with(traffic(600), (0..12).map(|i| tcp(1.5 * f64::from(i), None)));
    assert!(judged(&few, 600.0).groups.iter().any(|found| found.kind == Verdict::Undecided), "neither clean");
    let found = &judged(&scene, 1_200.0).groups[0];
    assert_eq!((found.rate.unwrap().per_hour, found.leaked.len()), (0.0, 60));
    assert!(found.stopped.is_some_and(|stopped| (59.0..60.0).contains(&stopped.seconds())), "{:?}", found.stopped);
}

#[test]
fn one_alone_is_leaked_as_soon_as_that_is_sure() {
    let scene = with(traffic(400), [tcp(30.0, None)]);
    assert_eq!((flagged(&scene, 100.0), flagged(&scene, 130.0)), (0, 1));
    let found = judged(&scene, 130.0);
    assert!(found.leak_probability[&LifetimeId(2_000)] > 0.95);
    // It's shown, but one is no leak that goes on.
    assert!(!leaks(&scene, 130.0));
    let at_start = with(traffic(400), [tcp(3.0, None)]);
    assert_eq!(flagged(&at_start, 130.0), 0, "a link that is made at the start");
}

#[test]
fn what_its_peer_hung_up_on_needs_no_keep_alive_to_be_over() {
    let accepted: Vec<Life> = (0..60).map(|i| Life { accepted: true, ..tcp(f64::from(i), None) }).collect();
    let mut population = population(&accepted, 60.0);
    let at = Timestamp::from_seconds(60.0);
    let kinds = |population: &Population| -> Vec<Verdict> {
        judge(population, Some(Timestamp(0)), None, at).groups.iter().map(|found| found.kind).collect()
    };
    assert!(!kinds(&population).contains(&Verdict::Leak), "clients may come back");
    for lifetime in population.open.values_mut() {
        lifetime.resource.state = Some(crate::model::State::CloseWait);
    }
    assert_eq!(kinds(&population), [Verdict::Leak]);
}

#[test]
fn a_pool_that_was_drained_is_a_plateau_while_the_target_works_on() {
    let drained: Vec<Life> = (0..10).map(|i| tcp(30.0 * f64::from(i), None)).collect();
    let work: Vec<Life> = (0..800).map(f64::from).map(|at| file(at, Some(at + 0.5))).collect();
    let kind = |scene: &[Life], at: f64| judged(scene, at).groups.first().map(|found| found.kind);
    let scene = with(drained.clone(), work.clone());
    assert_eq!(kind(&scene, 800.0), Some(Verdict::Plateau), "{:?}", judged(&scene, 800.0).groups);
    assert_ne!(kind(&drained, 800.0), Some(Verdict::Plateau), "all of the target rests");
    let used = with(scene.clone(), [Life { used_until: Some(1e9), ..tcp(5.0, None) }]);
    assert_ne!(kind(&used, 800.0), Some(Verdict::Plateau), "one is used");
    // A pool that a batch filled as it needed them, all in use until its end.
    let resting: Vec<Life> = drained.into_iter().map(|life| Life { used_until: Some(300.0), ..life }).collect();
    assert_eq!(kind(&with(resting, work), 800.0), Some(Verdict::Undecided));
}

#[test]
fn subscribers_with_a_heartbeat_are_not_leaked_between_two_beats() {
    let scene: Vec<Life> = (0..60)
        .map(|i| 20.0 * f64::from(i))
        .map(|at| Life { used_until: Some(1_200.0 - (at * 7.0) % 30.0), ..tcp(at, None) })
        .collect();
    assert_eq!((leaks(&scene, 1_200.0), flagged(&scene, 1_200.0)), (false, 0));
}

#[test]
fn pipes_that_go_on_are_told_within_a_minute_and_files_are_not() {
    let pipes = |kind: Kind| (0..60).map(|i| Life { kind, ..file(f64::from(i), None) }).collect::<Vec<Life>>();
    assert!(leaks(&pipes(Kind::Pipe), 45.0) && leaks(&pipes(Kind::Inotify), 45.0));
    assert!(!leaks(&pipes(Kind::File), 60.0));
}

#[test]
fn a_pool_that_is_forgotten_one_by_one_is_a_leak_although_it_was_opened_at_once() {
    // Forty are there at the start; every half minute one is used for the last time, and another is opened in its place.
    let forgotten = (0..40).map(|i| Life { used_until: Some(30.0 * f64::from(i + 1)), ..tcp(0.1, None) });
    let opened = (0..20).map(|i| Life { used_until: Some(1e9), ..tcp(60.0 * f64::from(i + 1), None) });
    let scene: Vec<Life> = forgotten.chain(opened).collect();
    assert!(leaks(&scene, 1_250.0));
    assert!(!(0..1_250).step_by(10).map(f64::from).any(|at| flagged(&scene[40..], at) > 0));
    // The same that rests from the bottom of its stack, while nothing new is opened, is healthy.
    assert!(!(0..1_250).step_by(10).map(f64::from).any(|at| leaks(&scene[..40], at)));
}

#[test]
fn a_few_that_were_left_at_once_are_each_leaked_beyond_doubt() {
    let scene = with(traffic(700), (0..4).map(|i| tcp(200.0 + f64::from(i), None)));
    assert!(!leaks(&scene, 700.0));
    assert_eq!(flagged(&scene, 700.0), 4);
}
