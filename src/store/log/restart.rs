//! Restarts that the values alone show.
//!
//! A count that climbed in many steps and in one falls to about where it began belongs to a process that was started
//! anew; so does one that falls to nothing after it never was nothing, for lsof of a pid that is gone counts 0. Only the
//! clear ones are told: a pool that empties as fast as it fills, a reading that is low once, a fall halfway, a fall as
//! large as others before it are not. Memory that a collector frees and a pool that replaces its connections look the
//! same but fall again and again: where the falls keep a rhythm none is told, and a note says so.

use crate::model::{Event, EventKind, Points, Timestamp};

/// Samples before the fall that are needed to say how the series climbed.
const SAMPLES_BEFORE: usize = 10;

/// Samples after the fall that must stay low, as far as there are so many; one at least.
const SAMPLES_AFTER: usize = 3;

/// Less than this is no fall, whatever it is of.
const FALL_MIN: f64 = 5.0;

/// Of a process that ended no more than a third is open again when the next sample is taken.
const FALL_SHARE_MIN: f64 = 2.0 / 3.0;

/// The fall is this many times as large as any other since the series began anew; less is noise.
const NOISE_RATIO: f64 = 2.5;

/// More falls than this, on average closer together than [`RHYTHM_SAMPLES`], are a rhythm. At the usual 5 s that is one
/// in three hours.
const RHYTHM_FALLS: usize = 4;
const RHYTHM_SAMPLES: usize = 2000;

/// How far above its beginning, as a share of the climb, the series may end up.
const REMAINDER_MAX: f64 = 0.1;

/// What is known since the series began or began anew.
struct Run {
    first: f64,
    low: f64,
    previous: f64,
    rise_max: f64,
    fall_max: f64,
    samples: usize,
}

impl Run {
    fn new(value: f64) -> Run {
        Run { first: value, low: value, previous: value, rise_max: 0.0, fall_max: 0.0, samples: 1 }
    }

    fn add(&mut self, value: f64) {
        self.rise_max = self.rise_max.max(value - self.previous);
        self.fall_max = self.fall_max.max(self.previous - value);
        self.low = self.low.min(value);
        self.previous = value;
        self.samples += 1;
    }

    fn is_ended_by(&self, value: f64, after: &[f64]) -> bool {
        let fall = self.previous - value;
        let large = fall >= FALL_MIN && fall >= self.previous * FALL_SHARE_MIN && fall > NOISE_RATIO * self.fall_max;
        if !large || self.samples < SAMPLES_BEFORE {
            return false;
        }
        let vanished = value == 0.0 && self.low > 0.0;
        let climbed = self.rise_max <= fall / 2.0;
        let anew = value <= self.first + REMAINDER_MAX * (self.previous - self.first);
        let stays = !after.is_empty() && after.iter().all(|next| *next < value + fall / 2.0);
        stays && (vanished || climbed && anew)
    }
}

/// The restarts, or the note why none is told.
///
/// The points come in the order of the lines: sorted by time, two stretches that share a time would seem to fall and rise.
pub(super) fn restarts(points: &Points) -> Result<Vec<Event>, String> {
    let (times, values) = (&points.times, &points.values);
    let Some(first) = values.first() else { return Ok(Vec::new()) };
    let mut run = Run::new(*first);
    let mut events = Vec::new();
    for index in 1..values.len() {
        let value = values[index];
        let after = &values[index + 1..values.len().min(index + 1 + SAMPLES_AFTER)];
        if times[index] < times[index - 1] || run.previous == 0.0 && value > 0.0 {
            run = Run::new(value);
        } else if run.is_ended_by(value, after) {
            events.push(event(times[index], run.previous, value));
            run = Run::new(value);
        } else {
            run.add(value);
        }
    }
    if events.len() > RHYTHM_FALLS && values.len() / events.len() < RHYTHM_SAMPLES {
        let falls = events.len();
        return Err(format!(
            "the value falls {falls} times to about where it began, as with a collector or a pool that renews itself; no restart is told from that"
        ));
    }
    Ok(events)
}

fn event(at: Timestamp, before: f64, value: f64) -> Event {
    let meaning = if value == 0.0 { "the process ended" } else { "the process was started anew" };
    let text = format!("the value fell from {before} to {value} in one step, as where {meaning}");
    Event { at, process: None, kind: EventKind::Restart, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values at which restarts are seen, as `before>after`.
    fn check(values: impl IntoIterator<Item = i32>, expect: &str) {
        let mut points = Points::default();
        for (index, value) in values.into_iter().enumerate() {
            points.push(Timestamp(5_000_000 * index as i64), f64::from(value));
        }
        let Ok(found) = restarts(&points) else { return assert_eq!("rhythm", expect) };
        let numbers = |text: &str| -> String {
            let words: Vec<&str> = text.split(' ').collect();
            format!("{}>{}", words[4], words[6])
        };
        let told: Vec<String> = found.iter().map(|event| numbers(&event.text)).collect();
        assert_eq!(told.join(" "), expect);
    }

    #[test]
    fn a_climb_that_falls_to_its_beginning_is_a_restart() {
        check((10..60).chain(10..60), "59>10");
        check((10..60).chain(12..60).chain(9..30), "59>12 59>9");
        check((500..900).chain(20..40), "899>20");
        // Healthy connections come and go meanwhile.
        check((10..60).map(|count| count + count * 7 % 5).chain(10..60), "62>10");
    }

    #[test]
    fn a_count_of_nothing_is_a_process_that_ended() {
        check((10..60).chain([0; 5]).chain(10..60), "59>0");
        check([40; 20].into_iter().chain([0; 5]), "40>0");
    }

    #[test]
    fn what_is_not_clear_is_not_told() {
        // One reading that failed.
        check((10..60).chain([0]).chain(60..90), "");
        // A pool that fills and empties at once.
        check([2; 20].into_iter().chain([40; 20]).chain([2; 20]).chain([40; 20]), "");
        // A fall halfway.
        check((10..60).chain(35..60), "");
        // A fall that is but the noise.
        check([12, 3, 11, 4, 9, 2, 12, 5, 13, 4, 12, 3, 10, 0, 2, 1], "");
        // A collector's rhythm.
        check((0..9).flat_map(|_| 10..60), "rhythm");
        // Too short to know, too small to matter, or the log ends there.
        check((10..15).chain(0..5), "");
        check([3; 20].into_iter().chain([0; 20]), "");
        check((10..60).chain([10]), "");
    }
}
