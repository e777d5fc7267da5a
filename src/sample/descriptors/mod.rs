//! The descriptors of a process: a walk over `/proc/PID/fd`.
//!
//! A descriptor costs one `readlink` a tick. What the link doesn't tell (the access mode, a file's type) is asked once,
//! when a descriptor's number and link are first seen together, and remembered for as long as they stay so: a descriptor
//! that was closed and opened again as the same, between two looks, is taken for the one before.
//!
//! Identity: a socket, a pipe's end and a memfd by its inode; anything else by the open file behind it, where the kernel
//! compares files for us ([`same_file`]): made by `dup` or `fork`, or passed over a Unix socket, they are one resource,
//! and two openings of a path are two. Where it doesn't, by the slot it is in (process, number) and what is in it: the
//! inode, so that a file renamed or deleted while it is open stays the same.

mod examine;
mod fdinfo;
mod inotify;
mod look;
mod same_file;
mod walk;

pub(super) use examine::{Referent, SOCKET_IDENTITY, access};
pub(super) use inotify::inotify_limits;
pub(super) use look::Turn;
pub(super) use walk::Walk;

use super::procfs::{ProcFs, ReadError};
use crate::model::Kind;
use examine::{examine, identity_of_file};
use look::{Looks, Seen};
use same_file::SameFile;
use std::collections::{HashMap, HashSet};

/// Files a tick whose names are looked at again, of one process.
const NAMES_MAX: usize = 32;

/// A descriptor's number, and what is in it.
#[derive(Debug)]
pub(super) struct Slot {
    /// The descriptor's number.
    pub fd: i32,
    /// Where its link leads.
    pub link: Box<[u8]>,
    /// What it leads to.
    pub referent: Referent,
    /// True where it is new, or where its name, its lasting detail or its activity has changed since the read before.
    pub news: bool,
    /// Class and number of its open file, where these identify it.
    file: Option<(u64, Option<u64>)>,
    seen: Seen,
}

/// What a process had open at the last look.
#[derive(Debug, Default)]
struct Known {
    slots: Vec<Slot>,
    turn: Turn,
}

/// Walks descriptors and remembers what it asked about them.
#[derive(Debug)]
pub(super) struct DescriptorReader {
    proc: ProcFs,
    known: HashMap<u32, Known>,
    files: SameFile,
    looks: Looks,
    walk: Walk,
    saw_inotify: bool,
}

impl DescriptorReader {
    /// A reader of processes under `proc`.
    pub(super) fn new(proc: &ProcFs) -> Self {
        DescriptorReader {
            proc: proc.clone(),
            known: HashMap::new(),
            files: SameFile::new(proc),
            looks: Looks::new(),
            walk: Walk::default(),
            saw_inotify: false,
        }
    }

    /// Asks for every detail of every descriptor from now on, whatever it costs: for one look that a person waits for.
    pub(super) fn ask_all_details(&mut self) {
        self.looks.all = true;
    }

    /// What identity can't tell here, for a person; `None` where it tells all.
    pub(super) fn note(&self) -> Option<&'static str> {
        let told = "kcmp is refused here (a seccomp filter, or a kernel without CONFIG_KCMP): two descriptors of one file or \
                    event, made by dup or fork, are told as two";
        (!self.files.works()).then_some(told)
    }

    /// Reads what the process has open now. What is closed while we walk is left out; what was known stays where this fails.
    pub(super) fn read(&mut self, pid: u32) -> Result<(), ReadError> {
        let folder = match self.walk.walk(&self.proc, pid) {
            Ok(folder) => folder,
            Err(error) => {
                if matches!(error, ReadError::Gone(_)) {
                    self.forget(pid);
                }
                return Err(error);
            }
        };
        let known = self.known.entry(pid).or_default();
        // Most often all of it: they stay where they are.
        let unchanged = known.slots.iter().zip(self.walk.entries()).take_while(|(slot, entry)| slot.is(*entry)).count();
        let mut before = known.slots.split_off(unchanged).into_iter().peekable();
        known.slots.iter_mut().for_each(|slot| slot.news = false);
        let mut gone = Vec::new();
        for (fd, link) in self.walk.entries().skip(unchanged) {
            // Both rise, so one pass over both pairs them.
            while let Some(slot) = before.next_if(|slot| slot.fd < fd) {
                gone.push(slot);
            }
            match before.next_if(|slot| slot.fd == fd) {
                Some(slot) if slot.is((fd, link)) => known.slots.push(Slot { news: false, ..slot }),
                slot_before => match (Slot::examine(&folder, pid, fd, link), slot_before) {
                    (Some(now), Some(before)) if now.is_renamed(&before) => known.slots.push(now.after(before)),
                    (now, before) => {
                        known.slots.extend(now);
                        gone.extend(before);
                    }
                },
            }
        }
        gone.extend(before);
        // What is closed no longer stands for its file, before we ask which file the new ones are.
        self.files.leave(gone.iter().filter_map(|slot| slot.membership(pid)));
        for slot in &mut known.slots {
            self.saw_inotify |= slot.referent.kind == Kind::Inotify;
            if let Some((class, number @ None)) = &mut slot.file
                && slot.news
            {
                *number = self.files.join(*class, (pid, slot.fd));
                if let Some(number) = number {
                    slot.referent.identity = identity_of_file(*class, *number);
                }
            }
        }
        let processes = self.known.len();
        if let Some(known) = self.known.get_mut(&pid) {
            self.looks.look(&self.proc, pid, &mut known.slots, &mut known.turn, processes);
        }
        Ok(())
    }

    /// What the process had open when it was last read, by number.
    pub(super) fn slots(&self, pid: u32) -> &[Slot] {
        self.known.get(&pid).map_or(&[], |known| &known.slots)
    }

    /// A look at one descriptor, with all its details; `None` where it is gone or closed to us. Nothing is remembered, so
    /// its identity is that of its slot.
    pub(super) fn examine_one(&self, pid: u32, fd: i32) -> Option<Slot> {
        let (folder, link) = walk::one(&self.proc, pid, fd)?;
        let mut slot = Slot::examine(&folder, pid, fd, &link)?;
        // The target's own epoll_wait waits while all its descriptors are told.
        if slot.referent.kind == Kind::Epoll && !self.looks.all {
            return Some(slot);
        }
        self.looks.everything().look(&self.proc, pid, std::slice::from_mut(&mut slot), &mut Turn::default(), 1);
        Some(slot)
    }

    /// Looks again at descriptors that [`DescriptorReader::examine_one`] gave, whose files' offsets are known otherwise:
    /// at what moves while they stay open. `news` is true of those that have any.
    pub(super) fn look_again(&self, pid: u32, slots: &mut [Slot], turn: &mut Turn, processes: usize) {
        slots.iter_mut().for_each(|slot| slot.news = false);
        self.looks.without_offsets().look(&self.proc, pid, slots, turn, processes);
    }

    /// Looks whether files that [`DescriptorReader::examine_one`] gave are called otherwise by now: some of them, from
    /// number `next` on. `news` is true of those that are.
    pub(super) fn rename(&self, pid: u32, slots: &mut [Slot], next: &mut i32) {
        let is_file = |slot: &Slot| matches!(slot.referent.kind, Kind::File | Kind::Directory);
        let begin = slots.partition_point(|slot| slot.fd < *next);
        let turn: Vec<usize> =
            (begin..slots.len()).chain(0..begin).filter(|place| is_file(&slots[*place])).take(NAMES_MAX).collect();
        for place in turn {
            let slot = &mut slots[place];
            *next = slot.fd.saturating_add(1);
            if let Some((folder, link)) = walk::one(&self.proc, pid, slot.fd)
                && *link != *slot.link
                && let Some(now) = Slot::examine(&folder, pid, slot.fd, &link)
            {
                *slot = now;
            }
        }
    }

    /// The watches of all inotify instances that are open, each instance once; `None` where one could not be asked yet,
    /// and where there has never been one.
    pub(super) fn inotify_watches(&self) -> Option<u64> {
        if !self.saw_inotify {
            return None;
        }
        let slots = self.known.values().flat_map(|known| &known.slots);
        let mut counted = HashSet::new();
        let instances = slots
            .filter(|slot| slot.referent.kind == Kind::Inotify)
            .filter(|slot| counted.insert(slot.referent.identity));
        instances.map(|slot| slot.referent.detail.as_ref()?.watches).sum()
    }

    /// Forgets a process that has ended.
    pub(super) fn forget(&mut self, pid: u32) {
        let known = self.known.remove(&pid).unwrap_or_default();
        self.files.leave(known.slots.iter().filter_map(|slot| slot.membership(pid)));
    }
}

impl Slot {
    fn examine(folder: &std::os::fd::OwnedFd, pid: u32, fd: i32, link: &[u8]) -> Option<Slot> {
        let examined = examine(folder, pid, fd, link)?;
        let file = examined.class.map(|class| (class, None));
        Some(Slot { fd, link: link.into(), referent: examined.referent, news: true, file, seen: Seen::default() })
    }

    fn is(&self, (fd, link): (i32, &[u8])) -> bool {
        self.fd == fd && *self.link == *link
    }

    /// True where it is what was in there before, under another name: the link has changed and the inode hasn't.
    fn is_renamed(&self, before: &Slot) -> bool {
        let class = |slot: &Slot| slot.file.map(|(class, _)| class);
        class(self).is_some() && class(self) == class(before)
    }

    /// It as it is now, with what was known of it under the name before.
    fn after(self, before: Slot) -> Slot {
        let mut referent = self.referent;
        referent.identity = before.referent.identity;
        referent.activity = before.referent.activity;
        if let (Some(detail), Some(known)) = (&mut referent.detail, before.referent.detail) {
            detail.offset = known.offset;
        }
        Slot { referent, file: before.file, seen: before.seen, ..self }
    }

    /// The file that it counts for, for [`SameFile::leave`].
    fn membership(&self, pid: u32) -> Option<(u64, u64, (u32, i32))> {
        let (class, number) = self.file?;
        Some((class, number?, (pid, self.fd)))
    }
}

#[cfg(test)]
mod tests;
