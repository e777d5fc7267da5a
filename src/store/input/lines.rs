//! A text line by line, each with its number, and what was skipped of it.

use std::io::{self, ErrorKind, Read};

/// A longer line is none that somebody's script wrote as a sample.
const LINE_LENGTH_MAX: usize = 64 * 1024;

/// Room for a whole line behind the end of another one.
const BUFFER_LENGTH: usize = 2 * LINE_LENGTH_MAX;

/// The first buffer: most logs fit, and many are read one after another.
const BUFFER_LENGTH_FIRST: usize = 16 * 1024;

/// Skipped lines that are told one by one.
const TOLD_MAX: u64 = 10;

/// Reading failed after so many lines.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) lines: u64,
    pub(super) source: io::Error,
}

/// Hands on each line with its number, without its end, or `None` for one that is longer than [`LINE_LENGTH_MAX`].
pub(super) fn each(mut source: impl Read, mut take: impl FnMut(u64, Option<&[u8]>)) -> Result<(), Broken> {
    let mut buffer = vec![0; BUFFER_LENGTH_FIRST];
    let mut filled = 0;
    let mut number = 0;
    // Inside a line whose beginning was too long and is dropped.
    let mut dropping = false;
    loop {
        let got = match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(got) => got,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(source) => return Err(Broken { lines: number, source }),
        };
        if filled + got == buffer.len() && buffer.len() < BUFFER_LENGTH {
            buffer.resize(BUFFER_LENGTH, 0);
        }
        let mut start = 0;
        let mut searched = filled;
        filled += got;
        while let Some(length) = buffer[searched..filled].iter().position(|byte| *byte == b'\n') {
            let end = searched + length;
            let fits = !dropping && end - start <= LINE_LENGTH_MAX;
            number += 1;
            take(number, fits.then_some(&buffer[start..end]));
            dropping = false;
            start = end + 1;
            searched = start;
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
        if filled > LINE_LENGTH_MAX {
            dropping = true;
            filled = 0;
        }
    }
    if dropping {
        take(number + 1, None);
    } else if filled > 0 {
        take(number + 1, Some(&buffer[..filled]));
    }
    Ok(())
}

/// The lines that were skipped: the first of them each with its reason, all of them counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Skipped {
    told: Vec<String>,
    count: u64,
}

impl Skipped {
    /// Counts the line `number` in; where `line` is empty it is not repeated.
    pub(crate) fn add(&mut self, number: u64, line: &str, reason: &str) {
        self.count += 1;
        if self.count <= TOLD_MAX {
            self.told.push(format!("line {number} skipped: {reason}{}", excerpt(line)));
        }
    }

    /// One that is too long to be held.
    pub(crate) fn add_too_long(&mut self, number: u64) {
        self.add(number, "", "it is longer than 64 KiB");
    }

    /// Why there is nothing but these, of `lines` in all.
    pub(crate) fn instead(&self, lines: u64) -> String {
        match self.told.first() {
            Some(first) if self.count > 1 => format!("{first}, and so on for {}", count_words(self.count, "line")),
            Some(first) => first.clone(),
            None => format!("{}, all blank, comments or a header", count_words(lines, "line")),
        }
    }

    /// A note for each that is told, and one for the rest.
    pub(crate) fn into_notes(self) -> impl Iterator<Item = String> {
        let rest = self.count.saturating_sub(TOLD_MAX);
        let more = (rest > 0).then(|| format!("{} more skipped", count_words(rest, "line")));
        self.told.into_iter().chain(more)
    }
}

/// The line in a note, cut where it is long.
fn excerpt(line: &str) -> String {
    const LENGTH_MAX: usize = 40;
    if line.is_empty() {
        return String::new();
    }
    let head: String = line.chars().take(LENGTH_MAX).collect();
    let dots = if head.len() < line.len() { "..." } else { "" };
    format!(": `{}{dots}`", head.escape_debug())
}

/// `1 line`, `2 lines`.
pub(crate) fn count_words(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}
