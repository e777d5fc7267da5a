//! Live readers of the system. A [`Sampler`] takes one [`Snapshot`] a tick; it sees only [`crate::model`].

mod descriptors;
#[cfg_attr(not(test), expect(dead_code, reason = "the sampler takes it up next"))]
mod iterator;
mod machine;
mod metrics;
mod own_cost;
mod procfs;
mod resolve;
mod sockets;
mod target;

pub use machine::MachineReader;
pub use metrics::{Metric, MetricError};
pub use own_cost::own_cost;
pub use procfs::{ProcFs, ReadError};
pub use resolve::Resolver;
pub use target::TargetProcesses;

use crate::model::{
    Address, Descriptor, Identity, Kind, Limit, Process, ProcessId, Reading, Resource, Snapshot, Timestamp, Unit,
    UnixPeer,
};
use descriptors::{DescriptorReader, Entry, Referent};
use metrics::MetricWorkers;
use procfs::Status;
use sockets::{Socket, SocketReader};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Reads a target again and again.
#[derive(Debug)]
pub struct Sampler {
    proc: ProcFs,
    descriptors: DescriptorReader,
    sockets: SocketReader,
    metrics: MetricWorkers,
    processes: HashMap<ProcessId, Process>,
}

impl Sampler {
    /// A sampler of processes under `proc` that takes `metrics` besides; each may take `metric_limit` a tick.
    pub fn new(proc: &ProcFs, metrics: Vec<Metric>, metric_limit: Duration) -> Self {
        Sampler {
            proc: proc.clone(),
            descriptors: DescriptorReader::new(proc),
            sockets: SocketReader::new(proc),
            metrics: MetricWorkers::start(metrics, metric_limit),
            processes: HashMap::new(),
        }
    }

    /// How sockets are read, for a person.
    pub fn source(&self) -> &'static str {
        self.sockets.source()
    }

    /// Reads the processes now. Those that end meanwhile are left out of the snapshot.
    pub fn sample(&mut self, members: &[ProcessId], at: Timestamp) -> Snapshot {
        self.metrics.begin();
        let mut snapshot = Snapshot { at, ..Snapshot::default() };
        let mut memory = Memory::default();
        let mut entries = Vec::with_capacity(members.len());
        self.forget_ended(members);
        for id in members {
            match self.read_process(id, &mut memory) {
                Ok((process, opened)) => {
                    snapshot.processes.push(process);
                    entries.push(opened);
                }
                Err(ReadError::Gone(_)) => {}
                Err(error) => {
                    snapshot.unreadable.push(id.clone());
                    snapshot.unseen.push(unreadable_words(&error, id.pid));
                }
            }
        }
        self.add_resources(entries, &mut snapshot);
        if memory.processes > 0 {
            memory.readings(&mut snapshot.readings);
            self.limits(&mut snapshot);
        }
        snapshot.unseen.append(&mut self.sockets.notes.clone());
        self.metrics.finish(&mut snapshot.readings);
        snapshot
    }

    fn read_process(&mut self, id: &ProcessId, memory: &mut Memory) -> Result<(Process, Vec<Entry>), ReadError> {
        let status = self.proc.status(id.pid)?;
        // Everyone may read the status, also where the descriptors are closed to us.
        memory.add(&status);
        let process = match self.processes.get(id) {
            Some(known) if known.name == status.name => known.clone(),
            // New, or it has become another program by exec.
            _ => {
                let process = self.proc.process(id)?;
                self.processes.insert(id.clone(), process.clone());
                process
            }
        };
        Ok((process, self.descriptors.read(id.pid)?))
    }

    /// Adds the descriptors of the snapshot's processes and what they refer to.
    fn add_resources(&mut self, entries: Vec<Vec<Entry>>, snapshot: &mut Snapshot) {
        let pids: Vec<u32> = snapshot.processes.iter().map(|process| process.id.pid).collect();
        let mut sockets = self.sockets.read(pids.iter().copied().zip(entries.iter().map(|entries| inodes_of(entries))));
        // Where in the snapshot a resource is that some descriptor has been found to refer to.
        let mut places: HashMap<Identity, usize> = HashMap::new();
        for (process, entry) in
            entries.into_iter().enumerate().flat_map(|(process, of)| of.into_iter().map(move |entry| (process, entry)))
        {
            let access = entry.referent.access;
            let identity = entry.referent.identity;
            let place = match places.get(&identity) {
                Some(place) => *place,
                None => {
                    // Only of a socket: inodes of files are numbers of their own.
                    let socket = entry.referent.socket_inode().and_then(|inode| sockets.remove(&inode));
                    let Some(resource) = self.resource(pids[process], entry.fd, entry.referent, socket) else {
                        continue;
                    };
                    snapshot.resources.push(resource);
                    places.insert(identity, snapshot.resources.len() - 1);
                    snapshot.resources.len() - 1
                }
            };
            snapshot.descriptors.push(Descriptor { process, fd: entry.fd, access, resource: place });
        }
    }

    /// A descriptor's referent with what the socket tables say of it; `None` for a socket that was closed meanwhile.
    fn resource(&self, pid: u32, fd: i32, referent: Referent, row: Option<Socket>) -> Option<Resource> {
        let mut resource = Resource::new(referent.identity, referent.kind);
        resource.inode = referent.inode;
        resource.name = referent.name;
        let Some(row) = row else {
            if referent.kind == Kind::Socket {
                (resource.kind, resource.name) = self.protocol_of(pid, fd)?;
            }
            return Some(resource);
        };
        resource.kind = row.kind;
        resource.ipv6 = row.ipv6;
        resource.socket_type = row.socket_type;
        resource.local = row.local;
        resource.remote = row.remote;
        resource.state = row.state;
        resource.activity = row.activity;
        if row.kind == Kind::Unix {
            resource.name = resource.local.as_ref().or(resource.remote.as_ref()).map(Address::to_string);
            resource.peer = row.peer_inode.map(|inode| UnixPeer { inode, owner: None });
        }
        Some(resource)
    }

    /// The protocol of a socket that stands in no table (neither bound nor connected, or of another family), by the
    /// kernel's extended attribute `system.sockprotoname`, as lsof does.
    fn protocol_of(&self, pid: u32, fd: i32) -> Option<(Kind, Option<String>)> {
        let path = self.proc.folder(pid).join("fd").join(fd.to_string());
        let mut buffer = [0u8; 64];
        let protocol = match rustix::fs::getxattr(&path, "system.sockprotoname", &mut buffer[..]) {
            Ok(length) => String::from_utf8_lossy(&buffer[..length]).trim_end_matches('\0').to_owned(),
            Err(rustix::io::Errno::NOENT) if self.proc.root() == std::path::Path::new("/proc") => return None,
            Err(_) => return Some((Kind::Socket, None)),
        };
        let kind = match protocol.as_str() {
            "TCP" | "TCPv6" | "MPTCP" | "MPTCPv6" => Kind::Tcp,
            "UDP" | "UDPv6" => Kind::Udp,
            "RAW" | "RAWv6" => Kind::Raw,
            "NETLINK" => Kind::Netlink,
            "PACKET" => Kind::Packet,
            _ if protocol.starts_with("UNIX") => Kind::Unix,
            _ => Kind::Socket,
        };
        Some((kind, Some(format!("protocol: {protocol}"))))
    }

    fn limits(&self, snapshot: &mut Snapshot) {
        // Every process has a limit of its own: the target breaks where the tightest does.
        let pids = snapshot.processes.iter().map(|process| process.id.pid);
        let tightest = pids.clone().filter_map(|pid| self.proc.descriptor_limit(pid)).min();
        if let Some(limit) = tightest {
            let (name, series) = ("RLIMIT_NOFILE".to_owned(), "descriptors".to_owned());
            snapshot.limits.push(Limit { name, series, value: limit as f64 });
        }
        if let Some(limit) = pids.filter_map(|pid| self.proc.memory_limit(pid)).min() {
            let (name, series) = ("cgroup memory".to_owned(), "memory".to_owned());
            snapshot.limits.push(Limit { name, series, value: limit as f64 });
        }
    }

    fn forget_ended(&mut self, members: &[ProcessId]) {
        let descriptors = &mut self.descriptors;
        let members: HashSet<&ProcessId> = members.iter().collect();
        self.processes.retain(|id, _| {
            let runs = members.contains(id);
            if !runs {
                descriptors.forget(id.pid);
            }
            runs
        });
    }

    /// Names the processes at the other end of Unix sockets: one walk over every process' descriptors that we may read,
    /// ended when all are found or `limit` is over.
    pub fn find_unix_peers(&mut self, snapshot: &mut Snapshot, limit: Duration) {
        let begun = std::time::Instant::now();
        let peers = snapshot.resources.iter().filter_map(|it| it.peer.as_ref().map(|peer| peer.inode));
        let mut missing: HashSet<u64> = peers.filter(|inode| *inode != 0).collect();
        let mut owners: HashMap<u64, (u32, i32)> = HashMap::new();
        let own: Vec<u32> = snapshot.processes.iter().map(|process| process.id.pid).collect();
        let others = self.proc.pids().into_iter().filter(|pid| !own.contains(pid));
        for pid in own.iter().copied().chain(others) {
            if missing.is_empty() || begun.elapsed() > limit {
                break;
            }
            let mut reader = DescriptorReader::new(&self.proc);
            for entry in reader.read(pid).unwrap_or_default() {
                if let Some(inode) = entry.referent.socket_inode().filter(|inode| missing.remove(inode)) {
                    owners.insert(inode, (pid, entry.fd));
                }
            }
        }
        for resource in &mut snapshot.resources {
            if let Some(peer) = &mut resource.peer {
                peer.owner = owners.get(&peer.inode).copied();
            }
        }
    }
}

/// What can't be seen of a process, with the command that mends it.
fn unreadable_words(error: &ReadError, pid: u32) -> String {
    match error {
        ReadError::Denied { .. } => format!(
            "{error}: process {pid} is another user's, or protected; run unclosed as that user or by sudo to see its descriptors"
        ),
        _ => error.to_string(),
    }
}

/// The inodes of the sockets among the descriptors.
fn inodes_of(entries: &[Entry]) -> impl Iterator<Item = u64> {
    entries.iter().filter_map(|it| it.referent.socket_inode())
}

/// Memory and threads of the target's processes together.
#[derive(Default)]
struct Memory {
    processes: usize,
    rss_bytes: Option<u64>,
    anonymous_bytes: Option<u64>,
    threads: u64,
}

impl Memory {
    fn add(&mut self, status: &Status) {
        let sum = |all: &mut Option<u64>, one: Option<u64>| {
            if let Some(one) = one {
                *all = Some(all.unwrap_or(0) + one);
            }
        };
        self.processes += 1;
        sum(&mut self.rss_bytes, status.rss_bytes);
        sum(&mut self.anonymous_bytes, status.anonymous_bytes);
        self.threads += status.threads;
    }

    fn readings(&self, out: &mut Vec<Reading>) {
        let bytes = [("memory", self.rss_bytes), ("memory:anonymous", self.anonymous_bytes)];
        for (series, value) in bytes {
            if let Some(value) = value {
                out.push(Reading { series: series.into(), unit: Unit::Bytes, value: Ok(value as f64) });
            }
        }
        out.push(Reading { series: "threads".into(), unit: Unit::Count, value: Ok(self.threads as f64) });
    }
}

/// Whether a test may go on that needs permissions to count. For root they don't: it is then run again as nobody, or
/// skipped aloud where that can't be done.
#[cfg(test)]
fn unprivileged(test: &str) -> bool {
    use std::process::Command;
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let again = std::env::current_exe().and_then(|this| {
        let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
        Command::new("setpriv").args(nobody).arg(this).args(["--exact", test]).env("TMPDIR", "/tmp").output()
    });
    match again {
        Ok(again) if !matches!(again.status.code(), Some(126 | 127)) => {
            let text = String::from_utf8_lossy(&again.stdout);
            assert!(text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&again.stderr));
        }
        failed => eprintln!("SKIPPED {test}: we are root and can't run it as nobody: {failed:?}"),
    }
    false
}
