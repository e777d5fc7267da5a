//! A file's unwind tables: for each piece of code, where its caller's registers are (`.eh_frame`, `.debug_frame`).

use crate::ledger::symbols::elf::{self, Elf};
use gimli::{BaseAddresses, CieOrFde, DebugFrame, EhFrame, EndianSlice, LittleEndian, UnwindOffset, UnwindSection};
use std::sync::Arc;

/// A piece of a section.
pub(super) type Piece<'a> = EndianSlice<'a, LittleEndian>;

/// The tables of one file.
#[derive(Debug)]
pub(in crate::ledger) struct Tables {
    eh_frame: Arc<[u8]>,
    debug_frame: Arc<[u8]>,
    bases: BaseAddresses,
    /// One for each function, in the order of addresses: an index of our own, for that of the file (`.eh_frame_hdr`) may be missing.
    entries: Vec<Entry>,
}

/// Where the table of a function is.
#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u64,
    offset: u32,
    is_debug: bool,
}

/// The table of one function.
pub(super) struct Table<'a> {
    /// The section it stands in.
    pub section: Section<'a>,
    /// What its addresses are relative to.
    pub bases: &'a BaseAddresses,
    /// Where it is in the section.
    pub offset: usize,
}

/// The two kinds of section, which differ in how they refer to what functions have in common.
#[derive(Clone, Copy)]
pub(super) enum Section<'a> {
    /// What is loaded with the program.
    Eh(EhFrame<Piece<'a>>),
    /// What only debuggers read; Go has no other.
    Debug(DebugFrame<Piece<'a>>),
}

impl Tables {
    /// Reads them; `None` where there are none.
    pub(in crate::ledger) fn read(elf: &Elf<'_>) -> Option<Tables> {
        let section = |name| elf::section(elf, name).filter(|bytes| u32::try_from(bytes.len()).is_ok());
        let mut tables = Tables {
            eh_frame: section(".eh_frame").unwrap_or_else(|| Arc::from([])),
            debug_frame: section(".debug_frame").unwrap_or_else(|| Arc::from([])),
            bases: BaseAddresses::default()
                .set_eh_frame(elf::section_address(elf, ".eh_frame"))
                .set_eh_frame_hdr(elf::section_address(elf, ".eh_frame_hdr"))
                .set_text(elf::section_address(elf, ".text"))
                .set_got(elf::section_address(elf, ".got")),
            entries: Vec::new(),
        };
        let mut entries = index(&eh(&tables.eh_frame), &tables.bases, false);
        entries.extend(index(&debug(&tables.debug_frame), &tables.bases, true));
        entries.sort_by_key(|entry| (entry.start, entry.is_debug));
        entries.dedup_by_key(|entry| entry.start);
        tables.entries = entries;
        (!tables.entries.is_empty()).then_some(tables)
    }

    /// The table that may hold an address, as the file has it; whether it does stands in it.
    pub(super) fn at(&self, address: u64) -> Option<Table<'_>> {
        let after = self.entries.partition_point(|entry| entry.start <= address);
        let entry = self.entries[..after].last()?;
        let section = match entry.is_debug {
            false => Section::Eh(eh(&self.eh_frame)),
            true => Section::Debug(debug(&self.debug_frame)),
        };
        Some(Table { section, bases: &self.bases, offset: entry.offset as usize })
    }

    /// What they take of memory, in bytes.
    pub(in crate::ledger) fn cost_bytes(&self) -> usize {
        self.eh_frame.len() + self.debug_frame.len() + self.entries.capacity() * size_of::<Entry>()
    }
}

fn eh(bytes: &[u8]) -> EhFrame<Piece<'_>> {
    let mut section = EhFrame::new(bytes, LittleEndian);
    section.set_address_size(8);
    section
}

fn debug(bytes: &[u8]) -> DebugFrame<Piece<'_>> {
    let mut section = DebugFrame::new(bytes, LittleEndian);
    section.set_address_size(8);
    section
}

/// Where each function's table begins; what comes after one that can't be read is left out.
fn index<'a, S: UnwindSection<Piece<'a>>>(section: &S, bases: &BaseAddresses, is_debug: bool) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut entries = section.entries(bases);
    let mut common: Option<gimli::CommonInformationEntry<Piece<'a>>> = None;
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let parsed = partial.parse(|section, bases, offset| {
            // Those of one object file follow each other and share it.
            if let Some(common) = common.as_ref().filter(|common| common.offset() == UnwindOffset::into(offset)) {
                return Ok(common.clone());
            }
            let read = section.cie_from_offset(bases, offset)?;
            common = Some(read.clone());
            Ok(read)
        });
        // An address of 0 is a function that the linker has left out.
        if let Ok(entry) = parsed
            && entry.initial_address() != 0
            && let Ok(offset) = u32::try_from(entry.offset())
        {
            found.push(Entry { start: entry.initial_address(), offset, is_debug });
        }
    }
    found
}
