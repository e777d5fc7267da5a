//! Live readers of the system. A [`Sampler`] takes one [`Snapshot`] a tick; it sees only [`crate::model`].

mod cgroup;
mod descriptors;
mod holdings;
mod iterator;
mod limits;
mod machine;
mod memory;
mod metrics;
mod own_cost;
mod probe;
mod procfs;
mod resolve;
mod sockets;
mod target;
mod walk;

pub use cgroup::{CgroupPath, UnitName};
pub use machine::MachineReader;
pub use metrics::{Metric, MetricError};
pub use own_cost::own_cost;
pub use probe::probe;
pub use procfs::{ProcFs, ReadError};
pub use resolve::Resolver;
pub use target::{CommandPattern, Pattern, Rule, RuleError, TargetProcesses};

use crate::model::{Limit, Process, ProcessId, Sighting, Snapshot, Timestamp};
use descriptors::DescriptorReader;
use holdings::Holdings;
use memory::Memory;
use metrics::MetricWorkers;
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use walk::Walk;

/// Reads a target again and again.
#[derive(Debug)]
pub struct Sampler {
    proc: ProcFs,
    walk: Walk,
    holdings: Holdings,
    metrics: MetricWorkers,
    processes: HashMap<ProcessId, Process>,
}

impl Sampler {
    /// A sampler of processes under `proc` that takes `metrics` besides; each may take `metric_limit` a tick.
    pub fn new(proc: &ProcFs, metrics: Vec<Metric>, metric_limit: Duration) -> Self {
        Sampler {
            proc: proc.clone(),
            walk: Walk::new(proc),
            holdings: Holdings::default(),
            metrics: MetricWorkers::start(metrics, metric_limit),
            processes: HashMap::new(),
        }
    }

    /// How sockets are read, for a person.
    pub fn source(&self) -> &'static str {
        self.walk.sockets.source()
    }

    /// Reads the processes now. Those that end meanwhile are left out of the snapshot.
    pub fn sample(&mut self, members: &[ProcessId], at: Timestamp) -> Snapshot {
        self.metrics.begin();
        let mut snapshot = Snapshot { at, ..Snapshot::default() };
        let mut memory = Memory::default();
        self.forget_ended(members);
        let processes: Vec<_> = members.iter().map(|id| self.read_process(id, &mut memory)).collect();
        let read = self.walk.read(members, at);
        for ((id, process), read) in members.iter().zip(processes).zip(read) {
            match process.and_then(|process| read.map(|()| process)) {
                Ok(process) => {
                    snapshot.processes.push(process);
                    self.holdings.update(id, self.walk.seen(id.pid));
                }
                Err(ReadError::Gone(_)) => self.forget(id),
                Err(error) => {
                    snapshot.unreadable.push(id.clone());
                    snapshot.unseen.push(unreadable_words(&error, id.pid));
                }
            }
        }
        self.add_changes(&mut snapshot);
        if memory.processes > 0 {
            memory.readings(&mut snapshot.readings);
            let pids: Vec<u32> = snapshot.processes.iter().map(|process| process.id.pid).collect();
            let (limits, nearest) = limits::of(&self.proc, &pids);
            snapshot.limits = limits;
            snapshot.readings.extend(nearest);
        }
        snapshot.unseen.append(&mut self.walk.sockets.notes.clone());
        self.metrics.finish(&mut snapshot.readings);
        snapshot
    }

    fn read_process(&mut self, id: &ProcessId, memory: &mut Memory) -> Result<Process, ReadError> {
        let status = self.proc.status(id.pid)?;
        // Everyone may read the status, also where the descriptors are closed to us.
        memory.add(&status);
        match self.processes.get(id) {
            Some(known) if known.name == status.name => Ok(known.clone()),
            // New, or it has become another program by exec.
            _ => {
                let process = self.proc.process(id)?;
                self.processes.insert(id.clone(), process.clone());
                Ok(process)
            }
        }
    }

    /// Adds what is new or has changed of what the processes hold.
    fn add_changes(&mut self, snapshot: &mut Snapshot) {
        let changes = self.holdings.changes();
        for identity in changes.touched {
            let holders = self.holdings.holders(identity);
            if let Some(resource) = holders.iter().find_map(|holder| self.walk.resource(holder)) {
                snapshot.sightings.push(Sighting { resource, holders: holders.to_vec() });
            }
        }
        snapshot.gone = changes.gone;
    }

    fn forget_ended(&mut self, members: &[ProcessId]) {
        let members: HashSet<&ProcessId> = members.iter().collect();
        let ended: Vec<ProcessId> = self.processes.keys().filter(|id| !members.contains(id)).cloned().collect();
        for id in ended {
            self.forget(&id);
        }
    }

    fn forget(&mut self, id: &ProcessId) {
        self.processes.remove(id);
        self.walk.forget(id.pid);
        self.holdings.forget(id.pid);
    }

    /// Names the processes at the other end of Unix sockets: one walk over every process' descriptors that we may read,
    /// ended when all are found or `limit` is over.
    pub fn find_unix_peers(&mut self, snapshot: &mut Snapshot, limit: Duration) {
        let begun = std::time::Instant::now();
        let peers = snapshot.sightings.iter().filter_map(|it| it.resource.peer.as_ref().map(|peer| peer.inode));
        let mut missing: HashSet<u64> = peers.filter(|inode| *inode != 0).collect();
        let mut owners: HashMap<u64, (u32, i32)> = HashMap::new();
        let own: Vec<u32> = snapshot.processes.iter().map(|process| process.id.pid).collect();
        let others = self.proc.pids().into_iter().filter(|pid| !own.contains(pid));
        for pid in own.iter().copied().chain(others) {
            if missing.is_empty() || begun.elapsed() > limit {
                break;
            }
            let mut reader = DescriptorReader::new(&self.proc);
            // One that is closed to us, or gone, has nothing to tell.
            let _ = reader.read(pid);
            for slot in reader.slots(pid) {
                if let Some(inode) = slot.referent.socket_inode().filter(|inode| missing.remove(inode)) {
                    owners.insert(inode, (pid, slot.fd));
                }
            }
        }
        for sighting in &mut snapshot.sightings {
            if let Some(peer) = &mut sighting.resource.peer {
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
