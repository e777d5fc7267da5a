//! Which of what is open will never be closed.
//!
//! Lifetimes of a group (same kind, same endpoint) are a mixture: those that are closed some day, and a share that never
//! is, the cure fraction of survival analysis (Boag, 1949; Maller and Zhou, "Survival Analysis with Long-Term
//! Survivors", 1996). What was closed in the same group is the yardstick, for age and for silence (`weigh`): an open
//! one that is older than all of them, or silent for longer than any of them was before it was closed, is leaked with the
//! probability that the share of such ones gives against the tail of the closed ones (Bayes).
//!
//! A yardstick of half a minute knows no timeout of a minute. What may still be closed by one is told by what the program
//! does meanwhile (`patience`): a pool opens a new connection only when none lies idle, a leak opens one although many do.
//!
//! One that outlived all others may be luck, many that were opened at once are a pool that filled. So a *leak* is found
//! where several were left open and their openings go on, or went on long enough and stopped (`verdict`). A group that
//! was opened so and of which nothing is used any more, while the target works on, is a pool that was drained (`drained`).
//!
//! Left out: what was there before the recording began has an unknown age and shows no opening, so by itself it's never
//! called leaked, only beside a leak of its group that was seen. What a process held when it ended is judged by the
//! age it had, if that was at the end of the watch; earlier it's neither closed nor open.

mod cohort;
mod drained;
mod patience;
mod verdict;
mod weigh;

use crate::model::{Group, Lifetime, LifetimeId, Population, Rate, Timestamp, Verdict};
use cohort::Cohort;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The watch is young until then: healthy programs are still warming up, and few of their habits were seen.
const EARLY_SECONDS: f64 = 600.0;

/// What the lifetimes tell.
#[derive(Clone, Debug, Default)]
pub(super) struct Survivors {
    /// The groups that leak or may, those with the most survivors first.
    pub(super) groups: Vec<GroupJudgement>,
    pub(super) leak_probability: BTreeMap<LifetimeId, f64>,
    /// How long the population was watched.
    pub(super) watch_seconds: f64,
    /// How many are open now.
    pub(super) open: usize,
    /// How many more are open that may be any process' of a user: of them nothing is told.
    pub(super) anybodys: usize,
    /// How many were closed.
    pub(super) closed: u64,
    /// The longest time any closed one was open, in seconds.
    pub(super) longest_closed_seconds: Option<f64>,
}

/// What was found in one group.
#[derive(Clone, Debug)]
pub(super) struct GroupJudgement {
    pub(super) group: Group,
    /// `Leak`, `Plateau`, or `Undecided` where it's too early or too few.
    pub(super) kind: Verdict,
    /// The leaked ones, oldest first; of a plateau all that lie silent.
    pub(super) leaked: Vec<LifetimeId>,
    pub(super) since: Option<Timestamp>,
    /// When the last of them was opened, where no more come.
    pub(super) stopped: Option<Timestamp>,
    pub(super) rate: Option<Rate>,
    pub(super) confidence: f64,
    /// How many of the group are open.
    pub(super) open: usize,
    /// How many of these stand out.
    pub(super) suspects: usize,
    /// How many of it were closed.
    pub(super) closed: u64,
    /// The longest lifetime of a closed one.
    pub(super) longest_closed_seconds: Option<f64>,
    /// The longest silence of one before it was closed, where it's silence that most leaked ones are told by.
    pub(super) longest_closed_silence_seconds: Option<f64>,
    /// The age of the oldest leaked one.
    pub(super) oldest_seconds: f64,
    /// The longest silence among the leaked ones.
    pub(super) longest_silence_seconds: Option<f64>,
    /// The shortest, of a plateau.
    pub(super) shortest_silence_seconds: Option<f64>,
    /// Why it isn't called a leak, if it isn't.
    pub(super) doubt: Option<String>,
    pub(super) steps: Vec<String>,
}

/// Judges every group at a moment; `from` is when the watch began and `last` when the target was last read, if it was.
pub(super) fn judge(
    population: &Population,
    from: Option<Timestamp>,
    last: Option<Timestamp>,
    at: Timestamp,
) -> Survivors {
    let all = || population.open.values().chain(population.closed.values());
    // What was there before is known to be older than the watch; that doesn't lengthen it.
    let from = from.or_else(|| all().map(|lifetime| lifetime.opened).min()).unwrap_or(at);
    let watch = Watch { from, last: last.unwrap_or(at), at, seconds: at.seconds_since(from).max(1e-6) };
    let mut survivors =
        Survivors { watch_seconds: watch.seconds, closed: population.closed_total, ..Survivors::default() };
    let mut cohorts: BTreeMap<Group, Cohort> = BTreeMap::new();
    for lifetime in population.closed.values().filter(|it| !is_of_some_process(it)) {
        let age = cohorts.entry(lifetime.group()).or_default().add_closed(lifetime, &watch);
        let longest = survivors.longest_closed_seconds.map_or(age, |longest: f64| longest.max(age));
        survivors.longest_closed_seconds = Some(longest);
    }
    for lifetime in population.open.values() {
        if is_of_some_process(lifetime) {
            survivors.anybodys += 1;
        } else if let Some(now) = watch.end_of(lifetime) {
            cohorts.entry(lifetime.group()).or_default().add_open(lifetime, now, &watch);
            survivors.open += 1;
        }
    }
    for (group, cohort) in &mut cohorts {
        let closed = population.tallies.groups.get(group).map_or(0, |tally| tally.closed);
        cohort.complete(group, closed);
    }
    let lively = Lively::new(&cohorts);
    for (group, cohort) in &mut cohorts {
        survivors.groups.extend(verdict::judge_group(&watch, group, cohort, lively.outside(group)));
        let told = cohort.open.iter().filter_map(|open| Some((open.lifetime.id, open.probability?)));
        survivors.leak_probability.extend(told);
    }
    survivors.groups.sort_by_key(|found| (found.kind, found.stopped.is_some(), Reverse(found.leaked.len())));
    survivors
}

fn is_of_some_process(lifetime: &Lifetime) -> bool {
    lifetime.resource.detail.as_ref().is_some_and(|detail| detail.is_of_some_process())
}

/// From when to when the population was watched.
struct Watch {
    from: Timestamp,
    last: Timestamp,
    at: Timestamp,
    seconds: f64,
}

impl Watch {
    fn is_early(&self) -> bool {
        self.seconds < EARLY_SECONDS
    }

    /// Seconds since the watch began.
    fn offset(&self, at: Timestamp) -> f64 {
        at.seconds_since(self.from)
    }

    /// The moment at which an open one is judged; `None` for what ended with its process long before.
    fn end_of(&self, lifetime: &Lifetime) -> Option<Timestamp> {
        if !lifetime.ended_with_process {
            return Some(self.at);
        }
        let before_end = self.last.seconds_since(lifetime.last_seen);
        (before_end <= (0.05 * self.seconds).max(5.0)).then_some(lifetime.last_seen)
    }
}

/// The two groups in which something happened last.
#[derive(Default)]
struct Lively(Vec<(f64, Group)>);

impl Lively {
    fn new(cohorts: &BTreeMap<Group, Cohort>) -> Self {
        let mut latest: Vec<(f64, Group)> =
            cohorts.iter().map(|(group, cohort)| (cohort.latest_seconds, group.clone())).collect();
        latest.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        latest.truncate(2);
        Lively(latest)
    }

    /// When something last happened in any other group, in seconds since the watch began.
    fn outside(&self, group: &Group) -> Option<f64> {
        self.0.iter().find(|(_, it)| it != group).map(|(latest, _)| *latest)
    }
}

#[cfg(test)]
pub(super) mod tests;
