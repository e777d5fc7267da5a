//! The verdict on one group: whether those that stand out are a leak.

use super::cohort::{Cohort, Open};
use super::patience::{PASSED_OVER_MIN, Patience, passed_over};
use super::{GroupJudgement, Watch, drained};
use crate::analyse::distribution::poisson_interval;
use crate::analyse::openings::Openings;
use crate::model::{Group, Judged, Kind, Rate, Verdict, duration_words};

/// From so many on, what was left stays leaked when no more comes: a pool that fills at its own pace is smaller.
const STOPPED_MIN: usize = 16;
/// A few that make no leak are shown as leaked from this probability on: twice as silent as any that was closed.
const FEW_FROM: f64 = 0.8;

/// Judges a group, and mends the probabilities of its open ones where the whole tells more than each; `outside` is when
/// something last happened in any other group. `None` where nothing stands out.
pub(super) fn judge_group(
    watch: &Watch,
    group: &Group,
    cohort: &mut Cohort,
    outside: Option<f64>,
) -> Option<GroupJudgement> {
    cohort.weigh(watch);
    if is_connection(group) {
        cohort.presume();
    }
    let suspects: Vec<&Open> =
        cohort.open.iter().filter(|open| open.is_flagged() && !open.lifetime.is_older_than_recording()).collect();
    let count = suspects.len();
    let patience = Patience::new(watch, group, cohort, &suspects);
    let waited = longest_of(&suspects, |open| Some(open.waited())).unwrap_or(0.0);
    let recognised_after = longest_of(&suspects, |open| Some(open.recognised_after)).unwrap_or(0.0);
    let openings =
        Openings::new(suspects.iter().map(|open| open.opened_seconds).collect(), watch.seconds, recognised_after);

    let must_wait = waited < patience.seconds;
    let is_few = count < patience.survivors;
    let passed_over = passed_over(&suspects);
    let mut objection = openings.objection(watch.is_early());
    if passed_over.is_some_and(|times| times >= PASSED_OVER_MIN) {
        // A pool that was opened at once may still be forgotten one by one.
        let uses = suspects.iter().filter_map(|open| open.used_seconds).collect();
        objection = objection.and(Openings::new(uses, watch.seconds, recognised_after).objection(watch.is_early()));
    }
    // What was left by a leak that is over is not given back by its end.
    let is_forgotten = 2 * suspects.iter().filter(|open| open.is_passed_over()).count() > count && openings.went_on();
    let has_stopped = objection.is_some() && count >= STOPPED_MIN && is_forgotten;
    let doubt = if must_wait {
        Some(format!("{}: about {} more will tell", patience.why, duration_words(patience.seconds - waited)))
    } else if is_few {
        Some(format!("it takes {} to tell a leak from luck", patience.survivors))
    } else {
        objection.filter(|_| !has_stopped).map(str::to_owned)
    };
    let drained = if doubt.is_some() || has_stopped { drained::find(watch, group, cohort, outside) } else { None };
    let is_leak = count > 0 && doubt.is_none() && drained.is_none();

    let is_healthy = must_wait || (!is_few && doubt.is_some());
    // In the first minutes one that stands out is as likely a rare healthy one.
    let is_too_early = watch.is_early() && !is_leak;
    let confidence = suspects.iter().filter_map(|open| open.probability).sum::<f64>() / count.max(1) as f64;
    let oldest_seconds = longest_of(&suspects, |open| Some(open.age)).unwrap_or(0.0);
    let longest_silence_seconds = longest_of(&suspects, |open| open.silent);
    let longest_closed_silence_seconds = cohort.silences.last().copied().filter(|_| {
        let longest = cohort.ages.last().copied().unwrap_or(0.0);
        2 * suspects.iter().filter(|open| open.age > longest).count() < count
    });
    let mut steps = vec![
        format!(
            "{} open, {} closed, {count} stand out; it takes {}",
            cohort.open.len(),
            cohort.closed,
            patience.survivors
        ),
        format!("left alone for up to {}; it takes {}", duration_words(waited), duration_words(patience.seconds)),
    ];
    steps.extend(passed_over.map(|times| format!("{times} were opened since the middle one of them was used last")));
    if count > 0 {
        let later = 100.0 * openings.later_share();
        steps.push(format!("opened in {} of 20 parts of the time, {later:.0}% in the later half", openings.parts()));
    }
    let is_over = openings.are_over();
    let rate = openings.rate().filter(|_| is_leak && !has_stopped);
    let last_opened = suspects.iter().map(|open| open.lifetime.opened).max();
    let has_yardstick = cohort.has_yardstick();
    for open in &mut cohort.open {
        // A few are not carried by their number, and where nothing is closed nothing but their number speaks.
        let is_luck = is_few && !(has_yardstick && open.probability.is_some_and(|it| it > FEW_FROM));
        // What was there before and has no silence (standard output, a log) shows nothing but its age.
        let is_mute = open.lifetime.is_older_than_recording() && (!is_leak || open.silent.is_none());
        let is_spared = open.is_sure() && !is_mute && drained.is_none();
        if (is_healthy || is_too_early || is_luck || is_mute || drained.is_some()) && !is_spared {
            open.probability = open.probability.map(|probability| probability.min(Judged::LEAKED_FROM));
        }
    }
    if let Some(drained) = drained {
        steps.extend(drained.steps.iter().cloned());
        return Some(drained.judgement(watch, group, cohort, steps));
    }
    // What came in the first half of the time and not again is settled, and no doubt any more, unless it came as a leak.
    let mut leaked: Vec<&Open> = cohort.open.iter().filter(|open| open.is_flagged()).collect();
    if count == 0 || (!is_leak && !must_wait && is_over && leaked.is_empty() && !is_forgotten) {
        return None;
    }
    leaked.sort_by_key(|open| open.lifetime.opened);
    Some(GroupJudgement {
        kind: if is_leak { Verdict::Leak } else { Verdict::Undecided },
        leaked: leaked.iter().map(|open| open.lifetime.id).collect(),
        // With those that were left open before the watch began, where there are any.
        since: leaked.first().filter(|_| is_leak).map(|open| open.lifetime.opened),
        stopped: last_opened.filter(|_| is_leak && has_stopped),
        rate: match last_opened {
            Some(last) if is_leak && has_stopped => Some(none_since(watch.at.seconds_since(last))),
            _ => rate,
        },
        confidence: confidence.min(0.999),
        open: cohort.open.len(),
        suspects: count,
        closed: cohort.closed,
        longest_closed_seconds: cohort.ages.last().copied(),
        longest_closed_silence_seconds,
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
        shortest_silence_seconds: None,
        steps,
        doubt,
        group: group.clone(),
    })
}

/// The rate where none came for so long: none, and at most what may have stayed away by luck.
fn none_since(seconds: f64) -> Rate {
    let hours = seconds.max(1.0) / 3_600.0;
    Rate { per_hour: 0.0, low: 0.0, high: poisson_interval(0.0).1 / hours }
}

fn is_connection(group: &Group) -> bool {
    !group.endpoint.is_empty() && matches!(group.kind, Kind::Tcp | Kind::Udp | Kind::Unix)
}

/// The longest of a length that some have.
pub(super) fn longest_of(open: &[&Open], length: fn(&Open) -> Option<f64>) -> Option<f64> {
    open.iter().filter_map(|open| length(open)).reduce(f64::max)
}
