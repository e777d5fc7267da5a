//! One screen, drawn anew on the terminal's other screen, so that what was there before comes back.

use super::table::printable;
use std::io::{self, Write};

/// The terminal's other screen, taken at the first drawing and given back at the end, however that comes.
#[derive(Debug)]
pub struct Canvas<W: Write> {
    out: W,
    begun: bool,
}

impl<W: Write> Canvas<W> {
    /// A canvas on the terminal that `out` leads to.
    pub fn new(out: W) -> Self {
        Canvas { out, begun: false }
    }

    /// Draws these lines and nothing else, cut to `width` columns and `height` rows.
    pub fn draw(&mut self, lines: &[String], width: usize, height: usize) -> io::Result<()> {
        let mut frame = String::new();
        if !std::mem::replace(&mut self.begun, true) {
            // The other screen, without a cursor.
            frame.push_str("\x1b[?1049h\x1b[?25l");
        }
        frame.push_str("\x1b[H");
        for (row, line) in lines.iter().take(height).enumerate() {
            let line: String = printable(line).chars().take(width).collect();
            frame.push_str(&format!("\x1b[{};1H\x1b[2K{line}", row + 1));
        }
        frame.push_str("\x1b[J");
        self.out.write_all(frame.as_bytes())?;
        self.out.flush()
    }

    /// Gives the terminal back; true where it had been taken.
    pub fn end(&mut self) -> io::Result<bool> {
        let begun = std::mem::replace(&mut self.begun, false);
        if begun {
            self.out.write_all(b"\x1b[?25h\x1b[?1049l")?;
            self.out.flush()?;
        }
        Ok(begun)
    }
}

impl<W: Write> Drop for Canvas<W> {
    fn drop(&mut self) {
        // Where nobody reads it there is nobody to give it back to.
        let _ = self.end();
    }
}
