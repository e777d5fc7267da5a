//! A watch from its beginning to its end: what is recorded, what is said of it, and what comes back out.

use crate::act::{Folder, Run, Running, leak_in, leaked_of, points, shown, until};
use crate::leakers::Churn;
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

/// A log as the recipe wrote it, of a process that leaks one connection a minute: a line every 5 s for two hours.
fn leaking_log() -> String {
    (0..1440)
        .map(|tick| format!("{},{}\n", 1_487_279_164 + 5 * tick, 20 + tick / 12 + [0, 2, 1, 3][tick % 4]))
        .collect()
}

/// A client with its recorder.
fn recorded(flags: &str, file: &Path) -> (Churn, Running) {
    let churn = Churn::with(flags);
    let mut record = Run::it(format!("record -p {} --every 200ms", churn.pid)).output(file).start();
    record.complaint("Recording to ");
    (churn, record)
}

#[test]
fn a_leak_is_told_from_traffic() {
    let folder = Folder::new();
    let (leaking, healthy) = (folder.file("leak.unclosed"), folder.file("clean.unclosed"));
    let (churn, of_leaking) = recorded("--leak-per-second 2", &leaking);
    let (_other, of_healthy) = recorded("--healthy-per-second 10", &healthy);
    leak_in(&leaking, 20);
    // On a busy machine traffic and ticks are slow alike, and fewer are seen to be closed.
    let closed = || shown(&healthy)["closed_total"].as_u64().filter(|closed| *closed > 30);
    until("thirty healthy ones to be closed", closed);
    let said = of_leaking.interrupt().ok();
    of_healthy.interrupt().ok();
    let (leak, clean) = (shown(&leaking), shown(&healthy));

    let verdict = &leak["verdict"];
    assert_eq!(verdict["kind"], "leak", "{verdict:#}");
    assert_eq!(verdict["subject"], format!("tcp {}", churn.endpoint()));
    said.complains(&["LEAK", "Recording: ", "Next: ", "unclosed show "]);
    let leaked = leaked_of(&leak);
    assert!(leaked.iter().all(|it| it["remote"] == churn.endpoint() && it["leak_probability"].as_f64().unwrap() > 0.5));
    let rate = verdict["rate_per_hour"].as_f64().unwrap();
    assert!((3600.0..14_400.0).contains(&rate), "two a second are 7,200 an hour, not {rate}");

    assert_ne!(clean["verdict"]["kind"], "leak", "{:#}", clean["verdict"]);
    assert_ne!(clean["verdict"]["kind"], "plateau", "{:#}", clean["verdict"]);
    assert!(leaked_of(&clean).is_empty());
    fields_have_their_names(&leak);
    the_exits_are_those_of_the_verdicts(&folder);
    a_series_comes_out_as_the_recipe_had_it(&folder, &leak);
}

/// The names that programs rely on.
fn fields_have_their_names(report: &Value) {
    let has = |object: &Value, keys: &str| {
        for key in keys.split(' ') {
            assert!(object.get(key).is_some(), "{key} is missing in {object:#}");
        }
    };
    has(report, "schema file target from to ticks gaps verdict findings series resources suspects notes cost");
    assert_eq!(report["schema"], "unclosed/1");
    has(&report["target"], "name boot_id processes");
    has(&report["target"]["processes"][0], "pid started ended user command");
    let finding = "kind sentence subject since rate_per_hour rate_low rate_high confidence exhausts";
    has(&report["verdict"], finding);
    has(&report["verdict"], "history");
    has(&report["verdict"]["history"][0], "at kind");
    has(&report["findings"][0], finding);
    has(&report["series"][0], "name unit last verdict");
    let resource = "id kind fd access name holders inode local remote state opened opened_after opened_exact closed \
                    age_seconds silent_seconds bytes_sent bytes_received leaked leak_probability opener last_use \
                    last_message messages session";
    for it in report["resources"].as_array().unwrap() {
        resource.split_whitespace().for_each(|key| has(it, key));
        has(&it["holders"][0], "pid fd");
    }
    has(&report["cost"], "cpu_seconds memory_bytes");
    let exhausts = &report["verdict"]["exhausts"];
    if !exhausts.is_null() {
        has(exhausts, "limit name at earliest latest");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let (from, to) = (report["from"].as_f64().unwrap(), report["to"].as_f64().unwrap());
    assert!(from < to && to <= now && from > now - 600.0, "{from} {to} {now}");
    let (ticks, grid) = (report["ticks"].as_f64().unwrap(), (to - from) / 0.2);
    assert!(ticks <= grid + 2.0, "{ticks} ticks where {grid} were due");
    let names: Vec<_> = report["series"].as_array().unwrap().iter().filter_map(|it| it["name"].as_str()).collect();
    for name in ["connections", "internet", "descriptors", "descriptors:tcp", "memory", "memory:anonymous", "threads"] {
        assert!(names.contains(&name), "{name} is no series: {names:?}");
    }
}

fn the_exits_are_those_of_the_verdicts(folder: &Folder) {
    let leak = folder.file("leak.unclosed").display().to_string();
    Run::it(format!("show --fail-on-leak {leak}")).done().code(3);
    Run::it(format!("show {leak}")).done().ok().says(&["● LEAK", "leaked", "Series"]);
    Run::it(format!("show --leaked {leak}")).done().ok().says(&["leaked"]);
    for by in ["endpoint", "state", "age"] {
        Run::it(format!("show --by {by} {leak}")).done().ok().says(&["LEAKED", "OPEN"]);
    }
    Run::it(format!("show --explain {leak}")).done().ok().says(&["How ", " was judged:"]);
}

fn a_series_comes_out_as_the_recipe_had_it(folder: &Folder, report: &Value) {
    let leak = folder.file("leak.unclosed").display().to_string();
    let series = Run::it(format!("show {leak} -o csv --series connections")).done().ok().points();
    assert_eq!(series.len() as u64, report["ticks"].as_u64().unwrap());
    assert!(series.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert!(series.last().unwrap().1 > series[0].1 + 15.0, "{series:?}");
    let refused = Run::it(format!("show {leak} -o csv --series nonsense")).done();
    refused.fails(2, &["nonsense", "connections"]);
}

#[test]
fn the_recipes_log_is_printed_and_read_back() {
    let churn = Churn::with("--leak-per-second 4");
    let folder = Folder::new();
    let recording = folder.file("w.unclosed");
    let watch = Run::it(format!("watch -p {} -o csv --every 200ms --for 3s", churn.pid));
    let done = watch.output(&recording).done().ok();
    let lines = done.points();
    assert!((2..=16).contains(&lines.len()), "{}", done.out);
    // The same ticks, the same numbers.
    let file = recording.display();
    assert_eq!(Run::it(format!("show {file} -o csv --series internet")).done().ok().points(), lines);

    let log = folder.with("tracking.log", &done.out);
    let report = shown(&log);
    assert_eq!(report["target"], Value::Null);
    assert_eq!(report["ticks"], lines.len());
    assert_eq!(report["series"][0]["name"], "value");
}

#[test]
fn whole_seconds_stay_whole_in_the_log() {
    let churn = Churn::with("");
    let folder = Folder::new();
    let watch = Run::it(format!("watch -p {} -o csv --every 1s --for 2500ms", churn.pid));
    let done = watch.output(&folder.file("w.unclosed")).done().ok();
    assert!(done.out.lines().count() >= 2 && !done.out.contains('.'), "{}", done.out);
}

#[test]
fn a_log_of_years_ago_is_judged() {
    let folder = Folder::new();
    let log = folder.with("tracking.log", leaking_log());
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(leaking_log().as_bytes()).unwrap();
    let packed = folder.with("tracking.log.gz", packed.finish().unwrap());
    let recording = folder.file("imported.unclosed");
    let import = Run::new(["import".as_ref(), log.as_os_str(), "--output".as_ref(), recording.as_os_str()]);
    import.done().ok().complains(&["Recording: "]).says(&["LEAK"]);
    for file in [&log, &packed, &recording] {
        let report = shown(file);
        assert_eq!(report["verdict"]["kind"], "leak", "{}: {:#}", file.display(), report["verdict"]);
        assert_eq!(report["ticks"], 1440);
        let rate = report["verdict"]["rate_per_hour"].as_f64().unwrap();
        assert!((55.0..65.0).contains(&rate), "60 an hour, not {rate}");
        let series = Run::new(["show".as_ref(), file.as_os_str(), "-o".as_ref(), "csv".as_ref()]);
        let series = if file == &recording { series.and("--series value") } else { series };
        assert_eq!(series.done().ok().points(), points(&leaking_log()), "{}", file.display());
    }
    // Never over what is there.
    let again = Run::new(["import".as_ref(), log.as_os_str(), "--output".as_ref(), recording.as_os_str()]);
    again.done().fails(1, &["exists already", "--output"]);
}

#[test]
fn what_a_log_holds_besides_is_skipped_and_told() {
    let folder = Folder::new();
    let mut text = "# the recipe's\r\ntime,count\r\n".to_owned();
    text += &leaking_log().replace(',', " , ").replace('\n', "\r\n");
    let broken = text.replacen("1487279264 , ", "1487279264 ; lsof: no pwd entry ", 1);
    let log = folder.with("odd.log", broken);
    let report = shown(&log);
    assert_eq!(report["ticks"], 1439);
    let notes = report["notes"].to_string();
    assert!(notes.contains("line 23"), "{notes}");
    let plain = shown(&folder.with("plain.log", leaking_log()));
    let counted =
        Run::it(format!("show {} -o json --lsof-header", folder.file("plain.log").display())).done().ok().json();
    let last = |report: &Value| report["series"][0]["last"].as_f64().unwrap();
    assert_eq!(last(&counted), last(&plain) - 1.0);
}

#[test]
fn one_file_of_several_that_is_broken_stops_none() {
    let folder = Folder::new();
    let first = folder.with("first.log", leaking_log());
    let broken = folder.with("broken.unclosed", "SQLite format 3\0");
    let last = folder.with("last.log", leaking_log());
    let files = [first, broken, folder.file("missing"), last];
    let done = Run::new(["show", "-o", "jsonl"]).files(&files).done().code(1);
    let reports: Vec<Value> = done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(reports.len(), 2);
    assert!(reports[1]["file"].as_str().unwrap().ends_with("last.log"));
    done.complains(&["broken.unclosed", "missing: no such file"]);
}

#[test]
fn ctrl_c_prints_the_summary_and_the_next_command() {
    let churn = Churn::with("--leak-per-second 3");
    let folder = Folder::new();
    let file = folder.file("w.unclosed");
    let mut watch = Run::it(format!("watch -p {} --every 100ms", churn.pid)).output(&file).start();
    for _ in 0..5 {
        watch.line(" connections ");
    }
    watch.complaint("Ctrl-C ends it");
    let next = format!("unclosed show {}", file.display());
    watch.interrupt().ok().says(&["undecided", "ticks, every 100 ms", "Recording: ", &next]);
    assert!(shown(&file)["ticks"].as_u64().unwrap() >= 5);
    assert!(!Path::new(&format!("{}-wal", file.display())).exists(), "a recording that was ended is one file");
}

#[test]
fn the_end_of_the_target_closes_the_recording_with_a_verdict() {
    let churn = Churn::with("--leak-per-second 3");
    let folder = Folder::new();
    let file = folder.file("w.unclosed");
    let mut record = Run::it(format!("record -p {} --every 100ms", churn.pid)).output(&file).start();
    record.complaint("Recording to ");
    until("some ticks", || (shown(&file)["ticks"].as_u64()? > 5).then_some(()));
    churn.running.signal(Signal::KILL);
    // Nobody tells the recorder to end.
    record.done().ok().complains(&["ended", "Recording: "]);
    let report = shown(&file);
    assert!(report["target"]["processes"][0]["ended"].is_number(), "{:#}", report["target"]);
    assert!(report["verdict"]["sentence"].as_str().is_some_and(|sentence| !sentence.is_empty()));
}

#[test]
fn a_recording_is_read_while_it_grows() {
    let churn = Churn::with("--leak-per-second 3");
    let folder = Folder::new();
    let file = folder.file("w.unclosed");
    let mut watch = Run::it(format!("watch -p {} -o csv --every 50ms", churn.pid)).output(&file).start();
    for seen in 1..15 {
        watch.line(",");
        assert!(shown(&file)["ticks"].as_u64().unwrap() >= seen);
    }
    watch.interrupt().ok();
}

#[test]
fn a_recording_is_readable_to_its_owner_only_and_named_after_its_target() {
    use std::os::unix::fs::PermissionsExt;
    let churn = Churn::with("");
    let folder = Folder::new();
    let record =
        Run::it(format!("record -p {} --every 100ms --for 300ms", churn.pid)).env("XDG_STATE_HOME", folder.path());
    record.done().ok();
    let found: Vec<_> = fs::read_dir(folder.file("unclosed")).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(found.len(), 1);
    let name = found[0].file_name().into_string().unwrap();
    assert!(name.starts_with(&format!("python3-{}-", churn.pid)) && name.ends_with(".unclosed"), "{name}");
    assert_eq!(found[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn two_watchers_of_one_process_do_not_disturb_each_other() {
    let churn = Churn::with("");
    let folder = Folder::new();
    let record = |name: &str| {
        let file = folder.file(name);
        let run = Run::it(format!("record -p {} --every 100ms --for 1s", churn.pid)).output(&file).start();
        thread::spawn(move || {
            run.done().ok();
            shown(&file)["ticks"].as_u64().unwrap()
        })
    };
    for ticks in ["a.unclosed", "b.unclosed"].map(record) {
        assert!(ticks.join().unwrap() >= 2);
    }
}
