//! Is this series a leak? Judged by the floor it stands on, and by whether it was seen again and again.
//!
//! A leak lifts what load, bursts and collections stand on, and goes on doing so. One look ([`look`]) says whether the
//! floor rises as a leak's does. But whoever looks often enough sees any series rise once, so a look counts one vote, and
//! looks are taken in growing time: now, and as of each moment that is 5% further back. A leak is found where 3 of 5 looks in
//! a row saw one, and it's called so until 5 in a row see none or the latest is sure that nothing rises: hysteresis in both
//! directions. Looks are taken at the series itself, not remembered, so that a replay says what was said live.

use super::bins::{Bins, until};
use super::distribution::normal_cdf;
use super::looks::{Look, look};
use super::season::Period;
use super::views::{Rise, Seen};
use crate::model::{Rate, Timestamp, Verdict, duration_words};
use std::cell::OnceCell;

/// The time observed at a look over that at the look after it.
const SHRINK: f64 = 0.95;
/// Looks that vote together.
const VOTERS: usize = 5;
/// So many must have seen the leak. With 2 the labelled series that don't leak were called leaks at some time in 30 of 100
/// cases, with 4 one leak in ten was missed.
const VOTES: usize = 3;
/// One more where all that is seen is a weak sign, and one more where samples are few.
const SAMPLES_FEW: u64 = 300;
/// How far back a leak that flickers is traced: to less than half of the time.
const LOOKS_MAX: usize = 17;
/// Half the width of the 95% interval in standard errors. The normal 1.96 would be too narrow, for knee, season and
/// view were chosen by the same data; this covers 95 of 100 on labelled series.
const INTERVAL: f64 = 5.1;
/// What a slope is never better known than, as a share of it: leaks are no clockwork.
const SLOPE_BLUR: f64 = 0.03;

/// What was found in one series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judgement {
    pub(super) kind: Verdict,
    pub(super) rate: Option<Rate>,
    pub(super) since: Option<Timestamp>,
    pub(super) confidence: Option<f64>,
    /// Why, to stand after a colon.
    pub(super) reason: String,
    pub(super) steps: Vec<String>,
}

/// Judges. `watch_min_seconds` is how long a series of this sort must be seen before a rise in it may be a leak.
pub(super) fn judge(bins: &Bins, restarts: &[Timestamp], watch_min_seconds: f64) -> Judgement {
    let looks = Looks::of(bins, restarts);
    let now = looks.back(0);
    let steps = now.steps.clone();
    let more = |seconds: f64| format!("about {} more will tell", duration_words(seconds));
    let (doubt, found) = match &now.seen {
        Seen::TooLittle(reason) => return without_rise(Verdict::Undecided, reason.clone(), steps),
        Seen::Nothing => {
            let reason = format!("its floor does not rise over {}", duration_words(now.span_seconds));
            return without_rise(Verdict::Clean, reason, steps);
        }
        Seen::Start(doubt) => (Some(*doubt), None),
        Seen::Doubt(doubt) => (Some(doubt.as_str()), looks.verdict()),
        Seen::Rise(_) => (None, looks.verdict()),
    };
    let reason = match (found, doubt) {
        (Some((look, rise)), _) if looks.span_seconds >= watch_min_seconds => return leak(&looks, look, rise, steps),
        (Some(_), _) => {
            format!("it rises, as things do that warm up; {}", more(watch_min_seconds - looks.span_seconds))
        }
        (None, Some(doubt)) => format!("it rises, but {doubt}; {}", more(now.span_seconds / 2.0)),
        (None, None) => format!("it rises, but not for long yet; {}", more(looks.missing_seconds())),
    };
    without_rise(Verdict::Undecided, reason, steps)
}

/// A vote among looks.
struct Votes {
    seen: usize,
    looks: usize,
    needed: usize,
}

/// A series at several moments.
struct Looks<'a> {
    bins: &'a Bins,
    restarts: &'a [Timestamp],
    first: Timestamp,
    span_seconds: f64,
    taken: [OnceCell<Look>; LOOKS_MAX],
}

impl<'a> Looks<'a> {
    fn of(bins: &'a Bins, restarts: &'a [Timestamp]) -> Self {
        let first = bins.all().first().map_or(Timestamp(0), |bin| bin.first);
        let span_seconds = bins.last.map_or(0.0, |(last, _)| last.seconds_since(first));
        Looks { bins, restarts, first, span_seconds, taken: [const { OnceCell::new() }; LOOKS_MAX] }
    }

    /// The look as of a moment so many steps back.
    fn back(&self, steps: usize) -> &Look {
        self.taken[steps].get_or_init(|| {
            if steps == 0 {
                return look(self.bins.all(), self.bins.quantum(), self.restarts, Period::Any);
            }
            let seconds = self.span_seconds * SHRINK.powi(steps as i32);
            let then = Timestamp::from_seconds(self.first.seconds() + seconds);
            let restarts = &self.restarts[..self.restarts.partition_point(|restart| *restart <= then)];
            let period = Period::Known(self.back(0).period_seconds);
            look(until(self.bins.all(), then), self.bins.quantum(), restarts, period)
        })
    }

    fn rise(&self, steps: usize) -> Option<(&Look, &Rise)> {
        match &self.back(steps).seen {
            Seen::Rise(rise) => Some((self.back(steps), rise)),
            _ => None,
        }
    }

    /// The votes of the looks from one on: how many saw a leak, of how many, and how many it takes. No further look is taken
    /// once there are enough.
    fn votes(&self, from: usize) -> Votes {
        let mut votes = Votes { seen: 0, looks: 0, needed: VOTERS };
        let mut is_weak = true;
        while votes.looks < VOTERS && votes.seen < votes.needed {
            if let Some((_, rise)) = self.rise(from + votes.looks) {
                votes.seen += 1;
                is_weak &= rise.is_weak;
            }
            votes.looks += 1;
            votes.needed = VOTES + usize::from(is_weak) + usize::from(self.back(from).samples < SAMPLES_FEW);
        }
        votes
    }

    /// The latest rise that was seen, if it's a leak by the rule above.
    fn verdict(&self) -> Option<(&Look, &Rise)> {
        for from in 0..=LOOKS_MAX - VOTERS {
            let votes = self.votes(from);
            if votes.seen >= votes.needed {
                return (0..LOOKS_MAX).find_map(|steps| self.rise(steps));
            }
            if votes.seen == 0 {
                return None;
            }
        }
        None
    }

    /// How long until the votes that are missing now are there, if nothing changes.
    fn missing_seconds(&self) -> f64 {
        let votes = self.votes(0);
        (1.0 / SHRINK.powi(votes.needed.saturating_sub(votes.seen) as i32) - 1.0) * self.span_seconds
    }
}

fn without_rise(kind: Verdict, reason: String, steps: Vec<String>) -> Judgement {
    Judgement { kind, rate: None, since: None, confidence: None, reason, steps }
}

fn leak(looks: &Looks, look: &Look, rise: &Rise, mut steps: Vec<String>) -> Judgement {
    let per_hour = 3_600.0 / look.span_seconds;
    let spread = (rise.error.powi(2) + (SLOPE_BLUR * rise.slope).powi(2)).sqrt();
    let rate = Rate {
        per_hour: rise.slope * per_hour,
        low: (rise.slope - INTERVAL * spread) * per_hour,
        high: (rise.slope + INTERVAL * spread) * per_hour,
    };
    let Votes { seen, looks, needed } = looks.votes(0);
    steps.push(format!(
        "seen by {seen} of the latest {looks} looks, each 5% of the time further back; it takes {needed} of {VOTERS}"
    ));
    steps.push(format!("rate and onset by {}", rise.view));
    Judgement {
        kind: Verdict::Leak,
        rate: Some(rate),
        since: Some(Timestamp::from_seconds(look.start.seconds() + rise.onset * look.span_seconds)),
        confidence: Some(normal_cdf(1.96 * rise.slope / (INTERVAL * spread)).min(0.999)),
        reason: rise.reason.clone(),
        steps,
    }
}

#[cfg(test)]
mod tests {
    use super::super::trend::tests::noise;
    use super::*;

    /// A judgement on a value every 10 s.
    fn judged(count: usize, value: impl Fn(f64) -> f64) -> Judgement {
        let mut bins = Bins::default();
        for i in 0..count {
            bins.add(Timestamp(i as i64 * 10_000_000), (value(i as f64) + noise(i as u64)).round());
        }
        judge(&bins, &[], 0.0)
    }

    #[test]
    fn a_leak_that_has_just_begun_is_undecided_and_says_when_it_will_be_told() {
        let begun_at = |begin: f64| judged(1_000, |i| 40.0 + (i - begin).max(0.0) / 5.0);
        assert_eq!(begun_at(500.0).kind, Verdict::Leak);
        let late = begun_at(880.0);
        assert_eq!(late.kind, Verdict::Undecided, "{late:?}");
        assert!(late.reason.contains("more will tell"), "{}", late.reason);
    }

    #[test]
    fn a_leak_that_ended_is_called_one_until_it_is_sure_that_nothing_rises() {
        let ended_at = |end: f64| judged(1_000, |i| 40.0 + i.min(end) / 5.0).kind;
        assert_eq!([ended_at(1_000.0), ended_at(900.0)], [Verdict::Leak; 2]);
        assert_ne!(ended_at(300.0), Verdict::Leak);
    }

    #[test]
    fn what_starts_is_undecided_and_what_rises_after_a_start_is_a_leak() {
        let start = |i: f64| 100.0 - 100.0 * (i.min(1_000.0) * std::f64::consts::PI / 1_000.0).cos();
        let starting = judged(600, start);
        assert_eq!(starting.kind, Verdict::Undecided, "{starting:?}");
        assert!(starting.reason.contains("began at nothing"), "{}", starting.reason);
        assert_ne!(judged(5_000, start).kind, Verdict::Leak);
        let fills = |i: f64| 100.0 + 80.0 * (1.0 + i / 20.0).ln();
        assert_eq!(judged(1_500, fills).kind, Verdict::Undecided);
        assert_eq!(judged(3_000, |i| fills(i.min(600.0)) + i / 20.0).kind, Verdict::Leak);
    }
}
