//! Who holds things open.

use super::Timestamp;
use std::sync::Arc;

/// Names one process for ever: a pid alone is reused, with the boot and the start time it is not.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId {
    /// The kernel's `boot_id` of the boot it ran in.
    pub boot_id: Arc<str>,
    /// Its pid in our pid namespace.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_ticks: u64,
}

/// A process' number within one recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey(pub u32);

/// What is known of a process.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// Its lasting name.
    pub id: ProcessId,
    /// The kernel's short name of it (`comm`, at most 15 bytes).
    pub name: String,
    /// The command line, its arguments joined by spaces; the short name where the line is empty or can't be read.
    pub command: String,
    /// The effective user's id.
    pub uid: u32,
    /// That user's name, or the number where it has none.
    pub user: String,
    /// When it started, by the wall clock.
    pub started: Timestamp,
    /// When it was found to have ended.
    pub ended: Option<Timestamp>,
}

impl Process {
    /// True where its command line was empty when it was read, as it is for a moment while a program is being started.
    pub fn is_unnamed(&self) -> bool {
        self.command == self.name
    }
}
