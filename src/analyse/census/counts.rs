//! How many are open, kept up with each change: counting anew at every tick would cost more than reading.

use crate::model::{Kind, Lifetime, Resource, State};
use std::collections::BTreeMap;

/// Counts of what is open.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Counts {
    /// Resources with a peer.
    pub connections: u64,
    /// What `lsof -i` counts: a row per descriptor.
    pub internet: u64,
    /// Every descriptor.
    pub descriptors: u64,
    /// Descriptors by kind.
    pub kinds: BTreeMap<Kind, u64>,
    /// Connections by the series of their endpoint; none is 0.
    pub endpoints: BTreeMap<String, u64>,
}

impl Counts {
    /// Counts a lifetime in.
    pub(super) fn add(&mut self, lifetime: &Lifetime) {
        let (held, resource) = (lifetime.holders.len() as u64, &lifetime.resource);
        self.descriptors += held;
        if held > 0 {
            *self.kinds.entry(resource.kind).or_default() += held;
        }
        self.internet += internet(lifetime);
        if is_connected(resource) {
            self.connections += 1;
            *self.endpoints.entry(endpoint_series(lifetime)).or_default() += 1;
        }
    }

    /// Counts out a lifetime that was counted in, as it was then.
    pub(super) fn remove(&mut self, lifetime: &Lifetime) {
        let (held, resource) = (lifetime.holders.len() as u64, &lifetime.resource);
        self.descriptors -= held;
        if let Some(count) = self.kinds.get_mut(&resource.kind) {
            *count -= held;
        }
        self.internet -= internet(lifetime);
        if is_connected(resource) {
            self.connections -= 1;
            let name = endpoint_series(lifetime);
            if let Some(count) = self.endpoints.get_mut(&name) {
                *count -= 1;
                if *count == 0 {
                    self.endpoints.remove(&name);
                }
            }
        }
    }

    /// Counts a lifetime as it is now in place of what it was.
    pub(super) fn replace(&mut self, before: &Lifetime, now: &Lifetime) {
        let counted = |it: &Lifetime| (it.resource.kind, it.holders.len(), is_connected(&it.resource), internet(it));
        let endpoint = |it: &Lifetime| (it.accepted_by.clone(), it.resource.remote.clone());
        // What a busy connection changes at every tick, its bytes, is not counted.
        if counted(before) != counted(now) || endpoint(before) != endpoint(now) {
            self.remove(before);
            self.add(now);
        }
    }
}

/// True where it has a peer now: what the peer has reset keeps its addresses, and is no connection any more.
fn is_connected(resource: &Resource) -> bool {
    resource.is_connection() && !(resource.kind == Kind::Tcp && resource.state == Some(State::Close))
}

/// The rows that `lsof -i` would have of it; one where nobody is known to hold it.
fn internet(lifetime: &Lifetime) -> u64 {
    if lifetime.resource.is_internet() { lifetime.holders.len().max(1) as u64 } else { 0 }
}

/// The series that counts the connections like this one.
fn endpoint_series(lifetime: &Lifetime) -> String {
    match (&lifetime.accepted_by, &lifetime.resource.remote) {
        (Some(listener), _) => format!("accepted:{listener}"),
        (None, Some(remote)) => format!("connections:{remote}"),
        // A Unix socket whose peer has no name.
        (None, None) => format!("connections:{}", lifetime.resource.kind),
    }
}
