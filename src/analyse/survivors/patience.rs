//! How long must be waited, and how many must have been left, before anyone may speak of a leak.
//!
//! What is silent now may be closed later by a timeout that was not seen yet: a server's keep-alive (60 s and 75 s are
//! common defaults), a pool's idle timeout (10 min). Three things tell such a connection from a forgotten one before the
//! timeout is over:
//!
//! - **Passing over.** A pool opens a new connection only when none lies idle, whatever its order of use. So each one that
//!   is opened while this one lies idle says that the program doesn't have it any more. One or two may be a race between
//!   threads, eight are not.
//! - **Contrast.** The program closes others at this endpoint at once, or uses others again: that is what it does with those
//!   it has. Where it does neither, it may be its habit to leave each to the peer's timeout, and that is waited for.
//! - **A hang-up.** In CLOSE_WAIT the peer is gone; no timeout but the target's own can close it.

use super::Watch;
use super::cohort::{Cohort, Open, is_accepted};
use crate::model::{Group, Kind};

/// Opened since its last use: from so many on, one is not in any pool's hands.
pub(super) const PASSED_OVER_MIN: usize = 8;
/// With all three on its side: longer than a long poll or a think time of some 20 s.
const OUTGOING_SECONDS: f64 = 25.0;
/// The same where nothing was closed yet, so that the contrast is only with those that are used again.
const UNCLOSED_SECONDS: f64 = 30.0;
/// Without contrast: longer than a keep-alive of 75 s, the default of nginx and aiohttp.
const KEEP_ALIVE_SECONDS: f64 = 90.0;
/// What others opened to the target: a client comes back later than a server gives up.
const ACCEPTED_SECONDS: f64 = 120.0;
/// Not passed over: longer than the idle timeout of the usual pools (HikariCP, PgBouncer: 10 min).
const POOL_SECONDS: f64 = 660.0;
/// What has no silence to tell by (Unix sockets, pipes, inotify, files), where others were closed and where not. Files are
/// what programs do open one after another and keep.
const BY_AGE_SECONDS: f64 = 90.0;
const UNCLOSED_BY_AGE_SECONDS: f64 = 600.0;
/// The same where twice as many were left, of all but files: within a minute, one every other second.
const BY_AGE_MANY_SECONDS: f64 = 35.0;
const BY_AGE_MANY: usize = 16;

/// Survivors that make a leak: after ten minutes, before that, and of those that are judged by age alone or were
/// accepted, for a client may rest as long as it likes.
const SURVIVORS_MIN: usize = 3;
const SURVIVORS_MIN_EARLY: usize = 8;
const SURVIVORS_MIN_CAUTIOUS: usize = 8;

/// One alone is leaked from this probability on in the first minutes: with no rival that was silent for 10 s, after 90 s.
const SURE_ALONE: f64 = 0.95;
/// Passed over so often, it's forgotten even if it is the only one: a pool would have come back to it.
const PASSED_OVER_ALONE: usize = 32;

/// What it takes in a group.
pub(super) struct Patience {
    /// For how long the first of them must have been left alone.
    pub(super) seconds: f64,
    /// How many of them there must be.
    pub(super) survivors: usize,
    /// What may still happen until then.
    pub(super) why: &'static str,
}

impl Patience {
    pub(super) fn new(watch: &Watch, group: &Group, cohort: &Cohort, suspects: &[&Open]) -> Self {
        let has_silence = suspects.iter().any(|open| open.silent.is_some());
        if !has_silence {
            return Patience::by_age(group, cohort, suspects.len());
        }
        let has_hung_up = 2 * suspects.iter().filter(|open| open.has_hung_up()).count() > suspects.len();
        if is_accepted(group) && !has_hung_up {
            let why = "a client may use them again";
            return Patience { seconds: ACCEPTED_SECONDS, survivors: SURVIVORS_MIN_CAUTIOUS, why };
        }
        let survivors = if watch.is_early() { SURVIVORS_MIN_EARLY } else { SURVIVORS_MIN };
        let of = |seconds, why| Patience { seconds, survivors, why };
        let is_passed_over = passed_over(suspects).is_none_or(|count| count >= PASSED_OVER_MIN);
        match (cohort.has_yardstick(), cohort.open.iter().any(Open::was_used_again)) {
            _ if has_hung_up && is_accepted(group) => of(OUTGOING_SECONDS, "the target may be about to close them"),
            _ if !is_passed_over => of(POOL_SECONDS, "a pool may use them again, or close them by its idle timeout"),
            (true, _) => of(OUTGOING_SECONDS, "they may be in use"),
            (false, true) => of(UNCLOSED_SECONDS, "they may be in use"),
            (false, false) => of(KEEP_ALIVE_SECONDS, "the peer's keep-alive may close them"),
        }
    }

    fn by_age(group: &Group, cohort: &Cohort, count: usize) -> Self {
        let is_file = matches!(group.kind, Kind::File | Kind::Directory);
        let many = count >= BY_AGE_MANY && !is_file && !is_accepted(group);
        let seconds = match (many, cohort.has_yardstick()) {
            (true, _) => BY_AGE_MANY_SECONDS,
            (false, true) => BY_AGE_SECONDS,
            (false, false) => UNCLOSED_BY_AGE_SECONDS,
        };
        Patience {
            seconds,
            survivors: SURVIVORS_MIN_CAUTIOUS,
            why: "they may be in use, and nothing tells their silence",
        }
    }
}

/// How many were opened since the middle one of them was used last; `None` where the target doesn't choose, and where most
/// are told by their age: what still talks is in use, rightly or not.
pub(super) fn passed_over(suspects: &[&Open]) -> Option<usize> {
    let silent = suspects.iter().filter(|open| open.told_by_silence);
    let mut counts: Vec<usize> = silent.filter_map(|open| open.passed_over).collect();
    let middle = counts.len() / 2;
    (2 * counts.len() > suspects.len()).then(|| *counts.select_nth_unstable(middle).1)
}

impl Open<'_> {
    /// True where it needs no company: silent beyond doubt and passed over again and again, and not one of those that
    /// were there when the watch began.
    pub(super) fn is_sure(&self) -> bool {
        self.probability.is_some_and(|probability| probability >= SURE_ALONE)
            && self.silent.is_some_and(|silent| silent >= KEEP_ALIVE_SECONDS)
            && self.passed_over.is_some_and(|count| count >= PASSED_OVER_ALONE)
            && self.opened_seconds > super::weigh::SILENCE_MIN_SECONDS
    }

    /// True where others were opened so often while it lay idle that the program doesn't have it any more.
    pub(super) fn is_passed_over(&self) -> bool {
        self.passed_over.is_some_and(|count| count >= PASSED_OVER_MIN)
    }
}
