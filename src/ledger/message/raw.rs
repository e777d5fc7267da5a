//! What is of no known protocol: text as text, anything else as bytes.

use super::bytes::{is_text, text};
use super::{Said, Written};

/// How many bytes are shown of what is no text.
const BYTES_SHOWN: usize = 32;
/// How many characters of a text.
const LETTERS_SHOWN: usize = 160;
/// So many letters in a row are text also among other bytes, which may be a name or a password.
const RUN_MIN: usize = 4;

/// What follows one of these in a text is never shown.
const SECRETS: [&str; 11] =
    ["pass", "password", "passwd", "pwd", "auth", "login", "secret", "token", "authorization", "cookie", "bearer"];

/// What one write says.
pub(super) fn read(write: &Written, show_literals: bool) -> Said {
    match write.bytes {
        [] => Said::idle(format!("({} bytes)", write.length)),
        bytes if is_text(bytes) && is_utf8(bytes) => {
            let text = text(bytes);
            let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            let mut line = mask(line.trim(), show_literals);
            if let Some((cut, _)) = line.char_indices().nth(LETTERS_SHOWN) {
                line.truncate(cut);
                line.push('…');
            }
            let is_useful = !line.is_empty();
            Said::new(line, is_useful)
        }
        bytes => Said::new(format!("{} ({} bytes)", hex(bytes, show_literals), write.length), true),
    }
}

/// True for UTF-8, also where its last character was cut.
fn is_utf8(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true)
}

/// A line without its numbers, strings and what follows a word for a secret; the words say what it is about.
fn mask(line: &str, show_literals: bool) -> String {
    let is_secret = |word: &str| SECRETS.iter().any(|secret| word.eq_ignore_ascii_case(secret));
    let mut masked = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
        let quoted = matches!(first, '"' | '\'').then(|| rest[1..].find(first).map_or(rest.len(), |end| end + 2));
        let length = quoted.unwrap_or(if word > 0 { word } else { first.len_utf8() });
        let piece = &rest[..length];
        rest = &rest[length..];
        let has_digit = word > 0 && piece.contains(|letter: char| letter.is_ascii_digit());
        // A quoted name before a colon says what, as in JSON.
        let is_name = quoted.is_some() && rest.trim_start().starts_with(':');
        let hidden = !show_literals && (has_digit || (quoted.is_some() && !is_name));
        masked.push_str(if hidden { "?" } else { piece });
        if is_secret(piece.trim_matches(['"', '\''])) && !rest.is_empty() {
            masked.push_str(" ?");
            break;
        }
    }
    masked
}

/// The first bytes in pairs of digits; runs of letters among them as `?`.
fn hex(bytes: &[u8], show_literals: bool) -> String {
    let is_letter = |byte: &u8| (0x20..0x7f).contains(byte);
    let mut pieces = Vec::new();
    let mut start = 0;
    for run in bytes.chunk_by(|a, b| is_letter(a) == is_letter(b)) {
        let known = &run[..run.len().min(BYTES_SHOWN.saturating_sub(start))];
        start += run.len();
        match run.len() >= RUN_MIN && is_letter(&run[0]) && !show_literals {
            true if known.is_empty() => {}
            true => pieces.push("?".to_owned()),
            false => pieces.extend(known.iter().map(|byte| format!("{byte:02x}"))),
        }
    }
    if bytes.len() > BYTES_SHOWN {
        pieces.push("…".to_owned());
    }
    pieces.join(" ")
}
