//! Which connections were left open where nobody saw the end of their process, only its last tick.
//!
//! A connection that was open then may have been closed a moment later, as a pool is at the exit. But a pool, whatever its
//! order of use, opens a new connection only when none lies idle: one that rested while its own process opened and closed
//! others to the same endpoint, again and again, was in nobody's hands any more.

use crate::model::{Group, Lifetime, Population, ProcessKey};
use std::collections::BTreeMap;

/// Passed over so often. Fewer may be a second client beside a pool, or a link that only listens.
const TIMES_MIN: usize = 8;

/// What each process has opened and closed to each endpoint.
pub(super) struct ClosedOnes<'a>(BTreeMap<(ProcessKey, Group), Vec<&'a Lifetime>>);

impl<'a> ClosedOnes<'a> {
    /// Sorts the sample of closed ones by process and endpoint.
    pub(super) fn of(population: &'a Population) -> Self {
        let mut sorted: BTreeMap<_, Vec<&Lifetime>> = BTreeMap::new();
        for lifetime in population.closed.values().filter(|it| it.closed.is_some() && !it.ended_with_process) {
            for holder in &lifetime.holders {
                sorted.entry((holder.process, lifetime.group())).or_default().push(lifetime);
            }
        }
        ClosedOnes(sorted)
    }

    /// How often it was passed over by the last tick that saw its process, where that is often enough and it was silent for
    /// `silent_seconds` by then. `None` where nothing is sure.
    pub(super) fn passed_over(&self, lifetime: &Lifetime, silent_seconds: f64) -> Option<usize> {
        let used = lifetime.last_active?;
        let process = lifetime.holders.first()?.process;
        let others = self.0.get(&(process, lifetime.group()))?;
        let times = others.iter().filter(|it| it.opened_after.is_some_and(|after| after >= used)).count();
        let is_silent = lifetime.last_seen.seconds_since(used) >= silent_seconds;
        (is_silent && lifetime.accepted_by.is_none() && times >= TIMES_MIN).then_some(times)
    }
}
