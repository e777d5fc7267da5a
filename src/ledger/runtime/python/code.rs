//! Code objects: what a frame's code is called, where it was written, and which line an instruction is.

use super::super::super::process::Process;
use super::lines::LineTable;
use super::object::{TYPE, bytes, text};
use super::offsets::Offsets;
use std::collections::HashMap;

/// How many are kept; a large service has some 50,000, of which few ever stand on a stack that is taken.
const CODES_MAX: usize = 8192;

/// What is read of a code object at once: all fields that are needed are before.
const HEADER_BYTES: usize = 208;

/// One code object.
#[derive(Debug)]
pub(super) struct Code {
    /// `Session.commit` since 3.11, `commit` before.
    pub function: Box<str>,
    /// As it was compiled from.
    pub file: Box<str>,
    first_line: u32,
    first_traceable: u32,
    lines: LineTable,
    table: Box<[u8]>,
    seen_at: Pointers,
}

/// By these a code object is known to be still the one that was read: another at the same address has others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pointers {
    name: u64,
    file: u64,
    table: u64,
    first_line: u32,
}

/// Those of a process, by their addresses.
#[derive(Debug)]
pub(super) struct Codes {
    /// The type that a code object has; 0 where it isn't known.
    code_type: u64,
    known: HashMap<u64, Code>,
}

impl Codes {
    /// Of a process in which the type `code` is at this address; 0 where it isn't known.
    pub(super) fn new(code_type: u64) -> Self {
        Codes { code_type, known: HashMap::new() }
    }

    /// The one at an address; `None` where there is none, or none any more.
    pub(super) fn get(&mut self, process: &Process, offsets: &Offsets, address: u64) -> Option<&Code> {
        let mut header = [0; HEADER_BYTES];
        process.read(address, &mut header).ok()?;
        let wide = |at: u64| header.get(usize::try_from(at).ok()?..)?.first_chunk().copied().map(u64::from_ne_bytes);
        let narrow = |at: u16| header.get(usize::from(at)..)?.first_chunk().copied().map(u32::from_ne_bytes);
        if self.code_type != 0 && wide(TYPE)? != self.code_type {
            return None;
        }
        let seen_at = Pointers {
            name: wide(offsets.code_name.into())?,
            file: wide(offsets.code_file.into())?,
            table: wide(offsets.code_lines.into())?,
            first_line: narrow(offsets.code_first_line)?,
        };
        if self.known.get(&address).is_none_or(|code| code.seen_at != seen_at) {
            let traceable = if offsets.has_light_frames() { narrow(offsets.code_first_traceable)? } else { 0 };
            let code = Code {
                function: text(process, offsets, seen_at.name)?.into(),
                file: text(process, offsets, seen_at.file)?.into(),
                first_line: seen_at.first_line,
                first_traceable: traceable,
                lines: offsets.lines,
                table: bytes(process, seen_at.table)?.into(),
                seen_at,
            };
            if self.known.len() >= CODES_MAX {
                self.known.clear();
            }
            self.known.insert(address, code);
        }
        self.known.get(&address)
    }
}

impl Code {
    /// The line of an instruction, as a frame has it: since 3.11 bytes from the first, before 3.10 too, in 3.10 how many are before it.
    pub(super) fn line_at(&self, instruction: u32) -> Option<u32> {
        self.lines.line_at(&self.table, self.first_line, self.offset(instruction))
    }

    /// True where a frame that is at this instruction has not begun yet: its arguments are still put in place.
    pub(super) fn is_before_its_start(&self, instruction: u32) -> bool {
        self.first_traceable > 0 && instruction.cast_signed() < (2 * self.first_traceable).cast_signed()
    }

    fn offset(&self, instruction: u32) -> u32 {
        if self.lines == LineTable::Ranges { instruction.saturating_mul(2) } else { instruction }
    }
}
