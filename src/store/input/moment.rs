//! The time at the beginning of a log's line, in the forms that people's scripts write.
//!
//! - Unix time, `1487279164`, `1487279164.25`, `1.487279164e9`: seconds below 10^11, milliseconds below 10^14,
//!   microseconds below 10^17, nanoseconds above. As seconds the first bound is the year 5138, as milliseconds 1973,
//!   so no time that somebody has logged falls on the wrong side.
//! - `20170216200604`: fourteen digits that make a date are one. As milliseconds they would be a time after 2500.
//! - ISO 8601 and its neighbours: `2017-02-16T20:06:04Z`, `2017/02/16 20:06`, `2017-02-16`, a fraction, a zone
//!   (`Z`, `+01:00`, `+0100`, `+01`, ` +0100`, ` UTC`). Without a zone it is taken as UTC. Date and time may stand in
//!   two columns.
//! - `date --iso-8601=ns` has a comma before the fraction: `2017-02-16T20:06:04,123456789+01:00`. A comma after the
//!   seconds is a decimal one where 3, 6 or 9 digits and then a zone or another separator follow; else it separates.

use crate::model::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::Offset;

/// How a time was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
    Zoned,
    /// Taken as UTC.
    Unzoned,
}

impl Form {
    /// What was assumed, where anything was.
    pub(crate) fn note(self) -> Option<&'static str> {
        match self {
            Form::Seconds | Form::Zoned => None,
            Form::Milliseconds => Some("times in milliseconds, by their magnitude"),
            Form::Microseconds => Some("times in microseconds, by their magnitude"),
            Form::Nanoseconds => Some("times in nanoseconds, by their magnitude"),
            Form::Unzoned => Some("times without a zone are taken as UTC"),
        }
    }
}

/// The time that `text` begins with and what follows it, or what is wrong.
pub(crate) fn read(text: &str) -> Result<(Timestamp, Form, &str), &'static str> {
    let (digits, rest) = split_digits(text);
    match (digits.len(), rest.as_bytes().first()) {
        (0, _) => Err("it does not begin with a time"),
        (1 | 2, Some(b':')) => Err("its time has no date"),
        (4, Some(b'-' | b'/')) => read_date(text),
        (14, after) if after != Some(&b'.') => match compact(digits) {
            Some(at) => Ok((at, Form::Unzoned, rest)),
            None => read_unix(text),
        },
        _ => read_unix(text),
    }
}

fn read_unix(text: &str) -> Result<(Timestamp, Form, &str), &'static str> {
    let (whole, mut rest) = split_digits(text);
    let mut fraction = "";
    if let Some(after) = rest.strip_prefix('.') {
        (fraction, rest) = split_digits(after);
    }
    if let Some(after) = rest.strip_prefix(['e', 'E']) {
        let (_, after) = split_digits(after.strip_prefix(['+', '-']).unwrap_or(after));
        let number: f64 = text[..text.len() - after.len()].parse().map_err(|_| "its time is not a number")?;
        let (form, per_second) = unit(number).ok_or("its time is too large")?;
        return Ok((Timestamp::from_seconds(number / per_second), form, after));
    }
    let whole: u64 = whole.parse().map_err(|_| "its time is too large")?;
    let (form, per_second) = unit(whole as f64).ok_or("its time is too large")?;
    // The whole part stays whole: as a float together with its fraction it would lose microseconds.
    let micros = match form {
        Form::Seconds => whole * 1_000_000,
        Form::Milliseconds => whole * 1_000,
        Form::Microseconds => whole,
        _ => (whole + 500) / 1_000,
    };
    let fraction_micros = (fraction_of(fraction) * 1e6 / per_second).round() as i64;
    Ok((Timestamp(micros as i64 + fraction_micros), form, rest))
}

/// The unit that a Unix time of this magnitude is in, and how many of it make a second.
fn unit(number: f64) -> Option<(Form, f64)> {
    match number {
        _ if number < 1e11 => Some((Form::Seconds, 1.0)),
        _ if number < 1e14 => Some((Form::Milliseconds, 1e3)),
        _ if number < 1e17 => Some((Form::Microseconds, 1e6)),
        _ if number < 1e19 => Some((Form::Nanoseconds, 1e9)),
        _ => None,
    }
}

fn read_date(text: &str) -> Result<(Timestamp, Form, &str), &'static str> {
    const BROKEN: &str = "its date is broken off";
    let mut rest = text;
    let year = take_digits(&mut rest, 4).ok_or(BROKEN)?;
    let mark = rest.chars().next().ok_or(BROKEN)?;
    let month = rest.strip_prefix(mark).and_then(|after| number_at(after, &mut rest)).ok_or(BROKEN)?;
    let day = rest.strip_prefix(mark).and_then(|after| number_at(after, &mut rest)).ok_or(BROKEN)?;
    let (mut hour, mut minute, mut second, mut fraction) = (0, 0, 0, 0.0);
    if let Some(after) = rest.strip_prefix(['T', 't', ' ', '\t', ',', ';']).filter(|after| is_clock(after)) {
        hour = number_at(after, &mut rest).ok_or(BROKEN)?;
        minute = rest.strip_prefix(':').and_then(|after| number_at(after, &mut rest)).ok_or(BROKEN)?;
        if let Some(after) = rest.strip_prefix(':') {
            second = number_at(after, &mut rest).ok_or("its time is broken off")?;
            (fraction, rest) = read_fraction(rest);
        }
    } else if rest.starts_with(['T', 't']) {
        return Err("its time is broken off");
    }
    let zone = read_zone(rest);
    let (offset, form, rest) = match zone {
        Some((seconds, rest)) => (seconds, Form::Zoned, rest),
        None => (0, Form::Unzoned, rest),
    };
    let at = moment([year, month, day], [hour, minute, second], offset).ok_or("its date is not in the calendar")?;
    Ok((Timestamp(at.0 + (fraction * 1e6).round() as i64), form, rest))
}

fn compact(digits: &str) -> Option<Timestamp> {
    let mut rest = digits;
    let year = take_digits(&mut rest, 4)?;
    let mut next = || take_digits(&mut rest, 2);
    let at = moment([year, next()?, next()?], [next()?, next()?, next()?], 0)?;
    (1970..2100).contains(&year).then_some(at)
}

fn moment(date: [i16; 3], time: [i16; 3], offset_seconds: i32) -> Option<Timestamp> {
    let date = Date::new(date[0], date[1] as i8, date[2] as i8).ok()?;
    // A leap second is counted as the second before it, as Unix time does.
    let second = if time[2] == 60 { 59 } else { time[2] };
    let time = Time::new(time[0] as i8, time[1] as i8, second as i8, 0).ok()?;
    let offset = Offset::from_seconds(offset_seconds).ok()?;
    offset.to_timestamp(DateTime::from_parts(date, time)).ok().map(|at| Timestamp(at.as_microsecond()))
}

/// The fraction of a second that `text` begins with, if any, and what follows.
fn read_fraction(text: &str) -> (f64, &str) {
    if let Some(after) = text.strip_prefix('.') {
        let (digits, rest) = split_digits(after);
        return (fraction_of(digits), rest);
    }
    if let Some(after) = text.strip_prefix(',') {
        let (digits, rest) = split_digits(after);
        let goes_on = read_zone(rest).is_some() || rest.starts_with([' ', '\t', ';']);
        if matches!(digits.len(), 3 | 6 | 9) && goes_on {
            return (fraction_of(digits), rest);
        }
    }
    (0.0, text)
}

/// The offset in seconds that `text` begins with, and what follows.
fn read_zone(text: &str) -> Option<(i32, &str)> {
    let near = text.strip_prefix(' ').unwrap_or(text);
    for name in ["UTC", "GMT", "Z", "z"] {
        if let Some(rest) = near.strip_prefix(name) {
            return (!rest.starts_with(|next: char| next.is_alphanumeric())).then_some((0, rest));
        }
    }
    let sign = match near.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let mut rest = &near[1..];
    let hours = i32::from(take_digits(&mut rest, 2)?);
    let mut after = rest.strip_prefix(':').unwrap_or(rest);
    let minutes = match take_digits(&mut after, 2) {
        Some(minutes) => {
            rest = after;
            i32::from(minutes)
        }
        // ` -12` after a space is rather a value than a zone.
        None if near.len() < text.len() => return None,
        None => 0,
    };
    (!rest.starts_with(|next: char| next.is_ascii_digit() || next == '.'))
        .then_some((sign * (hours * 3600 + minutes * 60), rest))
}

/// True where `text` begins as `20:06`.
fn is_clock(text: &str) -> bool {
    let mut rest = text;
    number_at(text, &mut rest).is_some() && rest.starts_with(':')
}

/// One or two digits at the beginning of `text`; `rest` becomes what follows them.
fn number_at<'a>(text: &'a str, rest: &mut &'a str) -> Option<i16> {
    let (digits, after) = split_digits(text);
    let number = matches!(digits.len(), 1 | 2).then(|| digits.parse().ok())??;
    *rest = after;
    Some(number)
}

/// Exactly `count` digits off the beginning of `rest`.
fn take_digits(rest: &mut &str, count: usize) -> Option<i16> {
    let head = rest.get(..count).filter(|head| head.bytes().all(|byte| byte.is_ascii_digit()))?;
    *rest = &rest[count..];
    head.parse().ok()
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// What the digits after a decimal point are worth.
fn fraction_of(digits: &str) -> f64 {
    // What nanoseconds leave out isn't seen at a microsecond.
    let digits = &digits[..digits.len().min(9)];
    digits.parse::<u32>().map_or(0.0, |number| f64::from(number) / 10f64.powi(digits.len() as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Microseconds, form and what is left over; or the complaint.
    fn check(text: &str, expect: &str) {
        let got = match read(text) {
            Ok((at, form, rest)) => format!("{} {form:?} {rest}", at.seconds()),
            Err(reason) => reason.to_owned(),
        };
        assert_eq!(got.trim_end(), expect, "{text}");
    }

    #[test]
    fn unix_times_are_told_by_their_magnitude() {
        check("1487279164,12", "1487279164 Seconds ,12");
        check("1487279164.2505,12", "1487279164.2505 Seconds ,12");
        check("1487279164.123456789 12", "1487279164.123457 Seconds  12");
        check("1.487279164e9,12", "1487279164 Seconds ,12");
        check("1487279164250,12", "1487279164.25 Milliseconds ,12");
        check("1487279164250.5,12", "1487279164.2505 Milliseconds ,12");
        check("1487279164250001,12", "1487279164.250001 Microseconds ,12");
        check("1487279164250001999,12", "1487279164.250002 Nanoseconds ,12");
        check("0,12", "0 Seconds ,12");
        check("99999999999999999999,1", "its time is too large");
        check("1e400,1", "its time is too large");
        check("-5,1", "it does not begin with a time");
    }

    #[test]
    fn dates_are_read_with_and_without_a_zone() {
        check("2017-02-16T20:06:04Z,1", "1487275564 Zoned ,1");
        check("2017-02-16 20:06:04.5,1", "1487275564.5 Unzoned ,1");
        check("2017-02-16T20:06:04+01:00,1", "1487271964 Zoned ,1");
        check("2017-02-16T20:06:04+0100 1", "1487271964 Zoned  1");
        check("2017-02-16T20:06:04-08;1", "1487304364 Zoned ;1");
        check("2017-02-16 20:06:04 +0100,1", "1487271964 Zoned ,1");
        check("2017-02-16 20:06:04 UTC,1", "1487275564 Zoned ,1");
        check("2017/02/16 20:06:04,1", "1487275564 Unzoned ,1");
        check("2017-2-6 9:06,1", "1486371960 Unzoned ,1");
        check("2017-02-16,20:06:04,1", "1487275564 Unzoned ,1");
        check("2017-02-16,1", "1487203200 Unzoned ,1");
        check("20170216200604,1", "1487275564 Unzoned ,1");
        check("2016-12-31T23:59:60Z,1", "1483228799 Zoned ,1");
    }

    #[test]
    fn a_comma_is_a_decimal_one_only_where_more_follows() {
        check("2017-02-16T20:06:04,123456789+01:00;1", "1487271964.123457 Zoned ;1");
        check("2017-02-16 20:06:04,123 1", "1487275564.123 Unzoned  1");
        check("2017-02-16 20:06:04,123", "1487275564 Unzoned ,123");
        check("2017-02-16 20:06:04,123,4", "1487275564 Unzoned ,123,4");
        check("2017-02-16 20:06:04,12 4", "1487275564 Unzoned ,12 4");
    }

    #[test]
    fn a_value_is_not_taken_for_a_zone() {
        check("2017-02-16 20:06:04 -12", "1487275564 Unzoned  -12");
        check("2017-02-16 20:06:04 -12.5", "1487275564 Unzoned  -12.5");
        check("2017-02-16 20:06:04 12", "1487275564 Unzoned  12");
    }

    #[test]
    fn what_is_no_date_is_said_to_be_none() {
        check("2017-02-30T00:00:00Z,1", "its date is not in the calendar");
        check("2017-02-16T24:06:04Z,1", "its date is not in the calendar");
        check("2017-02-16T20:06:61Z,1", "its date is not in the calendar");
        check("2017-02-16T,1", "its time is broken off");
        check("2017-02-16T20:06:,1", "its time is broken off");
        check("2017-02,1", "its date is broken off");
        check("20:06:04,1", "its time has no date");
        check("time,count", "it does not begin with a time");
        check("", "it does not begin with a time");
    }
}
