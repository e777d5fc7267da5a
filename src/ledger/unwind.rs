//! From registers and copied stack to the addresses of the frames.

use super::process::{Mapping, Process};
use super::raw::Registers;

/// A frame of compiled code.
#[derive(Clone, Debug)]
pub(super) struct NativeFrame {
    /// The address that was being run, within the call: of all frames but the innermost one byte before where it returns to.
    pub address: u64,
    /// The stack pointer in this frame, by which frames of a runtime are put in their places.
    pub sp: u64,
    /// The model's frames at that address, inlined ones first; at least one.
    pub frames: Vec<crate::model::Frame>,
}

/// What a symbol's name stands for in a mapped file.
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

/// Unwinds and names frames of compiled code, of any number of processes; keeps what it has read of their files.
#[derive(Debug, Default)]
pub(super) struct Natives {}

impl Natives {
    /// The frames of a stack, innermost first, and why they end before the stack does. `bp` of 0 is one that isn't known.
    pub(super) fn unwind(
        &mut self,
        process: &mut Process,
        registers: Registers,
        stack: &[u8],
        is_cut: bool,
    ) -> (Vec<NativeFrame>, Option<String>) {
        let _ = (process, registers, stack, is_cut);
        (Vec::new(), None)
    }

    /// The first of these names that a mapped file has, whether in its dynamic symbols, in its own or in those that
    /// its distribution keeps compressed in it.
    pub(super) fn find_symbol(&mut self, process: &Process, module: &Mapping, names: &[&str]) -> Option<Symbol> {
        let _ = (process, module, names);
        None
    }
}
