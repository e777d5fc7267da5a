//! Columns of text, aligned.

use std::io::{self, Write};

/// Which side a column is aligned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Writes rows under their headings, each column as wide as its widest cell, `indent` spaces before each row.
pub fn write(out: &mut dyn Write, columns: &[(&str, Align)], rows: &[Vec<String>], indent: usize) -> io::Result<()> {
    lines(columns, rows, indent).iter().try_for_each(|line| writeln!(out, "{line}"))
}

/// The same as lines: that of the headings, then one for each row.
pub fn lines(columns: &[(&str, Align)], rows: &[Vec<String>], indent: usize) -> Vec<String> {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(place, (heading, _))| {
            let cells = rows.iter().filter_map(|row| row.get(place)).map(|cell| cell.chars().count());
            cells.chain([heading.chars().count()]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: Vec<&str>| -> String {
        let mut text = " ".repeat(indent);
        for ((cell, width), (_, align)) in cells.iter().zip(&widths).zip(columns) {
            let fill = " ".repeat(width - cell.chars().count());
            match align {
                Align::Left => text.extend([cell, fill.as_str(), "  "]),
                Align::Right => text.extend([fill.as_str(), cell, "  "]),
            }
        }
        text.truncate(text.trim_end().len());
        text
    };
    let headings = columns.iter().map(|(heading, _)| *heading).collect();
    let rows = rows.iter().map(|row| row.iter().map(String::as_str).collect());
    [headings].into_iter().chain(rows).map(line).collect()
}

/// The text, printable, in at most so many columns, with `…` for what was cut off its end.
pub fn cut(text: &str, columns: usize) -> String {
    let text = printable(text);
    if text.chars().count() <= columns {
        return text;
    }
    text.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

/// Text that a terminal shows as it is: a process, a file and a socket are named as strangers like, and control characters
/// in such a name, which might drive the terminal, become `?`.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A cell of CSV, quoted where it must be (RFC 4180).
pub fn csv_cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["tcp".into(), "7".into()], vec!["u".into(), "123\u{1b}".into()]];
        let mut out = Vec::new();
        write(&mut out, &[("KIND", Align::Left), ("FD", Align::Right)], &rows, 1).expect("to memory");
        assert_eq!(String::from_utf8_lossy(&out), " KIND    FD\n tcp      7\n u     123?\n");
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!((&*cut("abc", 3), &*cut("abcd", 3), &*cut("\tb", 3)), ("abc", "ab…", "?b"));
    }
}
