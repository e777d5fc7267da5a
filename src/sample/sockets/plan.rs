//! The cheapest way to ask for connections that are known already: the whole table, a dump limited to a port, or one by one.

use super::inet::{self, Port, SocketId};
use super::inodes::InodeHash;
use std::cmp::Reverse;
use std::collections::HashMap;

/// What each way costs, in what a dump takes to pass over one socket (0.1 us): telling one, and looking one up.
const ROW_COST: usize = 6;
const LOOKUP_COST: usize = 13;

/// How to ask for the known sockets of a TCP table.
#[derive(Debug, PartialEq)]
pub(super) enum Plan {
    /// By a dump of the whole table.
    Whole,
    /// By dumps limited to these ports, and the rest one by one.
    Ports(Vec<Port>),
}

impl Plan {
    /// For the `known` in a table of so many rows. With new inodes about, the port that most share is dumped also where
    /// looking up is cheaper: that likely finds the new ones, and saves the whole table.
    pub(super) fn of(known: &[(u64, &SocketId)], rows: usize, has_new: bool) -> Self {
        let mut counts: HashMap<Port, usize, InodeHash> = HashMap::default();
        for port in known.iter().flat_map(|(_, id)| inet::ports(id)) {
            *counts.entry(port).or_default() += 1;
        }
        // Every socket goes with the one of its two ports that it shares with more.
        let mut shared: HashMap<Port, usize, InodeHash> = HashMap::default();
        for (_, id) in known {
            let [local, remote] = inet::ports(id);
            *shared.entry(if counts[&local] > counts[&remote] { local } else { remote }).or_default() += 1;
        }
        let mut shared: Vec<(Port, usize)> = shared.into_iter().collect();
        shared.sort_by_key(|(_, count)| Reverse(*count));
        let whole = rows * ROW_COST;
        let (mut ports, mut cost) = (Vec::new(), 0);
        for (port, count) in shared {
            let (limited, single) = (rows + count * ROW_COST, count * LOOKUP_COST);
            // Port 0, of listeners, limits nothing.
            let is_port = !matches!(port, Port::Local(0) | Port::Remote(0));
            let may_find_new = has_new && ports.is_empty();
            if is_port && (limited < single || may_find_new) {
                ports.push(port);
                cost += limited;
            } else {
                cost += single;
            }
        }
        if cost < whole { Plan::Ports(ports) } else { Plan::Whole }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_among_many_are_looked_up_and_most_of_a_table_is_dumped() {
        let id = |local: u16, remote: u16| {
            let mut id = [0u8; 48];
            id[..2].copy_from_slice(&local.to_be_bytes());
            id[2..4].copy_from_slice(&remote.to_be_bytes());
            id
        };
        let ids: Vec<SocketId> = (0..100).map(|n| id(40_000 + n, 5432)).collect();
        let known: Vec<(u64, &SocketId)> = (1..).zip(&ids).collect();
        assert_eq!(Plan::of(&known, 100_000, false), Plan::Ports(vec![]));
        assert_eq!(
            Plan::of(&known, 100_000, true),
            Plan::Ports(vec![Port::Remote(5432)]),
            "where a new one likely goes"
        );
        assert_eq!(Plan::of(&known, 500, false), Plan::Ports(vec![Port::Remote(5432)]));
        assert_eq!(Plan::of(&known, 101, false), Plan::Whole);
        let listeners: Vec<SocketId> = (0..100).map(|n| id(n + 1, 0)).collect();
        let known: Vec<(u64, &SocketId)> = (1..).zip(&listeners).collect();
        assert_eq!(Plan::of(&known, 1_000, true), Plan::Ports(vec![]), "port 0 limits nothing");
    }
}
