//! Which code the leaked ones share and the healthy ones don't.
//!
//! Leaked ones are held against healthy ones of their kinds, those that are open and all that were closed: for each opener
//! and each last use, how many there are on either side. Stacks count together where the frame that matters is the same.
//! What nobody saw the code of counts on neither side, and so does what was opened after the last of the leaked ones: it may
//! be leaked as well.
//!
//! The opener is named where it is told apart: most of the leaked ones have it, and few of the healthy ones. Where a pool
//! opens for everybody, from a thread of its own maybe, it isn't, and the last use is named in its place.

use super::sentence;
use crate::model::{Finding, Kind, Lifetime, LifetimeId, Part, Report, StackKey, Timestamp, Verdict};
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
    /// How many of these were opened after the last of the leaked ones: they can't be told yet.
    pub young: u64,
    /// How many that were closed.
    pub closed: u64,
}

impl Share {
    /// How many healthy ones.
    pub fn healthy(&self) -> u64 {
        self.open - self.young + self.closed
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
        let mut last_leaked: HashMap<Kind, Timestamp> = HashMap::new();
        for lifetime in leaked.iter().filter_map(|id| population.get(*id)) {
            let last = last_leaked.entry(lifetime.resource.kind).or_insert(lifetime.opened);
            *last = lifetime.opened.max(*last);
        }
        for lifetime in population.open.values().filter(is_healthy) {
            if let Some((key, count)) = part.stack_of(lifetime).and_then(|key| Some((key, counts.of(key)?))) {
                let last = last_leaked.get(&lifetime.resource.kind);
                count.open += 1;
                count.young += u64::from(last.is_some_and(|last| lifetime.opened > *last));
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

    /// How many healthy ones they have together.
    fn healthy(&self) -> u64 {
        self.all.iter().map(Share::healthy).sum()
    }

    /// The code that most of the leaked ones have.
    pub fn most(&self) -> Option<&Share> {
        self.all.first().filter(|first| 2 * first.leaked > self.leaked)
    }

    /// The share of it among the leaked ones and among the healthy ones, from 0 to 1.
    fn rates(&self, share: &Share) -> (f64, f64) {
        let healthy = self.healthy().max(1) as f64;
        (share.leaked as f64 / self.leaked.max(1) as f64, share.healthy() as f64 / healthy)
    }

    /// How well what most leaked ones have tells them from healthy ones, from 0 to 1; `None` where it doesn't.
    fn tells_apart(&self) -> Option<f64> {
        let (leaked, healthy) = self.rates(self.most()?);
        (leaked >= TIMES_AS_COMMON_MIN * healthy).then_some(leaked * (1.0 - healthy))
    }

    /// True where healthy ones have that code about as often as leaked ones.
    fn is_shared(&self, label: &str) -> bool {
        let share = self.all.iter().find(|share| share.label == label).map(|share| self.rates(share));
        share.is_some_and(|(leaked, healthy)| leaked < TIMES_AS_COMMON_MIN * healthy)
    }

    /// In words: `31 of 33 were opened by report_export (app.py:88), and 2 of 4100 healthy ones`.
    fn clause(&self, most: &Share) -> String {
        let verb = verb(self.part);
        let who = match (self.leaked, self.unseen) {
            (1, 0) => "it was".to_owned(),
            (leaked, 0) if leaked == most.leaked => format!("all {leaked} were"),
            (leaked, 0) => format!("{} of {leaked} were", most.leaked),
            (leaked, _) => format!("{} of the {leaked} of which it was seen were", most.leaked),
        };
        let healthy = self.healthy();
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

/// Who left some leaked ones open.
#[derive(Clone, Debug)]
pub struct Culprits {
    /// Those who opened them.
    pub opener: Shares,
    /// Those who used them last.
    pub last_use: Shares,
    /// Which of the two tells leaked from healthy; the opener, unless the last use does it better or is the user's own code
    /// while the opener isn't. `None` where neither does.
    pub named: Option<Part>,
}

impl Culprits {
    /// Of the leaked ones with these numbers, held against the healthy ones of their kinds.
    pub fn of(report: &Report, leaked: &HashSet<LifetimeId>) -> Self {
        let kinds: BTreeSet<Kind> =
            leaked.iter().filter_map(|id| Some(report.population.get(*id)?.resource.kind)).collect();
        let [opener, last_use] = Part::ALL.map(|part| Shares::of(report, part, leaked, |kind| kinds.contains(&kind)));
        let is_own = |shares: &Shares| shares.most().is_some_and(|most| is_own(report, most.stack));
        let named = match (opener.tells_apart(), last_use.tells_apart()) {
            (Some(by_opener), Some(by_use)) => {
                let is_better = by_use > by_opener + BETTER_BY || is_own(&last_use) && !is_own(&opener);
                Some(if is_better { Part::LastUse } else { Part::Opener })
            }
            (Some(_), None) => Some(Part::Opener),
            (None, Some(_)) => Some(Part::LastUse),
            (None, None) => None,
        };
        Culprits { opener, last_use, named }
    }

    /// The shares of one of the two.
    pub fn by(&self, part: Part) -> &Shares {
        match part {
            Part::Opener => &self.opener,
            Part::LastUse => &self.last_use,
        }
    }

    /// Both.
    pub fn both(&self) -> [&Shares; 2] {
        [&self.opener, &self.last_use]
    }

    /// What one of them is told by: its opener, or its last use where the opener is not the user's own code or healthy ones
    /// have it too. With what the code is called; `None` where nobody saw any.
    pub fn of_one<'a>(&self, report: &'a Report, lifetime: &Lifetime) -> Option<(Part, &'a str)> {
        let code = |part: Part| {
            let key = part.stack_of(lifetime)?;
            Some((part, key, report.labels.get(&key)?.as_ref()))
        };
        let opener = code(Part::Opener);
        let is_telling =
            |(_, key, label): &(Part, StackKey, &str)| is_own(report, *key) && !self.opener.is_shared(label);
        let told = opener.filter(is_telling).or_else(|| code(Part::LastUse)).or(opener);
        told.map(|(part, _, label)| (part, label))
    }
}

/// True where any of its frames is the user's own.
fn is_own(report: &Report, key: StackKey) -> bool {
    report.stacks.get(&key).is_some_and(|stack| stack.frames.iter().any(|frame| frame.own))
}

/// The numbers of all that is leaked.
pub fn leaked(report: &Report) -> HashSet<LifetimeId> {
    report.judged.leak_probability.keys().copied().filter(|id| report.judged.is_leaked(*id)).collect()
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
    young: u64,
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
                young: count.young,
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
    let culprits =
        Culprits::of(report, &finding.evidence.iter().filter_map(|id| id.parse().ok().map(LifetimeId)).collect());
    for shares in culprits.both() {
        if let Some(most) = shares.most() {
            finding.steps.push(shares.clause(most));
        }
    }
    let label = |shares: &Shares| shares.most().map(|most| most.label.clone());
    finding.opener = label(&culprits.opener);
    finding.last_use = label(&culprits.last_use);
    if let Some((shares, most)) =
        culprits.named.and_then(|part| culprits.by(part).most().map(|it| (culprits.by(part), it)))
    {
        finding.sentence = sentence::with_clause(&finding.sentence, &shares.clause(most));
    }
}

#[cfg(test)]
mod tests;
