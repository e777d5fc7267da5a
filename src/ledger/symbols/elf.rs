//! An ELF file by its sections, read piece by piece: of a program of a gigabyte we want a few.

use super::pages::Section;
use object::elf::{PF_X, PT_LOAD};
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{CompressionFormat, Endianness, Object, ObjectSection, ReadCache};
use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::ops::Deref;
use std::sync::Arc;

/// What an ELF file may be read from.
pub(in crate::ledger) trait Bytes: Read + Seek + Send {}

impl<T: Read + Seek + Send> Bytes for T {}

/// A file that is read where it is asked for, and kept as far as it was read.
pub(in crate::ledger) struct Source {
    read: ReadCache<Box<dyn Bytes>>,
    file: Option<Arc<File>>,
}

/// The headers of a file of 64 bits, as x86-64 and aarch64 both have them.
type Headers<'a> = ElfFile64<'a, Endianness, &'a ReadCache<Box<dyn Bytes>>>;

/// A file that is being read.
pub(in crate::ledger) struct Elf<'a> {
    headers: Headers<'a>,
    file: Option<&'a Arc<File>>,
}

impl<'a> Deref for Elf<'a> {
    type Target = Headers<'a>;

    fn deref(&self) -> &Headers<'a> {
        &self.headers
    }
}

/// The longest that one section may be when decompressed, in bytes: a false header must not take the memory of the machine.
const SECTION_BYTES_MAX: u64 = 256 << 20;

/// A part of the file that is loaded (`PT_LOAD`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct Segment {
    /// Where it begins in the file.
    pub offset: u64,
    /// How many bytes it has there.
    pub file_bytes: u64,
    /// Where the file says that it is loaded, before the process' own shift.
    pub address: u64,
    /// How many bytes it has in memory.
    pub memory_bytes: u64,
    /// True where it holds code.
    pub is_executable: bool,
}

/// A file to read from.
pub(in crate::ledger) fn source(file: File) -> Source {
    let file = Arc::new(file);
    Source { read: ReadCache::new(Box::new(Arc::clone(&file))), file: Some(file) }
}

/// Bytes to read from, as if they were a file.
pub(in crate::ledger) fn source_of(bytes: Vec<u8>) -> Source {
    Source { read: ReadCache::new(Box::new(Cursor::new(bytes))), file: None }
}

/// Reads the headers; `None` where it is no ELF file of 64 bits.
pub(in crate::ledger) fn parse(source: &Source) -> Option<Elf<'_>> {
    Some(Elf { headers: Headers::parse(&source.read).ok()?, file: source.file.as_ref() })
}

/// A section's bytes, decompressed; `None` where there is none, or none that can be read.
pub(in crate::ledger) fn section(elf: &Elf<'_>, name: &str) -> Option<Arc<[u8]>> {
    let data = elf.section_by_name(name)?.compressed_data().ok()?;
    if data.uncompressed_size > SECTION_BYTES_MAX {
        return None;
    }
    let bytes = data.decompress().ok()?;
    (!bytes.is_empty()).then(|| Arc::from(bytes))
}

/// A section that is read by pages, or decompressed at once where it has to be; `None` where there is none.
pub(super) fn pages(elf: &Elf<'_>, name: &str) -> Option<Section> {
    let range = elf.section_by_name(name)?.compressed_file_range().ok()?;
    let bytes = usize::try_from(range.uncompressed_size).ok().filter(|bytes| *bytes > 0)?;
    match (range.format, elf.file) {
        (CompressionFormat::None, Some(file)) => Some(Section::in_file(Arc::clone(file), range.offset, bytes)),
        _ => Some(Section::in_memory(&section(elf, name)?)),
    }
}

/// Where a section is loaded; 0 where there is none.
pub(in crate::ledger) fn section_address(elf: &Elf<'_>, name: &str) -> u64 {
    elf.section_by_name(name).map_or(0, |section| section.address())
}

/// What of the file is loaded.
pub(in crate::ledger) fn segments(elf: &Elf<'_>) -> Vec<Segment> {
    let endian = elf.endian();
    let loaded = elf.elf_program_headers().iter().filter(|header| header.p_type(endian) == PT_LOAD);
    let segment = |header: &object::elf::ProgramHeader64<Endianness>| Segment {
        offset: header.p_offset(endian),
        file_bytes: header.p_filesz(endian),
        address: header.p_vaddr(endian),
        memory_bytes: header.p_memsz(endian),
        is_executable: header.p_flags(endian) & PF_X != 0,
    };
    loaded.map(segment).collect()
}

impl Segment {
    /// The address that the file gives to one of its bytes; `None` where it isn't in this segment.
    pub(in crate::ledger) fn address_of(&self, offset: u64) -> Option<u64> {
        let within = offset.checked_sub(self.offset)?;
        (within < self.file_bytes).then(|| self.address.wrapping_add(within))
    }
}
