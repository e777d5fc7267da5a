//! From addresses to functions, files and lines; and what of the mapped files is needed for it, kept within bounds.
//!
//! - `elf`: a file by its sections.
//! - `table`: functions by its symbols. `dwarf`: by its debug information. `debug_file`: where that stands in a file of its own.
//! - `pages`: sections too large to be read as a whole. `name`: names as they stand in the source.
//! - `told`, `package`: what a file will tell, and which package of the distribution it came with.

mod debug_file;
mod dwarf;
pub(super) mod elf;
mod name;
pub(super) mod package;
mod pages;
mod table;
pub(super) mod told;

use super::process::{Mapping, Process};
use super::unwind::tables::Tables;
use crate::model::Frame;
use dwarf::Dwarf;
use elf::{Elf, Segment, Source};
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use table::SymbolTable;

/// How much of what was read of files is kept, in bytes, that the whole program stays within its 150 MB. The least recently used goes first.
const KEPT_BYTES_MAX: usize = 48 << 20;

/// How many addresses' frames are kept: a program has a few thousand on the paths that open and send.
const NAMED_MAX: usize = 1 << 15;

/// How many mappings' files are remembered.
const MAPPINGS_MAX: usize = 1 << 14;

/// A file's number among [`Files`].
pub(super) type FileKey = usize;

/// The mapped files of all processes that are watched.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: Vec<MappedFile>,
    by_identity: HashMap<Identity, FileKey>,
    by_mapping: HashMap<(u32, Mapping), Result<FileKey, Arc<str>>>,
    named: HashMap<(FileKey, u64), Arc<[Frame]>>,
    uses: u64,
}

/// What tells one file from another, also where an inode is used again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Identity {
    /// Device, inode, length and time of its last change.
    File(u64, u64, u64, i64, i64),
    /// The kernel's own, one for all processes.
    Vdso,
}

/// A file, and what was read of it.
#[derive(Debug, Default)]
struct MappedFile {
    segments: Vec<Segment>,
    tables: Part<Tables>,
    symbols: Part<SymbolTable>,
    dwarf: Part<Dwarf>,
    /// When it was used last, in uses of any.
    used: u64,
}

/// What is read when it is needed, and dropped when it has not been for long.
#[derive(Debug, Default)]
enum Part<T> {
    #[default]
    Unread,
    Absent,
    Read(Box<T>),
}

impl<T> Part<T> {
    fn of(read: Option<T>) -> Self {
        read.map_or(Part::Absent, |part| Part::Read(Box::new(part)))
    }

    fn get(&self) -> Option<&T> {
        match self {
            Part::Read(part) => Some(part),
            Part::Unread | Part::Absent => None,
        }
    }

    fn cost_bytes(&self, cost: impl Fn(&T) -> usize) -> usize {
        self.get().map_or(0, cost)
    }

    /// Forgets what was read; that there is nothing to read stays known.
    fn drop_read(&mut self) {
        if matches!(self, Part::Read(_)) {
            *self = Part::Unread;
        }
    }
}

impl MappedFile {
    fn cost_bytes(&self) -> usize {
        self.tables.cost_bytes(Tables::cost_bytes)
            + self.symbols.cost_bytes(SymbolTable::cost_bytes)
            + self.dwarf.cost_bytes(Dwarf::cost_bytes)
    }
}

/// A symbol of a mapped file, in a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Symbol {
    /// Which of the names that were asked for.
    pub name: String,
    /// Where it is in the process.
    pub address: u64,
    /// Where it is in the file, as uprobes want it; `None` for what begins as zeroes and has no place there.
    pub file_offset: Option<u64>,
    /// How many bytes it has; 0 where the file doesn't say.
    pub bytes: u64,
}

impl Files {
    /// The file behind a mapping.
    ///
    /// # Errors
    /// In words, where it can't be read or is no program or library.
    pub(super) fn of(&mut self, process: &Process, mapping: &Mapping) -> Result<FileKey, Arc<str>> {
        let place = (process.pid(), mapping.clone());
        if let Some(known) = self.by_mapping.get(&place) {
            return known.clone();
        }
        let file = self.identify(process, mapping).map_err(Arc::from);
        if self.by_mapping.len() >= MAPPINGS_MAX {
            self.by_mapping.clear();
        }
        self.by_mapping.insert(place, file.clone());
        file
    }

    fn identify(&mut self, process: &Process, mapping: &Mapping) -> Result<FileKey, String> {
        let (identity, source) = open(process, mapping)?;
        if let Some(known) = self.by_identity.get(&identity) {
            return Ok(*known);
        }
        let elf = elf::parse(&source).ok_or("it is no ELF file of 64 bits")?;
        self.files.push(MappedFile { segments: elf::segments(&elf), ..MappedFile::default() });
        self.by_identity.insert(identity, self.files.len() - 1);
        Ok(self.files.len() - 1)
    }

    /// An address of the process as the file has it; `None` where nothing of the file is loaded there.
    pub(super) fn address_in_file(&self, file: FileKey, mapping: &Mapping, address: u64) -> Option<u64> {
        let offset = address.checked_sub(mapping.start)? + mapping.offset;
        // Two segments may share a page of the file.
        let segments = &self.files.get(file)?.segments;
        let alike = segments.iter().filter(|segment| segment.is_executable == mapping.is_executable);
        alike.chain(segments).find_map(|segment| segment.address_of(offset))
    }

    /// The unwind tables of a file; `None` where it has none.
    pub(super) fn tables(&mut self, process: &Process, mapping: &Mapping, file: FileKey) -> Option<&Tables> {
        self.touch(file);
        if matches!(self.files[file].tables, Part::Unread) {
            let read = |elf: &Elf<'_>| {
                Tables::read(elf).or_else(|| {
                    let apart = debug_file::find(process, &mapping.path, elf)?;
                    Tables::read(&elf::parse(&apart)?)
                })
            };
            let tables = read_part(process, mapping, read);
            self.files[file].tables = Part::of(tables);
        }
        self.files[file].tables.get()
    }

    /// The model's frames at an address, inlined ones first; at least one.
    pub(super) fn frames(&mut self, process: &Process, mapping: &Mapping, address: u64) -> Arc<[Frame]> {
        let module = (!mapping.path.is_empty()).then(|| Box::from(mapping.path.as_str()));
        let nameless = Frame { module: module.clone(), ..Frame::default() };
        let Ok(file) = self.of(process, mapping) else { return Arc::from([nameless]) };
        let Some(address) = self.address_in_file(file, mapping, address) else { return Arc::from([nameless]) };
        if let Some(frames) = self.named.get(&(file, address)) {
            return frames.clone();
        }
        self.read_names(process, mapping, file);
        let known = &self.files[file];
        let mut frames = known.dwarf.get().map(|dwarf| dwarf.frames(address)).unwrap_or_default();
        if frames.is_empty() {
            frames.push(Frame::default());
        }
        if let Some(outermost) = frames.last_mut()
            && let Some(symbol) = known.symbols.get().and_then(|symbols| symbols.name(address))
        {
            outermost.function = Some(fuller(outermost.function.take(), name::demangle(symbol)));
        }
        for frame in &mut frames {
            frame.module.clone_from(&module);
        }
        let frames: Arc<[Frame]> = Arc::from(frames);
        if self.named.len() >= NAMED_MAX {
            self.named.clear();
        }
        self.named.insert((file, address), frames.clone());
        frames
    }

    /// Reads a file's symbols and debug information, unless they are known.
    fn read_names(&mut self, process: &Process, mapping: &Mapping, file: FileKey) {
        self.touch(file);
        if !matches!((&self.files[file].symbols, &self.files[file].dwarf), (Part::Unread, _) | (_, Part::Unread)) {
            return;
        }
        let read = read_part(process, mapping, |elf| {
            let apart = debug_file::find(process, &mapping.path, elf);
            let apart = apart.as_ref().and_then(elf::parse);
            let common = [Some(elf), apart.as_ref()].into_iter().flatten();
            let common = common.filter_map(|elf| debug_file::find_common(process, &mapping.path, elf)).next();
            let common = common.as_ref().and_then(elf::parse);
            let dwarf = Dwarf::read(elf, common.as_ref());
            let dwarf = dwarf.or_else(|| Dwarf::read(apart.as_ref()?, common.as_ref()));
            let inside = table::debug_data(elf);
            let inside = inside.as_ref().and_then(elf::parse);
            let mut symbols = SymbolTable::default();
            [Some(elf), apart.as_ref(), inside.as_ref()].into_iter().flatten().for_each(|elf| symbols.add(elf));
            symbols.sort();
            Some((symbols, dwarf))
        });
        let (symbols, dwarf) = read.unzip();
        self.files[file].symbols = Part::of(symbols);
        self.files[file].dwarf = Part::of(dwarf.flatten());
    }

    /// The first of these names that a mapped file has: in its dynamic symbols, in its own, in those that its distribution keeps
    /// compressed in it, or in a separate debug file.
    pub(super) fn find_symbol(&mut self, process: &Process, mapping: &Mapping, names: &[&str]) -> Option<Symbol> {
        let file = self.of(process, mapping).ok()?;
        let (name, place) = read_part(process, mapping, |elf| {
            let inside = || table::find(&elf::parse(&table::debug_data(elf)?)?, names);
            let apart = || table::find(&elf::parse(&debug_file::find(process, &mapping.path, elf)?)?, names);
            table::find(elf, names).or_else(inside).or_else(apart)
        })?;
        let segments = &self.files[file].segments;
        let holds = |segment: &&Segment| place.address.wrapping_sub(segment.address) < segment.memory_bytes;
        let within = segments.iter().find(holds).map(|segment| (segment, place.address - segment.address));
        let file_offset =
            within.filter(|(segment, at)| *at < segment.file_bytes).map(|(segment, at)| segment.offset + at);
        // By how much the process has shifted the file, from the one mapping that we hold.
        let first = self.address_in_file(file, mapping, mapping.start).or_else(|| {
            let begins_in = |segment: &&Segment| segment.offset / PAGE_BYTES * PAGE_BYTES == mapping.offset;
            let segment = segments.iter().find(begins_in)?;
            Some(segment.address.wrapping_sub(segment.offset - mapping.offset))
        })?;
        let address = place.address.wrapping_add(mapping.start.wrapping_sub(first));
        Some(Symbol { name: name.to_owned(), address, file_offset, bytes: place.bytes })
    }

    fn touch(&mut self, file: FileKey) {
        self.uses += 1;
        self.files[file].used = self.uses;
    }

    /// Drops what was read of the files that have not been used for longest, until the rest is within its bounds: debug information
    /// first, for what it has named stays known, unwind tables last, for each stack needs them.
    pub(super) fn keep_within_bounds(&mut self) {
        let drops: [fn(&mut MappedFile); 3] =
            [|file| file.dwarf.drop_read(), |file| file.symbols.drop_read(), |file| file.tables.drop_read()];
        let mut kept: usize = self.files.iter().map(MappedFile::cost_bytes).sum();
        if kept <= KEPT_BYTES_MAX {
            return;
        }
        let mut oldest: Vec<&mut MappedFile> = self.files.iter_mut().collect();
        oldest.sort_by_key(|file| file.used);
        for drop_part in drops {
            for file in &mut oldest {
                if kept <= KEPT_BYTES_MAX {
                    return;
                }
                kept -= file.cost_bytes();
                drop_part(file);
                kept += file.cost_bytes();
            }
        }
    }
}

/// The name of a function by its debug information, which may have lines alone (assembler) or leave out what a function belongs to
/// (`report` of C++'s `app::report`), and by its symbol.
fn fuller(told: Option<Box<str>>, symbol: String) -> Box<str> {
    match told {
        Some(told) if !symbol.ends_with(&format!("::{told}")) => told,
        _ => symbol.into(),
    }
}

/// The smallest page, by which the loader rounds the begin of a segment.
const PAGE_BYTES: u64 = 4096;

/// Opens what is behind a mapping, and says what tells it from others.
fn open(process: &Process, mapping: &Mapping) -> Result<(Identity, Source), String> {
    if mapping.path == "[vdso]" {
        let mut bytes = vec![0; usize::try_from(mapping.end - mapping.start).unwrap_or_default()];
        process.read(mapping.start, &mut bytes).map_err(|error| error.to_string())?;
        return Ok((Identity::Vdso, elf::source_of(bytes)));
    }
    if mapping.inode == 0 {
        return Err("it is no file".to_owned());
    }
    let file = process.file(mapping).map_err(|error| error.to_string())?;
    let facts = file.metadata().map_err(|error| error.to_string())?;
    let identity = Identity::File(facts.dev(), facts.ino(), facts.size(), facts.mtime(), facts.mtime_nsec());
    Ok((identity, elf::source(file)))
}

/// Reads something out of the file behind a mapping, which is closed again.
fn read_part<T>(process: &Process, mapping: &Mapping, read: impl Fn(&Elf<'_>) -> Option<T>) -> Option<T> {
    let (_, source) = open(process, mapping).ok()?;
    read(&elf::parse(&source)?)
}
