//! What watching may cost: its share of one core over the latest ticks, and the interval that keeps within `--max-cost`.

use crate::model::{Timestamp, duration_words};
use std::collections::VecDeque;
use std::time::Duration;

/// Ticks that a share is told from. One alone may have met a verdict or the sealing of a segment, which come seldom.
const TICKS: usize = 6;

/// The shortest time it is told from.
const SPAN_SECONDS_MIN: f64 = 1.0;

/// The interval is never made longer than so many times what was asked for: a watch that hardly looks is none.
const LONGEST: u32 = 10;

/// The running account.
#[derive(Debug)]
pub(crate) struct Budget {
    /// The share of one core that is allowed; `None` where any is.
    most: Option<f64>,
    asked: Duration,
    every: Duration,
    /// CPU time so far at the latest ticks, with the interval as it is now.
    spent: VecDeque<(Timestamp, f64)>,
    has_given_up: bool,
}

impl Budget {
    /// An account of ticks that come `every` so often.
    pub(crate) fn new(every: Duration, most: Option<f64>) -> Self {
        Budget { most, asked: every, every, spent: VecDeque::new(), has_given_up: false }
    }

    /// The interval that keeps within it, as far as is known by now.
    pub(crate) fn every(&self) -> Duration {
        self.every
    }

    /// Takes in the CPU time used by a tick; tells the share of one core over the latest ticks.
    pub(crate) fn spend(&mut self, at: Timestamp, cpu_seconds: f64) -> Option<f64> {
        self.spent.push_back((at, cpu_seconds));
        while self.spent.len() > TICKS && at.seconds_since(self.spent[1].0) >= SPAN_SECONDS_MIN {
            self.spent.pop_front();
        }
        let (since, before) = *self.spent.front()?;
        let span = at.seconds_since(since);
        (span > 0.0).then(|| (cpu_seconds - before) / span)
    }

    /// Lengthens the interval where that is due. Says so, and why.
    pub(crate) fn keep_within(&mut self, share: Option<f64>) -> Option<String> {
        let (most, share) = (self.most?, share?);
        let span = self.spent.back()?.0.seconds_since(self.spent.front()?.0);
        if share <= most || self.spent.len() < TICKS || span < SPAN_SECONDS_MIN {
            return None;
        }
        let longest = self.asked * LONGEST;
        let before = duration_words(self.every.as_secs_f64());
        // 0.01 times 100 is not quite 1.
        let allowed = (most * 1e11).round() / 1e9;
        let cost = format!("watching took {:.2}% of one core, more than --max-cost {allowed}%", 100.0 * share);
        if self.every == longest {
            let is_news = !std::mem::replace(&mut self.has_given_up, true);
            return is_news
                .then(|| format!("{cost}, also every {before}, and seldomer than that would see too little"));
        }
        self.every = (self.every * 2).min(longest);
        // What was spent at the shorter interval says nothing of the longer one.
        let latest = self.spent.pop_back();
        self.spent = latest.into_iter().collect();
        Some(format!(
            "{cost}: a tick every {} from here on, no longer every {before}",
            duration_words(self.every.as_secs_f64())
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The intervals, in ms, of a watch whose every tick takes so many seconds of CPU, and what was said.
    fn watched(most: f64, tick_seconds: f64, ticks: usize) -> (Vec<u128>, Vec<String>) {
        let mut budget = Budget::new(Duration::from_secs(1), Some(most));
        let (mut at, mut cpu) = (Timestamp(0), 0.0);
        let (mut every, mut said) = (vec![1_000], Vec::new());
        for _ in 0..ticks {
            let share = budget.spend(at, cpu);
            said.extend(budget.keep_within(share));
            if every.last() != Some(&budget.every().as_millis()) {
                every.push(budget.every().as_millis());
            }
            (at, cpu) = (at + budget.every(), cpu + tick_seconds);
        }
        (every, said)
    }

    #[test]
    fn the_interval_is_doubled_until_it_fits() {
        assert_eq!(watched(0.01, 0.009, 100), (vec![1_000], vec![]));
        let (every, said) = watched(0.01, 0.03, 100);
        assert_eq!(every, [1_000, 2_000, 4_000]);
        assert!(said[0].contains("3.00% of one core, more than --max-cost 1%: a tick every 2 s"), "{said:?}");
    }

    #[test]
    fn it_is_never_lengthened_beyond_sense_and_that_is_said_once() {
        let (every, said) = watched(0.001, 0.5, 200);
        assert_eq!(every, [1_000, 2_000, 4_000, 8_000, 10_000]);
        assert_eq!(said.len(), 5);
        assert!(said[4].contains("also every 10 s"), "{said:?}");
    }

    #[test]
    fn what_is_not_bounded_is_counted_all_the_same() {
        let mut budget = Budget::new(Duration::from_secs(1), None);
        assert_eq!(budget.spend(Timestamp(0), 5.0), None);
        assert_eq!(budget.spend(Timestamp(1_000_000), 5.5), Some(0.5));
        assert_eq!(budget.keep_within(Some(0.5)), None);
    }
}
