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
    let doubt = match &now.seen {
        Seen::TooLittle(reason) => return without_rise(Verdict::Undecided, reason.clone(), steps),
        Seen::Nothing => {
            let reason = format!("its floor does not rise over {}", duration_words(now.span_seconds));
            return without_rise(Verdict::Clean, reason, steps);
        }
        Seen::Start(doubt) => {
            let reason = format!("it rises, but {doubt}; {}", more(now.span_seconds / 2.0));
            return without_rise(Verdict::Undecided, reason, steps);
        }
        Seen::Doubt(doubt) => Some(doubt),
        Seen::Rise(_) => None,
    };
    let reason = match (looks.verdict(), doubt) {
        (Some((look, rise)), _) if looks.span_seconds >= watch_min_seconds => return leak(&looks, look, rise, steps),
        (Some(_), _) => {
            format!("it rises, as things do that warm up; {}", more(watch_min_seconds - looks.span_seconds))
        }
        (None, Some(doubt)) => format!("it rises, but {doubt}; {}", more(now.span_seconds / 2.0)),
        (None, None) => format!("it rises, but not for long yet; {}", more(looks.missing_seconds())),
    };
    without_rise(Verdict::Undecided, reason, steps)
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

    /// The votes of the looks from one on, and how many it takes.
    fn votes(&self, from: usize) -> (usize, usize) {
        let voters = || (from..from + VOTERS).filter_map(|steps| self.rise(steps));
        let is_weak = voters().all(|(_, rise)| rise.is_weak);
        let is_few = self.back(from).samples < SAMPLES_FEW;
        (voters().count(), VOTES + usize::from(is_weak) + usize::from(is_few))
    }

    /// The latest rise that was seen, if it's a leak by the rule above.
    fn verdict(&self) -> Option<(&Look, &Rise)> {
        for from in 0..=LOOKS_MAX - VOTERS {
            match self.votes(from) {
                (0, _) => return None,
                (votes, needed) if votes >= needed => return (0..LOOKS_MAX).find_map(|steps| self.rise(steps)),
                _ => {}
            }
        }
        None
    }

    /// How long until the votes that are missing now are there, if nothing changes.
    fn missing_seconds(&self) -> f64 {
        let (votes, needed) = self.votes(0);
        (1.0 / SHRINK.powi(needed.saturating_sub(votes) as i32) - 1.0) * self.span_seconds
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
    let (votes, needed) = looks.votes(0);
    steps.push(format!(
        "{votes} of the latest {VOTERS} looks, each 5% of the time further back, saw a leak; it takes {needed}"
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
