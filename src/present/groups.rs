//! `show --by`: how many leaked and healthy ones there are of each endpoint, query, line of code, state or age.

use super::table::{self, Align};
use crate::analyse::culprits::{self, Shares};
use crate::model::{Lifetime, Part, Report, State};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// The widest that a group's name is printed.
const NAME_COLUMNS: usize = 70;

/// What resources are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// The code that opened them.
    Opener,
    /// The code that wrote to them last.
    LastUse,
    /// What they are connected to, or were accepted by.
    Endpoint,
    /// The last message that says what they were for.
    Query,
    /// The kernel's state.
    State,
    /// How long they have been open.
    Age,
}

/// A group, as JSON has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct GroupCounts {
    /// `None` for those of which it was not seen.
    name: Option<String>,
    /// How many leaked.
    leaked: u64,
    /// How many are open besides.
    open: u64,
    /// How many were closed; `None` where only those are counted that are still there.
    closed: Option<u64>,
}

/// Those with the most leaked ones first.
pub(super) fn groups(report: &Report, by: GroupBy) -> Vec<GroupCounts> {
    let mut groups = match by {
        GroupBy::Opener => by_code(report, Part::Opener),
        GroupBy::LastUse => by_code(report, Part::LastUse),
        GroupBy::Endpoint => by_endpoint(report),
        GroupBy::Query => counted(report, |it| Some(it.last_use.as_ref()?.last_useful()?.text.to_string())),
        GroupBy::State => counted(report, |it| it.resource.state.map(State::name).map(str::to_owned)),
        GroupBy::Age => counted(report, |it| Some(age_band(it.age_seconds(report.to)).to_owned())),
    };
    groups.sort_by_key(|it| Reverse((it.leaked, it.open, it.closed)));
    groups
}

/// The groups as a table.
pub(super) fn write(out: &mut dyn Write, report: &Report, by: GroupBy) -> io::Result<()> {
    let count = |count: Option<u64>| count.map(|count| count.to_string()).unwrap_or_default();
    let row = |it: GroupCounts| {
        let name = it.name.unwrap_or_else(|| if by == GroupBy::State { "no state" } else { "not seen" }.to_owned());
        vec![it.leaked.to_string(), it.open.to_string(), count(it.closed), table::cut(&name, NAME_COLUMNS)]
    };
    let rows: Vec<Vec<String>> = groups(report, by).into_iter().map(row).collect();
    writeln!(out)?;
    let columns = [("LEAKED", Align::Right), ("OPEN", Align::Right), ("CLOSED", Align::Right), ("GROUP", Align::Left)];
    table::write(out, &columns, &rows, 2)
}

/// By what is still there.
fn counted(report: &Report, name: impl Fn(&Lifetime) -> Option<String>) -> Vec<GroupCounts> {
    let mut groups: BTreeMap<Option<String>, (u64, u64)> = BTreeMap::new();
    let population = &report.population;
    let closed = population.closed.values().filter(|it| report.judged.is_leaked(it.id));
    for it in population.open.values().chain(closed) {
        let (leaked, open) = groups.entry(name(it)).or_default();
        *if report.judged.is_leaked(it.id) { leaked } else { open } += 1;
    }
    groups.into_iter().map(|(name, (leaked, open))| GroupCounts { name, leaked, open, closed: None }).collect()
}

fn by_endpoint(report: &Report) -> Vec<GroupCounts> {
    let named = |group: crate::model::Group| format!("{} {}", group.kind, group.endpoint).trim_end().to_owned();
    let mut groups = counted(report, |it| Some(named(it.group())));
    let mut closed: BTreeMap<String, u64> = BTreeMap::new();
    for (group, tally) in &report.population.tallies.groups {
        *closed.entry(named(group.clone())).or_default() += tally.closed;
    }
    for group in &mut groups {
        group.closed = Some(group.name.as_ref().and_then(|name| closed.remove(name)).unwrap_or_default());
    }
    let over = |(name, closed)| GroupCounts { name: Some(name), leaked: 0, open: 0, closed: Some(closed) };
    groups.extend(closed.into_iter().map(over));
    groups
}

fn by_code(report: &Report, part: Part) -> Vec<GroupCounts> {
    let shares = Shares::of(report, part, &culprits::leaked(report), |_| true);
    let is_unseen = |it: &Lifetime| part.stack_of(it).is_none_or(|key| !report.labels.contains_key(&key));
    let open = report.population.open.values();
    let open = open.filter(|it| is_unseen(it) && !report.judged.is_leaked(it.id)).count() as u64;
    let unseen = GroupCounts {
        name: None,
        leaked: shares.unseen,
        open,
        closed: Some(report.population.closed_total.saturating_sub(shares.closed)),
    };
    let named = shares.all.into_iter().map(|it| GroupCounts {
        name: Some(it.label),
        leaked: it.leaked,
        open: it.open,
        closed: Some(it.closed),
    });
    named.chain((unseen.leaked + unseen.open + unseen.closed.unwrap_or(0) > 0).then_some(unseen)).collect()
}

fn age_band(seconds: f64) -> &'static str {
    match seconds {
        s if s < 60.0 => "under 1 min",
        s if s < 600.0 => "1 to 10 min",
        s if s < 3600.0 => "10 to 60 min",
        _ => "over 1 h",
    }
}
