//! What can be seen here: every source is tried, not guessed, for what a security module or a container's filter refuses
//! is written nowhere.

mod setting;
mod tables;

use super::descriptors::DescriptorReader;
use super::iterator::FileIterator;
use super::{ProcFs, ReadError, Sampler};
use crate::model::{
    Capability, Diagnosis, Kind, Lack, Probe, ProbedTarget, ProcessId, Setting, Snapshot, Source, Timestamp, Way, Works,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Tries every source, for a process where one is named. Fails where it doesn't run.
pub fn probe(proc: &ProcFs, pid: Option<u32>) -> Result<Diagnosis, ReadError> {
    let id = pid.map(|pid| proc.identify(pid)).transpose()?;
    let process = id.as_ref().map(|id| proc.process(id)).transpose()?;
    let setting = setting::setting(proc);
    let prober = Prober::new(proc, &setting, id);
    let probes = vec![
        prober.descriptors(),
        prober.descriptor_count(),
        prober.sockets(),
        prober.activity(),
        prober.file_iterator(),
        prober.network_namespace(),
        prober.other_users(),
        prober.memory_limit(),
    ];
    let probes: Vec<Probe> = probes.into_iter().chain(prober.io_uring()).collect();
    let way = way(&probes);
    let container = pid.and_then(|pid| setting::container_of(&proc.text(pid, "cgroup").ok()?));
    let container = container.filter(|it| setting.container.as_ref().is_none_or(|own| own.id != it.id));
    let target = process.map(|it| ProbedTarget { pid: it.id.pid, name: it.name, user: it.user, container, way });
    Ok(Diagnosis { setting, target, probes })
}

/// How many descriptors were read.
fn count_of(snapshot: Option<&Snapshot>) -> usize {
    snapshot.iter().flat_map(|it| &it.sightings).map(|it| it.holders.len()).sum()
}

/// How many sockets were read, in words.
fn of_this_process(snapshot: &Snapshot) -> String {
    let is_socket = |kind: Kind| matches!(kind, Kind::Tcp | Kind::Udp | Kind::Unix | Kind::Raw);
    let all = snapshot.sightings.iter().filter(|it| is_socket(it.resource.kind)).count();
    format!(": {all} of this process")
}

/// How a target is read of which this was found.
fn way(probes: &[Probe]) -> Way {
    let works = |source| probes.iter().any(|probe| probe.source == source && probe.works == Works::Yes);
    match () {
        () if works(Source::FileIterator) => Way::FileIterator,
        () if !works(Source::Descriptors) => Way::Outside,
        () if works(Source::Sockets) => Way::SockDiag,
        () => Way::Proc,
    }
}

/// What is asked of the system once, for several probes.
struct Prober<'a> {
    proc: &'a ProcFs,
    setting: &'a Setting,
    id: Option<ProcessId>,
    /// Why the descriptors are closed to us, where they are.
    closed: Option<ReadError>,
    /// One reading of the target by `/proc`, by the code that watches it.
    snapshot: Option<Snapshot>,
    /// One by the kernel's iterator, where `/proc` is closed to us.
    iterated: Option<Snapshot>,
    /// Why the kernel's iterator can't be loaded, where it can't.
    iterator: Result<(), String>,
    /// The protocols without a table, or why none can be asked.
    tables: Result<Vec<&'static str>, String>,
    namespace: Namespace,
}

/// The target's network namespace, as seen from ours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Namespace {
    Ours,
    /// Another one, and whether it may be entered.
    Other(bool),
    /// Its link may not be read.
    Unknown,
}

impl<'a> Prober<'a> {
    fn new(proc: &'a ProcFs, setting: &'a Setting, id: Option<ProcessId>) -> Self {
        let closed = id.as_ref().and_then(|id| DescriptorReader::new(proc).read(id.pid).err());
        let open = id.as_ref().filter(|_| closed.is_none());
        let read = |id: &ProcessId, by| {
            let mut sampler = Sampler::new(proc, by, super::Depth::Tick).ok()?;
            Some(sampler.sample(std::slice::from_ref(id), Timestamp(0)))
        };
        let namespace = namespace(proc, id.as_ref().map(|id| id.pid));
        let needs_more = closed.is_some() || namespace != Namespace::Ours;
        let iterated = id.as_ref().filter(|_| needs_more).and_then(|id| read(id, super::Source::Bpf));
        Prober {
            snapshot: open.and_then(|id| read(id, super::Source::SockDiag)),
            iterated: iterated.filter(|it| !it.processes.is_empty()),
            iterator: FileIterator::open().map(drop).map_err(|error| error.to_string()),
            tables: tables::missing().map_err(|error| error.to_string()),
            namespace,
            closed,
            proc,
            setting,
            id,
        }
    }

    fn descriptors(&self) -> Probe {
        let source = Source::Descriptors;
        match (&self.id, &self.closed) {
            (None, _) => {
                Probe::found(source, "of every process of our own user, by /proc/PID/fd; `doctor PID` tells of one")
            }
            (Some(id), None) => {
                let count = count_of(self.snapshot.as_ref());
                Probe::found(source, format!("{count} read from /proc/{}/fd", id.pid))
            }
            (Some(id), Some(error)) => {
                let lacks = self.of_others(id.pid);
                if let Some(iterated) = &self.iterated {
                    let count = count_of(Some(iterated));
                    let why = format!("{count} read by BPF; what files are called is closed to us ({error})");
                    return Probe::partly(source, why, lacks);
                }
                let more = "; we have the capabilities that open it, so a security module or a sandbox keeps it closed";
                let more = if lacks.is_empty() { more } else { "" };
                Probe::missing(source, format!("{error}{more}"), lacks)
            }
        }
    }

    /// What opens another user's descriptors, or a protected process', to us: two gates, the folder's mode and the check
    /// that ptrace makes.
    fn of_others(&self, pid: u32) -> Vec<Lack> {
        let is_listed = fs::read_dir(self.proc.folder(pid).join("fd")).is_ok();
        let needed = [Capability::DacReadSearch, Capability::SysPtrace];
        let mut lacks = self.setting.lacking(&needed[usize::from(is_listed)..]);
        if lacks.is_empty() && self.setting.user_namespace {
            lacks.push(Lack::UserNamespace);
        }
        lacks
    }

    fn descriptor_count(&self) -> Probe {
        let source = Source::DescriptorCount;
        // A process always has some of its own, while it lists them.
        let size = |folder: PathBuf| fs::metadata(folder).map(|found| found.len());
        if !size(self.proc.root().join("self/fd")).is_ok_and(|size| size > 0) {
            let why = "the size of /proc/PID/fd tells nothing here: descriptors are counted by listing them";
            return Probe::partly(source, why, vec![Lack::Kernel(6, 2)]);
        }
        let Some(id) = &self.id else { return Probe::found(source, "of every process, by the size of /proc/PID/fd") };
        match size(self.proc.folder(id.pid).join("fd")) {
            Ok(count) => Probe::found(source, format!("{count}, by the size of /proc/{}/fd, whoever asks", id.pid)),
            Err(error) => Probe::missing(source, error.to_string(), self.of_others(id.pid)),
        }
    }

    fn sockets(&self) -> Probe {
        let source = Source::Sockets;
        let partly = |why: String, lacks| Probe::partly(source, why, lacks);
        if let Some(iterated) = &self.iterated {
            return Probe::found(source, format!("BPF tells them{}", of_this_process(iterated)));
        }
        if let (Some(id), Some(_)) = (&self.id, &self.closed) {
            let why = "the tables are open to us, which of the sockets are its own is not: those of its cgroup or user";
            return partly(why.to_owned(), self.of_others(id.pid));
        }
        let sockets = self.snapshot.as_ref().map(of_this_process).unwrap_or_default();
        match (&self.tables, self.namespace) {
            (Err(error), _) => partly(format!("sock_diag refuses ({error}): by /proc/PID/net{sockets}"), Vec::new()),
            (Ok(without), _) if !without.is_empty() => {
                let why = format!("sock_diag has no table of {}: by /proc/PID/net{sockets}", without.join(", "));
                partly(why, vec![Lack::SocketTables(without.clone())])
            }
            (Ok(_), Namespace::Other(false)) if self.id.is_some() => {
                let why = format!("in a network namespace that is closed to us: by /proc/PID/net{sockets}");
                partly(why, self.to_enter())
            }
            (Ok(_), _) => Probe::found(source, format!("sock_diag lists tcp, udp, raw and unix{sockets}")),
        }
    }

    fn activity(&self) -> Probe {
        let source = Source::Activity;
        let has_tables = self.tables.as_ref().is_ok_and(|without| !without.contains(&"tcp"));
        let is_elsewhere = self.id.is_some() && self.namespace == Namespace::Other(false);
        if self.iterated.is_none() && (!has_tables || is_elsewhere || self.closed.is_some()) {
            let sockets = self.sockets();
            // Of a process that is closed to us only which sockets are its own is unknown.
            let works = if has_tables && self.closed.is_some() { Works::Partly } else { Works::No };
            return Probe { source, works, why: "goes with its sockets".to_owned(), lacks: sockets.lacks };
        }
        let read = self.iterated.iter().chain(&self.snapshot).take(1);
        let connections = read.flat_map(|it| &it.sightings).map(|it| &it.resource);
        let connections = connections.filter(|it| it.kind == Kind::Tcp && it.is_connection());
        let known: Vec<bool> = connections.map(|it| it.activity.bytes_sent.is_some()).collect();
        let (all, seen) = (known.len(), known.iter().filter(|known| **known).count());
        let why = format!(
            "bytes and silence by {}{}",
            if self.iterated.is_some() { "BPF" } else { "TCP_INFO" },
            match &self.id {
                Some(_) => format!(": of {seen} of {all} TCP connections"),
                None => String::new(),
            }
        );
        let works = if seen == all { Works::Yes } else { Works::Partly };
        Probe { works, ..Probe::found(source, why) }
    }

    /// The one place to ask whether the iterator can be used.
    fn file_iterator(&self) -> Probe {
        let lacks = self.setting.lacks_for_bpf((6, 1));
        let why = "descriptors, addresses, bytes and silence in one pass, of any process";
        if !lacks.is_empty() {
            return Probe::missing(Source::FileIterator, why, lacks);
        }
        match &self.iterator {
            Ok(()) => Probe::found(Source::FileIterator, why),
            Err(error) => Probe::missing(Source::FileIterator, error, Vec::new()),
        }
    }

    /// `/sys`, beside `/proc`.
    fn system(&self) -> PathBuf {
        self.proc.root().with_file_name("sys")
    }

    fn network_namespace(&self) -> Probe {
        let source = Source::NetworkNamespace;
        match (self.namespace, &self.id) {
            (Namespace::Ours, Some(_)) => Probe::found(source, "it is in ours: nothing is to be entered"),
            (Namespace::Other(true), Some(_)) => Probe::found(source, "it is in another one, which may be entered"),
            (Namespace::Other(true), None) => Probe::found(source, "others may be entered"),
            (Namespace::Unknown | Namespace::Other(false), Some(_)) if self.iterated.is_some() => {
                Probe::found(source, "whichever it is in, BPF sees into it")
            }
            (Namespace::Unknown, Some(id)) => {
                // Following the link takes the check of ptrace alone.
                let lacks = self.setting.lacking(&[Capability::SysPtrace]);
                let lacks = if lacks.is_empty() { self.of_others(id.pid) } else { lacks };
                Probe::partly(source, "which one it is in is closed to us", lacks)
            }
            (_, Some(_)) => Probe::missing(source, "it is in another one, which may not be entered", self.to_enter()),
            (_, None) => {
                Probe::missing(source, "others may not be entered: /proc/PID/net is read instead", self.to_enter())
            }
        }
    }

    fn to_enter(&self) -> Vec<Lack> {
        let lacks = self.setting.lacking(&[Capability::SysAdmin]);
        if lacks.is_empty() { vec![Lack::UserNamespace] } else { lacks }
    }

    fn other_users(&self) -> Probe {
        let source = Source::OtherUsers;
        let mut pids = self.proc.pids();
        // Those that have ended hold nothing that could be closed to us.
        pids.retain(|pid| !self.proc.is_ending(*pid));
        let is_open = |pid: &u32| {
            let entries = fs::read_dir(self.proc.folder(*pid).join("fd")).ok();
            entries.is_some_and(|mut entries| {
                entries.next().is_none_or(|first| first.is_ok_and(|first| fs::read_link(first.path()).is_ok()))
            })
        };
        let open = pids.iter().filter(|pid| is_open(pid)).count();
        let mut why = format!("the descriptors of {open} of {} processes are open to us", pids.len());
        if let Some(option) = &self.setting.hidepid {
            why.push_str(&format!("; /proc is mounted with {option}, which hides others'"));
        }
        let lacks = self.setting.lacking(&[Capability::DacReadSearch, Capability::SysPtrace]);
        if self.iterator.is_ok() && !lacks.is_empty() {
            return Probe::partly(source, format!("BPF reads all of them; {why}"), lacks);
        }
        if lacks.is_empty() && !self.setting.user_namespace {
            return Probe::found(source, why);
        }
        let lacks = if lacks.is_empty() { vec![Lack::UserNamespace] } else { lacks };
        Probe::missing(source, why, lacks)
    }

    fn memory_limit(&self) -> Probe {
        let source = Source::MemoryLimit;
        let groups = self.system().join("fs/cgroup");
        if !groups.join("memory").exists() && !groups.join("cgroup.controllers").exists() {
            return Probe::missing(source, "no cgroup file system is mounted on /sys/fs/cgroup", Vec::new());
        }
        let Some(id) = &self.id else { return Probe::found(source, "by /sys/fs/cgroup") };
        let paths = self.proc.text(id.pid, "cgroup").unwrap_or_default();
        match self.proc.memory_limit(id.pid) {
            Some(limit) => Probe::found(source, format!("{} MiB, by its cgroups", limit >> 20)),
            None if paths.contains(":/..") => {
                Probe::missing(source, "its cgroup lies outside what we see of them", vec![Lack::OutsideContainer])
            }
            None => Probe::found(source, "its cgroups set none"),
        }
    }

    /// Of a process whose descriptors were read.
    fn io_uring(&self) -> Option<Probe> {
        let read = self.snapshot.as_ref().or(self.iterated.as_ref())?;
        let rings = read.sightings.iter().filter(|it| it.resource.kind == Kind::IoUring).count();
        Some(match rings {
            0 => Probe::found(Source::IoUring, "it holds none: nothing passes by what is hooked"),
            rings => {
                let why = format!("it holds {rings}: what is opened or sent through them has no stack, or another's");
                Probe::partly(Source::IoUring, why, Vec::new())
            }
        })
    }
}

/// Compares the target's namespace with ours. Without a target our own is tried, which takes what another one takes.
fn namespace(proc: &ProcFs, pid: Option<u32>) -> Namespace {
    let link = |who: &Path| fs::read_link(who.join("ns/net"));
    let own = proc.root().join("self");
    let folder = pid.map_or_else(|| own.clone(), |pid| proc.folder(pid));
    match (link(&own), link(&folder)) {
        (Ok(ours), Ok(its)) if pid.is_some() && ours == its => Namespace::Ours,
        (Ok(_), Ok(_)) => Namespace::Other(can_enter(&folder.join("ns/net"))),
        _ => Namespace::Unknown,
    }
}

/// Whether a namespace lets us in, tried on a thread that ends with the trial.
fn can_enter(link: &Path) -> bool {
    let Ok(namespace) = fs::File::open(link) else { return false };
    let enter = || move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).is_ok();
    std::thread::scope(|scope| scope.spawn(enter).join().unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_ourselves_all_but_what_takes_privileges_works() {
        let diagnosis = probe(&ProcFs::system(), Some(std::process::id())).expect("we run");
        let works = |source| diagnosis.probes.iter().find(|it| it.source == source).map(|it| it.works);
        assert_eq!(works(Source::Descriptors), Some(Works::Yes));
        assert_eq!(works(Source::NetworkNamespace), Some(Works::Yes));
        assert_ne!(diagnosis.target.map(|target| target.way), Some(Way::Outside));
    }
}
