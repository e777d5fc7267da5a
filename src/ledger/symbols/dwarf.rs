//! Functions, files and lines from debug information, those that were inlined among them.

use super::elf::{self, Elf};
use super::name::demangle;
use super::pages::{Piece, Section};
use crate::model::{Frame, Via};
use addr2line::Context;
use gimli::SectionId;
use object::Object;
use std::fmt;
use std::sync::Arc;

/// Where variables are and what macros say: nobody asks, and where it is compressed it would take half of the memory.
const UNREAD: [SectionId; 6] = [
    SectionId::DebugLoc,
    SectionId::DebugLocLists,
    SectionId::DebugMacinfo,
    SectionId::DebugMacro,
    SectionId::DebugNames,
    SectionId::DebugTypes,
];

/// The debug information of one file.
pub(super) struct Dwarf {
    context: Context<Piece>,
    sections: Vec<Arc<Section>>,
}

impl fmt::Debug for Dwarf {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "Dwarf of {} bytes", self.cost_bytes())
    }
}

impl Dwarf {
    /// Reads it, with the file that holds what several have in common (`.gnu_debugaltlink`); `None` where there is none.
    pub(super) fn read(elf: &Elf<'_>, common: Option<&Elf<'_>>) -> Option<Dwarf> {
        elf.section_by_name(".debug_info")?;
        let mut sections = Vec::new();
        let mut load = |elf: &Elf<'_>| {
            gimli::Dwarf::load(|id| {
                let section = (!UNREAD.contains(&id)).then(|| elf::pages(elf, id.name())).flatten();
                let section = section.unwrap_or_else(|| Section::in_memory(&[]));
                sections.push(Arc::new(section));
                Ok::<_, gimli::Error>(Piece::whole(Arc::clone(&sections[sections.len() - 1])))
            })
        };
        let mut dwarf = load(elf).ok()?;
        if let Some(common) = common {
            dwarf.set_sup(load(common).ok()?);
        }
        Some(Dwarf { context: Context::from_dwarf(dwarf).ok()?, sections })
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

    /// What it takes of memory, in bytes: what was read of its sections, and about as much again for what was made of it.
    pub(super) fn cost_bytes(&self) -> usize {
        self.sections.iter().map(|section| section.read_bytes()).sum::<usize>() * 2
    }
}
