//! One reading of the target, as the sampler hands it on.

use super::{Access, Limit, Process, ProcessId, Resource, Timestamp, Unit};

/// All that was open and all that was counted at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When it was taken.
    pub at: Timestamp,
    /// The target's processes that ran at that moment.
    pub processes: Vec<Process>,
    /// What they held open, each resource once however many descriptors refer to it.
    pub resources: Vec<Resource>,
    /// Every descriptor.
    pub descriptors: Vec<Descriptor>,
    /// The numbers taken besides: memory, threads, metrics.
    pub readings: Vec<Reading>,
    /// The limits in force.
    pub limits: Vec<Limit>,
    /// What could not be seen, and why: one sentence each.
    pub unseen: Vec<String>,
    /// Processes of the target that run, and whose descriptors could not be read this time.
    pub unreadable: Vec<ProcessId>,
}

/// One descriptor of one process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Descriptor {
    /// Index into [`Snapshot::processes`].
    pub process: usize,
    /// Its number.
    pub fd: i32,
    /// How it may be used; `None` where it could not be read.
    pub access: Option<Access>,
    /// Index into [`Snapshot::resources`].
    pub resource: usize,
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
