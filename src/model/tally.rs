//! Totals that count every lifetime, whether it is kept or not: by what it was connected to, and by the code that opened
//! it or used it last.

use super::{Kind, Lifetime, StackKey, Tick};
use std::collections::{BTreeMap, BTreeSet};

/// How many groups are told apart; what would be a further one is counted under its kind with no endpoint.
const GROUPS_MAX: usize = 4_096;

/// How many stacks are told apart in their parts; further ones are counted under their kind and part with none.
const CODE_GROUPS_MAX: usize = 8_192;

/// Lifetimes that are judged by the same yardstick.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// Their kind.
    pub kind: Kind,
    /// What they are connected to (`10.0.0.5:5432`), the listener that accepted them (`accepted 0.0.0.0:80`), a
    /// file's folder; empty for the rest.
    pub endpoint: String,
}

/// What a stack was to a lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// It opened it.
    Opener,
    /// It wrote to it last.
    LastUse,
}

impl Part {
    /// Both of them.
    pub const ALL: [Part; 2] = [Part::Opener, Part::LastUse];

    /// Its name in the recording and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Part::Opener => "opener",
            Part::LastUse => "last_use",
        }
    }

    /// Reads the name; `None` for one of a later version.
    pub fn parse(name: &str) -> Option<Part> {
        Part::ALL.into_iter().find(|part| part.name() == name)
    }

    /// The stack that has this part in a lifetime; `None` where it was not seen.
    pub fn stack_of(self, lifetime: &Lifetime) -> Option<StackKey> {
        match self {
            Part::Opener => lifetime.opener.as_ref()?.stack,
            Part::LastUse => lifetime.last_use.as_ref()?.by.stack,
        }
    }
}

/// Lifetimes of one kind that one stack opened or used last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CodeGroup {
    /// Their kind.
    pub kind: Kind,
    /// What the stack was to them.
    pub part: Part,
    /// The stack; `None` where it was not seen, and where there are too many.
    pub stack: Option<StackKey>,
}

/// All of a group, by numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Opened since the recording began, those that were there before it included. 0 in a group by last use, which is
    /// known only at the end.
    pub opened: u64,
    /// Closed since, by the program; what ended with a process is not among them.
    pub closed: u64,
}

impl Tally {
    /// Counts those of another stretch too.
    pub fn add(&mut self, other: Tally) {
        self.opened += other.opened;
        self.closed += other.closed;
    }
}

/// Totals of a run of ticks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tallies {
    /// By kind and endpoint.
    pub groups: BTreeMap<Group, Tally>,
    /// By kind and code.
    pub code: BTreeMap<CodeGroup, Tally>,
}

impl From<BTreeMap<Group, Tally>> for Tallies {
    /// Totals of what nobody saw the code of.
    fn from(groups: BTreeMap<Group, Tally>) -> Self {
        Tallies { groups, ..Tallies::default() }
    }
}

/// The groups that are told apart so far: whoever counts a run of ticks keeps them from one to the next, so that memory and
/// the recording count alike.
#[derive(Clone, Debug, Default)]
pub struct KnownGroups {
    groups: BTreeSet<Group>,
    code: BTreeSet<CodeGroup>,
}

impl KnownGroups {
    /// Those of totals that are there already.
    pub fn of(tallies: &Tallies) -> Self {
        KnownGroups { groups: tallies.groups.keys().cloned().collect(), code: tallies.code.keys().copied().collect() }
    }

    fn group(&mut self, lifetime: &Lifetime) -> Group {
        let mut group = lifetime.group();
        if !self.groups.contains(&group) {
            if self.groups.len() >= GROUPS_MAX {
                group.endpoint.clear();
            }
            self.groups.insert(group.clone());
        }
        group
    }

    fn code_group(&mut self, lifetime: &Lifetime, part: Part) -> CodeGroup {
        let mut group = CodeGroup { kind: lifetime.resource.kind, part, stack: part.stack_of(lifetime) };
        if !self.code.contains(&group) {
            if self.code.len() >= CODE_GROUPS_MAX {
                group.stack = None;
            }
            self.code.insert(group);
        }
        group
    }
}

impl Tallies {
    /// How many groups are told apart by whoever counts them.
    pub(crate) const GROUPS_MAX: usize = GROUPS_MAX;

    /// What a tick adds.
    pub fn of(tick: &Tick, known: &mut KnownGroups) -> Self {
        let mut tallies = Tallies::default();
        for lifetime in &tick.opened {
            tallies.count_opened(lifetime, known);
        }
        // What the kernel closed, late or not, is no yardstick for what the program closes.
        for closing in tick.closed.iter().filter(|closing| !closing.lifetime.ended_with_process) {
            tallies.count_closed(&closing.lifetime, known);
        }
        tallies
    }

    /// Counts one that was opened.
    pub fn count_opened(&mut self, lifetime: &Lifetime, known: &mut KnownGroups) {
        self.groups.entry(known.group(lifetime)).or_default().opened += 1;
        self.code.entry(known.code_group(lifetime, Part::Opener)).or_default().opened += 1;
    }

    /// Counts one that was closed.
    pub fn count_closed(&mut self, lifetime: &Lifetime, known: &mut KnownGroups) {
        self.groups.entry(known.group(lifetime)).or_default().closed += 1;
        for part in Part::ALL {
            self.code.entry(known.code_group(lifetime, part)).or_default().closed += 1;
        }
    }

    /// Takes in what a further stretch adds.
    pub fn add(&mut self, added: Tallies) {
        for (group, tally) in added.groups {
            self.groups.entry(group).or_default().add(tally);
        }
        for (group, tally) in added.code {
            self.code.entry(group).or_default().add(tally);
        }
    }

    /// How many were closed in all.
    pub fn closed(&self) -> u64 {
        self.groups.values().map(|tally| tally.closed).sum()
    }
}
