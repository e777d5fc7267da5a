//! The processes of the machine in the order in which they are worth a look: a table, JSON, CSV.

use super::json::{SCHEMA, seconds};
use super::table::{self, Align};
use crate::analyse::{Ranked, Reason};
use crate::model::{Cost, Timestamp, duration_words};
use serde_json::{Value, json};
use std::io::{self, Write};

/// One pass over the machine, ranked.
#[derive(Clone, Debug)]
pub struct Top {
    /// When it was taken.
    pub at: Timestamp,
    /// When the first one was.
    pub since: Timestamp,
    /// A connection is silent after so long.
    pub silent_longer_than_seconds: f64,
    /// Every process, what is worth a look first.
    pub ranked: Vec<Ranked>,
    /// How the machine was read, for a person.
    pub source: &'static str,
    /// What could not be seen, and why.
    pub notes: Vec<String>,
    /// What looking has cost.
    pub cost: Option<Cost>,
}

const COLUMNS: [(&str, Align); 10] = [
    ("PID", Align::Right),
    ("USER", Align::Left),
    ("COMMAND", Align::Left),
    ("FDS", Align::Right),
    ("LIMIT", Align::Right),
    ("CONNS", Align::Right),
    ("SILENT", Align::Right),
    ("CLOSE_WAIT", Align::Right),
    ("GROWTH", Align::Right),
    ("WHY", Align::Left),
];

const CSV_HEADING: &str = "unix_time,pid,name,user,command,started,descriptors,descriptor_limit,sockets,connections,\
    silent,close_wait,listening,growth_descriptors,growth_connections,score,reasons";

impl Top {
    /// The first `rows` processes, what the figures mean, and the command that looks closer. `program` is how we were called.
    pub fn text(&self, out: &mut dyn Write, rows: usize, program: &str) -> io::Result<()> {
        let shown = &self.ranked[..rows.min(self.ranked.len())];
        let cells: Vec<Vec<String>> = shown.iter().map(|it| self.cells(it)).collect();
        table::write(out, &COLUMNS, &cells, 0)?;
        let silence = duration_words(self.silent_longer_than_seconds);
        let processes = self.ranked.len();
        writeln!(out, "\n{} of {processes} processes; silent: longer than {silence}.", shown.len())?;
        if let Some(first) = shown.first() {
            writeln!(out, "Look closer: {program} watch -p {}", first.held.process.id.pid)?;
        }
        Ok(())
    }

    fn cells(&self, it: &Ranked) -> Vec<String> {
        let (process, holdings) = (&it.held.process, &it.held.holdings);
        // Unknown is blank, so that it isn't taken for none.
        let count = |count: Option<u64>| count.map(|it| it.to_string()).unwrap_or_default();
        vec![
            process.id.pid.to_string(),
            process.user.clone(),
            process.name.clone(),
            count(holdings.descriptors),
            count(it.held.descriptor_limit),
            count(holdings.connections),
            count(holdings.silent),
            count(holdings.close_wait),
            it.growth
                .descriptors
                .map(|it| if it == 0 { "0".to_owned() } else { format!("{it:+}") })
                .unwrap_or_default(),
            self.reasons(it).join(", "),
        ]
    }

    /// The reasons in words, the strongest first.
    fn reasons(&self, it: &Ranked) -> Vec<String> {
        let silence = duration_words(self.silent_longer_than_seconds);
        let words = |reason: &Reason| match reason {
            Reason::Limit { descriptors, limit } => format!("{descriptors} of {limit} descriptors"),
            Reason::CloseWait(count) => format!("{count} in CLOSE_WAIT"),
            Reason::Connections(count) => format!("+{count} connections that stayed"),
            Reason::Descriptors(count) => format!("+{count} descriptors that stayed"),
            Reason::Silent { silent, connections } => format!("{silent} of {connections} silent > {silence}"),
        };
        it.reasons.iter().map(words).collect()
    }

    /// The documented object, with the first `rows` processes.
    pub fn json(&self, rows: usize) -> Value {
        json!({
            "schema": SCHEMA,
            "at": self.at,
            "since": self.since,
            "source": self.source,
            "processes": self.ranked.iter().take(rows).map(|it| self.process(it)).collect::<Value>(),
            "notes": self.notes,
            "cost": self.cost.map(|cost| json!({
                "cpu_seconds": cost.cpu_seconds, "memory_bytes": cost.memory_bytes, "descriptors": cost.descriptors
            })),
        })
    }

    fn process(&self, it: &Ranked) -> Value {
        let (process, holdings) = (&it.held.process, &it.held.holdings);
        json!({
            "pid": process.id.pid,
            "name": process.name,
            "user": process.user,
            "command": process.command,
            "started": process.started,
            "descriptors": holdings.descriptors,
            "descriptor_limit": it.held.descriptor_limit,
            "sockets": holdings.sockets,
            "connections": holdings.connections,
            "silent": holdings.silent,
            "silent_longer_than_seconds": seconds(self.silent_longer_than_seconds),
            "close_wait": holdings.close_wait,
            "listening": holdings.listening,
            "growth": {"descriptors": it.growth.descriptors, "connections": it.growth.connections},
            "score": (it.score * 10.0).round() / 10.0,
            "reasons": self.reasons(it),
        })
    }

    /// A line a process, `heading` above the first pass; an unknown cell is empty.
    pub fn csv(&self, out: &mut dyn Write, rows: usize, heading: bool) -> io::Result<()> {
        fn cell<T: ToString>(value: Option<T>) -> String {
            value.map(|it| it.to_string()).unwrap_or_default()
        }
        if heading {
            writeln!(out, "{CSV_HEADING}")?;
        }
        for it in self.ranked.iter().take(rows) {
            let (process, holdings) = (&it.held.process, &it.held.holdings);
            let cells = [
                self.at.seconds().to_string(),
                process.id.pid.to_string(),
                process.name.clone(),
                process.user.clone(),
                process.command.clone(),
                process.started.seconds().to_string(),
                cell(holdings.descriptors),
                cell(it.held.descriptor_limit),
                cell(holdings.sockets),
                cell(holdings.connections),
                cell(holdings.silent),
                cell(holdings.close_wait),
                cell(holdings.listening),
                cell(it.growth.descriptors),
                cell(it.growth.connections),
                format!("{:.1}", it.score),
                self.reasons(it).join("; "),
            ];
            writeln!(out, "{}", cells.map(|cell| table::csv_cell(&cell)).join(","))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::Growth;
    use crate::model::{HoldingProcess, Process, ProcessHoldings, ProcessId};

    fn top() -> Top {
        let id = ProcessId { boot_id: "boot".into(), pid: 7, start_ticks: 1 };
        let process = Process {
            id,
            name: "a\u{1b}b".into(),
            command: "a, \"b\"".into(),
            uid: 0,
            user: "root".into(),
            started: Timestamp(2_000_000),
            ended: None,
        };
        let holdings = ProcessHoldings { pid: 7, descriptors: Some(912), ..ProcessHoldings::default() };
        let held = HoldingProcess { process, descriptor_limit: Some(1_024), holdings };
        let ranked = Ranked {
            held,
            growth: Growth { descriptors: Some(0), connections: None },
            reasons: vec![
                Reason::Limit { descriptors: 912, limit: 1_024 },
                Reason::Silent { silent: 80, connections: 93 },
            ],
            score: 78.125,
        };
        let notes = vec!["some are closed to us".to_owned()];
        let (at, since) = (Timestamp(9_000_000), Timestamp(4_000_000));
        let source = "a test";
        Top { at, since, silent_longer_than_seconds: 60.0, ranked: vec![ranked], source, notes, cost: None }
    }

    #[test]
    fn the_table_says_why_and_leaves_the_unknown_blank() {
        let mut out = Vec::new();
        top().text(&mut out, 20, "unclosed").expect("to memory");
        assert_eq!(
            String::from_utf8_lossy(&out),
            "PID  USER  COMMAND  FDS  LIMIT  CONNS  SILENT  CLOSE_WAIT  GROWTH  WHY\n  \
             7  root  a?b      912   1024                                  0  \
             912 of 1024 descriptors, 80 of 93 silent > 60 s\n\n\
             1 of 1 processes; silent: longer than 60 s.\nLook closer: unclosed watch -p 7\n"
        );
    }

    #[test]
    fn the_unknown_is_null_in_json_and_empty_in_csv() {
        let json = top().json(20);
        let process = &json["processes"][0];
        assert_eq!((&process["descriptors"], &process["sockets"]), (&json!(912), &Value::Null));
        assert_eq!(process["growth"], json!({"descriptors": 0, "connections": null}));
        assert_eq!(json["since"], 4.0);
        assert_eq!(top().json(0)["processes"], json!([]));
        let mut out = Vec::new();
        top().csv(&mut out, 20, true).expect("to memory");
        let text = String::from_utf8_lossy(&out).into_owned();
        let line = text.lines().nth(1).expect("a line");
        assert!(line.contains("\"a, \"\"b\"\"\",2,912,1024,,,,,,0,,78.1,"), "{line}");
    }
}
