//! What watching costs is sampled and stored like anything else, judged by nobody, and kept within what is allowed.

use crate::act::{Folder, Run, shown};
use crate::leakers::Churn;
use serde_json::Value;

/// The series of that name in a report.
fn series<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["series"].as_array().unwrap().iter().find(|it| it["name"] == name).unwrap_or(&Value::Null)
}

#[test]
fn our_own_cost_is_a_series_without_a_verdict() {
    let folder = Folder::new();
    let (churn, file) = (Churn::with("--leak-per-second 1"), folder.file("r.unclosed"));
    let watch = Run::it(format!("watch -p {} --every 100ms --for 3s", churn.pid)).output(&file).done().ok();
    watch.says(&["(unclosed: ", "% of a core, "]);
    let report = shown(&file);
    for (name, unit, at_least) in
        [("own:cpu_seconds", "s", 0.001), ("own:memory", "By", 1e6), ("own:descriptors", "1", 5.0)]
    {
        let own = series(&report, name);
        assert_eq!((&own["unit"], &own["verdict"]), (&unit.into(), &Value::Null), "{report:#}");
        assert!(own["last"].as_f64().unwrap() >= at_least, "{own}");
    }
    assert!(report["findings"].as_array().unwrap().iter().all(|it| it["series"] != "own:memory"));
    let spent = Run::it("show -o csv --series own:cpu_seconds").file(&file).done().ok().points();
    assert!(spent.len() as u64 == report["ticks"].as_u64().unwrap() && spent.windows(2).all(|it| it[0].1 <= it[1].1));
    let last = spent.last().unwrap().1;
    assert!((last - report["cost"]["cpu_seconds"].as_f64().unwrap()).abs() < 0.001, "{last} {}", report["cost"]);
    Run::it("show").file(&file).done().ok().says(&["own:memory", "of unclosed itself: not judged"]);
}

#[test]
fn what_costs_too_much_looks_seldomer_and_says_so() {
    let folder = Folder::new();
    let (churn, file) = (Churn::with("--leak-per-second 1"), folder.file("r.unclosed"));
    let line = format!("record -p {} --every 50ms --max-cost 0.0001%", churn.pid);
    let mut record = Run::it(line).output(&file).start();
    record.complaint("more than --max-cost 0.0001%: a tick every 100 ms from here on, no longer every 50 ms");
    record.complaint("also every 500 ms");
    record.interrupt().ok();
    let report = shown(&file);
    assert_eq!(report["every_seconds"], 0.5);
    let told = report["events"].as_array().unwrap().iter().filter(|it| it["kind"] == "interval").count();
    assert_eq!(told, 4, "{:#}", report["events"]);
    assert!(report["notes"].to_string().contains("no longer every 50 ms"), "{}", report["notes"]);
    // The last steps but that to the end: never shorter than the new interval, but for a tick that came late.
    let at: Vec<f64> = Run::it("show -o csv").file(&file).done().ok().points().into_iter().map(|it| it.0).collect();
    let steps = at.windows(2).rev().skip(1).take(4).map(|pair| pair[1] - pair[0]);
    assert!(steps.sum::<f64>() > 1.0, "{at:?}");
}

#[test]
fn a_cost_within_bounds_changes_nothing() {
    let folder = Folder::new();
    let file = folder.file("r.unclosed");
    let own = std::process::id();
    Run::it(format!("record -p {own} --every 500ms --max-cost 100% --for 4s")).output(&file).done().ok();
    assert_eq!(shown(&file)["every_seconds"], 0.5);
    for nonsense in ["1", "0%", "many"] {
        Run::it(format!("watch -p {own} --max-cost {nonsense}")).done().fails(2, &["--max-cost", "1%"]);
    }
}
