//! The fastest way to sample: the kernel's own iterator over the files of processes, which runs a program of ours (`bpf/`)
//! on each.
//!
//! [`FileIterator`] reads one process: every descriptor with its identity, addresses, bytes and last activity.
//! [`MachineIterator`] sums up all of them. Both need Linux 6.1 with BTF, `CAP_BPF` and `CAP_PERFMON`, and see every
//! process and network namespace.

mod detail;
mod files;
mod last_look;
mod machine;
mod row;
#[cfg(test)]
mod tests;

pub(super) use {
    detail::SocketDetail,
    files::FileIterator,
    last_look::{Ended, Held, LastLook},
    machine::{MachineIterator, Owner},
    row::{Clock, FileKind, ROW_BYTES, Row},
};
