//! What the instruction before an address calls: by that a return address is told from any other number on the stack.
//!
//! Calls by a register or through a table of methods tell nothing, and are none here.

use crate::ledger::process::Process;

/// The function that the instruction before an address calls, where it alone tells.
#[cfg(target_arch = "x86_64")]
pub(super) fn target_before(process: &Process, address: u64) -> Option<u64> {
    let mapping = process.mapping_at(address).filter(|mapping| mapping.is_executable)?;
    let begin = address.checked_sub(6).filter(|begin| *begin >= mapping.start)?;
    let mut code = [0; 6];
    process.read(begin, &mut code).ok()?;
    match code {
        // `call *distance(%rip)`, through a word that the loader has filled in.
        [0xff, 0x15, distance @ ..] => process.word(relative(address, distance)).ok(),
        [_, 0xe8, distance @ ..] => {
            let target = relative(address, distance);
            Some(through_stub(process, target).unwrap_or(target))
        }
        _ => None,
    }
}

/// Where a stub of the procedure linkage table leads: `jmp *distance(%rip)`, behind an `endbr64` and a `bnd` where it has them.
#[cfg(target_arch = "x86_64")]
fn through_stub(process: &Process, stub: u64) -> Option<u64> {
    let mut code = [0; 11];
    process.read(stub, &mut code).ok()?;
    let code = code.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap_or(&code);
    let jump = code.strip_prefix(&[0xf2]).unwrap_or(code);
    let distance = jump.strip_prefix(&[0xff, 0x25])?.first_chunk()?;
    // The address that it is relative to: behind the jump.
    let end = stub + (11 - jump.len() as u64) + 6;
    process.word(relative(end, *distance)).ok()
}

#[cfg(target_arch = "x86_64")]
fn relative(to: u64, distance: [u8; 4]) -> u64 {
    to.wrapping_add_signed(i64::from(i32::from_le_bytes(distance)))
}

/// The function that the instruction before an address calls, where it alone tells.
#[cfg(target_arch = "aarch64")]
pub(super) fn target_before(process: &Process, address: u64) -> Option<u64> {
    let mapping = process.mapping_at(address).filter(|mapping| mapping.is_executable)?;
    let begin = address.checked_sub(4).filter(|begin| *begin >= mapping.start)?;
    let mut code = [0; 4];
    process.read(begin, &mut code).ok()?;
    let code = u32::from_le_bytes(code);
    // `bl`: 26 bits of distance in instructions, with their sign.
    let distance = i64::from((code << 6) as i32 >> 6) * 4;
    (code >> 26 == 0b10_0101).then(|| begin.wrapping_add_signed(distance))
}
