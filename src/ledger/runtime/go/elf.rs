//! What the sections of a program are called: of use only for finding one, for what runs is told by segments.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// More sections than a program has, and more bytes than their names take.
const SECTIONS_MAX: u64 = 4096;
const NAMES_BYTES_MAX: u64 = 1 << 20;

const HEADER_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 56;
const SECTION_BYTES: usize = 64;

/// `PT_LOAD`.
const LOADED: u64 = 1;

/// The sections of a program, and the address at which it says that its file begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sections {
    named: Vec<(String, u64)>,
    /// What addresses are counted from, where the program doesn't stand where it is told to.
    pub base: u64,
}

impl Sections {
    /// Where a section stands, as the file has it.
    pub(super) fn address_of(&self, name: &str) -> Option<u64> {
        self.named.iter().find(|(named, _)| named == name).map(|(_, address)| *address)
    }
}

/// Reads them, where the file has them; `None` where it is no program of 64 bits. Format: elf(5).
pub(super) fn named(file: &File) -> Option<Option<Sections>> {
    let header = bytes(file, 0, HEADER_BYTES)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, count) = (number(&header, 40, 8)?, number(&header, 60, 2)?);
    if table == 0 || !(1..SECTIONS_MAX).contains(&count) {
        return Some(None);
    }
    sections(file, &header).map(Some)
}

fn sections(file: &File, header: &[u8]) -> Option<Sections> {
    let (segments, table) = (number(header, 32, 8)?, number(header, 40, 8)?);
    let (segment_count, count, names_at) = (number(header, 56, 2)?, number(header, 60, 2)?, number(header, 62, 2)?);
    let section = |index: u64| bytes(file, table.checked_add(index * SECTION_BYTES as u64)?, SECTION_BYTES);
    let names = section(names_at)?;
    let names_bytes = number(&names, 32, 8).filter(|bytes| *bytes < NAMES_BYTES_MAX)?;
    let names = bytes(file, number(&names, 24, 8)?, names_bytes as usize)?;
    let named = (0..count).filter_map(section).filter_map(|section| {
        let name = names.get(number(&section, 0, 4)? as usize..)?.split(|byte| *byte == 0).next()?;
        Some((String::from_utf8_lossy(name).into_owned(), number(&section, 16, 8)?))
    });
    let segment = |index: u64| bytes(file, segments.checked_add(index * SEGMENT_BYTES as u64)?, SEGMENT_BYTES);
    let first = (0..segment_count)
        .filter_map(segment)
        .find(|segment| number(segment, 0, 4) == Some(LOADED) && number(segment, 8, 8) == Some(0));
    Some(Sections { named: named.collect(), base: number(&first?, 16, 8)? })
}

fn bytes(file: &File, at: u64, count: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; count];
    file.read_exact_at(&mut bytes, at).ok()?;
    Some(bytes)
}

/// A number of up to eight bytes.
fn number(bytes: &[u8], at: usize, count: usize) -> Option<u64> {
    let mut number = [0; 8];
    number[..count].copy_from_slice(bytes.get(at..at + count)?);
    Some(u64::from_le_bytes(number))
}
