//! What was seen as it happened: openings, closings and last uses, to the moment, also of what no tick has seen open.

use super::Census;
use crate::model::{Holder, Identity, LastUse, Lifetime, LifetimeId, Passed, Snapshot, Tick, Usage};

impl Census {
    /// Takes in what was seen to close since the tick before, of what ticks know.
    pub(super) fn take_witnessed(&mut self, snapshot: &Snapshot) {
        for closing in &snapshot.witnessed {
            if let Some(id) = self.open.get(&closing.identity) {
                self.witnessed.insert(*id, (closing.at, closing.last_use.clone()));
            }
        }
    }

    /// A lifetime at its end, with the moment of its closing where that was seen.
    pub(super) fn as_witnessed(&mut self, mut lifetime: Lifetime) -> Lifetime {
        let Some((at, last_use)) = self.witnessed.remove(&lifetime.id) else { return lifetime };
        if let Some(closed) = lifetime.closed.filter(|_| !lifetime.ended_with_process) {
            lifetime.closed = Some(at.min(closed).max(lifetime.opened));
        }
        lifetime.last_use = last_use.map(Box::new).or(lifetime.last_use);
        lifetime
    }

    /// The lifetimes that passed between two ticks.
    pub(super) fn passed(&mut self, snapshot: &Snapshot, tick: &mut Tick) -> Vec<Lifetime> {
        let mut all = Vec::with_capacity(snapshot.passed.len());
        for passed in &snapshot.passed {
            // A process that no tick has read yet is read by the next one; what it closed before counts for nothing.
            let Some(process) = self.processes.get(&passed.holder.process) else { continue };
            let holder = Holder { process: *process, fd: passed.holder.fd, access: passed.holder.access };
            let lifetime = self.lifetime_of(passed, holder);
            tick.opened.push(Lifetime { closed: None, ..lifetime.clone() });
            all.push(lifetime);
        }
        all
    }

    fn lifetime_of(&mut self, passed: &Passed, holder: Holder) -> Lifetime {
        let id = LifetimeId(self.next_lifetime);
        self.next_lifetime += 1;
        let opened = passed.opener.at.min(passed.closed);
        let listener = self.listeners.accepted(&passed.resource);
        Lifetime {
            id,
            holders: vec![holder],
            accepted_by: listener.filter(|_| passed.accepted),
            opened_after: Some(opened),
            opened,
            opened_exact: true,
            last_seen: passed.closed,
            last_active: passed.last_use.as_ref().map(|last| last.by.at),
            closed: Some(passed.closed),
            ended_with_process: false,
            opener: Some(Box::new(passed.opener.clone())),
            last_use: passed.last_use.clone().map(Box::new),
            resource: passed.resource.clone(),
        }
    }

    /// Last uses by the lifetimes' numbers.
    pub fn usages(&self, used: impl IntoIterator<Item = (Identity, LastUse)>) -> Vec<Usage> {
        let usage = |(identity, last)| Some(Usage { id: *self.open.get(&identity)?, last });
        used.into_iter().filter_map(usage).collect()
    }
}
