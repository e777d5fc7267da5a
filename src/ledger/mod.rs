//! Who opened it, who used it last, and what was said last: what the kernel tells while the target runs on (`bpf/ledger.bpf.c`).
//!
//! A [`Ledger`] follows the processes of the target and adds to each snapshot what it knows. In the order in which that travels:
//! - `hooks`, `calls`: what runs in the kernel.
//! - `targets`, `process`: who is watched; their mappings, memory and files, read from outside.
//! - `records`, `raw`: what the kernel hands on.
//! - `unwind`, `symbols`: from registers and copied stack to frames with functions, files and lines.
//! - `runtime`: the frames of an interpreter or a scheduler, woven into the native ones.
//! - `stacks`: each stack once, by the key of its path.
//! - `message`: what was said on a connection, from the bytes that were written.
//! - `threads`: where the last user's thread is now.

#![allow(dead_code, reason = "until the session drives it")]

mod calls;
mod hooks;
mod process;
mod raw;
mod records;
mod runtime;
mod stacks;
mod targets;
mod threads;
mod unwind;

pub use hooks::SendHook;

use crate::bpf::Unavailable;
use crate::model::{
    Activity, Descriptor, Identity, Kind, LastUse, Passed, ProcessId, Resource, Snapshot, Timestamp, Use, Witnessed,
};
use hooks::Hooks;
use records::{Ended, How, Opening, SocketUse, Told, Who};
use rustix::time::{ClockId, clock_gettime};
use stacks::Stacks;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;
use targets::{Scope, Targets};

/// The last uses of connections that are under no suspicion: so many are asked for at a tick, by turns.
const ASKED_BY_TURNS: usize = 256;

/// Closings of the kinds that are told with their messages, at a tick.
const MESSAGES_PER_TICK: u64 = 200;

/// Openings that may be in the kernel without our knowing of them, before they are gone through.
const UNKNOWN_MAX: usize = 8_192;

/// The ledger can't be kept here.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct LedgerError(#[from] Unavailable);

/// How a ledger is kept.
#[derive(Clone, Copy, Debug)]
pub struct LedgerOptions {
    /// The openers of every kind of descriptor, not of connections alone: costs every process of the machine a little at each
    /// system call.
    pub by_calls: bool,
    /// Children of the target are followed from their fork on.
    pub with_children: bool,
    /// How sends are seen.
    pub send_hook: SendHook,
    /// Messages keep their literals.
    pub show_literals: bool,
}

/// What is known of something open.
#[derive(Clone, Copy, Debug)]
struct Known {
    identity: Identity,
    object: u64,
    inode: u64,
    /// When its last use was, as far as was told, and whether with messages.
    told: Option<(u64, bool)>,
}

/// Follows a target in the kernel.
#[derive(Debug)]
pub struct Ledger {
    hooks: Hooks,
    targets: Targets,
    stacks: Stacks,
    options: LedgerOptions,
    /// What is open, as the snapshots have it.
    known: HashMap<Identity, Known>,
    by_object: HashMap<u64, Identity>,
    /// Whose openings are to be gone through again, and when what closed them was.
    look_again: Vec<(u32, u64)>,
    /// Where asking by turns goes on.
    next_asked: usize,
    /// What numbers of passing files are made of.
    passed: u64,
    clock: Clock,
}

/// Turns the kernel's time into ours.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    now: Timestamp,
    now_ns: u64,
}

impl Clock {
    fn at(now: Timestamp) -> Self {
        let since_boot = clock_gettime(ClockId::Boottime);
        Clock { now, now_ns: since_boot.tv_sec as u64 * 1_000_000_000 + since_boot.tv_nsec as u64 }
    }

    fn moment(self, ns: u64) -> Timestamp {
        self.now - Duration::from_nanos(self.now_ns.saturating_sub(ns))
    }

    fn ns(self, moment: Timestamp) -> u64 {
        self.now_ns.saturating_sub((self.now.seconds_since(moment).max(0.0) * 1e9) as u64)
    }
}

impl Ledger {
    /// Loads and attaches what runs in the kernel. Nobody is followed yet.
    pub fn attach(proc: &Path, options: LedgerOptions) -> Result<Self, LedgerError> {
        let mut hooks = Hooks::attach(options.send_hook)?;
        if options.by_calls || hooks.sends_by_calls {
            hooks.attach_calls()?;
        }
        let scope = Scope { by_calls: options.by_calls, with_children: options.with_children };
        Ok(Ledger {
            targets: Targets::new(proc, scope),
            hooks,
            stacks: Stacks::default(),
            options,
            known: HashMap::new(),
            by_object: HashMap::new(),
            look_again: Vec::new(),
            next_asked: 0,
            passed: 0,
            clock: Clock::default(),
        })
    }

    /// How sends are seen, for a person.
    pub fn words(&self) -> &'static str {
        match (self.hooks.has_calls(), self.hooks.sends_by_calls) {
            (_, true) => "openers and last uses by system calls (BPF)",
            (true, false) => "openers of every descriptor, last uses of sockets (BPF)",
            (false, false) => "openers and last uses of connections (BPF)",
        }
    }

    /// Follows these processes from now on, and no others. Gives back what can't be seen of them.
    pub fn follow(&mut self, members: &[ProcessId]) -> Vec<String> {
        self.targets.follow(&self.hooks, members)
    }

    /// Adds to a snapshot what is known of it, `now`. Of the suspects all is told, of others only who.
    pub fn attend(&mut self, snapshot: &mut Snapshot, suspects: &HashSet<Identity>, now: Timestamp) {
        self.clock = Clock::at(now);
        self.stacks.take(&mut self.hooks, &mut self.targets);
        let ended = self.take_endings();
        self.add_openers(snapshot);
        for ended in ended {
            self.end(ended, snapshot);
        }
        self.go_through_openings(snapshot);
        self.forget_gone(snapshot);
        self.add_uses(snapshot, suspects);
        self.stacks.take(&mut self.hooks, &mut self.targets);
        snapshot.stacks = self.stacks.told();
        snapshot.unseen.extend(self.losses());
    }

    /// Takes what the kernel told of endings, and what concerns processes into account.
    fn take_endings(&mut self) -> Vec<Ended> {
        let mut all = Vec::new();
        while let Some(record) = self.hooks.endings.next() {
            match records::told(record) {
                Some(Told::Ended(ended)) => all.push(*ended),
                Some(Told::LookAgain { tgid, at }) => self.look_again.push((tgid, at)),
                Some(Told::Executed { tgid, at }) => {
                    self.look_again.push((tgid, at));
                    self.targets.has_executed(&self.hooks, tgid);
                }
                Some(Told::Exited { tgid, at }) => {
                    self.look_again.push((tgid, at));
                    self.targets.has_ended(tgid);
                }
                None => {}
            }
        }
        // So many that those with messages stay a uniform sample of about one size.
        let with_use = all.iter().filter(|ended| ended.last_use.is_some()).count() as u64;
        let one_in = u32::try_from(with_use / MESSAGES_PER_TICK).unwrap_or(u32::MAX).max(1);
        // An array's only place always has room.
        let _ = self.hooks.one_in.update(&0_u32, &one_in);
        all
    }

    /// Says of what is new who opened it.
    fn add_openers(&mut self, snapshot: &mut Snapshot) {
        for place in 0..snapshot.sightings.len() {
            let sighting = &snapshot.sightings[place];
            let (identity, inode) = (sighting.resource.identity, sighting.resource.inode.unwrap_or(0));
            let Some(object) = sighting.object else { continue };
            if self.known.get(&identity).is_some_and(|known| known.object == object) {
                continue;
            }
            self.known.insert(identity, Known { identity, object, inode, told: None });
            self.by_object.insert(object, identity);
            let opening = self.hooks.openings.get(&object).ok().map(|bytes| Opening::new(&bytes));
            if let Some(opening) = opening.filter(|opening| opening.inode == inode) {
                snapshot.sightings[place].opener = Some(self.by(opening.by));
            }
        }
    }

    fn by(&mut self, who: Who) -> Use {
        Use {
            stack: self.stacks.of_path(who.path, &mut self.hooks, &mut self.targets),
            thread: who.name().into(),
            tid: who.tid,
            at: self.clock.moment(who.at),
        }
    }

    /// Something was closed: what the snapshots know, or what passed between two of them.
    fn end(&mut self, ended: Ended, snapshot: &mut Snapshot) {
        let at = self.clock.moment(ended.at);
        let known = self.by_object.get(&ended.object).and_then(|identity| self.known.get(identity));
        let known = known.filter(|known| known.inode == ended.opening.inode).copied();
        let last_use = ended.last_use.map(|who| LastUse {
            by: self.by(who),
            messages: self.messages(&ended),
            whereabouts: None,
        });
        if let Some(known) = known {
            snapshot.witnessed.push(Witnessed { identity: known.identity, at, last_use });
            return;
        }
        let Some((_, watched)) = self.targets.all().find(|(tgid, _)| *tgid == ended.opening.by.tgid) else { return };
        let process = watched.id.clone();
        self.passed += 1;
        let mut resource = Resource::new(Identity(u64::MAX, self.passed), ended.kind);
        resource.inode = Some(ended.opening.inode);
        resource.ipv6 = ended.is_ipv6;
        resource.local.clone_from(&ended.local);
        resource.remote.clone_from(&ended.remote);
        resource.activity = Activity {
            bytes_sent: ended.bytes.map(|bytes| bytes.0),
            bytes_received: ended.bytes.map(|bytes| bytes.1),
            silent_seconds: None,
        };
        snapshot.passed.push(Passed {
            resource,
            holder: Descriptor { process, fd: ended.opening.fd as i32, access: None },
            accepted: ended.opening.how == How::Accepted,
            opener: self.by(ended.opening.by),
            closed: at,
            last_use,
        });
    }

    /// Where descriptors were closed that nobody looked at one by one: what was opened before and is open no more.
    fn go_through_openings(&mut self, snapshot: &mut Snapshot) {
        let begun = self.clock.ns(snapshot.at);
        let (due, later) = std::mem::take(&mut self.look_again).into_iter().partition(|(_, at)| *at < begun);
        self.look_again = later;
        let due: Vec<(u32, u64)> = due;
        if due.is_empty() {
            return;
        }
        let mut key = self.hooks.openings.key_after(None).unwrap_or(None);
        let mut all = Vec::new();
        while let Some(object) = key.filter(|_| all.len() < self.hooks.openings.entries_max() as usize) {
            all.push(object);
            key = self.hooks.openings.key_after(Some(object)).unwrap_or(None);
        }
        for object in all.into_iter().filter(|object| !self.by_object.contains_key(object)).collect::<Vec<u64>>() {
            let Some(opening) = self.hooks.openings.get(&object).ok().map(|bytes| Opening::new(&bytes)) else { continue };
            let closed = due.iter().find(|(tgid, at)| *tgid == opening.by.tgid && *at > opening.by.at);
            let Some((_, at)) = closed else { continue };
            let _ = self.hooks.openings.delete(&object);
            let _ = self.hooks.uses.delete(&object);
            // What it was is not known any more, but for connections.
            let _ = at;
            let _ = &snapshot;
        }
    }

    /// Forgets what nobody holds any more, here and in the kernel.
    fn forget_gone(&mut self, snapshot: &Snapshot) {
        for identity in &snapshot.gone {
            let Some(known) = self.known.remove(identity) else { continue };
            if self.by_object.get(&known.object) == Some(identity) {
                self.by_object.remove(&known.object);
            }
            let opening = self.hooks.openings.get(&known.object).ok().map(|bytes| Opening::new(&bytes));
            if opening.is_some_and(|opening| opening.inode == known.inode) {
                let _ = self.hooks.openings.delete(&known.object);
                let _ = self.hooks.uses.delete(&known.object);
            }
        }
    }
}
