//! What one process has open.

use super::detail::{DETAIL_BYTES, SocketDetail};
use super::row::{Clock, ROW_BYTES, Row};
use crate::bpf::{FILES, Map, Object, Scope, Unavailable, link, read_to_end, ticks_per_second};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

/// The words of a `struct wanted_descriptors`, a bit for each descriptor, and how many of those there are.
const WANTED_WORDS: usize = 512;
const WANTED_BLOCKS: u32 = 32;

/// Reads the files of processes from inside the kernel.
#[derive(Debug)]
pub(in crate::sample) struct FileIterator {
    files: OwnedFd,
    details: OwnedFd,
    wanted: Map,
    ticks_per_second: f64,
    rows: Vec<u8>,
    detail_rows: Vec<u8>,
}

impl FileIterator {
    /// Loads the programs.
    pub(in crate::sample) fn open() -> Result<Self, Unavailable> {
        let mut object = Object::open(FILES)?;
        let files = object.program("files")?;
        // A kernel that knows no scope would silently take one process for all.
        link(&files, Scope::Threads(std::process::id())).map_err(|error| match error.raw_os_error() {
            Some(libc::E2BIG) => Unavailable::KernelTooOld,
            _ => Unavailable::other(error),
        })?;
        let details = object.program("details")?;
        let wanted = object.map("wanted_descriptors")?;
        Ok(FileIterator {
            files,
            details,
            wanted,
            ticks_per_second: ticks_per_second()?,
            rows: Vec::new(),
            detail_rows: Vec::new(),
        })
    }

    /// What a process has open now: what `/proc/PID/fd` lists, in the order of numbers. Of a process that has ended there
    /// is nothing. The pid is one of our own pid namespace.
    pub(in crate::sample) fn read(&mut self, pid: u32) -> io::Result<Rows<'_>> {
        let length = read_to_end(&self.files, Scope::Process(pid), &mut self.rows)?;
        let end = length.checked_sub(ROW_BYTES).and_then(|at| Some((at, Row::new(self.rows.get(at..)?)?.end()?)));
        let Some((rows, now)) = end else {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the kernel's rows are cut off"));
        };
        Ok(Rows { bytes: &self.rows[..rows], clock: Clock { now, ticks_per_second: self.ticks_per_second } })
    }

    /// More about the sockets among these descriptors of a process, in the order of numbers: for those that are new. What is
    /// no socket is left out, and so is what has been closed meanwhile.
    pub(in crate::sample) fn details(
        &mut self,
        pid: u32,
        descriptors: impl IntoIterator<Item = i32>,
    ) -> io::Result<impl Iterator<Item = SocketDetail<'_>>> {
        let mut blocks: BTreeMap<u32, [u64; WANTED_WORDS]> = BTreeMap::new();
        for fd in descriptors.into_iter().map(i32::cast_unsigned) {
            let block = blocks.entry(fd / (64 * WANTED_WORDS as u32)).or_insert([0; WANTED_WORDS]);
            block[fd as usize / 64 % WANTED_WORDS] |= 1 << (fd % 64);
        }
        let asked: Vec<u32> = blocks.keys().copied().filter(|block| *block < WANTED_BLOCKS).collect();
        for block in &asked {
            self.wanted.update(block, &blocks[block])?;
        }
        let read = if blocks.is_empty() {
            Ok(0)
        } else {
            read_to_end(&self.details, Scope::Process(pid), &mut self.detail_rows)
        };
        for block in asked {
            self.wanted.update(&block, &[0_u64; WANTED_WORDS])?;
        }
        let rows = self.detail_rows[..read?].chunks_exact(DETAIL_BYTES).filter_map(SocketDetail::new);
        // Past the last block the kernel side tells of all.
        let is_wanted = move |fd: u32| {
            let block = blocks.get(&(fd / (64 * WANTED_WORDS as u32)));
            block.is_some_and(|block| block[fd as usize / 64 % WANTED_WORDS] >> (fd % 64) & 1 == 1)
        };
        Ok(rows.filter(move |detail| is_wanted(detail.fd().cast_unsigned())))
    }
}

/// The descriptors of one process.
#[derive(Clone, Copy, Debug)]
pub(in crate::sample) struct Rows<'a> {
    bytes: &'a [u8],
    /// What the rows' times are held against.
    pub clock: Clock,
}

impl<'a> Rows<'a> {
    /// How many descriptors there are.
    #[cfg(test)]
    pub(in crate::sample) fn len(self) -> usize {
        self.bytes.len() / ROW_BYTES
    }

    /// All rows in the order of the descriptors' numbers, [`ROW_BYTES`] each.
    pub(in crate::sample) fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// One after the other, in the order of the descriptors' numbers.
    #[cfg(test)]
    pub(in crate::sample) fn iter(self) -> impl Iterator<Item = Row<'a>> {
        self.bytes.chunks_exact(ROW_BYTES).filter_map(Row::new)
    }
}
