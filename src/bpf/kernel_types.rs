//! The kernel's type information (BTF), cut down to what a BPF object names: taking all of it apart is most of what loading
//! would cost, in time and in memory.
//!
//! Format: `Documentation/bpf/btf.rst`. A type is three words (name, kind and count, size or another type) and what its
//! kind adds; types are numbered from 1 in the order in which they stand.

use aya_obj::btf::{Btf, BtfError};
use std::collections::HashSet;
use std::ffi::CStr;
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

/// What loading objects needs of the kernel's types.
#[derive(Debug)]
pub(crate) struct KernelTypes {
    /// In the format of BTF.
    structures: Vec<u8>,
    /// The numbers of the functions that programs attach to.
    pub functions: [u32; 2],
}

impl KernelTypes {
    /// What the running kernel says of the structures in `objects` and of the functions of these names. Fails
    /// with `NotFound` where the kernel was built without type information or lacks one of them.
    pub(crate) fn read(objects: &[&[u8]], functions: [&str; 2]) -> io::Result<Self> {
        let (structures, functions) = cut(&std::fs::read(Path::new(VMLINUX))?, objects, functions)?;
        Ok(KernelTypes { structures, functions })
    }

    /// The structures that the objects name, under numbers of their own: where their fields stand.
    pub(crate) fn structures(&self) -> Result<Btf, BtfError> {
        Btf::parse(&self.structures, Default::default())
    }
}

/// The number of a tracepoint's type. Fails with `NotFound` where the kernel has no such tracepoint.
pub(crate) fn tracepoint(name: &str) -> io::Result<u32> {
    let bytes = std::fs::read(Path::new(VMLINUX))?;
    let types = Types::parse(&bytes).ok_or_else(|| invalid("is no BTF, or of a later format"))?;
    let name = format!("btf_trace_{name}");
    let is_it = |at: u32| {
        let [of, info, _] = types.words(at);
        info >> 24 & 0x1f == TYPEDEF && types.is_named(of, &name)
    };
    let found = (1u32..).zip(&types.starts).find(|(_, at)| is_it(**at)).map(|(id, _)| id);
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no tracepoint {name}")))
}

/// The two parts of [`KernelTypes`].
fn cut(bytes: &[u8], objects: &[&[u8]], functions: [&str; 2]) -> io::Result<(Vec<u8>, [u32; 2])> {
    let types = Types::parse(bytes).ok_or_else(|| invalid("is no BTF, or of a later format"))?;
    // Every name in an object's own type information ends with a NUL. What else is among these does no harm.
    let names = objects.iter().flat_map(|object| object.split(|byte| *byte == 0));
    let named: HashSet<&[u8]> = names.filter(|name| !name.is_empty()).collect();
    let mut wanted = Vec::new();
    let mut numbers = [0; 2];
    for (id, at) in (1u32..).zip(&types.starts) {
        let [name, info, _] = types.words(*at);
        match info >> 24 & 0x1f {
            STRUCT | UNION if name != 0 && named.contains(types.name(name)) => wanted.push(id),
            FUNCTION => {
                let wanted = functions.iter().zip(&mut numbers);
                wanted.filter(|(function, _)| types.is_named(name, function)).for_each(|(_, number)| *number = id);
            }
            _ => {}
        }
    }
    if let Some(missing) = numbers.iter().position(|number| *number == 0) {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("no {}", functions[missing])));
    }
    Ok((Excerpt::of(&types, wanted).into_bytes(), numbers))
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
        CStr::from_bytes_until_nul(self.strings_from(offset)).map(CStr::to_bytes).unwrap_or_default()
    }

    /// Without looking for the end of the name.
    fn is_named(&self, offset: u32, name: &str) -> bool {
        self.strings_from(offset).strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }

    fn strings_from(&self, offset: u32) -> &'a [u8] {
        self.strings.get(offset as usize..).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Types in the kernel's form: an int, a structure with two members, and functions before and after it.
    fn kernel() -> Vec<u8> {
        let strings = b"\0int\0inner\0outer\0first\0second\0other\0wanted\0";
        let place = |name: &str| {
            let name = format!("\0{name}\0");
            strings.windows(name.len()).position(|at| at == name.as_bytes()).expect("is there") as u32 + 1
        };
        let types = [
            vec![place("int"), INT << 24, 4, 32],
            vec![place("other"), FUNCTION << 24, 0],
            vec![0, POINTER << 24, 5],
            vec![place("inner"), STRUCT << 24 | 1, 4, place("first"), 1, 0],
            vec![place("outer"), STRUCT << 24 | 2, 16, place("first"), 4, 0, place("second"), 3, 64],
            vec![place("wanted"), FUNCTION << 24, 0],
        ];
        let types: Vec<u8> = types.concat().into_iter().flat_map(u32::to_ne_bytes).collect();
        whole(&types, strings)
    }

    #[test]
    fn a_structure_comes_with_what_it_consists_of() {
        let kernel = kernel();
        let types = Types::parse(&kernel).expect("parses");
        let excerpt = Excerpt::of(&types, vec![5]).into_bytes();
        let types = Types::parse(&excerpt).expect("parses again");
        let names: Vec<&[u8]> = types.starts.iter().map(|at| types.name(types.words(*at)[0])).collect();
        assert_eq!(names, [&b"outer"[..], b"inner", b"", b"int"]);
        let member = |word: usize| word_at(types.types, 12 + word * 4);
        assert_eq!([1, 2, 4, 5].map(member), [Some(2), Some(0), Some(3), Some(64)], "members by their new numbers");
        assert_eq!(types.words(types.starts[2]), [0, POINTER << 24, 0], "a pointer leads nowhere");
    }

    #[test]
    fn the_function_is_told_by_its_number() {
        let (structures, number) = cut(&kernel(), &[b"\0outer\0"], ["wanted"; 2]).expect("cuts");
        assert_eq!(number, [6, 6]);
        Btf::parse(&structures, Default::default()).expect("is what the loader reads");
        for missing in ["missing", "want", "outer"] {
            let missing = cut(&kernel(), &[b"\0outer\0"], [missing; 2]).expect_err("is no function");
            assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        }
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let kernel = kernel();
        for length in 0..kernel.len() {
            assert!(Types::parse(&kernel[..length]).is_none(), "{length} bytes");
        }
        let mut later = kernel;
        later[HEADER_BYTES + 7] = 0x1f;
        assert!(Types::parse(&later).is_none(), "a kind that is not known");
    }
}
