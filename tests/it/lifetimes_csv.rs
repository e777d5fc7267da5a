//! A CSV of lifetimes wherever a recording is accepted; many files at once; what was said when.

use crate::act::{Folder, Run, leaked_of, shown};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

const HEAD: &str = "conn_id,opened_ts,closed_ts,remote,bytes_sent,last_activity_ts\n";

/// Two hours of a service: a query a second that takes up to four, and every two minutes one that is never closed.
fn service(folder: &Folder) -> PathBuf {
    let mut text = HEAD.to_owned();
    for second in 0..7_200 {
        let opened = 1_487_279_164 + second;
        let closed = opened + 1 + second % 4;
        if second % 120 == 7 {
            writeln!(text, "leak-{second},{opened}.5,,10.0.0.5:5432,96,{opened}.75").unwrap();
        }
        writeln!(text, "{second},{opened},{closed}.25,10.0.0.5:5432,312,{closed}.25").unwrap();
    }
    folder.with("events.csv", text)
}

fn ids(report: &Value) -> BTreeSet<&str> {
    leaked_of(report).iter().map(|it| it["id"].as_str().unwrap()).collect()
}

/// All but the file's name.
fn facts(mut report: Value) -> Value {
    report.as_object_mut().unwrap().remove("file");
    report
}

#[test]
fn the_leaked_ones_are_named_as_the_file_names_them() {
    let folder = Folder::new();
    let file = service(&folder);
    let report = shown(&file);
    assert_eq!(
        (&report["verdict"]["kind"], &report["target"]),
        (&"leak".into(), &Value::Null),
        "{:#}",
        report["verdict"]
    );
    let leaked = ids(&report);
    assert!(leaked.len() >= 55 && leaked.iter().all(|id| id.starts_with("leak-")), "{leaked:?}");
    let evidence = report["verdict"]["evidence"].as_array().unwrap();
    assert_eq!(evidence.iter().map(|id| id.as_str().unwrap()).collect::<BTreeSet<_>>(), leaked);
    let rate = report["verdict"]["rate_per_hour"].as_f64().unwrap();
    assert!((27.0..33.0).contains(&rate), "{rate}");
    assert_eq!(report["closed_total"], 7_200);
    let names: Vec<_> = report["series"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["connections", "connections:10.0.0.5:5432"]);
    let text = Run::new(["show"]).file(&file).done().ok().says(&["● LEAK", "ID", "leak-7"]).out;
    assert!(!text.contains("was judged"), "{text}");
    let explained = Run::it("show --explain").file(&file).done().ok();
    explained.says(&["How tcp 10.0.0.5:5432 was judged: leak\n   1. ", "by their ids: leak-7, "]);
    Run::it("show --fail-on-leak").file(&file).done().code(3);
}

#[test]
fn its_series_is_what_was_open_at_each_tick() {
    let folder = Folder::new();
    let points = Run::it("show -o csv").file(&service(&folder)).done().ok().points();
    assert!(points.len() > 2_000 && points.windows(2).all(|pair| pair[0].0 < pair[1].0));
    // Some four healthy ones at any time, and all that leaked by then.
    for (at, count) in &points[8..] {
        let leaked = ((at - 1_487_279_164.0 - 7.5) / 120.0).floor() + 1.0;
        assert!((leaked..=leaked + 5.0).contains(count), "{count} at {at}, where {leaked} had leaked");
    }
}

#[test]
fn packed_piped_or_imported_it_says_the_same() {
    let folder = Folder::new();
    let file = service(&folder);
    let expected = facts(shown(&file));
    Run::shell(&format!("gzip -k {}", file.display())).done().ok();
    assert_eq!(facts(shown(&folder.file("events.csv.gz"))), expected);
    let piped = Run::shell(&format!("$unclosed show -o json /dev/stdin <{}", file.display())).done().ok().json();
    assert_eq!(facts(piped), expected);
    let recording = folder.file("r.unclosed");
    Run::it("import").file(&file).output(&recording).done().ok().says(&["● LEAK"]);
    assert_eq!(facts(shown(&recording)), expected);
    assert!(!folder.file("r.unclosed-wal").exists());
    let page = folder.file("page.html");
    for source in [&file, &recording] {
        Run::it("view --html").file(&page).file(source).done().ok();
        let html = std::fs::read_to_string(&page).unwrap();
        assert!(html.contains("leak-7") && html.contains("connections:10.0.0.5:5432"), "{}", html.len());
    }
}

#[test]
fn a_window_of_it_holds_what_was_open_then() {
    let folder = Folder::new();
    let file = service(&folder);
    let until = Run::it("show -o json --until 1487282764").file(&file).done().ok().json();
    assert_eq!(until["verdict"]["kind"], "leak", "{:#}", until["verdict"]);
    assert!((26..=30).contains(&ids(&until).len()), "{:?}", ids(&until));
}

#[test]
fn what_is_wrong_in_it_is_told_with_the_lines_number() {
    let folder = Folder::new();
    let file = folder.with("e.csv", format!("{HEAD}1,10,20,x:1,1,15\n2,30,20,x:1,1,15\nthree\n"));
    let notes = shown(&file)["notes"].to_string();
    assert!(notes.contains("line 3 skipped: it was closed before") && notes.contains("line 4 skipped"), "{notes}");
    let lacking = folder.with("l.csv", "conn_id,opened_ts,remote\n1,10,x:1\n");
    Run::new(["show"]).file(&lacking).done().fails(1, &["no column closed_ts", "conn_id,opened_ts,closed_ts"]);
}

/// A log of an hour that rises by so many in all.
fn log(folder: &Folder, name: &str, rise: u32) -> PathBuf {
    let line = |tick: u32| {
        format!("{},{}\n", 1_487_279_164 + 5 * tick, 20 + rise * tick / 720 + [0, 2, 1, 3][tick as usize % 4])
    };
    folder.with(name, (0..720).map(line).collect::<String>())
}

#[test]
fn many_files_come_in_their_order_and_one_that_fails_stops_none() {
    let folder = Folder::new();
    let mut files: Vec<PathBuf> = (0..60).map(|n| log(&folder, &format!("{n}.csv"), n % 2 * 200)).collect();
    files.insert(30, folder.file("gone.csv"));
    let done = Run::it("show -o jsonl").files(&files).done().code(1).complains(&["gone.csv", "fix: "]);
    let reports: Vec<Value> = done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let name = |path: &Path| path.display().to_string();
    let expected: Vec<String> = files.iter().filter(|path| path.exists()).map(|path| name(path)).collect();
    assert_eq!(reports.iter().map(|it| it["file"].as_str().unwrap().to_owned()).collect::<Vec<_>>(), expected);
    for (number, report) in reports.iter().enumerate() {
        let kind = if number % 2 == 1 { "leak" } else { "clean" };
        assert_eq!(report["verdict"]["kind"], kind, "{}", report["file"]);
    }
    files.remove(30);
    // Each says what it says alone.
    let alone = Run::it("show -o jsonl").file(&files[7]).done().ok().out;
    assert!(done.out.contains(&alone));
    Run::it("show -o jsonl --fail-on-leak").files(&files).done().code(3);
    let text = Run::new(["show"]).files(&files[..3]).done().ok().out;
    let heads: Vec<&str> = text.lines().filter(|line| line.starts_with("== ")).collect();
    assert_eq!(heads, files[..3].iter().map(|path| format!("== {}", name(path))).collect::<Vec<_>>());
    // Whoever has read enough ends it quietly.
    let cut = format!("$unclosed show -o jsonl {}/*.csv | head -n 1 | wc -l", folder.path().display());
    assert_eq!(Run::shell(&cut).done().ok().out.trim(), "1");
}

#[test]
fn what_was_said_when_is_in_the_recording() {
    let folder = Folder::new();
    let file = folder.file("r.unclosed");
    let number = folder.with("number", "1\n");
    let metric = format!("command:cat {}", number.display());
    let arguments = ["record", "--every", "50ms", "--for", "3s", "--metric", &metric];
    let said = Run::new(arguments).output(&file).done().ok();
    let report = shown(&file);
    let history = report["verdict"]["history"].as_array().unwrap();
    let times: Vec<f64> = history.iter().map(|change| change["at"].as_f64().unwrap()).collect();
    assert!(!times.is_empty() && times.is_sorted(), "{history:?}");
    assert!(times.iter().all(|at| (report["from"].as_f64().unwrap()..=report["to"].as_f64().unwrap()).contains(at)));
    // The last entry is the verdict that was printed at the end.
    assert_eq!(history[history.len() - 1]["kind"], report["verdict"]["kind"]);
    assert!(said.err.contains(report["verdict"]["kind"].as_str().unwrap()), "{}", said.err);
}
