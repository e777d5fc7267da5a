//! The processes of a machine by what they may be leaking, from counts alone: what to look at first, no verdict.
//!
//! Each reason has points, and the sum ranks. `n` is how many, `sure` grows from 0 to 1 with the passes that were taken.
//!
//! | reason | points | why |
//! |---|---|---|
//! | near its limit | 0 at half of it, 100 at it | there it breaks, leak or not |
//! | in `CLOSE_WAIT` | 100 n/(n + 10), 0.7 of it at first | the peer has closed, only this process can; those that stay were forgotten |
//! | grows | 80 n/(n + 20) sure | what it has risen by and doesn't give back |
//! | silent | 40 share n/(n + 20), half of it for a server | a pool's and a keep-alive's look the same; a server's are its clients' to close |
//!
//! A process without a reason has no points; such are sorted by descriptors.

use crate::model::{HoldingProcess, MachineSnapshot, ProcessId};
use std::collections::{HashMap, HashSet, VecDeque};

/// The last passes that growth is judged by: two minutes at the usual interval.
const WINDOW: usize = 24;

/// Passes that something in `CLOSE_WAIT` must outlast to be surely forgotten; before, it may be about to be closed.
const CLOSE_WAIT_PASSES: usize = 3;

/// A reason with fewer points is not worth a person's look.
const POINTS_MIN: f64 = 3.0;

/// Something that speaks for a leak.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// Near its limit on descriptors.
    Limit {
        /// How many it has.
        descriptors: u64,
        /// How many it may have.
        limit: u64,
    },
    /// Connections that the peer has closed and it has not.
    CloseWait(u64),
    /// So many connections more than at the first pass, and still rising.
    Connections(u64),
    /// So many descriptors more than at the first pass, and still rising, beyond what connections explain.
    Descriptors(u64),
    /// Connections that have carried nothing for long.
    Silent {
        /// How many.
        silent: u64,
        /// Of how many.
        connections: u64,
    },
}

/// What a process has more than when it was first seen; less is negative. `None` after one pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// Descriptors.
    pub descriptors: Option<i64>,
    /// Connections.
    pub connections: Option<i64>,
}

/// A process in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// Who, and what it holds.
    pub held: HoldingProcess,
    /// What has been added since it was first seen.
    pub growth: Growth,
    /// Why it stands where it stands, the strongest first.
    pub reasons: Vec<Reason>,
    /// The sum of the reasons' points.
    pub score: f64,
}

/// Takes one pass after the other and ranks.
#[derive(Debug, Default)]
pub struct Ranking {
    seen: HashMap<ProcessId, History>,
}

/// A process as far as it was followed.
#[derive(Debug, Default)]
struct History {
    descriptors: Followed,
    connections: Followed,
    close_wait: Followed,
}

impl Ranking {
    /// The processes of this pass, what is worth a look first. Those that are not in it any more are forgotten.
    pub fn advance(&mut self, snapshot: &MachineSnapshot) -> Vec<Ranked> {
        let running: HashSet<&ProcessId> = snapshot.processes.iter().map(|it| &it.process.id).collect();
        self.seen.retain(|id, _| running.contains(id));
        let mut all: Vec<Ranked> = snapshot.processes.iter().map(|held| self.rank(held)).collect();
        all.sort_by(|one, other| {
            let descriptors = |it: &Ranked| it.held.holdings.descriptors;
            (other.score.total_cmp(&one.score))
                .then_with(|| descriptors(other).cmp(&descriptors(one)))
                .then_with(|| one.held.process.id.pid.cmp(&other.held.process.id.pid))
        });
        all
    }

    fn rank(&mut self, held: &HoldingProcess) -> Ranked {
        let history = self.seen.entry(held.process.id.clone()).or_default();
        history.descriptors.push(held.holdings.descriptors);
        history.connections.push(held.holdings.connections);
        history.close_wait.push(held.holdings.close_wait);
        let mut reasons: Vec<(Reason, f64)> = reasons(held, history);
        reasons.retain(|(_, points)| *points >= POINTS_MIN);
        reasons.sort_by(|one, other| other.1.total_cmp(&one.1));
        Ranked {
            growth: Growth { descriptors: history.descriptors.growth(), connections: history.connections.growth() },
            // The sum of none is -0.
            score: reasons.iter().map(|(_, points)| points).sum::<f64>() + 0.0,
            reasons: reasons.into_iter().map(|(reason, _)| reason).collect(),
            held: held.clone(),
        }
    }
}

/// Every reason there is, with its points.
fn reasons(held: &HoldingProcess, history: &History) -> Vec<(Reason, f64)> {
    let holdings = &held.holdings;
    let mut reasons = Vec::new();
    if let Some((descriptors, limit)) = holdings.descriptors.zip(held.descriptor_limit) {
        let points = 200.0 * (share(descriptors, limit) - 0.5);
        reasons.push((Reason::Limit { descriptors, limit }, points.min(100.0)));
    }
    if let Some(close_wait) = holdings.close_wait {
        let stayed = history.close_wait.least_of_last(CLOSE_WAIT_PASSES);
        let surely = if history.close_wait.passes < CLOSE_WAIT_PASSES { 0.7 } else { 1.0 };
        reasons.push((Reason::CloseWait(close_wait), 100.0 * saturating(stayed, 10.0) * surely));
    }
    let (connections, descriptors) = (history.connections.rise(), history.descriptors.rise());
    reasons.push((Reason::Connections(connections), history.connections.rise_points(connections)));
    let unexplained = descriptors.saturating_sub(connections);
    reasons.push((Reason::Descriptors(unexplained), history.descriptors.rise_points(unexplained)));
    if let Some((silent, connections)) = holdings.silent.zip(holdings.connections) {
        let whose = if holdings.listening.is_some_and(|it| it > 0) { 0.5 } else { 1.0 };
        let points = 40.0 * share(silent, connections) * saturating(silent, 20.0) * whose;
        reasons.push((Reason::Silent { silent, connections }, points));
    }
    reasons
}

/// 0 for none, a half for `half` of them, never quite 1.
fn saturating(count: u64, half: f64) -> f64 {
    count as f64 / (count as f64 + half)
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// A count over the passes in which it was known.
#[derive(Debug, Default)]
struct Followed {
    first: u64,
    passes: usize,
    /// The last of them, at most [`WINDOW`].
    last: VecDeque<u64>,
}

impl Followed {
    fn push(&mut self, count: Option<u64>) {
        let Some(count) = count else { return };
        if self.passes == 0 {
            self.first = count;
        }
        self.passes += 1;
        if self.last.len() == WINDOW {
            self.last.pop_front();
        }
        self.last.push_back(count);
    }

    fn growth(&self) -> Option<i64> {
        let last = self.last.back().filter(|_| self.passes > 1)?;
        Some(i64::try_from(*last).ok()? - i64::try_from(self.first).ok()?)
    }

    fn least_of_last(&self, passes: usize) -> u64 {
        self.last.iter().rev().take(passes).copied().min().unwrap_or(0)
    }

    /// What it has risen by for good: the least of the newer half of the window, less the first. 0 where it doesn't rise
    /// any more: where that least is not above the mean of the older half, as only chance has it of a count that comes
    /// and goes.
    fn rise(&self) -> u64 {
        let newer = self.last.len() / 2;
        if newer == 0 {
            return 0;
        }
        let least = self.least_of_last(newer);
        let older = self.last.len() - newer;
        let mean = self.last.iter().take(older).sum::<u64>() as f64 / older as f64;
        if least as f64 > mean { least.saturating_sub(self.first) } else { 0 }
    }

    fn rise_points(&self, rise: u64) -> f64 {
        let passes = self.passes as f64;
        80.0 * saturating(rise, 20.0) * ((passes - 1.0) / (passes + 3.0)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Process, ProcessHoldings, Timestamp};

    fn process(pid: u32, start_ticks: u64, limit: u64, mut holdings: ProcessHoldings) -> HoldingProcess {
        let id = ProcessId { boot_id: "boot".into(), pid, start_ticks };
        holdings.pid = pid;
        let (name, user) = (format!("p{pid}"), "root".to_owned());
        let process = Process { id, command: name.clone(), name, uid: 0, user, started: Timestamp(0), ended: None };
        HoldingProcess { process, descriptor_limit: Some(limit), holdings }
    }

    fn holding(descriptors: u64, connections: u64, silent: u64, close_wait: u64, listening: u64) -> ProcessHoldings {
        ProcessHoldings {
            pid: 0,
            descriptors: Some(descriptors),
            sockets: Some(connections + listening),
            connections: Some(connections),
            silent: Some(silent),
            close_wait: Some(close_wait),
            listening: Some(listening),
        }
    }

    fn snapshot(processes: Vec<HoldingProcess>) -> MachineSnapshot {
        MachineSnapshot { processes, ..MachineSnapshot::default() }
    }

    fn order(ranked: &[Ranked]) -> Vec<u32> {
        ranked.iter().map(|it| it.held.process.id.pid).collect()
    }

    #[test]
    fn at_the_first_look_what_breaks_and_what_is_sure_stand_above_a_busy_server() {
        let looked = Ranking::default().advance(&snapshot(vec![
            process(1, 1, 100_000, holding(20_000, 19_000, 18_000, 0, 2)),
            process(2, 1, 1_024, holding(60, 50, 50, 50, 0)),
            process(3, 1, 1_024, holding(1_000, 0, 0, 0, 0)),
            process(4, 1, 1_024, holding(300, 0, 0, 0, 0)),
            process(5, 1, 1_024, holding(20, 3, 0, 1, 0)),
        ]));
        assert_eq!(order(&looked), [3, 2, 1, 5, 4]);
        assert_eq!(looked[0].reasons, [Reason::Limit { descriptors: 1_000, limit: 1_024 }]);
        assert_eq!(looked[1].reasons, [Reason::CloseWait(50), Reason::Silent { silent: 50, connections: 50 }]);
        assert_eq!(looked[4].reasons, [], "nothing to say");
        assert_eq!(looked[0].growth, Growth::default());
    }

    /// A leak of one connection a pass beside traffic that comes and goes, and traffic alone.
    #[test]
    fn a_count_that_comes_and_goes_is_no_growth_and_a_leak_below_it_is() {
        let (mut ranking, mut ranked) = (Ranking::default(), Vec::new());
        for pass in 0..40u64 {
            let traffic = 50 + pass * 7_919 % 23;
            ranked = ranking.advance(&snapshot(vec![
                process(1, 1, 100_000, holding(1_000 + traffic, traffic, 0, 0, 0)),
                process(2, 1, 100_000, holding(traffic + 2 * pass, traffic + 2 * pass, 0, 0, 0)),
                process(3, 1, 100_000, holding(10 + pass, 0, 0, 0, 0)),
            ]));
        }
        assert_eq!(order(&ranked), [2, 3, 1]);
        assert!(matches!(ranked[0].reasons[..], [Reason::Connections(50..80)]), "{:?}", ranked[0].reasons);
        assert!(matches!(ranked[1].reasons[..], [Reason::Descriptors(20..40)]), "{:?}", ranked[1].reasons);
        assert_eq!(ranked[1].growth, Growth { descriptors: Some(39), connections: Some(0) });
        assert_eq!(ranked[2].reasons, []);
    }

    #[test]
    fn growth_that_has_ended_and_what_was_closed_in_time_are_no_reasons() {
        let (mut ranking, mut ranked) = (Ranking::default(), Vec::new());
        for pass in 0..30 {
            let pool = 50.min(10 + pass * 20);
            let close_wait = if pass % 2 == 0 { 30 } else { 0 };
            ranked = ranking.advance(&snapshot(vec![
                process(1, 1, 100_000, holding(pool, pool, 0, 0, 0)),
                process(2, 1, 100_000, holding(40, 40, 0, close_wait, 0)),
            ]));
        }
        assert_eq!(ranked.iter().map(|it| it.reasons.len()).sum::<usize>(), 0, "{ranked:?}");
        assert_eq!(ranked[0].growth.connections, Some(40));
    }

    #[test]
    fn a_pid_that_is_used_again_begins_anew() {
        let mut ranking = Ranking::default();
        ranking.advance(&snapshot(vec![process(1, 1, 100, holding(10, 5, 0, 0, 0))]));
        let ranked = ranking.advance(&snapshot(vec![process(1, 2, 100, holding(40, 35, 0, 0, 0))]));
        assert_eq!((ranked[0].growth, ranked[0].score), (Growth::default(), 0.0));
        assert_eq!(ranking.seen.len(), 1, "the one that has ended is forgotten");
    }

    #[test]
    fn what_is_unknown_is_no_reason_and_no_growth() {
        let mut ranking = Ranking::default();
        let only = |descriptors| ProcessHoldings { descriptors, ..ProcessHoldings::default() };
        ranking.advance(&snapshot(vec![process(1, 1, 100, only(None)), process(2, 1, 100, only(Some(7)))]));
        let ranked =
            ranking.advance(&snapshot(vec![process(1, 1, 100, only(None)), process(2, 1, 100, only(Some(9)))]));
        assert_eq!(order(&ranked), [2, 1]);
        assert_eq!(ranked[0].growth, Growth { descriptors: Some(2), connections: None });
        assert_eq!((ranked[1].growth, ranked[1].score), (Growth::default(), 0.0));
    }
}
