//! The kernel's side, from ours: reads the objects of `bpf/dist`, fits them to the running kernel, loads them, and speaks with
//! what then runs there.
//!
//! [`Object`] is an object about to be loaded; what is taken out of it are programs, [`Map`]s, rings and links. All of them are
//! descriptors of ours: whatever ends us ends them.

pub(crate) mod bytes;
mod kernel_types;
mod object;
mod ring;
mod sys;

pub(crate) use {
    object::{ENDS, FILES, LEDGER, MACHINE, Object, Unavailable, has_tracepoint, ticks_per_second},
    ring::Ring,
    sys::{Map, Scope, attach_to_instruction, link},
};

use std::io::{self, Read};
use std::os::fd::OwnedFd;

/// The kernel hands out at most 32 KiB a read.
const READ_BYTES: usize = 32 << 10;

/// What the buffer grows by: the rows of some 2,500 descriptors.
const BUFFER_STEP_BYTES: usize = 256 << 10;

/// Runs an iterator's program over all of `scope`, and says how much it wrote into `buffer`.
pub(crate) fn read_to_end(program: &OwnedFd, scope: Scope, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let link = link(program, scope)?;
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
