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

use super::openings::Openings;
use crate::model::{
    Group, Judged, Kind, Lifetime, LifetimeId, Population, Rate, State, Timestamp, Verdict, duration_words,
};
use std::cmp::Reverse;
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
/// What has no silence to tell by: of a Unix socket also where nothing was closed yet, for a program rarely goes on
/// opening connections that it keeps.
const PATIENCE_BY_AGE_SECONDS: f64 = 90.0;
/// Where nothing was closed yet, and only the openings speak: eight of them at the least, that go on to the end.
const PATIENCE_UNCLOSED_OUTGOING_SECONDS: f64 = 30.0;
/// The same of files and the like, which programs do open one after another and keep, and of what others opened.
const PATIENCE_UNCLOSED_SECONDS: f64 = 600.0;

/// One that still talks must be this many times as old.
const TALKING: f64 = 5.0;

/// Survivors that make a leak: after ten minutes, before that, and of those that are judged by age alone or were
/// accepted, for a client may rest as long as it likes.
const SURVIVORS_MIN: usize = 3;
const SURVIVORS_MIN_EARLY: usize = 8;
const SURVIVORS_MIN_CAUTIOUS: usize = 8;
const EARLY_SECONDS: f64 = 600.0;

/// Until then the pools of a program that starts with the watch have opened: a share of the watch, and seconds.
const POOLS_OPEN: f64 = 0.03;
const POOLS_OPEN_SECONDS: f64 = 5.0;
/// The share of the watch that is its start where nothing is ever closed.
const START: f64 = 0.1;
/// Where nothing was closed: so many must have been opened after the start ...
const LATE_MIN: usize = 5;
const LATE_MIN_BY_AGE: usize = 10;
/// ... and most of the open ones.
const LATE_SHARE_MIN: f64 = 0.6;

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
    /// `Leak`, or `Undecided` where it's too early or too few.
    pub(super) kind: Verdict,
    /// The leaked ones, oldest first.
    pub(super) leaked: Vec<LifetimeId>,
    pub(super) since: Option<Timestamp>,
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
    /// That it's leaked; `None` where nothing tells.
    probability: Option<f64>,
    /// From which age on it stands out.
    recognised_after: f64,
}

impl Open<'_> {
    fn is_flagged(&self) -> bool {
        self.probability.is_some_and(|probability| probability > Judged::LEAKED_FROM)
    }

    /// For how long it has been left alone.
    fn waited(&self) -> f64 {
        self.silent.map_or(self.age, |silent| silent.max(self.age / TALKING))
    }
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
        let cohort = cohorts.entry(lifetime.group()).or_default();
        let age = lifetime.age_seconds(at);
        cohort.ages.push(age);
        cohort.silences.extend(lifetime.silent_seconds(at));
        survivors.longest_closed_seconds =
            Some(survivors.longest_closed_seconds.map_or(age, |longest: f64| longest.max(age)));
    }
    for lifetime in population.open.values() {
        if is_of_some_process(lifetime) {
            survivors.anybodys += 1;
            continue;
        }
        let Some(now) = watch.end_of(lifetime) else { continue };
        let (age, silent) = (lifetime.age_seconds(now), lifetime.silent_seconds(now));
        let open = Open { lifetime, age, silent, probability: None, recognised_after: SILENCE_MIN_SECONDS };
        cohorts.entry(lifetime.group()).or_default().open.push(open);
        survivors.open += 1;
    }
    for (group, mut cohort) in cohorts {
        let closed = population.tallies.get(&group).map_or(0, |tally| tally.closed).max(cohort.ages.len() as u64);
        survivors.groups.extend(judge_group(&watch, group, &mut cohort, closed));
        let told = cohort.open.iter().filter_map(|open| Some((open.lifetime.id, open.probability?)));
        survivors.leak_probability.extend(told);
    }
    survivors.groups.sort_by_key(|found| (found.kind, Reverse(found.leaked.len())));
    survivors
}

fn is_of_some_process(lifetime: &Lifetime) -> bool {
    lifetime.resource.detail.as_ref().is_some_and(|detail| detail.is_of_some_process())
}

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

    /// The moment at which an open one is judged; `None` for what ended with its process long before.
    fn end_of(&self, lifetime: &Lifetime) -> Option<Timestamp> {
        if !lifetime.ended_with_process {
            return Some(self.at);
        }
        let before_end = self.last.seconds_since(lifetime.last_seen);
        (before_end <= (0.05 * self.seconds).max(5.0)).then_some(lifetime.last_seen)
    }
}

fn judge_group(watch: &Watch, group: Group, cohort: &mut Cohort, closed: u64) -> Option<GroupJudgement> {
    cohort.ages.sort_unstable_by(f64::total_cmp);
    cohort.silences.sort_unstable_by(f64::total_cmp);
    let has_yardstick = cohort.ages.len() >= CLOSINGS_MIN;
    if has_yardstick {
        weigh_against_closed(watch, cohort);
    } else {
        weigh_by_openings(watch, cohort);
    }
    let suspects: Vec<&Open> =
        cohort.open.iter().filter(|open| open.is_flagged() && !open.lifetime.is_older_than_recording()).collect();
    let longest = |length: fn(&Open) -> Option<f64>| longest_of(&suspects, length);
    let waited = longest(|open| Some(open.waited())).unwrap_or(0.0);
    let oldest_seconds = longest(|open| Some(open.age)).unwrap_or(0.0);
    let longest_silence_seconds = longest(|open| open.silent);
    let recognised_after = longest(|open| Some(open.recognised_after)).unwrap_or(0.0);
    let seconds = suspects.iter().map(|open| open.lifetime.opened.seconds_since(watch.from)).collect();
    let openings = Openings::new(seconds, watch.seconds, recognised_after);
    let count = suspects.len();
    let confidence = suspects.iter().filter_map(|open| open.probability).sum::<f64>() / count.max(1) as f64;

    let has_silence = longest_silence_seconds.is_some();
    let is_accepted = waits_for_peer(&group, &suspects);
    let is_outgoing = has_silence && !is_accepted;
    let few = match (is_outgoing, watch.is_early()) {
        (false, _) => SURVIVORS_MIN_CAUTIOUS,
        (true, true) => SURVIVORS_MIN_EARLY,
        (true, false) => SURVIVORS_MIN,
    };
    let is_connection = matches!(group.kind, Kind::Tcp | Kind::Udp | Kind::Unix);
    let patience = match (has_yardstick, has_silence, is_accepted) {
        (true, true, false) => PATIENCE_OUTGOING_SECONDS,
        (true, true, true) => PATIENCE_ACCEPTED_SECONDS,
        (true, false, _) => PATIENCE_BY_AGE_SECONDS,
        (false, true, false) => PATIENCE_UNCLOSED_OUTGOING_SECONDS,
        (false, false, false) if is_connection => PATIENCE_BY_AGE_SECONDS,
        (false, ..) => PATIENCE_UNCLOSED_SECONDS,
    };
    let must_wait = waited < patience;
    let objection = openings.objection(watch.is_early());
    let doubt = if must_wait {
        Some(format!("about {} more will tell", duration_words(patience - waited)))
    } else if count < few {
        Some(format!("it takes {few} to tell a leak from luck"))
    } else {
        objection.map(str::to_owned)
    };
    let is_leak = count > 0 && doubt.is_none();
    let is_healthy = must_wait || (count >= few && objection.is_some());
    // In the first minutes one that stands out alone is as likely a rare healthy one.
    let is_alone = watch.is_early() && !is_leak;
    for open in &mut cohort.open {
        // What was there before and has no silence (standard output, a log) shows nothing but its age.
        let is_mute = open.lifetime.is_older_than_recording() && (!is_leak || open.silent.is_none());
        if is_healthy || is_alone || is_mute {
            open.probability = open.probability.map(|probability| probability.min(Judged::LEAKED_FROM));
        }
    }
    // What came in the first half of the time and not again is settled, and no doubt any more.
    if count == 0 || (!is_leak && !must_wait && openings.are_over()) {
        return None;
    }
    let mut leaked: Vec<&Open> = cohort.open.iter().filter(|open| open.is_flagged()).collect();
    leaked.sort_by_key(|open| open.lifetime.opened);
    Some(GroupJudgement {
        kind: if is_leak { Verdict::Leak } else { Verdict::Undecided },
        leaked: leaked.iter().map(|open| open.lifetime.id).collect(),
        // With those that were left open before the watch began, where there are any.
        since: leaked.first().filter(|_| is_leak).map(|open| open.lifetime.opened),
        rate: if is_leak { openings.rate() } else { None },
        confidence: confidence.min(0.999),
        open: cohort.open.len(),
        suspects: count,
        closed,
        longest_closed_seconds: cohort.ages.last().copied(),
        oldest_seconds: if is_leak {
            longest_of(&leaked, |open| Some(open.age)).unwrap_or(0.0)
        } else {
            oldest_seconds
        },
        longest_silence_seconds: if is_leak {
            longest_of(&leaked, |open| open.silent)
        } else {
            longest_silence_seconds
        },
        steps: vec![
            format!("{} open, {closed} closed, {count} stand out; it takes {few}", cohort.open.len()),
            format!("left alone for up to {}; it takes {}", duration_words(waited), duration_words(patience)),
            format!(
                "opened in {} of 20 parts of the time, {:.0}% in the later half",
                openings.parts(),
                100.0 * openings.later_share()
            ),
        ],
        doubt,
        group,
    })
}

/// The longest of a length that some have.
fn longest_of(open: &[&Open], length: fn(&Open) -> Option<f64>) -> Option<f64> {
    open.iter().filter_map(|open| length(open)).reduce(f64::max)
}

/// Age and silence of each open one against those that were closed.
fn weigh_against_closed(watch: &Watch, cohort: &mut Cohort) {
    let by_age = Yardstick::new(&cohort.ages, cohort.open.iter().map(|open| open.age));
    let by_silence = (cohort.silences.len() >= CLOSINGS_MIN)
        .then(|| Yardstick::new(&cohort.silences, cohort.open.iter().filter_map(|open| open.silent)));
    let (longest_life, longest_silence) = (by_age.longest, by_silence.as_ref().map(|yardstick| yardstick.longest));
    let weighed: Vec<(f64, f64)> = cohort
        .open
        .iter()
        .map(|open| {
            let silent = by_silence.as_ref().zip(open.silent);
            (by_age.probability(open.age), silent.map_or(0.0, |(yardstick, silent)| yardstick.probability(silent)))
        })
        .collect();
    let pools_are_open = (POOLS_OPEN * watch.seconds).max(POOLS_OPEN_SECONDS);
    for (open, (by_age, by_silence)) in cohort.open.iter_mut().zip(weighed) {
        // Age alone is the weaker witness: those who talk for long are not all leaked, least of all those that were
        // there at the start, as a pool's are.
        let is_of_start = open.silent.is_some() && open.lifetime.opened.seconds_since(watch.from) < pools_are_open;
        let by_age = if by_age > BY_AGE_FROM && !is_of_start { by_age } else { by_age.min(Judged::LEAKED_FROM) };
        open.probability = Some(by_age.max(by_silence));
        open.recognised_after = match longest_silence {
            Some(longest_silence) if by_silence > Judged::LEAKED_FROM => longest_silence,
            _ => longest_life,
        };
    }
}

/// A length that the closed ones had, against which an open one's is held.
struct Yardstick<'a> {
    /// In rising order.
    closed: &'a [f64],
    longest: f64,
    /// The share that is never closed.
    share: f64,
}

impl<'a> Yardstick<'a> {
    fn new(closed: &'a [f64], open: impl Iterator<Item = f64>) -> Self {
        let longest = closed.last().copied().unwrap_or(0.0).max(SILENCE_MIN_SECONDS);
        let (mut count, mut outlived) = (0, 0);
        for length in open {
            count += 1;
            outlived += u32::from(length > longest);
        }
        let total = closed.len() as f64 + f64::from(count);
        Yardstick { closed, longest, share: (f64::from(outlived) + 0.5) / (total + 1.0) }
    }

    /// That one of this length is never closed (Bayes); at most even odds within what was closed.
    fn probability(&self, length: f64) -> f64 {
        let count = self.closed.len() as f64;
        let tail = if length > self.longest {
            (self.longest / length).powf(TAIL_POWER)
        } else {
            (self.closed.len() - self.closed.partition_point(|closed| *closed < length)) as f64 + 1.0
        } / (count + 1.0);
        let probability = self.share / (self.share + (1.0 - self.share) * tail);
        if length > self.longest { probability } else { probability.min(Judged::LEAKED_FROM) }
    }
}

/// Next to nothing is closed here, so the openings tell: links that last are opened at the beginning and kept, a leak
/// goes on.
fn weigh_by_openings(watch: &Watch, cohort: &mut Cohort) {
    let seen = cohort.open.iter().filter(|open| !open.lifetime.is_older_than_recording());
    let openings: Vec<f64> = seen.map(|open| open.lifetime.opened.seconds_since(watch.from)).collect();
    let count = openings.len() as f64;
    let late = openings.iter().filter(|opened| **opened > START * watch.seconds).count();
    let has_silence = cohort.open.iter().any(|open| open.silent.is_some());
    let few = if has_silence { LATE_MIN } else { LATE_MIN_BY_AGE };
    // What was closed all the same tells at least how long a silence is usual.
    let usual = if has_silence { cohort.silences.last() } else { cohort.ages.last() };
    let usual = usual.copied().unwrap_or(0.0).max(SILENCE_MIN_SECONDS);
    if late < few
        || (late as f64) < LATE_SHARE_MIN * count
        || openings.len() < cohort.ages.len()
        || Openings::new(openings, watch.seconds, usual).objection(watch.is_early()).is_some()
    {
        return;
    }
    for open in &mut cohort.open {
        let is_left = open.silent.unwrap_or(open.age) > usual;
        open.probability = is_left.then_some(count / (count + 1.0));
        open.recognised_after = usual;
    }
}

/// True where the peer is to hang up: accepted, and not in CLOSE_WAIT, where it has.
fn waits_for_peer(group: &Group, suspects: &[&Open]) -> bool {
    let hung_up = suspects.iter().filter(|open| open.lifetime.resource.state == Some(State::CloseWait)).count();
    group.endpoint.starts_with("accepted ") && 2 * hung_up <= suspects.len()
}

#[cfg(test)]
pub(super) mod tests;
