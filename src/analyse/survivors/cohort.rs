//! One group's lifetimes, reduced to what is compared.

use super::Watch;
use super::patience::PASSED_OVER_MIN;
use crate::model::{Group, Judged, Kind, Lifetime, State};

/// One that was silent for less than this share of its age was used again since it was opened.
const USED_AGAIN: f64 = 1.0 / 3.0;
/// One that still talks must be this many times as old as one that is silent.
const TALKING: f64 = 5.0;

/// The lifetimes of a group.
#[derive(Default)]
pub(super) struct Cohort<'a> {
    pub(super) open: Vec<Open<'a>>,
    /// Ages at the closing, in rising order.
    pub(super) ages: Vec<f64>,
    /// Silences at the closing, in rising order.
    pub(super) silences: Vec<f64>,
    /// The earliest moments at which those that were seen to come may have been opened, in rising order.
    openings: Vec<f64>,
    /// How many were closed, sampled or not.
    pub(super) closed: u64,
    /// When something was last opened, used or closed, in seconds since the watch began.
    pub(super) latest_seconds: f64,
    /// When one was last closed.
    pub(super) last_closed_seconds: Option<f64>,
}

/// One that is open.
pub(super) struct Open<'a> {
    pub(super) lifetime: &'a Lifetime,
    pub(super) age: f64,
    pub(super) silent: Option<f64>,
    /// When it was opened and last used, in seconds since the watch began.
    pub(super) opened_seconds: f64,
    pub(super) used_seconds: Option<f64>,
    /// How many were opened to the same endpoint since it was last used; `None` where the target doesn't choose.
    pub(super) passed_over: Option<usize>,
    /// That it's leaked; `None` where nothing tells.
    pub(super) probability: Option<f64>,
    /// True where its silence tells, not its age.
    pub(super) told_by_silence: bool,
    /// From which age on it stands out.
    pub(super) recognised_after: f64,
}

impl Open<'_> {
    pub(super) fn is_flagged(&self) -> bool {
        self.probability.is_some_and(|probability| probability > Judged::LEAKED_FROM)
    }

    /// For how long it has been left alone.
    pub(super) fn waited(&self) -> f64 {
        self.silent.map_or(self.age, |silent| silent.max(self.age / TALKING))
    }

    pub(super) fn was_used_again(&self) -> bool {
        self.silent.is_some_and(|silent| silent < USED_AGAIN * self.age)
    }

    /// True where its silence tells, rather than its age: it makes up much of it, or the watch is too young to know who
    /// talks for long.
    pub(super) fn is_told_by_silence(&self, watch: &Watch) -> bool {
        self.silent.is_some_and(|silent| watch.is_early() || silent > self.age / TALKING)
    }

    /// True where the peer has hung up and only the target can close it.
    pub(super) fn has_hung_up(&self) -> bool {
        self.lifetime.resource.state == Some(State::CloseWait)
    }
}

impl<'a> Cohort<'a> {
    /// Takes a closed one in; returns the age it had.
    pub(super) fn add_closed(&mut self, lifetime: &'a Lifetime, watch: &Watch) -> f64 {
        let age = lifetime.age_seconds(watch.at);
        self.ages.push(age);
        self.silences.extend(lifetime.silent_seconds(watch.at));
        self.openings.extend(lifetime.opened_after.map(|after| watch.offset(after)));
        let closed = watch.offset(lifetime.closed.unwrap_or(watch.at));
        self.latest_seconds = self.latest_seconds.max(closed);
        self.last_closed_seconds = Some(self.last_closed_seconds.map_or(closed, |last| last.max(closed)));
        age
    }

    /// Takes one in that is open at `now`.
    pub(super) fn add_open(&mut self, lifetime: &'a Lifetime, now: crate::model::Timestamp, watch: &Watch) {
        let opened_seconds = watch.offset(lifetime.opened);
        let used_seconds = lifetime.last_active.map(|active| watch.offset(active));
        self.openings.extend(lifetime.opened_after.map(|after| watch.offset(after)));
        if !lifetime.is_older_than_recording() {
            self.latest_seconds = self.latest_seconds.max(opened_seconds);
        }
        self.latest_seconds = used_seconds.map_or(self.latest_seconds, |used| self.latest_seconds.max(used));
        self.open.push(Open {
            lifetime,
            age: lifetime.age_seconds(now),
            silent: lifetime.silent_seconds(now),
            opened_seconds,
            used_seconds,
            passed_over: None,
            probability: None,
            told_by_silence: false,
            recognised_after: super::weigh::SILENCE_MIN_SECONDS,
        });
    }

    /// Sorts what was taken in, and counts who was passed over. `closed` is the number of all that were closed.
    pub(super) fn complete(&mut self, group: &Group, closed: u64) {
        self.closed = closed.max(self.ages.len() as u64);
        for lengths in [&mut self.ages, &mut self.silences, &mut self.openings] {
            lengths.sort_unstable_by(f64::total_cmp);
        }
        // Whom to accept a connection from is for others to choose.
        if is_accepted(group) || group.kind != Kind::Tcp {
            return;
        }
        // Of the closed ones only a sample is at hand.
        let openings = self.openings.len() as f64;
        let all = openings + (self.closed - self.ages.len() as u64) as f64;
        for open in &mut self.open {
            let passed_over = open.used_seconds.map(|used| {
                let since = self.openings.len() - self.openings.partition_point(|opening| *opening <= used);
                (since as f64 * all / openings.max(1.0)) as usize
            });
            open.passed_over = passed_over;
        }
    }

    /// How long ago the first of those was opened that it takes to pass one over.
    pub(super) fn passing_seconds(&self, watch: &Watch) -> Option<f64> {
        self.openings.iter().nth_back(PASSED_OVER_MIN - 1).map(|opening| watch.seconds - opening)
    }
}

/// True of the group of a listener.
pub(super) fn is_accepted(group: &Group) -> bool {
    group.endpoint.starts_with("accepted ")
}
