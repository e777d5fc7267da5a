//! A process of the target, read from outside: its mappings, its memory, the files behind them.

use std::path::PathBuf;

/// A mapping of `/proc/PID/maps` that is backed by a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    /// From this address.
    pub start: u64,
    /// Up to this one.
    pub end: u64,
    /// Where in the file it begins.
    pub offset: u64,
    /// True where code may be run in it.
    pub is_executable: bool,
    /// The file's path as the process has it, without ` (deleted)`; in brackets what is no file: `[vdso]`.
    pub path: String,
}

/// A process as it is now.
#[derive(Debug)]
pub(super) struct Process {
    /// Its pid in our namespace.
    pub pid: u32,
    /// Where `/proc` is.
    pub proc: PathBuf,
    /// Its mappings, in the order of addresses.
    pub mappings: Vec<Mapping>,
}
