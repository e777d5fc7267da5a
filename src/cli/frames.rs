//! Whose code is whose: a person's own rules, from a file.

use super::args::FrameRules;
use super::error::Failure;
use crate::analyse::Rules;
use std::fs;
use std::io::Read;

/// A file of rules is written by hand: what is larger is another file.
const BYTES_MAX: u64 = 1 << 20;

/// What mends a file that has no rules.
const LIKE: &str = "it is a text of lines like `own file /srv/app/**` or `library module **/libfoo.so*`";

/// The rules that were asked for; without any, ours.
pub(crate) fn rules(typed: &FrameRules) -> Result<Rules, Failure> {
    let Some(path) = &typed.frames else { return Ok(Rules::default()) };
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_string(&mut text));
    let failed = |why: String| Failure::usage(format!("--frames {}: {why}", path.display())).hint(LIKE);
    match read {
        Ok(bytes) if bytes as u64 > BYTES_MAX => Err(failed("too large for a file of rules".to_owned())),
        Ok(_) => Rules::parse(&text).map_err(|error| failed(format!("line {}: {}", error.line, error.reason))),
        Err(error) => Err(failed(format!("cannot read it: {error}"))),
    }
}
