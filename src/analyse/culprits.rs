//! Which code the leaked ones share and the healthy ones don't.
//!
//! Leaked ones are held against healthy ones of their kinds, those that are open and all that were closed: for each opener
//! and each last use, how many there are on either side. Stacks count together where the frame that matters is the same.
//! What nobody saw the code of counts on neither side.
//!
//! The opener is named where it is told apart: most of the leaked ones have it, and few of the healthy ones. Where a pool
//! opens for everybody, from a thread of its own maybe, it isn't, and the last use is named in its place.

use super::sentence;
use crate::model::{Finding, Kind, Lifetime, LifetimeId, Part, Report, StackKey, Verdict};
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};

/// What is named is so many times as common among the leaked ones as among the healthy ones, or more.
const TIMES_AS_COMMON_MIN: f64 = 3.0;

/// The last use is named in place of an opener where it is so much better at telling leaked from healthy, on a scale from
/// 0 to 1.
const BETTER_BY: f64 = 0.1;

/// How many of the leaked and of the healthy ones one piece of code has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// What it is called.
    pub label: String,
    /// The stack that most of its leaked ones have; where there are none, any of its own.
    pub stack: StackKey,
    /// How many leaked ones.
    pub leaked: u64,
    /// How many that are open and not leaked.
    pub open: u64,
    /// How many that were closed.
    pub closed: u64,
}

impl Share {
    /// How many healthy ones.
    pub fn healthy(&self) -> u64 {
        self.open + self.closed
    }
}

/// All openers, or all last uses, of some leaked ones and of the healthy ones they are held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Which of the two.
    pub part: Part,
    /// Those with the most leaked ones first.
    pub all: Vec<Share>,
    /// How many leaked ones they have together.
    pub leaked: u64,
    /// Leaked ones of which nobody saw it.
    pub unseen: u64,
    /// How many that are open and not leaked they have together.
    pub open: u64,
    /// How many that were closed.
    pub closed: u64,
}

impl Shares {
    /// Those of the leaked ones with these numbers; `is_counted` tells the kinds that they are held against.
    pub fn of(report: &Report, part: Part, leaked: &HashSet<LifetimeId>, is_counted: impl Fn(Kind) -> bool) -> Self {
        let population = &report.population;
        let mut counts = Counts { report, by_label: HashMap::new() };
        let mut unseen = 0;
        for lifetime in leaked.iter().filter_map(|id| population.get(*id)) {
            match part.stack_of(lifetime).and_then(|key| Some((key, counts.of(key)?))) {
                Some((key, count)) => *count.leaked.entry(key).or_default() += 1,
                None => unseen += 1,
            }
        }
        let is_healthy = |it: &&Lifetime| {
            is_counted(it.resource.kind) && !leaked.contains(&it.id) && !report.judged.is_leaked(it.id)
        };
        for key in population.open.values().filter(is_healthy).filter_map(|it| part.stack_of(it)) {
            if let Some(count) = counts.of(key) {
                count.open += 1;
                count.any = Some(key);
            }
        }
        for (group, tally) in population.tallies.code.iter().filter(|(it, _)| it.part == part && is_counted(it.kind)) {
            if let Some((key, count)) = group.stack.and_then(|key| Some((key, counts.of(key)?))) {
                count.closed += tally.closed;
                count.any = Some(key);
            }
        }
        // What leaked and was closed after all is no healthy one.
        for key in leaked.iter().filter_map(|id| population.closed.get(id)).filter_map(|it| part.stack_of(it)) {
            if let Some(count) = counts.of(key) {
                count.closed = count.closed.saturating_sub(1);
            }
        }
        let mut all = counts.shares();
        all.sort_by(|a, b| {
            let order = |it: &Share| (Reverse(it.leaked), Reverse(it.healthy()));
            order(a).cmp(&order(b)).then_with(|| a.label.cmp(&b.label))
        });
        let sum = |of: fn(&Share) -> u64| all.iter().map(of).sum();
        Shares { part, leaked: sum(|it| it.leaked), open: sum(|it| it.open), closed: sum(|it| it.closed), unseen, all }
    }

    /// The code that most of the leaked ones have.
    pub fn most(&self) -> Option<&Share> {
        self.all.first().filter(|first| 2 * first.leaked > self.leaked)
    }

    /// How well what most leaked ones have tells them from healthy ones, from 0 to 1; `None` where it doesn't.
    fn tells_apart(&self) -> Option<f64> {
        let most = self.most()?;
        let leaked = most.leaked as f64 / self.leaked as f64;
        let healthy = most.healthy() as f64 / (self.open + self.closed).max(1) as f64;
        (leaked >= TIMES_AS_COMMON_MIN * healthy).then_some(leaked * (1.0 - healthy))
    }

    /// In words: `31 of 33 were opened by report_export (app.py:88), and 2 of 4100 healthy ones`.
    fn clause(&self, most: &Share) -> String {
        let verb = verb(self.part);
        let who = match (self.leaked, self.unseen) {
            (1, 0) => "it was".to_owned(),
            (leaked, 0) if leaked == most.leaked => "all were".to_owned(),
            (leaked, 0) => format!("{} of {leaked} were", most.leaked),
            (leaked, _) => format!("{} of the {leaked} of which it was seen were", most.leaked),
        };
        let healthy = self.open + self.closed;
        let healthy = match most.healthy() {
            _ if healthy == 0 => String::new(),
            0 => format!(", and none of {healthy} healthy ones"),
            some => format!(", and {some} of {healthy} healthy ones"),
        };
        format!("{who} {verb} {}{healthy}", most.label)
    }
}

/// What code does in a part: `opened by`, `last used by`.
pub fn verb(part: Part) -> &'static str {
    match part {
        Part::Opener => "opened by",
        Part::LastUse => "last used by",
    }
}

/// The numbers of all that is leaked.
pub fn leaked(report: &Report) -> HashSet<LifetimeId> {
    report.judged.leak_probability.keys().copied().filter(|id| report.judged.is_leaked(*id)).collect()
}

/// The kinds that these are of.
pub fn kinds(report: &Report, of: &HashSet<LifetimeId>) -> BTreeSet<Kind> {
    of.iter().filter_map(|id| Some(report.population.get(*id)?.resource.kind)).collect()
}

/// Counts by what the code is called.
struct Counts<'a> {
    report: &'a Report,
    by_label: HashMap<&'a str, Count>,
}

#[derive(Default)]
struct Count {
    /// By stack.
    leaked: HashMap<StackKey, u64>,
    open: u64,
    closed: u64,
    any: Option<StackKey>,
}

impl Counts<'_> {
    /// The counts that a stack belongs to; `None` where the stack itself was lost.
    fn of(&mut self, key: StackKey) -> Option<&mut Count> {
        Some(self.by_label.entry(self.report.labels.get(&key)?).or_default())
    }

    fn shares(self) -> Vec<Share> {
        let share = |(label, count): (&str, Count)| {
            let most = count.leaked.iter().max_by_key(|(key, leaked)| (**leaked, Reverse(**key)));
            Some(Share {
                label: label.to_owned(),
                stack: most.map(|(key, _)| *key).or(count.any)?,
                leaked: count.leaked.values().sum(),
                open: count.open,
                closed: count.closed,
            })
        };
        self.by_label.into_iter().filter_map(share).collect()
    }
}

/// Has the findings name the code that the leaked ones share, and so the series that follow them.
pub(super) fn name(report: &mut Report) {
    if report.labels.is_empty() {
        return;
    }
    let mut findings = std::mem::take(&mut report.judged.findings);
    let mut named: HashMap<String, Finding> = HashMap::new();
    let leaks = |it: &&mut Finding| matches!(it.kind, Verdict::Leak | Verdict::Plateau) && !it.evidence.is_empty();
    for finding in findings.iter_mut().filter(leaks) {
        let before = finding.sentence.clone();
        name_in(finding, report);
        named.insert(before, finding.clone());
    }
    for verdict in report.judged.series.iter_mut().map(|it| &mut it.verdict) {
        if let Some(finding) = named.get(&verdict.sentence) {
            *verdict = Finding { series: verdict.series.take(), ..finding.clone() };
        }
    }
    report.judged.findings = findings;
}

fn name_in(finding: &mut Finding, report: &Report) {
    let leaked: HashSet<LifetimeId> =
        finding.evidence.iter().filter_map(|id| id.parse().ok().map(LifetimeId)).collect();
    let kinds = kinds(report, &leaked);
    let both = Part::ALL.map(|part| Shares::of(report, part, &leaked, |kind| kinds.contains(&kind)));
    for shares in &both {
        if let Some(most) = shares.most() {
            finding.steps.push(shares.clause(most));
        }
    }
    let [opener, last_use] = &both;
    finding.opener = opener.most().map(|most| most.label.clone());
    finding.last_use = last_use.most().map(|most| most.label.clone());
    if let Some((shares, most)) = worth_naming(report, opener, last_use).and_then(|it| Some((it, it.most()?))) {
        finding.sentence = sentence::with_clause(&finding.sentence, &shares.clause(most));
    }
}

/// Which of the two tells leaked from healthy; the opener, unless the last use does it better or is the user's own code
/// while the opener isn't.
fn worth_naming<'a>(report: &Report, opener: &'a Shares, last_use: &'a Shares) -> Option<&'a Shares> {
    let is_own = |shares: &Shares| {
        let stack = shares.most().and_then(|most| report.stacks.get(&most.stack));
        stack.is_some_and(|stack| stack.frames.iter().any(|frame| frame.own))
    };
    match (opener.tells_apart(), last_use.tells_apart()) {
        (Some(by_opener), Some(by_use)) => {
            let better = by_use > by_opener + BETTER_BY || is_own(last_use) && !is_own(opener);
            Some(if better { last_use } else { opener })
        }
        (Some(_), None) => Some(opener),
        (None, Some(_)) => Some(last_use),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests;
