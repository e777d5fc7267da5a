//! What is under suspicion: of these alone the ledger is asked for what was said, and where their last users are now.

use super::session::Session;
use crate::ledger::Answers;
use crate::model::{Identity, Stack, StackKey, Usage};
use std::collections::HashSet;

/// From this probability on a resource is asked after: well before it is called leaked.
const SUSPECTED_FROM: f64 = 0.05;

/// How many are asked after at a tick, the most suspicious: 2 kB each.
const SUSPECTS_MAX: usize = 2_000;

/// What was learned of suspects, for the tick that is under way.
#[derive(Debug, Default)]
pub(super) struct Learned {
    pub(super) used: Vec<Usage>,
    pub(super) stacks: Vec<(StackKey, Stack)>,
}

impl Session {
    /// Asks after what is suspected by now, and takes the answers in.
    pub(super) fn ask_of_suspects(&mut self) -> Learned {
        let suspects = self.suspects();
        let now = self.clock.now();
        let Some(ledger) = self.ledger.as_mut().filter(|_| !suspects.is_empty()) else { return Learned::default() };
        let Answers { used, stacks } = ledger.ask(&suspects, now);
        let used = self.census.usages(used);
        self.fold.learn(&stacks, &used);
        Learned { used, stacks }
    }

    fn suspects(&self) -> HashSet<Identity> {
        let report = self.fold.report();
        let probabilities = &report.judged.leak_probability;
        let mut suspects: Vec<_> =
            probabilities.iter().filter(|(_, probability)| **probability >= SUSPECTED_FROM).collect();
        suspects.sort_by(|a, b| b.1.total_cmp(a.1));
        let open = suspects.into_iter().filter_map(|(id, _)| report.population.open.get(id));
        open.map(|lifetime| lifetime.resource.identity).take(SUSPECTS_MAX).collect()
    }
}
