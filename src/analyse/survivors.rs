//! Which of what is open will never be closed.
//!
//! Lifetimes of a group (same kind, same endpoint) are a mixture: those that are closed some day, and a share that never
//! is, the cure fraction of survival analysis (Boag, 1949; Maller and Zhou, "Survival Analysis with Long-Term
//! Survivors", 1996). What was closed in the same group is the yardstick, for age and for silence: an open one that is
//! older than all of them, or silent for longer than any of them was before it was closed, is leaked with the
//! probability that the share of such ones gives against the tail of the closed ones (Bayes).
//!
//! One that outlived all others may be luck, many that were opened at once are a pool that filled. So a *leak* is found
//! where several were left open and their openings go on.
//!
//! Left out: what was there before the recording began has an unknown age and shows no opening, so by itself it's never
//! called leaked, only beside a leak of its group that was seen. What a process held when it ended is judged by the
//! age it had, if that was at the end of the watch; earlier it's neither closed nor open.

use super::distribution::poisson_interval;
use crate::model::{Group, Judged, Kind, Lifetime, LifetimeId, Population, Rate, State, Timestamp, Verdict};
use std::collections::BTreeMap;

/// Closings from which a group has a yardstick of its own.
const CLOSINGS_MIN: usize = 8;
/// The tail beyond the longest closed lifetime falls with this power of the length: heavier than any exponential, for
/// lifetimes of connections are heavy-tailed.
const TAIL_POWER: f64 = 1.5;
/// No silence and no age below this is one: clients think, and pools rest.
const SILENCE_MIN_SECONDS: f64 = 10.0;
/// Age alone convicts from this probability on, silence from [`Judged::LEAKED_FROM`].
const BY_AGE_FROM: f64 = 0.8;

/// How long something must be left alone before anyone may call it leaked. What a program opened itself and left
/// silent: longer than a long poll or a think time of some 20 s.
const PATIENCE_OUTGOING_SECONDS: f64 = 25.0;
/// What others opened to it and may use again: longer than the keep-alive of servers (nginx has 75 s).
const PATIENCE_ACCEPTED_SECONDS: f64 = 120.0;
/// What has no silence to tell by.
const PATIENCE_BY_AGE_SECONDS: f64 = 90.0;
/// The same where nothing was closed yet, and only the openings speak.
const PATIENCE_UNCLOSED_OUTGOING_SECONDS: f64 = 90.0;
const PATIENCE_UNCLOSED_SECONDS: f64 = 600.0;

/// Survivors that make a leak: after ten minutes, before that, and of kinds that are judged by age alone.
const SURVIVORS_MIN: usize = 3;
const SURVIVORS_MIN_EARLY: usize = 5;
const SURVIVORS_MIN_BY_AGE: usize = 8;
const EARLY_SECONDS: f64 = 600.0;
/// Openings must fall into at least so many of twenty equal parts of the time: one incident is one burst.
const PARTS_MIN: usize = 3;
/// Laplace's test of a Poisson process: below this the openings have died out, as those of a pool that filled do.
const DYING_OUT: f64 = -2.5;
/// The same with no closing seen: both sides, and so many openings after the first tenth of the watch.
const UNIFORM_WITHIN: f64 = 2.6;
const LATE_MIN: usize = 5;
const LATE_MIN_BY_AGE: usize = 10;
const LATE_SHARE_MIN: f64 = 0.7;

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
    /// How many were closed.
    pub(super) closed: u64,
    /// The longest time any closed one was open, in seconds.
    pub(super) longest_closed_seconds: Option<f64>,
}

/// What was found in one group.
#[derive(Clone, Debug)]
pub(super) struct GroupJudgement {
    pub(super) group: Group,
    /// `Leak`, or `Undecided` where it's too early or too few.
    pub(super) kind: Verdict,
    /// The leaked ones, oldest first.
    pub(super) leaked: Vec<LifetimeId>,
    pub(super) since: Option<Timestamp>,
    pub(super) rate: Option<Rate>,
    pub(super) confidence: f64,
    /// How many of the group are open.
    pub(super) open: usize,
    /// How many of it were closed.
    pub(super) closed: u64,
    /// The longest lifetime of a closed one.
    pub(super) longest_closed_seconds: Option<f64>,
    /// The age of the oldest leaked one.
    pub(super) oldest_seconds: f64,
    /// The longest silence among the leaked ones.
    pub(super) longest_silence_seconds: Option<f64>,
    /// Why it isn't called a leak, if it isn't.
    pub(super) doubt: Option<String>,
    pub(super) steps: Vec<String>,
}

/// One group's lifetimes, reduced to what is compared.
#[derive(Default)]
struct Cohort<'a> {
    open: Vec<Open<'a>>,
    /// Ages and silences at the closing.
    ages: Vec<f64>,
    silences: Vec<f64>,
}

struct Open<'a> {
    lifetime: &'a Lifetime,
    age: f64,
    silent: Option<f64>,
    probability: f64,
}

/// Judges every group at a moment; `from` is when the watch began, if ticks were seen.
pub(super) fn judge(population: &Population, from: Option<Timestamp>, at: Timestamp) -> Survivors {
    let all = || population.open.values().chain(population.closed.values());
    let from = from.into_iter().chain(all().map(|lifetime| lifetime.opened)).min().unwrap_or(at);
    let watch = Watch { from, at, seconds: at.seconds_since(from).max(1e-6) };
    let mut cohorts: BTreeMap<Group, Cohort> = BTreeMap::new();
    let mut survivors =
        Survivors { watch_seconds: watch.seconds, closed: population.closed_total, ..Survivors::default() };
    for lifetime in population.closed.values() {
        let cohort = cohorts.entry(lifetime.group()).or_default();
        let age = lifetime.age_seconds(at);
        cohort.ages.push(age);
        cohort.silences.extend(lifetime.silent_seconds(at));
        survivors.longest_closed_seconds =
            Some(survivors.longest_closed_seconds.map_or(age, |longest: f64| longest.max(age)));
    }
    for lifetime in population.open.values() {
        let Some(now) = watch.end_of(lifetime) else { continue };
        let (age, silent) = (lifetime.age_seconds(now), lifetime.silent_seconds(now));
        survivors.open += 1;
        cohorts.entry(lifetime.group()).or_default().open.push(Open { lifetime, age, silent, probability: 0.0 });
    }
    for (group, mut cohort) in cohorts {
        if cohort.open.is_empty() {
            continue;
        }
        let closed = population.tallies.get(&group).map_or(0, |tally| tally.closed).max(cohort.ages.len() as u64);
        survivors.groups.extend(judge_group(&watch, group, &mut cohort, closed));
        survivors.leak_probability.extend(cohort.open.iter().map(|open| (open.lifetime.id, open.probability)));
    }
    survivors.groups.sort_by_key(|found| (found.kind, std::cmp::Reverse(found.leaked.len())));
    survivors
}

struct Watch {
    from: Timestamp,
    at: Timestamp,
    seconds: f64,
}

impl Watch {
    /// The moment at which an open one is judged; `None` for what ended with its process long before.
    fn end_of(&self, lifetime: &Lifetime) -> Option<Timestamp> {
        if !lifetime.ended_with_process {
            return Some(self.at);
        }
        let before_end = self.at.seconds_since(lifetime.last_seen);
        (before_end <= (0.05 * self.seconds).max(5.0)).then_some(lifetime.last_seen)
    }
}

fn judge_group(watch: &Watch, group: Group, cohort: &mut Cohort, closed: u64) -> Option<GroupJudgement> {
    cohort.ages.sort_unstable_by(f64::total_cmp);
    cohort.silences.sort_unstable_by(f64::total_cmp);
    let has_yardstick = cohort.ages.len() >= CLOSINGS_MIN;
    let has_silence = cohort.open.iter().any(|open| open.silent.is_some());
    let patience = if has_yardstick {
        weigh_against_closed(cohort);
        patience_with(&group, cohort, has_silence)
    } else {
        weigh_by_openings(watch, cohort, has_silence);
        if has_silence && !group.endpoint.starts_with("accepted ") {
            PATIENCE_UNCLOSED_OUTGOING_SECONDS
        } else {
            PATIENCE_UNCLOSED_SECONDS
        }
    };
    let waited = |open: &Open| open.silent.unwrap_or(open.age).max(open.age.min(open.silent.unwrap_or(0.0)));
    let suspects: Vec<usize> = (0..cohort.open.len())
        .filter(|i| cohort.open[*i].probability > Judged::LEAKED_FROM)
        .filter(|i| !cohort.open[*i].lifetime.is_older_than_recording())
        .collect();
    let longest_wait = suspects.iter().map(|i| waited(&cohort.open[*i]).max(cohort.open[*i].age)).fold(0.0, f64::max);
    let few = match (has_silence, watch.seconds < EARLY_SECONDS) {
        (false, _) => SURVIVORS_MIN_BY_AGE,
        (true, true) => SURVIVORS_MIN_EARLY,
        (true, false) => SURVIVORS_MIN,
    };
    let mut openings: Vec<f64> =
        suspects.iter().map(|i| cohort.open[*i].lifetime.opened.seconds_since(watch.from)).collect();
    openings.sort_unstable_by(f64::total_cmp);
    // An opening after this moment could not be told yet.
    let youngest = suspects.iter().map(|i| cohort.open[*i].age).fold(f64::INFINITY, f64::min);
    let horizon = (watch.seconds - youngest.min(longest_wait)).max(openings.last().copied().unwrap_or(0.0));
    let doubt = if suspects.is_empty() {
        None
    } else if longest_wait < patience {
        Some(format!("about {} more will tell", crate::model::duration_words(patience - longest_wait)))
    } else if suspects.len() < few {
        Some(format!("it takes {few} to tell a leak from luck"))
    } else if parts_of(&openings, horizon) < PARTS_MIN {
        Some("they were opened at once, as a pool or an incident does".into())
    } else if laplace(&openings, horizon) < DYING_OUT {
        Some("their openings have died out, as those of a pool that filled do".into())
    } else {
        None
    };
    let is_leak = !suspects.is_empty() && doubt.is_none();
    let is_pool = has_yardstick && doubt.is_some() && suspects.len() >= few;
    for open in &mut cohort.open {
        let is_unsure = longest_wait < patience || is_pool || (open.lifetime.is_older_than_recording() && !is_leak);
        if is_unsure {
            open.probability = open.probability.min(Judged::LEAKED_FROM);
        }
    }
    if suspects.is_empty() {
        return None;
    }
    let mut leaked: Vec<&Open> = cohort.open.iter().filter(|open| open.probability > Judged::LEAKED_FROM).collect();
    leaked.sort_by_key(|open| open.lifetime.opened);
    let confidence = suspects.iter().map(|i| cohort.open[*i].probability).sum::<f64>() / suspects.len() as f64;
    let (rate, since) = is_leak.then(|| rate_of(watch, &openings, horizon)).unzip();
    Some(GroupJudgement {
        kind: if is_leak { Verdict::Leak } else { Verdict::Undecided },
        rate: rate.flatten(),
        since,
        confidence: confidence.min(0.999),
        open: cohort.open.len(),
        closed,
        longest_closed_seconds: cohort.ages.last().copied(),
        oldest_seconds: suspects.iter().map(|i| cohort.open[*i].age).fold(0.0, f64::max),
        longest_silence_seconds: suspects.iter().filter_map(|i| cohort.open[*i].silent).reduce(f64::max),
        leaked: leaked.iter().map(|open| open.lifetime.id).collect(),
        steps: vec![
            format!("{} open, {closed} closed, {} stand out", cohort.open.len(), suspects.len()),
            format!(
                "openings in {} of 20 parts of the time, Laplace {:+.1} (below {DYING_OUT} they die out)",
                parts_of(&openings, horizon),
                laplace(&openings, horizon)
            ),
        ],
        doubt,
        group,
    })
}

/// Age and silence of each open one against those that were closed.
fn weigh_against_closed(cohort: &mut Cohort) {
    let longest_life = cohort.ages.last().copied().unwrap_or(0.0).max(SILENCE_MIN_SECONDS);
    let longest_silence = cohort.silences.last().copied().unwrap_or(0.0).max(SILENCE_MIN_SECONDS);
    let knows_silence = cohort.silences.len() >= CLOSINGS_MIN;
    let total = (cohort.open.len() + cohort.ages.len() + 1) as f64;
    let older = cohort.open.iter().filter(|open| open.age > longest_life).count() as f64;
    let quieter =
        cohort.open.iter().filter(|open| open.silent.is_some_and(|silent| silent > longest_silence)).count() as f64;
    let bayes = |outliving: f64, tail: f64| {
        let share = (outliving + 0.5) / total;
        share / (share + (1.0 - share) * tail)
    };
    let tail = |value: f64, longest: f64, count: usize| (longest / value).powf(TAIL_POWER) / (count as f64 + 1.0);
    for open in &mut cohort.open {
        let by_age =
            if open.age > longest_life { bayes(older, tail(open.age, longest_life, cohort.ages.len())) } else { 0.0 };
        let by_silence = match open.silent {
            Some(silent) if knows_silence && silent > longest_silence => {
                bayes(quieter, tail(silent, longest_silence, cohort.silences.len()))
            }
            _ => 0.0,
        };
        // Age alone is the weaker witness.
        let by_age = if by_age > BY_AGE_FROM { by_age } else { by_age.min(Judged::LEAKED_FROM) };
        open.probability = by_silence.max(by_age);
    }
}

/// Nothing is closed here, so only the openings tell: links that last are opened at the beginning and kept, a leak goes
/// on evenly.
fn weigh_by_openings(watch: &Watch, cohort: &mut Cohort, has_silence: bool) {
    let seen: Vec<&Open> = cohort.open.iter().filter(|open| !open.lifetime.is_older_than_recording()).collect();
    let late: Vec<f64> = seen
        .iter()
        .map(|open| open.lifetime.opened.seconds_since(watch.from) / watch.seconds)
        .filter(|share| *share > 0.1)
        .collect();
    let count = late.len() as f64;
    let mean = late.iter().sum::<f64>() / count.max(1.0);
    let unevenness = (mean - 0.55).abs() / (0.9 / (12.0 * count.max(1.0)).sqrt());
    let few = if has_silence { LATE_MIN } else { LATE_MIN_BY_AGE };
    if late.len() < few || count <= LATE_SHARE_MIN * seen.len() as f64 || unevenness >= UNIFORM_WITHIN {
        return;
    }
    for open in &mut cohort.open {
        if open.silent.unwrap_or(open.age) > SILENCE_MIN_SECONDS {
            open.probability = count / (count + 1.0);
        }
    }
}

fn patience_with(group: &Group, cohort: &Cohort, has_silence: bool) -> f64 {
    let closed_by_peer = |open: &Open| open.lifetime.resource.state == Some(State::CloseWait);
    if !has_silence || !matches!(group.kind, Kind::Tcp | Kind::Udp | Kind::Unix) {
        PATIENCE_BY_AGE_SECONDS
    } else if group.endpoint.starts_with("accepted ") && !cohort.open.iter().any(closed_by_peer) {
        PATIENCE_ACCEPTED_SECONDS
    } else {
        PATIENCE_OUTGOING_SECONDS
    }
}

/// Rate and beginning of the openings that were left: a Poisson process, seen from the first of them to the horizon.
fn rate_of(watch: &Watch, openings: &[f64], horizon: f64) -> (Option<Rate>, Timestamp) {
    let first = openings.first().copied().unwrap_or(0.0);
    let hours = (horizon - first) / 3_600.0;
    let count = openings.len().saturating_sub(1) as f64;
    let rate = (hours > 0.0).then(|| {
        let (low, high) = poisson_interval(count);
        Rate { per_hour: count / hours, low: low / hours, high: high / hours }
    });
    (rate, Timestamp::from_seconds(watch.from.seconds() + first))
}

/// In how many of twenty equal parts of the time something was opened.
fn parts_of(openings: &[f64], horizon: f64) -> usize {
    let part = |opening: &f64| (20.0 * opening / horizon.max(1e-6)) as u64;
    openings.chunk_by(|a, b| part(a) == part(b)).count()
}

/// Laplace's statistic: how far the mean opening lies from the middle of the time, in standard deviations.
fn laplace(openings: &[f64], horizon: f64) -> f64 {
    let count = openings.len() as f64;
    let mean = openings.iter().sum::<f64>() / count.max(1.0);
    (mean / horizon.max(1e-6) - 0.5) * (12.0 * count).sqrt()
}
