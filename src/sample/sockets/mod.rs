//! What a socket is, by its inode: from the kernel's `sock_diag` tables, or from `/proc/PID/net` where those are of
//! a network namespace that we can't enter, or can't be had.

mod brief;
mod cgroup_id;
mod diag;
mod inet;
mod inodes;
mod namespace;
mod netlink;
mod outside;
mod plan;
mod procnet;
mod unix;

use super::procfs::{ProcFs, ReadError};
use crate::model::{Activity, Address, Detail, Kind, SocketType, State};
use diag::SockDiag;
use namespace::Namespaces;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

pub(super) use brief::SocketRow;
pub(super) use cgroup_id::CgroupPaths;
pub(super) use inet::CONGESTION_STATES;
pub(super) use inodes::{InodeMap, InodeSet};
pub(super) use netlink::Netlink;
pub(super) use outside::Outside;
pub(super) use unix::name as unix_name;

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
    /// The protocol's name where it is another than its kind's: `MPTCP` of one whose rows are of a TCP table.
    pub protocol: Option<&'static str>,
    /// User, cgroup, queues, retransmits; `None` where not asked for.
    pub detail: Option<Box<Detail>>,
}

/// The note of rows that may be missing.
const TORN: &str =
    "the kernel's socket tables changed faster than they could be read: some sockets may lack their addresses";

/// Sockets by inode.
pub(super) type SocketTable = InodeMap<Socket>;

/// Reads the socket tables of one network namespace after the other.
#[derive(Debug)]
pub(super) struct SocketReader {
    proc: ProcFs,
    own_namespace: Option<PathBuf>,
    netlink: Option<SockDiag>,
    namespaces: Namespaces,
    cgroups: CgroupPaths,
    scopes: outside::Scopes,
    /// Whether rows have their details: user, cgroup, queues, retransmits. A tick goes without.
    with_detail: bool,
    /// What the last read could not see or had to take from `/proc`, once each.
    pub notes: Vec<String>,
    /// How many of the notes hold for every read.
    lasting_notes: usize,
}

impl SocketReader {
    /// A reader that asks `sock_diag` where it is allowed to, the tree is the real `/proc` and the kernel lets us.
    pub(super) fn new(proc: &ProcFs, allows_netlink: bool) -> Self {
        let mut notes = Vec::new();
        let real = allows_netlink && proc.root() == Path::new("/proc");
        let netlink = real.then(Netlink::open).and_then(|opened| match opened {
            Ok(netlink) => Some(SockDiag::new(netlink)),
            Err(error) => {
                notes.push(format!(
                    "sock_diag can't be used ({error}): sockets come from /proc/PID/net, without bytes, silence and Unix peers"
                ));
                None
            }
        });
        SocketReader {
            own_namespace: fs::read_link("/proc/self/ns/net").ok(),
            proc: proc.clone(),
            netlink,
            namespaces: Namespaces::default(),
            cgroups: CgroupPaths::new(proc),
            scopes: outside::Scopes::default(),
            with_detail: false,
            lasting_notes: notes.len(),
            notes,
        }
    }

    /// The same, rows with their details or without.
    pub(super) fn with_detail(self, with_detail: bool) -> Self {
        SocketReader { with_detail, ..self }
    }

    /// How sockets are read, for a person.
    pub(super) fn source(&self) -> &'static str {
        if self.netlink.is_some() { "/proc/PID/fd and sock_diag" } else { "/proc alone" }
    }

    /// The rows of the sockets that these processes hold. What no table lists is missing. Tables are read once for all the
    /// processes that share them. To be called once a tick: it begins anew what [`SocketReader::outside`] remembers.
    pub(super) fn read<I: Iterator<Item = u64>>(&mut self, held: impl Iterator<Item = (u32, I)>) -> SocketTable {
        self.notes.truncate(self.lasting_notes);
        self.scopes.forget();
        let mut namespaces: HashMap<PathBuf, (u32, InodeSet)> = HashMap::new();
        for (pid, inodes) in held {
            let folder = self.proc.folder(pid);
            // One that can't be told is the process' own.
            let namespace = fs::read_link(folder.join("ns/net")).unwrap_or(folder);
            namespaces.entry(namespace).or_insert((pid, InodeSet::default())).1.extend(inodes);
        }
        self.namespaces.retain(&namespaces.keys().map(PathBuf::as_path).collect::<HashSet<_>>());
        let mut found = SocketTable::default();
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

    /// The sockets around a process whose `/proc/PID/fd` is closed to us: those of its cgroup, or else of its user. Calls
    /// for several processes of one cgroup or user between two reads share one look at the tables. Fails where the process
    /// is gone, or the tables can't be read.
    pub(super) fn outside(&mut self, pid: u32) -> Result<Outside, ReadError> {
        let told = self.scopes.around(&self.proc, pid, &mut self.cgroups, self.netlink.as_mut());
        if self.netlink.as_ref().is_some_and(|tables| tables.torn) {
            self.note(TORN.to_owned());
        }
        told
    }

    /// The rows of `wanted`, as seen from process `pid`.
    fn read_namespace(&mut self, namespace: &Path, pid: u32, wanted: &InodeSet) -> SocketTable {
        if self.netlink.is_none() {
            return procnet::read(&self.proc, pid, wanted, self.with_detail);
        }
        let is_own = Some(namespace) == self.own_namespace.as_deref();
        let link = self.proc.folder(pid).join("ns/net");
        let mut tables = if is_own { self.netlink.take() } else { self.namespaces.take(namespace, &link) };
        let answer = tables.as_mut().map(|tables| {
            let cgroups = self.with_detail.then_some(&mut self.cgroups);
            tables.read(wanted, cgroups).map(|sockets| (sockets, tables.torn))
        });
        // One that failed may still have the rest of an answer in it.
        match (is_own, matches!(answer, Some(Err(_)))) {
            (true, false) => self.netlink = tables,
            (true, true) => self.netlink = Netlink::open().ok().map(SockDiag::new),
            (false, false) => self.namespaces.keep(namespace, tables),
            (false, true) => {}
        }
        match answer {
            Some(Ok((sockets, torn))) => {
                if torn {
                    self.note(TORN.to_owned());
                }
                return sockets;
            }
            Some(Err(error)) => self.note(format!(
                "sock_diag failed ({error}): sockets come from /proc/PID/net, without bytes, silence and Unix peers"
            )),
            None => self.note(format!(
                "process {pid} is in another network namespace, and entering it takes CAP_SYS_ADMIN: its sockets come from \
                 /proc/{pid}/net, without bytes, silence and Unix peers; run unclosed by sudo to see them"
            )),
        }
        procnet::read(&self.proc, pid, wanted, self.with_detail)
    }

    fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }
}
