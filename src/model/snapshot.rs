//! One reading of the target, as the sampler hands it on.

use super::{Access, Identity, LastUse, Limit, Process, ProcessId, Resource, Stack, StackKey, Timestamp, Unit, Use};

/// What is new at one moment of what is open, and all that was counted. The first snapshot of a sampler has everything,
/// each later one what has changed since the one before: most of what a busy process holds is idle.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When it was taken.
    pub at: Timestamp,
    /// The target's processes that ran at that moment and could be read.
    pub processes: Vec<Process>,
    /// Resources that were not there before, and those of which anything but the age has changed. Each once, however many
    /// descriptors refer to it.
    pub sightings: Vec<Sighting>,
    /// Resources that were open at the snapshot before and that nobody of the target was seen to hold now. Processes are
    /// read one after the other, so one that is passed on meanwhile may be seen with nobody: the next snapshot tells.
    pub unheld: Vec<Identity>,
    /// Resources that nobody of the target holds any more: unheld at the snapshot before and still so, or their holder ended.
    pub gone: Vec<Identity>,
    /// Descriptors that could be counted and not looked at.
    pub descriptors_unseen: u64,
    /// The numbers taken besides: memory, threads, metrics.
    pub readings: Vec<Reading>,
    /// The limits in force.
    pub limits: Vec<Limit>,
    /// What could not be seen, and why: one sentence each.
    pub unseen: Vec<String>,
    /// Processes of the target that run, and whose descriptors could not be read this time: what they held stands.
    pub unreadable: Vec<ProcessId>,
    /// Processes of the target that have ended, as the kernel saw them at that moment. Empty where it isn't asked.
    pub endings: Vec<Ending>,
    /// True where all that end are told in `endings`.
    pub sees_endings: bool,
    /// What is missing from the `endings` of all snapshots so far, and why: one sentence each.
    pub endings_unseen: Vec<String>,
    /// Stacks that were not told before.
    pub stacks: Vec<(StackKey, Stack)>,
    /// What was opened and closed again since the snapshot before, so that no snapshot has it.
    pub passed: Vec<Passed>,
    /// What was open at the snapshot before and was seen to be closed since; it is in `unheld` or `gone` too.
    pub witnessed: Vec<Witnessed>,
    /// Of open connections, what is new about their last use.
    pub used: Vec<(Identity, LastUse)>,
}

/// A lifetime between two snapshots.
#[derive(Clone, Debug)]
pub struct Passed {
    /// What it was, as far as was seen.
    pub resource: Resource,
    /// The process and descriptor that it was opened as.
    pub holder: Descriptor,
    /// True where the target accepted it.
    pub accepted: bool,
    /// Who opened it, and when.
    pub opener: Use,
    /// When it was closed.
    pub closed: Timestamp,
    /// What was last done to it; `None` where nothing was ever sent.
    pub last_use: Option<LastUse>,
}

/// A closing that was seen as it happened.
#[derive(Clone, Debug)]
pub struct Witnessed {
    /// What was closed.
    pub identity: Identity,
    /// When.
    pub at: Timestamp,
    /// What was last done to it; `None` where nothing was ever sent, or seen.
    pub last_use: Option<LastUse>,
}

/// A process at its end.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Which; it may never have been read before.
    pub process: Process,
    /// When.
    pub at: Timestamp,
    /// True where a signal killed it: it had no time to close anything.
    pub killed: bool,
    /// The connections that it held.
    pub held: Vec<HeldAtEnd>,
}

/// A connection that a process held at its end.
#[derive(Clone, Debug)]
pub struct HeldAtEnd {
    /// What it is.
    pub resource: Resource,
    /// Its descriptor.
    pub fd: i32,
    /// How it could be used.
    pub access: Option<Access>,
    /// True where the process itself opened it.
    pub opened_by_it: bool,
    /// True where others opened it; of a Unix socket also where it had a name of its own, as what was accepted has.
    pub accepted: bool,
    /// True where others hold it still.
    pub shared: bool,
}

/// A resource as it is now, and who holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    /// What it is.
    pub resource: Resource,
    /// Every descriptor of the target that refers to it; none where only the socket tables could be read.
    pub holders: Vec<Descriptor>,
    /// Where the kernel has it: the address of the socket, or of the open file. For those who ask the kernel more; it is
    /// neither stored nor shown. `None` where the kernel's own iterator was not the reader.
    pub object: Option<u64>,
    /// Who opened it, and when; `None` where nobody saw it.
    pub opener: Option<Use>,
}

/// One descriptor of one process.
#[derive(Clone, Debug, PartialEq)]
pub struct Descriptor {
    /// Whose.
    pub process: ProcessId,
    /// Its number.
    pub fd: i32,
    /// How it may be used; `None` where it could not be read.
    pub access: Option<Access>,
}

/// A number of a series, or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The series' name.
    pub series: String,
    /// Its unit.
    pub unit: Unit,
    /// The value, or the reason for the gap.
    pub value: Result<f64, String>,
}
