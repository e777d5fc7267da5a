//! `show --explain`: how each finding came about, step by step, and what was said before.

use super::table::{self, Align, printable};
use super::text::{figures, moment};
use crate::model::{Finding, Report};
use std::io::{self, Write};

/// Resources that are named as evidence; `show --leaked` has all.
const EVIDENCE_SHOWN: usize = 12;

/// The steps of all findings in their order, then the verdicts as they changed.
pub(super) fn write(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    for (place, finding) in report.judged.findings.iter().enumerate() {
        writeln!(out, "\nHow {} was judged: {}", printable(&finding.subject), finding.kind.word())?;
        for (number, step) in finding.steps.iter().enumerate() {
            writeln!(out, "  {:>2}. {}", number + 1, printable(step))?;
        }
        // What the first of them says stands at the top.
        if place > 0 {
            writeln!(out, "   => {}", printable(&finding.sentence))?;
            figures(out, finding)?;
        }
        evidence(out, finding)?;
    }
    history(out, report)
}

fn evidence(out: &mut dyn Write, finding: &Finding) -> io::Result<()> {
    if finding.evidence.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = finding.evidence.iter().take(EVIDENCE_SHOWN).map(|id| printable(id)).collect();
    let more = finding.evidence.len() - ids.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    writeln!(out, "       by their ids: {}{more}", ids.join(", "))
}

fn history(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    if report.history.len() < 2 {
        return Ok(());
    }
    writeln!(out, "\nWhat was said when")?;
    let row = |change: &crate::model::VerdictChange| {
        vec![moment(change.at), change.kind.word().to_owned(), change.sentence.clone()]
    };
    let rows: Vec<Vec<String>> = report.history.iter().map(row).collect();
    table::write(out, &[("FROM", Align::Left), ("VERDICT", Align::Left), ("WHY", Align::Left)], &rows, 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Rate, Timestamp, Verdict, VerdictChange};

    #[test]
    fn every_finding_has_its_steps_and_its_figures() {
        let leak = Finding {
            steps: vec!["51 open, 48 closed".into(), "left alone for up to 9 min".into()],
            evidence: (0..20).map(|id| format!("c{id}")).collect(),
            ..Finding::new(Verdict::Leak, "tcp 10.0.0.5:5432", "the first")
        };
        let rises = Finding {
            since: Some(Timestamp(0)),
            steps: vec!["720 samples over 60 min".into()],
            ..Finding::new(Verdict::Leak, "memory", "the second")
        };
        let mut report = Report::default();
        report.judged.findings = vec![leak, rises.with_rate(Rate { per_hour: 14.0, low: 10.0, high: 19.0 })];
        let change = |at, kind| VerdictChange { at: Timestamp(at), kind, sentence: "so far".into() };
        report.history = vec![change(0, Verdict::Undecided), change(60_000_000, Verdict::Leak)];
        let mut out = Vec::new();
        write(&mut out, &report).expect("memory takes it");
        let out = String::from_utf8(out).expect("text");
        let expected = [
            "How tcp 10.0.0.5:5432 was judged: leak\n   1. 51 open, 48 closed\n   2. left alone for up to 9 min\n",
            "       by their ids: c0, c1, ",
            "c11 and 8 more\n",
            "How memory was judged: leak\n   1. 720 samples over 60 min\n   => the second\n       since ",
            ", 14 an hour (10 to 19)\n",
            "What was said when\n  FROM",
            "undecided  so far\n",
        ];
        for part in expected {
            assert!(out.contains(part), "no {part:?} in:\n{out}");
        }
        assert!(!out.contains("the first"), "{out}");
    }
}
