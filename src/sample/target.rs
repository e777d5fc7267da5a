//! Which processes are watched: those named, and their descendants where asked for.

use super::descriptors::Walk;
use super::procfs::{ProcFs, ReadError};
use crate::model::ProcessId;
use std::collections::BTreeMap;

/// How many processes are followed at once; those beyond are counted, not watched.
const MEMBERS_MAX: usize = 4_096;

/// The processes that were named, and what became of them.
#[derive(Debug)]
pub struct TargetProcesses {
    proc: ProcFs,
    /// Known to be of the target and, at the last look, running.
    members: BTreeMap<u32, ProcessId>,
    children: bool,
    /// Processes that found no room among the members, at the last look.
    pub left_out: usize,
}

impl TargetProcesses {
    /// The processes with these pids now. Fails on the first that doesn't run.
    pub fn named(proc: &ProcFs, pids: &[u32], children: bool) -> Result<Self, ReadError> {
        let members = pids.iter().map(|pid| Ok((*pid, proc.identify(*pid)?))).collect::<Result<_, ReadError>>()?;
        Ok(TargetProcesses { proc: proc.clone(), members, children, left_out: 0 })
    }

    /// The processes with these pids that still run: a selection by name is a moment old.
    pub fn running(proc: &ProcFs, pids: &[u32], children: bool) -> Self {
        let members = pids.iter().filter_map(|pid| Some((*pid, proc.identify(*pid).ok()?))).collect();
        TargetProcesses { proc: proc.clone(), members, children, left_out: 0 }
    }

    /// Fails where the descriptors of one of them may not be read. One that ends meanwhile is no reason to.
    pub fn check_access(&self) -> Result<(), ReadError> {
        // Opening the folder is not enough: a protected process lets us list it and refuses each link.
        let mut walk = Walk::default();
        self.members.keys().try_for_each(|pid| match walk.walk(&self.proc, *pid) {
            Ok(_) | Err(ReadError::Gone(_)) => Ok(()),
            Err(error) => Err(error),
        })
    }

    /// Those that run now. A descendant whose parent has ended stays a member; one that was born and orphaned between two
    /// looks is missed.
    pub fn members(&mut self) -> Vec<ProcessId> {
        let proc = &self.proc;
        self.members.retain(|pid, id| proc.identify(*pid).is_ok_and(|now| now == *id));
        self.left_out = 0;
        if self.children {
            let mut unasked: Vec<u32> = self.members.keys().copied().collect();
            while let Some(parent) = unasked.pop() {
                for child in self.proc.children(parent) {
                    if self.members.contains_key(&child) {
                        continue;
                    }
                    if self.members.len() >= MEMBERS_MAX {
                        self.left_out += 1;
                    } else if let Ok(id) = self.proc.identify(child) {
                        self.members.insert(child, id);
                        unasked.push(child);
                    }
                }
            }
        }
        self.members.values().cloned().collect()
    }

    /// Adds a process that was found another way.
    pub fn adopt(&mut self, pid: u32) {
        if let Ok(id) = self.proc.identify(pid) {
            self.members.insert(pid, id);
        }
    }
}
