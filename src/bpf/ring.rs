//! The kernel's ring buffer, as its reader sees it.
//!
//! Format: `Documentation/bpf/ringbuf.rst`. A page with the reader's position, one with the writer's, then the records; these are
//! mapped twice in a row, so that none is ever in two pieces. A record begins with its length, whose two upper bits say that it is
//! being written and that it was given up.

use super::sys::{Map, SharedPages};
use std::io;

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER_BYTES: usize = 8;

/// A ring that programs write and we read.
#[derive(Debug)]
pub(crate) struct Ring {
    /// Our position, which the kernel reads.
    ours: SharedPages,
    /// The writer's position, a page, and the records, twice.
    theirs: SharedPages,
    page_bytes: usize,
    mask: usize,
    record: Vec<u8>,
    /// Programs are loaded with its descriptor, perhaps later.
    _map: Map,
}

impl Ring {
    /// Maps a ring.
    pub(crate) fn open(map: Map) -> io::Result<Self> {
        let (page_bytes, records_bytes) = (rustix::param::page_size(), map.entries_max() as usize);
        let ours = SharedPages::map(&map, 0, page_bytes, true)?;
        let theirs = SharedPages::map(&map, page_bytes, page_bytes + 2 * records_bytes, false)?;
        Ok(Ring { ours, theirs, page_bytes, mask: records_bytes - 1, record: Vec::new(), _map: map })
    }

    /// The next record that was written to its end; `None` where there is none yet.
    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        loop {
            let at = self.ours.position();
            if at >= self.theirs.position() {
                return None;
            }
            let place = self.page_bytes + (at as usize & self.mask);
            let header = self.theirs.header(place);
            if header & BUSY != 0 {
                return None;
            }
            let length = (header & !DISCARDED) as usize;
            if header & DISCARDED == 0 {
                self.theirs.copy(place + HEADER_BYTES, length, &mut self.record);
            }
            self.ours.set_position(at + (HEADER_BYTES + length).next_multiple_of(8) as u64);
            if header & DISCARDED == 0 {
                return Some(&self.record);
            }
        }
    }
}
