//! Reading what a process has in memory and doesn't change: its code and its tables, a page at a time.

use super::super::super::process::Process;
use std::cell::RefCell;
use std::collections::VecDeque;

/// A page's size, or a part of one: what is mapped at all is mapped in these.
const PAGE_BYTES: usize = 4096;

/// How many pages are kept: a look-up goes to and fro between fewer places.
const PAGES_MAX: usize = 8;

/// Something that has bytes at addresses.
pub(super) trait Memory {
    /// Fills `into` with what stands from `address` on; `None` where any of it isn't there.
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()>;
}

impl Memory for Process {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        Process::read(self, address, into).ok()
    }
}

/// Memory by pages, of which the last few are kept.
pub(super) struct Pages<'a> {
    memory: &'a dyn Memory,
    /// With their addresses, the one used last first.
    kept: RefCell<VecDeque<(u64, Box<[u8; PAGE_BYTES]>)>>,
}

impl<'a> Pages<'a> {
    pub(super) fn of(memory: &'a dyn Memory) -> Self {
        Pages { memory, kept: RefCell::default() }
    }

    /// Fills `into` with what stands from `address` on.
    pub(super) fn read(&self, mut address: u64, mut into: &mut [u8]) -> Option<()> {
        while !into.is_empty() {
            let at = (address % PAGE_BYTES as u64) as usize;
            let (now, rest) = into.split_at_mut(into.len().min(PAGE_BYTES - at));
            self.with_page(address - at as u64, |page| now.copy_from_slice(&page[at..at + now.len()]))?;
            address = address.checked_add(now.len() as u64)?;
            into = rest;
        }
        Some(())
    }

    fn with_page(&self, address: u64, mut take: impl FnMut(&[u8; PAGE_BYTES])) -> Option<()> {
        let mut kept = self.kept.borrow_mut();
        match kept.iter().position(|(of, _)| *of == address) {
            Some(0) => (),
            Some(index) => {
                let page = kept.remove(index)?;
                kept.push_front(page);
            }
            None => {
                let mut page = if kept.len() < PAGES_MAX { Box::new([0; PAGE_BYTES]) } else { kept.pop_back()?.1 };
                self.memory.read(address, &mut page[..])?;
                kept.push_front((address, page));
            }
        }
        take(&kept.front()?.1);
        Some(())
    }

    /// The bytes at an address.
    pub(super) fn bytes<const COUNT: usize>(&self, address: u64) -> Option<[u8; COUNT]> {
        let mut bytes = [0; COUNT];
        self.read(address, &mut bytes)?;
        Some(bytes)
    }

    /// Four of them as a number.
    pub(super) fn half(&self, address: u64) -> Option<u32> {
        self.bytes(address).map(u32::from_le_bytes)
    }

    /// Eight of them.
    pub(super) fn word(&self, address: u64) -> Option<u64> {
        self.bytes(address).map(u64::from_le_bytes)
    }

    /// All of them from an address on, as far as there are any.
    pub(super) fn from(&self, address: u64) -> impl Iterator<Item = u8> {
        (address..u64::MAX).map_while(|address| self.bytes::<1>(address)).map(|[byte]| byte)
    }

    /// A string up to its NUL, which must stand within `bytes_max`.
    pub(super) fn text(&self, address: u64, bytes_max: usize) -> Option<String> {
        let bytes: Vec<u8> = self.from(address).take(bytes_max).take_while(|byte| *byte != 0).collect();
        (bytes.len() < bytes_max).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }
}
