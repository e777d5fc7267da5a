//! What was found, in one sentence: how fast, on what, for how long, why, and when it breaks.

use super::series::Judgement;
use super::survivors::{GroupJudgement, Survivors};
use crate::model::{Exhaustion, Group, Kind, Rate, Timestamp, Unit, Verdict, duration_words};

/// A group's name: `tcp 127.0.0.1:5432`, `file /var/log`, `eventfd`.
pub(super) fn subject_of(group: &Group) -> String {
    format!("{} {}", group.kind, group.endpoint).trim_end().to_owned()
}

/// About one group of lifetimes.
pub(super) fn of_group(found: &GroupJudgement, exhausts: Option<&Exhaustion>, at: Timestamp) -> String {
    let subject = subject_of(&found.group);
    let things = things(found.group.kind);
    let (count, open) = (found.leaked.len(), found.open);
    let reason = reason(found);
    let ago = |since: Timestamp| duration_words(at.seconds_since(since));
    match (found.kind, found.stopped, found.since) {
        (Verdict::Leak, Some(stopped), since) => format!(
            "{count} of {open} open {things} on {subject} were left open{}, and none in the last {}: they {reason}. {REFUTED}",
            since.map(|since| format!(", the first {} ago", ago(since))).unwrap_or_default(),
            ago(stopped),
        ),
        (Verdict::Leak, None, since) => format!(
            "{} on {subject}{}: {count} of {open} open {things} {reason}{}. {REFUTED}",
            found.rate.as_ref().map_or_else(|| "leak".into(), |rate| speed(rate, Unit::Count)),
            since.map(|since| format!(" for {}", ago(since))).unwrap_or_default(),
            until(exhausts, at),
        ),
        (Verdict::Plateau, ..) => format!(
            "{subject} looks drained: all {open} {things} are silent for {} or longer, each opened while earlier ones lay \
             idle, none was opened since, and the target works on. One that is used again refutes it",
            duration_words(found.shortest_silence_seconds.unwrap_or(0.0)),
        ),
        _ => format!(
            "{subject}: {} of {open} open {things} {reason}, but {}",
            found.suspects,
            found.doubt.as_deref().unwrap_or("there are few"),
        ),
    }
}

/// What ends the suspicion, for whoever looks on.
const REFUTED: &str = "They are none if they are closed after all or used again";

/// The same with a further clause, before what refutes it.
pub(super) fn with_clause(sentence: &str, clause: &str) -> String {
    let mut clause = clause.to_owned();
    if let Some(first) = clause.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    match sentence.strip_suffix(REFUTED) {
        Some(before) => format!("{before}{clause}. {REFUTED}"),
        None => format!("{sentence}. {clause}"),
    }
}

/// Why the open ones stand out.
fn reason(found: &GroupJudgement) -> String {
    let closed = found.closed;
    let silence =
        found.longest_silence_seconds.map(|silence| format!("are silent for up to {}", duration_words(silence)));
    let lasting =
        || silence.clone().unwrap_or_else(|| format!("are open for up to {}", duration_words(found.oldest_seconds)));
    match (found.longest_closed_silence_seconds, found.longest_closed_seconds) {
        (Some(longest), _) if closed > 0 && silence.is_some() => {
            format!(
                "{}, none of the {closed} that were closed was for more than {}",
                lasting(),
                duration_words(longest)
            )
        }
        (None, Some(longest)) if closed > 0 => {
            format!("outlived all {closed} that were closed (longest {}) and {}", duration_words(longest), lasting())
        }
        _ if closed > 0 => format!("{}, with {closed} closed", lasting()),
        _ => format!("came one after another with none ever closed, and {}", lasting()),
    }
}

/// About one series.
pub(super) fn of_series(
    name: &str,
    unit: Unit,
    found: &Judgement,
    exhausts: Option<&Exhaustion>,
    at: Timestamp,
) -> String {
    match (found.kind, &found.rate, found.since) {
        (Verdict::Leak, Some(rate), Some(since)) => {
            let seconds = at.seconds_since(since);
            let risen = rate.per_hour * seconds / 3_600.0;
            format!(
                "{} in {name} for {}: {}, by {} so far; giving half of that back would refute it{}",
                speed(rate, unit),
                duration_words(seconds),
                found.reason,
                amount(risen, unit),
                until(exhausts, at)
            )
        }
        (Verdict::Clean, ..) => format!("no leak in {name}: {}", found.reason),
        _ => format!("{name} can't be told yet: {}", found.reason),
    }
}

/// About all lifetimes where none is leaked.
pub(super) fn of_clean(survivors: &Survivors) -> String {
    let watch = duration_words(survivors.watch_seconds);
    match survivors.longest_closed_seconds {
        Some(longest) => format!(
            "no leak in {watch}: {} were opened and closed (longest {}), and the {} that are open do not stand out",
            survivors.closed,
            duration_words(longest),
            survivors.open
        ),
        None => format!("no leak in {watch}: nothing was closed, and nothing goes on being opened"),
    }
}

fn until(exhausts: Option<&Exhaustion>, at: Timestamp) -> String {
    exhausts.map_or_else(String::new, |exhausts| {
        format!(
            "; {} ({}) is reached in {}",
            exhausts.name,
            exhausts.limit,
            duration_words(exhausts.at.seconds_since(at))
        )
    })
}

/// `+14/h (10 to 19)`, `+3.2 MB/h (2.9 to 3.5)`; by the second, minute or day where that has the handier digits.
fn speed(rate: &Rate, unit: Unit) -> String {
    let (share, per) = match (unit, rate.per_hour.abs()) {
        (Unit::Count, 3_000.0..) => (1.0 / 3_600.0, "s"),
        (Unit::Count, 200.0..) => (1.0 / 60.0, "min"),
        (_, fast) if fast < 0.5 => (24.0, "day"),
        _ => (1.0, "h"),
    };
    let (scale, name) = match unit {
        Unit::Count | Unit::Seconds => (1.0, ""),
        Unit::Bytes => scale_of(rate.per_hour * share),
    };
    let told = |value: f64| two_digits(value * share / scale);
    format!("+{}{name}/{per} ({} to {})", told(rate.per_hour), told(rate.low), told(rate.high))
}

/// `41`, `3.2 MB`.
fn amount(value: f64, unit: Unit) -> String {
    let (scale, name) = match unit {
        Unit::Count | Unit::Seconds => (1.0, ""),
        Unit::Bytes => scale_of(value),
    };
    format!("{}{name}", two_digits(value / scale))
}

fn scale_of(bytes: f64) -> (f64, &'static str) {
    match bytes.abs() {
        1e9.. => (1e9, " GB"),
        1e6.. => (1e6, " MB"),
        1e3.. => (1e3, " kB"),
        _ => (1.0, " B"),
    }
}

/// Two digits that count, all those before the point: `0.80`, `1.0`, `14`, `215`.
fn two_digits(value: f64) -> String {
    let magnitude = |value: f64| if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    // 0.998 is 1.0: its magnitude is that of what it's rounded to.
    let unit = 10f64.powi(magnitude(value) - 1);
    let digits = (1 - magnitude((value / unit).round() * unit)).clamp(0, 9);
    format!("{value:.*}", digits as usize)
}

fn things(kind: Kind) -> String {
    match kind {
        Kind::Tcp | Kind::Udp | Kind::Unix => "connections".into(),
        Kind::Inotify => "inotify descriptors".into(),
        Kind::Directory => "directories".into(),
        Kind::Pipe | Kind::File | Kind::Socket | Kind::Eventfd | Kind::Timerfd | Kind::Memfd => format!("{kind}s"),
        other => format!("{other} descriptors"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(per_hour: f64, unit: Unit) -> String {
        speed(&Rate { per_hour, low: per_hour * 0.8, high: per_hour * 1.2 }, unit)
    }

    #[test]
    fn a_rate_has_the_digits_and_the_time_that_fit_it() {
        assert_eq!(told(14.2, Unit::Count), "+14/h (11 to 17)");
        assert_eq!(told(3_600.0, Unit::Count), "+1.0/s (0.80 to 1.2)");
        assert_eq!(two_digits(0.998), "1.0");
        assert_eq!(told(0.1, Unit::Count), "+2.4/day (1.9 to 2.9)");
        assert_eq!(told(3.2e6, Unit::Bytes), "+3.2 MB/h (2.6 to 3.8)");
    }
}
