//! Series beside the default ones: a folder that grows, a number that a command prints; with a process and without.

use crate::act::{Folder, Run, shown, until};
use serde_json::Value;
use std::fs;

fn series<'a>(report: &'a Value, name: &str) -> &'a Value {
    let all = report["series"].as_array().unwrap();
    all.iter().find(|it| it["name"] == name).unwrap_or_else(|| panic!("no {name} in {all:?}"))
}

#[test]
fn a_folder_that_grows_needs_no_process() {
    let folder = Folder::new();
    let grows = folder.file("grows");
    fs::create_dir(&grows).unwrap();
    let file = folder.file("m.unclosed");
    let metric = format!("disk:{}", grows.display());
    let mut watch = Run::it(format!("watch -o csv --every 100ms --metric {metric}")).output(&file).start();
    let bytes = |line: &str| line.split(',').nth(1).and_then(|bytes| bytes.parse::<f64>().ok()).unwrap();
    let mut before = bytes(&watch.line(","));
    for number in 0..4 {
        fs::write(grows.join(number.to_string()), [1u8; 20_000]).unwrap();
        let line = watch.line_that("a larger size", |line| bytes(line) >= before + 20_000.0);
        before = bytes(&line);
    }
    watch.interrupt().ok();
    let report = shown(&file);
    assert_eq!(report["target"], Value::Null);
    assert_eq!(series(&report, &metric)["unit"], "By");
    let du = Run::program("du", ["-s", "-B1", &grows.display().to_string()]).done().ok().out;
    let measured = Run::it(format!("watch -o csv --every 5s --for 100ms --metric {metric}")).output(&folder.file("n"));
    let measured = measured.done().ok().points();
    assert_eq!(measured[0].1, du.split_whitespace().next().unwrap().parse::<f64>().unwrap());
}

#[test]
fn a_command_gives_a_series_beside_those_of_the_process() {
    let folder = Folder::new();
    let file = folder.file("m.unclosed");
    let number = folder.with("number", "7\n");
    let metric = format!("command:cat {}", number.display());
    let own = std::process::id().to_string();
    let arguments = ["record", "-p", &own, "--every", "200ms", "--for", "1s", "--metric", &metric];
    Run::new(arguments).output(&file).done().ok();
    let report = shown(&file);
    assert_eq!(series(&report, &metric)["last"], 7);
    assert!(series(&report, "descriptors")["last"].as_f64().unwrap() > 3.0);
}

#[test]
fn a_metric_that_fails_is_a_gap_with_its_reason() {
    let folder = Folder::new();
    let file = folder.file("m.unclosed");
    let switch = folder.with("number", "7\n");
    let metric = format!("command:cat {}", switch.display());
    let arguments = ["watch", "-o", "csv", "--every", "400ms", "--metric", &metric, "--metric", "command:date +%s"];
    let mut watch = Run::new(arguments).and("--series").and_whole(&metric).output(&file).start();
    watch.line(",7");
    fs::write(&switch, "seven\n").unwrap();
    // Nothing is printed for it; the ticks go on.
    let gaps = || shown(&file)["series_gaps"].to_string();
    until("the reason", || Some(gaps()).filter(|gaps| gaps.contains("seven") && gaps.contains("not one number")));
    fs::write(&switch, "8\n").unwrap();
    watch.line(",8");
    watch.interrupt().ok();
    let report = shown(&file);
    assert!(gaps().contains("not one number"), "{}", gaps());
    assert_eq!(report["gaps"], Value::Array(Vec::new()), "the ticks themselves have no hole");
    let text = Run::new(["show"]).file(&file).done().ok().out;
    assert!(text.contains("not one number"), "a person is told, too:\n{text}");
}

#[test]
fn a_folder_that_vanishes_is_a_gap_with_its_reason_and_watching_goes_on() {
    let folder = Folder::new();
    let grows = folder.file("grows");
    fs::create_dir(&grows).unwrap();
    let file = folder.file("m.unclosed");
    let metric = format!("disk:{}", grows.display());
    let mut watch = Run::it(format!("watch -o csv --every 100ms --metric {metric}")).output(&file).start();
    watch.line(",");
    fs::remove_dir(&grows).unwrap();
    let gap = || shown(&file)["series_gaps"][0]["reason"].as_str().map(str::to_owned);
    let reason = until("a gap", gap);
    assert!(reason.contains("No such file") && reason.contains("grows"), "{reason}");
    fs::create_dir(&grows).unwrap();
    watch.line(",");
    watch.interrupt().ok();
}
