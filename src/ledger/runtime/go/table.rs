//! The table by which a Go program tells its own functions, files and lines: the runtime needs it, so no stripping takes it away.
//!
//! It is read where the program has it in memory: there all addresses are as they are, however it was linked, and only what is asked
//! for is read. Formats: `src/runtime/symtab.go` and `src/cmd/link/internal/ld/pcln.go` in Go's sources; a table's first four
//! bytes tell which of the three it is.

use super::memory::Pages;

/// Of the three formats the size of the header that is read; the first has a word less.
const HEADER_BYTES: usize = 72;

/// More functions than any program has.
const FUNCTIONS_MAX: u64 = 1 << 24;

/// Longest name of a function or a file that is believed.
const NAME_BYTES_MAX: usize = 4 << 10;

/// Most pairs of value and distance that are believed of one function.
const STEPS_MAX: usize = 1 << 16;

/// Most functions that are made one.
const INLINED_MAX: usize = 64;

/// Which of a function's tables by address has the number of the inlined call, and which of its data these calls.
const INLINED_CALL: u64 = 2;
const INLINED_CALLS: u64 = 3;

/// In which version of Go the format came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Format {
    Go116,
    Go118,
    Go120,
}

/// Where things stand in the table of one program.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub format: Format,
    /// Where the functions' code begins, and ends.
    pub text: u64,
    pub text_end: u64,
    /// What the places of functions' data are counted from; `None` where they are addresses, or it is not known.
    pub data: Option<u64>,
    /// The smallest distance between two instructions.
    quantum: u64,
    count: u64,
    /// Where each part begins: names, files of each unit, files, values by address, functions.
    names: u64,
    units: u64,
    files: u64,
    values: u64,
    functions: u64,
}

/// What the table has of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function {
    /// Its first instruction.
    pub entry: u64,
    /// Where the next one begins.
    pub end: u64,
    name: u32,
    /// How far the stack pointer is from where it returns to, by address.
    depths: u32,
    files: u32,
    lines: u32,
    unit: u32,
    table_count: u64,
    data_count: u64,
    /// Where its further tables begin.
    tables: u64,
}

/// A place in the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub function: String,
    pub file: Option<String>,
    pub line: Option<u32>,
}

impl Format {
    pub(super) fn of(magic: u32) -> Option<Self> {
        match magic {
            0xffff_fffa => Some(Format::Go116),
            0xffff_fff0 => Some(Format::Go118),
            0xffff_fff1 => Some(Format::Go120),
            _ => None,
        }
    }
}

impl Table {
    /// Reads the header of a table. `text` is where the code begins, for those headers that don't say it.
    pub(super) fn read(memory: &Pages<'_>, address: u64, text: Option<u64>) -> Option<Self> {
        let header: [u8; HEADER_BYTES] = memory.bytes(address)?;
        let format = Format::of(u32::from_le_bytes(*header.first_chunk()?))?;
        let [0, 0, quantum @ (1 | 2 | 4), 8] = header[4..8] else { return None };
        let mut words = header[8..].chunks_exact(8).filter_map(|word| word.try_into().ok().map(u64::from_le_bytes));
        let count = words.next().filter(|count| (1..FUNCTIONS_MAX).contains(count))?;
        words.next()?;
        let named = if format == Format::Go116 { None } else { words.next().filter(|text| *text != 0) };
        let mut part =
            || words.next().filter(|offset| *offset < 1 << 32).and_then(|offset| address.checked_add(offset));
        let mut table = Table {
            format,
            text: 0,
            text_end: 0,
            data: None,
            quantum: u64::from(quantum),
            count,
            names: part()?,
            units: part()?,
            files: part()?,
            values: part()?,
            functions: part()?,
        };
        table.text = match format {
            Format::Go116 => 0,
            _ => named.or(text)?,
        };
        table.text_end = table.start_of(memory, count)?;
        if format == Format::Go116 {
            table.text = table.start_of(memory, 0)?;
        }
        (table.text < table.text_end).then_some(table)
    }

    /// Where a function begins; of the one after the last, where that ends.
    pub(super) fn start_of(&self, memory: &Pages<'_>, index: u64) -> Option<u64> {
        match self.format {
            Format::Go116 => memory.word(self.functions.checked_add(index * 16)?),
            _ => self.text.checked_add(u64::from(memory.half(self.functions.checked_add(index * 8)?)?)),
        }
    }

    /// True where an address may be that of an instruction.
    pub(super) fn has(&self, address: u64) -> bool {
        (self.text..self.text_end).contains(&address)
    }

    /// The function that an instruction belongs to.
    pub(super) fn function_at(&self, memory: &Pages<'_>, address: u64) -> Option<Function> {
        if !self.has(address) {
            return None;
        }
        // The last one that doesn't begin behind it lies in [low, high).
        let (mut low, mut high) = (0, self.count);
        while high - low > 1 {
            let middle = low.midpoint(high);
            if self.start_of(memory, middle)? <= address { low = middle } else { high = middle }
        }
        let function = self.function(memory, low)?;
        (function.entry..function.end).contains(&address).then_some(function)
    }

    /// A function by its place in the table.
    fn function(&self, memory: &Pages<'_>, index: u64) -> Option<Function> {
        let at = match self.format {
            Format::Go116 => memory.word(self.functions.checked_add(index * 16 + 8)?)?,
            _ => u64::from(memory.half(self.functions.checked_add(index * 8 + 4)?)?),
        };
        let at = self.functions.checked_add(at)?;
        // Before 1.18 the entry is an address, since then a distance; 1.20 added the first line behind the other fields.
        let (entry_bytes, rest_bytes) = match self.format {
            Format::Go116 => (8, 36),
            Format::Go118 => (4, 36),
            Format::Go120 => (4, 40),
        };
        let tables = at.checked_add(entry_bytes + rest_bytes)?;
        let fields: [u8; 32] = memory.bytes(at.checked_add(entry_bytes)?)?;
        let field =
            |index: usize| fields.get(4 * index..).and_then(<[u8]>::first_chunk).copied().map(u32::from_le_bytes);
        let [data_count] = memory.bytes(tables - 1)?;
        Some(Function {
            entry: self.start_of(memory, index)?,
            end: self.start_of(memory, index + 1)?,
            name: field(0)?,
            depths: field(3)?,
            files: field(4)?,
            lines: field(5)?,
            table_count: u64::from(field(6)?),
            unit: field(7)?,
            data_count: u64::from(data_count),
            tables,
        })
    }

    /// A function's name.
    pub(super) fn name(&self, memory: &Pages<'_>, function: &Function) -> Option<String> {
        self.name_at(memory, function.name)
    }

    fn name_at(&self, memory: &Pages<'_>, offset: u32) -> Option<String> {
        memory.text(self.names.checked_add(u64::from(offset))?, NAME_BYTES_MAX).filter(|name| !name.is_empty())
    }

    /// How many bytes above the stack pointer the address stands that the function returns to, at an instruction.
    pub(super) fn depth(&self, memory: &Pages<'_>, function: &Function, address: u64) -> Option<u64> {
        self.value(memory, function.depths, function, address).and_then(|depth| u64::try_from(depth).ok())
    }

    /// What a table by address says of an instruction; `None` also where it says that there is nothing.
    fn value(&self, memory: &Pages<'_>, table: u32, function: &Function, address: u64) -> Option<i32> {
        if table == 0 {
            return None;
        }
        let mut bytes = memory.from(self.values.checked_add(u64::from(table))?);
        let (mut value, mut from) = (-1_i32, function.entry);
        for step in 0..STEPS_MAX {
            let change = number(&mut bytes)?;
            // A change of nothing ends the table, but for the first.
            if change == 0 && step > 0 {
                return None;
            }
            let magnitude = (change >> 1).cast_signed();
            value = value.wrapping_add(if change & 1 == 0 { magnitude } else { !magnitude });
            from = from.checked_add(u64::from(number(&mut bytes)?) * self.quantum)?;
            if address < from {
                return Some(value).filter(|value| *value != -1);
            }
        }
        None
    }

    /// The places of an instruction in the source, that of the innermost inlined function first.
    pub(super) fn places(&self, memory: &Pages<'_>, address: u64) -> Vec<Place> {
        let mut places = Vec::new();
        let Some(function) = self.function_at(memory, address) else { return places };
        let mut address = address;
        while places.len() < INLINED_MAX {
            let inlined = self.inlined_at(memory, &function, address);
            let name = inlined.as_ref().map_or(function.name, |(name, _)| *name);
            places.push(Place {
                function: self.name_at(memory, name).unwrap_or_default(),
                file: self.file(memory, &function, address),
                line: self.value(memory, function.lines, &function, address).and_then(|line| line.try_into().ok()),
            });
            match inlined {
                Some((_, caller)) => address = caller,
                None => break,
            }
        }
        places.retain(|place| !place.function.is_empty());
        places
    }

    fn file(&self, memory: &Pages<'_>, function: &Function, address: u64) -> Option<String> {
        let number = u32::try_from(self.value(memory, function.files, function, address)?).ok()?;
        let index = u64::from(function.unit.checked_add(number)?);
        let offset = memory.half(self.units.checked_add(4 * index)?).filter(|offset| *offset != u32::MAX)?;
        memory.text(self.files.checked_add(u64::from(offset))?, NAME_BYTES_MAX)
    }

    /// Of an instruction that belongs to an inlined call: the name of the function called, and an instruction of the caller at
    /// the place of the call.
    fn inlined_at(&self, memory: &Pages<'_>, function: &Function, address: u64) -> Option<(u32, u64)> {
        if function.table_count <= INLINED_CALL || function.data_count <= INLINED_CALLS {
            return None;
        }
        let table = memory.half(function.tables.checked_add(4 * INLINED_CALL)?)?;
        let index = u64::try_from(self.value(memory, table, function, address)?).ok()?;
        let data = function.tables.checked_add(4 * function.table_count)?;
        let calls = match self.format {
            Format::Go116 => memory.word(data.next_multiple_of(8).checked_add(8 * INLINED_CALLS)?)?,
            _ => {
                let offset = memory.half(data.checked_add(4 * INLINED_CALLS)?).filter(|offset| *offset != u32::MAX)?;
                self.data?.checked_add(u64::from(offset))?
            }
        };
        // The call's size, and where in it the name and the place stand.
        let (bytes, name, place) = if self.format == Format::Go120 { (16, 4, 8) } else { (20, 12, 16) };
        let call = calls.checked_add(index * bytes)?;
        let caller = function.entry.checked_add(u64::from(memory.half(call.checked_add(place)?)?))?;
        let name = memory.half(call.checked_add(name)?)?;
        (caller < function.end).then_some((name, caller))
    }

    /// The entries of functions by their names; `None` for those that the program doesn't have.
    pub(super) fn find<const COUNT: usize>(&self, memory: &Pages<'_>, names: [&str; COUNT]) -> [Option<u64>; COUNT] {
        let offsets = self.offsets_of(memory, names);
        let mut found = [None; COUNT];
        let wanted = offsets.iter().flatten().count();
        for index in 0..self.count {
            if found.iter().flatten().count() == wanted {
                break;
            }
            let Some(function) = self.function(memory, index) else { continue };
            if let Some(which) = offsets.iter().position(|offset| *offset == Some(function.name)) {
                found[which] = Some(function.entry);
            }
        }
        found
    }

    /// Where among the names these stand.
    fn offsets_of<const COUNT: usize>(&self, memory: &Pages<'_>, names: [&str; COUNT]) -> [Option<u32>; COUNT] {
        let mut offsets = [None; COUNT];
        let (mut name, mut from) = (Vec::new(), 0);
        let bytes_max = self.units.saturating_sub(self.names) as usize;
        for (at, byte) in memory.from(self.names).take(bytes_max).enumerate() {
            if byte != 0 {
                name.push(byte);
                continue;
            }
            if let Some(which) = names.iter().position(|wanted| wanted.as_bytes() == name) {
                offsets[which] = u32::try_from(from).ok();
            }
            name.clear();
            from = at + 1;
        }
        offsets
    }
}

/// A number in groups of seven bits, the lowest first.
fn number(bytes: &mut impl Iterator<Item = u8>) -> Option<u32> {
    let mut number = 0;
    for shift in (0..32).step_by(7) {
        let byte = bytes.next()?;
        number |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
