//! What the processes of a command held as they ended: programs at the kernel's tracepoints for fork and exit
//! (`bpf/ends.bpf.c`). It sees also those that lived between two ticks, and whom their parents had left by then.

use super::row::{Clock, ROW_BYTES, Row};
use crate::bpf::bytes::{at, u32_at, u64_at};
use crate::bpf::{ENDS, Map, Object, Unavailable, ticks_per_second};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

/// `struct starter`, `struct held` and `struct ended` in `bpf/ends.bpf.c`.
const STARTER_BYTES: usize = 24;
const HELD_BYTES: usize = 240;
const ENDED_BYTES: usize = 48;
const ROW_AT: usize = 24;
const NAME_AT: usize = 128;
/// `OPENED_BY_IT` and `ACCEPTED` there.
const OPENED_BY_IT: u8 = 1;
const ACCEPTED: u8 = 2;
/// Processes whose connections may wait for the word of their end.
const WAITING_MAX: usize = 1_024;
/// The sorts of what finds no room, in the order of `enum dropped`.
const DROPPED: [&str; 3] = ["processes", "connections", "ends of processes"];

/// Follows what a command starts, to the end of each.
#[derive(Debug)]
pub(in crate::sample) struct LastLook {
    starter: Map,
    followed: Map,
    held: Map,
    ended: Map,
    dropped: Map,
    ticks_per_second: f64,
    waiting: HashMap<(u32, u64), Vec<Held>>,
    /// Why what was found could not be read, once that has happened.
    failure: Option<io::Error>,
    _links: [OwnedFd; 2],
}

/// A process that has ended.
#[derive(Debug)]
pub(in crate::sample) struct Ended {
    /// Its pid in our namespace.
    pub pid: u32,
    /// When it started, in nanoseconds since boot.
    pub started: u64,
    /// When it ended, likewise.
    pub at: u64,
    /// Its effective user.
    pub uid: u32,
    /// True where a signal killed it.
    pub killed: bool,
    /// The kernel's short name of it.
    pub name: String,
    /// The connections that it held.
    pub held: Vec<Held>,
}

/// A connection that a process held as it ended.
#[derive(Debug)]
pub(in crate::sample) struct Held([u8; HELD_BYTES], f64);

impl Held {
    /// Its row.
    pub(in crate::sample) fn row(&self) -> Option<Row<'_>> {
        Row::new(&self.0[ROW_AT..])
    }

    /// What its row's times are held against.
    pub(in crate::sample) fn clock(&self) -> Clock {
        Clock { now: u32_at(&self.0, ROW_AT + 52), ticks_per_second: self.1 }
    }

    /// How many descriptors of all processes lead to the open file.
    pub(in crate::sample) fn references(&self) -> u32 {
        u32_at(&self.0, 12)
    }

    /// True where the process has opened it, and not a parent or the program that it was before.
    pub(in crate::sample) fn is_opened_by_it(&self) -> bool {
        self.0[16] & OPENED_BY_IT != 0
    }

    /// True where others opened it; of a Unix socket also where it has a name of its own, as what was accepted has.
    pub(in crate::sample) fn is_accepted(&self) -> bool {
        self.0[16] & ACCEPTED != 0
    }

    /// The name of a Unix socket's peer as the kernel has it.
    pub(in crate::sample) fn peer_name(&self) -> Option<&[u8]> {
        self.0.get(NAME_AT..NAME_AT + usize::from(self.0[17])).filter(|name| !name.is_empty())
    }
}

impl LastLook {
    /// Loads the programs. Nothing is followed yet.
    pub(in crate::sample) fn open() -> Result<Self, Unavailable> {
        let mut object = Object::open(ENDS)?;
        let mut map = |name| object.map(name);
        let (starter, followed, held) = (map("starter")?, map("followed")?, map("held")?);
        let (ended, dropped) = (map("ended")?, map("dropped")?);
        let links = [object.traced("ends", "sched_process_exit")?, object.traced("follow", "sched_process_fork")?];
        let (ticks_per_second, waiting) = (ticks_per_second()?, HashMap::new());
        let failure = None;
        Ok(LastLook { starter, followed, held, ended, dropped, ticks_per_second, waiting, failure, _links: links })
    }

    /// Whatever we start from now on is followed, until [`LastLook::has_started`].
    pub(in crate::sample) fn is_about_to_start(&self) -> io::Result<()> {
        let here = std::fs::metadata("/proc/self/ns/pid")?;
        let mut starter = [0_u64; STARTER_BYTES / 8];
        starter[..2].copy_from_slice(&[here.dev(), here.ino()]);
        // The pid is the first of two words.
        starter[2] = words(std::process::id(), 0);
        self.starter.update(&0_u32, &starter)
    }

    /// What we start from now on is not followed.
    pub(in crate::sample) fn has_started(&self) -> io::Result<()> {
        let now: [u8; STARTER_BYTES] = self.starter.get(&0_u32)?;
        let starter = [u64_at(&now, 0), u64_at(&now, 8), words(0, u32_at(&now, 20))];
        self.starter.update(&0_u32, &starter)
    }

    /// The pids of those that run, also of those that no living process leads to.
    pub(in crate::sample) fn running(&self) -> io::Result<Vec<u32>> {
        let (mut pids, mut key) = (Vec::new(), self.followed.key_after(None)?);
        // The table changes meanwhile: no more than it has room for.
        while let Some(number) = key.filter(|_| pids.len() < 4_096) {
            // It may have ended since.
            pids.extend(self.followed.get::<u32, 4>(&number).map(u32::from_ne_bytes));
            key = self.followed.key_after(Some(number))?;
        }
        Ok(pids)
    }

    /// Those that have ended since the last call. Where they can't be read, [`LastLook::unseen`] says so.
    pub(in crate::sample) fn take(&mut self) -> Vec<Ended> {
        self.read().unwrap_or_else(|error| {
            self.failure = Some(error);
            Vec::new()
        })
    }

    fn read(&mut self) -> io::Result<Vec<Ended>> {
        let mut all = Vec::new();
        while let Some(bytes) = self.ended.pop::<ENDED_BYTES>()? {
            all.push(ended(&bytes));
        }
        // The connections of these were there before.
        while let Some(bytes) = self.held.pop::<HELD_BYTES>()? {
            let of = (u32_at(&bytes, 8), u64_at(&bytes, 0));
            self.waiting.entry(of).or_default().push(Held(bytes, self.ticks_per_second));
        }
        for it in &mut all {
            it.held = self.waiting.remove(&(it.pid, it.started)).unwrap_or_default();
        }
        // An end that found no room never comes for what waits for it.
        if self.waiting.len() > WAITING_MAX {
            self.waiting.clear();
        }
        Ok(all)
    }

    /// What was never told, from the beginning on: one sentence each.
    pub(in crate::sample) fn unseen(&self) -> Vec<String> {
        let count = |(sort, name)| Ok((u64::from_ne_bytes(self.dropped.get::<u32, 8>(&sort)?), name));
        let counts: io::Result<Vec<_>> = (0_u32..).zip(DROPPED).map(count).collect();
        let no_room = |(count, what)| format!("{count} {what} found no room in what the kernel keeps for us");
        let unread = |error: &io::Error| format!("what processes held as they ended can't be read: {error}");
        let dropped = match counts {
            Ok(counts) => counts.into_iter().filter(|(count, _)| *count > 0).map(no_room).collect(),
            Err(error) => vec![unread(&error)],
        };
        self.failure.as_ref().map(unread).into_iter().chain(dropped).collect()
    }
}

/// Two words of four bytes as they stand in memory.
fn words(first: u32, second: u32) -> u64 {
    let (first, second) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes(std::array::from_fn(|at| if at < 4 { first[at] } else { second[at - 4] }))
}

fn ended(bytes: &[u8]) -> Ended {
    let name: [u8; 16] = at(bytes, 28);
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ended {
        started: u64_at(bytes, 0),
        at: u64_at(bytes, 8),
        pid: u32_at(bytes, 16),
        uid: u32_at(bytes, 20),
        // As wait(2) has it.
        killed: u32_at(bytes, 24) & 0x7f != 0,
        name: String::from_utf8_lossy(name).into_owned(),
        held: Vec::new(),
    }
}

const _: () = assert!(ROW_AT + ROW_BYTES == NAME_AT);
