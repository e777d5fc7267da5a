//! Which way the target's descriptors are read: the fastest that is allowed here, chosen once.
//!
//! | way | needs | gives |
//! |---|---|---|
//! | a pass | BPF | all, of any process in any network namespace |
//! | a walk with `sock_diag` | to be the process' user, or `CAP_SYS_PTRACE` | the same, for twice to ten times the time |
//! | a walk with `/proc/PID/net` | the same | no bytes, no silence, no peers of Unix sockets |

use super::holdings::Holdings;
use super::iterator::FileIterator;
use super::join::Join;
use super::pass::Pass;
use super::procfs::{ProcFs, ReadError};
use super::sockets::Outside;
use crate::bpf::Unavailable;
use crate::model::{Descriptor, ProcessId, Resource, Timestamp};
use std::path::Path;

/// Which way may be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The fastest that works.
    #[default]
    Auto,
    /// BPF's iterator over files, or a failure.
    Bpf,
    /// `/proc/PID/fd` and `sock_diag`.
    SockDiag,
    /// `/proc` alone.
    Proc,
}

/// The way that was asked for can't be taken.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SourceError(#[from] Unavailable);

/// A way that was taken.
#[derive(Debug)]
pub(super) enum Way {
    Pass(Box<Pass>),
    Join(Box<Join>),
}

impl Way {
    /// The fastest of the ways that `source` allows. Fails where it names one that doesn't work here.
    pub(super) fn choose(proc: &ProcFs, source: Source, with_details: bool) -> Result<Self, SourceError> {
        let join = || Way::Join(Box::new(Join::new(proc, source != Source::Proc, with_details)));
        let pass = |iterator| Way::Pass(Box::new(Pass::new(proc, iterator, with_details)));
        match source {
            Source::Bpf => Ok(pass(FileIterator::open()?)),
            // A tree that only looks like `/proc` has no kernel behind it.
            Source::Auto if proc.root() == Path::new("/proc") => Ok(FileIterator::open().map_or_else(|_| join(), pass)),
            Source::Auto | Source::SockDiag | Source::Proc => Ok(join()),
        }
    }

    /// How descriptors are read, for a person.
    pub(super) fn words(&self) -> &'static str {
        match self {
            Way::Pass(_) => "the kernel's file iterator (BPF)",
            Way::Join(join) => join.sockets.source(),
        }
    }

    /// Reads what these processes hold now, and says of each whether it could be read.
    pub(super) fn read(&mut self, processes: &[ProcessId], at: Timestamp) -> Vec<Result<(), ReadError>> {
        match self {
            Way::Pass(pass) => pass.read(processes, at),
            Way::Join(join) => join.read(processes, at),
        }
    }

    /// What a process holds that was read: takes it into `holdings`.
    pub(super) fn tell(&self, process: &ProcessId, holdings: &mut Holdings) {
        match self {
            Way::Pass(pass) => holdings.update(process, pass.seen(process.pid)),
            Way::Join(join) => holdings.update(process, join.seen(process.pid)),
        }
    }

    /// What a descriptor of a process that was read refers to; `None` where it isn't held any more.
    pub(super) fn resource(&self, holder: &Descriptor) -> Option<Resource> {
        match self {
            Way::Pass(pass) => pass.resource(holder),
            Way::Join(join) => join.resource(holder),
        }
    }

    /// Where the kernel has it; `None` where only its own iterator could tell.
    pub(super) fn object(&self, holder: &Descriptor) -> Option<u64> {
        match self {
            Way::Pass(pass) => pass.object(holder),
            Way::Join(_) => None,
        }
    }

    /// The sockets around a process whose descriptors are closed to us; none where they are open to this way.
    pub(super) fn outside(&mut self, pid: u32) -> Option<Result<Outside, ReadError>> {
        match self {
            Way::Pass(_) => None,
            Way::Join(join) => Some(join.sockets.outside(pid)),
        }
    }

    /// Forgets a process that has ended, or that is the target's no more.
    pub(super) fn forget(&mut self, pid: u32) {
        match self {
            Way::Pass(pass) => pass.forget(pid),
            Way::Join(join) => join.forget(pid),
        }
    }

    /// The watches of all inotify instances that are open; `None` where there has never been one, or it can't be told.
    pub(super) fn inotify_watches(&self) -> Option<u64> {
        match self {
            Way::Pass(pass) => pass.inotify_watches(),
            Way::Join(join) => join.descriptors.inotify_watches(),
        }
    }

    /// What it can't see, and why.
    pub(super) fn notes(&self) -> Vec<String> {
        match self {
            Way::Pass(pass) => pass.note().into_iter().collect(),
            Way::Join(join) => {
                let identity = join.descriptors.note().map(str::to_owned);
                join.sockets.notes.iter().cloned().chain(identity).collect()
            }
        }
    }
}
