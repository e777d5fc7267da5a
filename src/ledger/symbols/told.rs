//! What the file behind a mapping tells of its code, without reading it: enough to say beforehand what stacks will show.

use super::elf::{self, Elf};
use super::{debug_file, open};
use crate::ledger::process::{Mapping, Process};
use object::{Object, ObjectSection};

/// What it tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::ledger) struct Told {
    /// Where callers' registers are: `.eh_frame`, `.debug_frame`.
    pub has_unwind_tables: bool,
    /// The names of all functions, not of those alone that others may call.
    pub has_functions: bool,
    /// Files and lines.
    pub has_lines: bool,
    /// Some of it stands in a file of its own.
    pub is_apart: bool,
}

/// What the file behind a mapping tells.
///
/// # Errors
/// In words, where it can't be read or is no program or library.
pub(in crate::ledger) fn of(process: &Process, mapping: &Mapping) -> Result<Told, String> {
    let (_, source) = open(process, mapping)?;
    let elf = elf::parse(&source).ok_or("it is no ELF file of 64 bits")?;
    let apart = debug_file::find(process, &mapping.path, &elf);
    let apart = apart.as_ref().and_then(elf::parse);
    let either = |has: fn(&Elf<'_>) -> bool| has(&elf) || apart.as_ref().is_some_and(has);
    Ok(Told {
        has_unwind_tables: either(|elf| has(elf, ".eh_frame") || has(elf, ".debug_frame")),
        has_functions: either(|elf| elf.symbol_table().is_some()) || has(&elf, ".gnu_debugdata"),
        has_lines: either(|elf| has(elf, ".debug_info")),
        is_apart: apart.is_some(),
    })
}

/// True where a section is there and isn't empty: that of a file apart that tells other things has no bytes.
fn has(elf: &Elf<'_>, section: &str) -> bool {
    elf.section_by_name(section).is_some_and(|section| section.file_range().is_some_and(|(_, bytes)| bytes > 0))
}
