//! Functions by address, from a file's symbol tables: dynamic, full, and what a distribution keeps compressed in `.gnu_debugdata`.

use super::elf::{self, Bytes, Elf};
use object::elf::{FileHeader64, STB_LOCAL, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE};
use object::read::elf::ElfSymbolTable;
use object::{Endianness, Object, ObjectSection, ObjectSymbol, ObjectSymbolTable, ReadCache, SectionKind};
use std::io::{Cursor, Read};
use std::sync::Arc;

/// How far `.gnu_debugdata` may grow, in bytes; Fedora's largest are a few MiB.
const DEBUG_DATA_BYTES_MAX: u64 = 64 << 20;

/// How many symbols before an address are asked whether they cover it: labels may stand within a function.
const LABELS_MAX: usize = 16;

/// A file's functions in the order of their addresses.
#[derive(Debug, Default)]
pub(super) struct SymbolTable {
    entries: Vec<Entry>,
    /// The names one after the other, each with a zero byte at its end.
    names: Vec<u8>,
}

/// One function.
#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u64,
    /// 0 where the file doesn't say: up to the next one.
    bytes: u32,
    /// Where its name begins.
    name: u32,
    /// Of those with one address the least is taken.
    rank: u8,
}

/// Where a symbol is, as its file has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its address before the process' own shift.
    pub address: u64,
    /// Its length; 0 where the file doesn't say.
    pub bytes: u64,
}

impl SymbolTable {
    /// Adds the functions of a file's symbol tables. Those of the tables that are whole may lack a length (assembler).
    pub(super) fn add(&mut self, elf: &Elf<'_>) {
        let code: Vec<usize> = elf.sections().filter(is_code).map(|section| section.index().0).collect();
        for (table, strings, is_whole) in tables(elf) {
            for symbol in table.symbols().filter(|symbol| !symbol.is_undefined()) {
                let raw = symbol.elf_symbol();
                let is_function = match raw.st_type() {
                    STT_FUNC | STT_GNU_IFUNC => true,
                    STT_NOTYPE => is_whole && symbol.section_index().is_some_and(|index| code.contains(&index.0)),
                    _ => false,
                };
                let name = name_at(&strings, raw.st_name.get(elf.endian()));
                // `$x` and the like mark where code begins among data.
                if !is_function || name.is_empty() || name.starts_with(b"$") {
                    continue;
                }
                let bytes = u32::try_from(symbol.size()).unwrap_or(u32::MAX);
                let Ok(at) = u32::try_from(self.names.len()) else { return };
                if bytes > 0 || is_whole {
                    let rank = rank(name, bytes, raw.st_bind() == STB_LOCAL);
                    self.entries.push(Entry { start: symbol.address(), bytes, name: at, rank });
                    self.names.extend_from_slice(name);
                    self.names.push(0);
                }
            }
        }
    }

    /// Puts what was added in order.
    pub(super) fn sort(&mut self) {
        self.entries.sort_by_key(|entry| (entry.start, entry.rank));
        self.entries.dedup_by_key(|entry| entry.start);
        self.entries.shrink_to_fit();
        self.names.shrink_to_fit();
    }

    /// The function that covers an address, as the file writes it.
    pub(super) fn name(&self, address: u64) -> Option<&str> {
        let after = self.entries.partition_point(|entry| entry.start <= address);
        let nearest = self.entries[..after].iter().enumerate().rev().take(LABELS_MAX);
        let covers = |(index, entry): &(usize, &Entry)| match entry.bytes {
            0 => index + 1 == after,
            bytes => address - entry.start < u64::from(bytes),
        };
        // One with a length is surer than a label.
        let found = nearest.clone().find(|found| found.1.bytes > 0 && covers(found));
        let entry = found.or_else(|| nearest.take(1).find(covers))?.1;
        let name = self.names.get(entry.name as usize..)?.split(|byte| *byte == 0).next()?;
        std::str::from_utf8(name).ok()
    }

    /// What it takes of memory, in bytes.
    pub(super) fn cost_bytes(&self) -> usize {
        self.names.capacity() + self.entries.capacity() * size_of::<Entry>()
    }
}

/// Which of the names of one address a person knows: `write` rather than `__write`, a name for others rather than a file's own.
fn rank(name: &[u8], bytes: u32, is_local: bool) -> u8 {
    let underscores = name.iter().take(2).take_while(|letter| **letter == b'_').count() as u8;
    let is_mangled = name.starts_with(b"_Z") || name.starts_with(b"_R");
    u8::from(bytes == 0) * 8 + if is_mangled { 0 } else { underscores * 2 } + u8::from(is_local)
}

/// A symbol table of a file.
type Table<'t> = ElfSymbolTable<'t, 't, FileHeader64<Endianness>, &'t ReadCache<Box<dyn Bytes>>>;

/// A file's symbol tables with their names, and whether they are whole. The names are read at once: one by one, each would be a read.
fn tables<'t>(elf: &'t Elf<'_>) -> impl Iterator<Item = (Table<'t>, Arc<[u8]>, bool)> {
    let dynamic = elf.dynamic_symbol_table().map(|table| (table, ".dynstr", false));
    let whole = elf.symbol_table().map(|table| (table, ".strtab", true));
    let tables = dynamic.into_iter().chain(whole);
    tables.filter_map(|(table, strings, is_whole)| Some((table, elf::section(elf, strings)?, is_whole)))
}

/// The name at a place among a table's names, without its zero byte.
fn name_at(strings: &[u8], at: u32) -> &[u8] {
    let rest = strings.get(at as usize..).unwrap_or_default();
    rest.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn is_code<'a>(section: &impl ObjectSection<'a>) -> bool {
    section.kind() == SectionKind::Text
}

/// Where the first of these names is that the file's tables have, functions and data alike, and which it is.
pub(super) fn find<'n>(elf: &Elf<'_>, names: &[&'n str]) -> Option<(&'n str, Place)> {
    let mut found: Vec<Option<Place>> = vec![None; names.len()];
    for (table, strings, _) in tables(elf) {
        for symbol in table.symbols().filter(|symbol| !symbol.is_undefined()) {
            let name = name_at(&strings, symbol.elf_symbol().st_name.get(elf.endian()));
            let name = name.split(|byte| *byte == b'@').next().unwrap_or(name);
            if let Some(index) = names.iter().position(|wanted| wanted.as_bytes() == name)
                && found[index].is_none()
            {
                found[index] = Some(Place { address: symbol.address(), bytes: symbol.size() });
            }
        }
    }
    let (index, place) = found.into_iter().enumerate().find_map(|(index, place)| Some((index, place?)))?;
    Some((names[index], place))
}

/// The small ELF file in `.gnu_debugdata`, which has the functions that the dynamic symbols lack.
pub(super) fn debug_data(elf: &Elf<'_>) -> Option<elf::Source> {
    let packed = elf::section(elf, ".gnu_debugdata")?;
    let mut bytes = Vec::new();
    xz4rust::XzReader::new(Cursor::new(packed)).take(DEBUG_DATA_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(elf::source_of(bytes))
}
