//! A stack as the kernel copied it.

/// How many bytes of the user's stack are copied at the most.
pub(super) const STACK_BYTES_MAX: usize = 16 << 10;

/// How many bytes a runtime may add.
pub(super) const RUNTIME_BYTES_MAX: usize = 2 << 10;

/// The registers that unwinding begins with, as they were in user space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Registers {
    /// The instruction after the one that entered the kernel.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
    /// The frame pointer, or whatever else its register held.
    pub bp: u64,
    /// Where it returns to, on machines that have a register for it; 0 elsewhere.
    pub lr: u64,
}

/// A stack with all that was taken with it.
#[derive(Clone, Debug)]
pub(super) struct RawStack {
    /// The registers.
    pub registers: Registers,
    /// The user's stack from `registers.sp` upwards; shorter where its mapping ends.
    pub stack: Vec<u8>,
    /// True where the stack goes on beyond what was copied.
    pub is_cut: bool,
    /// What the process' runtime added on the kernel's side; empty where it has none.
    pub runtime: Vec<u8>,
}

impl RawStack {
    /// The word of the stack at an address; `None` outside of what was copied.
    pub(super) fn word(&self, address: u64) -> Option<u64> {
        let at = usize::try_from(address.checked_sub(self.registers.sp)?).ok()?;
        self.stack.get(at..)?.first_chunk().copied().map(u64::from_ne_bytes)
    }
}
