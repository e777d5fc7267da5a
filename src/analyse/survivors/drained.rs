//! A pool that was drained to its maximum: all its connections were lent, none is given back, and who asks for one waits.
//!
//! Samples see connections that were used and now all lie silent, and no opening any more, while the rest of the target goes
//! on. A pool that merely rests looks the same, but for one thing: it opened its connections when none lay idle. A drained
//! one was opened one by one while the earlier ones lay silent already, never to be used again. What was there before the
//! watch began shows no such order, so it's not judged.

use super::cohort::{Cohort, Open, is_accepted};
use super::{GroupJudgement, Watch};
use crate::model::{Group, Verdict, duration_words};

/// A pool has so many at the least.
const POOL_MIN: usize = 4;
/// For so long nothing must have happened on any of them: longer than a keep-alive of 75 s and a batch's pause.
const SILENT_SECONDS: f64 = 120.0;
/// ... and this share of the time since the first was opened.
const SILENT_SHARE: f64 = 0.2;
/// Of all but the last, so many lay idle when a later one was opened.
const LENT_SHARE: f64 = 0.75;
/// The first and the last were opened at least so far apart: a pool that fills at once, fills for one burst.
const SPAN_SECONDS: f64 = 5.0;

/// A pool of which nothing is left.
pub(super) struct Drained {
    /// The shortest silence among them.
    silent_seconds: f64,
    pub(super) steps: Vec<String>,
}

/// Looks for it; `outside` is when something last happened in any other group.
pub(super) fn find(watch: &Watch, group: &Group, cohort: &Cohort, outside: Option<f64>) -> Option<Drained> {
    let open = &cohort.open;
    if open.len() < POOL_MIN || is_accepted(group) || open.iter().any(|open| open.lifetime.is_older_than_recording()) {
        return None;
    }
    let silent =
        open.iter().map(|open| open.silent).try_fold(f64::INFINITY, |least, silent| Some(least.min(silent?)))?;
    let first = open.iter().map(|open| open.opened_seconds).fold(f64::INFINITY, f64::min);
    let last = open.iter().map(|open| open.opened_seconds).fold(0.0, f64::max);
    let is_silent = silent >= SILENT_SECONDS.max(SILENT_SHARE * (watch.seconds - first));
    let is_quiet = cohort.last_closed_seconds.is_none_or(|closed| watch.seconds - closed >= SILENT_SECONDS);
    // The target works: something else was used while these lie silent, and lately.
    let is_at_work = outside.is_some_and(|outside| watch.seconds - outside < silent / 4.0);
    if !is_silent || !is_quiet || !is_at_work || last - first < SPAN_SECONDS {
        return None;
    }
    let lent = open.iter().filter(|open| open.passed_over.is_some_and(|count| count > 0)).count();
    let steps = vec![
        format!("all {} are silent for at least {}", open.len(), duration_words(silent)),
        format!("{lent} lay idle when a later one was opened, and weren't used again"),
        "other connections and files of the target were used meanwhile".to_owned(),
    ];
    (lent as f64 >= LENT_SHARE * (open.len() - 1) as f64).then_some(Drained { silent_seconds: silent, steps })
}

impl Drained {
    /// What is said of it.
    pub(super) fn judgement(self, watch: &Watch, group: &Group, cohort: &Cohort, steps: Vec<String>) -> GroupJudgement {
        let mut members: Vec<&Open> = cohort.open.iter().collect();
        members.sort_by_key(|open| open.lifetime.opened);
        let longest = |length: fn(&Open) -> Option<f64>| super::verdict::longest_of(&members, length);
        let last = members.iter().filter_map(|open| open.used_seconds).fold(0.0, f64::max);
        GroupJudgement {
            group: group.clone(),
            kind: Verdict::Plateau,
            leaked: members.iter().map(|open| open.lifetime.id).collect(),
            since: Some(crate::model::Timestamp::from_seconds(watch.from.seconds() + last)),
            stopped: None,
            rate: None,
            // One rival explanation, a pool of single use that rests, is left to what sessions tell.
            confidence: 0.9,
            open: members.len(),
            suspects: members.len(),
            closed: cohort.closed,
            longest_closed_seconds: cohort.ages.last().copied(),
            longest_closed_silence_seconds: None,
            oldest_seconds: longest(|open| Some(open.age)).unwrap_or(0.0),
            longest_silence_seconds: longest(|open| open.silent),
            shortest_silence_seconds: Some(self.silent_seconds),
            doubt: None,
            steps,
        }
    }
}
