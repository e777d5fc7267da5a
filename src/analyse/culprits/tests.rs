//! Made-up populations whose culprit is known.

use super::*;
use crate::model::{
    CodeGroup, Frame, Identity, LastUse, Resource, Series, SeriesKey, SeriesReport, Stack, Tally, Timestamp, Unit, Use,
};

/// A report with a stack for each name, in their order from 1; those with a file are the user's own.
fn report(code: &[(&str, bool)]) -> Report {
    let mut report = Report::default();
    for ((function, own), key) in code.iter().zip(1..) {
        let frame = Frame { function: Some((*function).into()), own: *own, ..Frame::default() };
        report.stacks.insert(StackKey(key), Stack { frames: vec![frame], truncated: None });
        report.labels.insert(StackKey(key), (*function).into());
    }
    report
}

fn by(stack: u32) -> Use {
    Use { stack: Some(StackKey(stack)), thread: "main".into(), tid: 1, at: Timestamp(0) }
}

/// Opens some that nobody closes, by one stack, last used by another; 0 is none that was seen.
fn open(report: &mut Report, count: u64, opener: u32, last_use: u32, is_leaked: bool) {
    for _ in 0..count {
        let id = LifetimeId(report.population.open.len() as u64);
        let last = LastUse { by: by(last_use), messages: Vec::new(), whereabouts: None };
        let lifetime = Lifetime {
            id,
            resource: Resource::new(Identity(1, id.0), Kind::Tcp),
            holders: Vec::new(),
            accepted_by: None,
            opened_after: None,
            opened: Timestamp(0),
            opened_exact: true,
            last_seen: Timestamp(0),
            last_active: None,
            closed: None,
            ended_with_process: false,
            opener: (opener > 0).then(|| Box::new(by(opener))),
            last_use: (last_use > 0).then(|| Box::new(last)),
        };
        report.population.open.insert(id, lifetime);
        if is_leaked {
            report.judged.leak_probability.insert(id, 0.99);
        }
    }
}

/// Counts some as opened by one stack, last used by another, and closed.
fn close(report: &mut Report, count: u64, kind: Kind, opener: u32, last_use: u32) {
    for (part, stack) in [(Part::Opener, opener), (Part::LastUse, last_use)] {
        let group = CodeGroup { kind, part, stack: Some(StackKey(stack)) };
        report.population.tallies.code.entry(group).or_default().add(Tally { opened: 0, closed: count });
    }
}

/// The finding on all that leaked, named.
fn named(mut report: Report) -> Finding {
    let evidence = leaked(&report).iter().map(|id| id.0.to_string()).collect();
    let finding = Finding { evidence, ..Finding::new(Verdict::Leak, "tcp", "it leaks") };
    report.judged.findings.push(finding);
    name(&mut report);
    report.judged.findings.remove(0)
}

#[test]
fn an_opener_of_its_own_is_named() {
    let mut report = report(&[("export", true), ("serve", true), ("query", true)]);
    open(&mut report, 31, 1, 3, true);
    open(&mut report, 2, 2, 3, true);
    open(&mut report, 5, 2, 3, false);
    close(&mut report, 2, Kind::Tcp, 1, 3);
    close(&mut report, 4_093, Kind::Tcp, 2, 3);
    // Files are no yardstick for connections.
    close(&mut report, 100_000, Kind::File, 1, 1);
    let all = Shares::of(&report, Part::Opener, &leaked(&report), |kind| kind == Kind::Tcp);
    assert_eq!((all.leaked, all.unseen, all.open, all.closed), (33, 0, 5, 4_095));
    let first = &all.all[0];
    assert_eq!((&*first.label, first.leaked, first.open, first.closed), ("export", 31, 0, 2));
    let finding = named(report);
    assert_eq!(finding.sentence, "it leaks. 31 of 33 were opened by export, and 2 of 4100 healthy ones");
    assert_eq!((finding.opener.as_deref(), finding.last_use.as_deref()), (Some("export"), Some("query")));
    assert_eq!(finding.steps.len(), 2);
}

#[test]
fn of_a_pool_the_last_use_is_named() {
    let mut report = report(&[("pool thread", false), ("handler", true), ("other", true)]);
    open(&mut report, 20, 1, 2, true);
    open(&mut report, 4, 1, 3, false);
    close(&mut report, 300, Kind::Tcp, 1, 3);
    let finding = named(report);
    assert_eq!(finding.sentence, "it leaks. All 20 were last used by handler, and none of 304 healthy ones");
    assert_eq!(finding.opener.as_deref(), Some("pool thread"));
}

#[test]
fn the_users_own_code_is_named_before_a_runtimes() {
    let mut report = report(&[("background", false), ("handler", true)]);
    open(&mut report, 20, 1, 2, true);
    assert_eq!(named(report).sentence, "it leaks. All 20 were last used by handler");
}

#[test]
fn what_healthy_ones_have_too_is_no_culprit() {
    let mut report = report(&[("connect", true), ("query", true)]);
    open(&mut report, 20, 1, 2, true);
    close(&mut report, 300, Kind::Tcp, 1, 2);
    let finding = named(report);
    assert_eq!((&*finding.sentence, finding.opener.as_deref()), ("it leaks", Some("connect")));
}

#[test]
fn what_nobody_saw_counts_on_neither_side() {
    let mut report = report(&[("export", true)]);
    open(&mut report, 9, 1, 0, true);
    open(&mut report, 40, 0, 0, true);
    // Its stack was lost.
    open(&mut report, 1, 7, 0, true);
    let finding = named(report);
    assert_eq!(finding.sentence, "it leaks. 9 of the 9 of which it was seen were opened by export");
    assert_eq!(finding.last_use, None);
}

#[test]
fn series_follow_their_finding() {
    let mut report = report(&[("export", true)]);
    open(&mut report, 3, 1, 1, true);
    let finding = Finding { evidence: vec!["0".into()], ..Finding::new(Verdict::Leak, "tcp", "it leaks") };
    let verdict = Finding { series: Some("connections".into()), ..finding.clone() };
    let series = Series { key: SeriesKey(1), name: "connections".into(), unit: Unit::Count, process: None };
    report.judged.series.push(SeriesReport { series, last: None, verdict });
    report.judged.findings.push(finding);
    name(&mut report);
    let verdict = &report.judged.series[0].verdict;
    assert_eq!(verdict.sentence, report.judged.findings[0].sentence);
    assert_eq!((verdict.series.as_deref(), verdict.opener.as_deref()), (Some("connections"), Some("export")));
}

#[test]
fn stacks_of_one_name_count_together() {
    let mut report = report(&[("export", true), ("export", true)]);
    open(&mut report, 3, 1, 0, true);
    open(&mut report, 4, 2, 0, true);
    let shares = Shares::of(&report, Part::Opener, &leaked(&report), |_| true);
    assert_eq!((shares.all.len(), shares.all[0].leaked, shares.all[0].stack), (1, 7, StackKey(2)));
}

#[test]
fn what_is_younger_than_all_leaked_ones_is_not_healthy_yet() {
    let mut report = report(&[("export", true)]);
    open(&mut report, 20, 1, 1, true);
    open(&mut report, 10, 1, 1, false);
    let healthy = report.population.open.values_mut().filter(|it| it.id.0 >= 20);
    healthy.for_each(|it| it.opened = Timestamp(5));
    let shares = Shares::of(&report, Part::Opener, &leaked(&report), |_| true);
    assert_eq!((shares.all[0].open, shares.all[0].young, shares.all[0].healthy()), (10, 10, 0));
    assert_eq!(named(report).sentence, "it leaks. All 20 were opened by export");
}
