//! What all processes hold, in one pass over the machine.

use super::row::{FileKind, access};
use crate::bpf::bytes::{device_at, u32_at, u64_at};
use crate::bpf::{MACHINE, Map, Object, Scope, Unavailable, read_to_end, ticks_per_second};
use crate::model::{Access, ProcessHoldings};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// `struct holdings`, a `struct tally` of ten words and `struct owner` in `bpf/machine.bpf.c`.
const HOLDINGS_BYTES: usize = 32;
const TALLY_WORDS: usize = 10;
const OWNER_BYTES: usize = 24;

/// The most inodes whose owners can be asked for at once.
const WANTED_INODES_MAX: usize = 65_536;

/// Sums up the files of all processes from inside the kernel.
#[derive(Debug)]
pub(in crate::sample) struct MachineIterator {
    holdings: OwnedFd,
    owners: OwnedFd,
    tally: Map,
    wanted: Map,
    ticks_per_second: f64,
    buffer: Vec<u8>,
}

/// A descriptor that leads to an inode whose owners were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sample) struct Owner {
    /// The inode's number.
    pub inode: u64,
    /// Its device, major and minor number: of a FIFO with a name the inode's number alone means nothing.
    pub device: (u32, u32),
    /// A socket or a pipe.
    pub kind: FileKind,
    /// The process, by its number in our pid namespace.
    pub pid: u32,
    /// Its descriptor.
    pub fd: i32,
    /// Which end of a pipe.
    pub access: Option<Access>,
}

impl MachineIterator {
    /// Loads the programs.
    pub(in crate::sample) fn open() -> Result<Self, Unavailable> {
        let mut object = Object::open(MACHINE)?;
        let (tally, wanted) = (object.map("tally")?, object.map("wanted_inodes")?);
        let (holdings, owners) = (object.program("holdings")?, object.program("owners")?);
        Ok(MachineIterator {
            holdings,
            owners,
            tally,
            wanted,
            ticks_per_second: ticks_per_second()?,
            buffer: Vec::new(),
        })
    }

    /// What each process of our pid namespace holds that holds anything; `silent` is how long a TCP connection must have
    /// carried nothing to be counted as such.
    pub(in crate::sample) fn read_all(&mut self, silent: Duration) -> io::Result<Vec<ProcessHoldings>> {
        let mut tally = [0_u32; TALLY_WORDS];
        // Longer than the kernel's clock goes round is never.
        tally[0] = (silent.as_secs_f64() * self.ticks_per_second) as u32;
        self.tally.update(&0_u32, &tally)?;
        let length = read_to_end(&self.holdings, Scope::Machine, &mut self.buffer)?;
        Ok(self.buffer[..length].chunks_exact(HOLDINGS_BYTES).map(holdings).collect())
    }

    /// Who holds the sockets and pipes of these inodes: every descriptor of every process of our pid namespace. More than
    /// 65,536 inodes are refused with `E2BIG`.
    pub(in crate::sample) fn owners(&mut self, inodes: impl IntoIterator<Item = u64>) -> io::Result<Vec<Owner>> {
        let mut inodes: Vec<u64> = inodes.into_iter().collect();
        inodes.sort_unstable();
        inodes.dedup();
        if inodes.len() > WANTED_INODES_MAX {
            return Err(io::Error::from_raw_os_error(libc::E2BIG));
        }
        let told = inodes.iter().try_for_each(|inode| self.wanted.update(inode, &0_u8));
        let read = told.and_then(|()| {
            if inodes.is_empty() { Ok(0) } else { read_to_end(&self.owners, Scope::Machine, &mut self.buffer) }
        });
        for inode in &inodes {
            // What was not told for an error is not there.
            let _ = self.wanted.delete(inode);
        }
        Ok(self.buffer[..read?].chunks_exact(OWNER_BYTES).map(owner).collect())
    }
}

fn holdings(row: &[u8]) -> ProcessHoldings {
    let count = |word: usize| Some(u64::from(u32_at(row, word * 4)));
    ProcessHoldings {
        pid: u32_at(row, 0),
        descriptors: count(1),
        sockets: count(2),
        connections: count(3),
        silent: count(4),
        close_wait: count(5),
        listening: count(6),
    }
}

fn owner(row: &[u8]) -> Owner {
    Owner {
        inode: u64_at(row, 0),
        pid: u32_at(row, 8),
        fd: u32_at(row, 12).cast_signed(),
        device: device_at(row, 16),
        access: access(row[20]),
        kind: FileKind::from_kernel(row[21]),
    }
}
