//! Functions, files and lines from debug information, those that were inlined among them.

use super::elf::{self, Elf};
use super::name::demangle;
use crate::model::{Frame, Via};
use addr2line::Context;
use gimli::{EndianArcSlice, LittleEndian};
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

/// A piece of a section. All that run Linux on x86-64 and aarch64 put the low byte first.
type Piece = EndianArcSlice<LittleEndian>;

/// The debug information of one file.
pub(super) struct Dwarf {
    context: Context<Piece>,
    cost_bytes: usize,
}

impl fmt::Debug for Dwarf {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "Dwarf of {} bytes", self.cost_bytes)
    }
}

impl Dwarf {
    /// Reads it, with the file that holds what several have in common (`.gnu_debugaltlink`); `None` where there is none.
    pub(super) fn read(elf: &Elf<'_>, common: Option<&Elf<'_>>) -> Option<Dwarf> {
        elf::section(elf, ".debug_info")?;
        let cost_bytes = Cell::new(0);
        let sections = |elf: &Elf<'_>| {
            gimli::Dwarf::load(|id| {
                let bytes = elf::section(elf, id.name()).unwrap_or_else(|| Arc::from([]));
                cost_bytes.set(cost_bytes.get() + bytes.len());
                Ok::<_, gimli::Error>(Piece::new(bytes, LittleEndian))
            })
        };
        let mut dwarf = sections(elf).ok()?;
        if let Some(common) = common {
            dwarf.set_sup(sections(common).ok()?);
        }
        Some(Dwarf { context: Context::from_dwarf(dwarf).ok()?, cost_bytes: cost_bytes.get() })
    }

    /// The frames at an address as the file has it, innermost first; empty where nothing is known of it.
    pub(super) fn frames(&self, address: u64) -> Vec<Frame> {
        let mut frames = Vec::new();
        let Ok(mut found) = self.context.find_frames(address).skip_all_loads() else { return frames };
        while let Ok(Some(frame)) = found.next() {
            let location = frame.location;
            frames.push(Frame {
                function: frame.function.and_then(|name| Some(demangle(&name.raw_name().ok()?).into())),
                file: location.as_ref().and_then(|location| location.file).map(Into::into),
                line: location.as_ref().and_then(|location| location.line).filter(|line| *line > 0),
                via: if frames.is_empty() { Via::Call } else { Via::Inlined },
                ..Frame::default()
            });
        }
        frames
    }

    /// What it takes of memory, in bytes: its sections, and about as much again for what is read out of them.
    pub(super) fn cost_bytes(&self) -> usize {
        self.cost_bytes * 2
    }
}
