//! What every process of the machine holds, counted and not listed: for a look at all of them at once.

use super::{Process, Timestamp};

/// What one process holds. A descriptor counts, so a socket that two of them lead to counts twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessHoldings {
    /// The process, by its pid at that moment.
    pub pid: u32,
    /// Its descriptors.
    pub descriptors: Option<u64>,
    /// Those of them that lead to sockets of any family.
    pub sockets: Option<u64>,
    /// Those of its sockets that have a peer: TCP past the listening, connected UDP and Unix sockets.
    pub connections: Option<u64>,
    /// Its TCP connections that carried no byte either way for longer than was asked for.
    pub silent: Option<u64>,
    /// Its TCP connections that the peer has closed and the process has not.
    pub close_wait: Option<u64>,
    /// Its TCP sockets that listen.
    pub listening: Option<u64>,
}

/// A process, its limit and what it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct HoldingProcess {
    /// Who.
    pub process: Process,
    /// How many descriptors it may have (`RLIMIT_NOFILE`, soft); `None` where that is unlimited or can't be read.
    pub descriptor_limit: Option<u64>,
    /// What.
    pub holdings: ProcessHoldings,
}

/// One pass over the machine: every process that holds a descriptor, or may.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MachineSnapshot {
    /// When it was taken.
    pub at: Timestamp,
    /// The processes, in no order.
    pub processes: Vec<HoldingProcess>,
    /// What could not be seen, and why: one sentence each.
    pub unseen: Vec<String>,
}
