//! Every process of the machine in one pass a tick: never one pass a process.
//!
//! What a process holds is counted by the cheapest way that is allowed. Who it is, and its limit, cost a few files a
//! process, so they are read when it is first seen, and the limit again every now and then. A pid that was used again is
//! another process: its start time tells.

mod tables;

use super::iterator::MachineIterator;
use super::procfs::ProcFs;
use crate::model::{HoldingProcess, MachineSnapshot, Process, ProcessHoldings, ProcessId, Timestamp};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;
use tables::Tables;

/// A process may change its limit (prlimit(2)), and seldom does: it is read again after so many passes.
const LIMIT_PASSES: u64 = 12;

/// Reads the machine again and again.
#[derive(Debug)]
pub struct MachineReader {
    proc: ProcFs,
    silent: Duration,
    source: Source,
    known: HashMap<u32, Known>,
    passes: u64,
}

/// How the machine is read.
#[derive(Debug)]
enum Source {
    /// Summed up inside the kernel: whatever the namespace, at a fraction of the cost.
    Kernel(Box<MachineIterator>),
    /// With whatever privilege there is.
    Tables(Box<Tables>),
}

/// A process as it was found.
#[derive(Debug)]
struct Known {
    /// The name in `stat`: another one after an exec.
    comm: String,
    process: Process,
    descriptor_limit: Option<u64>,
}

impl MachineReader {
    /// A reader of the processes under `proc` that calls connections silent after `silent`.
    pub fn new(proc: &ProcFs, silent: Duration) -> Self {
        let real = proc.root() == Path::new("/proc");
        let source = match real.then(MachineIterator::open) {
            Some(Ok(iterator)) => Source::Kernel(Box::new(iterator)),
            _ => Source::Tables(Box::new(Tables::new(proc))),
        };
        MachineReader { proc: proc.clone(), silent, source, known: HashMap::new(), passes: 0 }
    }

    /// How the machine is read, for a person.
    pub fn source(&self) -> &'static str {
        match &self.source {
            Source::Kernel(_) => "a BPF iterator",
            Source::Tables(tables) => tables.source(),
        }
    }

    /// Reads it now. Processes that end meanwhile are left out, and those that hold nothing, as all kernel threads.
    pub fn read(&mut self, at: Timestamp) -> MachineSnapshot {
        let mut snapshot = MachineSnapshot { at, ..MachineSnapshot::default() };
        let holdings = self.holdings(&mut snapshot.unseen);
        let running: HashSet<u32> = holdings.iter().map(|it| it.pid).collect();
        self.known.retain(|pid, _| running.contains(pid));
        snapshot.processes = holdings.into_iter().filter_map(|it| self.describe(it)).collect();
        self.passes += 1;
        snapshot
    }

    /// What each process holds, by the first way that is allowed.
    fn holdings(&mut self, unseen: &mut Vec<String>) -> Vec<ProcessHoldings> {
        if let Source::Kernel(iterator) = &mut self.source {
            match iterator.read_all(self.silent) {
                Ok(holdings) => return holdings,
                Err(error) => {
                    unseen.push(format!("the BPF iterator failed ({error}): counts come from /proc and sock_diag"));
                    self.source = Source::Tables(Box::new(Tables::new(&self.proc)));
                }
            }
        }
        match &mut self.source {
            Source::Kernel(_) => Vec::new(),
            Source::Tables(tables) => tables.read(self.silent, unseen),
        }
    }

    /// Adds who it is; `None` where it has ended.
    fn describe(&mut self, holdings: ProcessHoldings) -> Option<HoldingProcess> {
        let pid = holdings.pid;
        let stat = self.proc.stat(pid).ok().filter(|stat| !stat.ending)?;
        let is_same = |known: &Known| known.process.id.start_ticks == stat.start_ticks && known.comm == stat.comm;
        if let Some(known) = self.known.get_mut(&pid).filter(|known| is_same(known)) {
            // Not all in the same pass.
            if (self.passes + u64::from(pid)).is_multiple_of(LIMIT_PASSES) {
                known.descriptor_limit = self.proc.descriptor_limit(pid);
            }
        } else {
            let id: ProcessId = self.proc.identify(pid).ok()?;
            let process = self.proc.process(&id).ok()?;
            let descriptor_limit = self.proc.descriptor_limit(pid);
            self.known.insert(pid, Known { comm: stat.comm, process, descriptor_limit });
        }
        let known = self.known.get(&pid)?;
        Some(HoldingProcess { process: known.process.clone(), descriptor_limit: known.descriptor_limit, holdings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::symlink;
    use std::process::Command;

    fn own(snapshot: &MachineSnapshot) -> &HoldingProcess {
        let own = std::process::id();
        snapshot.processes.iter().find(|it| it.process.id.pid == own).expect("we are there")
    }

    #[test]
    fn we_ourselves_are_counted_as_we_are() {
        let mut reader = MachineReader::new(&ProcFs::system(), Duration::from_secs(3_600));
        let before = own(&reader.read(Timestamp(0))).holdings.clone();
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let pair = |_| {
            let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connects");
            (client, listener.accept().expect("accepts").0)
        };
        let pairs: Vec<(TcpStream, TcpStream)> = (0..100).map(pair).collect();
        let snapshot = reader.read(Timestamp(1));
        let now = own(&snapshot);
        // Other tests of this process open and close a few meanwhile.
        let rose = |of: fn(&ProcessHoldings) -> Option<u64>| {
            of(&now.holdings).zip(of(&before)).map(|(a, b)| a.abs_diff(b + 200) < 60)
        };
        assert_eq!(rose(|it| it.descriptors), Some(true), "{before:?} {now:?}");
        assert_eq!(rose(|it| it.sockets), Some(true), "{before:?} {now:?}");
        assert_eq!(rose(|it| it.connections), Some(true), "{before:?} {now:?}");
        assert!(now.holdings.listening >= Some(1));
        assert_eq!(now.descriptor_limit, ProcFs::system().descriptor_limit(std::process::id()));
        assert!(snapshot.processes.iter().all(|it| it.holdings.descriptors != Some(0)), "no kernel threads");
        drop(pairs);
    }

    #[test]
    fn a_process_that_has_ended_is_left_out_and_forgotten() {
        let mut reader = MachineReader::new(&ProcFs::system(), Duration::from_secs(60));
        let mut child = Command::new("sleep").arg("60").spawn().expect("starts");
        let pid = child.id();
        let has_it = |snapshot: &MachineSnapshot| snapshot.processes.iter().any(|it| it.process.id.pid == pid);
        assert!(has_it(&reader.read(Timestamp(0))));
        child.kill().expect("killed");
        child.wait().expect("ends");
        assert!(!has_it(&reader.read(Timestamp(1))));
        assert!(!reader.known.contains_key(&pid));
    }

    #[test]
    fn a_pid_that_is_used_again_is_another_process() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let process = folder.path().join("7");
        fs::create_dir_all(process.join("fd")).expect("made");
        symlink("/dev/null", process.join("fd/0")).expect("linked");
        let become_one = |name: &str, start: u64, limit: &str| {
            let stat = format!("7 ({name}) S 1 7 7 0 -1 0 1 0 0 0 3 4 0 0 20 0 5 0 {start}");
            fs::write(process.join("stat"), stat).expect("written");
            fs::write(process.join("status"), format!("Name:\t{name}\nUid:\t0\t0\t0\t0\n")).expect("written");
            fs::write(process.join("limits"), format!("Max open files {limit} 4096 files\n")).expect("written");
        };
        let mut reader = MachineReader::new(&ProcFs::at(folder.path().to_owned()), Duration::from_secs(60));
        let mut look = || {
            let snapshot = reader.read(Timestamp(0));
            let it = &snapshot.processes[0];
            (it.process.name.clone(), it.process.id.start_ticks, it.descriptor_limit, it.holdings.descriptors)
        };
        become_one("first", 100, "1024");
        assert_eq!(look(), ("first".to_owned(), 100, Some(1024), Some(1)));
        become_one("second", 200, "unlimited");
        assert_eq!(look(), ("second".to_owned(), 200, None, Some(1)));
        // The same process after an exec; its limit is looked at again in time.
        become_one("third", 200, "512");
        assert_eq!(look(), ("third".to_owned(), 200, Some(512), Some(1)));
        become_one("third", 200, "256");
        let limits: Vec<_> = (0..LIMIT_PASSES).map(|_| look().2).collect();
        assert_eq!(limits.last(), Some(&Some(256)));
    }
}
