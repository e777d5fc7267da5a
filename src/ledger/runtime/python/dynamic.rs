//! The symbols that a mapped program or library exports, looked up in the process' own memory, where the dynamic linker looks: so
//! they come with their addresses, whether the file is still there or not. (System V ABI, chapter 5; DT_GNU_HASH as glibc has it.)

use super::super::super::process::Process;
use super::object::word;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;

const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_GNU_HASH: u64 = 0x6fff_fef5;

/// More of each than any file has.
const HEADERS_MAX: u64 = 64;
const ENTRIES_MAX: u64 = 256;
const CHAIN_MAX: u64 = 1024;

const SYMBOL_BYTES: u64 = 24;

/// A mapped file's table of exported symbols.
#[derive(Debug)]
pub(super) struct Exports<'a> {
    process: &'a Process,
    /// What is added to an address of the file to get that of the process.
    bias: u64,
    strings: u64,
    symbols: u64,
    buckets: u64,
    chains: u64,
    bucket_count: u32,
    first_hashed: u32,
}

impl<'a> Exports<'a> {
    /// Those of the file whose first page is mapped at `base`; `None` where that is no ELF file of 64 bits, or exports nothing.
    pub(super) fn at(process: &'a Process, base: u64) -> Option<Self> {
        let mut header = [0; 64];
        process.read(base, &mut header).ok()?;
        if !header.starts_with(b"\x7fELF\x02") {
            return None;
        }
        let headers = base.checked_add(wide(&header, 32)?)?;
        let (size, count) = (u64::from(half(&header, 54)?), u64::from(half(&header, 56)?));
        let (mut first, mut dynamic) = (None, None);
        for n in 0..count.min(HEADERS_MAX) {
            let mut program = [0; 56];
            process.read(headers.checked_add(n * size)?, &mut program).ok()?;
            match narrow(&program, 0)? {
                PT_LOAD if first.is_none() => first = Some(wide(&program, 16)? & !0xfff),
                PT_DYNAMIC => dynamic = Some(wide(&program, 16)?),
                _ => {}
            }
        }
        let bias = base.wrapping_sub(first?);
        let [mut strings, mut symbols, mut hash] = [0; 3];
        for n in 0..ENTRIES_MAX {
            let at = bias.wrapping_add(dynamic?).wrapping_add(n * 16);
            // glibc has put addresses of the process in the place of those of the file, musl hasn't.
            let pointer =
                || word(process, at.wrapping_add(8)).map(|to| if to < base { bias.wrapping_add(to) } else { to });
            match word(process, at)? {
                0 => break,
                DT_STRTAB => strings = pointer()?,
                DT_SYMTAB => symbols = pointer()?,
                DT_GNU_HASH => hash = pointer()?,
                _ => {}
            }
        }
        let mut head = [0; 16];
        process.read(hash, &mut head).ok()?;
        let (bucket_count, first_hashed) = (narrow(&head, 0)?, narrow(&head, 4)?);
        let buckets = hash.checked_add(16 + 8 * u64::from(narrow(&head, 8)?))?;
        let chains = buckets.checked_add(4 * u64::from(bucket_count))?;
        let found = Exports { process, bias, strings, symbols, buckets, chains, bucket_count, first_hashed };
        (bucket_count > 0).then_some(found)
    }

    /// Where the process has the symbol; `None` where it isn't exported.
    pub(super) fn address_of(&self, name: &str) -> Option<u64> {
        let hash = gnu_hash(name);
        let bucket = self.word32(self.buckets.checked_add(4 * u64::from(hash % self.bucket_count))?)?;
        for n in 0..CHAIN_MAX {
            let index = u64::from(bucket).checked_add(n)?;
            let link = index.checked_sub(self.first_hashed.into())?;
            let entry = self.word32(self.chains.checked_add(4 * link)?)?;
            // The lowest bit marks the end of a chain.
            if entry | 1 == hash | 1
                && let Some(address) = self.named(index, name)
            {
                return Some(address);
            }
            if entry & 1 == 1 {
                break;
            }
        }
        None
    }

    fn named(&self, index: u64, name: &str) -> Option<u64> {
        let mut symbol = [0; SYMBOL_BYTES as usize];
        self.process.read(self.symbols.checked_add(index * SYMBOL_BYTES)?, &mut symbol).ok()?;
        let mut found = vec![0; name.len() + 1];
        self.process.read(self.strings.checked_add(narrow(&symbol, 0)?.into())?, &mut found).ok()?;
        let is_it = half(&symbol, 6)? != 0 && found.strip_suffix(&[0]) == Some(name.as_bytes());
        let value = wide(&symbol, 8)?;
        is_it.then(|| self.bias.wrapping_add(value))
    }

    fn word32(&self, address: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        self.process.read(address, &mut bytes).ok()?;
        Some(u32::from_ne_bytes(bytes))
    }
}

fn gnu_hash(name: &str) -> u32 {
    name.bytes().fold(5381_u32, |hash, byte| hash.wrapping_mul(33).wrapping_add(byte.into()))
}

fn wide(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_ne_bytes)
}

fn narrow(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}
