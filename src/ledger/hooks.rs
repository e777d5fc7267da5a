//! The kernel's side of the ledger (`bpf/ledger.bpf.c`), loaded and attached.

use crate::bpf::{LEDGER, Map, Object, Ring, Unavailable, has_tracepoint};
use std::os::fd::OwnedFd;

/// Which hooks are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SendHook {
    /// The socket layer's own where the kernel has it (Linux 6.3), else the system calls.
    #[default]
    Auto,
    /// The system calls that write and send: what kernels before 6.3 have.
    Calls,
}

/// What of the ledger runs in the kernel. Dropping it detaches all; so does whatever ends this process.
#[derive(Debug)]
pub(super) struct Hooks {
    pub targets: Map,
    pub openings: Map,
    pub uses: Map,
    pub prepared: Map,
    pub one_in: Map,
    pub lost: Map,
    pub stacks: Ring,
    pub endings: Ring,
    /// The iterator over threads.
    pub threads: OwnedFd,
    /// True where sends are seen by system calls alone.
    pub sends_by_calls: bool,
    /// The object, of which some programs are loaded when a target first needs them.
    pub object: Object,
    by_calls: Vec<OwnedFd>,
    _links: Vec<OwnedFd>,
    /// What it tells programs of system calls stays as long as they may be loaded.
    _calls: Map,
}

impl Hooks {
    /// Loads and attaches what costs only those that connect, send or end.
    pub(super) fn attach(send_hook: SendHook) -> Result<Self, Unavailable> {
        if !cfg!(target_arch = "x86_64") {
            return Err(Unavailable::other("the ledger reads the registers of x86-64 only"));
        }
        let mut object = Object::open(LEDGER)?;
        let sends_by_calls = send_hook == SendHook::Calls || !has_tracepoint("sock_send_length");
        let threads = object.of_threads("threads")?;
        let mut map = |name| object.map(name);
        let (targets, openings, uses) = (map("targets")?, map("openings")?, map("uses")?);
        let (prepared, one_in, lost, calls) = (map("prepared")?, map("one_in")?, map("lost")?, map("calls")?);
        let ring = |map: Map| Ring::open(map).map_err(Unavailable::other);
        let (stacks, endings) = (ring(map("stacks")?)?, ring(map("endings")?)?);
        calls.update(&0_u32, &super::calls::table()).map_err(Unavailable::other)?;
        one_in.update(&0_u32, &1_u32).map_err(Unavailable::other)?;
        let mut links = vec![
            object.traced("exits", "sched_process_exit")?,
            object.traced("executes", "sched_process_exec")?,
            object.traced("forks", "sched_process_fork")?,
            object.traced("connects", "inet_sock_set_state")?,
        ];
        if !sends_by_calls {
            links.push(object.traced("sends", "sock_send_length")?);
        }
        let by_calls = Vec::new();
        Ok(Hooks {
            targets,
            openings,
            uses,
            prepared,
            one_in,
            lost,
            stacks,
            endings,
            threads,
            sends_by_calls,
            object,
            by_calls,
            _links: links,
            _calls: calls,
        })
    }

    /// Attaches also what costs every process of the machine a little at each system call.
    pub(super) fn attach_calls(&mut self) -> Result<(), Unavailable> {
        if self.by_calls.is_empty() {
            // What closes first: what is made before it is seen to be closed is found by looking again.
            let enters = self.object.traced("enters", "sys_enter")?;
            self.by_calls = vec![enters, self.object.traced("leaves", "sys_exit")?];
        }
        Ok(())
    }

    /// True where system calls are hooked.
    pub(super) fn has_calls(&self) -> bool {
        !self.by_calls.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_every_program() {
        let mut hooks = match Hooks::attach(SendHook::Auto) {
            Ok(hooks) => hooks,
            Err(why @ Unavailable::Other(_)) => panic!("{why}"),
            Err(why) => return eprintln!("SKIPPED: {why}"),
        };
        hooks.attach_calls().expect("attaches");
        assert!(hooks.has_calls());
    }
}
