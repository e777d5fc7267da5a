//! Moments, in whole microseconds since the Unix epoch.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment: microseconds since the Unix epoch. JSON has it as Unix seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The moment `seconds` after the epoch; beyond what 64 bits hold it is clamped.
    pub fn from_seconds(seconds: f64) -> Self {
        Timestamp((seconds * 1e6).round() as i64)
    }

    /// Unix seconds, exact to the microsecond for times of this millennium.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Seconds from `earlier` to this moment, negative where it comes later.
    pub fn seconds_since(self, earlier: Timestamp) -> f64 {
        (self.0 - earlier.0) as f64 / 1e6
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;
    fn add(self, length: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::try_from(length.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;
    fn sub(self, length: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(i64::try_from(length.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.seconds())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer).map(Timestamp::from_seconds)
    }
}

/// A length of time for people, in its two largest units: `250 ms`, `45 s`, `12 min`, `2 h 03 min`, `2.9 days`.
pub fn duration_words(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    if seconds > 0.0 && seconds < 0.95 {
        format!("{:.0} ms", (seconds * 1000.0).max(1.0))
    } else if seconds < 10.0 {
        let tenths = (seconds * 10.0).round() / 10.0;
        format!("{tenths} s")
    } else if seconds < 120.0 {
        format!("{seconds:.0} s")
    } else if seconds < 7_200.0 {
        format!("{:.0} min", seconds / 60.0)
    } else if seconds < 172_800.0 {
        let minutes = (seconds / 60.0).round() as u64;
        format!("{} h {:02} min", minutes / 60, minutes % 60)
    } else if seconds < 86_400.0 * 730.0 {
        format!("{:.1} days", seconds / 86_400.0)
    } else {
        format!("{:.0} years", seconds / (86_400.0 * 365.25))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_told_in_units_that_fit_it() {
        let told: Vec<String> = [0.25, 5.04, 44.6, 754.0, 7380.0, 250_560.0, 1e9].map(duration_words).into();
        assert_eq!(told, ["250 ms", "5 s", "45 s", "13 min", "2 h 03 min", "2.9 days", "32 years"]);
    }

    #[test]
    fn microseconds_survive_unix_seconds() {
        let moment = Timestamp(1_795_457_048_123_457);
        assert_eq!(Timestamp::from_seconds(moment.seconds()), moment);
    }
}
