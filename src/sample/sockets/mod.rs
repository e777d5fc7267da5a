//! What a socket is, by its inode: from the kernel's `sock_diag` tables, or from `/proc/PID/net` where those are of
//! another network namespace or can't be had.

pub(super) mod netlink;
mod procnet;

use super::procfs::ProcFs;
use crate::model::{Activity, Address, Kind, SocketType, State};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A row of a socket table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Socket {
    /// TCP, UDP, raw or Unix.
    pub kind: Kind,
    /// An IPv6 socket.
    pub ipv6: bool,
    /// Stream or datagram, of a Unix socket.
    pub socket_type: Option<SocketType>,
    /// Our end; `None` for a Unix socket without a name.
    pub local: Option<Address>,
    /// The other end.
    pub remote: Option<Address>,
    /// The peer's inode, of a Unix socket.
    pub peer_inode: Option<u64>,
    /// Its state; `None` for UDP. A Unix socket that neither listens nor is connected is `CLOSE`, as the kernel has it.
    pub state: Option<State>,
    /// What it carried.
    pub activity: Activity,
}

/// Sockets by inode.
pub(super) type SocketTable = HashMap<u64, Socket>;

/// Reads the socket tables of one network namespace after the other.
#[derive(Debug)]
pub(super) struct SocketReader {
    proc: ProcFs,
    own_namespace: Option<PathBuf>,
    netlink: Option<netlink::SockDiag>,
    /// Why the tables came from `/proc`, once each.
    pub notes: Vec<String>,
}

impl SocketReader {
    /// A reader that asks `sock_diag` where the tree is the real `/proc` and the kernel lets us.
    pub(super) fn new(proc: &ProcFs) -> Self {
        let mut notes = Vec::new();
        let real = proc.root() == Path::new("/proc");
        let netlink = real.then(netlink::SockDiag::open).and_then(|opened| match opened {
            Ok(netlink) => Some(netlink),
            Err(error) => {
                notes.push(format!(
                    "sock_diag can't be used ({error}): sockets come from /proc/PID/net, without bytes, silence and Unix peers"
                ));
                None
            }
        });
        SocketReader { own_namespace: fs::read_link("/proc/self/ns/net").ok(), proc: proc.clone(), netlink, notes }
    }

    /// How sockets are read, for a person.
    pub(super) fn source(&self) -> &'static str {
        if self.netlink.is_some() { "/proc/PID/fd and sock_diag" } else { "/proc alone" }
    }

    /// The rows of the sockets that these processes hold. What no table lists is missing. Tables are read once for all the
    /// processes that share them.
    pub(super) fn read<I: Iterator<Item = u64>>(&mut self, held: impl Iterator<Item = (u32, I)>) -> SocketTable {
        let mut namespaces: HashMap<PathBuf, (u32, HashSet<u64>)> = HashMap::new();
        for (pid, inodes) in held {
            let folder = self.proc.folder(pid);
            // One that can't be told is the process' own.
            let namespace = fs::read_link(folder.join("ns/net")).unwrap_or(folder);
            namespaces.entry(namespace).or_insert((pid, HashSet::new())).1.extend(inodes);
        }
        let mut found = SocketTable::new();
        for (namespace, (pid, wanted)) in namespaces.into_iter().filter(|(_, (_, wanted))| !wanted.is_empty()) {
            let table = self.read_namespace(&namespace, pid, &wanted);
            // One namespace is the rule.
            if found.is_empty() {
                found = table;
            } else {
                found.extend(table);
            }
        }
        found
    }

    /// The rows of `wanted`, as seen from process `pid`.
    fn read_namespace(&mut self, namespace: &Path, pid: u32, wanted: &HashSet<u64>) -> SocketTable {
        if Some(namespace) == self.own_namespace.as_deref()
            && let Some(netlink) = &mut self.netlink
        {
            match netlink.read(wanted) {
                Ok(table) => return table,
                Err(error) => self.note(format!("sock_diag failed ({error}): sockets come from /proc/PID/net")),
            }
        } else if self.netlink.is_some() {
            self.note(format!(
                "process {pid} is in another network namespace: its sockets come from /proc/{pid}/net, without bytes, silence and Unix peers"
            ));
        }
        procnet::read(&self.proc, pid, wanted)
    }

    fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }
}
