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
    writeln!(out, "{}", line(columns.iter().map(|(heading, _)| *heading).collect()))?;
    for row in &rows {
        writeln!(out, "{}", line(row.iter().map(String::as_str).collect()))?;
    }
    Ok(())
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
}
