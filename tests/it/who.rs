//! Who left it open: what the ledger told of a service, as `show` tells it from the recording.

use crate::act::{Folder, Run, leaked_of, shown};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use unclosed::analyse::Fold;
use unclosed::model::{
    Address, Frame, Identity, Kind, LastUse, Lifetime, LifetimeId, Message, Report, Resource, Series, SeriesKey, Stack,
    StackKey, State, Tick, Timestamp, Unit, Usage, Use, Via, Whereabouts,
};
use unclosed::store::{Retention, Writer};

const EXPORT: StackKey = StackKey(1);
const SERVE: StackKey = StackKey(2);
const QUERY: StackKey = StackKey(3);
const POOL: StackKey = StackKey(4);
const HANDLER: StackKey = StackKey(5);

fn at(second: u64) -> Timestamp {
    Timestamp(1_487_279_164_000_000 + second as i64 * 1_000_000)
}

fn frame(function: &str, file: Option<&str>, line: u32) -> Frame {
    let module = if file.is_some() { "/usr/bin/python3.11" } else { "/usr/lib/x86_64-linux-gnu/libpq.so.5.15" };
    Frame {
        function: Some(function.into()),
        file: file.map(Into::into),
        line: file.map(|_| line),
        module: Some(module.into()),
        ..Frame::default()
    }
}

fn stack(function: &str, line: u32) -> Stack {
    let driver = Some("/usr/lib/python3/dist-packages/psycopg2/__init__.py");
    let main = Frame { via: Via::Awaited, ..frame("main", Some("/srv/orders/app.py"), 12) };
    let own = frame(function, Some("/srv/orders/app.py"), line);
    Stack { frames: vec![frame("PQconnectdb", None, 0), frame("connect", driver, 122), own, main], truncated: None }
}

/// All that a stack of a pool's own thread has.
fn of_pool() -> Stack {
    let truncated = Some("the rest was not read: too deep".into());
    Stack { frames: vec![frame("PQconnectPoll", None, 0), frame("pool_thread", None, 0)], truncated }
}

/// Who leaks and who doesn't: the code that opens, and the code that uses last.
#[derive(Clone, Copy)]
struct Service {
    leaky: (StackKey, StackKey),
    healthy: (StackKey, StackKey),
}

/// Leaks are of an export that has an opener of its own.
const EXPORTS: Service = Service { leaky: (EXPORT, QUERY), healthy: (SERVE, QUERY) };

/// All are opened by a pool; those that leak were used last by one handler.
const POOLED: Service = Service { leaky: (POOL, HANDLER), healthy: (POOL, QUERY) };

impl Service {
    /// A quarter of an hour at 5 s: three connections a tick that live 8 s, and one in 25 s that is never closed; three more
    /// that come and go within the tick. What the ledger told of all of them comes with them.
    fn ticks(self) -> Vec<Tick> {
        let mut fold = Fold::new(String::new(), Some("orders".into()), 5.0);
        let ticks = (0..180).map(|nth| {
            let tick = self.tick(nth, &fold);
            fold.apply(&tick);
            tick
        });
        ticks.collect()
    }

    fn tick(self, nth: u64, fold: &Fold) -> Tick {
        let second = 5 * nth;
        let population = fold.population();
        let closed = |it: &Lifetime| Lifetime { closed: Some(at(second)), ..it.clone() };
        let is_over = |it: &&Lifetime| it.id.0 % 10 < 3 && it.opened <= at(second.saturating_sub(8));
        let mut ending: Vec<Lifetime> = population.open.values().filter(is_over).map(closed).collect();
        let opened = |digit: u64, (opener, last_use)| lifetime(10 * nth + digit, second, opener, last_use);
        let mut tick = Tick {
            at: at(second),
            opened: (0..3).map(|digit| opened(digit, self.healthy)).collect(),
            values: vec![(SeriesKey(1), population.open.len() as f64)],
            ..Tick::default()
        };
        if nth == 0 {
            let series = Series { key: SeriesKey(1), name: "connections".into(), unit: Unit::Count, process: None };
            tick.added.push(series);
            tick.stacks = vec![
                (EXPORT, stack("report_export", 88)),
                (SERVE, stack("serve", 31)),
                (QUERY, stack("query", 40)),
                (POOL, of_pool()),
                (HANDLER, stack("on_order", 64)),
            ];
        }
        if nth % 5 == 2 {
            tick.opened.push(opened(9, self.leaky));
        }
        for digit in 3..6 {
            let passed = opened(digit, self.healthy);
            ending.push(closed(&passed));
            tick.opened.push(passed);
        }
        // Where the thread is that used it last: told later, of the same use.
        let told_later = population
            .open
            .values()
            .filter(|it| it.id.0 % 10 == 9 && it.opened + Duration::from_secs(20) == at(second));
        tick.used = told_later.filter_map(now_of).collect();
        tick.closed = population.close(ending);
        tick
    }
}

fn lifetime(id: u64, second: u64, opener: StackKey, last_use: StackKey) -> Lifetime {
    let mut resource = Resource::new(Identity(8, id), Kind::Tcp);
    resource.remote = Some(Address::parse("127.0.0.1:5432"));
    resource.local = Some(Address::parse(&format!("127.0.0.1:{}", 30_000 + id)));
    resource.state = Some(State::Established);
    let by = |stack, thread: &str| Use { stack: Some(stack), thread: thread.into(), tid: 7, at: at(second) };
    let message = |text: &str, useful| Message { at: at(second), text: text.into(), useful };
    Lifetime {
        id: LifetimeId(id),
        resource,
        holders: Vec::new(),
        accepted_by: None,
        opened_after: Some(at(second)),
        opened: at(second),
        opened_exact: true,
        last_seen: at(second),
        last_active: Some(at(second)),
        closed: None,
        ended_with_process: false,
        opener: Some(Box::new(by(opener, "worker-3"))),
        last_use: Some(Box::new(LastUse {
            by: by(last_use, "worker-3"),
            messages: vec![message("SELECT * FROM orders WHERE id = ?", true), message("COMMIT", false)],
            whereabouts: None,
        })),
    }
}

fn now_of(lifetime: &Lifetime) -> Option<Usage> {
    let by = lifetime.last_use.as_ref()?.by.clone();
    let at = by.at + Duration::from_secs(20);
    let now = Whereabouts { at, stack: Some(QUERY), words: "waits for a lock".into() };
    Some(Usage { id: lifetime.id, last: LastUse { by, messages: Vec::new(), whereabouts: Some(now) } })
}

fn recorded(folder: &Folder, ticks: &[Tick]) -> PathBuf {
    let path = folder.file("r.unclosed");
    let mut writer = Writer::create(&path, Duration::from_secs(5), "orders", Retention::default()).unwrap();
    ticks.iter().for_each(|tick| writer.append(tick, None).unwrap());
    path
}

/// The same, judged as it is while it is watched.
fn live(ticks: &[Tick]) -> Report {
    let mut fold = Fold::new(String::new(), Some("orders".into()), 5.0);
    ticks.iter().for_each(|tick| fold.apply(tick));
    fold.judge();
    fold.into_report()
}

fn text_of(file: &Path, arguments: &str) -> String {
    let text = Run::it(format!("show {arguments}")).file(file).done().ok().out;
    let section = text.split("Who left them open").nth(1).map_or("", |it| it.split("\nSeries").next().unwrap());
    let too_wide = section.lines().chain(text.lines().filter(|line| line.contains(" · ")));
    for line in too_wide {
        assert!(line.chars().count() <= 100, "{line}");
    }
    text
}

/// A line with one blank for each run of them.
fn squeezed(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn an_opener_that_healthy_ones_lack_is_named() {
    let folder = Folder::new();
    let ticks = EXPORTS.ticks();
    let file = recorded(&folder, &ticks);
    let text = text_of(&file, "");
    let first = text.lines().next().unwrap();
    assert!(
        first.starts_with("● LEAK") && first.contains("were opened by report_export (app.py:88), and none of"),
        "{first}"
    );
    let squeezed = squeezed(&text);
    let expected = [
        "opened by report_export (app.py:88) · SELECT * FROM orders WHERE id = ?",
        "OPENED BY LEAKED CLOSED OPEN report_export (app.py:88) ",
        "LAST USED BY LEAKED CLOSED OPEN query (app.py:40) ",
        "PQconnectdb /usr/lib/x86_64-linux-gnu/libpq.so.5.15 connect /usr/lib/python3/dist-packages/psycopg2/__init__.py:122 \
         > report_export /srv/orders/app.py:88 > main (awaits it) /srv/orders/app.py:12",
        "waits for a lock, in query (app.py:40)",
    ];
    for part in expected {
        assert!(squeezed.contains(part), "no {part:?} in:\n{text}");
    }
    // The recording says what the watch said.
    let (report, live) = (shown(&file), live(&ticks));
    let said: Vec<&str> = live.judged.findings.iter().map(|it| it.sentence.as_str()).collect();
    let read: Vec<&str> =
        report["findings"].as_array().unwrap().iter().map(|it| it["sentence"].as_str().unwrap()).collect();
    assert_eq!(said, read);
    assert_eq!(report["verdict"]["opener"], "report_export (app.py:88)");
    assert_eq!(report["verdict"]["last_use"], "query (app.py:40)");
    assert_eq!(report["series"][0]["verdict"]["sentence"], report["verdict"]["sentence"]);
}

#[test]
fn of_a_pool_the_last_use_is_named() {
    let folder = Folder::new();
    let file = recorded(&folder, &POOLED.ticks());
    let text = text_of(&file, "");
    let first = text.lines().next().unwrap();
    assert!(first.contains("ere last used by on_order (app.py:64), and none of"), "{first}");
    assert!(text.contains("last used by on_order (app.py:64) · SELECT"), "{text}");
    assert!(squeezed(&text).contains("... the rest was not read: too deep"), "{text}");
}

#[test]
fn a_resource_has_its_stacks_and_what_was_said() {
    let folder = Folder::new();
    let file = recorded(&folder, &EXPORTS.ticks());
    let report = shown(&file);
    let leaked = leaked_of(&report);
    assert!(leaked.len() > 20, "{}", leaked.len());
    let one = leaked[0];
    let frame = &one["opener"]["frames"][2];
    let expected = serde_json::json!({
        "function": "report_export", "file": "/srv/orders/app.py", "line": 88, "module": "/usr/bin/python3.11", "own": true,
        "via": "call",
    });
    assert_eq!(*frame, expected);
    assert_eq!((&one["opener"]["thread"], &one["opener"]["at"]), (&"worker-3".into(), &one["opened"]));
    assert_eq!((&one["opener"]["frames"][0]["own"], &one["opener"]["truncated"]), (&false.into(), &Value::Null));
    let now = &one["last_use"]["now"];
    assert_eq!((&now["words"], &now["frames"][2]["function"]), (&"waits for a lock".into(), &"query".into()));
    assert_eq!(one["last_message"], "SELECT * FROM orders WHERE id = ?");
    assert_eq!(one["messages"], serde_json::json!(["SELECT * FROM orders WHERE id = ?", "COMMIT"]));
    assert_eq!(one["opened_exact"], true);
    // The healthy ones that they are held against have it too.
    let all = Run::it("show --closed -o json").file(&file).done().ok().json();
    let closed: Vec<&Value> =
        all["resources"].as_array().unwrap().iter().filter(|it| !it["closed"].is_null()).collect();
    assert!(closed.len() > 1_000, "{}", closed.len());
    assert!(closed.iter().all(|it| it["opener"]["label"] == "serve (app.py:31)" && it["messages"][1] == "COMMIT"));
}

#[test]
fn groups_count_leaked_and_healthy_ones() {
    let folder = Folder::new();
    let file = recorded(&folder, &EXPORTS.ticks());
    let groups = |by: &str| {
        let report = Run::it(format!("show --by {by} -o json")).file(&file).done().ok().json();
        report["groups"].as_array().unwrap().clone()
    };
    let closed = shown(&file)["closed_total"].clone();
    let by_opener = groups("opener");
    assert_eq!((by_opener.len(), &by_opener[0]["name"]), (2, &"report_export (app.py:88)".into()));
    assert_eq!((&by_opener[0]["closed"], &by_opener[1]["closed"]), (&0.into(), &closed));
    assert_eq!(by_opener[1]["leaked"], 0);
    let by_use = groups("last-use");
    assert_eq!((by_use.len(), &by_use[0]["name"], &by_use[0]["closed"]), (1, &"query (app.py:40)".into(), &closed));
    assert_eq!(groups("query")[0]["name"], "SELECT * FROM orders WHERE id = ?");
    assert_eq!(groups("endpoint")[0]["closed"], closed);
    assert_eq!((&groups("state")[0]["name"], &groups("age")[0]["closed"]), (&"ESTABLISHED".into(), &Value::Null));
    let text = text_of(&file, "--by opener");
    assert!(squeezed(&text).contains("LEAKED OPEN CLOSED GROUP"), "{text}");
    assert!(!shown(&file).as_object().unwrap().contains_key("groups"));
}

#[test]
fn a_part_of_the_recording_has_its_own_counts() {
    let folder = Folder::new();
    let file = recorded(&folder, &EXPORTS.ticks());
    let part = Run::it("show --since 10m --by opener -o json").file(&file).done().ok().json();
    let whole = shown(&file)["closed_total"].as_u64().unwrap();
    let closed = part["groups"].as_array().unwrap().iter().map(|it| it["closed"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(part["closed_total"], closed);
    assert!(closed < whole * 3 / 4 && closed > whole / 2, "{closed} of {whole}");
    assert_eq!(part["verdict"]["opener"], "report_export (app.py:88)");
}

#[test]
fn whose_code_is_whose_can_be_said_at_reading() {
    let folder = Folder::new();
    let file = recorded(&folder, &EXPORTS.ticks());
    let rules = folder.with("frames", "library file /srv/orders/**  function report_export\n");
    let show = |rules: &Path| Run::it("show -o json --frames").file(rules).file(&file).done();
    let report = show(&rules).ok().json();
    assert_eq!(report["verdict"]["opener"], "main (app.py:12)");
    let frames = leaked_of(&report)[0]["opener"]["frames"].as_array().unwrap().clone();
    let own: Vec<bool> = frames.iter().map(|frame| frame["own"].as_bool().unwrap()).collect();
    assert_eq!(own, [false, false, false, true]);
    show(&folder.with("wrong", "own file /srv/**\nmine file x\n")).fails(2, &["--frames", "line 2"]);
    show(&folder.file("none")).fails(2, &["--frames", "cannot read it"]);
}
