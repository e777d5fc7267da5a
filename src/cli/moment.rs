//! Moments as people type them for `--since` and `--until`, and the stretch of a recording that two of them bound.

use super::error::Failure;
use super::options;
use crate::model::Timestamp;
use crate::present::text::moment;
use crate::present::window::Window;
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;

/// The window between two flags. Without the one it begins with the recording, without the other it ends with it.
pub(crate) fn window(
    since: Option<&str>,
    until: Option<&str>,
    from: Timestamp,
    to: Timestamp,
) -> Result<Window, Failure> {
    let read = |flag: &str, text: Option<&str>, otherwise| match text {
        Some(text) => read(flag, text, from, to),
        None => Ok(otherwise),
    };
    let window = Window { since: read("--since", since, from)?, until: read("--until", until, to)? };
    if window.since > window.until {
        let message = format!("--since {} is after --until {}", moment(window.since), moment(window.until));
        return Err(Failure::usage(message).hint(range(from, to)));
    }
    Ok(window)
}

/// What there is to choose from.
pub(crate) fn range(from: Timestamp, to: Timestamp) -> String {
    format!("the recording is from {} to {}; 10m means ten minutes before its end", moment(from), moment(to))
}

fn read(flag: &str, text: &str, from: Timestamp, to: Timestamp) -> Result<Timestamp, Failure> {
    if let Ok(length) = options::duration(flag, text)
        && text.ends_with(|c: char| c.is_ascii_alphabetic())
    {
        let at = to - length;
        if at < from && flag == "--until" {
            let message = format!("{flag} {text}: the recording is not so long");
            return Err(Failure::usage(message).hint(range(from, to)));
        }
        // To begin earlier than it does is all of it.
        return Ok(at.max(from));
    }
    let Some(at) = absolute(text, to, &TimeZone::system()) else {
        let forms = "write it as 10m (before the end), 20:06:04, 2026-11-23T20:06:04+01:00 or Unix seconds";
        return Err(Failure::usage(format!("{flag} {text:?} is no time")).hint(forms));
    };
    // A clock time names a whole second or minute, Unix seconds are often cut: what lies in the same second is meant.
    let within_a_second = |a: Timestamp, b: Timestamp| a.seconds_since(b).abs() < 1.0;
    if (at < from && !within_a_second(at, from)) || (at > to && !within_a_second(at, to)) {
        let message = format!("{flag} {text}: {} is outside the recording", moment(at));
        return Err(Failure::usage(message).hint(range(from, to)));
    }
    Ok(at.clamp(from, to))
}

/// Unix seconds, an ISO time (without an offset it is local), or a time of the day on which `to` lies.
fn absolute(text: &str, to: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.is_finite() && seconds.abs() < 1e11).then(|| Timestamp::from_seconds(seconds));
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(Timestamp(at.as_microsecond()));
    }
    let local = match text.parse::<Time>().ok().filter(|_| !text.contains('-')) {
        Some(time) => {
            let end = jiff::Timestamp::from_microsecond(to.0).ok()?;
            end.to_zoned_datetime(zone.clone()).date().to_datetime(time)
        }
        None => text.parse::<DateTime>().ok()?,
    };
    Some(Timestamp(zone.to_timestamp(local).ok()?.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        // 2017-02-16 20:06:04 UTC, an hour later in Berlin.
        let to = Timestamp(1_487_275_564_000_000);
        let berlin = TimeZone::fixed(jiff::tz::offset(1));
        let read = |text: &str| absolute(text, to, &berlin).map(|at| at.0 / 1_000_000);
        let five = Some(1_487_275_500);
        for text in [
            "1487275500",
            "2017-02-16T20:05:00Z",
            "2017-02-16T20:05Z",
            "2017-02-16 21:05:00+01:00",
            "2017-02-16T21:05:00",
            "2017-02-16 21:05",
            "21:05",
            "21:05:00",
        ] {
            assert_eq!(read(text), five, "{text}");
        }
        assert_eq!(read("2017-02-16"), Some(1_487_199_600));
        for nonsense in ["", "soon", "25:00", "2017-02-30", "NaN", "1e99"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_window_lies_in_the_recording() {
        let (from, to) = (Timestamp(1_000_000_000), Timestamp(4_600_000_000));
        let of = |since, until| window(since, until, from, to).map_err(|it| (it.code, it.message, it.hint));
        assert_eq!(of(None, None), Ok(Window { since: from, until: to }));
        let last = Window { since: Timestamp(4_000_000_000), until: Timestamp(4_540_000_000) };
        assert_eq!(of(Some("10m"), Some("1m")), Ok(last));
        assert_eq!(of(Some("7d"), None), Ok(Window { since: from, until: to }));
        for (since, until, words) in [
            (Some("1m"), Some("10m"), "is after"),
            (Some("99"), None, "outside the recording"),
            (None, Some("5000"), "outside the recording"),
            (Some("soon"), None, "is no time"),
        ] {
            let (code, message, hint) = of(since, until).expect_err(words);
            assert!(code == 2 && message.contains(words) && hint.is_some(), "{message}");
        }
        // Whoever copies a time without its fraction means that one.
        assert_eq!(of(Some("999.5"), None), Ok(Window { since: from, until: to }));
    }
}
