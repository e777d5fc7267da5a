//! The two calls of bpf(2) that start an iteration. aya makes both, but hands the kernel no `bpf_iter_link_info`, by which
//! it would walk the files of one process instead of all.
//!
//! Formats: `union bpf_attr` and `union bpf_iter_link_info` in `include/uapi/linux/bpf.h`.

#![expect(unsafe_code, reason = "neither std nor rustix has bpf(2)")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_ITER_CREATE: libc::c_long = 33;
const BPF_TRACE_ITER: u32 = 28;

/// Which files an iteration walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Those in the table of a process' first thread: what `/proc/PID/fd` lists. By its number in our pid namespace.
    Process(u32),
    /// Those of a process, all its threads. Kernels before 6.1 refuse it with `E2BIG`; [`Scope::Process`] they would take
    /// for [`Scope::Machine`].
    Threads(u32),
    /// Those of every process of our pid namespace.
    Machine,
}

/// `bpf_iter_link_info.task`.
#[repr(C)]
struct TaskInfo {
    tid: u32,
    pid: u32,
    pid_fd: u32,
}

/// `bpf_attr.link_create` for an iterator.
#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    info: u64,
    info_bytes: u32,
    unused: u32,
}

/// `bpf_attr.iter_create`.
#[repr(C)]
struct IterCreate {
    link: u32,
    flags: u32,
}

/// Binds a loaded program to the files it shall walk.
pub(super) fn link(program: impl AsFd, scope: Scope) -> io::Result<OwnedFd> {
    let task = match scope {
        Scope::Process(pid) => TaskInfo { tid: pid, pid: 0, pid_fd: 0 },
        Scope::Threads(pid) => TaskInfo { tid: 0, pid, pid_fd: 0 },
        Scope::Machine => TaskInfo { tid: 0, pid: 0, pid_fd: 0 },
    };
    let create = LinkCreate {
        program: number(&program),
        target: 0,
        attach_type: BPF_TRACE_ITER,
        flags: 0,
        info: if scope == Scope::Machine { 0 } else { (&raw const task) as u64 },
        info_bytes: if scope == Scope::Machine { 0 } else { size_of::<TaskInfo>() as u32 },
        unused: 0,
    };
    // SAFETY: `LinkCreate` is laid out as the kernel's, and the kernel reads from it and from `task`, which live until the
    // call returns.
    unsafe { bpf(BPF_LINK_CREATE, &create) }
}

/// A new iteration of a link, to be read to its end.
pub(super) fn iterate(link: impl AsFd) -> io::Result<File> {
    let create = IterCreate { link: number(&link), flags: 0 };
    // SAFETY: `IterCreate` is laid out as the kernel's, which only reads it.
    unsafe { bpf(BPF_ITER_CREATE, &create) }.map(File::from)
}

fn number(of: &impl AsFd) -> u32 {
    of.as_fd().as_raw_fd().cast_unsigned()
}

/// bpf(2) for a command that returns a new descriptor.
///
/// # Safety
/// `attributes` is what the kernel expects of `command`, and the addresses in it are valid for what the kernel does there.
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: as our caller promises.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    let Ok(fd) = i32::try_from(result) else { return Err(io::Error::other("bpf(2) returned no descriptor")) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it for us, close-on-exec, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
