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
//! - `probe`: whether all of this can be done here.

mod calls;
mod endings;
mod hooks;
mod message;
mod paths;
mod probe;
mod process;
mod raw;
mod records;
mod runtime;
mod stacks;
mod symbols;
mod targets;
mod threads;
mod tls;
mod unwind;
mod uses;
mod whereabouts;

pub use hooks::SendHook;
pub use probe::probe;

use crate::bpf::Unavailable;
use crate::model::{
    Address, Identity, Kind, LastUse, ProcessId, Snapshot, Stack, StackKey, Timestamp, Use, Whereabouts,
};
use hooks::Hooks;
use paths::Paths;
use records::{Opening, Who};
use rustix::time::{ClockId, clock_gettime};
use stacks::Stacks;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;
use targets::{Scope, Targets};
use tls::Tls;
use whereabouts::{Found, Threads};

/// `enum lost` in `bpf/ledger.h`.
const LOSSES: [&str; 5] = [
    "openings found no room in the kernel: who opened these is not known",
    "last uses found no room in the kernel",
    "stacks found no room in the ring from the kernel; each is copied when its path is taken next",
    "closings found no room in the ring from the kernel: ticks tell of these",
    "processes found no room among those that are watched",
];

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

/// What was learned of suspects.
#[derive(Debug, Default)]
pub struct Answers {
    /// Of each of which there is news.
    pub used: Vec<(Identity, LastUse)>,
    /// Stacks that were not told before.
    pub stacks: Vec<(StackKey, Stack)>,
}

/// What is known of something open.
#[derive(Clone, Debug)]
struct Known {
    identity: Identity,
    object: u64,
    inode: u64,
    is_socket: bool,
    /// True where its opening was seen.
    is_whole: bool,
    peer: Option<Address>,
    /// When its last use was, as far as was told, and whether with messages.
    told: Option<(u64, bool)>,
    /// Where its last user was, as far as was told.
    whereabouts: Option<Whereabouts>,
}

/// Follows a target in the kernel.
#[derive(Debug)]
pub struct Ledger {
    hooks: Hooks,
    targets: Targets,
    stacks: Stacks,
    tls: Tls,
    paths: Paths,
    options: LedgerOptions,
    /// What is open, as the snapshots have it.
    known: HashMap<Identity, Known>,
    by_object: HashMap<u64, Identity>,
    /// Whose openings are to be gone through again, and when what closed them was.
    look_again: Vec<(u32, u64)>,
    /// Where threads were found that used suspects last, by their process and their own number.
    found: HashMap<(u32, u32), Found>,
    /// Whose last use is asked for next.
    turns: Vec<Identity>,
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
            tls: Tls::default(),
            paths: Paths::new(proc),
            options,
            known: HashMap::new(),
            by_object: HashMap::new(),
            look_again: Vec::new(),
            found: HashMap::new(),
            turns: Vec::new(),
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
        let (mut notes, gone) = self.targets.follow(&self.hooks, members);
        gone.into_iter().for_each(|pid| self.tls.forget(pid));
        for tgid in self.targets.remap(&self.hooks) {
            let Some(watched) = self.targets.get_mut(tgid) else { continue };
            notes.extend(self.tls.attach(&watched.process, &mut self.stacks.natives, &self.hooks.object));
        }
        notes
    }

    /// Whatever we start from now on is followed from its first moment, until [`Ledger::command_has_started`]. Gives back why not,
    /// where it can't be.
    pub fn begin_command(&mut self) -> Option<String> {
        let begun = self.targets.adopt_ourselves(&self.hooks);
        begun.err().map(|error| format!("what the command opens in its first moments can't be seen: {error}"))
    }

    /// What we start from now on is not followed.
    pub fn command_has_started(&mut self) {
        self.targets.forget_ourselves(&self.hooks);
    }

    /// Adds to a snapshot what is known of it, `now`.
    pub fn attend(&mut self, snapshot: &mut Snapshot, now: Timestamp) {
        self.clock = Clock::at(now);
        self.stacks.take(&mut self.hooks, &mut self.targets);
        self.add_openers(snapshot);
        self.add_endings(snapshot);
        self.add_uses(snapshot);
        self.forget_gone(snapshot);
        snapshot.stacks = self.stacks.told();
        snapshot.unseen.extend(self.losses());
    }

    /// What is new of these: who used them last, what was said, and where those threads are.
    pub fn ask(&mut self, suspects: &HashSet<Identity>, now: Timestamp) -> Answers {
        self.clock = Clock::at(now);
        let used = self.uses_of(suspects);
        Answers { used, stacks: self.stacks.told() }
    }

    /// Says of what is new who opened it.
    fn add_openers(&mut self, snapshot: &mut Snapshot) {
        for sighting in &mut snapshot.sightings {
            let (resource, Some(object)) = (&sighting.resource, sighting.object) else { continue };
            let (identity, inode) = (resource.identity, resource.inode.unwrap_or(0));
            if self.known.get(&identity).is_some_and(|known| known.object == object) {
                continue;
            }
            let opening = self.hooks.openings.get(&object).ok().map(|bytes| Opening::new(&bytes));
            let opening = opening.filter(|opening| opening.inode == inode);
            let known = Known {
                identity,
                object,
                inode,
                is_socket: is_socket(resource.kind),
                is_whole: opening.is_some(),
                peer: resource.remote.clone(),
                told: None,
                whereabouts: None,
            };
            self.known.insert(identity, known);
            self.by_object.insert(object, identity);
            sighting.opener = opening.map(|opening| self.by(opening.by));
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

    /// What found no room so far, one sentence each.
    fn losses(&self) -> Vec<String> {
        let lost = |(what, words): (u32, &str)| {
            let count = self.hooks.lost.get(&what).map_or(0, u64::from_ne_bytes);
            (count > 0).then(|| format!("{count} {words}"))
        };
        let in_kernel = (0_u32..).zip(LOSSES).filter_map(lost);
        let here = [
            (self.stacks.lost, "stacks were gone before they could be read"),
            (self.stacks.left_out, "stacks are beyond the 10,000 that are kept"),
        ];
        let here = here.into_iter().filter(|(count, _)| *count > 0).map(|(count, words)| format!("{count} {words}"));
        in_kernel.chain(here).collect()
    }
}

/// True for what can be sent by.
fn is_socket(kind: Kind) -> bool {
    matches!(kind, Kind::Tcp | Kind::Udp | Kind::Unix | Kind::Socket)
}
