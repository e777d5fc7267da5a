//! Who left them open: the code that opened the leaked ones and used them last, held against the healthy ones.

use super::table::{self, Align, cut, printable};
use crate::analyse::culprits::{self, Culprits, Share, Shares};
use crate::model::{Frame, Lifetime, LifetimeId, Part, Report, Stack, Via};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};

/// As wide as a line gets.
const COLUMNS: usize = 100;

/// The widest that code is named in a table.
const LABEL_COLUMNS: usize = 58;

/// Rows of each table; `show --by` has all.
const ROWS: usize = 5;

/// Frames of a stack; `--explain` prints all.
const FRAMES: usize = 16;

/// Where a frame's location begins.
const LOCATION_COLUMN: usize = 44;

/// The line under a resource: the code that tells it, and what was said last; `None` where nothing was seen.
pub(super) fn line(report: &Report, culprits: &Culprits, lifetime: &Lifetime) -> Option<String> {
    let code = culprits.of_one(report, lifetime).map(|(part, label)| format!("{} {label}", culprits::verb(part)));
    let last = lifetime.last_use.as_ref();
    let said =
        last.and_then(|last| last.last_useful().or(last.messages.last())).map(|message| message.text.to_string());
    let words: Vec<String> = code.into_iter().chain(said).collect();
    (!words.is_empty()).then(|| format!("              {}", cut(&words.join(" · "), COLUMNS - 14)))
}

/// The section; nothing where no code of what leaked was seen.
pub(super) fn write(
    out: &mut dyn Write,
    report: &Report,
    culprits: &Culprits,
    leaked: &HashSet<LifetimeId>,
    in_full: bool,
) -> io::Result<()> {
    let seen = culprits.both().into_iter().filter(|shares| shares.leaked > 0);
    for (place, shares) in seen.enumerate() {
        writeln!(out, "{}", if place == 0 { "\nWho left them open" } else { "" })?;
        table_of(out, shares)?;
        if let Some(stack) = shares.all.first().and_then(|first| report.stacks.get(&first.stack)) {
            writeln!(out)?;
            frames(out, stack, if in_full { usize::MAX } else { FRAMES })?;
        }
    }
    whereabouts(out, report, leaked)
}

/// Leaked against healthy, by code.
fn table_of(out: &mut dyn Write, shares: &Shares) -> io::Result<()> {
    let of = |some: u64, all: u64| if all > 0 { format!("{some} of {all}") } else { String::new() };
    let row = |it: &Share| {
        let label = cut(&it.label, LABEL_COLUMNS);
        vec![label, of(it.leaked, shares.leaked), of(it.closed, shares.closed), of(it.open, shares.open)]
    };
    let (leaked, healthy): (Vec<&Share>, Vec<&Share>) = shares.all.iter().partition(|it| it.leaked > 0);
    let mut rows: Vec<Vec<String>> = leaked.iter().chain(&healthy).take(ROWS).map(|it| row(it)).collect();
    if shares.unseen > 0 {
        rows.push(vec!["not seen".to_owned(), shares.unseen.to_string(), String::new(), String::new()]);
    }
    let code = culprits::verb(shares.part).to_uppercase();
    let columns = [(&*code, Align::Left), ("LEAKED", Align::Right), ("CLOSED", Align::Right), ("OPEN", Align::Right)];
    table::write(out, &columns, &rows, 2)?;
    let by = match shares.part {
        Part::Opener => "opener",
        Part::LastUse => "last-use",
    };
    match shares.all.len().saturating_sub(ROWS) {
        0 => Ok(()),
        more => writeln!(out, "  ... {more} more: --by {by}"),
    }
}

/// A stack, innermost frame first, the user's own frames marked.
fn frames(out: &mut dyn Write, stack: &Stack, most: usize) -> io::Result<()> {
    for frame in stack.frames.iter().take(most) {
        let mark = if frame.own { '>' } else { ' ' };
        let function = frame.function.as_deref().unwrap_or("?");
        let how = match frame.via {
            Via::Call => "",
            Via::Inlined => " (inlined)",
            Via::Awaited => " (awaits it)",
            Via::Created => " (started it)",
        };
        let function = cut(&format!("{function}{how}"), LOCATION_COLUMN - 5);
        let line = format!("  {mark} {function:<width$}  {}", location(frame), width = LOCATION_COLUMN - 6);
        writeln!(out, "{}", line.trim_end())?;
    }
    if stack.frames.len() > most {
        writeln!(out, "    ... {} more frames: --explain", stack.frames.len() - most)?;
    }
    match &stack.truncated {
        Some(why) => writeln!(out, "    ... {}", printable(why)),
        None => Ok(()),
    }
}

/// The end of the file's path with the line; without a file, the module.
fn location(frame: &Frame) -> String {
    let place = match (&frame.file, frame.line) {
        (Some(file), Some(line)) => format!("{file}:{line}"),
        (Some(file), None) => file.to_string(),
        (None, _) => frame.module.as_deref().unwrap_or_default().to_owned(),
    };
    let place = printable(&place);
    let room = COLUMNS - LOCATION_COLUMN;
    match place.chars().count().checked_sub(room) {
        None | Some(0) => place,
        Some(over) => ['…'].into_iter().chain(place.chars().skip(over + 1)).collect(),
    }
}

/// Where the threads are that used them last: still at it, or gone on.
fn whereabouts(out: &mut dyn Write, report: &Report, leaked: &HashSet<LifetimeId>) -> io::Result<()> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let lifetimes = leaked.iter().filter_map(|id| report.population.get(*id));
    for now in lifetimes.filter_map(|it| it.last_use.as_ref()?.whereabouts.as_ref()) {
        let place = now.stack.and_then(|key| report.labels.get(&key)).map(|label| format!(", in {label}"));
        *counts.entry(format!("{}{}", now.words, place.unwrap_or_default())).or_default() += 1;
    }
    if counts.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nWhere the threads are now that used them last")?;
    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| Reverse(*count));
    for (words, count) in counts.iter().take(ROWS) {
        writeln!(out, "  {count:>6}  {}", cut(words, COLUMNS - 10))?;
    }
    let rest: u64 = counts.iter().skip(ROWS).map(|(_, count)| count).sum();
    if rest > 0 { writeln!(out, "  {rest:>6}  elsewhere: -o json") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_path_the_end_is_shown() {
        let file = format!("/srv/{}/app.py", "deep/".repeat(30));
        let of = |file: &str, line| location(&Frame { file: Some(file.into()), line, ..Frame::default() });
        assert_eq!(of("/srv/app.py", Some(88)), "/srv/app.py:88");
        assert_eq!(of("main.go", None), "main.go");
        let long = of(&file, Some(88));
        assert!(long.starts_with('…') && long.ends_with("/app.py:88"), "{long}");
        assert_eq!(long.chars().count(), COLUMNS - LOCATION_COLUMN);
    }
}
