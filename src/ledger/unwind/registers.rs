//! The registers of a frame, as far as they are known, by DWARF's numbers; and the stack that others are found on.

use crate::ledger::raw::Registers;

/// The numbers of x86-64's registers in DWARF (System V ABI, AMD64 supplement, figure 3.36).
#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const FP: u16 = 6;
    pub(super) const SP: u16 = 7;
    pub(super) const RETURN: u16 = 16;
    pub(super) const COUNT: usize = 17;
}

/// Those of aarch64 (DWARF for the Arm 64-bit Architecture, 4.1).
#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const FP: u16 = 29;
    pub(super) const SP: u16 = 31;
    pub(super) const RETURN: u16 = 30;
    pub(super) const COUNT: usize = 32;
}

/// Where the return address is found, by DWARF's number.
pub(super) const RETURN: u16 = number::RETURN;

/// The stack pointer, by DWARF's number.
pub(super) const SP: u16 = number::SP;

/// True where a call leaves the return address in a register, and a function without a rule for it has it there still.
pub(super) const RETURNS_BY_REGISTER: bool = cfg!(target_arch = "aarch64");

/// The registers of one frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// The instruction pointer.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
    values: [Option<u64>; number::COUNT],
}

impl Known {
    /// Those that unwinding begins with. A frame pointer or link register of 0 is one that wasn't read.
    pub(super) fn first(registers: Registers) -> Self {
        let mut known = Known { ip: registers.ip, sp: registers.sp, values: [None; number::COUNT] };
        known.set(number::FP, Some(registers.bp).filter(|bp| *bp != 0));
        if RETURNS_BY_REGISTER {
            known.set(RETURN, Some(registers.lr).filter(|lr| *lr != 0));
        }
        known
    }

    /// A register's value, where it is known.
    pub(super) fn get(&self, register: u16) -> Option<u64> {
        match register {
            SP => Some(self.sp),
            // On x86-64 the tables' expressions ask for the instruction pointer by this number.
            RETURN if !RETURNS_BY_REGISTER => Some(self.ip),
            _ => self.values.get(usize::from(register)).copied().flatten(),
        }
    }

    /// Sets a register, or forgets it.
    pub(super) fn set(&mut self, register: u16, value: Option<u64>) {
        if let Some(place) = self.values.get_mut(usize::from(register)) {
            *place = value;
        }
    }

    /// The frame pointer, where it is known.
    pub(super) fn fp(&self) -> Option<u64> {
        self.get(number::FP)
    }

    /// The caller's registers by the chain of frame pointers.
    pub(super) fn by_frame_pointer(fp: u64, of_caller: u64, returns_to: u64) -> Self {
        let mut caller = Known { ip: returns_to, sp: fp + 16, values: [None; number::COUNT] };
        caller.set(number::FP, Some(of_caller));
        caller
    }
}

/// What was copied of a stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copied<'a> {
    /// Where the copy begins.
    pub sp: u64,
    /// The copy.
    pub bytes: &'a [u8],
}

impl Copied<'_> {
    /// The word at an address; `None` outside of what was copied.
    pub(super) fn word(&self, address: u64) -> Option<u64> {
        let at = usize::try_from(address.checked_sub(self.sp)?).ok()?;
        self.bytes.get(at..)?.first_chunk().copied().map(u64::from_ne_bytes)
    }

    /// True for an address that is beyond what was copied.
    pub(super) fn ends_before(&self, address: u64) -> bool {
        address.saturating_add(8) > self.sp.saturating_add(self.bytes.len() as u64)
    }
}

/// An address without the signature that pointer authentication may have left in its upper bits (aarch64).
pub(super) fn without_signature(address: u64) -> u64 {
    if RETURNS_BY_REGISTER { address & ((1 << 48) - 1) } else { address }
}
