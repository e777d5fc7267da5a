//! Processes whose descriptors are closed to us: the sockets of their cgroup or user stand in for their own, held by nobody
//! that we could name.

use super::descriptors::SOCKET_IDENTITY;
use super::holdings::Holdings;
use super::join::{add_socket, has_changed};
use super::sockets::{Outside, Socket, SocketTable};
use crate::model::{Identity, Kind, Resource, Sighting, Snapshot, Timestamp};
use std::collections::HashSet;
use std::sync::Arc;

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
    /// Those of each scope.
    taken: Vec<Arc<SocketTable>>,
}

impl Around {
    /// Takes in what was found around a process; gives back what is to be said of it, once for all that share it.
    pub(super) fn take(&mut self, found: Outside) -> Option<String> {
        if self.taken.iter().any(|taken| Arc::ptr_eq(taken, &found.sockets)) {
            return None;
        }
        let scope = found.scope.to_string();
        self.rows.extend(found.sockets.iter().map(|(inode, row)| {
            let mut row = row.clone();
            row.detail.get_or_insert_default().scope = Some(scope.clone());
            (*inode, row)
        }));
        self.taken.push(found.sockets);
        Some(found.words)
    }
}

impl ClosedProcesses {
    /// Takes in the sockets around all of them, and adds what has changed to the snapshot. What a process that is open to
    /// us holds too is told by that one; once it lets go, it is told by these.
    pub(super) fn take(&mut self, now: SocketTable, holdings: &Holdings, snapshot: &mut Snapshot) {
        let is_told = |inode: u64| !holdings.holders(identity(inode)).is_empty();
        let passed = snapshot.at.seconds_since(self.read_at);
        let let_go: HashSet<Identity> = snapshot.unheld.iter().chain(&snapshot.gone).copied().collect();
        let stays = |it: &Identity| it.0 == SOCKET_IDENTITY && now.contains_key(&it.1);
        snapshot.unheld.retain(|it| !stays(it));
        snapshot.gone.retain(|it| !stays(it));
        for (inode, row) in now.iter().filter(|(inode, _)| !is_told(**inode)) {
            let is_as_before = self.rows.get(inode).is_some_and(|before| !has_changed(before, row, passed));
            if !is_as_before || let_go.contains(&identity(*inode)) {
                snapshot.sightings.push(Sighting {
                    resource: resource(*inode, row),
                    holders: Vec::new(),
                    object: None,
                    opener: None,
                });
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
    Identity(SOCKET_IDENTITY, inode)
}
