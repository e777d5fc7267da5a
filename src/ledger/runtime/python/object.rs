//! Objects of the interpreter, read from another process' memory: whatever stands there may be freed, reused or half written.

use super::super::super::process::Process;
use super::offsets::Offsets;

/// The longest text that is taken: a path and a qualified name are shorter.
const TEXT_MAX: u64 = 4096;

/// The longest table of lines; that of a module of 10,000 statements has some 50 KiB.
const TABLE_MAX: u64 = 1 << 20;

/// Common to all 64-bit versions: the type of an object, the length of one that varies, the bytes of a `bytes`.
pub(super) const TYPE: u64 = 8;
const SIZE: u64 = 16;
const BYTES: u64 = 32;

/// A string's length and its form.
const LENGTH: u64 = 16;
const STATE: u64 = 32;

/// The word at an address; `None` where it can't be read.
pub(super) fn word(process: &Process, address: u64) -> Option<u64> {
    process.word(address).ok()
}

/// A `bytes` object's bytes.
pub(super) fn bytes(process: &Process, object: u64) -> Option<Vec<u8>> {
    let size = word(process, object.checked_add(SIZE)?).filter(|size| *size <= TABLE_MAX)?;
    let mut bytes = vec![0; usize::try_from(size).ok()?];
    process.read(object + BYTES, &mut bytes).ok()?;
    Some(bytes)
}

/// A `str` object's text, in whichever width it is kept.
pub(super) fn text(process: &Process, offsets: &Offsets, object: u64) -> Option<String> {
    let length = word(process, object.checked_add(LENGTH)?).filter(|length| *length <= TEXT_MAX)?;
    let state = word(process, object.checked_add(STATE)?)?;
    // Two bits of interning, three of width, then whether the text follows the object, and whether it is ASCII.
    let (width, is_compact, is_ascii) = (state >> 2 & 7, state >> 5 & 1 == 1, state >> 6 & 1 == 1);
    if !is_compact || !matches!(width, 1 | 2 | 4) {
        return None;
    }
    let begin = if is_ascii { offsets.ascii_text } else { offsets.compact_text };
    let mut bytes = vec![0; usize::try_from(length * width).ok()?];
    process.read(object.checked_add(begin.into())?, &mut bytes).ok()?;
    match width {
        // Of Latin-1 a byte is a character's number.
        1 => Some(bytes.iter().copied().map(char::from).collect()),
        2 => bytes.chunks_exact(2).map(|pair| char::from_u32(u16::from_ne_bytes([pair[0], pair[1]]).into())).collect(),
        _ => {
            let number = |four: &[u8]| four.first_chunk().copied().map(u32::from_ne_bytes);
            bytes.chunks_exact(4).map(|four| char::from_u32(number(four)?)).collect()
        }
    }
}
