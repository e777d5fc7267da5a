//! Judged statements.

use super::Timestamp;
use serde::{Deserialize, Serialize};

/// What a finding says, surest danger first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Something is opened and not closed, on and on.
    Leak,
    /// A pool is drained to its maximum: no growth any more, and nothing left to use.
    Plateau,
    /// Looked at long enough, and it does not leak.
    Clean,
    /// Not seen enough yet to say either.
    Undecided,
}

impl Verdict {
    /// Reads the word; one of a later version is undecided.
    pub fn parse(word: &str) -> Verdict {
        match word {
            "leak" => Verdict::Leak,
            "plateau" => Verdict::Plateau,
            "clean" => Verdict::Clean,
            _ => Verdict::Undecided,
        }
    }

    /// The word that JSON and the text have for it.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Leak => "leak",
            Verdict::Plateau => "plateau",
            Verdict::Clean => "clean",
            Verdict::Undecided => "undecided",
        }
    }
}

/// How fast it leaks, per hour, in the unit of its series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// The best guess.
    pub per_hour: f64,
    /// It is at least this, in 97.5 of 100 cases.
    pub low: f64,
    /// It is at most this, in 97.5 of 100 cases.
    pub high: f64,
}

/// When a limit is reached if nothing changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exhaustion {
    /// The limit's value.
    pub limit: f64,
    /// The limit's usual name.
    pub name: String,
    /// At the best guess of the rate.
    pub at: Timestamp,
    /// At the highest rate of its interval.
    pub earliest: Timestamp,
    /// At the lowest; `None` where that one never reaches it.
    pub latest: Option<Timestamp>,
}

/// A judged statement with its evidence. Serialised it is the object of the JSON's `findings`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What it says.
    pub kind: Verdict,
    /// The same for a person, with its numbers and its reason.
    pub sentence: String,
    /// What it is about: `tcp 127.0.0.1:5432`, or a series' name.
    pub subject: String,
    /// The series it was read from; `None` where lifetimes tell.
    pub series: Option<String>,
    /// Since when it leaks.
    pub since: Option<Timestamp>,
    /// How fast, per hour.
    pub rate_per_hour: Option<f64>,
    /// The lower end of the rate's 95% interval.
    pub rate_low: Option<f64>,
    /// Its upper end.
    pub rate_high: Option<f64>,
    /// The probability that the statement is true.
    pub confidence: Option<f64>,
    /// The limit that is reached first.
    pub exhausts: Option<Exhaustion>,
    /// The code that opened most of the leaked ones, as `report_export (app.py:88)`; `None` where no code opened most of them.
    #[serde(default)]
    pub opener: Option<String>,
    /// The code that used most of them last, likewise.
    #[serde(default)]
    pub last_use: Option<String>,
    /// The leaked resources, by their ids in `resources`.
    pub evidence: Vec<String>,
    /// The steps that led to it, each with its figures.
    pub steps: Vec<String>,
}

impl Finding {
    /// A statement with nothing but its sentence.
    pub fn new(kind: Verdict, subject: impl Into<String>, sentence: impl Into<String>) -> Self {
        Finding {
            kind,
            sentence: sentence.into(),
            subject: subject.into(),
            series: None,
            since: None,
            rate_per_hour: None,
            rate_low: None,
            rate_high: None,
            confidence: None,
            exhausts: None,
            opener: None,
            last_use: None,
            evidence: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// The same with its rate.
    pub fn with_rate(mut self, rate: Rate) -> Self {
        self.rate_per_hour = Some(rate.per_hour);
        self.rate_low = Some(rate.low);
        self.rate_high = Some(rate.high);
        self
    }
}
