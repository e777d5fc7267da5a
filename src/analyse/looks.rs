//! What one look at a series sees: a rise that a leak would make, a rise that may be something else, or none.

use super::bins::{Bin, Block, blocks, samples, since};
use super::falls::{Shape, shape};
use super::season::{Period, Season};
use super::views::{self, Scene, Seen};
use crate::model::{Timestamp, duration_words};

/// With fewer samples nothing is said: 40 make the 24 blocks that a trend's error can be told from.
pub(super) const SAMPLES_MIN: u64 = 40;
const BLOCKS_MIN: usize = 24;
const BLOCKS_MAX: usize = 96;
/// After a restart, the share of all samples that must have come since.
const SHARE_AFTER_RESTART: u64 = 7;

/// A look.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) seen: Seen,
    /// The part of the series that was looked at: its beginning and its length.
    pub(super) start: Timestamp,
    pub(super) span_seconds: f64,
    /// The length of what repeats in it, where something does.
    pub(super) period_seconds: Option<f64>,
    /// The samples in it.
    pub(super) samples: u64,
    pub(super) steps: Vec<String>,
}

/// Looks at the bins of a series whose smallest step is `quantum`. Restarts are known from elsewhere.
pub(super) fn look(bins: &[Bin], quantum: f64, restarts: &[Timestamp], period: Period) -> Look {
    let count = samples(bins);
    let (Some(first), Some(last)) = (bins.first().map(|bin| bin.first), bins.last().map(|bin| bin.last)) else {
        let seen = Seen::TooLittle("no sample yet".into());
        return Look {
            seen,
            start: Timestamp(0),
            span_seconds: 0.0,
            samples: 0,
            period_seconds: None,
            steps: Vec::new(),
        };
    };
    let span = last.seconds_since(first);
    let steps = vec![format!("{count} samples over {}", duration_words(span))];
    let mut look =
        Look { seen: Seen::Nothing, start: first, span_seconds: span, samples: count, period_seconds: None, steps };
    if count < SAMPLES_MIN {
        look.seen = Seen::TooLittle(match count {
            1 => format!("1 sample of the {SAMPLES_MIN} it takes"),
            _ => {
                let more = duration_words(span / (count - 1) as f64 * (SAMPLES_MIN - count) as f64);
                format!("{count} samples of the {SAMPLES_MIN} it takes, about {more} more")
            }
        });
        return look;
    }
    let scene = match shape(bins, restarts) {
        Shape::Teeth(feet) => {
            look.steps.push(format!("a saw of {} falls: read at their feet", feet.len()));
            Scene::of_teeth(&feet, first, last, quantum)
        }
        Shape::Since(from) => {
            let part = since(bins, from);
            look.samples = samples(part);
            if from > first {
                let needed = SAMPLES_MIN.max(count / SHARE_AFTER_RESTART);
                let ago = duration_words(last.seconds_since(from));
                look.steps.push(format!("fell back {ago} before the end: {} samples since", look.samples));
                if look.samples < needed {
                    let more = duration_words(span / count as f64 * (needed - look.samples) as f64);
                    look.seen = Seen::TooLittle(format!(
                        "it fell back {ago} ago, and the time since tells too little; about {more} more will"
                    ));
                    return look;
                }
            }
            scene_of(part, look.samples, quantum, period)
        }
    };
    (look.start, look.span_seconds, look.period_seconds) =
        (scene.start, scene.span_seconds, scene.season.period_seconds);
    look.seen = views::look(&scene, &mut look.steps);
    look
}

fn scene_of(part: &[Bin], samples: u64, quantum: f64, period: Period) -> Scene {
    let wanted = ((samples / 6) as usize).clamp(BLOCKS_MIN, BLOCKS_MAX);
    let blocks: Vec<Block> = blocks(part, wanted);
    let (start, end) = part.first().zip(part.last()).map_or_else(Default::default, |(a, b)| (a.first, b.last));
    let span_seconds = end.seconds_since(start).max(1e-6);
    let season = Season::find(&blocks, span_seconds, period);
    Scene { blocks, season, start, span_seconds, quantum, is_saw: false }
}
