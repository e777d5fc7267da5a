//! Every lifetime so far: the open ones each, the closed ones as totals and a bounded uniform sample.

use super::splitmix::splitmix64;
use super::tally::{KnownGroups, Tallies};
use super::{Closing, LastUse, Lifetime, LifetimeId, Tick, Usage};
use std::collections::BTreeMap;

/// How many closed lifetimes are kept as rows: the healthy ones that leaked ones are held against. 10,000 give a
/// quantile of 99% to within 0.2 points and cost some 3 MB in memory and on disk.
const SAMPLE_MAX: usize = 10_000;

/// What has been open so far.
#[derive(Clone, Debug, Default)]
pub struct Population {
    /// Those that are open, or were when their process or the recording ended.
    pub open: BTreeMap<LifetimeId, Lifetime>,
    /// A uniform sample, at most [`SAMPLE_MAX`], of those that were closed.
    pub closed: BTreeMap<LifetimeId, Lifetime>,
    /// Totals; they count every lifetime, sampled or not.
    pub tallies: Tallies,
    /// How many lifetimes ended by being closed, whatever their group.
    pub closed_total: u64,
    sample: Vec<LifetimeId>,
    groups: KnownGroups,
}

impl Population {
    /// A population read back from a recording.
    pub fn restore(open: Vec<Lifetime>, closed: Vec<Lifetime>, tallies: impl Into<Tallies>) -> Self {
        let tallies = tallies.into();
        Population {
            closed_total: tallies.closed(),
            sample: closed.iter().map(|lifetime| lifetime.id).collect(),
            groups: KnownGroups::of(&tallies),
            open: open.into_iter().map(|lifetime| (lifetime.id, lifetime)).collect(),
            closed: closed.into_iter().map(|lifetime| (lifetime.id, lifetime)).collect(),
            tallies,
        }
    }

    /// Takes a tick in. Ticks come in the order of their times; closings were made by [`Population::close`].
    pub fn apply(&mut self, tick: &Tick) {
        self.tallies.add(Tallies::of(tick, &mut self.groups));
        for lifetime in tick.opened.iter().chain(&tick.changed) {
            self.put(lifetime);
        }
        for traffic in &tick.traffic {
            if let Some(lifetime) = self.open.get_mut(&traffic.id) {
                lifetime.resource.activity = traffic.activity;
                lifetime.last_active = traffic.last_active;
            }
        }
        tick.used.iter().for_each(|usage| self.learn(usage));
        for closing in &tick.closed {
            self.end(closing);
        }
    }

    /// Takes in what is known of a last use.
    pub fn learn(&mut self, usage: &Usage) {
        if let Some(lifetime) = self.open.get_mut(&usage.id) {
            let known = lifetime.last_use.take();
            lifetime.last_use = LastUse::following(known, Some(Box::new(usage.last.clone())));
        }
    }

    /// Puts an open one in, in the place of what it was before.
    fn put(&mut self, lifetime: &Lifetime) {
        let known = self.open.remove(&lifetime.id);
        self.open.insert(lifetime.id, with_what_was_known(lifetime, known));
    }

    fn end(&mut self, closing: &Closing) {
        let lifetime = &closing.lifetime;
        if lifetime.ended_with_process && lifetime.closed.is_none() {
            self.put(lifetime);
            return;
        }
        let known = self.open.remove(&lifetime.id);
        if lifetime.ended_with_process {
            return;
        }
        self.closed_total += 1;
        if closing.kept {
            self.closed.insert(lifetime.id, with_what_was_known(lifetime, known));
        }
        let slot = closing.evicted.and_then(|evicted| {
            self.closed.remove(&evicted);
            self.sample.iter().position(|id| *id == evicted)
        });
        match slot {
            // In its very slot, as it was decided.
            Some(slot) if closing.kept => self.sample[slot] = lifetime.id,
            Some(slot) => drop(self.sample.swap_remove(slot)),
            None if closing.kept => self.sample.push(lifetime.id),
            None => {}
        }
    }

    /// The lifetime of that number, if it is open or in the sample.
    pub fn get(&self, id: LifetimeId) -> Option<&Lifetime> {
        self.open.get(&id).or_else(|| self.closed.get(&id))
    }

    /// The slot of the sample that a lifetime takes which is the `closed_total`-th to be closed, if it takes one: Vitter's
    /// algorithm R ("Random sampling with a reservoir", 1985), with the lifetime's number hashed in place of a random one, so
    /// that a replay decides alike. The first ones take a slot each, in their order.
    pub(crate) fn slot_in_sample(id: LifetimeId, closed_total: u64) -> Option<usize> {
        if closed_total <= SAMPLE_MAX as u64 {
            return Some(closed_total as usize - 1);
        }
        let slot = (splitmix64(id.0 ^ closed_total.rotate_left(32)) % closed_total) as usize;
        (slot < SAMPLE_MAX).then_some(slot)
    }

    /// Decides whether the lifetimes that were just closed are kept as rows, so that at any time the rows are a uniform
    /// sample of all that were closed.
    pub fn close(&self, lifetimes: Vec<Lifetime>) -> Vec<Closing> {
        if lifetimes.is_empty() {
            return Vec::new();
        }
        let mut sample = self.sample.clone();
        let mut closed_total = self.closed_total;
        let mut decide = |lifetime: Lifetime| {
            if lifetime.ended_with_process {
                return Closing { kept: lifetime.closed.is_none(), lifetime, evicted: None };
            }
            closed_total += 1;
            if sample.len() < SAMPLE_MAX {
                sample.push(lifetime.id);
                return Closing { lifetime, kept: true, evicted: None };
            }
            let Some(slot) = Population::slot_in_sample(lifetime.id, closed_total) else {
                return Closing { lifetime, kept: false, evicted: None };
            };
            let evicted = std::mem::replace(&mut sample[slot], lifetime.id);
            Closing { lifetime, kept: true, evicted: Some(evicted) }
        };
        lifetimes.into_iter().map(&mut decide).collect()
    }
}

/// The lifetime with what was known of its last use and isn't told again.
fn with_what_was_known(lifetime: &Lifetime, known: Option<Lifetime>) -> Lifetime {
    let mut lifetime = lifetime.clone();
    lifetime.last_use = LastUse::following(known.and_then(|known| known.last_use), lifetime.last_use);
    lifetime
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Identity, Kind, Resource, Timestamp};

    fn lifetime(id: u64) -> Lifetime {
        Lifetime {
            id: LifetimeId(id),
            resource: Resource::new(Identity(id, 0), Kind::Eventfd),
            holders: Vec::new(),
            accepted_by: None,
            opened_after: None,
            opened: Timestamp(id as i64),
            opened_exact: false,
            last_seen: Timestamp(id as i64),
            last_active: None,
            closed: Some(Timestamp(id as i64 + 1)),
            ended_with_process: false,
            opener: None,
            last_use: None,
        }
    }

    #[test]
    fn the_sample_is_bounded_uniform_and_counts_all() {
        let mut population = Population::default();
        for batch in 0..40u64 {
            let closed = population.close((batch * 1000..(batch + 1) * 1000).map(lifetime).collect());
            population.apply(&Tick { closed, ..Tick::default() });
        }
        assert_eq!(population.closed_total, 40_000);
        assert_eq!(population.closed.len(), SAMPLE_MAX);
        // Each quarter of the ids has a quarter of the sample, give or take 5 standard deviations (43 each).
        for quarter in 0..4u64 {
            let range = LifetimeId(quarter * 10_000)..LifetimeId((quarter + 1) * 10_000);
            let share = population.closed.range(range).count();
            assert!((2285..=2715).contains(&share), "quarter {quarter} has {share}");
        }
    }
}
