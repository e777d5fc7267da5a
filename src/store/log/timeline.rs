//! The samples of a log put in order of time, and the holes between them.

use crate::model::{Gap, Points, Timestamp, duration_words};

/// A step this many times as long as the usual one is a gap.
const GAP_STEPS: f64 = 2.5;

/// The same where the log has no usual step: events come in bursts, and only a far longer silence is a hole.
const GAP_STEPS_IRREGULAR: f64 = 25.0;

/// Steps on either side that tell what is usual at some place. The interval may change in the middle of a log.
const NEIGHBOURS: usize = 10;

/// A jump back of at most this many steps is disorder (two writers, a late line); a longer one is a clock that was set
/// back, or logs joined.
const DISORDER_STEPS: f64 = 10.0;

/// The median of a thousand steps is as good as that of a million.
const STEPS_SAMPLED: usize = 1 << 16;

/// The usual time from one sample to the next, in seconds: the median, steps back left out.
pub(super) fn usual_interval(times: &[Timestamp]) -> Option<f64> {
    let stride = (times.len() / STEPS_SAMPLED).max(1);
    let mut steps: Vec<i64> = (1..times.len())
        .step_by(stride)
        .map(|index| times[index].0 - times[index - 1].0)
        .filter(|step| *step > 0)
        .collect();
    if steps.is_empty() {
        return None;
    }
    let middle = steps.len() / 2;
    Some(*steps.select_nth_unstable(middle).1 as f64 / 1e6)
}

/// A place where the log jumps back in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepBack {
    /// The index of the sample that is earlier than the one before it.
    pub(super) index: usize,
    /// The number of its line.
    pub(super) line: u64,
}

/// Sorts the samples by time, those of one time staying in their order, and tells what was out of order.
///
/// No sample is dropped and no time is changed, whichever clock was right: where a clock was set back, the two stretches
/// interleave over the time that they share, and the note says from which line on.
pub(super) fn sort(points: &mut Points, steps_back: &[StepBack], interval: Option<f64>) -> Vec<String> {
    const STEPS_TOLD_MAX: usize = 10;
    if steps_back.is_empty() {
        return Vec::new();
    }
    let disorder_max = interval.unwrap_or(0.0) * DISORDER_STEPS;
    let length = |step: &StepBack| points.times[step.index - 1].seconds_since(points.times[step.index]);
    let (small, large): (Vec<_>, Vec<_>) = steps_back.iter().partition(|step| length(step) <= disorder_max);
    let mut notes = Vec::new();
    if !small.is_empty() {
        let most = small.iter().map(length).fold(0.0, f64::max);
        let lines = if small.len() == 1 { "1 line was".to_owned() } else { format!("{} lines were", small.len()) };
        notes.push(format!("{lines} out of order, by up to {}, and sorted in by time", duration_words(most)));
    }
    for step in large.iter().take(STEPS_TOLD_MAX) {
        notes.push(format!(
            "line {}: the time steps back by {}, as where a clock was set back or logs were joined; all samples are kept, sorted by time",
            step.line,
            duration_words(length(step))
        ));
    }
    if large.len() > STEPS_TOLD_MAX {
        notes.push(format!("the time steps back at {} further lines", large.len() - STEPS_TOLD_MAX));
    }
    let mut order: Vec<usize> = (0..points.len()).collect();
    // The sort is stable, and fast on the few runs that such a log consists of.
    order.sort_by_key(|index| points.times[*index]);
    points.times = order.iter().map(|index| points.times[*index]).collect();
    points.values = order.iter().map(|index| points.values[*index]).collect();
    notes
}

/// Leaves the last sample of each time; gives the number of those dropped.
pub(super) fn drop_duplicates(points: &mut Points) -> usize {
    let mut kept = 0;
    for index in 0..points.len() {
        if index > 0 && points.times[index] == points.times[kept - 1] {
            points.values[kept - 1] = points.values[index];
            continue;
        }
        points.times[kept] = points.times[index];
        points.values[kept] = points.values[index];
        kept += 1;
    }
    let dropped = points.len() - kept;
    points.times.truncate(kept);
    points.values.truncate(kept);
    dropped
}

/// The holes: steps much longer than is usual for the whole log and at that place.
pub(super) fn gaps(times: &[Timestamp], interval: Option<f64>) -> Vec<Gap> {
    let Some(interval) = interval else { return Vec::new() };
    let mut gaps = Vec::new();
    for (index, pair) in times.windows(2).enumerate() {
        let step = pair[1].seconds_since(pair[0]);
        if step <= GAP_STEPS * interval {
            continue;
        }
        let here = Usual::around(times, index);
        let steps = if here.regular { GAP_STEPS } else { GAP_STEPS_IRREGULAR };
        if step > steps * here.seconds.max(interval) {
            let (missing, usual) = (duration_words(step), duration_words(here.seconds));
            let reason = format!("no line for {missing}, where one comes every {usual}");
            gaps.push(Gap { from: pair[0], to: pair[1], series: None, reason });
        }
    }
    gaps
}

/// The step that is usual at some place.
struct Usual {
    seconds: f64,
    /// True where at least half of the steps are about as long.
    regular: bool,
}

impl Usual {
    /// What is usual around the step that follows the sample `index`.
    fn around(times: &[Timestamp], index: usize) -> Usual {
        let near = &times[index.saturating_sub(NEIGHBOURS)..(index + NEIGHBOURS + 2).min(times.len())];
        let mut steps = [0.0; 2 * NEIGHBOURS + 1];
        let steps = &mut steps[..near.len() - 1];
        for (step, pair) in steps.iter_mut().zip(near.windows(2)) {
            *step = pair[1].seconds_since(pair[0]);
        }
        steps.sort_by(f64::total_cmp);
        // The lower median: of two steps, the longer one is the hole.
        let seconds = steps[(steps.len() - 1) / 2];
        let alike = steps.iter().filter(|step| (0.5 * seconds..=1.5 * seconds).contains(*step)).count();
        Usual { seconds, regular: 2 * alike >= steps.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: &[f64]) -> Vec<Timestamp> {
        seconds.iter().map(|second| Timestamp::from_seconds(*second)).collect()
    }

    /// The gaps of a log with these times, as `from-to`.
    fn check(seconds: &[f64], expect: &str) {
        let times = at(seconds);
        let found = gaps(&times, usual_interval(&times));
        let told: Vec<String> =
            found.iter().map(|gap| format!("{}-{}", gap.from.seconds(), gap.to.seconds())).collect();
        assert_eq!(told.join(" "), expect);
    }

    #[test]
    fn a_gap_is_a_step_much_longer_than_usual() {
        check(&[0.0, 5.0, 10.0, 22.0, 27.0], "");
        check(&[0.0, 5.0, 10.0, 23.0, 28.0], "10-23");
        check(&[0.0, 5.0, 100.0, 105.0, 300.0, 305.0], "5-100 105-300");
        check(&[0.0, 5.0], "");
        check(&[], "");
    }

    #[test]
    fn a_new_interval_is_no_row_of_gaps() {
        let mut times: Vec<f64> = (0..100).map(|i| 5.0 * f64::from(i)).collect();
        times.extend((1..100).map(|i| 495.0 + 60.0 * f64::from(i)));
        check(&times, "");
        times.push(7000.0);
        check(&times, "6435-7000");
    }

    #[test]
    fn a_log_of_bursts_has_a_gap_only_where_it_is_really_silent() {
        // Steps of an exponential distribution by its quantiles, stirred.
        let mut now = 0.0;
        let mut times: Vec<f64> = Vec::new();
        for i in 0..499 {
            let quantile = f64::from(i * 197 % 499) / 499.0;
            now += -(1.0 - quantile).ln() * 10.0;
            times.push(now);
        }
        check(&times, "");
    }

    #[test]
    fn the_last_of_one_time_wins() {
        let mut points =
            Points { times: at(&[1.0, 1.0, 2.0, 3.0, 3.0, 3.0]), values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
        assert_eq!(drop_duplicates(&mut points), 3);
        assert_eq!(points, Points { times: at(&[1.0, 2.0, 3.0]), values: vec![2.0, 3.0, 6.0] });
    }
}
