//! Who holds the other ends: of connected Unix sockets, and of pipes. The kernel tells it of neither, so the whole machine is
//! searched once, for a snapshot that a person waits for: by the kernel's iterator where that is allowed, else by a walk over
//! every process that we may read.

use super::Sampler;
use super::descriptors::{Walk, access};
use super::iterator::{FileKind, MachineIterator, Owner};
use super::procfs::{ProcFs, ReadError};
use super::way::Way;
use crate::model::{Access, Detail, Kind, PipeEnd, Resource, Snapshot};
use rustix::fs::{AtFlags, statat};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// The inode of the machine's first pid namespace (`PROC_PID_INIT_INO` of Linux): in another one, processes are hidden.
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Holders of one pipe's other end that are named; a pool of workers may share one.
const HOLDERS_MAX: usize = 64;

impl Sampler {
    /// Names the processes at the other ends of the snapshot's Unix sockets and, where all details are asked for, of its
    /// pipes. A walk over all processes ends when all that were looked for are found, or `limit` is over, which is then noted.
    pub fn find_peers(&self, snapshot: &mut Snapshot, limit: Duration) {
        let mut search = Search::of(snapshot, self.with_details);
        if !search.is_wanted() {
            return;
        }
        if matches!(self.way, Way::Pass(_)) && search.pass(snapshot).is_ok() {
            return search.tell(snapshot);
        }
        if !search.walk(&self.proc, snapshot, Instant::now() + limit) {
            let words = format!(
                "not every process was looked at within {} s: who holds the other ends of Unix sockets and pipes may be missing",
                limit.as_secs_f64()
            );
            snapshot.unseen.push(words);
        }
        search.tell(snapshot);
    }
}

/// What is looked for, and what has been found.
#[derive(Default)]
struct Search {
    /// Links of sockets that are peers of ours; each has one holder that is named.
    sockets: HashSet<Vec<u8>>,
    /// Links of pipes, by which every holder of an end is found.
    pipes: HashMap<Vec<u8>, Vec<Holder>>,
    owners: HashMap<Vec<u8>, (u32, i32)>,
    /// True where each process of the machine was walked, so that an end that nobody was found to hold is held by nobody.
    saw_all: bool,
}

/// A descriptor whose link is that of a pipe of ours.
struct Holder {
    end: PipeEnd,
    access: Option<Access>,
    inode: Option<u64>,
    /// Of the inode; `None` where it wasn't asked for.
    device: Option<(u32, u32)>,
}

impl Search {
    fn of(snapshot: &Snapshot, with_pipes: bool) -> Self {
        let resources = || snapshot.sightings.iter().map(|it| &it.resource);
        let peers = resources().filter_map(|it| it.peer.as_ref().map(|peer| peer.inode));
        let sockets = peers.filter(|inode| *inode != 0).map(socket_link).collect();
        let pipes = resources().filter(|_| with_pipes).filter_map(|it| Some((pipe_link(it)?, Vec::new()))).collect();
        Search { sockets, pipes, ..Search::default() }
    }

    fn is_wanted(&self) -> bool {
        !self.sockets.is_empty() || !self.pipes.is_empty()
    }

    /// Asks the kernel's iterator. Fails where that can't be used, and then nothing was found.
    fn pass(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let resources = || snapshot.sightings.iter().map(|it| &it.resource);
        let pipes: HashMap<u64, Vec<u8>> = resources()
            .filter_map(|it| Some((it.inode?, pipe_link(it).filter(|link| self.pipes.contains_key(link))?)))
            .collect();
        let peers = resources().filter_map(|it| it.peer.as_ref().map(|peer| peer.inode)).filter(|inode| *inode != 0);
        let wanted: Vec<u64> = peers.chain(pipes.keys().copied()).collect();
        for owner in MachineIterator::open().map_err(io::Error::other)?.owners(wanted)? {
            let Owner { inode, pid, fd, access, device, kind } = owner;
            if kind == FileKind::Socket {
                self.owners.entry(socket_link(inode)).or_insert((pid, fd));
            } else if let Some(holders) = pipes.get(&inode).and_then(|link| self.pipes.get_mut(link)) {
                let end = PipeEnd { pid, fd };
                holders.push(Holder { end, access, inode: Some(inode), device: Some(device) });
            }
        }
        self.saw_all = is_first_pid_namespace();
        Ok(())
    }

    /// Walks the target's processes and then all others. False where the time was over before the end.
    fn walk(&mut self, proc: &ProcFs, snapshot: &Snapshot, until: Instant) -> bool {
        let own: BTreeSet<u32> = snapshot.processes.iter().map(|process| process.id.pid).collect();
        let mut others: Vec<u32> = proc.pids().into_iter().filter(|pid| !own.contains(pid)).collect();
        // Who shares a pipe is most often a relative, and relatives have numbers near to one another.
        let nearest = |pid: u32| {
            let (below, above) = (own.range(..pid).next_back(), own.range(pid..).next());
            below.into_iter().chain(above).map(|own| own.abs_diff(pid)).min()
        };
        others.sort_by_cached_key(|pid| nearest(*pid));
        // Where `/proc` is mounted with hidepid, init is hidden too.
        let mut saw_all = is_first_pid_namespace() && (own.contains(&1) || others.contains(&1));
        let mut walk = Walk::default();
        for pid in own.into_iter().chain(others) {
            if self.owners.len() == self.sockets.len() && self.pipes.is_empty() {
                return true;
            }
            if Instant::now() > until {
                return false;
            }
            match walk.walk(proc, pid) {
                Ok(folder) => walk.entries().for_each(|(fd, link)| self.take(&folder, pid, fd, link)),
                Err(ReadError::Gone(_)) => {}
                Err(_) => saw_all = false,
            }
        }
        self.saw_all = saw_all;
        true
    }

    fn take(&mut self, folder: &OwnedFd, pid: u32, fd: i32, link: &[u8]) {
        if let Some(holders) = self.pipes.get_mut(link) {
            let Ok(entry) = CString::new(fd.to_string()) else { return };
            let Ok(access) = access(folder, &entry) else { return };
            // Two FIFOs may have had one path after the other.
            let inode = statat(folder, &entry, AtFlags::empty()).ok().map(|found| found.st_ino);
            holders.push(Holder { end: PipeEnd { pid, fd }, access, inode, device: None });
        } else if self.sockets.contains(link) && !self.owners.contains_key(link) {
            self.owners.insert(link.to_vec(), (pid, fd));
        }
    }

    fn tell(&self, snapshot: &mut Snapshot) {
        for sighting in &mut snapshot.sightings {
            let holds = |it: &PipeEnd| sighting.holders.iter().any(|own| (own.process.pid, own.fd) == (it.pid, it.fd));
            let access = sighting.holders.first().and_then(|own| own.access);
            let resource = &mut sighting.resource;
            if let Some(peer) = &mut resource.peer {
                peer.owner = self.owners.get(&socket_link(peer.inode)).copied();
            }
            let Some(found) = pipe_link(resource).and_then(|link| self.pipes.get(&link)) else { continue };
            let device = found.iter().find(|it| holds(&it.end)).and_then(|own| own.device);
            let is_other = |it: &&Holder| {
                let leads_there = it.access == Some(Access::Both) || it.access != access;
                let is_same_pipe = (it.inode, it.device) == (resource.inode, device) && it.access.is_some();
                is_same_pipe && leads_there && !holds(&it.end)
            };
            let others: Vec<PipeEnd> = found.iter().filter(is_other).map(|it| it.end).take(HOLDERS_MAX).collect();
            if self.saw_all || !others.is_empty() {
                resource.detail.get_or_insert_with(|| Box::new(Detail::default())).other_end = Some(others);
            }
        }
    }
}

fn is_first_pid_namespace() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link == Path::new(FIRST_PID_NAMESPACE))
}

fn socket_link(inode: u64) -> Vec<u8> {
    format!("socket:[{inode}]").into_bytes()
}

/// The link of every descriptor of the pipe: its inode, or the path of a FIFO.
fn pipe_link(resource: &Resource) -> Option<Vec<u8>> {
    if resource.kind != Kind::Pipe {
        return None;
    }
    match &resource.name {
        Some(path) => Some(path.clone().into_bytes()),
        None => Some(format!("pipe:[{}]", resource.inode?).into_bytes()),
    }
}
