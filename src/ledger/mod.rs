//! Who opened it, who used it last, and what was said last: what the kernel tells while the target runs on (`bpf/ledger.bpf.c`).
//!
//! In the order in which a stack travels:
//! - `raw`: a stack as the kernel copied it, with the registers.
//! - `process`: the target's mappings, memory and files, read from outside.
//! - `unwind`: from registers and copied stack to the addresses of the frames.
//! - `symbols`: from addresses to functions, files and lines.
//! - `runtime`: the frames of an interpreter or a scheduler, woven into the native ones.
//! - `message`: what was said on a connection, from the bytes that were written.

#![allow(dead_code, reason = "until the session drives it")]

mod process;
mod raw;
mod runtime;
mod symbols;
mod unwind;
