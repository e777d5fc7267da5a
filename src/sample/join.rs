//! What processes hold, by `/proc/PID/fd` joined to the socket tables by inode: needs no more than to be the processes'
//! user.

use super::descriptors::{DescriptorReader, Referent, Slot};
use super::holdings::Seen;
use super::procfs::{ProcFs, ReadError};
use super::sockets::{Socket, SocketReader, SocketTable};
use crate::model::{Address, Descriptor, Kind, ProcessId, Resource, Timestamp, UnixPeer};
use std::collections::HashSet;

/// Two readings of "silent for" of the same silence differ by the kernel's rounding and our own delay.
const SILENCE_NOISE_SECONDS: f64 = 0.1;

/// Walks the descriptors of processes.
#[derive(Debug)]
pub(super) struct Join {
    proc: ProcFs,
    /// Who knows what a descriptor's link leads to.
    pub(super) descriptors: DescriptorReader,
    /// Who knows what a socket is.
    pub(super) sockets: SocketReader,
    rows: SocketTable,
    read_at: Option<Timestamp>,
    /// Sockets of which the tables say something else than at the read before, by inode.
    news: HashSet<u64>,
}

impl Join {
    /// A join under `proc`.
    pub(super) fn new(proc: &ProcFs, allows_netlink: bool, with_details: bool) -> Self {
        let mut descriptors = DescriptorReader::new(proc);
        if with_details {
            descriptors.ask_all_details();
        }
        Join {
            proc: proc.clone(),
            descriptors,
            sockets: SocketReader::new(proc, allows_netlink).with_detail(with_details),
            rows: SocketTable::default(),
            read_at: None,
            news: HashSet::new(),
        }
    }

    /// Reads what these processes hold now, and says of each whether it could be read.
    pub(super) fn read(&mut self, processes: &[ProcessId], at: Timestamp) -> Vec<Result<(), ReadError>> {
        let read: Vec<_> = processes.iter().map(|id| self.descriptors.read(id.pid)).collect();
        let readable = processes.iter().zip(&read).filter(|(_, read)| read.is_ok());
        let held = readable.map(|(id, _)| (id.pid, inodes_of(self.descriptors.slots(id.pid))));
        let before = std::mem::replace(&mut self.rows, self.sockets.read(held));
        let passed = self.read_at.replace(at).map_or(0.0, |last| at.seconds_since(last));
        let rows = &self.rows;
        let changed =
            rows.iter().filter(|(inode, now)| before.get(inode).is_none_or(|it| has_changed(it, now, passed)));
        // A connection that the peer has reset stands in no table any more.
        let lost = before.keys().filter(|inode| !rows.contains_key(inode));
        self.news = changed.map(|(inode, _)| *inode).chain(lost.copied()).collect();
        read
    }

    /// The descriptors of a process that was read, in the order of their numbers.
    pub(super) fn seen(&self, pid: u32) -> impl Iterator<Item = Seen> {
        self.descriptors.slots(pid).iter().map(|slot| {
            let Referent { access, identity, .. } = slot.referent;
            let news = slot.news || slot.referent.socket_inode().is_some_and(|inode| self.news.contains(&inode));
            Seen { fd: slot.fd, access, identity, news }
        })
    }

    /// What a descriptor of a process that was read refers to; `None` for a socket that was closed meanwhile.
    pub(super) fn resource(&self, holder: &Descriptor) -> Option<Resource> {
        let pid = holder.process.pid;
        let slots = self.descriptors.slots(pid);
        let slot = &slots[slots.binary_search_by_key(&holder.fd, |slot| slot.fd).ok()?];
        let mut resource = resource_of(&slot.referent);
        // Only of a socket: inodes of files are numbers of their own.
        match slot.referent.socket_inode().map(|inode| self.rows.get(&inode)) {
            None => {}
            Some(Some(row)) => add_socket(&mut resource, row),
            Some(None) => {
                (resource.kind, resource.name) = protocol_of(&self.proc, pid, holder.fd)?;
                resource.ipv6 = resource.name.as_ref().is_some_and(|name| name.ends_with("v6"));
            }
        }
        Some(resource)
    }

    /// Forgets a process that has ended, or that is the target's no more.
    pub(super) fn forget(&mut self, pid: u32) {
        self.descriptors.forget(pid);
    }
}

/// The inodes of the sockets among the descriptors.
fn inodes_of(slots: &[Slot]) -> impl Iterator<Item = u64> {
    slots.iter().filter_map(|it| it.referent.socket_inode())
}

/// What the link and `stat` tell.
pub(super) fn resource_of(referent: &Referent) -> Resource {
    let mut resource = Resource::new(referent.identity, referent.kind);
    resource.inode = referent.inode;
    resource.name.clone_from(&referent.name);
    resource.activity = referent.activity;
    resource.detail.clone_from(&referent.detail);
    resource
}

/// Adds what a socket table says.
pub(super) fn add_socket(resource: &mut Resource, row: &Socket) {
    resource.kind = row.kind;
    resource.ipv6 = row.ipv6;
    resource.socket_type = row.socket_type;
    resource.local.clone_from(&row.local);
    resource.remote.clone_from(&row.remote);
    resource.state = row.state;
    resource.activity = row.activity;
    resource.detail.clone_from(&row.detail);
    resource.name = row.protocol.as_ref().map(|protocol| format!("protocol: {protocol}"));
    if row.kind == Kind::Unix {
        resource.name = resource.local.as_ref().or(resource.remote.as_ref()).map(Address::to_string);
        resource.peer = row.peer_inode.map(|inode| UnixPeer { inode, owner: None });
    }
}

/// True where a socket's row says more than that it has been silent on.
pub(super) fn has_changed(before: &Socket, now: &Socket, passed_seconds: f64) -> bool {
    let silence = match (before.activity.silent_seconds, now.activity.silent_seconds) {
        (Some(before), Some(now)) => (before + passed_seconds - now).abs() > SILENCE_NOISE_SECONDS,
        (before, now) => before.is_some() != now.is_some(),
    };
    let bytes = |it: &Socket| (it.activity.bytes_sent, it.activity.bytes_received);
    silence
        || bytes(before) != bytes(now)
        || (before.state, before.peer_inode) != (now.state, now.peer_inode)
        || (&before.local, &before.remote) != (&now.local, &now.remote)
}

/// The protocol of a socket that stands in no table (neither bound nor connected, or of another family), by the
/// kernel's extended attribute `system.sockprotoname`, as lsof does. `None` where it is closed by now.
fn protocol_of(proc: &ProcFs, pid: u32, fd: i32) -> Option<(Kind, Option<String>)> {
    let path = proc.folder(pid).join("fd").join(fd.to_string());
    let mut buffer = [0u8; 64];
    match rustix::fs::getxattr(&path, "system.sockprotoname", &mut buffer[..]) {
        Ok(length) => {
            let name = String::from_utf8_lossy(&buffer[..length]);
            Some((kind_of_protocol(&name), Some(format!("protocol: {}", name.trim_end_matches('\0')))))
        }
        Err(rustix::io::Errno::NOENT) if proc.root() == std::path::Path::new("/proc") => None,
        Err(_) => Some((Kind::Socket, None)),
    }
}

/// The kind of a socket by the kernel's name of its protocol (`struct proto`).
pub(super) fn kind_of_protocol(name: &str) -> Kind {
    match name.trim_end_matches('\0') {
        "TCP" | "TCPv6" | "MPTCP" | "MPTCPv6" => Kind::Tcp,
        "UDP" | "UDPv6" => Kind::Udp,
        "RAW" | "RAWv6" => Kind::Raw,
        "NETLINK" => Kind::Netlink,
        "PACKET" => Kind::Packet,
        name if name.starts_with("UNIX") => Kind::Unix,
        _ => Kind::Socket,
    }
}
