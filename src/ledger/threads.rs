//! The threads of a process, as the kernel has them now.

use super::hooks::Hooks;
use super::records::{THREAD_BYTES, Thread};
use crate::bpf::{Scope, read_to_end};
use std::io;

/// All threads of a process; none of one that has ended. The pid is one of our own pid namespace.
pub(super) fn of_process(hooks: &Hooks, pid: u32) -> io::Result<Vec<Thread>> {
    let mut rows = Vec::new();
    let length = match read_to_end(&hooks.threads, Scope::Threads(pid), &mut rows) {
        // Before Linux 6.1 all of the machine's are told.
        Err(error) if error.raw_os_error() == Some(libc::E2BIG) => {
            read_to_end(&hooks.threads, Scope::Machine, &mut rows)?
        }
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => 0,
        read => read?,
    };
    let threads = rows[..length].chunks_exact(THREAD_BYTES).filter_map(Thread::new);
    Ok(threads.filter(|thread| thread.pid == pid).collect())
}

/// One thread, as it is now; `None` where it has ended.
pub(super) fn one(hooks: &Hooks, tid: u32) -> io::Result<Option<Thread>> {
    let mut rows = Vec::new();
    let length = match read_to_end(&hooks.threads, Scope::Process(tid), &mut rows) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => 0,
        read => read?,
    };
    Ok(rows[..length].chunks_exact(THREAD_BYTES).filter_map(Thread::new).find(|thread| thread.tid == tid))
}
