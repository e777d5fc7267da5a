//! Live readers of the system. A [`Sampler`] takes one [`Snapshot`] a tick; it sees only [`crate::model`].

mod cgroup;
mod closed;
mod descriptors;
mod holdings;
mod iterator;
mod join;
mod last_look;
mod limits;
mod machine;
mod memory;
mod metrics;
mod own_cost;
mod pass;
mod peers;
mod probe;
mod procfs;
mod resolve;
mod sockets;
mod target;
mod way;

pub use cgroup::{CgroupPath, UnitName};
pub use machine::MachineReader;
pub use metrics::{Metric, MetricError};
pub use own_cost::{own_cost, own_readings};
pub use probe::probe;
pub use procfs::{ProcFs, ReadError};
pub use resolve::Resolver;
pub use target::{CommandPattern, Pattern, Rule, RuleError, TargetProcesses};
pub use way::{Source, SourceError};

use crate::bpf::Unavailable;
use crate::model::{Identity, Process, ProcessId, Reading, Sighting, Snapshot, Timestamp, Unit};
use closed::{Around, ClosedProcesses};
use descriptors::inotify_limits;
use holdings::Holdings;
use iterator::LastLook;
use memory::Memory;
use metrics::MetricWorkers;
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use way::Way;

/// How much is asked of what is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What a tick needs.
    Tick,
    /// Every detail of every descriptor, whatever it costs: for one look that a person waits for.
    Details,
}

/// Reads a target again and again.
#[derive(Debug)]
pub struct Sampler {
    proc: ProcFs,
    way: Way,
    with_details: bool,
    holdings: Holdings,
    closed: ClosedProcesses,
    metrics: MetricWorkers,
    processes: HashMap<ProcessId, Process>,
    last_look: Option<LastLook>,
}

impl Sampler {
    /// A sampler of processes under `proc`, by the fastest way that `source` allows. Fails where that names one that
    /// doesn't work here.
    pub fn new(proc: &ProcFs, source: Source, depth: Depth) -> Result<Self, SourceError> {
        let with_details = depth == Depth::Details;
        Ok(Sampler {
            proc: proc.clone(),
            way: Way::choose(proc, source, with_details)?,
            with_details,
            holdings: Holdings::default(),
            closed: ClosedProcesses::default(),
            metrics: MetricWorkers::start(Vec::new(), Duration::ZERO),
            processes: HashMap::new(),
            last_look: None,
        })
    }

    /// Takes these numbers besides; each may take `limit` a tick.
    pub fn and_metrics(mut self, metrics: Vec<Metric>, limit: Duration) -> Self {
        self.metrics = MetricWorkers::start(metrics, limit);
        self
    }

    /// What a command inherits that we start now: all that we have open.
    pub fn inherited(&mut self) -> Vec<Identity> {
        let Ok(own) = self.proc.identify(std::process::id()) else { return Vec::new() };
        let mut holdings = Holdings::default();
        if self.way.read(std::slice::from_ref(&own), Timestamp(0)).iter().all(Result::is_ok) {
            self.way.tell(&own, &mut holdings);
        }
        self.way.forget(own.pid);
        holdings.changes().touched
    }

    /// Has the kernel tell of each process of a command what it holds as it ends. Fails where BPF isn't allowed.
    pub fn begin_last_look(&mut self) -> Result<(), SourceError> {
        let looks = LastLook::open()?;
        looks.is_about_to_start().map_err(Unavailable::other)?;
        self.last_look = Some(looks);
        Ok(())
    }

    /// The command has been started: what we start from now on is none of it.
    pub fn command_has_started(&mut self) {
        // Without it no more would be followed than what we start ourselves.
        let _ = self.last_look.as_ref().map(LastLook::has_started);
    }

    /// The processes of the command that run, also orphans.
    pub fn followed(&self) -> Vec<u32> {
        self.last_look.as_ref().and_then(|looks| looks.running().ok()).unwrap_or_default()
    }

    /// How descriptors are read, for a person.
    pub fn source(&self) -> &'static str {
        self.way.words()
    }

    /// Reads the processes now. Those that end meanwhile are left out of the snapshot.
    pub fn sample(&mut self, members: &[ProcessId], at: Timestamp) -> Snapshot {
        self.metrics.begin();
        let mut snapshot = Snapshot { at, ..Snapshot::default() };
        let mut memory = Memory::default();
        self.forget_ended(members);
        let processes: Vec<_> = members.iter().map(|id| self.read_process(id, &mut memory)).collect();
        let read = self.way.read(members, at);
        let mut around = Around::default();
        for ((id, process), read) in members.iter().zip(processes).zip(read) {
            match process.and_then(|process| read.map(|()| process)) {
                Ok(process) => {
                    snapshot.processes.push(process);
                    self.way.tell(id, &mut self.holdings);
                }
                Err(ReadError::Gone(_)) => self.forget(id),
                Err(error) => self.look_from_outside(id, &error, &mut around, &mut snapshot),
            }
        }
        self.add_changes(&mut snapshot);
        self.closed.take(around.rows, &self.holdings, &mut snapshot);
        if memory.processes > 0 {
            memory.readings(&mut snapshot.readings);
            let pids: Vec<u32> = snapshot.processes.iter().map(|process| process.id.pid).collect();
            let (limits, nearest) = limits::of(&self.proc, &pids);
            snapshot.limits.extend(limits);
            snapshot.readings.extend(nearest);
            if let Some(watches) = self.way.inotify_watches() {
                let value = Ok(watches as f64);
                snapshot.readings.push(Reading { series: "inotify_watches".into(), unit: Unit::Count, value });
                snapshot.limits.append(&mut inotify_limits(&self.proc));
            }
        }
        if let Some(looks) = &mut self.last_look {
            // After all were read: whoever was found to have ended is in it.
            snapshot.endings = last_look::endings(looks, &self.proc, &self.processes, at);
            (snapshot.sees_endings, snapshot.endings_unseen) = (true, looks.unseen());
        }
        snapshot.unseen.extend(self.way.notes());
        self.metrics.finish(&mut snapshot.readings);
        snapshot
    }

    fn read_process(&mut self, id: &ProcessId, memory: &mut Memory) -> Result<Process, ReadError> {
        let status = self.proc.status(id.pid)?;
        // Everyone may read the status, also where the descriptors are closed to us.
        memory.add(&status);
        match self.processes.get(id) {
            Some(known) if (&known.name, known.uid) == (&status.name, status.uid) && !known.is_unnamed() => {
                Ok(known.clone())
            }
            // New, or it has become another program by exec, or another user's.
            _ => {
                let process = self.proc.process(id)?;
                self.processes.insert(id.clone(), process.clone());
                Ok(process)
            }
        }
    }

    /// A process that could not be read: what it held before stands; where it never could be, the sockets around it are
    /// told, and how many descriptors it has.
    fn look_from_outside(&mut self, id: &ProcessId, error: &ReadError, around: &mut Around, snapshot: &mut Snapshot) {
        let is_closed = matches!(error, ReadError::Denied { .. }) && !self.holdings.knows(id.pid);
        let outside = if is_closed { self.way.outside(id.pid) } else { None };
        match (outside, self.processes.get(id)) {
            (Some(Ok(outside)), Some(process)) => {
                snapshot.processes.push(process.clone());
                snapshot.descriptors_unseen += self.proc.descriptor_count(id.pid).unwrap_or(0);
                snapshot.unseen.extend(around.take(outside));
            }
            _ => {
                snapshot.unreadable.push(id.clone());
                snapshot.unseen.push(unreadable_words(error, id.pid));
            }
        }
    }

    /// Adds what is new or has changed of what the processes hold.
    fn add_changes(&mut self, snapshot: &mut Snapshot) {
        let changes = self.holdings.changes();
        for identity in changes.touched {
            let holders = self.holdings.holders(identity);
            let found = holders.iter().find_map(|holder| Some((self.way.resource(holder)?, self.way.object(holder))));
            if let Some((resource, object)) = found {
                snapshot.sightings.push(Sighting { resource, holders: holders.to_vec(), object, opener: None });
            }
        }
        (snapshot.unheld, snapshot.gone) = (changes.unheld, changes.gone);
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
        self.way.forget(id.pid);
        self.holdings.forget(id.pid);
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
