//! The fastest way to sample: the kernel's own iterator over the files of processes, which runs a program of ours (`bpf/`)
//! on each.
//!
//! [`FileIterator`] reads one process: every descriptor with its identity, addresses, bytes and last activity.
//! [`MachineIterator`] sums up all of them. Both need Linux 6.1 with BTF, `CAP_BPF` and `CAP_PERFMON`, and see every
//! process and network namespace.

mod bytes;
mod detail;
mod files;
mod kernel_types;
mod last_look;
mod load;
mod machine;
mod row;
mod sys;
#[cfg(test)]
mod tests;

pub(super) use {
    detail::SocketDetail,
    files::FileIterator,
    last_look::{Ended, Held, LastLook},
    load::Unavailable,
    machine::{MachineIterator, Owner},
    row::{Clock, FileKind, ROW_BYTES, Row},
};

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use sys::Scope;

/// The kernel hands out at most 32 KiB a read.
const READ_BYTES: usize = 32 << 10;

/// What the buffer grows by: the rows of some 2,500 descriptors.
const BUFFER_STEP_BYTES: usize = 256 << 10;

/// Runs a program over all files of `scope`, and says how much it wrote into `buffer`.
fn read_to_end(program: &OwnedFd, scope: Scope, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let link = sys::link(program, scope)?;
    let mut iteration = sys::iterate(&link)?;
    let mut length = 0;
    loop {
        if buffer.len() < length + READ_BYTES {
            buffer.resize(length + BUFFER_STEP_BYTES, 0);
        }
        match iteration.read(&mut buffer[length..]) {
            Ok(0) => return Ok(length),
            Ok(read) => length += read,
            // A million files in a row of which there was nothing to tell; or a signal.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}
