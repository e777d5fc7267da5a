//! A stretch of a recording, as a recording of that stretch alone would have it.
//!
//! What was opened after the stretch was not there, what was closed after it was still open, and what was closed before
//! it is out. Of a resource that changed after it, what it was at its end is unknown, and is left unknown.

use crate::model::{
    Activity, Gap, KnownGroups, LastUse, Lifetime, LifetimeId, Limit, Population, Report, Tallies, Timestamp,
    VerdictChange,
};
use std::collections::BTreeSet;

/// From one moment to another, both in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first moment.
    pub since: Timestamp,
    /// Its last moment.
    pub until: Timestamp,
}

impl Window {
    /// True of a moment in it.
    pub fn contains(&self, at: Timestamp) -> bool {
        (self.since..=self.until).contains(&at)
    }

    /// How many processes of several have ended since it began: what one held is forgotten a moment later, in the recording
    /// too.
    pub(super) fn forgotten(&self, report: &Report) -> usize {
        let ended = report.target.iter().flat_map(|target| target.processes.values()).filter_map(|it| it.ended);
        ended.filter(|ended| *ended >= self.since && *ended < report.to).count()
    }

    /// The report's facts that concern it; nothing of it is judged yet. `limits` are those in force at its end.
    pub(super) fn cut(&self, report: Report, limits: Vec<Limit>) -> Report {
        let population = self.cut_population(&report.population, report.from);
        let forgotten = self.forgotten(&report);
        let mut notes = report.notes;
        notes.push("only a part of the recording was judged; what could not be seen is told of the whole".to_owned());
        let (total, kept) = (report.population.closed_total, report.population.closed.len() as u64);
        if total > kept {
            notes.push(format!(
                "of {total} resources that were closed in all, {kept} were kept as a sample: \
                 what was closed in this part is counted among these"
            ));
        }
        if forgotten > 0 {
            notes.push(format!(
                "{forgotten} processes have ended since this part began: what they held then is not in the recording any \
                 more, so a leak of theirs is not seen here; the series have it"
            ));
        }
        let target = report.target.map(|mut target| {
            target.processes.retain(|_, process| {
                process.started <= self.until && process.ended.is_none_or(|ended| ended >= self.since)
            });
            for process in target.processes.values_mut() {
                process.ended = process.ended.filter(|ended| *ended <= self.until);
            }
            target
        });
        Report {
            target,
            gaps: report.gaps.into_iter().filter_map(|gap| self.cut_gap(gap)).collect(),
            history: self.cut_history(&report.history),
            events: report.events.into_iter().filter(|event| self.contains(event.at)).collect(),
            population,
            stacks: report.stacks,
            limits,
            notes,
            file: report.file,
            every_seconds: report.every_seconds,
            // What was spent by then is in the series; the sum is of the whole.
            ..Report::default()
        }
    }

    fn cut_gap(&self, gap: Gap) -> Option<Gap> {
        let (from, to) = (gap.from.max(self.since), gap.to.min(self.until));
        (from < to).then_some(Gap { from, to, ..gap })
    }

    /// The changes in it, after what was said when it began.
    fn cut_history(&self, history: &[VerdictChange]) -> Vec<VerdictChange> {
        let standing = history.iter().rev().find(|change| change.at < self.since);
        let standing = standing.map(|change| VerdictChange { at: self.since, ..change.clone() });
        standing.into_iter().chain(history.iter().filter(|change| self.contains(change.at)).cloned()).collect()
    }

    /// Tallies count what is there to be counted: the rows.
    fn cut_population(&self, population: &Population, from: Timestamp) -> Population {
        let (mut open, mut closed) = (Vec::new(), Vec::new());
        let (mut tallies, mut known) = (Tallies::default(), KnownGroups::default());
        let mut seen: BTreeSet<LifetimeId> = BTreeSet::new();
        for lifetime in population.open.values().chain(population.closed.values()) {
            let Some(lifetime) = self.cut_lifetime(lifetime, from).filter(|it| seen.insert(it.id)) else { continue };
            tallies.count_opened(&lifetime, &mut known);
            if lifetime.closed.is_some() {
                tallies.count_closed(&lifetime, &mut known);
                closed.push(lifetime);
            } else {
                open.push(lifetime);
            }
        }
        Population::restore(open, closed, tallies)
    }

    /// A lifetime as it was known at the end of the window, if it was there.
    fn cut_lifetime(&self, lifetime: &Lifetime, from: Timestamp) -> Option<Lifetime> {
        // One that ended with its process was last seen a tick before that.
        let gone = lifetime.closed.or(lifetime.ended_with_process.then_some(lifetime.last_seen));
        if lifetime.opened > self.until || gone.is_some_and(|gone| gone < self.since) {
            return None;
        }
        let mut it = lifetime.clone();
        if gone.is_some_and(|gone| gone > self.until) {
            it.closed = None;
            it.ended_with_process = false;
        }
        if it.opened < self.since && self.since > from {
            // To whoever begins to look here it was there before.
            it.opened_after = None;
            it.opened_exact = false;
        }
        it.last_use = it.last_use.and_then(|last| self.cut_last_use(*last)).map(Box::new);
        if it.last_seen > self.until {
            it.last_seen = self.until;
            it.last_active = it.last_active.filter(|active| *active <= self.until);
            it.resource.activity = Activity::default();
            it.resource.state = None;
        }
        Some(it)
    }

    /// A last use as it was known then; what came before one that came later is unknown.
    fn cut_last_use(&self, mut last: LastUse) -> Option<LastUse> {
        last.messages.retain(|message| message.at <= self.until);
        last.whereabouts = last.whereabouts.filter(|now| now.at <= self.until);
        (last.by.at <= self.until).then_some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Identity, Kind, Message, Part, Resource, StackKey, State, Use, Whereabouts};
    use std::collections::BTreeMap;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    /// A connection that was opened then, and closed, if it was.
    fn lifetime(id: u64, opened: i64, closed: Option<i64>) -> Lifetime {
        let mut resource = Resource::new(Identity(8, id), Kind::Tcp);
        resource.state = Some(State::Established);
        Lifetime {
            id: LifetimeId(id),
            resource,
            holders: Vec::new(),
            accepted_by: None,
            opened_after: Some(at(opened - 1)),
            opened: at(opened),
            opened_exact: false,
            last_seen: at(closed.unwrap_or(opened)),
            last_active: Some(at(opened)),
            closed: closed.map(at),
            ended_with_process: false,
            opener: None,
            last_use: None,
        }
    }

    fn cut(all: Vec<Lifetime>, since: i64, until: i64) -> Population {
        let (open, closed) = all.into_iter().partition(|it| it.closed.is_none());
        let report = Report { population: Population::restore(open, closed, BTreeMap::new()), ..Report::default() };
        Window { since: at(since), until: at(until) }.cut(report, Vec::new()).population
    }

    #[test]
    fn what_was_there_is_as_it_was_then() {
        let before = lifetime(1, 10, Some(90));
        let within = lifetime(2, 110, Some(150));
        let across = lifetime(3, 120, Some(250));
        let after = lifetime(4, 210, None);
        let still = lifetime(5, 50, None);
        let cut = cut(vec![before, within, across, after, still], 100, 200);
        assert_eq!(cut.closed.keys().map(|id| id.0).collect::<Vec<_>>(), [2]);
        assert_eq!(cut.open.keys().map(|id| id.0).collect::<Vec<_>>(), [3, 5]);
        assert_eq!(cut.closed_total, 1);
        // It changed after the end: what it was by then is unknown.
        let across = &cut.open[&LifetimeId(3)];
        assert_eq!((across.closed, across.resource.state, across.last_seen), (None, None, at(200)));
        let still = &cut.open[&LifetimeId(5)];
        assert!(still.is_older_than_recording() && still.opened == at(50), "{still:?}");
        assert_eq!(still.resource.state, Some(State::Established));
    }

    #[test]
    fn what_was_said_later_is_not_told() {
        let by = |key, seconds| Use { stack: Some(StackKey(key)), thread: "t".into(), tid: 1, at: at(seconds) };
        let message = |seconds| Message { at: at(seconds), text: "SELECT 1".into(), useful: false };
        let whereabouts = Some(Whereabouts { at: at(300), stack: None, words: "waits".into() });
        let used = |id, seconds, closed| Lifetime {
            opener: Some(Box::new(by(1, 110))),
            last_use: Some(Box::new(LastUse {
                by: by(2, seconds),
                messages: vec![message(150), message(250)],
                whereabouts: whereabouts.clone(),
            })),
            ..lifetime(id, 110, closed)
        };
        let cut = cut(vec![used(1, 150, None), used(2, 250, None), used(3, 150, Some(160))], 100, 200);
        let last = cut.open[&LifetimeId(1)].last_use.as_deref().expect("it was used by then");
        assert_eq!((last.messages.len(), last.whereabouts.is_none()), (1, true));
        assert!(cut.open[&LifetimeId(2)].last_use.is_none() && cut.open[&LifetimeId(2)].opener.is_some());
        let counts = cut.tallies.code.iter().map(|(it, tally)| (it.part, it.stack, tally.opened, tally.closed));
        let expected = [(Part::Opener, Some(StackKey(1)), 3, 1), (Part::LastUse, Some(StackKey(2)), 0, 1)];
        assert_eq!(counts.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_ended_with_its_process_is_out_once_that_is_over() {
        let ended = || Lifetime { ended_with_process: true, last_seen: at(150), ..lifetime(1, 110, None) };
        assert!(cut(vec![ended()], 160, 200).open.is_empty());
        assert!(cut(vec![ended()], 100, 200).open[&LifetimeId(1)].ended_with_process);
        assert!(!cut(vec![ended()], 100, 140).open[&LifetimeId(1)].ended_with_process);
    }

    #[test]
    fn gaps_are_clipped_and_the_verdict_that_stood_stands() {
        let gap = |from, to| Gap { from: at(from), to: at(to), series: None, reason: String::new() };
        let change = |seconds, kind| VerdictChange { at: at(seconds), kind, sentence: String::new() };
        use crate::model::Verdict::{Clean, Leak, Undecided};
        let report = Report {
            gaps: vec![gap(10, 50), gap(90, 110), gap(190, 300)],
            history: vec![change(0, Undecided), change(60, Clean), change(150, Leak), change(250, Clean)],
            ..Report::default()
        };
        let cut = Window { since: at(100), until: at(200) }.cut(report, Vec::new());
        assert_eq!(cut.gaps, [gap(100, 110), gap(190, 200)]);
        assert_eq!(cut.history, [change(100, Clean), change(150, Leak)]);
    }
}
