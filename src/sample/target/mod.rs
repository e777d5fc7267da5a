//! Which processes are watched: those named or those of a rule, and their descendants where asked for.

mod rule;

pub use rule::{CommandPattern, Pattern, Rule, RuleError};

use super::procfs::{ProcFs, ReadError};
use crate::model::ProcessId;
use std::collections::{BTreeMap, HashSet};
use std::iter::successors;
use std::time::{Duration, Instant};

/// How many processes are followed at once; those beyond are counted, not watched.
const MEMBERS_MAX: usize = 4_096;

/// The soonest that a process which didn't fit is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The part of the time, as one in so many, that looking at every process again may take: on a machine with thousands of
/// processes it happens less often.
const LOOK_AGAIN_SHARE: u32 = 500;

/// The processes that were selected, and what became of them.
#[derive(Debug)]
pub struct TargetProcesses {
    proc: ProcFs,
    /// Known to be of the target and, at the last look, running.
    members: BTreeMap<u32, ProcessId>,
    /// How further ones are found; `None` where all were named by their pids.
    search: Option<Search>,
    children: bool,
    /// Processes that found no room among the members, at the last look.
    pub left_out: usize,
}

impl TargetProcesses {
    /// The processes with these pids now. Fails on the first that doesn't run.
    pub fn named(proc: &ProcFs, pids: &[u32], children: bool) -> Result<Self, ReadError> {
        let members = pids.iter().map(|pid| Ok((*pid, proc.identify(*pid)?))).collect::<Result<_, ReadError>>()?;
        Ok(TargetProcesses { proc: proc.clone(), members, search: None, children, left_out: 0 })
    }

    /// The processes that a rule admits, now and later; never ourselves and what we start. Where it names pids, those of
    /// them that fit now and no later ones. There may be none yet. Fails where a container's id is none or not enough of one.
    pub fn by_rule(proc: &ProcFs, mut rule: Rule, children: bool) -> Result<Self, RuleError> {
        rule.complete_containers(proc)?;
        let (mut members, mut search) = (BTreeMap::new(), None);
        if rule.pids.is_empty() {
            search = Some(Search::new(proc, rule));
        } else {
            let fits = |pid: &&u32| rule.admits(proc, **pid, &HashSet::new());
            members.extend(rule.pids.iter().filter(fits).filter_map(|pid| Some((*pid, proc.identify(*pid).ok()?))));
        }
        let mut target = TargetProcesses { proc: proc.clone(), members, search, children, left_out: 0 };
        target.members();
        Ok(target)
    }

    /// True where processes that these start belong to it too, or may.
    pub fn takes_children(&self) -> bool {
        self.children || self.search.is_some()
    }

    /// True where none runs now.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// True where others may come when all have ended: a service that is restarted.
    pub fn waits_for_more(&self) -> bool {
        self.search.is_some()
    }

    /// Those that run now. Whoever has been of the target is, until it ends: also after an exec or a change of user, and a
    /// descendant whose parent has ended. A descendant that was born and orphaned between two looks is missed.
    pub fn members(&mut self) -> Vec<ProcessId> {
        let proc = &self.proc;
        self.members.retain(|pid, id| match proc.identify(*pid) {
            Ok(now) => now == *id,
            // Not being able to look, for want of descriptors or memory of our own, is no end of its.
            Err(error) => !matches!(error, ReadError::Gone(_)),
        });
        self.left_out = 0;
        if let Some(search) = &mut self.search {
            search.look(proc, &mut self.members);
            self.left_out = search.left_out;
        }
        if self.children {
            self.add_descendants();
        }
        self.members.values().cloned().collect()
    }

    fn add_descendants(&mut self) {
        let own = std::process::id();
        let mut unasked: Vec<u32> = self.members.keys().copied().collect();
        while let Some(parent) = unasked.pop() {
            for child in self.proc.children(parent) {
                if child == own || self.members.contains_key(&child) {
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

    /// Adds a process that was found another way.
    pub fn adopt(&mut self, pid: u32) {
        if let Ok(id) = self.proc.identify(pid) {
            self.members.insert(pid, id);
        }
    }
}

/// A rule that is asked again and again: of new pids at each look, of all of them now and then, for a process becomes
/// another by exec, takes another user's id and is moved to another cgroup.
#[derive(Debug)]
struct Search {
    rule: Rule,
    /// We and our ancestors: the shell or sudo that started us has in its command line what we look for.
    starters: HashSet<u32>,
    asked: HashSet<u32>,
    /// When all are asked again.
    again: Instant,
    left_out: usize,
}

impl Search {
    fn new(proc: &ProcFs, rule: Rule) -> Self {
        let parent = |pid: &u32| proc.stat(*pid).ok().map(|stat| stat.ppid).filter(|ppid| *ppid > 0);
        let starters = successors(Some(std::process::id()), parent).collect();
        Search { rule, starters, asked: HashSet::new(), again: Instant::now(), left_out: 0 }
    }

    /// Adds the processes that fit and are none of the members yet.
    fn look(&mut self, proc: &ProcFs, members: &mut BTreeMap<u32, ProcessId>) {
        let begun = Instant::now();
        let asks_all = begun >= self.again;
        if asks_all {
            self.asked.clear();
            self.left_out = 0;
        }
        let pids = proc.pids();
        for pid in pids.iter().filter(|pid| !self.asked.contains(*pid)) {
            if members.contains_key(pid) || !self.rule.admits(proc, *pid, &self.starters) {
                continue;
            }
            let own = std::process::id();
            let is_ours = |ppid| *pid == own || ppid == own;
            if proc.stat(*pid).is_ok_and(|stat| stat.ending || stat.is_kernel_thread || is_ours(stat.ppid)) {
                continue;
            }
            if members.len() >= MEMBERS_MAX {
                self.left_out += 1;
            } else if let Ok(id) = proc.identify(*pid) {
                members.insert(*pid, id);
            }
        }
        self.asked = pids.into_iter().collect();
        if asks_all {
            self.again = begun + LOOK_AGAIN.max(begun.elapsed() * LOOK_AGAIN_SHARE);
        }
    }
}

#[cfg(test)]
mod tests;
