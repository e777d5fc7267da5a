//! `show --since --until`: a stretch of a recording or a log is judged as if it were all there is.

use crate::act::{Folder, Run, leak_in, points, shown};
use crate::leakers::Churn;
use serde_json::Value;
use std::path::Path;

/// `show` of a window as JSON.
fn within(file: &Path, flags: &str) -> Value {
    Run::it(format!("show {flags} -o json")).file(file).done().ok().json()
}

/// A log of four hours, a line every 5 s: the first two hours are level, then a connection a minute leaks.
fn log(folder: &Folder) -> std::path::PathBuf {
    let line = |tick: u64| {
        let leaked = tick.saturating_sub(1440) / 12;
        format!("{},{}\n", 1_487_279_160 + 5 * tick, 20 + leaked + [0, 2, 1, 3][tick as usize % 4])
    };
    folder.with("count.log", (0..2880).map(line).collect::<String>())
}

#[test]
fn a_log_is_clean_before_it_leaks_and_a_leak_after() {
    let folder = Folder::new();
    let file = log(&folder);
    let before = within(&file, "--until 1487286000");
    assert_eq!(before["verdict"]["kind"], "clean", "{:#}", before["verdict"]);
    assert_eq!((&before["to"], &before["ticks"]), (&1_487_286_000.0.into(), &1369.into()));
    let after = within(&file, "--since 100m");
    assert_eq!(after["verdict"]["kind"], "leak", "{:#}", after["verdict"]);
    let rate = after["verdict"]["rate_per_hour"].as_f64().unwrap();
    assert!((50.0..70.0).contains(&rate), "{:#}", after["verdict"]);
    // The same stretch in the words of a clock, with and without an offset.
    let clock = Run::it("show -o json --until 21:00:00").file(&file).env("TZ", "UTC").done();
    assert!(clock.fails(2, &["outside the recording", "2017-02-1"]).out.is_empty());
    let of =
        |until: &str| Run::it(format!("show -o json --until {until}")).file(&file).env("TZ", "UTC").done().ok().json();
    for until in ["2017-02-16T23:00:00Z", "2017-02-17T00:00:00+01:00", "2017-02-16T23:00:00"] {
        assert_eq!(of(until)["to"], before["to"], "{until}");
    }
    let csv = Run::it("show -o csv --since 1487280000 --until 1487280060").file(&file).done().ok();
    assert_eq!(points(&csv.out).len(), 13);
    let explained = Run::it("show --explain --leaked --since 100m").file(&file).done().ok();
    explained.says(&["LEAK", "How value was judged", "only a part of the recording was judged"]);
    Run::it("show --fail-on-leak --since 100m").file(&file).done().code(3);
}

#[test]
fn a_window_of_nothing_is_an_error_with_the_range_there_is() {
    let folder = Folder::new();
    let file = log(&folder);
    for (flags, words) in [
        ("--since 10m --until 20m", "is after"),
        ("--since 1487279161 --until 1487279164", "no tick between"),
        ("--since 1487000000", "outside the recording"),
        ("--until 2031-01-01", "outside the recording"),
        ("--since soon", "is no time"),
    ] {
        let done = Run::it(format!("show {flags}")).file(&file).done();
        let known = if flags.contains("soon") { "10m" } else { "the recording is from 2017-02-1" };
        done.fails(2, &[words, known]);
    }
}

#[test]
fn a_stretch_of_a_recording_holds_what_was_there_then() {
    let folder = Folder::new();
    let file = folder.file("r.unclosed");
    let churn = Churn::with("--leak-per-second 5");
    let mut record = Run::it(format!("record -p {} --every 200ms", churn.pid)).output(&file).start();
    record.complaint("Recording to");
    leak_in(&file, 20);
    record.interrupt().ok();
    let all = shown(&file);
    let (from, to) = (all["from"].as_f64().unwrap(), all["to"].as_f64().unwrap());
    let middle = from + (to - from) / 2.0;
    let seconds = |it: &Value| it.as_f64();

    let first = within(&file, &format!("--closed --until {middle}"));
    let rows = first["resources"].as_array().unwrap();
    assert!(!rows.is_empty() && seconds(&first["to"]).unwrap() <= middle, "{first:#}");
    for row in rows {
        assert!(seconds(&row["opened"]).unwrap() <= middle, "{row:#}");
        assert!(seconds(&row["closed"]).is_none_or(|closed| closed <= middle), "{row:#}");
    }
    // As many connections were open as were counted then.
    let counted = first["series"].as_array().unwrap().iter().find(|it| it["name"] == "connections").unwrap();
    let open =
        rows.iter().filter(|it| it["closed"].is_null() && it["kind"] == "tcp" && !it["remote"].is_null()).count();
    assert_eq!(counted["last"].as_u64(), Some(open as u64), "{first:#}");

    let second = within(&file, &format!("--closed --since {middle}"));
    assert_eq!(second["to"], all["to"]);
    assert!(seconds(&second["from"]).unwrap() >= middle);
    assert_eq!(first["ticks"].as_u64().unwrap() + second["ticks"].as_u64().unwrap(), all["ticks"].as_u64().unwrap());
    let rows = second["resources"].as_array().unwrap();
    assert!(rows.iter().all(|it| seconds(&it["closed"]).is_none_or(|closed| closed >= middle)), "{second:#}");
    assert!(second["closed_total"].as_u64() < all["closed_total"].as_u64());
    // The whole, asked for as a window, says what the whole says.
    let whole = within(&file, &format!("--since {from} --until {to}"));
    assert_eq!(whole["verdict"]["kind"], all["verdict"]["kind"]);
    assert_eq!(whole["ticks"], all["ticks"]);
    let ids = |report: &Value| -> Vec<Value> {
        report["resources"].as_array().unwrap().iter().map(|it| it["id"].clone()).collect()
    };
    assert_eq!(ids(&whole), ids(&all));
}
