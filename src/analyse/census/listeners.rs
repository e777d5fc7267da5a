//! Which of the target's listening sockets accepted a connection.

use crate::model::{Address, Identity, Kind, Resource, Snapshot, State};
use std::collections::HashMap;

/// The addresses that the target listens on.
#[derive(Debug, Default)]
pub(super) struct Listeners(HashMap<Identity, Address>);

impl Listeners {
    /// Takes in what has begun to listen, and what doesn't any more.
    pub(super) fn update(&mut self, snapshot: &Snapshot) {
        for identity in &snapshot.gone {
            self.0.remove(identity);
        }
        for resource in snapshot.sightings.iter().map(|it| &it.resource) {
            match &resource.local {
                Some(local) if resource.state == Some(State::Listen) => self.0.insert(resource.identity, local.clone()),
                _ => self.0.remove(&resource.identity),
            };
        }
    }

    /// The listener that accepted this connection: its own end has the listener's address, or its port where the listener
    /// takes any address.
    pub(super) fn accepted(&self, resource: &Resource) -> Option<String> {
        if !resource.is_connection() || !matches!(resource.kind, Kind::Tcp | Kind::Unix) {
            return None;
        }
        let local = resource.local.as_ref()?;
        // The same address before any address of the same family before any address at all.
        let rank = |listener: &Address| match (listener, local) {
            _ if listener == local => Some(0),
            (Address::Inet(listener), Address::Inet(local)) => {
                let takes = listener.port() == local.port() && listener.ip().is_unspecified();
                takes.then_some(if listener.is_ipv6() == resource.ipv6 { 1 } else { 2 })
            }
            _ => None,
        };
        let ranked = self.0.values().filter_map(|listener| Some((rank(listener)?, listener)));
        ranked.min().map(|(_, listener)| listener.to_string())
    }
}
