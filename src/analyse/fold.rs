//! All that is known by now, as a fold over ticks. A live view and a replay are this same code: live, ticks come as they
//! are taken; in a replay the facts come from the recording and only the samples are folded again.

use super::own::Rules;
use super::{Analysis, culprits, left_open};
use crate::model::{
    EventKind, FURTHER_STACKS, Finding, Population, Report, STACKS_MAX, Series, SeriesKey, Stack, StackKey, Target,
    Tick, Timestamp, Usage, Verdict, VerdictChange,
};
use std::collections::VecDeque;

/// The verdict is looked at again when the time observed has grown by this share: looking more often finds nothing sooner,
/// costs more than sampling does and multiplies false alarms.
const GROWTH: f64 = 0.04;

/// Series that may have a gap at the same time, so that one that lasts is found among the latest.
const LASTING_GAPS_MAX: usize = 1_000;

/// Gaps, events, notes and ended processes that are held in memory at the most, each; the recording has them all. A month
/// of a test runner's children would be millions.
const REMEMBERED_MAX: usize = 10_000;

/// The state of the fold.
#[derive(Debug, Default)]
pub struct Fold {
    report: Report,
    analysis: Analysis,
    /// What tells the user's own frames.
    rules: Rules,
    judged_at: Option<Timestamp>,
    /// Restarts that are known beforehand, in a replay.
    restarts: VecDeque<Timestamp>,
}

impl Fold {
    /// A fold that has seen nothing of a target called `name`, recorded in `file`.
    pub fn new(file: String, name: Option<String>, every_seconds: f64) -> Self {
        let target = name.map(|name| Target { name, ..Target::default() });
        let report = Report { file, target, every_seconds: Some(every_seconds), ..Report::default() };
        Fold { report, ..Fold::default() }
    }

    /// The same, with other rules for the user's own frames. To be called before anything is taken in.
    pub fn with_rules(self, rules: Rules) -> Self {
        Fold { rules, ..self }
    }

    /// A fold over what a recording holds, its samples still to be [observed](Fold::observe). The frames of its stacks are
    /// told by `rules`.
    pub fn replay(mut facts: Report, series: &[Series], rules: Rules) -> Self {
        let restarts = facts.events.iter().filter(|event| event.kind == EventKind::Restart).map(|event| event.at);
        let restarts = restarts.collect();
        let stacks = std::mem::take(&mut facts.stacks);
        let mut fold = Fold { restarts, report: facts, rules, ..Fold::default() };
        stacks.into_iter().for_each(|(key, stack)| fold.take_stack(key, stack));
        for series in series {
            fold.analysis.add_series(series);
        }
        fold
    }

    /// Takes in a stack, with its own frames marked.
    fn take_stack(&mut self, key: StackKey, mut stack: Stack) {
        let report = &mut self.report;
        if report.stacks.len() < STACKS_MAX {
            self.rules.mark(&mut stack);
            report.labels.insert(key, self.rules.label(&stack).into());
            report.stacks.insert(key, stack);
        } else if report.notes.iter().all(|note| note != FURTHER_STACKS) {
            report.notes.push(FURTHER_STACKS.to_owned());
        }
    }

    /// Takes in the samples of one moment.
    pub fn observe(&mut self, at: Timestamp, values: &[(SeriesKey, f64)]) {
        while self.restarts.front().is_some_and(|restart| *restart <= at) {
            self.restarts.pop_front();
            self.analysis.restart(at);
        }
        self.analysis.observe(at, values);
    }

    /// Takes in what was learned of last uses since the tick that was taken in last.
    pub fn learn(&mut self, stacks: &[(StackKey, Stack)], used: &[Usage]) {
        stacks.iter().for_each(|(key, stack)| self.take_stack(*key, stack.clone()));
        used.iter().for_each(|usage| self.report.population.learn(usage));
    }

    /// Takes in a tick.
    pub fn apply(&mut self, tick: &Tick) {
        for (key, stack) in &tick.stacks {
            self.take_stack(*key, stack.clone());
        }
        let report = &mut self.report;
        if report.ticks == 0 {
            report.from = tick.at;
        }
        report.to = tick.at;
        report.ticks += 1;
        if let Some(target) = &mut report.target {
            target.processes.extend(tick.started.iter().cloned());
            for key in &tick.ended {
                if let Some(process) = target.processes.get_mut(key) {
                    process.ended = Some(tick.at);
                }
            }
            if target.processes.len() > 2 * REMEMBERED_MAX {
                target.processes.retain(|_, process| process.ended.is_none());
            }
        }
        for gap in &tick.gaps {
            // A gap that lasts is among the latest.
            let mut latest = report.gaps.iter_mut().rev().take(LASTING_GAPS_MAX);
            match latest.find(|known| known.series == gap.series && known.from == gap.from) {
                Some(known) => known.clone_from(gap),
                None => report.gaps.push(gap.clone()),
            }
        }
        for limit in &tick.limits {
            report.limits.retain(|known| (&known.name, &known.series) != (&limit.name, &limit.series));
            report.limits.push(limit.clone());
        }
        for note in &tick.notes {
            if report.notes.len() < REMEMBERED_MAX && !report.notes.contains(note) {
                report.notes.push(note.clone());
            }
        }
        report.events.extend(tick.events.iter().cloned());
        forget_oldest(&mut report.events);
        forget_oldest(&mut report.gaps);
        report.command = tick.command.clone().or(report.command.take());
        report.cost = tick.cost.or(report.cost);
        report.every_seconds = tick.every.map(|every| every.as_secs_f64()).or(report.every_seconds);
        report.population.apply(tick);
        for series in &tick.added {
            self.analysis.add_series(series);
        }
        for event in tick.events.iter().filter(|event| event.kind == EventKind::Restart) {
            self.analysis.restart(event.at);
        }
        self.analysis.observe(tick.at, &tick.values);
        // What was judged stands until it is judged again; the latest values are of now.
        for (key, value) in &tick.values {
            if let Ok(place) = report.judged.series.binary_search_by_key(key, |judged| judged.series.key) {
                report.judged.series[place].last = Some(*value);
            }
            if let Some((_, last)) = report.judged.own.iter_mut().find(|(series, _)| series.key == *key) {
                *last = Some(*value);
            }
        }
    }

    /// True when the verdict is worth another look.
    pub fn is_due(&self) -> bool {
        let report = &self.report;
        self.judged_at
            .is_none_or(|judged| report.to.seconds_since(judged) >= GROWTH * judged.seconds_since(report.from))
    }

    /// Judges what is known by now. Returns the verdict where it has changed since it was last looked at.
    pub fn judge(&mut self) -> Option<VerdictChange> {
        let report = &mut self.report;
        report.judged = self.analysis.judge(report.to, &report.population, &report.limits);
        left_open::judge(report);
        culprits::name(report);
        if report.judged.findings.is_empty() {
            let nothing = Finding::new(Verdict::Undecided, "", "nothing was seen yet");
            report.judged.findings.push(nothing);
        }
        self.judged_at = Some(report.to);
        let now = report.judged.findings.first()?;
        if report.history.last().is_some_and(|last| last.kind == now.kind) {
            return None;
        }
        let change = VerdictChange { at: report.to, kind: now.kind, sentence: now.sentence.clone() };
        report.history.push(change.clone());
        Some(change)
    }

    /// What is known, as last judged.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// What was open before the next tick.
    pub fn population(&self) -> &Population {
        &self.report.population
    }

    /// The report, for good.
    pub fn into_report(self) -> Report {
        self.report
    }
}

/// Halves a list that has outgrown what is remembered.
fn forget_oldest<T>(list: &mut Vec<T>) {
    if list.len() > 2 * REMEMBERED_MAX {
        list.drain(..list.len() - REMEMBERED_MAX);
    }
}
