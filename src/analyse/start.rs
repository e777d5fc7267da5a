//! Does it rise because something has just begun?
//!
//! A service that starts rises from nothing, and a cache that fills rises ever more slowly; both end, and before they do
//! neither can be told from a leak by its height. So while a series still looks like a start nothing is claimed. A leak
//! beside it shows once the start is over: what goes on rising then does so in a straight line.

use super::steps::{Fit, median};
use super::trend::{Bend, bend};
use super::views::{Scene, Seen};

/// It slows down where the slope at its end is below this share of its mean ...
const SLOWS: f64 = 0.6;
/// ... by so many standard errors of the bend.
const SLOWS_SURE: f64 = 3.0;
/// The start is over where the rest of the time, from this share of it on, ...
const OVER: f64 = 0.45;
/// ... is straight: its slope at the end this share of its mean, or less by no more than chance. A cache filled by random
/// keys has two thirds at any length: it grows like a logarithm.
const STRAIGHT: f64 = 0.9;
const STRAIGHT_SURE: f64 = 1.0;
/// It begins at nothing where its level in the first moments is below this share of the level now. Services under load at
/// the first look were never below an eighth.
const NOTHING: f64 = 0.07;
/// Those moments: a restarted program is up after them.
const FIRST: std::ops::Range<f64> = 0.03..0.08;
/// An idle program shows no start: nothing moves by more than so many of the smallest steps before this share of the time.
const IDLE_QUANTA: f64 = 2.5;
const IDLE_UNTIL: f64 = 0.15;
/// What has risen in a straight line all the time is no start either; both bends within these of 1.
const LINE: f64 = 0.2;
const LINE_LATER: f64 = 0.3;
/// The second part is read from so many blocks at least.
const BLOCKS_MIN: usize = 10;

/// Why the rise may be that of a start; `None` where it isn't. `fit` is that of the floor.
pub(super) fn seen(scene: &Scene, u: &[f64], floor: &[f64], medians: &[f64], fit: &Fit) -> Option<Seen> {
    let trend = &fit.trend;
    let at = |share: f64| u.partition_point(|u| *u < share);
    let from = at(OVER);
    if u.len() - from < BLOCKS_MIN || trend.slope <= 0.0 {
        return None;
    }
    let whole = bend(u, &fit.level, &scene.season.columns);
    if whole.late < SLOWS && whole.t > SLOWS_SURE {
        let rest = later(scene, u, floor, from);
        let slows_on = rest.late < STRAIGHT && rest.t > STRAIGHT_SURE;
        return slows_on.then(|| Seen::Doubt("it slows down, as what fills up does".into()));
    }
    let first = &medians[at(FIRST.start)..at(FIRST.end).max(at(FIRST.start) + 2)];
    let level = first.iter().sum::<f64>() / first.len() as f64;
    if whole.late <= SLOWS || level.abs() >= NOTHING * median(&medians[u.len() - 5..]).abs() {
        return None;
    }
    let was_idle = trend.knee > 0.1 && medians[at(IDLE_UNTIL)] - medians[0] <= IDLE_QUANTA * scene.quantum;
    let is_line = (whole.late - 1.0).abs() < LINE && (later(scene, u, floor, from).late - 1.0).abs() < LINE_LATER;
    (!was_idle && !is_line).then_some(Seen::Start("it began at nothing, as what starts up does"))
}

/// How the rest of the time bends.
fn later(scene: &Scene, u: &[f64], floor: &[f64], from: usize) -> Bend {
    let rest: Vec<f64> = u[from..].iter().map(|at| (at - OVER) / (1.0 - OVER)).collect();
    bend(&rest, &floor[from..], &scene.season.since(from).columns)
}
