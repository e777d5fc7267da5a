//! Which processes belong to a target: kinds of selectors are ANDed, several of one kind ORed.

use crate::sample::cgroup::{CgroupPath, Cgroups, UnitName, id_prefix};
use crate::sample::procfs::{ProcFs, Stat, user_id};
use regex_lite::{Regex, RegexBuilder};
use std::cell::OnceCell;
use std::collections::{BTreeSet, HashSet};

/// Ids that are listed where a prefix fits several.
const CANDIDATES_MAX: usize = 10;

/// The longest name that the kernel keeps (`TASK_COMM_LEN` without its end).
const COMM_MAX: usize = 15;

/// A selector that means nothing here.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// Nothing between the slashes, or no name.
    #[error("a name of no letters fits every process")]
    NoName,
    /// What stands between the slashes is no regular expression.
    #[error("{pattern} is not a regular expression: {reason}")]
    Regex {
        /// As it was typed.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody is called so.
    #[error("there is no user {0:?} in /etc/passwd")]
    NoSuchUser(String),
    /// A name, or too few digits.
    #[error("{0:?} is not a container's id, nor the first 4 or more digits of one")]
    NotAnId(String),
    /// The digits are the beginning of more than one id.
    #[error("{prefix:?} is the beginning of several: {}", candidates.join(", "))]
    SeveralContainers {
        /// As it was typed.
        prefix: String,
        /// The ids that fit, the first few.
        candidates: Vec<String>,
    },
}

/// What a process must be like. A kind that has no selectors admits every process.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Their pids.
    pub pids: Vec<u32>,
    /// Their names.
    pub commands: Vec<Pattern<CommandPattern>>,
    /// The ids of their effective users.
    pub users: Vec<Pattern<u32>>,
    /// Their systemd units.
    pub units: Vec<UnitName>,
    /// Their cgroups, with all below.
    pub cgroups: Vec<CgroupPath>,
    /// The ids of their containers or pods, as far as they were typed.
    pub containers: Vec<String>,
}

/// A selector that asks for something, or with `^` before it for anything else.
#[derive(Clone, Debug)]
pub struct Pattern<T> {
    excludes: bool,
    of: T,
}

impl<T> Pattern<T> {
    fn parse(text: &str, parse: impl FnOnce(&str) -> Result<T, RuleError>) -> Result<Self, RuleError> {
        let rest = text.strip_prefix('^');
        Ok(Pattern { excludes: rest.is_some(), of: parse(rest.unwrap_or(text))? })
    }

    /// One that excludes and fits is enough to refuse; else one that asks and fits is enough, or that none asks.
    fn admits(all: &[Self], mut fits: impl FnMut(&T) -> bool) -> bool {
        let mut asked = false;
        let mut found = false;
        for pattern in all {
            if pattern.excludes && fits(&pattern.of) {
                return false;
            }
            asked |= !pattern.excludes;
            found |= !pattern.excludes && !found && fits(&pattern.of);
        }
        found || !asked
    }
}

/// What a process is called.
#[derive(Clone, Debug)]
pub enum CommandPattern {
    /// The short name begins so; of a longer one than the kernel keeps, the program's file does.
    Begins(String),
    /// The expression is found in the short name or in the command line.
    Regex(Regex),
}

impl Pattern<CommandPattern> {
    /// Reads `NAME`, `/REGEX/`, `/REGEX/i` for either case, and each with `^` before it.
    pub fn command(text: &str) -> Result<Self, RuleError> {
        Pattern::parse(text, |text| {
            let Some(rest) = text.strip_prefix('/') else {
                return if text.is_empty() {
                    Err(RuleError::NoName)
                } else {
                    Ok(CommandPattern::Begins(text.to_owned()))
                };
            };
            let bad = |reason: &str| RuleError::Regex { pattern: text.to_owned(), reason: reason.to_owned() };
            let (expression, modifiers) = rest.rsplit_once('/').ok_or_else(|| bad("it has no / at its end"))?;
            // lsof's `x` is what it takes anyway.
            if let Some(unknown) = modifiers.chars().find(|modifier| !"ix".contains(*modifier)) {
                return Err(bad(&format!("there is no modifier {unknown:?}, only i for either case")));
            }
            if expression.is_empty() {
                return Err(RuleError::NoName);
            }
            let built = RegexBuilder::new(expression).case_insensitive(modifiers.contains('i')).build();
            built.map(CommandPattern::Regex).map_err(|error| bad(&error.to_string()))
        })
    }
}

impl Pattern<u32> {
    /// Reads a user's name or id, or `^` and one of them. A number is an id, as lsof has it.
    pub fn user(text: &str) -> Result<Self, RuleError> {
        Pattern::parse(text, |text| {
            text.parse().ok().or_else(|| user_id(text)).ok_or_else(|| RuleError::NoSuchUser(text.to_owned()))
        })
    }
}

impl Rule {
    /// Makes whole ids of the containers' that were only begun, of those that run now. Fails where that could be several.
    pub(super) fn complete_containers(&mut self, proc: &ProcFs) -> Result<(), RuleError> {
        if self.containers.is_empty() {
            return Ok(());
        }
        let running: BTreeSet<String> =
            proc.pids().into_iter().flat_map(|pid| Cgroups::of(proc, pid).containers()).collect();
        for typed in &mut self.containers {
            let prefix = id_prefix(typed).ok_or_else(|| RuleError::NotAnId(typed.clone()))?;
            let candidates: Vec<&String> = running.iter().filter(|id| id.starts_with(&prefix)).collect();
            match candidates.as_slice() {
                [] => *typed = prefix,
                [id] => *typed = (*id).clone(),
                several => {
                    let candidates = several.iter().take(CANDIDATES_MAX).map(|id| (*id).clone()).collect();
                    return Err(RuleError::SeveralContainers { prefix: typed.clone(), candidates });
                }
            }
        }
        Ok(())
    }

    /// Whether a process fits. Of those of `silent` no command line is looked at. What can't be read doesn't fit.
    pub(super) fn admits(&self, proc: &ProcFs, pid: u32, silent: &HashSet<u32>) -> bool {
        // What costs least comes first.
        (self.pids.is_empty() || self.pids.contains(&pid))
            && self.admits_user(proc, pid)
            && self.admits_cgroup(proc, pid)
            && self.admits_command(proc, pid, silent)
    }

    fn admits_user(&self, proc: &ProcFs, pid: u32) -> bool {
        if self.users.is_empty() {
            return true;
        }
        proc.owner(pid).is_some_and(|owner| Pattern::admits(&self.users, |uid| *uid == owner))
    }

    fn admits_cgroup(&self, proc: &ProcFs, pid: u32) -> bool {
        if self.units.is_empty() && self.cgroups.is_empty() && self.containers.is_empty() {
            return true;
        }
        let cgroups = Cgroups::of(proc, pid);
        let is_contained = || {
            let ids = cgroups.containers();
            self.containers.iter().any(|wanted| ids.iter().any(|id| id.starts_with(wanted.as_str())))
        };
        (self.units.is_empty() || self.units.iter().any(|unit| cgroups.has_unit(unit)))
            && (self.cgroups.is_empty() || self.cgroups.iter().any(|path| cgroups.is_within(path)))
            && (self.containers.is_empty() || is_contained())
    }

    fn admits_command(&self, proc: &ProcFs, pid: u32, silent: &HashSet<u32>) -> bool {
        if self.commands.is_empty() {
            return true;
        }
        let Ok(Stat { comm, .. }) = proc.stat(pid) else { return false };
        // Asked for only where a pattern needs it.
        let line = OnceCell::new();
        let arguments = || line.get_or_init(|| proc.text(pid, "cmdline").unwrap_or_default()).as_str();
        Pattern::admits(&self.commands, |pattern| match pattern {
            CommandPattern::Begins(name) if name.len() <= COMM_MAX => comm.starts_with(name.as_str()),
            CommandPattern::Begins(name) => {
                // The kernel has cut the name; the program's file still has all of it.
                let program = || arguments().split('\0').next().and_then(|path| path.rsplit('/').next());
                name.starts_with(&comm) && program().is_some_and(|file| file.starts_with(name.as_str()))
            }
            CommandPattern::Regex(regex) => {
                let in_line = || regex.is_match(&arguments().trim_end_matches('\0').replace('\0', " "));
                regex.is_match(&comm) || (!silent.contains(&pid) && in_line())
            }
        })
    }
}
