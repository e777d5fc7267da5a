//! The kernel's type information (BTF), cut down to what a BPF object names before aya reads it: reading all of it takes
//! aya 70 ms and 40 MB, and this a tenth.
//!
//! Format: `Documentation/bpf/btf.rst`. A type is three words (name, kind and count, size or another type) and what its
//! kind adds; types are numbered from 1 in the order in which they stand.

use aya::{Btf, BtfError};
use std::collections::HashSet;
use std::io;
use std::path::Path;

/// Where the running kernel has it.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;
const HEADER_BYTES: usize = 24;

const INT: u32 = 1;
const POINTER: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FORWARD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNCTION: u32 = 12;
const PROTOTYPE: u32 = 13;
const VARIABLE: u32 = 14;
const SECTION: u32 = 15;
const DECLARATION_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// What loading an object needs of the kernel's types.
#[derive(Debug)]
pub(super) struct KernelTypes {
    /// The structures that the object names, under numbers of their own: where their fields stand.
    pub structures: Btf,
    /// The function that programs attach to, under its true number.
    pub function: Btf,
}

impl KernelTypes {
    /// What the running kernel says of the structures in `object` and of the function called `function`. Fails with
    /// `NotFound` where the kernel was built without type information or has no such function.
    pub(super) fn read(object: &[u8], function: &str) -> io::Result<Self> {
        Self::parse(&std::fs::read(Path::new(VMLINUX))?, object, function)
    }

    fn parse(bytes: &[u8], object: &[u8], function: &str) -> io::Result<Self> {
        let types = Types::parse(bytes).ok_or_else(|| invalid("is no BTF, or of a later format"))?;
        // Every name in an object's own type information ends with a NUL. What else is among these does no harm.
        let named: HashSet<&[u8]> = object.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
        let mut wanted = Vec::new();
        let mut attach = None;
        for (id, at) in (1u32..).zip(&types.starts) {
            let [name, info, _] = types.words(*at);
            match info >> 24 & 0x1f {
                STRUCT | UNION if name != 0 && named.contains(types.name(name)) => wanted.push(id),
                FUNCTION if types.name(name) == function.as_bytes() => attach = Some(id),
                _ => {}
            }
        }
        let attach = attach.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no {function}")))?;
        let parsed = |bytes: Vec<u8>| Btf::parse(&bytes, Default::default()).map_err(|error: BtfError| invalid(error));
        Ok(KernelTypes {
            structures: parsed(Excerpt::of(&types, wanted).into_bytes())?,
            function: parsed(function_alone(attach, function))?,
        })
    }
}

fn invalid(why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{VMLINUX}: {why}"))
}

/// All types, not yet looked into.
struct Types<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where in `types` each type begins.
    starts: Vec<u32>,
}

impl<'a> Types<'a> {
    /// `None` for what is cut off or has kinds that came later.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.get(..2)? != MAGIC.to_ne_bytes() {
            return None;
        }
        let header = |word: usize| Some(word_at(bytes, word * 4)? as usize);
        let body = bytes.get(header(1)?..)?;
        let part = |start: usize, length: usize| body.get(start..start.checked_add(length)?);
        let types = part(header(2)?, header(3)?)?;
        let strings = part(header(4)?, header(5)?)?;
        let mut starts = Vec::with_capacity(types.len() / 24);
        let mut at = 0;
        while at < types.len() {
            starts.push(at as u32);
            at += 12 + added_words(word_at(types, at + 4)?)? * 4;
        }
        (at == types.len()).then_some(Types { types, strings, starts })
    }

    /// The three words that every type begins with.
    fn words(&self, at: u32) -> [u32; 3] {
        [0, 4, 8].map(|offset| word_at(self.types, at as usize + offset).unwrap_or_default())
    }

    fn name(&self, offset: u32) -> &'a [u8] {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

fn word_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

/// How many words a type has past the three that all have.
fn added_words(info: u32) -> Option<usize> {
    let count = (info & 0xffff) as usize;
    Some(match info >> 24 & 0x1f {
        INT | VARIABLE | DECLARATION_TAG => 1,
        ARRAY => 3,
        STRUCT | UNION | SECTION | ENUM64 => 3 * count,
        ENUM | PROTOTYPE => 2 * count,
        kind if kind <= ENUM64 => 0,
        _ => return None,
    })
}

/// Some types and those that they consist of, numbered anew. Pointers lead nowhere: no structure is needed for being
/// pointed at.
struct Excerpt<'a> {
    from: &'a Types<'a>,
    /// The old number of each type, in the new order.
    chosen: Vec<u32>,
    /// The new number of each old one, 0 where it is not chosen.
    renumbered: Vec<u32>,
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl<'a> Excerpt<'a> {
    fn of(from: &'a Types<'a>, wanted: Vec<u32>) -> Self {
        let renumbered = vec![0; from.starts.len() + 1];
        let mut excerpt = Excerpt { from, chosen: Vec::new(), renumbered, types: Vec::new(), strings: vec![0] };
        for id in wanted {
            excerpt.choose(id);
        }
        let mut next = 0;
        while let Some(id) = excerpt.chosen.get(next) {
            excerpt.copy(*id);
            next += 1;
        }
        excerpt
    }

    /// The new number of a type, which is copied in its turn.
    fn choose(&mut self, id: u32) -> u32 {
        match self.renumbered.get_mut(id as usize) {
            Some(0) if id != 0 => {
                self.chosen.push(id);
                let new = self.chosen.len() as u32;
                self.renumbered[id as usize] = new;
                new
            }
            known => known.copied().unwrap_or_default(),
        }
    }

    fn copy(&mut self, id: u32) {
        let at = self.from.starts[id as usize - 1];
        let [name, info, size_or_type] = self.from.words(at);
        let added = |word: usize| word_at(self.from.types, at as usize + 12 + word * 4).unwrap_or_default();
        let added: Vec<u32> = (0..added_words(info).unwrap_or_default()).map(added).collect();
        let name = self.intern(name);
        let third = match info >> 24 & 0x1f {
            POINTER => 0,
            TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => self.choose(size_or_type),
            _ => size_or_type,
        };
        self.push(&[name, info, third]);
        match info >> 24 & 0x1f {
            ARRAY => {
                let words = [self.choose(added[0]), self.choose(added[1]), added[2]];
                self.push(&words);
            }
            STRUCT | UNION => {
                for member in added.chunks_exact(3) {
                    let words = [self.intern(member[0]), self.choose(member[1]), member[2]];
                    self.push(&words);
                }
            }
            // The names of values stay behind.
            ENUM => added.chunks_exact(2).for_each(|value| self.push(&[0, value[1]])),
            ENUM64 => added.chunks_exact(3).for_each(|value| self.push(&[0, value[1], value[2]])),
            _ => self.push(&added),
        }
    }

    fn intern(&mut self, name: u32) -> u32 {
        if name == 0 {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend(self.from.name(name));
        self.strings.push(0);
        at
    }

    fn push(&mut self, words: &[u32]) {
        self.types.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    }

    fn into_bytes(self) -> Vec<u8> {
        whole(&self.types, &self.strings)
    }
}

/// One function under its number, and nothing before it.
fn function_alone(id: u32, name: &str) -> Vec<u8> {
    let words = |words: [u32; 3]| words.into_iter().flat_map(u32::to_ne_bytes);
    let mut types: Vec<u8> = (1..id).flat_map(|_| words([0, FORWARD << 24, 0])).collect();
    types.extend(words([1, FUNCTION << 24, 0]));
    whole(&types, format!("\0{name}\0").as_bytes())
}

fn whole(types: &[u8], strings: &[u8]) -> Vec<u8> {
    let (types_bytes, strings_bytes) = (types.len() as u32, strings.len() as u32);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + types.len() + strings.len());
    bytes.extend(MAGIC.to_ne_bytes());
    // The format's version, and no flags.
    bytes.extend([1, 0]);
    let header = [HEADER_BYTES as u32, 0, types_bytes, types_bytes, strings_bytes];
    bytes.extend(header.into_iter().flat_map(u32::to_ne_bytes));
    bytes.extend(types);
    bytes.extend(strings);
    bytes
}
