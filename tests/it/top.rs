//! `top`, and `unclosed` alone: processes that leak stand above those that are only busy, whoever looks.

use crate::act::{Folder, Run, Running, has, is_root, skip};
use crate::leakers::Churn;
use crate::screen::Terminal;
use rustix::process::Signal;
use serde_json::Value;
use std::fs;

/// Connections to itself, `count` of them: both ends are held, or only those that the others have closed.
const PAIRS: &str = "\
import signal, socket, sys
listening = socket.create_server(('127.0.0.1', 0), backlog=128)
kept = []
for _ in range(int(sys.argv[1])):
    kept.append(socket.create_connection(listening.getsockname()))
    accepted, _ = listening.accept()
    if sys.argv[2] == 'half':
        accepted.close()
        kept[-1].recv(1)
    else:
        kept.append(accepted)
if sys.argv[2] == 'half':
    listening.close()
print('ready', flush=True)
signal.pause()";

/// As many files as are asked for below a limit of its own.
const NEAR_ITS_LIMIT: &str = "\
import os, resource, signal, sys
limit, descriptors = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
# The list has one more, that of the folder itself.
kept = [open('/dev/null') for _ in range(descriptors + 1 - len(os.listdir('/proc/self/fd')))]
print('ready', flush=True)
signal.pause()";

/// A program in Python that has done what it does.
fn python(script: &str, arguments: &str) -> Running {
    started(Run::program("python3", ["-c", script]).and(arguments))
}

fn started(program: Run) -> Running {
    let mut running = program.start();
    running.line("ready");
    running
}

/// `unclosed` for somebody else, who may not look where the tests' own binary stands.
struct Nobody {
    _folder: Folder,
    program: String,
}

const NOBODY: [&str; 3] = ["--reuid=65534", "--regid=65534", "--clear-groups"];

impl Nobody {
    fn new() -> Self {
        let folder = Folder::new();
        Nobody { program: folder.program_for_all().display().to_string(), _folder: folder }
    }

    fn looks(&self, arguments: &str) -> Run {
        Run::program("setpriv", NOBODY).and(&self.program).and(arguments)
    }
}

/// One look, as JSON.
fn look(arguments: &str) -> Value {
    Run::it(format!("top -o json {arguments}")).done().ok().json()
}

fn place(top: &Value, pid: u32) -> Option<usize> {
    top["processes"].as_array().unwrap().iter().position(|it| it["pid"] == pid)
}

fn process(top: &Value, pid: u32) -> &Value {
    place(top, pid).map_or_else(|| panic!("no {pid} in {top:#}"), |place| &top["processes"][place])
}

fn descriptors_of(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn reasons(process: &Value) -> String {
    process["reasons"].as_array().unwrap().iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; ")
}

/// What is on the machine besides, other tests' programs among it, doesn't matter: only who stands above whom.
#[test]
fn what_leaks_stands_above_what_is_only_busy() {
    let busy = python(PAIRS, "300 whole");
    let forgetful = python(PAIRS, "50 half");
    let full = python(NEAR_ITS_LIMIT, "100 95");
    let idle = Run::program("sleep", ["60"]).start();
    let top = look("--silent 1ms");
    let rank = |of: &Running| place(&top, of.pid()).unwrap_or_else(|| panic!("no {} in {top:#}", of.pid()));
    let order = [rank(&full), rank(&forgetful), rank(&busy), rank(&idle)];
    assert!(order.is_sorted(), "{order:?} in {top:#}");

    let forgetful = process(&top, forgetful.pid());
    assert!(reasons(forgetful).contains("50 in CLOSE_WAIT"), "{forgetful:#}");
    for (field, count) in [("close_wait", 50), ("connections", 50), ("sockets", 50), ("listening", 0), ("silent", 50)] {
        assert_eq!(forgetful[field], count, "{field} in {forgetful:#}");
    }
    let full = process(&top, full.pid());
    assert!(reasons(full).contains("95 of 100 descriptors"), "{full:#}");
    assert_eq!((&full["descriptors"], &full["descriptor_limit"]), (&95.into(), &100.into()));
    let busy = process(&top, busy.pid());
    assert_eq!((&busy["connections"], &busy["close_wait"]), (&600.into(), &0.into()));
    assert_eq!(busy["listening"], 1);
    assert!(reasons(busy).contains("600 of 600 silent > 1 ms"), "{busy:#}");
    assert_eq!(reasons(process(&top, idle.pid())), "");
}

/// Where BPF is refused, the tables and the links are joined instead, to the same ends.
#[test]
fn without_bpf_the_ranking_is_the_same() {
    if !is_root() || !has("setpriv") {
        skip!("only root can give up BPF and still see everybody");
    }
    let running = [python(PAIRS, "200 whole"), python(PAIRS, "40 half"), python(NEAR_ITS_LIMIT, "100 95")];
    let [busy, forgetful, full] = running.each_ref().map(Running::pid);
    let without = ["--bounding-set=-bpf,-perfmon,-sys_admin", env!("CARGO_BIN_EXE_unclosed")];
    let without = Run::program("setpriv", without).and("top -o json --silent 1ms").done().ok().json();
    let with = look("--silent 1ms");
    assert!(!without["source"].as_str().unwrap().contains("BPF"), "{}", without["source"]);
    for top in [&with, &without] {
        let order = [full, forgetful, busy].map(|pid| place(top, pid));
        assert!(order.is_sorted() && order[0].is_some(), "{order:?} in {top:#}");
    }
    for pid in [full, forgetful, busy] {
        let both = [&with, &without].map(|top| process(top, pid));
        for field in ["descriptors", "descriptor_limit", "sockets", "connections", "listening", "close_wait", "silent"]
        {
            assert_eq!(both[0][field], both[1][field], "{field} in {both:#?}");
        }
        assert_eq!(reasons(both[0]), reasons(both[1]));
    }
}

#[test]
fn the_object_has_the_fields_it_is_documented_with() {
    let idle = Run::program("sleep", ["60"]).start();
    let top = look("");
    assert_eq!(top["schema"], "unclosed/1");
    assert!(top["at"].is_f64() && top["at"] == top["since"], "{top:#}");
    assert!(top["notes"].is_array() && top["source"].is_string());
    for field in ["cpu_seconds", "memory_bytes", "descriptors"] {
        assert!(top["cost"][field].as_f64().unwrap() > 0.0, "{:#}", top["cost"]);
    }
    let sleep = process(&top, idle.pid());
    assert_eq!((&sleep["name"], &sleep["command"]), (&"sleep".into(), &"sleep 60".into()));
    assert_eq!(sleep["silent_longer_than_seconds"], 60);
    assert_eq!(sleep["descriptors"], descriptors_of(idle.pid()), "{sleep:#}");
    assert!(sleep["user"].is_string() && sleep["started"].as_f64() <= top["at"].as_f64(), "{sleep:#}");
    assert_eq!(sleep["growth"], serde_json::json!({"descriptors": null, "connections": null}));
    assert_eq!(look("--rows 2")["processes"].as_array().unwrap().len(), 2);
}

#[test]
fn growth_shows_over_the_passes_and_what_ends_is_gone() {
    let churn = Churn::with("--leak-per-second 40");
    let idle = Run::program("sleep", ["60"]).start();
    let pid = idle.pid();
    let mut top = Run::it("-o jsonl --every 100ms").start();
    let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let grown = top.line_that("growth", |line| {
        let top = parse(line);
        let grows = place(&top, churn.pid).map(|place| &top["processes"][place]);
        grows.is_some_and(|it| {
            it["growth"]["connections"].as_i64() > Some(20) && reasons(it).contains("connections that stayed")
        })
    });
    let grown = parse(&grown);
    assert!(grown["since"].as_f64() < grown["at"].as_f64());
    assert!(place(&grown, churn.pid) < place(&grown, pid), "{grown:#}");
    assert_eq!(process(&grown, pid)["growth"], serde_json::json!({"descriptors": 0, "connections": 0}));
    idle.signal(Signal::KILL);
    idle.done();
    top.line_that("a look without it", |line| place(&parse(line), pid).is_none());
    // One that has come since stands there without a growth it can't have.
    let newcomer = python(PAIRS, "20 whole");
    let came = top.line_that("the newcomer", |line| place(&parse(line), newcomer.pid()).is_some());
    assert_eq!(process(&parse(&came), newcomer.pid())["growth"]["descriptors"], Value::Null);
    top.interrupt().ok();
}

#[test]
fn somebody_else_sees_how_many_descriptors_everybody_has_and_what_is_missing() {
    if !is_root() || !has("setpriv") {
        skip!("only root can become somebody else");
    }
    let nobody = Nobody::new();
    let strangers = python(PAIRS, "40 half");
    // The system's own Python: another one may stand where nobody may look.
    let own = Run::program("setpriv", NOBODY).env("PATH", "/usr/bin:/bin").and("python3 -c").and_whole(PAIRS);
    let own = started(own.and("30 half"));
    let done = nobody.looks("-o json").done();
    if done.code != Some(0) && done.err.contains("failed to execute") {
        skip!("nobody can't run programs here: {}", done.err);
    }
    let top = done.ok().json();
    let strange = process(&top, strangers.pid());
    assert_eq!(strange["descriptors"], descriptors_of(strangers.pid()), "{strange:#}");
    assert_eq!(strange["descriptor_limit"], process(&look(""), strangers.pid())["descriptor_limit"]);
    for unknown in ["sockets", "connections", "silent", "close_wait", "listening"] {
        assert_eq!(strange[unknown], Value::Null, "{unknown} in {strange:#}");
    }
    let note = top["notes"].as_array().unwrap().iter().filter_map(Value::as_str).find(|it| it.contains("closed to us"));
    let note = note.unwrap_or_else(|| panic!("{top:#}"));
    assert!(note.contains("root ") && note.contains("internet sockets") && note.contains("sudo"), "{note}");
    let own = process(&top, own.pid());
    assert_eq!((&own["close_wait"], &own["connections"]), (&30.into(), &30.into()), "{own:#}");
    assert!(reasons(own).contains("30 in CLOSE_WAIT"));
    // The table says so too, aside from the data.
    nobody.looks("top").done().ok().complains(&["closed to us", "sudo"]).says(&["CLOSE_WAIT"]);
}

#[test]
fn what_another_network_namespace_holds_is_known_or_said_to_be_missing() {
    let unshared = Run::program("unshare", ["-n", "true"]).done();
    if unshared.code != Some(0) {
        skip!("no network namespace can be made here: {}", unshared.err);
    }
    let script = format!("import os; os.system('ip link set lo up')\n{PAIRS}");
    let elsewhere = started(Run::program("unshare", ["-n", "python3", "-c", &script]).and("25 whole"));
    let top = look("");
    let it = process(&top, elsewhere.pid());
    assert_eq!(it["sockets"], 51, "{it:#}");
    let said = top["notes"].as_array().unwrap().iter().any(|it| it.to_string().contains("other network namespaces"));
    let known = it["connections"] == 50;
    assert!(known || (it["connections"].is_null() && said), "{it:#} {:#}", top["notes"]);
}

#[test]
fn alone_it_is_top_and_a_reader_who_has_gone_is_no_error() {
    let _busy = python(PAIRS, "10 half");
    let told = Run::it("").done().ok().says(&["PID", "USER", "CLOSE_WAIT", "WHY", "Look closer: ", " watch -p "]);
    assert!(told.out.lines().count() <= 1 + 20 + 3, "{}", told.out);
    let few = Run::it("--rows 2").done().ok();
    assert_eq!(few.out.lines().take_while(|line| !line.is_empty()).count(), 3, "{}", few.out);
    Run::it("--help").done().ok().says(&["top ", "list ", "watch "]);
    let csv = Run::it("-o csv --every 50ms --for 200ms").done().ok().out;
    let headings = csv.lines().filter(|line| line.starts_with("unix_time,pid,name,")).count();
    assert!(headings == 1 && csv.contains(",10 in CLOSE_WAIT"), "{csv}");
    for forms in ["-o jsonl --every 50ms", "--every 50ms", "-o csv --every 50ms"] {
        let quiet = Run::shell(&format!("$unclosed {forms} | head -1 >/dev/null")).done().ok();
        assert!(!quiet.err.contains("error") && !quiet.err.contains("panicked"), "{}", quiet.err);
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_what_mends_it() {
    Run::it("top --silent soon").done().fails(2, &["--silent", "soon", "50ms"]);
    Run::it("top --every 1ms").done().fails(2, &["--every", "50ms"]);
    Run::it("--no-such-flag").done().code(2).complains(&["--no-such-flag", "Usage: unclosed top"]);
}

#[test]
fn in_a_terminal_it_is_drawn_anew_until_q() {
    if !has("tmux") {
        skip!("there is no tmux");
    }
    let mut leaking = Churn::with("--leak-per-second 40");
    let full = python(NEAR_ITS_LIMIT, "100 99");
    let terminal = Terminal::open();
    terminal.types("echo what was there before");
    terminal.shows("its answer", |screen| screen.lines().any(|line| line == "what was there before"));
    terminal.types(&format!("{} --every 100ms", env!("CARGO_BIN_EXE_unclosed")));
    let row = |screen: &str, pid: u32| {
        screen.lines().find(|line| line.trim_start().starts_with(&format!("{pid} "))).map(str::to_owned)
    };
    let first = terminal.shows("the table", |screen| screen.contains("WHY") && screen.contains("q or Ctrl-C ends it"));
    assert!(!first.contains("what was there before"), "it is a screen of its own:\n{first}");
    assert!(first.lines().next().unwrap().trim_start().starts_with("PID"), "the head is not scrolled away:\n{first}");
    assert!(row(&first, full.pid()).is_some_and(|row| row.contains("99 of 100")), "{first}");
    leaking.running.line("leaked 20");
    terminal.shows("the leak", |screen| row(screen, leaking.pid).is_some_and(|row| row.contains("  +")));
    terminal.tmux(&["send-keys", "q"]);
    let last = terminal.shows("the prompt", |screen| screen.trim_end().ends_with("prompt>"));
    assert!(last.contains("what was there before"), "{last}");
    assert_eq!(terminal.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]).trim(), "0 1");
    // Lines and echo are back.
    terminal.types("echo it is $((6 * 7))");
    terminal.shows("what is typed", |screen| screen.contains("$((6 * 7))") && screen.contains("it is 42"));
}
