//! How right the verdict is, on labelled series and lifetimes: a floor under each figure.
//!
//! `tests/fixtures/corpus` tells where they come from. `benches/verdict.py` prints the same figures beside other methods'.

use crate::act::{Folder, Run, has, skip};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::{Path, PathBuf};

/// What the verdict on labelled series comes to.
#[derive(Default)]
struct SeriesScore {
    found: f64,
    missed: f64,
    false_alarms: f64,
    passed: f64,
    /// Wrong verdicts and verdicts of each class without a leak.
    healthy: BTreeMap<String, (f64, f64)>,
    /// Distance of each onset that was found, as a share of the span; 1 where none was told.
    onset_errors: Vec<f64>,
    /// Distance of each rate that was found, as a share of the true one.
    rate_errors: Vec<f64>,
    covered: f64,
}

impl SeriesScore {
    fn precision(&self) -> f64 {
        self.found / (self.found + self.false_alarms).max(1.0)
    }

    fn recall(&self) -> f64 {
        self.found / (self.found + self.missed).max(1.0)
    }

    fn false_alarm_share(&self) -> f64 {
        self.false_alarms / (self.false_alarms + self.passed).max(1.0)
    }

    fn worst_class(&self) -> f64 {
        self.healthy.values().map(|(wrong, all)| wrong / all).fold(0.0, f64::max)
    }

    fn coverage(&self) -> f64 {
        self.covered / (self.rate_errors.len() as f64).max(1.0)
    }
}

impl Display for SeriesScore {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "precision {:.3} recall {:.3} F1 {:.3} false alarms {:.3}, worst class {:.2}; \
             onset {:.3} of the span, rate {:.3}, interval covers {:.3}",
            self.precision(),
            self.recall(),
            f1(self.precision(), self.recall()),
            self.false_alarm_share(),
            self.worst_class(),
            median(&self.onset_errors),
            median(&self.rate_errors),
            self.coverage()
        )
    }
}

fn f1(precision: f64, recall: f64) -> f64 {
    2.0 * precision * recall / (precision + recall).max(1e-9)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Unpacks one of the corpora; tells its folder.
fn unpacked(name: &str, folder: &Folder) -> PathBuf {
    let archive = format!("{}/tests/fixtures/corpus/{name}.tar.xz", env!("CARGO_MANIFEST_DIR"));
    Run::program("tar", ["xJf", &archive, "-C"]).file(folder.path()).done().ok();
    folder.file(name)
}

/// The rows of a CSV with a header, each by the names of its columns. No field here is quoted.
fn rows(file: &Path) -> Vec<BTreeMap<String, String>> {
    let text = fs::read_to_string(file).unwrap();
    let mut lines = text.lines();
    let header: Vec<String> = lines.next().unwrap().split(',').map(Into::into).collect();
    lines.map(|line| header.iter().cloned().zip(line.split(',').map(Into::into)).collect()).collect()
}

/// What `show -o jsonl` says of each file, all judged by one call, in their order.
fn judged(files: &[PathBuf]) -> Vec<Value> {
    let done = Run::it("show -o jsonl").files(files).done().ok();
    let reports: Vec<Value> = done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(reports.len(), files.len(), "{}", done.err);
    for (report, file) in reports.iter().zip(files) {
        assert_eq!(Path::new(report["file"].as_str().unwrap()), file);
    }
    reports
}

fn scored(name: &str) -> SeriesScore {
    let folder = Folder::new();
    let corpus = unpacked(name, &folder);
    let labels = rows(&corpus.join("labels.csv"));
    let files: Vec<PathBuf> = labels.iter().map(|label| corpus.join(format!("{}.csv", label["name"]))).collect();
    let mut score = SeriesScore::default();
    for (label, report) in labels.iter().zip(judged(&files)) {
        let verdict = &report["verdict"];
        let (is_leak, said) = (label["leak"] == "1", verdict["kind"] == "leak");
        match (is_leak, said) {
            (true, true) => score.found += 1.0,
            (true, false) => score.missed += 1.0,
            (false, true) => score.false_alarms += 1.0,
            (false, false) => score.passed += 1.0,
        }
        if !is_leak {
            let class = score.healthy.entry(label["class"].clone()).or_default();
            *class = (class.0 + f64::from(u8::from(said)), class.1 + 1.0);
        } else if said {
            let span = report["to"].as_f64().unwrap() - report["from"].as_f64().unwrap();
            let onset: f64 = label["onset_ts"].parse().unwrap();
            score.onset_errors.push(verdict["since"].as_f64().map_or(1.0, |since| (since - onset).abs() / span));
            let truth: f64 = label["rate_per_hour"].parse().unwrap();
            score.rate_errors.push(verdict["rate_per_hour"].as_f64().map_or(1.0, |rate| (rate - truth).abs() / truth));
            let interval = verdict["rate_low"].as_f64().zip(verdict["rate_high"].as_f64());
            score.covered += f64::from(u8::from(interval.is_some_and(|(low, high)| (low..=high).contains(&truth))));
        }
    }
    score
}

/// The floors under one labelled set: the same under each.
fn holds(score: &SeriesScore) {
    let (precision, recall) = (score.precision(), score.recall());
    assert!(precision >= 0.97 && recall >= 0.92 && f1(precision, recall) >= 0.95, "{score}");
    assert!(score.false_alarm_share() <= 0.02 && score.worst_class() <= 0.10, "{score}");
    assert!(median(&score.onset_errors) <= 0.06 && median(&score.rate_errors) <= 0.09, "{score}");
    assert!((0.92..=0.98).contains(&score.coverage()), "{score}");
}

/// True where what unpacks the corpora is there.
fn can_unpack() -> bool {
    has("tar") && has("xz")
}

#[test]
fn the_first_set_of_simulated_series() {
    if !can_unpack() {
        skip!("tar and xz unpack the corpora");
    }
    holds(&scored("series-a"));
}

#[test]
fn the_second_set_of_simulated_series() {
    if !can_unpack() {
        skip!("tar and xz unpack the corpora");
    }
    holds(&scored("series-b"));
}

#[test]
fn the_third_set_of_simulated_series() {
    if !can_unpack() {
        skip!("tar and xz unpack the corpora");
    }
    holds(&scored("series-c"));
}

#[test]
fn real_loads_hold_no_leak() {
    if !can_unpack() {
        skip!("tar and xz unpack the corpora");
    }
    let score = scored("real");
    assert_eq!((score.false_alarms, score.passed), (0.0, 22.0), "{score}");
}

#[test]
fn connections_that_are_never_closed() {
    if !can_unpack() {
        skip!("tar and xz unpack the corpora");
    }
    let folder = Folder::new();
    let corpus = unpacked("lifetimes", &folder);
    let mut cases: Vec<PathBuf> = fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|case| case.is_dir());
    cases.sort();
    let files: Vec<PathBuf> = cases.iter().map(|case| case.join("events.csv")).collect();
    let (mut found, mut missed, mut wrong) = (0.0, 0.0, 0.0);
    let (mut clean, mut flagged, mut chatty, mut chatty_found) = (0.0, 0.0, 0.0, 0.0);
    for (case, report) in cases.iter().zip(judged(&files)) {
        let leaked: BTreeMap<String, String> = rows(&case.join("leaked.csv"))
            .into_iter()
            .map(|row| (row["conn_id"].clone(), row["kind"].clone()))
            .collect();
        let mut said = Vec::new();
        for resource in report["resources"].as_array().unwrap().iter().filter(|it| it["leaked"] == true) {
            said.push(resource["id"].as_str().unwrap().to_owned());
        }
        let right = said.iter().filter(|id| leaked.contains_key(*id)).count() as f64;
        found += right;
        wrong += said.len() as f64 - right;
        missed += leaked.len() as f64 - right;
        let talks = |id: &String| leaked.get(id).is_some_and(|kind| kind == "chatty");
        chatty += leaked.keys().filter(|id| talks(id)).count() as f64;
        chatty_found += said.iter().filter(|id| talks(id)).count() as f64;
        if leaked.is_empty() {
            clean += 1.0;
            flagged += f64::from(u8::from(!said.is_empty()));
        }
    }
    let (precision, recall) = (found / (found + wrong), found / (found + missed));
    let figures = format!(
        "lifetimes: precision {precision:.3} recall {recall:.3} F1 {:.3}, chatty found {chatty_found} of {chatty}, \
         clean cases flagged {flagged} of {clean}",
        f1(precision, recall)
    );
    assert!(cases.len() == 60 && clean > 10.0, "{figures}");
    assert!(precision >= 0.98 && recall >= 0.90 && f1(precision, recall) >= 0.94, "{figures}");
    assert!(chatty_found / chatty >= 0.80 && flagged / clean <= 1.0 / 12.0, "{figures}");
}
