//! Where a Go program has its table, and what is known of its code beside it.

use super::super::super::process::{Mapping, Process};
use super::elf;
use super::memory::Pages;
use super::table::{Format, Table};
use super::version;

/// Sections that hold the table, in programs that stand where they are told and in those that stand anywhere.
const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];

/// Sections that only Go's linker makes.
const SIGNS: [&str; 2] = [version::SECTION, ".note.go.buildid"];

/// The table begins at a multiple of this.
const TABLE_ALIGNMENT: u64 = 32;

/// Which word of the runtime's record of a program (`moduledata`) says where the code begins, and what functions' data is counted
/// from.
const TEXT: usize = 22;
const DATA_118: usize = 38;
const DATA_120: usize = 40;

/// As many words of it as are read.
const RECORD_WORDS: usize = 41;

/// A program that Go has compiled.
#[derive(Debug)]
pub(super) struct Program {
    /// Its path, as the process has it.
    pub path: String,
    /// The compiler's version, `1.19.8`; `None` where it doesn't say.
    pub version: Option<String>,
    pub table: Table,
}

impl Program {
    /// The first of a process' programs and libraries that is one; `None` where there is none.
    pub(super) fn of(process: &Process) -> Option<Self> {
        process
            .mappings()
            .iter()
            .filter(|mapping| mapping.offset == 0)
            .find_map(|first| Program::mapped(process, first))
    }

    /// That of a file whose beginning is mapped here.
    fn mapped(process: &Process, first: &Mapping) -> Option<Self> {
        let is_part = |mapping: &&Mapping| (mapping.inode, &mapping.path) == (first.inode, &first.path);
        let parts: Vec<&Mapping> = process.mappings().iter().filter(is_part).collect();
        let memory = Pages::of(process);
        let sections = elf::named(&process.file(first).ok()?)?;
        let address_of = |names: &[&str]| {
            let sections = sections.as_ref()?;
            let section = names.iter().find_map(|name| sections.address_of(name))?;
            Some(section.wrapping_add(first.start.wrapping_sub(sections.base)))
        };
        let section = address_of(&SECTIONS);
        let is_go = |sections: &elf::Sections| SIGNS.iter().any(|name| sections.address_of(name).is_some());
        let table = match section {
            Some(address) => table_at(&memory, &parts, address),
            // C's linker may have put it among others. What sections are called is no part of what runs, and may have been taken away.
            None if sections.as_ref().is_none_or(is_go) => {
                parts.iter().filter(|part| !part.is_executable).find_map(|part| search(&memory, &parts, part))
            }
            None => None,
        }?;
        let version = address_of(&[version::SECTION]).and_then(|address| version::at(&memory, address));
        Some(Program { path: first.path.clone(), version, table })
    }
}

/// The table at an address, completed by the record that the runtime has of it.
fn table_at(memory: &Pages<'_>, parts: &[&Mapping], address: u64) -> Option<Table> {
    let magic = memory.half(address)?;
    let record = Format::of(magic).and_then(|_| record_of(memory, parts, address));
    let mut table = Table::read(memory, address, record.map(|record| record[TEXT]))?;
    let within = |address: &u64| parts.iter().any(|part| (part.start..part.end).contains(address));
    table.data = record.and_then(|record| match table.format {
        Format::Go116 => None,
        Format::Go118 => Some(record[DATA_118]),
        Format::Go120 => Some(record[DATA_120]),
    });
    table.data = table.data.filter(within);
    Some(table)
}

/// Looks for a table in a part of the program.
fn search(memory: &Pages<'_>, parts: &[&Mapping], part: &Mapping) -> Option<Table> {
    let first = part.start.next_multiple_of(TABLE_ALIGNMENT);
    (first..part.end).step_by(TABLE_ALIGNMENT as usize).find_map(|address| table_at(memory, parts, address))
}

/// The runtime's record of a program begins with its table's address. It stands among what can be written, near the end.
fn record_of(memory: &Pages<'_>, parts: &[&Mapping], table: u64) -> Option<[u64; RECORD_WORDS]> {
    let names = table.checked_add(memory.word(table.checked_add(names_field(memory.half(table)?))?)?)?;
    let words = |part: &&Mapping| (part.start..part.end).step_by(8);
    let places = parts.iter().rev().filter(|part| !part.is_executable).flat_map(words);
    let mut places = places.filter(|place| memory.word(*place) == Some(table));
    let place = places.find(|place| memory.word(place + 8) == Some(names))?;
    let mut record = [0; RECORD_WORDS];
    for (index, word) in record.iter_mut().enumerate() {
        *word = memory.word(place + 8 * index as u64)?;
    }
    Some(record)
}

/// Where in its header a table says where its names stand.
fn names_field(magic: u32) -> u64 {
    if Format::of(magic) == Some(Format::Go116) { 24 } else { 32 }
}
