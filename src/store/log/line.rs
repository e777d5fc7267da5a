//! One line of a log: a time, a separator, a value.
//!
//! The separator is a comma, a semicolon, or any run of spaces and tabs; spaces beside a comma or semicolon don't
//! count. Either field may stand in quotes. Columns after the second are left alone. Where the separator is no comma, a
//! comma in the value is a decimal one.

use crate::model::Timestamp;
use crate::store::input::moment::{self, Form};

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) at: Timestamp,
    pub(super) value: f64,
    pub(super) form: Form,
    /// True where more columns follow.
    pub(super) more: bool,
}

/// The fast path: `digits,digits` and nothing else, which nearly every line of nearly every log is.
pub(super) fn read_plain(line: &[u8]) -> Option<(Timestamp, f64)> {
    // Eleven digits are below 10^11 and thus seconds; fifteen are exact in a float.
    let (seconds, length) = leading_number(line, 11)?;
    let rest = line.get(length..)?.strip_prefix(b",")?;
    let (value, length) = leading_number(rest, 15)?;
    (length == rest.len()).then_some((Timestamp(seconds as i64 * 1_000_000), value as f64))
}

/// The number of at most `digits_max` digits that `text` begins with, and how many it has.
fn leading_number(text: &[u8], digits_max: usize) -> Option<(u64, usize)> {
    let mut number = 0u64;
    let mut length = 0;
    for byte in text.iter().take(digits_max) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        number = number * 10 + u64::from(digit);
        length += 1;
    }
    (length > 0).then_some((number, length))
}

/// What a trimmed line says, or what is wrong with it.
pub(super) fn read(line: &str) -> Result<Sample, &'static str> {
    let (at, form, rest) = match quoted(line)? {
        Some((field, rest)) => {
            let (at, form, left) = moment::read(field.trim())?;
            if !left.is_empty() {
                return Err("its time goes on after it should end");
            }
            (at, form, rest)
        }
        None => moment::read(line)?,
    };
    let field = rest.trim_start();
    let separator = match field.as_bytes().first() {
        None => return Err("it has no value"),
        Some(mark @ (b',' | b';')) => char::from(*mark),
        Some(_) if field.len() < rest.len() => ' ',
        Some(_) => return Err("its time goes on after it should end"),
    };
    let field = field.strip_prefix(separator).unwrap_or(field).trim_start();
    let (field, rest) = match quoted(field)? {
        Some(split) => split,
        None => {
            let end = if separator == ' ' { field.find(char::is_whitespace) } else { field.find(separator) };
            field.split_at(end.unwrap_or(field.len()))
        }
    };
    let value = number(field.trim(), separator != ',')?;
    Ok(Sample { at, value, form, more: !rest.trim_matches([' ', '\t', separator]).is_empty() })
}

/// The quoted field that `text` begins with and what follows it; `None` where it isn't quoted.
fn quoted(text: &str) -> Result<Option<(&str, &str)>, &'static str> {
    let Some(quote) = text.chars().next().filter(|first| matches!(first, '"' | '\'')) else { return Ok(None) };
    text[1..].split_once(quote).map(Some).ok_or("a quote is not closed")
}

fn number(field: &str, decimal_comma: bool) -> Result<f64, &'static str> {
    if field.is_empty() {
        return Err("it has no value");
    }
    // The standard library would take `inf`, `nan` and `infinity` too.
    if field.bytes().any(|byte| byte.is_ascii_alphabetic() && !matches!(byte, b'e' | b'E')) {
        return Err("its value is not a number");
    }
    let parsed = match field.split_once(',') {
        Some((whole, decimals)) if decimal_comma => format!("{whole}.{decimals}").parse::<f64>(),
        _ => field.parse::<f64>(),
    };
    let value = parsed.map_err(|_| "its value is not a number")?;
    value.is_finite().then_some(value).ok_or("its value is too large")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Time, value and whether columns follow; or the complaint.
    fn check(line: &str, expect: &str) {
        let got = match read(line) {
            Ok(sample) => {
                let more = if sample.more { " more" } else { "" };
                format!("{} {}{more}", sample.at.seconds(), sample.value)
            }
            Err(reason) => reason.to_owned(),
        };
        assert_eq!(got, expect, "{line}");
    }

    #[test]
    fn separators_and_quotes() {
        for line in
            ["5,12", "5;12", "5\t12", "5 12", "5   12", "5 , 12", "5,      12", "\"5\",\"12\"", "'5';'12'", "5,12,"]
        {
            check(line, "5 12");
        }
        check("2017-02-16 20:06:04 12", "1487275564 12");
        check("\"2017-02-16 20:06:04\" 12", "1487275564 12");
    }

    #[test]
    fn values() {
        check("5,-12.25", "5 -12.25");
        check("5,1.2e3", "5 1200");
        check("5,+1", "5 1");
        check("5;12,5", "5 12.5");
        check("5\t12,5", "5 12.5");
        check("5,12345678901234567890", "5 12345678901234567000");
        check("5,12,host,3", "5 12 more");
        check("5 12 connections", "5 12 more");
    }

    #[test]
    fn complaints() {
        check("5", "it has no value");
        check("5,", "it has no value");
        check("5,,3", "it has no value");
        for value in ["NaN", "inf", "-Infinity", "0x12", "abc", "12 connections", "1-2", "1,5;3", "١٢"] {
            check(&format!("5;{value}"), if value == "1,5;3" { "5 1.5 more" } else { "its value is not a number" });
        }
        check("5,1e999", "its value is too large");
        check("\"5,12", "a quote is not closed");
        check("5x,12", "its time goes on after it should end");
        check("\"5 x\",12", "its time goes on after it should end");
        check("lsof: no pwd entry for UID 1000", "it does not begin with a time");
    }

    #[test]
    fn the_fast_path_is_the_slow_one() {
        for line in ["1487279164,12", "0,0", "99999999999,999999999999999", "007,0010"] {
            let slow = read(line).expect("a sample");
            assert_eq!(read_plain(line.as_bytes()), Some((slow.at, slow.value)), "{line}");
        }
        for line in ["", ",", "5,", ",5", "5;5", "5,5 ", "5,5.0", "123456789012,1", "5,1234567890123456", "-5,1"] {
            assert_eq!(read_plain(line.as_bytes()), None, "{line}");
        }
    }
}
