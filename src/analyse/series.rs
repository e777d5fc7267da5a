//! Is this series a leak? Judged by the floor it stands on.
//!
//! A leak lifts what load, bursts and collections stand on, and goes on doing so. So it's the floor of each block of
//! time that must rise: more than its noise, not by a few lasting steps, not slowing down, and to the very end. Five
//! views are asked in turn, each blind to a disturbance that hides a leak from the others; the first that sees one
//! gives rate and onset.

use super::bins::{Bin, Bins, Block, blocks};
use super::distribution::normal_cdf;
use super::falls::{Shape, shape};
use super::season::Season;
use super::views::{self, Rise, Scene};
use crate::model::{Rate, Timestamp, Verdict, duration_words};

/// With fewer samples nothing is said: 40 make the 24 blocks that a trend's error can be told from.
pub(super) const SAMPLES_MIN: u64 = 40;
const BLOCKS_MIN: usize = 24;
const BLOCKS_MAX: usize = 96;
/// After a restart, the share of all samples that must have come since.
const SHARE_AFTER_RESTART: u64 = 7;
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

impl Judgement {
    fn without_rise(kind: Verdict, reason: String, steps: Vec<String>) -> Self {
        Judgement { kind, rate: None, since: None, confidence: None, reason, steps }
    }
}

/// Judges. `watch_min_seconds` is how long a series of this sort must be seen before a rise in it may be a leak.
pub(super) fn judge(bins: &Bins, restarts: &[Timestamp], watch_min_seconds: f64) -> Judgement {
    let all = bins.since(Timestamp(i64::MIN));
    let (Some(first), Some(last)) = (all.first().map(|bin| bin.first), bins.last.map(|(at, _)| at)) else {
        return Judgement::without_rise(Verdict::Undecided, "no sample yet".into(), Vec::new());
    };
    let span = last.seconds_since(first);
    let mut steps = vec![format!("{} samples over {}", bins.count, duration_words(span))];
    if bins.count < SAMPLES_MIN {
        let more = span / (bins.count.max(2) - 1) as f64 * (SAMPLES_MIN - bins.count) as f64;
        let reason = match bins.count {
            1 => format!("1 sample of the {SAMPLES_MIN} it takes"),
            count => format!("{count} samples of the {SAMPLES_MIN} it takes, about {} more", duration_words(more)),
        };
        return Judgement::without_rise(Verdict::Undecided, reason, steps);
    }
    let scene = match shape(all, restarts) {
        Shape::Teeth(feet) => {
            steps.push(format!("a saw of {} falls: read at their feet", feet.len()));
            Scene::of_teeth(&feet, first, last, bins.quantum())
        }
        Shape::Since(from) => {
            let part = bins.since(from);
            if from > first {
                let samples: u64 = part.iter().map(|bin| bin.count).sum();
                let needed = SAMPLES_MIN.max(bins.count / SHARE_AFTER_RESTART);
                steps.push(format!("fell back {} before the end: {samples} samples since", ago(last, from)));
                if samples < needed {
                    let more = span / bins.count as f64 * (needed - samples) as f64;
                    let reason = format!(
                        "it fell back {} ago, and the time since tells too little; about {} more will",
                        ago(last, from),
                        duration_words(more)
                    );
                    return Judgement::without_rise(Verdict::Undecided, reason, steps);
                }
            }
            scene_of(part, bins.quantum())
        }
    };
    let (rise, doubts) = views::look(&scene, &mut steps);
    let Some(rise) = rise else {
        return match doubts {
            Some(doubt) => {
                let more = duration_words(scene.span_seconds / 2.0);
                let reason = format!("it rises, but {doubt}; about {more} more will tell");
                Judgement::without_rise(Verdict::Undecided, reason, steps)
            }
            None => Judgement::without_rise(
                Verdict::Clean,
                format!("its floor does not rise over {}", duration_words(scene.span_seconds)),
                steps,
            ),
        };
    };
    if span < watch_min_seconds {
        let reason = format!(
            "it rises, as things do that warm up; about {} more will tell",
            duration_words(watch_min_seconds - span)
        );
        return Judgement::without_rise(Verdict::Undecided, reason, steps);
    }
    leak(&scene, &rise, steps)
}

fn leak(scene: &Scene, rise: &Rise, mut steps: Vec<String>) -> Judgement {
    let per_hour = 3_600.0 / scene.span_seconds;
    let spread = (rise.error.powi(2) + (SLOPE_BLUR * rise.slope).powi(2)).sqrt();
    let rate = Rate {
        per_hour: rise.slope * per_hour,
        low: (rise.slope - INTERVAL * spread) * per_hour,
        high: (rise.slope + INTERVAL * spread) * per_hour,
    };
    steps.push(format!("rate and onset by {}", rise.view));
    let onset = scene.start.seconds() + rise.onset * scene.span_seconds;
    Judgement {
        kind: Verdict::Leak,
        rate: Some(rate),
        since: Some(Timestamp::from_seconds(onset)),
        confidence: Some(normal_cdf(1.96 * rise.slope / (INTERVAL * spread)).min(0.999)),
        reason: rise.reason.clone(),
        steps,
    }
}

fn scene_of(part: &[Bin], quantum: f64) -> Scene {
    let samples: u64 = part.iter().map(|bin| bin.count).sum();
    let wanted = ((samples / 6) as usize).clamp(BLOCKS_MIN, BLOCKS_MAX);
    let blocks: Vec<Block> = blocks(part, wanted);
    let (start, end) = part.first().zip(part.last()).map_or_else(Default::default, |(a, b)| (a.first, b.last));
    let span_seconds = end.seconds_since(start).max(1e-6);
    let season = Season::find(&blocks, span_seconds);
    Scene { blocks, season, start, span_seconds, quantum, is_saw: false }
}

fn ago(now: Timestamp, then: Timestamp) -> String {
    duration_words(now.seconds_since(then))
}
