//! The probability that an open one is never closed: against what was closed, or by the openings alone.

use super::super::openings::Openings;
use super::Watch;
use super::cohort::Cohort;
use super::patience::PASSED_OVER_MIN;
use crate::model::Judged;

/// Closings from which a group has a yardstick of its own.
const CLOSINGS_MIN: usize = 8;
/// The tail beyond the longest closed lifetime falls with this power of the length: heavier than any exponential, for
/// lifetimes of connections are heavy-tailed.
const TAIL_POWER: f64 = 1.5;
/// No silence and no age below this is one: clients think, and pools rest.
pub(super) const SILENCE_MIN_SECONDS: f64 = 10.0;
/// Age alone convicts from this probability on, silence from [`Judged::LEAKED_FROM`].
const BY_AGE_FROM: f64 = 0.8;

/// Of fewer closings an age is told where there are at least so many, ...
const CLOSINGS_FEW: usize = 3;
/// ... as many open ones are older than all of them ...
const OUTLIVED_MIN: usize = 8;
/// ... and the probability is above this: three closings are a short yardstick. On six sets of another hand it found more
/// talking leaks on three and cost precision on two (.005 and .003).
const BY_FEW_FROM: f64 = 0.9;

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
/// So many that are used again and again show the pause that is usual between two uses.
const USED_AGAIN_MIN: usize = 3;
/// No heartbeat pauses for longer; who rests longer may have been forgotten after long use.
const HEARTBEAT_MAX_SECONDS: f64 = 120.0;

impl Cohort<'_> {
    /// True where enough was closed to hold the open ones against.
    pub(super) fn has_yardstick(&self) -> bool {
        self.ages.len() >= CLOSINGS_MIN
    }

    /// Gives each open one its probability.
    pub(super) fn weigh(&mut self, watch: &Watch) {
        if self.has_yardstick() {
            self.weigh_against_closed(watch);
        } else {
            self.weigh_by_openings(watch);
            self.weigh_against_few(watch);
        }
    }

    /// Few were closed, yet all of them long before: many that are older by far are leaked though they still talk, as
    /// heartbeats do.
    fn weigh_against_few(&mut self, watch: &Watch) {
        let has_silence = self.open.iter().all(|open| open.silent.is_some());
        if self.ages.len() < CLOSINGS_FEW || !has_silence {
            return;
        }
        let by_age = Yardstick::new(&self.ages, self.open.iter().map(|open| open.age));
        let outlived = self.open.iter().filter(|open| open.age > by_age.longest).count();
        if outlived < OUTLIVED_MIN || by_age.longest >= watch.seconds / 2.0 {
            return;
        }
        let pools_are_open = pools_are_open(watch);
        for open in self.open.iter_mut().filter(|open| open.opened_seconds >= pools_are_open) {
            let probability = by_age.probability(open.age);
            if probability > BY_FEW_FROM && open.probability.is_none_or(|known| known < probability) {
                open.probability = Some(probability);
                open.told_by_silence = false;
                open.recognised_after = by_age.longest;
            }
        }
    }

    /// Age and silence of each open one against those that were closed.
    fn weigh_against_closed(&mut self, watch: &Watch) {
        let by_age = Yardstick::new(&self.ages, self.open.iter().map(|open| open.age));
        let by_silence = (self.silences.len() >= CLOSINGS_MIN)
            .then(|| Yardstick::new(&self.silences, self.open.iter().filter_map(|open| open.silent)));
        let (longest_life, longest_silence) = (by_age.longest, by_silence.as_ref().map(|yardstick| yardstick.longest));
        let pools_are_open = pools_are_open(watch);
        for open in &mut self.open {
            let silent = by_silence.as_ref().zip(open.silent);
            let by_silence = silent.map_or(0.0, |(yardstick, silent)| yardstick.probability(silent));
            let by_age = by_age.probability(open.age);
            // Age alone is the weaker witness: those who talk for long are not all leaked, least of all those that
            // were there at the start, as a pool's are.
            let is_of_start = open.silent.is_some() && open.opened_seconds < pools_are_open;
            let by_age = if by_age > BY_AGE_FROM && !is_of_start { by_age } else { by_age.min(Judged::LEAKED_FROM) };
            open.probability = Some(by_age.max(by_silence));
            let stands_out = by_silence > Judged::LEAKED_FROM;
            open.told_by_silence = stands_out && open.is_told_by_silence(watch);
            open.recognised_after = match longest_silence {
                Some(longest_silence) if stands_out => longest_silence,
                _ => longest_life,
            };
        }
    }

    /// Next to nothing is closed here, so the openings tell: links that last are opened at the beginning and kept, a
    /// leak goes on.
    fn weigh_by_openings(&mut self, watch: &Watch) {
        let seen = self.open.iter().filter(|open| !open.lifetime.is_older_than_recording());
        let openings: Vec<f64> = seen.map(|open| open.opened_seconds).collect();
        let count = openings.len() as f64;
        let late = openings.iter().filter(|opened| **opened > START * watch.seconds).count();
        let has_silence = self.open.iter().any(|open| open.silent.is_some());
        let few = if has_silence { LATE_MIN } else { LATE_MIN_BY_AGE };
        let usual = self.usual_pause(has_silence);
        let spread = Openings::new(openings, watch.seconds, usual);
        let is_of_links = late < few
            || (late as f64) < LATE_SHARE_MIN * count
            || count < self.ages.len() as f64
            || (spread.objection(watch.is_early()).is_some() && !spread.went_on());
        // Even of links that last, one that is passed over by later ones is in nobody's hands; at the start each passes
        // over those before it.
        let (is_asked, recognised_after) = match self.passing_seconds(watch) {
            _ if !is_of_links => (false, usual),
            Some(passing) if late >= PASSED_OVER_MIN => (true, usual.max(passing)),
            _ => return,
        };
        for open in &mut self.open {
            let is_left = open.silent.unwrap_or(open.age) > usual && (!is_asked || open.is_passed_over());
            open.probability = is_left.then_some(count / (count + 1.0));
            open.told_by_silence = open.is_told_by_silence(watch);
            open.recognised_after = recognised_after;
        }
    }

    /// Gives those of which nothing tells what none of so many gives: less than one of them is leaked, and half is the
    /// middle of that.
    pub(super) fn presume(&mut self) {
        let share = 0.5 / (self.open.len() as f64 + self.closed as f64 + 1.0);
        for open in &mut self.open {
            open.probability.get_or_insert(share);
        }
    }

    /// A silence (or age) that is nothing special here: that of the few that were closed all the same, and the pause
    /// between two heartbeats of those that are used again and again.
    fn usual_pause(&self, has_silence: bool) -> f64 {
        let closed = if has_silence { self.silences.last() } else { self.ages.last() };
        let mut pauses: Vec<f64> =
            self.open.iter().filter(|open| open.was_used_again()).filter_map(|open| open.silent).collect();
        pauses.sort_unstable_by(f64::total_cmp);
        // A pause that is under way is on average half over.
        let between = match pauses.len() {
            USED_AGAIN_MIN.. => (2.0 * pauses[pauses.len() / 2]).min(HEARTBEAT_MAX_SECONDS),
            _ => 0.0,
        };
        closed.copied().unwrap_or(0.0).max(between).max(SILENCE_MIN_SECONDS)
    }
}

/// When the pools of a program that starts with the watch have opened, in seconds since it began.
fn pools_are_open(watch: &Watch) -> f64 {
    (POOLS_OPEN * watch.seconds).max(POOLS_OPEN_SECONDS)
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
