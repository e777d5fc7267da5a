//! What goes wrong: each gets a sentence, what mends it, the right exit code, and loses nothing.

use crate::act::{AS_NOBODY, Folder, Run, Running, has, is_root, shown, skip, until};
use crate::leakers::Churn;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// A pid that no process has.
fn free_pid() -> u32 {
    let most: u32 = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap().trim().parse().unwrap();
    (2..most).rev().find(|pid| !Path::new(&format!("/proc/{pid}")).exists()).unwrap()
}

/// A recording of this very process, and its bytes.
fn recording(folder: &Folder) -> PathBuf {
    let file = folder.file("good.unclosed");
    let own = format!("record -p {} --every 50ms --for 1s", std::process::id());
    Run::it(own).output(&file).done().ok();
    file
}

/// Every reader refuses this file with these words.
fn all_refuse(file: &Path, words: &[&str]) {
    for verb in ["show", "show -o json", "view --no-open"] {
        Run::it(verb).file(file).done().fails(1, words);
    }
}

#[test]
fn no_such_process() {
    let pid = free_pid();
    for verb in ["list", "watch", "record"] {
        Run::it(format!("{verb} -p {pid}")).done().fails(5, &[&format!("there is no process {pid}"), "pgrep"]);
    }
    Run::it(pid.to_string()).done().fails(5, &["there is no process"]);
    for named in ["watch -c no-such-name-here", "no-such-name-here"] {
        Run::it(named).done().fails(5, &["no-such-name-here", "pgrep"]);
    }
}

#[test]
fn a_process_of_another_user() {
    if !is_root() || !has("setpriv") {
        skip!("only root can become somebody else");
    }
    let folder = Folder::new();
    let copy = folder.program_for_all();
    let own = std::process::id();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = listener.local_addr().unwrap().to_string();
    let look = |arguments: &str| {
        let line = format!("{AS_NOBODY} {} {arguments}", copy.display());
        let done = Run::shell(&line).within(folder.path()).env("HOME", folder.path()).done().ok();
        done.complains(&[&format!("the descriptors of process {own} are closed to us"), "the sockets of", "sudo"])
    };
    let file = folder.file("around.unclosed");
    let told = look(&format!("list -p {own} -o json")).json();
    look(&format!("watch -p {own} --every 100ms --for 300ms --output {}", folder.file("watched.unclosed").display()));
    look(&format!("record -p {own} --every 100ms --for 300ms --output {}", file.display()));
    // Told are the sockets of its cgroup or user, and that nobody is known to hold them.
    for told in [told, shown(&file)] {
        let resources = told["resources"].as_array().unwrap();
        assert!(resources.iter().any(|it| it["local"] == local.as_str() && it["state"] == "LISTEN"), "{told:#}");
        let is_socket_of_nobody = |it: &Value| {
            let is_socket = ["tcp", "udp", "unix", "raw"].iter().any(|kind| it["kind"] == *kind);
            is_socket && it["holders"] == json!([]) && it["fd"].is_null()
        };
        assert!(resources.iter().all(is_socket_of_nobody), "{told:#}");
    }
}

/// A program may close itself to its own user for a while (`PR_SET_DUMPABLE`, a setuid program): it runs on, so the watch
/// does, and what it holds is neither closed nor ended.
#[test]
fn a_process_that_can_not_be_read_for_a_while() {
    if !is_root() || !has("setpriv") {
        skip!("only root can become somebody else");
    }
    let folder = Folder::new();
    let copy = folder.program_for_all();
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let script = "import ctypes, os, signal\n\
                  state = [1]\n\
                  def turn(*_):\n    state[0] ^= 1; ctypes.CDLL(None).prctl(4, state[0]); print('open', state[0], flush=True)\n\
                  signal.signal(signal.SIGUSR1, turn); ctypes.CDLL(None).prctl(4, 1); print(os.getpid(), flush=True)\n\
                  while True: signal.pause()";
    let mut program = Run::program("setpriv", nobody).and("/usr/bin/env python3 -c").and_whole(script).start();
    let pid = program.line_that("its pid", |line| line.parse::<u32>().is_ok());
    let file = folder.file("shut.unclosed");
    let watch = format!("{} watch -p {pid} --every 50ms", copy.display());
    let mut watch = Run::program("setpriv", nobody).and(&watch).output(&file).start();
    watch.line("descriptors");
    program.signal(Signal::USR1);
    program.line("open 0");
    watch.complaint("permission denied");
    program.signal(Signal::USR1);
    program.line("open 1");
    let ticks = shown(&file)["ticks"].as_u64().unwrap();
    until("ten ticks more", || Some(()).filter(|()| shown(&file)["ticks"].as_u64().unwrap() > ticks + 10));
    watch.interrupt().ok();
    let report = shown(&file);
    assert!(report["target"]["processes"][0]["ended"].is_null(), "{:#}", report["target"]);
    assert_eq!(report["closed_total"], 0);
}

#[test]
fn a_process_that_ends_before_anything_is_seen() {
    // A zombie: it has a pid, and nothing to be seen.
    let mut running = Run::shell("sleep 0.01 & echo $!; exec sleep 60").start();
    let pid = running.line_that("a pid", |line| line.parse::<u32>().is_ok());
    let status = format!("/proc/{pid}/status");
    until("the zombie", || fs::read_to_string(&status).is_ok_and(|text| text.contains("Z (zombie)")).then_some(()));
    for verb in ["list", "watch", "record"] {
        let done = Run::it(format!("{verb} -p {pid}")).done();
        assert_eq!(done.code, Some(5), "{verb}: {}{}", done.out, done.err);
    }
}

#[test]
fn a_process_that_ends_while_it_is_watched() {
    let folder = Folder::new();
    let file = folder.file("w.unclosed");
    let sleeper = Run::program("sleep", ["60"]).start();
    let mut watch = Run::it(format!("watch -p {} --every 100ms", sleeper.pid())).output(&file).start();
    watch.line("descriptors");
    sleeper.signal(Signal::KILL);
    // Reaped: the pid is free, and another process might have it next.
    sleeper.done();
    watch.done().ok().says(&["ended", "Recording: "]);
    assert!(shown(&file)["target"]["processes"][0]["ended"].is_number());
}

#[test]
fn a_recording_that_was_cut() {
    let folder = Folder::new();
    let bytes = fs::read(recording(&folder)).unwrap();
    for length in [50, 4_096, bytes.len() / 2, bytes.len() - 1] {
        let cut = folder.with("cut.unclosed", &bytes[..length]);
        all_refuse(&cut, &["cut.unclosed", "is damaged", "copy"]);
        assert_eq!(fs::read(&cut).unwrap(), &bytes[..length], "it is left as it was");
    }
}

#[test]
fn a_recording_with_a_page_of_garbage() {
    let folder = Folder::new();
    let bytes = fs::read(recording(&folder)).unwrap();
    // Whichever page it is: a sentence, or all that is there; never a panic.
    for page in 1..bytes.len() / 4096 {
        let mut broken = bytes.clone();
        broken[page * 4096..(page + 1) * 4096].fill(0xa5);
        let file = folder.with("broken.unclosed", &broken);
        let done = Run::it("show -o json").file(&file).done();
        match done.code {
            Some(0) => assert_eq!(done.json()["schema"], "unclosed/1"),
            _ => drop(done.fails(1, &["broken.unclosed"])),
        }
    }
}

#[test]
fn a_recording_of_a_later_version() {
    let folder = Folder::new();
    let file = recording(&folder);
    let mut bytes = fs::read(&file).unwrap();
    // SQLite's header has the user's version in bytes 60 to 63.
    bytes[60..64].copy_from_slice(&99u32.to_be_bytes());
    fs::write(&file, &bytes).unwrap();
    all_refuse(&file, &["later version", "99", "update unclosed"]);
    assert_eq!(fs::read(&file).unwrap(), bytes, "it is left as it was");
}

#[test]
fn what_is_no_recording_at_all() {
    let folder = Folder::new();
    all_refuse(&folder.with("empty", ""), &["empty", "unix_time,value"]);
    all_refuse(&folder.with("text", "once upon a time\nthere was a leak\n"), &["unix_time,value"]);
    all_refuse(&folder.with("noise", [0u8, 159, 146, 150, 7].repeat(1000)), &["noise"]);
    all_refuse(&folder.file("missing"), &["missing: no such file", "ls "]);
    all_refuse(folder.path(), &["is a folder"]);
    let foreign = folder.file("foreign.db");
    rusqlite::Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE orders(id)").unwrap();
    all_refuse(&foreign, &["foreign.db is no recording"]);
}

#[test]
fn a_pipe_is_read_once_and_whole() {
    let folder = Folder::new();
    let log: String = (0..2_000).map(|tick| format!("{},{}\n", 1_487_279_164 + 5 * tick, tick % 9)).collect();
    let log = folder.with("tracking.log", log);
    let whole = Run::it("show -o csv").file(&log).done().ok().out;
    let piped = Run::shell(&format!("cat {} | $unclosed show -o csv /dev/stdin", log.display())).done().ok();
    assert_eq!(piped.out, whole);
    assert_eq!(whole.lines().count(), 2_000);
    let file = recording(&folder);
    let piped = Run::shell(&format!("cat {} | $unclosed show /dev/stdin", file.display())).done();
    piped.fails(1, &["a recording, which can't be read from a pipe", "name the file itself"]);
}

#[test]
fn a_log_without_a_single_sample() {
    let folder = Folder::new();
    for (name, text) in [("empty.log", ""), ("blank.log", "\n\n"), ("heading.csv", "unix_time,value\n")] {
        let file = folder.with(name, text);
        let out = folder.file("out.unclosed");
        Run::it("import").file(&file).output(&out).done().fails(1, &[name]);
        assert!(!out.exists(), "{name}: no recording of nothing");
    }
}

#[test]
fn a_place_that_can_not_be_written() {
    let own = std::process::id();
    let folder = Folder::new();
    let nowhere = folder.file("no/such/folder/x.unclosed");
    for verb in ["record", "watch", "watch -o csv"] {
        Run::it(format!("{verb} -p {own}"))
            .output(&nowhere)
            .done()
            .fails(1, &["x.unclosed", "does not exist", "mkdir -p"]);
    }
    Run::it("run").output(&nowhere).and("-- touch ran").within(folder.path()).done().fails(1, &["x.unclosed"]);
    assert!(!folder.file("ran").exists(), "the command is not started for nothing");
    let file = recording(&folder);
    let bytes = fs::read(&file).unwrap();
    Run::it(format!("record -p {own}")).output(&file).done().fails(1, &["exists already", "--output"]);
    assert_eq!(fs::read(&file).unwrap(), bytes);
    let page = format!("view --html {}", folder.file("no/page.html").display());
    Run::it(page).file(&file).done().fails(1, &["page.html", "ls -ld"]);
}

#[test]
fn a_home_that_can_not_be_written_is_no_reason_not_to_look() {
    let own = std::process::id();
    let folder = Folder::new();
    let file = folder.with("file", "");
    let watch = Run::it(format!("watch -p {own} --every 100ms --for 300ms")).env("XDG_STATE_HOME", &file);
    watch.done().ok().says(&["descriptors"]).complains(&["nothing is recorded", "--output"]);
    Run::it(format!("record -p {own}")).env("XDG_STATE_HOME", &file).done().fails(1, &["--output"]);
}

#[test]
fn options_that_make_no_sense() {
    let own = std::process::id();
    for every in ["0s", "-1s", "1ms", "5parsecs", "9999d", "NaN", ""] {
        let done = Run::new(["record", "-p", &own.to_string(), &format!("--every={every}")]).done();
        done.fails(2, &["--every"]);
    }
    Run::it(format!("record -p {own} --for soon")).done().fails(2, &["--for"]);
    Run::it(format!("record -p {own} --max-size 3")).done().fails(2, &["--max-size"]);
    Run::it(format!("record -p {own} --metric ram")).done().code(2).complains(&["disk:PATH", "command:"]);
    Run::it("record --metric disk:/no/such/folder").done().fails(1, &["/no/such/folder", "there is no such folder"]);
    for nothing in ["list", "watch", "record"] {
        Run::it(nothing).done().fails(2, &["-p PID"]);
    }
    Run::it("list -p seven").done().code(2);
    Run::it("--no-such-flag").done().code(2);
    Run::it("--help").done().ok().says(&["Usage"]);
}

#[test]
fn a_reader_that_has_gone_ends_us_quietly() {
    let folder = Folder::new();
    let log: String = (0..200_000).map(|second| format!("{},{}\n", 1_487_279_164 + second, second % 7)).collect();
    let log = folder.with("long.log", log).display().to_string();
    let own = std::process::id();
    let quiet = |line: &str| {
        let done = Run::shell(line).within(folder.path()).done().ok();
        assert_eq!(done.out.lines().count(), 1, "{line}: {}", done.out);
        done
    };
    assert_eq!(quiet(&format!("$unclosed show -o csv {log} | head -1")).err, "");
    assert_eq!(quiet(&format!("$unclosed list --all -p {own} | head -1")).err, "");
    assert_eq!(quiet("$unclosed --help | head -1").err, "");
    let watch = quiet(&format!("$unclosed watch -p {own} -o csv --every 50ms --output w.unclosed | head -1"));
    assert!(!watch.err.contains("error"), "{}", watch.err);
    assert!(shown(&folder.file("w.unclosed"))["ticks"].as_u64().unwrap() > 0);
}

/// A process with the pid of one that has ended, made by asking the kernel for it.
fn sleeper_with_pid(pid: u32) -> Option<Running> {
    // The next process of this namespace gets the number after this one.
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).ok()?;
    let sleeper = Run::program("sleep", ["60"]).start();
    (sleeper.pid() == pid).then_some(sleeper)
}

#[test]
fn a_pid_that_another_process_got_is_not_followed() {
    if fs::OpenOptions::new().write(true).open("/proc/sys/kernel/ns_last_pid").is_err() {
        skip!("only root may choose the next pid");
    }
    let folder = Folder::new();
    // Others start processes meanwhile, so that it may take a few attempts.
    for attempt in 0..20 {
        let file = folder.file(&format!("{attempt}.unclosed"));
        let churn = Churn::with("--leak-per-second 5");
        let mut watch = Run::it(format!("watch -o csv -p {} --every 100ms", churn.pid)).output(&file).start();
        watch.line(",");
        let pid = churn.pid;
        watch.signal(Signal::STOP);
        drop(churn);
        let other = sleeper_with_pid(pid);
        watch.signal(Signal::CONT);
        let Some(_other) = other else { continue };
        watch.done().ok().complains(&["ended"]);
        let report = shown(&file);
        assert_eq!(report["target"]["processes"].as_array().unwrap().len(), 1);
        assert_eq!(report["target"]["processes"][0]["pid"], pid);
        return;
    }
    skip!("the kernel did not give the pid away again");
}
