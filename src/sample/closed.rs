//! Processes whose descriptors are closed to us: the sockets of their cgroup or user stand in for their own, held by nobody
//! that we could name.

use super::holdings::Holdings;
use super::join::{add_socket, has_changed};
use super::sockets::{Outside, Scope, Socket, SocketTable};
use crate::model::{Identity, Kind, Resource, Sighting, Snapshot, Timestamp};
use std::collections::HashSet;

/// The sockets around closed processes, as they were at the tick before.
#[derive(Debug, Default)]
pub(super) struct ClosedProcesses {
    rows: SocketTable,
    read_at: Timestamp,
}

/// The sockets around closed processes now: those that share a cgroup or a user share them.
#[derive(Debug, Default)]
pub(super) struct Around {
    pub(super) rows: SocketTable,
    scopes: HashSet<Scope>,
}

impl Around {
    /// Takes in what was found around a process; gives back what is to be said of it, once for all that share it.
    pub(super) fn take(&mut self, found: Outside) -> Option<String> {
        let is_new = self.scopes.insert(found.scope);
        if is_new {
            self.rows.extend(found.sockets.iter().map(|(inode, row)| (*inode, row.clone())));
        }
        is_new.then_some(found.words)
    }
}

impl ClosedProcesses {
    /// Takes in the sockets around all of them, and adds what has changed to the snapshot. What a process that is open to
    /// us holds too is told by that one.
    pub(super) fn take(&mut self, now: SocketTable, holdings: &Holdings, snapshot: &mut Snapshot) {
        let is_told = |inode: u64| !holdings.holders(identity(inode)).is_empty();
        let passed = snapshot.at.seconds_since(self.read_at);
        for (inode, row) in now.iter().filter(|(inode, _)| !is_told(**inode)) {
            if self.rows.get(inode).is_none_or(|before| has_changed(before, row, passed)) {
                snapshot.sightings.push(Sighting { resource: resource(*inode, row), holders: Vec::new() });
            }
        }
        let gone = self.rows.keys().filter(|inode| !now.contains_key(inode) && !is_told(**inode));
        snapshot.gone.extend(gone.map(|inode| identity(*inode)));
        (self.rows, self.read_at) = (now, snapshot.at);
    }
}

fn resource(inode: u64, row: &Socket) -> Resource {
    let mut resource = Resource { inode: Some(inode), ..Resource::new(identity(inode), Kind::Socket) };
    add_socket(&mut resource, row);
    resource
}

/// The same as of a socket that a descriptor leads to.
fn identity(inode: u64) -> Identity {
    Identity(super::descriptors::SOCKET_IDENTITY, inode)
}
