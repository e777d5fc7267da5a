//! Commands that have ended, made by hand.

use super::*;
use crate::model::{Allowance, Holder, Identity, Population, Process, ProcessId, ProcessKey, Resource, Target};

const REMOTE: &str = "10.0.0.5:5432";

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

/// An outgoing connection to `REMOTE` that process 1 opened at 10 s, used at once and held at its end, at 60 s.
fn held(id: u64) -> Lifetime {
    let mut resource = Resource::new(Identity(8, id), Kind::Tcp);
    resource.local = Some(Address::parse(&format!("10.0.0.1:{}", 40_000 + id)));
    resource.remote = Some(Address::parse(REMOTE));
    resource.state = Some(State::Established);
    Lifetime {
        id: LifetimeId(id),
        resource,
        holders: vec![Holder { process: ProcessKey(1), fd: 3, access: None }],
        accepted_by: None,
        opened_after: Some(at(9.5)),
        opened: at(10.0),
        opened_exact: false,
        last_seen: at(60.0),
        last_active: Some(at(10.0)),
        closed: None,
        ended_with_process: true,
        opener: None,
        last_use: None,
    }
}

/// A connection as `held`, opened and closed around that second.
fn closed(id: u64, seconds: f64) -> Lifetime {
    Lifetime {
        opened_after: Some(at(seconds - 0.2)),
        opened: at(seconds),
        last_active: Some(at(seconds)),
        last_seen: at(seconds + 0.1),
        closed: Some(at(seconds + 0.2)),
        ended_with_process: false,
        ..held(id)
    }
}

/// As an accepted one whose peer has hung up.
fn accepted(id: u64, state: State) -> Lifetime {
    let mut it = Lifetime { accepted_by: Some("0.0.0.0:80".into()), ..held(id) };
    it.resource.state = Some(state);
    it
}

/// A Unix stream to a name.
fn unix(id: u64, remote: Option<&str>) -> Lifetime {
    let mut it = held(id);
    it.resource = Resource::new(Identity(9, id), Kind::Unix);
    it.resource.remote = remote.map(Address::parse);
    it
}

/// What is said of a command that ended at 60 s and was looked at until 62 s.
fn judged(run: CommandRun, open: Vec<Lifetime>, closed: Vec<Lifetime>) -> Report {
    let id = ProcessId { boot_id: "boot".into(), pid: 7, start_ticks: 1 };
    let (name, command, user) = ("suite".to_owned(), "suite".to_owned(), "root".to_owned());
    let process = Process { id, name, command, uid: 0, user, started: at(0.0), ended: Some(at(60.0)) };
    let processes = BTreeMap::from([(ProcessKey(1), process)]);
    let mut report = Report {
        target: Some(Target { name: "suite".into(), processes }),
        to: at(62.0),
        population: Population::restore(open, closed, BTreeMap::new()),
        command: Some(CommandRun { ended: Some(at(60.0)), settle_seconds: 2.0, ..run }),
        ..Report::default()
    };
    judge(&mut report);
    report
}

fn witnessed(allowed: &[&str]) -> CommandRun {
    let allowed = allowed.iter().map(|text| Allowance::parse(text).unwrap()).collect();
    CommandRun { has_last_look: true, allowed, ..CommandRun::default() }
}

/// The verdict, and how many are called leaked.
fn said(report: &Report) -> (Verdict, usize) {
    let leaked = report.population.open.keys().filter(|id| report.judged.is_leaked(**id)).count();
    (report.verdict().unwrap().kind, leaked)
}

fn of(open: Vec<Lifetime>) -> (Verdict, usize) {
    said(&judged(witnessed(&[]), open, vec![]))
}

#[test]
fn one_is_enough_and_none_is_clean() {
    assert_eq!(of(vec![]), (Verdict::Clean, 0));
    let report = judged(witnessed(&[]), vec![held(1), held(2)], vec![]);
    assert_eq!(said(&report), (Verdict::Leak, 2));
    let finding = report.verdict().unwrap();
    let words = format!("2 connections to tcp {REMOTE} were left open at the end, by suite (pid 7)");
    assert_eq!((finding.sentence.as_str(), finding.since), (words.as_str(), Some(at(10.0))));
    assert_eq!(finding.evidence, ["1", "2"]);
}

#[test]
fn nothing_is_said_before_the_end() {
    let mut report = Report { command: Some(witnessed(&[])), ..Report::default() };
    judge(&mut report);
    assert!(report.judged.findings.is_empty());
}

#[test]
fn each_form_of_allowance_covers_so_many() {
    let named = || unix(9, Some("/run/db.sock"));
    for (pool, open) in [
        ("tcp<=2", vec![held(1), held(2)]),
        ("tcp:5432<=2", vec![held(1), held(2)]),
        ("tcp:10.0.0.5:5432<=2", vec![held(1), held(2)]),
        ("unix<=1", vec![named()]),
        ("unix:/run/db.sock<=1", vec![named()]),
    ] {
        let report = judged(witnessed(&[pool]), open.clone(), vec![]);
        assert_eq!(said(&report), (Verdict::Clean, 0), "{pool}");
        let words = format!("but for {} that --allow {pool} names", open.len());
        assert!(report.verdict().unwrap().sentence.ends_with(&words), "{:?}", report.verdict());
        let one_more = open.iter().cloned().chain([Lifetime { id: LifetimeId(99), ..open[0].clone() }]).collect();
        assert_eq!(said(&judged(witnessed(&[pool]), one_more, vec![])), (Verdict::Leak, 1), "{pool}");
    }
    for other in ["tcp:543<=9", "tcp:10.0.0.6:5432<=9", "udp<=9", "unix<=9"] {
        assert_eq!(said(&judged(witnessed(&[other]), vec![held(1)], vec![])), (Verdict::Leak, 1), "{other}");
    }
}

#[test]
fn what_was_there_before_and_what_came_after_is_not_the_commands() {
    assert_eq!(of(vec![Lifetime { opened_after: None, ..held(1) }]), (Verdict::Clean, 0));
    let survivor = |opened| Lifetime { opened: at(opened), ended_with_process: false, ..held(1) };
    assert_eq!(of(vec![survivor(61.0)]), (Verdict::Clean, 0));
    assert_eq!(of(vec![survivor(59.0)]), (Verdict::Leak, 1));
}

#[test]
fn what_others_opened_counts_once_they_have_closed_it() {
    assert_eq!(of(vec![accepted(1, State::Established)]), (Verdict::Clean, 0));
    assert_eq!(of(vec![accepted(1, State::CloseWait)]), (Verdict::Leak, 1));
    // Of one that runs on, as long as it has had time to close it.
    let hung_up = |seen| Lifetime { ended_with_process: false, last_seen: at(seen), ..accepted(1, State::CloseWait) };
    assert_eq!(of(vec![hung_up(61.0)]), (Verdict::Clean, 0));
    assert_eq!(of(vec![hung_up(60.0)]), (Verdict::Leak, 1));
}

#[test]
fn plumbing_and_the_household_are_not_counted() {
    assert_eq!(of(vec![unix(1, None)]), (Verdict::Clean, 0));
    assert_eq!(of(vec![unix(1, Some("/run/systemd/journal/socket"))]), (Verdict::Clean, 0));
    assert_eq!(of(vec![unix(1, Some("/run/db.sock"))]), (Verdict::Leak, 1));
    let mut reset = held(1);
    reset.resource.state = Some(State::Close);
    assert_eq!(of(vec![reset]), (Verdict::Clean, 0));
    // Told by the tables alone.
    assert_eq!(of(vec![Lifetime { holders: vec![], ..held(1) }]), (Verdict::Clean, 0));
    // Both ends within one process.
    let mut other_end = held(2);
    (other_end.resource.local, other_end.resource.remote) = (held(1).resource.remote, held(1).resource.local);
    assert_eq!(of(vec![held(1), other_end]), (Verdict::Clean, 0));
}

#[test]
fn what_could_not_be_seen_keeps_a_run_from_being_clean_and_takes_no_leak_back() {
    let partly = || CommandRun { unseen: vec!["3 connections found no room".into()], ..witnessed(&[]) };
    let report = judged(partly(), vec![], vec![]);
    assert_eq!(said(&report), (Verdict::Undecided, 0));
    assert!(report.verdict().unwrap().sentence.ends_with("not known in full: 3 connections found no room"));
    let report = judged(partly(), vec![held(1)], vec![]);
    assert_eq!(said(&report), (Verdict::Leak, 1));
    assert_eq!(report.judged.findings[1].kind, Verdict::Undecided);
}

#[test]
fn without_a_witness_only_what_was_passed_over_is_a_leak() {
    let unwitnessed = |open, closed| said(&judged(CommandRun::default(), open, closed));
    let others = |count: u64, from: f64| -> Vec<Lifetime> {
        (0..count).map(|nth| closed(100 + nth, from + nth as f64)).collect()
    };
    assert_eq!(unwitnessed(vec![], others(20, 20.0)), (Verdict::Clean, 0));
    assert_eq!(unwitnessed(vec![held(1)], vec![]), (Verdict::Undecided, 0));
    assert_eq!(unwitnessed(vec![held(1)], others(20, 20.0)), (Verdict::Leak, 1));
    assert_eq!(unwitnessed(vec![held(1)], others(3, 20.0)), (Verdict::Undecided, 0), "a second client");
    let used = |seconds| Lifetime { last_active: Some(at(seconds)), ..held(1) };
    assert_eq!(unwitnessed(vec![used(50.0)], others(20, 20.0)), (Verdict::Undecided, 0), "a pool's, used since");
    assert_eq!(unwitnessed(vec![used(59.0)], others(20, 20.0)), (Verdict::Undecided, 0), "hardly silent");
    let unknown = Lifetime { last_active: None, ..held(1) };
    assert_eq!(unwitnessed(vec![unknown], others(20, 20.0)), (Verdict::Undecided, 0), "no silence is known");
    let elsewhere = others(20, 20.0).into_iter().map(|mut it| {
        it.holders[0].process = ProcessKey(2);
        it
    });
    assert_eq!(unwitnessed(vec![held(1)], elsewhere.collect()), (Verdict::Undecided, 0), "another process' pool");
    // The sure one speaks first, and what is not sure is told behind it.
    let report =
        judged(CommandRun::default(), vec![held(1), Lifetime { id: LifetimeId(2), ..used(59.5) }], others(20, 20.0));
    assert_eq!(
        report.judged.findings.iter().map(|it| it.kind).collect::<Vec<_>>(),
        [Verdict::Leak, Verdict::Undecided]
    );
}

#[test]
fn what_outlives_the_command_needs_no_witness() {
    let survivor = Lifetime { ended_with_process: false, ..held(1) };
    assert_eq!(said(&judged(CommandRun::default(), vec![survivor], vec![])), (Verdict::Leak, 1));
}

#[test]
fn without_a_witness_a_leak_that_lifetimes_tell_stays_one() {
    let subject = format!("tcp {REMOTE}");
    let mut report = judged(CommandRun::default(), vec![held(1), held(2)], vec![]);
    assert_eq!(said(&report), (Verdict::Undecided, 0));
    report.judged.findings = vec![Finding::new(Verdict::Leak, &subject, "they outlived all others")];
    report.judged.leak_probability = BTreeMap::from([(LifetimeId(1), 0.99), (LifetimeId(2), 0.2)]);
    let told = report.judged.clone();
    judge(&mut report);
    assert_eq!(said(&report), (Verdict::Leak, 1));
    assert_eq!(report.verdict().unwrap().sentence, "they outlived all others");
    assert_eq!(report.judged.findings[1].evidence, ["2"]);
    // A witness knows better.
    report.judged = told;
    report.command = Some(CommandRun { ended: Some(at(60.0)), ..witnessed(&["tcp<=2"]) });
    judge(&mut report);
    assert_eq!(said(&report), (Verdict::Clean, 0));
}

#[test]
fn a_command_of_which_nothing_was_ever_read_is_undecided() {
    let mut report = judged(CommandRun::default(), vec![], vec![]);
    assert_eq!(said(&report), (Verdict::Clean, 0));
    report.every_seconds = Some(60.0);
    judge(&mut report);
    assert_eq!(said(&report), (Verdict::Undecided, 0), "hardly looked at");
    report.every_seconds = Some(0.25);
    report.target = Some(Target::default());
    judge(&mut report);
    assert_eq!(said(&report), (Verdict::Undecided, 0));
}
