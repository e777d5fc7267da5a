//! From registers and copied stack to frames, by unwind tables, and by frame pointers where there are none.
//!
//! - `registers`: what is known of a frame. `tables`: a file's unwind tables. `step`: from a frame to its caller by them.
//! - `call`: what the instruction before an address calls, which tells a return address from any other number.

mod call;
mod registers;
mod step;
pub(super) mod tables;
#[cfg(test)]
mod tests;

use super::process::{Mapping, Process};
use super::raw::{Registers, STACK_BYTES_MAX};
use super::symbols::{Files, Symbol};
use crate::model::Frame;
use registers::{Copied, Known};
use std::sync::Arc;
use step::{Caller, Stop};

/// How many frames a stack may have; one that goes on is in a loop, or of a recursion that nobody reads.
const FRAMES_MAX: usize = 512;

/// A frame of compiled code.
#[derive(Clone, Debug)]
pub(super) struct NativeFrame {
    /// The address that was being run, within the call: of all frames but the innermost one byte before where it returns to.
    pub address: u64,
    /// The stack pointer in this frame, by which frames of a runtime are put in their places.
    pub sp: u64,
    /// The model's frames at that address, inlined ones first; at least one.
    pub frames: Vec<Frame>,
}

/// Unwinds and names frames of compiled code, of any number of processes; keeps what it has read of their files.
#[derive(Debug, Default)]
pub(super) struct Natives {
    files: Files,
}

impl Natives {
    /// The frames of a stack, innermost first, and why they end before the stack does. `bp` of 0 is one that isn't known.
    pub(super) fn unwind(
        &mut self,
        process: &mut Process,
        registers: Registers,
        stack: &[u8],
        is_cut: bool,
    ) -> (Vec<NativeFrame>, Option<String>) {
        let copied = Copied { sp: registers.sp, bytes: stack };
        let mut walk = Walk { files: &mut self.files, process, copied, is_cut, was_refreshed: false };
        let walked = walk.frames(Known::first(registers));
        self.files.keep_within_bounds();
        walked
    }

    /// The first of these names that a mapped file has, functions and data alike: in its dynamic symbols, in its own, in those that
    /// its distribution keeps compressed in it, or in a separate debug file.
    pub(super) fn find_symbol(&mut self, process: &Process, module: &Mapping, names: &[&str]) -> Option<Symbol> {
        self.files.find_symbol(process, module, names)
    }
}

/// One stack that is being unwound.
struct Walk<'w> {
    files: &'w mut Files,
    process: &'w mut Process,
    copied: Copied<'w>,
    is_cut: bool,
    was_refreshed: bool,
}

impl Walk<'_> {
    fn frames(&mut self, first: Known) -> (Vec<NativeFrame>, Option<String>) {
        let (mut known, mut frames, mut is_exact) = (first, Vec::new(), true);
        while frames.len() < FRAMES_MAX {
            let address = if is_exact { known.ip } else { known.ip - 1 };
            let mapping = self.mapping(address);
            if mapping.is_none() && !frames.is_empty() {
                return (frames, Some(format!("{address:#x}, to which this returns, is no code that is mapped")));
            }
            frames.push(NativeFrame { address, sp: known.sp, frames: self.name(mapping.as_ref(), address) });
            let is_first = frames.len() == 1;
            match self.step(mapping.as_ref(), address, &known, is_first) {
                Ok(Some(caller)) => (known, is_exact) = (caller.known, caller.is_interrupted),
                Ok(None) => return (frames, None),
                Err(why) => return (frames, Some(why)),
            }
        }
        (frames, Some(format!("the stack has more than {FRAMES_MAX} frames; a recursion?")))
    }

    /// The mapping of code that holds an address. Libraries come later too, so one that is in none is looked for again, once a stack.
    fn mapping(&mut self, address: u64) -> Option<Mapping> {
        let code = |process: &Process| process.mapping_at(address).filter(|mapping| mapping.is_executable).cloned();
        let found = code(self.process);
        if found.is_some() || self.was_refreshed {
            return found;
        }
        self.was_refreshed = true;
        // A process that has ended has the mappings that we know.
        self.process.refresh().ok()?;
        code(self.process)
    }

    fn name(&mut self, mapping: Option<&Mapping>, address: u64) -> Vec<Frame> {
        mapping.map_or_else(
            || vec![Frame::default()],
            |mapping| self.files.frames(self.process, mapping, address).to_vec(),
        )
    }

    /// The caller of a frame; `None` where it is the outermost, or in words why there is none.
    fn step(
        &mut self,
        mapping: Option<&Mapping>,
        address: u64,
        known: &Known,
        is_first: bool,
    ) -> Result<Option<Caller>, String> {
        let Some(mapping) = mapping else {
            return Err(format!(
                "{address:#x} is in no code that is mapped; its library was unloaded, or the stack is damaged"
            ));
        };
        let file = self.files.of(self.process, mapping);
        let by_table = match &file {
            Ok(file) => self.by_table(mapping, *file, address, known),
            Err(_) => Err(Stop::Uncovered),
        };
        let step = match by_table {
            Err(Stop::Uncovered) => self.by_frame_pointer(known, is_first),
            Err(Stop::RegisterUnknown) => self.by_call(mapping, address, known),
            found => found,
        };
        let module = name_of(mapping);
        let deeper = format!("the stack is deeper than the {} KiB of it that are copied", STACK_BYTES_MAX >> 10);
        let stop = match step {
            Ok(caller) => return Ok(Some(caller)),
            Err(stop) => stop,
        };
        match (stop, file) {
            (Stop::Outermost, _) => Ok(None),
            (Stop::NotCopied(at), _) if self.is_cut && self.copied.ends_before(at) => Err(deeper),
            (Stop::NotCopied(_) | Stop::Nonsense, Ok(_)) => {
                Err(format!("the stack in {module} is not what its unwind tables say it is"))
            }
            (Stop::RegisterUnknown, _) => Err(format!(
                "{module} finds its callers by the frame pointer, which the kernel doesn't tell of a waiting thread; the stack of \
                 what the thread does next is whole"
            )),
            (_, Err(why)) if mapping.inode != 0 => Err(format!("the unwind tables of {module} can't be read: {why}")),
            (_, Err(_)) => Err(format!("{module} has neither unwind tables nor frame pointers")),
            (Stop::Uncovered, Ok(_)) => Err(format!(
                "{module} has no unwind tables here: build it with -fasynchronous-unwind-tables or -fno-omit-frame-pointer"
            )),
        }
    }

    fn by_table(&mut self, mapping: &Mapping, file: usize, address: u64, known: &Known) -> Result<Caller, Stop> {
        let Some(address) = self.files.address_in_file(file, mapping, address) else { return Err(Stop::Uncovered) };
        let table = self.files.tables(self.process, mapping, file).and_then(|tables| tables.at(address));
        table.map_or(Err(Stop::Uncovered), |table| step::by_table(&table, address, known, self.copied))
    }

    /// The caller by the frame pointer, where what it points to is what a function that keeps one leaves there.
    fn by_frame_pointer(&mut self, known: &Known, is_first: bool) -> Result<Caller, Stop> {
        if is_first && let Some(caller) = self.of_frameless_leaf(known) {
            return Ok(caller);
        }
        let Some(fp) = known.fp() else { return Err(Stop::Uncovered) };
        if fp == 0 {
            return Err(Stop::Outermost);
        }
        if fp < known.sp || fp % 8 != 0 {
            return Err(Stop::Uncovered);
        }
        if self.copied.ends_before(fp + 8) && self.is_cut {
            return Err(Stop::NotCopied(fp + 8));
        }
        let (Some(of_caller), Some(returns_to)) = (self.copied.word(fp), self.copied.word(fp + 8)) else {
            return Err(Stop::Uncovered);
        };
        let returns_to = registers::without_signature(returns_to);
        match returns_to {
            0 => Err(Stop::Outermost),
            _ if self.mapping(returns_to).is_none() => Err(Stop::Uncovered),
            _ => Ok(by_pointer(fp, of_caller, returns_to)),
        }
    }

    /// The caller of a small function that has kept no frame pointer yet, as those that enter the kernel: where the top of the stack is
    /// an address behind a call of just this place.
    fn of_frameless_leaf(&self, known: &Known) -> Option<Caller> {
        /// Go's, libuv's and the JVM's are of some hundred bytes.
        const LEAF_BYTES_MAX: u64 = 1 << 10;
        let returns_to = self.copied.word(known.sp)?;
        let called = call::target_before(self.process, returns_to)?;
        let is_within = known.ip.checked_sub(called).is_some_and(|within| within < LEAF_BYTES_MAX);
        let mut caller = *known;
        (caller.ip, caller.sp) = (returns_to, known.sp + 8);
        is_within.then_some(Caller { known: caller, is_interrupted: false })
    }

    /// The caller of a frame whose frame pointer isn't known: the nearest address on the stack that stands behind a call of this very
    /// function, above the frame pointer that the function has saved.
    fn by_call(&mut self, mapping: &Mapping, address: u64, known: &Known) -> Result<Caller, Stop> {
        let start = self.files.of(self.process, mapping).ok().and_then(|file| {
            let in_file = self.files.address_in_file(file, mapping, address)?;
            let table = self.files.tables(self.process, mapping, file)?.at(in_file)?;
            Some(address - (in_file - step::function_start(&table, in_file)?))
        });
        let Some(start) = start else { return Err(Stop::RegisterUnknown) };
        let mut at = known.sp + 8;
        while let Some(word) = self.copied.word(at) {
            if call::target_before(self.process, word) == Some(start)
                && let Some(of_caller) = self.copied.word(at - 8)
            {
                return Ok(by_pointer(at - 8, of_caller, word));
            }
            at += 8;
        }
        Err(Stop::RegisterUnknown)
    }
}

/// The caller by what a function has saved at its frame pointer: the caller's own, and the address it returns to.
fn by_pointer(fp: u64, of_caller: u64, returns_to: u64) -> Caller {
    Caller { known: Known::by_frame_pointer(fp, of_caller, returns_to), is_interrupted: false }
}

/// How a mapping is called in a sentence.
fn name_of(mapping: &Mapping) -> Arc<str> {
    match mapping.path.rsplit('/').next() {
        None | Some("") => Arc::from("code that was made at run time"),
        Some(name) => Arc::from(name),
    }
}
